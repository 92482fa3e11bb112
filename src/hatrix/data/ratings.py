"""Ratings: immutable (user, item, value, time) rows with the ids and tables that explain them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._checks import shown, yes_or_no
from hatrix.data.attributes import check_table, joined_table, read_table
from hatrix.data.disk import Disk, let_go, will_need
from hatrix.data.ids import Ids, as_column, unmasked
from hatrix.data.origin import joined
from hatrix.data.sources import is_path
from hatrix.data.values import NO_TIME, numbers, times
from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.origin import Origin

__all__ = [
    "Csr",
    "Ratings",
    "ReadReport",
    "check_scale",
    "finite",
    "frame_column",
    "frame_of",
    "group_rows",
    "has_repeats",
    "one_per_pair",
    "whole_seconds",
]

SLICE = 1 << 20
"""Rows that are gone through at once."""
LARGEST = 1e32
"""Largest absolute value of a rating: sums of ratings then fit into float32, which ends at 3.4e38."""


class Csr(NamedTuple):
    """Rows of a table grouped by an owner: group g is ``rows[start[g]:start[g + 1]]``.

    ``rows`` holds positions of ratings, in their given order within a group.
    """

    start: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class ReadReport:
    """A count of what became of every record of a source: ``accepted + rejected + blank + header == records``.

    ``duplicates`` counts accepted rows that gave way to another row of the same user and item (or, for implicit
    data, were added to it). ``errors`` keeps the first rejected rows as (file, line number, reason). ``columns`` says of
    each column of a file or table which role it has, as (``"user"``, ``"item"``, ``"rating"``, ``"time"`` or
    ``"unused"``, its name, or its position from 0 in a file without a header).
    """

    records: int
    accepted: int
    rejected: int = 0
    blank: int = 0
    header: int = 0
    duplicates: int = 0
    errors: tuple[tuple[str, int, str], ...] = ()
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings or interactions, a row each.

    Parameters
    ----------
    user, item
        Row numbers into ``users`` and ``items`` (int32, length n).
    value
        The rating, or for implicit data the count (float64, length n).
    users, items
        The labels behind the row numbers. Parts of a split share them, so an id can have no row here.
    time
        Unix seconds (int64), or None.
    scale
        Lowest and highest possible rating; None for implicit data.
    implicit
        True where ``value`` counts events instead of rating them.
    item_table, user_table
        Attributes, one line per id in the order of ``items`` and ``users``: items may have ``title``, ``year``
        and ``genres`` (joined by ``|``). `with_items` and `with_users` make them from a table in any order.
    report
        What reading the source found.
    name
        What the data are called in tables and reports.
    disk
        Where the columns are if they are mapped from files, since they do not fit into memory; None in memory.
    origin
        The calls that made these ratings, for reports; None if they are not known.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    value: NDArray[np.float64]
    users: Ids
    items: Ids
    time: NDArray[np.int64] | None = None
    scale: tuple[float, float] | None = None
    implicit: bool = False
    item_table: pd.DataFrame | None = field(default=None, repr=False)
    user_table: pd.DataFrame | None = field(default=None, repr=False)
    report: ReadReport | None = field(default=None, repr=False)
    name: str = "ratings"
    disk: Disk | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_table(self.item_table, self.items, "item")
        check_table(self.user_table, self.users, "user")
        for column in self.columns:
            column.setflags(write=False)

    @property
    def columns(self) -> list[NDArray[Any]]:
        """User, item, value and, if there is one, time."""
        return [self.user, self.item, self.value, *(() if self.time is None else (self.time,))]

    def slices(self, *columns: NDArray[Any], rows: int = SLICE) -> Iterator[slice]:
        """All rows, so many at once; columns on disk (all, unless some are given) are read ahead, and let go of behind."""
        for start in range(0, len(self), rows):
            part = slice(start, min(start + rows, len(self)))
            for column in columns or self.columns:
                will_need(column, slice(part.stop, part.stop + rows))
            yield part
            for column in columns or self.columns:
                let_go(column, part)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str,
        item: str,
        rating: str | None = None,
        time: str | None = None,
        implicit: bool | None = None,
        name: str = "ratings",
    ) -> Ratings:
        """Ratings from any DataFrame (pandas, polars, Arrow and what else narwhals knows).

        Parameters
        ----------
        frame
            The table, a rating or an event a line.
        user, item, rating, time
            Column names. Without ``rating`` each line is one event. ``time`` may be dates or Unix seconds.
        implicit
            Whether ``rating`` counts events; by default only where there is no rating column.

        Raises
        ------
        DataError
            If a column is missing, an id is missing or empty, or a rating is not a finite number.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"who": ["ann", "bob"], "film": [7, 7], "stars": [4.5, 3.0]})
        >>> ratings = Ratings.from_frame(frame, user="who", item="film", rating="stars")
        >>> len(ratings), ratings.scale
        (2, (3.0, 4.5))
        """
        table = frame_of(frame)
        for role, column in (("user", user), ("item", item), ("rating", rating), ("time", time)):
            if column is None and role in ("rating", "time"):
                continue
            if not isinstance(column, str | int) or column not in table.columns:
                have = ", ".join(map(repr, table.columns))
                raise DataError(f"no column {shown(column)} for {role}: the table has {have}")

        return cls.from_columns(
            frame_column(table, user),
            frame_column(table, item),
            None if rating is None else frame_column(table, rating),
            time=None if time is None else frame_column(table, time),
            implicit=implicit,
            name=name,
        )

    @classmethod
    def from_columns(
        cls,
        user_ids: Any,
        item_ids: Any,
        value: Any = None,
        *,
        time: Any = None,
        implicit: bool | None = None,
        scale: tuple[float, float] | None = None,
        name: str = "ratings",
        report: ReadReport | None = None,
    ) -> Ratings:
        """Ratings from columns of labels and values; the one place where labels become rows.

        Of several rows for one (user, item) pair the latest by ``time`` wins, else the last; implicit data add
        them up. ``report.duplicates`` says how many rows gave way.
        """
        users, user = Ids.from_labels(user_ids)
        items, item = Ids.from_labels(item_ids)
        return cls.from_rows(
            users,
            user,
            items,
            item,
            None if value is None else finite(value),
            time=None if time is None else whole_seconds(time),
            implicit=implicit,
            scale=scale,
            name=name,
            report=report,
        )

    @classmethod
    def from_rows(
        cls,
        users: Ids,
        user: NDArray[np.int32],
        items: Ids,
        item: NDArray[np.int32],
        value: NDArray[np.float64] | None = None,
        *,
        time: NDArray[np.int64] | None = None,
        implicit: bool | None = None,
        scale: tuple[float, float] | None = None,
        name: str = "ratings",
        report: ReadReport | None = None,
    ) -> Ratings:
        """Ratings from row numbers and the ids they stand for; the rest as in `from_columns`."""
        implicit = value is None if implicit is None else yes_or_no("implicit", implicit)
        values = np.ones(len(user)) if value is None else value
        for other, what in ((item, "item"), (values, "rating"), (time, "time")):
            if other is not None and len(other) != len(user):
                raise DataError(
                    f"{len(user):,} users but {len(other):,} {what} values: columns must be as long"
                )
        given = len(user)
        keep = None
        if has_repeats(user.astype(np.int64) * len(items) + item):
            keep, values = one_per_pair(user.astype(np.int64) * len(items) + item, values, time, implicit)
        if keep is not None:
            user, item, values = user[keep], item[keep], values[keep]
            time = None if time is None else time[keep]
        report = ReadReport(given, given) if report is None else report
        span = (float(values.min()), float(values.max())) if len(values) else None
        if scale is None and not implicit:
            scale = span
        check_scale(scale, span)
        return cls(
            user,
            item,
            values,
            users,
            items,
            time=time,
            scale=None if implicit else scale,
            implicit=implicit,
            report=replace(report, duplicates=given - len(user)),
            name=name,
        )

    def made_by(self, origin: Origin) -> Ratings:
        """Return the same ratings with a record of how they were made."""
        return replace(self, origin=origin)

    def with_items(
        self,
        frame: Any,
        *,
        id: str | None = None,
        title: str | None = None,
        year: str | None = None,
        genres: str | None = None,
    ) -> Ratings:
        """Return the same ratings with a table of the items, joined by id.

        Parameters
        ----------
        frame
            Any DataFrame (pandas, polars, Arrow), or the path of a Parquet file or of a text file with a header, in any
            order. Lines of items without ratings are left out; an item
            without a line has missing values.
        id
            The column of item ids. By default the one column with a usual name for ids, such as ``"item"`` or
            ``"movieId"``, or the index, if that is not just 0, 1, 2, ....
        title, year, genres
            The columns that hold these, if they have other names. All other columns are kept as they are.

        Raises
        ------
        DataError
            If a column is missing, an id has two lines, or no item has a line.

        Examples
        --------
        >>> import pandas as pd
        >>> films = pd.DataFrame({"movieId": [30, 10, 20], "name": ["Cabaret", "Alien", "Brazil"]})
        >>> ratings = Ratings.from_columns(["ann", "bob"], [10, 30], [4, 5]).with_items(films, title="name")
        >>> ratings.item_table["title"].tolist()
        ['Alien', 'Cabaret']
        """
        names = {"title": title, "year": year, "genres": genres}
        table = joined_table(read_table(frame) if is_path(frame) else frame, self.items, "item", id, names)
        return replace(self, item_table=table, origin=joined(self.origin, "item", frame, {"id": id} | names))

    def with_users(self, frame: Any, *, id: str | None = None) -> Ratings:
        """Return the same ratings with a table of the users, joined by id.

        Parameters
        ----------
        frame
            Any DataFrame, or a path, as for `with_items`.
        id
            The column of user ids; the default is that of `with_items`.

        Raises
        ------
        DataError
            As for `with_items`.

        Examples
        --------
        >>> import pandas as pd
        >>> jobs = pd.DataFrame({"job": ["poet", "cook"]}, index=["bob", "ann"])
        >>> ratings = Ratings.from_columns(["ann", "bob"], [10, 30], [4, 5]).with_users(jobs)
        >>> ratings.user_table["job"].tolist()
        ['cook', 'poet']
        """
        table = joined_table(read_table(frame) if is_path(frame) else frame, self.users, "user", id, {})
        return replace(self, user_table=table, origin=joined(self.origin, "user", frame, {"id": id}))

    def take(self, rows: NDArray[Any] | slice) -> Ratings:
        """The given rows (a boolean mask, positions or a slice), with the same ids and tables.

        Those that a mask takes of ratings on disk are on disk; else they are in memory.
        """
        mask = rows if isinstance(rows, np.ndarray) and rows.dtype == np.bool_ else None
        disk = self.disk if mask is not None else None

        def taken(column: NDArray[Any]) -> NDArray[Any]:
            if disk is None or mask is None:
                return np.asarray(column[rows])
            with disk.keeping([column.dtype]) as ([file], mapped):
                for part in self.slices(column):
                    file.append(column[part][mask[part]])
            return mapped[0]

        return replace(
            self,
            user=taken(self.user),
            item=taken(self.item),
            value=taken(self.value),
            time=None if self.time is None else taken(self.time),
            disk=disk,
            origin=None,
        )

    def chosen(self, masks: Iterable[tuple[slice, NDArray[np.bool_]]]) -> Ratings:
        """The rows that masks of slices choose, where these ratings are: in memory, or on disk while they are in use."""
        if self.disk is None:
            whole = np.zeros(len(self), bool)
            for part, mask in masks:
                whole[part] = mask
            return self.take(whole)
        with self.disk.keeping([column.dtype for column in self.columns]) as (files, mapped):
            for part, mask in masks:
                for file, column in zip(files, self.columns, strict=True):
                    file.append(column[part][mask])
                    let_go(column, part)
        user, item, value, *time = mapped
        time_or_none = time[0] if time else None
        return replace(self, user=user, item=item, value=value, time=time_or_none, origin=None)

    @cached_property
    def by_user(self) -> Csr:
        """Positions of each user's ratings."""
        return group_rows(self.user, len(self.users))

    @cached_property
    def by_item(self) -> Csr:
        """Positions of each item's ratings."""
        return group_rows(self.item, len(self.items))

    @cached_property
    def user_count(self) -> NDArray[np.int64]:
        """Ratings of each user."""
        return self._count(self.user, len(self.users))

    @cached_property
    def item_count(self) -> NDArray[np.int64]:
        """Ratings of each item."""
        return self._count(self.item, len(self.items))

    def _count(self, column: NDArray[np.int32], n: int) -> NDArray[np.int64]:
        total = np.zeros(n, np.int64)
        for part in self.slices(column, rows=max(SLICE, n)):
            total += np.bincount(column[part], minlength=n)
        return total

    @cached_property
    def mean(self) -> float:
        """Mean of the values; 0 without any."""
        with np.errstate(over="ignore"):
            return sum(float(self.value[part].sum()) for part in self.slices(self.value)) / max(1, len(self))

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the values; 0 without any."""
        with np.errstate(over="ignore"):
            squares = (np.square(self.value[part] - self.mean).sum() for part in self.slices(self.value))
            return float(np.sqrt(sum(squares) / max(1, len(self))))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over rows, values, times and labels: equal for equal data in equal order."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            labels = ids.labels.tolist() if ids.kind == "str" else ids.labels
            digest.update("\0".join(labels).encode() if ids.kind == "str" else ids.labels.tobytes())
        for column in self.columns:
            for part in self.slices(column):
                digest.update(np.ascontiguousarray(column[part]).data)
        return digest.hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame with the caller's labels: user, item, rating (or count) and time."""
        import pandas as pd

        columns = {"user": self.users.decode(self.user), "item": self.items.decode(self.item)}
        columns["count" if self.implicit else "rating"] = self.value
        if self.time is not None:
            columns["time"] = self.time
        return pd.DataFrame(columns)

    def __len__(self) -> int:
        return len(self.value)


def frame_of(frame: Any, what: str = "") -> Any:
    """The frame as narwhals sees it; ``what`` says what it should be, by default ratings, which a file can have, too."""
    import narwhals as nw
    from narwhals.exceptions import NarwhalsError

    try:
        return nw.from_native(frame, eager_only=True)
    except TypeError:
        raise DataError(
            f"cannot read {what or 'ratings'} from a {type(frame).__name__}: give {'' if what else 'a path, or '}a pandas, "
            "polars or Arrow table"
        ) from None
    except NarwhalsError as error:
        raise DataError(
            f"cannot read {what or 'ratings'} from this table: {' '.join(str(error).split())}"
        ) from None


def frame_column(table: Any, name: str) -> NDArray[Any]:
    """A column of a narwhals frame; one with gaps as objects, since NumPy would make its integers floats."""
    column = table.get_column(name)
    if column.dtype.is_integer() and column.null_count():
        return np.fromiter(column.to_list(), object, len(column))
    try:
        return np.asarray(column.to_numpy())
    except Exception as error:
        raise DataError(f"column {name!r} cannot be read as {column.dtype}: {error}") from None


def group_rows(owner: NDArray[np.int32], groups: int) -> Csr:
    """Positions of each owner's rows, in their order."""
    from scipy.sparse import coo_array

    n = len(owner)
    position = np.arange(n, dtype=np.int64)
    sorted_rows = coo_array((np.ones(n, np.int8), (owner.astype(np.int64), position)), (groups, n)).tocsr()
    return Csr(sorted_rows.indptr.astype(np.int64), sorted_rows.indices.astype(np.int64))


def has_repeats(pair: NDArray[np.int64]) -> bool:
    """Whether two numbers are equal; they are sorted in place."""
    pair.sort()
    return bool((pair[1:] == pair[:-1]).any())


def one_per_pair(
    pair: NDArray[np.int64],
    values: NDArray[np.float64],
    times: NDArray[np.int64] | None,
    implicit: bool,
) -> tuple[NDArray[np.bool_] | None, NDArray[np.float64]]:
    """Which rows to keep (None for all of them), and the values to read there; ``pair`` has a number for each pair."""
    rows = np.argsort(pair)
    pair = pair[rows]
    same = pair[1:] == pair[:-1]
    if not same.any():
        return None, values
    repeated = np.append(same, False)
    repeated[1:] |= same
    rows, pair = rows[repeated], pair[repeated]
    order = np.lexsort((rows, pair) if times is None else (rows, times[rows], pair))
    rows, pair = rows[order], pair[order]
    last = np.append(pair[1:] != pair[:-1], True)
    keep = np.ones(len(same) + 1, bool)
    keep[rows[~last]] = False
    if implicit:
        values = values.copy()
        values[rows[last]] = np.add.reduceat(values[rows], np.append(0, np.flatnonzero(last)[:-1] + 1))
    return keep, values


def check_scale(scale: Any, span: tuple[float, float] | None) -> None:
    """Refuse values that are too large, and a scale that is invalid or does not contain all values."""
    if span is not None and max(-span[0], span[1]) > LARGEST:
        raise DataError(
            f"the values run from {span[0]:g} to {span[1]:g}, and models compute with values up to {LARGEST:g}: correct "
            "those that are wrong, or divide all of them by a power of ten"
        )
    if scale is None:
        return
    try:
        low, high = scale
        sound = -LARGEST <= low <= high <= LARGEST
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise DataError(
            f"scale is {scale!r}: give the lowest and the highest possible rating, such as (1, 5)"
        )
    if span is not None and (span[0] < low or span[1] > high):
        raise DataError(
            f"ratings run from {span[0]:g} to {span[1]:g}, outside the scale from {low:g} to {high:g}: "
            "correct one or the other"
        )


def finite(column: Any) -> NDArray[np.float64]:
    """A column of ratings as finite numbers."""
    values = numbers(as_column(column))
    bad = np.isnan(values)
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{int(bad.sum())} ratings are not finite numbers, the first at row {first} "
            f"({as_column(column)[first]!r}): correct or drop those rows"
        )
    return values


def whole_seconds(column: Any) -> NDArray[np.int64]:
    """A column of times as whole Unix seconds."""
    array = unmasked(column) if isinstance(column, np.ndarray) else as_column(column)
    found = times(array)
    bad = found == NO_TIME
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{int(bad.sum())} times are neither dates nor numbers of seconds, the first at row {first} "
            f"({array[first]!r}): correct or drop those rows, or leave the column out"
        )
    return found.copy() if found is column else found  # a Ratings freezes its own columns only
