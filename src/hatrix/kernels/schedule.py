"""The conflict-free block grid, and the thread pool that runs kernels over it.

Users and items are dealt into ``bins`` bins of equal rating count, so ratings fall into bins × bins blocks.
A *stratum* is a set of blocks that share neither users nor items (a diagonal of the grid)::

              item bins            An epoch runs the strata one after the other, in an order drawn
             0   1   2   3         from (seed, epoch); the blocks of a stratum run at once, on as many
    user  0  A   B   C   D         threads as there are. Since they share no row, the result has the
    bins  1  D   A   B   C         same bits whatever the number of threads.
          2  C   D   A   B         Rows are renumbered so that a bin is contiguous. Inside a block,
          3  B   C   D   A         ratings are grouped into tiles of neighbouring users whose rows fit
                                   the first cache level, and shuffled inside a tile.

The grid depends on the data, the row size and the seed, never on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.counter import STRIDE, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Grid", "Layout", "deal", "in_order", "layout", "run_epoch", "run_rows", "strata", "workers"]

FEWEST_BINS = 8
RATINGS_PER_BLOCK = 4_000_000
ITEM_BIN_BYTES = 512 * 1024
TILE_BYTES = 16 * 1024
WORTH_A_THREAD = 200_000
RANGES_PER_THREAD = 4


class Grid(NamedTuple):
    """Ratings dealt into blocks: block k = a * bins + b holds the rows ``edge[k] : edge[k + 1]``.

    ``user`` and ``item`` are renumbered rows; ``user_place[u]`` and ``item_place[i]`` are the new numbers.
    """

    user: NDArray[np.uint32]
    item: NDArray[np.uint32]
    value: NDArray[Any]
    edge: NDArray[np.int64]
    user_place: NDArray[np.uint32]
    item_place: NDArray[np.uint32]
    bins: int
    seed: int


class Layout(NamedTuple):
    """Where the rows of users and items go: their bins and new numbers, and the cells that ratings are sorted into.

    A cell is a tile of users against a bin of items. Cells are numbered by bin of users, bin of items and tile, so that
    those of a block are neighbours: block k = a * bins + b has the cells ``first_cell[k]`` to ``first_cell[k + 1]``.
    """

    user_bin: NDArray[np.int64]
    item_bin: NDArray[np.int64]
    user_place: NDArray[np.uint32]
    item_place: NDArray[np.uint32]
    tile: NDArray[np.int64]
    tiles: NDArray[np.int64]
    first_cell: NDArray[np.int64]
    bins: int
    seed: int

    def sort(
        self, user: NDArray[np.int32], item: NDArray[np.int32], value: NDArray[Any], first: int, last: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[Any], NDArray[np.int64]]:
        """Ratings of the blocks ``first`` to ``last``, renumbered and in order, and the edges of the blocks."""
        cells = self.first_cell[first : last + 1] - self.first_cell[first]
        *rows, start = _sort_into_cells()(
            user, item, value, self.first_cell[self.user_bin * self.bins] + self.tile, self.tiles[self.user_bin],
            self.item_bin, self.user_place, self.item_place, self.first_cell[first], cells[-1], np.uint64(self.seed),
        )  # fmt: skip
        return *rows, start[cells]

    def grid(
        self,
        user: NDArray[np.uint32],
        item: NDArray[np.uint32],
        value: NDArray[Any],
        edge: NDArray[np.int64],
    ) -> Grid:
        """The grid of all ratings in order."""
        return Grid(user, item, value, edge, self.user_place, self.item_place, self.bins, self.seed)


def layout(
    user_count: NDArray[np.int64], item_count: NDArray[np.int64], *, row_bytes: int, seed: int
) -> Layout:
    """Lay a grid out for ratings of which users and items have so many, and rows of ``row_bytes`` bytes."""
    # Few bins: a tile of users then meets many ratings before its rows give way to those of the next one.
    per_block = int(np.ceil(np.sqrt(user_count.sum() / RATINGS_PER_BLOCK)))
    wanted = max(FEWEST_BINS, per_block, len(item_count) * row_bytes // ITEM_BIN_BYTES)
    bins = max(1, min(wanted, len(user_count), len(item_count)))
    user_bin, user_place = _bins(user_count, bins)
    item_bin, item_place = _bins(item_count, bins)
    per_tile = max(1, TILE_BYTES // row_bytes)
    users = np.bincount(user_bin, minlength=bins)
    tiles = -(-users // per_tile)
    tile = (user_place - _starts(users)[user_bin]) // per_tile
    first_cell = np.append(0, np.cumsum(np.repeat(tiles, bins)))
    return Layout(user_bin, item_bin, user_place, item_place, tile, tiles, first_cell, bins, seed)


def deal(
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    value: NDArray[Any],
    user_count: NDArray[np.int64],
    item_count: NDArray[np.int64],
    *,
    row_bytes: int,
    seed: int,
) -> Grid:
    """Deal ratings into a grid of blocks for rows of ``row_bytes`` bytes."""
    plan = layout(user_count, item_count, row_bytes=row_bytes, seed=seed)
    return plan.grid(*plan.sort(user, item, value, 0, plan.bins**2))


def in_order(
    user: NDArray[np.int32], item: NDArray[np.int32], value: NDArray[Any], n_users: int, n_items: int
) -> Grid:
    """The grid of one block that keeps the given order and numbering."""
    user_place, item_place = np.arange(n_users, dtype=np.uint32), np.arange(n_items, dtype=np.uint32)
    edge = np.array([0, len(value)])
    return Grid(user.astype(np.uint32), item.astype(np.uint32), value, edge, user_place, item_place, 1, 0)


def strata(grid: Grid, epoch: int) -> NDArray[np.int64]:
    """The blocks of an epoch, a row for each stratum in the order drawn for it, the heaviest block first."""
    bins, row = grid.bins, np.arange(grid.bins)
    shifts = np.random.default_rng((grid.seed, epoch)).permutation(bins)
    blocks = row * bins + (row + shifts[:, None]) % bins
    heaviest_first = np.argsort(-np.diff(grid.edge)[blocks], axis=1, kind="stable")
    return np.take_along_axis(blocks, heaviest_first, axis=1)


def run_epoch(
    run_blocks: Callable[[NDArray[np.int64]], None], grid: Grid, *, epoch: int, threads: int
) -> None:
    """Run ``run_blocks`` once over every block; it gets block numbers and must release the GIL."""
    order = strata(grid, epoch)
    threads = min(threads, grid.bins, 1 + len(grid.value) // WORTH_A_THREAD)
    if threads == 1:
        run_blocks(order.ravel())
        return
    with workers(threads) as pool:
        for stratum in order:
            for done in [pool.submit(run_blocks, block) for block in stratum[:, None]]:
                done.result()


def run_rows(run: Callable[[int, int], None], start: NDArray[np.int64], *, threads: int) -> None:
    """Run ``run(first, last)`` over all rows, in ranges of about equal weight; rows must not depend on another.

    ``start`` holds the running total of the rows' weights, from 0, one number more than there are rows.
    """
    total = int(start[-1])
    threads = min(threads, 1 + total // WORTH_A_THREAD)
    if threads == 1:
        run(0, len(start) - 1)
        return
    ranges = min(RANGES_PER_THREAD * threads, max(threads, total // WORTH_A_THREAD))
    edge = np.searchsorted(start[:-1], np.linspace(0, total, 1 + ranges)[1:-1]).tolist()
    parts = list(pairwise([0, *edge, len(start) - 1]))
    with workers(threads - 1) as others:
        tasks = [others.submit(run, *part) for part in parts]
        for task, part in zip(reversed(tasks), reversed(parts), strict=True):
            if task.cancel():  # none of the others has begun with it: this thread works, too
                run(*part)
        for task in tasks:
            if not task.cancelled():
                task.result()


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of ``threads`` threads whose tasks have all ended when the block is left."""
    with ThreadPoolExecutor(threads, thread_name_prefix="hatrix") as pool:
        yield pool


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(sizes) - sizes


def _bins(count: NDArray[np.int64], bins: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Deal rows into bins of equal weight, heaviest first; returns each row's bin and its new number."""
    heaviest_first = np.argsort(-count, kind="stable")
    label = _deal_greedily()(count, heaviest_first, bins)
    place = np.empty(len(count), np.uint32)
    place[heaviest_first[np.argsort(label[heaviest_first], kind="stable")]] = np.arange(
        len(count), dtype=np.uint32
    )
    return label, place


@lru_cache
def _deal_greedily() -> Any:
    @compiled
    def deal_greedily(count, order, bins):
        label = np.empty(len(count), np.int64)
        weight, size = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
        for row in order:
            best = 0
            for b in range(1, bins):
                if weight[b] < weight[best] or (weight[b] == weight[best] and size[b] < size[best]):
                    best = b
            label[row] = best
            weight[best] += count[row]
            size[best] += 1
        return label

    return deal_greedily


@lru_cache
def _sort_into_cells() -> Any:
    @compiled
    def sort_into_cells(
        user, item, value, user_cell, step, item_bin, user_place, item_place, first, cells, seed
    ):
        n = len(value)
        start = np.zeros(cells + 1, np.int64)
        for k in range(n):
            start[user_cell[user[k]] + step[user[k]] * item_bin[item[k]] - first + 1] += 1
        for cell in range(cells):
            start[cell + 1] += start[cell]
        free = start[:-1].copy()
        users, items = np.empty(n, np.uint32), np.empty(n, np.uint32)
        values = np.empty(n, value.dtype)
        for k in range(n):
            cell = user_cell[user[k]] + step[user[k]] * item_bin[item[k]] - first
            place = free[cell]
            free[cell] = place + 1
            users[place], items[place], values[place] = user_place[user[k]], item_place[item[k]], value[k]
        for cell in range(cells):
            # Fisher-Yates with splitmix64, seeded by (seed, cell).
            state = seed * STRIDE + np.uint64(first + cell) * np.uint64(0xD1B54A32D192ED03)
            for k in range(start[cell + 1] - 1, start[cell], -1):
                mixed = mix(state)
                state += STRIDE
                width = np.uint64(k - start[cell] + 1)
                other = start[cell] + np.int64(((mixed >> np.uint64(32)) * width) >> np.uint64(32))
                users[k], users[other] = users[other], users[k]
                items[k], items[other] = items[other], items[k]
                values[k], values[other] = values[other], values[k]
        return users, items, values, start

    return sort_into_cells
