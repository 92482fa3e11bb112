from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hatrix.errors import DataError
from hatrix.evaluation import rating, tally

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
        reach = stats.t.ppf(0.975, n - 1) * np.sqrt((sums**2).sum() * n / (n - 1)) / len(mine)
        assert figures.bias_high[one] - figures.bias[one] == pytest.approx(reach)
    assert figures.count.sum() == len(error)
    assert figures.count[4] == 0
    assert np.isnan(figures.rmse[4])


def test_few_users_cover_too():
    rng, truth, hits, repeats = np.random.default_rng(5), 2 * 0.7**2, {"mse": 0, "bias": 0}, 300
    for _ in range(repeats):
        user, error = clustered(rng, users=6)
        low, high = rating.bootstrap(error, user)["mse"]
        hits["mse"] += low <= truth <= high
        figures = rating.sliced(error, user, np.zeros(len(user), int), 1)
        hits["bias"] += figures.bias_low[0] <= 0 <= figures.bias_high[0]
    assert 0.8 <= hits["mse"] / repeats <= 0.99
    assert 0.88 <= hits["bias"] / repeats <= 0.99


def test_fewer_users_than_can_be_drawn_get_the_interval_of_a_slice():
    user, error = clustered(np.random.default_rng(2), users=5)
    figures = rating.sliced(error, user, np.zeros(len(user), int), 1)
    wanted = figures.rmse_low[0], figures.rmse_high[0]
    assert rating.bootstrap(error, user)["rmse"] == pytest.approx(wanted)


def test_a_single_user_has_intervals_over_ratings_and_a_single_rating_none():
    error = np.random.default_rng(0).normal(size=50)
    wanted = stats.t.interval(0.95, 49, np.mean(error**2), stats.sem(error**2))
    assert rating.bootstrap(error, np.full(50, 3))["mse"] == pytest.approx(wanted)
    for low, high in rating.bootstrap(error[:1], np.zeros(1, int)).values():
        assert np.isnan([low, high]).all()
    lone = rating.sliced(error, np.full(50, 3), np.zeros(50, int), 1)
    assert np.isnan([lone.rmse_low, lone.rmse_high, lone.bias_low, lone.bias_high]).all()
    assert lone.rmse[0] == pytest.approx(np.sqrt(np.mean(error**2)))


def test_many_users_are_drawn_in_groups_to_the_same_effect(monkeypatch):
    user, error = clustered(np.random.default_rng(4), users=3000)
    singly = rating.bootstrap(error, user)["rmse"]
    monkeypatch.setattr(tally, "MOST_GROUPS", 300)
    grouped = rating.bootstrap(error, user)["rmse"]
    assert np.diff(grouped) == pytest.approx(np.diff(singly), rel=0.2)
    assert np.mean(grouped) == pytest.approx(np.mean(singly), rel=0.01)


def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch):
    user, error = clustered(np.random.default_rng(4))
    whole = rating.bootstrap(error, user, draws=50)
    monkeypatch.setattr(tally, "DRAWN_AT_ONCE", 7 * 60)
    assert rating.bootstrap(error, user, draws=50)["mae"] == pytest.approx(whole["mae"])


@given(st.permutations(range(12)))
def test_the_numbers_of_the_users_do_not_matter_to_slices(order):
    user, error = clustered(np.random.default_rng(9), users=12)
    part = np.arange(len(user)) % 3
    one = rating.sliced(error, user, part, 3)
    other = rating.sliced(error, np.array(order)[user] * 5 + 2, part, 3)
    for name, values in vars(one).items():
        np.testing.assert_allclose(getattr(other, name), values)


def test_figures_of_slices_add_up_to_the_total():
    user, error = clustered(np.random.default_rng(9))
    figures = rating.sliced(error, user, np.arange(len(user)) % 7, 7)
    total = rating.errors(error)
    assert np.average(figures.rmse**2, weights=figures.count) == pytest.approx(total.mse)
    assert np.average(figures.mae, weights=figures.count) == pytest.approx(total.mae)
    assert np.average(figures.bias, weights=figures.count) == pytest.approx(error.mean())


@pytest.mark.parametrize(("actual", "predicted"), [([1, 2], [1]), ([[1], [2]], [1, 2]), ([], [])])
def test_what_has_no_error(actual, predicted):
    with pytest.raises(DataError, match="give as many of each"):
        rating.rmse(actual, predicted)
