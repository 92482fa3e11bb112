"""Charts of the data that a model was trained on: how ratings spread over values, users and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatrix.evaluation.charts import BLUE, INK, finished, inline
from hatrix.evaluation.records import plain, records

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["counts", "long_tail"]

LABEL = "datum.value === 0 ? '0' : datum.label"
"""Labels of counts: without it, those in thousands begin with 0k."""


def counts(table: pd.DataFrame, *, of: str, by: str, description: str) -> alt.LayerChart:
    """Columns over an ordered set of labels, each with its count and its share.

    Parameters
    ----------
    table
        ``label`` and ``count``.
    of
        What is counted, for the axis: ``"ratings"``.
    by
        What the labels are: ``"stars"``.
    description
        The chart in words.
    """
    import altair as alt

    rows = records(table)
    total = max(sum(row["count"] for row in rows), 1)
    for row in rows:
        row["label"], row["share"] = plain(row["label"]), row["count"] / total
    bars = (
        inline(rows)
        .mark_bar(opacity=0.85, cornerRadiusEnd=2, color=BLUE)
        .encode(
            alt.X("label:O", sort=None, title=by, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            alt.Y(
                "count:Q", title=of, axis=alt.Axis(tickCount=5, tickMinStep=1, format="~s", labelExpr=LABEL)
            ),
            tooltip=[
                alt.Tooltip("label:O", title=by),
                alt.Tooltip("count:Q", title=of, format=","),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    return finished(alt.LayerChart(layer=[bars]), description)


def long_tail(table: pd.DataFrame) -> alt.LayerChart:
    """Lorenz curves: the share of all ratings that the given share of items or users has, the least rated first.

    Parameters
    ----------
    table
        ``what``, ``share`` (of items or users) and ``ratings`` (their share of the ratings).
    """
    import altair as alt

    rows = records(table)
    names = list(dict.fromkeys(row["what"] for row in rows))
    color = alt.Color("what:N", scale=alt.Scale(domain=names, range=[BLUE, INK][: len(names)]))
    share = alt.Axis(tickCount=5, format="%")
    lines = (
        inline(rows)
        .mark_line(strokeWidth=2)
        .encode(
            alt.X("share:Q", title="share of items or users, the least rated first", axis=share),
            alt.Y("ratings:Q", title="share of the ratings", axis=share),
            color,
            tooltip=[
                alt.Tooltip("what:N", title="of"),
                alt.Tooltip("share:Q", title="the least rated", format=".0%"),
                alt.Tooltip("ratings:Q", title="have of the ratings", format=".1%"),
            ],
        )
    )
    even = inline([{"share": 0, "ratings": 0}, {"share": 1, "ratings": 1}])
    diagonal = even.mark_line(color=INK, strokeDash=[5, 4], strokeWidth=1).encode(
        x=alt.X("share:Q"), y=alt.Y("ratings:Q")
    )
    return finished(
        alt.LayerChart(layer=[diagonal, lines]), "Lorenz curves of ratings over items and over users"
    )
