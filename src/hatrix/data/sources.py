"""What a caller names as the source of ratings, as files."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

__all__ = ["Source", "files_in", "is_path", "source_of"]

PARQUET = (".parquet", ".pq")


class Source(NamedTuple):
    """Files of one kind and layout, in order, and what their data are called."""

    files: list[Path]
    parquet: bool
    name: str
    where: str


def is_path(source: Any) -> bool:
    """Whether the source is a path, a pattern, or some of these."""
    several = source if isinstance(source, list | tuple) else [source]
    return all(isinstance(one, str) or hasattr(one, "__fspath__") for one in several)


def source_of(given: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Source:
    """The files of a path, a folder of part files, a pattern such as ``part-*.csv``, or a list of these.

    Raises
    ------
    DataError
        If there are none, or some are Parquet and some are text.
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
    return Source(files, True in kinds, named.name.split(".")[0] or "ratings", where)


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
