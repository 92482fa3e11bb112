"""Searches of recipes that combine others: a `Blend` as a whole, and a part of a `Recommender`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation import ranges
from hatrix.models import SEED

RATER = hx.BiasedMF(factors=4, epochs=3)
RATERS = hx.Blend([RATER, hx.Bias()])
RANKERS = hx.Blend([hx.ImplicitALS(factors=3, epochs=2), hx.SpectralMF(factors=3, noise=0.0)])
FEW = {"0.factors": (2, 6), "1.offset": (1.0, 20.0, "log")}
SAME = ["number", "state", "value", "epochs"]


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return hx.synthetic.make(60, 40, n_ratings=1200, seed=1)[0]


@pytest.fixture(scope="module")
def held(ratings: hx.Ratings) -> hx.Split:
    """What a search trains on, and what it validates on."""
    return hx.split.random(ratings, 0.1, seed=SEED)


@pytest.fixture(scope="module")
def clicks(ratings: hx.Ratings) -> hx.Ratings:
    return hx.Ratings.from_columns(ratings.user, ratings.item)


@pytest.fixture(scope="module")
def found(ratings: hx.Ratings) -> hx.Tuning:
    return hx.tune(RATERS, ratings, trials=6, progress=False)


def search(recipe, ratings, **how) -> hx.Tuning:
    return hx.tune(recipe, ratings, **({"trials": 3, "progress": False, "refit": False} | how))


def test_the_parts_of_a_blend_are_searched_by_their_places(found):
    assert list(found.space) == [
        "0.learning_rate", "0.regularization", "1.user_damping", "1.item_damping",
    ]  # fmt: skip
    assert set(found.space) < set(found.trials.columns)
    assert found.metric == "valid_rmse"
    top = found.trials.loc[found.trials["value"].idxmin()]
    assert found.value == top["value"]
    assert found.best.recipes[0].learning_rate == top["0.learning_rate"]
    assert found.best.recipes[0].factors == 4  # given, so kept
    assert set(found.values) == set(found.space)


def test_its_weights_are_learned_in_each_trial_and_in_the_last_fit(found, ratings, held):
    assert found.best.weights == "auto"
    assert found.model.recipe.weights != "auto"
    again = found.best.fit(ratings, progress=False)
    assert found.model.recipe == again.recipe
    np.testing.assert_array_equal(found.model.scores([3]), again.scores([3]))
    alone = found.best.fit(held.train, progress=False)
    assert found.value == pytest.approx(hx.evaluate(alone, held.test).rmse, abs=1e-6)


def test_the_blend_as_given_is_tried_first_and_nothing_worse_is_returned(found, held):
    given = RATERS.fit(held.train, progress=False)
    assert found.trials["value"][0] == pytest.approx(hx.evaluate(given, held.test).rmse, abs=1e-6)
    assert found.value <= found.trials["value"][0]
    assert found.gain.value == pytest.approx(found.trials["value"][0] - found.value, abs=1e-6)
    assert found.gain.low <= found.gain.value <= found.gain.high


def test_a_blend_that_ranks_is_searched_by_its_lists_and_the_weights_can_be_choices(ratings, held, tmp_path):
    weights = [(1.0, 0.5, 0.0), (0.5, 1.0, 0.0)]
    space = FEW | {"weights": weights, "share": (0.1, 0.3)}
    result = search(RANKERS, ratings, space=space, study=tmp_path / "study.db")
    assert result.metric == "valid_ndcg"
    assert result.trials["weights"][0] == "auto"
    assert set(result.trials["weights"][1:]) <= set(weights)
    assert result.trials["state"].tolist() == ["complete"] * 3
    for number in (0, int(result.trials["value"].idxmax())):
        row = result.trials.iloc[number]
        values = {name: row[name] for name in space} if number else {}
        recipe = RANKERS.with_values(values)
        lists = hx.evaluate_ranking(recipe.fit(held.train, progress=False), held.test, k=20, bootstrap=1)
        assert row["value"] == pytest.approx(lists.ndcg, abs=1e-6)
    facts = json.loads(json.dumps(result.to_dict()))
    assert facts["space"]["1.offset"] == [1.0, 20.0, "log"]
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (
        'id="knob-1.offset"',
        "one of (1.0, 0.5, 0.0), (0.5, 1.0, 0.0)",
        "hx.Blend(recipes=[hx.ImplicitALS(",
    ):
        assert text in page


def test_a_search_of_parts_is_continued_to_the_same_trials(ratings, tmp_path):
    recipe = RANKERS.replace(weights=(1.0, 0.0, 0.0))
    how = {"space": FEW | {"weights": [(1.0, 0.5, 0.0), (0.5, 1.0, 0.0)]}, "study": tmp_path / "study.db"}
    for trials in (2, 5):
        result = search(recipe, ratings, trials=trials, **how)
    whole = search(recipe, ratings, trials=5, space=how["space"])
    assert result.trials[[*SAME, *how["space"]]].equals(whole.trials[[*SAME, *how["space"]]])
    assert result.best == whole.best
    study = tmp_path / "other.db"
    search(RATER, ratings, trials=1, study=study)
    with pytest.raises(ParameterError, match="another search: its metric"):
        search(RATER, ratings, metric="ndcg", study=study)


def test_the_part_of_a_recommender_for_ratings_is_searched_alone(ratings):
    recipe = hx.Recommender(ratings=RATER)
    result = search(recipe, ratings, metric="rmse", trials=8, refit=True)
    alone = search(RATER, ratings, trials=8)
    assert list(result.space) == [f"ratings.{name}" for name in alone.space]
    assert result.trials[SAME].equals(alone.trials[SAME])  # with its epochs, and those pruned
    assert result.best.ratings == alone.best
    assert result.best.lists == "auto"
    assert result.gain == alone.gain
    assert result.values == {f"ratings.{name}": value for name, value in alone.values.items()}
    assert result.model.predict(3, 4) == alone.best.fit(ratings, progress=False).predict(3, 4)
    assert len(result.model.recommend(3, 5)) == 5


def test_the_part_of_a_recommender_for_lists_is_searched_by_default(ratings, clicks):
    space = {"lists.1.power": (0.5, 2.0)}
    result = search(hx.Recommender(ratings=RATER), ratings, space=space, refit=True)
    assert result.metric == "valid_ndcg"
    assert set(ranges.declared(result.start)) > {"lists.0.alpha0", "lists.1.power"}
    assert result.best.ratings == RATER
    assert result.best.lists.weights == result.start.lists.weights
    both = hx.tune(result.best, ratings, metric="rmse", trials=2, progress=False)
    assert both.best.lists == result.best.lists
    assert both.model.rating_model.recipe == both.best.ratings.resolved(ratings)
    of_clicks = search(hx.Recommender(), clicks, space={"lists.alpha0": (0.01, 0.1)}, refit=True)
    assert of_clicks.model.rating_model is None


def test_a_part_that_is_finished_several_times_still_is(ratings):
    result = search(hx.Recommender(lists=hx.SpectralMF(factors=3)), ratings)
    assert result.trials["finishes"].tolist() == [1, 8, 8]
    assert all(name.startswith("lists.") for name in result.space)


def test_where_nothing_is_better_the_recipe_comes_back_as_it_is(ratings):
    recipe = hx.Recommender(ratings=RATER, lists=hx.ImplicitALS(epochs=2))
    result = search(recipe, ratings, trials=1, refit=True)
    assert result.best.with_values({"lists.epochs": 2}) == recipe
    assert result.best.lists.factors == "auto"
    assert result.gain.value == 0
    assert result.model.recipe == result.best.fit(ratings, progress=False).recipe


def test_patience_of_parts_needs_no_validation_in_the_last_fit(ratings):
    recipe = hx.Recommender(ratings=RATER.replace(patience=1), lists=hx.ALS(factors=2, epochs=2))
    result = search(recipe, ratings, space={"lists.epochs": (1, 2)}, trials=1, refit=True)
    assert result.best.ratings == RATER
    blend = hx.Blend([RATER.replace(patience=1), "bias"])
    assert search(blend, ratings, space={"1.item_damping": (1, 9)}, trials=2, refit=True).model is not None


def test_a_recipe_for_ratings_can_be_searched_by_its_lists(ratings, held):
    result = search(RATER, ratings, metric="ndcg")
    model = result.best.fit(held.train, progress=False)
    assert result.value == pytest.approx(hx.evaluate_ranking(model, held.test, k=20, bootstrap=1).ndcg)
    in_recommender = search(hx.Recommender(lists=RATER), ratings)
    assert in_recommender.trials["value"].equals(result.trials["value"])


@pytest.mark.parametrize("how", ["in a fit", "between fits"])
def test_ctrl_c_in_a_blend_ends_the_search_with_what_was_found(ratings, monkeypatch, how):
    made, fit = [], hx.Bias.fit

    def stopped(self, *given, **options):
        made.append(self)
        if len(made) == 4:  # the last part of the second trial, each of which fits it twice
            if how == "between fits":
                raise KeyboardInterrupt
            model = fit(self, *given, **options)
            return replace(model, notes=("unfinished: stopped",))
        return fit(self, *given, **options)

    monkeypatch.setattr(hx.Bias, "fit", stopped)
    result = search(RATERS, ratings, trials=9, refit=True)
    assert result.interrupted
    assert len(result.trials) == 1
    assert result.gain is None
    assert not result.model.unfinished
    made[:] = [None, None]
    with pytest.raises(KeyboardInterrupt):
        search(RATERS, ratings, trials=9)


@pytest.mark.parametrize(
    ("recipe", "how", "message"),
    [
        (RATERS, {"metric": "mae"}, "no metric 'mae' to search by: choose from rmse, ndcg"),
        (RATERS, {"metric": ["rmse"]}, "no metric"),
        (RANKERS, {"metric": "rmse"}, "blend as given has none: leave the metric out"),
        (hx.Recommender(ratings=None), {"metric": "rmse"}, "recommender as given has none"),
        (RATERS, {"space": {"factors": (2, 4)}}, "Blend has no factors: it has 0.factors"),
        (RATERS, {"space": {"2.factors": (2, 4)}}, "Blend has no 2.factors"),
        (RATERS, {"space": {"0.factor": (2, 4)}}, "Blend has no 0.factor:"),
        (RATERS, {"space": {"0.factors": (0, 4)}}, "the range of 0.factors goes beyond"),
        (RATERS, {"space": {"0.factors": (4, 2)}}, "the range of 0.factors .* the lower first"),
        (RATERS, {"space": {"recipes": [["bias", "als"]]}}, "name a hyper-parameter of a part, such as 0.factors"),
        (RATERS, {"space": {"weights": [(1.0, 2.0)]}}, "the range of weights goes beyond"),
        (hx.Recommender(), {"space": {"ratings.factors": (2, 4)}}, "give metric='rmse'"),
        (hx.Recommender(), {"metric": "rmse", "space": {"lists.0.factors": (2, 4)}}, "Recommender has no lists.0"),
        (
            hx.Recommender(lists=hx.ImplicitALS()),
            {"metric": "rmse", "space": {"lists.factors": (2, 4)}},
            "give metric='ndcg'",
        ),
        (hx.Blend([RATER.replace(learning_rate=0.1, regularization=0.1), hx.MF()]), {"space": {}}, "0.epochs"),
    ],
)  # fmt: skip
def test_searches_of_parts_that_make_no_sense(ratings, recipe, how, message):
    with pytest.raises(ParameterError, match=message):
        search(recipe, ratings, **how)


def test_ratings_are_not_predicted_from_clicks(clicks):
    for recipe, how in (
        (RATERS, {}),
        (hx.Recommender(), {"metric": "rmse"}),
        (hx.Recommender(lists=RATER), {}),
    ):
        with pytest.raises(DataError, match="predicts ratings"):
            search(recipe, clicks, **how)
