"""SVD++: stochastic gradient descent with per-user sums of item terms held fixed, then one gather per item.

For a rating r of user u and item i, with p, q the rows of the factor matrices and s the user's sum::

    z = p + s
    e = r - mean - user_bias[u] - item_bias[i] - z·q
    p  <-  p + rate (e q - λ_u p)
    q  <-  q + rate (e z - λ_i q)                           (both right-hand sides use the old p and q)
    g  <-  g + e q

Afterwards every item term gathers what its users (N'(j), those of the pass) wish, in their order::

    y_j  <-  (y_j + y_rate Σ_{u in N'(j)} |N(u)|^-½ g_u) / (1 + y_rate λ_j |N'(j)|)

which is one proximal step on the squared errors and the penalty λ_j |y_j|² per rating. The sums s are gathered
anew before the next pass. So a rating costs a few row operations, however many items its user has rated, and
no two threads ever write to one row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.sgd import AHEAD, padded
from hatrix.kernels.simd import combine, dot, load, prefetch, store

__all__ = ["item_terms", "neighbours", "update", "user_sums"]


@lru_cache
def update(factors: int) -> Any:
    """The kernel for so many factors: runs blocks of a grid, leaves the sum of e² of each in ``loss``."""
    lanes = padded(factors)

    @compiled
    def svdpp(
        blocks, edge, user, item, value, P, S, G, Q, user_bias, item_bias, user_reg, item_reg, bias_reg, rate,
        loss,
    ):  # fmt: skip
        one = P.dtype.type(1)
        for block in blocks:
            total = 0.0
            first, end = np.uint64(edge[block]), np.uint64(edge[block + 1])
            for n in range(first, end):
                prefetch(Q, item[min(n + AHEAD, end - np.uint64(1))], lanes)
                u, i = user[n], item[n]
                p, q = load(P, u, lanes), load(Q, i, lanes)
                z = combine(one, p, one, load(S, u, lanes))
                e = value[n] - dot(z, q) - (user_bias[u] + item_bias[i])
                user_bias[u] += rate * (e - bias_reg * user_bias[u])
                item_bias[i] += rate * (e - bias_reg * item_bias[i])
                store(P, u, combine(one - rate * user_reg[u], p, rate * e, q))
                store(Q, i, combine(one - rate * item_reg[i], q, rate * e, z))
                store(G, u, combine(one, load(G, u, lanes), e, q))
                total += np.float64(e) * np.float64(e)
            loss[block] = total

    return svdpp


@lru_cache
def user_sums(factors: int) -> Any:
    """The kernel that sets S[u] = share[u] Σ Y[j] over the items j of u, for users ``first`` to ``last``."""
    lanes = padded(factors)

    @compiled
    def gather(first, last, start, item, share, Y, S):
        one = S.dtype.type(1)
        zero = one - one
        for u in range(np.uint64(first), np.uint64(last)):
            begin, end = np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])
            total = combine(zero, load(S, u, lanes), zero, load(S, u, lanes))
            for n in range(begin, end):
                total = combine(one, total, one, load(Y, item[n], lanes))
            store(S, u, combine(share[u], total, zero, total))

    return gather


@lru_cache
def item_terms(factors: int) -> Any:
    """The kernel that moves Y[j] by what the users of j wish, for items ``first`` to ``last``."""
    lanes = padded(factors)

    @compiled
    def gather(first, last, start, user, share, G, Y, item_reg, rate):
        one = Y.dtype.type(1)
        for j in range(np.uint64(first), np.uint64(last)):
            begin, end = np.uint64(start[j]), np.uint64(start[j + np.uint64(1)])
            y = load(Y, j, lanes)
            for n in range(begin, end):
                y = combine(one, y, rate * share[user[n]], load(G, user[n], lanes))
            shrink = one / (one + rate * item_reg[j] * Y.dtype.type(end - begin))
            store(Y, j, combine(shrink, y, one - one, y))

    return gather


@lru_cache
def neighbours() -> Any:
    """The kernel that lists, for each of ``n`` rows, its columns in the order given: ``column[start[r]:start[r + 1]]``."""

    @compiled
    def sort_by_row(row, column, n):
        start = np.zeros(n + 1, np.int64)
        for r in row:
            start[np.int64(r) + 1] += 1
        for r in range(n):
            start[r + 1] += start[r]
        free, sorted_column = start[:-1].copy(), np.empty(len(row), np.uint32)
        for k in range(len(row)):
            sorted_column[free[row[k]]] = column[k]
            free[row[k]] += 1
        return start, sorted_column

    return sort_by_row
