"""Alternating least squares: for ratings with biases, and for clicks with confidence weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
from pydantic import Field, model_validator

from hatrix.errors import DataError
from hatrix.models.baseline import CountState
from hatrix.models.damping import damping
from hatrix.models.fit import Algorithm, State, cores
from hatrix.models.hyperparameters import InitScale, ItemDamping, Patience, Start, Sweeps, Unit, UserDamping
from hatrix.models.mf import BEFORE, normal_rows, numbers, unit_of
from hatrix.models.model import FactorModel, Factors
from hatrix.models.signal import NO_SIGNAL, signal_of
from hatrix.models.trial import with_factors, with_usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["ALS", "ImplicitALS", "confidence", "pulls"]

USUAL = 32, 0.1
"""What "auto" stands for in `ALS` where factors help: their number, and ``init_scale``."""
TRIED = 1.2
FACTORS, OF_RATINGS = 64, 128
"""The most factors that "auto" stands for: of counts, and of ratings."""
MOST_DIRECTIONS = 1024
"""How many directions above noise are counted at most."""
LIGHTEST, HEAVIEST = 1e-12, 1e12
HEAVIEST_ALPHA = 1e6
WEAKEST, FAINT = 1.0, 0.6
"""Of ``evidence="stars"``: the weight of the lowest rating before alpha, and how far its target lies below 1."""
SIGNED = 1.25
"""Of ``evidence="signed"``: how far the target of the lowest rating lies below 1."""


class _Entries(NamedTuple):
    """The ratings of each row of a side: the other side's rows, weights and targets."""

    start: NDArray[np.int64]
    other: NDArray[np.int32]
    weight: NDArray[np.float32]
    target: NDArray[np.float32]

    def windows(self) -> Iterator[tuple[slice, _Entries]]:
        """Rows and their entries, some after others, so that what is worked out of them is small."""
        from hatrix.models import regions

        start, other, weight, target = self
        for rows, part in regions.windows(start, (other, weight, target)):
            local = start[rows.start : rows.stop + 1] - start[rows.start]
            yield rows, _Entries(local, other[part], weight[part], target[part])


class _State(State):
    """Padded rows of both sides, and the entries by user and by item."""

    unit = 1.0
    """What the targets are divided by."""

    def __init__(
        self,
        train: Ratings,
        weight: Callable[[slice], NDArray[Any]],
        target: Callable[[slice], NDArray[Any]],
        recipe: ALS | ImplicitALS,
        seed: int,
        threads: int,
    ) -> None:
        from hatrix.kernels.tiles import padded_rows

        self.threads, self.factors = threads, int(recipe.factors)
        self.by_user, self.by_item = (
            _entries(train, side, weight, target, threads) for side in ("user", "item")
        )
        rng, counts = np.random.default_rng(seed), (train.user_count, train.item_count)
        rows = [normal_rows(count, self.factors, float(recipe.init_scale), rng) for count in counts]
        if getattr(recipe, "nonnegative", False):
            rows = [np.abs(drawn) for drawn in rows]
        self.variables = {
            "user_factors": padded_rows(rows[0]),
            "item_factors": padded_rows(rows[1]),
            "user_bias": np.zeros(len(train.users), np.float32),
            "item_bias": np.zeros(len(train.items), np.float32),
        }
        self.lanes = self.variables["user_factors"].shape[1]

    def windows(self, side: _Entries) -> Iterator[tuple[slice, _Entries]]:
        """What to go through for an update of a side, which is half of an epoch."""
        for rows, entries in side.windows():
            yield rows, entries
            self.report(len(entries.other) / 2)

    def loss(self, *, ones: bool = False, slope: float = 0.0) -> float:
        """Σ e (weight e + slope) over the entries, e = target - bias - x·y (or 1 for the target), from the users' side."""
        from hatrix.kernels import least_squares, schedule

        v, total = self.variables, np.zeros(len(self.by_user.start) - 1)
        kernel = least_squares.losses(self.lanes)
        for rows, (start, other, weight, target) in self.by_user.windows():
            left = (np.ones_like(target) if ones else target) - v["item_bias"][other]
            entries = start, other, weight, left, v["item_factors"]
            mine = v["user_factors"][rows], v["user_bias"][rows], np.float64(slope), total[rows]
            schedule.run_rows(
                lambda first, last, entries=entries, mine=mine: kernel(first, last, *entries, *mine),  # type: ignore[misc]
                start,
                threads=self.threads,
            )
        return float(total.sum())

    def result(self, mean: float) -> Factors:
        v, k, root = self.variables, self.factors, np.float32(np.sqrt(self.unit))
        return Factors(
            mean,
            v["user_bias"] * np.float32(self.unit),
            v["item_bias"] * np.float32(self.unit),
            np.ascontiguousarray(v["user_factors"][:, :k] * root),
            np.ascontiguousarray(v["item_factors"][:, :k] * root),
        )

    def take_up(self, learned: Factors) -> None:
        """Go on from what was learned before: the inverse of `result`."""
        v, k, root = self.variables, self.factors, np.sqrt(self.unit)
        for side in ("user", "item"):
            v[f"{side}_bias"][:] = getattr(learned, f"{side}_bias") / self.unit
            v[f"{side}_factors"][:, :k] = getattr(learned, f"{side}_factors") / root


def _entries(
    train: Ratings,
    side: str,
    weight: Callable[[slice], NDArray[Any]],
    target: Callable[[slice], NDArray[Any]],
    threads: int,
) -> _Entries:
    other = train.item if side == "user" else train.user
    if train.disk is not None:
        from hatrix.models import regions

        columns = (np.int32, lambda part: other[part]), (np.float32, weight), (np.float32, target)
        start, kept = regions.grouped(train, side, columns, threads=threads)
        return _Entries(start, *kept)
    start, rows = train.by_user if side == "user" else train.by_item
    weights, targets = (column(slice(None)).astype(np.float32) for column in (weight, target))
    return _Entries(start, other[rows], weights[rows], targets[rows])


def _penalty(rows: NDArray[np.float32], ridge: NDArray[np.float32]) -> float:
    return float(np.einsum("nk,nk->n", rows, rows).astype(np.float64) @ ridge)


@final
class _ExplicitState(_State):
    def __init__(self, train: Ratings, recipe: ALS, seed: int, threads: int) -> None:
        self.mean = train.mean if recipe.biased else 0.0
        self.unit = unit_of(train) if recipe.unit == "auto" else float(recipe.unit)
        super().__init__(
            train,
            lambda part: np.ones(len(train.value[part]), np.float32),
            lambda part: (train.value[part] - self.mean) / self.unit,
            recipe,
            seed,
            threads,
        )
        counts = np.maximum(train.user_count, 1), np.maximum(train.item_count, 1)
        self.ridge = [(recipe.regularization * n**recipe.nu).astype(np.float32) for n in counts]
        self.bias_ridge = [
            np.asarray(recipe.bias_penalty(side, n), np.float32) for side, n in enumerate(counts)
        ]
        self.diagonal = np.zeros(self.lanes, np.float32)

    def sweep(self, recipe: ALS) -> None:
        """Solve all users, then all items."""
        from hatrix.kernels import conjugate_gradients, least_squares

        v = self.variables
        for number, (mine, theirs, side) in enumerate(
            (("user", "item", self.by_user), ("item", "user", self.by_item))
        ):
            for rows, (start, other, weight, target) in self.windows(side):
                left = target - v[f"{theirs}_bias"][other] if recipe.biased else target
                regression = (
                    start, other, weight, left, v[f"{theirs}_factors"], self.diagonal, self.ridge[number][rows],
                    v[f"{mine}_factors"][rows],
                )  # fmt: skip
                shared: dict[str, Any] = {
                    "bias": v[f"{mine}_bias"][rows] if recipe.biased else None,
                    "bias_ridge": self.bias_ridge[number][rows],
                    "threads": self.threads,
                }
                if recipe.solver == "cg":
                    conjugate_gradients.take_steps(*regression, times=recipe.cg_steps, **shared)
                else:
                    least_squares.solve_rows(*regression, nonnegative=recipe.nonnegative, **shared)

    def penalty(self) -> float:
        v, total = self.variables, 0.0
        for number, side in enumerate(("user", "item")):
            total += _penalty(v[f"{side}_factors"], self.ridge[number])
            total += _penalty(v[f"{side}_bias"][:, None], self.bias_ridge[number])
        return total


@final
class ALS(Algorithm):
    """Mean, biases and factors as `BiasedMF` has them, fitted by alternating exact solutions.

    Minimises, over the training ratings ::

        Σ (r - mean - b_u - b_i - p_u·q_i)² + regularization unit (Σ_u n_u^nu |p_u|² + Σ_i n_i^nu |q_i|²)
            + user_damping Σ b_u² + item_damping Σ b_i²

    where n counts the ratings of a row, and ``unit`` is the standard deviation of the ratings, so that the same numbers
    suit any scale (the product of two factors grows with the ratings, and their squares only with its root). An epoch
    solves for every user's (p_u, b_u) with the items fixed, then for every item's: each is a ridge regression, so the
    objective never rises. ``nu=1`` is weighted-lambda regularization, ``nu=0`` the plain one; halfway, the default
    penalties serve small and large data. Biases are damped as in `Bias`, and "auto" is the same number; with an explicit
    ``bias_regularization`` their penalties are ``bias_regularization n^nu`` instead. Without ``biased``, mean and biases
    are zero. With ``nonnegative``, factors stay at or above zero (biases are free). Factors start normal with standard
    deviation ``init_scale / √factors``, in the unit; rows without a rating are zero.

    With ``factors`` and ``init_scale`` at "auto", a trial decides whether factors help: it has 16 factors and 0.3 of the
    epochs, on nine tenths of the ratings (of at most 200,000, of users drawn at random). If the squared errors on the
    other tenth are not below those of biases alone by 2.5 standard errors, the model is its biases, which are then
    solved exactly as in `Bias`: its recipe has ``factors=1, init_scale=0``. Otherwise there are 32 factors and an
    ``init_scale`` of 0.1. The model's notes say what the trial found. An explicit number of factors is always trained.

    ``solver="cg"`` takes ``cg_steps`` preconditioned conjugate gradient steps from the last solution instead: an epoch of 64
    factors then costs less than half, and comes nearly as far.

    Notes
    -----
    Zhou, Wilkinson, Schreiber, Pan, "Large-scale parallel collaborative filtering for the Netflix prize", AAIM 2008.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = ALS(factors=2).fit(ratings)
    >>> model.predict("ann", 1) > model.predict("ann", 2)
    True
    >>> model.history.objective.round(5).is_monotonic_decreasing
    True
    """

    name: ClassVar[str] = "als"
    before: ClassVar[Mapping[str, Any]] = BEFORE
    out_of_core: ClassVar[bool] = True
    usual_factors: ClassVar[int] = USUAL[0]

    factors: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        default="auto",
        description="latent factors per user and item; auto leaves them out if a trial finds that they do not help",
        json_schema_extra={"tune": [8, 128, "log"]},
    )
    epochs: Sweeps = 15
    regularization: float = Field(
        default=1.25,
        gt=0,
        le=1e6,
        description="weight of the squared factors",
        json_schema_extra={"tune": [0.1, 5.0, "log"]},
    )
    bias_regularization: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="weight of the squared biases; none for a damping of users and items"
    )
    user_damping: UserDamping = "auto"
    item_damping: ItemDamping = "auto"
    nu: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="power of a row's count that multiplies its penalty: 1 weighted, 0 plain",
    )
    biased: bool = Field(default=True, description="have a mean and biases")
    nonnegative: bool = Field(default=False, description="keep factors at or above zero (solver exact)")
    solver: Literal["exact", "cg"] = Field(default="exact", description="how a row is solved")
    cg_steps: int = Field(default=3, ge=1, le=1000, description="conjugate gradient steps of solver cg")
    init_scale: Start = "auto"
    patience: Patience = None
    unit: Unit = "auto"

    @model_validator(mode="after")
    def _solvable(self) -> ALS:
        if self.nonnegative and self.solver != "exact":
            raise ValueError("nonnegative factors need solver='exact'")
        return self

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> ALS:
        return self.resolve(train, threads=1)[0]

    def resolve(self, train: Ratings, *, threads: int) -> tuple[ALS, tuple[str, ...]]:
        recipe = self.replace(**numbers(self, train))
        if not self.biased:
            return with_usual(recipe, USUAL), ()
        return with_factors(recipe, train, USUAL, _stronger, threads=threads)

    def bias_penalty(self, side: int, count: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights of the squared biases of rows with so many ratings, of side 0 (users) or 1 (items)."""
        if self.bias_regularization is not None:
            return np.asarray(self.bias_regularization * count**self.nu)
        return np.full(np.shape(count), max(damping(self)[side], LIGHTEST))

    def init(self, train: Ratings, *, seed: int, threads: int) -> _ExplicitState:
        return _ExplicitState(train, with_usual(self, USUAL), seed, threads)

    def step(self, state: _ExplicitState, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        state.sweep(self)
        loss, square = state.loss(), state.unit**2
        return {
            "train_mse": square * loss / len(state.by_user.other),
            "objective": square * (loss + state.penalty()),
        }

    def finish(self, state: _ExplicitState) -> Factors:
        return state.result(state.mean)


def _stronger(recipe: ALS, epochs: int) -> ALS:
    """Return the recipe of a trial: a few sweeps have not yet shrunk what is noise, so penalties do that."""
    stronger = min(TRIED * recipe.regularization, 1e6)
    return recipe.replace(epochs=epochs, patience=None, regularization=stronger)


def evidence(
    recipe: ImplicitALS, value: NDArray[np.float64], scale: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how strong the evidence of each value is, and its target: 1 for a like, less for a lower rating."""
    if recipe.evidence not in ("stars", "signed"):
        _refuse_what_is_not_above_zero(value)
        return value, np.ones(len(value))
    assert scale is not None
    low, high = scale
    place = np.full(len(value), 0.5) if high == low else np.clip((value - low) / (high - low), 0, 1)
    if recipe.evidence == "signed":
        return np.ones(len(value)), SIGNED * place + 1 - SIGNED
    return WEAKEST + place, 1 - FAINT + FAINT * place


def pulls(
    recipe: ImplicitALS, value: NDArray[np.float64], scale: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weight that each value adds to the weight of every pair, and how hard it pulls the score up.

    The pull is the weight times the target of the value (see `evidence`), which stands in for the unseen target 0: the
    right-hand side of the regression. With ``weighting="replace"``, the weight beyond that of every pair is negative where
    ``alpha r < alpha0``.
    """
    strength, target = evidence(recipe, value, scale)
    weight = float(recipe.alpha) * strength
    if len(value) and not (weight.min() >= LIGHTEST and weight.max() <= HEAVIEST):
        raise DataError(
            f"alpha times the values runs from {weight.min():g} to {weight.max():g}: single precision carries "
            f"weights from {LIGHTEST:g} to {HEAVIEST:g}; rescale the values, or change alpha"
        )
    if recipe.alpha0 is None:  # Hu, Koren, Volinsky: seen items have the weight 1 + alpha r, all others 1
        return weight, 1 + weight
    beyond = weight - float(recipe.alpha0) if recipe.weighting == "replace" else weight
    return beyond, weight * target


def confidence(
    recipe: ImplicitALS, value: NDArray[np.float64], scale: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight and target of each value as kernels take them: as `pulls`, but with weights above 0.

    Raises
    ------
    DataError
        If ``alpha`` times a value is less than the ``alpha0`` that it replaces: the kernels cannot solve that.
    """
    weight, pull = pulls(recipe, value, scale)
    if recipe.alpha0 is None:
        return weight, np.ones(len(value)) + 1 / weight
    if recipe.weighting == "add":
        return weight, pull / weight
    if len(value) and weight.min() < 0:
        raise DataError(
            f"alpha times the values is {pull.min():g} at the least, below the weight alpha0={recipe.alpha0:g} of pairs "
            "that were not seen, which it replaces: give a larger alpha or a smaller alpha0, or weighting='add'"
        )
    weight = np.maximum(weight, LIGHTEST)  # a pair of weight 0 can pull, too
    return weight, pull / weight


def _refuse_what_is_not_above_zero(value: NDArray[np.float64]) -> None:
    if len(value) and value.min() <= 0:
        raise DataError(
            f"a value is {value.min():g}: {ImplicitALS.name} takes counts, or other confidences, above 0"
        )


def _by_rule(train: Ratings, recipe: ImplicitALS) -> dict[str, Any]:
    """What "auto" stands for: the docstring of `ImplicitALS` has the equations."""
    total = 0.0
    for part in train.slices(train.value):
        total += float(evidence(recipe, train.value[part], train.scale)[0].sum())
    cells = np.count_nonzero(train.user_count) * np.count_nonzero(train.item_count)
    mean = train.mean if recipe.evidence == "count" else total / len(train)
    return _weights(len(train), int(cells), mean, counted=recipe.evidence == "count")


def _weights(n: int, cells: int, mean: float, *, counted: bool) -> dict[str, Any]:
    root = float(np.sqrt(n / cells))
    return {
        "factors": FACTORS,
        "alpha": min(1 / mean, HEAVIEST_ALPHA),
        "alpha0": root / (2 if counted else 2.5),
        "regularization": 0.07 / (1 + 1 / (2 * root)),
    }


def _of_directions(directions: int, each: float, *, counted: bool) -> dict[str, Any]:
    """Return the factors and the regularization for so many directions, and interactions of each user on average."""
    share = min(1.0, 40 / directions)
    if counted:
        return {"factors": min(2 * directions, FACTORS), "regularization": 0.08 * each**-0.25 * share**0.5}
    return {"factors": min(3 * directions, OF_RATINGS), "regularization": 0.115 * each**-0.42 * share**0.2}


@final
class _ImplicitState(_State):
    """Both sides are rotated now and then into the eigenvectors of a Gram matrix: scores stay what they are."""

    def __init__(self, train: Ratings, recipe: ImplicitALS, seed: int, threads: int) -> None:
        self.alpha0 = 1.0 if recipe.alpha0 is None else float(recipe.alpha0)
        # What is seen counts (a + w) (1 - s)², a being alpha0, of which all pairs have a s² already: the rest is
        # e (w e + 2 a) - a, e = 1 - s. By the square of the target 1 + a/w, as rows are solved for, it would be a
        # difference of numbers near a/w.
        self.ones = recipe.evidence == "count"
        self.slope = 2.0 * self.alpha0 if recipe.alpha0 is None or recipe.weighting == "replace" else 0.0
        super().__init__(
            train,
            lambda part: confidence(recipe, train.value[part], train.scale)[0],
            lambda part: confidence(recipe, train.value[part], train.scale)[1],
            recipe,
            seed,
            threads,
        )
        sides = (train.user_count, len(train.items)), (train.item_count, len(train.users))
        self.ridge = [
            (float(recipe.regularization) * (count + self.alpha0 * others) ** recipe.nu).astype(np.float32)
            for count, others in sides
        ]

    def sweep(self, recipe: ImplicitALS) -> float:
        """Solve all users, then all items; returns the objective."""
        v = self.variables
        self._solve(v["user_factors"], v["item_factors"], self.by_user, self.ridge[0], recipe)
        users = self._solve(v["item_factors"], v["user_factors"], self.by_item, self.ridge[1], recipe)
        items = np.einsum("nk,nk->k", v["item_factors"], v["item_factors"], dtype=np.float64)
        penalty = _penalty(v["user_factors"], self.ridge[0]) + _penalty(v["item_factors"], self.ridge[1])
        # The users' Gram matrix is diagonal by now, so only the diagonal of the items' counts.
        seen = self.loss(ones=self.ones, slope=self.slope) - self.slope / 2 * len(self.by_user.other)
        return seen + float(users @ items) + penalty

    def _solve(
        self,
        X: NDArray[np.float32],
        Y: NDArray[np.float32],
        side: _Entries,
        ridge: NDArray[np.float32],
        recipe: ImplicitALS,
    ) -> NDArray[np.float64]:
        """Solve the rows of X given Y; returns alpha0 times the eigenvalues of Y's Gram matrix."""
        from hatrix.kernels import conjugate_gradients, dense, least_squares

        k = self.factors
        gram = dense.gram(Y, threads=self.threads)[:k, :k]
        values, vectors = np.linalg.eigh(gram)
        turn = np.eye(self.lanes, dtype=np.float32)
        turn[:k, :k] = vectors
        dense.rotate(Y, turn, Y, threads=self.threads)
        diagonal = np.zeros(self.lanes)
        diagonal[:k] = self.alpha0 * np.maximum(values, 0)
        base = diagonal.astype(np.float32)
        if recipe.solver != "exact":
            dense.rotate(X, turn, X, threads=self.threads)
        for rows, entries in self.windows(side):
            regression = (*entries, Y, base, ridge[rows], X[rows])
            if recipe.solver == "exact":
                least_squares.solve_rows(*regression, threads=self.threads)
            elif recipe.solver == "ialspp":
                least_squares.solve_by_blocks(*regression, size=recipe.block_size, threads=self.threads)
            else:
                conjugate_gradients.take_steps(*regression, times=recipe.cg_steps, threads=self.threads)
        return diagonal


@final
class ImplicitALS(Algorithm):
    """Matrix factorization of clicks, plays or purchases: unseen items count too, with little weight.

    With ``alpha0``, minimises (Rendle et al.'s iALS) ::

        Σ_seen alpha r (1 - p_u·q_i)² + alpha0 Σ_all (p_u·q_i)² + Σ_u λ_u |p_u|² + Σ_i λ_i |q_i|²

    where r is the count, and ``λ_u = regularization (n_u + alpha0 number of items)^nu``, for items likewise. With
    ``weighting="replace"``, the second sum is over the pairs that were not seen alone, so that the weight of what was seen
    is alpha r in all: with ``alpha0=1, nu=0`` these are the weights of the library implicit. With ``alpha0=None``, the
    weights are those of Hu, Koren and Volinsky: ``1 + alpha r`` on seen items, whose target is 1, and 1 on all others,
    whose target is 0 (in λ, alpha0 is then 1).

    An epoch solves for every user with the items fixed, then for every item. Both sides are first rotated into
    the eigenvectors of the fixed side's Gram matrix, which changes no score and makes the part of all pairs
    a diagonal penalty. ``solver="exact"`` solves each row exactly (`hatrix.kernels.least_squares`); "cg" takes
    ``cg_steps`` preconditioned conjugate gradient steps from the last solution; "ialspp" solves for ``block_size`` columns
    after the other. Factors start normal with standard deviation ``init_scale / √factors``.

    On ratings, ``evidence="stars"`` makes a high rating strong evidence and a low one weak evidence: with z the place of the
    rating on the scale, from 0 at the lowest to 1 at the highest, r is ``1 + z`` and the target of the score is
    ``0.4 + 0.6 z`` instead of 1. With "signed", r is 1 and the target runs from -1/4 to 1, so that the lowest ratings count
    against an item. With "count", r is the value itself, and the target 1. "auto" is "stars" for ratings, and "count" for
    clicks and for the weightings of other libraries.

    The weights ``alpha``, ``alpha0`` and ``regularization`` depend on the data: what is left at "auto" is worked out from
    the training part when a fit begins, and the model's recipe holds the number. With m the mean of r and d the
    share of the cells that are seen, of users and items that have any ::

        alpha = 1 / m        alpha0 = √d / 2        regularization = 0.07 / (1 + 1 / (2 √d))

    For ratings that are read as "stars" or "signed", alpha0 is ``√d / 2.5``.

    Where ``factors`` is left to the data, too, the number k of directions of the training part that stand out of chance is
    counted (`hatrix.models.signal`), up to 1,024. If no direction except popularity stands out, ``factors`` is 0: then an
    item's score is the logarithm of 1 + its count, the lists are those of `Popular`, and a note of the model says so (H010).
    Otherwise, with n interactions of each user on average ::

        of counts     factors = min(2 k, 64)     regularization = 0.08 n^-0.25 min(1, 40 / k)^0.5
        of ratings    factors = min(3 k, 128)    regularization = 0.115 n^-0.42 min(1, 40 / k)^0.2

    Directions are not counted in data on disk and on Spark: these get 64 factors and the first formula's regularization.

    Notes
    -----
    The rule for alpha and alpha0 was found on validation parts of the training parts of gowalla, where one cell in 2000 is
    seen, and of MovieLens, where one in 20 to 40 is; that for factors and regularization on validation parts of the
    collection of ``benchmarks/defaults.py``. The mapping of ratings and the numbers for them were chosen on validation parts
    of ml-100k, ml-1m and ml-latest-small (``benchmarks/evidence.py``).

    Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008; Takács, Pilászy, Tikk,
    "Applications of the conjugate gradient method for implicit feedback collaborative filtering", RecSys 2011; Rendle et
    al., "iALS++", arXiv:2110.14044, and "Revisiting the performance of iALS", RecSys 2022.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> clicks = Ratings.from_columns(["ann", "ann", "bob", "bob"], ["tea", "milk", "tea", "jam"])
    >>> model = ImplicitALS(factors=2).fit(clicks)
    >>> model.predict("ann", "milk") > model.predict("ann", "jam")
    True
    """

    name: ClassVar[str] = "implicit-als"
    out_of_core: ClassVar[bool] = True
    task: ClassVar[Literal["rating", "ranking"]] = "ranking"
    before: ClassVar[Mapping[str, Any]] = {"evidence": "count"}
    weighs_by_value: ClassVar[bool] = True
    usual_factors: ClassVar[int] = FACTORS

    factors: Literal["auto"] | Annotated[int, Field(ge=0, le=2048)] = Field(
        default="auto",
        description="latent factors per user and item",
        json_schema_extra={"tune": [2, 512, "log"]},
    )
    epochs: Sweeps = 8
    alpha: Literal["auto"] | Annotated[float, Field(gt=0, le=HEAVIEST_ALPHA)] = Field(
        default="auto", description="weight of what was seen, per count"
    )
    alpha0: Literal["auto"] | Annotated[float, Field(gt=0, le=1e3)] | None = Field(
        default="auto",
        description="weight of every pair, seen or not; none for weights 1 + alpha r",
        json_schema_extra={"tune": [0.001, 1.0, "log"]},
    )
    weighting: Literal["add", "replace"] = Field(
        default="add",
        description="whether the weight of what was seen is added to alpha0, or takes its place as in the library implicit",
    )
    regularization: Literal["auto"] | Annotated[float, Field(gt=0, le=1e6)] = Field(
        default="auto",
        description="weight of the squared factors",
        json_schema_extra={"tune": [0.0003, 0.1, "log"]},
    )
    evidence: Literal["auto", "stars", "signed", "count"] = Field(
        default="auto",
        description="what values are: stars (a low one is weak evidence), signed (it counts against the item), or counts",
    )
    nu: float = Field(
        default=1.0, ge=0, le=2, description="power of a row's weight in all that multiplies its penalty"
    )
    solver: Literal["exact", "cg", "ialspp"] = Field(default="exact", description="how a row is solved")
    cg_steps: int = Field(default=3, ge=1, le=1000, description="conjugate gradient steps of solver cg")
    block_size: int = Field(
        default=32, ge=16, le=512, multiple_of=16, description="columns of a block of solver ialspp"
    )
    init_scale: InitScale = 0.1
    patience: Patience = None

    @model_validator(mode="after")
    def _weighted(self) -> ImplicitALS:
        if self.alpha0 is None and self.weighting != "add":
            raise ValueError("weighting='replace' needs an alpha0 to take the place of, and it is None")
        if self.evidence in ("stars", "signed") and not self._can_be_graded:
            raise ValueError(f"evidence={self.evidence!r} needs an alpha0, and weighting='add'")
        return self

    @property
    def _can_be_graded(self) -> bool:
        return self.alpha0 is not None and self.weighting == "add"

    def knows_dislikes(self, scale: tuple[float, float] | None) -> bool:
        return scale is not None and self._read_on(scale) in ("stars", "signed")

    def counts_against(self, scale: tuple[float, float]) -> bool:
        return self._read_on(scale) == "signed"

    def _read_on(self, scale: tuple[float, float] | None) -> Literal["auto", "stars", "signed", "count"]:
        """Return what the values of ratings on a scale, or of clicks, are taken for."""
        if self.evidence != "auto":
            return self.evidence
        return "stars" if scale is not None and self._can_be_graded else "count"

    @property
    def rounds(self) -> int:
        return self.epochs if self.factors else 1

    def resolved(self, train: Ratings) -> ImplicitALS:
        if train.scale is None and self.evidence in ("stars", "signed"):
            raise DataError(
                f"evidence={self.evidence!r} is about ratings, and the data are clicks or counts: leave it out"
            )
        graded = self.replace(evidence=self._read_on(train.scale))
        if not graded._left:
            return graded
        rule = _by_rule(train, graded)
        if self.factors == "auto" and train.disk is None:
            found = signal_of(train, most=MOST_DIRECTIONS, threads=cores())
            each = len(train) / np.count_nonzero(train.user_count)
            rule |= _of_directions(found.factors, each, counted=graded.evidence == "count")
            rule["factors"] *= found.helps
        return graded._with(rule)

    def with_weights(self, n: int, cells: int, mean: float) -> ImplicitALS:
        """What is left at "auto" worked out for n counts in so many cells, by the mean of their values; 64 factors.

        Raises
        ------
        DataError
            If the values are to be read as ratings: their mean says nothing then.
        """
        if self.evidence in ("stars", "signed"):
            raise DataError(f"evidence={self.evidence!r} is not available here: give evidence='count'")
        counted = self.replace(evidence="count")
        return counted._with(_weights(n, cells, mean, counted=True))

    def of_model(self, model: FactorModel) -> ImplicitALS:
        graded = self.replace(evidence=self._read_on(model.scale)) if self.evidence == "auto" else self
        if not graded._left:
            return graded
        cells = np.count_nonzero(model.user_count) * np.count_nonzero(model.item_count)
        seen, mean = model.seen, 1.0
        if seen is not None and len(seen.value):
            mean = float(evidence(graded, seen.value, model.scale)[0].mean())
        width = model.user_factors.shape[1]
        recipe = graded.replace(factors=width) if graded.factors == "auto" else graded
        n = max(int(model.user_count.sum()), 1)
        return recipe._with(_weights(n, max(int(cells), 1), mean, counted=recipe.evidence == "count"))

    @property
    def _left(self) -> list[str]:
        return [
            name for name in ("factors", "alpha", "alpha0", "regularization") if getattr(self, name) == "auto"
        ]

    def _with(self, rule: Mapping[str, Any]) -> ImplicitALS:
        return self.replace(**{name: rule[name] for name in self._left}) if self._left else self

    def remarks(self, left: Algorithm) -> list[str]:
        return [NO_SIGNAL] if self.factors == 0 and getattr(left, "factors", None) == "auto" else []

    def init(self, train: Ratings, *, seed: int, threads: int) -> _ImplicitState | CountState:
        return _ImplicitState(train, self, seed, threads) if self.factors else CountState(train)

    def step(self, state: _ImplicitState | CountState, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        return {} if isinstance(state, CountState) else {"objective": state.sweep(self)}

    def finish(self, state: _ImplicitState | CountState) -> Factors:
        return state.result() if isinstance(state, CountState) else state.result(0.0)
