"""What was held out of each user, and where it stands among the items that the user could have been shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["HeldOut", "Ranked", "Ranker", "held_out"]

PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class HeldOut:
    """Relevant items of each user evaluated: ``item[start[n]:start[n + 1]]`` of user ``users[n]``, sorted.

    ``relevant`` counts them with those that the model does not know, and ``left_out`` what cannot be evaluated.
    """

    users: NDArray[np.int64]
    start: NDArray[np.int64]
    item: NDArray[np.int32]
    relevant: NDArray[np.int64]
    left_out: dict[str, int]

    @property
    def owner(self) -> NDArray[np.int64]:
        """For each item, the number of its user among those evaluated."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.start))


class Ranked(NamedTuple):
    """The best items of each user evaluated, and the share of pairs in the right order."""

    lists: NDArray[np.int32]
    auc: NDArray[np.float64]


def held_out(model: FactorModel, test: Ratings, relevant_from: float | None) -> HeldOut:
    """Sort the relevant test rows by the model's users and items.

    Raises
    ------
    DataError
        If there are none of users that the model knows.
    ParameterError
        If a threshold is asked of events without a value.
    """
    from hatrix.kernels.topk import rows_of

    if relevant_from is not None:
        if test.implicit:
            raise ParameterError("relevant_from needs ratings, and the test data are events without a value")
        test = test.take(test.value >= relevant_from)
    user, item = model.rows_of(test)
    known = user >= 0
    users, row = np.unique(user[known], return_inverse=True)
    if not len(users):
        raise DataError(
            "no user is left to evaluate: the test part has no relevant items of users that the model knows"
        )
    relevant = np.bincount(row)
    there = item[known] >= 0
    start, place = rows_of(row[there], item[known][there], len(users))
    left_out = {
        "unknown_users": len(np.unique(test.user[~known])),
        "unknown_items": len(np.unique(test.item[item < 0])),
        "cold_users": int(np.count_nonzero(model.user_count[users] == 0)),
    }
    return HeldOut(users, start, place, relevant, left_out)


class Ranker:
    """Ranks what was held out of some users among other items."""

    def __init__(
        self, model: FactorModel, held: HeldOut, *, exclude_seen: bool, threads: int, memory: int
    ) -> None:
        from hatrix.kernels.topk import some_rows

        flat = model.flat
        dtype = np.result_type(flat.user_factors, flat.item_factors)
        self.model, self.held, self.threads, self.memory = model, held, threads, memory
        self.user_factors = np.ascontiguousarray(flat.user_factors[held.users], dtype)
        self.item_factors = np.ascontiguousarray(flat.item_factors, dtype)
        self.item_bias = np.ascontiguousarray(flat.item_bias, dtype)
        self.seen = None
        if exclude_seen and model.seen is not None:
            self.seen = some_rows(model.seen.start, model.seen.item, held.users)

    def among_all(self, k: int) -> Ranked:
        """Among all items, those of the training part excepted."""
        from hatrix.kernels.ranks import ranks

        start, item, owner, n_items = self.held.start, self.held.item, self.held.owner, len(self.item_factors)
        lists, above, same = ranks(
            self.user_factors, self.item_factors, self.item_bias, k, start, item, seen=self.seen,
            threads=self.threads, memory=self.memory,
        )  # fmt: skip
        candidate = above >= 0
        candidates = np.full(len(self.held.users), n_items)
        if self.seen is not None:
            candidates -= np.diff(self.seen[0])
        return Ranked(lists, self._auc(above[candidate], same[candidate], owner[candidate], candidates))

    def among_drawn(self, k: int, negatives: int, rng: np.random.Generator) -> Ranked:
        """Among so many items of each user, drawn from what is in neither part."""
        barred = _cells((self.held.start, self.held.item), len(self.item_factors))
        if self.seen is not None:
            barred = np.union1d(barred, _cells(self.seen, len(self.item_factors)))
        owner, item = np.divmod(barred, len(self.item_factors))
        ends = np.searchsorted(owner, np.arange(len(self.held.users) + 1))
        drawn = []
        for first, last in pairwise(ends.tolist()):
            taken = item[first:last]
            free = len(self.item_factors) - len(taken)
            one = rng.choice(free, min(negatives, free), replace=False)
            # The x-th free item is x plus the number of taken ones before it.
            drawn.append(one + np.searchsorted(taken - np.arange(len(taken)), one, "right"))
        start = np.concatenate([[0], np.cumsum([len(one) for one in drawn])])
        return self._among(k, np.repeat(np.arange(len(drawn)), np.diff(start)), np.concatenate(drawn))

    def among_given(self, k: int, negatives: Ratings) -> Ranked:
        """Among the items that each user has in ``negatives``; a DataError where nobody has any."""
        user, item = self.model.rows_of(negatives)
        place = np.full(len(self.model.users) + 1, -1)
        place[self.held.users] = np.arange(len(self.held.users))
        owner = place[user]
        kept = (owner >= 0) & (item >= 0)
        cells = owner[kept] * len(self.item_factors) + item[kept]
        cells = np.setdiff1d(cells, _cells((self.held.start, self.held.item), len(self.item_factors)))
        if not len(cells):
            raise DataError(
                "no user evaluated has a negative that the model knows: are the ids of the negatives those of the data?"
            )
        return self._among(k, *np.divmod(cells, len(self.item_factors)))

    def _among(self, k: int, owner: NDArray[np.int64], item: NDArray[np.int64]) -> Ranked:
        """Rank the held-out items among others, given as pairs."""
        users, n_held = len(self.held.users), len(self.held.item)
        owner = np.concatenate([self.held.owner, owner])
        item = np.concatenate([self.held.item, item])
        score = np.empty(len(item), self.user_factors.dtype)
        for first in range(0, len(item), PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            rows = self.user_factors[owner[part]], self.item_factors[item[part]]
            score[part] = np.einsum("nk,nk->n", *rows) + self.item_bias[item[part]]
        order = np.lexsort((item, -score, owner))
        owner_, score_ = owner[order], score[order]
        begin = np.searchsorted(owner_, np.arange(users))[owner_]
        fresh = np.ones(len(order), bool)
        fresh[1:] = (owner_[1:] != owner_[:-1]) | (score_[1:] != score_[:-1])
        first_of_run = np.flatnonzero(fresh)
        run = np.cumsum(fresh) - 1
        above, same = np.empty((2, len(order)), np.int64)
        above[order] = first_of_run[run] - begin
        same[order] = np.diff(first_of_run, append=len(order))[run] - 1
        lists = np.full((users, k), -1, np.int32)
        rank = np.arange(len(order)) - begin
        shown = rank < k
        lists[owner_[shown], rank[shown]] = item[order][shown]
        candidates = np.bincount(owner, minlength=users)
        return Ranked(lists, self._auc(above[:n_held], same[:n_held], self.held.owner, candidates))

    def _auc(
        self,
        above: NDArray[np.int64],
        same: NDArray[np.int64],
        owner: NDArray[np.int64],
        candidates: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Share of pairs of a relevant and another candidate in the right order, ties half.

        Relevant items that are unknown or no candidates lose all their pairs.
        """
        known = np.bincount(owner, minlength=len(candidates))
        others = candidates - known
        # Of the candidates above or level with a relevant item, some are relevant themselves: over all pairs of
        # those, every pair is counted once, wherever it stands.
        lost = np.bincount(owner, above + same / 2, len(candidates)) - known * (known - 1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            auc = (known * others - lost) / (self.held.relevant * others)
        return np.where(others > 0, auc, np.nan)


def _cells(rows: tuple[NDArray[np.int64], NDArray[np.int32]], width: int) -> NDArray[np.int64]:
    start, item = rows
    return np.asarray(np.repeat(np.arange(len(start) - 1), np.diff(start)) * width + item)
