"""Models without factors: the baselines that every table shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from pydantic import Field

from hatrix.models.fit import Algorithm, State
from hatrix.models.model import Factors

if TYPE_CHECKING:
    from hatrix.data.ratings import Ratings

__all__ = ["Bias", "Popular"]


@final
class _BiasState(State):
    def __init__(self, train: Ratings) -> None:
        self.train = train
        self.mean = train.mean
        self.variables = {"user_bias": np.zeros(len(train.users)), "item_bias": np.zeros(len(train.items))}


@final
class Bias(Algorithm):
    """Damped means: ``r̂(u, i) = mean + user_bias[u] + item_bias[i]``.

    Minimises ``Σ (r - r̂)² + user_damping Σ user_bias² + item_damping Σ item_bias²`` by alternating exact
    solutions: each bias is the sum of its residuals over (their count + damping).

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

    epochs: int = Field(default=10, ge=1, le=10_000, description="alternations between users and items")
    user_damping: float = Field(
        default=5.0,
        ge=0,
        le=1e9,
        description="ratings' worth of pull towards zero on a user's bias",
        json_schema_extra={"tune": [0.5, 50, "log"]},
    )
    item_damping: float = Field(
        default=2.0,
        ge=0,
        le=1e9,
        description="ratings' worth of pull towards zero on an item's bias",
        json_schema_extra={"tune": [0.5, 50, "log"]},
    )

    @property
    def rounds(self) -> int:
        return self.epochs

    def init(self, train: Ratings, *, seed: int, threads: int) -> _BiasState:  # noqa: ARG002
        return _BiasState(train)

    def step(self, state: _BiasState, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        train, user_bias, item_bias = state.train, state.variables["user_bias"], state.variables["item_bias"]
        residual = train.value - state.mean
        without_user = np.bincount(train.item, residual - user_bias[train.user], len(item_bias))
        item_bias[:] = without_user / np.maximum(train.item_count + self.item_damping, 1e-12)
        without_item = np.bincount(train.user, residual - item_bias[train.item], len(user_bias))
        user_bias[:] = without_item / np.maximum(train.user_count + self.user_damping, 1e-12)
        error = residual - user_bias[train.user] - item_bias[train.item]
        return {"train_mse": float(np.mean(error**2))}

    def finish(self, state: _BiasState) -> Factors:
        user_bias, item_bias = state.variables["user_bias"].copy(), state.variables["item_bias"].copy()
        empty = np.zeros((len(user_bias), 0)), np.zeros((len(item_bias), 0))
        return Factors(state.mean, user_bias, item_bias, *empty)


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
