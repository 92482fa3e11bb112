"""Recipes that leave their factors and the damping of their biases to the data."""

from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx
from hatrix.models import damping, trial

RECIPES = [hx.BiasedMF(), hx.SVDpp(), hx.ALS()]
recipes = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def drawn(strength: float, seed: int = 0, noise: float = 0.5) -> hx.Ratings:
    """Ratings from biases and two factors, whose product has so large a standard deviation."""
    rng = np.random.default_rng(seed)
    user, item = np.divmod(rng.permutation(150 * 100)[:5000], 100)
    P, Q = rng.normal(size=(150, 2)), rng.normal(size=(100, 2))
    level = 0.4 * rng.normal(size=150)[user] + 0.6 * rng.normal(size=100)[item]
    product = (P[user] * Q[item]).sum(axis=1) * strength / 2**0.5
    return hx.Ratings.from_columns(user, item, 3 + level + product + noise * rng.normal(size=len(user)))


@pytest.fixture(scope="module")
def plain() -> hx.Split:
    return hx.split.random(drawn(0.0), 0.2, seed=1)


@pytest.fixture(scope="module")
def rich() -> hx.Split:
    return hx.split.random(drawn(1.5), 0.2, seed=1)


@recipes
def test_without_use_for_factors_the_model_is_that_of_bias(recipe, plain):
    model, bias = (one.fit(plain.train, progress=False) for one in (recipe, hx.Bias(epochs=20)))
    assert (model.recipe.factors, model.recipe.init_scale) == (1, 0.0)
    assert not model.user_factors.any()
    assert not model.item_factors.any()
    np.testing.assert_allclose(
        model.predict_rows(plain.test.user, plain.test.item),
        bias.predict_rows(plain.test.user, plain.test.item),
        atol=5e-4,  # ALS begins with the other side
    )
    assert any("factors are left out" in note for note in model.notes)


@recipes
def test_factors_that_help_are_trained(recipe, rich):
    model, bias = (one.fit(rich.train, progress=False) for one in (recipe, hx.Bias()))
    assert (model.recipe.factors, model.recipe.init_scale) == (
        type(recipe).usual_factors,
        model.recipe.init_scale,
    )
    assert any("factors are trained" in note for note in model.notes)
    errors = [hx.evaluate(one, rich.test, bootstrap=1).rmse for one in (model, bias)]
    assert errors[0] < 0.95 * errors[1]


@recipes
def test_a_number_of_factors_is_obeyed(recipe, plain):
    model = recipe.replace(factors=3).fit(plain.train, progress=False)
    assert model.user_factors.shape[1] == model.recipe.factors == 3
    assert model.user_factors.any()
    assert not model.notes


@recipes
def test_models_of_biases_alone_are_updated_folded_in_and_saved(recipe, plain, tmp_path):
    model, bias = (one.fit(plain.train, progress=False) for one in (recipe, hx.Bias(epochs=20)))
    given = {int(i): 4.5 for i in plain.train.items.labels[:6]}
    folded = model.fold_in(given).predict("new user", 7)
    assert folded == pytest.approx(bias.fold_in(given).predict("new user", 7), abs=0.1)
    assert np.isfinite(model.fold_in_item({3: 4.0, 5: 1.0}).predict([1, 2], "new item")).all()
    more = hx.Ratings.from_columns([900, 900, 3, 3], [1, 77, 900, 901], [4.0, 4.5, 2.0, 3.0])
    wider = model.update(more)
    wider.save(tmp_path / "model.hatrix")
    loaded = hx.load(tmp_path / "model.hatrix")
    assert loaded.recipe == wider.recipe
    np.testing.assert_array_equal(loaded.predict(900, [1, 2, 900]), wider.predict(900, [1, 2, 900]))
    assert wider.predict(900, 2) > model.predict("nobody", 2)  # two high ratings
    assert len(model.recommend(3, n=5)) == 5
    assert not model.explain(3, 5).empty
    left = wider.forget(900)
    assert np.isfinite(left.predict(3, 901))


@recipes
def test_ratings_that_are_too_few_or_all_alike_leave_biases_alone(recipe):
    few = hx.Ratings.from_columns([1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [4.0, 2.0, 5.0, 3.0, 1.0])
    assert "too few" in recipe.fit(few, progress=False).notes[0]
    user, item = np.divmod(np.arange(3000), 60)
    alike = recipe.fit(hx.Ratings.from_columns(user, item, np.full(3000, 4.0)), progress=False)
    np.testing.assert_allclose(alike.predict(3, [4, 5]), 4.0)
    assert alike.recipe.init_scale == 0


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_posterior_of_factors_that_help_is_trained(likelihood, rich):
    stars = hx.Ratings.from_columns(
        rich.train.user, rich.train.item, np.clip(np.rint(rich.train.value), 1, 5)
    )
    recipe, notes = hx.BayesianMF(likelihood=likelihood).resolve(stars, threads=1)
    assert recipe.factors == 10
    assert recipe.init_scale > 0
    assert any("factors are trained" in note for note in notes)


def test_large_data_are_tried_on_some_of_their_users(monkeypatch, rich):
    monkeypatch.setattr(trial, "MOST_RATINGS", 1000)
    part = trial._sample(rich.train)
    assert 1000 <= len(part) < 1100
    for user in np.unique(part.user):
        assert (part.user == user).sum() == rich.train.user_count[user]
    work = hx.BiasedMF().fit(rich.train, progress=False).notes[0]
    assert "the work of the fit" in work


def test_the_damping_is_the_quotient_of_the_variances():
    """Biases of known variance, users' 0.16 and items' 0.36, and noise of 0.25 are told by many ratings."""
    rng = np.random.default_rng(5)
    user, item = np.divmod(rng.permutation(2000 * 1500)[:200_000], 1500)
    value = (
        0.4 * rng.normal(size=2000)[user]
        + 0.6 * rng.normal(size=1500)[item]
        + 0.5 * rng.normal(size=len(user))
    )
    found = damping.left_to_data(hx.Bias(), hx.Ratings.from_columns(user, item, value))
    assert found["user_damping"] == pytest.approx(0.25 / 0.16, rel=0.15)
    assert found["item_damping"] == pytest.approx(0.25 / 0.36, rel=0.15)


def test_without_biases_they_are_damped_away_and_a_number_is_obeyed():
    rng = np.random.default_rng(6)
    noise = hx.Ratings.from_columns(
        rng.integers(0, 300, 9000), rng.integers(0, 200, 9000), rng.normal(size=9000)
    )
    found = hx.Bias(item_damping=3.0).resolved(noise)
    assert found.item_damping == 3.0
    assert found.user_damping > 30
