"""Ratings made up from known factors, and real ratings expanded to any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import is_number, whole, yes_or_no
from hatrix._threads import one_blas_thread
from hatrix.data.expansion import Expanded, expand, numbered
from hatrix.data.origin import recorded
from hatrix.data.ratings import Ratings
from hatrix.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.int64]

__all__ = ["Expanded", "Truth", "expand", "make"]

_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False, repr=False)
class Truth:
    """The model that made-up ratings were drawn from.

    Parameters
    ----------
    mean
        What every score starts from.
    user_bias, item_bias
        (users,) and (items,).
    user_factors, item_factors
        (users, factors) and (items, factors).
    """

    mean: float
    user_bias: Floats
    item_bias: Floats
    user_factors: Floats
    item_factors: Floats

    def score(self, user: Any, item: Any) -> Floats:
        """What is rated before noise and rounding, as in a `FactorModel`.

        mean + user_bias[u] + item_bias[i] + user_factors[u] · item_factors[i] for row numbers ``user`` and
        ``item`` of equal length (n,).
        """
        user, item = np.atleast_1d(user), np.atleast_1d(item)
        score = np.empty(len(user))
        for start in range(0, len(user), _CHUNK):
            u, i = user[start : start + _CHUNK], item[start : start + _CHUNK]
            score[start : start + _CHUNK] = (
                self.mean
                + self.user_bias[u]
                + self.item_bias[i]
                + np.einsum("nf,nf->n", self.user_factors[u], self.item_factors[i])
            )
        return score


@recorded("hx.synthetic.make")
@one_blas_thread()
def make(
    users: int,
    items: int,
    *,
    n_ratings: int,
    factors: int = 8,
    noise: float = 0.5,
    skew: float = 1.0,
    scale: tuple[float, float] | None = (1.0, 5.0),
    step: float | None = 1.0,
    implicit: bool = False,
    seed: int = 0,
) -> tuple[Ratings, Truth]:
    """Ratings drawn from known factors and biases.

    A user's activity and an item's popularity are log-normal. Explicit ratings choose their items by
    popularity alone, whatever the taste, so that an estimator can recover the truth:

        value[u, i] = mean + user_bias[u] + item_bias[i] + user_factors[u] · item_factors[i] + noise · N(0, 1)

    rounded to ``step`` and clipped to ``scale``; each bias and the product of the factors have a standard
    deviation of a tenth of the scale's width. With ``implicit`` the *choice* of items follows the score: a
    user takes the items with the highest ``score + noise · Gumbel``, where the item bias is the log of its
    popularity and the product of the factors has standard deviation 1, and each is one event.

    Parameters
    ----------
    users, items
        How many. Their labels are 1, 2, 3 …; an item of little popularity can be without a rating.
    n_ratings
        Exactly how many (user, item) pairs, all distinct: ``users`` (each user has one or more) to
        ``users * items``.
    factors
        Length of the factor vectors; 0 for biases alone.
    noise
        Standard deviation of the ratings' noise, in rating units; for implicit data the scale of the Gumbel.
    skew
        Standard deviation of the logarithm of activity and popularity, 0 (all alike) to 10; MovieLens 100K
        has 0.9 and 1.6.
    scale
        Lowest and highest rating; None for raw values without bound or rounding.
    step
        Distance between two stars; None for values between the stars.
    implicit
        Draw events instead of ratings. Costs users × items in time, explicit ratings cost ``n_ratings``.
    seed
        The same seed gives the same ratings.

    Returns
    -------
    ratings, truth
        The ratings in random order, and the `Truth` whose arrays are in row order of the ids.

    Raises
    ------
    ParameterError
        If a size or a number is out of range.

    Examples
    --------
    >>> ratings, truth = make(50, 30, n_ratings=400, factors=2, noise=0.1)
    >>> len(ratings), ratings.scale, truth.item_factors.shape
    (400, (1.0, 5.0), (30, 2))
    >>> bool(np.mean((truth.score(ratings.user, ratings.item) - ratings.value) ** 2) < 0.2)
    True
    """
    users, items = whole("users", users, 1, 2**31 - 1), whole("items", items, 1, 2**31 - 1)
    n_ratings = whole("n_ratings", n_ratings, users, users * items, of="users * items")
    factors, rng = whole("factors", factors, 0, 4096), np.random.default_rng(whole("seed", seed, 0))
    implicit = yes_or_no("implicit", implicit)
    noise, skew = _number(noise, "noise"), _number(skew, "skew", 10)
    low, high = (1.0, 5.0) if scale is None else _scale(scale)
    if step is not None and not _number(step, "step"):
        raise ParameterError("step must be above 0, or None for values between the stars")

    popularity = np.exp(skew * rng.standard_normal(items))
    count = _counts(np.exp(skew * rng.standard_normal(users)), n_ratings, items)
    if implicit:
        unit, mean, user_bias, item_bias = 2.5, 0.0, np.zeros(users), np.log(popularity)
    else:
        unit, mean = (high - low) / 4, low + 0.625 * (high - low)
        user_bias, item_bias = (0.4 * unit * rng.standard_normal(n) for n in (users, items))
    spread = np.sqrt(0.4 * unit / np.sqrt(max(factors, 1)))
    user_factors = spread * rng.standard_normal((users, factors))
    item_factors = spread * rng.standard_normal((items, factors))
    truth = Truth(mean, user_bias, item_bias, user_factors, item_factors)

    user = np.repeat(np.arange(users, dtype=np.int32), count)
    if implicit:
        item, value = _items_by_taste(truth, count, noise, rng), np.ones(n_ratings)
    else:
        item = _items_by_popularity(popularity, count, rng)
        value = truth.score(user, item) + noise * rng.standard_normal(n_ratings)
        if scale is not None:
            value = value if step is None else low + step * np.rint((value - low) / step)
            value = np.clip(value, low, high)
    if scale is None:
        low, high = float(value.min()), float(value.max())
    order = rng.permutation(n_ratings)
    ratings = Ratings(
        user[order],
        item[order],
        value[order],
        numbered(users),
        numbered(items),
        scale=None if implicit else (low, high),
        implicit=implicit,
        name="synthetic",
    )
    return ratings, truth


def _counts(weight: Floats, total: int, most: int) -> Rows:
    """Whole numbers from 1 to ``most`` of sum ``total``, as near to a multiple of ``weight`` as can be."""
    low, high = 1 / float(weight.max()), most / float(weight.min())
    for _ in range(64):
        middle = float(np.sqrt(low * high))
        enough = np.clip(middle * weight, 1, most).sum() >= total
        low, high = (low, middle) if enough else (middle, high)
    # Rounding the running sum keeps the total exact and each number next to its share, so within the bounds.
    end = np.rint(np.cumsum(np.clip(high * weight, 1, most))).astype(np.int64)
    end[1:] -= end[:-1].copy()
    return end


def _items_by_popularity(popularity: Floats, count: Rows, rng: np.random.Generator) -> NDArray[np.int32]:
    """For each user ``count`` distinct items, drawn by popularity; users one after another.

    A user's draws are sorted, the most popular item first. A repeated item gives way to the next
    that is free: the running maximum of (item - rank), plus the rank. A list that then runs off the end is
    pushed back. Both steps leave strictly rising, hence distinct, items.
    """
    items = len(popularity)
    by_rank = np.argsort(-popularity, kind="stable").astype(np.int32)
    ladder = np.cumsum(popularity[by_rank])
    ladder /= ladder[-1]
    chosen = np.empty(count.sum(), np.int32)
    end = np.cumsum(count)
    for block in _blocks(end, _CHUNK):
        size = count[block]
        start, stop = end[block][0] - size[0], end[block][-1]
        user = np.repeat(np.arange(len(size)), size)
        rank = np.arange(start, stop) - np.repeat(end[block] - size, size)
        drawn = np.minimum(np.searchsorted(ladder, rng.random(stop - start), side="right"), items - 1)
        cell = np.maximum.accumulate(np.sort(user * items + drawn) - rank) + rank
        cell = np.minimum(cell, (user + 1) * items - np.repeat(size, size) + rank)
        chosen[start:stop] = by_rank[cell - user * items]
    return chosen


def _items_by_taste(truth: Truth, count: Rows, noise: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """For each user the ``count`` items of the highest score + noise · Gumbel; users one after another."""
    items = len(truth.item_bias)
    chosen = []
    for block in _blocks(np.arange(1, len(count) + 1) * items, _CHUNK):
        score = truth.user_factors[block] @ truth.item_factors.T + truth.item_bias
        order = np.argsort(-(score + noise * rng.gumbel(size=score.shape)), axis=1)
        chosen.append(order[np.arange(items) < count[block][:, None]].astype(np.int32))
    return np.concatenate(chosen)


def _blocks(end: Rows, size: int) -> list[slice]:
    """Consecutive slices, each of one element or of a stretch of about ``size`` on the scale of ``end``."""
    cut = np.unique(np.append(np.searchsorted(end, np.arange(0, end[-1], size)), len(end)))
    return [slice(*pair) for pair in zip(cut[:-1].tolist(), cut[1:].tolist(), strict=True)]


def _scale(scale: Any) -> tuple[float, float]:
    try:
        low, high = map(float, scale)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and low < high < np.inf):
        raise ParameterError(f"scale must be two numbers, (lowest, highest), or None, not {scale!r}")
    return low, high


def _number(value: float, what: str, high: float = 1e300) -> float:
    if not is_number(value) or not 0 <= value <= high:
        raise ParameterError(f"{what} must be a number from 0 to {high:g}, not {value!r}")
    return float(value)
