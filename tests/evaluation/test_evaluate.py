from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation import rating
from hatrix.evaluation.anatomy import rounded_predictions

numbers = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


@given(numbers, st.integers(0, 99))
def test_metrics_equal_loops(errors, seed):
    actual = np.random.default_rng(seed).normal(size=len(errors))
    predicted = actual + np.array(errors)
    square = sum((p - a) ** 2 for p, a in zip(predicted, actual, strict=True)) / len(errors)
    assert rating.mse(actual, predicted) == pytest.approx(square)
    assert rating.rmse(actual, predicted) == pytest.approx(square**0.5)
    size = sum(abs(p - a) for p, a in zip(predicted, actual, strict=True)) / len(errors)
    assert rating.mae(actual, predicted) == pytest.approx(size)
    assert rating.errors(predicted - actual) == pytest.approx((square, square**0.5, size))


def clustered(rng, users=60):
    """Errors with a part that a user's ratings share, so that single ratings are not independent."""
    count = rng.integers(1, 40, users)
    user = np.repeat(np.arange(users), count)
    return user, rng.normal(0, 0.7, users)[user] + rng.normal(0, 0.7, len(user))


def test_intervals_cover_at_about_their_rate_where_users_differ():
    rng, truth = np.random.default_rng(0), 2 * 0.7**2
    hits = {"bootstrap": 0, "sliced": 0, "naive": 0}
    repeats = 250
    for _ in range(repeats):
        user, error = clustered(rng)
        low, high = rating.bootstrap(error, user, draws=200, seed=1)["mse"]
        hits["bootstrap"] += low <= truth <= high
        figures = rating.sliced(error, user, np.zeros(len(user), int), 1)
        hits["sliced"] += figures.rmse_low[0] ** 2 <= truth <= figures.rmse_high[0] ** 2
        hits["naive"] += abs(np.mean(error**2) - truth) < 1.96 * np.std(error**2) / np.sqrt(len(error))
    assert 0.85 <= hits["bootstrap"] / repeats <= 0.99
    assert 0.85 <= hits["sliced"] / repeats <= 0.99
    assert hits["naive"] / repeats < 0.8, "intervals that ignore users are too narrow: the reason for ours"


def test_the_bootstrap_equals_one_that_draws_whole_users():
    user, error = clustered(np.random.default_rng(3), users=12)
    rng, means = np.random.default_rng(7), []
    for drawn in rng.integers(0, 12, (100, 12)):
        rows = np.concatenate([error[user == one] for one in drawn])
        means.append(np.mean(rows**2))
    wanted = np.quantile(means, [0.025, 0.975])
    assert rating.bootstrap(error, user, draws=100, seed=7)["mse"] == pytest.approx(tuple(wanted))


def test_slices_equal_a_groupby():
    rng = np.random.default_rng(1)
    user, error = clustered(rng)
    part = rng.integers(0, 4, len(user))
    figures = rating.sliced(error, user, part, 5)
    for one in range(4):
        mine = error[part == one]
        assert figures.count[one] == len(mine)
        assert figures.rmse[one] == pytest.approx(np.sqrt(np.mean(mine**2)))
        assert figures.mae[one] == pytest.approx(np.mean(np.abs(mine)))
        assert figures.bias[one] == pytest.approx(np.mean(mine))
        sums = pd.Series(mine - mine.mean()).groupby(user[part == one]).sum()
        n = len(sums)
        reach = 1.959964 * np.sqrt((sums**2).sum() * n / (n - 1)) / len(mine)
        assert figures.bias_high[one] - figures.bias[one] == pytest.approx(reach, rel=1e-6)
    assert figures.count.sum() == len(error)
    assert figures.count[4] == 0


@pytest.fixture(scope="module")
def split() -> hx.Split:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 90, 4000), rng.integers(0, 50, 4000)
    level = rng.normal(size=90)[user] * 0.5 + rng.normal(size=50)[item] * 0.5
    stars = np.clip(np.round(3.5 + level + rng.normal(0, 0.7, 4000)), 1, 5)
    ratings = hx.Ratings.from_columns(user, item, stars, time=rng.integers(8e8, 9e8, 4000))
    items = len(ratings.items)
    table = pd.DataFrame(
        {
            "title": [f"Film {n}" if n else None for n in range(items)],
            "year": pd.array([1950 + n if n % 7 else None for n in range(items)], "Int64"),
            "genres": [["Comedy", "Comedy|War", None, ""][n % 4] for n in range(items)],
        }
    )
    return hx.split.per_user(replace(ratings, item_table=table))


@pytest.fixture(scope="module")
def model(split) -> hx.FactorModel:
    return hx.BiasedMF(factors=8).fit(split.train)


@pytest.fixture(scope="module")
def result(model, split) -> hx.Evaluation:
    return hx.evaluate(model, split.test)


def test_the_figures_are_those_of_the_clipped_predictions(result, model, split):
    frame = split.test.to_frame()
    raw = model.predict(frame.user, frame.item)
    error = np.clip(raw, 1, 5) - frame.rating
    assert result.mse == pytest.approx(np.mean(error**2))
    assert result.mae == pytest.approx(np.mean(np.abs(error)))
    assert result.raw.mse == pytest.approx(np.mean((raw - frame.rating) ** 2))
    assert result.clipped_share == pytest.approx(np.mean((raw < 1) | (raw > 5)))
    assert result.n == len(split.test)
    table = result.table()
    assert table.index.tolist() == ["rmse", "mse", "mae"]
    assert (table.low < table.value).all()
    assert (table.value < table.high).all()
    predictions = result.predictions()
    assert predictions.columns.tolist() == ["user", "item", "rating", "predicted", "raw", "error"]
    np.testing.assert_allclose(predictions.error, error)


def test_the_figures_are_json(result):
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["rmse"] == result.rmse


def test_more_confidence_is_wider(model, split):
    narrow, wide = (
        hx.evaluate(model, split.test, confidence=share).intervals["rmse"] for share in (0.5, 0.99)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_anatomy_equals_groupbys(result, split, model):
    frame = result.predictions()
    frame["genres"] = split.test.item_table["genres"].to_numpy()[split.test.item]
    frame["year"] = split.test.item_table["year"].to_numpy(float, na_value=np.nan)[split.test.item]
    anatomy = result.anatomy
    by_rating = frame.groupby("rating").error.agg(lambda e: np.sqrt(np.mean(e**2)))
    assert anatomy.by_rating["slice"].tolist() == [f"{value:g}" for value in by_rating.index]
    np.testing.assert_allclose(anatomy.by_rating.rmse, by_rating)
    by_genre = {row["slice"]: row for row in anatomy.by_genre.to_dict("records")}
    comedy, war = frame[frame.genres.str.contains("Comedy", na=False)], frame[frame.genres == "Comedy|War"]
    assert by_genre.keys() == {"Comedy", "War"}
    assert (by_genre["Comedy"]["count"], by_genre["War"]["count"]) == (len(comedy), len(war))
    assert by_genre["War"]["bias"] == pytest.approx(war.error.mean())
    decades = frame.dropna(subset="year").groupby(frame.year // 10 * 10).size()
    assert anatomy.by_decade["slice"].tolist() == [f"{int(decade)}s" for decade in decades.index]
    assert anatomy.by_decade["count"].tolist() == decades.tolist()
    counts = model.user_count[result.user]
    assert anatomy.by_activity["count"].sum() == anatomy.by_popularity["count"].sum() == len(counts)
    assert (
        anatomy.by_activity["slice"].tolist() == ["20–49"] or "10–19" in anatomy.by_activity["slice"].tolist()
    )
    assert anatomy.by_period["count"].sum() == len(frame)
    assert anatomy.residuals["count"].sum() == len(frame)
    assert anatomy.calibration["count"].sum() == len(frame)
    assert anatomy.confusion["count"].sum() == len(frame)
    weighted = np.average(anatomy.calibration.actual, weights=anatomy.calibration["count"])
    assert weighted == pytest.approx(frame.rating.mean())


def test_the_notebooks_error_analysis(result, split):
    errors = []
    for predicted, actual in zip(result.raw_predicted, split.test.value, strict=True):
        errors.append(abs(round(predicted) - actual))
    series = pd.Series(errors)
    pd.testing.assert_series_equal(result.anatomy.rounded_describe, series.describe(), check_names=False)
    counts = series.value_counts().sort_index()
    assert result.anatomy.rounded_counts.error.tolist() == counts.index.tolist()
    assert result.anatomy.rounded_counts["count"].tolist() == counts.tolist()


def test_the_range_over_all_pairs(split):
    model = hx.MF(epochs=5).fit(split.train)
    scores = model.user_factors.astype(float) @ model.item_factors.astype(float).T
    values, counts = np.unique(np.round(scores), return_counts=True)
    table = rounded_predictions(model)
    assert table.predicted.tolist() == values.tolist()
    assert table["count"].tolist() == counts.tolist()
    assert not table.attrs["sampled"]
    part = rounded_predictions(model, most=1000)
    assert part.attrs["sampled"]
    assert part["count"].sum() <= 1000


def test_the_worst_and_the_costliest(result):
    worst, items = result.anatomy.worst, result.anatomy.items
    assert len(worst) == 50
    size = np.sort(np.abs(result.predictions().error))[::-1][:50]
    np.testing.assert_allclose(np.abs(worst.error), size)
    assert worst.title.dropna().str.startswith("Film").all()
    assert items.share.is_monotonic_decreasing
    assert items.share.sum() < 1


def test_unknown_and_cold_ids_are_counted(model, split):
    other = hx.Ratings.from_columns(["x", "y", "3"], ["1", "q", "q"], [5, 1, 3])
    found = hx.evaluate(model, other)
    assert found.fallbacks["unknown_users"] == 3
    assert found.fallbacks["share"] == 1.0
    assert any(warning.startswith("cold:") for warning in found.warnings)
    cold = hx.Bias().fit(split.train.take(split.train.user > 0))
    assert hx.evaluate(cold, split.test).fallbacks["cold_users"] == 1


def test_ids_are_matched_by_label(model, split):
    some = split.test.to_frame().iloc[::-1].head(40)
    other = hx.Ratings.from_frame(some, user="user", item="item", rating="rating")
    predicted = hx.evaluate(model, other).predicted
    frame = other.to_frame()
    np.testing.assert_allclose(predicted, model.predict(frame.user, frame.item, clip=True))


def test_training_ratings_among_the_test_ratings_are_noticed(model, split):
    assert result_codes(hx.evaluate(model, split.train)) == ["overlap"]
    assert result_codes(hx.evaluate(model, split.test)) == []


def result_codes(found: hx.Evaluation) -> list[str]:
    return [warning.split(":")[0] for warning in found.warnings]


def test_a_model_worse_than_the_mean_is_named(split):
    poor = hx.MF(epochs=1, init_scale=0.01).fit(split.train)
    assert "worse-than-mean" in result_codes(hx.evaluate(poor, split.test))


def test_a_ranking_model_is_named(model, split):
    ranking = SimpleNamespace(task="ranking", name="ranker")
    assert "ranking-model" in result_codes(hx.evaluate(replace(model, recipe=ranking), split.test))


def test_what_cannot_be_evaluated(model, split):
    with pytest.raises(DataError, match="no ratings to evaluate on"):
        hx.evaluate(model, split.test.take(np.zeros(len(split.test), bool)))
    clicks = hx.Ratings.from_columns([1, 2], [1, 2])
    with pytest.raises(DataError, match="events without ratings"):
        hx.evaluate(model, clicks)
    with pytest.raises(ParameterError, match="confidence is 95"):
        hx.evaluate(model, split.test, confidence=95)


TABLES = ("by_rating", "by_activity", "by_popularity", "by_genre", "by_decade", "by_period", "rounded_describe",
          "rounded_counts", "prediction_range", "residuals", "calibration", "confusion", "worst", "items")  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(-100, 100, width=32)),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_every_table_can_be_made_of_any_ratings(rows, timed):
    user, item, value = zip(*rows, strict=True)
    time = np.arange(len(rows)) * 10**9 - 10**10 if timed else None
    ratings = hx.Ratings.from_columns(user, item, value, time=time)
    found = hx.evaluate(hx.Bias().fit(ratings), ratings, bootstrap=20)
    for name in TABLES:
        table = getattr(found.anatomy, name)
        if name in ("by_genre", "by_decade"):
            assert table is None
        elif name == "by_period":
            assert (table is None) == (not timed)
        elif name != "confusion":
            assert len(table) >= (name != "items")
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_tables_of_the_model_serve_where_the_test_data_have_none(model, split):
    bare = replace(split.test, item_table=None)
    ours, theirs = (hx.evaluate(model, part).anatomy for part in (bare, split.test))
    pd.testing.assert_frame_equal(ours.by_genre, theirs.by_genre)
    pd.testing.assert_frame_equal(ours.by_decade, theirs.by_decade)
    assert ours.worst.title.tolist() == theirs.worst.title.tolist()


def test_the_report_is_written(result, tmp_path):
    result.report(tmp_path / "report.html", protocol="per_user 0.2, seed 42")
    assert "Film" in (tmp_path / "report.html").read_text()
