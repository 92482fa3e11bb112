"""The best items of each user, exactly: blocks of scores by matrix product, then one pass that keeps the best n.

A block is as many users as a share of the memory holds scores for; a thread multiplies it (BLAS held at one thread),
adds the biases, strikes out what its users have seen, and keeps the best n of each row in a heap whose root is the
score to beat.
Ties go to the item with the lower row number, so the answer does not depend on blocks or threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.dense import one_blas_thread
from hatrix.kernels.schedule import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Lists", "each_block", "some_rows", "top_n"]

MOST_ROWS = 256
"""Rows of a block: more do not make the product faster."""


def top_n(
    user_factors: NDArray[Any],
    item_factors: NDArray[Any],
    item_bias: NDArray[Any],
    n: int,
    *,
    seen: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None,
    threads: int = 1,
    memory: int = 1 << 28,
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
        The scores of as many users as fit ``memory`` bytes, over all threads, are held at once.

    Returns
    -------
    items, scores
        Both of shape (m, n), best first; where a user has fewer candidates, -1 and -inf.
    """
    lists = Lists(len(user_factors), len(item_factors), n, user_factors.dtype)
    each_block(lists.fill, user_factors, item_factors, item_bias, seen=seen, threads=threads, memory=memory)
    return lists.items, lists.scores


class Lists:
    """The n best of each of m users, filled from blocks of scores."""

    def __init__(self, m: int, n_items: int, n: int, dtype: Any) -> None:
        self.items, self.scores = np.full((m, n), -1, np.int32), np.full((m, n), -np.inf, dtype)
        self.most = min(n, n_items)
        self.keep_best = _keep_best()

    def fill(self, first: int, last: int, block: NDArray[Any]) -> None:
        """Take in the scores of users ``first`` to ``last``."""
        if self.most:
            self.keep_best(block, self.most, self.items[first:last], self.scores[first:last])


def each_block(
    work: Callable[[int, int, NDArray[Any]], None],
    user_factors: NDArray[Any],
    item_factors: NDArray[Any],
    item_bias: NDArray[Any],
    *,
    seen: tuple[NDArray[np.int64], NDArray[np.int32]] | None,
    threads: int,
    memory: int,
) -> None:
    """Call ``work(first, last, scores)`` for blocks of users, with -inf at what they have seen."""
    m, n = len(user_factors), len(item_factors)
    row_bytes = max(1, n * user_factors.itemsize)
    # The rows of a block, which BLAS may round by, do not depend on the number of threads.
    rows = max(1, min(MOST_ROWS, memory // row_bytes))
    threads = max(1, min(threads, memory // (rows * row_bytes), -(-m // rows)))
    firsts = iter(range(0, m, rows))
    finish = _finish()
    nothing = np.zeros(m + 1, np.int64), np.zeros(0, np.int32)
    start, item = nothing if seen is None else seen

    def drain() -> None:
        scores = np.empty((rows, n), user_factors.dtype)
        for first in firsts:  # a generator of integers is safe to share: the GIL guards it
            last = min(first + rows, m)
            block = scores[: last - first]
            np.matmul(user_factors[first:last], item_factors.T, out=block)
            finish(block, item_bias, start[first : last + 1], item)
            work(first, last, block)

    with one_blas_thread(), workers(threads) as pool:
        for done in [pool.submit(drain) for _ in range(threads)]:
            done.result()


def some_rows(
    start: NDArray[np.int64], item: NDArray[np.int32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The lists ``item[start[r]:start[r + 1]]`` of some rows, one after the other, in the same form."""
    length = start[rows + 1] - start[rows]
    begin = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(length, out=begin[1:])
    place = np.arange(begin[-1]) + np.repeat(start[rows] - begin[:-1], length)
    return begin, item[place]


@lru_cache
def _finish() -> Any:
    @compiled
    def finish(block, bias, start, item):
        for row in range(np.uint64(len(block))):
            for i in range(np.uint64(len(bias))):
                block[row, i] += bias[i]
            for n in range(np.uint64(start[row]), np.uint64(start[row + np.uint64(1)])):
                block[row, item[n]] = -np.inf

    return finish


@lru_cache
def _keep_best() -> Any:
    @compiled
    def sink(value, place, size, top):
        # Restore the heap below ``top``: the root is the worst kept, of equals the one with the highest number.
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
    def keep_best(block, n, items, scores):
        width, chunk = block.shape[1], 128
        infinite = block.dtype.type(-np.inf)
        for row in range(len(block)):
            line, value, place = block[row], scores[row], items[row]
            value[:n], place[:n] = infinite, -1
            floor = infinite
            for begin in range(0, width, chunk):
                end = min(begin + chunk, width)
                above = 0
                for i in range(np.uint64(begin), np.uint64(end)):
                    above += line[i] > floor
                if above:
                    for i in range(np.uint64(begin), np.uint64(end)):
                        x = line[i]
                        if x > floor:
                            value[0], place[0] = x, i
                            sink(value, place, n, 0)
                            floor = value[0]
            for size in range(n - 1, 0, -1):
                value[0], value[size] = value[size], value[0]
                place[0], place[size] = place[size], place[0]
                sink(value, place, size, 0)

    return keep_best
