"""Folded-in rows as sums over their ratings: for what is linear in the ratings, and for reasons.

A ridge regression's solution is ``x = Aᵀ t`` with ``A = V (VᵀV + Λ)⁻¹``: each rating n adds its target t_n times a row of
its own. So a score is a sum over the ratings that it came from, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError
from hatrix.models.factors import ITEM, USER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]
    Matrix = NDArray[Any]

__all__ = [
    "LEAST_PENALTY",
    "Given",
    "Row",
    "Terms",
    "alternating",
    "confident",
    "damped",
    "descended",
    "implicit_ridge",
    "implicit_weight",
    "in_type",
    "learned",
    "likes",
    "projected",
    "refuse_excess",
    "regressors",
    "solvable",
    "without_bias",
]

LEAST_PENALTY = 1e-6
"""Per rating, where a recipe has none: of all rows that fit the ratings, the shortest."""


class Given(NamedTuple):
    """The ratings of a new row of a side: rows of the other side in ascending order, and the values.

    ``attributes`` is what those add to the row of each draw of a posterior, shape (S, k + 1), or None.
    """

    side: int
    other: NDArray[np.int64]
    value: Floats
    attributes: Floats | None = None


class Row(NamedTuple):
    """What was learned: bias and factors, of each posterior draw where there are some; the spread of a user's ratings."""

    bias: Any
    factors: Any
    spread: Any = None


class Terms(NamedTuple):
    """A row as ``base + each.sum()``: shapes (S, k + 1) and (S, n, k + 1), factors and then bias, of S draws or one."""

    base: Floats
    each: Floats

    def row(self) -> Row:
        """What they add up to."""
        total = self.base + self.each.sum(axis=1)
        return Row(total[:, -1], total[:, :-1].ravel())


def _terms(each: Floats, base: Floats | None = None) -> Terms:
    return Terms(np.zeros((1, each.shape[1])) if base is None else base[None], each[None])


@contextmanager
def solvable(ratings: int) -> Iterator[None]:
    """Turn the errors of a regression on this many ratings into errors that say what to do.

    Raises
    ------
    DataError
        If the equations have no solution, or there is too little memory for them.
    """
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise DataError(
            f"the model's numbers give equations without a solution ({error}): its file is not the work of a fit, or its "
            "regularization is too weak; fit again"
        ) from None
    except MemoryError as error:
        raise DataError(
            f"there is not enough memory to solve for a row of {ratings:,} ratings ({error}): give fewer ratings"
        ) from None


def in_type(values: Any, dtype: np.dtype[Any], largest: float) -> Matrix:
    """Return new biases or factors in the data type of the model.

    Raises
    ------
    DataError
        If one of them is not finite, or larger than models can compute with.
    """
    found = np.asarray(values)
    if not (np.abs(found) <= largest).all():
        raise DataError(
            f"a new row has numbers beyond {largest:g}, which models do not compute with: the ratings or the model's "
            "numbers are too large; divide the ratings by a power of ten and fit again"
        )
    return np.ascontiguousarray(found, dtype)


def refuse_excess(what: str, size: int, advice: str) -> None:
    """Refuse work that needs more than half of the machine's memory.

    Raises
    ------
    DataError
        If it does; the message has the memory needed, and the advice.
    """
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # this system cannot tell its memory
        most = 1 << 32
    if size > most:
        raise DataError(
            f"{what} needs {size / 1e9:,.1f} GB of memory, and half of this machine's is {most / 1e9:,.1f} GB: {advice}"
        )


def without_bias(factors: Floats) -> Floats:
    """Rows of factors with a bias of 0 behind them."""
    return np.concatenate([factors, np.zeros((*factors.shape[:-1], 1))], axis=-1)


def learned(model: FactorModel, side: int) -> tuple[Matrix, Matrix]:
    """Biases and factors of a side."""
    return (model.user_bias, model.user_factors) if side == USER else (model.item_bias, model.item_factors)


def regressors(model: FactorModel, given: Given) -> tuple[Matrix, Matrix]:
    """Biases and factors of the other side's rows."""
    bias, rows = learned(model, 1 - given.side)
    return bias[given.other], rows[given.other]


def influence(V: Floats, penalty: float, bias_penalty: float) -> Floats:
    """A (n, k + 1): ``tᵀ A`` are the x and β that minimise ``Σ (t_n - β - x·v_n)² + penalty |x|² + bias_penalty β²``.

    With an infinite ``bias_penalty`` there is no β.
    """
    n, k = V.shape
    scale = np.full(k + 1, max(penalty, n * LEAST_PENALTY) ** -0.5)
    scale[-1] = max(bias_penalty, n * LEAST_PENALTY) ** -0.5
    W = np.concatenate([V, np.ones((n, 1))], axis=1) * scale
    dual = n <= k
    A = np.linalg.solve(W @ W.T + np.eye(n), W) if dual else np.linalg.solve(W.T @ W + np.eye(k + 1), W.T).T
    return np.asarray(A * scale)


def descended(model: FactorModel, given: Given) -> Terms:
    """Of MF, BiasedMF and SVDpp: the most probable row, if rows are normal as the trained ones are and errors as theirs.

    Minimises ``Σ (t_n - β - x·v_n)² + error ((x - m)ᵀ C⁻¹ (x - m) + β² / var(b))`` with m and C the mean and the covariance
    of the side's trained rows. A user of SVDpp is the sum of that, with m = 0, and of the terms of the items rated.
    """
    bias, rows = regressors(model, given)
    V, fixed = rows.astype(np.float64), model.fixed
    centre, root, bias_variance = fixed.spread(given.side)
    shift = np.zeros_like(V)
    if given.side == USER and "item_terms" in model.parts:
        shift = model.parts["item_terms"][given.other].astype(np.float64) / np.sqrt(max(1, len(V)))
        centre = np.zeros_like(centre)
    A = influence(V @ root, fixed.error, fixed.error / bias_variance if bias_variance else np.inf)
    A = np.concatenate([A[:, :-1] @ root.T, A[:, -1:]], axis=1)
    target = given.value - model.mean - bias - V @ centre
    return _terms(target[:, None] * A + without_bias(shift) - shift @ (V.T @ A), np.append(centre, 0.0))


def damped(model: FactorModel, given: Given) -> Terms:
    """Of Bias: a share of what each rating leaves."""
    recipe: Any = model.recipe
    damping = recipe.user_damping if given.side == USER else recipe.item_damping
    bias, rows = regressors(model, given)
    each = np.zeros((len(bias), rows.shape[1] + 1))
    each[:, -1] = (given.value - model.mean - bias) / max(len(bias) + damping, 1e-12)
    return _terms(each)


def projected(model: FactorModel, given: Given) -> Terms:
    """Of SpectralMF: the rows that the items of the user, or the users of the item, add up to."""
    recipe: Any = model.recipe
    terms, name = (
        (recipe.user_terms, "projection") if given.side == USER else (recipe.item_terms, "user_projection")
    )
    each = without_bias(terms(model.parts[name], given.other, given.value))
    if given.side == ITEM and recipe.factors == 0:  # the score of an item is its count
        each[:, -1] = 1.0
    return _terms(each)


def alternating(model: FactorModel, given: Given) -> Terms:
    """Of ALS; with ``nonnegative`` those of the factors above zero, which are a regression of their own."""
    from hatrix.models.rows import als_row

    recipe: Any = model.recipe
    bias, rows = regressors(model, given)
    V, n = rows.astype(np.float64), len(rows)
    each = np.zeros((n, V.shape[1] + 1))
    live = np.flatnonzero(als_row(model, given).factors > 0) if recipe.nonnegative else np.arange(V.shape[1])
    scale = n**recipe.nu
    A = influence(
        V[:, live],
        recipe.regularization * recipe.unit * scale,
        float(recipe.bias_penalty(given.side, np.array(n))) if recipe.biased else np.inf,
    )
    each[:, np.append(live, -1)] = (given.value - model.mean - bias)[:, None] * A
    return _terms(each)


def confident(model: FactorModel, given: Given) -> Terms:
    """Of ImplicitALS, whose regression is over all items."""
    from hatrix.models.als import pulls

    recipe: Any = model.recipe
    V, n = regressors(model, given)[1].astype(np.float64), len(given.other)
    if not V.shape[1]:  # the score of an item is the logarithm of 1 + its count
        return _terms(np.full((n, 1), np.log1p(n) / max(n, 1) if given.side == ITEM else 0.0))
    weight, pull = pulls(recipe, given.value, model.scale)
    values, vectors = model.fixed.rotation(1 - given.side)
    H = (vectors * (implicit_weight(model) * np.maximum(values, 0))) @ vectors.T + (V.T * weight) @ V
    H[np.diag_indices_from(H)] += implicit_ridge(model, given.side, n)
    return _terms(without_bias(pull[:, None] * np.linalg.solve(H, V.T).T))


def likes(model: FactorModel, value: Floats) -> NDArray[np.bool_]:
    """Return which values say that a user likes an item: all but ratings below the middle of the scale.

    If the mean of the training ratings is below the middle, too, the values are counts of some sort rather than stars, and
    all of them are likes; so are all values if the recipe itself lets low ones count against an item.
    """
    if model.scale is None or model.recipe.counts_against(model.scale):
        return np.ones(len(value), bool)
    middle = (model.scale[0] + model.scale[1]) / 2
    return np.asarray((value >= middle) | (model.fallback < middle))


def implicit_weight(model: FactorModel) -> float:
    """Of ImplicitALS: the weight of a pair that was not seen."""
    recipe: Any = model.recipe
    return 1.0 if recipe.alpha0 is None else float(recipe.alpha0)


def implicit_ridge(model: FactorModel, side: int, count: Any) -> Any:
    """Of ImplicitALS: the penalty of rows with so many ratings."""
    recipe: Any = model.recipe
    others = len(model.items) if side == USER else len(model.users)
    return recipe.regularization * (count + implicit_weight(model) * others) ** recipe.nu
