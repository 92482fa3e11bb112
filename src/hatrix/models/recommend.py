"""The best items of users: exactly n of them, or fewer with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._checks import is_number, whole, yes_or_no
from hatrix._threads import one_blas_thread
from hatrix.data.ids import as_column
from hatrix.errors import DataError, ParameterError
from hatrix.models.factors import Factors, TimeBlock
from hatrix.models.fit import thread_count
from hatrix.models.predictive import unknown_in

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

    Rows = tuple[NDArray[np.int64], NDArray[np.int32]]

__all__ = [
    "Lists",
    "TopN",
    "basis_of",
    "best",
    "recommend",
    "refuse_lists",
    "some_of",
    "whole",
    "with_attributes",
]

WHY = {
    "bias": "the item biases, since nothing is known of what the user likes",
    "popularity": "the popularity of the items, since nothing is known of what the user likes",
    "prior": "the prior of the model, since nothing is known of the user",
    "attributes": "the user's attributes, since nothing else is known",
}
"""What a list is ranked by that is not the user's own, by its name in ``attrs["fallback"]``."""

SCORES_AT_ONCE = 1 << 21
FEWEST_CODED, LONG = 1024, 8
"""Candidates from which codes pay, all in all and for each place of a list."""
MORE = 8
"""So many items more than n, and one more for so many of n, are taken by scores in single precision."""
NAMED = 5


class Lists(NamedTuple):
    """Row numbers and scores of the best items, shape (users, n), best first; -1 and -inf beyond ``length``."""

    items: NDArray[np.int32]
    scores: NDArray[np.float64]
    length: NDArray[np.int64]
    basis: list[str]


def recommend(
    model: FactorModel,
    user_id: Any,
    n: int = 10,
    *,
    exclude_seen: bool = True,
    among: Any = None,
    exclude: Any = None,
    where: str | None = None,
    risk: float | None = None,
) -> pd.DataFrame:
    """See `FactorModel.recommend`."""
    import pandas as pd

    single = np.ndim(user_id) == 0
    labels = as_column([user_id] if single else user_id)
    recommender = TopN.of(
        model, n, exclude_seen=exclude_seen, among=among, exclude=exclude, where=where, risk=risk
    )
    rows = model.users.encode(labels)
    lists = recommender.lists(rows)
    unknown = unknown_in("user", model.users, labels, rows)
    filled = np.arange(lists.items.shape[1]) < lists.length[:, None]
    item = lists.items[filled]
    columns: dict[str, Any] = {"item": model.items.decode(item), "score": lists.scores[filled]}
    if not single:
        users = pd.Series(np.repeat(labels, lists.length), dtype=object)
        with suppress(UnicodeEncodeError):  # a label that is not Unicode text stays an object of Python
            users = users.infer_objects()
        columns = {"user": users, **columns}
    frame = with_attributes(pd.DataFrame(columns), model.item_table, item)
    names = labels.tolist()
    frame.attrs |= {
        "n": recommender.n,
        "short": {
            name: recommender.shortage(int(length))
            for name, length in zip(names, lists.length, strict=True)
            if length < recommender.n
        },
        "fallback": {name: basis for name, basis in zip(names, lists.basis, strict=True) if basis != "model"},
        "warnings": [*recommender.warnings, *([] if unknown is None else [unknown])],
    }
    if risk is not None:
        frame.attrs["risk"] = risk
    return frame


@dataclass(frozen=True)
class TopN:
    """Ranks the candidates of any users of a model.

    ``candidates`` are item rows in ascending order, or None for all; ``seen`` are the training rows to leave out.
    """

    model: FactorModel
    n: int
    candidates: NDArray[np.int64] | None
    seen: Rows | None
    risk: float | None = None
    threads: int = 1
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        model: FactorModel,
        n: int,
        *,
        exclude_seen: bool,
        among: Any = None,
        exclude: Any = None,
        where: str | None = None,
        risk: float | None = None,
        threads: int | None = None,
    ) -> TopN:
        """Check what is asked for.

        Raises
        ------
        ParameterError
            If an argument is outside what is allowed.
        DataError
            If items that users have seen are to be left out, and the model file does not have them.
        """
        exclude_seen = yes_or_no("exclude_seen", exclude_seen)
        if exclude_seen and model.seen is None:
            raise DataError(
                "the model was saved without its training rows, so it is not known what users have seen: "
                "pass exclude_seen=False to let that be recommended too"
            )
        if risk is not None:
            if model.posterior is None:
                raise ParameterError(
                    f"risk={risk!r} needs a model with a posterior, such as BayesianMF with draws, and this is "
                    f"{model.recipe.name}"
                )
            if not is_number(risk) or not 0 < risk < 1:
                raise ParameterError(f"risk is {risk!r}: give a share between 0 and 1, such as 0.1")
        warnings: list[str] = []
        allowed = np.ones(len(model.items), bool)
        if among is not None:
            allowed[:] = False
            allowed[_known(model.items, among, "among", warnings)] = True
        if where is not None:
            from hatrix.models.where import rows_where

            allowed &= rows_where(model.item_table, where)
        if exclude is not None:
            allowed[_known(model.items, exclude, "exclude", warnings)] = False
        candidates = None if allowed.all() else np.flatnonzero(allowed)
        seen = (model.seen.start, model.seen.item) if exclude_seen and model.seen is not None else None
        return cls(model, whole("n", n), candidates, seen, risk, thread_count(threads), warnings)

    @one_blas_thread()
    def lists(self, rows: NDArray[np.int64]) -> Lists:
        """The best candidates of users given by row number, -1 for an unknown one."""
        model = self.model
        nobody = _is_nobody(model, rows)
        width = min(self.n, len(model.items) if self.candidates is None else len(self.candidates))
        items = np.full((len(rows), width), -1, np.int32)
        scores = np.full((len(rows), width), -np.inf)
        known = rows[~nobody]
        if len(known) and width:
            ranked = self._by_risk(known, width) if self.risk is not None else self._by_score(known, width)
            items[~nobody], scores[~nobody] = ranked
        basis, disliking = "model", dict[int, str]()
        if nobody.any():
            basis, found, of_found = self._for_nobody(width)
            items[nobody, : len(found)], scores[nobody, : len(found)] = found, of_found
            for at in np.flatnonzero(nobody & (rows >= 0) & (model.user_count[rows] > 0)):
                items[at], scores[at] = -1, -np.inf
                basis_of_one, found, of_found = self._for_nobody(width, int(rows[at]))
                disliking[int(at)] = basis_of_one
                items[at, : len(found)], scores[at, : len(found)] = found, of_found
        # A posterior has draws for users without ratings too: they are as its prior lets them be.
        labels = np.where(nobody, basis, np.where(model.user_count[rows] == 0, "prior", "model")).tolist()
        for place, own in disliking.items():
            labels[place] = own
        if model.bags and "prior" in labels:
            labels = _by_attributes(model, rows, labels)
        return Lists(items, scores, np.count_nonzero(items >= 0, axis=1), labels)

    def shortage(self, length: int) -> str:
        """Why a list has fewer than n items."""
        total = len(self.model.items)
        if self.candidates is None:
            pool, there = total, f"the model knows {total:,} items"
        else:
            pool, there = len(self.candidates), f"{len(self.candidates):,} of {total:,} items are allowed"
        seen = pool - length
        return f"{length} of {self.n}: {there}" + (
            f", and the user has seen {seen:,} of them" if seen else ""
        )

    def _by_score(self, rows: NDArray[np.int64], n: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        from hatrix.kernels import codes
        from hatrix.kernels.topk import some_rows

        flat, n_items = self.model.flat, len(self.model.items)
        seen = None if self.seen is None else some_rows(*self.seen, rows)
        pool = n_items if self.candidates is None else len(self.candidates)
        if not codes.available() or pool < max(FEWEST_CODED, n_items / 2, n * LONG):
            return self._by_product(rows, n, seen)
        allowed = None
        if self.candidates is not None:
            allowed = np.zeros(n_items, bool)
            allowed[self.candidates] = True
        level = flat.mean + flat.user_bias[rows].astype(np.float64)
        return codes.best_of_coded(
            self.model.coded, flat.user_factors[rows], flat.item_factors, flat.item_bias, n,
            level=level, seen=seen, allowed=allowed, threads=self.threads,
        )  # fmt: skip

    def _by_product(
        self, rows: NDArray[np.int64], n: int, seen: Rows | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """From all scores in the precision of the factors: for few candidates, long lists, and other processors."""
        from hatrix.kernels.topk import top_n

        flat = self.model.flat
        dtype = np.result_type(flat.user_factors, flat.item_factors, flat.item_bias)
        item_factors = np.ascontiguousarray(flat.item_factors, dtype)
        item_bias = np.ascontiguousarray(flat.item_bias, dtype)
        place = self.candidates
        if place is not None and 2 * len(place) < len(item_bias):
            item_factors, item_bias = item_factors[place], item_bias[place]
            seen = _renumbered(seen, place, len(flat.item_bias))
        elif place is not None:  # few are left out: no copy of the factors
            barred = np.full_like(item_bias, -np.inf)
            barred[place] = item_bias[place]
            item_bias, place = barred, None
        user_factors = flat.user_factors[rows].astype(dtype, copy=False)
        rounded = dtype != np.float64 and item_factors.shape[1] > 0
        # Of a few more than n, the worst tells how good, up to rounding, those left out can be.
        more = min(len(item_bias), n + MORE + n // MORE) if rounded else n
        items, rough = top_n(user_factors, item_factors, item_bias, more, seen=seen, threads=self.threads)
        if place is not None:
            items = np.where(items < 0, -1, place[items]).astype(np.int32)
        items, scores = _exactly(flat, rows, items)
        if more > n:
            worst = rough[:, -1].astype(np.float64)
            left_out = worst + _rounding(user_factors, item_factors, item_bias)
            left_out += flat.mean + flat.user_bias[rows]
            items, scores = items[:, :n].copy(), scores[:, :n].copy()
            doubtful = ~(scores[:, -1] > left_out) & (worst > -np.inf)
            if doubtful.any():
                items[doubtful], scores[doubtful] = self._by_all_scores(rows[doubtful], n)
        return items, scores

    def _by_all_scores(
        self, rows: NDArray[np.int64], n: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """From all scores in double precision: for users of whom single precision does not tell items apart."""
        flat, items = self.model.flat, np.full((len(rows), n), -1, np.int32)
        m, k = flat.item_factors.shape
        width, scores = max(1, SCORES_AT_ONCE // k), np.empty(m)
        for row, list_of_one in zip(rows, items, strict=True):
            for first in range(0, m, width):
                these = slice(first, first + width)
                factors = flat.item_factors[these].astype(np.float64)
                scores[these] = np.einsum("ik,k->i", factors, flat.user_factors[row].astype(np.float64))
            scores += flat.mean + float(flat.user_bias[row])
            scores += flat.item_bias
            if self.seen is not None:
                start, item = self.seen
                scores[item[start[row] : start[row + 1]]] = -np.inf
            found = best(scores, n, self.candidates)
            list_of_one[: len(found)] = found
        return _exactly(flat, rows, items)

    def _by_risk(self, rows: NDArray[np.int64], n: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        items, scores = np.full((len(rows), n), -1, np.int32), np.full((len(rows), n), -np.inf)
        draws, n_items = self.model.user_bias.shape[1], len(self.model.items)
        users = max(1, SCORES_AT_ONCE // (draws * n_items))
        width = max(1, SCORES_AT_ONCE // (draws * users))
        for first in range(0, len(rows), users):
            some = rows[first : first + users]
            ranked = np.empty((len(some), n_items))
            for begin in range(0, n_items, width):
                these = slice(begin, begin + width)
                ranked[:, these] = self._reduced(_by_draw(self.model.factors, some, these))
            for at, (row, quantiles) in enumerate(zip(some, ranked, strict=True), first):
                if self.seen is not None:
                    start, item = self.seen
                    quantiles[item[start[row] : start[row + 1]]] = -np.inf
                found = best(quantiles, n, self.candidates)
                items[at, : len(found)], scores[at, : len(found)] = found, quantiles[found]
        return items, scores

    def _reduced(self, by_draw: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of scores over their draws, the last axis, or the quantile asked for."""
        return by_draw.mean(axis=-1) if self.risk is None else np.quantile(by_draw, self.risk, axis=-1)

    def _for_nobody(self, n: int, row: int = -1) -> tuple[str, NDArray[np.int64], NDArray[np.float64]]:
        """Return what the list of a user without a ranking of their own is ranked by, and the list with its scores."""
        model, basis = self.model, basis_of(self.model, row)
        every = np.arange(len(model.items))
        if basis == "prior":
            scores = model.factors.over_draws(np.full(len(every), -1), every, None, self._reduced)
        elif basis == "bias":
            scores = model.fallback + model.flat.item_bias.astype(np.float64)
        else:
            scores = model.item_count.astype(np.float64)
        if row >= 0 and self.seen is not None:
            start, item = self.seen
            scores[item[start[row] : start[row + 1]]] = -np.inf
        found = best(scores, n, self.candidates)
        return basis, found, scores[found]


def basis_of(model: FactorModel, row: int) -> str:
    """What the list of a user row (-1 for nobody) is ranked by: ``"model"``, or a key of `WHY`."""
    if not _is_nobody(model, np.array([row]))[0]:
        return "model" if model.user_count[row] else "prior"
    if model.posterior is not None:
        return "prior"
    if row >= 0 and model.user_count[row]:  # a user who likes none of the items rated
        return "popularity"
    return "bias" if model.item_bias.any() else "popularity"


def ranking_rows(
    model: FactorModel, users: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return factors of some user rows, factors of all items, and item biases, whose scores rank items as lists do.

    Where the lists of users of whom nothing is known go by popularity, these users have a factor that is the items' count.
    """
    flat = model.flat
    dtype = np.result_type(flat.user_factors, flat.item_factors)
    mine, items = flat.user_factors[users].astype(dtype, copy=False), flat.item_factors
    nobody = _is_nobody(model, users)
    if nobody.any() and basis_of(model, -1) == "popularity":
        mine, items = np.column_stack([mine, nobody]), np.column_stack([items, model.item_count])
    return (
        np.ascontiguousarray(mine, dtype),
        np.ascontiguousarray(items, dtype),
        np.ascontiguousarray(flat.item_bias, dtype),
    )


def best(
    scores: NDArray[np.float64], n: int, candidates: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The places of the n highest scores above -inf, highest first and equals by place, among the candidates."""
    place = np.arange(len(scores)) if candidates is None else candidates
    among = scores[place]
    if n < len(place):
        bound = np.partition(among, len(among) - n)[len(among) - n]
        place = place[among >= bound]
        among = scores[place]
    place = place[among > -np.inf]
    return place[np.argsort(-scores[place], kind="stable")][:n]


def with_attributes(frame: pd.DataFrame, table: pd.DataFrame | None, rows: NDArray[Any]) -> pd.DataFrame:
    """The frame with the columns of a table at the given rows beside it."""
    import pandas as pd

    if table is None or not len(table.columns):
        return frame
    attributes = table.iloc[np.asarray(rows, np.int64)].reset_index(drop=True)
    taken = {name: f"{name}_" for name in frame.columns}
    return pd.concat([frame, attributes.rename(columns=taken)], axis=1)


def refuse_lists(name: str, label: Any) -> None:
    """Raise unless ``label`` is a single one."""
    if np.ndim(label) != 0:
        raise ParameterError(f"{name} is {label!r}: give one label")


def some_of(labels: list[Any]) -> str:
    """The first of many labels, for a message."""
    return ", ".join(map(repr, labels[:NAMED])) + (", …" if len(labels) > NAMED else "")


def _known(ids: Ids, labels: Any, name: str, warnings: list[str]) -> NDArray[np.int64]:
    """Rows of the known ones among labels; the others are warned of."""
    if isinstance(labels, Mapping):
        raise ParameterError(f"{name} is a mapping: give a list of item ids")
    column = as_column(labels)
    rows = ids.encode(column)
    unknown = column[rows < 0].tolist()
    if unknown:
        few = some_of(unknown)
        warnings.append(f"{len(unknown):,} of {len(rows):,} ids in {name} are unknown to the model: {few}")
    return rows[rows >= 0]


def _by_attributes(model: FactorModel, rows: NDArray[np.int64], labels: list[str]) -> list[str]:
    """What lists are ranked by, where users of whom only attributes are known are not like all others."""
    from hatrix.models.bags import Attributes
    from hatrix.models.factors import USER

    asked = np.unique(rows[(rows >= 0) & (np.array(labels) == "prior")])
    attributes = Attributes(model, USER, asked)
    known = set(filter(attributes.known, asked.tolist()))
    return ["attributes" if row in known else label for row, label in zip(rows.tolist(), labels, strict=True)]


def _is_nobody(model: FactorModel, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which users get a list that is not their own: unknown ones, and those without a row to rank by.

    In a model that ranks, a user with ratings and without factors likes none of the items rated.
    """
    nobody = (rows < 0) | (model.user_count[rows] == 0)
    if model.task == "ranking" and model.has_factors:
        nobody[:] = True  # the next line asks all of them for factors
    nobody[nobody] = (rows[nobody] < 0) | ~model.user_factors[rows[nobody]].any(axis=1)
    return np.asarray(nobody)


def _renumbered(seen: Rows | None, place: NDArray[np.int64], n_items: int) -> Rows | None:
    """Lists of items as lists of positions in ``place``, without those that are not there."""
    if seen is None:
        return None
    position = np.full(n_items, -1, np.int32)
    position[place] = np.arange(len(place), dtype=np.int32)
    moved = position[seen[1]]
    kept = moved >= 0
    return np.append(0, np.cumsum(kept))[seen[0]], moved[kept]


def _rounding(users: NDArray[Any], items: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float64]:
    """What the scores of each user in the precision of the factors can be wrong by."""
    k, kind = users.shape[1], np.finfo(users.dtype)
    length = [np.sqrt(np.einsum("nk,nk->n", rows, rows, dtype=np.float64)) for rows in (users, items)]
    highest = np.abs(bias[bias > -np.inf]).max(initial=0)
    largest = length[0] * length[1].max(initial=0) + float(highest)
    return np.asarray((k + 4) * (float(kind.eps) / 2 * largest + float(kind.tiny)))


def _exactly(
    flat: Factors, rows: NDArray[np.int64], items: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Scores in double precision, so that they do not depend on who else was asked for, and lists in their order."""
    n = items.shape[1]
    scores = np.empty(items.shape)
    at_once = max(1, SCORES_AT_ONCE // max(1, n * flat.item_factors.shape[1]))
    for first in range(0, len(rows), at_once):
        part = slice(first, first + at_once)
        user, item = rows[part], items[part]
        scores[part] = np.einsum(
            "uk,unk->un",
            flat.user_factors[user].astype(np.float64),
            flat.item_factors[item].astype(np.float64),
        )
        scores[part] += flat.mean + flat.user_bias[user][:, None].astype(np.float64) + flat.item_bias[item]
    scores[items < 0] = -np.inf
    order = np.lexsort((items, -scores))
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)


def _by_draw(factors: Factors, rows: NDArray[np.int64], items: slice) -> NDArray[np.float64]:
    """Scores of some items for some users by posterior draw, shape (users, items, draws)."""
    draws = factors.user_bias.shape[1]
    k = factors.user_factors.shape[1] // draws
    user_bias, user_factors = factors.user_bias[rows], factors.user_factors[rows]
    item_bias, item_factors = factors.item_bias[items], factors.item_factors[items]
    scores = np.empty((len(rows), len(item_bias), draws))
    for s in range(draws):
        columns, one = slice(s * k, (s + 1) * k), slice(s, s + 1)
        time = factors.time
        if time is not None:
            time = TimeBlock(time.edges, time.bias[:, one], time.factors[:, columns])
        flat = Factors(
            factors.mean, user_bias[:, one], item_bias[:, one], user_factors[:, columns], item_factors[:, columns],
            time=time,
        ).flat()  # fmt: skip
        scores[..., s] = flat.user_factors @ flat.item_factors.T
        scores[..., s] += (flat.mean + flat.user_bias)[:, None] + flat.item_bias
    return scores
