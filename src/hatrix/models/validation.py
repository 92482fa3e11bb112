"""The figure that a fit is watched by on ratings held out from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hatrix.errors import DataError

if TYPE_CHECKING:
    from hatrix.data.ratings import Ratings
    from hatrix.models.model import FactorModel

__all__ = ["RANKED", "validate"]

RANKED = 20
"""Length of the lists that models which rank are validated on."""


def validate(model: FactorModel, train: Ratings, valid: Ratings, *, threads: int) -> tuple[str, float]:
    """Name and value of the figure: RMSE of the clipped predictions, or mean NDCG@20 of a model that ranks."""
    if model.task == "ranking":
        return "valid_ndcg", _ndcg(model, train, valid, threads)
    error = model.predict_rows(*model.rows_of(valid), times=valid.time, clip=True) - valid.value
    return "valid_rmse", float(np.sqrt(np.mean(error**2)))


def _ndcg(model: FactorModel, train: Ratings, valid: Ratings, threads: int) -> float:
    """Mean over the users of the validation part, all items ranked but those they trained on."""
    from hatrix.kernels import ranks, topk

    user, item = model.rows_of(valid)
    known = (user >= 0) & (item >= 0)
    users, owner = np.unique(user[known], return_inverse=True)
    if not len(users):
        raise DataError("the validation part has no users and items that the training part knows")
    begin, held = topk.rows_of(owner, item[known], len(users))
    start, rows = train.by_user
    flat = model.flat
    lists, _ = topk.top_n(
        flat.user_factors[users],
        flat.item_factors,
        flat.item_bias.astype(flat.item_factors.dtype),
        RANKED,
        seen=topk.some_rows(start, train.item[rows], users),
        threads=threads,
    )
    found = ranks.hits(lists, begin, held)
    return float(ranks.discounted_gain(found, np.diff(begin)).mean())
