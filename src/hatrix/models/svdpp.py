"""SVD++: biased matrix factorization that also learns from which items a user has rated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
from pydantic import Field

from hatrix.models.fit import Algorithm, State
from hatrix.models.mf import normal_rows, row_penalties
from hatrix.models.model import Factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.kernels.schedule import Grid

__all__ = ["SVDpp"]

RATERS_AT_ONCE = 1000
"""How many users of one item may move its term at once: the steps of many more, all from one point, overshoot."""


class _Group(NamedTuple):
    """Users ``first`` to ``last`` (renumbered), their ratings, and the users of each item among them."""

    first: int
    last: int
    grid: Grid
    start: NDArray[np.int64]
    user: NDArray[np.uint32]


@final
class _State(State):
    """Users dealt into groups, each with a block grid of its own over the same bins of items."""

    def __init__(self, train: Ratings, recipe: SVDpp, *, seed: int, threads: int) -> None:
        from hatrix.kernels import sgd, svdpp

        self.factors, self.threads, self.mean = recipe.factors, threads, float(train.value.mean())
        dtype, n_users, n_items = np.dtype(recipe.precision), len(train.users), len(train.items)
        self._deal(train, sgd.padded(self.factors) * dtype.itemsize, dtype, seed)
        user, item = self.user_place[train.user], self.item_place[train.item]
        self.start, self.item = svdpp.neighbours()(user, item, n_users)
        self.share = (1 / np.sqrt(np.maximum(np.diff(self.start), 1))).astype(dtype)

        user_rows, item_rows = normal_rows(train, self.factors, recipe.init_scale, seed)
        P, Q = sgd.aligned_rows(user_rows, dtype), sgd.aligned_rows(item_rows, dtype)
        P[self.user_place], Q[self.item_place] = P.copy(), Q.copy()
        self.variables = {
            "user_factors": P,
            "item_factors": Q,
            "item_terms": sgd.aligned_rows(np.zeros_like(item_rows), dtype),
            "user_bias": np.zeros(n_users, dtype),
            "item_bias": np.zeros(n_items, dtype),
        }
        self.sums, self.wishes = (sgd.aligned_rows(np.zeros_like(user_rows), dtype) for _ in range(2))
        weight, scaling = recipe.regularization, recipe.frequency_scaling
        self.user_reg, self.item_reg = np.empty(n_users, dtype), np.empty(n_items, dtype)
        self.user_reg[self.user_place] = row_penalties(train.user_count, weight, scaling)
        self.item_reg[self.item_place] = row_penalties(train.item_count, weight, scaling)

    def _deal(self, train: Ratings, row_bytes: int, dtype: np.dtype[Any], seed: int) -> None:
        """Deal users into groups of like activity, and the ratings of each into a grid."""
        from hatrix.kernels import schedule, svdpp

        n_users, n_items = len(train.users), len(train.items)
        value = (train.value - self.mean).astype(dtype)
        groups = min(n_users, -(-int(train.item_count.max()) // RATERS_AT_ONCE))
        by_activity = np.argsort(-train.user_count, kind="stable")
        group, number = np.empty(n_users, np.int64), np.empty(n_users, np.int32)
        group[by_activity], number[by_activity] = np.divmod(np.arange(n_users), groups)[::-1]
        self.user_place = np.empty(n_users, np.uint32)
        self.groups: list[_Group] = []
        last, bins = n_users, None
        # The last group is the smallest: it settles the number of bins for all.
        for g in reversed(range(groups)):
            members, rows = by_activity[g::groups], np.flatnonzero(group[train.user] == g)
            grid = schedule.deal(
                number[train.user[rows]], train.item[rows], value[rows], train.user_count[members],
                train.item_count, row_bytes=row_bytes, seed=seed, bins=bins,
            )  # fmt: skip
            first = last - len(members)
            self.user_place[members] = first + grid.user_place
            grid = grid._replace(user=grid.user + np.uint32(first))
            self.groups.append(_Group(first, last, grid, *svdpp.neighbours()(grid.item, grid.user, n_items)))
            self.item_place, bins, last = grid.item_place, grid.bins, first

    def epoch(self, epoch: int, *, rate: float, bias_reg: float, implicit_rate: float) -> float:
        """Run one epoch, a group of users after the other; returns the mean of e² as met on the way."""
        total = 0.0
        for group in self.groups:
            self._gather_sums(group.first, group.last)
            self.wishes[group.first : group.last] = 0.0
            total += self._descend(group, epoch, rate=rate, bias_reg=bias_reg)
            self._move_terms(group, rate=rate * implicit_rate)
        return total / len(self.item)

    def _gather_sums(self, first: int, last: int) -> None:
        from hatrix.kernels import schedule, svdpp

        gather, terms = svdpp.user_sums(self.factors), self.variables["item_terms"]

        def run_users(a: int, b: int) -> None:
            gather(first + a, first + b, self.start, self.item, self.share, terms, self.sums)

        weights = self.start[first : last + 1] - self.start[first]
        schedule.run_rows(run_users, weights, threads=self.threads)

    def _descend(self, group: _Group, epoch: int, *, rate: float, bias_reg: float) -> float:
        from hatrix.kernels import schedule, svdpp

        grid, v, number = group.grid, self.variables, self.share.dtype.type
        kernel, loss = svdpp.update(self.factors), np.zeros(grid.bins**2)

        def run_blocks(blocks: NDArray[np.int64]) -> None:
            kernel(
                blocks, grid.edge, grid.user, grid.item, grid.value, v["user_factors"], self.sums,
                self.wishes, v["item_factors"], v["user_bias"], v["item_bias"], self.user_reg, self.item_reg,
                number(bias_reg), number(rate), loss,
            )  # fmt: skip

        schedule.run_epoch(run_blocks, grid, epoch=epoch, threads=self.threads)
        return float(loss.sum())

    def _move_terms(self, group: _Group, *, rate: float) -> None:
        from hatrix.kernels import schedule, svdpp

        gather, terms, step = (
            svdpp.item_terms(self.factors),
            self.variables["item_terms"],
            self.share.dtype.type(rate),
        )

        def run_items(a: int, b: int) -> None:
            gather(a, b, group.start, group.user, self.share, self.wishes, terms, self.item_reg, step)

        schedule.run_rows(run_items, group.start, threads=self.threads)

    def result(self) -> Factors:
        v, users, items, k = self.variables, self.user_place, self.item_place, self.factors
        self._gather_sums(0, len(users))
        return Factors(
            self.mean,
            v["user_bias"][users],
            v["item_bias"][items],
            v["user_factors"][users, :k] + self.sums[users, :k],
            np.ascontiguousarray(v["item_factors"][items, :k]),
            {"item_terms": np.ascontiguousarray(v["item_terms"][items, :k])},
        )


@final
class SVDpp(Algorithm):
    """Biases, factors, and a term for each item rated: ``r̂ = mean + b_u + b_i + q_i · (p_u + |N(u)|^-½ Σ y_j)``.

    The sum runs over N(u), the items that u has rated; y_j are the ``item_terms`` of the model's ``parts``, and
    its ``user_factors`` are ``p_u + |N(u)|^-½ Σ y_j``. Minimises, over the training ratings ::

        Σ [(r - r̂)² + λ_u |p_u|² + λ_i (|q_i|² + |y_i|²) + bias_regularization (b_u² + b_i²)]

    with ``λ_u = regularization (mean count / count of u)^frequency_scaling`` and likewise for items.

    An epoch visits the ratings one by one as `BiasedMF` does, with the sums over N(u) held fixed: with
    ``e = r - r̂``, ``z = p + |N(u)|^-½ Σ y_j`` and the old values on the right ::

        p <- p + 2 rate (e q - λ_u p),    q <- q + 2 rate (e z - λ_i q),    g_u <- g_u + e q

    (biases as in `BiasedMF`), and then moves every item term by the gradient of all its users at once ::

        y_j <- (y_j + 2 rate implicit_rate Σ_u |N(u)|^-½ g_u) / (1 + 2 rate implicit_rate λ_j count of j)

    ``rate`` is ``learning_rate``, times ``decay`` after each epoch unless ``schedule`` is "constant". Factors
    start normal with standard deviation ``init_scale / √factors``; item terms and biases at zero.

    Notes
    -----
    Updating the item terms at every rating, as Koren does, costs |N(u)| row operations for each; here a rating
    costs three, and two more when sums and item terms are gathered. Where an item has more than 1000 ratings,
    users are dealt into groups, and a group's users move the terms before the next group's come.

    The defaults were chosen on validation parts of the training parts of MovieLens 100K and 1M.

    Koren, "Factorization meets the neighborhood: a multifaceted collaborative filtering model", KDD 2008.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = SVDpp(factors=2, epochs=200).fit(ratings)
    >>> model.predict("ann", 1) > model.predict("ann", 2)
    True
    >>> model.parts["item_terms"].shape
    (2, 2)
    """

    name: ClassVar[str] = "svdpp"
    parts: ClassVar[Mapping[str, str]] = {"item_terms": "ik"}

    factors: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="latent factors per user and item",
        json_schema_extra={"tune": [8, 256, "log"]},
    )
    epochs: int = Field(default=30, ge=1, le=100_000, description="passes over the training ratings")
    learning_rate: float = Field(
        default=0.02,
        gt=0,
        le=10,
        description="step size of the first epoch",
        json_schema_extra={"tune": [1e-3, 0.2, "log"]},
    )
    implicit_rate: float = Field(
        default=0.07,
        ge=0,
        le=1,
        description="step size of the item terms, times the learning rate",
        json_schema_extra={"tune": [0.01, 0.3, "log"]},
    )
    schedule: Literal["constant", "decay"] = Field(
        default="decay", description="constant, or times decay after each epoch"
    )
    decay: float = Field(
        default=0.9, gt=0, le=1, description="factor on the learning rate after each epoch (schedule decay)"
    )
    regularization: float = Field(
        default=0.07,
        ge=0,
        le=100,
        description="weight of the squared factors and item terms",
        json_schema_extra={"tune": [0.005, 0.5, "log"]},
    )
    bias_regularization: float = Field(
        default=0.05,
        ge=0,
        le=100,
        description="weight of the squared biases",
        json_schema_extra={"tune": [0.001, 0.2, "log"]},
    )
    frequency_scaling: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="how much less often-rated rows are penalised per rating: 0 not, 1 in full",
    )
    init_scale: float = Field(
        default=0.08, gt=0, le=100, description="standard deviation at the start, times √factors"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a better validation"
    )
    precision: Literal["float32", "float64"] = Field(
        default="float32", description="number type of the factors"
    )

    @property
    def rounds(self) -> int:
        return self.epochs

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State:
        return _State(train, self, seed=seed, threads=threads)

    def step(self, state: _State, epoch: int) -> Mapping[str, float]:
        rate = self.learning_rate * (self.decay**epoch if self.schedule == "decay" else 1.0)
        loss = state.epoch(
            epoch, rate=2 * rate, bias_reg=self.bias_regularization, implicit_rate=self.implicit_rate
        )
        return {"train_mse": loss, "learning_rate": rate}

    def finish(self, state: _State) -> Factors:
        return state.result()
