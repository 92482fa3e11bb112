"""Bayesian matrix factorization by Gibbs sampling: fields on both sides, time, and stars by ordered probit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
from pydantic import Field, model_validator

from hatrix.data.ratings import Csr
from hatrix.errors import DataError
from hatrix.models import fields, hyperpriors, probit
from hatrix.models.bags import ATTRIBUTES, OTHERS, BagRows
from hatrix.models.damping import of_ratings
from hatrix.models.days import DAY, UserDays, rated_days
from hatrix.models.factors import Factors, Posterior, TimeBlock
from hatrix.models.fit import Algorithm, State
from hatrix.models.hyperparameters import Start
from hatrix.models.mf import unit_of
from hatrix.models.scatter import Scatter
from hatrix.models.trial import Contest, with_factors, with_usual

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.models.fields import Bag

__all__ = ["BayesianMF"]

FieldName = Literal[
    "user", "item", "user_attributes", "item_attributes", "rated", "raters", "time", "user_day"
]
USERS, ITEMS, TIMES = 0, 1, 2
MOST_LEVELS = 50
"""As many distinct ratings have probabilities of their own."""
FEWEST, FEW, DENSE = 3, 10, 20
"""An ordered probit is the likelihood of so few distinct ratings, or of a few more if there are fewer ratings for each user
and item than `DENSE`."""
STARTS = {"gaussian": 1.0, "ordinal": 1.0, "sparse": 0.3}
"""The scale of the factors at the start; "sparse" is that of a normal likelihood for sparse data."""
LEAST_QUARTER, MOST_DRIFT = 5, 0.02
"""A chain of fewer iterations tells nothing of its convergence; a training error that drifts further has not settled."""
LEVELLED = 2000
"""Pairs of a user and an item that tell how often the intervals of stars cover."""
FACTORS = 10
"""What factors="auto" stands for, where factors help."""
CONTEST = Contest(least_epochs=24, most_epochs=40, sure=0.0)
"""The rules of a trial. A posterior hardly loses by factors that do not help, so that they need not be sure to."""
BURN_IN = 0.4
"""The share of a trial's epochs that its burn-in has."""
HELD = 1e8
"""The prior precision of own factors that stay at zero, before each draw of them is taken back."""
SOLVED, MOST_SOLVES = 1e-7, 500
"""Solving for biases in turns ends with a smaller move, or after so many turns."""
FIRST_SPREAD = 0.3
"""Of the biases of days at the start: from zero, n of them together would grow by as little as 1/n an epoch."""


class _Side(NamedTuple):
    """The ratings of each row of a side, the row numbers of their regressors, and the sums over them."""

    start: NDArray[np.int64]
    order: NDArray[np.int64]
    value: NDArray[np.float32]
    user: NDArray[np.int32]
    day: NDArray[np.int64] | None
    weight: NDArray[np.float32]
    one: NDArray[np.int32]
    two: NDArray[np.int32]
    G: NDArray[np.float32]
    h: NDArray[np.float32]
    bags: list[Bag]


@final
class _State(State):
    """Rows of both sides as sums of fields, the noise, and the draws kept."""

    def __init__(self, train: Ratings, recipe: BayesianMF, *, seed: int, threads: int) -> None:
        from hatrix.kernels.tiles import padded, padded_rows

        self.seed, self.threads, self.factors = seed, threads, int(recipe.factors)
        self.size = self.factors + 1
        self.lanes = padded(self.size)
        self.user, self.item, self.ordinal = train.user, train.item, recipe.likelihood == "ordinal"
        scale = float(recipe.init_scale)
        # Centred and divided in double precision: the kernels then see the same numbers for ratings of any scale.
        self.unit = 1.0 if self.ordinal else unit_of(train)
        self.mean = 0.0 if self.ordinal else train.mean
        self.value = ((train.value - self.mean) / self.unit).astype(np.float32)
        self.levels, self.star = np.unique(train.value, return_inverse=True)
        self._bin_times(train, recipe)
        self.days = rated_days(train) if "user_day" in recipe.fields else None
        bags, self.bagged = _bags(train, recipe), bool({*ATTRIBUTES, *OTHERS} & set(recipe.fields))
        self.sides = [
            self._side(train.by_user, train.item, self.when, bags[USERS]),
            self._side(train.by_item, train.user, self.when, bags[ITEMS]),
        ]
        counts = len(train.users), len(train.items), len(self.edges) - 1
        if self.timed:
            order = np.argsort(self.when, kind="stable")
            start = np.searchsorted(self.when[order], np.arange(counts[TIMES] + 1))
            self.sides.append(self._side(Csr(start, order), train.user, train.item, []))

        def rows(count: int, scale: Any) -> NDArray[Any]:
            return padded_rows(rng.standard_normal((count, self.size)) * scale)

        rng, v = np.random.default_rng(seed), {}
        # In units of the noise, the variance of the biases of a side is 1 / damping.
        variances = [1 / number for number in of_ratings(train).values()]
        noise = 1.0 if self.ordinal else max(float(self.value.var()), 1e-6) / (1 + sum(variances))
        self.biases_alone = scale == 0
        self.pull = [1 / (noise * variance) for variance in variances]
        for side in range(3):
            start = np.full(self.size, scale / self.factors**0.5)
            if side != TIMES:
                start[self.factors] = np.sqrt(noise * variances[side])
            v[f"own.{side}"] = rows(counts[side], 0.0 if side == TIMES else start)
            v[f"sum.{side}"] = padded_rows(v[f"own.{side}"])
            v[f"kept.{side}"] = np.zeros((counts[side], recipe.draws, self.size), np.float32)
            for number, bag in enumerate(self.sides[side].bags if side < TIMES else []):
                v[f"bag.{side}.{number}"] = rows(len(bag.start) - 1, 0.0)
                v[f"kept.bag.{side}.{number}"] = np.zeros(
                    (len(bag.start) - 1, recipe.draws, self.size), np.float32
                )
        # A precision; 1 in the ordinal model, whose hidden numbers have that scale.
        v["noise"] = np.array([1 / noise])
        if self.ordinal:
            v["cuts"], v["stride"] = probit.first_cuts(self.star, len(self.levels)), np.array([0.01])
            v["latent"] = np.zeros(len(train), np.float32)
        for side in (USERS, ITEMS):
            v[f"prior.{side}"] = np.zeros(self.size, np.float32)
            v[f"precision.{side}"] = np.eye(self.size)
            v[f"kept.prior.{side}"] = np.zeros((recipe.draws, self.size), np.float32)
            v[f"kept.precision.{side}"] = np.zeros((recipe.draws, self.size, self.size))
        v["kept.noise"] = np.zeros(recipe.draws)
        self.by_user, self.count = recipe.noise == "user", np.append(train.user_count, 0)
        self.scatter = Scatter(self.count)
        # One more than users: that of a user who is not among them.
        v["weight"], v["freedom"] = np.ones(counts[USERS] + 1, np.float32), np.array([10.0])
        v["kept.spread"] = np.zeros((counts[USERS] + 1, recipe.draws) if self.by_user else (0, 0), np.float32)
        v["kept.cuts"] = np.zeros((recipe.draws, len(self.levels) - 1 if self.ordinal else 0))
        if self.days is not None:
            days, v["spread.days"] = len(self.days.day), np.array([FIRST_SPREAD])
            v["days"] = (FIRST_SPREAD * rng.standard_normal(days)).astype(np.float32)
            v["kept.days"], v["kept.spread.days"] = (
                np.zeros((days, recipe.draws), np.float32),
                np.zeros(recipe.draws),
            )
        v["kept"] = np.zeros(1, np.int64)
        self.variables: dict[str, NDArray[Any]] = v
        self.settled = frozenset(name for name in v if name.startswith("kept"))
        if self.ordinal:
            self._draw_latent(self.scores(), np.random.default_rng((seed, 0, 4)))

    def _bin_times(self, train: Ratings, recipe: BayesianMF) -> None:
        self.timed = "time" in recipe.fields
        if not self.timed:
            self.edges, self.when = np.zeros(2), np.zeros(len(train), np.int32)
            return
        if train.time is None:
            raise DataError("the field time needs ratings with a time, and these have none: leave it out")
        width = recipe.time_bin * DAY
        number = np.floor(train.time / width)
        self.edges = np.arange(number.min(), number.max() + 2) * width
        self.when = (number - number.min()).astype(np.int32)

    def _side(self, by: Csr, one: NDArray[Any], two: NDArray[Any], bags: list[Bag]) -> _Side:
        rows = len(by.start) - 1
        G = np.zeros((rows * self.size, self.lanes), np.float32)
        h, weight = np.zeros((rows, self.lanes), np.float32), np.ones(len(by.rows), np.float32)
        day = None if self.days is None else self.days.of[by.rows]
        return _Side(
            by.start, by.rows, self.value[by.rows], self.user[by.rows], day, weight, one[by.rows], two[by.rows], G, h,
            bags,
        )  # fmt: skip

    def sweep(self, epoch: int) -> None:
        """Draw every field once, given all the others."""
        for number, side in enumerate(self.sides):
            self._add_up(number)
            self._draw_own(number, epoch)
            for bag in range(len(side.bags)):
                self._draw_bag(number, bag, epoch)

    def _regressors(self, side: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows of a side with a last 1, and its biases."""
        V = self.variables[f"sum.{side}"].copy()
        bias = V[:, self.factors].copy()
        V[:, self.factors] = 1.0
        return V, bias

    def _add_up(self, number: int) -> None:
        from hatrix.kernels import gibbs, schedule

        side = self.sides[number]
        V, bias = self._regressors(ITEMS if number == USERS else USERS)
        T, second = self._regressors(ITEMS if number == TIMES else TIMES)
        T[:, self.factors] = 0.0
        value = self._targets(side)
        if self.by_user:
            self.variables["weight"].take(side.user, out=side.weight, mode="clip")
        kernel = gibbs.sums(self.size, self.lanes, timed=self.timed)

        def add_up(first: int, last: int) -> None:
            kernel(
                first, last, side.start, side.one, side.two, value, side.weight, V, bias, T,
                second, side.G, side.h,
            )  # fmt: skip

        schedule.run_rows(add_up, side.start * self.size // 8, threads=self.threads)

    def _draw_own(self, number: int, epoch: int) -> None:
        from hatrix.kernels import gibbs, schedule

        side, X, P = self.sides[number], self.variables[f"sum.{number}"], self.variables[f"own.{number}"]
        rng = np.random.default_rng((self.seed, epoch, number))
        if self.biases_alone and number != TIMES:
            centre, precision = np.zeros(self.size), HELD * np.eye(self.size)
            precision[-1, -1] = self.pull[number]
        else:
            draw_prior = hyperpriors.independent if number == TIMES else hyperpriors.wishart
            centre, precision = draw_prior(P[:, : self.size].astype(np.float64), rng)
        shift = precision @ centre
        if number != TIMES:
            self.variables[f"prior.{number}"][:] = centre
            self.variables[f"precision.{number}"][:] = precision
        key, noise = rng.integers(2**63, dtype=np.uint64), self.variables["noise"][0]
        kernel = gibbs.own_rows(self.size, self.lanes)

        def draw(first: int, last: int) -> None:
            kernel(first, last, side.G, side.h, X, P, shift, precision, noise, key)

        work = np.arange(len(side.start)) * self.size**2 // 4
        schedule.run_rows(draw, work, threads=self.threads)
        if self.biases_alone and number != TIMES:
            X[:, : self.factors] -= P[:, : self.factors]
            P[:, : self.factors] = 0.0

    def _draw_bag(self, number: int, bag: int, epoch: int) -> None:
        from hatrix.kernels import gibbs

        side, X = self.sides[number], self.variables[f"sum.{number}"]
        Y, field = self.variables[f"bag.{number}.{bag}"], side.bags[bag]
        # NumPy seeds alike with and without zeros at the end: bag 0 would get the stream of the own rows.
        rng = np.random.default_rng((self.seed, epoch, number, bag + 1))
        centre, precision = hyperpriors.independent(Y[:, : self.size].astype(np.float64), rng)
        shift = precision @ centre
        key, noise = rng.integers(2**63, dtype=np.uint64), self.variables["noise"][0]
        gibbs.bag_rows(self.size, self.lanes)(
            field.start, field.holder, field.weight, side.G, side.h, X, Y, shift, precision, noise, key
        )

    def scores(self) -> NDArray[np.float64]:
        """The score of each training rating."""
        from hatrix.kernels import gibbs, schedule

        X = self.variables[f"sum.{USERS}"]
        V, bias = self._regressors(ITEMS)
        T, second = self._regressors(TIMES)
        T[:, self.factors] = 0.0
        out = np.empty(len(self.value), np.float64)
        kernel = gibbs.scores(self.lanes, timed=self.timed)

        def score(first: int, last: int) -> None:
            kernel(
                first, last, self.user, self.item, self.when, X, V, bias, T, second, out
            )  # fmt: skip

        schedule.run_rows(score, np.arange(len(out) + 1), threads=self.threads)
        return out if self.days is None else out + self.variables["days"][self.days.of]

    def _draw_days(self, epoch: int) -> NDArray[np.float64]:
        """Draw the bias of each user's day; returns what `_squares` would."""
        assert self.days is not None
        v, of = self.variables, self.days.of
        rest = (v["latent"] if self.ordinal else self.value) - self.scores() + v["days"][of]
        rng = np.random.default_rng((self.seed, epoch, 5))
        v["spread.days"][0] = self.days.draw(v["days"], rest, v["noise"][0] * v["weight"], rng)
        return np.bincount(self.user, (rest - v["days"][of]) ** 2, len(self.count)).astype(np.float64)

    def draw_noise(self, epoch: int, *, burning: bool) -> float:
        """Draw what the scores leave open: the noise, or cut points and hidden numbers; returns the mean of e²."""
        rng, v = np.random.default_rng((self.seed, epoch, 3)), self.variables
        square = self._squares() if self.days is None else self._draw_days(epoch)
        if self.by_user:
            v["freedom"][0], v["weight"][:] = self.scatter.draw(square * v["noise"][0], rng)
        if not self.ordinal:
            v["noise"][0] = rng.gamma((1 + len(self.value)) / 2) * 2 / (1 + square @ v["weight"])
            return float(square.sum() / len(self.value)) * self.unit**2
        score, spread = self.scores(), self._spread()
        v["cuts"][:], accepted = probit.move_cuts(score, spread, self.star, v["cuts"], v["stride"][0], rng)
        if burning:
            v["stride"] *= np.exp((accepted - probit.WANTED) / np.sqrt(epoch + 1))
        self._draw_latent(score, rng)
        return float(np.mean((probit.expected(score, spread, v["cuts"], self.levels) - self.value) ** 2))

    def _squares(self) -> NDArray[np.float64]:
        """Σ (target - score)² over the ratings of each user, and 0 for one who is not among them."""
        from hatrix.kernels import gibbs, schedule

        side, X = self.sides[USERS], self.variables[f"sum.{USERS}"]
        V, bias = self._regressors(ITEMS)
        T, second = self._regressors(TIMES)
        T[:, self.factors] = 0.0
        value = self._targets(side)
        out = np.zeros(len(side.start))
        kernel = gibbs.squared_errors(self.lanes, timed=self.timed)

        def add_up(first: int, last: int) -> None:
            kernel(
                first, last, side.start, side.one, side.two, value, X, V, bias, T, second, out
            )  # fmt: skip

        schedule.run_rows(add_up, side.start, threads=self.threads)
        return out

    def _targets(self, side: _Side) -> NDArray[np.float32]:
        """What the scores of a side's ratings are to meet."""
        target = self.variables["latent"][side.order] if self.ordinal else side.value
        return target if side.day is None else target - self.variables["days"][side.day]

    def _spread(self) -> NDArray[np.float64]:
        """Standard deviation of each rating around its score, as a multiple of the noise."""
        return np.asarray(self.variables["weight"].astype(np.float64) ** -0.5)[self.user]

    def _draw_latent(self, score: NDArray[np.float64], rng: np.random.Generator) -> None:
        v = self.variables
        v["latent"][:] = probit.latent(score, self._spread(), self.star, v["cuts"], rng.random(len(score)))

    def keep(self) -> None:
        """Store the present draw."""
        v, place = self.variables, int(self.variables["kept"][0])
        for side in range(3):
            v[f"kept.{side}"][:, place] = v[f"sum.{side}"][:, : self.size]
            for number in range(len(self.sides[side].bags) if side < TIMES else 0):
                v[f"kept.bag.{side}.{number}"][:, place] = v[f"bag.{side}.{number}"][:, : self.size]
        for side in (USERS, ITEMS):
            for name in ("prior", "precision"):
                v[f"kept.{name}.{side}"][place] = v[f"{name}.{side}"]
        v["kept.noise"][place] = v["noise"][0] ** -0.5
        if self.by_user:
            v["kept.spread"][:, place] = v["weight"] ** -0.5
        if self.days is not None:
            v["kept.days"][:, place], v["kept.spread.days"][place] = v["days"], v["spread.days"][0]
        if self.ordinal:
            v["kept.cuts"][place] = v["cuts"]
        v["kept"][0] += 1

    def result(self) -> Factors:
        """The draws kept, side by side; before the first, the present one."""
        v, k = self.variables, self.factors
        kept = int(v["kept"][0])
        if not kept:
            self.keep()
        draws = slice(max(1, kept))
        # From units of the data to those of the ratings: factors are multiplied with factors.
        scale = np.full(self.size, self.unit**0.5)
        scale[k] = self.unit
        rows = [v[f"kept.{side}"][:, draws] * scale.astype(np.float32) for side in range(3)]
        if self.biases_alone and kept > 1 and not (self.ordinal or self.timed or self.bagged or self.days):
            self._centre(rows, draws)
        bias = [np.ascontiguousarray(side[:, :, k]) for side in rows]
        factors = [np.ascontiguousarray(side[:, :, :k]).reshape(len(side), -1) for side in rows]
        time = TimeBlock(self.edges, bias[TIMES], factors[TIMES]) if self.timed else None
        posterior = Posterior(
            v["kept.noise"][draws] * self.unit,
            np.ascontiguousarray(v["kept.spread"][:, draws]),
            v["kept.cuts"][draws].copy(),
            self.levels if self.ordinal or len(self.levels) <= MOST_LEVELS else np.zeros(0),
            v[f"kept.prior.{USERS}"][draws] * scale.astype(np.float32),
            v[f"kept.prior.{ITEMS}"][draws] * scale.astype(np.float32),
            v[f"kept.precision.{USERS}"][draws] / np.outer(scale, scale),
            v[f"kept.precision.{ITEMS}"][draws] / np.outer(scale, scale),
            np.zeros(0),
        )
        days = None
        if self.days is not None:
            spread = v["kept.spread.days"][draws] * self.unit
            days = UserDays(
                self.days.start, self.days.day, v["kept.days"][:, draws] * np.float32(self.unit), spread
            )
        bags = tuple(
            BagRows(side, bag.column, v[f"kept.bag.{side}.{number}"][:, draws] * scale.astype(np.float32))
            for side in (USERS, ITEMS)
            for number, bag in enumerate(self.sides[side].bags)
        )
        v["kept"][0] = kept
        found = Factors(
            self.mean,
            bias[USERS],
            bias[ITEMS],
            factors[USERS],
            factors[ITEMS],
            {},
            time,
            posterior,
            days,
            bags if self.bagged else None,
        )
        return found._replace(posterior=self._levelled(found, posterior)) if self.ordinal else found

    def _centre(self, rows: list[NDArray[Any]], draws: slice) -> None:
        """Move the draws of biases so that their mean is the posterior mean, which leaves no Monte Carlo error in it.

        Without factors and with a normal likelihood, the mean is a weighted least squares solution, here for the mean
        precision of each user's ratings over the draws.
        """
        v, k = self.variables, self.factors
        weight = (v["kept.noise"][draws] ** -2.0).mean() * np.ones(len(self.value))
        if self.by_user:
            weight *= (v["kept.spread"][:, draws].astype(np.float64) ** -2.0).mean(axis=1)[self.user]
        row, bias = (self.user, self.item), [np.zeros(len(side)) for side in rows[:TIMES]]
        for _ in range(MOST_SOLVES):
            before = bias[USERS]
            for side, other in ((ITEMS, USERS), (USERS, ITEMS)):
                left = weight * (self.value - bias[other][row[other]])
                n = len(bias[side])
                total = np.bincount(row[side], weight, n) + self.pull[side]
                bias[side] = np.bincount(row[side], left, n) / total
            if np.abs(bias[USERS] - before).max() < SOLVED:
                break
        for side in (USERS, ITEMS):
            rows[side][:, :, k] += (bias[side] * self.unit - rows[side][:, :, k].mean(axis=1))[:, None]

    def _levelled(self, found: Factors, posterior: Posterior) -> Posterior:
        """The posterior with the levels that its intervals need, told by pairs of users and items as they are rated."""
        from hatrix.models.predictive import Pairs, nominal

        rng = np.random.default_rng((self.seed, 6))
        user, item = (
            row[rng.integers(0, len(row), LEVELLED)].astype(np.int64) for row in (self.user, self.item)
        )
        return posterior._replace(nominal=nominal(found, posterior, Pairs(user, item)))


def _bags(train: Ratings, recipe: BayesianMF) -> tuple[list[Bag], list[Bag]]:
    bags: tuple[list[Bag], list[Bag]] = ([], [])
    for side, name, table in (
        (USERS, "user_attributes", train.user_table),
        (ITEMS, "item_attributes", train.item_table),
    ):
        if name not in recipe.fields:
            continue
        what = name.removesuffix("_attributes")
        if table is None:
            raise DataError(
                f"the field {name} needs the {what} table, and these ratings have none: give Ratings with {what}_table, "
                "such as a named data set that has one, or leave the field out"
            )
        found = fields.attributes(table)
        if not found:
            columns = ", ".join(map(str, table.columns)) or "none"
            warnings.warn(
                f"the field {name} adds nothing: no column of the {what} table ({columns}) has values that {what}s share",
                stacklevel=2,
            )
        bags[side].extend(found)
    names = "rated", "raters"
    if set(names) & set(recipe.fields):
        for side, bag in enumerate(fields.rated_together(train)):
            if names[side] in recipe.fields:
                bags[side].append(bag)
    return bags


@final
class BayesianMF(Algorithm):
    """Matrix factorization with a posterior instead of a point, by Gibbs sampling.

    A score is ``mean + b_u + b_i + p_u · q_i``, and with the field "time" ``+ b_t + (p_u + q_i) · s_t`` for the bin
    t, ``time_bin`` days wide. The row (p_u, b_u) of a user is a sum over the ``fields`` of the user side, and likewise
    for items ::

        x_u = own_u + Σ_f |bag_f(u)|^-½ Σ_{j in bag_f(u)} y_fj

    where a bag holds the user's attributes (each column of the user table is a field: "user_attributes"; of the
    item table: "item_attributes"), the items that the user rated ("rated", as in SVD++) or, for an item, the users
    who rated it ("raters"), all known from the training ratings alone. With ``likelihood="gaussian"``, a rating is
    normal around its score, with a noise that is sampled; with "ordinal", each of the stars that occur has the
    probability ``Φ(cut_l - score) - Φ(cut_{l-1} - score)`` with sampled cut points, and a prediction is the mean star.
    With ``noise="user"`` users differ in how far their ratings scatter: the precision of user u's ratings is the common
    one times a factor drawn from Γ(ν/2, ν/2), ν sampled too (in the ordinal model, of the hidden numbers); "common" is
    the same for all, as in the plain model. The field "user_day" adds a bias to what a user rates on one day (of UTC),
    ``d ~ N(0, 1/λ)`` with the hyper-prior ``λ ~ Γ(½, ½)``, in units of about the standard deviation of the ratings. On a day
    without training ratings of the user, as any to come, it is unknown: it adds nothing to a prediction, and its spread to
    an interval.

    Each own row and time row has the prior N(μ, Λ⁻¹) of its field, with a normal-Wishart hyper-prior for users and
    items (normal-gamma, a diagonal Λ, for time and bags). An epoch draws everything once from its conditional
    posterior: blocks of ``factors + 1`` numbers at a time, from sums over the ratings of a row that serve every
    field of its side (`hatrix.kernels.gibbs`).

    ``likelihood="auto"`` is "ordinal" for two or three distinct ratings, and for up to 10 where there are fewer than 20
    ratings for each user and item, and "gaussian" otherwise. An ``init_scale`` of "auto" is 1, or 0.3 for such sparse
    data with a normal likelihood, where large rows at the start take long to shrink.

    The first ``burn_in`` epochs are not used. Of the others, ``draws`` are kept, evenly spread; ``thinning`` keeps every
    so-many-th instead, until there are ``draws``. A model's biases and factors are its draws side by side, and
    predictions are means over them. If the training error still changes by more than 2 % from the first quarter of the
    iterations after the burn-in to the last, a note of the model (H012) says that it has not converged. A cold row has
    the draws of its prior. Own factors start normal with standard deviation ``init_scale / √factors``, own biases with
    the standard deviation that the damping of `Bias` stands for, biases of days with 0.3, all else at zero.

    Notes
    -----
    Salakhutdinov, Mnih, "Bayesian probabilistic matrix factorization using Markov chain Monte Carlo", ICML 2008;
    fields and implicit terms: Rendle, Zhang, Koren, arXiv:1905.01395; ordered probit: Albert, Chib, JASA 1993, its cut
    points by a Metropolis step with the hidden numbers integrated out, as Cowles, Statistics and Computing 1996.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> ratings = Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> model = BayesianMF(factors=2, epochs=400, draws=200).fit(ratings)
    >>> model.predict("ann", 1) > model.predict("ann", 2)
    True
    >>> model.user_factors.shape
    (2, 400)
    """

    name: ClassVar[str] = "bayesian-mf"
    extras: ClassVar[frozenset[str]] = frozenset({"time", "posterior", "days"})

    usual_factors: ClassVar[int] = FACTORS

    factors: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        default="auto",
        description="latent factors per user and item, of each draw; auto leaves them out if a trial finds no use for them",
        json_schema_extra={"tune": [6, 32, "log"]},
    )
    epochs: int = Field(default=200, ge=1, le=100_000, description="Gibbs iterations, burn-in included")
    burn_in: int = Field(default=30, ge=0, le=100_000, description="iterations before the first draw is kept")
    draws: int = Field(default=60, ge=1, le=10_000, description="posterior draws kept in the model")
    thinning: int | None = Field(
        default=None, ge=1, description="keep every so-many-th draw; without it, spread them evenly"
    )
    likelihood: Literal["auto", "gaussian", "ordinal"] = Field(
        default="auto", description="of a rating given its score: normal, or ordered probit for stars"
    )
    noise: Literal["user", "common"] = Field(
        default="user", description="of ratings around their scores: each user's own, or one for all"
    )
    fields: tuple[FieldName, ...] = Field(
        default=("user", "item"),
        description="what the rows of users and items are sums of, with commas between",
    )
    time_bin: float = Field(
        default=7.0, gt=0, le=100_000, description="width of a bin of the field time, in days"
    )
    init_scale: Start = "auto"

    @model_validator(mode="after")
    def _check(self) -> BayesianMF:
        if not {"user", "item"} <= set(self.fields):
            raise ValueError(f"fields are {', '.join(self.fields)}: they need user and item")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError(f"fields are {', '.join(self.fields)}: one stands twice")
        if self.burn_in >= self.epochs:
            raise ValueError(
                f"burn_in is {self.burn_in} of {self.epochs} epochs, which leaves none to draw from: give more epochs "
                "or a shorter burn_in"
            )
        return self

    @property
    def rounds(self) -> int:
        return self.epochs

    def resolved(self, train: Ratings) -> BayesianMF:
        return self.resolve(train, threads=1)[0]

    def resolve(self, train: Ratings, *, threads: int) -> tuple[BayesianMF, tuple[str, ...]]:
        rows = np.count_nonzero(train.user_count) + np.count_nonzero(train.item_count)
        sparse = len(train) < DENSE * rows
        levels = len(np.unique(train.value))
        likelihood = self.likelihood
        if likelihood == "auto":
            ordinal = 2 <= levels <= FEWEST or (sparse and 2 <= levels <= FEW)
            likelihood = "ordinal" if ordinal else "gaussian"
        start = STARTS["sparse"] if sparse and likelihood == "gaussian" else STARTS[likelihood]
        recipe, usual = self.replace(likelihood=likelihood), (FACTORS, start)
        if set(self.fields) != {
            "user",
            "item",
        }:  # what else is known of users and items speaks through factors, too
            return with_usual(recipe, usual), ()
        contest = CONTEST._replace(draws=self.draws)
        found, notes = with_factors(recipe, train, usual, _shorter, threads=threads, contest=contest)
        if found.init_scale == 0 and self.likelihood == "auto" and levels > FEWEST:
            found = found.replace(likelihood="gaussian")
        return found, notes

    def verdicts(self, history: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
        after = np.array([row["train_mse"] for row in history[self.burn_in :]]) ** 0.5
        quarter = len(after) // 4
        if quarter < LEAST_QUARTER or not after[-quarter:].mean() > 0:
            return ()
        drift = float(after[:quarter].mean() / after[-quarter:].mean() - 1)
        if abs(drift) <= MOST_DRIFT:
            return ()
        return (
            f"H012: the sampler has not converged: from the first quarter of the {len(after)} iterations after the burn-in "
            f"to the last, the training error changed by {drift:.1%}; give more epochs and a longer burn_in",
        )

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State:
        return _State(train, with_usual(self, (FACTORS, STARTS["gaussian"])), seed=seed, threads=threads)

    def step(self, state: _State, epoch: int) -> Mapping[str, float]:
        state.sweep(epoch)
        loss = state.draw_noise(epoch, burning=epoch < self.burn_in)
        if epoch in self._keepers():
            state.keep()
        return {"train_mse": loss, "noise": state.unit * float(state.variables["noise"][0] ** -0.5)}

    def finish(self, state: _State) -> Factors:
        return state.result()

    def _keepers(self) -> range | set[int]:
        """The epochs whose draws are kept."""
        if self.thinning is not None:
            return range(self.burn_in + self.thinning - 1, self.epochs, self.thinning)[: self.draws]
        after = self.epochs - self.burn_in
        return {self.burn_in + (n + 1) * after // self.draws - 1 for n in range(self.draws)} - {
            self.burn_in - 1
        }


def _shorter(recipe: BayesianMF, epochs: int) -> BayesianMF:
    """Return the recipe of a trial."""
    burn_in = int(BURN_IN * epochs)
    return recipe.replace(epochs=epochs, burn_in=burn_in, draws=epochs - burn_in, thinning=None)
