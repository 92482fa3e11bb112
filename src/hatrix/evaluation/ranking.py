"""How well a model ranks: the items that a user turned to, among all that could have been shown.

Each figure is a mean over users, who are what was sampled: intervals are bootstraps over users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError
from hatrix.models.fit import cores

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]

__all__ = ["PER_USER", "RankingEvaluation", "evaluate_ranking", "measures"]

PER_USER = ("recall", "ndcg", "precision", "hit_rate", "map", "mrr")
OVERALL = ("coverage", "gini", "novelty", "diversity")
MOST_GROUPS = 1 << 14
SAMPLED_LISTS = 2000
"""Lists whose diversity is measured: the mean of more would be no more exact than its interval."""


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
        Among which items the held-out ones were ranked, in words.
    k
        Lengths of the lists; figures that are read as attributes are those of the first.
    users
        Row numbers in the model of the users evaluated.
    relevant
        How many held-out items each of them has.
    values
        ``{k: {figure: a number per user}}``; AUC, which has no k, is in each.
    overall
        ``{k: {figure: a number}}``: coverage, gini, novelty and diversity of the lists.
    intervals
        ``{k: {figure: (low, high)}}`` of the means over users.
    left_out
        Users without held-out items or unknown to the model, and held-out items unknown to it.
    warnings
        What deserves attention, each beginning with a code.
    """

    model: FactorModel
    test: Ratings
    protocol: str
    k: tuple[int, ...]
    users: NDArray[np.int64] = field(repr=False)
    relevant: NDArray[np.int64] = field(repr=False)
    values: dict[int, dict[str, Floats]] = field(repr=False)
    overall: dict[int, dict[str, float]]
    intervals: dict[int, dict[str, tuple[float, float]]]
    left_out: dict[str, int]
    warnings: tuple[str, ...]
    confidence: float = 0.95

    def __getattr__(self, name: str) -> float:
        if name in (*PER_USER, "auc"):
            return float(self.values[self.k[0]][name].mean())
        if name in OVERALL:
            return self.overall[self.k[0]][name]
        raise AttributeError(
            f"a ranking evaluation has no {name!r}: it has {', '.join((*PER_USER, 'auc', *OVERALL))}"
        )

    @property
    def n(self) -> int:
        """Number of users evaluated."""
        return len(self.users)

    def per_user(self) -> pd.DataFrame:
        """A line for each user: id, number of relevant items, and every figure."""
        import pandas as pd

        columns: dict[str, Any] = {"user": self.model.users.decode(self.users), "relevant": self.relevant}
        for k in self.k:
            columns |= {self._label(name, k): value for name, value in self.values[k].items()}
        return pd.DataFrame(columns)

    def table(self) -> pd.DataFrame:
        """The figures as rows: value, and the interval of those that are means over users."""
        import pandas as pd

        rows: dict[str, dict[str, float]] = {}
        for k in self.k:
            for name, value in self.values[k].items():
                low, high = self.intervals[k][name]
                rows[self._label(name, k)] = {"value": float(value.mean()), "low": low, "high": high}
            for name, figure in self.overall[k].items():
                rows[self._label(name, k)] = {"value": figure, "low": np.nan, "high": np.nan}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON: those of the first k by their names, all of them under ``at``."""

        def figures(k: int) -> dict[str, float]:
            means = {name: float(value.mean()) for name, value in self.values[k].items()}
            return means | {name: value for name, value in self.overall[k].items() if np.isfinite(value)}

        return {
            **figures(self.k[0]),
            "k": self.k[0],
            "at": {str(k): figures(k) for k in self.k},
            "intervals": {name: list(ends) for name, ends in self.intervals[self.k[0]].items()},
            "confidence": self.confidence,
            "protocol": self.protocol,
            "users": self.n,
            "left_out": self.left_out,
            "warnings": list(self.warnings),
        }

    @staticmethod
    def _label(name: str, k: int) -> str:
        return name if name == "auc" else f"{name}@{k}"

    def __repr__(self) -> str:
        k = self.k[0]
        return (
            f"RankingEvaluation({self.model.recipe.name} on {self.n:,} users, {self.protocol}: "
            f"recall@{k} {self.recall:.4f}, NDCG@{k} {self.ndcg:.4f})"
        )


def evaluate_ranking(
    model: FactorModel,
    test: Ratings,
    *,
    k: int | Sequence[int] = 20,
    negatives: int | Ratings | None = None,
    relevant_from: float | None = None,
    exclude_seen: bool = True,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threads: int | None = None,
    memory: str | int = "256MB",
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
        items and that many others, drawn for each user among what is in neither part. Ratings: the relevant items and
        the items of the user there. Figures of sampled rankings are labelled; they are far higher, and cannot be
        compared with the others.
    relevant_from
        Count only test ratings of at least this value as relevant.
    exclude_seen
        Leave out the items of the training part, which the model file holds unless it was saved without.
    bootstrap, confidence, seed
        Draws behind the intervals, their coverage, and the seed of draws.
    threads, memory
        Threads, and the bytes that scores may take at once ("256MB").

    Returns
    -------
    RankingEvaluation
        Held-out items that the model does not know count as missed; users unknown to it are left out and counted.

    Raises
    ------
    DataError
        If no user is left to evaluate, or the model has no training rows to exclude.
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
    if not isinstance(test, Ratings):
        raise DataError(
            f"the test data are a {type(test).__name__}: give Ratings, such as the .test of a split"
        )
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence is {confidence}: give a share between 0 and 1, such as 0.95")
    if exclude_seen and model.seen is None:
        raise DataError(
            "the model was saved without its training rows: pass exclude_seen=False to rank those too"
        )
    held = _held_out(model, test, relevant_from)
    job = _Job(model, held, exclude_seen, threads or cores(), size_in_bytes(memory))
    if negatives is None:
        protocol = "all items ranked" + (", training items removed" if exclude_seen else "")
        lists, auc = job.rank_all(max(lengths))
    else:
        protocol, lists, auc = job.rank_some(max(lengths), negatives, seed)
    from hatrix.kernels.ranks import hits

    found = hits(lists, held.start, held.item)
    values, overall, intervals = {}, {}, {}
    for length in lengths:
        at = measures(found[:, :length], held.relevant) | {"auc": auc}
        values[length] = at
        intervals[length] = _intervals(at, bootstrap, confidence, seed)
        overall[length] = _overall(model, lists[:, :length], seed)
    return RankingEvaluation(
        model, test, protocol, lengths, held.users, held.relevant, values, overall, intervals, held.left_out,
        tuple(_warnings(model, held, negatives)), confidence,
    )  # fmt: skip


@dataclass(frozen=True)
class _HeldOut:
    """Relevant items of each user evaluated: ``item[start[n]:start[n + 1]]`` of user ``users[n]``, sorted."""

    users: NDArray[np.int64]
    start: NDArray[np.int64]
    item: NDArray[np.int32]
    relevant: NDArray[np.int64]
    left_out: dict[str, int]


def _held_out(model: FactorModel, test: Ratings, relevant_from: float | None) -> _HeldOut:
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
    row, place = row[there], item[known][there]
    order = np.lexsort((place, row))
    start = np.zeros(len(users) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(users)), out=start[1:])
    left_out = {
        "unknown_users": len(np.unique(test.user[~known])),
        "unknown_items": len(np.unique(test.item[item < 0])),
        "cold_users": int(np.count_nonzero(model.user_count[users] == 0)),
    }
    return _HeldOut(users, start, place[order].astype(np.int32), relevant, left_out)


class _Job:
    """Ranking the items of the users evaluated."""

    def __init__(self, model: FactorModel, held: _HeldOut, exclude: bool, threads: int, memory: int) -> None:
        from hatrix.kernels.topk import some_rows

        flat = model.flat
        dtype = np.result_type(flat.user_factors, flat.item_factors)
        self.model, self.held, self.threads, self.memory = model, held, threads, memory
        self.user_factors = np.ascontiguousarray(flat.user_factors[held.users], dtype)
        self.item_factors = np.ascontiguousarray(flat.item_factors, dtype)
        self.item_bias = np.ascontiguousarray(flat.item_bias, dtype)
        self.seen = None
        if exclude and model.seen is not None:
            self.seen = some_rows(model.seen.start, model.seen.item, held.users)

    def rank_all(self, k: int) -> tuple[NDArray[np.int32], Floats]:
        """Lists of the best k, and each user's AUC."""
        from hatrix.kernels.ranks import ranks

        start, item = self.held.start, self.held.item
        lists, above, same = ranks(
            self.user_factors, self.item_factors, self.item_bias, k, start, item, seen=self.seen,
            threads=self.threads, memory=self.memory,
        )  # fmt: skip
        owner = np.repeat(np.arange(len(self.held.users)), np.diff(start))
        open_ = np.ones(len(item), bool)
        struck = np.zeros(len(self.held.users), np.int64)
        if self.seen is not None:
            struck = np.diff(self.seen[0])
            open_ = ~np.isin(owner * len(self.item_factors) + item, _cells(self.seen, len(self.item_factors)))
        candidates = len(self.item_factors) - struck
        return lists, _auc(above[open_], same[open_], owner[open_], candidates, self.held.relevant)

    def rank_some(self, k: int, negatives: int | Ratings, seed: int) -> tuple[str, NDArray[np.int32], Floats]:
        """The same among the relevant items and some others of each user."""
        if isinstance(negatives, Ratings):
            protocol, others = "ranked among given negatives", self._given(negatives)
        else:
            if negatives < 1:
                raise ParameterError(f"negatives is {negatives}: give at least 1, or None to rank all items")
            protocol = f"ranked among {negatives} sampled negatives"
            others = self._drawn(negatives, np.random.default_rng(seed))
        users = len(self.held.users)
        lists, auc = np.full((users, k), -1, np.int32), np.full(users, np.nan)
        for n in range(users):
            relevant = self.held.item[self.held.start[n] : self.held.start[n + 1]]
            rest = others[n]
            pool = np.concatenate([relevant, rest]).astype(np.int32)
            score = self.item_factors[pool] @ self.user_factors[n] + self.item_bias[pool]
            best = np.lexsort((pool, -score))[:k]
            lists[n, : len(best)] = pool[best]
            if len(rest):
                ahead = np.sort(score[len(relevant) :])
                below = np.searchsorted(ahead, score[: len(relevant)], "left")
                upto = np.searchsorted(ahead, score[: len(relevant)], "right")
                auc[n] = (below + upto).sum() / 2 / len(rest) / self.held.relevant[n]
        return protocol, lists, auc

    def _given(self, negatives: Ratings) -> list[NDArray[np.int64]]:
        user, item = self.model.rows_of(negatives)
        order = np.argsort(user, kind="stable")
        ends = np.searchsorted(user[order], np.stack([self.held.users, self.held.users + 1]))
        items = item[order]
        return [np.unique(items[a:b][items[a:b] >= 0]) for a, b in ends.T]

    def _drawn(self, negatives: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        drawn = []
        for n in range(len(self.held.users)):
            free = np.ones(len(self.item_factors), bool)
            free[self.held.item[self.held.start[n] : self.held.start[n + 1]]] = False
            if self.seen is not None:
                free[self.seen[1][self.seen[0][n] : self.seen[0][n + 1]]] = False
            others = np.flatnonzero(free)
            drawn.append(rng.choice(others, min(negatives, len(others)), replace=False))
        return drawn


def _cells(rows: tuple[NDArray[np.int64], NDArray[np.int32]], width: int) -> NDArray[np.int64]:
    start, item = rows
    return np.asarray(np.repeat(np.arange(len(start) - 1), np.diff(start)) * width + item)


def _auc(
    above: NDArray[np.int64],
    same: NDArray[np.int64],
    owner: NDArray[np.int64],
    candidates: NDArray[np.int64],
    relevant: NDArray[np.int64],
) -> Floats:
    """Share of pairs of a relevant and another candidate in the right order, ties half.

    Relevant items that are unknown or no candidates lose all their pairs.
    """
    known = np.bincount(owner, minlength=len(candidates))
    others = candidates - known
    # Of the candidates above or level with a relevant item, some are relevant themselves: over all pairs of those,
    # every pair is counted once, wherever it stands.
    lost = np.bincount(owner, above + same / 2, len(candidates)) - known * (known - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (known * others - lost) / (relevant * others)
    return np.where(others > 0, auc, np.nan)


def _overall(model: FactorModel, lists: NDArray[np.int32], seed: int) -> dict[str, float]:
    """What the lists are like together, whatever the users liked."""
    shown = np.bincount(lists[lists >= 0], minlength=len(model.items)).astype(np.float64)
    share = np.maximum(model.item_count, 1) / max(1, np.count_nonzero(model.user_count))
    information = -np.log2(np.minimum(share, 1.0))
    order = np.sort(shown)
    n, total = len(order), max(order.sum(), 1.0)
    return {
        "coverage": float(np.count_nonzero(shown) / n),
        "gini": float((2 * np.arange(1, n + 1) - n - 1) @ order / (n * total)),
        "novelty": float((shown @ information) / total),
        "diversity": _diversity(model, lists, seed),
    }


def _diversity(model: FactorModel, lists: NDArray[np.int32], seed: int) -> float:
    """Mean over lists of 1 - cosine of the training users of two of its items, over all pairs."""
    if model.seen is None or lists.shape[1] < 2:
        return float("nan")
    from scipy import sparse

    rng = np.random.default_rng(seed)
    some = (
        lists if len(lists) <= SAMPLED_LISTS else lists[rng.choice(len(lists), SAMPLED_LISTS, replace=False)]
    )
    start, item, _ = model.seen
    who = np.repeat(np.arange(len(start) - 1), np.diff(start))
    length = np.sqrt(np.maximum(model.item_count, 1))
    taken = sparse.csr_array((1 / length[item], (item, who)), shape=(len(model.items), len(model.users)))
    total, counted = 0.0, 0
    for shown in some:
        shown = shown[shown >= 0]
        if len(shown) > 1:
            together = np.asarray(taken[shown].sum(axis=0))
            self_similar = np.count_nonzero(model.item_count[shown])
            total += 1 - (together @ together - self_similar) / (len(shown) * (len(shown) - 1))
            counted += 1
    return total / counted if counted else float("nan")


def _intervals(
    values: dict[str, Floats], draws: int, confidence: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the means over users drawn with replacement; above 16,384, groups of users."""
    if draws < 1:
        raise ParameterError(f"bootstrap is {draws}: give a number of draws of at least 1, such as 1000")
    table = np.column_stack([*values.values()])
    present = ~np.isnan(table)
    group = np.arange(len(table)) % MOST_GROUPS
    sums = np.column_stack(
        [np.bincount(group, column) for column in np.where(present, table, 0.0).T]
        + [np.bincount(group, column) for column in present.T]
    )
    groups, rng, width = len(sums), np.random.default_rng(seed), table.shape[1]
    means = np.empty((draws, width))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        total = times @ sums
        with np.errstate(invalid="ignore"):
            means[draw] = total[:width] / total[width:]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)  # NaN where a draw has nobody with a figure
    return {name: (float(low[n]), float(high[n])) for n, name in enumerate(values)}


def _warnings(model: FactorModel, held: _HeldOut, negatives: int | Ratings | None) -> list[str]:
    said = []
    if negatives is not None:
        said.append(
            "sampled: ranked among some of the items only; such figures are far higher than those of full rankings, "
            "and models may change places"
        )
    owner = np.repeat(held.users, np.diff(held.start))
    seen = model.was_seen(owner, held.item.astype(np.int64))
    if seen is not None and seen.any():
        said.append(
            f"overlap: {int(seen.sum()):,} of {len(held.item):,} held-out items were in the training part"
        )
    if held.left_out["unknown_users"]:
        said.append(
            f"unknown: {held.left_out['unknown_users']:,} users are unknown to the model and left out"
        )
    return said


def _lengths(k: int | Sequence[int]) -> tuple[int, ...]:
    lengths = (k,) if isinstance(k, int | np.integer) else tuple(k)
    if not lengths or any(not isinstance(n, int | np.integer) or n < 1 for n in lengths):
        raise ParameterError(f"k is {k!r}: give the length of the lists, at least 1, or several lengths")
    return tuple(dict.fromkeys(int(n) for n in lengths))


def size_in_bytes(text: str | int) -> int:
    """A number of bytes from "512MB", "2 GB", "1GiB" or a plain number."""
    if isinstance(text, int):
        size = text
    else:
        import re

        match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?)b?\s*", text.lower())
        if match is None:
            raise ParameterError(f"memory is {text!r}: give a size such as '512MB' or '2GB'")
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))
    if size < 1:
        raise ParameterError(f"memory is {text!r}: give a size above 0, such as '512MB'")
    return size
