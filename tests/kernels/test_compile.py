from __future__ import annotations

import inspect
import os
import shutil
import stat
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import numba
import pytest
from numba.core import caching

from hatrix.kernels import compile as compiling

FITS = """
import hashlib
import hatrix as hx
ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
model = hx.{recipe}.fit(ratings, seed=1, threads=1)
print(hashlib.sha256(model.user_factors.tobytes() + model.item_factors.tobytes()).hexdigest())
"""
ADDS = """
from hatrix.kernels.compile import compiled
def plus(x):
    return x + 1
plus = compiled(plus)
assert plus(1) == 2
print(sum(plus.stats.cache_hits.values()))
"""


def run(code: str, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)} | more,
        capture_output=True,
        text=True,
        check=False,
    )


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


MF = "MF(factors=12, epochs=3)"
ALS = "ALS(factors=12, epochs=3)"
BAYESIAN = "BayesianMF(factors=3, epochs=6, burn_in=1, draws=2)"


@pytest.mark.parametrize(
    "recipe", [MF, *(pytest.param(other, marks=pytest.mark.campaign) for other in (ALS, BAYESIAN))]
)
def test_kernels_just_compiled_and_from_the_cache_give_the_same_bits(tmp_path, recipe):
    outputs, files = [], []
    for _ in range(2):
        ran = run(FITS.format(recipe=recipe), tmp_path)
        assert ran.returncode == 0, ran.stderr
        outputs.append(ran.stdout)
        files.append([path.name for path in entries(tmp_path)])
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == 1
    assert files[0]
    assert files[0] == files[1], "a kernel was compiled although it was in the cache"


def test_without_compilation_a_typed_error_says_what_to_unset():
    ran = subprocess.run(
        [sys.executable, "-c", FITS.format(recipe=ALS)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("hatrix.errors.ParameterError: NUMBA_DISABLE_JIT is set")
    assert "unset it in the environment" in last


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A module with one kernel, and a cache into which it was compiled."""
    home = tmp_path_factory.mktemp("filled")
    (home / "adding.py").write_text(ADDS)
    assert hits_of(home) == 0
    assert hits_of(home) == 1
    return home


def hits_of(home: Path) -> int:
    ran = run("import adding", home / "cache", PYTHONPATH=f"{home}{os.pathsep}{source()}")
    assert (ran.returncode, ran.stderr) == (0, "")
    return int(ran.stdout)


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of the filled cache for one test; and a way to load the kernel again."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return tmp_path / "cache", lambda: hits_of(tmp_path)


def source() -> str:
    return os.pathsep.join(path for path in sys.path if path)


@pytest.mark.parametrize(
    "damage",
    [
        "a pickle that runs code",
        *(
            pytest.param(name, marks=pytest.mark.campaign)
            for name in ("cut short", "empty", "one bit", "longer")
        ),
    ],
)
def test_a_damaged_entry_is_dropped_and_compiled_anew(cache, damage):
    folder, hits = cache
    [entry] = entries(folder)
    whole = entry.read_bytes()
    changed = {
        "cut short": whole[: len(whole) // 2],
        "empty": b"",
        "one bit": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        "a pickle that runs code": b"cos\nsystem\n(S'touch ran'\ntR.",
        "longer": whole + b"\0",
    }[damage]
    entry.write_bytes(changed)
    assert hits() == 0
    assert hits() == 1
    assert entries(folder) == [entry]
    assert not Path("ran").exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_an_entry_that_others_could_write_is_compiled_anew(cache):
    folder, hits = cache
    [entry] = entries(folder)
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o700
    entry.chmod(0o620)
    assert hits() == 0
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert hits() == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_our_own_folder_is_closed_to_others(cache):
    folder, hits = cache
    [entry] = entries(folder)
    entry.parent.chmod(0o777)
    assert hits() == 1
    assert stat.S_IMODE(entry.parent.stat().st_mode) == 0o755


@pytest.fixture
def choosing(tmp_path, monkeypatch):
    """The choice of a folder, with home and temporary folder of its own."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "home"))
    monkeypatch.setattr(compiling.tempfile, "gettempdir", lambda: str(tmp_path))
    compiling._cache_folder.cache_clear()
    yield compiling._cache_folder
    compiling._cache_folder.cache_clear()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_of_another_user_gives_way_to_a_private_one_with_one_warning(choosing, tmp_path):
    first = choosing()
    assert first.parent == tmp_path / "home"
    choosing.cache_clear()
    os.chown(first, 12345, -1)
    with pytest.warns(
        UserWarning, match=r"belongs to another user, so that others could run code here.*kept in"
    ):
        second = choosing()
    assert second.parent == tmp_path / f"hatrix-{os.geteuid()}"
    assert stat.S_IMODE(second.stat().st_mode) == stat.S_IMODE(second.parent.stat().st_mode) == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choosing() == second
    choosing.cache_clear()
    os.chown(second.parent, 12345, -1)
    with pytest.warns(UserWarning, match="kernels are compiled anew"):
        assert choosing() is None


def test_other_source_has_another_folder(choosing, tmp_path, monkeypatch):
    first = choosing()
    changed = tmp_path / "_mixing.py"  # the one file of kernels' source outside their package
    changed.write_text(Path(compiling._mixing.__file__).read_text() + "# changed")
    monkeypatch.setattr(compiling._mixing, "__file__", str(changed))
    choosing.cache_clear()
    assert choosing() not in (None, first)


def test_where_nothing_can_be_written_the_temporary_folder_serves(choosing, tmp_path):
    (tmp_path / "home").write_text("in the way")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choosing().parent == tmp_path / f"hatrix-{compiling._user()}"


def test_a_link_is_not_followed(choosing, tmp_path):
    first = choosing()
    first.rmdir()
    (tmp_path / "elsewhere").mkdir()
    first.symlink_to(tmp_path / "elsewhere")
    choosing.cache_clear()
    with pytest.warns(UserWarning, match="is not a folder of its own"):
        assert choosing() != first


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_while_writing_leaves_nothing_that_counts(cache):
    folder, hits = cache
    [entry] = entries(folder)
    entry.unlink()
    kills = "import os; os.replace = lambda *_: os.kill(os.getpid(), 9); import adding"
    assert run(kills, folder, PYTHONPATH=f"{folder.parent}{os.pathsep}{source()}").returncode == -9
    assert [path.name.startswith(".hatrix-") for path in entries(folder)] == [True]
    assert hits() == 0
    assert entries(folder) == [entry]


def test_numba_is_of_a_version_whose_private_cache_is_known():
    """A newer numba fails here: read its `numba.core.caching`, then raise the bound in pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    [wanted] = [one for one in project["dependencies"] if one.startswith("numba")]
    bound = tuple(map(int, wanted.partition("<")[2].split(".")))
    assert tuple(map(int, version("numba").split(".")[:2])) < bound, wanted
    parameters = {
        caching.IndexDataCacheFile.__init__: ["self", "cache_path", "filename_base", "source_stamp"],
        caching.IndexDataCacheFile.save: ["self", "key", "data"],
        caching.IndexDataCacheFile.load: ["self", "key"],
        caching.IndexDataCacheFile._load_data: ["self", "name"],
        caching.IndexDataCacheFile._data_path: ["self", "name"],
        caching.IndexDataCacheFile._dump: ["self", "obj"],
        caching.FunctionCache._index_key: ["self", "sig", "codegen"],
        caching.FunctionCache.__init__: ["self", "py_func"],
    }
    for function, names in parameters.items():
        assert list(inspect.signature(function).parameters) == names, function
    cache = compiling.compiled(lambda x: x)._cache
    for name in ("_cache_path", "_cache_file", "_impl"):
        assert name in vars(cache), name
    for name in ("_data_name_pattern", "_version"):
        assert name in vars(cache._cache_file), name
    assert cache._cache_file._version == numba.__version__
