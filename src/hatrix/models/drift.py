"""How far a model has been carried from the data it was fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.models.model import FactorModel

__all__ = ["Drift", "measured"]

FEWEST = 30
"""Ratings from which the error of a model is judged."""
MOST_NEW = 0.2
"""Share of new ratings at which the rows that no update touches have missed too much."""
USERS_ASKED = 2000


class Drift(NamedTuple):
    """What updates have done to a model since it was fitted.

    Attributes
    ----------
    fitted
        Ratings that the last fit was of.
    added
        Ratings that updates have brought since.
    error
        How badly the model foretold the ratings of the last update, before it saw them: the root mean squared error; of
        models that rank, the mean share of all items that it ranked above the new ones (0 is perfect, .5 is chance).
        None where fewer than 30 new ratings are of a known user and item.
    baseline
        The same of a user mean and an item mean, or of the popularity of items.
    """

    fitted: int
    added: int
    error: float | None
    baseline: float | None

    @property
    def share(self) -> float:
        """New ratings as a share of those that were fitted."""
        return self.added / max(1, self.fitted)

    @property
    def due(self) -> str | None:
        """Why a fit of all ratings is due, or None."""
        if self.share > MOST_NEW:
            return f"{self.added:,} ratings have come to the {self.fitted:,} that were fitted: fit again with all of them"
        if self.error is not None and self.baseline is not None and self.error > self.baseline:
            return (
                f"the last new ratings were foretold worse ({self.error:.4f}) than by what needs no model "
                f"({self.baseline:.4f}): fit again with all of them"
            )
        return None


def measured(model: FactorModel, new: Ratings) -> Drift:
    """The drift of a model that is about to take new ratings in."""
    user, item = model.rows_of(new)
    known = ~model.is_fallback(user, item)
    error: float | None = None
    baseline: float | None = None
    if np.count_nonzero(known) >= FEWEST:
        pairs = user[known], item[known]
        judged = (
            _missed(model, *pairs) if model.task == "ranking" else _squared(model, *pairs, new.value[known])
        )
        error, baseline = judged
    before = model.drift
    fitted = int(model.user_count.sum()) if before is None else before.fitted
    return Drift(fitted, len(new) + (0 if before is None else before.added), error, baseline)


def _squared(
    model: FactorModel, user: NDArray[np.int64], item: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[float, float]:
    assert model.seen is not None
    mean = float(model.seen.value.mean())
    left = model.seen.value - mean
    # Means of few ratings are drawn to zero, as those of the Bias model are.
    by_item = np.bincount(model.seen.item, left, len(model.items)) / (model.item_count + 10)
    left = left - by_item[model.seen.item]
    by_user = np.bincount(model.seen.user, left, len(model.users)) / (model.user_count + 10)
    foretold = mean + by_item[item] + by_user[user]
    errors = [value - model.predict_rows(user, item), value - foretold]
    return float(np.sqrt(np.mean(errors[0] ** 2))), float(np.sqrt(np.mean(errors[1] ** 2)))


def _missed(model: FactorModel, user: NDArray[np.int64], item: NDArray[np.int64]) -> tuple[float, float]:
    from hatrix.models.predictive import scores

    asked = np.unique(user)
    if len(asked) > USERS_ASKED:
        asked = asked[:: -(-len(asked) // USERS_ASKED)]
    above: list[NDArray[np.float64]] = []
    popular: list[NDArray[np.float64]] = []
    live = model.item_count > 0
    of_popularity = np.sort(model.item_count[live])
    for row in asked:
        theirs = item[user == row]
        score = scores(model, np.array([row]))[0]
        above.append(
            1 - np.searchsorted(np.sort(score[live]), score[theirs], side="right") / len(of_popularity)
        )
        popular.append(
            1 - np.searchsorted(of_popularity, model.item_count[theirs], side="right") / len(of_popularity)
        )
    return float(np.concatenate(above).mean()), float(np.concatenate(popular).mean())
