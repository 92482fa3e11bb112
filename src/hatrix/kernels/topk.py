"""The best items of each user, exactly: scores by matrix product, and in the same breath the best n of them.

A task is a block of users. It multiplies them with one tile of items after the other (BLAS held at one thread), and
while the tile's scores are in the second cache, adds the biases, strikes out what the users have seen, and offers to
each user's heap what beats its root, the score to beat. So scores never reach memory, and the product takes most of
the time.
Ties go to the item with the lower row number, and neither tiles nor blocks depend on the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.schedule import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = tuple[NDArray[np.int64], NDArray[np.int32]]

__all__ = ["in_order", "rows_of", "sink", "some_rows", "sort", "top_n"]

FEWEST_ROWS, MOST_ROWS, BLOCKS = 32, 512, 8
"""Users of a block, within these bounds so that there are enough blocks; more do not make the product faster."""
WHOLE_ROWS = 256
"""The most, where their scores of all items are kept."""
TILE = 256
"""Items of a tile: its scores for a block of users take half a MiB."""


def top_n(
    user_factors: NDArray[Any],
    item_factors: NDArray[Any],
    item_bias: NDArray[Any],
    n: int,
    *,
    seen: Rows | None = None,
    threads: int = 1,
    memory: int = 1 << 28,
    examine: Callable[[int, int, NDArray[Any]], None] | None = None,
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Item rows and scores ``user_factors[u] · item_factors[i] + item_bias[i]`` of the n best items of each user.

    Parameters
    ----------
    user_factors, item_factors, item_bias
        Shapes (m, k), (items, k) and (items,), of one float type.
    n
        Length of the lists.
    seen
        ``(start, item)``: user u gets none of ``item[start[u]:start[u + 1]]``.
    threads, memory
        Threads, and the bytes that scores may take at once, over all threads.
    examine
        Called as ``examine(first, last, scores)`` for each block of users: their scores of all items, -inf for what
        they have seen.

    Returns
    -------
    items, scores
        Both of shape (m, n), best first; where a user has fewer candidates, -1 and -inf.
    """
    m, n_items = len(user_factors), len(item_factors)
    items, scores = np.full((m, n), -1, np.int32), np.full((m, n), -np.inf, user_factors.dtype)
    most = min(n, n_items)
    if most == 0 or m == 0:
        return items, scores
    start, item = in_order(seen, m, n_items)
    kept = 0 if examine is None else n_items

    def work(first: int, last: int, scratch: NDArray[Any]) -> None:
        users, cursor = slice(first, last), start[first:last].copy()
        whole = scratch[: (last - first) * kept].reshape(last - first, kept)
        for begin in range(0, n_items, TILE):
            these = slice(begin, begin + TILE)
            tile = _product(user_factors[users], item_factors[these], scratch[whole.size :])
            strike(tile, begin, item, cursor, start[first + 1 : last + 1])
            offer(tile, item_bias[these], begin, most, items[users], scores[users])
            if examine is not None:
                np.add(tile, item_bias[these], out=whole[:, these])
        sort(most, items[users], scores[users])
        if examine is not None:
            examine(first, last, whole)

    most_rows = MOST_ROWS if examine is None else WHOLE_ROWS
    _each_block(work, m, kept + min(TILE, n_items), user_factors.dtype, threads, memory, most_rows)
    return items, scores


def _product(users: NDArray[Any], items: NDArray[Any], scratch: NDArray[Any]) -> NDArray[Any]:
    """``users @ items.T`` in the memory of ``scratch``."""
    tile = scratch[: len(users) * len(items)].reshape(len(users), len(items))
    return np.matmul(users, items.T, out=tile)


def _each_block(
    work: Callable[[int, int, NDArray[Any]], None],
    m: int,
    width: int,
    dtype: Any,
    threads: int,
    memory: int,
    most: int,
) -> None:
    """Call ``work(first, last, scratch)`` for blocks of m users, at most ``most``, with room for ``width`` numbers each."""
    row_bytes = width * np.dtype(dtype).itemsize
    # The users of a block, by whose number BLAS may round, do not depend on the number of threads.
    rows = min(most, max(FEWEST_ROWS, -(-m // BLOCKS)))
    rows = max(1, min(rows, memory // row_bytes))
    threads = max(1, min(threads, memory // (rows * row_bytes), -(-m // rows)))
    firsts = iter(range(0, m, rows))

    def drain() -> None:
        scratch = np.empty(rows * width, dtype)
        for first in firsts:  # an iterator of integers is safe to share: the GIL guards it
            work(first, min(first + rows, m), scratch)

    with one_blas_thread(), workers(threads) as pool:
        for done in [pool.submit(drain) for _ in range(threads)]:
            done.result()


def some_rows(start: NDArray[np.int64], item: NDArray[np.int32], rows: NDArray[np.int64]) -> Rows:
    """The lists ``item[start[r]:start[r + 1]]`` of some rows, one after the other, in the same form."""
    length = start[rows + 1] - start[rows]
    begin = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(length, out=begin[1:])
    place = np.arange(begin[-1]) + np.repeat(start[rows] - begin[:-1], length)
    return begin, item[place]


def rows_of(owner: NDArray[Any], item: NDArray[Any], m: int) -> Rows:
    """Pairs of a row and an item as the lists of m rows, each ascending, in the form of `some_rows`."""
    order, start = np.lexsort((item, owner)), np.zeros(m + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=m), out=start[1:])
    return start, item[order].astype(np.int32)


def in_order(seen: Rows | None, m: int, n_items: int) -> Rows:
    """Lists of m users, each ascending; empty ones for None."""
    if seen is None:
        return np.zeros(m + 1, np.int64), np.zeros(0, np.int32)
    start, item = seen[0][: m + 1], seen[1][seen[0][0] : seen[0][m]]
    cell = np.repeat(np.arange(m) * n_items, np.diff(start)) + item
    if (cell[1:] < cell[:-1]).any():
        cell.sort()
        item = (cell % n_items).astype(np.int32)
    return start - start[0], item


@compiled
def strike(tile, first, item, cursor, end):
    """Set what was seen to -inf; the lists are ascending, and the cursors remember how far they went."""
    past = first + tile.shape[1]
    for row in range(len(tile)):
        while cursor[row] < end[row] and item[cursor[row]] < past:
            tile[row, item[cursor[row]] - first] = -np.inf
            cursor[row] += 1


@inlined
def sink(value, place, size, top):
    """Restore the heap below ``top``, its root the worst: of equals, the one with the highest number is the worse."""
    v, p = value[top], place[top]
    while 2 * top + 1 < size:
        child = 2 * top + 1
        if child + 1 < size:
            a, b = value[child], value[child + 1]
            if b < a or (b == a and place[child + 1] > place[child]):
                child += 1
        if value[child] > v or (value[child] == v and place[child] < p):
            break
        value[top], place[top] = value[child], place[child]
        top = child
    value[top], place[top] = v, p


@compiled
def offer(tile, bias, first, n, items, scores):
    """Take the best of a tile into heaps of n. Items come in ascending order, so one that equals the root stays out."""
    width, chunk = len(bias), 128
    zero, one = tile.dtype.type(0), tile.dtype.type(1)
    for row in range(len(tile)):
        line, value, place = tile[row], scores[row], items[row]
        floor = value[0]
        for begin in range(0, width, chunk):
            end = min(begin + chunk, width)
            above = zero  # a float: a register counts more of them than of integers
            for i in range(np.uint64(begin), np.uint64(end)):
                above += one if line[i] + bias[i] > floor else zero
            if above > zero:
                for i in range(np.uint64(begin), np.uint64(end)):
                    x = line[i] + bias[i]
                    if x > floor:
                        value[0], place[0] = x, first + i
                        sink(value, place, n, 0)
                        floor = value[0]


@compiled
def sort(n, items, scores):
    """Heaps to lists, best first."""
    for row in range(len(items)):
        value, place = scores[row], items[row]
        for size in range(n - 1, 0, -1):
            value[0], value[size] = value[size], value[0]
            place[0], place[size] = place[size], place[0]
            sink(value, place, size, 0)
