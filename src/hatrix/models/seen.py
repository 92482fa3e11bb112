"""The training rows that a model keeps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix.data.disk import let_go

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["Seen"]

CELLS_AT_ONCE = 1 << 24


class Seen(NamedTuple):
    """The training rows by user: user u rated ``item[start[u]:start[u + 1]]`` with ``value`` there."""

    start: NDArray[np.int64]
    item: NDArray[np.int32]
    value: NDArray[np.float64]

    @classmethod
    def from_ratings(cls, train: Ratings, *, threads: int = 1) -> Seen:
        """Ratings by user: of those on disk, arrays on disk."""
        if train.disk is not None:
            from hatrix.models import regions

            columns = (np.int32, lambda part: train.item[part]), (np.float64, lambda part: train.value[part])
            start, (item, value) = regions.grouped(train, "user", columns, threads=threads)
            return cls(start, item, value)
        start, rows = train.by_user
        return cls(start, train.item[rows], train.value[rows])

    @property
    def user(self) -> NDArray[np.int32]:
        """The user of each row."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), np.diff(self.start))

    def of(self, user: int) -> slice:
        """The rows of a user."""
        return slice(self.start[user], self.start[user + 1])

    def has(self, user: NDArray[np.int64], item: NDArray[np.int64], n_items: int) -> NDArray[np.bool_]:
        """Which pairs of row numbers (-1 unknown) are in the training rows."""
        start, users = self.start, len(self.start) - 1
        order = np.argsort(user, kind="stable")
        at_once = min(users, max(1, CELLS_AT_ONCE // n_items))
        firsts = range(0, users, at_once)
        ends = np.searchsorted(user, [*firsts, users], sorter=order)
        found, marked = np.zeros(len(user), bool), np.zeros(at_once * n_items, bool)
        for first, asked in zip(firsts, itertools.pairwise(ends), strict=True):
            rows = order[slice(*asked)]
            rows = rows[item[rows] >= 0]
            if len(rows):
                last = min(first + at_once, users)
                owner = np.repeat(np.arange(last - first), np.diff(start[first : last + 1]))
                cells = owner * n_items + self.item[start[first] : start[last]]
                marked[cells] = True
                found[rows] = marked[(user[rows] - first) * n_items + item[rows]]
                marked[cells] = False
                let_go(self.item, slice(start[first], start[last]))
        return found
