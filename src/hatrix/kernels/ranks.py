"""Where held-out items stand among all that a user could be shown."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.kernels.compile import compiled
from hatrix.kernels.topk import top_n

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["discounted_gain", "hits", "ranks"]


def hits(lists: NDArray[np.int32], start: NDArray[np.int64], item: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which entries of the lists, shape (m, k), are among ``item[start[u]:start[u + 1]]``, sorted for each u."""
    found = np.zeros(lists.shape, np.bool_)
    _mark_hits()(lists, start, item, found)
    return found


@one_blas_thread()
def discounted_gain(found: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG of each list: ``Σ hit_r / log2(r + 1)`` over its largest value with so many relevant items."""
    discount = 1 / np.log2(np.arange(2, found.shape[1] + 2))
    best = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, found.shape[1])]
    return np.asarray((found @ discount) / np.where(best > 0, best, 1.0))


def ranks(
    user_factors: NDArray[Any],
    item_factors: NDArray[Any],
    item_bias: NDArray[Any],
    n: int,
    start: NDArray[np.int64],
    item: NDArray[np.int32],
    *,
    seen: tuple[NDArray[np.int64], NDArray[np.int32]] | None,
    threads: int,
    memory: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """The n best items of each user, as `hatrix.kernels.topk.top_n` has them, and where held-out items stand.

    For each of ``item[start[u]:start[u + 1]]``: how many unseen items of u score higher (-1 if it is
    itself seen), how many others the same.
    """
    above, same = np.zeros((2, len(item)), np.int64)
    count = _count_above()
    lists, _ = top_n(
        user_factors,
        item_factors,
        item_bias,
        n,
        seen=seen,
        threads=threads,
        memory=memory,
        examine=lambda first, last, scores: count(scores, start[first : last + 1], item, above, same),
    )
    return lists, above, same


@lru_cache
def _mark_hits() -> Any:
    @compiled
    def mark_hits(lists, start, item, found):
        for u in range(len(lists)):
            for r in range(lists.shape[1]):
                low, high = start[u], start[u + 1]
                while low < high:
                    middle = (low + high) // 2
                    if item[middle] < lists[u, r]:
                        low = middle + 1
                    else:
                        high = middle
                found[u, r] = low < start[u + 1] and item[low] == lists[u, r]

    return mark_hits


@lru_cache
def _count_above() -> Any:
    @compiled
    def count_above(block, start, item, above, same):
        width, chunk = block.shape[1], 4096
        zero, one = block.dtype.type(0), block.dtype.type(1)
        for row in range(len(block)):
            line = block[row]
            for begin in range(0, width, chunk):
                part = line[begin : begin + chunk]
                for n in range(start[row], start[row + 1]):
                    x = line[item[n]]
                    higher, equal = zero, zero  # in floats, of which a register counts more than of integers
                    for i in range(np.uint64(len(part))):
                        y = part[i]
                        higher += one if y > x else zero
                        equal += one if y == x else zero
                    above[n] += np.int64(higher)
                    same[n] += np.int64(equal)
            for n in range(start[row], start[row + 1]):
                same[n] -= 1
                if line[item[n]] == -np.inf:
                    above[n] = -1

    return count_above
