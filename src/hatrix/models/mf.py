"""Matrix factorization by stochastic gradient descent: the plain product, and the one with biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, final

import numpy as np
from pydantic import Field

from hatrix.errors import ParameterError
from hatrix.models.baseline import BiasState
from hatrix.models.damping import damping, left_to_data
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
from hatrix.models.model import Factors
from hatrix.models.trial import with_factors, with_usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.models.svdpp import SVDpp

Sgd = TypeVar("Sgd", "BiasedMF", "SVDpp")

__all__ = [
    "BEFORE",
    "MF",
    "BiasedMF",
    "SgdState",
    "biased_state",
    "biases_alone",
    "natural_unit",
    "normal_rows",
    "numbers",
    "quicker",
    "row_penalties",
    "unit_of",
]

ROWS_AT_ONCE = 1 << 16
FIRST = np.zeros(1, np.int64)
LEAST_UNIT, ROUNDING = 1e-30, 1e-12
"""Smaller deviations, absolute or relative to the mean, are those of rounding."""
BEFORE: Mapping[str, float] = {"unit": 1.0, "user_damping": 5.0, "item_damping": 2.0}
"""Of recipes with biases: the numbers of files that name neither a unit nor a damping, but a ``bias_regularization``."""
USUAL = 64, 0.05
"""What "auto" stands for where factors help: their number, and ``init_scale``."""
FASTEST = 0.06
"""Largest learning rate that a trial takes to make up for fewer epochs."""
STARS = 3.7
"""Root mean square of the ratings of MovieLens: `MF` with its defaults suits ratings of this size."""


def row_penalties(count: NDArray[np.int64], weight: float, scaling: float) -> NDArray[np.float64]:
    """The penalty of each row per rating: weight (mean count / count)^scaling."""
    mean = count.sum() / max(1, np.count_nonzero(count))
    return np.asarray(weight * (mean / np.maximum(count, 1)) ** scaling)


@final
class SgdState(State):
    """Padded, renumbered rows on the block grid, and what one epoch needs to know."""

    def __init__(
        self,
        train: Ratings,
        user_rows: NDArray[Any],
        item_rows: NDArray[Any],
        *,
        mean: float,
        unit: float = 1.0,
        dtype: str,
        sequential: bool,
        seed: int,
        threads: int,
    ) -> None:
        from hatrix.kernels import schedule, sgd
        from hatrix.models import regions

        self.mean, self.unit, self.threads, self.factors = mean, unit, threads, user_rows.shape[1]
        self.on_disk = train.disk is not None

        def value(part: slice) -> NDArray[Any]:
            with np.errstate(over="ignore"):  # the loop finds infinities
                return np.asarray(((train.value[part] - mean) / unit).astype(dtype))

        n_users, n_items = len(train.users), len(train.items)
        row_bytes = sgd.padded(self.factors) * np.dtype(dtype).itemsize
        if sequential:
            self.grid = schedule.in_order(train.user, train.item, value(slice(None)), n_users, n_items)
        elif self.on_disk:
            self.grid = regions.deal(train, (dtype, value), row_bytes=row_bytes, seed=seed, threads=threads)
        else:
            counts = train.user_count, train.item_count
            self.grid = schedule.deal(
                train.user, train.item, value(slice(None)), *counts, row_bytes=row_bytes, seed=seed
            )
        P = sgd.aligned_rows(user_rows, dtype, place=self.grid.user_place)
        Q = sgd.aligned_rows(item_rows, dtype, place=self.grid.item_place)
        self.variables = {
            "user_factors": P,
            "item_factors": Q,
            "user_bias": np.zeros(n_users, dtype),
            "item_bias": np.zeros(n_items, dtype),
            "user_gain": np.ones(n_users, dtype),
            "item_gain": np.ones(n_items, dtype),
        }
        self.user_reg, self.user_bias_reg = np.zeros(n_users, dtype), np.zeros(n_users, dtype)
        self.item_reg, self.item_bias_reg = np.zeros(n_items, dtype), np.zeros(n_items, dtype)
        self.loss = np.zeros(self.grid.bins**2)

    def epoch(self, epoch: int, *, rate: float, biased: bool, adaptive: bool) -> float:
        """Run one epoch; returns the mean of e² as met on the way, in squared units of the ratings."""
        from hatrix.kernels import schedule, sgd
        from hatrix.models import regions

        grid, v = self.grid, self.variables
        P, Q = v["user_factors"], v["item_factors"]
        kernel = sgd.update(P.shape[1], biased=biased, adaptive=adaptive)
        number = P.dtype.type

        def run(blocks: NDArray[np.int64], edge: NDArray[np.int64], loss: NDArray[np.float64]) -> None:
            kernel(
                blocks, edge, grid.user, grid.item, grid.value, P, Q, v["user_bias"], v["item_bias"],
                self.user_reg, self.item_reg, self.user_bias_reg, self.item_bias_reg, number(rate),
                v["user_gain"], v["item_gain"], loss, self.factors,
            )  # fmt: skip

        def run_piece(block: int, first: int, last: int) -> None:
            loss = np.zeros(1)
            run(FIRST, np.array([first, last]), loss)
            self.loss[block] += loss[0]

        self.loss[:] = 0
        if self.on_disk or np.diff(grid.edge).max() > regions.PIECE:  # the same sums from disk and in memory
            with regions.by_pieces(run_piece, grid, epoch=epoch, report=self.report) as run_blocks:
                schedule.run_epoch(run_blocks, grid, epoch=epoch, threads=self.threads)
        else:
            schedule.run_epoch(
                lambda blocks: run(blocks, grid.edge, self.loss), grid, epoch=epoch, threads=self.threads
            )
        return self.mean_loss()

    def mean_loss(self) -> float:
        return float(self.loss.sum() / len(self.grid.value)) * self.unit**2

    def mean_squared_error(self) -> float:
        """(value - p·q)² over all ratings, with the rows as they are now."""
        from hatrix.kernels import sgd

        grid, P, Q = self.grid, self.variables["user_factors"], self.variables["item_factors"]
        n = len(grid.value)
        total = sgd.squared_errors(P.shape[1])(grid.user, grid.item, grid.value, P, Q, 0, n)
        return float(total / n) * self.unit**2

    def result(self) -> Factors:
        v, users, items = self.variables, self.grid.user_place, self.grid.item_place
        return Factors(
            self.mean,
            v["user_bias"][users] * self.unit,
            v["item_bias"][items] * self.unit,
            self.learned_rows(v["user_factors"], users),
            self.learned_rows(v["item_factors"], items),
        )

    def learned_rows(self, padded: NDArray[Any], place: NDArray[np.uint32]) -> NDArray[Any]:
        """Rows in id order, without padding; the product of two is in units of the rating."""
        rows: NDArray[Any] = padded[place, : self.factors]
        rows *= float(np.sqrt(self.unit))
        return rows


def natural_unit(deviation: float, mean: float) -> float:
    """Return the standard deviation of ratings, or 1 if they are all alike."""
    return float(deviation) if LEAST_UNIT < deviation < np.inf and deviation > ROUNDING * abs(mean) else 1.0


def unit_of(train: Ratings) -> float:
    """Return the unit that "auto" stands for, in which the ratings have the standard deviation 1."""
    return natural_unit(train.deviation, train.mean)


def numbers(recipe: Any, train: Ratings) -> dict[str, float]:
    """Return the unit and the damping that a recipe with biases leaves at "auto"."""
    found = {"unit": unit_of(train)} if recipe.unit == "auto" else {}
    return found | left_to_data(recipe, train)


def drawn_rows(n: int, factors: int, draw: Callable[[int, int], NDArray[Any]], dtype: str) -> NDArray[Any]:
    """Rows as ``draw(rows, factors)`` gives them, some at a time, so that they are in another type only once."""
    rows = np.empty((n, factors), dtype)
    for first in range(0, n, ROWS_AT_ONCE):
        part = rows[first : first + ROWS_AT_ONCE]
        part[...] = draw(*part.shape)
    return rows


def normal_rows(
    count: NDArray[np.int64], factors: int, scale: float, rng: np.random.Generator, dtype: str = "float32"
) -> NDArray[Any]:
    """A start for factors: normal with standard deviation scale / √factors, rows without a rating zero."""
    deviation = np.float64(scale / np.sqrt(factors))
    rows = drawn_rows(
        len(count), factors, lambda *shape: rng.standard_normal(shape, np.float32) * deviation, dtype
    )
    rows[count == 0] = 0.0
    return rows


def biased_state(recipe: BiasedMF | SVDpp, train: Ratings, *, seed: int, threads: int) -> SgdState:
    """A start with biases zero and factors normal, of deviation init_scale / √factors; cold rows are zero."""
    rng = np.random.default_rng(seed)
    counts = train.user_count, train.item_count
    user_rows, item_rows = (
        normal_rows(count, int(recipe.factors), float(recipe.init_scale), rng, recipe.precision)
        for count in counts
    )
    state = SgdState(
        train,
        user_rows,
        item_rows,
        mean=train.mean,
        unit=unit_of(train) if recipe.unit == "auto" else float(recipe.unit),
        dtype=recipe.precision,
        sequential=False,
        seed=seed,
        threads=threads,
    )
    weight, scaling = recipe.regularization, recipe.frequency_scaling
    state.user_reg[state.grid.user_place] = row_penalties(train.user_count, weight, scaling)
    state.item_reg[state.grid.item_place] = row_penalties(train.item_count, weight, scaling)
    pull = damping(recipe)
    state.user_bias_reg[state.grid.user_place] = bias_penalties(recipe, train.user_count, pull[0])
    state.item_bias_reg[state.grid.item_place] = bias_penalties(recipe, train.item_count, pull[1])
    return state


def biases_alone(recipe: BiasedMF | SVDpp, train: Ratings) -> BiasState:
    """Return the state of a model whose factors stay at zero, with the penalties of the recipe."""
    if recipe.bias_regularization is None:
        return BiasState(train, damping(recipe))
    weight = float(recipe.bias_regularization)
    return BiasState(train, (weight * train.user_count, weight * train.item_count))


def quicker(recipe: Sgd, epochs: int) -> Sgd:
    """Return a recipe of so many epochs whose learning rates add up to those of all epochs."""
    times = recipe.rounds / epochs
    rate = min(recipe.learning_rate * times, max(FASTEST, recipe.learning_rate))
    return recipe.replace(epochs=epochs, patience=None, learning_rate=rate, decay=recipe.decay**times)


def bias_penalties(recipe: BiasedMF | SVDpp, count: NDArray[np.int64], pull: float) -> NDArray[np.float64]:
    """Return the penalty of each bias per rating; a step never takes more than half of a bias away."""
    if recipe.bias_regularization is not None:
        return np.full(len(count), float(recipe.bias_regularization))
    return np.minimum(pull / np.maximum(count, 1), 1 / (4 * recipe.learning_rate))


@final
class MF(Algorithm):
    """The plain model: ``R̂ = P Qᵀ``, that is ``r̂(u, i) = user_factors[u] · item_factors[i]``.

    Minimises ``Σ [(r - r̂)² + regularization (|p_u|² + |q_i|²)]`` over the training ratings by stochastic
    gradient descent, one rating at a time, both rows from their old values::

        e = r - p·q
        p <- p + 2 learning_rate (e q - regularization p)
        q <- q + 2 learning_rate (e p - regularization q)

    P and Q start uniform in [0, init_scale), drawn as ``RandomState(seed).rand``: P first, then Q.

    The ratings are divided by ``unit`` for the training, and the model is given back in units of the ratings. By default
    the unit is their root mean square over 3.7, which is 1 for five stars: the same numbers then suit ratings from 0 to
    100, and ratings that are all multiplied by a number give predictions multiplied by it. A model without a mean is not
    the same for ratings that are all moved by a number.

    Notes
    -----
    With ``sequential=True, precision="float64"`` it visits the ratings in their given order and unit (1) and measures
    ``train_mse`` over all of them after each epoch, as the notebook does. Otherwise it trains on the block
    grid, ``train_mse`` is the running mean of the epoch, and rows without a rating become zero.

    Funk, "Netflix update: try this at home", 2006.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = MF(epochs=2000, factors=2, learning_rate=0.01).fit(ratings)
    >>> round(model.predict("ann", 2), 2)
    3.0
    """

    name: ClassVar[str] = "mf"
    before: ClassVar[Mapping[str, Any]] = {"unit": 1.0}
    out_of_core: ClassVar[bool] = True

    factors: int = Field(
        default=5,
        ge=1,
        le=4096,
        description="latent factors per user and item",
        json_schema_extra={"tune": [2, 64, "log"]},
    )
    epochs: Passes = 100
    learning_rate: float = Field(
        default=0.001, gt=0, le=10, description="step size", json_schema_extra={"tune": [1e-4, 1e-2, "log"]}
    )
    regularization: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight of the squared factors, per rating",
        json_schema_extra={"tune": [0.0, 0.2]},
    )
    init_scale: float = Field(
        default=1.0, gt=0, le=100, description="factors start uniform in [0, init_scale)"
    )
    patience: Patience = None
    precision: Precision = "float32"
    sequential: bool = Field(
        default=False, description="visit ratings one by one in the given order, on one thread"
    )
    unit: Literal["auto"] | Annotated[float, Field(gt=0, le=1e32)] = Field(
        default="auto",
        description="what ratings are divided by in training; auto is 1 with sequential, else their root mean square / 3.7",
    )

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> MF:
        return self.replace(unit=self._unit(train)) if self.unit == "auto" else self

    def _unit(self, train: Ratings) -> float:
        size = float(np.hypot(train.mean, train.deviation)) / STARS
        return size if not self.sequential and LEAST_UNIT < size < np.inf else 1.0

    def init(self, train: Ratings, *, seed: int, threads: int) -> SgdState:
        if self.sequential and train.disk is not None:
            raise ParameterError(
                "sequential=True goes through ratings in memory: leave it out for ratings on disk"
            )
        random = np.random.RandomState(seed)
        user_rows, item_rows = (
            drawn_rows(
                len(ids), self.factors, lambda *shape: random.rand(*shape) * self.init_scale, self.precision
            )
            for ids in (train.users, train.items)
        )
        if not self.sequential:
            user_rows[train.user_count == 0] = 0.0
            item_rows[train.item_count == 0] = 0.0
        state = SgdState(
            train,
            user_rows,
            item_rows,
            mean=0.0,
            unit=self._unit(train) if self.unit == "auto" else self.unit,
            dtype=self.precision,
            sequential=self.sequential,
            seed=seed,
            threads=threads,
        )
        state.user_reg[:] = state.item_reg[:] = self.regularization
        return state

    def step(self, state: SgdState, epoch: int) -> Mapping[str, float]:
        loss = state.epoch(epoch, rate=2 * self.learning_rate, biased=False, adaptive=False)
        if self.sequential:
            loss = state.mean_squared_error()
        return {"train_mse": loss, "learning_rate": self.learning_rate}

    def finish(self, state: SgdState) -> Factors:
        return state.result()


@final
class BiasedMF(Algorithm):
    """Mean, biases and factors: ``r̂ = mean + user_bias[u] + item_bias[i] + p_u · q_i``.

    Minimises, over the training ratings, by stochastic gradient descent ::

        Σ [(r - r̂)² + λ_u |p_u|² + λ_i |q_i|²] + user_damping Σ user_bias² + item_damping Σ item_bias²

    with ``λ_u = regularization (mean count / count of u)^frequency_scaling`` and likewise for items: 0
    penalises a row once per rating, 1 once in all.

    Per rating, with ``e = r - r̂`` and the old values on the right::

        user_bias <- user_bias + 2 rate (e - user_damping / count user_bias)      (items likewise)
        p <- p + 2 rate (e q - λ_u p),    q <- q + 2 rate (e p - λ_i q)

    where ``rate`` is ``learning_rate``, by default times ``decay`` after each epoch. Factors start normal
    with standard deviation ``init_scale / √factors``, biases at zero; rows without a rating stay zero.

    Biases are damped as in `Bias`, and "auto" is the same number; no step takes more than half of a bias away. An explicit
    ``bias_regularization`` is a penalty of every squared bias per rating instead, whatever its count.

    With ``factors`` and ``init_scale`` at "auto", a trial decides whether factors help. It has 16 factors and 0.3 of the
    epochs, at a learning rate that makes up for that, on nine tenths of the ratings (of at most 200,000, of users drawn
    at random). If the squared errors on the other tenth are not below those of biases alone by 2.5 standard errors, the
    model is its biases, which are then solved exactly as in `Bias`: its recipe has ``factors=1, init_scale=0``.
    Otherwise there are 64 factors and an ``init_scale`` of 0.05. The model's notes say what the trial found. An explicit
    number of factors is always trained.

    For all this, the mean is taken off the ratings and they are divided by ``unit``, by default their standard deviation, so
    that the same hyper-parameters suit any scale; the model is given back in units of the ratings.

    Notes
    -----
    The defaults were chosen on validation parts of the training parts of MovieLens 1M and ml-latest-small.

    Koren, Bell, Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 2009;
    frequency-scaled regularization: Rendle, Zhang, Koren, arXiv:1905.01395; per-row rates: Chin et al., "A
    learning-rate schedule for stochastic gradient methods to matrix factorization", PAKDD 2015.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = BiasedMF(factors=2, epochs=200).fit(ratings)
    >>> model.predict("ann", 1) > model.predict("ann", 2)
    True
    """

    name: ClassVar[str] = "biased-mf"
    before: ClassVar[Mapping[str, Any]] = BEFORE
    out_of_core: ClassVar[bool] = True
    usual_factors: ClassVar[int] = USUAL[0]

    factors: FactorCount = "auto"
    epochs: Passes = 20
    learning_rate: LearningRate = 0.019
    schedule: Literal["constant", "decay", "adaptive"] = Field(
        default="decay", description="constant; times decay after each epoch; or per row, as in AdaGrad"
    )
    decay: Decay = 0.9
    regularization: float = Field(
        default=0.045,
        ge=0,
        le=100,
        description="weight of the squared factors",
        json_schema_extra={"tune": [0.005, 0.5, "log"]},
    )
    bias_regularization: BiasRegularization = None
    user_damping: UserDamping = "auto"
    item_damping: ItemDamping = "auto"
    frequency_scaling: FrequencyScaling = 0.25
    init_scale: Start = "auto"
    patience: Patience = None
    precision: Precision = "float32"
    unit: Unit = "auto"

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> BiasedMF:
        return self.resolve(train, threads=1)[0]

    def resolve(self, train: Ratings, *, threads: int) -> tuple[BiasedMF, tuple[str, ...]]:
        recipe = self.replace(**numbers(self, train))
        return with_factors(recipe, train, USUAL, quicker, threads=threads)

    def init(self, train: Ratings, *, seed: int, threads: int) -> SgdState | BiasState:
        recipe = with_usual(self, USUAL)
        if recipe.init_scale == 0:
            return biases_alone(recipe, train)
        return biased_state(recipe, train, seed=seed, threads=threads)

    def step(self, state: SgdState | BiasState, epoch: int) -> Mapping[str, float]:
        if isinstance(state, BiasState):
            return {"train_mse": state.sweep()}
        rate = self.learning_rate * (self.decay**epoch if self.schedule == "decay" else 1.0)
        loss = state.epoch(
            epoch,
            rate=2 * rate,
            biased=True,
            adaptive=self.schedule == "adaptive",
        )
        return {"train_mse": loss, "learning_rate": rate}

    def finish(self, state: SgdState | BiasState) -> Factors:
        if isinstance(state, BiasState):
            return state.result(int(with_usual(self, USUAL).factors), self.precision)
        return state.result()
