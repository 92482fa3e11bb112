"""A new row of a posterior: for each draw of all else, a draw of the row from its conditional distribution.

With V the other side's rows of a draw, each with a last 1, and t what the ratings leave of their means, the row x has the
prior N(μ, Λ⁻¹) and the likelihood N(t; V x, 1 / c). In coordinates where the prior is standard normal, ``x = μ + R y`` with
``R Rᵀ = Λ⁻¹``, and along the eigenvectors U of ``(V R)ᵀ V R`` with eigenvalues d, the numbers are independent::

    Uᵀy ~ N(c g / (1 + c d), 1 / (1 + c d)),    g = Uᵀ (V R)ᵀ (t - V μ)

so that one decomposition serves any noise. Where each user has a noise of their own, ``c`` is the common precision times a
factor w with prior Γ(ν/2, ν/2), drawn with x integrated out. In an ordered probit t are hidden numbers, which are drawn
in turns with w and x.

Where the model has bags (`hatrix.models.bags`), μ is the prior mean of the own part, plus the rows of the attributes, plus
``n^-½ Σ y_j`` over what was rated (or, for an item, who rated it). Where users have biases of their days, a rating of a day
that is not known scatters by that, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError
from hatrix.models import bags, probit
from hatrix.models.factors import USER, Posterior
from hatrix.models.terms import Given, Row, Terms, refuse_excess, regressors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]

__all__ = ["draw", "freedom", "mean_terms"]

ROUNDS = 25
"""Turns of an ordered probit: hidden numbers of five stars tell nearly as much as real ones, so few are enough."""
ARRAYS = 6
"""Number of arrays, with a value for each rating, draw and factor, that exist at once."""
WEIGHTS = np.geomspace(0.01, 30, 128)
"""Where the density of a user's relative precision is worked out."""


class _Task(NamedTuple):
    """The regression of each draw, shapes (S, n, k + 1), (S, n) and so on; see the head of the module.

    ``shares``, shape (S, n, k + 1), are what each rating puts into the centre, or None.
    """

    offset: Floats
    V: Floats
    centre: Floats
    shares: Floats | None
    root: Floats
    spread: Floats
    d: Floats
    U: Floats
    M: Floats


def draw(model: FactorModel, given: Given) -> Row:
    """Bias (S,), factors (S k,) and, where users have a noise of their own, the spread (S,) of a new row."""
    posterior = model.posterior
    assert posterior is not None
    rng = np.random.default_rng((model.seed, 5))
    task = _task(model, posterior, given)
    own = given.side == USER and posterior.user_spread.size > 0
    draws, size = task.centre.shape
    precision = posterior.noise**-2.0
    start = task.offset + _times(task.V, task.centre)
    if posterior.cuts.size:
        star = _stars(posterior, given)
        x, w = task.centre, np.ones(draws)
        for turn in range(ROUNDS):
            score = task.offset + _times(task.V, x)
            spread = np.broadcast_to(task.spread * w[:, None] ** -0.5, score.shape)
            hidden = probit.latent(score, spread, star, posterior.cuts, rng.random(score.shape))
            rest = (hidden - start) / task.spread
            along = _along(task, rest)
            w = _weight(model, task, rest, along, precision, rng) if own else w
            x = _draw(task, along, w * precision, _normal(rng, draws, size, last=turn == ROUNDS - 1))
    else:
        rest = (given.value - start) / task.spread
        along = _along(task, rest)
        w = _weight(model, task, rest, along, precision, rng) if own else np.ones(draws)
        x = _draw(task, along, w * precision, _normal(rng, draws, size, last=True))
    return Row(x[:, -1], x[:, :-1].ravel(), w**-0.5 if own else None)


def mean_terms(model: FactorModel, given: Given, spread: Floats | None, row: Floats) -> Terms:
    """The conditional mean as a sum over the ratings, for a user's ``spread`` (S,) and present ``row`` (S, k + 1).

    The hidden numbers of an ordered probit are at the median of what the star and the row say.
    """
    posterior = model.posterior
    assert posterior is not None
    task = _task(model, posterior, given)
    c = posterior.noise**-2.0 if spread is None else (posterior.noise * spread) ** -2.0
    target: Floats = np.broadcast_to(given.value, task.offset.shape)
    if posterior.cuts.size:
        score = task.offset + _times(task.V, row)
        wide = task.spread if spread is None else task.spread * spread[:, None]
        target = probit.latent(
            score, wide, _stars(posterior, given), posterior.cuts, np.full(score.shape, 0.5)
        )
    base = task.centre if task.shares is None else task.centre - task.shares.sum(axis=1)
    rest = (target - task.offset - _times(task.V, base)) / task.spread
    gain = np.einsum("sla,sa,sna->snl", task.U, c[:, None] / (1 + c[:, None] * task.d), task.M @ task.U)
    A = np.einsum("skl,snl->snk", task.root, gain)
    each = rest[:, :, None] * A
    if task.shares is not None:
        # What a rating puts into the centre is explained already.
        each += task.shares - task.shares @ ((task.V / task.spread[:, :, None]).transpose(0, 2, 1) @ A)
    return Terms(base, each)


def _task(model: FactorModel, posterior: Posterior, given: Given) -> _Task:
    draws, n = len(posterior.noise), len(given.other)
    ours = given.side == USER
    each = draws * posterior.user_prior.shape[1] * 8 * ARRAYS
    refuse_excess(
        f"a row with {n:,} ratings in {draws} posterior draws",
        n * each,
        "give fewer ratings, or fit with fewer draws",
    )
    centre = (posterior.user_prior if ours else posterior.item_prior).astype(np.float64)
    shares = bags.of_others(model, given)
    if given.attributes is not None:
        centre = centre + given.attributes
    if shares is not None:
        centre = centre + shares.sum(axis=1)
    bias, rows = regressors(model, given)
    V = rows.reshape(n, draws, centre.shape[1] - 1).transpose(1, 0, 2).astype(np.float64)
    offset = model.mean + bias.T.astype(np.float64)
    if model.time is not None:
        shift = model.time.factors[-1].reshape(draws, 1, -1).astype(np.float64)
        offset = offset + model.time.bias[-1].reshape(draws, 1) + (V * shift).sum(axis=2)
        V = V + shift
    V = np.concatenate([V, np.ones((draws, n, 1))], axis=2)
    spread = np.ones((draws, n))
    if not ours and posterior.user_spread.size:
        spread = posterior.user_spread[given.other].T.astype(np.float64)
    if model.days is not None:
        spread = np.hypot(spread, (model.days.spread / posterior.noise)[:, None])
    root = model.fixed.prior_roots[given.side]
    M = (V @ root) / spread[:, :, None]
    if n < M.shape[2]:
        d, left = np.linalg.eigh(M @ M.transpose(0, 2, 1))
        sound = d > 1e-12 * d[:, -1:] if n else d > 0
        d = np.where(sound, d, 0.0)
        length = np.where(sound, np.sqrt(np.where(sound, d, 1.0)), np.inf)
        U = M.transpose(0, 2, 1) @ left / length[:, None, :]
    else:
        d, U = np.linalg.eigh(M.transpose(0, 2, 1) @ M)
        d = np.maximum(d, 0.0)
    return _Task(offset, V, centre, shares, root, spread, d, U, M)


def _along(task: _Task, rest: Floats) -> Floats:
    """g, shape (S, rank)."""
    return np.asarray(((rest[:, None] @ task.M) @ task.U)[:, 0])


def _times(matrices: Floats, vectors: Floats) -> Floats:
    """Multiply one matrix and one vector per draw. Matrix products are faster than `numpy.einsum` here."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _draw(task: _Task, along: Floats, precision: Floats, z: Floats) -> Floats:
    """Draw x for each c in ``precision`` from g and standard normal numbers z, shapes (S,), (S, rank) and (S, k + 1)."""
    c = precision[:, None]
    share = 1 / (1 + c * task.d)
    turned = (z[:, None] @ task.U)[:, 0]
    y = z + _times(task.U, c * share * along + (np.sqrt(share) - 1) * turned)
    return task.centre + _times(task.root, y)


def _weight(
    model: FactorModel, task: _Task, rest: Floats, along: Floats, precision: Floats, rng: np.random.Generator
) -> Floats:
    """Draw each w, with x integrated out, from its density on a grid that is even in ln w."""
    half = model.fixed.freedom[:, None] / 2
    c = precision[:, None] * WEIGHTS
    spread = 1 + c[:, :, None] * task.d[:, None, :]
    explained = ((along**2)[:, None, :] / spread).sum(axis=2)
    square = (rest**2).sum(axis=1)[:, None] - c * explained
    density = (half + rest.shape[1] / 2) * np.log(WEIGHTS) - half * WEIGHTS
    density -= (np.log(spread).sum(axis=2) + c * square) / 2
    mass = np.cumsum(np.exp(density - density.max(axis=1, keepdims=True)), axis=1)
    place = (mass < rng.random((len(mass), 1)) * mass[:, -1:]).sum(axis=1)
    return np.asarray(WEIGHTS[np.minimum(place, len(WEIGHTS) - 1)])


def _normal(rng: np.random.Generator, draws: int, size: int, *, last: bool) -> Floats:
    """Standard normal numbers; the last ones have mean zero over the draws, so that predictions rest on fewer."""
    z = rng.standard_normal((draws, size))
    if last and draws > 1:
        z = (z - z.mean(axis=0)) * np.sqrt(draws / (draws - 1))
    return z


def _stars(posterior: Posterior, given: Given) -> NDArray[np.int64]:
    star = np.searchsorted(posterior.levels, given.value).clip(max=len(posterior.levels) - 1)
    wrong = posterior.levels[star] != given.value
    if wrong.any():
        levels = ", ".join(f"{level:g}" for level in posterior.levels)
        raise DataError(
            f"a rating is {given.value[wrong][0]:g}: this ordinal model knows the ratings {levels}"
        )
    return np.asarray(star)


def freedom(posterior: Posterior) -> Floats:
    """The ν of each draw that makes its users' relative precisions the most likely, shape (S,)."""
    from scipy.special import gammaln

    from hatrix.models.scatter import FREEDOM

    w = posterior.user_spread[:-1].astype(np.float64) ** -2.0
    half, n = FREEDOM[:, None] / 2, len(w)
    fit = (
        n * (half * np.log(half) - gammaln(half)) + (half - 1) * np.log(w).sum(axis=0) - half * w.sum(axis=0)
    )
    return np.asarray(FREEDOM[fit.argmax(axis=0)])


def prior_root(precision: Any) -> Floats:
    """R with R Rᵀ the inverse of each precision, shape (S, k + 1, k + 1)."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(precision.astype(np.float64))).transpose(0, 2, 1))
