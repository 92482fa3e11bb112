from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
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


def test_the_report_is_written(result, tmp_path):
    result.report(tmp_path / "report.html", protocol="per_user 0.2, seed 42")
    assert "Film" in (tmp_path / "report.html").read_text()
