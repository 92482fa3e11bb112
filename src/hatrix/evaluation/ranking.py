"""How well a model ranks: the items that a user turned to, among all that could have been shown.

Each figure is a mean over users, who are what was sampled: intervals are bootstraps over users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import is_number, whole, yes_or_no
from hatrix.data.disk import size_in_bytes
from hatrix.data.origin import remembered
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation.candidates import BYTES_PER_ROW, HeldOut, Ranked, Ranker, held_out
from hatrix.evaluation.lists import OVERALL, overall
from hatrix.evaluation.paired import Sums
from hatrix.evaluation.tally import MOST_DRAWS, MOST_GROUPS, resampled
from hatrix.models import SEED
from hatrix.models.fit import Algorithm, thread_count
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["PER_USER", "RankingEvaluation", "evaluate_ranking", "measures"]

PER_USER = ("recall", "ndcg", "precision", "hit_rate", "map", "mrr")
BYTES_PER_FIGURE, BYTES_PER_PLACE = 40, 10
"""Of each user, of data on disk: of a figure while its interval is drawn, and of a place in the list."""
OVERLAP_AT_ONCE = 1 << 20


def measures(found: NDArray[np.bool_], relevant: NDArray[np.int64]) -> dict[str, Floats]:
    """The figures of each user's list from its hits.

    Parameters
    ----------
    found
        Shape (users, k): whether the item at each rank is relevant.
    relevant
        Shape (users,): how many relevant items each user has, at least one.

    Returns
    -------
    dict
        With R relevant items and ``h_r`` the hit at rank r: ``recall = Σ h_r / R``, ``precision = Σ h_r / k``,
        ``hit_rate = max h_r``, ``ndcg = Σ h_r / log2(r + 1) / Σ_{r <= min(R, k)} 1 / log2(r + 1)``,
        ``map = Σ h_r precision_at_r / R`` and ``mrr = max h_r / r``.

    Examples
    --------
    >>> figures = measures(np.array([[True, False, True]]), np.array([2]))
    >>> {name: float(round(value[0], 4)) for name, value in figures.items()}
    {'recall': 1.0, 'ndcg': 0.9197, 'precision': 0.6667, 'hit_rate': 1.0, 'map': 0.8333, 'mrr': 1.0}
    """
    from hatrix.kernels.ranks import discounted_gain

    rank = np.arange(1, found.shape[1] + 1)
    total = found.sum(axis=1)
    return {
        "recall": total / relevant,
        "ndcg": discounted_gain(found, relevant),
        "precision": total / found.shape[1],
        "hit_rate": (total > 0).astype(np.float64),
        "map": (found * np.cumsum(found, axis=1) / rank).sum(axis=1) / relevant,
        "mrr": (found / rank).max(axis=1),
    }


@dataclass(frozen=True, eq=False, repr=False)
class RankingEvaluation:
    """How a model ranks held-out items; `evaluate_ranking` makes it.

    Attributes
    ----------
    model, test
        What was evaluated on what.
    protocol
        Among which items the held-out ones were ranked, and which of them count as relevant, in words.
    among
        The same in short: ``"all items"``, ``"99 sampled negatives"`` or ``"given negatives"``.
    k
        Lengths of the lists; figures that are read as attributes are those of the first.
    held, lists
        What was held out of each user, and item rows of the longest list, best first, -1 where it is short.
    values
        ``{k: {figure: a number per user}}``; AUC, which has no k, is in each.
    overall
        ``{k: {figure: a number}}``: coverage, gini, novelty and diversity of the lists.
    intervals
        ``{k: {figure: (low, high)}}`` of the means over users.
    warnings
        What deserves attention, each beginning with a code.
    options
        The arguments that the function was called with, as code, for reports.
    """

    model: FactorModel
    test: Ratings
    protocol: str
    among: str
    k: tuple[int, ...]
    held: HeldOut
    lists: NDArray[np.int32] = field(repr=False)
    values: dict[int, dict[str, Floats]] = field(repr=False)
    overall: dict[int, dict[str, float]]
    intervals: dict[int, dict[str, tuple[float, float]]]
    warnings: tuple[str, ...]
    confidence: float = 0.95
    options: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    def __getattr__(self, name: str) -> float:
        if name in (*PER_USER, "auc"):
            return self.mean(name, self.k[0])
        if name in OVERALL:
            return self.overall[self.k[0]][name]
        raise AttributeError(
            f"a ranking evaluation has no {name!r}: it has {', '.join((*PER_USER, 'auc', *OVERALL))}"
        )

    def mean(self, name: str, k: int) -> float:
        """Mean over users of a figure; those whom it says nothing about are left out (AUC without others to beat)."""
        value = self.values[k][name]
        known = value[~np.isnan(value)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def n(self) -> int:
        """Number of users evaluated."""
        return len(self.users)

    @property
    def users(self) -> NDArray[np.int64]:
        """Row numbers in the model of the users evaluated."""
        return self.held.users

    @property
    def relevant(self) -> NDArray[np.int64]:
        """How many relevant items each of them has."""
        return self.held.relevant

    @property
    def left_out(self) -> dict[str, int]:
        """Users and items of the test part that the model does not know, and users without training rows."""
        return self.held.left_out

    @property
    def coverage_in_words(self) -> str:
        """Coverage of the intervals: ``"95 %"``."""
        return f"{100 * self.confidence:g} %"

    @cached_property
    def by_activity(self) -> pd.DataFrame:
        """Users by how many training rows they have: slice, count (users), ndcg, low, high."""
        from hatrix.evaluation.anatomy import by_count

        part, labels = by_count(self.model.user_count[self.users])
        value = self.values[self.k[0]]["ndcg"]
        return self._sliced("ndcg", value, np.arange(self.n), part, labels)

    @cached_property
    def by_popularity(self) -> pd.DataFrame:
        """Held-out items by how many training rows they have: slice, count (held-out rows), found (share that is in
        its user's list), low, high, and shown (share of the places of all lists)."""
        from hatrix.evaluation.anatomy import by_count

        part, labels = by_count(self.model.item_count)
        lists = self.lists[:, : self.k[0]]
        row, rank = np.nonzero(lists >= 0)
        item = lists[row, rank]
        found = np.isin(self.held.owner * len(part) + self.held.item, row * len(part) + item)
        table = self._sliced("found", found.astype(np.float64), self.held.owner, part[self.held.item], labels)
        shown = dict(zip(labels, np.bincount(part[item], minlength=len(labels)) / len(item), strict=True))
        return table.assign(shown=table["slice"].map(shown))

    def _sliced(
        self, name: str, value: Floats, user: NDArray[np.int64], part: NDArray[np.int64], labels: list[str]
    ) -> pd.DataFrame:
        import pandas as pd

        from hatrix.evaluation.rating import sliced

        figures = sliced(value, user, part, len(labels), confidence=self.confidence)
        table = pd.DataFrame({"slice": labels, "count": figures.count, name: figures.bias})
        table["low"], table["high"] = figures.bias_low.clip(0, 1), figures.bias_high.clip(0, 1)
        return table[table["count"] > 0].reset_index(drop=True)

    def sums(self, name: str, k: int) -> Sums:
        """Return what each user of the test part adds to a figure, for paired tests against other models."""
        value = self.values[k][name]
        here, users = ~np.isnan(value), self.test.users
        row = users.encode(self.model.users.decode(self.users))
        sums = Sums(np.zeros(len(users)), np.zeros(len(users)))
        sums.total[row[here]], sums.numbers[row[here]] = value[here], 1.0
        return sums

    def per_user(self) -> pd.DataFrame:
        """A line for each user: id, number of relevant items, and every figure."""
        import pandas as pd

        columns: dict[str, Any] = {"user": self.model.users.decode(self.users), "relevant": self.relevant}
        for k in self.k:
            columns |= {self._label(name, k): value for name, value in self.values[k].items()}
        return pd.DataFrame(columns)

    def table(self) -> pd.DataFrame:
        """The figures as rows: value, the interval of those that are means over users, and among what was ranked."""
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {}
        for k in self.k:
            for name in self.values[k]:
                low, high = self.intervals[k][name]
                rows[self._label(name, k)] = {"value": self.mean(name, k), "low": low, "high": high}
            for name, figure in self.overall[k].items():
                rows[self._label(name, k)] = {"value": figure, "low": np.nan, "high": np.nan}
        for row in rows.values():
            row["among"] = self.among
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON: those of the first k by their names, all of them under ``at``."""

        def figures(k: int) -> dict[str, float]:
            means = {name: self.mean(name, k) for name in self.values[k]} | self.overall[k]
            return {name: value for name, value in means.items() if np.isfinite(value)}

        return {
            **figures(self.k[0]),
            "k": self.k[0],
            "at": {str(k): figures(k) for k in self.k},
            "intervals": {name: list(ends) for name, ends in self.intervals[self.k[0]].items()},
            "confidence": self.confidence,
            "protocol": self.protocol,
            "users_evaluated": self.n,
            "left_out": self.left_out,
            "warnings": list(self.warnings),
        }

    def report(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        baselines: Mapping[str, RankingEvaluation] | None = None,
        protocol: str | None = None,
        command: str | None = None,
        model_file: str | None = None,
    ) -> None:
        """Write one self-contained HTML file; `hatrix.evaluation.report.write` describes the parameters."""
        from hatrix.evaluation import report

        report.write(
            self,
            path,
            title=title,
            baselines=baselines,
            protocol=protocol,
            command=command,
            model_file=model_file,
        )

    @staticmethod
    def _label(name: str, k: int) -> str:
        return name if name == "auc" else f"{name}@{k}"

    def __repr__(self) -> str:
        k = self.k[0]
        return (
            f"RankingEvaluation({self.model.recipe.name} on {self.n:,} users, {self.protocol}: "
            f"recall@{k} {self.recall:.4f}, NDCG@{k} {self.ndcg:.4f})"
        )


@remembered(skip=2)
def evaluate_ranking(
    model: FactorModel,
    test: Ratings,
    *,
    k: int | Sequence[int] = 20,
    negatives: int | Ratings | Mapping[Any, Sequence[Any]] | None = None,
    relevant_from: float | None = None,
    exclude_seen: bool = True,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = SEED,
    threads: int | None = None,
    memory: str | int = "512MB",
) -> RankingEvaluation:
    """Evaluate how a model ranks the held-out items of each user.

    Parameters
    ----------
    model
        A fitted model.
    test
        Held-out ratings or clicks; each is a relevant item of its user.
    k
        Length of the lists, or several lengths.
    negatives
        By default every item is ranked that the user has not in the training part. A number: only the relevant
        items and that many others, drawn for each user among what is in neither part. Ratings, or a mapping of user
        ids to lists of item ids (as in the files of He et al., "Neural collaborative filtering"): the relevant items
        and the items of the user there. Figures of sampled rankings are labelled; they are far higher, and cannot
        be compared with the others.
    relevant_from
        Count only test ratings of at least this value as relevant; by default every test row is.
    exclude_seen
        Leave out the items of the training part, which the model file holds unless it was saved without.
    bootstrap, confidence, seed
        Draws behind the intervals, their coverage, and the seed of draws.
    threads, memory
        Threads, and the bytes that scores may take at once, all threads together.

    Returns
    -------
    RankingEvaluation
        Users without relevant test rows and users unknown to the model are left out, the latter counted. Held-out
        items that the model does not know count as missed: they stay in the denominators.

    Raises
    ------
    DataError
        If the model is not fitted, no user is left to evaluate, or the model has no training rows to exclude; if test
        rows on disk are too many, since held-out items are kept in memory. (Training rows need not fit.)
    ParameterError
        If an argument is out of range.

    Notes
    -----
    Ties are broken by row number, the lower first. Sampled metrics: Krichene, Rendle, "On sampled metrics for item
    recommendation", KDD 2020.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> split = hx.split.per_user(ratings)
    >>> result = hx.evaluate_ranking(hx.BiasedMF(factors=4).fit(split.train), split.test, k=(10, 20))
    >>> bool(0 < result.recall < result.values[20]["recall"].mean() < 1)
    True
    """
    lengths = _lengths(k)
    _check(model, test, relevant_from, bootstrap, confidence, seed)
    exclude_seen = yes_or_no("exclude_seen", exclude_seen)
    if exclude_seen and model.seen is None:
        raise DataError(
            "the model was saved without its training rows: pass exclude_seen=False to rank those too"
        )
    per_user = BYTES_PER_FIGURE * len(lengths) * (1 + len(PER_USER)) + BYTES_PER_PLACE * max(lengths)
    per_user += BYTES_PER_ROW * negatives if isinstance(negatives, Integral) else 0
    held = held_out(model, test, relevant_from, per_user)
    room = None if test.disk is None else test.disk.memory // 8
    ranker = Ranker(
        model,
        held,
        exclude_seen=exclude_seen,
        threads=thread_count(threads),
        memory=size_in_bytes(memory),
        room=room,
    )
    ranked, among = _ranked(ranker, max(lengths), negatives, seed)
    protocol = "all items ranked" if negatives is None else f"ranked among {among}"
    protocol += ", training items removed" if negatives is None and exclude_seen else ""
    protocol += "" if relevant_from is None else f", relevant from {relevant_from:g}"
    from hatrix.kernels.ranks import hits

    found = hits(ranked.lists, held.start, held.item)
    values = {n: measures(found[:, :n], held.relevant) | {"auc": ranked.auc} for n in lengths}
    return RankingEvaluation(
        model,
        test,
        protocol,
        among,
        lengths,
        held,
        ranked.lists,
        values,
        {n: overall(model, ranked.lists[:, :n], seed) for n in lengths},
        _intervals(values, bootstrap, confidence, seed),
        (
            *_of_dislikes(test, relevant_from),
            *_warnings(model, held, ranked, among, negatives is None and exclude_seen),
        ),
        confidence,
    )


def _check(
    model: FactorModel,
    test: Ratings,
    relevant_from: float | None,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> None:
    if not isinstance(model, FactorModel):
        hint = ": call its fit(train) and give the result" if isinstance(model, Algorithm) else ""
        raise DataError(f"the model is a {type(model).__name__}, not a fitted one{hint}")
    if not isinstance(test, Ratings):
        raise DataError(
            f"the test data are a {type(test).__name__}: give Ratings, such as the .test of a split"
        )
    if not (relevant_from is None or is_number(relevant_from)):
        raise ParameterError(f"relevant_from is {relevant_from!r}: give a rating, such as 4, or None")
    if not (isinstance(confidence, Real) and 0 < confidence < 1):
        raise ParameterError(f"confidence is {confidence!r}: give a share between 0 and 1, such as 0.95")
    whole("seed", seed, 0)
    whole("bootstrap", bootstrap, 1, MOST_DRAWS)


def _ranked(
    ranker: Ranker, k: int, negatives: int | Ratings | Mapping[Any, Sequence[Any]] | None, seed: int
) -> tuple[Ranked, str]:
    """The rankings, and in words among what."""
    if negatives is None:
        return ranker.among_all(k), "all items"
    if isinstance(negatives, Mapping):
        for user, items in negatives.items():
            if not np.iterable(items) or isinstance(items, str):
                raise ParameterError(f"the negatives of user {user!r} are {items!r}: give a list of item ids")
        pairs = [(user, item) for user, items in negatives.items() for item in items]
        negatives = Ratings.from_columns([user for user, _ in pairs], [item for _, item in pairs])
    if isinstance(negatives, Ratings):
        return ranker.among_given(k, negatives), "given negatives"
    if not isinstance(negatives, Integral) or isinstance(negatives, bool) or negatives < 1:
        raise ParameterError(
            f"negatives is {negatives!r}: give a number of at least 1, Ratings or lists of items by user, or None to "
            "rank all items"
        )
    drawn = ranker.among_drawn(k, int(negatives), np.random.default_rng(seed))
    return drawn, f"{negatives} sampled negatives"


def _intervals(
    values: dict[int, dict[str, Floats]], draws: int, confidence: float, seed: int
) -> dict[int, dict[str, tuple[float, float]]]:
    """Percentile intervals of the means over users drawn with replacement; above 16,384, groups of users."""
    columns = {(k, name): value for k, at in values.items() for name, value in at.items()}
    table = np.column_stack([*columns.values()])
    present = ~np.isnan(table)
    group = np.arange(len(table)) % MOST_GROUPS
    sums = np.column_stack(
        [np.bincount(group, column) for column in np.where(present, table, 0.0).T]
        + [np.bincount(group, column) for column in present.T]
    )
    width, total = table.shape[1], resampled(sums.astype(np.float64), draws, seed)
    with np.errstate(invalid="ignore"):
        means = total[:, :width] / total[:, width:]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)  # NaN where a draw has nobody with a figure
    ends = {key: (float(low[n]), float(high[n])) for n, key in enumerate(columns)}
    return {k: {name: ends[k, name] for name in at} for k, at in values.items()}


def _of_dislikes(test: Ratings, relevant_from: float | None) -> list[str]:
    """Warn if held-out ratings that are hardly likes count as relevant."""
    if relevant_from is not None and relevant_from > 0:
        return []
    least = -np.inf if relevant_from is None else float(relevant_from)
    wrong = sum(
        int(np.count_nonzero((test.value[part] <= 0) & (test.value[part] >= least)))
        for part in test.slices(test.value)
    )
    if not wrong:
        return []
    return [
        f"dislikes: {wrong:,} of {len(test):,} held-out values are 0 or below and count as relevant, so that "
        "models are rewarded for recommending what users disliked: pass relevant_from (--relevant-from), the lowest value "
        "that is a like"
    ]


def _warnings(model: FactorModel, held: HeldOut, ranked: Ranked, among: str, removed: bool) -> list[str]:
    said = []
    if among != "all items":
        said.append(
            f"sampled: ranked among {among} only; such figures are far higher than those of full rankings, and models "
            "may change places"
        )
    alone = int(np.count_nonzero(np.isnan(ranked.auc)))
    if alone:
        said.append(
            f"alone: {alone:,} of {len(held.users):,} users have no other items that theirs are ranked against, so that any "
            "model is right about them"
        )
    seen = 0
    for first in range(0, len(held.item), OVERLAP_AT_ONCE):
        rows = np.arange(first, min(first + OVERLAP_AT_ONCE, len(held.item)))
        user = held.users[np.searchsorted(held.start, rows, "right") - 1]
        known = model.was_seen(user, held.item[rows].astype(np.int64))
        seen += 0 if known is None else int(known.sum())
    if seen:
        missed = ", which are not shown again, so they count as missed" if removed else ""
        said.append(
            f"overlap: {seen:,} of {len(held.item):,} held-out items were training items of their user{missed}"
        )
    if held.left_out["unknown_users"]:
        said.append(
            f"unknown: {held.left_out['unknown_users']:,} users are unknown to the model and left out"
        )
    cold = held.left_out["cold_users"]
    if cold > 0.05 * len(held.users):
        said.append(
            f"cold: {cold:,} of {len(held.users):,} users have no training rows and get the same list as anybody unknown"
        )
    return said


def _lengths(k: int | Sequence[int]) -> tuple[int, ...]:
    lengths = tuple(k) if isinstance(k, Sequence) else (k,)
    if not lengths or any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in lengths):
        raise ParameterError(f"k is {k!r}: give the length of the lists, at least 1, or several lengths")
    return tuple(dict.fromkeys(int(n) for n in lengths))
