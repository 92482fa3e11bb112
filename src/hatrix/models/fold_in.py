"""New users and items from a few ratings, without training: the other side's rows stay what they are.

Each algorithm answers with the row that its own objective wants, given the ratings and the fixed rows:

============================  =========================================================================================
`ALS`, `ImplicitALS`          the row of a sweep: the same ridge regression by the same kernel
`MF`, `BiasedMF`, `SVDpp`     the ridge regression whose prior is the normal distribution of the trained rows, and whose
                              noise is the training error; a user of `SVDpp` has the item terms, too. What stops gradient
                              descent early is not in its penalties alone, but in the rows that it left
`Bias`                        the damped mean of what the ratings leave
`Popular`                     nothing for a user; for an item, its count
`SpectralMF`                  the projection of the user's row, or of the item's column
`BPR`                         the minimiser of its objective over a sample of items, or of users
the last two, `ImplicitALS`   no factors for a user who likes none of the items rated (`hatrix.models.terms.likes`)
`BayesianMF`                  for each posterior draw, a draw from the conditional posterior (`hatrix.models.conditional`),
                              around what its attributes and who rated what say
============================  =========================================================================================
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.data.ids import Ids, as_column
from hatrix.data.values import numbers
from hatrix.errors import DataError
from hatrix.models.bags import Attributes, knows_attributes, line_of
from hatrix.models.factors import ITEM, LARGEST, LARGEST_FACTOR, USER
from hatrix.models.pairwise import pairwise, pairwise_terms, rivals_of
from hatrix.models.predictive import unknown_in
from hatrix.models.rows import (
    Many,
    Rows,
    als_row,
    als_rows,
    descended_rows,
    implicit_row,
    implicit_rows,
    one_by_one,
)
from hatrix.models.seen import Seen
from hatrix.models.terms import (
    LEAST_PENALTY,
    Given,
    Row,
    Terms,
    alternating,
    confident,
    damped,
    descended,
    in_type,
    learned,
    likes,
    projected,
    solvable,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel
    from hatrix.models.pairwise import Rivals
    from hatrix.models.pairwise_items import Crowd

    Floats = NDArray[np.float64]
    Matrix = NDArray[Any]

__all__ = ["Fixed", "fold_in", "fold_in_item", "given_of"]

SIDES = ("user", "item")
LASTING = ("error", "freedom", "prior_roots", "_spreads")


class Fixed:
    """Values that all fold-ins of one model share; each is computed when it is first needed.

    Several threads may compute the same value at once. They hold BLAS at one thread, so all of them get the
    same bits, and it does not matter whose result is kept.

    What training left behind (the error, the spread of rows, hyper-priors) is taken from ``base``, where an update has since
    moved the rows.
    """

    def __init__(self, model: FactorModel, base: FactorModel | None = None) -> None:
        # The model has this object, so a strong reference back would keep both, and the files they map, until Python
        # collects cycles.
        self._model, self._base = weakref.ref(model), base
        self._rotations: dict[int, tuple[Floats, Floats]] = {}
        self._spreads: dict[int, tuple[Floats, Floats, float]] = {}
        if base is not None:
            found = base.fixed.__dict__.copy()  # one step, since other threads may add to it
            self.__dict__ |= {name: found[name] for name in LASTING if name in found}

    @property
    def model(self) -> FactorModel:
        """Return the model whose values these are."""
        model = self._model()
        assert model is not None, "the model is gone: keep it as long as its values are asked for"
        return model

    @property
    def base(self) -> FactorModel:
        """Return the model that training left, before updates."""
        return self._base or self.model

    @cached_property
    @one_blas_thread()
    def error(self) -> float:
        """The mean squared error of the training ratings: of the last epoch, or of the ratings that the model has."""
        model = self.base
        if "train_mse" in model.history and len(model.history):
            error = float(model.history["train_mse"].iloc[-1])
            if not 0 <= error < np.inf:
                raise DataError(
                    f"the model's history says that its training error is {error:g}, which new rows need: fit again"
                )
            return error
        if model.seen is None or not len(model.seen.value):
            raise DataError(
                "the model has neither a history nor its training rows, and no measure of its error: new rows cannot be told"
            )
        predicted = model.predict_rows(model.seen.user, model.seen.item)
        return float(np.mean((predicted - model.seen.value) ** 2))

    @one_blas_thread()
    def spread(self, side: int) -> tuple[Floats, Floats, float]:
        """Of a side's trained rows: the mean (k,) of the factors, R with R Rᵀ their covariance, the variance of the bias."""
        if side not in self._spreads:
            model = self.base
            bias, rows = learned(model, side)
            count = model.user_count if side == USER else model.item_count
            live = rows[count > 0].astype(np.float64)
            centre = live.mean(axis=0)
            covariance = (live - centre).T @ (live - centre) / len(live)
            covariance[np.diag_indices_from(covariance)] += LEAST_PENALTY * (1 + np.trace(covariance))
            self._spreads[side] = centre, np.linalg.cholesky(covariance), float(bias[count > 0].var())
        return self._spreads[side]

    @one_blas_thread()
    def rotation(self, side: int) -> tuple[Floats, Floats]:
        """Eigenvalues and eigenvectors of the Gram matrix of a side's factors."""
        if side not in self._rotations:
            from hatrix.kernels import dense
            from hatrix.kernels.tiles import padded_rows

            rows = learned(self.model, side)[1]
            k = rows.shape[1]
            gram = dense.gram(padded_rows(rows), threads=1)[:k, :k]
            self._rotations[side] = np.linalg.eigh(gram)
        return self._rotations[side]

    @cached_property
    @one_blas_thread()
    def freedom(self) -> Floats:
        from hatrix.models.conditional import freedom

        assert self.base.posterior is not None
        return freedom(self.base.posterior)

    @cached_property
    @one_blas_thread()
    def prior_roots(self) -> tuple[Floats, Floats]:
        from hatrix.models.conditional import prior_root

        posterior = self.base.posterior
        assert posterior is not None
        return prior_root(posterior.user_precision), prior_root(posterior.item_precision)

    @cached_property
    @one_blas_thread()
    def rivals(self) -> Rivals:
        return rivals_of(self.model)

    @cached_property
    @one_blas_thread()
    def crowd(self) -> Crowd:
        from hatrix.models.pairwise_items import crowd_of

        return crowd_of(self.model)

    @cached_property
    @one_blas_thread()
    def levels(self) -> Matrix:
        """User biases that make the scores of one item comparable between users, where training leaves them open."""
        if (
            self.model.recipe.name != "bpr"
            or self.model.user_bias.any()
            or not self.model.user_factors.shape[1]
        ):
            return self.model.user_bias
        from hatrix.models.pairwise_items import levels

        return levels(self.model)


@one_blas_thread()
def fold_in(
    model: FactorModel,
    ratings: Mapping[Any, float],
    *,
    user_id: Any = "new user",
    attributes: Mapping[str, Any] | None = None,
) -> FactorModel:
    """See `FactorModel.fold_in`."""
    if model.is_made_of_models:
        return _of_members(
            model,
            lambda one, known: fold_in(one, ratings, user_id=user_id, attributes=known),
            attributes,
            USER,
        )
    given, notes = given_of(model, USER, ratings)
    line, more = line_of(model, USER, attributes)
    row = _row(model, _with_attributes(model, given, line))
    users, posterior = Ids.from_labels([user_id])[0], model.posterior
    if posterior is not None and posterior.user_spread.size:
        spread = np.stack([row.spread, posterior.user_spread[-1]]).astype(posterior.user_spread.dtype)
        posterior = posterior._replace(user_spread=spread)
    return replace(
        model,
        users=users,
        user_bias=_one(row.bias, model.user_bias, LARGEST),
        user_factors=_one(row.factors, model.user_factors, LARGEST_FACTOR),
        user_count=np.array([len(given.other)], np.int64),
        seen=Seen(np.array([0, len(given.other)]), given.other.astype(np.int32), given.value),
        user_table=line,
        posterior=posterior,
        days=None if model.days is None else model.days.of_stranger(),
        bags=None if model.bags is None else tuple(bag.unknown(USER) for bag in model.bags),
        notes=(*model.notes, *notes, *more),
        origin=model,
    )


@one_blas_thread()
def fold_in_item(
    model: FactorModel,
    ratings: Mapping[Any, float],
    *,
    item_id: Any = "new item",
    attributes: Mapping[str, Any] | None = None,
) -> FactorModel:
    """See `FactorModel.fold_in_item`."""
    if model.is_made_of_models:
        return _of_members(
            model,
            lambda one, known: fold_in_item(one, ratings, item_id=item_id, attributes=known),
            attributes,
            ITEM,
        )
    given, notes = given_of(model, ITEM, ratings)
    line, more = line_of(model, ITEM, attributes)
    row = _row(model, _with_attributes(model, given, line))
    rated = np.zeros(len(model.users) + 1, np.int64)
    rated[given.other + 1] = 1
    return replace(
        model,
        items=Ids.from_labels([item_id])[0],
        user_bias=model.fixed.levels,
        item_bias=_one(row.bias, model.item_bias, LARGEST),
        item_factors=_one(row.factors, model.item_factors, LARGEST_FACTOR),
        item_count=np.array([len(given.other)], np.int64),
        seen=Seen(np.cumsum(rated), np.zeros(len(given.other), np.int32), given.value),
        item_table=line,
        parts={
            name: np.zeros((1, *array.shape[1:]), array.dtype) if "i" in model.recipe.parts[name] else array
            for name, array in model.parts.items()
        },
        bags=None if model.bags is None else tuple(bag.unknown(ITEM) for bag in model.bags),
        notes=(*model.notes, *notes, *more),
        origin=model,
    )


def _of_members(
    model: FactorModel,
    folded: Callable[[FactorModel, Mapping[str, Any] | None], FactorModel],
    attributes: Mapping[str, Any] | None,
    side: int,
) -> FactorModel:
    """Fold into each model that this one is made of.

    Attributes go to those that know some; if none does, the first one says so in its error.
    """
    some = attributes is not None and any(knows_attributes(one, side) for one in members_of(model))

    def change(one: FactorModel) -> FactorModel:
        return folded(one, attributes if not some or one.members or knows_attributes(one, side) else None)

    return model.recipe.changed(model, change)


def members_of(model: FactorModel) -> list[FactorModel]:
    """Return the models with factors of their own that a model is made of."""
    if not model.members:
        return [model.list_model]
    own = [] if model.recipe.weighted_members(model) else [model.list_model]
    inside = [one for member in model.members.values() for one in members_of(member)]
    return [one for one in own if one is not model] + inside


def _with_attributes(model: FactorModel, given: Given, line: pd.DataFrame | None) -> Given:
    if line is None:
        return given
    return given._replace(attributes=Attributes(model, given.side, np.zeros(1, np.int64), line).of(0))


def _one(values: Any, like: Matrix, largest: float) -> Matrix:
    return in_type(values, like.dtype, largest).reshape(1, *like.shape[1:])


def given_of(model: FactorModel, side: int, ratings: Mapping[Any, float]) -> tuple[Given, list[str]]:
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
    likes = not model.recipe.knows_dislikes(model.scale)
    if likes and len(value) and (value.min() < 0 or (model.scale is None and value.min() == 0)):
        label = labels[np.argmin(value)]
        raise DataError(
            f"the value of {name} {label!r} is {ratings[label]!r}, and {model.recipe.name} takes every {name} given as a "
            f"sign of liking: give values {'above 0, such as 1' if model.scale is None else 'from 0 up'}, and leave out the "
            "others"
        )
    rows = ids.encode(labels)
    known, notes = rows >= 0, []
    if not known.all():
        unknown = unknown_in(name, ids, labels, rows)
        if not known.any():
            raise DataError(f"{unknown}: give ratings of at least one {name} that the model was trained on")
        notes.append(f"{unknown}: their ratings are left out")
        rows, value = rows[known], value[known]
    order = np.argsort(rows)
    rows, value = rows[order], value[order]
    if (rows[1:] == rows[:-1]).any():
        raise DataError(f"{name} {ids.decode(rows[:-1][rows[1:] == rows[:-1]])[0]!r} is given twice")
    return Given(side, rows, value), notes


def _row(model: FactorModel, given: Given) -> Row:
    if len(given.other) == 0 and model.posterior is None:
        return Row(*(np.zeros(array.shape[1:]) for array in learned(model, given.side)))
    with solvable(len(given.other)):
        return FOLDS[model.recipe.name].row(model, given)


class Fold(NamedTuple):
    """How an algorithm folds in: the row, the row as a sum over its ratings, and many rows at once.

    Terms of a posterior depend on the user's present row, too: see `hatrix.models.conditional.mean_terms`. What an update
    fits again has no way to solve many rows.
    """

    row: Callable[[FactorModel, Given], Row]
    terms: Callable[[FactorModel, Given], Terms] | None
    rows: Callable[[FactorModel, Many, int], Rows] | None = None


def _sum(
    terms: Callable[[FactorModel, Given], Terms],
    rows: Callable[[FactorModel, Many, int], Rows] | None = None,
) -> Fold:
    return Fold(lambda model, given: terms(model, given).row(), terms, rows)


def _of_likes(fold: Fold) -> Fold:
    """Return a fold in which a user who likes none of the items has no factors, and so gets the most popular items."""
    first, terms, many_rows = fold

    def row(model: FactorModel, given: Given) -> Row:
        found = first(model, given)
        if given.side == ITEM or likes(model, given.value).any():
            return found
        return found._replace(factors=np.zeros_like(found.factors))

    def rows(model: FactorModel, many: Many, threads: int) -> Rows:
        assert many_rows is not None
        found = many_rows(model, many, threads)
        if many.side == ITEM:
            return found
        liked = np.append(0, np.cumsum(likes(model, many.value)))[many.start]
        return found._replace(factors=np.where(np.diff(liked)[:, None] > 0, found.factors, 0.0))

    return Fold(row, terms, many_rows and rows)


def _counted(model: FactorModel, given: Given) -> Row:
    width = learned(model, given.side)[1].shape[1]
    return Row(0.0 if given.side == USER else len(given.other), np.zeros(width))


def _nothing(model: FactorModel, given: Given) -> Terms:
    width = learned(model, given.side)[1].shape[1] + 1
    return Terms(np.zeros((1, width)), np.zeros((1, len(given.other), width)))


def _conditional(model: FactorModel, given: Given) -> Row:
    from hatrix.models.conditional import draw

    return draw(model, given)


FOLDS: Mapping[str, Fold] = {
    "als": Fold(als_row, alternating, als_rows),
    "implicit-als": _of_likes(Fold(implicit_row, confident, implicit_rows)),
    "mf": _sum(descended, descended_rows),
    "biased-mf": _sum(descended, descended_rows),
    "svdpp": _sum(descended, descended_rows),
    "bias": _sum(damped),
    "popular": Fold(_counted, _nothing),
    "spectral-mf": _of_likes(_sum(projected)),
    "bpr": _of_likes(Fold(pairwise, pairwise_terms)),
    "bayesian-mf": Fold(_conditional, None, one_by_one(_conditional)),
}
