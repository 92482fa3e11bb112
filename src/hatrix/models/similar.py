"""Items that resemble an item, users that resemble a user: the nearest rows of a factor matrix, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hatrix.errors import DataError, ParameterError
from hatrix.models.recommend import best, refuse_lists, whole, with_attributes

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["similar"]

METRICS = ("cosine", "dot")
ROUNDING = 1e-4
"""Above what single precision can be wrong by, relative to the product of two lengths."""
ROWS_AT_ONCE = 1 << 16


def similar(
    model: FactorModel, side: Literal["item", "user"], label: Any, n: int, metric: str
) -> pd.DataFrame:
    """See `FactorModel.similar_items`."""
    import pandas as pd

    n = whole("n", n)
    if metric not in METRICS:
        raise ParameterError(f"metric is {metric!r}: give 'cosine' or 'dot'")
    refuse_lists(f"{side}_id", label)
    ids, factors, table = (
        (model.items, model.item_factors, model.item_table)
        if side == "item"
        else (model.users, model.user_factors, model.user_table)
    )
    if not factors.shape[1]:
        raise DataError(
            f"a {model.recipe.name} model has no factors, so no {side} resembles another: fit a factorization such as "
            "BiasedMF or ImplicitALS"
        )
    row = int(ids.encode([label])[0])
    if row < 0:
        raise DataError(f"{side} {label!r} is unknown to the model: give an id that was trained on")
    if not factors[row].any():
        raise DataError(
            f"{side} {label!r} has no training ratings, so it is not known which {side}s resemble it"
        )
    found, score = _nearest(factors, row, n, metric)
    frame = pd.DataFrame({side: ids.decode(found), "score": score})
    frame = with_attributes(frame, table, found)
    short = {}
    if len(found) < n:
        short[label] = f"{len(found)} of {n}: the model knows no more {side}s with training ratings"
    frame.attrs |= {side: label, "metric": metric, "n": n, "short": short, "warnings": []}
    return frame


def _nearest(
    factors: NDArray[Any], row: int, n: int, metric: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and scores: single precision finds the few rows that can be among the n, double precision ranks them."""
    wanted = factors[row]
    length = np.sqrt(np.einsum("nk,nk->n", factors, factors))
    rough = np.asarray(factors @ wanted, np.float64)
    slack = ROUNDING * float(length[row]) * (1.0 if metric == "cosine" else length.astype(np.float64))
    if metric == "cosine":
        rough /= np.where(length > 0, length, 1)
    there = length > 0
    there[row] = False
    rough[~there] = -np.inf
    if n < np.count_nonzero(there):
        surely = np.where(there, rough - slack, -np.inf)
        bound = np.partition(surely, len(surely) - n)[len(surely) - n]
        there &= rough + slack >= bound
    near = np.flatnonzero(there)
    score = np.empty(len(near))
    exact = wanted.astype(np.float64)
    for first in range(0, len(near), ROWS_AT_ONCE):
        rows = factors[near[first : first + ROWS_AT_ONCE]].astype(np.float64)
        dots = np.einsum("nk,k->n", rows, exact)
        if metric == "cosine":
            dots /= np.sqrt(np.einsum("nk,nk->n", rows, rows) * (exact @ exact))
        score[first : first + ROWS_AT_ONCE] = dots
    order = best(score, n)
    return near[order], score[order]
