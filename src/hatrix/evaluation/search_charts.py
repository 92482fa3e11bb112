"""Charts of comparisons, cross-validations and searches: a table in, an Altair chart out, as in `charts`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hatrix.errors import ParameterError
from hatrix.evaluation.charts import BLUE, GRID, INK, ORANGE, ROW, WIDTH, finished, inline
from hatrix.evaluation.records import records

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["MEANINGS", "intervals", "search", "slices", "title_of", "tradeoff"]

MEANINGS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "ndcg": "NDCG",
    "map": "MAP",
    "mrr": "MRR",
    "auc": "AUC",
    "hit_rate": "hit rate",
    "train_rmse": "RMSE on the training part",
    "train_seconds": "seconds of training",
    "microseconds_per_user": "microseconds to list ten items for a user",
    "size_in_bytes": "bytes of the model",
}
"""How the columns of tables are called on axes; others by their own names."""
COSTS = ("train_seconds", "microseconds_per_user", "size_in_bytes")
SPREAD, LONGEST = 8.0, 150


def tradeoff(
    table: pd.DataFrame, *, x: str = "train_seconds", y: str = "rmse", confidence: float = 0.95
) -> alt.LayerChart:
    """One figure of the models against another, with the interval of each; baselines are grey.

    Parameters
    ----------
    table
        ``Comparison.table()``: a row for each model.
    x, y
        Columns of the table. Costs that differ much are on a logarithmic axis.
    confidence
        Coverage of the intervals, for the tooltip.

    Raises
    ------
    ParameterError
        If there is no such column of numbers.
    """
    import altair as alt

    numeric = [
        name
        for name in table.columns
        if table[name].dtype.kind in "iuf" and not name.endswith(("_low", "_high"))
    ]
    for name in (x, y):
        if name not in numeric:
            raise ParameterError(f"there is no figure {name!r}: choose from {', '.join(numeric)}")
    rows = []
    for row in records(table.reset_index()):
        point = {
            "model": row["model"],
            "x": row[x],
            "y": row[y],
            "kind": "baseline" if row["baseline"] else "model",
        }
        for axis, name in (("x", x), ("y", y)):
            point |= {f"{axis}_{end}": row.get(f"{name}_{end}") for end in ("low", "high")}
        if point["x"] is not None and point["y"] is not None:
            rows.append(point)
    scales = {axis: _scale(name, [row[axis] for row in rows]) for axis, name in (("x", x), ("y", y))}
    chart = inline(rows).encode(
        alt.X("x:Q", title=_meaning(x), scale=scales["x"], axis=alt.Axis(tickCount=6, grid=False)),
        alt.Y("y:Q", title=_meaning(y), scale=scales["y"], axis=alt.Axis(tickCount=6)),
        color=alt.Color(
            "kind:N", scale=alt.Scale(domain=["model", "baseline"], range=[BLUE, INK]), legend=None
        ),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("x:Q", title=_meaning(x), format=".4~g"),
            alt.Tooltip("y:Q", title=_meaning(y), format=".4~g"),
            alt.Tooltip("y_low:Q", title=f"{100 * confidence:g} % interval from", format=".4~g"),
            alt.Tooltip("y_high:Q", title="to", format=".4~g"),
        ],
    )
    middle = sorted(row["x"] for row in rows)[len(rows) // 2] if rows else 0.0
    layers: list[Any] = []
    for axis, other in (("y", "x"), ("x", "y")):
        if any(row[f"{axis}_low"] is not None for row in rows):
            ends = {axis: f"{axis}_low:Q", f"{axis}2": f"{axis}_high:Q", other: f"{other}:Q"}
            layers.append(chart.mark_rule(opacity=0.5, strokeWidth=2).encode(**ends))
    layers.append(chart.mark_point(size=80, filled=True, opacity=1))
    for side, test in (("left", "<"), ("right", ">=")):
        if not any((row["x"] < middle) == (side == "left") for row in rows):
            continue  # Vega warns of a layer without data
        words = chart.transform_filter(f"datum.x {test} {middle!r}")
        shift = 9 if side == "left" else -9
        layers.append(
            words.mark_text(align=side, dx=shift, dy=-9, limit=LONGEST).encode(
                text=alt.Text("model:N"), color=alt.value(INK)
            )
        )
    return finished(alt.LayerChart(layer=layers), f"{_meaning(y)} against {_meaning(x)}")


def intervals(
    rows: Sequence[Mapping[str, Any]], *, what: str, by: str = "model", line: float | None = None
) -> alt.LayerChart:
    """A figure of several things with its interval, below each other.

    Parameters
    ----------
    rows
        With ``label``, ``value``, ``low``, ``high`` and perhaps ``pale``, whether it is drawn in grey.
    what
        The figure, for the axis.
    by
        What the things are.
    line
        A value to mark by a dashed line.
    """
    import altair as alt

    drawn = [{"pale": False} | dict(row) for row in rows]
    chart = inline(drawn).encode(
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8)),
        color=alt.Color("pale:N", scale=alt.Scale(domain=[False, True], range=[BLUE, INK]), legend=None),
        tooltip=[
            alt.Tooltip("label:N", title=by),
            alt.Tooltip("value:Q", title=_meaning(what), format=".4f"),
            alt.Tooltip("low:Q", title="interval from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
        ],
    )
    x = alt.Scale(zero=False)
    layers: list[Any] = []
    if line is not None:
        rule = inline([{"value": line}]).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(x=alt.X("value:Q")))
    if any(row.get("low") is not None for row in drawn):  # Vega warns of an empty interval
        known = chart.transform_filter("isValid(datum.low) && isValid(datum.high)")
        layers.append(known.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=x), x2=alt.X2("high:Q")))
    layers += [
        chart.mark_point(size=70, filled=True, opacity=1).encode(
            x=alt.X("value:Q", title=_meaning(what), scale=x)
        ),
        chart.mark_text(dy=-11).encode(
            x=alt.X("value:Q"), text=alt.Text("value:Q", format=".4f"), color=alt.value(INK)
        ),
    ]
    return finished(
        alt.LayerChart(layer=layers, height=1.5 * ROW * max(len(drawn), 1)), f"{_meaning(what)} of each {by}"
    )


def search(trials: pd.DataFrame, *, metric: str) -> alt.LayerChart:
    """The validation figure of each trial, and the best so far.

    Parameters
    ----------
    trials
        ``Tuning.trials``.
    metric
        ``"valid_rmse"`` or ``"valid_ndcg"``.
    """
    import altair as alt

    rows = [row for row in records(trials) if row["value"] is not None]
    best, points = math.inf, []
    sign = 1 if metric == "valid_rmse" else -1
    for row in rows:
        if row["state"] == "complete":
            best = min(best, sign * row["value"])
        so_far = None if math.isinf(best) else sign * best
        points.append(
            {key: row[key] for key in ("number", "state", "value", "epochs", "seconds")} | {"best": so_far}
        )
    title = title_of(metric)
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, domain=_inner(points), nice=False))
    chart = inline(points).encode(
        alt.X(
            "number:Q",
            title="trial",
            axis=alt.Axis(tickMinStep=1, grid=False, format="d"),
            scale=alt.Scale(zero=False, nice=False, padding=8),  # room for the first and last point
        ),
        tooltip=[
            alt.Tooltip("number:Q", title="trial"),
            alt.Tooltip("value:Q", title=title, format=".5f"),
            alt.Tooltip("state:N"),
            alt.Tooltip("epochs:Q"),
            alt.Tooltip("seconds:Q", format=".3~g"),
        ],
    )
    states = alt.Scale(domain=["complete", "pruned"], range=[BLUE, GRID])
    layers = [
        chart.mark_line(interpolate="step-after", color=ORANGE, strokeWidth=2, clip=True).encode(
            y=alt.Y("best:Q", title=title)
        ),
        chart.mark_point(size=45, filled=True, opacity=0.9, clip=True).encode(
            y, color=alt.Color("state:N", scale=states)
        ),
    ]
    return finished(alt.LayerChart(layer=layers), f"{title} of each trial; the line is the best so far")


def slices(trials: pd.DataFrame, name: str, *, metric: str, log: bool = False) -> alt.LayerChart:
    """The validation figure against one hyper-parameter; the best trial is orange."""
    import altair as alt

    rows = [
        {
            "number": row["number"],
            "value": row["value"],
            "at": row[name],
            "state": row["state"],
            "kind": "trial",
        }
        for row in records(trials)
        if row["value"] is not None and row[name] is not None and row["state"] == "complete"
    ]
    sign = 1 if metric == "valid_rmse" else -1
    if rows:
        min(rows, key=lambda row: sign * row["value"])["kind"] = "best"
    is_number = all(isinstance(row["at"], int | float) and not isinstance(row["at"], bool) for row in rows)
    if not is_number:
        rows = [row | {"at": str(row["at"])} for row in rows]
    scale = (
        alt.Scale(type="log") if log and is_number else alt.Scale(zero=False) if is_number else alt.Scale()
    )
    chart = inline(rows).encode(
        alt.X(
            "at:Q" if is_number else "at:N",
            title=name.replace("_", " "),
            scale=scale,
            axis=alt.Axis(tickCount=5, labelAngle=0, labelOverlap=True),
        ),
        alt.Y(
            "value:Q", title=title_of(metric), scale=alt.Scale(zero=False, domain=_inner(rows), nice=False)
        ),
        color=alt.Color(
            "kind:N", scale=alt.Scale(domain=["trial", "best"], range=[BLUE, ORANGE]), legend=None
        ),
        tooltip=[
            alt.Tooltip("number:Q", title="trial"),
            alt.Tooltip("at:N", title=name),
            alt.Tooltip("value:Q", title=title_of(metric), format=".5f"),
        ],
    )
    points = chart.mark_point(size=45, filled=True, opacity=0.9, clip=True)
    return finished(
        alt.LayerChart(layer=[points], width=WIDTH, height=170),
        f"{title_of(metric)} against {name.replace('_', ' ')}",
    )


def _inner(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Ends of an axis that shows all but far outliers."""
    values = sorted(float(row["value"]) for row in rows)
    if not values:
        return [0.0, 1.0]
    low, high = values[0], values[-1]
    quarter = values[len(values) // 4], values[(3 * len(values)) // 4]
    reach = 3 * (quarter[1] - quarter[0]) or (high - low)
    low, high = max(low, quarter[0] - reach), min(high, quarter[1] + reach)
    margin = 0.05 * (high - low) or 0.01 * (abs(high) or 1.0)
    return [low - margin, high + margin]


def _meaning(name: str) -> str:
    return MEANINGS.get(name, name.replace("_", " "))


def title_of(metric: str) -> str:
    """A validation figure in words."""
    return {"valid_rmse": "validation RMSE", "valid_ndcg": "validation NDCG@20"}.get(metric, metric)


def _scale(name: str, values: Sequence[float]) -> alt.Scale:
    import altair as alt

    positive = [value for value in values if value > 0]
    if name in COSTS and len(positive) == len(values) and positive and max(positive) > SPREAD * min(positive):
        return alt.Scale(type="log", padding=24)
    return alt.Scale(zero=False, padding=24)
