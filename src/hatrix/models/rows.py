"""Rows of many users or items at once, the other side's as they are: what fold-ins and updates solve.

Each is a ridge regression, and the kernel of sweeps solves them (`hatrix.kernels.least_squares`). A row depends on its own
ratings alone, so the number of threads changes no bit of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.models.factors import ITEM, USER
from hatrix.models.terms import LEAST_PENALTY, Given, Row, confident, implicit_ridge, implicit_weight, learned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Matrix = NDArray[Any]

__all__ = [
    "Many",
    "Rows",
    "als_row",
    "als_rows",
    "descended_rows",
    "implicit_row",
    "implicit_rows",
    "one_by_one",
]

CALLS, IN_NUMPY = 100, 1000
"""Of a row that NumPy solves: what its calls cost, in ratings; and what a rating costs, beside one of a kernel."""


class Many(NamedTuple):
    """The ratings of rows of a side: row r has ``other[start[r]:start[r + 1]]``, ascending, and the values there.

    ``attributes`` tells what those of row r add to it, where the model has such fields.
    """

    side: int
    start: NDArray[np.int64]
    other: NDArray[np.int64]
    value: NDArray[np.float64]
    attributes: Callable[[int], Matrix | None] = lambda _: None

    def given(self, row: int) -> Given:
        """The ratings and attributes of one row."""
        part = slice(self.start[row], self.start[row + 1])
        return Given(self.side, self.other[part], self.value[part], self.attributes(row))


class Rows(NamedTuple):
    """What `Row` is, for each row: zero where it has no ratings, but for those of a posterior, which have a prior."""

    bias: Matrix
    factors: Matrix
    spread: Matrix | None = None


def als_rows(model: FactorModel, many: Many, threads: int = 1) -> Rows:
    """Of ALS: rows of a sweep."""
    recipe: Any = model.recipe
    bias, rows = learned(model, 1 - many.side)
    weight = np.diff(many.start) ** recipe.nu
    target = (many.value - model.mean).astype(np.float32) - bias.astype(np.float32)[many.other]
    return _regressed(
        many, rows, target, recipe.regularization * recipe.unit * weight,
        recipe.bias_penalty(many.side, np.diff(many.start)) if recipe.biased else None,
        nonnegative=recipe.nonnegative, threads=threads,
    )  # fmt: skip


def implicit_rows(model: FactorModel, many: Many, threads: int = 1) -> Rows:
    """Of ImplicitALS: rows of a sweep, in the coordinates where the Gram matrix of the other side is diagonal."""
    from hatrix.models.als import confidence

    recipe: Any = model.recipe
    if not model.user_factors.shape[1]:
        count = np.diff(many.start)
        return Rows(np.log1p(count) if many.side == ITEM else np.zeros(len(count)), np.zeros((len(count), 0)))
    if recipe.weighting == "replace":  # weights may be negative, which only the dense equations allow
        return one_by_one(lambda model, given: confident(model, given).row())(model, many, threads)
    weight, target = confidence(recipe, many.value, model.scale)
    values, vectors = model.fixed.rotation(1 - many.side)
    diagonal = implicit_weight(model) * np.maximum(values, 0)
    found = _regressed(
        many, learned(model, 1 - many.side)[1], target, implicit_ridge(model, many.side, np.diff(many.start)),
        weight=weight, diagonal=diagonal, turn=vectors, threads=threads,
    )  # fmt: skip
    return found._replace(factors=found.factors @ vectors.T)


def descended_rows(model: FactorModel, many: Many, threads: int = 1) -> Rows:
    """Of MF, BiasedMF and SVDpp: as `hatrix.models.terms.descended`, in coordinates where the prior is a unit sphere."""
    fixed, count = model.fixed, np.diff(many.start)
    bias, rows = learned(model, 1 - many.side)
    centre, root, bias_variance = fixed.spread(many.side)
    target = many.value - model.mean - bias[many.other]
    shift: Matrix = np.broadcast_to(centre, (len(count), len(centre)))
    if many.side == USER and "item_terms" in model.parts:
        shift = _sums(model.parts["item_terms"], many, threads) / np.sqrt(np.maximum(count, 1))[:, None]
    target = target - _products(rows, shift, many, threads)
    least = count * LEAST_PENALTY
    found = _regressed(
        many, rows, target, np.maximum(fixed.error, least),
        np.maximum(fixed.error / bias_variance, least) if bias_variance else None, turn=root, threads=threads,
    )  # fmt: skip
    return found._replace(factors=np.where(count[:, None] > 0, found.factors @ root.T + shift, 0.0))


def _regressed(
    many: Many,
    rows: Matrix,
    target: Matrix,
    ridge: Matrix,
    bias_ridge: Matrix | None = None,
    *,
    weight: Matrix | None = None,
    diagonal: Matrix | None = None,
    turn: Matrix | None = None,
    nonnegative: bool = False,
    threads: int,
) -> Rows:
    """Solve all regressions of targets on ``rows`` (times ``turn``)."""
    from hatrix.kernels.least_squares import solve_rows
    from hatrix.kernels.tiles import padded_rows

    n, k = len(many.start) - 1, rows.shape[1]
    used, place = many.other, np.arange(len(many.other), dtype=np.int32)
    if n > 1:  # one row has each of its others once
        used = np.flatnonzero(np.bincount(many.other, minlength=len(rows)))
        renumbered = np.zeros(len(rows), np.int32)
        renumbered[used] = np.arange(len(used))
        place = renumbered[many.other]
    regressors = rows[used]
    Y = padded_rows(regressors if turn is None else regressors.astype(np.float64) @ turn)
    X, beta, base = (
        np.zeros((n, Y.shape[1]), np.float32),
        np.zeros(n, np.float32),
        np.zeros(Y.shape[1], np.float32),
    )
    base[:k] = 0 if diagonal is None else diagonal
    solve_rows(
        many.start, place, (np.ones(len(place)) if weight is None else weight).astype(np.float32),
        target.astype(np.float32), Y, base, ridge.astype(np.float32), X,
        bias=None if bias_ridge is None else beta,
        bias_ridge=None if bias_ridge is None else bias_ridge.astype(np.float32),
        nonnegative=nonnegative, threads=threads,
    )  # fmt: skip
    return Rows(beta, X[:, :k])


def _sums(rows: Matrix, many: Many, threads: int) -> Matrix:
    """The sum of the other side's ``rows`` over each row's ratings."""
    from hatrix.kernels import sparse

    width = sparse.wide(rows.shape[1])
    block, out = sparse.zeros(len(rows), width), sparse.zeros(len(many.start) - 1, width)
    block[:, : rows.shape[1]] = rows
    ones = np.ones(len(many.other), np.float32)
    sparse.multiply(
        sparse.Sparse(many.start, many.other.astype(np.uint32), ones), block, out, threads=threads
    )
    return out[:, : rows.shape[1]]


def _products(rows: Matrix, mine: Matrix, many: Many, threads: int) -> Matrix:
    """The product of each rating's two rows: the other side's and ``mine``."""
    from hatrix.kernels import least_squares, schedule
    from hatrix.kernels.tiles import padded_rows

    Y, X, found = padded_rows(rows), padded_rows(mine), np.zeros(len(many.other), np.float32)
    kernel, other = least_squares.add_scores(Y.shape[1]), many.other.astype(np.int32)
    schedule.run_rows(
        lambda first, last: kernel(first, last, many.start, other, Y, X, np.float32(1), found),
        many.start, threads=threads,
    )  # fmt: skip
    return found


def _single(rows: Callable[[FactorModel, Many], Rows], model: FactorModel, given: Given) -> Row:
    found = rows(model, Many(given.side, np.array([0, len(given.other)]), given.other, given.value))
    return Row(found.bias[0], found.factors[0])


def als_row(model: FactorModel, given: Given) -> Row:
    """The row of a sweep of ALS, by its kernel."""
    return _single(als_rows, model, given)


def implicit_row(model: FactorModel, given: Given) -> Row:
    """The row of a sweep of ImplicitALS, by its kernel."""
    return _single(implicit_rows, model, given)


def one_by_one(row: Callable[[FactorModel, Given], Row]) -> Callable[[FactorModel, Many, int], Rows]:
    """Rows by what solves one, in threads."""

    def rows(model: FactorModel, many: Many, threads: int = 1) -> Rows:
        from hatrix.kernels import schedule

        bias, factors = (
            np.zeros((len(many.start) - 1, *array.shape[1:])) for array in learned(model, many.side)
        )
        own = many.side == USER and model.posterior is not None and model.posterior.user_spread.size > 0
        spread = np.ones(bias.shape) if own else None

        def solve(first: int, last: int) -> None:
            for at in range(first, last):
                if many.start[at] < many.start[at + 1] or model.posterior is not None:
                    found = row(model, many.given(at))
                    bias[at], factors[at] = np.reshape(found.bias, bias.shape[1:]), found.factors
                    if spread is not None:
                        spread[at] = found.spread

        work = many.start + np.arange(len(many.start)) * CALLS
        schedule.run_rows(solve, work * IN_NUMPY, threads=threads)
        return Rows(bias, factors, spread)

    return rows
