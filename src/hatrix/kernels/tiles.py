"""Symmetric matrices made of tiles of 16 × 16 numbers, each of which stays in vector registers while it is summed.

Rows are padded with zeros to a multiple of 16. Of a matrix A of such rows, A2 is the view 16 numbers wide: the tile
in tile row r and tile column c, of ``blocks`` a row, begins at ``A2[16 r blocks + c]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import inlined
from hatrix.kernels.simd import combine, load, store

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHUNK", "TILE", "add_gram", "cholesky", "padded", "padded_rows", "substitute"]

TILE = 16
CHUNK = 64
"""Rows gathered at once for the sums of a matrix: a chunk stays in the first cache."""
ROUNDING = np.float32(2**-22)
"""The part of a diagonal element below which its pivot, a difference of single precision, has no digits."""


def padded(factors: int) -> int:
    """Row length in memory for so many factors."""
    return -(-max(1, factors) // TILE) * TILE


def padded_rows(rows: NDArray[Any], dtype: Any = np.float32) -> NDArray[Any]:
    """A copy, its rows padded with zeros to whole tiles and aligned."""
    from hatrix.kernels.sgd import aligned_rows

    return aligned_rows(rows, dtype, lanes=padded(rows.shape[1]))


@inlined
def _add_tile(R, R2, blocks, first, last, row, column, A2, sign):
    """Add sign Σ_n R[n, tile row] R[n, tile column]ᵀ to a tile of A; A2 and R2 are their views 16 numbers wide."""
    one = R.dtype.type(1)
    a = np.uint64(TILE) * row
    zero = combine(one - one, load(R2, np.uint64(0), TILE), one - one, load(R2, np.uint64(0), TILE))
    s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
    s8, s9, s10, s11, s12, s13, s14, s15 = zero, zero, zero, zero, zero, zero, zero, zero
    for n in range(first, last):
        y = load(R2, n * blocks + column, TILE)
        s0 = combine(one, s0, R[n, a], y)
        s1 = combine(one, s1, R[n, a + np.uint64(1)], y)
        s2 = combine(one, s2, R[n, a + np.uint64(2)], y)
        s3 = combine(one, s3, R[n, a + np.uint64(3)], y)
        s4 = combine(one, s4, R[n, a + np.uint64(4)], y)
        s5 = combine(one, s5, R[n, a + np.uint64(5)], y)
        s6 = combine(one, s6, R[n, a + np.uint64(6)], y)
        s7 = combine(one, s7, R[n, a + np.uint64(7)], y)
        s8 = combine(one, s8, R[n, a + np.uint64(8)], y)
        s9 = combine(one, s9, R[n, a + np.uint64(9)], y)
        s10 = combine(one, s10, R[n, a + np.uint64(10)], y)
        s11 = combine(one, s11, R[n, a + np.uint64(11)], y)
        s12 = combine(one, s12, R[n, a + np.uint64(12)], y)
        s13 = combine(one, s13, R[n, a + np.uint64(13)], y)
        s14 = combine(one, s14, R[n, a + np.uint64(14)], y)
        s15 = combine(one, s15, R[n, a + np.uint64(15)], y)
    place = a * blocks + column
    for s in (s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15):
        store(A2, place, combine(one, load(A2, place, TILE), sign, s))
        place += blocks


@inlined
def add_gram(R, R2, blocks, count, A2):
    """Add Rᵀ R of the first ``count`` rows to the upper triangle of A."""
    for row in range(blocks):
        for column in range(row, blocks):
            _add_tile(R, R2, blocks, np.uint64(0), count, row, column, A2, R.dtype.type(1))


@inlined
def cholesky(A, A2, blocks, tiles, inverse):
    """The upper triangle of A becomes U with A = Uᵀ U; ``inverse`` gets 1 / diagonal.

    An unknown whose pivot is lost in the rounding of its diagonal element is as good as decided by those before it: it
    gets 0 in ``inverse`` and U, and so in what `substitute` solves for, where the square root would have no value.
    """
    one = A.dtype.type(1)
    for i in range(tiles * np.uint64(TILE)):
        inverse[i] = A[i, i]
    for row in range(tiles):
        a = row * np.uint64(TILE)
        for column in range(row, tiles):
            _add_tile(A, A2, blocks, np.uint64(0), a, row, column, A2, -one)
        for i in range(a, a + np.uint64(TILE)):
            pivot = A[i, i]
            for j in range(a, i):
                pivot -= A[j, i] * A[j, i]
            inverse[i] = one - one if pivot < ROUNDING * inverse[i] else one / np.sqrt(pivot)
            for column in range(row, tiles):
                place = i * blocks + column
                line = load(A2, place, TILE)
                for j in range(a, i):
                    line = combine(one, line, -A[j, i], load(A2, j * blocks + column, TILE))
                store(A2, place, combine(inverse[i], line, one - one, line))


@inlined
def substitute(A, inverse, size, b):
    """Solve Uᵀ U x = b in place."""
    for i in range(size):
        y = b[i] * inverse[i]
        b[i] = y
        for j in range(i + np.uint64(1), size):
            b[j] -= A[i, j] * y
    for i in range(size - np.uint64(1), np.uint64(0) - np.uint64(1), np.uint64(0) - np.uint64(1)):
        s = b[i]
        for j in range(i + np.uint64(1), size):
            s -= A[i, j] * b[j]
        b[i] = s * inverse[i]
