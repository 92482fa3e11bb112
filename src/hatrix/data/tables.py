"""Ratings out of the columns of a table: a DataFrame, or Parquet files whole or in pieces."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._checks import path_of
from hatrix.data.disk import quoted
from hatrix.data.ids import Ids, are_labels, unmasked
from hatrix.data.pieces import Columns
from hatrix.data.ratings import ReadReport, finite, whole_seconds
from hatrix.data.values import NO_TIME, numbers, times
from hatrix.errors import DataError

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

__all__ = ["ROW_NUMBER", "Parquet", "columns_of", "parquet", "rows_in"]

ROW_NUMBER = "file_row_number"
"""The column that DuckDB adds, to find rows by."""
MOST_THREADS = 4
"""More would take memory and hardly be faster than what comes after."""


class Parquet(NamedTuple):
    """A Parquet file: its columns, their types and the number of its rows."""

    connection: duckdb.DuckDBPyConnection
    path: Path
    names: list[str]
    kinds: list[str]
    rows: int
    in_group: int

    def part(
        self, places: dict[str, int], start: int = 0, stop: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Columns by role, all rows of them or those from ``start`` to ``stop``."""
        import duckdb

        whole = {role for role, place in places.items() if _is_whole(self.kinds[place])}
        try:
            return self._select(places, dict.fromkeys(whole, "BIGINT"), start, stop)
        except duckdb.ConversionException:
            found: dict[str, NDArray[Any]] = {}
            for role, place in places.items():
                # Whole numbers of other widths would come as floats, which are the same for neighbouring large ones.
                for kind in ("BIGINT", "VARCHAR") if role in whole else (None,):
                    try:
                        found |= self._select({role: place}, {role: kind} if kind else {}, start, stop)
                        break
                    except duckdb.ConversionException:
                        continue
            return found

    def regrouped(self, places: dict[str, int], rows: int, path: Path) -> Parquet:
        """A copy of some columns, named by their roles, in row groups of so many rows."""
        import duckdb

        fields = ", ".join(f"{_field(self.names[place])} AS {role}_" for role, place in places.items())
        try:
            self.connection.execute(
                f"COPY (SELECT {fields} FROM {_scan(self.path)}) TO {quoted(path)} (FORMAT parquet, ROW_GROUP_SIZE {rows})"
            )
        except duckdb.Error as error:
            raise _unreadable(self.path, error) from None
        kinds = [self.kinds[place] for place in places.values()]
        return self._replace(path=path, names=[f"{role}_" for role in places], kinds=kinds, in_group=rows)

    def _select(
        self, places: dict[str, int], kinds: dict[str, str], start: int, stop: int | None
    ) -> dict[str, NDArray[Any]]:
        import duckdb

        fields = []
        for role, place in places.items():
            field = _field(self.names[place])
            fields.append(f"{f'CAST({field} AS {kinds[role]})' if role in kinds else field} AS {role}_")
        rows = "" if stop is None else f" WHERE {ROW_NUMBER} >= {start} AND {ROW_NUMBER} < {stop}"
        query = f"SELECT {', '.join(fields)} FROM {_scan(self.path, numbered=stop is not None)}{rows}"
        try:
            found = self.connection.execute(query).fetchnumpy()
        except duckdb.ConversionException:
            raise
        except duckdb.Error as error:
            raise _unreadable(self.path, error) from None
        return {role: unmasked(np.asanyarray(found[f"{role}_"])) for role in places}


def _unreadable(what: Path | str, error: duckdb.Error) -> DataError:
    import duckdb

    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(
            f"{what}: a row group takes more than the memory allowed: allow more, or write the file in smaller row groups"
        )
    return DataError(f"{what} cannot be read as Parquet: {str(error).splitlines()[0]}")


def _field(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_whole(kind: str) -> bool:
    return "HUGEINT" in kind or kind.endswith(",0)")


def _scan(path: Path, *, numbered: bool = False) -> str:
    more = f", {ROW_NUMBER}=true" if numbered else ""
    return f"read_parquet({quoted(Path(glob.escape(str(path))))}, hive_partitioning=false{more})"


@contextmanager
def parquet(path: Path, memory: int | None = None, folder: Path | None = None) -> Iterator[Parquet]:
    """Open a Parquet file; ``memory`` and a ``folder`` for what does not fit there bound what DuckDB takes."""
    import duckdb

    path_of("the Parquet file", path, text=True)
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        if memory is not None and folder is not None:
            connection.execute(f"SET memory_limit = '{memory}B'")
            connection.execute(f"SET temp_directory = {quoted(folder)}")
            connection.execute(f"SET threads = least({MOST_THREADS}, current_setting('threads'))")
        try:
            described = connection.execute(f"DESCRIBE FROM {_scan(path)}").fetchall()
            name = quoted(Path(glob.escape(str(path))))
            groups = connection.execute(
                f"SELECT max(row_group_num_rows) FROM parquet_metadata({name})"
            ).fetchone()
        except duckdb.Error as error:
            raise _unreadable(path, error) from None
        names, kinds = [str(row[0]) for row in described], [str(row[1]) for row in described]
        in_group = int(groups[0] or 0) if groups else 0
        yield Parquet(connection, path, names, kinds, _rows_in([path], connection), in_group)


def rows_in(paths: list[Path]) -> int:
    """Return the number of rows of Parquet files."""
    import duckdb

    with duckdb.connect() as connection:
        return _rows_in(paths, connection)


def _rows_in(paths: list[Path], connection: duckdb.DuckDBPyConnection) -> int:
    import duckdb

    names = ", ".join(quoted(Path(glob.escape(str(path)))) for path in paths)
    try:
        found = connection.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata([{names}])").fetchone()
    except duckdb.Error as error:
        what = str(paths[0]) if len(paths) == 1 else f"{paths[0]} or another of {len(paths)} files"
        raise _unreadable(what, error) from None
    return int(found[0] or 0) if found else 0


def columns_of(
    columns: dict[str, NDArray[Any]], where: str, *, skip_bad_rows: bool, first: int = 0
) -> Columns:
    """Ids, rows and numbers of a table's columns, or of the piece of it that begins at row ``first``.

    Raises
    ------
    DataError
        If rows cannot be read and are not to be skipped: one line with the first five.
    """
    report = ReadReport(len(columns["user"]), len(columns["user"]))
    if skip_bad_rows:
        columns, report = _sound(columns, where, first)
    try:
        users, user = Ids.from_labels(columns["user"])
        items, item = Ids.from_labels(columns["item"])
        rating = finite(columns["rating"]) if "rating" in columns else None
        time = whole_seconds(columns["time"]) if "time" in columns else None
    except DataError as error:
        rejected = _sound(columns, where, first)[1] if first else None
        if rejected is None or not rejected.rejected:
            raise DataError(f"{where}: {error}") from None
        said = "; ".join(f"row {at}: {reason}" for _, at, reason in rejected.errors)
        raise DataError(
            f"{where}: some rows cannot be read, the first are {said}: correct or drop them"
        ) from None
    return Columns(users, user, items, item, rating, time, report)


def _sound(
    columns: dict[str, NDArray[Any]], where: str, first: int = 0
) -> tuple[dict[str, NDArray[Any]], ReadReport]:
    """The rows that can be read, and the report on all; they are counted from ``first``."""
    wrong = {}
    for role, column in columns.items():
        if role == "rating":
            wrong[role] = np.isnan(numbers(column))
        elif role == "time":
            wrong[role] = times(column) == NO_TIME
        elif column.dtype.kind in "iu":
            wrong[role] = np.zeros(len(column), bool)
        else:
            wrong[role] = ~are_labels(column)
    bad = np.logical_or.reduce(list(wrong.values()))
    errors = tuple(
        (where, first + at, f"{role} {columns[role][at]!r:.40} cannot be read")
        for at in np.flatnonzero(bad)[:5].tolist()
        for role in [next(role for role in wrong if wrong[role][at])]
    )
    rejected = int(bad.sum())
    report = ReadReport(len(bad), len(bad) - rejected, rejected, errors=errors)
    return {role: column[~bad] for role, column in columns.items()}, report
