from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, truncnorm

from hatrix.models import probit

CUTS = np.array([-1.0, 0.2, 1.5])
LEVELS = np.array([1.0, 2.0, 3.5, 5.0])


def shares(score, spread, cuts):
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    return np.diff(norm.cdf((edges - score) / spread))


@given(st.floats(-6, 6), st.floats(0.2, 5))
def test_the_mean_star_is_the_sum_over_stars(score, spread):
    mean = probit.expected(np.array([score]), np.array([spread]), CUTS, LEVELS)
    assert mean[0] == pytest.approx(shares(score, spread, CUTS) @ LEVELS, abs=1e-12)


def test_the_first_cuts_give_each_star_its_share():
    star = np.repeat([0, 1, 2, 3], [10, 40, 30, 20])
    np.testing.assert_allclose(shares(0.0, 1.0, probit.first_cuts(star, 4)), [0.1, 0.4, 0.3, 0.2])


@pytest.mark.parametrize(("score", "spread"), [(0.0, 1.0), (0.7, 2.5), (-4.0, 1.0), (5.0, 0.6), (12.0, 1.0)])
@pytest.mark.parametrize("star", [0, 1, 3])
def test_hidden_numbers_are_truncated_normal(score, spread, star):
    n, edges = 2000, np.array([-np.inf, *CUTS, np.inf])
    uniform = (np.arange(n) + 0.5) / n
    drawn = probit.latent(np.full(n, score), np.full(n, spread), np.full(n, star), CUTS, uniform)
    assert (drawn >= edges[star] - 1e-9).all()
    assert (drawn <= edges[star + 1] + 1e-9).all()
    low, high = (edges[star : star + 2] - score) / spread
    assert kstest(drawn, truncnorm(low, high, score, spread).cdf).statistic < 2 / n


def test_hidden_numbers_stay_in_their_interval_however_far_the_score_is():
    score = np.array([-300.0, -60.0, 60.0, 300.0])
    for star, (low, high) in enumerate(zip([-np.inf, *CUTS], [*CUTS, np.inf], strict=True)):
        for uniform in (0.0, 0.5, 1 - 1e-16):
            drawn = probit.latent(score, np.ones(4), np.full(4, star), CUTS, np.full(4, uniform))
            assert np.isfinite(drawn).all()
            assert (drawn >= low - 1e-9).all()
            assert (drawn <= high + 1e-9).all()


def test_the_cut_points_are_drawn_from_their_posterior():
    """Against the posterior on a grid: flat in the first cut point and in the logarithm of the gap."""
    rng = np.random.default_rng(0)
    score, spread = rng.normal(size=40), rng.uniform(0.5, 2, 40)
    star = np.searchsorted([-0.5, 0.8], score + spread * rng.standard_normal(40))
    low, gap = np.meshgrid(np.linspace(-3, 2, 90), np.linspace(-4, 2, 90), indexing="ij")
    fit = np.zeros_like(low)
    for one, d, s in zip(score, spread, star, strict=True):
        below = norm.cdf((np.array([low, low + np.exp(gap)]) - one) / d)
        mass = np.diff(np.concatenate([0 * low[None], below, 1 + 0 * low[None]]), axis=0)[s]
        fit += np.log(np.maximum(mass, 1e-300))
    weight = np.exp(fit - fit.max())
    weight /= weight.sum()
    cuts, chain, moves = np.array([-1.0, 1.0]), [], 0
    for _ in range(20_000):
        cuts, accepted = probit.move_cuts(score, spread, star, cuts, 0.45, rng)
        moves += accepted
        chain.append([cuts[0], np.log(cuts[1] - cuts[0])])
    assert 0.1 < moves / 20_000 < 0.6
    chain = np.array(chain)
    for draws, grid in ((chain[:, 0], low), (chain[:, 1], gap)):
        mean = (weight * grid).sum()
        deviation = np.sqrt((weight * (grid - mean) ** 2).sum())
        assert draws.mean() == pytest.approx(mean, abs=0.1 * deviation)
        assert draws.std() == pytest.approx(deviation, rel=0.07)
