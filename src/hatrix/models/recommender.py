"""The recipe that answers both questions: which rating to expect, and which items to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn, final

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from hatrix.data.ratings import Ratings
from hatrix.errors import ParameterError
from hatrix.models import SEED, recipe_type
from hatrix.models.als import ImplicitALS
from hatrix.models.fit import Algorithm, Checkpoint, State, Task
from hatrix.models.mf import BiasedMF
from hatrix.models.model import RATINGS, UNFINISHED, FactorModel
from hatrix.models.spectral import SpectralMF

if TYPE_CHECKING:
    from collections.abc import Callable

    from hatrix.models.fit import Trained
    from hatrix.models.model import Factors

__all__ = ["Recommender"]

AUTO: Literal["auto"] = "auto"
LISTS = "lists"
"""Place of the part that ranks items, as `RATINGS` is that of the part that predicts ratings."""
SPECTRAL, POPULARITY, PREDICTED = 0.25, 0.1, 0.05
"""Of the default lists of ratings, where the weight of `ImplicitALS` is 1: the weight of `SpectralMF`, its ``popularity``,
and the weight of predicted ratings."""
ALGORITHM = "algorithm"
"""Key of the algorithm's name in a recipe that is written as JSON inside another one."""


def _recipe_of(given: Any) -> Any:
    """Return the recipe that a name, or the JSON of a recipe, stands for."""
    if isinstance(given, str):
        given = {ALGORITHM: given}
    if not isinstance(given, Mapping):
        return given
    changes = dict(given)
    name = changes.pop(ALGORITHM, None)
    try:
        return recipe_type(name)(**changes) if isinstance(name, str) else given
    except (ParameterError, TypeError) as error:
        raise ValueError(str(error)) from None


def _as_json(recipe: Algorithm | None) -> dict[str, Any] | None:
    return None if recipe is None else {ALGORITHM: recipe.name, **recipe.model_dump(mode="json")}


Part = Annotated[Algorithm, BeforeValidator(_recipe_of), PlainSerializer(_as_json)]
"""A recipe inside a recipe: given as a recipe, as the name of an algorithm, or as JSON."""


def _list_recipe_of(given: Any) -> Any:
    return given if isinstance(given, str) and given == AUTO else _recipe_of(given)


def _list_as_json(recipe: Algorithm | str) -> Any:
    return recipe if isinstance(recipe, str) else _as_json(recipe)


ListPart = Annotated[
    Literal["auto"] | Algorithm, BeforeValidator(_list_recipe_of), PlainSerializer(_list_as_json)
]


def default_lists(predictor: Algorithm | None) -> Algorithm:
    """Return the recipe that makes the lists of ratings in memory, beside the recipe that predicts ratings.

    Predicted ratings have a part in the lists, unless there are no factors, or a posterior whose many draws would make lists
    slow.
    """
    from hatrix.models.blend import Blend

    parts, weights = [ImplicitALS(), SpectralMF(popularity=POPULARITY)], [1.0, SPECTRAL]
    fields = {} if predictor is None or predictor.member_names else type(predictor).model_fields
    if predictor is not None and "factors" in fields and "posterior" not in predictor.extras:
        parts, weights = [*parts, predictor], [*weights, PREDICTED]
    return Blend(parts, weights=(*weights, 0.0), standardized=True)


@final
class Recommender(Algorithm):
    """Predicted ratings from one recipe and top-N lists from another, in one model and one file.

    A model that minimises the error of predicted ratings is a poor judge of what to show: it puts rarely rated items with a
    high average first. A model that learns which items people choose makes better lists, and predicts no ratings. A
    `Recommender` trains both on the same ratings. Of the fitted model,

    - `FactorModel.predict`, intervals and `hatrix.evaluate` come from ``ratings``;
    - scores, lists, neighbours, reasons and `hatrix.evaluate_ranking` come from ``lists``;
    - fold-in, update, forget, save and load treat both.

    For clicks, there is a part for lists only.

    Parameters
    ----------
    ratings
        The recipe that predicts ratings, or its name; None for lists alone.
    lists
        The recipe that ranks items, or its name. "auto" is `ImplicitALS` for clicks and for ratings on disk. For ratings in
        memory it is a `Blend` of `ImplicitALS`, `SpectralMF` and the recipe of ``ratings``; the last one is left out if it
        has no factors or has a posterior.

    Notes
    -----
    The blend weighs standardised scores by 1 for `ImplicitALS`, 1/4 for `SpectralMF` and 1/20 for predicted ratings without
    their biases. The first makes lists that people choose from, the second brings less popular items, and the third puts
    those first that the user will like. The numbers were chosen on validation parts of ml-100k, ml-latest-small and ml-1m
    (``benchmarks/recommender.py --part choice``).

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> model = hx.Recommender(lists=hx.ImplicitALS(factors=4)).fit(ratings, progress=False)
    >>> bool(1 <= model.predict(5, 3, clip=True) <= 5)
    True
    >>> len(model.recommend(5, 3))
    3
    """

    name: ClassVar[str] = "recommender"
    task: ClassVar[Task] = "ranking"
    in_epochs: ClassVar[bool] = False

    ratings: Part | None = Field(
        default=BiasedMF(),
        description="algorithm that predicts ratings, or none for lists alone",
        json_schema_extra={"flag": "ratings_by"},
    )
    lists: ListPart = Field(
        default=AUTO,
        description="algorithm that ranks items for lists; auto is a blend for ratings, implicit-als for clicks",
        json_schema_extra={"flag": "lists_by"},
    )

    @model_validator(mode="after")
    def _of_one_part_each(self) -> Recommender:
        for name, part in (("ratings", self.ratings), ("lists", self.lists)):
            if isinstance(part, Recommender):
                raise ValueError(f"{name} is a Recommender itself: give one of its parts")
        if self.ratings is not None and self.ratings.task != "rating":
            raise ValueError(
                f"ratings={self.ratings.name} ranks items and predicts no ratings: give a recipe such as BiasedMF()"
            )
        return self

    @property
    def out_of_core(self) -> bool:  # type: ignore[override]
        """Whether both parts can train on ratings on disk."""
        return self.list_recipe.out_of_core and (self.ratings is None or self.ratings.out_of_core)

    @property
    def predicts_ratings(self) -> bool:
        return self.ratings is not None

    @property
    def list_recipe(self) -> Algorithm:
        """The recipe that ranks items; where it is left to the data, the one that suits all data."""
        return ImplicitALS() if isinstance(self.lists, str) else self.lists

    def part(self, name: str) -> Algorithm:
        if name == RATINGS and self.ratings is not None:
            return self.ratings
        if isinstance(self.lists, str) and name in (default := default_lists(self.ratings)).member_names:
            return default.part(name)
        return self.list_recipe.part(name)

    @property
    def member_names(self) -> list[str]:
        return self.list_recipe.member_names + ([RATINGS] if self.rating_member == RATINGS else [])

    @property
    def rating_member(self) -> str:
        """Name of the member that predicts ratings; a part of a blend for lists with the same recipe is that member."""
        if self.ratings is None:
            return ""
        lists = self.list_recipe
        return next((name for name in lists.member_names if lists.part(name) == self.ratings), RATINGS)

    @property
    def rounds(self) -> int:
        return self.list_recipe.rounds + (0 if self.ratings is None else self.ratings.rounds)

    def place_of(self, task: Task) -> str:
        return RATINGS if task == "rating" else LISTS

    def with_part_for(self, task: Task, train: Ratings) -> Recommender:
        if task == "rating" or not isinstance(self.lists, str):
            return self
        suitable = ImplicitALS() if train.implicit or train.disk is not None else default_lists(self.ratings)
        return self.replace(lists=suitable)

    def hyper_parameters(self, task: Task) -> dict[str, Algorithm]:
        if task == "rating" and self.ratings is None:
            return {}
        place = self.place_of(task)
        found = self.part(place).hyper_parameters(task)
        return {f"{place}.{name}": owner for name, owner in found.items()}

    def resolved(self, train: Ratings) -> Recommender:
        lists = self.with_part_for("ranking", train).list_recipe.resolved(train)
        predictor = None if train.implicit or self.ratings is None else self.ratings.resolved(train)
        return Recommender(ratings=predictor, lists=lists)

    def changed(self, model: FactorModel, change: Callable[[FactorModel], FactorModel]) -> FactorModel:
        lists = change(model.list_model)
        if name := self.rating_member:
            found = combined(
                lists, lists.members[name] if name in lists.members else change(model.members[name])
            )
        else:
            found = replace(lists, recipe=Recommender(ratings=None, lists=lists.recipe))
        return replace(found, origin=None if lists.origin is None else model)

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
        """Train the part for lists, then the part for ratings; see `Algorithm.fit`.

        A part for ratings that is a part of the lists, too, is trained once. With ``checkpoint``, it saves its state where
        `Blend.fit` says. Otherwise it saves it beside the others, in a file whose name ends in ``.ratings``.
        """
        recipe = self
        if isinstance(train, Ratings):
            recipe = self.with_part_for("ranking", train)
            recipe = recipe.replace(ratings=None) if train.implicit else recipe
        how: dict[str, Any] = {"seed": seed, "threads": threads, "progress": progress}
        lists = recipe.list_recipe.fit(train, valid, checkpoint=checkpoint, resume=resume, **how)
        predictor = recipe.ratings
        if predictor is None:
            return replace(lists, recipe=recipe.replace(lists=lists.recipe))
        if lists.unfinished:
            note = f"{UNFINISHED}: the part for ratings was not trained"
            recipe = recipe.replace(ratings=None, lists=lists.recipe)
            return replace(lists, recipe=recipe, notes=(*lists.notes, note))
        if recipe.rating_member in lists.members:
            return combined(lists, lists.members[recipe.rating_member])
        ratings = predictor.fit(
            train, valid, checkpoint=beside(checkpoint, RATINGS), resume=beside(resume, RATINGS), **how
        )
        return combined(lists, ratings)

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
        parts = [part for part in (self.ratings, self.list_recipe) if part is not None]
        raise ParameterError(
            f"a Recommender has no training of its own: fit it, or train its parts, {' and '.join(map(repr, parts))}"
        )


def combined(lists: FactorModel, ratings: FactorModel) -> FactorModel:
    """Return one model of two that were fitted to the same ratings: one for lists, and one that predicts ratings."""
    if ratings.fingerprint != lists.fingerprint:
        raise ParameterError(
            "the two models were fitted to different ratings: fit both to the same training part"
        )
    recipe = Recommender(ratings=ratings.recipe, lists=lists.recipe)
    notes = dict.fromkeys((*lists.notes, *ratings.notes))
    found = replace(lists, recipe=recipe, notes=tuple(notes))
    return found if recipe.rating_member in lists.members else found.with_member(RATINGS, ratings)


def beside(path: str | Path | Checkpoint | None, name: str) -> Any:
    """Return where the part of a name saves its state, beside the file of the whole."""
    if isinstance(path, Checkpoint):
        return replace(path, path=beside(path.path, name))
    return None if path is None else Path(f"{path}.{name}")
