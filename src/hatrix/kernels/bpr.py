"""Bayesian personalised ranking: what a user has should score higher than what is drawn from the rest.

For a user u, an item i of theirs and a drawn item j, with p, q_i, q_j the rows and b the item biases::

    x = p·q_i + b_i - p·q_j - b_j,    g = 1 / (1 + exp(x))              (the gradient of -ln σ(x) is -g)
    p   <-  p + rate (g (q_i - q_j) - λ_u p)                            (old values on the right)
    q_i <-  q_i + rate (g p - λ_i q_i),    q_j <-  q_j - rate (g p + λ_i q_j)
    b_i <-  b_i + rate (g - λ_b (b_i - c_i)),    b_j <-  b_j - rate (g + λ_b (b_j - c_j))    (c: where biases are pulled to)

Each epoch deals users and items into bins anew, at random; a negative is drawn from the item bin of its block, so
that blocks on a diagonal share no row. Over the epochs every item meets every other with the same chance.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.counter import STRIDE, mix
from hatrix.kernels.schedule import Grid
from hatrix.kernels.sgd import padded
from hatrix.kernels.simd import combine, dot, load, prefetch, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Pool", "deal", "update"]

TRIES = 32
"""Draws until a negative is given up: a user may have nearly every item of a bin."""

AHEAD = np.uint64(8)


class Pool:
    """The items of each bin, an item as often as it should be drawn: bin b has ``item[start[b]:start[b + 1]]``."""

    def __init__(self, item: NDArray[np.int32], item_bin: NDArray[np.int64], bins: int) -> None:
        label = item_bin[item]
        order = np.argsort(label, kind="stable")
        self.item = item[order].astype(np.uint32)
        self.start = np.searchsorted(label[order], np.arange(bins + 1))


def deal(
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    n_users: int,
    n_items: int,
    *,
    bins: int,
    rng: np.random.Generator,
    seed: int,
) -> tuple[Grid, NDArray[np.int64]]:
    """Put users and items into bins at random; the grid of the rows, in their order inside a block, and the item bins."""
    bins = max(1, min(bins, n_users, n_items))
    user_bin, item_bin = (rng.permutation(n) % bins for n in (n_users, n_items))
    users, items, edge = _sort_into_blocks()(user, item, user_bin, item_bin, bins)
    nothing = np.zeros(0, np.uint32)
    return Grid(users, items, np.zeros(len(user), np.int8), edge, nothing, nothing, bins, seed), item_bin


@lru_cache
def _sort_into_blocks() -> Any:
    @compiled
    def sort_into_blocks(user, item, user_bin, item_bin, bins):
        start = np.zeros(bins * bins + 1, np.int64)
        for n in range(len(user)):
            start[user_bin[user[n]] * bins + item_bin[item[n]] + 1] += 1
        for block in range(bins * bins):
            start[block + 1] += start[block]
        free = start[:-1].copy()
        users, items = np.empty(len(user), np.uint32), np.empty(len(user), np.uint32)
        for n in range(len(user)):
            block = user_bin[user[n]] * bins + item_bin[item[n]]
            users[free[block]], items[free[block]] = user[n], item[n]
            free[block] += 1
        return users, items, start

    return sort_into_blocks


@inlined
def _has(start, item, user, wanted):
    """Whether ``wanted`` is among the sorted items of the user."""
    low, high = np.uint64(start[user]), np.uint64(start[user + np.uint64(1)])
    end = high
    while low < high:
        middle = (low + high) >> np.uint64(1)
        if item[middle] < wanted:
            low = middle + np.uint64(1)
        else:
            high = middle
    return low < end and item[low] == wanted


@lru_cache
def update(factors: int, candidates: int) -> Any:
    """The kernel that runs blocks of a grid; of ``candidates`` negatives it takes the one that scores highest.

    It leaves in ``loss`` and ``right`` the sum of -ln σ(x) of each block, and how many pairs were in the right order; in
    ``used`` how many there were.
    """
    lanes = padded(factors)

    @compiled
    def bpr(
        blocks, edge, user, item, bins, pool_start, pool, seen_start, seen, P, Q, bias, centre, user_reg, item_reg,
        bias_reg, rate, key, loss, right, used,
    ):  # fmt: skip
        one = P.dtype.type(1)
        for block in blocks:
            first, end = np.uint64(edge[block]), np.uint64(edge[block + 1])
            begin = np.uint64(pool_start[block % bins])
            width = np.uint64(pool_start[block % bins + 1]) - begin
            state = mix(key ^ mix(np.uint64(block)))
            total, ordered, pairs = 0.0, 0, 0
            for n in range(first, end):
                soon = min(n + AHEAD, end - np.uint64(1))
                prefetch(P, user[soon], lanes)
                prefetch(Q, item[soon], lanes)
                u, i = np.uint64(user[n]), np.uint64(item[n])
                p, q = load(P, u, lanes), load(Q, i, lanes)
                j, best, found = np.uint64(0), one - one, 0
                for _ in range(TRIES):
                    state += STRIDE
                    drawn = ((mix(state) >> np.uint64(32)) * width) >> np.uint64(32)
                    other = np.uint64(pool[begin + drawn])
                    if _has(seen_start, seen, u, other):
                        continue
                    score = dot(p, load(Q, other, lanes)) + bias[other]
                    if found == 0 or score > best:
                        j, best = other, score
                    found += 1
                    if found == candidates:
                        break
                if found == 0:
                    continue
                x = dot(p, q) + bias[i] - best
                g = one / (one + np.exp(x))
                r = load(Q, j, lanes)
                keep = one - rate * user_reg[u]
                store(P, u, combine(one, combine(keep, p, rate * g, q), -rate * g, r))
                store(Q, i, combine(one - rate * item_reg[i], q, rate * g, p))
                store(Q, j, combine(one - rate * item_reg[j], r, -rate * g, p))
                bias[i] += rate * (g - bias_reg * (bias[i] - centre[i]))
                bias[j] -= rate * (g + bias_reg * (bias[j] - centre[j]))
                total -= np.log(max(np.float64(one - g), 1e-30))
                ordered += x > 0
                pairs += 1
            loss[block], right[block], used[block] = total, ordered, pairs

    return bpr
