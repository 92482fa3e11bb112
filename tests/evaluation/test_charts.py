"""Charts: what they draw, that their numbers are JSON, and that hostile or odd tables do no harm."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.errors import ParameterError
from hatrix.evaluation import charts
from hatrix.evaluation.records import records, share_in_words

VENDOR = Path(charts.__file__).parent / "vendor"
NAN = math.nan


def slices_table(n: int = 4) -> pd.DataFrame:
    rmse = np.linspace(0.8, 1.4, n)
    return pd.DataFrame(
        {
            "slice": [f"part {i}" for i in range(n)],
            "count": np.arange(n) * 100 + 40,
            "rmse": rmse,
            "rmse_low": rmse - 0.02,
            "rmse_high": rmse + 0.02,
            "mae": rmse * 0.8,
            "bias": np.linspace(-0.3, 0.5, n),
            "bias_low": np.linspace(-0.4, 0.4, n),
            "bias_high": np.linspace(-0.2, 0.6, n),
        }
    )


def history(epochs: int = 30, valid: bool = True) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    table = pd.DataFrame({"epoch": epoch, "train_mse": 0.6 + 1 / epoch, "seconds": epoch * 0.1})
    return table.assign(valid_rmse=0.9 + (epoch - 21.0) ** 2 * 1e-3) if valid else table


RATINGS = [1.0, 2.0, 3.0, 4.0, 5.0]
TABLES = {
    "loss": (charts.loss, history(), {}),
    "slices": (charts.slices, slices_table(), {"by": "genre", "overall": 1.0}),
    "slices of error": (charts.slices, slices_table(), {"by": "genre", "measure": "error"}),
    "slices of bias": (charts.slices, slices_table(), {"by": "genre", "measure": "bias"}),
    "rounded": (charts.rounded_errors, pd.DataFrame({"error": [0.0, 1.0], "count": [7, 2]}), {}),
    "range": (
        charts.prediction_range,
        pd.DataFrame({"predicted": [0.0, 3.0, 6.0], "count": [1, 90, 2]}),
        {"scale": (1, 5)},
    ),
    "residuals": (
        charts.residuals,
        pd.DataFrame({"low": [-1.0, 0.0], "high": [0.0, 1.0], "count": [4, 6]}),
        {},
    ),
    "calibration": (
        charts.calibration,
        pd.DataFrame(
            {
                "predicted": [2.0, 3.1],
                "actual": [2.1, 3.0],
                "actual_low": [2.0, NAN],
                "actual_high": [2.2, NAN],
                "count": [70, 1],
            }
        ),
        {},
    ),
    "distribution": (
        charts.rating_distribution,
        pd.DataFrame({"rating": RATINGS, "actual": [1, 2, 3, 4, 5], "predicted": [0, 2, 8, 5, 0]}),
        {},
    ),
    "confusion": (
        charts.confusion,
        pd.DataFrame({"actual": [1.0, 1.0, 5.0], "predicted": [1.0, 2.0, 5.0], "count": [3, 1, 9]}),
        {},
    ),
}


def spec_of(chart: alt.TopLevelMixin) -> dict:
    """The chart as JSON, checked against Altair's Vega-Lite schema; NaN and infinities fail."""
    spec = chart.to_dict(validate=True)
    return json.loads(json.dumps(spec, allow_nan=False))


def values_of(spec: dict) -> list[dict]:
    """All rows that a spec carries."""
    found = list(spec.get("data", {}).get("values", []))
    for rows in spec.get("datasets", {}).values():
        found += rows
    for part in (*spec.get("layer", ()), *spec.get("hconcat", ())):
        found += values_of(part)
    return found


@pytest.mark.parametrize("name", TABLES)
def test_a_chart_is_valid_themed_described_and_loads_nothing(name: str) -> None:
    draw, table, options = TABLES[name]
    before = table.copy(deep=True)
    spec = spec_of(draw(table, **options))
    assert spec["config"] == json.loads(json.dumps(charts.theme()))
    assert spec["description"]
    assert values_of(spec)
    assert '"url"' not in json.dumps(spec)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("name", TABLES)
def test_every_chart_has_tooltips_and_axis_titles_with_the_unit(name: str) -> None:
    draw, table, options = TABLES[name]
    text = json.dumps(spec_of(draw(table, **options, unit="stars")), ensure_ascii=False)
    assert '"tooltip": [' in text
    assert "stars" in text
    assert "points" not in text


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table_gives_a_valid_chart(name: str) -> None:
    draw, table, options = TABLES[name]
    spec_of(draw(table.iloc[:0], **options))


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("loss", "distribution")])
def test_numpy_values_and_odd_indexes_do_not_matter(name: str) -> None:
    draw, table, options = TABLES[name]
    odd = table.set_axis(np.arange(len(table))[::-1] * 7)
    assert values_of(spec_of(draw(odd, **options))) == values_of(spec_of(draw(table, **options)))


def test_loss_marks_the_best_validation() -> None:
    spec = spec_of(charts.loss(history()))
    assert "best: 0.9000 after epoch 21" in json.dumps(spec)
    assert {row.get("set") for row in values_of(spec)} == {"training", "validation"}
    assert "best" not in json.dumps(spec_of(charts.loss(history(valid=False))))


def test_loss_draws_rmse_or_mse() -> None:
    as_rmse, as_mse = (
        [row["error"] for row in values_of(spec_of(charts.loss(history(), measure=measure)))]
        for measure in ("rmse", "mse")
    )
    assert np.square(as_rmse) == pytest.approx(as_mse)
    with pytest.raises(ParameterError, match="give 'rmse' or 'mse'"):
        charts.loss(history(), measure="mae")  # type: ignore[arg-type]


def test_a_long_history_is_thinned_but_keeps_its_best_and_last_epoch() -> None:
    spec = spec_of(charts.loss(history(50_001)))
    epochs = {row["epoch"] for row in values_of(spec)}
    assert {1, 21, 50_001} <= epochs
    assert len(epochs) <= charts.MOST_POINTS + 2


def test_missing_figures_in_a_history_are_left_out() -> None:
    table = history(4)
    table.loc[1, "valid_rmse"] = NAN
    rows = values_of(spec_of(charts.loss(table)))
    assert (2, "validation") not in {(row["epoch"], row["set"]) for row in rows}


def test_slices_have_bars_counts_and_intervals() -> None:
    table = slices_table()
    spec = spec_of(charts.slices(table, by="genre", measure="error", overall=1.0))
    marks = [layer["mark"]["type"] for layer in spec["layer"]]
    assert marks.count("bar") == 1
    assert marks.count("text") == 2
    assert marks.count("rule") == 2
    rows = [row for row in values_of(spec) if "slice" in row]
    assert [row["count"] for row in rows] == table["count"].tolist()
    assert [row["low"] for row in rows] == pytest.approx(table["rmse_low"])
    assert rows[0]["rmse"] == "0.800 (0.780 to 0.820)"
    assert rows[0]["bias"] == "−0.30 (−0.40 to −0.20)"
    leaning = values_of(spec_of(charts.slices(table, by="genre", measure="bias")))
    assert [row["sign"] for row in leaning if "slice" in row] == ["too low"] * 2 + ["too high"] * 2


def test_slices_need_no_intervals() -> None:
    bare = slices_table()[["slice", "count", "rmse", "bias"]]
    for measure in ("error", "bias"):
        rows = [
            row for row in values_of(spec_of(charts.slices(bare, by="x", measure=measure))) if "slice" in row
        ]
        assert all(row["low"] is None for row in rows)


def test_a_tiny_part_does_not_stretch_the_axis_of_the_others() -> None:
    table = slices_table()
    table.loc[len(table)] = ["a single rating", 1, 4.0, NAN, NAN, 4.0, -4.0, NAN, NAN]
    for measure, most in (("error", 1.6), ("bias", 0.8)):
        spec = spec_of(charts.slices(table, by="x", measure=measure))
        low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
        assert -most < low <= 0 < high <= most


def test_of_many_slices_the_largest_are_drawn_in_their_order() -> None:
    table = slices_table(500).sample(frac=1, random_state=0)
    rows = [
        row for row in values_of(spec_of(charts.slices(table, by="tag", measure="error"))) if "slice" in row
    ]
    drawn = table[table["count"] >= table["count"].nlargest(charts.MOST_SLICES).min()]["slice"].tolist()
    assert len(rows) == charts.MOST_SLICES
    assert set(drawn) == {row["slice"] for row in rows}


def test_missing_values_of_any_kind_become_none() -> None:
    table = pd.DataFrame(
        {"a": [pd.NA, None, NAN, math.inf, pd.NaT, "x", 3, np.int32(4), np.float32(0.5)]}, dtype=object
    )
    assert [row["a"] for row in records(table)] == [None] * 5 + ["x", 3, 4, 0.5]


def test_shares_are_short_and_never_round_to_nothing() -> None:
    assert [share_in_words(share) for share in (0.0, 0.0001, 0.004, 0.0631, 0.504, 1.0)] == [
        "", "<0.1%", "0.4%", "6.3%", "50%", "100%"
    ]  # fmt: skip
    assert [share_in_words(share, digits=0) for share in (0.0, 0.004, 0.006, 0.504)] == [
        "",
        "<1%",
        "1%",
        "50%",
    ]


def test_slices_refuse_an_unknown_measure() -> None:
    with pytest.raises(ParameterError, match="'error', 'bias' or None"):
        charts.slices(slices_table(), by="x", measure="mae")  # type: ignore[arg-type]


def test_the_confusion_has_every_cell_and_shares_of_rows() -> None:
    _, table, _ = TABLES["confusion"]
    rows = values_of(spec_of(charts.confusion(table)))
    cells = {(row["actual"], row["predicted"]): (row["count"], row["share"]) for row in rows}
    assert cells["1", "1"] == (3, 0.75)
    assert cells["1", "5"] == (0, 0.0)
    assert len(cells) == 6


def test_predictions_outside_the_scale_are_orange() -> None:
    draw, table, options = TABLES["range"]
    colors = [row["color"] for row in values_of(spec_of(draw(table, **options)))]
    assert colors[:3] == [charts.ORANGE, charts.BLUE, charts.ORANGE]
    assert {row["color"] for row in values_of(spec_of(draw(table)))} == {charts.BLUE}


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("color", [charts.BLUE, charts.ORANGE, charts.INK])
@pytest.mark.parametrize("background", ["#ffffff", "#12161b"])
def test_colours_stand_out_on_light_and_dark(color: str, background: str) -> None:
    low, high = sorted([luminance(color), luminance(background)])
    assert (high + 0.05) / (low + 0.05) >= 3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(), st.integers(0, 10**6), st.floats(), st.floats()), max_size=6))
def test_whatever_a_table_holds_the_spec_is_json(rows: list[tuple[str, int, float, float]]) -> None:
    table = pd.DataFrame(rows, columns=["slice", "count", "rmse", "bias"]).assign(
        rmse_low=NAN, rmse_high=math.inf
    )
    json.dumps(charts.slices(table, by="x").to_dict(validate=False), allow_nan=False)


def test_the_vendored_files_are_those_listed() -> None:
    listed = json.loads((VENDOR / "VENDORED.json").read_text())["files"]
    assert {entry["file"] for entry in listed} == {path.name for path in VENDOR.glob("*.js")}
    licences = (VENDOR / "LICENSES.txt").read_text()
    for entry in listed:
        data = (VENDOR / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"], entry["file"]
        assert b"</script" not in data.lower()
        assert b"<!--" not in data
        for package in (entry["package"], *entry["contains"]):
            assert package in licences


def test_the_vendored_vega_lite_speaks_the_schema_of_the_charts() -> None:
    listed = json.loads((VENDOR / "VENDORED.json").read_text())["files"]
    vendored = next(entry["version"] for entry in listed if entry["package"] == "vega-lite")
    assert alt.SCHEMA_VERSION.lstrip("v").split(".")[0] == vendored.split(".")[0]
