"""Python code that reproduces a result, for the section of each report on how to do so.

The code is complete where the data came from a file, a data set or `hatrix.synthetic`. Data that were made in
memory in another way cannot be written down: a comment then says what a name in the code stands for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hatrix.data.origin import code_of
from hatrix.models.fit import Algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hatrix.data.origin import Origin
    from hatrix.data.ratings import Ratings
    from hatrix.evaluation.comparison import Comparison
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.measured import Measured
    from hatrix.evaluation.ranking import RankingEvaluation
    from hatrix.evaluation.tune import Tuning
    from hatrix.models.model import FactorModel

__all__ = ["of_comparison", "of_evaluation", "of_measured", "of_search", "recipe_in_code"]

MOST_DIGITS = 6
WIDE = 100


def of_evaluation(
    evaluation: Evaluation | RankingEvaluation, function: str, *, model: str | None = None
) -> str:
    """Return the code that trains a model, or loads it from the file ``model``, and evaluates it."""
    unknown, lines, test = _fitted(evaluation.model, evaluation.test, model)
    options, more = _options(evaluation.options)
    call = _call(function, ["model", test], options)
    return _script(
        [*more, *unknown],
        [*lines, f"result = {call}", "print(result.table())", 'result.report("report.html")'],
    )


def of_measured(measured: Measured, *, model: str | None = None) -> str:
    """Return the code that trains or loads a model, and evaluates its predicted ratings and its lists."""
    assert measured.errors is not None
    assert measured.lists is not None
    unknown, lines, test = _fitted(measured.model, measured.errors.test, model)
    lines += [f"result = hx.evaluate(model, {test})", "print(result.table())"]
    options, more = _options(measured.lists.options)
    lines += [
        f"lists = {_call('hx.evaluate_ranking', ['model', test], options)}",
        "print(lists.table())",
        'lists.report("report.html")',
    ]
    return _script([*more, *unknown], lines)


def _fitted(fitted: FactorModel, test: Ratings, model: str | None) -> tuple[list[str], list[str], str]:
    """Return comments on unknown names, the lines that make the model and the test ratings, and the name of these."""
    origin = test.origin
    unknown = origin.gaps if origin else []
    same = all(
        (getattr(fitted, table) is None) == (getattr(test, table) is None)
        for table in ("item_table", "user_table")
    )
    training = _training(fitted, origin) if not model and origin is not None and same else None
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
        unknown.append(f"ratings: the ratings that you made in memory, called {test.name!r}")
    return unknown, lines, "ratings" if origin is None else origin.expression


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
    changed = {
        name: value
        for name, field in type(recipe).model_fields.items()
        if (value := getattr(recipe, name)) != field.default
    }
    return f"hx.{type(recipe).__name__}({', '.join(f'{name}={_in_code(value)}' for name, value in changed.items())})"


def _in_code(value: Any) -> str | None:
    """Return the value of a hyper-parameter as code; recipes inside recipes, too."""
    if isinstance(value, Algorithm):
        return recipe_in_code(value)
    if isinstance(value, tuple) and any(isinstance(one, Algorithm) for one in value):
        return f"[{', '.join(map(recipe_in_code, value))}]"
    return code_of(value)


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
