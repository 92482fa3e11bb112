"""SVD++: stochastic gradient descent with per-user sums of item terms held fixed, then one gather per item.

For a rating r of user u and item i, with p, q the rows of the factor matrices and s the user's sum::

    z = p + s,    s = |N(u)|^-½ Σ_{j in N(u)} y_j
    e = r - mean - user_bias[u] - item_bias[i] - z·q
    p  <-  p + rate (e q - λ_u p)
    q  <-  q + rate (e z - λ_i q)                           (both right-hand sides use the old p and q)
    g  <-  g + e q

After the epoch every item term gathers, in the order of its ratings, what its users U(j) wish::

    y_j  <-  (y_j + step Σ_{u in U(j)} |N(u)|^-½ g_u) / (1 + step λ_j |U(j)|)

which is a proximal step on the squared errors and the penalty λ_j |y_j|² per rating. So a rating costs a few row
operations, however many items its user has rated, and no two threads ever write to one row.

All wishes come from one point, and users share their items: where they wish the same, a term moves by the sum of
what would each have been enough. With h_u = min(1, rate Σ |q_i|²), which bounds how much of a move of s_u the
next epoch's wish takes back, Σ_u h_u over U(j) bounds (by Gershgorin's circles) how much of a move of y_j
all of them take back together. So ``step = ratio rate / (1 + ratio Σ h_u / SLACK)``, where SLACK is how far the
bound was seen to be from the truth: 16 swings on 10 million ratings, 8 does not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.sgd import AHEAD, padded
from hatrix.kernels.simd import combine, dot, load, prefetch, store

__all__ = ["item_terms", "neighbours", "responses", "update", "user_sums"]

SLACK = 4


@lru_cache
def update(factors: int) -> Any:
    """The kernel for so many factors: runs blocks of a grid, leaves the sum of e² of each in ``loss``."""
    lanes = padded(factors)

    @compiled
    def svdpp(
        blocks, edge, user, item, value, P, S, G, Q, user_bias, item_bias, user_reg, item_reg,
        user_bias_reg, item_bias_reg, rate, loss,
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
                user_bias[u] += rate * (e - user_bias_reg[u] * user_bias[u])
                item_bias[i] += rate * (e - item_bias_reg[i] * item_bias[i])
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
                prefetch(Y, item[min(n + AHEAD, end - np.uint64(1))], lanes)
                total = combine(one, total, one, load(Y, item[n], lanes))
            store(S, u, combine(share[u], total, zero, total))

    return gather


@lru_cache
def responses() -> Any:
    """The kernel that sets h[u] = min(1, rate Σ length[i]) over the items i of u, for users ``first`` to ``last``."""

    @compiled
    def gather(first, last, start, item, length, rate, h):
        for u in range(first, last):
            total = h.dtype.type(0)
            for n in range(start[u], start[u + 1]):
                total += length[item[n]]
            h[u] = min(rate * total, h.dtype.type(1))

    return gather


@lru_cache
def item_terms(factors: int) -> Any:
    """The kernel that moves Y[j] by what the users of j wish, for items ``first`` to ``last``."""
    lanes = padded(factors)

    @compiled
    def gather(first, last, start, user, share, G, h, Y, item_reg, rate, ratio):
        one = Y.dtype.type(1)
        for j in range(np.uint64(first), np.uint64(last)):
            begin, end = np.uint64(start[j]), np.uint64(start[j + np.uint64(1)])
            taken_back = one - one
            for n in range(begin, end):
                taken_back += h[user[n]]
            step = ratio * rate / (one + ratio * taken_back / Y.dtype.type(SLACK))
            y = load(Y, j, lanes)
            for n in range(begin, end):
                prefetch(G, user[min(n + AHEAD, end - np.uint64(1))], lanes)
                y = combine(one, y, step * share[user[n]], load(G, user[n], lanes))
            shrink = one / (one + step * item_reg[j] * Y.dtype.type(end - begin))
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
