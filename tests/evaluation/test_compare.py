from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, DivergenceError, ParameterError
from hatrix.evaluation import cautions, cost
from hatrix.evaluation.search_story import of_comparison

BIASED, QUICK = hx.BiasedMF(factors=4, epochs=10), {"bootstrap": 100, "progress": False}


@pytest.fixture(scope="module")
def comparison(split) -> hx.Comparison:
    return hx.compare([BIASED, hx.MF(factors=3)], split, **QUICK)


@pytest.fixture(scope="module")
def clicks(split) -> hx.Split:
    ratings = hx.Ratings.from_columns(*(split.train.to_frame()[name] for name in ("user", "item")))
    return hx.split.per_user(ratings)


def test_figures_are_those_of_evaluate_with_the_best_first_and_the_baseline_added(comparison, split):
    table = comparison.table()
    assert set(table.index) == {"biased-mf", "mf", "bias"}
    assert table["rmse"].is_monotonic_increasing
    assert table["baseline"].tolist() == [name == "bias" for name in table.index]
    alone = hx.evaluate(BIASED.fit(split.train), split.test, bootstrap=100, seed=42)
    row = table.loc["biased-mf"]
    assert (row["rmse"], row["mae"]) == (alone.rmse, alone.mae)
    assert (row["rmse_low"], row["rmse_high"]) == alone.intervals["rmse"]
    assert row["epochs"] == 10
    assert row["train_seconds"] > 0
    assert row["microseconds_per_user"] > 0


def test_size_counts_all_learned_numbers(comparison):
    model = comparison["biased-mf"].model
    assert comparison["biased-mf"].size_in_bytes == 4 * (len(model.users) + len(model.items)) * 5
    draws = hx.SpectralMF(factors=4)
    clicks = hx.Ratings.from_columns([1, 1, 2], [1, 2, 2])
    assert cost.size_in_memory(draws.fit(clicks)) == 4 * ((2 + 2) * 5 + (2 + 2) * 4)  # and the projections


def test_every_pair_is_tested_and_corrected(comparison):
    pairs = comparison.differences
    assert len(pairs) == 3
    assert (pairs["p_holm"] >= pairs["p"]).all()
    table = comparison.table()
    best = table.index[0]
    for name in table.index[1:]:
        assert table.loc[name, "difference"] == pytest.approx(
            table.loc[name, "rmse"] - table.loc[best, "rmse"]
        )
        assert 0 <= table.loc[name, "p_best"] <= 1
        assert table.loc[best, f"p_{name}" if name == "bias" else "p_best"] != 0 or name != "bias"
    assert np.isnan(table.loc[best, "p_best"])
    assert table.loc["bias", "p_best"] == table.loc[best, "p_bias"] or best == "bias"


def test_models_in_two_names_with_the_same_numbers_do_not_differ(split):
    result = hx.compare({"a": BIASED, "b": BIASED, "bias": hx.MF(factors=2)}, split, **QUICK)
    assert set(result.by_name) == {"a", "b", "bias", "bias (baseline)"}
    pair = result.differences.query("model in ('a', 'b') and other in ('a', 'b')").iloc[0]
    assert (pair["difference"], pair["p"]) == (0.0, 1.0)
    assert not any("baseline a" in word or "baseline b," in word for word in result.warnings)


def test_recipes_of_one_kind_are_told_apart(split):
    result = hx.compare([BIASED, hx.BiasedMF(factors=8, epochs=10), hx.Bias()], split, **QUICK)
    assert set(result.by_name) == {"biased-mf factors=4 epochs=10", "biased-mf factors=8 epochs=10", "bias"}


def test_mixed_lists_are_compared_by_their_rankings(split):
    result = hx.compare([BIASED, hx.SpectralMF(factors=4)], split, k=5, **QUICK)
    assert (result.task, result.metric) == ("ranking", "ndcg")
    assert set(result.by_name) == {"biased-mf", "spectral-mf", "bias", "popular"}
    table = result.table()
    alone = hx.evaluate_ranking(BIASED.fit(split.train), split.test, k=5)
    assert table.loc["biased-mf", "ndcg"] == pytest.approx(alone.ndcg)
    assert table.loc["biased-mf", "coverage"] == pytest.approx(alone.coverage)
    assert {"p_bias", "p_popular", "recall_low"} <= set(table)
    assert table["ndcg"].is_monotonic_decreasing
    ratings = hx.compare([BIASED], split, metric="recall", **QUICK)
    assert ratings.task == "ranking"


def test_the_paired_test_of_rankings_is_over_users(split):
    from scipy.stats import ttest_rel

    result = hx.compare([BIASED, hx.Popular()], split, k=5, **QUICK)
    values = [result[name].evaluation.values[5]["ndcg"] for name in ("biased-mf", "popular")]
    pair = result.differences
    row = pair[
        [{a, b} == {"biased-mf", "popular"} for a, b in zip(pair["model"], pair["other"], strict=True)]
    ]
    assert float(row["p"].iloc[0]) == pytest.approx(ttest_rel(*values).pvalue)


def test_events_are_compared_by_rankings_with_popularity_as_the_baseline(clicks):
    result = hx.compare([hx.SpectralMF(factors=4)], clicks, **QUICK)
    assert set(result.by_name) == {"spectral-mf", "popular"}
    with pytest.raises(ParameterError, match="events without ratings"):
        hx.compare([hx.SpectralMF(factors=4)], clicks, metric="rmse", **QUICK)


def test_weights_left_to_the_data_are_worked_out(split):
    recipe = hx.ImplicitALS(factors=4, epochs=2)
    result = hx.compare([recipe, hx.Popular()], split, progress=False)
    assert result["implicit-als"].recipe == recipe.resolved(split.train) != recipe


def test_fitted_models_are_taken_as_they_are(split, model):
    result = hx.compare([model], split, **QUICK)
    assert result["biased-mf"].model is model
    assert result["biased-mf"].train_seconds == model.history["seconds"].iloc[-1]
    assert not any(word.startswith("H008") for word in result.warnings)


def test_the_order_of_users_in_a_model_from_elsewhere_does_not_matter(split):
    frame = split.train.to_frame().sample(frac=1, random_state=0)
    columns = {name: frame[name].to_numpy() for name in ("user", "item", "rating")}
    elsewhere = hx.Ratings.from_columns(*columns.values())
    model = hx.Bias().fit(elsewhere)
    result = hx.compare({"there": model, "here": hx.Bias()}, split, metric="ndcg", **QUICK)
    pair = result.differences.query("model in ('there', 'here') and other in ('there', 'here')").iloc[0]
    assert abs(pair["difference"]) < 0.02


# ------------------------------------------------------------------------------------------- warnings


def codes(result: hx.Comparison) -> set[str]:
    return {word[:4] for word in result.warnings}


def test_a_sound_comparison_says_nothing():
    ratings, _ = hx.synthetic.make(300, 100, n_ratings=15_000, factors=2, noise=0.3, seed=1)
    split = hx.split.per_user(ratings)
    result = hx.compare([hx.BiasedMF(factors=4, epochs=40)], split, **QUICK)
    assert result.best.name == "biased-mf"
    assert codes(result) == {"H011"}  # a model of ratings makes poor lists
    assert hx.compare([hx.Popular()], split, **QUICK).warnings == ()


def test_pairs_in_both_parts_are_found(split):
    both = np.concatenate([np.arange(len(split.train)), np.arange(7)])
    leaky = replace(split, test=replace(split.train.take(both[-7:])), train=split.train)
    result = hx.compare([BIASED], leaky, **QUICK)
    [word] = [word for word in result.warnings if word.startswith("H001")]
    assert "7 of 7" in word


def test_a_test_part_older_than_the_training_part_is_found_and_a_random_one_is_not(split):
    ratings = split.train
    later = hx.split.by_time(ratings)
    assert "H002" not in codes(hx.compare([BIASED], later, **QUICK))
    backwards = hx.Split(later.test, later.train, "backwards")
    assert "H002" in codes(hx.compare([BIASED], backwards, **QUICK))
    assert cautions.share_older(later.train, later.test) == 0.0
    assert cautions.share_older(split.train, split.test) == pytest.approx(0.5, abs=0.05)


def test_a_model_worse_than_a_baseline_is_found(split):
    result = hx.compare([hx.MF(factors=30, epochs=200, learning_rate=0.01)], split, **QUICK)
    [word] = [word for word in result.warnings if word.startswith("H004")]
    assert "mf is worse than the baseline bias beyond chance" in word
    assert "H006" in codes(result)


def test_a_rising_validation_is_found_unless_the_best_epoch_is_restored(split):
    wild = {"factors": 30, "epochs": 60, "regularization": 0.0, "learning_rate": 0.1, "schedule": "constant"}
    result = hx.compare([hx.BiasedMF(**wild)], split, valid=0.1, **QUICK)
    [word] = [word for word in result.warnings if word.startswith("H006")]
    assert "validation RMSE was best after epoch" in word
    restored = hx.BiasedMF(**wild, patience=3).fit(split.train, 0.1, progress=False)
    assert cautions.rising(restored.history)
    assert not cautions.of_overfitting("x", restored.history, restored=True)


def test_a_model_that_diverges_is_listed_and_the_others_go_on(split):
    wild = hx.MF(learning_rate=10.0)
    result = hx.compare([BIASED, wild], split, **QUICK)
    assert "H007" in codes(result)
    assert result.entries[-1].name == "mf"
    assert np.isnan(result.table().loc["mf", "rmse"])
    json.dumps(result.to_dict(), allow_nan=False)
    of_comparison(result)
    assert "mf" not in repr(result).replace("biased-mf", "")


def test_a_model_of_other_ratings_is_found(split):
    both = hx.Ratings.from_columns(*(split.test.to_frame()[name] for name in ("user", "item", "rating")))
    result = hx.compare([hx.Bias(), BIASED.fit(both, progress=False)], split, **QUICK)
    assert "H008" in codes(result)
    held = hx.compare([BIASED.fit(split.train, 0.1, progress=False)], split, **QUICK)
    assert "H008" not in codes(held)


def test_many_cold_predictions_are_found(split):
    frame = split.train.to_frame()
    new = frame["user"].to_numpy() < np.quantile(frame["user"], 0.3)
    parts = hx.Split(split.train.take(~new), split.train.take(new), "new users")
    assert "H003" in codes(hx.compare([BIASED], parts, **QUICK))


# ---------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("models", "given", "message"),
    [
        ([], {}, "no models"),
        ([hx.BiasedMF], {}, r"write BiasedMF\(\)"),
        (["biased-mf"], {}, "a str"),
        ([hx.Bias(), hx.Bias()], {}, "two models are called 'bias"),
        ([hx.Bias()], {"metric": "accuracy"}, "no metric 'accuracy'"),
        ([hx.Popular()], {"metric": "rmse"}, "only ranks"),
        ([hx.MF(patience=3)], {}, "valid=0.1"),
        ([hx.Bias()], {"k": 0, "metric": "ndcg"}, "k is 0"),
        ([hx.Bias()], {"k": True}, "k is True"),
        ([hx.Bias()], {"relevant_from": 4}, "relevant_from=4 says which ratings count in rankings"),
        ([hx.Bias()], {"confidence": 95}, "confidence is 95"),
        (3, {}, "models is a int"),
    ],
)
def test_what_makes_no_sense_is_refused(split, models, given, message):
    with pytest.raises((DataError, ParameterError), match=message):
        hx.compare(models, split, **given)


def test_other_things_than_a_split_are_refused(split):
    with pytest.raises(DataError, match=r"hatrix\.split"):
        hx.compare([hx.Bias()], split.train)
    with pytest.raises(DataError, match="neither"):
        hx.compare([split], split)


def test_one_model_alone_that_diverges_leaves_its_baseline(split):
    result = hx.compare([hx.MF(learning_rate=10.0)], split, **QUICK)
    assert result.best.name == "bias"
    with pytest.raises((DivergenceError, DataError)):
        hx.compare([hx.MF(learning_rate=10.0).fit(split.train)], split)


# ------------------------------------------------------------------------------------------------ output


def test_it_is_ready_for_json_and_has_the_recipes(comparison):
    facts = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert facts["best"] == comparison.best.name
    assert [row["model"] for row in facts["models"]] == list(comparison.table().index)
    row = next(row for row in facts["models"] if row["model"] == "biased-mf")
    assert row["hyperparameters"]["factors"] == 4


@pytest.mark.parametrize(
    ("x", "y"), [("train_seconds", None), ("microseconds_per_user", "mae"), ("rmse", "mae")]
)
def test_any_figure_can_be_drawn_against_another(comparison, x, y):
    spec = comparison.chart(x, y).to_dict()
    values = (
        next(iter(spec["datasets"].values()), None)
        if "datasets" in spec
        else spec["layer"][0]["data"]["values"]
    )
    assert {row["model"] for row in values} == set(comparison.by_name)


def test_a_figure_that_is_not_there_cannot_be_drawn(comparison):
    with pytest.raises(ParameterError, match="choose from rmse"):
        comparison.chart("recall")
    with pytest.raises(ParameterError, match="there are"):
        comparison["nobody"]


def test_the_page_is_complete_and_loads_nothing(comparison, tmp_path):
    path = tmp_path / "compare.html"
    comparison.report(path, command="hatrix compare <data>")
    page = path.read_text()
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    for text in ("biased-mf", "Every pair", "hatrix compare &lt;data&gt;", "paired t-test"):
        assert text in page
    for chart in re.findall(r'<script type="application/json" data-chart="[^"]+">(.*?)</script>', page):
        json.loads(chart)


def test_names_cannot_break_the_page(split, tmp_path):
    result = hx.compare({"<script>alert(1)</script>": BIASED}, split, **QUICK)
    result.report(tmp_path / "compare.html")
    assert "<script>alert" not in (tmp_path / "compare.html").read_text()


@pytest.fixture(scope="module")
def popularity() -> hx.Split:
    """Return a split of ratings in which few items have most ratings."""
    return hx.split.per_user(hx.synthetic.make(300, 100, n_ratings=9_000, factors=2, noise=0.3, seed=1)[0])


def words_of(result: hx.Comparison, code: str) -> list[str]:
    return [word for word in result.warnings if word.startswith(code)]


def test_lists_that_are_worse_than_popular_are_found_whatever_is_compared(popularity):
    """Models of ratings are told of their lists where errors are compared, too; one message says what to do."""
    [by_error] = words_of(hx.compare([BIASED, hx.MF(factors=3)], popularity, **QUICK), "H011")
    assert "biased-mf (NDCG@20" in by_error
    assert ", mf (NDCG@20" in by_error or "of mf (NDCG@20" in by_error
    result = hx.compare([BIASED, hx.Popular()], popularity, **QUICK)
    [word] = words_of(result, "H011")
    figures = (result[name].evaluation.ndcg for name in ("biased-mf", "popular"))
    assert "the lists of biased-mf (NDCG@20 {:.3f} and {:.3f}) are worse".format(*figures) in word
    assert "use the lists of a Recommender" in word
    assert not [other for other in words_of(result, "H004") if "baseline popular" in other]
    assert word in result.to_dict()["warnings"]


def test_the_remedy_of_a_model_that_ranks_is_no_recommender(popularity):
    backwards = {"worst first": hx.SpectralMF(factors=2, popularity=-2.0)}
    [word] = words_of(hx.compare(backwards, popularity, **QUICK), "H011")
    assert "learned to predict ratings" not in word
    assert "hatrix tune" in word


def test_a_recommender_is_compared_by_errors_of_ratings_too(split):
    both = hx.Recommender(ratings=BIASED, lists=hx.ImplicitALS(factors=4))
    result = hx.compare([both, hx.Bias()], split, metric="rmse", **QUICK)
    assert result.task == "rating"
    alone = hx.compare([BIASED], split, **QUICK)
    assert result["recommender"].evaluation.rmse == alone["biased-mf"].evaluation.rmse
    with pytest.raises(ParameterError, match="only ranks"):
        hx.compare([hx.Recommender(ratings=None), hx.Bias()], split, metric="rmse", **QUICK)
