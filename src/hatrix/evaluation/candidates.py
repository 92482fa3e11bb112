"""What was held out of each user, and where it stands among the items that the user could have been shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix.data.disk import let_go
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError
from hatrix.models.recommend import ranking_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Rows = tuple[NDArray[np.int64], NDArray[np.int32]]

__all__ = ["HeldOut", "Ranked", "Ranker", "held_out"]

PAIRS_AT_ONCE = 1 << 16
BYTES_PER_ROW = 100
"""Of a held-out row, while it is put in order and looked for in the lists."""
BYTES_PER_SEEN = 40
"""Of a training row, while it is put in order and left out."""


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


def held_out(
    model: FactorModel, test: Ratings, relevant_from: float | None, bytes_per_user: int = 0
) -> HeldOut:
    """Sort the relevant test rows by the model's users and items.

    Raises
    ------
    DataError
        If there are none of users that the model knows, or, on disk, more than memory allows, of which each user takes some.
    ParameterError
        If a threshold is asked of events without a value.
    """
    from hatrix.kernels.topk import rows_of

    if relevant_from is not None:
        if test.implicit:
            raise ParameterError("relevant_from needs ratings, and the test data are events without a value")
        masks = ((part, test.value[part] >= relevant_from) for part in test.slices(test.value))
        test = test.chosen(masks)
    if test.disk is not None:
        room, takes = test.disk.room(), BYTES_PER_ROW * len(test)
        takes += bytes_per_user * int(np.count_nonzero(test.user_count))
        if takes > room:
            raise DataError(
                f"rankings of {len(test):,} held-out rows take {takes / 1e6:,.0f} MB, and {room / 1e6:,.0f} of the "
                f"{test.disk.memory / 1e6:,.0f} MB allowed are left: allow more, or hold out fewer"
            )
    user, item = model.rows_of(test)
    for column in test.columns:
        let_go(column, slice(None))
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
        self,
        model: FactorModel,
        held: HeldOut,
        *,
        exclude_seen: bool,
        threads: int,
        memory: int,
        room: int | None = None,
    ) -> None:
        self.model, self.held, self.threads, self.memory = model, held, threads, memory
        self.user_factors, self.item_factors, self.item_bias = ranking_rows(model, held.users)
        self.exclude_seen = exclude_seen and model.seen is not None
        seen = np.diff(model.seen.start)[held.users] if self.exclude_seen and model.seen else 0 * held.users
        total = np.append(0, np.cumsum(seen))
        self.ends = [0, len(held.users)]
        if room is not None:
            steps = np.arange(0, total[-1], max(1, room // BYTES_PER_SEEN))
            self.ends = np.unique([*np.searchsorted(total, steps), 0, len(held.users)]).tolist()

    def _blocks(self) -> Iterator[tuple[slice, Rows, Rows | None]]:
        """Blocks of users, the items held out of them, and those they have seen."""
        from hatrix.kernels.topk import some_rows

        start, item = self.held.start, self.held.item
        for first, last in pairwise(self.ends):
            part, seen = slice(first, last), None
            if self.exclude_seen and self.model.seen is not None:
                users, rows = self.held.users[part], self.model.seen
                seen = some_rows(rows.start, rows.item, users)
                let_go(rows.item, slice(rows.start[users[0]], rows.start[users[-1] + 1]))
            yield part, (start[first : last + 1] - start[first], item[start[first] : start[last]]), seen

    def among_all(self, k: int) -> Ranked:
        """Among all items, those of the training part excepted."""
        from hatrix.kernels.ranks import ranks

        users, n_items = len(self.held.users), len(self.item_factors)
        ranked = Ranked(np.empty((users, k), np.int32), np.empty(users))
        for part, held, seen in self._blocks():
            lists, above, same = ranks(
                self.user_factors[part], self.item_factors, self.item_bias, k, *held, seen=seen,
                threads=self.threads, memory=self.memory,
            )  # fmt: skip
            candidate = above >= 0
            candidates = np.full(len(lists), n_items)
            if seen is not None:
                candidates -= np.diff(seen[0])
            owner = np.repeat(np.arange(len(lists)), np.diff(held[0]))[candidate]
            relevant = self.held.relevant[part]
            ranked.lists[part] = lists
            ranked.auc[part] = _auc(above[candidate], same[candidate], owner, candidates, relevant)
        return ranked

    def among_drawn(self, k: int, negatives: int, rng: np.random.Generator) -> Ranked:
        """Among so many items of each user, drawn from what is in neither part."""
        n_items, drawn = len(self.item_factors), []
        for _, held, seen in self._blocks():
            barred = _cells(held, n_items)
            if seen is not None:
                barred = np.union1d(barred, _cells(seen, n_items))
            owner, item = np.divmod(barred, n_items)
            ends = np.searchsorted(owner, np.arange(len(held[0])))
            for first, last in pairwise(ends.tolist()):
                taken = item[first:last]
                free = n_items - len(taken)
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
        held = self.held
        return Ranked(lists, _auc(above[:n_held], same[:n_held], held.owner, candidates, held.relevant))


def _auc(
    above: NDArray[np.int64],
    same: NDArray[np.int64],
    owner: NDArray[np.int64],
    candidates: NDArray[np.int64],
    relevant: NDArray[np.int64],
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
        auc = (known * others - lost) / (relevant * others)
    return np.where(others > 0, auc, np.nan)


def _cells(rows: tuple[NDArray[np.int64], NDArray[np.int32]], width: int) -> NDArray[np.int64]:
    start, item = rows
    return np.asarray(np.repeat(np.arange(len(start) - 1), np.diff(start)) * width + item)
