"""Gibbs sampling of a bilinear model whose rows are sums of fields, from sums kept per row.

For a row x of one side, with ratings n and, from the other side, regressors v_n (a row with a last 1, which
multiplies the bias in x), the likelihood of x is known from two sums::

    G = Σ_n w_n v_n v_nᵀ,    h = Σ_n w_n v_n t_n    (t_n: the rating less all that does not depend on x;
                                                     w_n: the precision of the rating, as a multiple of α)

whatever x is made of. Where ``x_u = p_u + Σ_j w_uj y_j``, a part p_u or y_j with prior N(μ, Λ⁻¹) is, given the
rest, normal with precision ``Λ + α Σ_u w_uj² G_u``, and that times its mean is
``Λ μ + α Σ_u w_uj (h_u - G_u (x_u - w_uj y_j))``. So one pass over the ratings serves every field of a side, and a
field costs no more than its own entries.

A row in memory is the factors, then the bias, then zeros up to the length of `hatrix.kernels.tiles`. Normal numbers
come from a counter hashed with a key and the number of the row, so that they do not depend on who draws them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.counter import mix
from hatrix.kernels.simd import combine, dot, load, store
from hatrix.kernels.tiles import CHUNK, TILE, add_gram

__all__ = ["bag_rows", "own_rows", "scores", "squared_errors", "sums"]


@inlined
def _signed(bits):
    """52 of the bits as a number between -1 and 1, neither of them nor 0."""
    return (np.float64(bits >> np.uint64(12)) + 0.5) * 2.0**-51 - 1.0


@lru_cache
def _draw(size: int, lanes: int) -> Any:
    """The kernel of a draw x from N(A⁻¹ b, A⁻¹); A (symmetric, its rows padded), b and w are overwritten.

    Row operations alone: A becomes U with A = UᵀU, from the top row down, while Uᵀ y = b is solved; then U x = y + z.
    """

    @inlined
    def draw(A, b, w, key, row, x):
        one = A.dtype.type(1)
        state = mix(key ^ mix(np.uint64(row)))
        for j in range(np.uint64(size)):
            inverse = one / np.sqrt(A[j, j])
            u = load(A, j, lanes)
            u = combine(inverse, u, one - one, u)
            store(A, j, u)
            for i in range(j + np.uint64(1), np.uint64(size)):
                store(A, i, combine(one, load(A, i, lanes), -A[j, i], u))
            y = b[0, j] * inverse
            store(b, np.uint64(0), combine(one, load(b, np.uint64(0), lanes), -y, u))
            w[j], x[0, j] = y, 0.0
        for i in range(0, size, 2):
            # Marsaglia: a point of the unit disc, by trial, makes two normal numbers.
            square = 2.0
            while square >= 1.0:
                state += np.uint64(2)
                across, along = _signed(mix(state)), _signed(mix(state + np.uint64(1)))
                square = across * across + along * along
            stretch = np.sqrt(-2.0 * np.log(square) / square)
            w[i] += stretch * across
            if i + 1 < size:
                w[i + 1] += stretch * along
        for j in range(size):
            r = np.uint64(size - 1 - j)
            rest = w[r] - dot(load(A, r, lanes), load(x, np.uint64(0), lanes))
            x[0, r] = rest / A[r, r]

    return draw


@lru_cache
def sums(size: int, lanes: int, *, timed: bool) -> Any:
    """The kernel of G and h for rows ``first`` to ``last``, whose ``size`` numbers are padded to ``lanes``.

    The regressors of a rating are ``V[other]``, or ``V[other] + T[when]`` if ``timed``; the last number of a row of V is
    1 and of T is 0: their own biases come apart, and are taken off the rating with ``V · T``.
    """

    @inlined
    def regressor(o, t, V, T):
        one = V.dtype.type(1)
        v = load(V, o, lanes)
        if timed:
            v = combine(one, v, one, load(T, t, lanes))
        return v

    @inlined
    def target(n, o, t, value, weight, V, bias, T, time_bias):
        left = value[n] - bias[o]
        if timed:
            left -= time_bias[t] + dot(load(V, o, lanes), load(T, t, lanes))
        return weight[n] * left

    @compiled
    def add_up(first, last, start, other, when, value, weight, V, bias, T, time_bias, G, h):
        one = V.dtype.type(1)
        zero = one - one
        blocks, t = np.uint64(lanes // TILE), np.uint64(0)
        A, R = np.empty((lanes, lanes), V.dtype), np.empty((CHUNK, lanes), V.dtype)
        A2, R2 = A.reshape(lanes * lanes // TILE, TILE), R.reshape(CHUNK * lanes // TILE, TILE)
        for u in range(np.uint64(first), np.uint64(last)):
            A[:, :] = 0
            v = load(V, np.uint64(0), lanes)
            total = combine(zero, v, zero, v)
            chunk, end = np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])
            while chunk < end:
                some = min(np.uint64(CHUNK), end - chunk)
                for p in range(some):
                    n = chunk + p
                    o = np.uint64(other[n])
                    if timed:
                        t = np.uint64(when[n])
                    v, root = regressor(o, t, V, T), np.sqrt(weight[n])
                    total = combine(one, total, target(n, o, t, value, weight, V, bias, T, time_bias), v)
                    store(R, p, combine(root, v, zero, v))
                add_gram(R, R2, blocks, some, A2)
                chunk += some
            for a in range(np.uint64(size)):
                for c in range(a):
                    A[a, c] = A[c, a]
                store(G, u * np.uint64(size) + a, load(A, a, lanes))
            store(h, u, total)

    return add_up


@lru_cache
def own_rows(size: int, lanes: int) -> Any:
    """The kernel that draws P[u], the part of X[u] that belongs to row u alone, for rows ``first`` to ``last``."""
    draw = _draw(size, lanes)

    @compiled
    def draw_own(first, last, G, h, X, P, prior, precision, noise, key):
        one = X.dtype.type(1)
        A, b, w, x = np.zeros((size, lanes)), np.zeros((1, lanes)), np.empty(size), np.zeros((1, lanes))
        total = np.zeros((1, lanes), X.dtype)
        for u in range(np.uint64(first), np.uint64(last)):
            v = load(h, u, lanes)
            for a in range(np.uint64(size)):
                row = u * np.uint64(size) + a
                v = combine(one, v, P[u, a] - X[u, a], load(G, row, lanes))
                for c in range(size):
                    A[a, c] = precision[a, c] + noise * G[row, c]
            store(total, np.uint64(0), v)
            for a in range(size):
                b[0, a] = prior[a] + noise * total[0, a]
            draw(A, b, w, key, u, x)
            for a in range(np.uint64(size)):
                X[u, a] += X.dtype.type(x[0, a]) - P[u, a]
                P[u, a] = x[0, a]

    return draw_own


@lru_cache
def bag_rows(size: int, lanes: int) -> Any:
    """The kernel that draws the rows Y[j] of a field in their order, and moves the X of the rows that hold them.

    Feature j is held by rows ``holder[start[j]:start[j + 1]]`` with those ``weight``.
    """
    draw = _draw(size, lanes)

    @compiled
    def draw_bag(start, holder, weight, G, h, X, Y, prior, precision, noise, key):
        one = X.dtype.type(1)
        zero = one - one
        A, b, w, x = np.zeros((size, lanes)), np.zeros((1, lanes)), np.empty(size), np.zeros((1, lanes))
        gram, total = np.zeros((size, lanes), X.dtype), np.zeros((1, lanes), X.dtype)
        moved = np.zeros((1, lanes), X.dtype)
        for j in range(np.uint64(len(start) - 1)):
            y = load(Y, j, lanes)
            nothing = combine(zero, y, zero, y)
            store(total, np.uint64(0), nothing)
            for a in range(np.uint64(size)):
                store(gram, a, nothing)
            for e in range(np.uint64(start[j]), np.uint64(start[j + np.uint64(1)])):
                u, share = np.uint64(holder[e]), weight[e]
                sums = combine(one, load(total, np.uint64(0), lanes), share, load(h, u, lanes))
                for a in range(np.uint64(size)):
                    row = load(G, u * np.uint64(size) + a, lanes)
                    sums = combine(one, sums, share * (share * Y[j, a] - X[u, a]), row)
                    store(gram, a, combine(one, load(gram, a, lanes), share * share, row))
                store(total, np.uint64(0), sums)
            for a in range(size):
                b[0, a] = prior[a] + noise * total[0, a]
                for c in range(size):
                    A[a, c] = precision[a, c] + noise * gram[a, c]
            draw(A, b, w, key, j, x)
            for a in range(np.uint64(size)):
                moved[0, a] = X.dtype.type(x[0, a]) - Y[j, a]
                Y[j, a] = x[0, a]
            move = load(moved, np.uint64(0), lanes)
            for e in range(np.uint64(start[j]), np.uint64(start[j + np.uint64(1)])):
                u = np.uint64(holder[e])
                store(X, u, combine(one, load(X, u, lanes), weight[e], move))

    return draw_bag


@lru_cache
def scores(lanes: int, *, timed: bool) -> Any:
    """The kernel of scores for ratings ``first`` to ``last``: X with biases, V and T as `sums` has them."""

    @compiled
    def score(first, last, user, item, when, X, V, bias, T, time_bias, out):
        one = X.dtype.type(1)
        for n in range(np.uint64(first), np.uint64(last)):
            i = np.uint64(item[n])
            x, v = load(X, np.uint64(user[n]), lanes), load(V, i, lanes)
            total = bias[i] + dot(x, v)
            if timed:
                t = np.uint64(when[n])
                total += time_bias[t] + dot(combine(one, x, one, v), load(T, t, lanes))
            out[n] = total

    return score


@lru_cache
def squared_errors(lanes: int, *, timed: bool) -> Any:
    """The kernel of ``Σ (value - score)²`` over the ratings of each user, for users ``first`` to ``last``."""

    @compiled
    def add_squares(first, last, start, item, when, value, X, V, bias, T, time_bias, out):
        one = X.dtype.type(1)
        for u in range(np.uint64(first), np.uint64(last)):
            x, total = load(X, u, lanes), 0.0
            for n in range(np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])):
                i = np.uint64(item[n])
                v = load(V, i, lanes)
                left = value[n] - bias[i] - dot(x, v)
                if timed:
                    t = np.uint64(when[n])
                    left -= time_bias[t] + dot(combine(one, x, one, v), load(T, t, lanes))
                total += np.float64(left) * np.float64(left)
            out[u] = total

    return add_squares
