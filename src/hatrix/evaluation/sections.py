"""What the report says, in order: an evaluation in; sentences, charts and tables out."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal, NamedTuple

from hatrix.evaluation import cautions, charts, findings, snippets, uncertainty_sections
from hatrix.evaluation.layout import (
    Cell,
    Part,
    Section,
    Story,
    Table,
    Tile,
    change,
    columns,
    figure,
    named,
    short,
    with_interval,
)
from hatrix.evaluation.records import records, signed

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.models.model import FactorModel

__all__ = ["facts_of", "hyper_parameters", "reproduce", "seconds_of", "story", "training"]

AT_FIRST, MOST_EPOCHS = 15, 100
FOLDED = "The numbers"
METRICS = ("rmse", "mse", "mae")
CAPTIONS: dict[Literal["error", "bias"], str] = {
    "error": "Error, with {} intervals; dashed: all test ratings",
    "bias": "Bias: predicted too high or too low on average",
}


class _Slicing(NamedTuple):
    """How one way to part the test ratings is told."""

    attribute: str
    by: str
    title: str
    what: str
    missing: str


SLICINGS = (
    _Slicing("by_rating", "rating", "By actual rating", "ratings of {}", "no rating scale"),
    _Slicing("by_activity", "user has", "By user activity", "users with {} training ratings", "no users"),
    _Slicing("by_popularity", "item has", "By item popularity", "items with {} training ratings", "no items"),
    _Slicing("by_genre", "genre", "By genre", "{}", "no genres"),
    _Slicing("by_decade", "decade", "By decade of release", "items of {}", "no release years"),
    _Slicing("by_period", "period", "By time of rating", "ratings of {}", "no times"),
)


def story(
    evaluation: Evaluation,
    baselines: Mapping[str, Evaluation],
    *,
    protocol: str | None = None,
    command: str | None = None,
    model_file: str | None = None,
) -> Story:
    """Everything the report says about an evaluation; `hatrix.evaluation.report.write` describes the rest."""
    model, anatomy = evaluation.model, evaluation.anatomy
    unit = findings.unit_of(model.scale)
    others = {"always predicting the training mean": evaluation.constant.rmse} | {
        name: e.rmse for name, e in baselines.items()
    }
    n_train = int(model.user_count.sum())
    sentences = [findings.headline(evaluation), *findings.versus(evaluation.rmse, others)]
    for slicing in SLICINGS:
        table = getattr(anatomy, slicing.attribute)
        if table is not None and slicing.attribute == "by_rating":
            sentences.append(findings.sliced(table, slicing.what, unit))
        elif table is not None:
            sentences.append(findings.extremes(table, slicing.title, slicing.what))
    return Story(
        title=f"{type(model.recipe).__name__} on {model.data_name}",
        lead=f"{type(model.recipe).__name__} was trained on {n_train:,} ratings by {len(model.users):,} users of "
        f"{len(model.items):,} items and tested on {evaluation.n:,} others"
        + (f" ({protocol})." if protocol else ".")
        + (
            f" Errors and their intervals are of all of these, all else is of an even sample of {len(evaluation.test):,}."
            if evaluation.is_sampled
            else ""
        ),
        tiles=_tiles(evaluation, unit),
        findings=[sentence for sentence in sentences if sentence],
        warnings=[*evaluation.warnings, *cautions.of_notes(model.notes)],
        sections=[
            _run(evaluation, baselines, protocol),
            training(model, unit),
            *([uncertainty_sections.section(evaluation, unit)] if evaluation.uncertainty else []),
            _where(evaluation, unit),
            _rounded(evaluation, unit),
            _range(evaluation, unit),
            _level(evaluation, unit),
            _worst(evaluation),
            reproduce(snippets.of_evaluation(evaluation, "hx.evaluate", model=model_file), command),
        ],
    )


def _tiles(evaluation: Evaluation, unit: str) -> list[Tile]:
    low, high = evaluation.intervals.get("rmse", (math.nan, math.nan))
    seconds, mean = seconds_of(evaluation.model.history), evaluation.constant.rmse
    note = f"{evaluation.coverage} interval {low:.3f} to {high:.3f}" if math.isfinite(low + high) else unit
    tiles = [
        Tile("RMSE on test ratings", f"{evaluation.rmse:.3f}", note),
        Tile("Mean absolute error", f"{evaluation.mae:.3f}", unit),
        Tile("Mean squared error", f"{evaluation.mse:.3f}", f"{unit}²"),
        Tile("Against the mean rating", change(evaluation.rmse, mean), f"RMSE {mean:.3f}"),
    ]
    if evaluation.uncertainty is not None:
        tiles.append(uncertainty_sections.tile(evaluation.uncertainty))
    if seconds is not None:
        tiles.append(Tile("Training", f"{seconds:.3g} s", f"{len(evaluation.model.history):,} epochs"))
    return tiles


def _run(evaluation: Evaluation, baselines: Mapping[str, Evaluation], protocol: str | None) -> Section:
    model = evaluation.model
    errors: list[list[Cell]] = [
        [
            type(model.recipe).__name__,
            *(with_interval(getattr(evaluation, name), evaluation.intervals.get(name)) for name in METRICS),
        ],
        ["the same, not clipped", *(f"{getattr(evaluation.raw, name):.4f}" for name in METRICS)],
    ]
    errors += [
        [name, *(with_interval(getattr(other, metric), other.intervals.get(metric)) for metric in METRICS)]
        for name, other in baselines.items()
    ]
    errors.append(
        [
            ("always the training mean", f"{model.fallback:.3f}"),
            *(f"{getattr(evaluation.constant, name):.4f}" for name in METRICS),
        ]
    )
    heads = [("model", False), *((name.upper(), True) for name in METRICS)]
    parts = [
        Part(facts=facts_of(model, evaluation.n, protocol)),
        Part(
            tables=[Table(f"Error on the test ratings, with {evaluation.coverage} intervals", heads, errors)]
        ),
    ]
    return Section("run", "The run", "What was done", (), [*parts, *hyper_parameters(model)])


def facts_of(model: FactorModel, n_test: int, protocol: str | None) -> list[tuple[str, str]]:
    """What was trained on what, and where."""
    seconds = seconds_of(model.history)
    return [
        ("Data", model.data_name),
        ("Training ratings", f"{int(model.user_count.sum()):,}"),
        ("Test ratings", f"{n_test:,}"),
        ("Users, items", f"{len(model.users):,}, {len(model.items):,}"),
        ("Rating scale", "none" if model.scale is None else f"{model.scale[0]:g} to {model.scale[1]:g}"),
        ("Split", protocol or "not recorded"),
        ("Algorithm", f"{type(model.recipe).__name__} ({model.recipe.name})"),
        ("Factors", f"{model.user_factors.shape[1]:,}"),
        ("Seed", str(model.seed)),
        ("Training time", "not recorded" if seconds is None else f"{seconds:.3g} s"),
        ("Data fingerprint", model.fingerprint[:16] or "not recorded"),
        ("Versions", ", ".join(f"{name} {version(name)}" for name in ("hatrix", "numpy", "numba", "pandas"))),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
    ]


def hyper_parameters(model: FactorModel) -> list[Part]:
    """Those of the recipe beside their defaults."""
    fields = type(model.recipe).model_fields
    rows: list[list[Cell]] = [
        [(name, fields[name].description or ""), str(value), str(fields[name].default)]
        for name, value in model.recipe.model_dump(mode="json").items()
    ]
    heads = [("hyper-parameter", False), ("value", True), ("default", True)]
    return [Part(tables=[Table("Hyper-parameters", heads, rows)])] if rows else []


def training(model: FactorModel, unit: str) -> Section:
    """Errors by epoch."""
    history = model.history
    if not len(history):
        return Section("training", "Training", "How it learned", ("The model has no training history.",), ())
    figures = []
    if len(history) > 1 and ("train_mse" in history or "valid_rmse" in history):
        figures.append(figure("loss", "Error by epoch", charts.loss(history, unit=unit)))
    shown = history.iloc[:: max(1, math.ceil(len(history) / MOST_EPOCHS))]
    formats = {
        "epoch": ",",
        "train_mse": ".5f",
        "valid_rmse": ".5f",
        "learning_rate": ".3g",
        "seconds": ".2f",
    }
    table = Table("Training history", *columns(shown, formats), folded=FOLDED)
    restored = getattr(model.recipe, "patience", None) is not None
    words = [findings.trained(history, restored=restored)]
    return Section("training", "Training", "How it learned", words, [Part(figures=figures, tables=[table])])


def _where(evaluation: Evaluation, unit: str) -> Section:
    parts, left_out = [], []
    for slicing in SLICINGS:
        table = getattr(evaluation.anatomy, slicing.attribute)
        if table is None or not len(table):
            left_out.append(f"{slicing.title}: left out, as the data have {slicing.missing}.")
            continue
        figures = [
            figure(
                f"{slicing.attribute}-{measure}",
                caption.format(evaluation.coverage),
                charts.slices(table, by=slicing.by, measure=measure, overall=evaluation.rmse, unit=unit),
            )
            for measure, caption in CAPTIONS.items()
        ]
        numbers = Table(
            slicing.title, *columns(table, {"slice": "", "count": ","}, rest=".4f"), folded=FOLDED
        )
        parts.append(Part(slicing.title, [findings.sliced(table, slicing.what, unit)], figures, [numbers]))
    if left_out:
        parts.append(Part("Left out", left_out))
    return Section("where", "Where it is wrong", "Where it is wrong", (), parts)


def _rounded(evaluation: Evaluation, unit: str) -> Section:
    anatomy = evaluation.anatomy
    counts, described = anatomy.rounded_counts, anatomy.rounded_describe
    if counts is None:
        return Section("rounded", "Rounded", "Rounded predictions", ("There is no rating scale.",), ())
    return Section(
        "rounded",
        "Rounded",
        "Errors of rounded predictions",
        [findings.rounded(counts, unit)],
        [
            Part(
                figures=[
                    figure(
                        "rounded-errors",
                        "Test ratings by absolute error of the rounded prediction",
                        charts.rounded_errors(counts, unit=unit),
                    )
                ],
                tables=[
                    Table("Count of each absolute error", *columns(counts, {"error": "g", "count": ","}))
                ],
            ),
            Part(tables=[_description(described)]),
        ],
    )


def _description(described: pd.DataFrame | pd.Series[float]) -> Table:
    """What pandas' ``describe`` says, in one row."""
    import pandas as pd

    table = described.to_frame().reset_index() if isinstance(described, pd.Series) else described
    pairs = [list(row.values())[:2] for row in records(table)]
    row: list[Cell] = [
        "–" if value is None else f"{value:,.0f}" if name == "count" else f"{value:.4g}"
        for name, value in pairs
    ]
    return Table("Description of the absolute errors", [(str(name), True) for name, _ in pairs], [row])


def _range(evaluation: Evaluation, unit: str) -> Section:
    """Predictions before clipping."""
    table, scale = evaluation.anatomy.prediction_range, evaluation.model.scale
    words = findings.ranged(
        float(evaluation.raw_predicted.min()),
        float(evaluation.raw_predicted.max()),
        scale,
        share=evaluation.clipped_share,
        raw=evaluation.raw.rmse,
        clipped=evaluation.rmse,
    )
    caption = "Predictions before clipping, rounded; orange lies outside the scale"
    chart = charts.prediction_range(table, scale=scale, unit=unit)
    numbers = Table(
        "Predictions before clipping", *columns(table, {"predicted": "g", "count": ","}), folded=FOLDED
    )
    return Section(
        "range",
        "Range",
        "Range before clipping",
        [words],
        [Part(figures=[figure("prediction-range", caption, chart)], tables=[numbers])],
    )


def _level(evaluation: Evaluation, unit: str) -> Section:
    """Calibration, residuals, and the ratings that are predicted against those that are given."""
    calibration, residuals = evaluation.anatomy.calibration, evaluation.anatomy.residuals
    confusion = evaluation.anatomy.confusion
    bias = float((evaluation.predicted - evaluation.test.value).mean())
    parts = [
        Part(
            "Calibration",
            [findings.calibrated(calibration, unit)],
            [
                figure(
                    "calibration",
                    f"Mean actual rating by prediction, with {evaluation.coverage} intervals; dashed: perfect calibration",
                    charts.calibration(calibration, unit=unit),
                )
            ],
            [Table("Calibration", *columns(calibration, {"count": ","}, rest=".3f"), folded=FOLDED)],
        ),
        Part(
            "Residuals",
            [findings.residual(residuals, bias, unit)],
            [
                figure(
                    "residuals", "Test ratings by predicted − actual", charts.residuals(residuals, unit=unit)
                )
            ],
            [Table("Residuals", *columns(residuals, {"low": "g", "high": "g", "count": ","}), folded=FOLDED)],
        ),
    ]
    if confusion is not None:
        totals = _totals(confusion)
        parts.append(
            Part(
                "Given and predicted ratings",
                (),
                [
                    figure(
                        "distribution",
                        "How often each rating was given and predicted",
                        charts.rating_distribution(totals, unit=unit),
                    ),
                    figure(
                        "confusion",
                        "Share of each actual rating (row) that was predicted as …",
                        charts.confusion(confusion, unit=unit),
                    ),
                ],
                [Table("Ratings", *columns(totals, {"rating": "g"}, rest=","), folded=FOLDED)],
            )
        )
    return Section("level", "Calibration", "Calibration and residuals", (), parts)


def _worst(evaluation: Evaluation) -> Section:
    """Single predictions that are furthest off, and the items that cost most."""
    worst, costly = evaluation.anatomy.worst, evaluation.anatomy.items
    head = [("item", False), ("user", False), ("actual", True), ("predicted", True), ("error", True)]
    rows: list[list[Cell]] = [
        [
            named(row, "title", "item", f"{row['item_count']:,} ratings"),
            (short(str(row["user"])), f"{row['user_count']:,} ratings"),
            f"{row['rating']:g}",
            f"{row['predicted']:.2f}",
            signed(row["error"]),
        ]
        for row in records(worst)
    ]
    return Section(
        "worst",
        "Worst cases",
        "Worst cases",
        ["Below an item and a user: how many training ratings each had."],
        [
            Part(
                f"The {len(rows)} predictions furthest off",
                tables=[
                    Table(f"{first + 1} to {first + len(part)}, by absolute error", head, part, True, folded)
                    for first, part, folded in (
                        (0, rows[:AT_FIRST], ""),
                        (AT_FIRST, rows[AT_FIRST:], f"The next {len(rows) - AT_FIRST}"),
                    )
                    if part
                ],
            ),
            *_costly(costly),
        ],
    )


def _costly(costly: pd.DataFrame) -> list[Part]:
    """The items that add most to the squared error."""
    head = [("item", False), ("RMSE", True), ("bias", True), ("of the squared error", True)]
    rows: list[list[Cell]] = [
        [
            named(row, "title", "item", f"{row['count']:,} test ratings"),
            f"{row['rmse']:.2f}",
            signed(row["bias"]),
            f"{row['share']:.2%}",
        ]
        for row in records(costly)
    ]
    if not rows:
        return []
    table = Table("Ordered by their part in the squared error", head, rows, wide=True)
    return [Part(f"The {len(rows)} items that cost most", tables=[table])]


def reproduce(code: str, command: str | None) -> Section:
    """Return the section with the command, and with the same in Python."""
    shown = [("On the command line", command)] if command else []
    shown.append(("In Python", code))
    words = (
        "The same data, hyper-parameters and seed give the same model to the last bit, for any number of threads, "
        "on the same type of machine with the same versions."
    )
    return Section("reproduce", "Reproduce", "How to reproduce it", (words,), [Part(code=shown)])


def _totals(confusion: pd.DataFrame) -> pd.DataFrame:
    """How often each rating was given and predicted."""
    import pandas as pd

    given = confusion.groupby("actual")["count"].sum()
    predicted = confusion.groupby("predicted")["count"].sum()
    table = pd.DataFrame({"actual": given, "predicted": predicted}).fillna(0).astype(int)
    return table.rename_axis("rating").reset_index()


def seconds_of(history: pd.DataFrame) -> float | None:
    """How long training took, where the history tells."""
    return float(history["seconds"].iloc[-1]) if "seconds" in history and len(history) else None
