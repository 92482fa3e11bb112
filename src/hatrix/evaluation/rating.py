"""How far predicted ratings are off, and how sure one can be of that.

The ratings of one person resemble each other, so intervals treat the users as what was sampled, never the single
ratings: they are wider, and honest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Errors", "bootstrap", "errors", "mae", "mse", "rmse", "sliced"]

FEWEST_USERS = 10
"""Fewer users are too few to resample."""

MOST_GROUPS = 1 << 14
"""The bootstrap draws from at most so many groups of whole users, so that its cost is bounded."""

DRAWN_AT_ONCE = 1 << 20


class Errors(NamedTuple):
    """Mean squared error, its root, and mean absolute error."""

    mse: float
    rmse: float
    mae: float


def mse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error, ``Σ (predicted - actual)² / n``, in squared units of the rating.

    Examples
    --------
    >>> mse([4.0, 2.0], [3.0, 2.0])
    0.5
    """
    return errors(_difference(actual, predicted)).mse


def rmse(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean squared error, ``√mse``, in units of the rating."""
    return errors(_difference(actual, predicted)).rmse


def mae(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, ``Σ |predicted - actual| / n``, in units of the rating."""
    return errors(_difference(actual, predicted)).mae


def errors(error: Floats) -> Errors:
    """All three of ``error = predicted - actual``."""
    square = float(np.mean(error**2))
    return Errors(square, float(np.sqrt(square)), float(np.mean(np.abs(error))))


def _difference(actual: ArrayLike, predicted: ArrayLike) -> Floats:
    actual, predicted = np.asarray(actual, np.float64), np.asarray(predicted, np.float64)
    if actual.shape != predicted.shape or not actual.size:
        raise DataError(
            f"actual has shape {actual.shape} and predicted {predicted.shape}: give as many of each, at least one"
        )
    difference: Floats = predicted - actual
    return difference


def bootstrap(
    error: Floats, user: NDArray[Any], *, draws: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of mse, rmse and mae over users drawn with replacement.

    Each draw takes as many users as there are, with all their ratings, and computes the metrics from sums per
    user. Above 16,384 users, that many groups of users are drawn instead. Below 10 users the intervals are
    Student's, over users, or over the ratings of a single user.

    Parameters
    ----------
    error
        ``predicted - actual``, length n.
    user
        Whose rating each is: row numbers, length n.

    Returns
    -------
    dict
        ``{"mse": (low, high), "rmse": ..., "mae": ...}``; the ends are NaN for a single rating.

    Notes
    -----
    Cluster bootstrap: Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8.
    """
    group = (np.cumsum(np.bincount(user) > 0) - 1)[user]
    users = int(group.max()) + 1
    if users < FEWEST_USERS:
        group = group if users > 1 else np.arange(len(error))
        count = np.bincount(group)[None, :]
        ends = [_mean_and_reach(x, group, count, confidence) for x in (error**2, np.abs(error))]
        low, high = (
            [float(np.maximum(mean[0] + side * reach[0], 0.0)) for mean, reach in ends] for side in (-1, 1)
        )
    else:
        low, high = _percentiles(error, group % MOST_GROUPS, draws, confidence, seed)
    return {
        "mse": (low[0], high[0]),
        "rmse": (float(np.sqrt(low[0])), float(np.sqrt(high[0]))),
        "mae": (low[1], high[1]),
    }


def _percentiles(
    error: Floats, group: NDArray[np.int64], draws: int, confidence: float, seed: int
) -> tuple[list[float], list[float]]:
    """Ends of the intervals of the mean squared and the mean absolute error."""
    sums = np.column_stack(
        [np.bincount(group, error**2), np.bincount(group, np.abs(error)), np.bincount(group)]
    )
    groups, rng = len(sums), np.random.default_rng(seed)
    means = np.empty((draws, 2))
    at_once = max(1, DRAWN_AT_ONCE // groups)
    for first in range(0, draws, at_once):
        several = min(at_once, draws - first)
        drawn = rng.integers(0, groups, (several, groups))
        drawn += np.arange(several)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=several * groups).reshape(several, groups)
        total = times.astype(np.float64) @ sums
        means[first : first + several] = total[:, :2] / total[:, 2:]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0).tolist()
    return low, high


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
    error: Floats, user: NDArray[Any], part: NDArray[np.int64], parts: int, *, confidence: float = 0.95
) -> Slices:
    """Error and bias of each slice, ``part`` naming the slice of a rating.

    Intervals are Student's, with the variance of a ratio of sums over the U users of a slice: for the mean of x with
    sums ``x_u`` and counts ``n_u``, ``Σ (x_u - mean n_u)² U / (U - 1) / n²``, and U - 1 degrees of freedom.
    """
    users = int(user.max(initial=0)) + 1
    cell = part * users + user
    count = np.bincount(cell, minlength=parts * users).reshape(parts, users)
    square, square_reach = _mean_and_reach(error**2, cell, count, confidence)
    bias, bias_reach = _mean_and_reach(error, cell, count, confidence)
    absolute, _ = _mean_and_reach(np.abs(error), cell, count, confidence)
    return Slices(
        count.sum(axis=1),
        np.sqrt(square),
        np.sqrt(np.maximum(square - square_reach, 0.0)),
        np.sqrt(square + square_reach),
        absolute,
        bias,
        bias - bias_reach,
        bias + bias_reach,
    )


def _mean_and_reach(
    x: Floats, cell: NDArray[np.int64], count: NDArray[np.int64], confidence: float
) -> tuple[Floats, Floats]:
    """Mean of each row of the (parts, users) cells, and how far its interval reaches; NaN where unknown."""
    from scipy.special import stdtrit

    sums = np.bincount(cell, x, count.size).reshape(count.shape)
    n, sampled = count.sum(axis=1), (count > 0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=1) / n
        sums -= mean[:, None] * count
        free = np.where(sampled > 1, sampled - 1, np.nan)
        reach = stdtrit(free, (1 + confidence) / 2) * np.sqrt((sums**2).sum(axis=1) * sampled / free) / n
    return mean, reach
