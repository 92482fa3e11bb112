"""How kernels are compiled: the one place with compile flags, and the cache of compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

FAST_MATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""LLVM flags that may change the last bits, never whether a number is finite."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel: no GIL, no Python objects, IEEE division, fast math that keeps NaN and infinity."""
    return njit(nogil=True, error_model="numpy", fastmath=set(FAST_MATH), cache=False)(function)
