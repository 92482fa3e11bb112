"""A new user of BPR: the pairs of items had and items that might be drawn, as its objective has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.models.factors import ITEM
from hatrix.models.terms import LEAST_PENALTY, Given, Row, Terms, without_bias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Matrix = NDArray[Any]

__all__ = ["Rivals", "pairwise", "pairwise_terms", "picked", "rivals_of", "usual_bias"]

RIVALS = 2048
"""Items that stand for all that a user of BPR does not have."""
USERS_ASKED = 64
"""Users whose scores tell which items are drawn often."""
ITEMS_AT_ONCE = 1 << 12
"""Maximum items of the user whose pairs with the rivals are in memory at once."""
SHARE = 0.99
"""How much of the regression on popularity biases are pulled to; the rest keeps a popularity that tells little near zero."""
NEAR = 1e-6
"""Items whose logarithmic counts have a smaller standard deviation are equally popular."""
LIGHT = 0.01
"""Rivals that are drawn less often than this share of the most frequent one are passed over."""


def usual_bias(bias: NDArray[Any], known: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the bias that is usual for items with so many training ratings: `SHARE` of what a regression says.

    The regression is that of the item biases on the logarithm of 1 + the item's count and its square, over the items with
    training ratings. Counts outside their range are taken for the nearest one inside.

    Parameters
    ----------
    bias, known
        The bias and the number of training ratings of each item.
    count
        The numbers of training ratings to return a bias for.
    """
    rated = known > 0
    if not rated.any():
        return np.zeros(len(count))
    x, y = np.log1p(known[rated]), bias[rated].astype(np.float64)
    middle, spread = x.mean(), x.std()
    degree = min(2, len(np.unique(known[rated])) - 1) if spread > NEAR else 0
    curve = np.polyfit((x - middle) / max(spread, NEAR), y, degree)
    at = np.clip(np.log1p(count), x.min(), x.max())
    return np.asarray(SHARE * np.polyval(curve, (at - middle) / max(spread, NEAR)))


class Rivals(NamedTuple):
    """Items that a user of BPR may not have, each standing for a share ``mass`` of those that are drawn.

    ``padded`` are their factors as kernels want them.
    """

    item: NDArray[np.int64]
    mass: Matrix
    factors: Matrix
    bias: Matrix
    padded: Matrix


def rivals_of(model: FactorModel) -> Rivals:
    """Items that stand for all: the likelier a user's negatives, the likelier they are among them."""
    from hatrix.kernels.tiles import padded_rows

    recipe: Any = model.recipe
    pool = model.item_count if recipe.sampling == "popularity" else model.item_count > 0
    live = np.flatnonzero(pool)
    mass = (pool[live] / pool.sum()).astype(np.float64)
    rng = np.random.default_rng((model.seed, 6))
    if len(live) > RIVALS:
        users = np.flatnonzero(model.user_count)
        users = rng.choice(users, min(len(users), USERS_ASKED), replace=False)
        scores = model.user_factors[users] @ model.item_factors[live].T + model.item_bias[live]
        wanted = np.mean([_drawn(recipe, row, mass) for row in scores], axis=0) / 2 + mass / 2
        at, chance = picked(wanted, RIVALS, rng)
        live, mass = live[at], mass[at] / chance
    factors, bias = model.item_factors[live], model.item_bias[live]
    return Rivals(live, mass.astype(np.float32), factors, bias, padded_rows(factors))


def picked(wanted: Matrix, size: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Matrix]:
    """About ``size`` of them (all, if there are no more), as likely as they are wanted; and the chance that each had."""
    if len(wanted) <= size:
        return np.arange(len(wanted)), np.ones(len(wanted))
    chance = np.minimum(1, size * wanted)
    for _ in range(10):  # what is sure leaves more for the others
        unsure = chance < 1
        left = (size - np.count_nonzero(~unsure)) / chance[unsure].sum()
        chance[unsure] = np.minimum(1, chance[unsure] * left)
    ends = np.cumsum(chance)
    at = np.unique(np.searchsorted(ends, rng.random() + np.arange(int(ends[-1])), side="right"))
    return at, chance[at]


class _Task(NamedTuple):
    """The regression of one user: items had and rivals, with the penalty ``n λ``."""

    Q: Matrix
    b: Matrix
    R: Matrix
    padded: Matrix
    c: Matrix
    mass: Matrix
    penalty: Any


class _Slopes(NamedTuple):
    """At some p: second derivatives of pairs, (n, rivals), for the rivals S that matter; and the slope of each item."""

    curve: Matrix
    S: Matrix
    pull: Matrix


def pairwise(model: FactorModel, given: Given) -> Row:
    """The row of a new user, or item."""
    if not model.user_factors.shape[1]:  # the score of an item is the logarithm of 1 + its count
        return Row(np.log1p(len(given.other)) if given.side == ITEM else 0.0, np.zeros(0))
    if given.side == ITEM:
        from hatrix.models.pairwise_items import pairwise_item

        return pairwise_item(model, given)
    task = _task(model, given)[0]
    p = np.zeros(model.item_factors.shape[1], np.float32)
    return Row(0.0, p if task is None else _optimum(model.recipe, task)[0])


def pairwise_terms(model: FactorModel, given: Given) -> Terms:
    """The row as a sum over the items had, by the weighted least squares that a step of Newton's method is.

    With C_i the curvature of the pairs of item i and g_i their slope, the step from p goes to
    ``(n λ I + Σ C_i)⁻¹ Σ (C_i p + g_i)``.
    """
    if not model.user_factors.shape[1]:
        return Terms(np.zeros((1, 1)), np.zeros((1, len(given.other), 1)))
    task, known = _task(model, given)
    each = np.zeros((len(given.other), model.item_factors.shape[1]))
    if task is not None:
        p, weight = _optimum(model.recipe, task)
        rows, H = np.empty((len(task.Q), len(p))), np.zeros((len(p), len(p)))
        for first in range(0, len(rows), ITEMS_AT_ONCE):
            part = slice(first, first + ITEMS_AT_ONCE)
            some = task._replace(Q=task.Q[part], b=task.b[part])
            at = _slopes(some, p, weight)
            d = at.curve * (some.Q @ p)[:, None] - at.curve * (at.S @ p)
            rows[part] = d.sum(axis=1)[:, None] * some.Q - d @ at.S + at.pull
            H += _hessian(some, at)
        H[np.diag_indices(len(H))] += task.penalty
        each[known] = np.linalg.solve(H, rows.T).T
    return Terms(without_bias(np.zeros((1, each.shape[1]))), without_bias(each)[None])


def _task(model: FactorModel, given: Given) -> tuple[_Task | None, NDArray[np.bool_]]:
    """None where there is nothing to learn from; and which of the items are among the user's."""
    recipe: Any = model.recipe
    known, rivals = model.item_count[given.other] > 0, model.fixed.rivals
    mine = given.other[known]
    apart = np.isin(rivals.item, mine, invert=True)
    if not len(mine) or not apart.any():
        return None, known
    penalty = np.float32(len(mine) * recipe.regularization + LEAST_PENALTY)
    ours = model.item_factors[mine], model.item_bias[mine]
    return _Task(*ours, rivals.factors, rivals.padded, rivals.bias, rivals.mass * apart, penalty), known


def _optimum(recipe: Any, task: _Task) -> tuple[Matrix, Matrix]:
    """The p that minimises ``Σ_i Σ_j w_j ln(1 + exp(x_j - x_i)) + ½ n λ |p|²``, by Newton's method; and the w.

    w_j is how often j is drawn.
    """
    from hatrix.kernels.newton import row_of_pairs
    from hatrix.kernels.tiles import padded_rows

    k = task.Q.shape[1]
    Q, R = padded_rows(task.Q), task.padded
    p, weight = np.zeros((1, R.shape[1]), np.float32), np.empty(len(R), np.float32)
    mass = task.mass / task.mass.sum()
    candidates = recipe.candidates if recipe.sampling == "adaptive" else 1
    row_of_pairs(R.shape[1])(Q, task.b, R, task.c, mass, candidates, task.penalty, p, weight)
    return p[0, :k], weight


def _slopes(task: _Task, p: Matrix, weight: Matrix) -> _Slopes:
    heavy = weight > LIGHT * weight.max()
    S = task.R[heavy]
    g = 1 / (1 + np.exp(np.clip((task.b + task.Q @ p)[:, None] - (task.c[heavy] + S @ p), -80, 80)))
    slope = weight[heavy] * g
    return _Slopes(slope * (1 - g), S, slope.sum(axis=1)[:, None] * task.Q - slope @ S)


def _hessian(task: _Task, at: _Slopes) -> Matrix:
    """Return the second derivatives of the pairs, without the penalty."""
    cross = task.Q.T @ (at.curve @ at.S)
    H = (task.Q.T * at.curve.sum(axis=1)) @ task.Q + (at.S.T * at.curve.sum(axis=0)) @ at.S - cross - cross.T
    return np.asarray(H)


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
