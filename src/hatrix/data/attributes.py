"""Tables of item and user attributes: functions that check them against the ids, or join them by id."""

from __future__ import annotations

import glob
import re
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import path_of, shown
from hatrix.data.roles import KNOWN
from hatrix.data.sources import PARQUET
from hatrix.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.data.ids import Ids

__all__ = ["check_table", "joined_table", "read_table", "with_gaps"]

_NUMBER = re.compile(r"-?(?:[1-9][0-9]{0,17}|0)(?:\.[0-9]+)?")
_WITH_GAPS = {"i": "Int64", "u": "UInt64", "b": "boolean"}
"""For each NumPy kind without missing values, the pandas type that has them."""
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
"""DuckDB's types of integers that fit into 64 bits."""


def check_table(table: Any, ids: Ids, side: str) -> None:
    """Refuse a table of attributes whose lines do not match the ids one by one, in their order.

    The ids of the lines come from a column with a usual name for ids (``"item"``, ``"movieId"``, ``"id"``, ...), or from
    an index that is not just 0, 1, 2, .... Without either, only the number of lines can be checked.

    Parameters
    ----------
    table
        The table, a pandas DataFrame, or None.
    ids
        The ids of that side.
    side
        ``"item"`` or ``"user"``.

    Raises
    ------
    DataError
        If it is no DataFrame, has more or fewer lines than there are ids, or has them in another order.
    """
    if table is None:
        return
    import pandas as pd

    remedy = (
        f"join it by id with ratings.with_{side}s(table, id=...), which takes any order and number of lines"
    )
    if not isinstance(table, pd.DataFrame):
        raise DataError(
            f"{side}_table is a {type(table).__name__}: give a pandas DataFrame with a line for each {side}, or {remedy}"
        )
    if len(table) != len(ids):
        raise DataError(
            f"{side}_table has {len(table):,} lines, and there are {len(ids):,} {side}s: it needs a line for each of them "
            f"in the order of ratings.{side}s; {remedy}"
        )
    found = {name: ids.encode(np.asarray(table[name], object)) for name in _id_columns(table, side)}
    told = [
        (f"column {name!r}", table[name], rows)
        for name, rows in found.items()
        if (rows >= 0).any() and table[name].is_unique
    ]
    if not told and not _is_plain(table.index):
        told = [("index", table.index.to_series(), ids.encode(np.asarray(table.index, object)))]
    for where, labels, rows in told:
        wrong = np.flatnonzero(rows != np.arange(len(ids)))
        if len(wrong):
            at = int(wrong[0])
            raise DataError(
                f"{side}_table, {where}: line {at} is of {side} {np.asarray(labels)[at]!s}, and should be of {side} "
                f"{ids.labels[at]!s}: the lines need the order of ratings.{side}s; {remedy}"
            )


def joined_table(
    frame: Any, ids: Ids, side: str, id_column: str | None, names: dict[str, str | None]
) -> pd.DataFrame:
    """Return a table with one line for each id, in the order of the ids; ids without a line get missing values.

    Parameters
    ----------
    frame
        Any DataFrame that narwhals knows.
    ids, side
        As for `check_table`.
    id_column
        Its column of ids; None to use a column with a usual name for ids, or the index.
    names
        Columns to rename, each new name with the present one: ``{"title": "film_name"}``.

    Raises
    ------
    DataError
        If a column is missing, an id has two lines, or no id has any.
    """
    import pandas as pd

    from hatrix.data.ratings import frame_of

    table = frame if isinstance(frame, pd.DataFrame) else frame_of(frame, f"a table of {side}s").to_pandas()
    found = _id_columns(table, side) if id_column is None else [id_column]
    if id_column is None and not found and not _is_plain(table.index):
        labels = np.asarray(table.index, object)
    elif len(found) == 1 and _has(table, found[0]):
        labels, table = np.asarray(table[found[0]], object), table.drop(columns=found)
    else:
        have = ", ".join(map(repr, table.columns))
        what = f"no column {shown(id_column)}" if id_column is not None else f"no one column of {side} ids"
        raise DataError(f"the table of {side}s has {what}: name it (id=...); there are {have}")
    table = table.reset_index(drop=True)
    for name, given in names.items():
        if given is not None and not _has(table, given):
            have = ", ".join(map(repr, table.columns))
            raise DataError(f"the table of {side}s has no column {shown(given)} for {name}: there are {have}")
        if given not in (None, name) and name in table.columns:
            raise DataError(
                f"the table of {side}s has columns {name!r} and {given!r} for {name}: drop or rename one of them"
            )
    table = table.rename(columns={given: name for name, given in names.items() if given is not None})
    rows = ids.encode(labels)
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        first = ", ".join(map(repr, labels[:3].tolist()))
        raise DataError(
            f"the table of {side}s has none of the {len(ids):,} {side} ids: its ids begin with {first or 'nothing'}, and "
            f"those of the ratings are {ids!r}; give the column that has them (id=...)"
        )
    lines = np.full(len(ids), -1)
    lines[rows[known]] = known
    if len(np.unique(rows[known])) < len(known):
        again = known[lines[rows[known]] != known][0]
        raise DataError(
            f"the table of {side}s has two lines for {side} {labels[again]!s}, the first at line {again}: give one for each"
        )
    if (lines < 0).any():
        table = with_gaps(table)
    return table.take(np.maximum(lines, 0)).reset_index(drop=True).where(pd.Series(lines >= 0), axis=0)


def with_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns can have missing values without turning integers and truth values into floats.

    Examples
    --------
    >>> import pandas as pd
    >>> films = pd.DataFrame({"year": [1972, 1999]})
    >>> with_gaps(films).where(pd.Series([True, False]), axis=0)["year"].tolist()
    [1972, <NA>]
    """
    kinds = {name: kind.kind for name, kind in table.dtypes.items() if isinstance(kind, np.dtype)}
    return table.astype({name: _WITH_GAPS[kind] for name, kind in kinds.items() if kind in _WITH_GAPS})


def read_table(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a table of attributes from a Parquet file or a text file with a header; ids in a text file stay text.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    import duckdb
    import pandas as pd

    path = path_of("the table", path, text=True)
    scan = (
        "read_parquet($path)"
        if path.suffix.lower() in PARQUET
        else "read_csv($path, header=true, all_varchar=true)"
    )
    if not path.is_file():
        raise DataError(
            f"{path} is no file: give a Parquet file, or a text file with a header and a line for each id"
        )
    try:
        with duckdb.connect() as connection:
            connection.execute("SET enable_progress_bar = false")
            result = connection.execute(f"SELECT * FROM {scan}", {"path": glob.escape(str(path))})
            whole = [name for name, kind, *_ in result.description or () if str(kind) in _WHOLE]
            table = result.df()
    except duckdb.Error as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    for name in table.columns if path.suffix.lower() not in PARQUET else ():
        texts = table[name].dropna()
        if (
            name not in [*_id_columns(table, "item"), *_id_columns(table, "user")]
            and texts.map(_is_number).all()
        ):
            table[name] = pd.to_numeric(table[name])
            whole += [name] * (not texts.str.contains(".", regex=False).any())
    # Missing values make pandas' own integers floats, and a year would then read 1993.0.
    return table.astype({name: "Int64" for name in whole if table[name].dtype.kind == "f"})


def _has(table: pd.DataFrame, name: Any) -> bool:
    return isinstance(name, str | int) and name in table.columns


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _is_plain(index: Any) -> bool:
    """Return whether an index only counts the lines."""
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        return index.start == 0 and index.step == 1
    return index.dtype.kind in "iu" and bool((np.asarray(index) == np.arange(len(index))).all())


def _id_columns(table: pd.DataFrame, side: str) -> list[str]:
    names = {*KNOWN[side], "id"}
    return [name for name in table.columns if str(name).strip().lower() in names]
