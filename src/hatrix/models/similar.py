"""Items that resemble an item, users that resemble a user: the nearest rows of a factor matrix, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hatrix._checks import one_of, whole
from hatrix._threads import one_blas_thread
from hatrix.data.ids import as_column
from hatrix.errors import DataError
from hatrix.models.predictive import unknown_in
from hatrix.models.recommend import best, refuse_lists, with_attributes

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["similar"]

METRICS = ("cosine", "dot")
NUMBERS_AT_ONCE = 1 << 18


@one_blas_thread()
def similar(
    model: FactorModel, side: Literal["item", "user"], label: Any, n: int, metric: str
) -> pd.DataFrame:
    """See `FactorModel.similar_items`."""
    import pandas as pd

    n = whole("n", n)
    one_of("metric", metric, METRICS)
    refuse_lists(f"{side}_id", label)
    ids, factors, scale, table, count = (
        (model.items, model.item_factors, np.asarray(model.balance), model.item_table, model.item_count)
        if side == "item"
        else (
            model.users,
            model.user_factors,
            1 / np.asarray(model.balance),
            model.user_table,
            model.user_count,
        )
    )
    if not model.has_factors:
        raise DataError(
            f"a {model.recipe.name} model has no factors, so no {side} resembles another: fit a factorization such as "
            "BiasedMF or ImplicitALS"
        )
    row = int(ids.encode([label])[0])
    if row < 0:
        unknown = unknown_in(side, ids, as_column([label]), np.array([row]))
        raise DataError(f"{unknown}: give an id that was trained on")
    if not factors[row].any():
        raise DataError(
            f"{side} {label!r} has no {'factors' if count[row] else 'training ratings'}, so it is not known which {side}s "
            "resemble it"
        )
    found, score = _nearest(factors, scale, row, n, metric)
    frame = pd.DataFrame({side: ids.decode(found), "score": score})
    frame = with_attributes(frame, table, found)
    short = {}
    if len(found) < n:
        short[label] = f"{len(found)} of {n}: the model knows no more {side}s with training ratings"
    frame.attrs |= {side: label, "metric": metric, "n": n, "short": short, "warnings": []}
    return frame


def _nearest(
    factors: NDArray[Any], scale: NDArray[np.float64], row: int, n: int, metric: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and scores, in double precision: in single, the lengths of long and short rows overflow and vanish."""
    scores, wanted = np.full(len(factors), -np.inf), factors[row] * scale
    at_once = max(1, NUMBERS_AT_ONCE // len(wanted))
    for first in range(0, len(factors), at_once):
        rows = factors[first : first + at_once] * scale
        square = np.einsum("nk,nk->n", rows, rows)
        there = square > 0
        dots = np.einsum("nk,k->n", rows, wanted)[there]
        if metric == "cosine":
            dots /= np.sqrt(square[there] * (wanted @ wanted))
        scores[first : first + at_once][there] = dots
    scores[row] = -np.inf
    order = best(scores, n)
    return order, scores[order]
