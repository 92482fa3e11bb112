"""The trials of a search: an optuna study in memory, and a SQLite file of it that a later search goes on from."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hatrix import _files
from hatrix._checks import path_of
from hatrix.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    import optuna

__all__ = ["Study", "claimed_study"]

NAME, MARK = "hatrix", "search"
FEWEST_BEFORE_PRUNING = 5
DRAWN_AT_RANDOM = 10


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError.of("tune", "optuna", "tune") from None
    return optuna


class Study:
    """Finished trials, in memory while a search runs, and in a file where one is given.

    Each trial draws from a generator of its own, seeded by the seed and the trial's number, and only finished trials
    are kept: a search that was interrupted goes on to the same trials as one in one go.

    Parameters
    ----------
    path
        A SQLite file, which optuna's own tools can read too; made where it does not exist.
    marks
        What the search is about. A file of another search is refused.
    direction
        Of the figure.
    seed
        Of the draws.
    warm_up
        Epochs before a trial may be pruned.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        marks: Mapping[str, Any],
        *,
        direction: Literal["minimize", "maximize"],
        seed: int,
        warm_up: int,
    ) -> None:
        optuna = _optuna()
        self._seed = seed
        with _quiet():
            self._file = None if path is None else _opened(Path(path), marks, direction)
            pruner = optuna.pruners.MedianPruner(FEWEST_BEFORE_PRUNING, n_warmup_steps=warm_up)
            self._study = optuna.create_study(direction=direction, pruner=pruner)
            if self._file is not None:
                self._study.add_trials(
                    [t for t in self._file.get_trials(deepcopy=False) if t.state.is_finished()]
                )

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """The finished trials."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def ask(self, fixed: Mapping[str, Any]) -> Any:
        """A new trial, some of whose values are given."""
        optuna = _optuna()
        number = len(self.trials)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        with _quiet():
            self._study.sampler = optuna.samplers.TPESampler(n_startup_trials=DRAWN_AT_RANDOM, seed=seed)
            if fixed:
                self._study.enqueue_trial(dict(fixed))
            return self._study.ask()

    def tell(self, trial: optuna.Trial, value: float | None, *, keep: bool = True) -> None:
        """End a trial with its figure, or as pruned where that is None; and keep it in the file."""
        state = _optuna().trial.TrialState
        with _quiet():
            done = self._study.tell(trial, value, state.PRUNED if value is None else state.COMPLETE)
            if self._file is not None and keep:
                self._file.add_trial(done)


@contextmanager
def claimed_study(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from using the study while the block runs: both would make the same trials.

    Raises
    ------
    ParameterError
        If another process uses the study now, or the path cannot be that of a study.
    """
    place = path_of("study", path)
    if place.is_dir():
        raise ParameterError(
            f"the study {place} is a folder: give the name of a file in it, such as study.db"
        )
    if not place.parent.is_dir():
        raise ParameterError(
            f"there is no folder {place.parent} for the study: create it, or give another path"
        )
    with ExitStack() as stack:
        try:
            stack.enter_context(_files.claimed(place))
        except OSError as error:
            raise ParameterError(
                f"{place} cannot be used as a study: {error.strerror or error}: give another path"
            ) from None
        yield


def _opened(path: Path, marks: Mapping[str, Any], direction: str) -> Any:
    """The study of a file, which is made where it does not exist."""
    optuna = _optuna()
    if path.exists() and path.stat().st_size and path.read_bytes()[:15] != b"SQLite format 3":
        raise ParameterError(f"{path} is not a study: give the file of an earlier search, or a new name")
    from sqlalchemy.exc import SQLAlchemyError

    wanted = json.loads(json.dumps(marks))
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 30}}
        )
        file = optuna.create_study(storage=storage, study_name=NAME, direction=direction, load_if_exists=True)
        if MARK not in file.user_attrs and not file.trials and file.direction.name.lower() == direction:
            # the study is new, or a process was killed before it wrote this
            file.set_user_attr(MARK, wanted)
    except (SQLAlchemyError, RuntimeError) as error:
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise ParameterError(f"{path} cannot be used as a study: {said}") from None
    found = file.user_attrs.get(MARK, {})
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ParameterError(
                f"{path} is the study of another search: its {key} is {found.get(key)!r}, here {value!r}; go on with the "
                "same data, recipe, space and seed, or give a new file"
            )
    return file


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's log and the warnings of its libraries."""
    import warnings

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
