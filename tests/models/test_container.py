"""The low level of hatrix files: bytes out, the same arrays in, and nothing else accepted."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from hatrix.errors import DataError, ModelFileError
from hatrix.models import container
from hatrix.models.container import read, write

ARRAYS = {
    "b.bytes": np.arange(7, dtype=np.uint8),
    "wide": np.linspace(-1, 1, 12).reshape(3, 4),
    "a.counts": np.array([3, -(2**62)], np.int64),
    "empty": np.zeros((5, 0), np.float32),
    "scalar": np.array(2.5, np.float32),
    "truth": np.array([True, False]),
}
HEADER = {"kind": "test", "texts": ["é\ud800", "\n"], "number": 0.1, "nothing": None}


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.hatrix"


def refused(path, *, because: str) -> str:
    with pytest.raises(ModelFileError, match=because) as caught:
        read(path)
    with pytest.raises(ModelFileError):
        read(path, verify=False)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(path):
    write(path, ARRAYS, HEADER)
    arrays, header = read(path)
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert same(array, ARRAYS[name])
        assert type(array) is np.ndarray
        assert not array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


@settings(max_examples=60, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from([*container.DTYPES.values(), ">f8", ">i4"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False},
        ),
        max_size=4,
    ),
    header=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=4,
    ),
)  # fmt: skip
def test_any_arrays_and_header_come_back(tmp_path_factory, arrays, header):
    path = tmp_path_factory.mktemp("any") / "x.hatrix"
    write(path, arrays, header)
    found, said = read(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert same(found[name], array.astype(array.dtype.newbyteorder("<")))
    assert json.dumps(said) == json.dumps(header)


@pytest.mark.parametrize("layout", ["fortran", "reversed", "strided", "broadcast", "transposed"])
def test_arrays_of_any_layout_are_saved_in_their_order(path, layout):
    square = np.arange(12.0).reshape(3, 4)
    array = {
        "fortran": np.asfortranarray(square),
        "reversed": square[::-1, ::-1],
        "strided": np.arange(100.0)[::7],
        "broadcast": np.broadcast_to(np.float32(3), (4, 5)),
        "transposed": square.T,
    }[layout]
    write(path, {"x": array}, {})
    np.testing.assert_array_equal(read(path)[0]["x"], array)


def test_bytes_depend_on_the_content_alone(path, tmp_path):
    write(path, ARRAYS, HEADER)
    other = tmp_path / "other name"
    write(other, dict(reversed(ARRAYS.items())), HEADER)
    assert path.read_bytes() == other.read_bytes()


def test_it_is_a_proper_safetensors_file(path):
    write(path, ARRAYS, HEADER)
    with safe_open(path, "np") as file:
        assert sorted(file.keys()) == sorted(ARRAYS)
        assert json.loads(file.metadata()["hatrix"])["header"] == HEADER
        for name, array in ARRAYS.items():
            assert same(file.get_tensor(name), array)


@pytest.mark.parametrize(
    ("arrays", "header", "message"),
    [
        ({"x": np.array([1.0, np.nan])}, {}, "'x' has numbers that are not finite"),
        ({"x": np.array([np.inf], np.float32)}, {}, "not finite"),
        ({"x": np.array([1j])}, {}, "'x' is of type complex128"),
        ({"x": np.array(["a"], object)}, {}, "'x' is of type object"),
        ({"x": np.array(["a"])}, {}, "'x' is of type <U1"),
        ({"x": np.array(["2020"], "M8[s]")}, {}, "'x' is of type"),
        ({"": np.zeros(1)}, {}, "cannot be called ''"),
        ({"__metadata__": np.zeros(1)}, {}, "cannot be called"),
        ({}, {"x": float("nan")}, "must be plain JSON"),
        ({}, {"x": {1, 2}}, "must be plain JSON"),
        ({}, {"x": "y" * 32_000_000}, "32,000,000 bytes and 2,000,000 values are the most"),
        ({}, {"x": [0] * 2_000_000}, "2,000,000 values are the most"),
        ({"y" * 201: np.zeros(1)}, {}, "has a name of 201 characters"),
        ({"x": np.zeros((1,) * 9)}, {}, "9 axes: 200 characters and 8 axes are the most"),
        (dict.fromkeys(map(str, range(40_001)), np.zeros(1)), {}, "40,001 arrays, .* at most 40,000"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(path, arrays, header, message):
    with pytest.raises(DataError, match=message):
        write(path, arrays, header)
    assert not os.listdir(path.parent)


def test_numpy_numbers_in_the_header_are_numbers(path):
    write(path, {}, {"a": np.float32(0.5), "b": np.int64(3), "c": [np.float64(0.1)]})
    assert read(path)[1] == {"a": 0.5, "b": 3, "c": [0.1]}


# --- what is not a hatrix file -------------------------------------------------------------------------------


def test_things_that_are_no_file(tmp_path):
    refused(tmp_path / "none", because="none does not exist")
    refused(tmp_path, because="is a folder")
    refused(tmp_path / "nul\0byte", because="cannot be read")
    refused(tmp_path / ("x" * 300), because="cannot be read: File name too long")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", because="is empty")
    refused(tmp_path / "file" / "inside", because="cannot be read: Not a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", because="is not a file on disk")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_never_opened(path, protocol):
    path.write_bytes(pickle.dumps({"model": [1.0] * 99}, protocol))
    refused(
        path, because="is a pickle, which hatrix never opens" if protocol >= 2 else "is not a hatrix file"
    )


def test_files_of_others(path, tmp_path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")
    refused(path, because="is a zip archive")
    np.save(tmp_path / "x.npy", np.zeros(3))
    refused(tmp_path / "x.npy", because="is a NumPy file")
    for content in (
        b"\x1f\x8b\x08rest",
        b"u,i,r\n1,2,3\n",
        b"{}",
        b"\0" * 8,
        b"\xff" * 200,
        b"\0" * 5000,
        b"x",
    ):
        path.write_bytes(content)
        refused(path, because="is not a hatrix file|is compressed")


def test_safetensors_files_of_others(path):
    from safetensors.numpy import save_file

    for metadata in (None, {"format": "pt"}, {"hatrix": ""}):
        save_file({"x": np.zeros(3)}, path, metadata)
        refused(path, because="is a safetensors file, but not one that hatrix wrote")


def test_a_newer_format_asks_for_an_upgrade(path, monkeypatch):
    monkeypatch.setattr(container, "FORMAT", 7)
    write(path, ARRAYS, HEADER)
    monkeypatch.undo()
    refused(path, because="is of format 7, this hatrix reads up to 1: upgrade hatrix")


@pytest.mark.parametrize("missing", [1, 8, 100, 120, 1_000_000])
def test_a_file_that_was_cut_off(path, missing):
    write(path, {"x": np.arange(15.0)}, HEADER)
    whole = path.read_bytes()
    path.write_bytes(whole[:-missing] if missing < len(whole) else whole[:20])
    refused(path, because=r"is cut off: [\d,]+ bytes")


def test_bytes_after_the_end(path):
    write(path, ARRAYS, HEADER)
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, because="has bytes after its end")


# --- files made by hand, their digests right ---------------------------------------------------------------------

X = np.arange(4.0)
DIGEST = hashlib.sha256(X).hexdigest()
NOTHING = hashlib.sha256().hexdigest()
ENTRY = json.dumps(["F64", [4], DIGEST], separators=(",", ":"))


def by_hand(manifest: str, table: str | None = None, data: bytes = X.tobytes(), pad: int = 64) -> bytes:
    if table is None:
        table = ',"x":{"dtype":"F64","shape":[4],"data_offsets":[0,32]}'
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    metadata = json.dumps({"hatrix": manifest, "sha256": digest}, separators=(",", ":"))
    text = f'{{"__metadata__":{metadata}{table}}}'.encode()
    text += b" " * (-(8 + len(text)) % pad)
    return len(text).to_bytes(8, "little") + text + data


def manifest(arrays: str = f'{{"x":{ENTRY}}}', version: str = "1", header: str = "{}") -> str:
    return f'{{"format":{version},"arrays":{arrays},"header":{header}}}'


def test_a_file_made_by_hand_as_hatrix_makes_it(path):
    path.write_bytes(by_hand(manifest()))
    assert same(read(path)[0]["x"], X)
    write(path.with_name("other"), {"x": X}, {})
    assert path.read_bytes() == path.with_name("other").read_bytes()


@pytest.mark.parametrize(
    "content",
    {
        "another padding": by_hand(manifest(), pad=128 if len(by_hand(manifest())) % 128 == 32 else 256),
        "a blank": by_hand(manifest(), ', "x":{"dtype":"F64","shape":[4],"data_offsets":[0,32]}'),
        "a gap": by_hand(
            manifest(), ',"x":{"dtype":"F64","shape":[4],"data_offsets":[8,40]}', b"\0" * 8 + X.tobytes()
        ),
        "an array unlisted": by_hand(manifest(), ""),
        "an array twice": by_hand(manifest(), 2 * ',"x":{"dtype":"F64","shape":[4],"data_offsets":[0,32]}'),
        "another shape": by_hand(manifest(), ',"x":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]}'),
        "another type": by_hand(manifest(), ',"x":{"dtype":"I64","shape":[4],"data_offsets":[0,32]}'),
        "metadata twice": by_hand(manifest(), ',"__metadata__":{}'),
        "a key twice": by_hand(manifest(header='{"seed":1,"seed":2}')),
        "a deep key twice": by_hand(manifest(header='{"a":[{"b":1,"b":1}]}')),
        "an unknown type": by_hand(manifest(f'{{"x":["C64",[4],"{DIGEST}"]}}')),
        "a negative shape": by_hand(manifest(f'{{"x":["F64",[-4],"{DIGEST}"]}}')),
        "two negative": by_hand(manifest(f'{{"x":["F64",[-2,-2],"{DIGEST}"]}}')),
        "a true shape": by_hand(manifest(f'{{"x":["F64",[4,true],"{DIGEST}"]}}')),
        "a broken shape": by_hand(manifest(f'{{"x":["F64",[4.0],"{DIGEST}"]}}')),
        "a shape in words": by_hand(manifest(f'{{"x":["F64","4","{DIGEST}"]}}')),
        "huge": by_hand(manifest(f'{{"x":["F64",[4611686018427387904],"{DIGEST}"]}}')),
        "huge and empty": by_hand(
            manifest(f'{{"x":["F64",[0,{2**47},{2**47}],"{NOTHING}"]}}'),
            f',"x":{{"dtype":"F64","shape":[0,{2**47},{2**47}],"data_offsets":[0,0]}}',
            b"",
        ),
        "99 axes": by_hand(
            manifest(f'{{"x":["F64",[{"1," * 98}4],"{DIGEST}"]}}'),
            f',"x":{{"dtype":"F64","shape":[{"1," * 98}4],"data_offsets":[0,32]}}',
        ),
        "no digest": by_hand(manifest('{"x":["F64",[4]]}')),
        "digest of nothing": by_hand(manifest('{"x":["F64",[4],null]}')),
        "a list of arrays": by_hand(manifest(f"[{ENTRY}]")),
        "a header in words": by_hand(manifest(header='"x"')),
        "another key": by_hand(manifest()[:-1] + ',"more":1}'),
        "no format": by_hand(manifest().replace('"format":1,', "")),
        "format true": by_hand(manifest(version="true")),
        "format 1.0": by_hand(manifest(version="1.0")),
        "format 0": by_hand(manifest(version="0")),
        "format null": by_hand(manifest(version="null")),
        "nan": by_hand(manifest(header='{"x":NaN}')),
        "infinity": by_hand(manifest(header='{"x":-Infinity}')),
        "a long number": by_hand(manifest(header='{"x":' + "9" * 5000 + "}")),
        "deep": by_hand(manifest(header='{"x":' + "[" * 100_000 + "]" * 100_000 + "}")),
        "deep and open": by_hand("[" * 100_000),
        "not JSON": by_hand("hello"),
        "a number": by_hand("1"),
        "not ASCII": by_hand(manifest(header='{"x":"é"}')),
        "deep outside": (200_000).to_bytes(8, "little") + b'{"a":' + b"[" * 199_995,
        "utf-16": (100).to_bytes(8, "little") + '{"a":1}'.encode("utf-16-le").ljust(100) + b"\0" * 40,
        "not UTF-8": (100).to_bytes(8, "little") + b'{"\xff":1}'.ljust(100) + b"\0" * 40,
        "metadata in words": (25).to_bytes(8, "little") + b'{"__metadata__":"hatrix"}' + b"\0" * 40,
        "no outer metadata": (7).to_bytes(8, "little") + b'{"a":1}' + b"\0" * 40,
    }.items(),
    ids=lambda pair: pair[0],
)  # fmt: skip
def test_a_file_made_by_hand_otherwise_is_refused(path, content):
    path.write_bytes(content[1])
    refused(path, because="is not consistent|is damaged|safetensors file")


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (
            b'{"a":[' + b"[]," * 1_000_001 + b"[]]}",
            "its header has 2,000,00. values, and 2,000,000 are the most",
        ),
        (
            b'{"a":"' + b" " * 32_000_000 + b'"}',
            "its header has 32,000,008 bytes, and 32,000,000 are the most",
        ),
        (b'{"a":[' + b"{}," * 1_000_001 + b"{}]}", "2,000,000 are the most"),
    ],
    ids=["lists", "bytes", "objects"],
)
def test_a_header_is_measured_before_it_is_parsed(path, content, because, monkeypatch):
    monkeypatch.setattr(container.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    refused(path, because=because)


@pytest.mark.parametrize(
    ("arrays", "because"),
    [
        ({str(n): ["F64", [0], "0" * 64] for n in range(40_001)}, "it has 40,001 arrays"),
        ({"y" * 201: ["F64", [0], "0" * 64]}, "names of 200 characters are the most"),
        ({"x": ["F64", [2**47] * 9, "0" * 64]}, "its manifest is not one of hatrix"),
        ({"x": ["F64", [2**47] * 8, "0" * 64]}, "is damaged|is cut off"),
    ],
    ids=["many arrays", "a long name", "many axes", "vast axes"],
)
def test_arrays_are_counted_before_they_are_made(path, arrays, because):
    text = manifest(json.dumps(arrays, separators=(",", ":")))
    entries = {name: tuple(entry) for name, entry in arrays.items()}
    path.write_bytes(container._frame(text, entries))
    refused(path, because=because)


@pytest.mark.parametrize(
    ("start", "n", "sound"),
    [
        ([0], 0, True),
        ([0, 0, 2, 5], 5, True),
        ([], 0, False),
        ([1, 5], 5, False),
        ([0, 5], 4, False),
        ([0, 3, 2, 5], 5, False),
        ([0, -1, 5], 5, False),
        ([[0, 5]], 5, False),
        ([0, *np.cumsum([2**61] * 8, dtype=np.int64), 5], 5, False),
        ([0, 2**63 - 1, -(2**63), 0], 0, False),
    ],
)
def test_a_partition_rises_from_zero_to_the_end(start, n, sound):
    assert container.is_partition(np.array(start, np.int64), n) is sound


@pytest.mark.parametrize(
    ("code", "data", "shape"),
    [("F64", np.array([np.nan, 0]).tobytes(), 2), ("F32", b"\0\0\x80\x7f" * 2, 2), ("BOOL", b"\1\2", 2)],
)
def test_numbers_that_no_writer_wrote(path, code, data, shape):
    entry = json.dumps([code, [shape], hashlib.sha256(data).hexdigest()], separators=(",", ":"))
    table = f',"x":{{"dtype":"{code}","shape":[{shape}],"data_offsets":[0,{len(data)}]}}'
    path.write_bytes(by_hand(manifest(f'{{"x":{entry}}}'), table, data))
    with pytest.raises(ModelFileError, match="array 'x' is not what was saved"):
        read(path)


def test_the_header_of_a_file_cannot_steer_the_terminal(path):
    path.write_bytes(by_hand(manifest(f'{{"\\u001b[31m\\n":["F64",[4],"{"0" * 64}"]}}')))
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert str(caught.value).isprintable()


# --- every byte counts ---------------------------------------------------------------------------------------


def test_every_flip_of_a_bit_is_noticed(path):
    write(path, {"x": X, "y": np.arange(3, dtype=np.uint8)}, {"a": 1})
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[position] ^= 1 << bit
            path.write_bytes(broken)
            with pytest.raises(ModelFileError):
                read(path)


def test_without_verification_the_header_is_still_checked(path):
    write(path, {"x": X}, {"a": 1})
    whole = path.read_bytes()
    begin = len(whole) - X.nbytes
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        if position < begin:
            refused(path, because="is ")
        else:
            assert read(path, verify=False)[0]["x"].shape == (4,)


# --- the file system -------------------------------------------------------------------------------------------


def test_permissions(path, tmp_path):
    before = os.umask(0o027)
    try:
        write(path, ARRAYS, HEADER)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write(path, ARRAYS, HEADER)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == [path.name]


def test_a_symbolic_link_stays_one(path, tmp_path):
    (tmp_path / "real").mkdir()
    for target in ("real/model.hatrix", "real/new.hatrix"):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        write(path, ARRAYS, HEADER)
        write(path, ARRAYS, HEADER)
        assert path.is_symlink()
        assert read(path)[1] == read(tmp_path / target)[1] == HEADER
    assert sorted(os.listdir(tmp_path / "real")) == ["model.hatrix", "new.hatrix"]


def test_places_where_nothing_can_be_written(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no folder .*none"):
        write(tmp_path / "none" / "x.hatrix", ARRAYS, HEADER)
    with pytest.raises(ModelFileError, match="cannot be written: it is a folder"):
        write(tmp_path, ARRAYS, HEADER)
    os.mkfifo(tmp_path / "pipe")
    for device in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ModelFileError, match="cannot be written: it is not a file on disk"):
            write(device, ARRAYS, HEADER)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(ModelFileError, match="Not a directory"):
        write("/dev/null/x", ARRAYS, HEADER)
    with pytest.raises(ModelFileError, match="File name too long"):
        write(tmp_path / ("x" * 300), ARRAYS, HEADER)


def test_a_file_can_be_replaced_while_it_is_mapped(path):
    write(path, {"x": X}, {})
    mapped = read(path)[0]["x"]
    write(path, {"x": mapped}, {"again": True})
    write(path, {"x": X + 1}, {})
    path.unlink()
    assert same(mapped, X)


@pytest.mark.parametrize("failing", ["fsync", "replace", "fchmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_what_was_there_before_survives_a_failure(path, monkeypatch, failing, error):
    write(path, {"x": X}, {"old": True})
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(container.os, failing, fail)
    with pytest.raises(ModelFileError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write(path, {"x": X + 1}, {})
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path} cannot be written: No space left on device"
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("room", [0, 100, 70_000, 500_000])
def test_a_full_disk(path, room):
    """The limit on file size stands for the disk: the kernel refuses bytes beyond it."""
    write(path, {"x": X}, {"old": True})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(ModelFileError, match="cannot be written: File too large"):
            write(path, {"x": np.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read(path)[1] == {"old": True}
    assert os.listdir(path.parent) == [path.name]


KILLED = textwrap.dedent("""
    import os, signal, sys
    import numpy as np
    from hatrix import _files
    from hatrix.models import container
    path, when = sys.argv[1:]
    writes = 0
    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    def after(function):
        def wrapped(*arguments):
            function(*arguments)
            kill()
        return wrapped
    class File:
        def __init__(self, file): self.file = file
        def __enter__(self): return self
        def __exit__(self, *error): return self.file.__exit__(*error)
        def __getattr__(self, name): return getattr(self.file, name)
        def write(self, part):
            if when == "while writing" and len(part) > 100_000:
                self.file.write(part[:70_000])
                self.file.flush()
                kill()
            return self.file.write(part)
    _files.open = lambda *arguments: File(open(*arguments))
    if when == "before fsync": os.fsync = kill
    if when == "before rename": os.replace = kill
    if when == "after rename": os.replace = after(os.replace)
    container.write(path, {"x": np.ones(50_000)}, {"new": True})
""")


@pytest.mark.parametrize(
    ("when", "new"),
    [
        ("while writing", False),
        ("before fsync", False),
        ("before rename", False),
        ("after rename", True),
        ("", True),
    ],
)
def test_kill_9_leaves_the_old_file_or_the_new_one(path, when, new):
    write(path, {"x": X}, {"new": False})
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), when], check=False)
    assert done.returncode == (-signal.SIGKILL if when else 0)
    arrays, header = read(path)
    assert header == {"new": new}
    assert len(arrays["x"]) == (50_000 if new else 4)


def test_reading_keeps_no_file_open(path):
    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    write(path, ARRAYS, HEADER)
    broken = path.with_name("broken")
    broken.write_bytes(path.read_bytes()[:-1] + b"\xff")
    before = open_files()
    for _ in range(50):
        read(path)
        write(path, ARRAYS, HEADER)
        with pytest.raises(ModelFileError):
            read(broken)
    kept = read(path)
    assert open_files() <= before + 1
    del kept
    assert open_files() == before


def test_reading_without_verification_maps_instead_of_reading(path):
    """128 MiB, of which next to nothing comes into memory until it is looked at."""
    write(path, {"x": np.zeros((1 << 20, 32), np.float32)}, {})
    program = textwrap.dedent("""
        import sys
        from hatrix.models.container import read
        def megabytes():
            return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
        read(sys.argv[2])
        before = megabytes()
        x = read(sys.argv[1], verify=False)[0]["x"]
        print(megabytes() - before, x.shape, x[1 << 19, 5], megabytes() - before < 16, x.sum(), megabytes() - before > 100)
    """)
    write(path.with_name("small"), ARRAYS, HEADER)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(path.with_name("small"))],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, rest = done.stdout.split(maxsplit=1)
    assert int(grown) < 8
    assert rest.split() == ["(1048576,", "32)", "0.0", "True", "0.0", "True"]


@pytest.mark.parametrize("at_once", [8, 24, 4096])
def test_files_do_not_depend_on_the_pieces_they_are_written_in(at_once, tmp_path, monkeypatch):
    arrays = {
        "f": np.arange(60.0).reshape(20, 3),
        "b": np.arange(7) % 2 == 0,
        "none": np.zeros((0, 4), np.int32),
    }
    write(tmp_path / "whole", arrays, {"a": 1})
    monkeypatch.setattr(container, "AT_ONCE", at_once)
    write(tmp_path / "pieces", arrays, {"a": 1})
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    found, _ = read(tmp_path / "whole")
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    arrays["f"][-1, -1] = np.nan
    with pytest.raises(DataError, match="'f' has numbers that are not finite"):
        write(tmp_path / "pieces", arrays, {})
