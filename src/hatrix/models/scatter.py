"""How far each user's ratings scatter: relative precisions with the prior Γ(ν/2, ν/2), and ν with one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FREEDOM", "Scatter"]

FREEDOM = np.geomspace(1, 200, 20)
"""What the degrees of freedom ν may be, each with the same prior probability."""


class Scatter:
    """The conditional draw for users with these counts of ratings."""

    def __init__(self, count: NDArray[np.int64]) -> None:
        from scipy.special import gammaln

        self.count = count
        sizes, users = np.unique(count, return_counts=True)
        half = FREEDOM[:, None] / 2
        own = len(count) * (half * np.log(half) - gammaln(half))[:, 0]
        # The part of each ν's log-likelihood that the numbers of ratings alone decide.
        self.fit = own + gammaln(half + sizes / 2) @ users

    def draw(self, square: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, NDArray[Any]]:
        """Draw ν with the relative precisions integrated out, and then these.

        ``square`` is each user's sum of squared errors times the common precision.
        """
        half = FREEDOM[:, None] / 2
        shape = half + self.count / 2
        fit = self.fit - (shape * np.log(half + square / 2)).sum(axis=1)
        chosen = int(np.argmax(fit + rng.gumbel(size=len(fit))))
        return FREEDOM[chosen], rng.gamma(shape[chosen]) / (FREEDOM[chosen] / 2 + square / 2)
