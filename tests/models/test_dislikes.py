"""Algorithms that rank take every row as a like, so values below 0 are refused and zeros are warned of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError
from hatrix.models import ALGORITHMS, algorithm

SMALL = {
    "implicit-als": {"factors": 4, "epochs": 2, "evidence": "count"},
    "bpr": {"factors": 4, "epochs": 2},
    "spectral-mf": {"factors": 4},
    "popular": {},
}
RANKING = [name for name in ALGORITHMS if algorithm(name).task == "ranking"]
every_ranker = pytest.mark.parametrize("name", RANKING)
BELOW = r"160 of the 320 .* below 0, the lowest -1, .* dislikes would be recommended: .* biased-mf"


def made_up(low: float, high: float = 1.0) -> hx.Ratings:
    """Items 0 to 7 are disliked by whoever has them, and 8 to 15 are liked."""
    rng = np.random.default_rng(0)
    items = np.concatenate([np.r_[rng.choice(8, 4, False), 8 + rng.choice(8, 4, False)] for _ in range(40)])
    return hx.Ratings.from_columns(np.repeat(np.arange(40), 8), items, np.where(items < 8, low, high))


def recipe_of(name: str) -> hx.models.fit.Algorithm:
    return algorithm(name)(**SMALL[name])


def test_all_that_rank_are_tested():
    assert set(RANKING) == set(SMALL)


@every_ranker
def test_a_fit_refuses_dislikes(name):
    with pytest.raises(DataError, match=BELOW):
        recipe_of(name).fit(made_up(-1.0), progress=False)
    with pytest.raises(DataError, match=BELOW):
        recipe_of(name).train(made_up(-1.0))
    with pytest.raises(DataError, match="validation ratings are below 0"):
        recipe_of(name).fit(made_up(2.0), made_up(-1.0), progress=False)


@pytest.mark.parametrize("name", ["bpr", "spectral-mf", "popular"])
def test_a_fit_warns_of_zeros(name):
    with pytest.warns(
        UserWarning, match=f"160 of the 320 training ratings are 0, and {name} takes every row"
    ) as said:
        recipe_of(name).fit(made_up(0.0, 5.0), progress=False)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe_of(name).fit(made_up(1.0, 5.0), progress=False)


@pytest.mark.parametrize("high", [0.0, 5.0])
def test_implicit_als_refuses_zeros_which_have_no_weight_without_a_warning(high):
    zeros = 160 if high else 320
    numbers = {"alpha": 1.0, "alpha0": 0.1, "regularization": 0.1}
    clicks = hx.Ratings.from_columns(np.repeat(np.arange(20), 4), np.tile(np.arange(10), 8), implicit=True)
    model = recipe_of("implicit-als").fit(clicks, progress=False)
    new = hx.Ratings.from_columns([1, 1], [7, 8], [0.0, 1.0], implicit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for recipe in (recipe_of("implicit-als"), recipe_of("implicit-als").replace(**numbers)):
            with pytest.raises(
                DataError, match=f"^{zeros} of the 320 training ratings are 0, .* above 0: leave"
            ):
                recipe.fit(made_up(0.0, high), progress=False)
        with pytest.raises(DataError, match=r"^1 of the 2 new ratings are 0, .* above 0: leave"):
            model.update(new)
    with pytest.warns(UserWarning, match="160 of the 320 validation ratings are 0"):
        recipe_of("implicit-als").fit(made_up(1.0), made_up(0.0), progress=False)


@pytest.mark.parametrize("evidence", ["auto", "signed"])
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_evidence_of_stars_takes_them(evidence, low):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = hx.ImplicitALS(factors=4, evidence=evidence).fit(made_up(low, 5.0), progress=False)
        folded = model.fold_in({3: low, 9: 5.0}, user_id=0)
    liked = (model.recommend_all(3, progress=False)["item"] >= 8).mean()
    assert liked > (0.95 if evidence == "signed" else 0.85)  # as counts, half of them are
    assert folded.recommend(0, 1)["item"][0] >= 8


@pytest.mark.parametrize("name", ["bias", "als", "mf"])
def test_algorithms_that_predict_ratings_take_them(name):
    model = algorithm(name)().fit(made_up(-1.0), progress=False)
    assert (model.recommend_all(3, progress=False)["item"] >= 8).all()


@every_ranker
def test_update_and_fold_in_refuse_dislikes(name):
    clicks = hx.Ratings.from_columns(np.repeat(np.arange(20), 4), np.tile(np.arange(10), 8), implicit=True)
    model = recipe_of(name).fit(clicks, progress=False)
    for value in (-1.0, -0.5):
        new = hx.Ratings.from_columns([1, 1], [7, 8], [value, 1.0], implicit=True)
        with pytest.raises(DataError, match="1 of the 2 new ratings are below 0"):
            model.update(new)
    for value in (-1.0, 0.0):
        for fold, what in ((model.fold_in, "item"), (model.fold_in_item, "user")):
            with pytest.raises(
                DataError, match=f"the value of {what} 3 is {value}, and {name} takes every {what} given"
            ):
                fold({3: value, 4: 1.0})


def test_a_zero_is_a_star_where_the_scale_begins_there():
    with pytest.warns(UserWarning, match="are 0"):
        model = hx.Popular().fit(made_up(0.0, 5.0), progress=False)
    assert len(model.fold_in({3: 0.0, 4: 5.0}).users) == 1


@every_ranker
def test_comparisons_searches_and_folds_refuse_them(name):
    split = hx.split.per_user(made_up(-1.0))
    recipe = recipe_of(name)
    with pytest.raises(DataError, match="below 0"):
        hx.compare([recipe], split, progress=False)
    if name != "popular":  # has nothing to search
        with pytest.raises(DataError, match=r"below 0|takes counts, or other confidences, above 0"):
            hx.tune(recipe, split.train, trials=1, progress=False)
    with pytest.raises(DataError, match="below 0"):
        hx.cross_validate(recipe, made_up(-1.0), folds=2, progress=False)


def test_held_out_dislikes_that_count_as_relevant_are_warned_of():
    split = hx.split.per_user(made_up(-1.0))
    model = hx.ALS(factors=2, epochs=2).fit(split.train, progress=False)
    result = hx.evaluate_ranking(model, split.test, k=3)
    assert any(word.startswith("dislikes: ") and "pass relevant_from" in word for word in result.warnings)
    result = hx.evaluate_ranking(model, split.test, k=3, relevant_from=1)
    assert not any(word.startswith("dislikes") for word in result.warnings)
