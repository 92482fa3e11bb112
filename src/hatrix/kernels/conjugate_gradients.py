"""Ridge regressions of many rows at once, nearly: the problem of `hatrix.kernels.least_squares` by conjugate gradients."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels import schedule
from hatrix.kernels.compile import compiled
from hatrix.kernels.simd import combine, dot, load, multiply, prefetch, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["take_steps"]

GATHERED, AHEAD = 1024, 8
"""Regressors of a row that are kept, and how many entries ahead they are fetched."""


def take_steps(
    start: NDArray[np.int64],
    other: NDArray[Any],
    weight: NDArray[np.float32],
    target: NDArray[np.float32],
    Y: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    ridge: NDArray[np.float32],
    X: NDArray[np.float32],
    *,
    times: int,
    bias: NDArray[np.float32] | None = None,
    bias_ridge: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> None:
    """Take ``times`` steps from every row of ``X`` (and ``bias``), preconditioned by the diagonal of its matrix.

    The regressors of a row are gathered while its residual is worked out, and are in a near cache for the steps. The
    parameters are those of `hatrix.kernels.least_squares.solve_rows`.
    """
    kernel, nothing = _steps(X.shape[1], bias is not None), np.zeros(1, np.float32)
    beta, beta_ridge = (nothing if bias is None else bias), (nothing if bias_ridge is None else bias_ridge)

    def run(first: int, last: int) -> None:
        kernel(first, last, start, other, weight, target, Y, diagonal, ridge, beta_ridge, X, beta, times)

    schedule.run_rows(run, start, threads=threads)


@lru_cache
def _steps(lanes: int, biased: bool) -> Any:
    """The kernel for rows ``first`` to ``last``."""

    @compiled
    def steps(first, last, start, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias, times):
        one = Y.dtype.type(1)
        zero = one - one
        base, inverse = np.empty((1, lanes), np.float32), np.empty((1, lanes), np.float32)
        R = np.empty((GATHERED, lanes), np.float32)
        top, ahead = np.uint64(0), np.uint64(AHEAD)
        for u in range(np.uint64(first), np.uint64(last)):
            begin, end = np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])
            x = load(X, u, lanes)
            nothing = combine(zero, x, zero, x)
            if begin == end:
                store(X, u, nothing)
                if biased:
                    bias[u] = 0
                continue
            kept = begin + min(end - begin, np.uint64(GATHERED))
            for a in range(lanes):
                base[0, a] = ridge[u] + diagonal[a]
            penalty = load(base, top, lanes)
            r, squares = combine(zero, x, -one, multiply(penalty, x)), penalty
            beta, level = zero, one
            r_bias = p_bias = z_bias = A_bias = zero
            if biased:
                beta, level = bias[u], bias_ridge[u]
                r_bias = -level * beta
            for n in range(begin, end):
                if n + ahead < end:
                    prefetch(Y, np.uint64(other[n + ahead]), lanes)
                y = load(Y, np.uint64(other[n]), lanes)
                if n < kept:
                    store(R, n - begin, y)
                e = weight[n] * (target[n] - beta - dot(x, y))
                r = combine(one, r, e, y)
                squares = combine(one, squares, weight[n], multiply(y, y))
                if biased:
                    r_bias += e
                    level += weight[n]
            store(inverse, top, squares)
            for a in range(lanes):
                inverse[0, a] = one / inverse[0, a]
            z = multiply(load(inverse, top, lanes), r)
            if biased:
                z_bias = r_bias / level
                p_bias = z_bias
            p, rz = z, dot(r, z) + r_bias * z_bias
            for _ in range(times):
                Ap = multiply(penalty, p)
                if biased:
                    A_bias = bias_ridge[u] * p_bias
                for n in range(kept - begin):
                    y = load(R, n, lanes)
                    e = weight[begin + n] * (p_bias + dot(p, y))
                    Ap = combine(one, Ap, e, y)
                    if biased:
                        A_bias += e
                for n in range(kept, end):
                    y = load(Y, np.uint64(other[n]), lanes)
                    e = weight[n] * (p_bias + dot(p, y))
                    Ap = combine(one, Ap, e, y)
                    if biased:
                        A_bias += e
                curve = dot(p, Ap) + p_bias * A_bias
                if not curve > zero:
                    break
                step = rz / curve
                x = combine(one, x, step, p)
                r = combine(one, r, -step, Ap)
                z = multiply(load(inverse, top, lanes), r)
                if biased:
                    beta += step * p_bias
                    r_bias -= step * A_bias
                    z_bias = r_bias / level
                fresh = dot(r, z) + r_bias * z_bias
                if not fresh > zero:
                    break
                p = combine(one, z, fresh / rz, p)
                p_bias = z_bias + fresh / rz * p_bias
                rz = fresh
            store(X, u, x)
            if biased:
                bias[u] = beta

    return steps
