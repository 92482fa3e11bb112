"""Ratings from files and tables of any layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrix.data.ratings import Ratings
from hatrix.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["read"]

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
        A path to separated text (also ``.gz``, or ``.zip`` with one file in it) or Parquet, or any DataFrame that
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
        return _from_frame(source, chosen, implicit=implicit, scale=scale, name=name or "ratings")
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file of ratings in it")
    if not path.exists():
        raise DataError(f"there is no file {path}")
    stem = name or path.name.split(".")[0] or "ratings"
    if path.suffix.lower() in (".parquet", ".pq"):
        return _from_frame(_parquet(path), chosen, implicit=implicit, scale=scale, name=stem, where=str(path))

    from hatrix.data import text

    known = frozenset(word for words in KNOWN.values() for word in words)
    known |= {
        str(column).lower() for column in chosen.values() if isinstance(column, str) and not column.isdigit()
    }
    with text.plain_file(path, encoding) as plain:
        layout = text.sniff(plain, str(path), separator, header, known)
        places = _places(chosen, layout.header, layout.width, str(path), implicit)
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


def _parquet(path: Path) -> Any:
    import duckdb

    with duckdb.connect() as connection:
        try:
            return connection.read_parquet(str(path)).df()
        except duckdb.Error as error:
            raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _from_frame(
    frame: Any,
    chosen: dict[str, Any],
    *,
    implicit: bool | None,
    scale: tuple[float, float] | None,
    name: str,
    where: str = "the table",
) -> Ratings:
    import narwhals as nw

    try:
        names = nw.from_native(frame, eager_only=True).columns
    except TypeError:
        kind = type(frame).__name__
        raise DataError(
            f"cannot read ratings from a {kind}: give a path, or a pandas, polars or Arrow table"
        ) from None
    places = _places(chosen, names, len(names), where, implicit)
    column = {role: names[place] for role, place in places.items()}
    found = Ratings.from_frame(
        frame,
        user=column["user"],
        item=column["item"],
        rating=column.get("rating"),
        time=column.get("time"),
        implicit=_counts(places, names) if implicit is None else implicit,
        name=name,
    )
    return found if scale is None or found.implicit else replace(found, scale=scale)


def _places(
    chosen: dict[str, Any], names: list[str] | None, width: int, where: str, implicit: bool | None
) -> dict[str, int]:
    """Which column is which: as chosen, else by its name, else by position where there is no header."""
    listed = ", ".join(map(repr, names)) if names else f"{width} columns without names"
    places = {role: _place(role, column, names, width, where, listed) for role, column in chosen.items()
              if column is not None}  # fmt: skip
    lower = [str(name).strip().lower() for name in names] if names else []
    for role in chosen:
        if role in places:
            continue
        free = [place for place in range(width) if place not in places.values()]
        match = [place for place in free if names and lower[place] in KNOWN[role]]
        if match:
            places[role] = min(match, key=lambda place: KNOWN[role].index(lower[place]))
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


def _counts(places: dict[str, int], names: list[str] | None) -> bool | None:
    """Whether the rating column's name says that it counts events."""
    if names is None or "rating" not in places:
        return None
    return names[places["rating"]].strip().lower() in COUNTS


def _place(role: str, column: str | int, names: list[str] | None, width: int, where: str, listed: str) -> int:
    if names and column in names:
        return names.index(str(column))
    if isinstance(column, int) or str(column).isdigit():
        if int(column) < width:
            return int(column)
        raise DataError(f"{where} has no column {column} for the {role}: there are {listed}")
    raise DataError(f"{where} has no column {column!r} for the {role}: there are {listed}")
