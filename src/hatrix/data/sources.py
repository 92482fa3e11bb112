"""What a caller names as the source of ratings, as files."""

from __future__ import annotations

import glob
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hatrix import _files
from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

__all__ = ["Source", "files_in", "is_path", "source_of"]

PARQUET = (".parquet", ".pq")
AT_ONCE = 1 << 20
"""Bytes that are copied from a pipe at a time."""


class Source(NamedTuple):
    """Files of one kind and layout, in order, and the name of their data.

    ``pipes`` maps each file that is a copy of a pipe to the path of the pipe.
    """

    files: list[Path]
    parquet: bool
    name: str
    where: str
    pipes: dict[Path, str]

    def named(self, path: Path) -> str:
        """Return the path of one of the files as the caller gave it, for messages."""
        return self.pipes.get(path, str(path))


def is_path(source: Any) -> bool:
    """Whether the source is a path, a pattern, or some of these."""
    several = source if isinstance(source, list | tuple) else [source]
    return all(isinstance(one, str) or hasattr(one, "__fspath__") for one in several)


@contextmanager
def source_of(given: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Iterator[Source]:
    """Yield the files of a path, a folder of part files, a pattern such as ``part-*.csv``, or a list of these.

    A pipe can be read once only, and files are read several times, so it is copied to a temporary file.

    Raises
    ------
    DataError
        If there are none, some are Parquet and some are text, or one is a device.
    """
    several: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    places: list[str] = [os.fspath(one) for one in several]
    files = [path for place in places for path in files_in(place)]
    if not files:
        raise DataError("no files of ratings are given: give one or more")
    kinds = {path.suffix.lower() in PARQUET: path for path in reversed(files)}
    if len(kinds) > 1:
        raise DataError(f"{kinds[True]} is Parquet and {kinds[False]} is text: give files of one kind")
    first = Path(places[0])
    pattern = len(files) > 1 and len(places) == 1 and not first.is_dir()
    named = first.parent if pattern else first
    where = places[0] if len(places) == 1 else f"{files[0]} and {len(files) - 1} more"
    source = Source(files, True in kinds, _printable(named.name.split(".")[0]) or "ratings", where, {})
    piped = [path for path in files if _is_pipe(path)]
    if not piped:
        yield source
        return
    with _files.scratch() as folder:
        copies = {path: _copied(path, folder / str(number)) for number, path in enumerate(piped)}
        pipes = {copy: str(path) for path, copy in copies.items()}
        yield source._replace(files=[copies.get(path, path) for path in files], pipes=pipes)


def _printable(name: str) -> str:
    """Return a name without the bytes that are no UTF-8: a model file cannot hold them."""
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in name)


def _is_pipe(path: Path) -> bool:
    """Return whether the file is a pipe, which can be read only once; refuse a device or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if stat.S_ISFIFO(mode):
        return True
    if not stat.S_ISREG(mode):
        what = "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise DataError(f"{path} is {what}: give a file of ratings, or a pipe")
    return False


def _copied(pipe: Path, folder: Path) -> Path:
    """Copy all that comes out of a pipe to a file, and return its path."""
    try:
        folder.mkdir()
        most = shutil.disk_usage(folder).free // 2
        copy, size = folder / pipe.name, 0
        with open(pipe, "rb", buffering=0) as source, open(copy, "wb") as file:
            while block := source.read(AT_ONCE):
                size += len(block)
                if size > most:
                    raise DataError(
                        f"{pipe} is a pipe that gives more than {most / 1e9:,.1f} GB, half of the room in "
                        f"{tempfile.gettempdir()}: write the ratings to a file, or set TMPDIR to a folder with more room"
                    )
                file.write(block)
    except OSError as error:
        raise DataError(f"cannot read the pipe {pipe}: {error.strerror}") from None
    return copy


def files_in(place: str) -> list[Path]:
    """The files that a path or a pattern stands for."""
    path = Path(place)
    if not place:
        raise DataError("the path of a file is empty: give one")
    if path.is_dir():
        return _parts(path)
    if path.exists():
        return [path]
    if not glob.has_magic(place):
        raise DataError(f"there is no file {place}")
    found = [Path(name) for name in sorted(glob.glob(place, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise DataError(f"there is no file that matches {place}")
    return found


def _parts(folder: Path) -> list[Path]:
    """The files that Spark and the like have written into a folder; what is hidden or a mark is none."""
    there = sorted(path for path in folder.iterdir() if path.name[0] not in "._" and path.is_file())
    found = [path for path in there if path.suffix.lower() in PARQUET]
    found = found or [path for path in there if path.name.startswith("part-")]
    if not found:
        raise DataError(
            f"{folder} is a folder without Parquet files: give a file of ratings in it, or a pattern such as "
            f"{folder / '*.csv'}"
        )
    return found
