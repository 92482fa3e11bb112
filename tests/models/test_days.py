"""The bias of what a user rates on one day, from its conditional draw to what a model answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import hatrix as hx
import naive
from hatrix.models import hyperpriors, predictive
from hatrix.models.days import DAY, UserDays, rated_days
from hatrix.models.predictive import Pairs

FIELDS = ("user", "item", "user_day")


def table(days_of_users, draws=2):
    """The days of users, given as one set for each, with made-up biases."""
    start = np.cumsum([0, *map(len, days_of_users)])
    day = np.array([day for days in days_of_users for day in sorted(days)], np.int64)
    bias = np.arange(len(day) * draws, dtype=np.float32).reshape(len(day), draws)
    return UserDays(start, day, bias, np.full(draws, 0.5))


@given(
    st.lists(st.sets(st.integers(-5, 5)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-7 * DAY, 7 * DAY)), max_size=20),
    st.booleans(),
)
def test_a_day_is_found_where_a_user_has_it(days_of_users, asked, as_float):
    days, n = table(days_of_users), len(days_of_users)
    pairs = [(user, second) for user, second in asked if user < n]
    user = np.array([user for user, _ in pairs], np.int64)
    times = np.array([second for _, second in pairs], float if as_float else np.int64)
    found = days.find(user, times)
    for (u, second), at in zip(pairs, found, strict=True):
        day = second // DAY
        if u >= 0 and day in days_of_users[u]:
            assert days.start[u] <= at < days.start[u + 1]
            assert days.day[at] == day
        else:
            assert at == -1
    assert (days.find(user, None) == -1).all()


@pytest.mark.parametrize("extreme", [np.iinfo(np.int64).min, np.iinfo(np.int64).max, -1e300, 1e300])
def test_times_far_from_any_day_are_unknown(extreme):
    assert table([{0, 3}]).find(np.array([0]), np.array([extreme])).tolist() == [-1]


def test_a_user_leaves_with_their_days():
    whole = table([{1, 2}, {4}, {0, 5, 9}])
    left = whole.without(1)
    assert left.start.tolist() == [0, 2, 5]
    assert left.day.tolist() == [1, 2, 0, 5, 9]
    np.testing.assert_array_equal(left.bias, whole.bias[[0, 1, 3, 4, 5]])
    stranger = whole.of_stranger()
    assert (stranger.start.tolist(), len(stranger.day)) == ([0, 0], 0)
    assert stranger.find(np.array([0, -1]), np.array([DAY, DAY])).tolist() == [-1, -1]


def test_days_are_those_on_which_a_user_rated():
    time = np.array([0, DAY - 1, DAY, -1, 5 * DAY, 5 * DAY + 7, 0])
    user = [0, 0, 0, 0, 1, 1, 2]
    ratings = replace(hx.Ratings.from_columns(user, np.arange(7), np.ones(7)), time=time)
    rated = rated_days(ratings.take(ratings.user != 2))
    assert rated.start.tolist() == [0, 3, 4, 4]
    assert rated.day.tolist() == [-1, 0, 1, 5]
    assert rated.user.tolist() == [0, 0, 0, 1]
    assert rated.ratings.tolist() == [1, 2, 1, 2]
    assert rated.of.tolist() == [1, 1, 2, 0, 3, 3]


def test_biases_of_days_are_draws_of_their_regressions():
    rng = np.random.default_rng(0)
    user, day = rng.integers(0, 4, 60), rng.integers(0, 5, 60)
    columns = hx.Ratings.from_columns(user, np.arange(60), np.ones(60))
    rated = rated_days(replace(columns, time=day * DAY))
    rest, certain = rng.normal(size=60), rng.gamma(2.0, size=5)
    before = rng.normal(size=len(rated.day)).astype(np.float32)
    bias = before.copy()
    spread = rated.draw(bias, rest, certain, np.random.default_rng(7))

    again = np.random.default_rng(7)
    precision = hyperpriors.centred(before.astype(float), again)
    z = again.standard_normal(len(bias))
    assert spread == pytest.approx(precision**-0.5)
    for cell, (u, d) in enumerate(zip(rated.user, rated.day, strict=True)):
        mine = rest[(user == u) & (day == d)]
        A, b = naive.regression(
            np.ones((len(mine), 1)), mine, np.zeros(1), np.array([[precision]]), certain[u]
        )
        assert bias[cell] == pytest.approx(naive.normal_draw(A, b, z[[cell]])[0], rel=1e-5)


def drawn(likelihood, seed=0):
    """Ratings with known biases of days: train, what was left out of it, and the bias of each rating of both."""
    rng = np.random.default_rng(seed)
    users, items, days = 150, 60, 6
    X, Z = rng.normal(0, 0.5, (users, 3)), rng.normal(0, 0.5, (items, 3))
    day = rng.integers(0, days, (users, items))
    of_days = rng.normal(0, 0.7, (users, days))
    shift = np.take_along_axis(of_days, day, axis=1)
    scores = 3.0 + X[:, [2]] + Z[:, 2] + X[:, :2] @ Z[:, :2].T + shift
    values = scores + rng.normal(0, 0.6, scores.shape)
    if likelihood == "ordinal":
        values = np.searchsorted([1.8, 2.6, 3.4, 4.2], values) + 1.0
    user, item = np.divmod(rng.permutation(values.size), items)
    time = 86_400 * (100 + day[user, item]) + rng.integers(0, DAY, len(user))
    ratings = hx.Ratings.from_columns(user, item, values[user, item], time=time)
    train = np.arange(len(user)) < 0.6 * len(user)
    return ratings.take(train), ratings.take(~train), of_days, scores[user, item][~train]


@pytest.fixture(scope="module", params=["gaussian", "ordinal"])
def known(request):
    train, test, of_days, scores = drawn(request.param)
    recipe = hx.BayesianMF(
        factors=2, epochs=300, burn_in=100, draws=100, fields=FIELDS, likelihood=request.param, noise="common"
    )
    return recipe.fit(train, seed=1), test, of_days, scores


def test_known_biases_of_days_are_recovered_and_their_intervals_cover(known):
    model, _, of_days, _ = known
    gaussian = model.recipe.likelihood == "gaussian"
    days = model.days
    owner = np.repeat(np.arange(150), np.diff(days.start))
    truth = of_days[owner, days.day - 100] / (1.0 if gaussian else 0.6)  # hidden numbers have noise 1
    assert len(truth) > 890
    spread = truth.std()
    # What a user's days have in common is hard to tell from the user's own bias: how they differ is known well.
    of_user = (owner == np.arange(150)[:, None]) / np.diff(days.start)[:, None]
    truth, bias = truth - (of_user @ truth)[owner], days.bias - (of_user @ days.bias)[owner]
    assert abs(days.spread.mean() - spread) < 4 * days.spread.std()
    for level in (0.5, 0.9):
        low, high = np.quantile(bias, [(1 - level) / 2, (1 + level) / 2], axis=1)
        assert np.mean((truth >= low) & (truth <= high)) == pytest.approx(level, abs=0.05)
    assert np.corrcoef(truth, bias.mean(axis=1))[0, 1] > 0.85


def test_a_known_day_is_predicted_better_and_both_kinds_of_interval_cover(known):
    model, test, _, _ = known
    gaussian = model.recipe.likelihood == "gaussian"
    user, item = test.users.decode(test.user), test.items.decode(test.item)
    errors, widths = [], []
    for times in (test.time, None, test.time + 1000 * DAY):
        rating, low, high = model.predict(user, item, times=times, interval=0.9)
        inside = np.mean((test.value >= low) & (test.value <= high))
        assert 0.88 < inside < (0.92 if gaussian else 0.99)
        errors.append(np.sqrt(np.mean((rating - test.value) ** 2)))
        widths.append(np.mean(high - low))
    assert errors[0] < 0.85 * errors[1]
    assert widths[0] < 0.85 * widths[1]
    assert errors[1:2] == errors[2:]
    assert widths[1:2] == widths[2:]
    assert hx.evaluate(model, test).rmse == pytest.approx(errors[0], rel=0.02)  # clipped, that one


def test_what_a_day_says_is_the_formula(known):
    model = known[0]
    user, item = np.array([3, 3, -1]), np.array([5, 5, 5])
    here = int(model.days.day[model.days.start[3] + 1]) * DAY + 55
    times = np.array([here, here + 900 * DAY, here])
    plain = np.concatenate([scores for _, scores in model.factors.by_draw(user, item)])
    dated = np.concatenate([scores for _, scores in model.factors.by_draw(user, item, times)])
    bias = model.days.bias[model.days.start[3] + 1]
    np.testing.assert_allclose(dated - plain, [bias, 0 * bias, 0 * bias], atol=1e-6)
    # The day that is not known widens the distribution of the rating, and is no part of its middle.
    noise, spread = model.posterior.noise, model.days.spread
    value = np.full(3, 3.0)
    shares = predictive.shares(model, Pairs(user[:2], item[:2], times[:2]), value[:2])
    for share, scores, width in zip(shares, dated[:2], (noise, np.hypot(noise, spread)), strict=True):
        if model.recipe.likelihood == "gaussian":
            wanted = norm.cdf((3.0 - scores) / width).mean()
        else:
            below = norm.cdf((model.posterior.cuts.T - scores) / width).mean(axis=1)
            wanted = (below[1] + below[2]) / 2
        assert share == pytest.approx(wanted, abs=1e-6)


@pytest.fixture(scope="module")
def small():
    """A model of few ratings, and these."""
    train = drawn("gaussian")[0]
    ratings = train.take(train.user < 12)
    return hx.BayesianMF(factors=2, epochs=30, burn_in=10, draws=5, fields=FIELDS).fit(
        ratings, seed=4
    ), ratings


def test_the_unit_of_the_ratings_does_not_matter(small):
    model, ratings = small
    other = model.recipe.fit(replace(ratings, value=64 * ratings.value), seed=4)
    np.testing.assert_allclose(64 * model.days.bias, other.days.bias, rtol=1e-6)
    np.testing.assert_allclose(64 * model.days.spread, other.days.spread, rtol=1e-6)


def test_the_biases_kept_are_those_of_their_epochs(small):
    model, ratings = small
    state, bias, spread = model.recipe.init(ratings, seed=4, threads=1), [], []
    for epoch in range(30):
        model.recipe.step(state, epoch)
        bias.append(state.variables["days"] * np.float32(state.unit))
        spread.append(state.variables["spread.days"][0] * state.unit)
    np.testing.assert_array_equal(model.days.bias, np.array(bias)[13::4].T)
    np.testing.assert_array_equal(model.days.spread, spread[13::4])


def test_the_spread_of_many_days_is_soon_found():
    """Days of one rating each: begun at zero, their spread would take hundreds of epochs to grow."""
    rng = np.random.default_rng(3)
    user, item = np.divmod(rng.permutation(200 * 100)[:12_000], 100)
    day = rng.integers(0, 60, len(user))
    of_days = rng.normal(0, 0.5, (200, 60))
    value = 3 + of_days[user, day] + rng.normal(0, 0.3, len(user))
    ratings = hx.Ratings.from_columns(user, item, value, time=day * DAY)
    model = hx.BayesianMF(factors=1, epochs=40, burn_in=20, draws=10, fields=FIELDS, noise="common").fit(
        ratings
    )
    assert model.days.spread.mean() == pytest.approx(0.5, abs=0.03)


def test_models_without_the_field_have_no_days(small):
    model, ratings = small
    plain = model.recipe.replace(fields=("user", "item"))
    assert not [name for name in plain.init(ratings, seed=0, threads=1).variables if "days" in name]
    assert plain.fit(ratings).days is None


def test_days_come_back_from_the_file(small, tmp_path):
    model, ratings = small
    model.save(tmp_path / "m.hatrix")
    again = hx.load(tmp_path / "m.hatrix")
    for ours, theirs in zip(model.days, again.days, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert not ours.flags.writeable
    rows = ratings.user[:50], ratings.item[:50]
    np.testing.assert_array_equal(
        model.predict_rows(*rows, times=ratings.time[:50]), again.predict_rows(*rows, times=ratings.time[:50])
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d._replace(start=d.start[:-1]), "not divided among the users"),
        (lambda d: d._replace(start=d.start + 1), "not divided among the users"),
        (lambda d: d._replace(start=np.append(d.start[:-1], 1)), "not divided among the users"),
        (
            lambda d: d._replace(start=d.start[[0, 2, 1, *range(3, len(d.start))]]),
            "not divided among the users",
        ),
        (lambda d: d._replace(day=d.day[::-1].copy()), "not in order"),
        (lambda d: d._replace(day=d.day * 0), "not in order"),
        (lambda d: d._replace(bias=d.bias[:-1]), "biases of shape"),
        (lambda d: d._replace(bias=d.bias[:, :-1].copy()), "biases of shape"),
        (lambda d: d._replace(spread=d.spread[:-1]), "spreads of shape"),
        (lambda d: d._replace(spread=-d.spread), "spreads of shape"),
    ],
)
def test_days_that_contradict_themselves_are_neither_saved_nor_loaded(small, change, said, tmp_path):
    from hatrix.models.container import read, write

    wrong = change(small[0].days)
    with pytest.raises(hx.HatrixError, match=said):
        replace(small[0], days=wrong).save(tmp_path / "m.hatrix")
    small[0].save(tmp_path / "m.hatrix")
    arrays, header = read(tmp_path / "m.hatrix", verify=True)
    write(tmp_path / "m.hatrix", arrays | {f"days.{name}": a for name, a in wrong._asdict().items()}, header)
    with pytest.raises(hx.HatrixError, match=said):
        hx.load(tmp_path / "m.hatrix")


def test_lists_and_reasons_are_of_a_day_to_come(small):
    model = small[0]
    bare = replace(model, days=None)
    for options in ({}, {"risk": 0.2}):
        pd.testing.assert_frame_equal(model.recommend(3, 5, **options), bare.recommend(3, 5, **options))
    parts = model.explain(3, 7)
    assert parts["contribution"].sum() == pytest.approx(model.predict(3, 7), rel=1e-5)


def test_a_user_who_is_folded_in_has_no_day_of_another(small):
    model, ratings = small
    first = int(model.days.day[0]) * DAY
    new = model.fold_in({int(ratings.items.labels[n]): 4.0 for n in range(5)})
    one, other = (new.predict("new user", 3, times=times, interval=0.9) for times in (first, None))
    assert one == other
    assert model.predict(0, 3, times=first) != model.predict(0, 3)
    item = model.fold_in_item({0: 4.0, 1: 2.0})
    assert item.predict(0, "new item", times=first) != item.predict(0, "new item")


def test_who_is_forgotten_takes_their_days_along(small, tmp_path):
    model, ratings = small
    left = model.forget(4)
    assert len(left.days.day) == len(model.days.day) - np.diff(model.days.start)[4]
    keep = ratings.user != 4
    user, item = ratings.users.decode(ratings.user[keep]), ratings.items.decode(ratings.item[keep])
    np.testing.assert_allclose(
        left.predict(user, item, times=ratings.time[keep]),
        model.predict(user, item, times=ratings.time[keep]),
        rtol=1e-12,
    )
    left.save(tmp_path / "m.hatrix")
    assert hx.load(tmp_path / "m.hatrix").predict(5, 3) == model.predict(5, 3)


@pytest.mark.parametrize("times", [np.nan, np.inf, "2020-01-01", [None]])
def test_times_that_are_no_numbers_are_refused(small, times):
    with pytest.raises(hx.HatrixError, match="times are seconds since 1970"):
        small[0].predict(3, 5, times=times)
