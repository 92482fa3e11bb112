from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.evaluation.uncertainty import LEVELS, winkler


@pytest.fixture(scope="module", params=["gaussian", "ordinal"])
def sure(request, split):
    recipe = hx.BayesianMF(factors=2, epochs=50, burn_in=20, draws=10, likelihood=request.param)
    return hx.evaluate(recipe.fit(split.train, seed=1), split.test, bootstrap=10)


def test_the_interval_score_is_the_width_and_the_distance_outside():
    low, high, value = np.array([1.0, 1, 1]), np.array([3.0, 3, 3]), np.array([2.0, 0.5, 4])
    np.testing.assert_allclose(winkler(low, high, value, 0.9), [2, 2 + 20 * 0.5, 2 + 20 * 1])


def test_the_true_quantiles_have_the_best_interval_score():
    value = np.random.default_rng(1).normal(size=100_000)
    ends = np.linspace(1, 2.4, 29)
    scores = [winkler(-end + 0 * value, end + 0 * value, value, 0.9).mean() for end in ends]
    assert ends[np.argmin(scores)] == pytest.approx(1.645, abs=0.1)


def test_figures_by_level(sure, split):
    table = sure.uncertainty.by_level
    assert tuple(table["level"]) == LEVELS
    assert table["covered"].is_monotonic_increasing
    assert table["width"].is_monotonic_increasing
    for row in table.itertuples():
        low, high = sure.uncertainty.ends(row.level)
        value = split.test.value
        assert row.covered == pytest.approx(np.mean((value >= low - 1e-6) & (value <= high + 1e-6)))
        assert row.score == pytest.approx(winkler(low, high, value, row.level).mean())
        assert low.min() >= 1
        assert high.max() <= 5
    assert 0.85 < table.set_index("level")["covered"][0.9] < 0.99


def test_the_constant_width_covers_its_share_of_the_test_ratings(sure, split):
    row = sure.uncertainty.by_level.set_index("level").loc[0.8]
    distance = np.sort(np.abs(sure.predicted - split.test.value))
    half = distance[int(np.ceil(0.8 * len(distance))) - 1]
    assert np.mean(distance <= half) >= 0.8
    low, high = np.clip(sure.predicted - half, 1, 5), np.clip(sure.predicted + half, 1, 5)
    assert row["constant_width"] == pytest.approx((high - low).mean())
    assert row["constant_score"] == pytest.approx(winkler(low, high, split.test.value, 0.8).mean())


def test_parts_by_activity_are_all_the_test_ratings(sure, split):
    table = sure.uncertainty.by_activity
    assert table["count"].sum() == len(split.test)
    assert len(table) > 3
    shares = table["covered"] @ table["count"] / len(split.test)
    assert shares == pytest.approx(sure.uncertainty.figures["covered"])
    assert (table["covered_low"] <= table["covered"]).all()
    assert (table["covered"] <= table["covered_high"]).all()


def test_examples_go_from_the_narrowest_interval_to_the_widest(sure):
    examples, stars = sure.uncertainty.examples, sure.uncertainty.stars
    assert (examples["high"] - examples["low"]).is_monotonic_increasing
    np.testing.assert_allclose(stars.sum(axis=1), 1)
    assert len(stars) == len(examples)
    assert sure.uncertainty.histogram["share"].sum() == pytest.approx(1)


def test_figures_are_json(sure):
    found = json.loads(json.dumps(sure.to_dict()))["uncertainty"]
    assert found["level"] == 0.9
    assert found["calibrated_on"] == 0
    assert found["covered_by_activity"][0] <= found["covered"] <= found["covered_by_activity"][1]


def test_a_model_without_a_posterior_has_none(result):
    assert result.uncertainty is None
    assert "uncertainty" not in result.to_dict()


@pytest.mark.parametrize("rows", [1, 2, 15])
def test_few_ratings_of_strangers_without_tables_times_or_a_scale(rows, tmp_path):
    user, item = np.divmod(np.arange(40), 8)
    train = hx.Ratings.from_columns(user, item, np.random.default_rng(1).normal(size=40))
    model = hx.BayesianMF(factors=1, epochs=12, burn_in=2, draws=3).fit(replace(train, scale=None))
    test = hx.Ratings.from_columns(["new"] * rows, [f"i{n}" for n in range(rows)], np.arange(rows) / 7.0)
    found = hx.evaluate(model, replace(test, scale=None), bootstrap=5)
    assert found.uncertainty.by_activity["count"].tolist() == [rows]
    assert 0 <= found.uncertainty.figures["covered"] <= 1
    found.report(tmp_path / "r.html")
    assert "How sure it is" in (tmp_path / "r.html").read_text()


def test_the_report_tells_it(sure, tmp_path):
    sure.report(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    for words in ("How sure it is", "What the intervals cover", "Trace of the posterior", "interval score"):
        assert words in text
