"""The commands of ``hatrix``: functions whose parameters are the arguments and flags of the command line."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

import hatrix
from hatrix import models
from hatrix.app.flags import (
    Columns,
    Output,
    Parting,
    Training,
    algorithm_in,
    dumps,
    file_path,
    refuse_unwritable,
    with_recipe,
)
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel
else:
    Algorithm = Any  # recipes are imported when a command needs them

__all__ = ["command_line"]

MODEL, REPORT, METRICS, HISTORY = "model.hatrix", "report.html", "metrics.json", "history.csv"
DEFAULT = "biased-mf"

Source = Annotated[str, Parameter(help="a data set (see hatrix data list), or a file of ratings")]
Name = Annotated[
    str, Parameter(help=f"one of {', '.join(models.ALGORITHMS)}; write --help after it for its own flags")
]


def command_line(tokens: Sequence[str]) -> App:
    """The commands, those that train with the flags of the algorithm that the tokens name."""
    app = App(
        name="hatrix",
        help="Matrix factorization: from a file of ratings to a trained, evaluated and explained model.",
        version=hatrix.__version__,
        help_format="plaintext",
        default_parameter=Parameter(negative=(), show_default=_worth_showing),
        suppress_keyboard_interrupt=False,
    )
    for name, command, default in (("run", run, DEFAULT), ("fit", fit, None)):
        given = {"invoked": shlex.join(["hatrix", *tokens])} if name == "run" else {}
        app.command(with_recipe(command, None, **given), name=name)
        if tokens[:1] == [name]:
            wanted = algorithm_in(tokens[1:], app[name]) or default
            del app[name]
            app.command(with_recipe(command, _recipe(wanted) if wanted else None, **given), name=name)
    app.command(evaluate)
    data = App(name="data", help="List the data sets that have a name, or fetch one.")
    data.command(_list, name="list")
    data.command(_get, name="get")
    app.command(data)
    return app


def run(
    source: Source,
    algorithm: Name = DEFAULT,
    /,
    *,
    out: Annotated[
        Path, Parameter(converter=file_path, help=f"folder for {MODEL}, {REPORT}, {METRICS} and {HISTORY}")
    ],
    recipe: Algorithm,
    parting: Parting = Parting(),  # noqa: B008
    training: Training = Training(),  # noqa: B008
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
    invoked: str | None = None,
) -> None:
    """Train on a part of the ratings, measure the error on the rest, and write a report."""
    started = time.perf_counter()
    parting.check()
    training.check(recipe, source)
    with _staged(out, (MODEL, REPORT, METRICS, HISTORY), source) as stage:
        ratings = _load(source, columns, output, recipe)
        split = parting.part(ratings, training.seed)
        output.note(f"training {algorithm} on {len(split.train):,} of them ({split.protocol})")
        model, seconds = _fit(recipe, split.train, training, output)
        output.note(f"measuring the error on {len(split.test):,}")
        result = hatrix.evaluate(model, split.test, seed=training.seed)
        baselines = {}
        if recipe.name != "bias":
            bias = hatrix.Bias().fit(split.train, seed=training.seed, progress=False)
            baselines["bias"] = hatrix.evaluate(bias, split.test, seed=training.seed)
        model.save(stage / MODEL, seen=not training.no_seen)
        model.history.to_csv(stage / HISTORY, index=False)
        result.report(stage / REPORT, baselines=baselines, protocol=split.protocol, command=invoked)
        facts = {
            **_facts(model),
            "n_train": len(split.train),
            "n_test": len(split.test),
            "split": split.protocol,
            **result.to_dict(),
            "train_seconds": seconds,
            "seconds": time.perf_counter() - started,
            "baselines": {name: other.to_dict() for name, other in baselines.items()},
        }
        text = (
            f"{_summary(result, baselines)}\n"
            f"{len(split.train):,} training and {len(split.test):,} test ratings ({split.protocol}); "
            f"trained in {seconds:.1f} s, {facts['seconds']:.1f} s in all\n\n"
            f"report: {out / REPORT}"
        )
        (stage / METRICS).write_text(dumps(facts) + "\n", encoding="utf-8")
    output.result(facts, text)


def fit(
    source: Source,
    algorithm: Name,
    /,
    *,
    out: Annotated[Path, Parameter(converter=file_path, help="file for the model, such as model.hatrix")],
    recipe: Algorithm,
    training: Training = Training(),  # noqa: B008
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Train on all ratings and save the model."""
    training.check(recipe, source)
    with _staged(out.parent, [out.name], source) as stage:
        ratings = _load(source, columns, output, recipe)
        output.note(f"training {algorithm} on them")
        model, seconds = _fit(recipe, ratings, training, output)
        model.save(stage / out.name, seen=not training.no_seen)
    facts = {**_facts(model), "n_train": len(ratings), "train_seconds": seconds, "model": str(out)}
    output.result(facts, f"model: {out}")


def evaluate(
    model: Annotated[Path, Parameter(converter=file_path, help="a model file, as run and fit write it")],
    source: Source,
    /,
    *,
    unseen: Annotated[bool, Parameter(help="leave out the ratings that the model was trained on")] = False,
    report: Annotated[
        Path | None, Parameter(converter=file_path, help="file for a report, such as report.html")
    ] = None,
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Measure the error of a model on ratings."""
    if report is not None:
        refuse_unwritable(report.parent, [report.name], "--report", [model, source])
    fitted = hatrix.load(model)
    ratings = _load(source, columns, output, fitted.recipe)
    seen = _seen_rows(fitted, ratings)
    if unseen:
        ratings, seen = _without(ratings, seen), None
    overlap = 0 if seen is None else int(seen.sum())
    if overlap:
        warnings.warn(
            f"the model was trained on {overlap:,} of these {len(ratings):,} ratings, so the error on new ones is "
            "likely higher: leave them out with --unseen",
            stacklevel=1,
        )
    result = hatrix.evaluate(fitted, ratings, seed=fitted.seed)
    text = f"{_summary(result, {})}\n{len(ratings):,} test ratings"
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        result.report(report)
        text += f"\n\nreport: {report}"
    output.result({**_facts(fitted), "n_test": len(ratings), "overlap": overlap, **result.to_dict()}, text)


def _list(*, output: Output = Output()) -> None:  # noqa: B008
    """Show the data sets that have a name, and where they are on this machine."""
    from hatrix.data import datasets

    rows = datasets.table()
    shown = [["name", "ratings", "users", "items", "scale", "download", "here", "licence"]]
    for row in rows:
        scale = "clicks" if row.scale is None else f"{row.scale[0]:g} to {row.scale[1]:g}"
        size = "?" if row.size is None else f"{row.size / 1e6:,.1f} MB"
        counts = ["?" if n is None else f"{n:,}" for n in (row.rows, row.users, row.items)]
        shown.append([row.name, *counts, scale, size, "yes" if row.where else "no", row.licence])
    output.result([row._asdict() for row in rows], _aligned(shown, left=(0, 4, 6, 7)))


def _get(
    name: Annotated[str, Parameter(help="its name, as hatrix data list shows it")],
    /,
    *,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Fetch a data set, unless it is on this machine already, and print its folder."""
    from hatrix.data import datasets

    folder = datasets.get(name, progress=not output.quiet)
    output.result({"name": name, "folder": folder}, str(folder))


def _recipe(name: str) -> type[Algorithm]:
    if name not in models.ALGORITHMS:
        near = difflib.get_close_matches(name, models.ALGORITHMS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ParameterError(
            f"there is no algorithm {name!r}{hint}: choose from {', '.join(models.ALGORITHMS)}"
        )
    return models.algorithm(name)


def _load(source: str, columns: Columns, output: Output, recipe: Algorithm) -> Ratings:
    ratings = columns.load(source, progress=not output.quiet)
    if ratings.implicit and recipe.task == "rating":
        raise DataError(
            f"{source} has events and no ratings, and {recipe.name} predicts ratings: name the column of the ratings "
            "with --rating-column, or give data that have one"
        )
    users, items = (int((count > 0).sum()) for count in (ratings.user_count, ratings.item_count))
    output.note(f"{ratings.name}: {len(ratings):,} ratings, {users:,} users, {items:,} items")
    report = ratings.report
    if report and report.rejected:
        file, line, reason = report.errors[0]
        warnings.warn(
            f"{report.rejected:,} of {report.records:,} lines left out, the first {file} line {line}: {reason}",
            stacklevel=1,
        )
    if report and report.duplicates:
        output.note(f"{report.duplicates:,} repeated ratings gave way to the latest of their user and item")
    return ratings


def _fit(recipe: Algorithm, train: Ratings, training: Training, output: Output) -> tuple[FactorModel, float]:
    """The model and the seconds it took."""
    started = time.perf_counter()
    model = training.fit(recipe, train, progress=not output.quiet)
    seconds = time.perf_counter() - started
    for note in model.notes:
        warnings.warn(note, stacklevel=1)
    output.note(f"trained in {seconds:.1f} s, {len(model.history)} epochs")
    return model, seconds


@contextmanager
def _staged(folder: Path, names: Iterable[str], source: str) -> Iterator[Path]:
    """A hidden folder for files of these names, which move to ``folder`` when all went well, and only then."""
    home = refuse_unwritable(folder, names, "--out", [source])
    try:
        stage = Path(tempfile.mkdtemp(prefix=".hatrix-", dir=home))
    except OSError as error:
        raise ParameterError(f"--out: cannot write in {home}: {error.strerror}: give another place") from None
    try:
        yield stage
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(stage / name, folder / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _facts(model: FactorModel) -> dict[str, Any]:
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


def _seen_rows(model: FactorModel, ratings: Ratings) -> NDArray[np.bool_] | None:
    """Which of the ratings are of a user and an item that the model has seen together; None if it cannot tell."""
    import numpy as np

    if model.seen is None and model.fingerprint == ratings.fingerprint:
        return np.ones(len(ratings), bool)
    return model.was_seen(*model.rows_of(ratings))


def _without(ratings: Ratings, seen: NDArray[np.bool_] | None) -> Ratings:
    if seen is None:
        raise ParameterError(
            "--unseen: the model file was saved with --no-seen and cannot tell what was seen"
        )
    if seen.all():
        raise ParameterError("--unseen: the model was trained on all of these ratings, so none are left")
    return ratings.take(~seen)


def _summary(result: Evaluation, baselines: Mapping[str, Evaluation]) -> str:
    """The errors with their intervals, beside those of the baselines, and what stands out."""
    from hatrix.evaluation import findings
    from hatrix.evaluation.sections import SLICINGS

    rows = [["", "RMSE", "95 % interval", "MSE", "MAE"]]
    for name, one in {result.model.recipe.name: result, **baselines}.items():
        low, high = one.intervals["rmse"]
        ends = f"{low:.4f} to {high:.4f}" if low <= high else "unknown"
        rows.append([name, f"{one.rmse:.4f}", ends, f"{one.mse:.4f}", f"{one.mae:.4f}"])
    lines = [_aligned(rows, left=(0,)), ""]
    lines += findings.versus(result.rmse, {name: one.rmse for name, one in baselines.items()})
    for slicing in SLICINGS:
        if slicing.attribute in ("by_rating", "by_genre"):
            table = getattr(result.anatomy, slicing.attribute)
            lines.append("" if table is None else findings.extremes(table, slicing.title, slicing.what))
    lines += [f"Note: {warning}" for warning in result.warnings]
    return "\n".join(line for number, line in enumerate(lines) if line or number == 1)


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
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


def _worth_showing(default: Any) -> str | None:
    """The default in the help; none for a switch that is off."""
    if default is None or default is False:
        return None
    return default.name.replace("_", "-") if isinstance(default, Enum) else str(default)
