"""The damping of biases, from how far users, and items, differ in their ratings.

The bias of n ratings is best predicted by ``n / (n + damping)`` of their mean deviation, if the noise of a rating has
``damping`` times the variance of the biases. Two ratings of one user have the variance of the users' biases in common, and
two ratings of one item that of the items', so both variances follow from pairs of ratings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["DAMPED", "damping", "dampings", "given", "left_to_data", "of_ratings"]

DAMPED = ("user_damping", "item_damping")
LEAST_SHARE, LEAST_NOISE = 1e-4, 0.05
"""Smallest shares of the variance of the ratings that the biases of a side, and the noise, are taken to have."""
UNKNOWN = 5.0
"""The damping of a side of which no row has two ratings, so that nothing tells."""


def given(recipe: Any) -> tuple[Any, Any]:
    """Return what a recipe has for the damping of users and of items: numbers or "auto"."""
    return recipe.user_damping, recipe.item_damping


def damping(recipe: Any) -> tuple[float, float]:
    """Return a recipe's damping of users and of items; what is left at "auto" is taken for unknown."""
    user, item = given(recipe)
    return (UNKNOWN if user == "auto" else user), (UNKNOWN if item == "auto" else item)


def left_to_data(recipe: Any, train: Ratings) -> dict[str, float]:
    """Return the numbers of the damping that a recipe leaves at "auto"."""
    left = [name for name, number in zip(DAMPED, given(recipe), strict=True) if number == "auto"]
    if not left:
        return {}
    found = of_ratings(train)
    return {name: found[name] for name in left}


def of_ratings(train: Ratings) -> dict[str, float]:
    """Return the damping of users and of items that the ratings suggest."""
    sides = [
        _products(train, train.user, train.user_count),
        _products(train, train.item, train.item_count),
    ]
    return dampings(sides, train.deviation**2)


def dampings(sides: list[tuple[float, float]], variance: float) -> dict[str, float]:
    """Return the damping of users and of items from the variance of the ratings and two sums over the rows of each side.

    With n the number, S the sum and Q the sum of squares of a row's ratings less the mean, the sums are ``Σ (S² - Q) / n``
    and ``Σ (n - 1)``. Their quotient is the mean product of two ratings of a row, rows weighted by n - 1, and estimates the
    variance of the biases. The noise is what both sides leave of the variance of the ratings.
    """
    shares = [
        max(LEAST_SHARE, products / (pairs * variance)) if pairs > 0 and variance > 0 else None
        for products, pairs in sides
    ]
    noise = max(LEAST_NOISE, 1 - sum(share for share in shares if share is not None))
    return {
        name: UNKNOWN if share is None else noise / share for name, share in zip(DAMPED, shares, strict=True)
    }


def _products(train: Ratings, row: NDArray[np.int32], count: NDArray[np.int64]) -> tuple[float, float]:
    total, squares = np.zeros(len(count)), np.zeros(len(count))
    for part in train.slices(row, train.value):
        left = train.value[part] - train.mean
        total += np.bincount(row[part], left, len(count))
        squares += np.bincount(row[part], left**2, len(count))
    several = count > 1
    products = (total[several] ** 2 - squares[several]) / count[several]
    return float(products.sum()), float((count[several] - 1).sum())
