from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx
import naive
from hatrix.kernels import schedule
from hatrix.models.mf import row_penalties


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 300, 12_000), rng.integers(0, 120, 12_000)
    level = rng.normal(size=300)[user] * 0.5 + rng.normal(size=120)[item] * 0.5
    return hx.Ratings.from_columns(
        user, item, np.clip(np.round(3.5 + level + rng.normal(0, 0.8, 12_000)), 1, 5)
    )


def test_the_sequential_mode_is_the_notebook(ratings):
    part = hx.split.random(ratings, 0.2, seed=1).train
    P, Q, history = naive.notebook(part, rank=5, epochs=12, learning_rate=0.001, seed=42)
    model = hx.MF(precision="float64", sequential=True, epochs=12).fit(part)
    np.testing.assert_allclose(model.history.train_mse, history, rtol=1e-9)
    np.testing.assert_allclose(model.user_factors, P, rtol=1e-9)
    np.testing.assert_allclose(model.item_factors, Q, rtol=1e-9)


def test_the_defaults_are_the_notebook():
    recipe = hx.MF()
    assert (recipe.factors, recipe.epochs, recipe.learning_rate, recipe.regularization) == (
        5,
        100,
        0.001,
        0.0,
    )


def test_the_sequential_mode_keeps_the_draws_of_cold_rows(ratings):
    warm = ratings.user != 7
    model = hx.MF(precision="float64", sequential=True, epochs=1).fit(ratings.take(warm))
    draw = np.random.RandomState(42)
    np.testing.assert_array_equal(model.user_factors[7], draw.rand(len(ratings.users), 5)[7])
    assert not hx.MF(epochs=1).fit(ratings.take(warm)).user_factors[7].any()


@pytest.mark.parametrize(
    "recipe",
    [
        hx.MF(factors=12, epochs=4),
        hx.BiasedMF(factors=20, epochs=4),
        hx.BiasedMF(schedule="adaptive", epochs=3),
    ],
)
def test_threads_do_not_change_a_bit(ratings, recipe, monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 100)
    models = [recipe.fit(ratings, threads=threads) for threads in (1, 2, 5)]
    for other in models[1:]:
        for name in ("user_factors", "item_factors", "user_bias", "item_bias"):
            np.testing.assert_array_equal(getattr(models[0], name), getattr(other, name))


@pytest.mark.parametrize("schedule_name", ["constant", "decay", "adaptive"])
def test_schedules_learn(ratings, schedule_name):
    split = hx.split.random(ratings, 0.2, seed=1)
    model = hx.BiasedMF(schedule=schedule_name, factors=8).fit(split.train, valid=split.test)
    rate = model.history.learning_rate
    assert rate.nunique() == (20 if schedule_name == "decay" else 1)
    error = split.test.value - split.train.value.mean()
    assert model.history.valid_rmse.iloc[-1] < 0.9 * np.sqrt(np.mean(error**2))


def test_float64_and_float32_agree(ratings):
    single, double = (
        hx.BiasedMF(factors=8, epochs=3, precision=p).fit(ratings) for p in ("float32", "float64")
    )
    assert single.user_factors.dtype == np.float32
    assert double.user_factors.dtype == np.float64
    np.testing.assert_allclose(single.item_bias, double.item_bias, atol=1e-4)


def test_known_factors_are_recovered():
    """Noise-free ratings of rank 2 are predicted well where they were not seen."""
    rng = np.random.default_rng(3)
    P, Q = rng.normal(size=(200, 2)), rng.normal(size=(100, 2))
    user, item = np.divmod(rng.permutation(20_000)[:8000], 100)
    ratings = hx.Ratings.from_columns(user, item, np.sum(P[user] * Q[item], axis=1))
    split = hx.split.random(ratings, 0.2, seed=1)
    recipe = hx.BiasedMF(
        factors=2, epochs=300, learning_rate=0.02, schedule="constant", regularization=1e-4,
        bias_regularization=1e-4, frequency_scaling=0.0, init_scale=0.5,
    )  # fmt: skip
    model = recipe.fit(split.train)
    frame = split.test.to_frame()
    error = model.predict(frame.user, frame.item) - frame.rating
    assert np.sqrt(np.mean(error**2)) < 0.05 * split.test.value.std()


def test_frequency_scaling_shifts_weight_to_rare_rows():
    flat, scaled = (row_penalties(np.array([1, 100]), 0.05, scaling) for scaling in (0.0, 1.0))
    assert flat.tolist() == [0.05, 0.05]
    assert scaled[0] / scaled[1] == pytest.approx(100)


@pytest.mark.parametrize("recipe", [hx.BiasedMF(factors=8), hx.SVDpp(factors=8)])
def test_a_recipe_suits_any_rating_scale(ratings, recipe):
    stars = recipe.fit(ratings)
    users, items = ratings.users.decode(ratings.user), ratings.items.decode(ratings.item)
    predicted = stars.predict(users, items)
    for factor in (0.25, 16.0):
        other = recipe.fit(hx.Ratings.from_columns(users, items, ratings.value * factor))
        np.testing.assert_array_equal(other.predict(users, items), predicted * factor)
        np.testing.assert_array_equal(other.history.train_mse, stars.history.train_mse * factor**2)
    percent = recipe.fit(hx.Ratings.from_columns(users, items, ratings.value * 20 - 10))
    error = (percent.predict(users, items) - ratings.value * 20 + 10) / 20
    assert np.sqrt(np.mean(error**2)) < 1.1 * np.sqrt(np.mean((predicted - ratings.value) ** 2))
