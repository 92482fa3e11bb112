from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import ParameterError
from hatrix.kernels import schedule
from hatrix.models.pairwise import usual_bias

SAMPLINGS = ("uniform", "popularity", "adaptive")
ARRAYS = ("user_factors", "item_factors", "item_bias")
every_sampling = pytest.mark.parametrize("sampling", SAMPLINGS)


@cache
def structured_clicks(seed=0, groups=6, users=240, items=90, each=9) -> hx.Split:
    """Users of a group click on its items, nine times out of ten."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    within = rng.integers(0, items // groups, len(user)) * groups + user % groups
    item = np.where(rng.random(len(user)) < 0.9, within, rng.integers(0, items, len(user)))
    return hx.split.per_user(hx.Ratings.from_columns(user, item), 0.25, seed=1)


def recipe(**changes) -> hx.BPR:
    return hx.BPR(**{"factors": 8, "epochs": 25, "candidates": 4} | changes)


@every_sampling
def test_clicks_with_structure_are_ranked_better_than_by_popularity(sampling):
    split = structured_clicks()
    ours, popular = (
        hx.evaluate_ranking(r.fit(split.train), split.test, k=10).ndcg
        for r in (recipe(sampling=sampling), hx.Popular())
    )
    assert ours > 2 * popular


@every_sampling
def test_the_objective_falls_and_pairs_get_into_order(sampling):
    history = recipe(sampling=sampling, decay=0.9).fit(structured_clicks().train).history
    objective = history.objective
    assert objective.iloc[-5:].mean() < 0.8 * objective.iloc[:2].mean()
    assert history.ordered.iloc[-1] > history.ordered.iloc[0] + 0.1
    assert history.ordered.between(0, 1).all()
    np.testing.assert_allclose(history.learning_rate, 0.15 * 0.9 ** np.arange(25))


def test_the_first_objective_is_that_of_a_coin():
    """Nothing is learned at a rate of nearly zero from factors near zero: -ln σ(0) = ln 2 for every pair."""
    history = recipe(epochs=1, learning_rate=1e-9, init_scale=1e-4).fit(structured_clicks().train).history
    assert history.objective.iloc[0] == pytest.approx(np.log(2), rel=1e-4)


@every_sampling
def test_threads_do_not_change_a_bit_and_seeds_do(sampling, monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 20)
    train = structured_clicks().train
    fast = recipe(sampling=sampling, epochs=4)
    models = [fast.fit(train, seed=3, threads=threads) for threads in (1, 2, 5)]
    other = fast.fit(train, seed=4, threads=1)
    for name in ARRAYS:
        for model in models[1:]:
            np.testing.assert_array_equal(getattr(models[0], name), getattr(model, name), err_msg=name)
        assert not np.array_equal(getattr(models[0], name), getattr(other, name))


def test_samplings_draw_different_negatives():
    biases = [
        recipe(sampling=sampling, epochs=3).fit(structured_clicks().train).item_bias for sampling in SAMPLINGS
    ]
    for one in range(3):
        for two in range(one):
            assert not np.array_equal(biases[one], biases[two])


def test_popular_negatives_push_popular_items_down():
    """Drawn as often as they are clicked, popular items win as often as they lose: their biases stay small."""
    rng = np.random.default_rng(5)
    share = 1 / np.arange(1, 61)
    user = np.repeat(np.arange(300), 8)
    item = np.concatenate([rng.choice(60, 8, replace=False, p=share / share.sum()) for _ in range(300)])
    clicks = hx.Ratings.from_columns(user, item)
    slope = {}
    for sampling in ("uniform", "popularity"):
        model = recipe(sampling=sampling, factors=2, regularization=0.5).fit(clicks)
        slope[sampling] = np.polyfit(np.log(model.item_count), model.item_bias, 1)[0]
    assert slope["uniform"] > 0.3
    assert slope["popularity"] < 0.6 * slope["uniform"]


def test_one_candidate_is_the_uniform_draw():
    train = structured_clicks().train
    one, uniform = (recipe(**c).fit(train) for c in ({"candidates": 1}, {"sampling": "uniform"}))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(uniform, name))


def test_the_items_have_biases_and_the_users_none():
    train = structured_clicks().train
    model = recipe().fit(train)
    assert model.mean == 0
    assert not np.any(model.user_bias)
    assert np.ptp(model.item_bias) > 0.1


def test_a_penalty_pulls_the_biases_to_what_is_usual_for_their_popularity():
    train, apart = structured_clicks().train, []
    for penalty in (0.0, 5.0):
        model = recipe(bias_regularization=penalty).fit(train)
        count, bias = model.item_count, model.item_bias.astype(float)
        assert (count > 0).all()
        usual = usual_bias(model.item_bias, count, count)
        x = np.log1p(count)
        np.testing.assert_allclose(usual, 0.99 * np.polyval(np.polyfit(x, bias, 2), x), rtol=1e-6)
        assert np.polyfit(x, bias, 1)[0] > 0
        apart.append((bias - usual).std())
    assert apart[1] < 0.3 * apart[0]


def test_items_as_popular_as_each_other_have_one_usual_bias():
    bias, count = np.array([0.5, 1.5, 9.0]), np.array([4, 4, 0])
    np.testing.assert_allclose(usual_bias(bias, count, np.array([0, 4, 100])), 0.99)
    np.testing.assert_allclose(
        usual_bias(np.array([0.0, 1.0]), np.array([1, 9]), np.array([0, 1, 9, 50])),
        [0, 0, 0.99, 0.99],
        atol=1e-9,
    )
    assert usual_bias(bias, 0 * count, count).tolist() == [0, 0, 0]


def test_lists_of_very_skewed_clicks_are_no_worse_than_by_popularity():
    """Many users have few clicks or none, and a few have most of the items: their lists are as good as the item biases."""
    gain = []
    for seed in (1, 2, 3):
        clicks = hx.synthetic.make(800, 300, n_ratings=8000, skew=2.0, implicit=True, seed=seed)[0]
        split = hx.split.random(clicks, 0.2, seed=0)
        ours, popular = (
            hx.evaluate_ranking(one.fit(split.train, progress=False), split.test, k=20, bootstrap=1).ndcg
            for one in (hx.BPR(), hx.Popular())
        )
        gain.append(ours / popular - 1)
    assert np.mean(gain) > 0


def test_rows_without_training_data_stay_zero():
    clicks = structured_clicks().train
    cold = clicks.take((clicks.user != 7) & (clicks.item != 11))
    model = recipe(epochs=3).fit(cold)
    assert not np.any(model.user_factors[7])
    assert not np.any(model.item_factors[11])
    assert model.item_bias[11] == 0
    assert np.all(np.any(model.user_factors[cold.user], axis=1))


def test_values_are_not_read():
    """What was clicked counts, not how often."""
    clicks = structured_clicks().train
    many = hx.Ratings.from_columns(clicks.user, clicks.item, np.arange(len(clicks)) % 5 + 1.0)
    once = hx.Ratings.from_columns(clicks.user, clicks.item, np.ones(len(clicks)))
    a, b = (recipe(epochs=2).fit(r) for r in (many, once))
    np.testing.assert_array_equal(a.user_factors, b.user_factors)


def test_a_user_who_has_everything_teaches_nothing_and_harms_nothing():
    model = recipe(epochs=5).fit(hx.Ratings.from_columns([1] * 6, np.arange(6)))
    assert np.isfinite(model.scores([1])).all()
    assert not np.any(model.item_bias)


def test_a_rate_far_too_high_is_a_divergence_that_says_what_to_do():
    with pytest.raises(hx.HatrixError, match="learning_rate="):
        recipe(learning_rate=10.0, regularization=100.0, epochs=60, decay=1.0).fit(structured_clicks().train)


@pytest.mark.parametrize(
    "wrong",
    [
        {"factors": -1},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"decay": 1.1},
        {"regularization": -0.1},
        {"bias_regularization": -0.1},
        {"sampling": "random"},
        {"candidates": 33},
        {"biased": False},
    ],
    ids=str,
)
def test_strange_recipes_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ParameterError, match=rf"\b{name}\b"):
        recipe(**wrong)


def without_taste() -> hx.Ratings:
    return hx.synthetic.make(300, 120, n_ratings=3000, factors=0, implicit=True, seed=5)[0]


def test_what_is_left_to_the_data_is_resolved_and_a_number_is_obeyed():
    train = structured_clicks().train
    numbers = hx.BPR().resolved(train)
    assert (numbers.factors, numbers.candidates, numbers.sampling, numbers.regularization) == (
        64,
        2,
        "adaptive",
        0.05,
    )
    given = hx.BPR(factors=3, sampling="uniform", regularization=0.3)
    assert given.resolved(train) == given.replace(candidates=16, bias_regularization=1.0)
    assert numbers.bias_regularization == 1.0
    assert hx.BPR(candidates=5).resolved(train).bias_regularization == 0.01
    assert hx.BPR(candidates=1).resolved(train).sampling == "uniform"
    assert hx.BPR(candidates=7).resolved(without_taste()).candidates == 7


def test_many_groups_of_taste_take_more_candidates():
    few, many = (
        hx.BPR()
        .resolved(structured_clicks(groups=groups, users=groups * 40, items=groups * 15).train)
        .candidates
        for groups in (6, 60)
    )
    assert few == 2 < many


@pytest.mark.parametrize("kind", [hx.BPR, hx.SpectralMF, hx.ImplicitALS])
def test_without_taste_the_lists_are_those_of_popular_through_fold_in_update_and_file(kind, tmp_path):
    ratings = without_taste()
    model, popular = kind().fit(ratings, progress=False), hx.Popular().fit(ratings)
    assert model.recipe.factors == model.user_factors.shape[1] == 0
    assert any(note.startswith("H010") for note in model.notes)
    for user in ratings.users.labels[:10].tolist():
        assert model.recommend(user, 10).item.tolist() == popular.recommend(user, 10).item.tolist()
    model.save(tmp_path / "model.hatrix")
    loaded = hx.load(tmp_path / "model.hatrix")
    item = ratings.items.labels[0].item()
    folded = loaded.fold_in({item: 1.0})
    assert (
        folded.recommend("new user", 5).item.tolist()
        == popular.fold_in({item: 1.0}).recommend("new user", 5).item.tolist()
    )
    new = hx.Ratings.from_columns([9001, 9001], [9002, item])
    updated = loaded.update(new)
    assert updated.user_factors.shape == (len(ratings.users) + 1, 0)
    assert updated.recommend(9001, 10).item.tolist() == popular.update(new).recommend(9001, 10).item.tolist()
    users = ratings.users.labels[:7].tolist()
    theirs, ours = (one.fold_in_item(dict.fromkeys(users, 1.0)) for one in (popular, loaded))
    seven = np.flatnonzero(popular.item_count == 7)
    assert theirs.item_bias[0] == 7
    np.testing.assert_allclose(ours.item_bias[0], loaded.item_bias[seven[0]], rtol=1e-6)
    assert loaded.explain(users[0], item).attrs["score"] == pytest.approx(loaded.scores(users[0])[0, 0])
    assert loaded.forget(users[0], refit=True).user_factors.shape[1] == 0


@pytest.mark.parametrize("kind", [hx.BPR, hx.SpectralMF, hx.ImplicitALS])
def test_a_model_that_was_put_together_by_hand_folds_in(kind):
    rng = np.random.default_rng(0)
    parts = (
        {"projection": rng.normal(size=(9, 3)), "user_projection": rng.normal(size=(4, 3))}
        if kind is hx.SpectralMF
        else {}
    )
    model = hx.FactorModel(
        kind(), hx.Ids(np.arange(4)), hx.Ids(np.arange(9)), 0.0, np.zeros(4, np.float32), np.zeros(9, np.float32),
        rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32),
        np.full(4, 3), np.full(9, 2), 1.0, None, 0, pd.DataFrame({"epoch": [1]}), parts=parts,
    )  # fmt: skip
    assert "auto" not in model.recipe.model_dump().values()
    assert np.isfinite(model.fold_in({1: 1.0, 2: 1.0}).user_factors).all()
