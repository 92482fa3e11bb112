from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hatrix.evaluation.paired import Sums, compared, holm


def test_of_plain_means_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a = rng.random(50)
    b = a + rng.normal(0.01, 0.05, 50)
    ones = np.ones(50)
    found = compared(Sums(a, ones), Sums(b, ones))
    theirs = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.value == pytest.approx((a - b).mean())
    ends = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9)


def ratings_of_users(rng, users=60, lean=0.0):
    """Squared errors of two equally good models on ratings that resemble each other within a user."""
    count = rng.integers(1, 40, users)
    user = np.repeat(np.arange(users), count)
    common = rng.normal(0, 1, len(user))
    errors = [common + rng.normal(0, 0.6, users)[user] + rng.normal(0, 0.3, len(user)) for _ in range(2)]
    errors[0] = errors[0] * (1 + lean)
    return user, errors


def sums(user, error):
    return Sums(np.bincount(user, error**2).astype(float), np.bincount(user).astype(float), root=True)


def test_its_level_holds_for_clustered_errors_where_a_test_over_ratings_would_cry_wolf():
    rng = np.random.default_rng(1)
    mine, naive = [], []
    for _ in range(500):
        user, (a, b) = ratings_of_users(rng)
        mine.append(compared(sums(user, a), sums(user, b)).p < 0.05)
        naive.append(stats.ttest_rel(a**2, b**2).pvalue < 0.05)
    assert 0.025 < np.mean(mine) < 0.085
    assert np.mean(naive) > 0.15


def test_its_interval_of_rmse_is_that_of_a_bootstrap_over_users():
    rng = np.random.default_rng(2)
    user, (a, b) = ratings_of_users(rng, users=400, lean=0.03)
    one, other = sums(user, a), sums(user, b)
    found = compared(one, other)
    drawn = []
    for _ in range(3000):
        times = np.bincount(rng.integers(0, 400, 400), minlength=400)
        n = times @ one.numbers
        drawn.append(np.sqrt(times @ one.total / n) - np.sqrt(times @ other.total / n))
    assert found.value == pytest.approx(np.sqrt(np.mean(a**2)) - np.sqrt(np.mean(b**2)))
    assert (found.high - found.low) == pytest.approx(np.ptp(np.quantile(drawn, [0.025, 0.975])), rel=0.08)


def test_it_is_antisymmetric():
    user, (a, b) = ratings_of_users(np.random.default_rng(3))
    one, other = compared(sums(user, a), sums(user, b)), compared(sums(user, b), sums(user, a))
    assert (one.value, one.low, one.high, one.p) == pytest.approx(
        (-other.value, -other.high, -other.low, other.p)
    )


def test_equal_models_do_not_differ_and_a_single_user_tells_nothing():
    user, (a, _) = ratings_of_users(np.random.default_rng(4))
    assert compared(sums(user, a), sums(user, a)) == (0.0, 0.0, 0.0, 1.0)
    one = compared(Sums(np.array([1.0]), np.array([2.0])), Sums(np.array([3.0]), np.array([2.0])))
    assert one.value == -1.0
    assert np.isnan([one.low, one.high, one.p]).all()


def test_perfect_predictions_are_better_than_others():
    user, (a, _) = ratings_of_users(np.random.default_rng(5))
    found = compared(sums(user, a * 0), sums(user, a))
    assert found.value < 0
    assert found.p < 1e-6


def test_users_without_a_number_in_one_model_are_left_out():
    total, count = np.array([0.3, 0.4, 9.0, 0.6]), np.ones(4)
    gone = np.array([1.0, 1.0, 0.0, 1.0])
    found = compared(Sums(total, count), Sums(total * gone / 2, gone))
    assert found.value == pytest.approx((0.3 + 0.4 + 0.6) / 6)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_of_bonferroni(p):
    corrected = holm(p)
    order = np.argsort(p, kind="stable")
    for rank, place in enumerate(order):
        expected = max((min(1.0, p[i] * (len(p) - n)) for n, i in enumerate(order[: rank + 1])), default=0.0)
        assert corrected[place] == pytest.approx(expected)
    assert all(c >= one for c, one in zip(corrected, p, strict=True))


def test_holm_leaves_out_what_is_unknown():
    assert holm([0.01, float("nan")])[0] == 0.01
