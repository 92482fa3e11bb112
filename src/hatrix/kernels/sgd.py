"""Stochastic gradient descent on one rating at a time, a whole row per instruction.

For a rating r of user u and item i, with p and q the rows of the factor matrices::

    e = r - mean - user_bias[u] - item_bias[i] - p·q        (the mean is taken off the values beforehand)
    p  <-  p + user_rate (e q - λ_u p)                      (both right-hand sides use the old p and q)
    q  <-  q + item_rate (e p - λ_i q)

A rate is twice the learning rate, the gradient of e² being 2 e. With per-row rates it is divided by √G of the
row, where G starts at 1 and grows by the mean square of the row's gradient (Chin et al., PAKDD 2015).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.simd import combine, dot, load, prefetch, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AHEAD", "aligned_rows", "padded", "squared_errors", "update"]

AHEAD = np.uint64(16)
"""How many ratings ahead rows are prefetched: far enough to hide the second-level cache."""

LANES = 8
"""Rows are padded with zeros to a multiple of so many numbers; the zeros stay zero."""

CACHE_LINE = 64


def padded(factors: int) -> int:
    """Row length in memory for so many factors."""
    return -(-factors // LANES) * LANES


def aligned_rows(
    rows: NDArray[Any], dtype: Any, *, place: NDArray[Any] | None = None, lanes: int | None = None
) -> NDArray[Any]:
    """A copy with padded rows on a cache-line boundary (split lines cost a quarter of the speed).

    Row n goes to ``place[n]``, and rows are ``lanes`` numbers long, by default as `padded` says.
    """
    n, factors = rows.shape
    lanes = padded(factors) if lanes is None else lanes
    size = n * lanes * np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    first = -raw.ctypes.data % CACHE_LINE
    copy: NDArray[Any] = raw[first : first + size].view(dtype).reshape(n, lanes)
    copy[slice(None) if place is None else place, :factors] = rows
    return copy


@lru_cache
def update(lanes: int, *, biased: bool, adaptive: bool) -> Any:
    """Return the kernel for padded rows of ``lanes`` numbers, with or without biases and per-row learning rates.

    It runs the given blocks of a grid in order and leaves the sum of e² of each in ``loss``. The number of factors is
    an argument, so that one compiled kernel serves all numbers with the same padded length.
    """

    @compiled
    def sgd(
        blocks, edge, user, item, value, P, Q, user_bias, item_bias, user_reg, item_reg,
        user_bias_reg, item_bias_reg, rate, user_gain, item_gain, loss, factors,
    ):  # fmt: skip
        one = P.dtype.type(1)
        share = one / (one * factors)
        for block in blocks:
            total = 0.0
            # Unsigned, or every access would first be checked for an index from the end.
            first, end = np.uint64(edge[block]), np.uint64(edge[block + 1])
            for n in range(first, end):
                soon = min(n + AHEAD, end - np.uint64(1))
                prefetch(P, user[soon], lanes)
                prefetch(Q, item[soon], lanes)
                u, i = user[n], item[n]
                p, q = load(P, u, lanes), load(Q, i, lanes)
                pq = dot(p, q)
                e = value[n] - pq
                if biased:
                    e -= user_bias[u] + item_bias[i]
                user_rate, item_rate, a, b = rate, rate, user_reg[u], item_reg[i]
                if adaptive:
                    user_rate, item_rate = rate / np.sqrt(user_gain[u]), rate / np.sqrt(item_gain[i])
                    pp, qq, cross = dot(p, p), dot(q, q), (one + one) * e * pq
                    user_gain[u] += share * (e * e * qq - a * cross + a * a * pp)
                    item_gain[i] += share * (e * e * pp - b * cross + b * b * qq)
                if biased:
                    user_bias[u] += user_rate * (e - user_bias_reg[u] * user_bias[u])
                    item_bias[i] += item_rate * (e - item_bias_reg[i] * item_bias[i])
                store(P, u, combine(one - user_rate * a, p, user_rate * e, q))
                store(Q, i, combine(one - item_rate * b, q, item_rate * e, p))
                total += np.float64(e) * np.float64(e)
            loss[block] = total

    return sgd


@lru_cache
def squared_errors(lanes: int) -> Any:
    """The kernel that sums (value - p·q)² over ratings ``first`` to ``last``."""

    @compiled
    def sum_of_squares(user, item, value, P, Q, first, last):
        total = 0.0
        for n in range(np.uint64(first), np.uint64(last)):
            e = value[n] - dot(load(P, user[n], lanes), load(Q, item[n], lanes))
            total += np.float64(e) * np.float64(e)
        return total

    return sum_of_squares
