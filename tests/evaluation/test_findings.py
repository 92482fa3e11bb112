"""Sentences follow the numbers, and never claim what the intervals do not bear."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from hatrix.evaluation import findings


def parts(*rows: tuple[str, int, float, float], spread: float = 0.01) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["slice", "count", "rmse", "bias"])
    return table.assign(
        rmse_low=table["rmse"] - spread,
        rmse_high=table["rmse"] + spread,
        bias_low=table["bias"] - spread,
        bias_high=table["bias"] + spread,
    )


def test_the_worst_and_the_best_part_with_their_leaning() -> None:
    table = parts(("1", 500, 1.86, 1.62), ("4", 900, 0.56, -0.31), ("5", 800, 1.06, -0.9))
    assert findings.sliced(table, "ratings of {}", "stars") == (
        "It is most wrong about ratings of 1 (RMSE 1.86, predicted 1.6 stars too high on average) "
        "and least about ratings of 4 (0.56, predicted 0.3 stars too low on average)."
    )
    assert (
        findings.extremes(table, "By rating", "{}")
        == "By rating: worst for 1 (RMSE 1.86), best for 4 (0.56)."
    )


def test_a_difference_within_the_intervals_is_called_chance() -> None:
    table = parts(("a", 500, 0.92, 0.0), ("b", 500, 0.91, 0.0))
    assert findings.sliced(table, "{}", "stars").endswith("Their intervals overlap, so this may be chance.")
    assert findings.extremes(table, "By x", "{}") == ""


def test_parts_of_few_ratings_are_left_aside_unless_all_are() -> None:
    table = parts(("tiny", 3, 3.0, 0.0), ("a", 500, 1.2, 0.0), ("b", 500, 0.8, 0.0))
    assert "tiny" not in findings.sliced(table, "{}", "stars")
    assert "tiny" in findings.sliced(table.head(1), "{}", "stars")
    assert findings.sliced(table.head(0), "{}", "stars") == ""


def test_a_bias_whose_interval_holds_zero_is_not_told() -> None:
    table = parts(("a", 500, 1.2, 0.06), ("b", 500, 0.8, 0.3), spread=0.1)
    assert "too high" not in findings.sliced(table, "{}", "stars").split(" and least ")[0]
    assert "0.3 stars too high" in findings.sliced(table, "{}", "stars")


def test_braces_in_a_label_are_only_text() -> None:
    table = parts(("{0.__class__}", 500, 1.2, 0.0), ("{}", 500, 0.8, 0.0))
    assert "{0.__class__}" in findings.sliced(table, "items of {}", "stars")


def test_more_and_less_error_than_baselines() -> None:
    assert findings.versus(0.9, {"A": 1.0, "B": 0.8, "C": 0.9, "D": 0.0}) == [
        "That is 10.0% less error than A makes (1.000).",
        "That is 12.5% more error than B makes (0.800).",
        "That is as much error as C makes (0.900).",
        "That is more error than D makes (0.000).",
    ]


def test_the_headline_has_its_interval_only_if_it_is_known() -> None:
    model = SimpleNamespace(scale=(0.5, 5.0))
    one = SimpleNamespace(model=model, n=1, rmse=0.9, mae=0.7, intervals={"rmse": (math.nan, math.nan)})
    assert "interval" not in findings.headline(one)
    assert "1 test rating," in findings.headline(one)
    one.intervals, one.coverage = {"rmse": (0.85, 0.95)}, "90 %"
    assert "(90 % interval 0.850 to 0.950)" in findings.headline(one)


def history(valid: list[float] | None, train: list[float] | None = None) -> pd.DataFrame:
    epochs = len(valid or train or [])
    table = pd.DataFrame({"epoch": range(1, epochs + 1), "seconds": [0.5] * epochs})
    if train is not None:
        table["train_mse"] = train
    return table if valid is None else table.assign(valid_rmse=valid)


def test_the_loss_curve_in_words() -> None:
    assert "best after epoch 2 (0.9000) and worse in the end (0.9500)" in findings.trained(
        history([1, 0.9, 0.95])
    )
    assert "the last: more epochs may help" in findings.trained(history([1, 0.9, 0.8]))
    assert "The model is the one of that epoch." in findings.trained(history([1, 0.9, 0.95]), restored=True)
    assert "went from 2.000 to 1.000" in findings.trained(history(None, [4.0, 1.0]))
    falling = findings.trained(history(None, [4.0 / (i + 1) for i in range(20)]))
    assert "still falling by" in falling
    assert "still falling" not in findings.trained(history(None, [1.0] * 20))


def test_rounded_errors_in_words() -> None:
    table = pd.DataFrame({"error": [0.0, 1.0, 2.0, 3.0], "count": [40, 50, 10, 0]})
    assert findings.rounded(table, "stars") == (
        "Rounded to whole stars, 40% of the predictions are exactly right and 90% are within one; the furthest is "
        "off by 2."
    )
    assert findings.rounded(table.head(0), "stars") == ""


def test_the_range_in_words() -> None:
    assert findings.ranged(1.2, 4.8, (1, 5), share=0.0, raw=0.9, clipped=0.9).endswith(
        "all within the scale of 1 to 5."
    )
    outside = findings.ranged(-0.4, 6.1, (1, 5), share=0.02, raw=0.91, clipped=0.9)
    assert "from -0.40 to 6.10; 2.0% of" in outside
    assert "from 0.9100 to 0.9000" in outside
    assert "fewer than 0.1%" in findings.ranged(0.9, 5.0, (1, 5), share=1e-5, raw=0.9, clipped=0.9)
    assert findings.ranged(-1, 1, None, share=0.0, raw=1, clipped=1) == (
        "Before clipping, predictions go from -1.00 to 1.00."
    )


@pytest.mark.parametrize(
    ("slope", "verdict"), [(1.0, "as it should be"), (0.8, "overdone"), (1.2, "too cautious")]
)
def test_the_slope_of_calibration_is_judged(slope: float, verdict: str) -> None:
    predicted = pd.Series([2.0, 3.0, 4.0])
    table = pd.DataFrame(
        {"predicted": predicted, "actual": 3 + slope * (predicted - 3), "count": [50, 500, 50]}
    )
    words = findings.calibrated(table, "stars")
    assert f"rise by {slope:.2f}" in words
    assert verdict in words


def test_calibration_needs_ratings() -> None:
    few = pd.DataFrame({"predicted": [2.0, 3.0], "actual": [2.0, 3.0], "count": [4, 4]})
    assert "too few" in findings.calibrated(few, "stars")


def test_residuals_in_words() -> None:
    table = pd.DataFrame(
        {"low": [-2.0, -1.0, 0.0, 1.0], "high": [-1.0, 0.0, 1.0, 2.0], "count": [1, 4, 4, 1]}
    )
    assert findings.residual(table, 0.0, "stars") == (
        "80% of the predictions are within 1 of the actual rating; on the whole they lean neither high nor low."
    )
    assert "0.20 stars too low" in findings.residual(table, -0.2, "stars")
