"""Where to search a hyper-parameter: what its field declares, or what the caller gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hatrix._checks import is_number
from hatrix.errors import ParameterError
from hatrix.models.hyperparameters import bounds, kinds

if TYPE_CHECKING:
    from hatrix.models.fit import Algorithm, Task

__all__ = ["METRICS", "Range", "declared", "given"]

METRICS: dict[Task, str] = {"rating": "rmse", "ranking": "ndcg"}
"""What a search goes by for each task."""

EDGE = 0.05
"""Share of a range, at either end, that counts as its edge."""

HOW = "give (low, high), (low, high, 'log') or a [list] of values to choose from"


class Range(NamedTuple):
    """Where to search: from ``low`` to ``high``, evenly or on a logarithmic scale; or ``choices``.

    ``open_low`` and ``open_high`` tell whether the hyper-parameter itself may go beyond the ends.
    """

    low: float = math.nan
    high: float = math.nan
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()
    open_low: bool = True
    open_high: bool = True

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for an optuna trial."""
        if self.choices:
            return self.of_study(trial.suggest_categorical(name, [*map(self.in_study, self.choices)]))
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return self.short(trial.suggest_float(name, self.low, self.high, log=self.log))

    def in_study(self, value: Any) -> Any:
        """Return the value as a study can store it: a choice among tuples becomes a text."""
        return str(value) if self._are_texts else value

    def of_study(self, value: Any) -> Any:
        """Return the value that something in a study stands for."""
        if self._are_texts:
            return next(one for one in self.choices if str(one) == value)
        return self.short(value)

    @property
    def _are_texts(self) -> bool:
        return not all(isinstance(one, None | bool | int | float | str) for one in self.choices)

    def short(self, value: Any) -> Any:
        """The value in three digits, as people write it: no measurement can tell more of them apart."""
        if self.choices or self.whole:
            return value
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def draw(self, rng: np.random.Generator, near: Any = None) -> Any:
        """Draw a value at random; with ``near``, close to that one: within about a tenth of the range."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        low, high = self._place(self.low), self._place(self.high)
        at = rng.uniform(low, high)
        if near is not None and self.holds(near):
            at = min(max(self._place(float(near)) + 0.1 * (high - low) * rng.normal(), low), high)
        value = math.exp(at) if self.log else at
        return round(value) if self.whole else self.short(value)

    def nearest(self, value: Any) -> Any:
        """Return the value that can be suggested and is closest to one outside of the range; None if there is none."""
        if self.holds(value):
            return value
        if self.choices or not isinstance(value, Real):
            return None
        return (
            int(self.low if value < self.low else self.high)
            if self.whole
            else min(max(value, self.low), self.high)
        )

    def holds(self, value: Any) -> bool:
        """Whether a value can be suggested."""
        if self.choices:
            return value in self.choices
        return is_number(value) and self.low <= float(value) <= self.high

    def edge(self, value: Any) -> Literal["", "low", "high"]:
        """At which end of the range a value lies, if the hyper-parameter could go further there."""
        if self.choices:
            return ""
        low, high, at = (self._place(end) for end in (self.low, self.high, value))
        margin = 0.0 if self.whole and self.high - self.low < 1 / EDGE else EDGE * (high - low)
        if self.open_low and at <= low + margin:
            return "low"
        return "high" if self.open_high and at >= high - margin else ""

    def _place(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"

    def plain(self) -> tuple[Any, ...] | list[Any]:
        """The range as `given` takes it."""
        if self.choices:
            return list(self.choices)
        ends = tuple(int(end) if self.whole else end for end in (self.low, self.high))
        return (*ends, "log") if self.log else ends


def declared(recipe: Algorithm, task: Task | None = None) -> dict[str, Range]:
    """Return the ranges that fields declare, of the hyper-parameters that were not given and that a task depends on.

    The task is by default that of the recipe.
    """
    found = {}
    for name, owner in recipe.hyper_parameters(task or recipe.task).items():
        field = name.rpartition(".")[2]
        extra = type(owner).model_fields[field].json_schema_extra
        ends = extra.get("tune") if isinstance(extra, dict) else None
        if isinstance(ends, list) and field not in owner.model_fields_set:
            found[name] = _range(owner, name, tuple(ends))
    return found


def given(recipe: Algorithm, space: Mapping[str, Any], task: Task | None = None) -> dict[str, Range]:
    """Return the ranges of a caller's space, each checked against the bounds of its field: tuples, and lists of choices."""
    if not isinstance(space, Mapping):
        raise ParameterError(f"space is a {type(space).__name__}: give {{hyper-parameter: range}}; {HOW}")
    task = task or recipe.task
    known = recipe.hyper_parameters(task)
    for name in space:
        if name not in known:
            other: Task = "rating" if task == "ranking" else "ranking"
            if name in recipe.hyper_parameters(other):
                raise ParameterError(
                    f"{name} does not change the {METRICS[task].upper()} that is searched for: leave it out, or give "
                    f"metric={METRICS[other]!r}"
                )
            if name in type(recipe).model_fields:
                raise ParameterError(
                    f"{name} of a {type(recipe).__name__} is a recipe, or several, and not a value to search: name a "
                    f"hyper-parameter of a part, such as {next(iter(known))}"
                )
            raise ParameterError(
                f"{type(recipe).__name__} has no {name}: it has {', '.join(known) or 'none'}"
            )
    return {name: _range(known[name], name, ends) for name, ends in space.items()}


def _range(recipe: Algorithm, name: str, ends: Any) -> Range:
    field = name.rpartition(".")[2]
    if not isinstance(ends, list | tuple | set | frozenset) or not ends:
        raise ParameterError(f"the range of {name} is {ends!r}: {HOW}")
    parts = sorted(ends, key=str) if isinstance(ends, set | frozenset) else list(ends)
    log = parts[-1] == "log" and len(parts) == 3
    numbers = parts[:2] if log else parts
    between = (isinstance(ends, tuple) or log) and len(numbers) == 2
    if between and all(map(is_number, numbers)):
        found = _between(recipe, name, float(numbers[0]), float(numbers[1]), log)
        tried: list[Any] = [int(end) if found.whole else end for end in (found.low, found.high)]
    else:
        found, tried = Range(choices=tuple(parts)), parts
    for value in tried:
        try:
            recipe.replace(**{field: value})
        except ParameterError as error:
            raise ParameterError(f"the range of {name} goes beyond what it may be: {error}") from None
    return found


def _between(recipe: Algorithm, name: str, low: float, high: float, log: bool) -> Range:
    field = type(recipe).model_fields[name.rpartition(".")[2]]
    types = kinds(field)
    if not {int, float} & set(types):
        raise ParameterError(f"{name} is no number: give a list of the values to choose from")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(
            f"the range of {name} goes from {low:g} to {high:g}: give finite ends, the lower first"
        )
    if log and low <= 0:
        raise ParameterError(f"the range of {name} starts at {low:g}: a logarithmic one has to start above 0")
    whole = int in types and float not in types
    if whole and (low != int(low) or high != int(high)):
        raise ParameterError(f"the range of {name} goes from {low:g} to {high:g}: give whole numbers")
    ends = bounds(field)
    return Range(low, high, log, whole, (), low > ends.get("ge", -math.inf), high < ends.get("le", math.inf))
