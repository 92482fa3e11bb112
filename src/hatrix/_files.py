"""Atomic file replacement, locks between processes, and removal of the files that killed processes left behind.

A file is written under a temporary name in the folder of its target and renamed when it is safely on disk. Temporary
files and folders are called ``.hatrix-….tmp``, and their process holds a lock (``flock``) on each. The system releases
the lock when the process ends, however it ends. So the next writer can tell files in use from files that a killed process
left, and removes only the latter. Where the system or the file system has no such locks, nothing is refused or removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hatrix.errors import ParameterError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["claimed", "discard", "holding", "move", "refuse", "replacing", "scratch", "sweep", "temporary"]

OURS = re.compile(r"\.hatrix-.+\.tmp", re.DOTALL)
LONGEST_NAME = 200
"""Bytes of a target's name that fit into the name of its folder; a longer name is replaced by its digest."""
TRIES, PAUSE = 30, 0.05
"""Attempts to take a lock that others hold, and the seconds between them; a sweep holds a lock for a moment only."""


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, durable: bool = True, private: bool = False
) -> Iterator[BinaryIO]:
    """Open a file that replaces the target when the block ends without an error.

    A replaced file keeps its permissions, and its owner where the system allows it. A symbolic link stays, and its
    target is replaced. A new file gets the permissions that the umask leaves.

    Parameters
    ----------
    path
        The target.
    durable
        Wait until the file and its name are on disk. Without it a power failure can lose the new content.
    private
        Give the file to its owner alone, whatever the umask and the permissions of the file that it replaces.

    Raises
    ------
    OSError
        If the target cannot be replaced; what was there before is then untouched.
    """
    target = Path(os.path.realpath(path))
    before = _replaceable(target)
    with temporary(target.parent, private=private) as (file, name):
        if before is not None and not private:
            _keep(file.fileno(), before)
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())
        os.replace(name, target)
    if durable:
        _sync(target.parent)


@contextmanager
def temporary(folder: Path, *, private: bool = False) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file under a temporary name in a folder; remove it in the end unless it was renamed."""
    sweep(folder)
    while True:
        name = folder / _name()
        descriptor = os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _flag("O_BINARY"), 0o600 if private else 0o666
        )
        file = open(descriptor, "wb")  # noqa: SIM115  (closed below)
        _flock(descriptor, wait=True)
        if fcntl is None or _is_same(descriptor, name):
            break
        file.close()  # somebody swept it before it was locked
    with file, _at_the_end(_unlink, name):
        yield file, name


def move(source: Path, target: str | os.PathLike[str], *, like: str | os.PathLike[str] | None = None) -> None:
    """Move a finished file to the target, as `replacing` does, or a finished folder to a path that does not exist yet.

    Parameters
    ----------
    source
        The finished file or folder.
    target
        Its new place.
    like
        A file whose permissions and owner the moved file gets, if it exists; by default the file that is replaced.

    Raises
    ------
    OSError
        If the target cannot be replaced; what was there before is then untouched.
    """
    place = Path(os.path.realpath(target))
    before = _replaceable(place)
    if like is not None:
        before = _replaceable(Path(os.path.realpath(like))) or before
    if source.is_dir():
        os.replace(source, place)
        _sync(place.parent)
        return
    with open(source, "rb+") as file:
        if before is not None:
            _keep(file.fileno(), before)
        os.fsync(file.fileno())
        try:
            os.replace(source, place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with replacing(place) as copy:  # a symbolic link led to another file system
                if before is not None:
                    _keep(copy.fileno(), before)
                shutil.copyfileobj(file, copy, 1 << 20)
            source.unlink()
    _sync(place.parent)


@contextmanager
def scratch(home: Path | None = None) -> Iterator[Path]:
    """Make a private folder, by default among the system's temporary files, and remove it in the end."""
    home = Path(tempfile.gettempdir()) if home is None else home
    sweep(home)
    folder = home / _name()
    with holding(folder), _at_the_end(discard, folder):
        yield folder


@contextmanager
def claimed(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Keep other processes from claiming the same target, and make a folder beside it for unfinished files.

    The folder is empty at first and is removed in the end. Its name depends on the target alone, so the next
    process removes what a killed process left there.

    Raises
    ------
    OSError
        If the folder cannot be made.
    ParameterError
        If another process has claimed the target.
    """
    place = Path(os.path.realpath(target))
    folder = place.with_name(_name(place.name))
    sweep(place.parent)
    with holding(folder, of=Path(target)) as alone, _at_the_end(discard, folder):
        if alone:
            clear(folder)
            yield folder
        else:  # no locks here: write apart
            with scratch(place.parent) as apart:
                yield apart


@contextmanager
def holding(
    folder: Path, *, of: Path | None = None, own: bool = True, shared: bool = False, wait: bool = False
) -> Iterator[bool]:
    """Lock a folder while the block runs, and make it first if it does not exist.

    Parameters
    ----------
    folder
        The folder. It stays in the end, unless the block removes it.
    of
        What a refusal names; by default the folder.
    own
        Refuse a folder that another user made: its owner could change what is written there.
    shared
        Hold it together with others that share it.
    wait
        Wait for others that hold it, instead of raising an error.

    Yields
    ------
    bool
        Whether the folder is locked: False where there are no locks.

    Raises
    ------
    OSError
        If the folder cannot be made or opened.
    ParameterError
        If another process holds the folder, or the folder belongs to another user.
    """
    while True:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if fcntl is None:
            yield False
            return
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # removed in between
            continue
        try:
            owner = os.fstat(descriptor).st_uid
            if own and owner != os.geteuid():
                raise ParameterError(
                    f"{folder} belongs to the user with the number {owner}: remove it, or give another place"
                )
            locked = _flock(descriptor, shared=shared, wait=wait)
            if locked is False:
                raise ParameterError(
                    f"{of or folder}: {_holder(descriptor)} writes here now: wait for it, or give another place"
                )
            if _is_same(descriptor, folder):
                yield locked is True
                return
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes of this user left in a folder."""
    if fcntl is None:
        return
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if OURS.fullmatch(entry.name):
                with suppress(OSError):
                    _sweep(Path(entry.path))


def clear(folder: Path) -> None:
    """Remove everything in a folder."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def discard(folder: Path) -> None:
    """Remove a folder and what is in it, as far as possible."""
    shutil.rmtree(folder, ignore_errors=True)


def refuse(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `replacing` would raise because of what is at the path, or because its folder is missing."""
    _replaceable(Path(os.path.realpath(path)))


@contextmanager
def _at_the_end(remove: Callable[[Path], None], path: Path) -> Iterator[None]:
    """Remove a file or folder in the end, but not at the end of a fork of the process that made it."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            remove(path)


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    assert fcntl is not None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or there are no locks here
            return
        if not _is_same(descriptor, path):
            return
        if stat.S_ISDIR(status.st_mode):
            gone = path.with_name(_name())
            os.rename(path, gone)  # so that a process that claims the same name need not wait
            discard(gone)
        elif stat.S_ISREG(status.st_mode):
            path.unlink()
    finally:
        os.close(descriptor)


def _name(target: str = "") -> str:
    """Return the name of a temporary file or folder: the fixed name for a target, or a random one without a target."""
    if len(os.fsencode(target)) > LONGEST_NAME:
        target = hashlib.sha256(os.fsencode(target)).hexdigest()
    return f".hatrix-{target or os.urandom(8).hex()}.tmp"


def _flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file or folder: True if it is locked, False if others hold it, None if there are no locks."""
    if fcntl is None:
        return None
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for number in range(TRIES):
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if number + 1 < TRIES:
                time.sleep(PAUSE)
        except OSError:
            return None
    return False


def _holder(descriptor: int) -> str:
    """Name the process that holds the lock on an open file, as far as the system tells."""
    inode = str(os.fstat(descriptor).st_ino)
    with suppress(OSError, ValueError, IndexError), open("/proc/locks") as locks:
        for line in locks:
            _, kind, _, _, process, place, *_ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == inode and int(process) > 0:
                here = "this process" if int(process) == os.getpid() else "another process"
                return f"{here} (number {process})"
    return "another process"


def _is_same(descriptor: int, path: Path) -> bool:
    """Return whether an open file or folder still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _replaceable(target: Path) -> os.stat_result | None:
    """Return the status of the file to be replaced, or None if there is none yet."""
    try:
        found = target.stat()
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, f"there is no folder {target.parent}", str(target)
            ) from None
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a file on disk", str(target))
    return found


def _keep(descriptor: int, before: os.stat_result) -> None:
    """Copy the permissions, and where allowed the owner, of the replaced file to the new one."""
    if not hasattr(os, "fchmod"):  # Windows
        return
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have none for folders
            raise
    finally:
        os.close(descriptor)


def _flag(name: str) -> int:
    """Return a flag of `os.open`, or 0 on a system that does not have it."""
    return int(getattr(os, name, 0))
