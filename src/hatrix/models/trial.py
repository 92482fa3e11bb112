"""A quick trial on a part of the ratings: do factors predict held-out ratings better than biases alone?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.data.ratings import Ratings
from hatrix.models import predictive
from hatrix.models.baseline import Bias
from hatrix.models.damping import DAMPED
from hatrix.models.fit import Algorithm
from hatrix.models.model import Factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_RATINGS", "TRIAL", "Contest", "with_factors", "with_usual"]

SHARE, FACTORS, BIAS_EPOCHS = 0.3, 16, 3
"""Share of the epochs of a fit that a trial has, its number of factors, and the epochs of the biases alone."""
OVERHEAD = 32
"""A rating costs an epoch as much as so many factors, beside those that it has."""
LEAST_EPOCHS = 3
"""A trial of fewer epochs tells nothing, so a fit of few has none."""
MOST_EPOCHS = 20
"""A trial of more epochs tells nothing more, and Ctrl-C ends a trial without a model."""
MOST_RATINGS = 200_000
"""Of larger data, so many ratings of users drawn at random are tried."""
HELD_OUT, LEAST_HELD_OUT = 0.1, 50
SURE = 2.5
"""So many standard errors must the squared errors of factors be below those of biases alone."""
ROUNDING = 1e-12
"""A smaller gain, as a share of the mean square of the ratings, is that of rounding."""
SEED = 0
TRIAL = "trial"
"""The first word of the note on a trial that changed nothing."""

R = TypeVar("R", bound=Algorithm)


class Contest(NamedTuple):
    """When factors win a trial: its epochs at least and at most, and how sure the gain must be (see `SURE`).

    ``draws`` is the number of posterior draws of the fit that the trial is for.
    """

    least_epochs: int = LEAST_EPOCHS
    most_epochs: int = MOST_EPOCHS
    sure: float = SURE
    draws: int = 1


class _Outcome(NamedTuple):
    """Root mean squared errors on held-out ratings, and whether factors are surely better."""

    trained: int
    held_out: int
    factors: float
    biases: float
    better: bool


@one_blas_thread()
def with_factors(
    recipe: R,
    train: Ratings,
    usual: tuple[int, float],
    quicker: Callable[[R, int], R],
    *,
    threads: int,
    contest: Contest | None = None,
) -> tuple[R, tuple[str, ...]]:
    """Return a recipe with numbers for ``factors`` and ``init_scale``, and a note if a trial has decided on them.

    Parameters
    ----------
    recipe
        A recipe with biases whose other hyper-parameters are numbers. Where ``factors`` and ``init_scale`` are both "auto",
        and its epochs are enough for a trial, factors that do not help are left out: they stay at zero.
    usual
        The numbers that "auto" stands for otherwise.
    quicker
        Make the recipe of a trial, which has so many epochs.
    contest
        The rules of the trial, if they are not the usual ones.
    """
    rules = contest or Contest()
    left: Any = recipe
    undecided = left.factors == left.init_scale == "auto"
    full: Any = with_usual(recipe, usual)
    epochs = min(int(SHARE * recipe.rounds), rules.most_epochs)
    if not undecided or epochs < rules.least_epochs:
        return full, ()
    without = full.replace(factors=1, init_scale=0.0)
    part = _sample(train)
    if HELD_OUT * len(part) < LEAST_HELD_OUT:
        return without, (
            f"H010: factors are left out: {len(train):,} ratings are too few to tell whether they help; give factors to "
            "train them",
        )
    small = full.replace(factors=min(full.factors, FACTORS))
    given = {name: getattr(recipe, name) for name in DAMPED if name in type(recipe).model_fields}
    biases = Bias(epochs=BIAS_EPOCHS, **given).resolved(part)
    tried = quicker(small, epochs)
    found = _tried(biases, tried, part, threads, rules)
    if not np.isfinite(found.factors) and getattr(tried, "learning_rate", None) == getattr(
        small, "learning_rate", None
    ):
        return full, ()  # the fit itself says that it diverges, and what to do
    work = epochs * found.trained * (small.factors + OVERHEAD)
    work /= recipe.rounds * len(train) * (full.factors + OVERHEAD)
    how = (
        f"a trial of {epochs} epochs with {small.factors} factors on {found.trained:,} ratings ({work:.0%} of the work of "
        f"the fit) had an RMSE of "
        f"{found.factors:.4g} on {found.held_out:,} others with factors, and {found.biases:.4g} with biases alone"
    )
    if found.better:
        return full, (f"{TRIAL}: {usual[0]} factors are trained, since they help: {how}",)
    return without, (
        f"H010: factors are left out, since they do not help here: {how}; give factors to train them",
    )


def with_usual(recipe: R, usual: tuple[int, float]) -> R:
    """Return a recipe with the usual numbers where ``factors`` and ``init_scale`` are "auto"."""
    names: dict[str, float] = dict(zip(("factors", "init_scale"), usual, strict=True))
    return recipe.replace(
        **{name: number for name, number in names.items() if getattr(recipe, name) == "auto"}
    )


def _sample(train: Ratings) -> Ratings:
    """Return all ratings, in memory, or those of users drawn at random, about `MOST_RATINGS`."""
    if len(train) <= MOST_RATINGS and train.disk is None:
        return train
    users = np.random.default_rng(SEED).permutation(len(train.users))
    enough = np.searchsorted(np.cumsum(train.user_count[users]), MOST_RATINGS) + 1
    drawn = np.zeros(len(train.users), bool)
    drawn[users[:enough]] = True
    columns: list[list[NDArray[Any]]] = [[], [], []]
    given: tuple[NDArray[Any], ...] = train.user, train.item, train.value
    for part in train.slices(*given):
        kept = drawn[train.user[part]]
        for found, column in zip(columns, given, strict=True):
            found.append(column[part][kept])
    user, item, value = (np.concatenate(found) for found in columns)
    return Ratings(user, item, value, train.users, train.items, scale=train.scale)


def _tried(biases: Algorithm, factors: Algorithm, part: Ratings, threads: int, rules: Contest) -> _Outcome:
    from hatrix.data.split import random

    split = random(part, HELD_OUT, seed=SEED)
    held_out = split.test
    plain, found = (_learned(recipe, split.train, threads) for recipe in (biases, factors))
    both = [plain.score(held_out.user, held_out.item)] * 2
    if found.posterior is None:
        others = [found.score(held_out.user, held_out.item)] * 2
    else:
        halves = predictive.expected_by_halves(
            found, found.posterior, predictive.Pairs(held_out.user, held_out.item)
        )
        # An ordered probit cannot leave the scale, so that biases shall not leave it, either.
        low, high = part.scale or (-np.inf, np.inf)
        both, others = ([np.clip(one, low, high) for one in pair] for pair in (both, halves))
    # The product of the errors of two halves has no Monte Carlo error; that of all draws is a quarter of their square, and
    # the fit has more draws.
    share = 1.0 if found.posterior is None else len(found.posterior.noise) / rules.draws
    squares = [
        (first - held_out.value) * (last - held_out.value) + share * (first - last) ** 2 / 4
        for first, last in (both, others)
    ]
    root = [float(np.sqrt(max(square.mean(), 0.0))) for square in squares]
    gain = squares[0] - squares[1]
    least = rules.sure * gain.std() / np.sqrt(len(gain)) + ROUNDING * np.square(held_out.value).mean()
    better = bool(gain.mean() > least)  # not so where one is not a finite number
    return _Outcome(len(split.train), len(held_out), root[1], root[0], better)


def _learned(recipe: Algorithm, train: Ratings, threads: int) -> Factors:
    state = recipe.init(train, seed=SEED, threads=threads)
    for epoch in range(recipe.rounds):
        recipe.step(state, epoch)
    return recipe.finish(state)
