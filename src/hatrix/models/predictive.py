"""What a posterior says of a single rating: its distribution, intervals, and the probability of each star."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.data.ids import as_column
from hatrix.errors import DataError, ParameterError
from hatrix.models import probit
from hatrix.models.terms import refuse_excess

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids
    from hatrix.data.ratings import Ratings
    from hatrix.models.factors import Factors, Posterior
    from hatrix.models.model import FactorModel

__all__ = [
    "Pairs",
    "Predicted",
    "calibrated",
    "expected",
    "expected_by_halves",
    "intervals",
    "nominal",
    "pairs_of",
    "posterior_of",
    "probabilities",
    "ratings",
    "scores",
    "shares",
    "unknown_in",
    "warn_of_unknown",
]

USER, ITEM = 0, 1
MOST_KEPT, NAMED = 10_000, 5
QUANTILES = 1000
MOST_STEPS, NEAR = 60, 1e-7


class Predicted(NamedTuple):
    """Ratings predicted, with the ends of their intervals: three arrays, or three floats."""

    rating: Any
    low: Any
    high: Any


class Pairs(NamedTuple):
    """Rows of users and items, -1 for unknown ones, with their times or None."""

    user: NDArray[Any]
    item: NDArray[Any]
    times: NDArray[Any] | None = None


def unknown_in(name: str, ids: Ids, labels: NDArray[Any], rows: NDArray[np.int64]) -> str | None:
    """Return a message on the requested labels that are unknown and what ids look like; None if all are known."""
    unknown = labels[rows < 0]
    if not len(unknown):
        return None
    few = ", ".join(map(repr, unknown[:NAMED].tolist())) + (", …" if len(unknown) > NAMED else "")
    one = len(labels) == 1
    text = f"{name} {few} is unknown to the model" if one else (
        f"{len(unknown):,} of {len(labels):,} {name}s are unknown to the model: {few}"
    )  # fmt: skip
    if (
        ids.kind == "int"
        and len(ids)
        and any(ids.label_of(label) is None for label in unknown[:NAMED].tolist())
    ):
        text += f" (its {name} ids are integers, such as {ids.labels[0]})"
    return text


def warn_of_unknown(*asked: tuple[str, Ids, NDArray[Any], NDArray[np.int64]]) -> None:
    """Warn once of all requested users and items that are unknown; for functions that users call through a model."""
    found = [text for text in (unknown_in(*one) for one in asked) if text is not None]
    if found:
        warnings.warn(
            f"{'; '.join(found)}: what is predicted for them is the training mean (or a posterior's prior) and the "
            "biases that are known",
            stacklevel=4,
        )


def pairs_of(model: FactorModel, user_ids: Any, item_ids: Any, times: Any) -> Pairs:
    """Row numbers of pairs of ids, and their times."""
    users, items = as_column(user_ids), as_column(item_ids)
    user, item = model.users.encode(users), model.items.encode(items)
    if len(user) != len(item) and 1 not in (len(user), len(item)):
        raise DataError(f"{len(user)} users but {len(item)} items: give as many, or one of either")
    warn_of_unknown(("user", model.users, users, user), ("item", model.items, items, item))
    user, item = np.broadcast_arrays(user, item)
    if times is not None:
        times = np.asarray(times)
        if times.shape not in ((), (1,), user.shape):
            raise DataError(f"{times.size} times for {len(user)} predictions: give as many, or one")
        if times.dtype.kind not in "iuf" or not np.isfinite(times).all():
            raise DataError("times are seconds since 1970, and some of these are not numbers")
        times = np.broadcast_to(times, user.shape)
    return Pairs(user, item, times)


def ratings(model: FactorModel, pairs: Pairs) -> NDArray[np.float64]:
    """The prediction for each pair: its score or mean star, or what is known of it."""
    if model.posterior is not None:
        return expected(model.factors, model.posterior, pairs)
    user, item, times = pairs
    unknown = model.is_fallback(user, item)
    if not unknown.any():
        return model.factors.score(user, item, times)
    predicted = np.empty(len(user))
    known_times = None if times is None else times[~unknown]
    predicted[~unknown] = model.factors.score(user[~unknown], item[~unknown], known_times)
    u, i = user[unknown], item[unknown]
    predicted[unknown] = (
        model.fallback + np.where(u >= 0, model.user_bias[u], 0.0) + np.where(i >= 0, model.item_bias[i], 0.0)
    )
    return predicted


@one_blas_thread()
def scores(model: FactorModel, user: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of every item for rows of users, shape (users, items)."""
    refuse_excess(
        f"the scores of {len(user):,} users for {len(model.items):,} items",
        8 * len(user) * len(model.items),
        "ask for fewer users at once, or for lists with recommend_all",
    )
    flat = model.flat
    found = np.asarray(flat.user_factors[user] @ flat.item_factors.T, np.float64)
    found += (flat.mean + flat.user_bias[user])[:, None] + flat.item_bias
    items = np.arange(len(model.items))
    fallback = (user < 0) | model.cold_users[user]
    if fallback.any() and model.posterior is None:
        found[fallback] = model.fallback + flat.item_bias
    elif fallback.any():
        found[fallback] = model.factors.score(np.full(len(items), -1), items)
    return found


@one_blas_thread()
def expected(factors: Factors, posterior: Posterior, pairs: Pairs) -> NDArray[np.float64]:
    """The mean rating: of scores, or of the stars of an ordered probit."""
    blocks = []
    for _, scores, spread in _blocks(factors, posterior, pairs):
        if posterior.cuts.size:
            means = _stars(posterior, scores, spread)
            blocks.append(sum(means) / len(means))
        else:
            blocks.append(scores.mean(axis=1))
    return np.concatenate(blocks)


@one_blas_thread()
def expected_by_halves(
    factors: Factors, posterior: Posterior, pairs: Pairs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two mean ratings, each of one half of the draws: the first and the last ones.

    The product of their errors has the expectation of the squared error without the Monte Carlo error.
    """
    blocks = []
    for _, scores, spread in _blocks(factors, posterior, pairs):
        means = np.stack(_stars(posterior, scores, spread)) if posterior.cuts.size else scores.T
        half = (len(means) + 1) // 2
        blocks.append((means[:half].mean(axis=0), means[len(means) - half :].mean(axis=0)))
    first, last = zip(*blocks, strict=True)
    return np.concatenate(first), np.concatenate(last)


def _stars(
    posterior: Posterior, scores: NDArray[np.float64], spread: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the mean star of pairs in each draw of an ordered probit."""
    draws = zip(scores.T, spread.T, posterior.cuts, strict=True)
    return [probit.expected(score, d, cuts, posterior.levels) for score, d, cuts in draws]


@one_blas_thread()
def intervals(
    model: FactorModel, pairs: Pairs, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the central intervals that hold a rating with probability ``level``.

    Quantiles of the mixture over draws of normal distributions; of an ordered probit, of its mid-distribution function,
    straight between the stars, at the level at which ratings drawn from the posterior are covered as often as asked for. A
    calibrated posterior takes the level that held-out ratings called for.
    """
    posterior = posterior_of(model, "intervals")
    if model.origin is not None:  # the level was told by rows that were trained
        posterior = posterior._replace(nominal=np.zeros(0))
    if not (isinstance(level, Real) and 0 < level < 1):
        raise ParameterError(f"interval is {level!r}: give a probability between 0 and 1, such as 0.9")
    level = posterior.level(float(level))
    ends = np.empty((2, len(pairs.user)))
    for part, scores, spread in _blocks(model.factors, posterior, pairs):
        for end, share in zip(ends, ((1 - level) / 2, (1 + level) / 2), strict=True):
            end[part] = (
                _between(_mid(posterior, scores, spread), posterior.levels, share)
                if posterior.cuts.size
                else _normal_quantile(scores, spread, share)
            )
    return ends[0], ends[1]


@one_blas_thread()
def shares(model: FactorModel, pairs: Pairs, value: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function at the rating itself (probability integral transform); of stars, half their own."""
    from scipy.special import ndtr

    posterior, share = posterior_of(model, "probabilities"), np.empty(len(value))
    for part, scores, spread in _blocks(model.factors, posterior, pairs):
        share[part] = (
            _at(_mid(posterior, scores, spread), posterior.levels, value[part])
            if posterior.cuts.size
            else ndtr((value[part][:, None] - scores) / spread).mean(axis=1)
        )
    return share


@one_blas_thread()
def probabilities(model: FactorModel, pairs: Pairs) -> pd.DataFrame:
    """Of each of the levels, shape (pairs, levels); a normal rating is rounded to the nearest one."""
    import pandas as pd

    posterior = posterior_of(model, "probabilities")
    if not len(posterior.levels):
        raise DataError("the model was trained on too many distinct ratings to give each a probability")
    found = [
        np.diff(_below(posterior, scores, spread), axis=1)
        for _, scores, spread in _blocks(model.factors, posterior, pairs)
    ]
    return pd.DataFrame(np.concatenate(found), columns=pd.Index(posterior.levels, name="rating"))


def calibrated(model: FactorModel, held_out: Ratings) -> Posterior:
    """The posterior with, in order, the smallest level at which each held-out rating lies in its interval.

    Split conformal prediction with the score ``|2 F(r) - 1|``: the interval at the ⌈(n + 1) level⌉-th of these covers a
    new rating with probability ``level`` or more, whatever is wrong with the model. Of more than 10,000, as many are
    kept, each the largest of its group, so that none covers less.

    Notes
    -----
    Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005; Chernozhukov, Wüthrich, Zhu, "Distributional
    conformal prediction", PNAS 2021.
    """
    posterior = posterior_of(model, "intervals")
    if len(held_out) == 0:
        raise DataError("there are no ratings to calibrate on")
    user, item = model.rows_of(held_out)
    seen = model.was_seen(user, item)
    if seen is not None and seen.any():
        raise DataError(
            f"the model was trained on {int(seen.sum()):,} of the {len(held_out):,} ratings to calibrate on: hold "
            "others out"
        )
    needed = np.sort(np.abs(2 * shares(model, Pairs(user, item, held_out.time), held_out.value) - 1))
    if len(needed) > MOST_KEPT:
        groups = np.arange(1, MOST_KEPT + 1)
        needed = needed[np.ceil(groups * len(needed) / MOST_KEPT).astype(np.int64) - 1]
    return posterior._replace(calibration=needed)


@one_blas_thread()
def nominal(factors: Factors, posterior: Posterior, pairs: Pairs) -> NDArray[np.float64]:
    """Return, in order, the levels at which ratings drawn from an ordered probit's posterior are just inside their interval.

    Of all levels of all pairs, each with its probability, so many quantiles.
    """
    needed, weight = [], []
    for _, scores, spread in _blocks(factors, posterior, pairs):
        below = _below(posterior, scores, spread)
        needed.append(np.abs(below[:, 1:] + below[:, :-1] - 1).ravel())
        weight.append(np.diff(below, axis=1).ravel())
    level, share = np.concatenate(needed), np.concatenate(weight)
    order = np.argsort(level, kind="stable")
    total = np.cumsum(share[order])
    place = np.searchsorted(total, (np.arange(QUANTILES) + 0.5) / QUANTILES * total[-1])
    return np.asarray(np.clip(level[order[np.minimum(place, len(order) - 1)]], 0, 1))


def posterior_of(model: FactorModel, what: str) -> Posterior:
    """A model's posterior, or an error that says what it would be for."""
    if model.posterior is None:
        raise DataError(f"{model.recipe.name} has no posterior to tell {what}: fit BayesianMF (bayesian-mf)")
    return model.posterior


def _blocks(
    factors: Factors, posterior: Posterior, pairs: Pairs
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Scores of some pairs by draw, and the standard deviation of a rating (or hidden number) around them."""
    for part, scores in factors.by_draw(*pairs):
        spread = np.broadcast_to(posterior.noise, scores.shape)
        user, item = pairs.user[part], pairs.item[part]
        if posterior.user_spread.size:
            spread = spread * posterior.user_spread[user]
        if factors.days is not None:
            unknown = factors.days.find(user, None if pairs.times is None else pairs.times[part]) < 0
            spread = np.where(unknown[:, None], np.hypot(spread, factors.days.spread), spread)
        for side, row, other, theirs in ((USER, user, ITEM, item), (ITEM, item, USER, user)):
            unknown = row < 0
            if unknown.any():
                # An unknown row is spread around the mean that stands for it.
                bias, v = factors.rows(other, theirs[unknown], len(posterior.noise))
                v = np.concatenate([v, np.ones_like(bias)[:, :, None]], axis=2).astype(np.float64)
                precision = posterior.user_precision if side == USER else posterior.item_precision
                more = np.einsum("nsk,skl,nsl->ns", v, np.linalg.inv(precision), v)
                spread = spread.copy()
                spread[unknown] = np.sqrt(spread[unknown] ** 2 + more)
        yield part, scores, spread


def _below(
    posterior: Posterior, scores: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of a rating below each level and, at the end, 1: shape (pairs, levels + 1)."""
    from scipy.special import ndtr

    levels = posterior.levels
    cuts = (
        posterior.cuts
        if posterior.cuts.size
        else np.tile((levels[1:] + levels[:-1]) / 2, (scores.shape[1], 1))
    )
    below = np.zeros((len(scores), len(levels) + 1))
    below[:, -1] = 1.0
    for draw, edges in enumerate(cuts):
        below[:, 1:-1] += ndtr((edges - scores[:, [draw]]) / spread[:, [draw]])
    below[:, 1:-1] /= len(cuts)
    return below


def _mid(
    posterior: Posterior, scores: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mid-distribution function at each level: what lies below, and half of what lies on it."""
    below = _below(posterior, scores, spread)
    return np.asarray((below[:, 1:] + below[:, :-1]) / 2)


def _at(
    mid: NDArray[np.float64], levels: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each row of ``mid`` at a value, straight between the levels."""
    place = np.clip(np.searchsorted(levels, value, side="right"), 1, max(1, len(levels) - 1))
    row = np.arange(len(value))
    if len(levels) == 1:
        return mid[:, 0]
    weight = np.clip((value - levels[place - 1]) / (levels[place] - levels[place - 1]), 0, 1)
    return np.asarray((1 - weight) * mid[row, place - 1] + weight * mid[row, place])


def _between(mid: NDArray[np.float64], levels: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Where each row of ``mid`` reaches a share: the inverse of `_at`."""
    place, row = (mid < share).sum(axis=1), np.arange(len(mid))
    last = np.minimum(place, len(levels) - 1)
    below, above = mid[row, np.maximum(place - 1, 0)], mid[row, last]
    inside = (place > 0) & (place < len(levels))
    weight = np.where(inside, (share - below) / np.where(inside, above - below, 1), 1)
    return np.asarray((1 - weight) * levels[np.maximum(place - 1, 0)] + weight * levels[last])


def _normal_quantile(
    mean: NDArray[np.float64], spread: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Quantiles of mixtures of normal distributions with equal weights, by Newton's method between safe bounds."""
    from scipy.special import ndtr, ndtri

    z = ndtri(share)
    if not np.isfinite(z):
        return np.full(len(mean), z)
    ends = mean + z * spread
    low, high = ends.min(axis=1), ends.max(axis=1)
    x = np.clip(mean.mean(axis=1) + z * np.sqrt(mean.var(axis=1) + (spread**2).mean(axis=1)), low, high)
    left = np.arange(len(x))
    for _ in range(MOST_STEPS):
        at, m, s = x[left], mean[left], spread[left]
        t = (at[:, None] - m) / s
        excess = ndtr(t).mean(axis=1) - share
        density = (np.exp(-(t**2) / 2) / s).mean(axis=1) / np.sqrt(2 * np.pi)
        low[left], high[left] = np.where(excess < 0, at, low[left]), np.where(excess < 0, high[left], at)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = at - excess / density
        inside = (step > low[left]) & (step < high[left])
        x[left] = np.where(inside, step, (low[left] + high[left]) / 2)
        left = left[np.abs(x[left] - at) > NEAR * (1 + np.abs(at))]
        if not len(left):
            break
    return np.asarray(x)
