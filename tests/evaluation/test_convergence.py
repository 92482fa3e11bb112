from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatrix as hx
from hatrix.evaluation.convergence import _limit, effective_size, r_hat


def autoregression(chains, n, phi, seed=0):
    """AR(1) from its stationary distribution, whose mean has the variance of n (1 - φ) / (1 + φ) independent draws."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, n))
    x[:, 0] = rng.standard_normal(chains)
    for t in range(1, n):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * rng.standard_normal(chains)
    return x


@pytest.mark.parametrize("shape", [(2, 1000), (4, 500), (8, 251)])
def test_independent_draws_agree_and_count_in_full(shape):
    for seed in range(5):
        draws = np.random.default_rng(seed).standard_normal(shape)
        assert 0.99 < r_hat(draws) < 1.015
        assert effective_size(draws) == pytest.approx(draws.size, rel=0.15)


@pytest.mark.parametrize("phi", [-0.4, 0.3, 0.6, 0.9])
def test_autocorrelated_draws_count_for_as_many_as_theory_says(phi):
    sizes = [effective_size(autoregression(4, 5000, phi, seed)) for seed in range(4)]
    assert np.mean(sizes) == pytest.approx(20_000 * (1 - phi) / (1 + phi), rel=0.12)


def test_chains_elsewhere_wider_or_drifting_are_found_out():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((4, 500))
    assert r_hat(draws + np.array([[0], [0], [0], [1.5]])) > 1.1
    assert r_hat(draws * np.array([[1], [1], [1], [4.0]])) > 1.1
    assert r_hat(draws + np.linspace(-1, 1, 500)) > 1.1
    heavy = rng.standard_cauchy((4, 500))
    assert r_hat(heavy) < 1.02
    assert r_hat(heavy + np.array([[0], [0], [0], [2.0]])) > 1.05
    assert effective_size(draws + np.array([[0], [0], [0], [3.0]])) < 40


@given(st.integers(0, 100), st.sampled_from([np.exp, np.arctan, lambda x: 3 * x - 7]))
def test_order_is_all_that_counts_of_a_draw(seed, rising):
    draws = autoregression(2, 60, 0.5, seed)
    assert effective_size(rising(draws)) == pytest.approx(effective_size(draws))
    assert effective_size(draws[::-1]) == pytest.approx(effective_size(draws))
    assert r_hat(draws[::-1]) == pytest.approx(r_hat(draws))


def test_the_limit_is_seldom_passed_by_chance_alone():
    rng = np.random.default_rng(1)
    tables = [max(r_hat(rng.standard_normal((2, 40))) for _ in range(20)) for _ in range(150)]
    assert np.mean(np.array(tables) > _limit(20, 2, 40)) < 0.05
    assert np.median(tables) > 1.03
    assert _limit(60, 4, 4000) == 1.01


def test_what_does_not_vary_has_no_figures():
    assert np.isnan(r_hat(np.ones((2, 50))))
    assert np.isnan(effective_size(np.ones((2, 50))))


RECIPE = hx.BayesianMF(likelihood="gaussian", factors=2, epochs=130, burn_in=30, draws=100)


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return hx.synthetic.make(60, 40, n_ratings=900, factors=2, seed=3)[0]


@pytest.fixture(scope="module")
def chains(ratings):
    return [RECIPE.fit(ratings, seed=seed) for seed in (1, 2, 3)]


def test_a_row_for_each_quantity(chains, ratings):
    table = hx.convergence(chains, pairs=10)
    assert table.columns.tolist() == ["quantity", "user", "item", "r_hat", "ess", "mean", "sd"]
    assert table.attrs["chains"] == 3
    assert table.attrs["draws"] == 100
    assert table.attrs["worst"] == table["r_hat"].max()
    noise = table.set_index("quantity").loc["noise"]
    draws = np.array([chain.posterior.noise for chain in chains])
    assert noise["mean"] == pytest.approx(draws.mean())
    assert noise["sd"] == pytest.approx(draws.std())
    assert noise["r_hat"] == r_hat(draws)
    pairs = table[table["quantity"] == "prediction"]
    assert len(pairs) == 10
    frame = ratings.to_frame()
    assert (
        pd.MultiIndex.from_frame(pairs[["user", "item"]]).isin(frame.set_index(list(frame)[:2]).index).all()
    )
    for chain_mean, user, item in pairs[["mean", "user", "item"]].itertuples(index=False):
        assert chain_mean == pytest.approx(np.mean([chain.predict(user, item) for chain in chains]), rel=1e-5)
    pd.testing.assert_frame_equal(table, hx.convergence(chains, pairs=10))
    assert hx.convergence(chains, pairs=0)["user"].isna().all()


def test_ordinal_models_with_time_have_cut_points_and_predicted_stars(ratings):
    from dataclasses import replace

    timed = replace(ratings, time=np.arange(len(ratings)) % 5 * 86_400)
    recipe = RECIPE.replace(likelihood="ordinal", fields=("user", "item", "time", "user_day"), epochs=60)
    chains = [recipe.fit(timed, seed=seed) for seed in (1, 2)]
    table = hx.convergence(chains, pairs=5)
    quantities = table["quantity"].tolist()
    assert [name for name in quantities if name.startswith("cut")] == [f"cut point {n}" for n in (1, 2, 3, 4)]
    assert "noise" not in quantities
    assert "sd of time biases" in quantities
    spread = table[table["quantity"] == "spread of the biases of days"]
    assert spread["mean"].item() == pytest.approx(np.mean([c.days.spread for c in chains]))
    pairs = table[table["quantity"] == "prediction"]
    wanted = [
        np.mean([c.predict(user, item) for c in chains]) for user, item in pairs[["user", "item"]].to_numpy()
    ]
    np.testing.assert_allclose(pairs["mean"], wanted, rtol=1e-4)


def test_chains_too_short_are_warned_of_with_a_code(ratings):
    recipe = hx.BayesianMF(factors=2, epochs=8, burn_in=0, draws=8, init_scale=5.0)
    table = hx.convergence([recipe.fit(ratings, seed=seed) for seed in range(4)])
    assert table.attrs["worst"] > table.attrs["limit"]
    (warning,) = table.attrs["warnings"]
    assert warning.startswith("H009: the chains disagree: R-hat of the ")


def test_what_are_no_chains_is_refused(chains, ratings):
    def refused(models, words, error=hx.HatrixError, **more):
        with pytest.raises(error, match=words):
            hx.convergence(models, **more)

    refused(chains[:1], "models is 1: give a list of two or more")
    refused(chains[0], "models is a FactorModel")
    refused([chains[0], hx.Bias().fit(ratings)], "model 2, .* has no posterior draws")
    refused([RECIPE.replace(draws=3).fit(ratings, seed=s) for s in (1, 2)], "has 3 posterior draws")
    refused([chains[0], chains[0]], "two models have the seed 1")
    other = RECIPE.replace(factors=3).fit(ratings, seed=9)
    refused([chains[0], other], "the recipes differ")
    less = RECIPE.fit(ratings.take(ratings.user != 0), seed=9)
    refused([chains[0], less], "fitted on different ratings")
    refused(chains, "pairs is -1: give a whole number from 0", pairs=-1)
