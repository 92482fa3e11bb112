"""Ordered probit: stars as the level of a hidden normal number.

A score s gives star l with probability ``Φ((cut_l - s) / d) - Φ((cut_{l-1} - s) / d)``, where cut_0 = -∞, the last is +∞
and d, the spread, is the standard deviation of the hidden number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["expected", "first_cuts", "latent", "move_cuts"]

WANTED = 0.3
"""Share of proposals to accept: near the best for a random walk in few dimensions."""


def expected(
    score: NDArray[Any], spread: NDArray[Any], cuts: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean star of each score."""
    from scipy.special import ndtr

    mean = np.full(len(score), levels[-1])
    for cut, gap in zip(cuts, np.diff(levels), strict=True):
        mean -= gap * ndtr((cut - score) / spread)
    return mean


def first_cuts(star: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """Cut points that give each star its share where all scores are 0."""
    from scipy.special import ndtri

    share = np.cumsum(np.bincount(star, minlength=levels))[:-1] / len(star)
    return np.asarray(ndtri(share))


def latent(
    score: NDArray[np.float64],
    spread: NDArray[Any],
    star: NDArray[np.int64],
    cuts: NDArray[np.float64],
    uniform: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Draw the hidden number of each rating, given its score and its star; of many draws, with rows of scores and cuts."""
    from scipy.special import ndtr, ndtri

    low, high, swap = _ends(score, spread, star, cuts)
    a, b = ndtr(low), ndtr(high)
    drawn = ndtri(np.maximum(a + (b - a) * uniform, 1e-300))
    drawn = np.clip(drawn, low, high)
    return np.asarray(score + spread * np.where(swap, -drawn, drawn))


def move_cuts(
    score: NDArray[np.float64],
    spread: NDArray[Any],
    star: NDArray[np.int64],
    cuts: NDArray[np.float64],
    stride: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], bool]:
    """A Metropolis step of the cut points with the hidden numbers integrated out; flat in log distances."""
    shape = np.concatenate([cuts[:1], np.log(np.diff(cuts))]) + stride * rng.standard_normal(len(cuts))
    proposed = np.cumsum(np.concatenate([shape[:1], np.exp(shape[1:])]))
    gain = _log_likelihood(score, spread, star, proposed) - _log_likelihood(score, spread, star, cuts)
    accepted = bool(np.log(rng.random()) < gain)
    return (proposed if accepted else cuts), accepted


def _log_likelihood(
    score: NDArray[np.float64], spread: NDArray[Any], star: NDArray[np.int64], cuts: NDArray[np.float64]
) -> float:
    from scipy.special import ndtr

    low, high, _ = _ends(score, spread, star, cuts)
    return float(np.log(np.maximum(ndtr(high) - ndtr(low), 1e-300)).sum())


def _ends(
    score: NDArray[np.float64], spread: NDArray[Any], star: NDArray[np.int64], cuts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Standardised ends of each star's interval, turned (see the flags) to the tail where more digits are left."""
    end = np.full((*cuts.shape[:-1], 1), np.inf)
    edges = np.concatenate([-end, cuts, end], axis=-1)
    low, high = (edges[..., star] - score) / spread, (edges[..., star + 1] - score) / spread
    swap = low > 0
    return np.where(swap, -high, low), np.where(swap, -low, high), swap
