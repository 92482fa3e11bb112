"""The product of a sparse matrix and a block of dense columns, fused with the sums that follow it.

A row of the product is a weighted sum of rows of the dense block. It is taken ``LANES`` columns at a time: a slice
of that width lives in vector registers while the row's entries stream by, and the slices of all rows together are
small enough to be found in cache again and again. A row is summed in the order of its entries by whoever gets it,
so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.kernels import schedule
from hatrix.kernels.compile import compiled
from hatrix.kernels.simd import combine, load, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LANES", "NARROW", "Sparse", "multiply", "wide", "zeros"]

LANES = 64
"""Columns at a time: four AVX-512 registers, and four whole cache lines of each row that is gathered."""

NARROW = 16
"""Columns of the narrowest block: one cache line of each row that is gathered."""


class Sparse(NamedTuple):
    """A matrix by rows: row r holds ``value[start[r]:start[r + 1]]`` in the columns ``column[...]``."""

    start: NDArray[np.int64]
    column: NDArray[np.uint32]
    value: NDArray[np.float32]


def wide(columns: int) -> int:
    """The row length for at least so many columns: whole slices, and an odd number of them.

    Slices of neighbouring rows then lie in different cache sets; a row length of 512 would use an eighth of the
    cache.
    """
    slices = -(-columns // LANES)
    return LANES * (slices if slices <= 2 else slices | 1)


def zeros(rows: int, width: int) -> NDArray[np.float32]:
    """Zeros whose rows begin on cache lines."""
    raw = np.zeros(rows * width + 16, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + rows * width].reshape(rows, width)


def multiply(
    A: Sparse,
    X: NDArray[np.float32],
    out: NDArray[np.float32],
    *,
    threads: int,
    scale: float = 1.0,
    near: tuple[float, NDArray[np.float32]] | None = None,
    far: tuple[float, NDArray[np.float32]] | None = None,
) -> None:
    """``out = scale · A @ X + near[0] · near[1] + far[0] · far[1]``.

    ``X`` and ``out`` are from `zeros`, as wide as `wide` says, or one slice of ``NARROW`` columns. ``out`` may be the array
    of ``near`` or ``far``.
    """
    lanes = min(LANES, X.shape[1])
    kernel, slices = _multiply(lanes), X.shape[1] // lanes
    weights = [np.float32(term[0]) if term else np.float32(0) for term in (near, far)]
    blocks = [term[1] if term else out for term in (near, far)]

    def run(first: int, last: int) -> None:
        kernel(
            first, last, A.start, A.column, A.value, X, slices, np.float32(scale),
            weights[0], blocks[0], weights[1], blocks[1], out,
        )  # fmt: skip

    schedule.run_rows(run, A.start * slices, threads=threads)


@lru_cache
def _multiply(lanes: int) -> Any:
    @compiled
    def multiply(first, last, start, column, value, X, slices, scale, beta, B, gamma, C, Y):
        one = Y.dtype.type(1)
        stride = np.uint64(slices)
        for s in range(stride):
            for r in range(np.uint64(first), np.uint64(last)):
                place = r * stride + s
                total = combine(beta, load(B, place, lanes), gamma, load(C, place, lanes))
                for n in range(np.uint64(start[r]), np.uint64(start[r + np.uint64(1)])):
                    x = load(X, np.uint64(column[n]) * stride + s, lanes)
                    total = combine(one, total, scale * value[n], x)
                store(Y, place, total)

    return multiply
