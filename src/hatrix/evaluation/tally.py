"""Errors added up slice after slice: what the headline figures and their intervals need of any number of ratings.

The ratings of one person resemble each other, so intervals treat the users as what was sampled, never the single
ratings: they are wider, and honest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._threads import one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Errors", "Means", "Tally", "mean_and_reach", "resampled"]

FEWEST_USERS = 10
"""Fewer users are too few to resample."""

MOST_GROUPS = 1 << 14
"""The bootstrap draws from at most so many groups of whole users, so that its cost is bounded."""
MOST_DRAWS = 1_000_000
"""Maximum draws of a bootstrap."""

DRAWN_AT_ONCE = 1 << 20


class Errors(NamedTuple):
    """Mean squared error, its root, and mean absolute error."""

    mse: float
    rmse: float
    mae: float


def resampled(sums: Floats, draws: int, seed: int) -> Floats:
    """Totals of rows drawn with replacement, as many as there are, a line for each of so many draws."""
    groups, rng = len(sums), np.random.default_rng(seed)
    totals = np.empty((draws, sums.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // groups)
    with one_blas_thread():  # narrow products: more threads would wait for each other
        for first in range(0, draws, at_once):
            several = min(at_once, draws - first)
            drawn = rng.integers(0, groups, (several, groups))
            drawn += np.arange(several)[:, None] * groups
            times = np.bincount(drawn.ravel(), minlength=several * groups).reshape(several, groups)
            totals[first : first + several] = times.astype(np.float64) @ sums
    return totals


class Means:
    """Means of the squares and sizes of errors that come in slices, and the squares of what these are from them.

    Notes
    -----
    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, np.zeros(2), np.zeros(2)

    def add(self, error: Floats) -> None:
        """Take in some more errors."""
        sizes = np.square(error), np.abs(error)
        mean = np.array([size.mean() for size in sizes])
        gap, share = mean - self.mean, len(error) / (self.n + len(error))
        with np.errstate(over="ignore", invalid="ignore"):
            left = [np.square(size - at).sum() for size, at in zip(sizes, mean, strict=True)]
            self.squares += np.array(left) + gap**2 * self.n * share
        self.mean += gap * share
        self.n += len(error)

    @property
    def errors(self) -> Errors:
        """The figures of all errors so far."""
        square, size = self.mean.tolist()
        return Errors(square, float(np.sqrt(square)), size)


class Tally:
    """Errors summed by user, in groups of whole users where there are many.

    Parameters
    ----------
    count
        How many ratings of each user will come, by row number.
    """

    def __init__(self, count: NDArray[np.int64]) -> None:
        rated = count > 0
        self.users = int(np.count_nonzero(rated))
        self._group = (np.cumsum(rated) - 1) % MOST_GROUPS
        self._count = np.bincount(self._group[rated], count[rated])
        self._sums = np.zeros((2, len(self._count)))
        self._means = Means()

    def add(self, error: Floats, user: NDArray[Any]) -> None:
        """Take in the errors of some ratings, by these users."""
        self._means.add(error)
        group = self._group[user]
        for sums, size in zip(self._sums, (np.square(error), np.abs(error)), strict=True):
            sums += np.bincount(group, size, len(sums))

    @property
    def errors(self) -> Errors:
        """The figures of all errors so far."""
        return self._means.errors

    def intervals(self, *, draws: int, confidence: float, seed: int) -> dict[str, tuple[float, float]]:
        """See `hatrix.evaluation.rating.bootstrap`."""
        if self.users >= FEWEST_USERS:
            low, high = self._percentiles(draws, confidence, seed)
        else:
            if self.users > 1:
                one = np.zeros(self.users, np.int64)
                both = [mean_and_reach(sums, self._count, one, 1, confidence) for sums in self._sums]
                mean, reach = (np.concatenate(parts) for parts in zip(*both, strict=True))
            else:
                n = np.full(2, self._means.n)
                mean, reach = self._means.mean, _reach(self._means.squares, n, n, confidence)
            low, high = (np.maximum(mean + side * reach, 0.0).tolist() for side in (-1, 1))
        return {
            "mse": (low[0], high[0]),
            "rmse": (float(np.sqrt(low[0])), float(np.sqrt(high[0]))),
            "mae": (low[1], high[1]),
        }

    def _percentiles(self, draws: int, confidence: float, seed: int) -> tuple[list[float], list[float]]:
        """Ends of the intervals of the mean squared and the mean absolute error."""
        sums = np.column_stack([*self._sums, self._count])
        total = resampled(sums, draws, seed)
        means = total[:, :2] / total[:, 2:]
        tail = (1 - confidence) / 2
        low, high = np.quantile(means, [tail, 1 - tail], axis=0).tolist()
        return low, high


def mean_and_reach(
    sums: NDArray[Any], count: NDArray[np.int64], part: NDArray[np.int64], parts: int, confidence: float
) -> tuple[Floats, Floats]:
    """Mean of each part from the sums and counts of its users, and how far its interval reaches; NaN where unknown.

    ``part`` says of which part the ratings are that a sum is of.
    """
    n, sampled = (np.bincount(part, numbers, parts) for numbers in (count, count > 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(part, sums, parts) / n
        left = np.square(sums - mean[part] * count)
    return mean, _reach(np.bincount(part, left, parts), sampled, n, confidence)


def _reach(squares: NDArray[Any], sampled: NDArray[Any], n: NDArray[Any], confidence: float) -> Floats:
    """How far Student's interval of a mean of n numbers reaches, from the squares of so many sampled sums around it."""
    from scipy.special import stdtrit

    free = np.where(sampled > 1, sampled - 1, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(stdtrit(free, (1 + confidence) / 2) * np.sqrt(squares * sampled / free) / n)
