"""Public data sets by name: found on this machine, or fetched once and checked.

A name is looked for in the folder ``HATRIX_DATA`` (in it a folder for each data set with the original files,
or its zip), then in the user's cache, then at its origin, then at a mirror.
"""

from __future__ import annotations

import difflib
import os
import warnings
from pathlib import Path
from typing import NamedTuple

from hatrix._checks import shown
from hatrix.data.cache import cached, download
from hatrix.data.catalogue import CATALOGUE, UNSTATED, DataSet
from hatrix.data.layouts import is_lightgcn, load_lightgcn, load_movielens
from hatrix.data.origin import recorded
from hatrix.data.ratings import Ratings
from hatrix.errors import ParameterError

__all__ = ["Row", "get", "load", "names", "table"]


class Row(NamedTuple):
    """A line of the table of data sets; None where a value is not known."""

    name: str
    rows: int | None
    users: int | None
    items: int | None
    scale: tuple[float, float] | None
    size: int | None
    licence: str
    changes: bool
    where: Path | None


def names() -> list[str]:
    """The data sets that `load` knows: the catalogue, then further LightGCN folders in ``HATRIX_DATA``.

    Examples
    --------
    >>> "ml-100k" in names()
    True
    """
    folder = _data_folder()
    there = sorted(folder.iterdir()) if folder else []
    return [*CATALOGUE, *(path.name for path in there if is_lightgcn(path) and path.name not in CATALOGUE)]


def table() -> list[Row]:
    """A row for each name: counts, scale, download size in bytes, licence and where it is on this machine.

    ``changes`` marks the one without a fixed content, whose counts are those of July 2023. ``where`` is None
    for what would have to be downloaded; what lies in the cache is checked when it is loaded.
    """
    rows = []
    for name in names():
        entry = _entry(name)
        where = _in_data_folder(entry) or cached(entry, deep=False)
        counts = (entry.rows, entry.users, entry.items)
        rows.append(Row(name, *counts, entry.scale, entry.size, entry.licence, entry.changes, where))
    return rows


def get(name: str, *, progress: bool = True) -> Path:
    """Return the folder of a data set; download it first if it is not on this machine.

    Parameters
    ----------
    name
        One of `names`.
    progress
        Show a progress bar on stderr if that is a terminal, and say on stderr when the data set comes from a
        mirror because its origin cannot be reached.

    Raises
    ------
    ParameterError
        If there is no such data set.
    DownloadError
        If it is not here and cannot be had, or is not what it should be.
    """
    entry = _entry(name)
    return _in_data_folder(entry) or cached(entry) or download(entry, _packed(entry), progress)


@recorded("hx.datasets.load")
def load(name: str, *, progress: bool = True) -> Ratings:
    """Ratings of a data set, in the order of its file, with what it tells of items and users.

    Parameters
    ----------
    name, progress
        As for `get`.

    Returns
    -------
    Ratings
        With ``item_table`` (title, year, genres) and, for ml-100k and ml-1m, ``user_table`` (age, gender,
        occupation, zip). For data in LightGCN's layout the training and then the test events, implicit.

    Raises
    ------
    ParameterError, DownloadError
        As for `get`.
    DataError
        If a file is not in the layout of the data set.
    """
    entry = _entry(name)
    folder = get(name, progress=progress)
    if entry.layout and entry.scale:
        ratings = load_movielens(folder, entry.layout, scale=entry.scale, name=name)
    else:
        ratings = load_lightgcn(folder, name=name)
    if entry.rows not in (None, len(ratings)) and not entry.changes:
        warnings.warn(
            f"{folder} has {len(ratings):,} ratings, and {name} as published {entry.rows:,}: is it complete?",
            stacklevel=2,
        )
    return ratings


def _entry(name: str) -> DataSet:
    if isinstance(name, str) and name in CATALOGUE:
        return CATALOGUE[name]
    if isinstance(name, str) and name in names():
        return DataSet(name, None, None, None, None, None, UNSTATED)
    near = difflib.get_close_matches(name, names(), n=1) if isinstance(name, str) else []
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ParameterError(
        f"no data set {shown(name)}{hint}: there are {', '.join(names())}; "
        "further ones are folders in HATRIX_DATA with a train.txt and a test.txt in LightGCN's layout"
    )


def _data_folder() -> Path | None:
    place = os.environ.get("HATRIX_DATA")
    folder = Path(place).expanduser() if place else None
    return folder if folder and folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else None


def _in_data_folder(entry: DataSet) -> Path | None:
    base = _data_folder()
    if base is None:
        return None
    here = [base / entry.name, base / entry.name / entry.name, base / (entry.folder or entry.name)]
    return next((folder for folder in here if entry.is_in(folder)), None)


def _packed(entry: DataSet) -> Path | None:
    base = _data_folder()
    return base / f"{entry.name}.zip" if base and (base / f"{entry.name}.zip").is_file() else None
