"""How far predicted ratings are off, and how sure one can be of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.errors import DataError
from hatrix.evaluation.tally import Errors, Means, Tally, mean_and_reach
from hatrix.models import SEED

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["Errors", "bootstrap", "errors", "mae", "mse", "rmse", "sliced"]

CELLS = 1 << 20
"""Pairs of a slice and a user are numbered through, unless they are more than that and most of them empty."""


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
    means = Means()
    means.add(error)
    return means.errors


def _difference(actual: ArrayLike, predicted: ArrayLike) -> Floats:
    actual, predicted = np.asarray(actual, np.float64), np.asarray(predicted, np.float64)
    if actual.shape != predicted.shape or not actual.size:
        raise DataError(
            f"actual has shape {actual.shape} and predicted {predicted.shape}: give as many of each, at least one"
        )
    difference: Floats = predicted - actual
    return difference


def bootstrap(
    error: Floats, user: NDArray[Any], *, draws: int = 1000, confidence: float = 0.95, seed: int = SEED
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
    tally = Tally(np.bincount(user))
    tally.add(error, user)
    return tally.intervals(draws=draws, confidence=confidence, seed=seed)


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
    cells = np.arange(parts * users)
    if len(cells) > max(CELLS, len(cell)):
        cells, cell = np.unique(cell, return_inverse=True)
    of, count = cells // users, np.bincount(cell, minlength=len(cells))

    def estimated(x: Floats) -> tuple[Floats, Floats]:
        return mean_and_reach(np.bincount(cell, x, len(cells)), count, of, parts, confidence)

    square, square_reach = estimated(error**2)
    bias, bias_reach = estimated(error)
    absolute, _ = estimated(np.abs(error))
    return Slices(
        np.bincount(of, count, parts).astype(np.int64),
        np.sqrt(square),
        np.sqrt(np.maximum(square - square_reach, 0.0)),
        np.sqrt(square + square_reach),
        absolute,
        bias,
        bias - bias_reach,
        bias + bias_reach,
    )
