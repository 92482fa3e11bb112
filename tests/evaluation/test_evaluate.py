from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError


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


def test_unknown_and_cold_ids_are_counted(model, split):
    other = hx.Ratings.from_columns(["x", "y", "03"], ["1", "q", "q"], [5, 1, 3])
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


def test_a_ranking_model_has_no_error(model, split):
    with pytest.raises(DataError, match=r"popular ranks items .* hatrix\.evaluate_ranking"):
        hx.evaluate(replace(model, recipe=hx.Popular()), split.test)


def test_what_cannot_be_evaluated(model, split):
    with pytest.raises(DataError, match="no ratings to evaluate on"):
        hx.evaluate(model, split.test.take(np.zeros(len(split.test), bool)))
    clicks = hx.Ratings.from_columns([1, 2], [1, 2])
    with pytest.raises(DataError, match="events without ratings"):
        hx.evaluate(model, clicks)
    with pytest.raises(ParameterError, match="confidence is 95"):
        hx.evaluate(model, split.test, confidence=95)
    with pytest.raises(ParameterError, match=r"bootstrap is 1\.5"):
        hx.evaluate(model, split.test, bootstrap=1.5)
    with pytest.raises(ParameterError, match="seed is -1"):
        hx.evaluate(model, split.test, seed=-1)
    with pytest.raises(DataError, match=r"a Bias, not a fitted one: call its fit"):
        hx.evaluate(hx.Bias(), split.test)


def test_the_report_gives_range_and_bias_themselves_not_those_of_rounded_figures(tmp_path):
    rng = np.random.default_rng(0)
    percent = hx.Ratings.from_columns(*rng.integers(0, 30, (2, 600)), rng.uniform(0, 100, 600))
    split = hx.split.per_user(percent)
    result = hx.evaluate(hx.Bias().fit(split.train), split.test)
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    raw, bias = result.raw_predicted, (result.predicted - split.test.value).mean()
    assert f"predictions go from {raw.min():.2f} to {raw.max():.2f}" in page
    assert f"on the whole they are {abs(bias):.2f} points too {'high' if bias > 0 else 'low'}" in page


def test_the_report_says_what_its_intervals_cover(model, split, tmp_path):
    hx.evaluate(model, split.test, confidence=0.9).report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "90 % interval" in page
    assert "95 % interval" not in page


def test_the_report_is_written(result, tmp_path):
    result.report(tmp_path / "report.html", protocol="per_user 0.2, seed 42")
    assert "Film" in (tmp_path / "report.html").read_text()


def fitted_on(*columns, recipe=None, **more):
    ratings = hx.Ratings.from_columns(*columns, **more)
    return (recipe or hx.Bias()).fit(ratings), ratings


def test_one_rating(tmp_path):
    model, ratings = fitted_on(["ann"], ["film"], [4.0])
    found = hx.evaluate(model, ratings)
    assert found.rmse == pytest.approx(0)
    assert np.isnan(found.intervals["rmse"]).all()
    assert found.to_dict()["intervals"]["rmse"] == [None, None]
    json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(found.table().to_json())["low"]["rmse"] is None
    assert "RMSE 0.0000" in repr(found)
    found.report(tmp_path / "report.html")


def test_constant_ratings_that_are_predicted_exactly_raise_no_alarm(tmp_path):
    model, ratings = fitted_on(np.arange(20), np.arange(20) % 3, np.full(20, 3.0))
    found = hx.evaluate(model, ratings)
    assert result_codes(found) == ["overlap"]
    found.report(tmp_path / "report.html", baselines={"itself": found})


def test_one_user_of_string_ids_without_times_and_tables():
    rng = np.random.default_rng(0)
    model, ratings = fitted_on(["ann"] * 30, [f"film {n}" for n in range(30)], rng.integers(1, 11, 30) / 2)
    found = hx.evaluate(model, ratings)
    low, high = found.intervals["rmse"]
    assert low < found.rmse < high
    assert found.anatomy.by_period is found.anatomy.by_genre is found.anatomy.by_decade is None
    assert found.predictions().user.tolist() == ["ann"] * 30


@pytest.mark.parametrize(
    "recipe",
    [
        hx.Bias(),
        hx.MF(epochs=3),
        hx.MF(precision="float64", sequential=True, epochs=3),
        hx.BiasedMF(epochs=3),
    ],
)
def test_every_model_is_evaluated(recipe, split):
    model = recipe.fit(split.train)
    found = hx.evaluate(model, split.test)
    frame = split.test.to_frame()
    predicted = np.array(
        [model.predict(u, i, clip=True) for u, i in zip(frame.user, frame.item, strict=True)]
    )
    assert found.rmse == pytest.approx(np.sqrt(np.mean((predicted - frame.rating) ** 2)), rel=1e-6)


def test_a_model_without_a_scale_is_not_clipped(model, split, tmp_path):
    found = hx.evaluate(replace(model, scale=None), split.test)
    assert found.clipped_share == 0
    assert found.raw.mse == found.mse
    assert found.predicted is found.raw_predicted
    assert len(found.anatomy.prediction_range)
    found.report(tmp_path / "report.html")


def test_ratings_far_off_the_scale(model, split):
    far = replace(split.test, value=split.test.value * 1000, scale=None)
    found = hx.evaluate(model, far)
    assert "worse-than-mean" not in result_codes(found), "the model still beats its mean"
    assert found.rmse > 1000
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(DataError, match="cannot be squared"):
        hx.evaluate(model, replace(split.test, value=split.test.value * 1e200))


def test_all_cold(model, tmp_path):
    found = hx.evaluate(
        model, hx.Ratings.from_columns(np.arange(50) + 1000, np.arange(50) + 1000, np.arange(50) % 5 + 1)
    )
    assert found.fallbacks == {
        "unknown_users": 50,
        "unknown_items": 50,
        "cold_users": 0,
        "cold_items": 0,
        "share": 1,
    }
    np.testing.assert_allclose(found.predicted, model.fallback)
    assert result_codes(found) == ["cold", "worse-than-mean"]
    assert found.anatomy.by_activity["slice"].tolist() == ["0"]
    assert (found.anatomy.worst[["user_count", "item_count"]] == 0).all(axis=None)
    found.report(tmp_path / "report.html")


@pytest.mark.parametrize("cells", [1, 120, 1 << 24])
def test_training_rows_are_found_block_by_block(cells, model, split, monkeypatch):
    monkeypatch.setattr("hatrix.models.seen.CELLS_AT_ONCE", cells)
    rng = np.random.default_rng(0)
    user, item = rng.integers(-1, len(model.users), 5000), rng.integers(-1, len(model.items), 5000)
    trained = set(zip(split.train.user.tolist(), split.train.item.tolist(), strict=True))
    wanted = [pair in trained for pair in zip(user.tolist(), item.tolist(), strict=True)]
    assert model.was_seen(user, item).tolist() == wanted
    assert not model.was_seen(user[:0], item[:0]).size


def test_a_model_without_its_training_rows_cannot_notice_them(model, split):
    assert result_codes(hx.evaluate(replace(model, seen=None), split.train)) == []


@pytest.mark.parametrize("wrong", [None, [1, 2], pd.DataFrame()])
def test_only_ratings_are_evaluated(wrong, model, split):
    with pytest.raises(DataError, match="give Ratings"):
        hx.evaluate(model, wrong)
    with pytest.raises(DataError, match="the test data are a Split"):
        hx.evaluate(model, split)
    with pytest.raises(DataError, match="the test data are a FactorModel"):
        hx.evaluate(split.test, model)
    with pytest.raises(ParameterError, match="bootstrap is 0"):
        hx.evaluate(model, split.test, bootstrap=0)


def test_memory_is_a_few_arrays():
    """tracemalloc counts what NumPy allocates: the peak is that of some arrays of the number of test ratings."""
    n, users, items = 1_000_000, 20_000, 5_000
    rng = np.random.default_rng(0)
    train = hx.Ratings.from_columns(
        rng.integers(0, users, 100_000), rng.integers(0, items, 100_000), rng.integers(1, 6, 100_000)
    )
    user, item = (rng.integers(0, len(ids), n).astype(np.int32) for ids in (train.users, train.items))
    test = replace(train, user=user, item=item, value=rng.integers(1, 6, n).astype(float), time=None)
    model = hx.MF(epochs=1).fit(train)
    hx.evaluate(model, test, bootstrap=2)
    tracemalloc.start()
    found = hx.evaluate(model, test)
    evaluated = tracemalloc.get_traced_memory()[1] / (8 * n)
    for name in (
        "by_rating",
        "by_activity",
        "calibration",
        "worst",
        "items",
        "residuals",
        "rounded_describe",
    ):
        getattr(found.anatomy, name)
    looked = tracemalloc.get_traced_memory()[1] / (8 * n)
    tracemalloc.stop()
    assert evaluated < 12
    assert looked < 20
