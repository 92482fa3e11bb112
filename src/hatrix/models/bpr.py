"""Bayesian personalised ranking of what users have above what they have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from hatrix.models.baseline import CountState
from hatrix.models.fit import Algorithm, State, cores
from hatrix.models.hyperparameters import InitScale, Patience
from hatrix.models.mf import normal_rows
from hatrix.models.model import FactorModel, Factors
from hatrix.models.pairwise import usual_bias
from hatrix.models.signal import NO_SIGNAL, signal_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["BPR"]

BINS = 8
FACTORS = 64
"""What factors="auto" stands for, where factors help."""
FEWEST_CANDIDATES, MOST_CANDIDATES, PER_CANDIDATE = 2, 16, 12
"""How many candidates "auto" stands for, and the directions above noise that call for one of them."""
STRONG, WEAK = 0.05, 0.02
"""What regularization="auto" stands for: where "auto" takes few candidates, and otherwise."""
FEW_CANDIDATES, TIED, FREE = 4, 1.0, 0.01
"""With how many candidates biases stay near those that are usual; ``bias_regularization`` then, and with more."""


@final
class _State(State):
    def __init__(self, train: Ratings, recipe: BPR, *, seed: int, threads: int) -> None:
        from hatrix.kernels.sgd import aligned_rows
        from hatrix.kernels.topk import rows_of

        self.seed, self.threads, self.factors = seed, threads, recipe.count
        self.n_users, self.n_items = len(train.users), len(train.items)
        rng = np.random.default_rng(seed)
        self.seen_start, self.seen = rows_of(train.user, train.item, self.n_users)
        mixed = rng.permutation(len(train))
        self.user, self.item = train.user[mixed], train.item[mixed]
        every = np.arange(self.n_items, dtype=np.int32)
        self.pool = train.item if recipe.sampling == "popularity" else every
        rows = [
            aligned_rows(normal_rows(count, self.factors, recipe.init_scale, rng), np.float32)
            for count in (train.user_count, train.item_count)
        ]
        # What was never seen is not drawn: it would only be pushed down, whatever it is.
        self.pool = self.pool[train.item_count[self.pool] > 0]
        self.variables = {
            "user_factors": rows[0],
            "item_factors": rows[1],
            "item_bias": np.zeros(self.n_items, np.float32),
        }
        penalty = float(recipe.regularization)
        self.user_reg = np.full(self.n_users, penalty, np.float32)
        self.item_reg = np.full(self.n_items, penalty, np.float32)
        self.item_count = train.item_count

    def epoch(self, recipe: BPR, epoch: int, *, rate: float) -> dict[str, float]:
        from hatrix.kernels import bpr, schedule

        rng, v = np.random.default_rng((self.seed, epoch)), self.variables
        grid, item_bin = bpr.deal(
            self.user, self.item, self.n_users, self.n_items, bins=BINS, rng=rng, seed=self.seed
        )
        pool, key = bpr.Pool(self.pool, item_bin, grid.bins), rng.integers(2**63, dtype=np.uint64)
        loss, right, used = (np.zeros(grid.bins**2) for _ in range(3))
        kernel = bpr.update(self.factors, recipe.drawn)
        centre = recipe.usual_bias(v["item_bias"], self.item_count, self.item_count).astype(np.float32)

        def run_blocks(blocks: NDArray[np.int64]) -> None:
            kernel(
                blocks, grid.edge, grid.user, grid.item, grid.bins, pool.start, pool.item, self.seen_start,
                self.seen, v["user_factors"], v["item_factors"], v["item_bias"], centre, self.user_reg,
                self.item_reg, np.float32(float(recipe.bias_regularization)), np.float32(rate), key, loss, right, used,
            )  # fmt: skip

        schedule.run_epoch(run_blocks, grid, epoch=epoch, threads=self.threads)
        pairs = max(float(used.sum()), 1.0)
        return {"objective": float(loss.sum()) / pairs, "ordered": float(right.sum()) / pairs}


@final
class BPR(Algorithm):
    """Factors and item biases that put what a user has above what they have not: ``score = b_i + p_u · q_i``.

    Minimises, over the pairs (u, i) of the training part and items j drawn for each ::

        Σ -ln σ(b_i + p_u·q_i - b_j - p_u·q_j) + ½ regularization (|p_u|² + |q_i|² + |q_j|²)
                                               + ½ bias_regularization ((b_i - c_i)² + (b_j - c_j)²)

    by stochastic gradient descent; an epoch visits every pair once. With more than four candidates, ``c_i`` is 0. With
    fewer, it is the bias that is usual for the item's popularity: 0.99 times the regression of all biases on the
    logarithm of 1 + the item's count and its square, fitted anew before each epoch. So popularity as a whole is learned
    nearly without a penalty, and a single item is as far from it as its pairs insist; users of whom little is known get
    nearly the list of `Popular`.

    ``sampling="uniform"`` draws j evenly among the items that the user has not; "popularity" as often as they occur in the
    training part; "adaptive" draws ``candidates`` of them evenly and takes the one that scores highest, which the user would
    see first. The rate is ``learning_rate``, times ``decay`` after each epoch. Factors start normal with standard deviation
    ``init_scale / √factors``, biases at zero; rows without training data stay zero.

    What is left at "auto" depends on the data, and the model's recipe holds it. `hatrix.models.signal` counts the directions
    of the training part that stand out of chance. ``candidates`` is a twelfth of their number, from 2 to 16: where
    tastes can hardly be told apart, the best of many candidates is often an item that the user would like, and no
    negative. ``sampling`` is "adaptive" with more than one candidate, and "uniform" with one. ``regularization`` is 0.05
    where that leaves fewer than 16 candidates, and 0.02 otherwise. ``bias_regularization`` is 1 with up to four candidates,
    and 0.01 with more: an item that is the best of many is often pushed down, and its bias has to follow. ``factors`` is 64;
    but if no direction except popularity stands out, it is 0: then an item's score is the logarithm of 1 + its count, the
    lists are those of `Popular`, and a note of the model says so (H010).

    Notes
    -----
    Negatives are drawn inside one of eight bins of items, dealt anew at random in each epoch.

    The rule was chosen on validation parts of the collection of ``benchmarks/defaults.py``, the other defaults on one of
    gowalla's training part.

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

    factors: Literal["auto"] | Annotated[int, Field(ge=0, le=2048)] = Field(
        default="auto",
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
    regularization: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = Field(
        default="auto",
        description="weight of the squared factors",
        json_schema_extra={"tune": [0.001, 0.1, "log"]},
    )
    bias_regularization: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = Field(
        default="auto",
        description="weight of the squared distance of a bias from that usual for its item's popularity",
        json_schema_extra={"tune": [0.01, 3.0, "log"]},
    )
    sampling: Literal["auto", "uniform", "popularity", "adaptive"] = Field(
        default="auto", description="how the items that a user has not are drawn"
    )
    candidates: Literal["auto"] | Annotated[int, Field(ge=1, le=32)] = Field(
        default="auto",
        description="draws of which sampling=adaptive takes the best",
        json_schema_extra={"tune": [1, 32, "log"]},
    )
    init_scale: InitScale = 0.1
    patience: Patience = None

    @property
    def rounds(self) -> int:
        return self.epochs if self.factors else 1

    @property
    def count(self) -> int:
        """The number of factors, which a resolved recipe has."""
        return int(self.factors)

    @property
    def drawn(self) -> int:
        """The number of items drawn for each pair, which a resolved recipe has."""
        return int(self.candidates) if self.sampling == "adaptive" else 1

    def usual_bias(
        self, bias: NDArray[Any], known: NDArray[np.int64], count: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return what biases of items are pulled to; see `hatrix.models.pairwise.usual_bias`."""
        return usual_bias(bias, known, count) if self.drawn <= FEW_CANDIDATES else np.zeros(len(count))

    def resolved(self, train: Ratings) -> BPR:
        draws = self.sampling in ("auto", "adaptive") and self.candidates == "auto"
        if not draws and self.factors != "auto":
            return self._with(FACTORS, MOST_CANDIDATES)
        found = signal_of(train, most=PER_CANDIDATE * MOST_CANDIDATES, threads=cores())
        candidates = int(np.clip(round(found.factors / PER_CANDIDATE), FEWEST_CANDIDATES, MOST_CANDIDATES))
        return self._with(FACTORS if found.helps else 0, candidates)

    def of_model(self, model: FactorModel) -> BPR:
        return self._with(model.user_factors.shape[1], MOST_CANDIDATES)

    def _with(self, factors: int, candidates: int) -> BPR:
        """Return the recipe with numbers for what is left at "auto"."""
        given = self.candidates != "auto"
        candidates = int(self.candidates) if given else candidates
        alone = self.sampling in ("uniform", "popularity")
        numbers = {
            "factors": factors,
            "candidates": candidates,
            "sampling": "adaptive" if candidates > 1 else "uniform",
            "regularization": WEAK if given or candidates == MOST_CANDIDATES else STRONG,
            "bias_regularization": TIED if candidates <= FEW_CANDIDATES or alone else FREE,
        }
        left = {name: value for name, value in numbers.items() if getattr(self, name) == "auto"}
        return self.replace(**left) if left else self

    def remarks(self, left: Algorithm) -> list[str]:
        return [NO_SIGNAL] if self.factors == 0 and getattr(left, "factors", None) == "auto" else []

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State | CountState:
        return _State(train, self, seed=seed, threads=threads) if self.factors else CountState(train)

    def step(self, state: _State | CountState, epoch: int) -> Mapping[str, float]:
        if isinstance(state, CountState):
            return {}
        rate = self.learning_rate * self.decay**epoch
        figures = state.epoch(self, epoch, rate=rate)
        return {**figures, "learning_rate": rate}

    def finish(self, state: _State | CountState) -> Factors:
        if isinstance(state, CountState):
            return state.result()
        v, k = state.variables, self.count
        users, items = (np.ascontiguousarray(v[name][:, :k]) for name in ("user_factors", "item_factors"))
        return Factors(0.0, np.zeros(state.n_users, np.float32), v["item_bias"].copy(), users, items)
