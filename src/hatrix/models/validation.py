"""What a fit is validated on, and the figure that it is watched by there."""

from __future__ import annotations

import warnings
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from hatrix.data.disk import let_go
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.fit import Algorithm, Task
    from hatrix.models.model import FactorModel
    from hatrix.models.seen import Seen

__all__ = ["RANKED", "hold_out", "ndcg_of_users", "refuse_dislikes", "some_users", "validate"]

RANKED = 20
"""Length of the lists that models which rank are validated on."""

SEEN_AT_ONCE = 1 << 20
"""Training rows that are left out of the lists of some users at once: all of them may be larger than memory."""

DRAW_BYTES = 10
"""Memory per rating of a random draw among all."""

RANKED_BYTES = 100
"""Memory per rating of a validation part of lists."""


def refuse_dislikes(
    recipe: Algorithm, ratings: Ratings, what: str = "training ratings", *, trained: bool = True
) -> None:
    """Refuse values below 0 for an algorithm that ranks, and warn of zeros, or refuse them where they are weights.

    Such algorithms take each rating as a sign that the user likes the item, so a dislike would count as a like. A negative
    value is always a dislike. A 0 may be the lowest star of a scale, or mean that nothing happened; only the user knows.
    Recipes that know dislikes (`Algorithm.knows_dislikes`) take any value.

    Raises
    ------
    DataError
        If a value is below 0, or is 0 and the algorithm weighs ratings by their values. (Ratings that are not
        ``trained`` on, but validated on, have no weight.)
    """
    if recipe.knows_dislikes(ratings.scale):
        return
    below = zeros = 0
    lowest = 0.0
    for part in ratings.slices(ratings.value):
        value = ratings.value[part]
        below += int(np.count_nonzero(value < 0))
        zeros += int(np.count_nonzero(value == 0))
        lowest = min(lowest, float(value.min(initial=0)))
    if below:
        raise DataError(
            f"{below:,} of the {len(ratings):,} {what} are below 0, the lowest {lowest:g}, and {recipe.name} takes every "
            "row as a sign that the user likes the item, so dislikes would be recommended: it needs values from 0 up. Leave "
            "those rows out, or fit an algorithm that predicts ratings, such as biased-mf"
        )
    if zeros and trained and recipe.weighs_by_value:
        raise DataError(
            f"{zeros:,} of the {len(ratings):,} {what} are 0, and {recipe.name} takes counts, or other confidences, above "
            "0: leave those rows out"
        )
    if zeros:
        warnings.warn(
            f"{zeros:,} of the {len(ratings):,} {what} are 0, and {recipe.name} takes every row as a sign that the user "
            "likes the item: leave them out if 0 says that nothing happened, or that the user did not like it",
            stacklevel=4,
        )


def hold_out(
    recipe: Algorithm, train: Ratings, valid: Ratings | float | None, seed: int
) -> tuple[Ratings, Ratings | None]:
    """What to train on, and what to validate on: ratings that are given, or a share of ``train``.

    Raises
    ------
    DataError
        If there is nothing to validate on, or events where errors of ratings are to be measured.
    ParameterError
        If ``valid`` is neither.
    """
    if valid is None:
        return train, None
    if isinstance(valid, Ratings):
        if len(valid) == 0:
            raise DataError("there are no ratings to validate on")
        if valid.implicit and recipe.task == "rating" and not train.implicit:
            raise DataError(
                f"the validation data are events without ratings, and {recipe.name} predicts ratings"
            )
        return train, valid
    if not (isinstance(valid, Real) and 0 < valid < 1):
        what = repr(valid) if np.ndim(valid) == 0 else f"a {type(valid).__name__}"
        raise ParameterError(
            f"valid is {what}: give Ratings, or the share of train to hold out, between 0 and 1, such as 0.1"
        )
    from hatrix.data.split import random

    if train.disk is not None:
        takes = DRAW_BYTES * len(train)
        if recipe.task == "ranking":
            takes = max(takes, int(RANKED_BYTES * valid * len(train)))
        if takes > train.disk.room():
            raise DataError(
                f"to hold out {valid:g} of {len(train):,} ratings takes {takes / 1e6:,.0f} MB: allow more memory, or "
                "give fewer ratings to validate on"
            )
    held = random(train, float(valid), seed=seed)
    return held.train, held.test


def validate(
    model: FactorModel, seen: Seen, valid: Ratings, *, threads: int, task: Task | None = None
) -> tuple[str, float]:
    """Return name and value of the figure for a task, by default that of the model.

    It is the RMSE of the clipped predictions, or the mean NDCG@20 of the lists.
    """
    if (task or model.task) == "ranking":
        return "valid_ndcg", float(ndcg_of_users(model, seen, valid, threads=threads)[1].mean())
    total = 0.0
    for part in valid.slices():
        piece = valid.take(part)
        error = model.predict_rows(*model.rows_of(piece), times=piece.time, clip=True) - piece.value
        total += float(np.sum(error**2))
    return "valid_rmse", float(np.sqrt(total / len(valid)))


def ndcg_of_users(
    model: FactorModel, seen: Seen, valid: Ratings, *, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the users of the validation part and the NDCG@20 of each, all items ranked but those they trained on."""
    from hatrix.kernels import ranks, topk
    from hatrix.models.recommend import ranking_rows

    user, item = model.rows_of(valid)
    known = (user >= 0) & (item >= 0)
    users, owner = np.unique(user[known], return_inverse=True)
    if not len(users):
        raise DataError("the validation part has no users and items that the training part knows")
    begin, held = topk.rows_of(owner, item[known], len(users))
    user_factors, item_factors, item_bias = ranking_rows(model, users)
    total = np.append(0, np.cumsum(np.diff(seen.start)[users]))
    ends = np.searchsorted(total, np.arange(0, total[-1], SEEN_AT_ONCE))
    found = np.empty((len(users), RANKED), np.bool_)
    for first, last in pairwise(np.unique([0, *ends, len(users)]).tolist()):
        part = slice(first, last)
        lists, _ = topk.top_n(
            user_factors[part],
            item_factors,
            item_bias,
            RANKED,
            seen=topk.some_rows(seen.start, seen.item, users[part]),
            threads=threads,
        )
        let_go(seen.item, slice(seen.start[users[first]], seen.start[users[last - 1] + 1]))
        found[part] = ranks.hits(lists, begin[first : last + 1], held)
    return users, ranks.discounted_gain(found, np.diff(begin))


def some_users(ratings: Ratings, most: int, seed: int) -> Ratings:
    """Return the ratings of at most so many users, drawn at random."""
    users = np.flatnonzero(ratings.user_count)
    if len(users) <= most:
        return ratings
    chosen = np.zeros(len(ratings.users), bool)
    chosen[np.random.default_rng(seed).choice(users, most, replace=False)] = True
    return ratings.take(chosen[ratings.user])
