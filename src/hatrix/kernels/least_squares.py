"""Ridge regressions of many rows at once: what alternating least squares and fold-in solve.

Row u has entries n with regressors y_n (rows of the other side's factors), targets t_n and weights w_n, and wants ::

    min  Σ_n w_n (t_n - β - x·y_n)²  +  Σ_a (c_u + g_a) x_a²  +  bias_ridge_u β²           (β = 0 without biases)

The penalty is diagonal: where it comes from a Gram matrix (implicit feedback), both sides are first rotated into
its eigenvectors, which changes no score. A row with as many entries as factors, or more, is solved from its normal
equations; the bias comes from a second right-hand side. A shorter one is solved exactly in its dual, one number per
entry: with ``K = Σ_a y_na y_ma / (c_u + g_a) + 1 / bias_ridge_u``, ``(diag(1/w) + K) z = t`` and then
``x_a = Σ_n z_n y_na / (c_u + g_a)``, ``β = Σ z_n / bias_ridge_u``.

Gram matrices and their Cholesky factors are made of `hatrix.kernels.tiles`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels import schedule
from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.simd import combine, dot, load, store
from hatrix.kernels.tiles import CHUNK, TILE, add_gram, cholesky, padded_rows, substitute

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "add_scores",
    "losses",
    "solve_by_blocks",
    "solve_rows",
]


def solve_rows(
    start: NDArray[np.int64],
    other: NDArray[Any],
    weight: NDArray[np.float32],
    target: NDArray[np.float32],
    Y: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    ridge: NDArray[np.float32],
    X: NDArray[np.float32],
    *,
    bias: NDArray[np.float32] | None = None,
    bias_ridge: NDArray[np.float32] | None = None,
    nonnegative: bool = False,
    threads: int = 1,
) -> None:
    """Solve every row exactly, into ``X`` and ``bias``; a row without entries becomes zero.

    Parameters
    ----------
    start, other
        Entries of row u are ``other[start[u]:start[u + 1]]``, rows of ``Y``.
    weight, target
        Of each entry; weights are above 0.
    Y, X
        Padded rows (see `hatrix.kernels.tiles.padded_rows`).
    diagonal
        g, one number per padded column.
    ridge, bias_ridge
        c of each row, above 0, and the penalty of its bias.
    nonnegative
        Keep x at or above zero, by coordinate descent until the largest step is below 1e-5.
    """
    biased = bias is not None
    kernel = _solve(X.shape[1], biased, nonnegative)
    nothing = np.zeros(1, np.float32)
    beta, beta_ridge = (nothing if bias is None else bias), (nothing if bias_ridge is None else bias_ridge)

    def solve(first: int, last: int) -> None:
        kernel(first, last, start, other, weight, target, Y, diagonal, ridge, beta_ridge, X, beta)

    schedule.run_rows(solve, _work(start, X.shape[1]), threads=threads)


def solve_by_blocks(
    start: NDArray[np.int64],
    other: NDArray[Any],
    weight: NDArray[np.float32],
    target: NDArray[np.float32],
    Y: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    ridge: NDArray[np.float32],
    X: NDArray[np.float32],
    *,
    size: int,
    threads: int = 1,
) -> None:
    """Improve every row in place: solve for ``size`` columns exactly, the others fixed, block after block.

    A block of columns sees what the others leave of the targets, and is a ridge regression of its own.
    """
    rest = target.copy()

    def add(sign: int, theirs: NDArray[np.float32], mine: NDArray[np.float32]) -> None:
        kernel, factor = add_scores(mine.shape[1]), np.float32(sign)
        schedule.run_rows(
            lambda first, last: kernel(first, last, start, other, theirs, mine, factor, rest),
            start,
            threads=threads,
        )

    add(-1, Y, X)
    for column in range(0, X.shape[1], size):
        part = slice(column, column + size)
        mine, theirs = padded_rows(X[:, part]), padded_rows(Y[:, part])
        add(1, theirs, mine)
        solve_rows(start, other, weight, rest, theirs, diagonal[part], ridge, mine, threads=threads)
        add(-1, theirs, mine)
        X[:, part] = mine


def _work(start: NDArray[np.int64], lanes: int) -> NDArray[np.int64]:
    """The running total of what rows cost, in entries."""
    count = np.diff(start)
    cost = count * np.minimum(count, lanes) + lanes
    return np.asarray(np.concatenate([[0], np.cumsum(cost // lanes + 1)]) * (1 + lanes // TILE))


@lru_cache
def _solve(lanes: int, biased: bool, nonnegative: bool) -> Any:
    """The kernel for rows ``first`` to ``last``."""
    dual, primal = _dual(lanes, biased), _primal(lanes, biased, nonnegative)

    @compiled
    def solve(first, last, start, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias):
        A = np.empty((lanes, lanes), np.float32)
        A2 = A.reshape(lanes * lanes // TILE, TILE)
        R = np.empty((max(CHUNK, lanes), lanes), np.float32)
        R2 = R.reshape(R.size // TILE, TILE)
        scale, inverse = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
        b, s, z = (
            np.empty((1, lanes), np.float32),
            np.empty((1, lanes), np.float32),
            np.empty(lanes, np.float32),
        )
        for u in range(np.uint64(first), np.uint64(last)):
            begin, end = np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])
            if begin == end:
                X[u, :] = 0
                if biased:
                    bias[u] = 0
            elif end - begin < np.uint64(lanes) and not nonnegative:
                dual(
                    u, begin, end - begin, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias,
                    A, A2, R, scale, inverse, z,
                )  # fmt: skip
            else:
                primal(
                    u, begin, end, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias,
                    A, A2, R, R2, inverse, b, s, z,
                )  # fmt: skip

    return solve


def _dual(lanes: int, biased: bool) -> Any:
    """Solve row u from its few entries: R gets the scaled regressors, A the kernel matrix."""
    blocks = np.uint64(lanes // TILE)

    @inlined
    def dual(
        u, begin, count, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias,
        A, A2, R, scale, inverse, z,
    ):  # fmt: skip
        one = Y.dtype.type(1)
        for a in range(lanes):
            scale[a] = one / np.sqrt(ridge[u] + diagonal[a])
        level = one / bias_ridge[u] if biased else one - one
        tiles = (count + np.uint64(TILE - 1)) // np.uint64(TILE)
        for p in range(count):
            o = np.uint64(other[begin + p])
            for a in range(np.uint64(lanes)):
                R[p, a] = Y[o, a] * scale[a]
            z[p] = target[begin + p]
        for p in range(count, tiles * np.uint64(TILE)):
            z[p] = 0
        for p in range(tiles * np.uint64(TILE)):
            if p < count:
                mine = load(R, p, lanes)
                for q in range(p, count):
                    A[p, q] = level + dot(mine, load(R, q, lanes))
                A[p, p] += one / weight[begin + p]
                for q in range(count, tiles * np.uint64(TILE)):
                    A[p, q] = 0
            else:
                for q in range(p, tiles * np.uint64(TILE)):
                    A[p, q] = 0
                A[p, p] = 1
        cholesky(A, A2, blocks, tiles, inverse)
        substitute(A, inverse, count, z)
        total, beta = load(R, np.uint64(0), lanes), one - one
        total = combine(one - one, total, one - one, total)
        for p in range(count):
            total = combine(one, total, z[p], load(R, p, lanes))
            beta += z[p]
        store(X, u, total)
        for a in range(lanes):
            X[u, a] *= scale[a]
        if biased:
            bias[u] = beta * level

    return dual


def _primal(lanes: int, biased: bool, nonnegative: bool) -> Any:
    """Solve row u from its normal equations: R gets chunks of the regressors, A their Gram matrix."""
    blocks = np.uint64(lanes // TILE)

    @inlined
    def primal(
        u, begin, end, other, weight, target, Y, diagonal, ridge, bias_ridge, X, bias,
        A, A2, R, R2, inverse, b, s, z,
    ):  # fmt: skip
        one = Y.dtype.type(1)
        A[:, :] = 0
        b[:, :] = 0
        s[:, :] = 0
        weights, targets = 0.0, 0.0
        chunk = begin
        while chunk < end:
            some = min(np.uint64(CHUNK), end - chunk)
            right, sums = load(b, np.uint64(0), lanes), load(s, np.uint64(0), lanes)
            for p in range(some):
                root = np.sqrt(weight[chunk + p])
                y = load(Y, np.uint64(other[chunk + p]), lanes)
                line = combine(root, y, one - one, y)
                store(R, p, line)
                right = combine(one, right, root * target[chunk + p], line)
                if biased:
                    sums = combine(one, sums, root, line)
                    weights += weight[chunk + p]
                    targets += weight[chunk + p] * target[chunk + p]
            store(b, np.uint64(0), right)
            store(s, np.uint64(0), sums)
            add_gram(R, R2, blocks, some, A2)
            chunk += some
        for a in range(lanes):
            A[a, a] += ridge[u] + diagonal[a]
        if nonnegative:
            beta = _descend(A, b[0], s[0], weights, targets, bias_ridge[u] if biased else one, X[u], biased)
            if biased:
                bias[u] = beta
            return
        cholesky(A, A2, blocks, blocks, inverse)
        if biased:
            for a in range(lanes):
                z[a] = s[0, a]
            substitute(A, inverse, np.uint64(lanes), z)
            substitute(A, inverse, np.uint64(lanes), b[0])
            along, across = 0.0, 0.0
            for a in range(lanes):
                along += s[0, a] * b[0, a]
                across += s[0, a] * z[a]
            beta = np.float32((targets - along) / (weights + bias_ridge[u] - across))
            for a in range(lanes):
                X[u, a] = b[0, a] - beta * z[a]
            bias[u] = beta
        else:
            substitute(A, inverse, np.uint64(lanes), b[0])
            for a in range(lanes):
                X[u, a] = b[0, a]

    return primal


@inlined
def _descend(A, b, s, weights, targets, bias_ridge, x, biased):
    """Coordinate descent on ½xᵀAx - bᵀx with x >= 0 (and a free bias); returns the bias. A's upper triangle counts."""
    size = len(x)
    for i in range(size):
        for j in range(i):
            A[i, j] = A[j, i]
    beta, ahead = 0.0, 0.0
    for _ in range(200):
        largest = 0.0
        if biased:
            ahead = 0.0
            for i in range(size):
                ahead += s[i] * x[i]
            fresh = (targets - ahead) / (weights + bias_ridge)
            largest = abs(fresh - beta)
            beta = fresh
        for i in range(size):
            slope = b[i] - beta * s[i]
            for j in range(size):
                slope -= A[i, j] * x[j]
            fresh = max(0.0, x[i] + slope / A[i, i])
            largest = max(largest, abs(fresh - x[i]))
            x[i] = fresh
        if largest < 1e-5:
            break
    return np.float32(beta)


@lru_cache
def add_scores(lanes: int) -> Any:
    """The kernel that adds sign x·y to ``rest`` of every entry."""

    @compiled
    def add(first, last, start, other, Y, X, sign, rest):
        for u in range(np.uint64(first), np.uint64(last)):
            x = load(X, u, lanes)
            for n in range(np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])):
                rest[n] += sign * dot(x, load(Y, np.uint64(other[n]), lanes))

    return add


@lru_cache
def losses(lanes: int) -> Any:
    """The kernel of Σ e (weight e + slope), e = target - bias - x·y, of each row, in double precision."""

    @compiled
    def add_up(first, last, start, other, weight, target, Y, X, bias, slope, total):
        for u in range(np.uint64(first), np.uint64(last)):
            x, sum_ = load(X, u, lanes), np.float64(0.0)
            for n in range(np.uint64(start[u]), np.uint64(start[u + np.uint64(1)])):
                e = np.float64(target[n] - bias[u] - dot(x, load(Y, np.uint64(other[n]), lanes)))
                sum_ += e * (weight[n] * e + slope)
            total[u] = sum_

    return add_up
