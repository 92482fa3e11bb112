"""Real ratings expanded to any size, in memory or streamed to a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from hatrix import _files
from hatrix._checks import path_of, whole
from hatrix.data.disk import one_line, quoted, size_in_bytes
from hatrix.data.ids import Ids
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Expanded", "expand", "numbered", "refuse_target"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Expanded:
    """A file of expanded ratings: where it is, its ``rows``, and how many ``users`` and ``items`` have a number there."""

    path: Path
    rows: int
    users: int
    items: int


@overload
def expand(
    ratings: Ratings, *, user_copies: int = ..., item_copies: int = ..., seed: int = ..., path: None = ...
) -> Ratings: ...
@overload
def expand(
    ratings: Ratings,
    *,
    user_copies: int = ...,
    item_copies: int = ...,
    seed: int = ...,
    path: str | Path,
    memory: str | int = ...,
) -> Expanded: ...
def expand(
    ratings: Ratings,
    *,
    user_copies: int = 10,
    item_copies: int = 3,
    seed: int = 0,
    path: str | Path | None = None,
    memory: str | int = "512MB",
) -> Ratings | Expanded:
    """Real ratings blown up to ``user_copies`` times as many, with the shape of the data kept.

    Each copy of a user repeats all ratings of the original, each on one of the copies of its item. So no pair
    occurs twice, every user's activity is the original's, and as all copies of an item are expected to be
    equally popular, the sorted popularity curve is the original's too, stretched. User copies x and item
    copies y sit on two rings, and the share of x's ratings that y gets is proportional to

        1 + 0.8 cos 2π(x / user_copies - y / item_copies)

    a Kronecker product with random entries, after Belletti et al., "Scalable Realistic Recommendation
    Datasets through Fractal Expansions", arXiv:1901.08910.

    Copies of a user share the taste of the original to the last star. That keeps the ratings learnable and
    makes a test error on them flattering: measure time and memory with them, not accuracy.

    Parameters
    ----------
    ratings
        The original; its ``take`` of some rows will do.
    user_copies, item_copies
        How many copies of each user and item.
    seed
        The same seed gives the same ratings.
    path
        A Parquet file to stream the rows to, copy after copy, instead of holding them: columns ``user``, ``item``,
        ``rating`` (``count`` for implicit data) and, if there is one, ``time``. It appears when it is whole.
    memory
        What DuckDB may take while it writes the file; besides, a copy or about a million rows are held.

    Returns
    -------
    Ratings or Expanded
        ``len(ratings) * user_copies`` rows, copy after copy in the order of the original. The labels are new:
        row r of the ids, which is labelled r + 1, copies row r modulo the original number. Times are copied along, and
        in memory tables too. With ``path`` where they are, and how many.

    Raises
    ------
    ParameterError
        If a number of copies is below 1, or there would be more than 2**31 - 1 users or items.
    DataError
        If there are no ratings, or the file cannot be written.

    Examples
    --------
    >>> from hatrix.data.synthetic import make
    >>> small, _ = make(20, 10, n_ratings=60)
    >>> large = expand(small, user_copies=5, item_copies=2)
    >>> len(large), len(large.users), len(large.items)
    (300, 100, 20)
    """
    if not len(ratings):
        raise DataError("there are no ratings to expand")
    n_users, n_items = len(ratings.users), len(ratings.items)
    user_copies = whole("user_copies", user_copies, 1, (2**31 - 1) // n_users)
    item_copies = whole("item_copies", item_copies, 1, (2**31 - 1) // n_items)
    blocks = _blocks(ratings, user_copies, item_copies, whole("seed", seed, 0))
    if path is not None:
        place = path_of("path", path, text=True)
        _write(ratings, blocks, place, size_in_bytes(memory))
        return Expanded(place, len(ratings) * user_copies, n_users * user_copies, n_items * item_copies)

    user, item = np.empty((2, user_copies * len(ratings)), np.int32)
    end = 0
    for users, items in blocks:
        start, end = end, end + len(users)
        user[start:end], item[start:end] = users, items
    return replace(
        ratings,
        user=user,
        item=item,
        value=np.tile(ratings.value, user_copies),
        time=None if ratings.time is None else np.tile(ratings.time, user_copies),
        users=numbered(n_users * user_copies),
        items=numbered(n_items * item_copies),
        user_table=_tile(ratings.user_table, user_copies),
        item_table=_tile(ratings.item_table, item_copies),
        report=None,
        disk=None,
        origin=None,
        name=f"{ratings.name} x {user_copies}",
    )


def numbered(n: int) -> Ids:
    """Ids labelled 1, 2, 3 …"""
    return Ids(np.arange(1, n + 1, dtype=np.int64))


def refuse_target(path: Path) -> None:
    """Refuse a path that no Parquet file can be written to."""
    if path.suffix.lower() not in (".parquet", ".pq"):
        raise DataError(f"{path} ends on {path.suffix!r}: end it on .parquet")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
        raise DataError(f"{path} {what}")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file on disk: give another path")


def _blocks(
    ratings: Ratings, user_copies: int, item_copies: int, seed: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Users and items of some copies at a time."""
    n, n_users, n_items = len(ratings), len(ratings.users), len(ratings.items)
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // n)
    for first in range(0, user_copies, at_once):
        copy = np.arange(first, min(first + at_once, user_copies))[:, None]
        angle = 2 * np.pi * (copy / user_copies - np.arange(item_copies) / item_copies)
        weight = 1 + 0.8 * np.cos(angle) * (user_copies > 1)
        ladder = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True) + (copy - first)
        drawn = np.searchsorted(ladder.ravel(), rng.random((len(copy), n)) + (copy - first), side="right")
        drawn = np.minimum(drawn - (copy - first) * item_copies, item_copies - 1)
        users, items = np.empty((2, len(copy), n), np.int32)
        users[:] = ratings.user + copy * n_users
        items[:] = ratings.item + drawn * n_items
        yield users.ravel(), items.ravel()


def _write(
    ratings: Ratings,
    blocks: Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]],
    path: Path,
    memory: int,
) -> None:
    """Write the blocks as Parquet files, and then these as one."""
    import duckdb

    refuse_target(path)
    try:
        with (
            _files.claimed(path) as folder,
            duckdb.connect() as connection,
            ThreadPoolExecutor(1) as ahead,
        ):
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET memory_limit = '{memory}B'")
            connection.execute(f"SET temp_directory = {quoted(folder)}")
            parts: list[Path] = []
            coming = ahead.submit(next, blocks, None)
            while block := coming.result():
                coming = ahead.submit(next, blocks, None)
                users, items = block
                copies = len(users) // len(ratings)
                columns = {"user": users + 1, "item": items + 1}
                columns["count" if ratings.implicit else "rating"] = np.tile(ratings.value, copies)
                if ratings.time is not None:
                    columns["time"] = np.tile(ratings.time, copies)
                connection.register("block", columns)
                parts.append(folder / f"{len(parts):06}.parquet")
                connection.execute(f"COPY (FROM block) TO {quoted(parts[-1])} (FORMAT parquet)")
                connection.unregister("block")
            together = folder / "together.parquet"
            files = ", ".join(map(quoted, parts))
            connection.execute(
                f"COPY (FROM read_parquet([{files}])) TO {quoted(together)} (FORMAT parquet, COMPRESSION zstd)"
            )
            _files.move(together, path)
    except (duckdb.Error, OSError) as error:
        raise DataError(f"{path} cannot be written: {one_line(error)}") from None


def _tile(table: pd.DataFrame | None, copies: int) -> pd.DataFrame | None:
    if table is None:
        return None
    return table.iloc[np.tile(np.arange(len(table)), copies)].reset_index(drop=True)
