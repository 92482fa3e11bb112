"""Training rows on disk in the order that training reads them in: the block grid, and the entries of each user or item.

Both are made by one distribution. Rows belong to regions of a file (some bins of users; some rows of a side), whose sizes
the counts tell beforehand. A first pass writes each row into its region, in the given order; a second one loads region after
region, puts it into its final order and writes it back. What is in memory is a slice of rows, or a region, per thread; the
result is what a sort in memory gives, to the last bit.

The files are unlinked as soon as they are mapped, so they go when the arrays go, whatever becomes of the process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.disk import at_random, let_go, will_need, write_all
from hatrix.data.ratings import group_rows
from hatrix.errors import DataError, ParameterError
from hatrix.kernels import schedule
from hatrix.models import ALGORITHMS, algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from hatrix.data.disk import Disk
    from hatrix.data.ratings import Ratings
    from hatrix.models.fit import Algorithm

__all__ = ["PIECE", "Column", "by_pieces", "deal", "grouped", "refuse", "windows"]

AT_ONCE = 1 << 21
"""Rows of a slice that are distributed at once, where memory allows."""

FACTOR_COPIES = 3
"""Copies of the factors in memory: of those that train, of the model between epochs, and what is on the way."""

PIECE = 1 << 20
"""Ratings of a block that are in memory at a time."""

BLOCKS_AHEAD = 2
"""Blocks that are read before their turn."""

WINDOW = 1 << 22
"""Entries of a window."""

LEFT_TO_DATA = 64
"""The number of factors of a recipe that leaves it to the data, for ratings on disk."""
Column = tuple["DTypeLike", Callable[[slice], "NDArray[Any]"]]
"""What to keep of each row: a type, and a function that gives it for a slice of rows."""


def refuse(recipe: Algorithm, train: Ratings) -> None:
    """Raise what is to be said where a recipe cannot train on ratings on disk, or its factors alone take too much."""
    assert train.disk is not None
    if not recipe.out_of_core:
        able = ", ".join(name for name in ALGORITHMS if algorithm(name).out_of_core)
        raise ParameterError(
            f"{recipe.name} trains in memory only: read the ratings without a limit of memory, or take one of {able}"
        )
    factors = getattr(recipe, "factors", 0)
    rows, wide = (
        len(train.users) + len(train.items),
        (recipe.usual_factors or LEFT_TO_DATA if factors == "auto" else factors) + 2,
    )
    needed = FACTOR_COPIES * rows * wide * np.dtype(getattr(recipe, "precision", "float32")).itemsize
    room = train.disk.room()
    if needed > room:
        raise DataError(
            f"the factors of {len(train.users):,} users and {len(train.items):,} items take about {needed / 1e6:,.0f} MB in "
            f"training, and {room / 1e6:,.0f} of {train.disk.memory / 1e6:,.0f} MB are free: allow more memory, or train "
            "fewer factors"
        )


def deal(train: Ratings, value: Column, *, row_bytes: int, seed: int, threads: int) -> schedule.Grid:
    """The grid that `hatrix.kernels.schedule.deal` gives, on disk."""
    plan = schedule.layout(train.user_count, train.item_count, row_bytes=row_bytes, seed=seed)

    def block_of(part: slice) -> NDArray[np.int64]:
        return np.asarray(plan.user_bin[train.user[part]] * plan.bins + plan.item_bin[train.item[part]])

    size = np.zeros(plan.bins**2, np.int64)
    for part in train.slices(train.user, train.item):
        size += np.bincount(block_of(part), minlength=len(size))
    columns = [(np.int32, lambda part: train.user[part]), (np.int32, lambda part: train.item[part]), value]

    def sort(first: int, last: int, rows: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        user, item, values = rows
        return plan.sort(user, item, values, first, last)[:3]

    user, item, values = map(at_random, _regrouped(train, block_of, size, columns, sort, threads))
    return plan.grid(user.view(np.uint32), item.view(np.uint32), values, np.append(0, np.cumsum(size)))


def grouped(
    train: Ratings, side: str, columns: Sequence[Column], *, threads: int
) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
    """The columns sorted by user or by item, rows of one in their given order, and where each one's begin."""
    owner, count = (train.user, train.user_count) if side == "user" else (train.item, train.item_count)

    def sort(first: int, last: int, rows: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        order = group_rows(rows[0] - np.int32(first), last - first).rows
        return [column[order] for column in rows]

    own = np.int32, lambda part: owner[part]
    _, *found = _regrouped(train, own[1], count, [own, *columns], sort, threads)
    return np.concatenate([[0], np.cumsum(count)]), found


@contextmanager
def by_pieces(
    run: Callable[[int, int, int], None], grid: schedule.Grid, *, epoch: int, report: Callable[[float], None]
) -> Iterator[Callable[[NDArray[np.int64]], None]]:
    """What `schedule.run_epoch` is to run where blocks are large: ``run(block, first, last)`` for their pieces in order.

    Of a grid on disk, what comes next is read meanwhile: the next piece of a block, and the first ones of the blocks that
    follow. What is done is let go of.
    """
    columns, edge = (grid.user, grid.item, grid.value), grid.edge.tolist()
    order = schedule.strata(grid, epoch).ravel()
    place = np.argsort(order)

    def read(first: int, end: int) -> None:
        for column in columns:
            will_need(column, slice(first, min(first + PIECE, end)))

    def forget() -> None:
        # All of it, since the system maps more around a page than was touched; what is in use is mapped again, not read.
        for column in columns:
            let_go(column, slice(None))

    def run_blocks(blocks: NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            for following in order[place[block] + 1 :][:BLOCKS_AHEAD]:
                reader.submit(read, *edge[following : following + 2])
            begin, end = edge[block : block + 2]
            for first, last in pairwise([*range(begin, end, PIECE), end]):
                reader.submit(read, last, end)
                run(block, first, last)
                reader.submit(forget)
                report(last - first)

    with ThreadPoolExecutor(1, thread_name_prefix="hatrix-disk") as reader:
        reader.submit(read, *edge[order[0] : order[0] + 2])
        yield run_blocks
    forget()


def windows(start: NDArray[np.int64], columns: Sequence[NDArray[Any]]) -> Iterator[tuple[slice, slice]]:
    """Rows in order, and their entries, so many at once; the next window is read meanwhile, the last one let go."""
    edges = [0]
    while edges[-1] < len(start) - 1:
        last = int(np.searchsorted(start, start[edges[-1]] + WINDOW, side="right")) - 1
        edges.append(max(last, edges[-1] + 1))
    parts = [(slice(*rows), slice(int(start[rows[0]]), int(start[rows[1]]))) for rows in pairwise(edges)]
    for (rows, entries), (_, coming) in pairwise([*parts, parts[-1]]):
        for column in columns:
            will_need(column, coming)
        yield rows, entries
        for column in columns:
            let_go(column, entries)


def _regrouped(
    train: Ratings,
    unit_of: Callable[[slice], NDArray[Any]],
    weight: NDArray[np.int64],
    columns: Sequence[Column],
    sort: Callable[[int, int, Sequence[NDArray[Any]]], Sequence[NDArray[Any]]],
    threads: int,
) -> list[NDArray[Any]]:
    """Columns in the order of units, ``weight`` of each telling its rows; ``sort`` orders the rows of some units."""
    assert train.disk is not None
    kinds = [np.dtype(kind) for kind, _ in columns]
    row_bytes = 3 * sum(kind.itemsize for kind in kinds) + 24
    most = max(1, train.disk.room() // (2 * threads * row_bytes))
    edges = _edges(weight, most)
    part_of_unit = np.repeat(np.arange(len(edges) - 1), np.diff(edges)).astype(np.uint16)
    start = np.concatenate([[0], np.cumsum(weight)])[edges]
    with _files(train.disk, len(columns)) as paths:
        part_of = lambda rows: part_of_unit[unit_of(rows)]  # noqa: E731
        _distribute(train, part_of, columns, paths, start[:-1].copy(), min(most, AT_ONCE), threads)

        def rewrite(number: int) -> None:
            first, size = int(start[number]), int(start[number + 1] - start[number])
            rows = [
                np.fromfile(path, kind, size, offset=first * kind.itemsize)
                for path, kind in zip(paths, kinds, strict=True)
            ]
            for path, column in zip(
                paths, sort(int(edges[number]), int(edges[number + 1]), rows), strict=True
            ):
                _write_at(path, column, first)

        _run((partial(rewrite, number) for number in range(len(edges) - 1)), threads)
        return [train.disk.mapped(path.name, kind) for path, kind in zip(paths, kinds, strict=True)]


def _distribute(
    train: Ratings,
    part_of: Callable[[slice], NDArray[np.uint16]],
    columns: Sequence[Column],
    paths: Sequence[Path],
    free: NDArray[np.int64],
    at_once: int,
    threads: int,
) -> None:
    """Write each row behind those of its region that came before."""
    kinds = [np.dtype(kind) for kind, _ in columns]

    def tasks() -> Iterator[Callable[[], None]]:
        for slice_ in train.slices(rows=at_once):
            number = part_of(slice_)
            size = np.bincount(number, minlength=len(free))
            ready = [np.array(take(slice_), kind) for kind, (_, take) in zip(kinds, columns, strict=True)]
            yield partial(write, number, size, free.copy(), ready)
            free[:] += size

    def write(
        number: NDArray[np.uint16], size: NDArray[np.int64], at: NDArray[np.int64], ready: list[NDArray[Any]]
    ) -> None:
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(size)
        for path, column in zip(paths, ready, strict=True):
            ordered = column[order]
            for part in np.flatnonzero(size).tolist():
                _write_at(path, ordered[ends[part] - size[part] : ends[part]], int(at[part]))

    _run(tasks(), threads)


def _edges(weight: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Where to cut units into parts of about ``most`` rows, each of at least one unit."""
    total = np.cumsum(weight)
    cuts = np.searchsorted(total, np.arange(most, total[-1], most), side="left") + 1
    return np.unique([0, *cuts.tolist(), len(weight)])


def _run(tasks: Iterable[Callable[[], None]], threads: int) -> None:
    """Run tasks, begun in order, on so many threads, and ask for no more of them ahead."""
    with ThreadPoolExecutor(threads, thread_name_prefix="hatrix-disk") as pool:
        running: list[Future[None]] = []
        for task in tasks:
            running.append(pool.submit(task))
            if len(running) > threads:
                running.pop(0).result()
        for done in running:
            done.result()


@contextmanager
def _files(disk: Disk, number: int) -> Iterator[list[Path]]:
    """New files, which are unlinked in the end; a DataError where the disk cannot hold them."""
    name = secrets.token_hex(8)
    paths = [disk.path(f"regions-{name}-{column}") for column in range(number)]
    try:
        with disk.lock(shared=True):
            for path in paths:
                path.touch()
            yield paths
    except OSError as error:
        raise DataError(f"{disk.folder} cannot hold the training rows: {error.strerror or error}") from None
    finally:
        for path in paths:
            with suppress(OSError):  # elsewhere than on POSIX a mapped file stays until its folder goes
                path.unlink()


def _write_at(path: Path, column: NDArray[Any], row: int) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(row * column.itemsize)
        write_all(file, column)
