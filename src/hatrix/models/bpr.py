"""Bayesian personalised ranking of what users have above what they have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from hatrix.models.fit import Algorithm, State
from hatrix.models.hyperparameters import InitScale, Patience
from hatrix.models.mf import normal_rows
from hatrix.models.model import Factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["BPR"]

BINS = 8


@final
class _State(State):
    def __init__(self, train: Ratings, recipe: BPR, *, seed: int, threads: int) -> None:
        from hatrix.kernels.sgd import aligned_rows
        from hatrix.kernels.topk import rows_of

        self.seed, self.threads, self.factors = seed, threads, recipe.factors
        self.n_users, self.n_items = len(train.users), len(train.items)
        rng = np.random.default_rng(seed)
        self.seen_start, self.seen = rows_of(train.user, train.item, self.n_users)
        mixed = rng.permutation(len(train))
        self.user, self.item = train.user[mixed], train.item[mixed]
        every = np.arange(self.n_items, dtype=np.int32)
        self.pool = train.item if recipe.sampling == "popularity" else every
        rows = [
            aligned_rows(normal_rows(count, recipe.factors, recipe.init_scale, rng), np.float32)
            for count in (train.user_count, train.item_count)
        ]
        # What was never seen is not drawn: it would only be pushed down, whatever it is.
        self.pool = self.pool[train.item_count[self.pool] > 0]
        self.variables = {
            "user_factors": rows[0],
            "item_factors": rows[1],
            "item_bias": np.zeros(self.n_items, np.float32),
        }
        self.user_reg = np.full(self.n_users, recipe.regularization, np.float32)
        self.item_reg = np.full(self.n_items, recipe.regularization, np.float32)

    def epoch(self, epoch: int, *, rate: float, bias_reg: float, candidates: int) -> dict[str, float]:
        from hatrix.kernels import bpr, schedule

        rng, v = np.random.default_rng((self.seed, epoch)), self.variables
        grid, item_bin = bpr.deal(
            self.user, self.item, self.n_users, self.n_items, bins=BINS, rng=rng, seed=self.seed
        )
        pool, key = bpr.Pool(self.pool, item_bin, grid.bins), rng.integers(2**63, dtype=np.uint64)
        loss, right, used = (np.zeros(grid.bins**2) for _ in range(3))
        kernel = bpr.update(self.factors, candidates)

        def run_blocks(blocks: NDArray[np.int64]) -> None:
            kernel(
                blocks, grid.edge, grid.user, grid.item, grid.bins, pool.start, pool.item, self.seen_start,
                self.seen, v["user_factors"], v["item_factors"], v["item_bias"], self.user_reg, self.item_reg,
                np.float32(bias_reg), np.float32(rate), key, loss, right, used,
            )  # fmt: skip

        schedule.run_epoch(run_blocks, grid, epoch=epoch, threads=self.threads)
        pairs = max(float(used.sum()), 1.0)
        return {"objective": float(loss.sum()) / pairs, "ordered": float(right.sum()) / pairs}


@final
class BPR(Algorithm):
    """Factors and item biases that put what a user has above what they have not: ``score = b_i + p_u · q_i``.

    Minimises, over the pairs (u, i) of the training part and items j drawn for each ::

        Σ -ln σ(b_i + p_u·q_i - b_j - p_u·q_j) + ½ regularization (|p_u|² + |q_i|² + |q_j|²)
                                               + ½ bias_regularization (b_i² + b_j²)

    by stochastic gradient descent; an epoch visits every pair once. ``sampling="uniform"`` draws j evenly among
    the items that the user has not; "popularity" as often as they occur in the training part; "adaptive" draws
    ``candidates`` of them evenly and takes the one that scores highest, which the user would see first. The rate is
    ``learning_rate``, times ``decay`` after each epoch. Factors start normal with standard deviation
    ``init_scale / √factors``, biases at zero; rows without training data stay zero.

    Notes
    -----
    Negatives are drawn inside one of eight bins of items, dealt anew at random in each epoch.

    The defaults were chosen on a validation part of gowalla's training part.

    Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit feedback", UAI
    2009; the adaptive negatives are those of Zhang, Chen, Wang, Yu, "Optimizing top-n collaborative filtering via dynamic
    negative item sampling", SIGIR 2013.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> clicks = Ratings.from_columns(["ann", "ann", "bob", "bob"], ["tea", "milk", "tea", "jam"])
    >>> model = BPR(factors=2, epochs=200).fit(clicks)
    >>> model.predict("ann", "milk") > model.predict("ann", "jam")
    True
    """

    name: ClassVar[str] = "bpr"
    task: ClassVar[Literal["rating", "ranking"]] = "ranking"

    factors: int = Field(
        default=64,
        ge=1,
        le=2048,
        description="latent factors per user and item",
        json_schema_extra={"tune": [16, 256, "log"]},
    )
    epochs: int = Field(default=60, ge=1, le=100_000, description="passes over the training pairs")
    learning_rate: float = Field(
        default=0.15,
        gt=0,
        le=10,
        description="step size of the first epoch",
        json_schema_extra={"tune": [0.01, 0.5, "log"]},
    )
    decay: float = Field(default=0.97, gt=0, le=1, description="factor on the learning rate after each epoch")
    regularization: float = Field(
        default=0.02,
        ge=0,
        le=100,
        description="weight of the squared factors",
        json_schema_extra={"tune": [0.001, 0.1, "log"]},
    )
    bias_regularization: float = Field(
        default=0.01,
        ge=0,
        le=100,
        description="weight of the squared biases",
        json_schema_extra={"tune": [0.001, 0.5, "log"]},
    )
    sampling: Literal["uniform", "popularity", "adaptive"] = Field(
        default="adaptive", description="how the items that a user has not are drawn"
    )
    candidates: int = Field(
        default=16,
        ge=1,
        le=32,
        description="draws of which sampling=adaptive takes the best",
        json_schema_extra={"tune": [1, 32, "log"]},
    )
    init_scale: InitScale = 0.1
    patience: Patience = None

    @property
    def rounds(self) -> int:
        return self.epochs

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State:
        return _State(train, self, seed=seed, threads=threads)

    def step(self, state: _State, epoch: int) -> Mapping[str, float]:
        rate = self.learning_rate * self.decay**epoch
        candidates = self.candidates if self.sampling == "adaptive" else 1
        figures = state.epoch(epoch, rate=rate, bias_reg=self.bias_regularization, candidates=candidates)
        return {**figures, "learning_rate": rate}

    def finish(self, state: _State) -> Factors:
        v, k = state.variables, self.factors
        users, items = (np.ascontiguousarray(v[name][:, :k]) for name in ("user_factors", "item_factors"))
        return Factors(0.0, np.zeros(state.n_users, np.float32), v["item_bias"].copy(), users, items)
