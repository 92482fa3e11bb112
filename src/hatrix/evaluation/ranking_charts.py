"""Charts of rankings: a table in, an Altair chart out, as in `charts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatrix.evaluation.charts import BLUE, INK, MOST_POINTS, ORANGE, finished, inline
from hatrix.evaluation.records import records

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["by_length", "popularity", "progress"]


def by_length(table: pd.DataFrame, *, what: str) -> alt.LayerChart:
    """A figure by the length of the lists, a line for each model.

    Parameters
    ----------
    table
        With ``model``, ``k``, ``value``, ``low`` and ``high``; the first model is drawn in colour.
    what
        The figure, for the axis.
    """
    import altair as alt

    rows = records(table)
    models = list(dict.fromkeys(row["model"] for row in rows))
    palette = [BLUE, INK, ORANGE, *[INK] * len(models)][: len(models)]
    chart = inline(rows).encode(
        alt.X("k:Q", title="length of the list", axis=alt.Axis(tickMinStep=1, grid=False)),
        color=alt.Color("model:N", scale=alt.Scale(domain=models, range=palette)),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("k:Q", title="length"),
            alt.Tooltip("value:Q", title=what, format=".4f"),
            alt.Tooltip("low:Q", title="interval from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
        ],
    )
    line = chart.mark_line(point={"size": 40}).encode(alt.Y("value:Q", title=what))
    ends = chart.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_rule(strokeWidth=2)
    return finished(
        alt.LayerChart(layer=[line, ends.encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))]),
        f"{what} by list length",
    )


def popularity(table: pd.DataFrame) -> alt.LayerChart:
    """Share of the held-out rows and of the recommended places that items of each popularity have.

    Parameters
    ----------
    table
        `RankingEvaluation.by_popularity`: ``slice``, ``count`` (held-out rows) and ``shown``.
    """
    import altair as alt

    total = max(int(table["count"].sum()), 1)
    rows = [
        {"slice": row["slice"], "what": what, "share": share}
        for row in records(table)
        for what, share in (("held out", row["count"] / total), ("recommended", row["shown"]))
    ]
    domain = ["held out", "recommended"]
    bars = (
        inline(rows)
        .mark_bar(opacity=0.9, cornerRadiusEnd=2)
        .encode(
            alt.X("slice:O", sort=None, title="training rows of the item", axis=alt.Axis(labelAngle=0)),
            alt.Y("share:Q", title="share", axis=alt.Axis(tickCount=5, format="%")),
            alt.Color("what:N", scale=alt.Scale(domain=domain, range=[INK, BLUE])),
            alt.XOffset("what:N", sort=domain),
            tooltip=[
                alt.Tooltip("slice:O", title="training rows"),
                alt.Tooltip("what:N", title="which"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    return finished(
        alt.LayerChart(layer=[bars]), "Share of held-out rows and of recommended places by item popularity"
    )


def progress(history: pd.DataFrame, *, column: str, what: str) -> alt.LayerChart:
    """A column of the training history by epoch; a long one is thinned."""
    import altair as alt

    shown = history.iloc[:: -(-len(history) // MOST_POINTS)]
    rows = [
        {"epoch": row["epoch"], "value": row[column]} for row in records(shown) if row.get(column) is not None
    ]
    line = (
        inline(rows)
        .mark_line(color=BLUE, point={"size": 28} if len(rows) <= 40 else False)
        .encode(
            alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, grid=False)),
            alt.Y("value:Q", title=what, scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", title=what, format=".5g")],
        )
    )
    return finished(alt.LayerChart(layer=[line]), f"{what} by epoch")
