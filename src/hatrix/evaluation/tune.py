"""Searching good hyper-parameters on a part held out of the training ratings."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import is_number, shown, whole, yes_or_no
from hatrix.data.origin import remembered
from hatrix.data.ratings import Ratings
from hatrix.data.split import Split
from hatrix.errors import DataError, DivergenceError, ParameterError
from hatrix.evaluation import cautions, ranges
from hatrix.evaluation.paired import Difference, Sums, compared
from hatrix.evaluation.ranges import Range
from hatrix.evaluation.study import Study, claimed_study
from hatrix.models import SEED
from hatrix.models.fit import Algorithm, Trained, thread_count
from hatrix.models.validation import hold_out, some_users

if TYPE_CHECKING:
    import os

    import altair as alt
    import pandas as pd

    from hatrix.data.origin import Origin
    from hatrix.models.fit import Task
    from hatrix.models.model import FactorModel

__all__ = ["Tuning", "tune"]

FINISHES = 8
"""How often each training is finished anew, where recipes can be."""
PATIENCE, PATIENT = 5, 5
"""Epochs without a better validation that end a trial: at least so many, and the recipe's epochs over the second."""
MOST_RANKED = 8192
"""Users of the held-out part whose lists are validated. To rank all items for more costs more than training."""


@dataclass(frozen=True, eq=False, repr=False)
class Tuning:
    """What a search found; `tune` makes it.

    Attributes
    ----------
    best
        The recipe with the values found, and as many epochs as were best. Without ``patience``, which needs ratings to
        validate on.
    model
        ``best`` fitted to all of the training ratings; None with ``refit=False``.
    value
        The validation figure of the best trial. It was chosen as the best of many, so expect a little less of new data.
    metric
        ``"valid_rmse"``, or ``"valid_ndcg"`` (at 20) of lists.
    trials
        A row for each trial: ``number``, ``state`` (complete; pruned, as it was worse than half of the others at the
        same epoch; or failed, as training diverged or the values do not go together), ``value``, ``epochs`` (the best),
        ``seconds``, ``shared`` (whether it needed no training of its own), ``finishes`` (how many models its training was
        finished to; the best counts), and the values tried.
    space
        Where each hyper-parameter was searched. The name of one of a part begins with the part's place: ``0.factors``,
        ``ratings.factors``, ``lists.0.factors``.
    start
        The recipe that was given. If it leaves the choice of the part that was searched to the data, it has that part.
    warnings
        What deserves attention, each beginning with a code (`hatrix.evaluation.cautions.CODES`).
    seed, data, n_train, n_valid
        Of the search, what the data are called, and the ratings of its two parts.
    notes
        What else deserves to be known.
    interrupted
        Whether Ctrl-C ended the search before all trials were made.
    gain
        By how much ``best`` is better than ``start`` on the validation ratings, with a 95 % interval and the chance p of a
        difference as large where there is none (`hatrix.evaluation.paired`); positive is better. The interval knows
        nothing of the choice among the trials. None if the search was stopped, or the recipe as given failed or
        had no time to end.
    origin
        The calls that made the training ratings, for reports; None if they are not known.
    options
        The arguments that the function was called with, as code, for reports.
    """

    best: Algorithm
    model: FactorModel | None
    value: float
    metric: str
    trials: pd.DataFrame
    space: dict[str, Range]
    start: Algorithm
    warnings: tuple[str, ...]
    seed: int
    data: str
    n_train: int
    n_valid: int
    notes: tuple[str, ...] = field(default=())
    interrupted: bool = False
    gain: Difference | None = None
    origin: Origin | None = field(default=None, repr=False)
    options: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def task(self) -> Task:
        """What the search was for: to predict ratings, or to rank items."""
        return "ranking" if self.metric == "valid_ndcg" else "rating"

    @property
    def values(self) -> dict[str, Any]:
        """The values found, by hyper-parameter."""
        found: dict[str, Any] = {name: self.best.value_of(name) for name in self.space}
        epochs = [
            name for name in self.best.hyper_parameters(self.task) if name.rpartition(".")[2] == "epochs"
        ]
        return found | {
            name: value for name in epochs if (value := self.best.value_of(name)) != self.start.value_of(name)
        }

    def chart(self, name: str | None = None) -> alt.LayerChart:
        """The course of the search; or, for a hyper-parameter, the figure against its values."""
        from hatrix.evaluation import search_charts

        if name is None:
            return search_charts.search(self.trials, metric=self.metric)
        if name not in self.space:
            raise ParameterError(f"{name!r} was not searched: choose from {', '.join(self.space)}")
        return search_charts.slices(self.trials, name, metric=self.metric, log=self.space[name].log)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the trials, ready for JSON."""
        states = self.trials["state"].value_counts()
        return {
            "algorithm": self.best.name,
            "hyperparameters": self.best.model_dump(mode="json"),
            "found": self.values,
            "metric": self.metric,
            "value": self.value,
            "start": float(self.trials["value"].iloc[0]),
            "gain": None if self.gain is None else self.gain._asdict(),
            "space": {name: one.plain() for name, one in self.space.items()},
            "trials": {str(state): int(count) for state, count in states.items()},
            "seed": self.seed,
            "data": self.data,
            "n_train": self.n_train,
            "n_valid": self.n_valid,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def report(
        self, path: str | os.PathLike[str], *, title: str | None = None, command: str | None = None
    ) -> None:
        """Write one self-contained HTML file with what was found and how."""
        from hatrix.evaluation import report, search_story

        report.save(report.page(search_story.of_search(self, command=command), title=title), path)

    def __repr__(self) -> str:
        found = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        gain = "" if self.gain is None else f", better by {self.gain.value:.4f} than the recipe given"
        return f"Tuning({self.best.name}: {self.metric} {self.value:.4f} of {len(self.trials)} trials{gain}, {found})"


@remembered(skip=2)
def tune(
    recipe: Algorithm,
    train: Ratings,
    *,
    metric: str | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    seed: int = SEED,
    study: str | os.PathLike[str] | None = None,
    space: Mapping[str, Any] | None = None,
    valid: Ratings | float = 0.1,
    prune: bool = True,
    refit: bool = True,
    threads: int | None = None,
    progress: bool = True,
) -> Tuning:
    """Search hyper-parameters of a recipe on a part held out of the training ratings.

    The first trial is the recipe as it is, for all of its epochs; what is found is never worse on the validation ratings.
    Trials are validated after every epoch; later ones of recipes with ``patience`` stop after as many epochs without a
    better validation (by default a fifth of the recipe's epochs, and at least 5), and the best epoch counts. What the
    recipe leaves to the data ("auto") is resolved once, for all trials, and again when the best is fitted to all of
    ``train``.

    A `Blend` is searched as a whole: each trial is a fit, which learns the weights and trains all parts for all of their
    epochs, so none is pruned. Of a `Recommender`, the part is searched that ``metric`` is about, and the other part stays as
    it is.

    Parameters
    ----------
    recipe
        Where to start. Hyper-parameters that are given keep their values; those left at their defaults are
        searched, if their fields declare a range. ``epochs`` is the most that a trial may take.
    train
        The ratings to learn from. Test ratings have no place here.
    metric
        What to search by: ``"rmse"`` of predicted ratings, or ``"ndcg"`` of lists of 20 items; by default what suits the
        recipe, which of a `Recommender` is ``"ndcg"``. A recipe that predicts ratings can be searched by ``"ndcg"``, too;
        its trials then have all of their epochs.
    trials, minutes
        When to stop: after so many trials in all, those of an earlier search in ``study`` counted, or so many
        minutes of this one; by default after 50 trials. The last trial is not finished once the time is up.
    seed
        Of the search, of the part held out and of each fit: the same trials in the same order.
    study
        A SQLite file to keep the trials in, and to go on from if it exists: interrupted and continued, a search makes
        the same trials as in one go.
    space
        Where to search instead: ``{"factors": (16, 256, "log"), "nu": (0, 1), "solver": ["exact", "cg"]}``, ranges in
        tuples or values to choose from in lists, of any hyper-parameters. All others keep their values. The name of one of a
        part begins with the part's place: ``"0.factors"`` of a `Blend`, ``"ratings.factors"``, ``"lists.factors"`` or
        ``"lists.0.factors"`` of a `Recommender`.
    valid
        The share of ``train`` to hold out at random, or ratings that are not in ``train``. Of a share, lists are validated
        on at most 8,192 users.
    prune
        End trials early that at some epoch are worse than half of the others were. It does nothing where a trial is not
        validated after each epoch, as those of a `Blend`.
    refit
        Fit the best recipe to all of ``train`` in the end.
    threads, progress
        As in `Algorithm.fit`.

    Returns
    -------
    Tuning
        Ctrl-C ends the search, and what was found until then is fitted and returned.

    Raises
    ------
    DataError
        If the recipe or the data are something else, or do not fit each other.
    DivergenceError
        If no trial was successful.
    MissingExtraError
        If optuna is not installed.
    ParameterError
        If an argument is out of range, nothing is left to search, the study is of another search, or another process
        works with it now.

    Notes
    -----
    Optuna's sampler: Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011. Pruning by the
    median: Golovin et al., "Google Vizier", KDD 2017. Where a recipe can finish a training in several ways
    (`Algorithm.late`), each trial is a training of its own, finished eight times; its best model counts.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> found = hx.tune(hx.BiasedMF(factors=4, epochs=5), ratings, trials=3)
    >>> bool(found.value <= found.trials["value"][0])
    True
    """
    prune, refit = yes_or_no("prune", prune), yes_or_no("refit", refit)
    with nullcontext() if study is None else claimed_study(study):
        search = _Search(recipe, train, metric, trials, minutes, seed, study, space, valid, prune, threads)
        with _shown(progress, search) as show:
            search.run(show)
    return search.result(refit, progress)


class _Search:
    """One search: trials one after the other, until there are enough or the time is up."""

    def __init__(
        self,
        recipe: Algorithm,
        train: Ratings,
        metric: str | None,
        trials: int | None,
        minutes: float | None,
        seed: int,
        study: str | os.PathLike[str] | None,
        space: Mapping[str, Any] | None,
        valid: Ratings | float,
        prune: bool,
        threads: int | None,
    ) -> None:
        _refuse_what_cannot_be_searched(recipe, train, trials, minutes)
        self.task = task = _task_of(recipe, train, metric)
        self.recipe = recipe = recipe.with_part_for(task, train)
        # The part that does the task is all that is trained; it may be the whole recipe.
        self.place = recipe.place_of(task)
        self.prefix = f"{self.place}." if self.place else ""
        part = recipe.part(self.place)
        self.train, self.seed, self.prune = train, seed, prune
        self.threads = thread_count(threads)
        self.trials = 50 if trials is None and minutes is None else trials
        self.deadline = math.inf if minutes is None else time.perf_counter() + 60 * minutes
        self.space = ranges.declared(recipe, task) if space is None else ranges.given(recipe, space, task)
        if not self.space:
            known = recipe.hyper_parameters(task)
            example = next((name for name in known if name.rpartition(".")[2] == "epochs"), "epochs")
            raise ParameterError(
                "nothing is left to search: hyper-parameters that are given keep their values. Give "
                f"{type(recipe).__name__} fewer of them, or a space, such as space={{{example!r}: (5, 50)}}"
            )
        self.in_part, held = hold_out(part, train, valid, seed)
        if held is None:
            raise ParameterError("valid is None: give Ratings, or a share of train, such as 0.1")
        some = task == "ranking" and not isinstance(valid, Ratings)
        self.valid = some_users(held, MOST_RANKED, seed) if some else held
        self.metric = f"valid_{ranges.METRICS[task]}"
        self.sign = -1.0 if task == "ranking" else 1.0
        fields = type(part).model_fields
        self.late = {name for name in self.space if name.removeprefix(self.prefix) in part.late}
        # The loop of a training validates by what the recipe is for.
        self.watches = part.in_epochs and part.task == task and not self.late
        self.stops = self.watches and "patience" in fields and "epochs" in fields
        self.patience = getattr(part, "patience", None) or max(PATIENCE, part.rounds // PATIENT)
        self.base = _without_patience(recipe)
        # What the recipe leaves to the data is found once for all trials, but not where a fit is made of several, each of
        # which has data of its own. What is returned leaves to the data what the recipe does.
        left = self.base.part(self.place)
        self.started: Algorithm = left.resolved(self.in_part)
        self.tried = self.started if part.in_epochs else left
        self.study = Study(
            study,
            self._marks(),
            direction="maximize" if self.sign < 0 else "minimize",
            seed=seed,
            warm_up=max(1, part.rounds // 5),
        )
        self.trained: Trained | None = None
        self.interrupted = self.cut = False

    def _marks(self) -> dict[str, Any]:
        """What makes two searches the same."""
        return {
            "algorithm": self.recipe.name,
            "hyperparameters": self.recipe.model_dump(mode="json"),
            "metric": self.metric,
            "space": {name: str(one) for name, one in self.space.items()},
            "seed": self.seed,
            "data": self.in_part.fingerprint,
            "validation data": self.valid.fingerprint,
            "pruning": self.prune,
        }

    def run(self, show: Callable[[], None]) -> None:
        """Make trials; Ctrl-C ends it.

        Raises
        ------
        KeyboardInterrupt
            If there is no result yet.
        """
        try:
            while not (self.interrupted or self._is_done()):
                self._trial()
                show()
        except KeyboardInterrupt:
            self.interrupted = True
        if self.interrupted and not any(trial.value is not None for trial in self.study.trials):
            raise KeyboardInterrupt

    def _with(self, values: Mapping[str, Any]) -> Algorithm:
        """Return the recipe to train with values by their names in the space."""
        return self.tried.with_values(
            {name.removeprefix(self.prefix): value for name, value in values.items()}
        )

    def _values_in(self, recipe: Algorithm) -> dict[str, Any]:
        """Return the values of what is searched, by the names in the space, in a recipe to train."""
        return {name: recipe.value_of(name.removeprefix(self.prefix)) for name in self.space}

    def _is_done(self) -> bool:
        done = len(self.study.trials)
        return bool(done and self._is_late()) or (self.trials is not None and done >= self.trials)

    def _is_late(self) -> bool:
        return time.perf_counter() > self.deadline

    def _trial(self) -> None:
        first = not self.study.trials
        own = self._values_in(self.started)
        fixed = {name: one.nearest(own[name]) for name, one in self.space.items()} if first else {}
        trial = self.study.ask(
            {name: self.space[name].in_study(value) for name, value in fixed.items() if value is not None}
        )
        suggested = {name: one.suggest(trial, name) for name, one in self.space.items()}
        values = own if first else suggested
        started = time.perf_counter()
        try:
            value, values = self._measure(trial, values, first)
        except (DivergenceError, ParameterError) as error:
            trial.set_user_attr("failed", str(error))
            value = None
        none_yet = not any(one.value is not None for one in self.study.trials)
        if self.interrupted or (self.cut and not none_yet):  # half a trial tells nothing
            return
        other = {name: value for name, value in values.items() if value != suggested[name]}
        trial.set_user_attr("values", other)
        trial.set_user_attr("seconds", time.perf_counter() - started)
        trial.set_user_attr("cut", self.cut)
        self.study.tell(trial, value, keep=not self.cut)

    def _measure(
        self, trial: Any, values: dict[str, Any], first: bool
    ) -> tuple[float | None, dict[str, Any]]:
        """The validation figure of a trial, None if it was pruned; and the values that gave it."""
        if self.late:
            return self._finished(trial, values, first)
        recipe = self.tried if first else self._with(values)
        if not self.watches:
            return self._fitted(trial, recipe), values
        best, best_epoch, last, pruned = math.inf, 0, math.nan, False
        given = getattr(self.recipe.part(self.place), "patience", None)
        patience = given if first else self.patience

        def watch(row: Mapping[str, float]) -> bool:
            nonlocal best, best_epoch, last, pruned
            last, epoch = self.sign * row[self.metric], int(row["epoch"])
            if last < best:
                best, best_epoch = last, epoch
            trial.report(self.sign * best, epoch)
            pruned = self.prune and not first and epoch < recipe.rounds and trial.should_prune()
            stops = self.stops and patience is not None and epoch - best_epoch >= patience
            settled = pruned or stops or epoch == recipe.rounds
            self.cut = not settled and self._is_late()
            return settled or self.cut

        trained = recipe.train(
            self.in_part, self.valid, seed=self.seed, threads=self.threads, after_epoch=watch
        )
        self.interrupted = trained.interrupted
        trial.set_user_attr("epochs", best_epoch)
        return (None if pruned else self.sign * (best if self.stops or self.cut else last)), values

    def _fitted(self, trial: Any, recipe: Algorithm) -> float:
        """Return the validation figure of a recipe after a whole fit."""
        from hatrix.models.validation import validate

        model = recipe.fit(self.in_part, seed=self.seed, threads=self.threads, progress=False)
        self.interrupted = model.unfinished
        trial.set_user_attr("epochs", recipe.rounds)
        assert model.seen is not None
        return validate(model, model.seen, self.valid, threads=self.threads, task=self.task)[1]

    def _finished(self, trial: Any, values: dict[str, Any], first: bool) -> tuple[float, dict[str, Any]]:
        """The best figure of several ways to finish one training, and the values that gave it."""
        from hatrix.models.validation import validate

        recipe = self._with(values)
        shared = self.trained is not None and recipe.shares_training(self.trained.recipe)
        if not shared:
            self.trained = None  # before another takes its memory
            self.trained = recipe.train(self.in_part, seed=self.seed, threads=self.threads)
            self.interrupted = self.trained.interrupted
        assert self.trained is not None
        trial.set_user_attr("shared", shared)
        trial.set_user_attr("epochs", recipe.rounds)
        loss, best, done = math.inf, values, 0
        for changed in [values] if first else self._ways(trial.number, values):
            model = self.trained.finish(self._with(changed(best) if callable(changed) else changed))
            assert model.seen is not None
            done += 1
            found = self.sign * validate(model, model.seen, self.valid, threads=self.threads)[1]
            if found < loss:
                loss, best = found, self._values_in(model.recipe)
            if self._is_late():
                break
        trial.set_user_attr("finishes", done)
        return self.sign * loss, best

    def _ways(self, number: int, values: dict[str, Any]) -> Iterator[Any]:
        """Values to finish a training with: those suggested, those of the best trial, and others drawn at random.

        Every second draw is near the best values of this training so far.
        """
        rng = np.random.default_rng((self.seed, number))
        late = {name: one for name, one in self.space.items() if name in self.late}
        yield values
        known = [trial for trial in self.study.trials if trial.value is not None]
        if known:
            top = min(known, key=lambda trial: self.sign * float(trial.value or 0.0))
            yield values | {name: value for name, value in self._values(top).items() if name in late}
        for place in range(FINISHES - 1 - bool(known)):
            near = place % 2 == 1

            def changed(best: dict[str, Any], near: bool = near) -> dict[str, Any]:
                return best | {
                    name: one.draw(rng, best[name] if near else None) for name, one in late.items()
                }

            yield changed

    def result(self, refit: bool, progress: bool) -> Tuning:
        """What was found; the best recipe fitted to all ratings."""
        complete = [
            (self.sign * trial.value, trial)
            for trial in self.study.trials
            if trial.state.name == "COMPLETE" and trial.value is not None
        ]
        if not complete:
            said = [t.user_attrs["failed"] for t in self.study.trials if "failed" in t.user_attrs]
            why = next(iter(said), "none was made")
            raise DivergenceError(f"no trial of {self.recipe.name} was successful: {why}")
        loss, top = min(complete, key=lambda pair: pair[0])  # the first of equals
        epochs = int(top.user_attrs["epochs"])
        values = self._values(top)
        # If no trial was better, the recipe comes back as it was given, and its fit resolves every "auto" anew.
        changes = ({} if top.number == 0 else values) | (
            {f"{self.prefix}epochs": epochs} if self.stops else {}
        )
        best, self.trained = self.base.with_values(changes), None
        cut = any(
            trial.user_attrs.get("cut") for trial in self.study.trials
        )  # the recipe as given, before its last epoch
        gain = None
        if not (self.interrupted or cut):
            try:
                gain = self._gain(changes)
            except KeyboardInterrupt:
                self.interrupted = True
        if gain is not None and gain.value < 0:  # a schedule that depends on the number of epochs may do that
            best, gain, epochs = self.base, Difference(0.0, 0.0, 0.0, 1.0), self.started.rounds
            values = self._values_in(self.started)
            loss = next(self.sign * trial.value for trial in self.study.trials if trial.value is not None)
        model = None
        if refit:
            model = best.fit(self.train, seed=self.seed, threads=self.threads, progress=progress)
        notes = [f"the search was stopped after {len(self.study.trials)} trials"] if self.interrupted else []
        if top.user_attrs.get("cut"):
            notes.append("time was up before even one trial was finished: what was best until then was taken")
        return Tuning(
            best,
            model,
            self.sign * loss,
            self.metric,
            self._table(),
            self.space,
            self.recipe,
            tuple(self._warnings(values, epochs)),
            self.seed,
            self.train.name,
            len(self.in_part),
            len(self.valid),
            tuple(notes),
            self.interrupted,
            gain,
            self.train.origin,
        )

    def _gain(self, changes: Mapping[str, Any]) -> Difference | None:
        """By how much changes make the recipe better on the validation ratings; None if the recipe as given fails."""
        changed = self._with(changes)
        if changed == self.tried:
            return Difference(0.0, 0.0, 0.0, 1.0)
        try:
            sums = [self._sums(one) for one in (changed, self.tried)]
        except (DivergenceError, ParameterError):
            return None
        return compared(*(sums if self.sign < 0 else reversed(sums)))

    def _sums(self, recipe: Algorithm) -> Sums:
        """What each user adds to the validation figure of a recipe."""
        from hatrix.models.validation import ndcg_of_users

        model = recipe.fit(self.in_part, seed=self.seed, threads=self.threads, progress=False)
        if model.unfinished:
            raise KeyboardInterrupt
        assert model.seen is not None
        total, numbers = np.zeros(len(self.valid.users)), np.zeros(len(self.valid.users))
        if self.sign < 0:
            users, found = ndcg_of_users(model, model.seen, self.valid, threads=self.threads)
            return Sums(found, np.ones(len(users)))
        for part in self.valid.slices():
            piece = self.valid.take(part)
            error = model.predict_rows(*model.rows_of(piece), times=piece.time, clip=True) - piece.value
            total += np.bincount(piece.user, error**2, len(total))
            numbers += np.bincount(piece.user, minlength=len(total))
        return Sums(total, numbers, root=True)

    def _table(self) -> pd.DataFrame:
        import pandas as pd

        rows = []
        for trial in self.study.trials:
            said = trial.user_attrs
            state = (
                "failed" if "failed" in said else "complete" if trial.state.name == "COMPLETE" else "pruned"
            )
            value = trial.value
            if state == "pruned":  # optuna gives the last report, and these are the best so far
                reported = trial.intermediate_values
                value = reported[max(reported)] if reported else None
            row = {
                "number": trial.number,
                "state": state,
                "value": math.nan if value is None or state == "failed" else value,
                "epochs": int(said.get("epochs", 0)),
                "seconds": said.get("seconds", math.nan),
                "shared": bool(said.get("shared", False)),
                "finishes": int(said.get("finishes", 1)),
            }
            rows.append(row | {name: _in_short(value) for name, value in self._values(trial).items()})
        return pd.DataFrame(rows)

    def _values(self, trial: Any) -> dict[str, Any]:
        suggested = {name: one.of_study(trial.params[name]) for name, one in self.space.items()}
        kept = trial.user_attrs.get("values", {})  # a file of trials makes lists of tuples
        return suggested | {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
        }

    def _warnings(self, values: Mapping[str, Any], epochs: int) -> Iterator[str]:
        if shared := cautions.shared_pairs(self.in_part, self.valid):
            words = f"{shared:,} of {len(self.valid):,} validation ratings are of a user and an item that are trained on too"
            yield cautions.caution(
                "H001", f"{words}, so the search learns them by heart: leave them out of one of the parts"
            )
        for name, one in self.space.items():
            if one.holds(values[name]) and (end := one.edge(values[name])):
                side = f"below {one.low:g}" if end == "low" else f"above {one.high:g}"
                words = f"the best {name}, {values[name]:.4g}, lies at the edge of its range ({one})"
                yield cautions.caution("H005", f"{words}: look {side} too")
        if self.stops and epochs >= self._with(values).rounds:
            yield cautions.caution(
                "H005",
                f"the best trial was best after its last epoch, {epochs}: allow more with "
                f"{self.prefix}epochs={2 * epochs}",
            )


def _in_short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _refuse_what_cannot_be_searched(recipe: Any, train: Any, trials: Any, minutes: Any) -> None:
    if not isinstance(recipe, Algorithm):
        raise DataError(f"the recipe is a {type(recipe).__name__}: give one such as hatrix.BiasedMF()")
    if not isinstance(train, Ratings):
        hint = ": give its .train, as a search never looks at test data" if isinstance(train, Split) else ""
        raise DataError(f"train is a {type(train).__name__}, not Ratings{hint}")
    if trials is not None:
        whole("trials", trials)
    if minutes is not None and not (is_number(minutes) and 0 < float(minutes) < math.inf):
        raise ParameterError(f"minutes is {minutes!r}: give a number above 0, such as 5")


def _task_of(recipe: Algorithm, train: Ratings, metric: str | None) -> Task:
    """Return what to search for: what the metric measures, or what the recipe is for."""
    task: Task = recipe.task
    if metric is not None:
        if not isinstance(metric, str) or metric not in ranges.METRICS.values():
            raise ParameterError(
                f"there is no metric {shown(metric)} to search by: choose from {', '.join(ranges.METRICS.values())}"
            )
        task = next(one for one, name in ranges.METRICS.items() if name == metric)
    if task == "rating" and not recipe.predicts_ratings:
        raise ParameterError(
            f"metric='rmse' is of predicted ratings, and {recipe.name} as given has none: leave the metric out"
        )
    if train.implicit and "rating" in (task, recipe.part(recipe.place_of(task)).task):
        raise DataError(
            f"{recipe.name} predicts ratings, and the data are events without: choose an algorithm that ranks"
        )
    return task


def _without_patience(recipe: Algorithm) -> Algorithm:
    """Return the recipe with no patience in any part: the last fit has no ratings to validate on."""
    tasks: list[Task] = ["rating", "ranking"]
    patient = {
        name: None
        for task in tasks
        for name in recipe.hyper_parameters(task)
        if name.rpartition(".")[2] == "patience" and recipe.value_of(name) is not None
    }
    return recipe.with_values(patient)


@contextmanager
def _shown(wanted: bool, search: _Search) -> Iterator[Callable[[], None]]:
    """A progress bar over the trials with the best figure, on standard error where that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("tuning"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=search.trials, completed=len(search.study.trials), figures="")

        def show() -> None:
            values = [
                t.value for t in search.study.trials if t.state.name == "COMPLETE" and t.value is not None
            ]
            best = min(values, key=lambda value: search.sign * value, default=math.nan)
            bar.update(task, completed=len(search.study.trials), figures=f"best {search.metric} {best:.4f}")

        yield show
