"""Charts of a posterior: what its intervals cover, examples of them, stars' probabilities, and its trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hatrix.evaluation.charts import BLUE, INK, ORANGE, ROW, finished, inline
from hatrix.evaluation.records import plain, records

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["coverage", "coverage_by", "examples", "histogram", "stars", "trace"]


def coverage(table: pd.DataFrame) -> alt.LayerChart:
    """Share of ratings inside their intervals against the level asked for: ``level`` and ``covered``."""
    import altair as alt

    rows = records(table)
    low = min(0.5, *(row["covered"] for row in rows))
    domain = alt.Scale(domain=[low - 0.02, 1], nice=False, zero=False)
    axis = alt.Axis(format="%", tickCount=6)
    points = inline(rows).encode(
        alt.X("level:Q", title="level of the interval", scale=domain, axis=axis),
        alt.Y("covered:Q", title="test ratings inside", scale=domain, axis=axis),
        tooltip=[
            alt.Tooltip("level:Q", title="level", format=".0%"),
            alt.Tooltip("covered:Q", title="covered", format=".1%"),
            alt.Tooltip("width:Q", title="mean width", format=".2f"),
        ],
    )
    ideal = inline([{"at": low}, {"at": 1}]).mark_line(color=INK, strokeDash=[5, 4], strokeWidth=1.5)
    layers = [
        ideal.encode(x=alt.X("at:Q"), y=alt.Y("at:Q")),
        points.mark_line(color=BLUE),
        points.mark_circle(color=BLUE, size=70, opacity=1),
    ]
    return finished(alt.LayerChart(layer=layers), "Share of test ratings inside their intervals by level")


def coverage_by(table: pd.DataFrame, *, by: str, level: float) -> alt.LayerChart:
    """Share covered in parts of the test ratings, with its interval: ``slice``, ``covered``, ``count`` and ends."""
    import altair as alt

    rows = records(table)
    ends = [
        row[key] for row in rows for key in ("covered", "covered_low", "covered_high") if row[key] is not None
    ]
    y = alt.Y("slice:N", sort=None, title=by)
    scale = alt.Scale(
        domain=[min([level - 0.1, *ends]), max([min(level + 0.1, 1), *ends])], nice=False, zero=False
    )
    tooltip = [
        alt.Tooltip("slice:N", title=by),
        alt.Tooltip("covered:Q", title="covered", format=".1%"),
        alt.Tooltip("width:Q", title="mean width", format=".2f"),
        alt.Tooltip("count:Q", title="test ratings", format=","),
    ]
    chart = inline(rows).encode(y=y, tooltip=tooltip)
    x = alt.X(
        "covered:Q",
        title=f"test ratings inside their {level:.0%} interval",
        scale=scale,
        axis=alt.Axis(format="%", tickCount=6),
    )
    line = inline([{"at": level}]).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
    whiskers = chart.transform_filter("isValid(datum.covered_low) && isValid(datum.covered_high)").mark_rule(
        strokeWidth=1.5
    )
    layers: list[Any] = [
        line.encode(alt.X("at:Q", scale=scale)),
        whiskers.encode(alt.X("covered_low:Q", scale=scale), alt.X2("covered_high:Q")),
        chart.mark_circle(color=BLUE, size=90, opacity=1).encode(x),
    ]
    return finished(alt.LayerChart(layer=layers, height=ROW * max(len(rows), 1)), f"Coverage by {by}")


def histogram(table: pd.DataFrame) -> alt.LayerChart:
    """Where ratings fell in their predicted distributions: flat if those are right. ``low``, ``high``, ``share``."""
    import altair as alt

    rows = records(table)
    bars = (
        inline(rows)
        .mark_bar(opacity=0.85, binSpacing=1)
        .encode(
            alt.X(
                "low:Q", bin="binned", title="place in the predicted distribution", axis=alt.Axis(grid=False)
            ),
            alt.X2("high:Q"),
            alt.Y("share:Q", title="test ratings", axis=alt.Axis(format="%", tickCount=5)),
            tooltip=[alt.Tooltip("low:Q", title="from"), alt.Tooltip("share:Q", title="share", format=".1%")],
        )
    )
    flat = (
        inline([{"at": 1 / max(len(rows), 1)}])
        .mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
        .encode(y=alt.Y("at:Q"))
    )
    return finished(
        alt.LayerChart(layer=[bars, flat]), "Test ratings by their place in the predicted distribution"
    )


def examples(table: pd.DataFrame, *, level: float, unit: str = "points") -> alt.LayerChart:
    """Intervals of single ratings: ``label``, ``low``, ``high``, ``predicted`` and the actual ``rating``."""
    import altair as alt

    rows = records(table)
    shown = alt.Scale(zero=False, nice=True)
    colors = alt.Scale(domain=["predicted", "actual"], range=[BLUE, ORANGE])
    chart = inline(rows).encode(
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=230)),
        tooltip=[
            alt.Tooltip("label:N", title="rating of"),
            alt.Tooltip("predicted:Q", format=".2f"),
            alt.Tooltip("low:Q", format=".2f"),
            alt.Tooltip("high:Q", format=".2f"),
            alt.Tooltip("rating:Q", title="actual"),
        ],
    )
    reach = chart.mark_rule(color=BLUE, strokeWidth=6, opacity=0.3).encode(
        alt.X("low:Q", title=f"{level:.0%} interval ({unit})", scale=shown), alt.X2("high:Q")
    )
    dots = [
        chart.transform_calculate(what=f"'{what}'")
        .mark_point(filled=True, size=80, opacity=1, shape=shape)
        .encode(alt.X(f"{name}:Q", scale=shown), alt.Color("what:N", scale=colors))
        for name, what, shape in (("predicted", "predicted", "circle"), ("rating", "actual", "diamond"))
    ]
    return finished(
        alt.LayerChart(layer=[reach, *dots], height=ROW * max(len(rows), 1)),
        "Intervals of some test ratings, with the prediction and the actual rating",
    )


def stars(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """Probability of each rating of some pairs: ``label``, ``rating``, ``probability`` and whether it was ``actual``."""
    import altair as alt

    rows = [row | {"rating": plain(row["rating"])} for row in records(table)]
    chart = inline(rows).encode(
        x=alt.X("rating:N", sort=None, title=f"rating ({unit})", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("label:N", sort=None, title=None, axis=alt.Axis(labelLimit=230)),
        tooltip=[
            alt.Tooltip("label:N", title="rating of"),
            alt.Tooltip("rating:N"),
            alt.Tooltip("probability:Q", format=".1%"),
        ],
    )
    most = max((row["probability"] for row in rows), default=1)
    cells = chart.mark_rect(color=BLUE).encode(
        opacity=alt.Opacity("probability:Q", scale=alt.Scale(domain=[0, most], range=[0, 0.8]), legend=None)
    )
    words = chart.mark_text().encode(text=alt.Text("probability:Q", format=".0%"))
    given = chart.transform_filter("datum.actual").mark_rect(filled=False, stroke=ORANGE, strokeWidth=2)
    labels = len({row["label"] for row in rows})
    return finished(
        alt.LayerChart(layer=[cells, words, given], height=ROW * max(labels, 1)),
        "Probability of each rating for some test ratings; the actual one is framed",
    )


def trace(history: pd.DataFrame, *, title: str, burn_in: int) -> alt.LayerChart:
    """A ``value`` of each epoch's draw: draws before the line are not used."""
    import altair as alt

    rows = records(history.loc[:, ["epoch", "value"]].iloc[:: max(1, len(history) // 400)])
    line = (
        inline(rows)
        .mark_line(strokeWidth=1.5, color=BLUE)
        .encode(
            alt.X(
                "epoch:Q",
                title="epoch",
                axis=alt.Axis(tickMinStep=1, grid=False),
                scale=alt.Scale(nice=False),
            ),
            alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", title=title, format=".4f")],
        )
    )
    mark = inline([{"at": burn_in}]).mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(x=alt.X("at:Q"))
    return finished(alt.LayerChart(layer=[line, mark]), f"{title} of the draw of each epoch")
