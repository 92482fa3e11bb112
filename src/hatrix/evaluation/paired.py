"""Whether one model is better than another on the same test part, or was lucky.

Both are measured on the same users, so the test is on the differences of each user: what is easy for both, or hard for
both, falls out. Users are what was sampled, as in every interval of hatrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix._threads import one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Difference", "Sums", "compared", "holm"]


class Sums(NamedTuple):
    """What each user adds to a figure that is a mean, or the root of one, over all users.

    ``total`` has shape (users,): the sum of the user's squared errors, say, or the user's NDCG; ``numbers`` how many
    went into it, 0 for a user without any.
    """

    total: Floats
    numbers: Floats
    root: bool = False

    @property
    def figure(self) -> float:
        mean = self.total.sum() / self.numbers.sum()
        return float(np.sqrt(mean) if self.root else mean)

    def influence(self) -> Floats:
        """How far each user moves the figure: its derivative in the user's weight."""
        n, figure = self.numbers.sum(), self.figure
        if not self.root:
            return np.asarray((self.total - figure * self.numbers) / n)
        slope = 1 / (2 * figure) if figure > 0 else 0.0
        return np.asarray((self.total - figure**2 * self.numbers) * slope / n)


class Difference(NamedTuple):
    """``first - second`` with its interval, and the chance of one as large where there is none."""

    value: float
    low: float
    high: float
    p: float


@one_blas_thread()
def compared(first: Sums, second: Sums, *, confidence: float = 0.95) -> Difference:
    """Test the difference of two figures of the same users: Student's paired t-test over users.

    With ``v_u`` the difference of the influences of user u on the two figures and U users, the standard error of the
    difference D is ``√(U / (U - 1) Σ v_u²)``, and D over it is compared with Student's t of U - 1 degrees of freedom.
    For figures that are plain means over users (NDCG) this is the paired t-test of the textbook; for ratios of
    sums (MSE, MAE) and their roots (RMSE) it is the same test on the linearised figure.

    Parameters
    ----------
    first, second
        Sums of the same users in the same order; users without a number in either are left out.
    confidence
        Coverage of the interval.

    Returns
    -------
    Difference
        The interval and p are NaN for a single user. Equal models have p = 1.

    Notes
    -----
    Smucker, Allan, Carterette, "A comparison of statistical significance tests for information retrieval evaluation",
    CIKM 2007; ratios: Särndal, Swensson, Wretman, "Model assisted survey sampling", 1992, section 5.6.

    Examples
    --------
    >>> count = np.ones(4)
    >>> result = compared(Sums(np.array([0.4, 0.5, 0.3, 0.6]), count), Sums(np.array([0.3, 0.3, 0.2, 0.5]), count))
    >>> round(result.value, 3), round(result.p, 4)
    (0.125, 0.0154)
    """
    from scipy.special import stdtr, stdtrit

    both = (first.numbers > 0) & (second.numbers > 0)
    first, second = (Sums(one.total[both], one.numbers[both], one.root) for one in (first, second))
    users = int(both.sum())
    if not users:
        return Difference(np.nan, np.nan, np.nan, np.nan)
    value = first.figure - second.figure
    if users < 2:
        return Difference(value, np.nan, np.nan, np.nan)
    move = first.influence() - second.influence()
    error = float(np.sqrt(users / (users - 1) * (move @ move)))
    if error <= 1e-12 * abs(first.figure):  # the same predictions, or all users differ by the same
        return Difference(value, value, value, 1.0 if abs(value) <= 1e-12 * abs(first.figure) else 0.0)
    reach = float(stdtrit(users - 1, (1 + confidence) / 2)) * error
    return Difference(value, value - reach, value + reach, float(2 * stdtr(users - 1, -abs(value) / error)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: with these, a level of 0.05 is the chance of even one false finding among all.

    NaN stays NaN and does not count.

    Notes
    -----
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, worst = [float("nan")] * len(p), 0.0
    tested = sorted((value, place) for place, value in enumerate(p) if not np.isnan(value))
    for done, (value, place) in enumerate(tested):
        worst = max(worst, min(1.0, value * (len(tested) - done)))
        corrected[place] = worst
    return corrected
