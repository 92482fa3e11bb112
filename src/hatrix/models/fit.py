"""Recipes, and the one loop that turns a recipe and ratings into a `FactorModel`."""

from __future__ import annotations

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from hatrix import _files
from hatrix._checks import is_number, path_of, whole
from hatrix._threads import one_blas_thread
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, DivergenceError, ModelFileError, ParameterError
from hatrix.models import SEED, predictive, progress
from hatrix.models.container import refuse_unwritable
from hatrix.models.factors import LARGEST_FACTOR, are_bounded
from hatrix.models.hyperparameters import kinds
from hatrix.models.model import UNFINISHED, FactorModel, Factors, Seen
from hatrix.models.validation import hold_out, refuse_dislikes, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.predictive import Pairs

_Made = TypeVar("_Made")

__all__ = ["Algorithm", "Checkpoint", "State", "Task", "Trained", "cores", "thread_count"]

Task = Literal["rating", "ranking"]
"""What a model is for: to predict ratings, or to rank items."""


class State(ABC):
    """What an algorithm changes while it trains.

    ``variables`` holds every array that training changes, updated in place: with the recipe, the data and the
    seed they are the whole state, so a checkpoint is these arrays and an epoch number.
    """

    variables: dict[str, NDArray[Any]]
    settled: frozenset[str] = frozenset()
    """Names of those that only keep what others were, and so need no look at whether they are finite."""
    report: Callable[[float], None] = staticmethod(lambda _rows: None)
    """What to tell, in an epoch over ratings on disk, how many more of them are done."""


@dataclass(frozen=True)
class Checkpoint:
    """Where `fit` saves its state, and how often: after ``epochs`` epochs or ``seconds`` seconds."""

    path: str | Path
    epochs: int | None = None
    seconds: float | None = 60.0

    def __post_init__(self) -> None:
        path_of("path", self.path)
        if self.epochs is not None:
            whole("epochs", self.epochs, 1, 2**31)
        if self.seconds is not None and not (is_number(self.seconds) and self.seconds >= 0):
            raise ParameterError(f"seconds is {self.seconds!r}: give a number from 0 on, or None for never")


class Algorithm(BaseModel, ABC):
    """A recipe: frozen hyper-parameters and the steps that fit them. ``fit`` returns a `FactorModel`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    task: ClassVar[Task] = "rating"
    in_epochs: ClassVar[bool] = True
    """Whether `train` goes through epochs, which a search can watch and end."""
    out_of_core: ClassVar[bool] = False
    """Whether it can train on ratings on disk, a part of them in memory at a time."""
    weighs_by_value: ClassVar[bool] = False
    """Whether the value of a rating is its weight, so that a rating of 0 says nothing and is refused."""
    late: ClassVar[frozenset[str]] = frozenset()
    """Hyper-parameters that only `finish` reads: recipes that differ in these alone can share a training."""
    usual_factors: ClassVar[int] = 0
    """The number that ``factors="auto"`` stands for at most."""
    before: ClassVar[Mapping[str, Any]] = {}
    """Hyper-parameters that files of earlier versions do not name, each with the value that those versions worked by."""
    parts: ClassVar[Mapping[str, str]] = {}
    """Named arrays that `finish` gives besides the factors, each with its axes: u users, i items, k factors."""
    extras: ClassVar[frozenset[str]] = frozenset()
    """Blocks that its models can have: ``time``, ``days``, and ``posterior``, which they always have if it is named."""

    def __init__(self, /, **hyper_parameters: Any) -> None:
        try:
            super().__init__(**hyper_parameters)
        except ValidationError as error:
            raise ParameterError(_explain(type(self), error)) from None

    def replace(self, /, **changes: Any) -> Self:
        """Return the recipe with some hyper-parameters changed; they are checked as in a new recipe.

        Parameters
        ----------
        **changes
            New values by the names of hyper-parameters; the others stay as they are.

        Raises
        ------
        ParameterError
            If there is no such hyper-parameter, or a value is not allowed.

        Examples
        --------
        >>> import hatrix
        >>> hatrix.ALS(factors=16).replace(epochs=5) == hatrix.ALS(factors=16, epochs=5)
        True
        """
        present = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(present | changes))

    def __replace__(self, /, **changes: Any) -> Self:
        """Return the recipe with some changes, for ``copy.replace`` of Python 3.13."""
        return self.replace(**changes)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; unlike pydantic's own method, check the values of ``update`` (see `replace`)."""
        return self.replace(**update) if update else super().model_copy(deep=deep)

    def copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # type: ignore[override]
        """Return a copy, as `model_copy` does."""
        return self.model_copy(update=update, deep=deep)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse True and False for a number; pydantic would take them for 1 and 0."""
        types = kinds(cls.model_fields[info.field_name or ""])
        if isinstance(value, bool | np.bool_) and bool not in types and {int, float} & set(types):
            raise PydanticCustomError("truth", "give a number, not a truth value")
        return value

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:  # noqa: ARG003
        """Raise an error: pydantic's method would make a recipe without checking it.

        Raises
        ------
        ParameterError
            Always.
        """
        raise ParameterError(
            f"{cls.__name__}.model_construct would make a recipe without checking its values: call "
            f"{cls.__name__}(name=value, ...), or replace(name=value, ...) of a recipe"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise ParameterError(
            f"{name} cannot be set, since a recipe is frozen: make another one with "
            f"recipe.replace({name}={value!r})"
        )

    def __delattr__(self, name: str) -> None:
        raise ParameterError(f"{name} cannot be deleted, since a recipe is frozen")

    @property
    def list_recipe(self) -> Algorithm:
        """The recipe of the factors that rank items: this one, unless it combines several."""
        return self

    @property
    def predicts_ratings(self) -> bool:
        """Whether its model predicts ratings, beside or instead of ranking items."""
        return self.task == "rating"

    def knows_dislikes(self, scale: tuple[float, float] | None) -> bool:  # noqa: ARG002
        """Return whether a low rating on the scale says that a user dislikes an item, and does not count as a like."""
        return self.task == "rating"

    def counts_against(self, scale: tuple[float, float]) -> bool:  # noqa: ARG002
        """Return whether the recipe lets low ratings on the scale count against their items."""
        return self.task == "rating"

    def part(self, name: str) -> Algorithm:  # noqa: ARG002
        """Return the recipe of a member, or of the factors that rank items (any other name)."""
        return self

    @property
    def member_names(self) -> list[str]:
        """Names of the models that its model has beside its own factors (see `FactorModel.members`)."""
        return []

    @property
    def rating_member(self) -> str:
        """Name of the member that predicts ratings; an empty text if the model predicts them itself, or predicts none."""
        return ""

    def place_of(self, task: Task) -> str:  # noqa: ARG002
        """Return the place of the part that does the task (see `part`), or an empty text if the whole recipe does it."""
        return ""

    def with_part_for(self, task: Task, train: Ratings) -> Algorithm:  # noqa: ARG002
        """Return the recipe with the part that does the task, if the choice of this part is left to the data."""
        return self

    def hyper_parameters(self, task: Task) -> dict[str, Algorithm]:  # noqa: ARG002
        """Return the names of the hyper-parameters that the task depends on, each with the recipe that has it.

        The name of a part's hyper-parameter begins with the place of the part: ``0.factors``.
        """
        return dict.fromkeys(type(self).model_fields, self)

    def value_of(self, name: str) -> Any:
        """Return the value of a hyper-parameter, of this recipe or of a part (see `hyper_parameters`)."""
        place, _, rest = name.partition(".")
        return self.part(place).value_of(rest) if rest else getattr(self, place)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return the recipe with the hyper-parameters of these names changed, as `replace` does, also those of parts."""
        if not values:
            return self
        own: dict[str, Any] = {}
        inner: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            place, _, rest = name.partition(".")
            if rest:
                inner.setdefault(place, {})[rest] = value
            else:
                own[place] = value
        parts = {place: self.part(place).with_values(changes) for place, changes in inner.items()}
        return self.replace(**own, **self.fields_of(parts))

    def fields_of(self, parts: Mapping[str, Algorithm]) -> dict[str, Any]:
        """Return the fields of the recipe that hold its parts, some of which are replaced by those given by place."""
        return dict(parts)

    def ratings_of(self, model: FactorModel, pairs: Pairs) -> NDArray[np.float64]:
        """Return the predicted ratings of pairs of rows, -1 standing for an unknown id."""
        return predictive.ratings(model, pairs)

    def weighted_members(self, model: FactorModel) -> list[tuple[float, FactorModel]]:  # noqa: ARG002
        """Return the members whose scores add up to the model's, each with its weight; none if it has its own factors."""
        return []

    def changed(self, model: FactorModel, change: Callable[[FactorModel], FactorModel]) -> FactorModel:
        """Return the model that results if each model it is made of is changed: by a fold-in, an update or a removal."""
        return change(model)

    def resolved(self, train: Ratings) -> Algorithm:  # noqa: ARG002
        """The recipe with numbers where it leaves them to the training part; `init`, `step` and `finish` need them."""
        return self

    def resolve(self, train: Ratings, *, threads: int) -> tuple[Algorithm, tuple[str, ...]]:  # noqa: ARG002
        """Return the recipe as `resolved` gives it, and notes for the model on what decided its numbers."""
        found = self.resolved(train)
        return found, tuple(found.remarks(self))

    def of_model(self, model: FactorModel) -> Algorithm:
        """Return the recipe with numbers where it leaves them to the data, for a model that was made without a fit."""
        known = {"factors": max(1, model.user_factors.shape[1]), "init_scale": 0.1, **self.before}
        left = [name for name in type(self).model_fields if name in known and getattr(self, name) == "auto"]
        return self.replace(**{name: known[name] for name in left}) if left else self

    def remarks(self, left: Algorithm) -> list[str]:  # noqa: ARG002
        """Return notes on what `resolved` found, for the model: this recipe is what ``left`` was resolved to."""
        return []

    @abstractmethod
    def init(self, train: Ratings, *, seed: int, threads: int) -> State:
        """Prepare training: draw the start, lay out the data."""

    @abstractmethod
    def step(self, state: Any, epoch: int) -> Mapping[str, float]:
        """One epoch (counted from 0), in place; returns figures for the history, ``train_mse`` among them."""

    @abstractmethod
    def finish(self, state: Any) -> Factors:
        """The learned arrays: contiguous, unpadded, in id order, and no views of the state."""

    def verdicts(self, history: Sequence[Mapping[str, float]]) -> tuple[str, ...]:  # noqa: ARG002
        """Return notes for the model on how its training went."""
        return ()

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How many epochs to run at most."""

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
        """Train on ratings.

        Parameters
        ----------
        train
            The training part.
        valid
            Ratings to validate on after every epoch, or the share of ``train`` to hold out at random for it: by RMSE,
            or by NDCG@20 where the model ranks.
            Recipes with ``patience`` need one; they stop when it has not improved for so many epochs, and the
            best epoch is restored.
        seed
            Same data, recipe, seed and machine type: same bits, whatever ``threads`` is.
        threads
            Threads to train with; by default the cores this process may use.
        progress
            Show a progress bar, where standard error is a terminal.
        checkpoint
            Where to save the state now and then (see `Checkpoint`).
        resume
            A checkpoint to go on from; where the file does not exist yet, training starts anew.

        Raises
        ------
        DataError
            If there is nothing to train on.
        DivergenceError
            If the loss leaves the finite numbers.
        ParameterError
            If arguments do not fit each other, the checkpoint belongs to another run, or another process saves its state
            there.

        Notes
        -----
        The first Ctrl-C ends training after the epoch that runs, and returns the model so far: it is `unfinished`, and
        its notes and its ``repr`` say so. A second one raises KeyboardInterrupt at once. SIGTERM ends the process as
        always. With ``checkpoint``, the epoch that runs is first completed and saved.
        """
        return _Loop(self, train, valid, seed, threads, progress, checkpoint, resume).run().finish()

    def train(
        self,
        train: Ratings,
        valid: Ratings | float | None = None,
        *,
        seed: int = SEED,
        threads: int | None = None,
        after_epoch: Callable[[Mapping[str, float]], bool] | None = None,
    ) -> Trained:
        """Train as `fit` does, and keep what was learned: `Trained.finish` makes models of it.

        ``after_epoch`` gets each row of the history, and ends training by returning True.
        """
        return _Loop(self, train, valid, seed, threads, False, None, None).run(after_epoch)

    def shares_training(self, other: Algorithm) -> bool:
        """Whether what ``other`` learned can be finished by this recipe: they differ in ``late`` alone."""
        late = set(self.late)
        return type(self) is type(other) and self.model_dump(exclude=late) == other.model_dump(exclude=late)


class Trained:
    """What a training learned, before `Algorithm.finish` made a model of it.

    Examples
    --------
    >>> import hatrix
    >>> clicks = hatrix.Ratings.from_columns(["ann", "ann", "bob", "bob"], ["a", "b", "b", "c"])
    >>> trained = hatrix.SpectralMF(factors=2).train(clicks)
    >>> trained.finish(hatrix.SpectralMF(factors=2, popularity=1.0))
    FactorModel(spectral-mf, 2 users × 3 items, 2 factors, 4 ratings)
    """

    def __init__(self, loop: _Loop, state: State) -> None:
        self._loop, self.recipe, self.state = loop, loop.recipe, state

    @property
    def interrupted(self) -> bool:
        """Tell whether Ctrl-C was pressed during the training."""
        return self._loop.interrupted

    @one_blas_thread()
    def finish(self, recipe: Algorithm | None = None) -> FactorModel:
        """The model of a recipe that shares this training, by default of the one that was trained.

        Raises
        ------
        ParameterError
            If the recipe needs a training of its own (see `Algorithm.shares_training`).
        """
        recipe = self.recipe if recipe is None else self._resolved(recipe)
        if not recipe.shares_training(self.recipe):
            raise ParameterError(
                f"{recipe!r} needs a training of its own: one of {self.recipe!r} can be finished with other "
                f"values of {', '.join(sorted(recipe.late)) or 'nothing'} only"
            )
        learned = recipe.finish(self.state)
        for side in ("user", "item"):
            # Such a model would answer with infinities, or NaN where two of them meet.
            if not are_bounded(getattr(learned, f"{side}_bias"), getattr(learned, f"{side}_factors")):
                raise DivergenceError(
                    f"training diverged (numbers of {side}s are beyond {LARGEST_FACTOR:g}): {_advice(recipe)}"
                )
        return self._loop.model(learned, recipe)

    def _resolved(self, recipe: Algorithm) -> Algorithm:
        """Take what both recipes leave to the data from the training, and resolve the rest."""
        given = self._loop.given
        if type(recipe) is type(given):
            names = [name for name in type(recipe).model_fields if getattr(recipe, name) == "auto"]
            known = {name: getattr(self.recipe, name) for name in names if getattr(given, name) == "auto"}
            recipe = recipe.replace(**known) if known else recipe
        return recipe.resolved(self._loop.train)


class _Loop:
    """One fit: epochs, validation, early stopping, history, progress, checkpoints, Ctrl-C."""

    def __init__(
        self,
        recipe: Algorithm,
        train: Ratings,
        valid: Ratings | float | None,
        seed: int,
        threads: int | None,
        progress: bool,
        checkpoint: str | Path | Checkpoint | None,
        resume: str | Path | None,
    ) -> None:
        if not isinstance(train, Ratings):
            raise DataError(f"train is a {type(train).__name__}: give Ratings, as hatrix.read makes them")
        if len(train) == 0:
            raise DataError("there are no ratings to train on")
        self.seed, self.progress = whole("seed", seed, 0, 2**32 - 1), progress
        self.threads = thread_count(threads)
        if train.disk is not None:
            from hatrix.models import regions  # which needs kernels

            regions.refuse(recipe, train)
        refuse_dislikes(recipe, train)
        self.train, self.valid = hold_out(recipe, train, valid, seed)
        if isinstance(valid, Ratings):
            refuse_dislikes(recipe, valid, "validation ratings", trained=False)
        self.patience: int | None = getattr(recipe, "patience", None)
        if self.patience is not None and self.valid is None:
            raise ParameterError(
                f"patience={self.patience} needs something to validate on: pass valid=ratings, or "
                "valid=0.1 to hold a tenth of the training ratings out"
            )
        if not isinstance(checkpoint, Checkpoint | None):
            checkpoint = Checkpoint(path_of("checkpoint", checkpoint))
        self.checkpoint = checkpoint
        if self.checkpoint is not None:  # now, not when hours of training are to be saved
            refuse_unwritable(self.checkpoint.path)
        self.resume = None if resume is None else path_of("resume", resume)
        started, self.given = time.perf_counter(), recipe
        self.recipe, notes = _within_memory(
            recipe, self.train, lambda: recipe.resolve(self.train, threads=self.threads)
        )
        self.resolving = time.perf_counter() - started if self.recipe != recipe else 0.0
        self.notes = list(notes)
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, NDArray[Any]]] | None = None
        self.interrupted = self.terminated = False

    @one_blas_thread()
    def run(self, after_epoch: Callable[[Mapping[str, float]], bool] | None = None) -> Trained:
        with ExitStack() as stack:
            if (
                self.checkpoint is not None
            ):  # two trainings that save to one file would resume from each other's state
                try:
                    stack.enter_context(_files.claimed(self.checkpoint.path))
                except OSError as error:
                    raise ModelFileError(
                        f"{self.checkpoint.path} cannot be written: {error.strerror or error}"
                    ) from None
            trained = self._run(after_epoch)
        if self.terminated:
            signal.raise_signal(signal.SIGTERM)
        return trained

    def _run(self, after_epoch: Callable[[Mapping[str, float]], bool] | None) -> Trained:
        started = time.perf_counter()
        state: State = _within_memory(
            self.recipe,
            self.train,
            lambda: self.recipe.init(self.train, seed=self.seed, threads=self.threads),
        )
        if self.resume is not None and self.resume.exists():
            self._restore(state)
        spent = self.history[-1]["seconds"] if self.history else 0.0
        saved_at, saved_epoch = time.perf_counter(), len(self.history)
        with (
            _interrupts(terminable=self.checkpoint is not None) as (stop, terminated),
            progress.training(self.recipe, len(self.train), len(self.history), wanted=self.progress) as show,
        ):
            state.report = show.rows
            while not self._is_done():
                epoch = len(self.history)
                figures = dict(self.recipe.step(state, epoch))
                self._check_finite(state, figures, epoch)
                if self.valid is not None:
                    figures |= self._validate(state, epoch)
                seconds = spent + time.perf_counter() - started
                self.history.append({"epoch": epoch + 1, **figures, "seconds": seconds})
                show.epoch(self.history[-1])
                if self.checkpoint and self._is_due(saved_at, saved_epoch):
                    self._save(state)
                    saved_at, saved_epoch = time.perf_counter(), len(self.history)
                if stop.is_set():
                    self.interrupted = True
                    if not self._is_done():
                        self.notes.append(
                            f"{UNFINISHED}: stopped after epoch {epoch + 1} of {self.recipe.rounds}"
                        )
                    break
                if after_epoch is not None and after_epoch(self.history[-1]):
                    break
        self.terminated = terminated.is_set()
        if self.checkpoint and saved_epoch < len(self.history):
            self._save(state)
        if self.patience is not None and self.best is not None:
            _copy_into(state.variables, self.best[2])
        return Trained(self, state)

    def _is_done(self) -> bool:
        epochs = len(self.history)
        if self.patience is not None and self.best is not None and epochs - self.best[1] >= self.patience:
            return True
        return epochs >= self.recipe.rounds

    def _validate(self, state: State, epoch: int) -> dict[str, float]:
        assert self.valid is not None
        model = self.model(self.recipe.finish(state), self.recipe, history=False)
        name, figure = validate(model, self.seen, self.valid, threads=self.threads)
        loss = figure if name == "valid_rmse" else -figure
        if self.patience is not None and (self.best is None or loss < self.best[0]):
            self.best = loss, epoch + 1, {name: array.copy() for name, array in state.variables.items()}
        return {name: figure}

    def _check_finite(self, state: State, figures: Mapping[str, float], epoch: int) -> None:
        if np.isfinite(figures.get("train_mse", 0.0)) and all(
            np.isfinite(array).all()
            for name, array in state.variables.items()
            if array.dtype.kind == "f" and name not in state.settled
        ):
            return
        raise DivergenceError(
            f"training diverged in epoch {epoch + 1} (the loss is no longer a finite number): {_advice(self.recipe)}"
        )

    def _is_due(self, saved_at: float, saved_epoch: int) -> bool:
        assert self.checkpoint is not None
        every, seconds = self.checkpoint.epochs, self.checkpoint.seconds
        if every is not None and len(self.history) - saved_epoch >= every:
            return True
        return seconds is not None and time.perf_counter() - saved_at >= seconds

    def _header(self) -> dict[str, Any]:
        return {
            "kind": "checkpoint",
            "algorithm": self.recipe.name,
            "seed": self.seed,
            "fingerprint": self.train.fingerprint,
            "valid_fingerprint": self.valid.fingerprint if self.valid is not None else None,
            "hyperparameters": self.recipe.model_dump(mode="json"),  # last: those resolved depend on the data
        }

    def _save(self, state: State) -> None:
        from hatrix.models import artifact

        assert self.checkpoint is not None
        arrays = {f"state.{name}": array for name, array in state.variables.items()}
        best = None
        if self.best is not None:
            arrays |= {f"best.{name}": array for name, array in self.best[2].items()}
            best = self.best[:2]
        artifact.write(
            self.checkpoint.path, arrays, {**self._header(), "history": self.history, "best": best}
        )

    def _restore(self, state: State) -> None:
        from hatrix.models import artifact

        arrays, header = artifact.read(Path(str(self.resume)))
        for key, wanted in self._header().items():
            if header.get(key) != wanted:
                raise ParameterError(
                    f"{self.resume} belongs to another run: its {key} is {header.get(key)!r}, "
                    f"here {wanted!r}; resume with the same data, recipe and seed, or start anew"
                )
        present, best = _under("state.", arrays), _under("best.", arrays)
        try:
            self.history = [dict(row) for row in header["history"]]
            kept = None if header["best"] is None else (float(header["best"][0]), int(header["best"][1]))
            sound = all(
                {"epoch", "seconds"} <= row.keys()
                and all(type(value) in (int, float) for value in row.values())
                for row in self.history
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            sound = False
        shapes = {name: (array.shape, array.dtype) for name, array in state.variables.items()}
        for given in [present] if not sound or kept is None else [present, best]:
            sound = sound and {name: (array.shape, array.dtype) for name, array in given.items()} == shapes
        if not sound or len(self.history) > self.recipe.rounds:
            raise ModelFileError(
                f"{self.resume} is not consistent: its history or its arrays are not those of this fit; start anew"
            )
        _copy_into(state.variables, present)
        if kept is not None:
            self.best = *kept, best

    def model(self, factors: Factors, recipe: Algorithm, *, history: bool = True) -> FactorModel:
        rows, seen = (self.history, self.seen) if history else (None, None)
        return model_of(
            recipe,
            self.train,
            factors,
            seed=self.seed,
            history=rows,
            notes=[*self.notes, *(recipe.verdicts(self.history) if history else ())],
            seen=seen,
            resolving=self.resolving,
        )

    @cached_property
    def seen(self) -> Seen:
        """The training rows by user."""
        return Seen.from_ratings(self.train, threads=self.threads)


def _within_memory(recipe: Algorithm, train: Ratings, call: Callable[[], _Made]) -> _Made:
    """Return what the call gives, and explain it if memory does not suffice."""
    try:
        return call()
    except MemoryError as error:
        raise DataError(
            f"there is not enough memory to fit {recipe.name} to {len(train):,} ratings of {len(train.users):,} users and "
            f"{len(train.items):,} items ({error}): take fewer factors, or read the ratings with memory="
        ) from None


def model_of(
    recipe: Algorithm,
    train: Ratings,
    factors: Factors,
    *,
    seed: int,
    history: Sequence[Mapping[str, float]] | None,
    notes: Sequence[str] = (),
    seen: Seen | None,
    resolving: float = 0.0,
) -> FactorModel:
    """The model of what was learned from ratings; without a history, one for a look between epochs."""
    import pandas as pd

    return FactorModel(
        recipe,
        train.users,
        train.items,
        **factors._asdict(),
        user_count=train.user_count,
        item_count=train.item_count,
        fallback=train.mean,
        scale=train.scale,
        seed=seed,
        history=pd.DataFrame(history or []),
        seen=seen,
        item_table=train.item_table,
        user_table=train.user_table,
        fingerprint="" if history is None else train.fingerprint,
        data_name=train.name,
        notes=tuple(notes),
        resolving=resolving,
    )


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """So many threads, by default one for each core.

    Raises
    ------
    ParameterError
        If that is no number from 1 on.
    """
    return cores() if threads is None else whole("threads", threads, 1, 2**16)


def _advice(recipe: Algorithm) -> str:
    """Say what to do about a training that diverged."""
    rate = getattr(recipe, "learning_rate", None)
    smaller = f"learning_rate={rate / 4:g}, " if rate else ""
    return f"try {smaller}more regularization, or check the ratings for values far off the scale"


def _copy_into(variables: dict[str, NDArray[Any]], saved: Mapping[str, NDArray[Any]]) -> None:
    for name, array in variables.items():
        array[...] = saved[name]


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@contextmanager
def _interrupts(*, terminable: bool) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Turn the first Ctrl-C into a flag, so that the epoch is completed; a second one interrupts at once.

    With ``terminable``, a SIGTERM that would end the process sets this flag and a second one; the caller then ends the
    process itself. If the program has its own handler of SIGTERM, that handler stays.
    """
    stop, terminated = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop, terminated
        return

    def interrupt(_signal: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    def terminate(number: int, _frame: object) -> None:
        if terminated.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        terminated.set()
        stop.set()

    before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    signal.signal(signal.SIGINT, interrupt)
    if terminable and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        before[signal.SIGTERM] = signal.SIG_DFL
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield stop, terminated
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(recipe: type[Algorithm], error: ValidationError) -> str:
    parts: dict[str, str] = {}
    for problem in error.errors():
        first, *inner = problem["loc"] or ("",)
        # Within a field, a number is a place in a tuple, and a text one of the types it may be.
        name = ".".join(str(part) for part in (first, *inner) if part is first or isinstance(part, int))
        if not name:
            parts[name] = f"{recipe.__name__}: {problem['msg'].removeprefix('Value error, ')}"
        elif problem["type"] == "extra_forbidden":
            parts[name] = f"{recipe.__name__} has no {name}: it has {', '.join(recipe.model_fields)}"
        elif name in parts:
            parts[name] += f" or {problem['msg'].lower().removeprefix('input should be ')}"
        else:
            parts[name] = f"{name} is {problem['input']!r}: {problem['msg'].lower()}"
    return "; ".join(parts.values())
