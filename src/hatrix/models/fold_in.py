"""New users and items from a few ratings, without training: the other side's rows stay what they are.

Each algorithm answers with the row that its own objective wants, given the ratings and the fixed rows:

============================  =========================================================================================
`ALS`, `ImplicitALS`          the row of a sweep: the same ridge regression by the same kernel
`BiasedMF`, `SVDpp`           the ridge regression that stochastic gradient descent approaches; a user of `SVDpp` has the
                              item terms, too
`MF`                          the ridge regression whose prior is the normal distribution of the trained rows, and whose
                              noise is the training error: stopping early is what regularises it, so it says no more
`Bias`                        the damped mean of what the ratings leave
`Popular`                     nothing for a user; for an item, its count
`SpectralMF`                  the projection of the user's row
`BPR`                         the maximiser of its objective over a sample of items
`BayesianMF`                  for each posterior draw, a draw from the conditional posterior (`hatrix.models.conditional`)
============================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from hatrix.data.ids import Ids, as_column
from hatrix.data.values import numbers
from hatrix.errors import DataError
from hatrix.models.factors import ITEM, USER
from hatrix.models.seen import Seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]
    Matrix = NDArray[Any]

__all__ = ["Fixed", "Given", "Row", "fold_in", "fold_in_item"]

SIDES = ("user", "item")
NAMED = 5
RIVALS = 2048
"""Items that stand for all that a user of BPR does not have."""
USERS_ASKED = 64
"""Users whose scores tell which items are drawn often."""
STEPS, FRESH, CLOSE = 8, 2, 2e-3
"""Newton's steps at most, those with a Hessian of their own, and the relative move that ends them."""
LIGHT = 0.01
"""Rivals that are drawn less often than this share of the most frequent one are passed over."""
LEAST_PENALTY = 1e-6
"""Per rating, where a recipe has none: of all rows that fit the ratings, the shortest."""


class Given(NamedTuple):
    """The ratings of a new row of a side: rows of the other side in ascending order, and the values."""

    side: int
    other: NDArray[np.int64]
    value: Floats


class Row(NamedTuple):
    """What was learned: bias and factors, of each posterior draw where there are some; the spread of a user's ratings."""

    bias: Any
    factors: Any
    spread: Any = None


class Rivals(NamedTuple):
    """Items that a user of BPR may not have, each standing for a share ``mass`` of those that are drawn."""

    item: NDArray[np.int64]
    mass: Matrix
    factors: Matrix
    bias: Matrix


class Fixed:
    """What the fold-ins of one model have in common, each worked out when first wanted."""

    def __init__(self, model: FactorModel) -> None:
        self.model = model
        self._rotations: dict[int, tuple[Floats, Floats]] = {}
        self._spreads: dict[int, tuple[Floats, Floats]] = {}

    @cached_property
    def unit(self) -> float:
        """In which a recipe of gradient descent worked; without training rows, judged by the scale."""
        from hatrix.models.mf import natural_unit

        model = self.model
        if model.seen is not None and len(model.seen.value):
            return natural_unit(model.seen.value)
        return natural_unit(np.array(model.scale) / 2) if model.scale else 1.0

    @cached_property
    def mean_count(self) -> tuple[float, float]:
        counts = self.model.user_count, self.model.item_count
        user, item = (float(count.sum() / max(1, np.count_nonzero(count))) for count in counts)
        return user, item

    def spread(self, side: int) -> tuple[Floats, Floats]:
        """The mean m (k,) of the factors of a side's rows that have ratings, and R (k, k): their covariance is R Rᵀ."""
        if side not in self._spreads:
            model = self.model
            rows, count = (
                (model.user_factors, model.user_count)
                if side == USER
                else (model.item_factors, model.item_count)
            )
            live = rows[count > 0].astype(np.float64)
            centre = live.mean(axis=0)
            covariance = (live - centre).T @ (live - centre) / len(live)
            covariance[np.diag_indices_from(covariance)] += LEAST_PENALTY * (1 + np.trace(covariance))
            self._spreads[side] = centre, np.linalg.cholesky(covariance)
        return self._spreads[side]

    def rotation(self, side: int) -> tuple[Floats, Floats]:
        """Eigenvalues and eigenvectors of the Gram matrix of a side's factors."""
        if side not in self._rotations:
            from hatrix.kernels import dense
            from hatrix.kernels.least_squares import padded_rows

            rows = self.model.user_factors if side == USER else self.model.item_factors
            k = rows.shape[1]
            gram = dense.gram(padded_rows(rows), threads=1)[:k, :k]
            with dense.one_blas_thread():
                self._rotations[side] = np.linalg.eigh(gram)
        return self._rotations[side]

    @cached_property
    def freedom(self) -> Floats:
        from hatrix.models.conditional import freedom

        assert self.model.posterior is not None
        return freedom(self.model.posterior)

    @cached_property
    def prior_roots(self) -> tuple[Floats, Floats]:
        from hatrix.models.conditional import prior_root

        posterior = self.model.posterior
        assert posterior is not None
        return prior_root(posterior.user_precision), prior_root(posterior.item_precision)

    @cached_property
    def rivals(self) -> Rivals:
        """Items that stand for all: the likelier a user's negatives, the likelier they are among them."""
        model, recipe = self.model, cast("Any", self.model.recipe)
        pool = model.item_count if recipe.sampling == "popularity" else model.item_count > 0
        live = np.flatnonzero(pool)
        mass = (pool[live] / pool.sum()).astype(np.float64)
        rng = np.random.default_rng((model.seed, 6))
        if len(live) > RIVALS:
            users = np.flatnonzero(model.user_count)
            users = rng.choice(users, min(len(users), USERS_ASKED), replace=False)
            scores = model.user_factors[users] @ model.item_factors[live].T + model.item_bias[live]
            wanted = np.mean([_drawn(recipe, row, mass) for row in scores], axis=0) / 2 + mass / 2
            chance = np.minimum(1, RIVALS * wanted)
            for _ in range(10):  # what is sure leaves more for the others
                unsure = chance < 1
                left = (RIVALS - np.count_nonzero(~unsure)) / chance[unsure].sum()
                chance[unsure] = np.minimum(1, chance[unsure] * left)
            ends = np.cumsum(chance)
            picked = np.unique(np.searchsorted(ends, rng.random() + np.arange(int(ends[-1])), side="right"))
            live, mass = live[picked], mass[picked] / chance[picked]
        factors, bias = model.item_factors[live], model.item_bias[live]
        return Rivals(live, mass.astype(factors.dtype), factors, bias)


def fold_in(model: FactorModel, ratings: Mapping[Any, float], *, user_id: Any = "new user") -> FactorModel:
    """See `FactorModel.fold_in`."""
    given, notes = _given(model, USER, ratings)
    row = _row(model, given)
    users, posterior = Ids.from_labels([user_id])[0], model.posterior
    if posterior is not None and posterior.user_spread.size:
        spread = np.stack([row.spread, posterior.user_spread[-1]]).astype(posterior.user_spread.dtype)
        posterior = posterior._replace(user_spread=spread)
    return replace(
        model,
        users=users,
        user_bias=_one(row.bias, model.user_bias),
        user_factors=_one(row.factors, model.user_factors),
        user_count=np.array([len(given.other)], np.int64),
        seen=Seen(np.array([0, len(given.other)]), given.other.astype(np.int32), given.value),
        user_table=None,
        posterior=posterior,
        notes=(*model.notes, *notes),
        origin=model,
    )


def fold_in_item(
    model: FactorModel, ratings: Mapping[Any, float], *, item_id: Any = "new item"
) -> FactorModel:
    """See `FactorModel.fold_in_item`."""
    given, notes = _given(model, ITEM, ratings)
    row = _row(model, given)
    rated = np.zeros(len(model.users) + 1, np.int64)
    rated[given.other + 1] = 1
    return replace(
        model,
        items=Ids.from_labels([item_id])[0],
        item_bias=_one(row.bias, model.item_bias),
        item_factors=_one(row.factors, model.item_factors),
        item_count=np.array([len(given.other)], np.int64),
        seen=Seen(np.cumsum(rated), np.zeros(len(given.other), np.int32), given.value),
        item_table=None,
        parts={name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in model.parts.items()},
        notes=(*model.notes, *notes),
        origin=model,
    )


def _one(values: Any, like: Matrix) -> Matrix:
    return np.ascontiguousarray(values, like.dtype).reshape(1, *like.shape[1:])


def _given(model: FactorModel, side: int, ratings: Mapping[Any, float]) -> tuple[Given, list[str]]:
    """Rows and values of ratings by label, and a note about labels that the model does not know."""
    name, ids = SIDES[1 - side], model.users if side == ITEM else model.items
    if not isinstance(ratings, Mapping):
        raise DataError(
            f"ratings are {type(ratings).__name__}: give them as a mapping, {{{name} id: rating, …}}"
        )
    labels, value = as_column(list(ratings)), numbers(as_column(list(ratings.values())))
    if np.isnan(value).any():
        label = labels[np.argmax(np.isnan(value))]
        raise DataError(f"the rating of {name} {label!r} is {ratings[label]!r}: give a finite number")
    if (
        model.scale is not None
        and len(value)
        and not model.scale[0] <= value.min() <= value.max() <= model.scale[1]
    ):
        label = labels[np.argmax((value < model.scale[0]) | (value > model.scale[1]))]
        raise DataError(
            f"the rating of {name} {label!r} is {ratings[label]!r}: the model was trained on ratings from "
            f"{model.scale[0]:g} to {model.scale[1]:g}"
        )
    rows = ids.encode(labels)
    known, notes = rows >= 0, []
    if not known.all():
        few = ", ".join(map(repr, labels[~known][:NAMED].tolist())) + (
            ", …" if (~known).sum() > NAMED else ""
        )
        if not known.any():
            raise DataError(f"the model knows none of the {len(rows):,} {name}s given: {few}")
        notes.append(f"{(~known).sum():,} of the {len(rows):,} {name}s given are unknown to the model: {few}")
        rows, value = rows[known], value[known]
    order = np.argsort(rows)
    rows, value = rows[order], value[order]
    if (rows[1:] == rows[:-1]).any():
        raise DataError(f"{name} {ids.decode(rows[:-1][rows[1:] == rows[:-1]])[0]!r} is given twice")
    return Given(side, rows, value), notes


def _row(model: FactorModel, given: Given) -> Row:
    if len(given.other) == 0 and model.posterior is None:
        like = (
            (model.user_bias, model.user_factors)
            if given.side == USER
            else (model.item_bias, model.item_factors)
        )
        return Row(*(np.zeros(array.shape[1:]) for array in like))
    return FOLDS[model.recipe.name](model, given)


def _regressors(model: FactorModel, given: Given) -> tuple[Matrix, Matrix]:
    """Biases and factors of the other side's rows."""
    bias, rows = (
        (model.item_bias, model.item_factors) if given.side == USER else (model.user_bias, model.user_factors)
    )
    return bias[given.other], rows[given.other]


def _alternating(model: FactorModel, given: Given) -> Row:
    from hatrix.kernels.least_squares import padded_rows, solve_rows

    recipe: Any = model.recipe
    bias, rows = _regressors(model, given)
    n, Y = len(given.other), padded_rows(rows)
    X, beta = np.zeros((1, Y.shape[1]), np.float32), np.zeros(1, np.float32)
    target = (given.value - model.mean).astype(np.float32) - bias.astype(np.float32)
    ridge, bias_ridge = (
        np.array([weight * n**recipe.nu], np.float32)
        for weight in (recipe.regularization, recipe.bias_regularization)
    )
    solve_rows(
        np.array([0, n]), np.arange(n, dtype=np.int32), np.ones(n, np.float32), target, Y,
        np.zeros(Y.shape[1], np.float32), ridge, X, bias=beta if recipe.biased else None, bias_ridge=bias_ridge,
        nonnegative=recipe.nonnegative,
    )  # fmt: skip
    return Row(beta[0], X[0, : rows.shape[1]])


def _implicit(model: FactorModel, given: Given) -> Row:
    from hatrix.kernels.least_squares import padded_rows, solve_rows
    from hatrix.models.als import confidence

    recipe: Any = model.recipe
    weight, target = confidence(recipe, given.value)
    values, vectors = model.fixed.rotation(ITEM if given.side == USER else USER)
    _, rows = _regressors(model, given)
    n, k = rows.shape
    Y = padded_rows(rows.astype(np.float64) @ vectors)
    X, alpha0 = np.zeros((1, Y.shape[1]), np.float32), 1.0 if recipe.alpha0 is None else recipe.alpha0
    diagonal = np.zeros(Y.shape[1], np.float32)
    diagonal[:k] = alpha0 * np.maximum(values, 0)
    others = len(model.items) if given.side == USER else len(model.users)
    ridge = np.array([recipe.regularization * (n + alpha0 * others) ** recipe.nu], np.float32)
    solve_rows(
        np.array([0, n]), np.arange(n, dtype=np.int32), weight.astype(np.float32), target.astype(np.float32), Y,
        diagonal, ridge, X,
    )  # fmt: skip
    return Row(0.0, vectors @ X[0, :k])


def _ridge(
    V: Floats, target: Floats, penalty: float, bias_penalty: float | None = None
) -> tuple[float, Floats]:
    """The β and x that minimise ``Σ (t_n - β - x·v_n)² + penalty |x|² + bias_penalty β²``; no β without its penalty."""
    n = len(target)
    scale = np.full(V.shape[1] + (bias_penalty is not None), max(penalty, n * LEAST_PENALTY) ** -0.5)
    if bias_penalty is not None:
        V = np.concatenate([V, np.ones((n, 1))], axis=1)
        scale[-1] = max(bias_penalty, n * LEAST_PENALTY) ** -0.5
    W = V * scale
    if n < W.shape[1]:
        y = W.T @ np.linalg.solve(W @ W.T + np.eye(n), target)
    else:
        y = np.linalg.solve(W.T @ W + np.eye(W.shape[1]), W.T @ target)
    x = y * scale
    return (0.0, x) if bias_penalty is None else (float(x[-1]), x[:-1])


def _plain(model: FactorModel, given: Given) -> Row:
    V = _regressors(model, given)[1].astype(np.float64)
    centre, root = model.fixed.spread(given.side)
    error = float(model.history["train_mse"].iloc[-1]) if len(model.history) else 1.0
    _, y = _ridge(V @ root, given.value - V @ centre, error)
    return Row(0.0, centre + root @ y)


def _biased(model: FactorModel, given: Given) -> Row:
    recipe: Any = model.recipe
    bias, rows = _regressors(model, given)
    V, n = rows.astype(np.float64), len(rows)
    shift = np.zeros(V.shape[1])
    if given.side == USER and "item_terms" in model.parts:
        shift = model.parts["item_terms"][given.other].astype(np.float64).sum(axis=0) / np.sqrt(n)
    fixed = model.fixed
    weight = recipe.regularization * (fixed.mean_count[given.side] / n) ** recipe.frequency_scaling
    # Factors are in units of its root, biases in the unit itself: see BiasedMF.
    b, x = _ridge(
        V,
        given.value - model.mean - bias - V @ shift,
        n * weight * fixed.unit,
        n * recipe.bias_regularization,
    )
    return Row(b, shift + x)


def _damped(model: FactorModel, given: Given) -> Row:
    recipe: Any = model.recipe
    damping = recipe.user_damping if given.side == USER else recipe.item_damping
    rest = given.value - model.mean - _regressors(model, given)[0]
    return Row(rest.sum() / max(len(rest) + damping, 1e-12), np.zeros(0))


def _counted(model: FactorModel, given: Given) -> Row:  # noqa: ARG001
    return Row(0.0 if given.side == USER else len(given.other), np.zeros(0))


def _projected(model: FactorModel, given: Given) -> Row:
    if given.side == ITEM:
        raise DataError(
            "spectral-mf takes the whole matrix apart, and says nothing of a new item: fit again with it"
        )
    recipe: Any = model.recipe
    return Row(0.0, recipe.user_row(model.parts["projection"], given.other, given.value))


def _preferring(model: FactorModel, given: Given) -> Row:
    """Minimise ``Σ_i Σ_j w_j ln(1 + exp(x_j - x_i)) + ½ n λ |p|²`` by Newton's method; w: how often j is drawn."""
    from scipy.linalg import cho_factor, cho_solve

    if given.side == ITEM:
        raise DataError(
            "bpr learns an item from all users, those who do not have it too: fit again with the new item"
        )
    recipe: Any = model.recipe
    mine, fixed = given.other[model.item_count[given.other] > 0], model.fixed.rivals
    apart = np.isin(fixed.item, mine, invert=True)
    p = np.zeros(model.item_factors.shape[1], np.float32)
    if not len(mine) or not apart.any():
        return Row(0.0, p)
    Q, R, b, c, mass = (
        model.item_factors[mine],
        fixed.factors,
        model.item_bias[mine],
        fixed.bias,
        fixed.mass * apart,
    )
    penalty, weight, solver = np.float32(len(mine) * recipe.regularization + LEAST_PENALTY), mass, None
    for step in range(STEPS):
        x, y = b + Q @ p, c + R @ p
        # Who is drawn depends on p where the best of some is taken: half the way, so that it settles.
        weight = _drawn(recipe, y, mass) if step == 0 else (weight + _drawn(recipe, y, mass)) / 2
        heavy = weight > LIGHT * weight.max()
        S = R[heavy]
        g = 1 / (1 + np.exp(np.clip(x[:, None] - y[heavy], -80, 80)))
        slope = weight[heavy] * g
        gradient = penalty * p - slope.sum(axis=1) @ Q + slope.sum(axis=0) @ S
        if solver is None or step < FRESH:
            curve = slope * (1 - g)
            cross = Q.T @ (curve @ S)
            H = (Q.T * curve.sum(axis=1)) @ Q + (S.T * curve.sum(axis=0)) @ S - cross - cross.T
            H[np.diag_indices(len(H))] += penalty
            solver = cho_factor(H, overwrite_a=True, check_finite=False)
        move = cho_solve(solver, gradient, check_finite=False)
        p = p - move
        if np.abs(move).max() < CLOSE * (1 + np.abs(p).max()):
            break
    return Row(0.0, p)


def _drawn(recipe: Any, score: Matrix, mass: Matrix) -> Matrix:
    """The share of draws that each rival gets, from its share of the pool: that, or as the best of some candidates."""
    mass = mass / mass.sum()
    if recipe.sampling != "adaptive":
        return mass
    order = np.argsort(-score, kind="stable")
    below = np.clip(1 - np.append(0, np.cumsum(mass[order])), 0, 1) ** recipe.candidates
    share = np.empty_like(mass)
    share[order] = below[:-1] - below[1:]
    return share


def _conditional(model: FactorModel, given: Given) -> Row:
    from hatrix.models.conditional import draw

    return draw(model, given)


FOLDS: Mapping[str, Callable[[FactorModel, Given], Row]] = {
    "als": _alternating,
    "implicit-als": _implicit,
    "mf": _plain,
    "biased-mf": _biased,
    "svdpp": _biased,
    "bias": _damped,
    "popular": _counted,
    "spectral-mf": _projected,
    "bpr": _preferring,
    "bayesian-mf": _conditional,
}
