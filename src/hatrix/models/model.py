"""The one fitted type: two factor matrices, two bias vectors, a mean, and the ids that name their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import yes_or_no
from hatrix._threads import one_blas_thread
from hatrix.data.ids import as_column
from hatrix.models import predictive
from hatrix.models.answers import Answers
from hatrix.models.days import UserDays
from hatrix.models.factors import Factors, Posterior, TimeBlock
from hatrix.models.predictive import Pairs, Predicted
from hatrix.models.seen import Seen

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids
    from hatrix.data.ratings import Ratings
    from hatrix.kernels.codes import Coded
    from hatrix.models.bags import BagRows
    from hatrix.models.drift import Drift
    from hatrix.models.fit import Algorithm
    from hatrix.models.fold_in import Fixed

__all__ = ["FactorModel", "Factors", "Seen"]

RATINGS = "ratings"
"""Name of the member that predicts ratings and has no part in the lists."""
SHARED = ("users", "items", "user_count", "item_count", "seen", "item_table", "user_table")
"""Attributes that a model and its members have in common, so that memory and files hold them once."""
UNFINISHED = "unfinished"
"""The first word of the note on a training that was stopped before its last epoch."""
LEAST_ASKED, MOST_ASKED, BYTES_PER_ASKED = 1 << 18, 1 << 22, 500


@dataclass(frozen=True, eq=False, repr=False)
class FactorModel(Answers):
    """A fitted model, whatever algorithm it came from. `Algorithm.fit` and `hatrix.load` make it.

    ``score(u, i) = mean + user_bias[u] + item_bias[i] + user_factors[u] · item_factors[i]``

    With a posterior of S draws, the score is the mean over draws, and a prediction the mean of what each draw predicts;
    with a time block, ``time.bias[t] + (user_factors[u] + item_factors[i]) · time.factors[t]`` is added.

    Attributes
    ----------
    recipe
        The algorithm with its hyper-parameters, or a recipe that combines several, such as `Recommender`.
    users, items
        Labels of the rows of the factor matrices.
    mean
        Constant part of the score; 0 for models without one.
    user_bias, item_bias
        Shapes (n_users,) and (n_items,), in units of the rating; a column for each posterior draw.
    user_factors, item_factors
        Shapes (n_users, k) and (n_items, k), contiguous, in id order; posterior draws side by side.
    user_count, item_count
        Training ratings of each row; 0 marks a *cold* row.
    fallback
        Stands for the mean where a user or an item is unknown or cold: the training mean.
    scale
        Lowest and highest rating, or None.
    seed
        The seed of the fit.
    history
        A row per epoch.
    seen
        The training rows by user, or None where they were left out of the file.
    item_table, user_table
        Attributes in row order, or None.
    fingerprint, data_name
        Of the training data.
    notes
        Notes on the fit; one begins with "unfinished" if training was stopped (see `unfinished`).
    parts
        Named arrays, as the recipe declares them, that only its own fold-in reads.
    time, posterior
        Of models that have them: a `TimeBlock`, and what belongs to each draw.
    days
        Of a model with the field "user_day": the biases of each user's days.
    bags
        Of a posterior with attributes or who rated what among its fields: the rows of those (see `hatrix.models.bags`).
    origin
        Of a new user or item that was folded in: the model it came from.
    drift
        Of a model that `update` has taken further: how far (see `hatrix.models.drift.Drift`).
    merged
        Of each feedback store by its identity: the number of the last change that the model has taken in.
    resolving
        Seconds that resolving "auto" took in the fit; 0 if nothing was left to the data, or for a model from a file.
    members
        Of a recipe that combines several: the fitted models that this model has beside its own factors, by name. The
        member ``ratings`` of a `Recommender` predicts the ratings. Members share ids, counts, tables and seen items.
    """

    recipe: Algorithm
    users: Ids
    items: Ids
    mean: float
    user_bias: NDArray[Any]
    item_bias: NDArray[Any]
    user_factors: NDArray[Any]
    item_factors: NDArray[Any]
    user_count: NDArray[np.int64]
    item_count: NDArray[np.int64]
    fallback: float
    scale: tuple[float, float] | None
    seed: int
    history: pd.DataFrame
    seen: Seen | None = None
    item_table: pd.DataFrame | None = None
    user_table: pd.DataFrame | None = None
    fingerprint: str = ""
    data_name: str = "ratings"
    notes: tuple[str, ...] = field(default=())
    parts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    time: TimeBlock | None = None
    posterior: Posterior | None = None
    days: UserDays | None = None
    bags: tuple[BagRows, ...] | None = None
    origin: FactorModel | None = None
    drift: Drift | None = None
    merged: Mapping[str, int] = field(default_factory=dict)
    resolving: float = 0.0
    members: Mapping[str, FactorModel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("mean", "fallback"):  # a NumPy scalar would widen float32 sums, a float does not
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("parts", "merged", "members"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if self.origin is None:
            object.__setattr__(self, "recipe", self.recipe.of_model(self))
        arrays = [self.user_bias, self.item_bias, self.user_factors, self.item_factors, *self.parts.values()]
        arrays += [array for bag in self.bags or () for array in bag.arrays]
        for array in (*arrays, *(self.time or ()), *(self.posterior or ()), *(self.days or ())):
            array.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (getattr(self, part.name) for part in fields(self))
        return type(self), tuple(dict(x) if isinstance(x, MappingProxyType) else x for x in values)

    @property
    def unfinished(self) -> bool:
        """Tell whether training was stopped before its last epoch, here or in the model that was updated."""
        return any(note.startswith(UNFINISHED) for note in self.notes)

    @property
    def task(self) -> str:
        """``"rating"`` or ``"ranking"``: what the scores are good for."""
        return self.recipe.task

    @property
    def rating_model(self) -> FactorModel | None:
        """The model that predicts ratings: this one, a member of it, or None where scores only rank."""
        alone = self if self.task == "rating" else None
        return self.members.get(self.recipe.rating_member, alone)

    @property
    def list_model(self) -> FactorModel:
        """The model that ranks items: this one without its member ``ratings``, by the recipe of its factors."""
        return self if self.recipe.list_recipe is self.recipe else self._without_ratings

    @cached_property  # apart from `list_model`: a model that held itself would close its file only when cycles are collected
    def _without_ratings(self) -> FactorModel:
        return replace(
            self,
            recipe=self.recipe.list_recipe,
            members={name: member for name, member in self.members.items() if name != RATINGS},
            origin=None if self.origin is None else self.origin.list_model,
        )

    def with_member(self, name: str, member: FactorModel) -> FactorModel:
        """Return the model with a member, which is a model of the same training ratings; both then share these."""
        shared = {each: getattr(self, each) for each in SHARED}
        return replace(self, members={**self.members, name: member.sharing(shared)})

    def sharing(self, shared: Mapping[str, Any]) -> FactorModel:
        """Return the model, and all models inside it, with the ids, counts, tables and training ratings given."""
        members = {name: member.sharing(shared) for name, member in self.members.items()}
        return replace(self, **shared, members=members)

    @property
    def is_made_of_models(self) -> bool:
        """Whether fold-ins, updates and removals go to the models that this one is made of (`Algorithm.changed`)."""
        return bool(self.members) or self.recipe.list_recipe is not self.recipe

    @cached_property
    def has_factors(self) -> bool:
        """Whether factors tell items apart: False where all are zero, too, as in a model of biases alone."""
        if self.origin is not None and self.origin.items is self.items:
            return self.origin.has_factors
        return bool(self.item_factors.any())

    @property
    def has_intervals(self) -> bool:
        """Whether predicted ratings come with intervals, because the model that predicts them has a posterior."""
        return self._predictor.posterior is not None

    @property
    def _predictor(self) -> FactorModel:
        return self.members.get(self.recipe.rating_member, self)

    @property
    def factors(self) -> Factors:
        """The learned arrays alone."""
        return Factors(**{name: getattr(self, name) for name in Factors._fields})

    @cached_property
    @one_blas_thread()
    def flat(self) -> Factors:
        """The score from one vector of biases and one matrix of factors a side: for ranking, whatever the model."""
        if self.origin is None or self.origin.items is not self.items:
            return self.factors.flat()
        bias = self.user_bias if self.user_bias.ndim == 1 else self.user_bias.mean(axis=1)
        return self.origin.flat._replace(user_bias=bias, user_factors=self.user_factors)

    @cached_property
    def balance(self) -> NDArray[np.float64] | float:
        """Multipliers of item factors, and divisors of user factors, before rows are compared (`Algorithm.balance`)."""
        if self.origin is not None and self.origin.items is self.items:
            return self.origin.balance
        return self.list_model.recipe.balance(self.list_model)

    @cached_property
    @one_blas_thread()
    def coded(self) -> Coded:
        """Eight-bit codes of the item factors, which make lists of items quick: for processors that multiply them."""
        from hatrix.kernels.codes import code_items

        if self.origin is not None and self.origin.items is self.items:
            return self.origin.coded
        return code_items(self.flat.user_factors, self.flat.item_factors, self.flat.item_bias)

    @cached_property
    def fixed(self) -> Fixed:
        """What the fold-ins of this model have in common."""
        from hatrix.models.fold_in import Fixed

        return Fixed(self) if self.origin is None else self.origin.fixed

    def predict(
        self,
        user_ids: Any,
        item_ids: Any,
        *,
        times: Any = None,
        clip: bool = False,
        interval: float | None = None,
    ) -> NDArray[np.float64] | float | Predicted:
        """Predicted ratings of pairs of ids.

        Parameters
        ----------
        user_ids, item_ids
            The caller's labels: two arrays of one length, or a scalar and an array, or two scalars. The text of an integer
            is that integer (``"7"`` finds the id 7), and the other way round.
        times
            When the ratings are made, in seconds since 1970, for models that know time (others ignore it); by default
            a new day in the last bin of the training ratings.
        clip
            Clip to the rating scale, ends of intervals too.
        interval
            Probability that a rating lies in its interval, such as 0.9; for models with a posterior. See `calibrate`.

        Returns
        -------
        array or float, or Predicted
            One prediction per pair (a float for two scalars). An unknown or cold user or item falls back to
            what is known: the training mean and the other side's bias. One warning per call says which ids are unknown.
            With ``interval``, the predictions and the low and the high ends of their intervals: ``rating, low, high``.

        Raises
        ------
        DataError
            If users, items and times are not as many, or the model has no posterior to tell intervals.
        ParameterError
            If ``interval`` is not between 0 and 1.
        """
        pairs = predictive.pairs_of(self, user_ids, item_ids, times)
        clip = yes_or_no("clip", clip)
        rating = self.predict_rows(*pairs[:2], times=pairs.times, clip=clip)
        single = np.ndim(user_ids) == np.ndim(item_ids) == 0
        if interval is None:
            return float(rating[0]) if single else rating
        found = Predicted(rating, *self.interval_rows(*pairs, level=interval, clip=clip))
        return Predicted(*(float(array[0]) for array in found)) if single else found

    def interval_rows(
        self,
        user: NDArray[Any],
        item: NDArray[Any],
        times: NDArray[Any] | None = None,
        *,
        level: float,
        clip: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high ends of the intervals of ratings for row numbers, -1 standing for an unknown id."""
        low, high = predictive.intervals(self._predictor, Pairs(user, item, times), level)
        return (np.clip(low, *self.scale), np.clip(high, *self.scale)) if clip and self.scale else (low, high)

    def probabilities(self, user_ids: Any, item_ids: Any, *, times: Any = None) -> pd.DataFrame:
        """Probability of each rating of the scale for pairs of ids: a row per pair, a column per rating.

        Those of an ordered probit, or, for ``likelihood="gaussian"``, of a normal rating rounded to the nearest.

        Raises
        ------
        DataError
            If the model has no posterior, or was trained on more than 50 distinct ratings.
        """
        return predictive.probabilities(self._predictor, predictive.pairs_of(self, user_ids, item_ids, times))

    def calibrate(self, held_out: Ratings) -> FactorModel:
        """A model whose intervals cover as they say on ratings like the held-out ones: conformal prediction.

        Nothing else changes. Hold the ratings out from training *and* from the test part: with n of them, new ratings
        that resemble them are covered with the probability asked for, give or take 1 / √n.

        Raises
        ------
        DataError
            If the model has no posterior, there are no ratings, or it was trained on some of them.

        Examples
        --------
        >>> import hatrix as hx
        >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
        >>> parts = hx.split.random(ratings, test=0.2, seed=1)
        >>> model = hx.BayesianMF(factors=2, epochs=40).fit(parts.train).calibrate(parts.test)
        >>> rating, low, high = model.predict(1, 1, interval=0.9)
        >>> low < rating < high
        True
        """
        if (name := self.recipe.rating_member) in self.members:
            return self.with_member(name, self.members[name].calibrate(held_out))
        return replace(self, posterior=predictive.calibrated(self, held_out))

    def predict_rows(
        self, user: NDArray[Any], item: NDArray[Any], *, times: NDArray[Any] | None = None, clip: bool = False
    ) -> NDArray[np.float64]:
        """Predictions for row numbers, -1 standing for an unknown id."""
        predictor = self._predictor
        predicted = predictor.recipe.ratings_of(predictor, Pairs(user, item, times))
        return np.clip(predicted, *self.scale) if clip and self.scale else predicted

    def is_fallback(self, user: NDArray[Any], item: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pairs have an unknown or cold side, so that their prediction is a fallback."""
        return np.asarray((user < 0) | (item < 0) | self.cold_users[user] | self.cold_items[item])

    @cached_property
    def cold_users(self) -> NDArray[np.bool_]:
        """Which users have neither ratings nor factors."""
        return np.asarray((self.user_count == 0) & ~self.user_factors.any(axis=1))

    @cached_property
    def cold_items(self) -> NDArray[np.bool_]:
        """Which items have neither ratings nor factors."""
        cold = self.item_count == 0
        cold[cold] = ~self.item_factors[cold].any(axis=1)
        return np.asarray(cold)

    def scores(self, user_ids: Any) -> NDArray[np.float64]:
        """Raw scores of every item for the given users, shape (len(user_ids), n_items).

        An unknown or cold user gets the bias ranking: ``fallback + item_bias``. Unknown users are warned of.
        """
        labels = as_column(user_ids)
        rows = self.users.encode(labels)
        predictive.warn_of_unknown(("user", self.users, labels, rows))
        return predictive.scores(self, rows)

    def rows_of_ids(self, ratings: Ratings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers in this model of all users and items of other data, -1 where the id is unknown."""
        users, items = (
            np.arange(len(mine)) if mine == theirs else mine.encode(theirs.labels)
            for mine, theirs in ((self.users, ratings.users), (self.items, ratings.items))
        )
        return users, items

    def rows_of(self, ratings: Ratings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """User and item row numbers of other data in this model, -1 where the id is unknown."""
        users, items = self.rows_of_ids(ratings)
        return users[ratings.user], items[ratings.item]

    def was_seen(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which pairs of row numbers (-1 unknown) are in the training rows; None where the model lacks those."""
        return None if self.seen is None else self.seen.has(user, item, len(self.items))

    def seen_among(self, ratings: Ratings) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
        """Slices of other data with which of their rows are in the training rows, which the model must have."""
        assert self.seen is not None
        users, items = self.rows_of_ids(ratings)
        # A slice goes through the training rows of all its users.
        most = np.inf if ratings.disk is None else max(LEAST_ASKED, ratings.disk.memory // BYTES_PER_ASKED)
        for part in ratings.slices(ratings.user, ratings.item, rows=int(min(MOST_ASKED, most))):
            user, item = users[ratings.user[part]], items[ratings.item[part]]
            yield part, self.seen.has(user, item, len(self.items))

    def save(self, path: str | Path, *, seen: bool = True) -> None:
        """Write the model to a ``.hatrix`` file, atomically; ``seen=False`` leaves the training rows out."""
        from hatrix.models.artifact import save

        save(self, path, seen=seen)

    def __repr__(self) -> str:
        return (
            f"FactorModel({self.recipe.name}, {len(self.users):,} users × {len(self.items):,} items, "
            f"{self.user_factors.shape[1]} factors, {int(self.user_count.sum()):,} ratings"
            f"{f', {UNFINISHED}' if self.unfinished else ''})"
        )
