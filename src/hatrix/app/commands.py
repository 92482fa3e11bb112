"""The commands of ``hatrix``: functions whose parameters are the arguments and flags of the command line."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

import hatrix
from hatrix import _files
from hatrix.app import recommend, search, serve, update
from hatrix.app.flags import (
    Columns,
    Memory,
    Output,
    Parting,
    Ranking,
    Seed,
    Training,
    algorithm_in,
    dumps,
    file_path,
    whole,
    with_recipe,
)
from hatrix.app.sample import example_in_words, example_of
from hatrix.app.spark import commands as on_spark
from hatrix.app.staging import refuse_unwritable, staged
from hatrix.app.steps import (
    Items,
    Name,
    Source,
    aligned,
    check_memory,
    facts_of,
    leave_unfinished,
    load,
    parts_of,
    recipe_named,
    train,
    write_parquet,
)
from hatrix.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.measured import Measured
    from hatrix.evaluation.ranking import RankingEvaluation
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel
else:
    Algorithm = Any  # recipes are imported when a command needs them

__all__ = ["command_line"]

MODEL, REPORT, METRICS, HISTORY = "model.hatrix", "report.html", "metrics.json", "history.csv"
TEST = "test.parquet"
"""The held-out rows, which the page of ``hatrix serve`` measures the model on."""
DEFAULT = "recommender"


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
    invoked = {"invoked": shlex.join(["hatrix", *tokens])}
    for name, command, default in (("run", run, DEFAULT), ("fit", fit, DEFAULT), ("tune", search.tune, None)):
        given = {} if name == "fit" else invoked
        app.command(with_recipe(command, None, **given), name=name)
        if tokens[:1] == [name]:
            wanted = algorithm_in(tokens[1:], app[name]) or default
            del app[name]
            app.command(with_recipe(command, recipe_named(wanted) if wanted else None, **given), name=name)
    app.command(with_recipe(evaluate, None, **invoked), name="evaluate")
    app.command(with_recipe(search.compare, None, **invoked), name="compare")
    app.command(recommend.recommend)
    app.command(recommend.similar)
    app.command(recommend.explain)
    app.command(update.update)
    app.command(update.forget)
    app.command(serve.serve)
    data = App(name="data", help="List the data sets that have a name, fetch one, or make a larger one.")
    data.command(_list, name="list")
    data.command(_get, name="get")
    data.command(_expand, name="expand")
    app.command(data)
    app.command(_on_spark(tokens))
    return app


def _on_spark(tokens: Sequence[str]) -> App:
    spark = App(name="spark", help="Train on a Spark cluster, and rank the items for every user there.")
    spark.command(with_recipe(on_spark.fit, None), name="fit")
    if list(tokens[:2]) == ["spark", "fit"] and (wanted := algorithm_in(tokens[2:], spark["fit"])):
        del spark["fit"]
        spark.command(with_recipe(on_spark.fit, recipe_named(wanted)), name="fit")
    spark.command(on_spark.recommend)
    return spark


def run(
    source: Source,
    algorithm: Name = DEFAULT,
    /,
    *,
    out: Annotated[
        Path,
        Parameter(converter=file_path, help=f"folder for {MODEL}, {REPORT}, {METRICS}, {HISTORY} and {TEST}"),
    ],
    recipe: Algorithm,
    parting: Parting = Parting(),  # noqa: B008
    ranking: Ranking = Ranking(),  # noqa: B008
    training: Training = Training(),  # noqa: B008
    items: Items = None,
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
    invoked: str | None = None,
) -> None:
    """Train on a part of the ratings, measure errors (or rankings) on the rest, and write a report."""
    started = time.perf_counter()
    parting.check()
    training.check(recipe, source)
    if items is not None:
        refuse_unwritable(out, (MODEL, REPORT, METRICS, HISTORY, TEST), "--out", [items])
    with staged(out, (MODEL, REPORT, METRICS, HISTORY, TEST), source) as stage:
        ratings = load(source, columns, output, recipe, items=items)
        split = parting.part(ratings, training.seed)
        output.note(f"training {algorithm} on {len(split.train):,} of them ({split.protocol})")
        model, seconds = train(recipe, split.train, training, output)
        if model.unfinished:
            leave_unfinished(model, out / MODEL, seen=not training.no_seen, hint=training.hint)
        output.note(f"measuring on {len(split.test):,}")
        result = _measured(model, split.test, ranking, split.train, training.threads)
        model.save(stage / MODEL, seen=not training.no_seen)
        _history(model).to_csv(stage / HISTORY, index=False)
        write_parquet(split.test.to_frame(), stage / TEST)
        result.report(stage / REPORT, protocol=split.protocol, command=invoked)
        example = example_of(model)
        facts = {
            **facts_of(model),
            "n_train": len(split.train),
            "n_test": len(split.test),
            "split": split.protocol,
            "read": None if ratings.report is None else asdict(ratings.report),
            **result.to_dict(),
            "example": example,
            "train_seconds": seconds,
            "seconds": time.perf_counter() - started,
        }
        text = (
            f"{_summary(result)}\n\n{example_in_words(example)}\n\n"
            f"{len(split.train):,} training and {len(split.test):,} test ratings ({split.protocol}); "
            f"trained in {seconds:.1f} s, {facts['seconds']:.1f} s in all\n\n"
            f"report: {out / REPORT}"
        )
        (stage / METRICS).write_text(dumps(facts) + "\n", encoding="utf-8")
    output.result(facts, text)


def fit(
    source: Source,
    algorithm: Name = DEFAULT,
    /,
    *,
    out: Annotated[Path, Parameter(converter=file_path, help="file for the model, such as model.hatrix")],
    recipe: Algorithm,
    training: Training = Training(),  # noqa: B008
    items: Items = None,
    columns: Columns = Columns(),  # noqa: B008
    memory: Memory = None,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Train on all ratings and save the model."""
    training.check(recipe, source)
    if training.checkpoint is not None and os.path.realpath(training.checkpoint) == os.path.realpath(out):
        raise ParameterError(
            f"--checkpoint and --out both name {out}: give the state of training another file"
        )
    check_memory(memory, recipe)
    on_disk = None if memory is None else out.with_name(f".{out.name}.reading")
    if items is not None:
        refuse_unwritable(out.parent, [out.name], "--out", [items])
    with staged(out.parent, [out.name], source) as stage:
        ratings = load(source, columns, output, recipe, memory, on_disk, items)
        output.note(f"training {algorithm} on them")
        model, seconds = train(recipe, ratings, training, output)
        if model.unfinished:
            leave_unfinished(model, out, seen=not training.no_seen, hint=training.hint)
        model.save(stage / out.name, seen=not training.no_seen)
        if (
            on_disk is not None
        ):  # an interrupted run leaves it, so that the next run need not read the files again
            _files.discard(on_disk)
    facts = {**facts_of(model), "n_train": len(ratings), "train_seconds": seconds, "model": str(out)}
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
    ranking: Ranking = Ranking(),  # noqa: B008
    columns: Columns = Columns(),  # noqa: B008
    memory: Memory = None,
    output: Output = Output(),  # noqa: B008
    invoked: str | None = None,
) -> None:
    """Measure the errors of a model on ratings, or the rankings of one that ranks."""
    if report is not None:
        refuse_unwritable(report.parent, [report.name], "--report", [model, source])
    fitted = hatrix.load(model)
    ranks = fitted.rating_model is None or ranking.wanted
    if ranks and fitted.seen is None:
        raise ParameterError(
            f"{model} was saved with --no-seen, so what users know already cannot be left out of rankings: fit it without"
        )
    ratings = load(source, columns, output, fitted.recipe, memory)
    if unseen:
        ratings = _unseen(fitted, ratings)
    overlap = 0 if unseen else sum(int(mask.sum()) for _, mask in _seen(fitted, ratings) or ())
    if overlap:
        so = (
            "which it does not show again, so they count as missed"
            if ranks
            else "so the error on new ones is likely higher"
        )
        warnings.warn(
            f"the model was trained on {overlap:,} of these {len(ratings):,} ratings, {so}: leave them out with --unseen",
            stacklevel=1,
        )
    result = _measured(fitted, ratings, ranking, lists=fitted.seen is not None)
    text = f"{_summary(result)}\n{len(ratings):,} test ratings"
    if result.errors is not None and result.errors.is_sampled:
        text += f"; parts of them as of an even sample of {len(result.errors.test):,}"
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        result.report(report, command=invoked, model_file=str(model))
        text += f"\n\nreport: {report}"
    output.result({**facts_of(fitted), "n_test": len(ratings), "overlap": overlap, **result.to_dict()}, text)


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
    output.result([row._asdict() for row in rows], aligned(shown, left=(0, 4, 6, 7)))


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


def _expand(
    source: Source,
    /,
    *,
    out: Annotated[Path, Parameter(converter=file_path, help="file for the ratings, such as big.parquet")],
    users: Annotated[
        int, Parameter(converter=whole(1), help="copies of each user, and so of all ratings")
    ] = 10,
    items: Annotated[int, Parameter(converter=whole(1), help="copies of each item")] = 3,
    seed: Seed = 0,
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Blow ratings up to a file of any size with the shape of the original, to measure time and memory with."""
    from hatrix.data.expansion import expand, refuse_target

    refuse_unwritable(out.parent, [out.name], "--out", [source])
    out.parent.mkdir(parents=True, exist_ok=True)
    refuse_target(out)
    ratings = columns.load(source, progress=not output.quiet)
    started = time.perf_counter()
    made = expand(ratings, user_copies=users, item_copies=items, seed=seed, path=out)
    facts = {**asdict(made), "seed": seed, "seconds": time.perf_counter() - started}
    output.result(facts, f"{made.rows:,} ratings, {made.users:,} users, {made.items:,} items: {out}")


def _seen(model: FactorModel, ratings: Ratings) -> Iterable[tuple[slice, NDArray[np.bool_]]] | None:
    """Which of the ratings are of a user and an item that the model has seen together, by slices; None if it cannot tell."""
    import numpy as np

    if model.seen is not None:
        return model.seen_among(ratings)
    if model.fingerprint == ratings.fingerprint:
        return ((part, np.ones(part.stop - part.start, bool)) for part in ratings.slices())
    return None


def _unseen(model: FactorModel, ratings: Ratings) -> Ratings:
    seen = _seen(model, ratings)
    if seen is None:
        raise ParameterError(
            "--unseen: the model file was saved with --no-seen and cannot tell what was seen"
        )
    left = ratings.chosen(((part, ~mask) for part, mask in seen))
    if not len(left):
        raise ParameterError("--unseen: the model was trained on all of these ratings, so none are left")
    from hatrix.data.origin import Origin

    call = "{0}.chosen((part, ~mask) for part, mask in model.seen_among({0}))"
    return left if model.seen is None else left.made_by(Origin(call, of=ratings.origin))


def _measured(
    model: FactorModel,
    test: Ratings,
    ranking: Ranking,
    train: Ratings | None = None,
    threads: int | None = None,
    *,
    lists: bool = True,
) -> Measured:
    """Measure what the model and the flags allow; draws use the seed of `hatrix.evaluate`, as in Python."""
    from hatrix.evaluation.measured import LENGTHS, measure

    k = ranking.k or LENGTHS[0]
    return measure(
        model,
        test,
        train=train,
        errors=not ranking.ranking,
        lists=lists or ranking.wanted,
        k=[k, *(length for length in LENGTHS if length != k)],
        negatives=ranking.rank_among,
        relevant_from=ranking.relevant_from,
        threads=threads,
    )


def _history(model: FactorModel) -> pd.DataFrame:
    """Return a row per epoch; of a recipe with several parts, the column ``part`` says whose."""
    import pandas as pd

    if not model.members:
        return model.history
    return pd.concat(
        [one.history.assign(part=name) for name, one in parts_of(model).items()], ignore_index=True
    )


def _summary(result: Measured) -> str:
    """Return the figures with their intervals, beside those of the baselines, and what stands out."""
    lines: list[str] = []
    if result.errors is not None:
        lines += ["Predicted ratings", *_errors(result.errors, result.baselines(result.errors))]
    if result.lists is not None:
        k = result.lists.k[0]
        lines += ["", f"Lists of {k} items"] if lines else [f"Lists of {k} items"]
        lines += _ranked(result.lists, result.baselines(result.lists))
    lines += [f"Note: {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _ranked(result: RankingEvaluation, baselines: Mapping[str, RankingEvaluation]) -> list[str]:
    from hatrix.evaluation.ranking_sections import label, versus

    k = result.k[0]
    figures = ("recall", "precision", "hit_rate", "map", "mrr", "auc", "coverage")
    rows = [["", label("ndcg", k), "95 % interval", *(label(name, k) for name in figures)]]
    for name, one in {result.model.list_model.recipe.name: result, **baselines}.items():
        low, high = one.intervals[k]["ndcg"]
        ends = f"{low:.4f} to {high:.4f}" if low <= high else "unknown"
        rows.append([name, f"{one.ndcg:.4f}", ends, *(f"{getattr(one, figure):.4f}" for figure in figures)])
    return [
        aligned(rows, left=(0,)),
        "",
        f"{result.n:,} users, {result.protocol}",
        *versus(result, baselines),
    ]


def _errors(result: Evaluation, baselines: Mapping[str, Evaluation]) -> list[str]:
    from hatrix.evaluation import findings
    from hatrix.evaluation.sections import SLICINGS

    rows = [["", "RMSE", "95 % interval", "MSE", "MAE"]]
    for name, one in {result.model.recipe.name: result, **baselines}.items():
        low, high = one.intervals["rmse"]
        ends = f"{low:.4f} to {high:.4f}" if low <= high else "unknown"
        rows.append([name, f"{one.rmse:.4f}", ends, f"{one.mse:.4f}", f"{one.mae:.4f}"])
    lines = [aligned(rows, left=(0,)), ""]
    lines += findings.versus(result.rmse, {name: one.rmse for name, one in baselines.items()})
    for slicing in SLICINGS:
        if slicing.attribute in ("by_rating", "by_genre"):
            table = getattr(result.anatomy, slicing.attribute)
            lines.append("" if table is None else findings.extremes(table, slicing.title, slicing.what))
    return [line for number, line in enumerate(lines) if line or number == 1]


def _worth_showing(default: Any) -> str | None:
    """The default in the help; none for a switch that is off."""
    if default is None or default is False:
        return None
    return default.name.replace("_", "-") if isinstance(default, Enum) else str(default)
