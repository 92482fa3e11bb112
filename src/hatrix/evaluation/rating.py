"""How far predicted ratings are off, and how sure one can be of that.

The ratings of one person resemble each other, so intervals treat the users as what was sampled, never the single
ratings: they are wider, and honest.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Errors", "bootstrap", "errors", "mae", "mse", "rmse", "sliced"]

FEWEST_USERS = 10
"""Below so many users the bootstrap draws single ratings: too few users to resample."""

DRAWS_AT_ONCE = 1 << 24


class Errors(NamedTuple):
    """Mean squared error, its root, and mean absolute error."""

    mse: float
    rmse: float
    mae: float


def mse(actual: Floats, predicted: Floats) -> float:
    """Mean squared error, ``Σ (predicted - actual)² / n``, in squared units of the rating.

    Examples
    --------
    >>> mse(np.array([4.0, 2.0]), np.array([3.0, 2.0]))
    0.5
    """
    return float(np.mean((predicted - actual) ** 2))


def rmse(actual: Floats, predicted: Floats) -> float:
    """Root mean squared error, ``√mse``, in units of the rating."""
    return float(np.sqrt(mse(actual, predicted)))


def mae(actual: Floats, predicted: Floats) -> float:
    """Mean absolute error, ``Σ |predicted - actual| / n``, in units of the rating."""
    return float(np.mean(np.abs(predicted - actual)))


def errors(error: Floats) -> Errors:
    """All three of ``error = predicted - actual``."""
    square = float(np.mean(error**2))
    return Errors(square, float(np.sqrt(square)), float(np.mean(np.abs(error))))


def bootstrap(
    error: Floats, user: NDArray[np.int64], *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of mse, rmse and mae over users drawn with replacement.

    Each draw takes as many users as there are, with all their ratings, and computes the metrics from sums per
    user, so its cost does not depend on the number of ratings. With fewer than 10 users it draws ratings.

    Parameters
    ----------
    error
        ``predicted - actual``, length n.
    user
        Whose rating each is: numbers from 0, or -1 for unknown users, which count as one.

    Returns
    -------
    dict
        ``{"mse": (low, high), "rmse": ..., "mae": ...}``.

    Notes
    -----
    Cluster bootstrap: Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8.
    """
    _, group = np.unique(user, return_inverse=True)
    if group.max() + 1 < FEWEST_USERS:
        group = np.arange(len(error))
    sums = np.column_stack(
        [np.bincount(group, error**2), np.bincount(group, np.abs(error)), np.bincount(group)]
    )
    groups, rng = len(sums), np.random.default_rng(seed)
    means = np.empty((draws, 2))
    at_once = max(1, DRAWS_AT_ONCE // groups)
    for first in range(0, draws, at_once):
        several = min(at_once, draws - first)
        drawn = rng.integers(0, groups, (several, groups))
        drawn += np.arange(several)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=several * groups).reshape(several, groups)
        total = times.astype(np.float64) @ sums
        means[first : first + several] = total[:, :2] / total[:, 2:]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    square = float(low[0]), float(high[0])
    return {
        "mse": square,
        "rmse": (float(np.sqrt(square[0])), float(np.sqrt(square[1]))),
        "mae": (float(low[1]), float(high[1])),
    }


@dataclass(frozen=True, eq=False)
class Slices:
    """Figures of each slice, arrays of one length; an interval is NaN where a slice has a single user."""

    count: NDArray[np.int64]
    rmse: Floats
    rmse_low: Floats
    rmse_high: Floats
    mae: Floats
    bias: Floats
    bias_low: Floats
    bias_high: Floats


def sliced(
    error: Floats, user: NDArray[np.int64], part: NDArray[np.int64], parts: int, *, confidence: float = 0.95
) -> Slices:
    """Error and bias of each slice, ``part`` naming the slice of a rating.

    Intervals are normal, with the variance of a ratio of sums over users: for the mean of x in a slice with sums
    ``x_u`` and counts ``n_u``, ``Σ (x_u - mean n_u)² U / (U - 1) / n²``.
    """
    owner = user - min(0, int(user.min(initial=0)))
    users = int(owner.max(initial=0)) + 1
    cell = part * users + owner
    count = np.bincount(cell, minlength=parts * users).reshape(parts, users)
    n = count.sum(axis=1)
    sampled = (count > 0).sum(axis=1)
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def mean_and_reach(x: Floats) -> tuple[Floats, Floats]:
        sums = np.bincount(cell, x, parts * users).reshape(parts, users)
        mean = sums.sum(axis=1) / n
        spread = ((sums - mean[:, None] * count) ** 2).sum(axis=1)
        reach = np.full(parts, np.nan)
        several = sampled > 1
        scale = sampled[several] / (sampled[several] - 1)
        reach[several] = z * np.sqrt(spread[several] * scale) / n[several]
        return mean, reach

    with np.errstate(invalid="ignore", divide="ignore"):
        square, square_reach = mean_and_reach(error**2)
        bias, bias_reach = mean_and_reach(error)
        absolute, _ = mean_and_reach(np.abs(error))
    return Slices(
        n,
        np.sqrt(square),
        np.sqrt(np.maximum(square - square_reach, 0.0)),
        np.sqrt(square + square_reach),
        absolute,
        bias,
        bias - bias_reach,
        bias + bias_reach,
    )
