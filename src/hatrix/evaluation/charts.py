"""Charts of an evaluation: a table in, an Altair chart out.

Each chart is defined once here, and notebooks, the report and the web page show it. The tables are small and
already aggregated, so a chart carries no more numbers than it draws and loads nothing. Colours are mid-toned:
they stand out on white and on black, and blue and orange differ for colour-blind eyes too. Throughout, orange
means too high and blue too low.

A chart brings its own look (`theme`), and Altair joins only charts without one: to place several in one figure,
set ``chart.config = alt.Undefined`` on each first.

Examples
--------
>>> import pandas as pd
>>> chart = slices(pd.DataFrame({"slice": ["Drama"], "count": [9], "rmse": [0.9], "bias": [0.1]}), by="genre")
>>> chart.to_dict()["hconcat"][0]["layer"][0]["mark"]["type"]
'bar'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hatrix._checks import one_of
from hatrix.evaluation.records import interval, plain, records, share_in_words, signed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Figure = TypeVar("Figure")

__all__ = [
    "calibration",
    "confusion",
    "loss",
    "prediction_range",
    "rating_distribution",
    "residuals",
    "rounded_errors",
    "slices",
    "theme",
]

BLUE, ORANGE, INK, GRID = "#3b82c4", "#d9730d", "#787878", "#888888"
WIDTH, HEIGHT, ROW = 460, 240, 24
MOST_POINTS, MOST_SLICES, MOST_LABELLED, FEW = 400, 40, 12, 30


def theme() -> dict[str, Any]:
    """The look of all charts, as a Vega-Lite config. All neutral text has one colour, that of axis labels."""
    neutral = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 12}
    return {
        "background": "transparent",
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
        "view": {
            "stroke": None,
            "continuousWidth": WIDTH,
            "continuousHeight": HEIGHT,
            "discreteWidth": WIDTH,
        },
        "axis": neutral
        | {"titleFontSize": 12, "titlePadding": 8, "labelLimit": 170}
        | {"gridColor": GRID, "domainColor": GRID, "tickColor": GRID}
        | {"gridOpacity": 0.25, "domainOpacity": 0.5, "tickOpacity": 0.5},
        "legend": neutral | {"orient": "top", "title": None, "offset": 4},
        "title": {"color": INK, "anchor": "start", "fontSize": 13, "fontWeight": "normal"},
        "text": {"color": INK, "fontSize": 12},
        "rule": {"color": INK},
        "bar": {"color": BLUE},
    }


def loss(
    history: pd.DataFrame, *, measure: Literal["rmse", "mse"] = "rmse", unit: str = "points"
) -> alt.LayerChart:
    """Training error (as met during an epoch) and validation error (after it); the best validation is marked.

    Parameters
    ----------
    history
        ``FactorModel.history``: ``epoch``, ``train_mse`` and perhaps ``valid_rmse``. A long one is thinned.
    measure
        Draw root mean squared errors, or mean squared ones.
    unit
        What ratings are counted in, for the axis title; the other charts have it too.

    Raises
    ------
    ParameterError
        If the measure is unknown.
    """
    import altair as alt

    one_of("measure", measure, ("rmse", "mse"))
    rows, best = _loss_rows(history, measure)
    sets = list(dict.fromkeys(row["set"] for row in rows))
    short, unit = ("RMSE", unit) if measure == "rmse" else ("MSE", f"{unit}²")
    chart = inline(rows).encode(
        alt.X(
            "epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, grid=False), scale=alt.Scale(nice=False)
        ),
        alt.Y("error:Q", title=f"{short} ({unit})", scale=alt.Scale(zero=False)),
        tooltip=[
            alt.Tooltip("epoch:Q", title="epoch"),
            alt.Tooltip("set:N", title="measured on"),
            alt.Tooltip("error:Q", title=short, format=".4f"),
        ],
    )
    color = alt.Color("set:N", scale=alt.Scale(domain=sets, range=[BLUE, ORANGE][: len(sets)]))
    if len(sets) < 2:
        color = color.legend(None)
    layers: list[Any] = [
        chart.mark_line(point={"size": 28} if len(history) <= 40 else False).encode(color=color)
    ]
    if best is not None:
        words = f"best: {best['error']:.4f} after epoch {best['epoch']}"
        late = best["epoch"] > rows[-1]["epoch"] / 2
        mark = inline([best]).encode(x=alt.X("epoch:Q"), y=alt.Y("error:Q"), tooltip=alt.TooltipValue(words))
        layers += [
            mark.mark_point(size=110, color=ORANGE, filled=True, opacity=1),
            mark.mark_text(
                text=words, dy=-14, dx=6 if late else -6, align="right" if late else "left", baseline="bottom"
            ),
        ]
    return finished(alt.LayerChart(layer=layers), "Error on training and validation ratings by epoch")


def slices(
    table: pd.DataFrame,
    *,
    by: str,
    measure: Literal["error", "bias"] | None = None,
    overall: float | None = None,
    unit: str = "points",
) -> alt.LayerChart | alt.HConcatChart:
    """Error and bias of parts of the test data, as bars with their interval and their number of ratings.

    Parameters
    ----------
    table
        A row per part: ``slice``, ``count``, ``rmse``, ``bias`` and where known ``mae`` and the intervals
        ``rmse_low``, ``rmse_high``, ``bias_low``, ``bias_high``. Of more than 40 the largest are drawn. Parts
        of fewer than 30 ratings are pale, and cut off where they would leave the frame of the others.
    by
        What the parts are, for the axis: ``"genre"``.
    measure
        Draw one of the two; by default both, side by side.
    overall
        RMSE over all ratings, drawn as a dashed line.

    Raises
    ------
    ParameterError
        If the measure is unknown.
    """
    import altair as alt

    if measure is None:
        both = [_slices(table, by, one, overall, unit) for one in ("error", "bias")]
        return finished(
            alt.hconcat(*(chart.properties(width=WIDTH * 0.6) for chart in both)), f"Error and bias by {by}"
        )
    one_of("measure", measure, ("error", "bias"), otherwise="None for both")
    return finished(_slices(table, by, measure, overall, unit), f"{measure.capitalize()} by {by}")


def _slices(table: pd.DataFrame, by: str, measure: str, overall: float | None, unit: str) -> alt.LayerChart:
    import altair as alt

    if len(table) > MOST_SLICES:
        table = table.loc[table["count"].nlargest(MOST_SLICES).index.sort_values()]
    column = {"error": "rmse", "bias": "bias"}[measure]
    rows = [_slice(row, column) for row in records(table)]
    title = f"RMSE ({unit})" if measure == "error" else f"mean of predicted − actual ({unit})"
    tooltip = [
        alt.Tooltip("slice:N", title=by),
        alt.Tooltip("count:Q", title="test ratings", format=","),
        alt.Tooltip("rmse:N", title=f"RMSE, {unit}"),
        alt.Tooltip("mae:N", title=f"MAE, {unit}"),
        alt.Tooltip("bias:N", title=f"bias, {unit}"),
    ]
    axis: dict[str, Any] = {"ticks": False, "domain": False, "minExtent": 40, "labelPadding": 6}
    axis |= {"titleAngle": 0, "titleAlign": "right", "titleX": -6, "titleY": -8}
    axis |= {"titleFontStyle": "italic", "titleBaseline": "middle"}
    chart = inline(rows).encode(y=alt.Y("slice:N", sort=None, title=by, axis=alt.Axis(**axis)))
    x = alt.X(
        "value:Q",
        title=title,
        stack=None,
        axis=alt.Axis(tickCount=5),
        scale=alt.Scale(domain=_frame(rows), nice=True),
    )
    pale = alt.OpacityValue(0.85, condition={"test": f"datum.count < {FEW}", "value": 0.35})
    bars = chart.mark_bar(cornerRadiusEnd=2, height={"band": 0.68}, clip=True).encode(opacity=pale)
    if measure == "bias":
        sign = alt.Scale(domain=["too high", "too low"], range=[ORANGE, BLUE])
        bars = bars.encode(color=alt.Color("sign:N", scale=sign))
    layers: list[Any] = [bars.encode(x, tooltip=tooltip)]
    if overall is not None and measure == "error":
        line = inline([{"value": overall}])
        layers.append(line.mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(x=alt.X("value:Q")))
    if measure == "bias":
        layers.append(inline([{"value": 0}]).mark_rule().encode(x=alt.X("value:Q")))
    layers.append(
        chart.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_rule(strokeWidth=2, clip=True)
        .encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"), tooltip=tooltip)
    )
    outside: dict[str, Any] = {"align": "left", "dx": 8}
    wide, above = alt.XValue("width"), alt.YValue(-8)  # type: ignore[no-untyped-call]
    counts = chart.mark_text(**outside).encode(x=wide, text=alt.Text("count:Q", format=","), tooltip=tooltip)
    head = inline([{}]).mark_text(text="ratings", **outside, fontStyle="italic")
    layers += [counts, head.encode(x=wide, y=above)]
    return alt.LayerChart(layer=layers, height=ROW * max(len(rows), 1))


def rounded_errors(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """How many predictions, rounded to whole ratings, are how far off: ``error`` and ``count``."""
    return _columns(
        table,
        x=("error", f"absolute error of the rounded prediction ({unit})"),
        description="Number of test ratings by absolute error of the rounded prediction",
    )


def prediction_range(
    table: pd.DataFrame, *, scale: tuple[float, float] | None = None, unit: str = "points"
) -> alt.LayerChart:
    """Predictions before clipping, rounded (``predicted`` and ``count``); orange bars lie outside ``scale``."""
    low, high = scale or (-math.inf, math.inf)
    return _columns(
        table,
        x=("predicted", f"prediction before clipping, rounded ({unit})"),
        description="Number of predictions by their rounded value before clipping",
        color=[ORANGE if not low <= value <= high else BLUE for value in table["predicted"]],
    )


def residuals(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """Histogram of predicted − actual: ``low``, ``high`` and ``count`` of each bin."""
    import altair as alt

    rows = records(table)
    total = max(sum(row["count"] for row in rows), 1)
    for row in rows:
        row["share"] = row["count"] / total
        row["sign"] = "too high" if row["low"] + row["high"] > 0 else "too low"
        row["range"] = f"{signed(row['low'])} to {signed(row['high'])}"
    sign = alt.Scale(domain=["too low", "too high"], range=[BLUE, ORANGE])
    bars = (
        inline(rows)
        .mark_bar(opacity=0.85, binSpacing=1)
        .encode(
            alt.X("low:Q", bin="binned", title=f"predicted − actual ({unit})", axis=alt.Axis(grid=False)),
            alt.X2("high:Q"),
            alt.Y("count:Q", title="test ratings", axis=alt.Axis(tickCount=5)),
            alt.Color("sign:N", scale=sign),
            tooltip=[
                alt.Tooltip("range:N", title=f"predicted − actual, {unit}"),
                alt.Tooltip("count:Q", title="test ratings", format=","),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    zero = inline([{"value": 0}]).mark_rule(strokeDash=[5, 4]).encode(x=alt.X("value:Q"))
    return finished(alt.LayerChart(layer=[bars, zero]), "Number of test ratings by predicted minus actual")


def calibration(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """Mean actual rating of predictions of about the same height, with its interval, beside the diagonal.

    Parameters
    ----------
    table
        A row per group of predictions: their mean ``predicted``, the mean ``actual`` with ``actual_low`` and
        ``actual_high``, and ``count``, which sets the size of the dot.
    """
    import altair as alt

    rows = [
        row
        | {
            "low": row.get("actual_low"),
            "high": row.get("actual_high"),
            "words": interval(row["actual"], row.get("actual_low"), row.get("actual_high")),
        }
        for row in records(table)
        if row["predicted"] is not None and row["actual"] is not None
    ]
    ends = [row[key] for row in rows for key in ("predicted", "actual", "low", "high")]
    ends = [end for end in ends if end is not None] or [0, 1]
    low, high = math.floor(2 * min(ends)) / 2, math.ceil(2 * max(ends)) / 2
    domain = alt.Scale(domain=[low, high], nice=False, zero=False)
    chart = inline(rows).encode(
        alt.X("predicted:Q", title=f"mean prediction ({unit})", scale=domain, axis=alt.Axis(tickCount=6)),
        tooltip=[
            alt.Tooltip("predicted:Q", title=f"mean prediction, {unit}", format=".2f"),
            alt.Tooltip("words:N", title=f"mean actual, {unit}"),
            alt.Tooltip("count:Q", title="test ratings", format=","),
        ],
    )
    ideal = inline([{"at": low}, {"at": high}]).mark_line(color=INK, strokeDash=[5, 4], strokeWidth=1.5)
    y = alt.Y("actual:Q", title=f"mean actual rating ({unit})", scale=domain, axis=alt.Axis(tickCount=6))
    most = max((row["count"] for row in rows), default=1)
    sizes = sorted({float(f"{most * share:.1g}") for share in (0.1, 0.4, 0.9)})
    legend = alt.Legend(title="test ratings", format=",.0f", values=sizes, symbolFillColor=BLUE)
    size = alt.Size("count:Q", scale=alt.Scale(range=[25, 420], zero=True), legend=legend)
    whiskers = chart.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(strokeWidth=1.5)
    return finished(
        alt.LayerChart(
            layer=[
                ideal.encode(x=alt.X("at:Q"), y=alt.Y("at:Q")),
                whiskers.encode(alt.Y("low:Q", scale=domain), alt.Y2("high:Q")),
                chart.mark_circle(color=BLUE, opacity=0.9).encode(y, size),
            ],
            height=HEIGHT * 1.3,
        ),
        "Mean actual rating against mean prediction, with the diagonal of perfect calibration",
    )


def rating_distribution(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """Actual test ratings beside rounded predictions: ``rating``, ``actual`` and ``predicted`` counts."""
    import altair as alt

    names = {"actual": "actual", "predicted": "predicted, rounded"}
    totals = {key: max(float(table[key].sum()), 1.0) for key in names if key in table}
    rows = [
        {
            "rating": plain(row["rating"]),
            "what": names[key],
            "count": row[key],
            "share": row[key] / totals[key],
        }
        for row in records(table)
        for key in totals
    ]
    domain = [names[key] for key in totals]
    bars = (
        inline(rows)
        .mark_bar(opacity=0.9, cornerRadiusEnd=2)
        .encode(
            alt.X("rating:O", sort=None, title=f"rating ({unit})", axis=alt.Axis(labelAngle=0)),
            alt.Y("count:Q", title="test ratings", axis=alt.Axis(tickCount=5)),
            alt.Color("what:N", scale=alt.Scale(domain=domain, range=[BLUE, ORANGE])),
            alt.XOffset("what:N", sort=domain),
            tooltip=[
                alt.Tooltip("rating:O", title="rating"),
                alt.Tooltip("what:N", title="which"),
                alt.Tooltip("count:Q", title="test ratings", format=","),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    return finished(
        alt.LayerChart(layer=[bars]), "Number of test ratings of each value, actual and predicted"
    )


def confusion(table: pd.DataFrame, *, unit: str = "points") -> alt.LayerChart:
    """Heat map of actual ratings (rows) against rounded predictions: ``actual``, ``predicted``, ``count``.

    A cell's colour is its share of the row: of all ratings of 5, how many were predicted as 4?
    """
    import altair as alt

    cells = {(row["actual"], row["predicted"]): row["count"] for row in records(table)}
    levels = {name: sorted({float(value) for value in table[name]}) for name in ("actual", "predicted")}
    rows = []
    for actual in levels["actual"]:
        total = sum(cells.get((actual, predicted), 0) for predicted in levels["predicted"])
        for predicted in levels["predicted"]:
            count = cells.get((actual, predicted), 0)
            share = count / max(total, 1)
            row = {"count": count, "share": share, "label": share_in_words(share, digits=0)}
            rows.append(row | {"actual": plain(actual), "predicted": plain(predicted)})
    most = max((row["share"] for row in rows), default=1.0) or 1.0
    chart = inline(rows).encode(
        alt.X(
            "predicted:O",
            title=f"predicted, rounded ({unit})",
            scale=alt.Scale(domain=[plain(level) for level in levels["predicted"]]),
            axis=alt.Axis(labelAngle=0, ticks=False, domain=False),
        ),
        alt.Y(
            "actual:O",
            title=f"actual ({unit})",
            scale=alt.Scale(domain=[plain(level) for level in levels["actual"][::-1]]),
            axis=alt.Axis(ticks=False, domain=False),
        ),
        tooltip=[
            alt.Tooltip("actual:O", title="actual"),
            alt.Tooltip("predicted:O", title="predicted"),
            alt.Tooltip("count:Q", title="test ratings", format=","),
            alt.Tooltip("share:Q", title="share of the row", format=".1%"),
        ],
    )
    color = alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, most]), legend=None)
    layers = [chart.mark_rect(cornerRadius=2).encode(color=color)]
    if max(map(len, levels.values()), default=0) <= MOST_LABELLED:
        # Cells are opaque on either background, so their text needs no theme.
        dark = alt.condition(f"datum.share > {0.62 * most}", alt.value("#ffffff"), alt.value("#10243e"))
        layers.append(chart.mark_text().encode(text=alt.Text("label:N"), color=dark))
    return finished(
        alt.LayerChart(layer=layers, height=34 * max(len(levels["actual"]), 1)),
        "Share of each actual rating by rounded prediction",
    )


def _columns(
    table: pd.DataFrame, *, x: tuple[str, str], description: str, color: Sequence[str] | None = None
) -> alt.LayerChart:
    """Columns over an ordered set of values, each with its count and share."""
    import altair as alt

    name, title = x
    rows = records(table)
    total = max(sum(row["count"] for row in rows), 1)
    for number, row in enumerate(rows):
        row["share"], row["color"] = row["count"] / total, color[number] if color else BLUE
        row["at"] = plain(row[name])
        row["label"] = share_in_words(row["share"])
    chart = inline(rows).encode(
        alt.X("at:O", sort=None, title=title, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        alt.Y("count:Q", title="test ratings", axis=alt.Axis(tickCount=5)),
        tooltip=[
            alt.Tooltip("at:O", title=title),
            alt.Tooltip("count:Q", title="test ratings", format=","),
            alt.Tooltip("share:Q", title="share", format=".2%"),
        ],
    )
    layers = [
        chart.mark_bar(opacity=0.85, cornerRadiusEnd=2).encode(color=alt.Color("color:N", scale=None)),
    ]
    if len(rows) <= MOST_LABELLED:
        layers.append(chart.mark_text(dy=-8).encode(text=alt.Text("label:N")))
    return finished(alt.LayerChart(layer=layers), description)


def _loss_rows(history: pd.DataFrame, measure: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Points of the loss curves, thinned to `MOST_POINTS` epochs, and the one with the best validation."""
    every = max(1, math.ceil(len(history) / MOST_POINTS))
    epochs = records(history)
    known = [row["valid_rmse"] for row in epochs if row.get("valid_rmse") is not None]
    points, best = [], None
    for position, row in enumerate(epochs):
        train, valid = row.get("train_mse"), row.get("valid_rmse")
        is_best = best is None and valid is not None and valid == min(known)
        if position % every and not is_best and position != len(epochs) - 1:
            continue
        for name, mse in (("training", train), ("validation", None if valid is None else valid**2)):
            if mse is not None:
                error = mse if measure == "mse" else math.sqrt(mse)
                points.append({"epoch": row["epoch"], "set": name, "error": error})
        if is_best:
            best = points[-1]
    return points, best


def _frame(rows: list[dict[str, Any]]) -> list[float]:
    """Ends of the axis: 0, and bars and intervals of all parts but small ones, where there are others."""
    framed = [row for row in rows if row["count"] >= FEW] or rows
    ends = [row[key] for row in framed for key in ("value", "low", "high") if row[key] is not None]
    return [min([0.0, *ends]), max([0.0, *ends])]


def _slice(row: dict[str, Any], column: str) -> dict[str, Any]:
    value = row[column]
    return {
        "slice": str(row["slice"]),
        "count": row["count"],
        "value": value,
        "low": row.get(f"{column}_low"),
        "high": row.get(f"{column}_high"),
        "sign": "too high" if (value or 0) > 0 else "too low",
        "rmse": interval(row["rmse"], row.get("rmse_low"), row.get("rmse_high")),
        "mae": interval(row.get("mae"), None, None),
        "bias": interval(row["bias"], row.get("bias_low"), row.get("bias_high"), sign=True),
    }


def inline(rows: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=rows))


def finished(chart: Figure, description: str) -> Figure:
    """The chart with its look, and with words for those who cannot see it."""
    from hatrix.evaluation.notebook import offline

    done: Any = chart
    described = done.properties(description=description)
    described.config = _config()
    finished: Figure = offline(described)
    return finished


@lru_cache
def _config() -> Any:
    """Return the look of all charts; Altair takes 5 ms to check it, and never changes it in place."""
    import altair as alt

    return alt.Config(**theme())
