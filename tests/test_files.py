"""Files that appear whole, locks between processes, and what killed processes leave."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from hatrix import _files
from hatrix.errors import ParameterError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions, links and signals of POSIX")


def put(path: Path, text: str = "new", **how: bool) -> None:
    with _files.replacing(path, **how) as file:
        file.write(text.encode())


def put_by_moving(path: Path, text: str = "new") -> None:
    with _files.claimed(path) as folder:
        (folder / "made").write_text(text)
        _files.move(folder / "made", path)


BOTH = pytest.mark.parametrize("write", [put, put_by_moving])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@BOTH
class TestReplacing:
    def test_a_new_file_gets_what_the_umask_leaves(self, write, tmp_path, umask):
        write(tmp_path / "f")
        assert (tmp_path / "f").read_text() == "new"
        assert mode(tmp_path / "f") == 0o666 & ~umask
        assert os.listdir(tmp_path) == ["f"]

    @pytest.mark.parametrize("kept", [0o600, 0o640, 0o666, 0o755, 0o444])
    def test_a_replaced_file_keeps_its_permissions(self, write, tmp_path, kept):
        path = tmp_path / "f"
        path.write_text("old")
        path.chmod(kept)
        write(path)
        assert (path.read_text(), mode(path)) == ("new", kept)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
    def test_a_replaced_file_keeps_its_owner(self, write, tmp_path):
        path = tmp_path / "f"
        path.write_text("old")
        os.chown(path, 1234, 4321)
        path.chmod(0o600)
        write(path)
        found = path.stat()
        assert (found.st_uid, found.st_gid, mode(path)) == (1234, 4321, 0o600)

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_link_stays_and_its_target_is_replaced(self, write, tmp_path, exists):
        (tmp_path / "there").mkdir()
        target = tmp_path / "there" / "f"
        if exists:
            target.write_text("old")
            target.chmod(0o600)
        (tmp_path / "middle").symlink_to("there/f")
        (tmp_path / "link").symlink_to("middle")
        write(tmp_path / "link")
        assert target.read_text() == "new"
        assert mode(target) == (0o600 if exists else 0o666 & ~current_umask())
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "middle").is_symlink()
        assert os.listdir(tmp_path / "there") == ["f"]

    def test_what_is_no_file_is_never_replaced(self, write, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        for name, said in (
            ("pipe", "it is not a file on disk"),
            ("folder", "it is a folder"),
            ("loop", "symbolic links"),
        ):
            before = (tmp_path / name).lstat()
            with pytest.raises(OSError, match=said):
                write(tmp_path / name)
            assert (tmp_path / name).lstat().st_ino == before.st_ino
        with pytest.raises(OSError, match=r"it is not a file on disk|Permission denied"):
            write(Path("/dev/null"))
        with pytest.raises(OSError, match=r"there is no folder|No such file"):
            write(tmp_path / "none" / "f")
        assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "pipe"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
    def test_after_an_error_the_old_file_stays_alone(self, write, tmp_path, monkeypatch, error):
        (tmp_path / "f").write_text("old")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(error):
            write(tmp_path / "f")
        assert (tmp_path / "f").read_text() == "old"
        assert os.listdir(tmp_path) == ["f"]

    def test_a_name_as_long_as_names_can_be(self, write, tmp_path):
        path = tmp_path / ("ü" * 127)
        write(path)
        assert path.read_text() == "new"


def test_a_moved_file_can_be_like_another(tmp_path):
    for name, bits in (("like", 0o600), ("old", 0o644)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(bits)
    for target, like, bits in (
        ("new", "like", 0o600),
        ("old", "like", 0o600),
        ("other", "none", 0o666 & ~current_umask()),
        ("like", "none", 0o600),
    ):
        (tmp_path / "made").write_text("new")
        _files.move(tmp_path / "made", tmp_path / target, like=tmp_path / like)
        assert ((tmp_path / target).read_text(), mode(tmp_path / target)) == ("new", bits)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_private_file_is_private_whatever_was_there(tmp_path, umask):  # noqa: ARG001
    path = tmp_path / "f"
    put(path, private=True)
    assert mode(path) == 0o600
    path.chmod(0o664)
    put(path, private=True)
    assert mode(path) == 0o600


def test_a_link_to_another_file_system_is_followed(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    target = other / f"hatrix-test-{os.getpid()}"
    try:
        target.write_text("old")
        target.chmod(0o600)
        (tmp_path / "made").write_text("new")
        (tmp_path / "link").symlink_to(target)
        _files.move(tmp_path / "made", tmp_path / "link")
        assert (target.read_text(), mode(target)) == ("new", 0o600)
        assert os.listdir(tmp_path) == ["link"]
    finally:
        target.unlink()


def test_a_folder_is_moved_whole(tmp_path):
    with _files.claimed(tmp_path / "parts") as stage:
        (stage / "parts").mkdir()
        (stage / "parts" / "one").write_text("1")
        _files.move(stage / "parts", tmp_path / "parts")
    assert (tmp_path / "parts" / "one").read_text() == "1"
    assert os.listdir(tmp_path) == ["parts"]


# ------------------------------------------------------------------------------------------ other processes

WORKING = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from hatrix import _files
    how, path = sys.argv[1], Path(sys.argv[2])
    def work():
        print("ready", flush=True)
        sys.stdin.readline()
    if how == "replacing":
        with _files.replacing(path) as file:
            file.write(b"x" * 100_000)
            file.flush()
            work()
    elif how == "scratch":
        with _files.scratch(path.parent) as folder:
            (folder / "big").write_bytes(b"x" * 100_000)
            work()
    else:
        with _files.claimed(path) as folder:
            (folder / "big").write_bytes(b"x" * 100_000)
            work()
""")


def working(how: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING, how, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


WAYS = pytest.mark.parametrize("how", ["replacing", "scratch", "claimed"])


@WAYS
def test_what_a_killed_process_left_goes_with_the_next_writer_in_the_folder(how, tmp_path):
    process = working(how, tmp_path / "f")
    assert len(os.listdir(tmp_path)) == 1
    process.kill()
    process.communicate()
    assert len(os.listdir(tmp_path)) == 1
    put(tmp_path / "another")
    assert os.listdir(tmp_path) == ["another"]


@WAYS
def test_what_a_running_process_writes_stays(how, tmp_path):
    process = working(how, tmp_path / "f")
    try:
        [name] = os.listdir(tmp_path)
        put(tmp_path / "another")
        put_by_moving(tmp_path / "third")
        assert sorted(os.listdir(tmp_path)) == [name, "another", "third"]
    finally:
        process.communicate("\n", timeout=60)
    assert process.returncode == 0
    assert sorted(os.listdir(tmp_path)) == (
        ["another", "f", "third"] if how == "replacing" else ["another", "third"]
    )


def test_a_claim_excludes_others_at_once_and_says_who(tmp_path):
    path = tmp_path / "f"
    process = working("claimed", path)
    try:
        wanted = (
            rf"{re.escape(str(path))}: another process \(number {process.pid}\) writes here now: wait for it"
        )
        with pytest.raises(ParameterError, match=wanted), _files.claimed(path):
            pytest.fail("claimed twice")
        (tmp_path / "link").symlink_to("f")
        with pytest.raises(ParameterError, match=r"link: another process"), _files.claimed(tmp_path / "link"):
            pytest.fail("claimed twice")
        put(path, "whole files may still be put there")
        with _files.claimed(tmp_path / "other"):
            pass
    finally:
        process.kill()
        process.communicate()
    with _files.claimed(path) as folder:
        assert os.listdir(folder) == []
    assert sorted(os.listdir(tmp_path)) == ["f", "link"]


def test_one_of_many_threads_gets_a_claim(tmp_path):
    got, refused, done = [], [], threading.Barrier(9)

    def claim(number: int) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(_files.claimed(tmp_path / "f"))
                got.append(number)
            except ParameterError:
                refused.append(number)
            done.wait(60)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    done.wait(60)
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    assert os.listdir(tmp_path) == []


def test_who_waits_for_a_folder_gets_it_even_if_it_is_removed_meanwhile(tmp_path):
    folder, order = tmp_path / "folder", []

    def work(number: int) -> None:
        with _files.holding(folder, wait=True):
            assert folder.is_dir()
            order.append(number)
            assert order[-1] == number
            _files.discard(folder)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(order) == list(range(20))


def test_a_fork_removes_nothing_of_its_parent(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from hatrix import _files\n"
        "with _files.claimed(Path('f')) as folder, _files.scratch(Path()) as other, _files.temporary(Path()) as (_, name):\n"
        "    if (child := os.fork()) == 0: sys.exit()\n"
        "    os.waitpid(child, 0)\n"
        "    assert folder.is_dir() and other.is_dir() and name.is_file()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert os.listdir(tmp_path) == []


def test_only_what_is_ours_is_swept(tmp_path):
    names = [".hatrix-", ".hatrix.tmp", "hatrix-1.tmp", ".hatrix-1.tmp.bak", ".other-1.tmp", "x.hatrix-1.tmp"]
    for name in names:
        (tmp_path / name).write_text("of somebody else")
    (tmp_path / ".hatrix-1.tmp").symlink_to(names[0])
    os.mkfifo(tmp_path / ".hatrix-2.tmp")
    (tmp_path / ".hatrix-3.tmp").write_text("left behind")
    (tmp_path / ".hatrix-4.tmp" / "deep").mkdir(parents=True)
    _files.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, ".hatrix-1.tmp", ".hatrix-2.tmp"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_made_is_neither_swept_nor_used(tmp_path):
    (tmp_path / ".hatrix-1.tmp").write_text("x")
    (tmp_path / ".hatrix-f.tmp").mkdir()
    for name in (".hatrix-1.tmp", ".hatrix-f.tmp"):
        os.chown(tmp_path / name, 1234, 1234)
    with (
        pytest.raises(ParameterError, match="belongs to the user with the number 1234"),
        _files.claimed(tmp_path / "f"),
    ):
        pytest.fail("claimed")
    assert sorted(os.listdir(tmp_path)) == [".hatrix-1.tmp", ".hatrix-f.tmp"]


def test_a_link_in_the_place_of_a_claim_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / ".hatrix-f.tmp").symlink_to("precious")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"), _files.claimed(tmp_path / "f"):
        pytest.fail("claimed")
    assert (tmp_path / "precious" / "file").read_text() == "kept"


@pytest.mark.parametrize("locks", ["no module", "refused"])
def test_without_locks_writers_write_apart_and_nothing_is_removed(tmp_path, monkeypatch, locks):
    if locks == "no module":
        monkeypatch.setattr(_files, "fcntl", None)
    else:

        def refuse(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(_files.fcntl, "flock", refuse)
    (tmp_path / ".hatrix-1.tmp").write_text("may be in use")
    with _files.claimed(tmp_path / "f") as one, _files.claimed(tmp_path / "f") as other:
        assert one != other
        (one / "made").write_text("1")
        (other / "made").write_text("2")
        _files.move(one / "made", tmp_path / "f")
        _files.move(other / "made", tmp_path / "f")
    put(tmp_path / "g")
    assert (tmp_path / "f").read_text() == "2"
    assert sorted(os.listdir(tmp_path)) == [".hatrix-1.tmp", "f", "g"]


SAVING = textwrap.dedent("""
    import sys
    import hatrix as hx
    model = hx.load(sys.argv[1])
    print("ready", flush=True)
    while True:
        model.save(sys.argv[2])
""")


def test_kills_of_save_leave_at_most_one_temporary_file(tmp_path):
    import hatrix as hx

    ratings, _ = hx.synthetic.make(2000, 500, n_ratings=40_000, seed=1)
    hx.BiasedMF(factors=32, epochs=1).fit(ratings, progress=False).save(tmp_path / "model.hatrix")
    out = tmp_path / "out"
    out.mkdir()
    for number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING, str(tmp_path / "model.hatrix"), str(out / "m.hatrix")],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(0.05 * (number + 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len([name for name in os.listdir(out) if name.endswith(".tmp")]) <= 1
    hx.load(tmp_path / "model.hatrix").save(out / "m.hatrix")
    assert os.listdir(out) == ["m.hatrix"]
