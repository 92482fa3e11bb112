"""Python code that reproduces a result, for the section of each report on how to do so.

The code is complete where the data came from a file, a data set or `hatrix.synthetic`. Data that were made in
memory in another way cannot be written down: a comment then says what a name in the code stands for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hatrix.data.origin import code_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hatrix.data.origin import Origin
    from hatrix.evaluation.comparison import Comparison
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.ranking import RankingEvaluation
    from hatrix.evaluation.tune import Tuning
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = ["of_comparison", "of_evaluation", "of_search", "recipe_in_code"]

MOST_DIGITS = 6
WIDE = 100


def of_evaluation(
    evaluation: Evaluation | RankingEvaluation, function: str, *, model: str | None = None
) -> str:
    """Return the code that trains a model, or loads it from the file ``model``, and evaluates it."""
    fitted, origin = evaluation.model, evaluation.test.origin
    same = all(
        (getattr(fitted, table) is None) == (getattr(evaluation.test, table) is None)
        for table in ("item_table", "user_table")
    )
    training = _training(fitted, origin) if not model and origin is not None and same else None
    options, unknown = _options(evaluation.options)
    unknown += origin.gaps if origin else []
    if training is not None:
        assert origin is not None
        lines = [*origin.lines(), f"model = {training[0]}"]
        unknown += training[1]
    else:
        lines = [f"model = hx.load({model!r})"] if model else []
        lines += origin.lines() if origin else []
        if not model:
            unknown.append(f"model: the fitted {fitted.recipe.name} model of {fitted.data_name!r}")
    if origin is None or not origin.is_known:
        unknown.append(f"ratings: the ratings that you made in memory, called {evaluation.test.name!r}")
    call = _call(function, ["model", "ratings" if origin is None else origin.expression], options)
    return _script(
        unknown, [*lines, f"result = {call}", "print(result.table())", 'result.report("report.html")']
    )


def of_comparison(result: Comparison) -> str:
    """Return the code that compares the same recipes on the same split."""
    train, test = result.split.train.origin, result.split.test.origin
    options, unknown = _options(result.options)
    if train is not None and test is not None and train.is_split and train.call == test.call:
        lines = train.lines()
        unknown += train.gaps
        if not train.is_known:
            unknown.append(
                f"ratings: the ratings that you made in memory, called {result.split.train.name!r}"
            )
    else:
        lines = []
        unknown.append(
            f"split: the split that you made, {result.split.protocol} of {result.split.train.name!r}"
        )
    recipes = {entry.name: recipe_in_code(entry.recipe) for entry in result.entries}
    if all(entry.name == entry.recipe.name for entry in result.entries):
        models = ["[", *(f"    {code}," for code in recipes.values()), "]"]
    else:
        models = ["{", *(f"    {name!r}: {code}," for name, code in recipes.items()), "}"]
    lines += ["models = " + models[0], *models[1:]]
    call = _call("hx.compare", ["models", "split"], options)
    return _script(
        unknown, [*lines, f"result = {call}", "print(result.table())", 'result.report("compare.html")']
    )


def of_search(result: Tuning) -> str:
    """Return the code that makes the same search, and the recipe that it found."""
    options, unknown = _options(result.options)
    for name in ("minutes", "study", "space", "trials"):
        options.pop(name, None)
    space = code_of({name: one.plain() for name, one in result.space.items()})
    options |= {"trials": str(len(result.trials)), "space": space or "space"}
    origin = result.origin
    lines = origin.lines() if origin else []
    unknown += origin.gaps if origin else []
    if origin is None or not origin.is_known:
        unknown.append(f"ratings: the training ratings that you made in memory, called {result.data!r}")
    train = "ratings" if origin is None else origin.expression
    call = _call("hx.tune", [recipe_in_code(result.start), train], options)
    found = ["", "# The recipe that was found", f"best = {recipe_in_code(result.best)}"]
    return _script(unknown, [*lines, f"result = {call}", 'result.report("report.html")', *found])


def recipe_in_code(recipe: Algorithm) -> str:
    """Return a recipe as code, with the hyper-parameters that differ from their defaults."""
    default = type(recipe)()
    changed = {
        name: value
        for name in type(recipe).model_fields
        if (value := getattr(recipe, name)) != getattr(default, name)
    }
    return f"hx.{type(recipe).__name__}({', '.join(f'{name}={code_of(value)}' for name, value in changed.items())})"


def _training(model: FactorModel, origin: Origin) -> tuple[str, list[str]] | None:
    """Return the call that trained the model on its part of a split, and the unknown names in it; None if none did."""
    if not origin.is_split or origin.rows is None:
        return None
    held, unknown, valid = origin.rows - int(model.user_count.sum()), [], ""
    if any(str(column).startswith("valid_") for column in model.history):
        if held == 0:
            unknown.append("valid: the ratings that you validated on")
            valid = "valid, "
        else:
            shares = (round(held / origin.rows, digits) for digits in range(1, MOST_DIGITS + 1))
            share = next((one for one in shares if math.ceil(one * origin.rows) == held), None)
            if share is None:
                return None
            valid = f"valid={share:g}, "
    elif held != 0:
        return None
    return f"{recipe_in_code(model.recipe)}.fit({origin.name}.train, {valid}seed={model.seed})", unknown


def _options(given: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Return the options as code, and comments on those that appear by name as they cannot be written as code."""
    unknown = [f"{name}: as you gave it" for name, code in given.items() if code is None]
    return {name: code or name for name, code in given.items()}, unknown


def _call(function: str, arguments: list[str], options: Mapping[str, str]) -> str:
    """Return a call in one line, or with one argument per line if it would be too wide."""
    said = [*arguments, *(f"{name}={code}" for name, code in options.items())]
    line = f"{function}({', '.join(said)})"
    return line if len(line) <= WIDE else "\n".join([f"{function}(", *(f"    {one}," for one in said), ")"])


def _script(unknown: list[str], lines: list[str]) -> str:
    return "\n".join(["import hatrix as hx", "", *(f"# {words}" for words in unknown), *lines])
