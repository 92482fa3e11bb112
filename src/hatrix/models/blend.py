"""A recipe that adds up the scores of several recipes, with weights learned on held-out ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, final

import numpy as np
from pydantic import Field, model_validator

from hatrix.data.ratings import Ratings
from hatrix.data.split import per_user
from hatrix.errors import DataError, ParameterError
from hatrix.models import SEED
from hatrix.models.fit import Algorithm, Checkpoint, State, Task, thread_count
from hatrix.models.model import SHARED, UNFINISHED, FactorModel, Factors
from hatrix.models.predictive import Pairs
from hatrix.models.recommender import Part, beside
from hatrix.models.validation import RANKED, ndcg_of_users, some_users

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.split import Split
    from hatrix.models.fit import Trained

    Floats = NDArray[np.float64]

__all__ = ["Blend"]

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
"""Weights that are tried for one part while those of the others stay; the strongest part has the weight 1."""
ROUNDS = 2
RIDGE = 1e-3
"""Strength of the pull of least squares towards equal weights, as a share of the variance of the predictions."""
MOST_RANKED = 5_000
"""Maximum number of users that weights of lists are learned on."""


@final
class Blend(Algorithm):
    """Several recipes whose scores are added up: ``score(u, i) = constant + Σ_j weight_j score_j(u, i)``.

    A fit first holds a share of each user's training ratings out, fits every part to the rest and learns the weights on
    what was held out. Then it fits the parts again, to all training ratings. The factor matrices of the fitted model are
    those of the parts side by side, times their weights, so the score is one dot product, and lists, neighbours and
    explanations are exact.

    - If all parts predict ratings, the weights minimise the squared error of the held-out ratings. The predicted rating is
      the weighted sum of the parts' predictions.
    - If a part ranks, the blend ranks: the weights maximise NDCG@20 of the held-out items, by trying several weights for one
      part after the other. The scores of each part are standardised first. Of a part that predicts ratings, only the dot
      product of the factors counts, and only for users that a part which ranks knows: biases would put rarely rated items
      with a high average first.

    Parameters
    ----------
    recipes
        The parts: two or more recipes, or names of algorithms.
    weights
        One weight for each part, and after them the constant; by default "auto": learned.
    standardized
        Whether the ``weights`` given are for scores of one spread: the standard deviation of a user's scores over the items,
        on average over users. The fit multiplies each weight by the spread of the first part over that of its own part, so
        the first weight stays as it is. The fitted model's recipe holds the result. It is for lists: predicted ratings are
        on one scale already.
    share
        Share of each user's training ratings that the weights are learned on.

    Notes
    -----
    Jahrer, Töscher, Legenstein, "Combining predictions for accurate recommender systems", KDD 2010.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> model = hx.Blend(recipes=["bias", hx.ALS(factors=2)]).fit(ratings, progress=False)
    >>> len(model.recipe.weights)
    3
    """

    name: ClassVar[str] = "blend"
    in_epochs: ClassVar[bool] = False

    recipes: tuple[Part, ...] = Field(
        min_length=2, max_length=16, description="the parts: names of algorithms, with commas between"
    )
    weights: Literal["auto"] | tuple[float, ...] = Field(
        default="auto",
        description="a weight for each part, then the constant",
        json_schema_extra={"flag": None},
    )
    standardized: bool = Field(
        default=False,
        description="whether given weights are for scores of one spread",
        json_schema_extra={"flag": None},
    )
    share: float = Field(
        default=0.1, gt=0, lt=1, description="share of each user's ratings that weights are learned on"
    )

    def __init__(self, recipes: Sequence[Any] | None = None, /, **hyper_parameters: Any) -> None:
        given = {} if recipes is None else {"recipes": recipes}
        super().__init__(**given, **hyper_parameters)

    @model_validator(mode="after")
    def _of_single_parts(self) -> Blend:
        for part in self.recipes:
            if part.member_names:
                raise ValueError(
                    f"a part is a {type(part).__name__} itself: give the recipes that it combines"
                )
        if self.weights != "auto" and len(self.weights) != len(self.recipes) + 1:
            raise ValueError(
                f"weights are {len(self.weights)} numbers: give one for each of the {len(self.recipes)} recipes, and after "
                "them the constant"
            )
        if self.standardized and (self.weights == "auto" or self.task == "rating"):
            raise ValueError(
                "standardized is for weights that are given, of recipes of which one ranks items"
            )
        for part in self.recipes:
            if self.task == "ranking" and part.task == "rating" and "factors" not in type(part).model_fields:
                raise ValueError(
                    f"{part.name} has no factors, and nothing else of a part that predicts ratings counts in lists: leave "
                    "it out"
                )
        return self

    @property
    def task(self) -> Task:  # type: ignore[override]
        """``"rating"`` if all parts predict ratings."""
        return "rating" if all(part.task == "rating" for part in self.recipes) else "ranking"

    def part(self, name: str) -> Algorithm:
        return self.recipes[int(name)] if name in self.member_names else self

    @property
    def member_names(self) -> list[str]:
        return [str(number) for number in range(len(self.recipes))]

    def hyper_parameters(self, task: Task) -> dict[str, Algorithm]:
        found: dict[str, Algorithm] = {}
        for place, part in zip(self.member_names, self.recipes, strict=True):
            found |= {f"{place}.{name}": owner for name, owner in part.hyper_parameters(task).items()}
        return found | dict.fromkeys([name for name in type(self).model_fields if name != "recipes"], self)

    def fields_of(self, parts: Mapping[str, Algorithm]) -> dict[str, Any]:
        if not parts:
            return {}
        return {"recipes": [parts.get(place, self.part(place)) for place in self.member_names]}

    def resolved(self, train: Ratings) -> Blend:
        return self.replace(recipes=[part.resolved(train) for part in self.recipes])

    @property
    def rounds(self) -> int:
        return sum(part.rounds for part in self.recipes)

    def fit(
        self,
        train: Ratings,
        valid: Ratings | float | None = None,
        *,
        seed: int = SEED,
        threads: int | None = None,
        progress: bool = True,
        checkpoint: str | Path | Checkpoint | None = None,
        resume: str | Path | None = None,
    ) -> FactorModel:
        """Learn the weights, then train the parts on all training ratings; see `Algorithm.fit`.

        With ``checkpoint``, the first part saves its state there in its training on all training ratings, and the others
        beside it, in files whose names end in the number of the part. Weights are learned again on resuming.
        """
        how: dict[str, Any] = {"seed": seed, "threads": threads, "progress": progress}
        weights, parts = self.weights, list(self.recipes)
        if weights == "auto":
            held = self._held_out(train, seed)
            fitted = [part.fit(held.train, **how) for part in parts]
            if any(model.unfinished for model in fitted):
                raise KeyboardInterrupt
            learn = _least_squares if self.task == "rating" else _best_ndcg
            weights = learn(fitted, held.test, thread_count(threads))
        states = [
            {"checkpoint": checkpoint, "resume": resume}
            if number == 0
            else {"checkpoint": beside(checkpoint, str(number)), "resume": beside(resume, str(number))}
            for number in range(len(parts))
        ]
        fitted = [part.fit(train, valid, **state, **how) for part, state in zip(parts, states, strict=True)]
        if self.standardized:
            *given, constant = weights
            units = [unit_of(model) for model in fitted]
            first = next((unit for unit in units if unit), 1.0)
            weights = (
                *(weight * unit / first for weight, unit in zip(given, units, strict=True)),
                constant,
            )
        recipe = Blend([model.recipe for model in fitted], weights=weights, share=self.share)
        return composed(recipe, dict(zip(self.member_names, fitted, strict=True)))

    def _held_out(self, train: Ratings, seed: int) -> Split:
        """Return the training ratings without, and with only, those that the weights are learned on."""
        if not isinstance(train, Ratings):
            raise DataError(f"train is a {type(train).__name__}, not Ratings")
        most = int(train.user_count.max(initial=0))
        if most - max(most - round(self.share * most), 1) < 1:  # as `per_user` rounds
            raise DataError(
                f"share={self.share:g} of the training ratings of a user is none, since no user has more than {most}: give "
                "weights, or a larger share"
            )
        return per_user(train, self.share, seed=seed)

    def ratings_of(self, model: FactorModel, pairs: Pairs) -> Floats:
        """Return the weighted sum of the parts' predictions."""
        *weights, constant = self.numbers
        found = np.full(len(pairs.user), constant)
        for weight, name in zip(weights, self.member_names, strict=True):
            found += weight * model.members[name].predict_rows(pairs.user, pairs.item, times=pairs.times)
        return found

    def changed(self, model: FactorModel, change: Callable[[FactorModel], FactorModel]) -> FactorModel:
        members = {name: change(member) for name, member in model.members.items()}
        recipe = Blend(
            [members[name].recipe for name in self.member_names], weights=self.weights, share=self.share
        )
        first = next(iter(members.values()))
        if first.origin is None:
            return composed(recipe, members)
        found = composed(recipe, members, items=model if first.items is model.items else None)
        return replace(found, origin=model)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The weights and the constant of a fitted blend."""
        assert self.weights != "auto"
        return self.weights

    def balance(self, model: FactorModel) -> Floats:
        """Return the numbers with which each part counts in similarities as it does in scores."""
        found, at = np.ones(model.item_factors.shape[1]), 0
        for name in self.member_names:
            part = slice(at, at := at + model.members[name].flat.item_factors.shape[1])
            sides = (rows[:, part] for rows in (model.user_factors, model.item_factors))
            squares = [np.einsum("nk,nk->", rows, rows, dtype=np.float64) for rows in sides]
            if all(squares):
                found[part] = (squares[0] / len(model.users) / (squares[1] / len(model.items))) ** 0.25
        return found

    def weighted_members(self, model: FactorModel) -> list[tuple[float, FactorModel]]:
        return [
            (weight, model.members[name])
            for weight, name in zip(self.numbers[:-1], self.member_names, strict=True)
        ]

    def train(
        self,
        train: Ratings,  # noqa: ARG002
        valid: Ratings | float | None = None,  # noqa: ARG002
        *,
        seed: int = SEED,  # noqa: ARG002
        threads: int | None = None,  # noqa: ARG002
        after_epoch: Callable[[Mapping[str, float]], bool] | None = None,  # noqa: ARG002
    ) -> Trained:
        """Raise an error: the parts are trained one by one."""
        self._in_parts()

    def init(self, train: Ratings, *, seed: int, threads: int) -> State:  # noqa: ARG002
        self._in_parts()

    def step(self, state: Any, epoch: int) -> Mapping[str, float]:  # noqa: ARG002
        self._in_parts()

    def finish(self, state: Any) -> Factors:  # noqa: ARG002
        self._in_parts()

    def _in_parts(self) -> NoReturn:
        raise ParameterError(
            f"a Blend has no training of its own: fit it, or train its parts, {', '.join(map(repr, self.recipes))}"
        )


def composed(
    recipe: Blend, members: Mapping[str, FactorModel], *, items: FactorModel | None = None
) -> FactorModel:
    """Return the blend of fitted models: their factor matrices side by side, times the weights.

    ``items`` is a blend with the same items, such as the one that a user was folded into: their arrays are not copied.
    """
    models = [members[name] for name in recipe.member_names]
    flats = [model.flat for model in models] if recipe.task == "rating" else _flats_of_lists(models)
    *weights, constant = recipe.numbers
    first = models[0]
    notes = tuple(dict.fromkeys(note for model in models for note in model.notes))
    if any(model.unfinished for model in models):
        notes = (
            f"{UNFINISHED}: a part of the blend was stopped",
            *(n for n in notes if n not in first.notes),
        )
    model = FactorModel(
        recipe,
        mean=constant + sum(weight * flat.mean for weight, flat in zip(weights, flats, strict=True)),
        user_bias=_added(weights, [flat.user_bias for flat in flats]),
        item_bias=_added(weights, [flat.item_bias for flat in flats]) if items is None else items.item_bias,
        user_factors=np.concatenate(
            [weight * flat.user_factors for weight, flat in zip(weights, flats, strict=True)], axis=1
        ).astype(np.float32),
        item_factors=(
            np.concatenate([flat.item_factors for flat in flats], axis=1).astype(np.float32)
            if items is None
            else items.item_factors
        ),
        fallback=first.fallback,
        scale=first.scale,
        seed=first.seed,
        history=_histories(models),
        fingerprint=first.fingerprint,
        data_name=first.data_name,
        drift=first.drift,
        merged=first.merged,
        notes=notes,
        **{name: getattr(first, name) for name in SHARED},
    )
    for name, member in members.items():
        model = model.with_member(name, member)
    return model


def _flats_of_lists(models: Sequence[FactorModel]) -> list[Factors]:
    """Return the factors and biases of parts that make lists together.

    A user without factors in any part that ranks, such as one who likes none of the items rated, gets the most popular ones.
    Predicted ratings alone would put rarely rated items first.
    """
    ranking = [model.flat for model in models if model.task == "ranking"]
    informed = [flat.user_factors.any(axis=1) for flat in ranking if flat.user_factors.shape[1]]
    if not informed:  # only popularity stands beside the predicted ratings
        return [_flat_of_lists(model) for model in models]
    known = np.any(informed, axis=0)
    return [
        flat if model.task == "ranking" else flat._replace(user_factors=flat.user_factors * known[:, None])
        for model, flat in zip(models, map(_flat_of_lists, models), strict=True)
    ]


def _flat_of_lists(model: FactorModel) -> Factors:
    """Return the factors and biases of a part of a list; of one that predicts ratings, the factors alone."""
    flat = model.flat
    if model.task == "ranking":
        return flat
    return flat._replace(
        mean=0.0, user_bias=np.zeros_like(flat.user_bias), item_bias=np.zeros_like(flat.item_bias)
    )


def _added(weights: Sequence[float], arrays: Sequence[NDArray[Any]]) -> Floats:
    return np.asarray(
        sum(weight * array.astype(np.float64) for weight, array in zip(weights, arrays, strict=True))
    )


def _histories(models: Sequence[FactorModel]) -> pd.DataFrame:
    """Return the epochs of all parts, one part after the other, with the part's number."""
    import pandas as pd

    told = [model.history.assign(part=number) for number, model in enumerate(models) if len(model.history)]
    return pd.concat(told, ignore_index=True) if told else pd.DataFrame()


def _least_squares(models: Sequence[FactorModel], held: Ratings, threads: int) -> tuple[float, ...]:  # noqa: ARG001
    """Return the weights with the smallest squared error, pulled a little towards equal ones, and the constant."""
    columns = [model.predict_rows(*model.rows_of(held), times=held.time) - model.fallback for model in models]
    predicted, value = np.stack(columns, axis=1), held.value - models[0].fallback
    centre, middle = predicted.mean(axis=0), value.mean()
    equal = np.full(len(models), 1 / len(models))
    gram = (predicted - centre).T @ (predicted - centre) / len(value)
    gram += RIDGE * np.trace(gram) / len(models) * np.eye(len(models))
    left = ((predicted - centre).T @ (value - middle - (predicted - centre) @ equal)) / len(value)
    weights = equal + np.linalg.lstsq(gram, left, rcond=None)[0]
    constant = models[0].fallback + middle - float(weights @ (centre + models[0].fallback))
    return (*weights.tolist(), float(constant))


def _best_ndcg(models: Sequence[FactorModel], held: Ratings, threads: int) -> tuple[float, ...]:
    """Return the weights with the highest NDCG of held-out items, and 0 as the constant.

    The search starts from the best single part and tries `SHARES` for one part after the other.
    """
    first = models[0]
    assert first.seen is not None
    held = some_users(held, MOST_RANKED, first.seed)
    units = [unit_of(model) for model in models]
    members = {str(number): model for number, model in enumerate(models)}
    parts = [model.recipe for model in models]

    def quality(shares: Sequence[float]) -> float:
        weights = [share * unit for share, unit in zip(shares, units, strict=True)]
        model = composed(Blend(parts, weights=(*weights, 0.0)), members)
        assert first.seen is not None
        return float(ndcg_of_users(model, first.seen, held, threads=threads)[1].mean())

    alone = [quality(row) for row in np.eye(len(models)).tolist()]
    best = int(np.argmax(alone))
    shares, reached = np.eye(len(models))[best].tolist(), alone[best]
    for _ in range(ROUNDS):
        before = reached
        for number in np.argsort(alone)[::-1].tolist():
            if number == best:
                continue
            for share in SHARES:
                tried = [*shares]
                tried[number] = share
                found = quality(tried)
                if found > reached:
                    shares, reached = tried, found
        if reached == before:
            break
    return (*(share * unit for share, unit in zip(shares, units, strict=True)), 0.0)


def unit_of(model: FactorModel) -> float:
    """Return the factor that standardises scores in lists: one over the standard deviation of a user's scores over the
    items, as a root mean square over users; 0 where all scores are the same.
    """
    flat, rng = _flat_of_lists(model), np.random.default_rng(model.seed)
    users = np.flatnonzero(model.user_count > 0)
    if len(users) > RANKED * 10:
        users = rng.choice(users, RANKED * 10, replace=False)
    scores = flat.user_factors[users] @ flat.item_factors.T + flat.item_bias
    spread = float(np.sqrt(scores.var(axis=1).mean())) if len(users) else 0.0
    return 1 / spread if spread > 0 else 0.0
