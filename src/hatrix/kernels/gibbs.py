"""Gibbs sampling of a bilinear model whose rows are sums of fields, from sums kept per row.

For a row x of one side, with ratings n and, from the other side, regressors v_n (a row with a last 1, which
multiplies the bias in x), the likelihood of x is known from two sums::

    G = Σ_n w_n v_n v_nᵀ,    h = Σ_n w_n v_n t_n    (t_n: the rating less all that does not depend on x;
                                                     w_n: the precision of the rating, as a multiple of α)

whatever x is made of. Where ``x_u = p_u + Σ_j w_uj y_j``, a part p_u or y_j with prior N(μ, Λ⁻¹) is, given the
rest, normal with precision ``Λ + α Σ_u w_uj² G_u``, and that times its mean is
``Λ μ + α Σ_u w_uj (h_u - G_u (x_u - w_uj y_j))``. So one pass over the ratings serves every field of a side, and a
field costs no more than its own entries.

A row in memory is the factors, then the bias, then zeros up to the padded length. Normal numbers come from a
counter hashed with a key and the number of the row, so that they do not depend on who draws them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.counter import mix
from hatrix.kernels.simd import combine, dot, load, store

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
    def target(n, o, t, value, weight, mean, V, bias, T, time_bias):
        left = value[n] - mean - bias[o]
        if timed:
            left -= time_bias[t] + dot(load(V, o, lanes), load(T, t, lanes))
        return weight[n] * left

    @inlined
    def number(a, o, t, V, T):
        return V[o, a] + T[t, a] if timed else V[o, a]

    @compiled
    def add_up(first, last, start, other, when, value, weight, mean, V, bias, T, time_bias, G, h):
        one = V.dtype.type(1)
        zero, last_of_four = one - one, np.uint64(3)
        t0 = t1 = t2 = t3 = np.uint64(0)
        for u in range(np.uint64(first), np.uint64(last)):
            base = u * np.uint64(size)
            v = load(V, np.uint64(0), lanes)
            total = combine(zero, v, zero, v)
            for a in range(np.uint64(size)):
                store(G, base + a, total)
            n, end = np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])
            while n + last_of_four < end:  # four ratings for each time that a row of G is loaded and stored
                n1, n2, n3 = n + np.uint64(1), n + np.uint64(2), n + np.uint64(3)
                o0, o1, o2, o3 = (
                    np.uint64(other[n]),
                    np.uint64(other[n1]),
                    np.uint64(other[n2]),
                    np.uint64(other[n3]),
                )
                if timed:
                    t0, t1, t2, t3 = (
                        np.uint64(when[n]),
                        np.uint64(when[n1]),
                        np.uint64(when[n2]),
                        np.uint64(when[n3]),
                    )
                v0, v1 = regressor(o0, t0, V, T), regressor(o1, t1, V, T)
                v2, v3 = regressor(o2, t2, V, T), regressor(o3, t3, V, T)
                x0 = target(n, o0, t0, value, weight, mean, V, bias, T, time_bias)
                x1 = target(n1, o1, t1, value, weight, mean, V, bias, T, time_bias)
                x2 = target(n2, o2, t2, value, weight, mean, V, bias, T, time_bias)
                x3 = target(n3, o3, t3, value, weight, mean, V, bias, T, time_bias)
                total = combine(one, total, one, combine(x0, v0, x1, v1))
                total = combine(one, total, one, combine(x2, v2, x3, v3))
                w0, w1, w2, w3 = weight[n], weight[n1], weight[n2], weight[n3]
                for a in range(np.uint64(size)):
                    two = combine(w0 * number(a, o0, t0, V, T), v0, w1 * number(a, o1, t1, V, T), v1)
                    four = combine(w2 * number(a, o2, t2, V, T), v2, w3 * number(a, o3, t3, V, T), v3)
                    store(
                        G, base + a, combine(one, load(G, base + a, lanes), one, combine(one, two, one, four))
                    )
                n += np.uint64(4)
            while n < end:
                o = np.uint64(other[n])
                if timed:
                    t0 = np.uint64(when[n])
                v = regressor(o, t0, V, T)
                total = combine(one, total, target(n, o, t0, value, weight, mean, V, bias, T, time_bias), v)
                for a in range(np.uint64(size)):
                    store(
                        G,
                        base + a,
                        combine(one, load(G, base + a, lanes), weight[n] * number(a, o, t0, V, T), v),
                    )
                n += np.uint64(1)
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
    def score(first, last, user, item, when, mean, X, V, bias, T, time_bias, out):
        one = X.dtype.type(1)
        for n in range(np.uint64(first), np.uint64(last)):
            i = np.uint64(item[n])
            x, v = load(X, np.uint64(user[n]), lanes), load(V, i, lanes)
            total = mean + bias[i] + dot(x, v)
            if timed:
                t = np.uint64(when[n])
                total += time_bias[t] + dot(combine(one, x, one, v), load(T, t, lanes))
            out[n] = total

    return score


@lru_cache
def squared_errors(lanes: int, *, timed: bool) -> Any:
    """The kernel of ``Σ (value - score)²`` over the ratings of each user, for users ``first`` to ``last``."""

    @compiled
    def add_squares(first, last, start, item, when, value, mean, X, V, bias, T, time_bias, out):
        one = X.dtype.type(1)
        for u in range(np.uint64(first), np.uint64(last)):
            x, total = load(X, u, lanes), 0.0
            for n in range(np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])):
                i = np.uint64(item[n])
                v = load(V, i, lanes)
                left = value[n] - mean - bias[i] - dot(x, v)
                if timed:
                    t = np.uint64(when[n])
                    left -= time_bias[t] + dot(combine(one, x, one, v), load(T, t, lanes))
                total += np.float64(left) * np.float64(left)
            out[u] = total

    return add_squares
