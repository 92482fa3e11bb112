"""Random numbers from counters: the number depends on the counter alone, never on who draws it.

The function is plain Python. NumPy runs it on arrays, and `hatrix.kernels.counter` compiles it for kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["STRIDE", "mix"]

STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""The number that splitmix64 adds to its counter at each step."""


def mix(x: Any) -> Any:
    """Map a counter of type uint64 one to one to 64 random bits (splitmix64: Steele, Lea and Flood, 2014)."""
    x = x + STRIDE
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
