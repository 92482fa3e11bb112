"""Private copies of a model file: what is mapped into memory must not change, whatever happens to the file.

A file that is overwritten in place while it is mapped changes the numbers under a request, and one that is cut short
ends the process. So a new file is copied, checked once, and only then mapped; all processes of a service map the same
copy. One that maps a copy keeps it, even after it has been removed from the folder, so a folder holds one copy::

    .model.hatrix.served/
        latest.json       what was found last: {"stamp": […], "digest": "…"}, with a "fault" where the file is not sound
        DIGEST.hatrix     the copy of the last sound one
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import hatrix
from hatrix import _files
from hatrix.errors import ModelFileError

if TYPE_CHECKING:
    from hatrix.models.model import FactorModel

__all__ = ["Snapshots", "Stamp", "Taken", "stamp_of"]

AT_ONCE = 1 << 20
SETTLED = 0.1
"""Seconds after which a file's times tell that it was not written again: clocks of file systems are coarse."""

Stamp = tuple[int, ...]
"""Where a file lies, its size and its times: another one tells of another content."""


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file as it is now; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Taken(NamedTuple):
    """The model of a copy. ``stamp`` is None where the file may have changed since without showing it."""

    model: FactorModel
    digest: str
    path: Path
    stamp: Stamp | None


class Snapshots:
    """Copies of one model file in a folder of their own, by default beside it."""

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        self.path = path
        self._made = ExitStack()
        self.folder = folder or _beside(path) or self._made.enter_context(_files.scratch()) / "served"

    def stamp(self) -> Stamp | None:
        """That of the file now; None where there is none."""
        return stamp_of(self.path)

    def take(self) -> Taken:
        """The model in the file: from the copy that another process made of it, or from a new one.

        Raises
        ------
        ModelFileError
            If the file is missing or no sound model, or cannot be copied.
        """
        with self._locked():
            stamp, latest = self.stamp(), self._latest()
            if stamp is not None and latest.get("stamp") == list(stamp):
                if "fault" in latest:
                    raise ModelFileError(latest["fault"])
                copy = self._copy(latest["digest"])
                if copy.exists():
                    return Taken(hatrix.load(copy, verify=False), latest["digest"], copy, stamp)
            return self._take_anew(stamp, latest)

    def last(self) -> Taken | None:
        """The model that was sound last, whatever the file holds now."""
        with self._locked():
            digest = str(self._latest().get("digest"))
            copy = self._copy(digest)
            return Taken(hatrix.load(copy, verify=False), digest, copy, None) if copy.exists() else None

    def close(self) -> None:
        """Remove the folder. Other processes keep what they have mapped, and make a new one when they need it."""
        _files.discard(self.folder)
        self._made.close()

    def _take_anew(self, stamp: Stamp | None, latest: dict[str, Any]) -> Taken:
        try:
            with _files.temporary(self.folder) as (file, temporary):
                digest = _copied(self.path, file)
                copy = self._copy(digest)
                if copy.exists():
                    model = hatrix.load(copy, verify=False)
                else:
                    model = hatrix.load(temporary)
                    temporary.replace(copy)
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be copied: {error.strerror or error}") from None
        except ModelFileError as error:
            fault = str(error).replace(str(temporary), str(self.path))
            if self.is_certain(stamp):
                self._note({**latest, "stamp": stamp, "fault": fault})
            raise ModelFileError(fault) from None
        certain = stamp if self.is_certain(stamp) else None
        self._note({"stamp": certain, "digest": digest})
        for old in self.folder.glob("*.hatrix"):
            if old != copy:
                with suppress(OSError):
                    old.unlink()
        return Taken(model, digest, copy, certain)

    def is_certain(self, stamp: Stamp | None) -> bool:
        """Whether the file is what it was at that stamp: one written a moment ago may be written again unseen."""
        return stamp is not None and stamp == self.stamp() and time.time_ns() - stamp[3] > SETTLED * 1e9

    def _copy(self, digest: str) -> Path:
        return self.folder / f"{digest}.hatrix"

    def _latest(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / "latest.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, facts: dict[str, Any]) -> None:
        try:
            with _files.replacing(self.folder / "latest.json", durable=False) as file:
                file.write(json.dumps(facts).encode())
        except OSError as error:
            raise ModelFileError(f"{self.folder} cannot be written: {error.strerror or error}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that use the folder."""
        with ExitStack() as stack:
            try:
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_files.holding(self.folder, wait=True))
            except OSError as error:
                raise ModelFileError(f"{self.folder} cannot be written: {error.strerror or error}") from None
            yield


def _beside(path: Path) -> Path | None:
    """A folder beside the file that is ours alone; None where there can be none."""
    home = Path(os.path.realpath(path)).parent
    folder = home / f".{path.name}.served"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and not (hasattr(os, "getuid") and found.st_uid != os.getuid())
    return folder if ours and not found.st_mode & 0o022 and os.access(folder, os.W_OK) else None


def _copied(source: Path, copy: BinaryIO) -> str:
    """Copy a file into an open one, and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    try:
        mode = source.stat().st_mode
    except FileNotFoundError:
        raise ModelFileError(f"{source} does not exist") from None
    if not stat.S_ISREG(mode):
        what = "a folder: give the model file in it" if stat.S_ISDIR(mode) else "not a file on disk"
        raise ModelFileError(f"{source} is {what}")
    with open(source, "rb") as file:
        while part := file.read(AT_ONCE):
            digest.update(part)
            copy.write(part)
    copy.flush()
    return digest.hexdigest()
