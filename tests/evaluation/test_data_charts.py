"""Charts of the data: they are sound, complete, and draw the numbers that they are given."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from hatrix.evaluation import data_charts


def values_of(chart: Any) -> list[list[dict[str, Any]]]:
    """The tables inside a chart, which is checked against the schema of Vega-Lite."""
    spec = chart.to_dict(validate=True)
    assert spec["description"]
    json.dumps(spec, allow_nan=False)
    return list(spec["datasets"].values())


def test_counts_have_a_bar_for_each_label_and_its_share() -> None:
    table = pd.DataFrame({"label": [0.5, 1.0, 4.0], "count": [1, 0, 3]})
    chart = data_charts.counts(table, of="ratings", by="stars", description="Ratings of each value")
    [rows] = values_of(chart)
    assert [(row["label"], row["count"], row["share"]) for row in rows] == [
        ("0.5", 1, 0.25),
        ("1", 0, 0.0),
        ("4", 3, 0.75),
    ]
    encoding = chart.to_dict()["layer"][0]["encoding"]
    assert (encoding["x"]["title"], encoding["y"]["title"]) == ("stars", "ratings")
    assert encoding["x"]["sort"] is None
    assert encoding["y"]["axis"]["tickMinStep"] == 1  # there is no half of a rating
    assert len(encoding["tooltip"]) == 3


def test_counts_of_nothing_are_a_chart_too() -> None:
    empty = data_charts.counts(pd.DataFrame({"label": [], "count": []}), of="a", by="b", description="c")
    assert empty.to_dict()["layer"]
    [rows] = values_of(
        data_charts.counts(pd.DataFrame({"label": ["x"], "count": [0]}), of="a", by="b", description="c")
    )
    assert rows[0]["share"] == 0


def test_the_long_tail_has_a_curve_for_each_and_the_diagonal() -> None:
    table = pd.DataFrame(
        {
            "what": ["items"] * 3 + ["users"] * 3,
            "share": [0, 0.5, 1] * 2,
            "ratings": [0, 0.1, 1, 0, 0.3, math.nan],
        }
    )
    even, curves = sorted(values_of(data_charts.long_tail(table)), key=len)
    assert even == [{"share": 0, "ratings": 0}, {"share": 1, "ratings": 1}]
    assert [row["ratings"] for row in curves] == [0, 0.1, 1, 0, 0.3, None]
