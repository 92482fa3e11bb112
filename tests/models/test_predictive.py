from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import hatrix as hx
from hatrix.models.predictive import Pairs, intervals, shares


@pytest.fixture(scope="module")
def ratings():
    made, _ = hx.synthetic.make(60, 40, n_ratings=1500, seed=1)
    stars = np.clip(np.round(made.value * 1.0), 1, 5)
    return replace(made, value=stars, scale=(1.0, 5.0))


@pytest.fixture(scope="module")
def parts(ratings):
    return hx.split.random(ratings, 0.3, seed=2)


@pytest.fixture(scope="module", params=["gaussian", "ordinal"])
def model(request, parts):
    recipe = hx.BayesianMF(factors=2, epochs=60, burn_in=20, draws=8, likelihood=request.param)
    return recipe.fit(parts.train, seed=1)


def by_draw(model, user, item):
    """Scores and spreads of one pair."""
    scores = model.factors.over_draws(np.array([user]), np.array([item]), None, lambda x: x)[0]
    return scores, model.posterior.noise * model.posterior.user_spread[user]


def test_ends_are_quantiles_of_the_mixture_over_draws(model):
    for user, item in ((0, 0), (7, 3), (59, 39)):
        label = model.users.decode([user])[0], model.items.decode([item])[0]
        rating, low, high = model.predict(*label, interval=0.8)
        scores, spread = by_draw(model, user, item)
        if model.posterior.cuts.size:
            levels = model.posterior.levels
            below = np.array(
                [
                    norm.cdf((cuts - s) / d)
                    for cuts, s, d in zip(model.posterior.cuts, scores, spread, strict=True)
                ]
            )
            below = np.concatenate([[0], below.mean(axis=0), [1]])
            mid = (below[1:] + below[:-1]) / 2
            level = model.posterior.level(0.8)
            assert level < 0.8  # stars lie apart
            wanted = [np.interp((1 + side * level) / 2, mid, levels) for side in (-1, 1)]
            mean = float(np.diff(below) @ levels)
        else:

            def excess(x, share):
                return norm.cdf((x - scores) / spread).mean() - share  # noqa: B023

            wanted = [brentq(excess, -50, 50, args=(share,)) for share in (0.1, 0.9)]
            mean = scores.mean()
        np.testing.assert_allclose([low, high], wanted, atol=1e-5)
        assert rating == pytest.approx(mean, abs=1e-5)


def test_the_distribution_function_and_the_ends_are_inverse(model):
    pairs = Pairs(np.arange(40) % 60, np.arange(40), None)
    for level in (0.5, 0.9):
        low, high = intervals(model, pairs, level)
        level = model.posterior.level(level)
        inside = (low > 1) & (high < 5)
        assert inside.any()
        np.testing.assert_allclose(shares(model, pairs, low)[inside], (1 - level) / 2, atol=1e-6)
        np.testing.assert_allclose(shares(model, pairs, high)[inside], (1 + level) / 2, atol=1e-6)


def test_intervals_of_higher_levels_hold_those_of_lower_ones(model):
    user, item = model.users.labels[:30], model.items.labels[:30]
    ends = [model.predict(user, item, interval=level) for level in (0.1, 0.5, 0.9, 0.99)]
    for inner, outer in itertools.pairwise(ends):
        assert (outer.low <= inner.low).all()
        assert (outer.high >= inner.high).all()
    np.testing.assert_array_equal(ends[0].rating, model.predict(user, item))
    clipped = model.predict(user, item, interval=0.99, clip=True)
    assert clipped.low.min() >= 1
    assert clipped.high.max() <= 5


def test_probabilities_are_those_of_the_mixture(model, ratings):
    table = model.probabilities([1, 2, "nobody"], ratings.items.labels[3])
    assert list(table) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(table.sum(axis=1), 1)
    user, item = model.users.encode([2])[0], 3
    scores, spread = by_draw(model, user, item)
    cuts = model.posterior.cuts if model.posterior.cuts.size else np.tile([1.5, 2.5, 3.5, 4.5], (8, 1))
    below = [
        np.concatenate([[0], norm.cdf((c - s) / d), [1]])
        for c, s, d in zip(cuts, scores, spread, strict=True)
    ]
    np.testing.assert_allclose(table.iloc[1], np.diff(np.mean(below, axis=0)), atol=1e-6)


def test_unknown_ids_have_wider_intervals(model, ratings):
    user, item = ratings.users.labels[5], ratings.items.labels[5]
    known, new = model.predict(user, item, interval=0.9), model.predict("nobody", item, interval=0.9)
    nothing = model.predict("nobody", "nothing", interval=0.9)
    assert new.high - new.low > known.high - known.low
    assert nothing.low < nothing.rating < nothing.high


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, "0.9", True, float("nan")])
def test_levels_that_are_no_probability_are_refused(model, level):
    with pytest.raises(hx.HatrixError, match="give a probability between 0 and 1"):
        model.predict(1, 1, interval=level)


def test_models_without_a_posterior_say_so(parts):
    point = hx.BiasedMF(factors=2, epochs=2).fit(parts.train)
    for ask in (
        lambda: point.predict(1, 1, interval=0.9),
        lambda: point.probabilities(1, 1),
        lambda: point.calibrate(parts.test),
    ):
        with pytest.raises(hx.HatrixError, match="biased-mf has no posterior"):
            ask()


def test_many_distinct_ratings_have_no_probabilities(parts):
    rng = np.random.default_rng(1)
    fine = replace(parts.train, value=parts.train.value + rng.normal(0, 0.1, len(parts.train)), scale=None)
    model = hx.BayesianMF(factors=1, epochs=10, burn_in=5, draws=2).fit(fine)
    with pytest.raises(hx.HatrixError, match="too many distinct ratings"):
        model.probabilities(1, 1)
    assert model.predict(1, 1, interval=0.5).low < model.predict(1, 1, interval=0.5).high


@pytest.mark.parametrize("wrong", [0.5, 1, 3])
def test_calibrated_intervals_cover_even_if_the_noise_is_wrong(model, parts, wrong):
    model = replace(model, posterior=model.posterior._replace(noise=model.posterior.noise * wrong))
    half = np.arange(len(parts.test)) % 2 == 0
    sure, rest = model.calibrate(parts.test.take(half)), parts.test.take(~half)
    for level in (0.5, 0.8, 0.9):
        low, high = sure.interval_rows(*sure.rows_of(rest), level=level)
        covered = np.mean((rest.value >= low - 1e-9) & (rest.value <= high + 1e-9))
        # A binomial of each half: 225 ratings to calibrate on, as many to look at.
        assert abs(covered - level) < 4 * np.sqrt(level * (1 - level) * 2 / 225)
    np.testing.assert_array_equal(sure.predict(1, [1, 2, 3]), model.predict(1, [1, 2, 3]))


def test_few_held_out_ratings_promise_little(model, parts):
    few = model.calibrate(parts.test.take(np.arange(4)))
    assert few.posterior.level(0.79) < 1
    assert few.posterior.level(0.81) == 1
    rating, low, high = few.predict(1, 1, interval=0.9, clip=True)
    assert (low, high) == (1, 5)
    assert low < rating < high


def test_what_cannot_calibrate_is_refused(model, parts):
    with pytest.raises(hx.HatrixError, match="trained on 1,050 of the 1,050 ratings"):
        model.calibrate(parts.train)
    with pytest.raises(hx.HatrixError, match="no ratings to calibrate on"):
        model.calibrate(parts.test.take(np.zeros(len(parts.test), bool)))


def test_posteriors_come_back_from_the_file(model, parts, tmp_path):
    sure = model.calibrate(parts.test)
    sure.save(tmp_path / "m.hatrix")
    again = hx.load(tmp_path / "m.hatrix")
    for name in sure.posterior._fields:
        np.testing.assert_array_equal(getattr(sure.posterior, name), getattr(again.posterior, name))
    for ours, theirs in zip(
        sure.predict(1, [1, 2], interval=0.9), again.predict(1, [1, 2], interval=0.9), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p._replace(calibration=np.array([0.5, 0.4])), "calibration is not in order"),
        (lambda p: p._replace(calibration=np.array([0.5, 1.4])), "calibration is not in order"),
        (lambda p: p._replace(user_spread=p.user_spread[1:]), "spread of shape"),
        (lambda p: p._replace(user_spread=-p.user_spread), "spread of shape"),
        (lambda p: p._replace(noise=-p.noise), "posterior has"),
        (lambda p: p._replace(item_precision=p.item_precision[:, 1:]), "precisions of its priors"),
        (lambda p: p._replace(levels=p.levels[::-1].copy()), "not in order"),
    ],
)
def test_a_posterior_that_contradicts_itself_is_not_saved(model, change, said, tmp_path):
    with pytest.raises(hx.HatrixError, match=said):
        replace(model, posterior=change(model.posterior)).save(tmp_path / "m.hatrix")
    assert not list(tmp_path.iterdir())
