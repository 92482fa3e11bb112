"""Warnings about data, models and searches, each with a code that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.values import NO_TIME, seconds
from hatrix.evaluation.paired import compared
from hatrix.models.trial import TRIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from hatrix.data.ratings import Ratings
    from hatrix.evaluation.paired import Sums
    from hatrix.models.fit import Algorithm

__all__ = [
    "CODES",
    "caution",
    "is_caution",
    "of_fallbacks",
    "of_lists",
    "of_notes",
    "of_overfitting",
    "of_parts",
    "rising",
    "share_older",
    "shared_pairs",
]

CODES = {
    "H001": "train and test share pairs of a user and an item",
    "H002": "the test part is older than the training part",
    "H003": "many predictions are for users or items without training ratings",
    "H004": "a model is no better than a baseline",
    "H005": "the best value lies at the edge of the range searched",
    "H006": "a model learned the training part by heart",
    "H007": "training failed",
    "H008": "a fitted model was trained on other data",
    "H009": "chains of posterior draws disagree",
    "H010": "factors cannot help on these data",
    "H011": "a model's lists are worse than those of Popular",
    "H012": "a sampler has not converged",
}
OLDER = 0.6
"""Share of (test, train) pairs of ratings with the test one first; a split that ignores time has a half."""
GAP = 1.6
"""How many times larger the error on the test part may be than on the training part: good models reach 1.4."""
RISE = 0.01
LEVEL = 0.05
"""Chance of a difference as large without a reason, below which no caution says that it may be chance."""


def caution(code: str, words: str) -> str:
    """A warning that begins with its code."""
    assert code in CODES
    return f"{code}: {words}"


def is_caution(text: str) -> bool:
    """Return whether a text begins with a code."""
    return text.split(":")[0] in CODES


def of_notes(notes: Iterable[str]) -> list[str]:
    """Return the notes on a fit that deserve attention: all but those on a trial that changed nothing."""
    return [note for note in notes if not note.startswith(f"{TRIAL}:")]


def of_lists(models: Mapping[str, tuple[Algorithm, Sums]], popular: Sums, k: int) -> list[str]:
    """Warn of models whose lists are worse than showing everybody the most popular items.

    Parameters
    ----------
    models
        Of each model, its recipe and the NDCG of each user.
    popular
        The NDCG of each user of the lists of Popular.
    k
        Length of the lists.
    """
    worse: dict[bool, list[str]] = {True: [], False: []}
    for name, (recipe, mine) in models.items():
        difference = compared(mine, popular)
        if difference.value < 0:
            chance = "" if difference.p < LEVEL else ", which may be chance"
            worse[recipe.list_recipe.task == "rating"].append(
                f"{name} (NDCG@{k} {mine.figure:.3f} and {popular.figure:.3f}{chance})"
            )
    said = []
    for learned_ratings, names in worse.items():
        it = "it" if len(names) == 1 else "they"
        why, remedy = (
            (
                f", because {it} learned to predict ratings and not which items people choose",
                "use the lists of a Recommender, which hatrix run trains by default",
            )
            if learned_ratings
            else ("", "try other recipes with hatrix compare, or other hyper-parameters with hatrix tune")
        )
        if names:
            words = f"the lists of {', '.join(names)} are worse than showing everybody the most popular items{why}: {remedy}"
            said.append(caution("H011", words))
    return said


def of_parts(train: Ratings, test: Ratings) -> list[str]:
    """What is wrong with the parts, whatever the model."""
    said = []
    if shared := shared_pairs(train, test):
        said.append(
            caution(
                "H001",
                f"{shared:,} of {len(test):,} test ratings are of a user and an item that are in the training part "
                "too, so errors look smaller than they are: part the ratings with one of hatrix.split",
            )
        )
    older = share_older(train, test)
    if older > OLDER:
        said.append(
            caution(
                "H002",
                f"the test part is older than the training part (a test rating is the earlier one in {older:.0%} of "
                "the pairs), so models know the future: use split.by_time or split.last",
            )
        )
    return said


def shared_pairs(train: Ratings, test: Ratings) -> int:
    """How many test ratings are of a user and an item that are in the training part too."""
    user, item = _rows_in(train.users, test.users)[test.user], _rows_in(train.items, test.items)[test.item]
    width = len(train.items)
    known = (user >= 0) & (item >= 0)
    return int(
        np.isin(user[known] * width + item[known], train.user.astype(np.int64) * width + train.item).sum()
    )


def share_older(train: Ratings, test: Ratings) -> float:
    """Share of pairs of a test and a training rating in which the test one is earlier, ties half; NaN without times."""
    if train.time is None or test.time is None:
        return float("nan")
    moments = [seconds(part.time) for part in (train, test) if part.time is not None]
    then, now = (np.sort(moment[moment != NO_TIME]) for moment in moments)
    if not len(then) or not len(now):
        return float("nan")
    before = np.searchsorted(then, now, "left") + np.searchsorted(then, now, "right")
    return float(1 - before.mean() / 2 / len(then))


def of_fallbacks(name: str, share: float) -> list[str]:
    """Predictions that fell back to means and biases."""
    if share <= 0.05:
        return []
    words = f"{share:.1%} of the predictions of {name} are for users or items without training ratings and fall back"
    return [caution("H003", f"{words} to means and biases")]


def rising(history: pd.DataFrame) -> str:
    """How the validation got worse again, in words; empty where it did not."""
    for column, sign in (("valid_rmse", 1.0), ("valid_ndcg", -1.0)):
        if column in history and history[column].notna().any():
            curve = sign * history[column].dropna().to_numpy(float)
            best = int(curve.argmin())
            if curve[-1] - curve[best] > RISE * abs(curve[best]):
                figure = column.removeprefix("valid_").upper()
                return (
                    f"its validation {figure} was best after epoch {best + 1} of {len(curve)} "
                    f"({abs(curve[best]):.4f}) and ended at {abs(curve[-1]):.4f}"
                )
    return ""


def of_overfitting(
    name: str,
    history: pd.DataFrame,
    *,
    restored: bool,
    errors: tuple[float, float] | None = None,
    baseline: tuple[float, float] | None = None,
) -> list[str]:
    """Whether a model learned noise; errors are RMSE on (train, test) of it and of the baseline."""
    why = "" if restored else rising(history)
    if not why and errors is not None:
        if baseline is not None and errors[0] < baseline[0] and errors[1] > (1 + RISE) * baseline[1]:
            why = (
                f"its RMSE is below that of bias on the training part ({errors[0]:.4f} to {baseline[0]:.4f}) and above it "
                f"on the test part ({errors[1]:.4f} to {baseline[1]:.4f})"
            )
        elif errors[1] > GAP * errors[0]:
            why = f"its RMSE is {errors[0]:.4f} on the training part and {errors[1]:.4f} on the test part"
    if not why:
        return []
    advice = "more regularization, fewer factors or epochs, or patience with valid=0.1"
    return [caution("H006", f"{name} overfits: {why}; try {advice}")]


def _rows_in(mine: Any, theirs: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Row numbers in ``mine`` of all of their labels."""
    return np.arange(len(theirs)) if mine == theirs else mine.encode(theirs.labels)
