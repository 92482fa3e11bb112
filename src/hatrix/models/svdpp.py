"""SVD++: biased matrix factorization that also learns from which items a user has rated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from hatrix.models.baseline import BiasState
from hatrix.models.fit import Algorithm, State
from hatrix.models.hyperparameters import (
    BiasRegularization,
    Decay,
    FactorCount,
    FrequencyScaling,
    ItemDamping,
    LearningRate,
    Passes,
    Patience,
    Precision,
    Start,
    Unit,
    UserDamping,
)
from hatrix.models.mf import BEFORE, biased_state, biases_alone, numbers, quicker
from hatrix.models.model import Factors
from hatrix.models.trial import with_factors, with_usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["SVDpp"]

USUAL = 64, 0.06
"""What "auto" stands for where factors help: their number, and ``init_scale``."""


@final
class _State(State):
    """The state of `BiasedMF` with item terms, and who rated what, in the order of the grid."""

    def __init__(self, train: Ratings, recipe: SVDpp, *, seed: int, threads: int) -> None:
        from hatrix.kernels import sgd, svdpp

        self.base = base = biased_state(recipe, train, seed=seed, threads=threads)
        P, Q, grid = base.variables["user_factors"], base.variables["item_factors"], base.grid
        terms = sgd.aligned_rows(np.zeros((len(Q), base.factors)), Q.dtype)
        self.variables = base.variables | {"item_terms": terms}
        self.by_user = svdpp.neighbours()(grid.user, grid.item, len(P))
        self.by_item = svdpp.neighbours()(grid.item, grid.user, len(Q))
        self.share = (1 / np.sqrt(np.maximum(np.diff(self.by_user[0]), 1))).astype(P.dtype)
        self.sums, self.wishes = (
            sgd.aligned_rows(np.zeros((len(P), base.factors)), P.dtype) for _ in range(2)
        )

    def epoch(self, epoch: int, *, rate: float, ratio: float) -> float:
        """Run one epoch and move the item terms; returns the mean of e² as met on the way."""
        from hatrix.kernels import schedule, svdpp

        base, grid, v = self.base, self.base.grid, self.variables
        kernel, number = svdpp.update(base.factors), self.share.dtype.type
        self._gather_sums()
        self.wishes[:] = 0.0

        def run_blocks(blocks: NDArray[np.int64]) -> None:
            kernel(
                blocks, grid.edge, grid.user, grid.item, grid.value, v["user_factors"], self.sums,
                self.wishes, v["item_factors"], v["user_bias"], v["item_bias"], base.user_reg, base.item_reg,
                base.user_bias_reg, base.item_bias_reg, number(rate), base.loss,
            )  # fmt: skip

        schedule.run_epoch(run_blocks, grid, epoch=epoch, threads=base.threads)
        self._move_terms(number(rate), number(ratio))
        return base.mean_loss()

    def _gather_sums(self) -> None:
        from hatrix.kernels import schedule, svdpp

        gather, terms = svdpp.user_sums(self.base.factors), self.variables["item_terms"]

        def run_users(first: int, last: int) -> None:
            gather(first, last, *self.by_user, self.share, terms, self.sums)

        schedule.run_rows(run_users, self.by_user[0], threads=self.base.threads)

    def _move_terms(self, rate: np.floating[Any], ratio: np.floating[Any]) -> None:
        from hatrix.kernels import schedule, svdpp

        Q, terms, reg = self.variables["item_factors"], self.variables["item_terms"], self.base.item_reg
        length, response = np.einsum("ij,ij->i", Q, Q), np.empty_like(self.share)
        respond, gather = svdpp.responses(), svdpp.item_terms(self.base.factors)

        def run_users(first: int, last: int) -> None:
            respond(first, last, *self.by_user, length, rate, response)

        def run_items(first: int, last: int) -> None:
            gather(
                first, last, *self.by_item, self.share, self.wishes, response, terms, reg, rate, ratio
            )  # fmt: skip

        schedule.run_rows(run_users, self.by_user[0], threads=self.base.threads)
        schedule.run_rows(run_items, self.by_item[0], threads=self.base.threads)

    def result(self) -> Factors:
        base, grid = self.base, self.base.grid
        self._gather_sums()
        plain = base.result()
        return plain._replace(
            user_factors=plain.user_factors + base.learned_rows(self.sums, grid.user_place),
            parts={"item_terms": base.learned_rows(self.variables["item_terms"], grid.item_place)},
        )


@final
class SVDpp(Algorithm):
    """Biases, factors, and a term for each item rated: ``r̂ = mean + b_u + b_i + q_i · (p_u + |N(u)|^-½ Σ y_j)``.

    The sum runs over N(u), the items that u has rated; y_j are the ``item_terms`` of the model's ``parts``, and
    its ``user_factors`` are ``p_u + |N(u)|^-½ Σ y_j``. Minimises, over the training ratings ::

        Σ [(r - r̂)² + λ_u |p_u|² + λ_i (|q_i|² + |y_i|²)] + user_damping Σ b_u² + item_damping Σ b_i²

    with ``λ_u = regularization (mean count / count of u)^frequency_scaling`` and likewise for items.

    An epoch visits the ratings one by one as `BiasedMF` does, with the sums over N(u) held fixed: with
    ``e = r - r̂``, ``z = p + |N(u)|^-½ Σ y_j`` and the old values on the right ::

        p <- p + 2 rate (e q - λ_u p),    q <- q + 2 rate (e z - λ_i q),    g_u <- g_u + e q

    (biases as in `BiasedMF`), and then moves every item term by the gradient of all its users U(j) at once ::

        y_j <- (y_j + step Σ_u |N(u)|^-½ g_u) / (1 + step λ_j count of j)
        step = 2 rate implicit_rate / (1 + ¼ implicit_rate Σ_u h_u),    h_u = min(1, 2 rate Σ_N(u) |q_i|²)

    ``rate`` is ``learning_rate``, times ``decay`` after each epoch unless ``schedule`` is "constant". Factors
    start normal with standard deviation ``init_scale / √factors``; item terms and biases at zero. Biases
    are damped (or penalised by ``bias_regularization``) as in `BiasedMF`. As in
    `BiasedMF`, ratings are centred and divided by ``unit``, so that the same hyper-parameters suit any rating scale.

    With ``factors`` and ``init_scale`` at "auto", a trial decides whether factors help. It has 16 factors and 0.3 of the
    epochs, at a learning rate that makes up for that, on nine tenths of the ratings (of at most 200,000, of users drawn
    at random). If the squared errors on the other tenth are not below those of biases alone by 2.5 standard errors, the
    model is its biases, which are then solved exactly as in `Bias`: its recipe has ``factors=1, init_scale=0``.
    Otherwise there are 64 factors and an ``init_scale`` of 0.06. The model's notes say what the trial found. An explicit
    number of factors is always trained.

    Notes
    -----
    Updating the item terms at every rating, as Koren does, costs |N(u)| row operations for each; here a rating
    costs three, and two more when sums and item terms are gathered. The divisor of ``step`` keeps items with very
    many ratings from overshooting: their users all wish from one point.

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
    before: ClassVar[Mapping[str, Any]] = BEFORE
    parts: ClassVar[Mapping[str, str]] = {"item_terms": "ik"}
    usual_factors: ClassVar[int] = USUAL[0]

    factors: FactorCount = "auto"
    epochs: Passes = 30
    learning_rate: LearningRate = 0.0225
    implicit_rate: float = Field(
        default=0.12,
        ge=0,
        le=1,
        description="step size of the item terms, times the learning rate",
        json_schema_extra={"tune": [0.02, 0.5, "log"]},
    )
    schedule: Literal["constant", "decay"] = Field(
        default="decay", description="constant, or times decay after each epoch"
    )
    decay: Decay = 0.9
    regularization: float = Field(
        default=0.056,
        ge=0,
        le=100,
        description="weight of the squared factors and item terms",
        json_schema_extra={"tune": [0.005, 0.5, "log"]},
    )
    bias_regularization: BiasRegularization = None
    user_damping: UserDamping = "auto"
    item_damping: ItemDamping = "auto"
    frequency_scaling: FrequencyScaling = 0.16
    init_scale: Start = "auto"
    patience: Patience = None
    precision: Precision = "float32"
    unit: Unit = "auto"

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> SVDpp:
        return self.resolve(train, threads=1)[0]

    def resolve(self, train: Ratings, *, threads: int) -> tuple[SVDpp, tuple[str, ...]]:
        recipe = self.replace(**numbers(self, train))
        return with_factors(recipe, train, USUAL, quicker, threads=threads)

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State | BiasState:
        recipe = with_usual(self, USUAL)
        if recipe.init_scale == 0:
            return biases_alone(recipe, train)
        return _State(train, recipe, seed=seed, threads=threads)

    def step(self, state: _State | BiasState, epoch: int) -> Mapping[str, float]:
        if isinstance(state, BiasState):
            return {"train_mse": state.sweep()}
        rate = self.learning_rate * (self.decay**epoch if self.schedule == "decay" else 1.0)
        loss = state.epoch(epoch, rate=2 * rate, ratio=self.implicit_rate)
        return {"train_mse": loss, "learning_rate": rate}

    def finish(self, state: _State | BiasState) -> Factors:
        if isinstance(state, BiasState):
            found = state.result(int(with_usual(self, USUAL).factors), self.precision)
            return found._replace(parts={"item_terms": np.zeros_like(found.item_factors)})
        return state.result()
