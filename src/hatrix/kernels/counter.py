"""Random numbers from counters, for kernels; `hatrix._mixing` has the algorithm."""

from __future__ import annotations

from hatrix import _mixing
from hatrix._mixing import STRIDE
from hatrix.kernels.compile import inlined

__all__ = ["STRIDE", "mix"]

mix = inlined(_mixing.mix)
