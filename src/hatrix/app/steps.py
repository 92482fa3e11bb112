"""What several commands do: load ratings, train, write files all or none, print tables."""

from __future__ import annotations

import difflib
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

import hatrix
from hatrix import _files, models
from hatrix.app.flags import Columns, Output, Training
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.data.ratings import Ratings
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = [
    "Items",
    "Name",
    "Source",
    "aligned",
    "check_memory",
    "facts_of",
    "leave_unfinished",
    "load",
    "parts_of",
    "recipe_named",
    "train",
    "write_parquet",
]

Source = Annotated[
    str,
    Parameter(
        help="a data set (see hatrix data list), or a file of ratings, or several of one layout: a quoted pattern such as "
        "'part-*.csv', or a folder of Parquet files"
    ),
]
Items = Annotated[
    Path | None,
    Parameter(help="table of the items, a Parquet file or a text file with a header: a column of ids that is called item, "
    "movieId, id or the like, and title, year, genres or others; they are then shown with recommendations"),
]  # fmt: skip
Name = Annotated[
    str,
    Parameter(
        help=f"one of {', '.join(models.COMBINATIONS | models.ALGORITHMS)}; write --help after it for its own flags"
    ),
]


def recipe_named(name: str) -> type[Algorithm]:
    names = models.ALGORITHMS | models.COMBINATIONS
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ParameterError(f"there is no algorithm {name!r}{hint}: choose from {', '.join(names)}")
    return models.recipe_type(name)


def check_memory(memory: str | None, recipe: Algorithm) -> None:
    """Refuse a limit that is none, or that the algorithm cannot keep, before any time is spent."""
    if memory is None:
        return
    from hatrix.data.disk import size_in_bytes

    size_in_bytes(memory)
    if not recipe.out_of_core:
        able = [name for name in models.ALGORITHMS if models.algorithm(name).out_of_core]
        raise ParameterError(
            f"--memory: {recipe.name} needs all ratings in memory: leave the flag out, or train one of {', '.join(able)}"
        )


def load(
    source: str,
    columns: Columns,
    output: Output,
    recipe: Algorithm,
    memory: str | None = None,
    folder: Path | None = None,
    items: Path | None = None,
) -> Ratings:
    """The ratings, and notes of what was found; with ``memory`` on disk, in the ``folder`` or a temporary one."""
    table = None
    if items is not None:
        from hatrix.data.attributes import read_table

        table = read_table(items)  # what cannot be read is refused before the ratings are read
    ratings = columns.load(source, progress=not output.quiet, memory=memory, folder=folder)
    if ratings.implicit and recipe.task == "rating":
        raise DataError(
            f"{source} has events and no ratings, and {recipe.name} predicts ratings: name the column of the ratings "
            "with --rating-column, or give data that have one"
        )
    if items is not None:
        from hatrix.data.origin import joined

        known = ratings.origin  # the code of a report reads the file, too
        ratings = replace(ratings.with_items(table), origin=joined(known, "item", items, {}))
    users, n_items = (int((count > 0).sum()) for count in (ratings.user_count, ratings.item_count))
    output.note(f"{ratings.name}: {len(ratings):,} ratings, {users:,} users, {n_items:,} items")
    report = ratings.report
    if report and report.columns:
        output.note(f"columns: {', '.join(f'{name} is {role}' for role, name in report.columns)}")
    if report and report.rejected:
        file, line, reason = report.errors[0]
        warnings.warn(
            f"{report.rejected:,} of {report.records:,} lines left out, the first {file} line {line}: {reason}",
            stacklevel=1,
        )
    if report and report.duplicates:
        output.note(_repeats(report.duplicates, adds=ratings.implicit))
    return ratings


def _repeats(count: int, *, adds: bool) -> str:
    """Say what became of repeated pairs of user and item: counts are added up, and ratings are replaced."""
    rows = f"{count:,} repeated {'row' if adds else 'rating'}{'' if count == 1 else 's'}"
    if adds:
        return f"{rows} of the same user and item {'was' if count == 1 else 'were'} added to the first"
    return f"{rows} gave way to the latest of {'its' if count == 1 else 'their'} user and item"


def train(recipe: Algorithm, train: Ratings, training: Training, output: Output) -> tuple[FactorModel, float]:
    """The model and the seconds it took."""
    from hatrix.evaluation.cautions import is_caution

    started = time.perf_counter()
    model = training.fit(recipe, train, progress=not output.quiet)
    seconds = time.perf_counter() - started
    for note in () if model.unfinished else model.notes:
        if is_caution(note):
            warnings.warn(note, stacklevel=1)
        else:
            output.note(note)
    fitted = parts_of(model)
    for name, part in fitted.items():
        if words := _resolved(_part_of(recipe, name), part, seconds):
            output.note(words)
    epochs = ", ".join(f"{one.recipe.name} {len(one.history)} epochs" for one in fitted.values())
    output.note(f"trained in {seconds:.1f} s: {epochs}")
    return model, seconds


def parts_of(model: FactorModel) -> dict[str, FactorModel]:
    """Return the models with factors of their own that a model is made of, by names such as ``lists`` and ``ratings.0``."""
    blended = bool(model.list_model.members)
    found = {} if blended else {"lists": model.list_model}
    for name, member in model.members.items():
        inside = parts_of(member) if member.members else {"": member}
        found |= {f"{name}.{inner}" if inner else name: one for inner, one in inside.items()}
    return found


def _part_of(recipe: Algorithm, name: str) -> Algorithm:
    for each in name.split("."):
        recipe = recipe.part(each)
    return recipe


def _resolved(recipe: Algorithm, model: FactorModel, seconds: float) -> str:
    """Say which numbers "auto" stands for in a fit, and what it took to find them; nothing if there are none."""
    same = type(recipe) is type(model.recipe)
    left = [name for name, value in recipe.model_dump().items() if same and value == "auto"]
    numbers = {name: getattr(model.recipe, name) for name in left}
    said = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in numbers.items()
    )
    share = model.resolving / max(seconds, model.resolving, 1e-9)
    return (
        f"{recipe.name}, auto: {said}; found in {model.resolving:.2f} s, {share:.0%} of the fit"
        if left
        else ""
    )


def leave_unfinished(model: FactorModel, out: Path, *, seen: bool, hint: str = "") -> NoReturn:
    """Save a model whose training was stopped beside the target ``out``, and end the command as Ctrl-C does.

    The file at ``out`` stays: an unfinished model never replaces a good one. The new file gets its permissions, since it
    may hold the same ratings.
    """
    from hatrix.models.model import UNFINISHED

    place = out.with_name(f"{out.stem}.{UNFINISHED}{out.suffix}")
    with _files.scratch(out.parent) as folder:  # nobody else can read the file before it has its permissions
        model.save(folder / place.name, seen=seen)
        _files.move(folder / place.name, place, like=out)
    note = next(note for note in model.notes if note.startswith(UNFINISHED))
    raise KeyboardInterrupt(f"{note}; the model so far is in {place}, and {out} was not written{hint}")


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as a Parquet file."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("frame", frame)
        quoted = str(path).replace("'", "''")
        connection.execute(f"COPY (SELECT * FROM frame) TO '{quoted}' (FORMAT parquet)")


def facts_of(model: FactorModel) -> dict[str, Any]:
    """What a model is, for JSON."""
    return {
        "hatrix": hatrix.__version__,
        "algorithm": model.recipe.name,
        "hyperparameters": model.recipe.model_dump(mode="json"),
        "seed": model.seed,
        "data": model.data_name,
        "users": len(model.users),
        "items": len(model.items),
        "epochs": len(model.history),
        "notes": list(model.notes),
    }


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
