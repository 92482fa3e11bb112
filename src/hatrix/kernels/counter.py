"""Random numbers from counters: what is drawn depends on the counter alone, never on who draws."""

from __future__ import annotations

import numpy as np

from hatrix.kernels.compile import inlined

__all__ = ["STRIDE", "mix"]

STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""What splitmix64 adds to its counter at each step."""


@inlined
def mix(x):
    """splitmix64: a counter in, 64 random bits out."""
    x += STRIDE
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
