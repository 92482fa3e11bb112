"""Models without factors: the baselines that every table shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from pydantic import Field

from hatrix.models.damping import damping, left_to_data
from hatrix.models.fit import Algorithm, State
from hatrix.models.hyperparameters import ItemDamping, UserDamping
from hatrix.models.model import Factors

if TYPE_CHECKING:
    from hatrix.data.ratings import Ratings

__all__ = ["Bias", "BiasState", "CountState", "Popular"]


@final
class BiasState(State):
    """The biases of a model without factors, each solved exactly in turns.

    ``penalties`` are those of the squared biases of users and of items: a number, or one for each row.
    """

    def __init__(self, train: Ratings, penalties: tuple[Any, Any]) -> None:
        self.train = train
        self.variables = {"user_bias": np.zeros(len(train.users)), "item_bias": np.zeros(len(train.items))}
        counts = train.user_count, train.item_count
        self.weight = [
            np.maximum(count + penalty, 1e-12) for count, penalty in zip(counts, penalties, strict=True)
        ]

    def sweep(self) -> float:
        """Solve the biases of all items, then of all users; returns the mean squared error."""
        train, v = self.train, self.variables
        for name, row, other, weight in (
            ("item", train.item, train.user, self.weight[1]),
            ("user", train.user, train.item, self.weight[0]),
        ):
            theirs = v["user_bias" if name == "item" else "item_bias"]
            total = np.zeros(len(weight))
            for part in train.slices(train.user, train.item, train.value):
                left = train.value[part] - train.mean - theirs[other[part]]
                total += np.bincount(row[part], left, len(total))
            v[f"{name}_bias"][:] = total / weight
        square = 0.0
        for part in train.slices(train.user, train.item, train.value):
            left = train.value[part] - train.mean
            left -= v["user_bias"][train.user[part]] + v["item_bias"][train.item[part]]
            square += float(np.sum(left**2))
        return square / len(train)

    def result(self, factors: int = 0, dtype: str = "float64") -> Factors:
        """The biases, beside so many factors that are zero."""
        user_bias, item_bias = (self.variables[name].astype(dtype) for name in ("user_bias", "item_bias"))
        P, Q = (np.zeros((len(bias), factors), dtype) for bias in (user_bias, item_bias))
        return Factors(self.train.mean, user_bias, item_bias, P, Q)


@final
class Bias(Algorithm):
    """Damped means: ``r̂(u, i) = mean + user_bias[u] + item_bias[i]``.

    Minimises ``Σ (r - r̂)² + user_damping Σ user_bias² + item_damping Σ item_bias²`` by alternating exact
    solutions: each bias is the sum of its residuals over (their count + damping).

    A damping that is left at "auto" is worked out when a fit begins: it is the variance of the noise over that of the biases
    of the side, which is the mean product of two ratings, less the mean, of one user (or one item), rows weighted by
    their count - 1. The noise is what both sides leave of the variance of the ratings.

    Notes
    -----
    Koren, "Factor in the neighbors", TKDD 2010, section 2.1.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = Bias(user_damping=0.0, item_damping=0.0).fit(ratings)
    >>> round(model.predict("bob", 2), 3)
    2.0
    """

    name: ClassVar[str] = "bias"
    before: ClassVar[Mapping[str, Any]] = {"user_damping": 5.0, "item_damping": 2.0}

    epochs: int = Field(default=10, ge=1, le=10_000, description="alternations between users and items")
    user_damping: UserDamping = Field(default="auto", json_schema_extra={"tune": [0.5, 50, "log"]})
    item_damping: ItemDamping = Field(default="auto", json_schema_extra={"tune": [0.5, 50, "log"]})

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> Bias:
        return self.replace(**left_to_data(self, train))

    def init(self, train: Ratings, *, seed: int, threads: int) -> BiasState:  # noqa: ARG002
        return BiasState(train, damping(self))

    def step(self, state: BiasState, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        return {"train_mse": state.sweep()}

    def finish(self, state: BiasState) -> Factors:
        return state.result()


@final
class CountState(State):
    """The item counts, which are all that a ranking model without factors has: there is nothing to train."""

    def __init__(self, train: Ratings) -> None:
        self.variables = {}
        self.users, self.item_count = len(train.users), train.item_count

    def take_up(self, learned: Factors) -> None:
        """Do nothing: counts do not depend on what was learned before."""

    def result(self) -> Factors:
        """Return a model whose score of an item is the logarithm of 1 + its count: its lists are those of `Popular`."""
        users, items = (np.zeros((rows, 0), np.float32) for rows in (self.users, len(self.item_count)))
        bias = np.log1p(self.item_count).astype(np.float32)
        return Factors(0.0, np.zeros(self.users, np.float32), bias, users, items)


@final
class _PopularState(State):
    def __init__(self, train: Ratings) -> None:
        self.train = train
        self.variables = {"item_bias": np.zeros(len(train.items))}


@final
class Popular(Algorithm):
    """The same ranking for everybody: ``score(u, i)`` is how many training rows item i has.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> clicks = Ratings.from_columns(["ann", "ann", "bob"], ["a", "b", "a"])
    >>> Popular().fit(clicks).scores("cec") - Popular().fit(clicks).fallback
    array([[2., 1.]])
    """

    name: ClassVar[str] = "popular"
    task: ClassVar = "ranking"

    @property
    def rounds(self) -> int:
        return 1

    def init(self, train: Ratings, *, seed: int, threads: int) -> _PopularState:  # noqa: ARG002
        return _PopularState(train)

    def step(self, state: _PopularState, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        state.variables["item_bias"][:] = state.train.item_count
        return {}

    def finish(self, state: _PopularState) -> Factors:
        train = state.train
        empty = np.zeros((len(train.users), 0)), np.zeros((len(train.items), 0))
        return Factors(0.0, np.zeros(len(train.users)), state.variables["item_bias"].copy(), *empty)
