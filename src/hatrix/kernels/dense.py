"""Tall blocks (many rows, few columns): products by BLAS, in chunks of rows that our own threads share.

BLAS itself runs on one thread meanwhile: how it divides work among its own, and so its rounding, depends on their
number. The chunks depend on the shape alone, and their results are added in order.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.schedule import workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw", "gram", "one_blas_thread", "rotate"]

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


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS at one thread until the last of those who asked for it (in any thread) is done."""
    hold = _hold()
    with hold.lock:
        if hold.users == 0:
            hold.begin()
        hold.users += 1
    try:
        yield
    finally:
        with hold.lock:
            hold.users -= 1
            if hold.users == 0:
                hold.end()


class _Hold:
    """The limit that all callers share: who leaves last lifts it, whoever set it."""

    def __init__(self) -> None:
        from threadpoolctl import OpenBLASController, ThreadpoolController

        self.libraries: Any = ThreadpoolController()
        # From 3.7 on, threadpoolctl obeys one thread at a time unless told to forget it.
        self.forget: Any = getattr(OpenBLASController, "clear_controlling_thread", lambda **_: None)
        self.lock, self.users = threading.Lock(), 0

    def begin(self) -> None:
        self.forget(force=True)
        self.limit: Any = self.libraries.limit(limits=1, user_api="blas")

    def end(self) -> None:
        self.forget(force=True)
        self.limit.restore_original_limits()
        self.forget(force=True)


@lru_cache
def _hold() -> _Hold:
    return _Hold()
