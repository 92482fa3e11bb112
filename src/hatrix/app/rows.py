"""Single rows that the page shows: the test rows of a slice, and who rated an item or is recommended it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.app.insight import LISTED
from hatrix.app.shelf import row_of
from hatrix.evaluation import data_charts
from hatrix.evaluation.anatomy import MOST_LEVELS, by_count
from hatrix.evaluation.layout import figure
from hatrix.evaluation.ranking import RankingEvaluation

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.app.insight import Insight
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.models.model import FactorModel

__all__ = ["audience", "histogram", "starters", "test_rows"]

SHOWN, STARTERS, WELL_KNOWN = 12, 18, 150


def title_of(model: FactorModel, row: int) -> str | None:
    """The title of an item, where it has one."""
    if row < 0 or model.item_table is None or "title" not in model.item_table:
        return None
    title = model.item_table["title"].iloc[row]
    return title if isinstance(title, str) and title else None


def test_rows(
    insight: Insight, by: str, key: str, n: int, offset: int, gone: Callable[[Any], bool]
) -> dict[str, Any]:
    """The test rows of a slice, those furthest off first; of models that rank, what their lists miss first.

    Rows of users who are gone are left out.
    """
    found = insight.evaluation
    if by == "user" and gone(insight.model.users.label_of(key)):
        return {"slice": by, "key": key, "count": 0, "rows": []}
    if isinstance(found, RankingEvaluation):
        rows, told = _ranked(found, insight.places, by, key, n, offset)
    else:
        rows, told = _predicted(found, by, key, n, offset)
    return {"slice": by, "key": key, "count": rows, "rows": [row for row in told if not gone(row["user"])]}


def _predicted(found: Evaluation, by: str, key: str, n: int, offset: int) -> tuple[int, list[dict[str, Any]]]:
    model, test = found.model, found.test
    if by == "all":
        rows = np.arange(len(test))
    elif by in ("user", "item"):
        ids, column = (test.users, test.user) if by == "user" else (test.items, test.item)
        rows = np.flatnonzero(column == row_of(ids, key))
    else:
        rows = found.anatomy.rows_of(by, key)
    predicted = found.predicted
    error = predicted[rows] - test.value[rows]
    shown = rows[np.argsort(-np.abs(error), kind="stable")[offset : offset + n]]
    return len(rows), [
        {
            "user": _plain(test.users.labels[test.user[row]]),
            "item": _plain(test.items.labels[test.item[row]]),
            "title": title_of(model, int(found.item[row])),
            "rating": float(test.value[row]),
            "predicted": float(predicted[row]),
            "error": float(predicted[row] - test.value[row]),
            "known_user": int(found.user[row]) >= 0,
            "known_item": int(found.item[row]) >= 0,
        }
        for row in shown
    ]


def _ranked(
    found: RankingEvaluation, place: NDArray[np.int64], by: str, key: str, n: int, offset: int
) -> tuple[int, list[dict[str, Any]]]:
    model, held = found.model, found.held
    user = held.users[held.owner]
    if by == "all":
        rows = np.arange(len(user))
    elif by == "user":
        rows = np.flatnonzero(user == row_of(model.users, key))
    elif by == "item":
        rows = np.flatnonzero(held.item == row_of(model.items, key))
    elif by in ("activity", "popularity"):
        count = model.user_count[user] if by == "activity" else model.item_count[held.item]
        part, labels = by_count(count)
        rows = np.flatnonzero(part == labels.index(key)) if key in labels else np.empty(0, np.int64)
    else:
        rows = np.empty(0, np.int64)
    missed = np.where(place[rows] == 0, found.lists.shape[1] + 1, place[rows])
    order = np.lexsort((-model.item_count[held.item[rows]], -missed))
    return len(rows), [
        {
            "user": _plain(model.users.labels[user[row]]),
            "item": _plain(model.items.labels[held.item[row]]),
            "title": title_of(model, int(held.item[row])),
            "place": int(place[row]) or None,
            "known_user": True,
            "known_item": True,
        }
        for row in rows[order[offset : offset + n]]
    ]


def audience(insight: Insight, item: int, gone: Callable[[Any], bool]) -> dict[str, Any]:
    """How an item was rated, and who is recommended it: the users whose list of ten has it, but for those gone."""
    model, lists = insight.model, insight.lists
    told: dict[str, Any] = {"figures": [], "raters": []}
    if model.seen is not None:
        at = np.flatnonzero(model.seen.item == item)
        value = model.seen.value[at]
        user = np.searchsorted(model.seen.start, at, "right") - 1
        first = np.lexsort((model.user_count[user], -value))[: 2 * SHOWN]
        raters = (
            {"user": _plain(model.users.labels[user[row]]), "rating": float(value[row])} for row in first
        )
        told["raters"] = [one for one in raters if not gone(one["user"])][:SHOWN]
        if model.scale is not None and len(value):
            chart = data_charts.counts(
                histogram(value, insight.levels),
                of="ratings",
                by="rating",
                description="Ratings that the item was given",
            )
            told["figures"] = [figure("ratings", "Ratings that it was given", chart)._asdict()]
    have = slice(lists.start[item], lists.start[item + 1])
    getters = [
        {"user": _plain(model.users.labels[user]), "place": int(place)}
        for user, place in zip(lists.user[have][: 2 * SHOWN], lists.place[have][: 2 * SHOWN], strict=True)
    ]
    told["listed"] = {
        "users": lists.users,
        "length": LISTED,
        "count": int(have.stop - have.start),
        "first": [one for one in getters if not gone(one["user"])][:SHOWN],
    }
    return told


@one_blas_thread()
def starters(model: FactorModel) -> dict[str, Any]:
    """Items that a stranger is likely to know and that tell much: of the 150 most rated, a few that differ most.

    The most rated comes first, and then always the one whose factors are furthest from those of all before it, an
    item's distance being weighted by the logarithm of how often it was rated.
    """
    known = np.argsort(-model.item_count, kind="stable")[:WELL_KNOWN]
    rows = np.asarray(model.flat.item_factors, np.float64)[known]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    weight = np.log1p(model.item_count[known])
    chosen, distance = [0], np.full(len(known), np.inf)
    while len(chosen) < min(STARTERS, len(known)):
        distance = np.minimum(distance, np.maximum(1 - rows @ rows[chosen[-1]], 0))
        distance[chosen] = -1
        merit = np.where(distance < 0, -1, distance * weight)
        chosen.append(int(merit.argmax()))
    found = known[chosen]
    return {
        "items": [
            {
                "item": _plain(model.items.labels[row]),
                "title": title_of(model, row),
                "count": int(model.item_count[row]),
            }
            for row in found.tolist()
        ]
    }


def histogram(value: NDArray[np.float64], levels: list[float] | None) -> pd.DataFrame:
    """How many ratings there are of each level, or in each of ten ranges."""
    import pandas as pd

    if levels is None:
        distinct, count = np.unique(value, return_counts=True)
        if len(distinct) <= MOST_LEVELS:
            return pd.DataFrame({"label": distinct, "count": count})
        count, edges = np.histogram(value, 10)
        labels = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
        return pd.DataFrame({"label": labels, "count": count})
    places = np.searchsorted(np.asarray(levels), value)
    return pd.DataFrame({"label": levels, "count": np.bincount(places, minlength=len(levels))})


def _plain(label: Any) -> int | str:
    """An id as JSON has it."""
    return label if isinstance(label, str) else int(label)
