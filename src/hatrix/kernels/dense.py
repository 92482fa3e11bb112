"""Tall blocks (many rows, few columns): products by BLAS, in chunks of rows that our own threads share.

BLAS itself runs on one thread meanwhile: how it divides work among its own, and so its rounding, depends on their
number. The chunks depend on the shape alone, and their results are added in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.kernels.schedule import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw", "gram", "rotate"]

CHUNK = 4096


def draw(rows: int, columns: int, *, seed: tuple[int, ...], threads: int) -> NDArray[np.float32]:
    """Numbers drawn evenly from -1/2 to 1/2, a generator for each chunk of rows."""
    out = np.empty((rows, columns), np.float32)

    def chunk(first: int) -> None:
        part = out[first : first + CHUNK]
        np.random.default_rng((*seed, first)).random(dtype=np.float32, out=part)
        part -= np.float32(0.5)

    with workers(threads) as pool:
        for _ in pool.map(chunk, range(0, rows, CHUNK)):
            pass
    return out


def gram(Y: NDArray[np.float32], *, threads: int) -> NDArray[np.float64]:
    """``Y.T @ Y``, each chunk of rows in single precision, their sum in double."""

    def chunk(first: int) -> NDArray[np.float32]:
        part = Y[first : first + CHUNK]
        return part.T @ part

    total = np.zeros((Y.shape[1], Y.shape[1]))
    with one_blas_thread(), workers(threads) as pool:
        for part in pool.map(chunk, range(0, len(Y), CHUNK)):
            total += part
    return total


def rotate(Y: NDArray[np.float32], W: NDArray[np.float32], out: NDArray[np.float32], *, threads: int) -> None:
    """``out = Y @ W``; ``out`` may be ``Y``."""

    def chunk(first: int) -> None:
        out[first : first + CHUNK] = Y[first : first + CHUNK] @ W

    with one_blas_thread(), workers(threads) as pool:
        for _ in pool.map(chunk, range(0, len(Y), CHUNK)):
            pass
