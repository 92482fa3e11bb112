"""A new item of BPR: who has it, and who has not and might draw it, as its objective has them.

The row (q, b) of an item gives user u the score ``s_u = b + p_u·q``. With T the n users who have the item, w_uj how often
u draws item j, and π_u how often the new item, the steps of an epoch come to rest where these terms balance ::

    Σ_{u in T} Σ_j w_uj ln(1 + exp(x_uj - s_u))  +  Σ_{u not in T} π_u Σ_{i of u} ln(1 + exp(s_u - x_ui))
        + ½ (n + Σ_u n_u π_u) (regularization |q|² + bias_regularization (b - c)²)

x_ui is the score of what is fitted already, and c what biases are pulled to (`BPR.usual_bias`). Where
the best of some candidates is drawn, π_u rises with s_u, and so does its slope: the balance is still the minimum of a
convex function, which Newton's method finds.

No term compares two users, so the objective leaves open what is added to all scores of one. `levels` closes that: an active
user's scores are higher, as far as the number of items that the user has tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError
from hatrix.models.pairwise import picked
from hatrix.models.terms import LEAST_PENALTY, Given, Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Matrix = NDArray[Any]

__all__ = ["Crowd", "crowd_of", "levels", "pairwise_item"]

CROWD = 1024
"""Users that stand for all who might draw an item."""
MIDDLES = (np.arange(16) + 0.5) / 16
"""Where a distribution of scores is represented: a sixteenth of it each."""
LEVELS = np.append(1 - np.geomspace(1, 1 / 512, 24), 1.0).astype(np.float32)
"""Shares of the items drawn from, at which the scores of a user are kept: the best of some candidates is at the top."""
STEPS, CLOSE = 20, 1e-3
"""Newton's steps at most, and the relative move that ends them."""
USERS_AT_ONCE = 1024


class Crowd(NamedTuple):
    """Users who may not have an item: ``mass`` training pairs each, the scores of their own items and of all others.

    ``own`` (n, 16) are middles of sixteenths, ``others`` (n, levels) the scores below which a share ``LEVELS`` of what the
    user draws from lies, ``pool`` is how much that is.
    """

    user: NDArray[np.int64]
    mass: Matrix
    factors: Matrix
    own: Matrix
    others: Matrix
    pool: Matrix


def crowd_of(model: FactorModel) -> Crowd:
    """Users that stand for all: the more pairs a user has, the likelier."""
    if model.seen is None:
        raise DataError(
            "the model was saved without its training rows, and a new item of bpr needs those of the users who do not have "
            "it: fit again with the new item"
        )
    live = np.flatnonzero(model.user_count)
    wanted = model.user_count[live] / model.user_count.sum()
    at, chance = picked(wanted, CROWD, np.random.default_rng((model.seed, 7)))
    user = live[at]
    own, others, pool = [], [], []
    for row in user:
        mine, score, share, size = _drawn_from(model, int(row))
        own.append(np.sort(mine)[(MIDDLES * len(mine)).astype(int)])
        others.append(score[np.minimum(np.searchsorted(share, LEVELS), len(score) - 1)] if size else LEVELS)
        pool.append(size)
    numbers = model.user_count[user] / chance, model.user_factors[user], own, others, pool
    return Crowd(user, *(np.array(array, np.float32) for array in numbers))


def _drawn_from(model: FactorModel, user: int) -> tuple[Matrix, Matrix, Matrix, float]:
    """The scores of a user's items; those of what may be drawn, ascending, with the share up to each; and how much it is."""
    assert model.seen is not None
    rivals, pool, p = model.fixed.rivals, _pool(model), model.user_factors[user]
    mine = model.seen.item[model.seen.of(user)]
    apart = np.isin(rivals.item, mine, invert=True, assume_unique=True)
    score = (rivals.bias + rivals.factors @ p)[apart]
    order = np.argsort(score)
    share = np.cumsum(rivals.mass[apart][order], dtype=np.float64)
    size = float(pool.sum() - pool[mine].sum()) if len(share) else 0.0
    share = share / share[-1] if size else share
    return model.item_bias[mine] + model.item_factors[mine] @ p, score[order], share, size


def levels(model: FactorModel) -> NDArray[np.float32]:
    """What makes log odds of a user's scores: a_u with ``Σ_i σ(a_u + b_i + p_u·q_i) = n_u``, shape (n_users,).

    The sum is over the items that stand for all, times how many each stands for.
    """
    rivals = model.fixed.rivals
    pool = _pool(model)
    stands_for = (rivals.mass / pool[rivals.item] * pool.sum()).astype(np.float32)
    found = np.zeros(len(model.users), np.float32)
    live = np.flatnonzero(model.user_count)
    for first in range(0, len(live), USERS_AT_ONCE):
        users = live[first : first + USERS_AT_ONCE]
        score = model.user_factors[users] @ rivals.factors.T + rivals.bias
        had = np.minimum(model.user_count[users], 0.999 * stands_for.sum())
        level = (
            np.log(had) - np.log(np.exp(score - score.max(axis=1)[:, None]) @ stands_for) - score.max(axis=1)
        )
        for _ in range(STEPS):
            odds = _sigmoid(score + level[:, None].astype(np.float32))
            total = odds @ stands_for
            move = (np.log(had) - np.log(total)) * total / ((odds * (1 - odds)) @ stands_for)
            level += np.clip(move, -3, 3)
            if np.abs(move).max() < 0.01:
                break
        found[users] = level
    return found


def _pool(model: FactorModel) -> NDArray[Any]:
    """How often each item is in what negatives are drawn from."""
    return model.item_count if getattr(model.recipe, "sampling", "") == "popularity" else model.item_count > 0


class _Task(NamedTuple):
    """Rows (factors and a 1) of the users who have the item and of the crowd, and what their scores are compared with.

    The row of the item is pulled towards ``centre``.
    """

    rows: Matrix
    rivals: Matrix
    crowd: Crowd
    entries: int
    candidates: int
    penalty: Matrix
    centre: Matrix


def pairwise_item(model: FactorModel, given: Given) -> Row:
    """The row of a new item."""
    recipe: Any = model.recipe
    candidates = recipe.drawn
    crowd: Crowd = model.fixed.crowd
    rivals, having = [], []
    for user in given.other[model.user_count[given.other] > 0]:
        _, score, share, size = _drawn_from(model, int(user))
        if size:  # the best of c is below a score as often as all c of them are
            rivals.append(score[np.searchsorted(share, MIDDLES ** (1 / candidates)).clip(max=len(score) - 1)])
            having.append(int(user))
    k = model.item_factors.shape[1]
    if not having:
        return Row(0.0, np.zeros(k))
    apart = np.isin(crowd.user, given.other, invert=True)
    crowd = Crowd(*(array[apart] for array in crowd))
    rows = np.ones((len(having) + len(crowd.user), k + 1), np.float32)
    rows[:, :-1] = np.concatenate([model.user_factors[having], crowd.factors])
    penalty = np.append(np.full(k, recipe.regularization), float(recipe.bias_regularization))
    entries = len(having) if recipe.sampling == "popularity" else 1
    centre = np.zeros(k + 1)
    centre[-1:] = recipe.usual_bias(model.item_bias, model.item_count, np.array([len(having)]))
    x = _rest(_Task(rows, np.array(rivals, np.float32), crowd, entries, candidates, penalty, centre))
    return Row(x[-1], x[:-1])


def _rest(task: _Task) -> Matrix:
    """Where the slope is zero, by Newton's method; a step that goes too far is shortened to where its slope should end."""
    from scipy.linalg import cho_factor, cho_solve

    x = task.centre
    slope, hessian = _slopes(task, x)
    for _ in range(STEPS):
        move = cho_solve(cho_factor(hessian, check_finite=False), slope, check_finite=False)
        ahead, step = float(slope @ move), 1.0
        for _ in range(STEPS):
            slope, hessian = _slopes(task, x - step * move)
            past = -float(slope @ move)
            if past <= 0.5 * ahead:  # both are 0 where the slope is
                break
            step *= ahead / (ahead + past)
        x = x - step * move
        if step * np.abs(move).max() < CLOSE * (1 + np.abs(x).max()):
            break
    return x


def _slopes(task: _Task, x: Matrix) -> tuple[Matrix, Matrix]:
    """First and second derivatives of what is minimised; the penalty's weight counts as a constant."""
    n, crowd = len(task.rivals), task.crowd
    score = task.rows @ x.astype(np.float32)
    up = _sigmoid(task.rivals - score[:n, None])
    down = _sigmoid(score[n:, None] - crowd.own)
    often, rise = _drawn(task, score[n:])
    slope = np.concatenate([-up.mean(axis=1), often * down.mean(axis=1)])
    curve = np.concatenate(
        [(up * (1 - up)).mean(axis=1), often * (down * (1 - down)).mean(axis=1) + rise * down.mean(axis=1)]
    )
    penalty = (n + often.sum()) * task.penalty + n * LEAST_PENALTY
    hessian = ((task.rows.T * curve) @ task.rows).astype(np.float64)
    hessian[np.diag_indices_from(hessian)] += penalty
    return slope @ task.rows + penalty * (x - task.centre), hessian


def _drawn(task: _Task, score: Matrix) -> tuple[Matrix, Matrix]:
    """How often the item is drawn beside the pairs of each of the crowd, and how that rises with its score."""
    crowd, c = task.crowd, task.candidates
    mine = task.entries / (crowd.pool + task.entries)
    if c == 1:
        return crowd.mass * mine, np.zeros(len(mine))
    place, at = (crowd.others <= score[:, None]).sum(axis=1), np.arange(len(score))
    inside = (place > 0) & (place < len(LEVELS))
    low, high = np.maximum(place - 1, 0), np.minimum(place, len(LEVELS) - 1)
    width = np.where(inside, crowd.others[at, high] - crowd.others[at, low], 1.0)
    steep = np.where(inside, (LEVELS[high] - LEVELS[low]) / width, 0.0)
    below = np.where(place == 0, 0.0, LEVELS[low] + steep * (score - crowd.others[at, low])) * (1 - mine)
    often = (below + mine) ** c - below**c
    rise = c * ((below + mine) ** (c - 1) - below ** (c - 1)) * steep * (1 - mine)
    return crowd.mass * often, crowd.mass * rise


def _sigmoid(x: Matrix) -> Matrix:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -80, 80))))
