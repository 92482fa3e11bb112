"""Ratings from files and tables of any layout."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.ids import coded, unmasked
from hatrix.data.ratings import Ratings, ReadReport, frame_column, frame_of
from hatrix.data.values import NO_TIME, numbers, times
from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["places_of", "read"]

COUNTS = ("count", "counts", "plays", "playcount", "clicks", "weight")
KNOWN = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customerid", "customer_id", "reviewerid", "visitorid"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "product", "productid", "product_id",
             "asin", "parent_asin", "book", "bookid", "book_id", "song", "songid", "artist", "artistid", "track"),
    "rating": ("rating", "ratings", "stars", "score", "value", "overall", *COUNTS),
    "time": ("timestamp", "time", "date", "datetime", "unixreviewtime", "created_at"),
}  # fmt: skip
"""Column names that are understood, in any case."""


def read(
    source: str | PathLike[str] | Any,
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
) -> Ratings:
    """Ratings from a text file, a Parquet file or a DataFrame.

    Parameters
    ----------
    source
        A path to separated text (also packed: gzip, or a zip with one file in it) or Parquet, or any DataFrame that
        narwhals knows (pandas, polars, Arrow).
    user, item, rating, time
        Columns by name, or by position from 0. By default usual names are looked for in the header; without a
        header the order is user, item, rating, time. A file without ratings has one event a row.
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

    Returns
    -------
    Ratings
        With ``report``: accepted + rejected + blank + header = records.

    Raises
    ------
    DataError
        If the source cannot be read as a whole, or rows cannot and ``skip_bad_rows`` is not set: one line with
        the file, and line number and reason of the first five.

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
    chosen = {"user": user, "item": item, "rating": rating, "time": time}
    if not isinstance(source, str) and not hasattr(source, "__fspath__"):
        table = frame_of(source)
        return _from_table(
            table.columns, lambda place: frame_column(table, table.columns[place]), chosen, "the table",
            implicit=implicit, skip_bad_rows=skip_bad_rows, scale=scale, name=name or "ratings",
        )  # fmt: skip
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file of ratings in it")
    if not path.exists():
        raise DataError(f"there is no file {path}")
    stem = name or path.name.split(".")[0] or "ratings"
    if path.suffix.lower() in (".parquet", ".pq"):
        import duckdb

        with duckdb.connect() as connection:
            names, column = _parquet(connection, path)
            return _from_table(
                names, column, chosen, str(path),
                implicit=implicit, skip_bad_rows=skip_bad_rows, scale=scale, name=stem,
            )  # fmt: skip

    from hatrix.data import text

    known = frozenset(word for words in KNOWN.values() for word in words)
    known |= {
        str(column).lower()
        for column in chosen.values()
        if isinstance(column, str) and not column.isdecimal()
    }
    with text.plain_file(path, encoding) as plain:
        layout = text.sniff(plain, str(path), separator, header, known)
        places = places_of(chosen, layout.header, layout.width, str(path), implicit)
        found = text.read_columns(plain, str(path), layout, places, skip_bad_rows=skip_bad_rows)
    return Ratings.from_rows(
        found.users,
        found.user,
        found.items,
        found.item,
        found.rating,
        time=found.time,
        implicit=_counts(places, layout.header) if implicit is None else implicit,
        scale=scale,
        name=stem,
        report=found.report,
    )


def _parquet(connection: Any, path: Path) -> tuple[list[str], Callable[[int], NDArray[Any]]]:
    """The names of the columns, and a function that reads one."""
    import duckdb

    try:
        table = connection.read_parquet(glob.escape(str(path)), hive_partitioning=False)
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    names, kinds = list(table.columns), list(map(str, table.types))

    def column(place: int) -> NDArray[Any]:
        field = duckdb.ColumnExpression(names[place])
        # Whole numbers of other widths would come as floats, which are the same for neighbouring large ones.
        whole = "HUGEINT" in kinds[place] or kinds[place].endswith(",0)")
        for kind in ("BIGINT", "VARCHAR") if whole else (None,):
            try:
                found = table.select((field.cast(kind) if kind else field).alias("field"))
                return unmasked(np.asanyarray(found.fetchnumpy()["field"]))
            except duckdb.ConversionException:
                continue
            except duckdb.Error as error:
                raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
        raise AssertionError("any whole number can be a text")

    return names, column


def _from_table(
    names: list[Any],
    column: Callable[[int], NDArray[Any]],
    chosen: dict[str, Any],
    where: str,
    *,
    implicit: bool | None,
    skip_bad_rows: bool,
    scale: tuple[float, float] | None,
    name: str,
) -> Ratings:
    places = places_of(chosen, names, len(names), where, implicit)
    columns = {role: column(place) for role, place in places.items()}
    report = None
    if skip_bad_rows:
        columns, report = _sound(columns, where)
    if not len(columns["user"]):
        raise DataError(f"{where} has no ratings")
    try:
        return Ratings.from_columns(
            columns["user"],
            columns["item"],
            columns.get("rating"),
            time=columns.get("time"),
            implicit=_counts(places, names) if implicit is None else implicit,
            scale=scale,
            name=name,
            report=report,
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _sound(columns: dict[str, NDArray[Any]], where: str) -> tuple[dict[str, NDArray[Any]], ReadReport]:
    """The rows that can be read, and the report on all."""
    wrong = {}
    for role, column in columns.items():
        if role == "rating":
            wrong[role] = np.isnan(numbers(column))
        elif role == "time":
            wrong[role] = times(column) == NO_TIME
        else:
            codes, keys = coded(column)
            wrong[role] = np.array([*(key == "" for key in keys), True])[codes]  # the code of a gap is -1
    bad = np.logical_or.reduce(list(wrong.values()))
    errors = tuple(
        (where, at, f"{role} {columns[role][at]!r:.40} cannot be read")
        for at in np.flatnonzero(bad)[:5].tolist()
        for role in [next(role for role in wrong if wrong[role][at])]
    )
    rejected = int(bad.sum())
    report = ReadReport(len(bad), len(bad) - rejected, rejected, errors=errors)
    return {role: column[~bad] for role, column in columns.items()}, report


def places_of(
    chosen: dict[str, Any], names: list[Any] | None, width: int, where: str, implicit: bool | None
) -> dict[str, int]:
    """Which column is which: as chosen, else by its name, else by position where there is no header."""
    listed = ", ".join(map(repr, names)) if names else f"{width} columns without names"
    places = {role: _place(role, column, names, width, where, listed) for role, column in chosen.items()
              if column is not None}  # fmt: skip
    if len(set(places.values())) < len(places):
        raise DataError(f"{where}: one column is given for two of {', '.join(places)}; there are {listed}")
    lower = [str(name).strip().lower() for name in names] if names else []
    for role in chosen:
        if role in places:
            continue
        free = [place for place in range(width) if place not in places.values()]
        match = [place for place in free if names and lower[place] in KNOWN[role]]
        if names and match:
            place = min(match, key=lambda place: KNOWN[role].index(lower[place]))
            places[role] = _place(role, names[place], names, width, where, listed)
        elif names is None and free and width <= len(chosen):
            places[role] = free[0]
        elif role in ("user", "item"):
            raise DataError(
                f"{where} has no column for the {role}: name it ({role}=…, --{role}-column); there are {listed}"
            )
    left = [place for place in range(width) if place not in places.values()]
    if "rating" not in places and left and implicit is None and names:
        raise DataError(
            f"{where} has no column known to be the rating: name it (rating=…, --rating-column), or say that there "
            f"are none (implicit=True); there are {listed}"
        )
    return {role: places[role] for role in chosen if role in places}


def _counts(places: dict[str, int], names: list[Any] | None) -> bool | None:
    """Whether the rating column's name says that it counts events."""
    if names is None or "rating" not in places:
        return None
    return str(names[places["rating"]]).strip().lower() in COUNTS


def _place(role: str, column: str | int, names: list[Any] | None, width: int, where: str, listed: str) -> int:
    if names and column in names:
        if names.count(column) > 1:
            raise DataError(
                f"{where} has {names.count(column)} columns {column!r}: give the one of the {role} by its "
                f"position from 0; there are {listed}"
            )
        return names.index(column)
    if isinstance(column, int) or str(column).isdecimal():
        if 0 <= int(column) < width:
            return int(column)
        raise DataError(f"{where} has no column {column} for the {role}: there are {listed}")
    raise DataError(f"{where} has no column {column!r} for the {role}: there are {listed}")
