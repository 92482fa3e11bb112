"""Ratings from files and tables of any layout."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hatrix._checks import column, path_of, text, yes_or_no
from hatrix.data.disk import Disk, one_line, size_in_bytes
from hatrix.data.files import Files, How
from hatrix.data.origin import recorded
from hatrix.data.pieces import Columns, joined
from hatrix.data.progress import row_bar
from hatrix.data.ratings import Ratings, frame_column, frame_of
from hatrix.data.roles import counts_events, places_of, taken
from hatrix.data.sources import Source, is_path, source_of
from hatrix.data.stored import ahead, clear, kept, open_disk, rows_at_once, store
from hatrix.data.tables import columns_of
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

__all__ = ["read"]

BYTES_PER_ROW = 32
"""On disk, of the columns and of what is made of them on the way, where there are no times and few repeated pairs."""


@recorded("hx.read")
def read(
    source: str | PathLike[str] | Sequence[str | PathLike[str]] | Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    time: str | int | None = None,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    implicit: bool | None = None,
    skip_bad_rows: bool = False,
    scale: tuple[float, float] | None = None,
    name: str | None = None,
    memory: str | int | None = None,
    folder: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Ratings:
    """Read ratings from text files, Parquet files or a DataFrame.

    Parameters
    ----------
    source
        A path to separated text (also packed: gzip, or a zip with one file in it) or Parquet, several of these (a list,
        a pattern such as ``"part-*.csv"``, or a folder of Parquet or ``part-`` files) of one layout, which are read as
        one after another, or any DataFrame that narwhals knows (pandas, polars, Arrow). A pipe, as ``/dev/stdin`` often
        is, is copied to a temporary file first, which may take half of the free space; set TMPDIR for another folder.
    user, item, rating, time
        Columns by name, or by position from 0. By default usual names are looked for in the header; without a
        header the order is user, item, rating, time, and a column that is not named is the time only if its first fields
        are all dates, or numbers that are times from 1990 to 2099. A file without ratings has one event a row.
        ``ratings.report.columns`` gives the role of each column.
    separator
        What stands between fields, of any length; found by default.
    header
        Whether the first line names the columns; found by default.
    encoding
        Of text; UTF-8 by default.
    implicit
        Whether ratings are counts of events; by default where there are none, or their column is called counts,
        plays, clicks and the like.
    skip_bad_rows
        Leave rows that cannot be read out, and count them in ``ratings.report``, instead of stopping.
    scale
        Lowest and highest possible rating; by default those that occur.
    name
        What the data are called; by default the file's name.
    memory
        For files larger than memory, how much the process may hold, such as ``"2GB"``: columns are then written to disk
        piece by piece and mapped. What is read is the same.
    folder
        Where to put them. What is there of the same files, read in the same way, is used again. By default a temporary
        folder, which is removed when the ratings are no longer in use.
    progress
        With ``memory``, show a progress bar, on stderr and only if that is a terminal.

    Returns
    -------
    Ratings
        With ``report``: accepted + rejected + blank + header = records.

    Raises
    ------
    DataError
        If the source cannot be read as a whole, or rows cannot and ``skip_bad_rows`` is not set: one line with
        the file, and line number and reason of the first five. If ``memory`` is too little for the ids, or the disk for
        the columns.

    Notes
    -----
    Blanks around a field are not part of it. Ids are integers where all of them are written as integers are;
    otherwise, one ``007`` or ``7.0`` being enough, they are text, so that ``007`` and ``7`` stay two ids.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "stars.csv"
    ...     _ = path.write_text("userId,movieId,rating\\nann,7,4.5\\nbob,7,3\\n")
    ...     ratings = read(path)
    >>> len(ratings), ratings.users.labels.tolist(), ratings.scale
    (2, ['ann', 'bob'], (3.0, 4.5))
    """
    given_columns = {"user": user, "item": item, "rating": rating, "time": time}
    chosen = {role: None if name is None else column(role, name) for role, name in given_columns.items()}
    for option, value in (("separator", separator), ("encoding", encoding), ("name", name)):
        if value is not None:
            text(option, value)
    for option, choice in (("header", header), ("implicit", implicit)):
        if choice is not None:
            yes_or_no(option, choice)
    skip_bad_rows = yes_or_no("skip_bad_rows", skip_bad_rows)
    if folder is not None and memory is None:
        raise ParameterError(
            "folder is where columns go that do not fit into memory: say how much there is, memory='2GB'"
        )
    folder = None if folder is None else path_of("folder", folder)
    if not is_path(source):
        if memory is not None:
            raise ParameterError(
                "memory is for reading files, and a table is in memory already: leave it out"
            )
        table = frame_of(source)
        places = places_of(chosen, table.columns, len(table.columns), "the table", implicit)
        columns = {role: frame_column(table, table.columns[place]) for role, place in places.items()}
        counted = counts_events(places, table.columns) if implicit is None else implicit
        found = columns_of(columns, "the table", skip_bad_rows=skip_bad_rows)
        report = replace(found.report, columns=taken(places, table.columns, len(table.columns)))
        found = found._replace(report=report)
        return _in_memory(found, "the table", counted, scale, name or "ratings")
    how = How(chosen, separator, header, encoding, implicit, skip_bad_rows)
    with source_of(source) as given:
        if memory is None:
            return _whole(given, how, scale, name or given.name)
        return _on_disk(given, how, scale, name or given.name, memory, folder, progress=progress)


def _whole(given: Source, how: How, scale: tuple[float, float] | None, name: str) -> Ratings:
    """Read all files into memory."""
    files = Files(given, how)
    parts = list(files.whole())
    if not parts:
        raise DataError(f"{given.where} has no ratings")
    found = parts[0] if len(parts) == 1 else joined(parts)
    del parts
    return _in_memory(found, given.where, files.implicit, scale, name)


def _on_disk(
    given: Source,
    how: How,
    scale: tuple[float, float] | None,
    name: str,
    memory: str | int,
    folder: str | PathLike[str] | None,
    *,
    progress: bool,
) -> Ratings:
    """Read the files chunk by chunk, into memory-mapped columns in a folder."""
    files = Files(given, how)
    is_new = folder is not None and not os.path.exists(folder)
    disk = open_disk(folder, size_in_bytes(memory))
    identity = {**files.identity(), "scale": scale, "name": name}
    with disk.lock():
        ratings = kept(disk, identity)
        if ratings is not None:
            return ratings
        try:
            _refuse_full(disk, files.measure(), given.where)
            with (
                row_bar("reading", files.total, progress) as show,
                closing(ahead(files.in_pieces(disk, rows_at_once(disk)))) as pieces,
            ):
                return store(
                    pieces,
                    disk,
                    source=identity,
                    implicit=lambda: files.implicit,
                    scale=scale,
                    name=name,
                    where=given.where,
                    show=lambda rows: show(files.done, rows),
                )
        except OSError as error:
            clear(disk, gone=is_new)
            raise DataError(
                f"{disk.folder} cannot hold {given.where}: {error.strerror or one_line(error)}"
            ) from None
        except BaseException:
            clear(disk, gone=is_new)
            raise


def _in_memory(
    found: Columns, where: str, implicit: bool | None, scale: tuple[float, float] | None, name: str
) -> Ratings:
    if not found.report.accepted:
        raise DataError(f"{where} has {'a header and ' if found.report.header else ''}no ratings")
    try:
        return Ratings.from_rows(
            found.users,
            found.user,
            found.items,
            found.item,
            found.rating,
            time=found.time,
            implicit=implicit,
            scale=scale,
            name=name,
            report=found.report,
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _refuse_full(disk: Disk, rows: int, where: str) -> None:
    """Refuse a disk that has plainly too little room for the columns and for what is made of them on the way."""
    need, free = rows * BYTES_PER_ROW, shutil.disk_usage(disk.folder).free
    if need > free:
        raise DataError(
            f"{where} takes about {need / 1e9:,.1f} GB on disk, and {disk.folder} has {free / 1e9:,.1f} GB: give a folder "
            "with more room"
        )
