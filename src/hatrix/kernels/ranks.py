"""Where held-out items stand among all that a user could be shown."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.topk import Lists, each_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["discounted_gain", "hits", "ranks"]


def hits(lists: NDArray[np.int32], start: NDArray[np.int64], item: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which entries of the lists, shape (m, k), are among ``item[start[u]:start[u + 1]]``, sorted for each u."""
    found = np.zeros(lists.shape, np.bool_)
    _mark_hits()(lists, start, item, found)
    return found


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

    For each of ``item[start[u]:start[u + 1]]``: how many unseen items of u score higher, how many others the same.
    """
    lists = Lists(len(user_factors), len(item_factors), n, user_factors.dtype)
    above, same = np.zeros(len(item), np.int64), np.zeros(len(item), np.int64)
    count = _count_above()

    def work(first: int, last: int, block: NDArray[Any]) -> None:
        lists.fill(first, last, block)
        count(block, start[first : last + 1], item, above, same)

    each_block(work, user_factors, item_factors, item_bias, seen=seen, threads=threads, memory=memory)
    return lists.items, above, same


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
        for row in range(len(block)):
            line = block[row]
            for n in range(start[row], start[row + 1]):
                x = line[item[n]]
                higher, equal = np.int32(0), np.int32(0)
                for i in range(np.uint64(len(line))):
                    higher += np.int32(line[i] > x)
                    equal += np.int32(line[i] == x)
                above[n], same[n] = higher, equal - 1

    return count_above
