"""The bias of what a user rates on one day: drawn with the rest of a posterior, and looked up to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError
from hatrix.models import hyperpriors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["DAY", "Rated", "UserDays", "rated_days"]

DAY = 86_400


class UserDays(NamedTuple):
    """The bias of what a user rates on one day: ``bias``, shape (days, S), is added to the score of the S draws.

    ``day[start[u]:start[u + 1]]`` are the days of user u (whole ones since 1970, UTC), in order. On any other day, the
    bias is normal around zero with the standard deviation ``spread``, shape (S,).
    """

    start: NDArray[np.int64]
    day: NDArray[np.int64]
    bias: NDArray[Any]
    spread: NDArray[np.float64]

    def find(self, user: NDArray[np.int64], times: NDArray[Any] | None) -> NDArray[np.int64]:
        """The row of ``bias`` for each user, who may be -1, and time; -1 where there is none, and without times."""
        if times is None or not len(self.day):
            return np.full(len(user), -1, np.int64)
        day = np.floor_divide(times, DAY)
        # Each in the days of its user, all at once, so that no table of all days is made. The days of -1 run from the
        # end to the start: they are none.
        low, high = self.start[user], self.start[user + 1]
        end = high
        while (low < high).any():
            middle = (low + high) // 2
            before = self.day[np.minimum(middle, len(self.day) - 1)] < day
            low, high = np.where(before & (low < high), middle + 1, low), np.where(before, high, middle)
        at = np.minimum(low, len(self.day) - 1)
        return np.where((low < end) & (self.day[at] == day), low, -1)

    def without(self, user: int) -> UserDays:
        """The same without the days of one user, and without the user."""
        first, last = int(self.start[user]), int(self.start[user + 1])
        start = np.delete(self.start, user + 1)
        start[user + 1 :] -= last - first
        theirs = slice(first, last)
        return UserDays(start, np.delete(self.day, theirs), np.delete(self.bias, theirs, axis=0), self.spread)

    def placed(self, place: NDArray[np.int64], users: int) -> UserDays:
        """The same where the users have moved to ``place``, in their order, among so many; the others have no days."""
        count = np.zeros(users, np.int64)
        count[place] = np.diff(self.start)
        return self._replace(start=np.concatenate([[0], np.cumsum(count)]))

    def of_stranger(self) -> UserDays:
        """Those of a single user of whom no day is known."""
        return UserDays(np.zeros(2, np.int64), self.day[:0], self.bias[:0], self.spread)


class Rated(NamedTuple):
    """The days on which each user rated, those of user u from ``start[u]`` to ``start[u + 1]``, in order.

    Each has a ``day``, a ``user`` and a number of ``ratings``; rating n belongs to the one numbered ``of[n]``.
    """

    start: NDArray[np.int64]
    day: NDArray[np.int64]
    user: NDArray[np.int64]
    ratings: NDArray[np.int64]
    of: NDArray[np.int64]

    def draw(
        self,
        bias: NDArray[np.float32],
        rest: NDArray[np.float64],
        certain: NDArray[Any],
        rng: np.random.Generator,
    ) -> float:
        """Draw the precision of the biases given them, and then all of them, in place; returns their spread.

        The rest of rating n, what other terms leave of it, is normal around ``bias[of[n]]`` with the precision
        ``certain[u]`` of its user's ratings.
        """
        precision = hyperpriors.centred(bias.astype(np.float64), rng)
        weight = certain[self.user].astype(np.float64)
        posterior = precision + weight * self.ratings
        mean = weight * np.bincount(self.of, rest, len(self.day)) / posterior
        bias[:] = mean + rng.standard_normal(len(mean)) / np.sqrt(posterior)
        return float(precision**-0.5)


def rated_days(train: Ratings) -> Rated:
    """The days of each user's ratings."""
    if train.time is None:
        raise DataError("the field user_day needs ratings with a time, and these have none: leave it out")
    day = np.floor_divide(train.time, DAY)
    first = day.min()
    width = day.max() - first + 1
    cells, of, count = np.unique(
        train.user.astype(np.int64) * width + (day - first), return_inverse=True, return_counts=True
    )
    user = cells // width
    start = np.searchsorted(user, np.arange(len(train.users) + 1))
    return Rated(start, cells % width + first, user, count, of)
