"""New rows from a few ratings: what each objective wants, with all else as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import hatrix as hx
from hatrix.errors import DataError
from hatrix.models import ALGORITHMS, algorithm, conditional, pairwise
from hatrix.models.factors import ITEM, USER
from hatrix.models.pairwise import usual_bias
from hatrix.models.terms import Given, in_type

SMALL = {name: {"factors": 5, "epochs": 6} for name in ALGORITHMS} | {"bias": {}, "popular": {}}
SMALL["bayesian-mf"] = {"factors": 3, "epochs": 30, "burn_in": 10, "draws": 8}
GOLDEN = Path(__file__).with_name("golden_v1.hatrix")
NEW = {3: 5.0, 8: 4.0, 1: 1.0, 20: 2.0}


@pytest.fixture(scope="module")
def ratings():
    return hx.synthetic.make(60, 40, n_ratings=1200, seed=1)[0]


def ratings_of(model, item):
    """What users gave to an item, by user label."""
    mine = model.seen.item == item
    users = model.users.decode(model.seen.user[mine])
    return dict(zip(users.tolist(), model.seen.value[mine].tolist(), strict=True))


def history(model, row):
    items, values = model.seen.item, model.seen.value
    rated = slice(model.seen.start[row], model.seen.start[row + 1])
    return dict(zip(model.items.decode(items[rated]).tolist(), values[rated].tolist(), strict=True))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_new_user_is_a_model_with_every_answer(name, fitted):
    model = fitted(name)
    eve = model.fold_in(NEW, user_id="eve")
    predicted = eve.predict("eve", [3, 8, 39])
    assert np.isfinite(predicted).all()
    listed = eve.recommend("eve", 40)
    assert len(listed) == 36
    assert not listed["item"].isin(list(NEW)).any()
    np.testing.assert_allclose(
        np.sort(eve.scores("eve")[0])[::-1][:1], eve.recommend("eve", 1, exclude_seen=False).score
    )
    np.testing.assert_array_equal(eve.item_factors, model.item_factors)


def test_what_was_folded_in_is_not_saved(fitted, tmp_path):
    with pytest.raises(DataError, match="update"):
        fitted("als").fold_in(NEW).save(tmp_path / "eve.hatrix")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_new_item_is_a_model_with_every_answer(name, fitted):
    model = fitted(name)
    new = model.fold_in_item({2: 5.0, 7: 1.0, 30: 4.0}, item_id="new")
    assert np.isfinite(new.predict([2, 7, 11], "new")).all()
    assert len(new.recommend(2, 5)) == 0
    assert new.recommend(11, 5)["item"].tolist() == ["new"]
    np.testing.assert_array_equal(new.user_factors, model.user_factors)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_order_of_ratings_is_nothing(name, fitted):
    one, two = (fitted(name).fold_in(dict(order)) for order in (NEW.items(), reversed(NEW.items())))
    np.testing.assert_array_equal(one.user_factors, two.user_factors)
    np.testing.assert_array_equal(one.user_bias, two.user_bias)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_ratings_a_user_is_like_an_unknown_one(name, fitted):
    model = fitted(name)
    nobody = model.fold_in({})
    got, wanted = nobody.scores("new user")[0], model.scores(-1)[0]
    np.testing.assert_allclose(got, wanted, atol=1.5 if name == "bayesian-mf" else 1e-12)
    reasons = [
        m.recommend(user, 3).attrs["fallback"].values() for m, user in ((nobody, "new user"), (model, -1))
    ]
    assert list(reasons[0]) == list(reasons[1])


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("side", ["user", "item"])
def test_what_is_wrong_is_said(name, side, fitted):
    model = fitted(name)
    fold = model.fold_in if side == "user" else model.fold_in_item
    with pytest.raises(DataError, match=r"is unknown to the model.*: give ratings of at least one"):
        fold({"nobody": 3.0})
    with pytest.raises(DataError, match="give a finite number"):
        fold({3: float("nan")})
    with pytest.raises(DataError, match="trained on ratings from"):
        fold({3: 77.0})
    with pytest.raises(DataError, match="as a mapping"):
        fold([3])
    assert "1 of 2" in fold({3: 4.0, 9999: 4.0}).notes[-1]


@pytest.mark.parametrize(
    "changes",
    [{}, {"biased": False}, {"nu": 0.0}, {"nonnegative": True}],
    ids=["plain", "unbiased", "unweighted", "nonnegative"],
)
@pytest.mark.parametrize("side", [USER, ITEM])
def test_als_gives_the_row_that_a_sweep_gives(changes, side, fitted):
    model = fitted("als", **changes)
    recipe, ids = model.recipe, (model.users, model.items)
    for row in (0, 5):
        if side == USER:
            given = history(model, row)
            new = model.fold_in(given)
            got = np.append(new.user_factors[0], new.user_bias[0])
            bias, rows = model.item_bias, model.item_factors
        else:
            given = ratings_of(model, row)
            new = model.fold_in_item(given)
            got = np.append(new.item_factors[0], new.item_bias[0])
            bias, rows = model.user_bias, model.user_factors
        other = ids[1 - side].encode(list(given))
        n, target = len(other), np.array(list(given.values())) - model.mean - bias[other]

        def objective(x, other=other, rows=rows, target=target, n=n):
            error = target - rows[other] @ x[:-1] - x[-1]
            ridge = (
                recipe.regularization * recipe.unit * (x[:-1] ** 2).sum()
                + recipe.bias_penalty(side, n) / n**recipe.nu * x[-1] ** 2
            )
            return (error**2).sum() + n**recipe.nu * ridge

        free = (None, None)
        bounds = [(0, None) if recipe.nonnegative else free] * (len(got) - 1)
        bounds.append(free if recipe.biased else (0, 0))
        best = minimize(objective, np.zeros(len(got)), bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-10})
        np.testing.assert_allclose(got, best.x, atol=2e-4)


@pytest.mark.parametrize("alpha0", [None, 0.1])
@pytest.mark.parametrize("side", [USER, ITEM])
def test_implicit_als_minimises_its_objective_over_all_items(alpha0, side, fitted):
    model = fitted("implicit-als", alpha0=alpha0, evidence="count")
    recipe, weightless = model.recipe, 1.0 if alpha0 is None else alpha0
    rows = (model.item_factors if side == USER else model.user_factors).astype(float)
    if side == USER:
        got = model.fold_in(NEW).user_factors[0]
        other = model.items.encode(list(NEW))
    else:
        got = model.fold_in_item(NEW).item_factors[0]
        other = model.users.encode(list(NEW))
    weight, target = np.full(len(rows), weightless), np.zeros(len(rows))
    value = np.array(list(NEW.values()))
    # With alpha0=None it is the confidence 1 + alpha r of Hu, Koren and Volinsky; else one sum beside the other.
    for at, r in zip(other, value, strict=True):
        extra = recipe.alpha * r
        weight[at] = weightless + extra
        target[at] = 1.0 if alpha0 is None else extra / (weightless + extra)
    ridge = recipe.regularization * (len(other) + weightless * len(rows)) ** recipe.nu
    wanted = np.linalg.solve(
        (rows.T * weight) @ rows + ridge * np.eye(rows.shape[1]), rows.T @ (weight * target)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def loss_of_user(model, x, other, value):
    """The squared error and the distance from the trained rows, in units of their spread and of the training error."""
    p, b, rows = x[:-1], x[-1], model.item_factors[other].astype(float)
    trained, away = model.user_factors[model.user_count > 0].astype(float), p
    if model.recipe.name == "svdpp":
        away = p - model.parts["item_terms"][other].sum(axis=0) / np.sqrt(len(other))
    else:
        away = p - trained.mean(axis=0)
    prior = away @ np.linalg.solve(np.cov(trained.T, ddof=0), away)
    if b:
        prior += b * b / model.user_bias[model.user_count > 0].var()
    error = value - model.mean - model.item_bias[other] - b - rows @ p
    return (error**2).sum() + model.history.train_mse.iloc[-1] * prior


@pytest.mark.parametrize("name", ["mf", "biased-mf", "svdpp"])
@pytest.mark.parametrize("count", [2, 30])
def test_models_of_gradient_descent_minimise_their_regularised_error(name, count, fitted):
    model = fitted(name)
    rng = np.random.default_rng(0)
    other = np.sort(rng.choice(40, count, replace=False))
    value = rng.integers(1, 6, count).astype(float)
    new = model.fold_in(dict(zip(model.items.decode(other).tolist(), value.tolist(), strict=True)))
    got = np.append(new.user_factors[0].astype(float), new.user_bias[0])
    least = loss_of_user(model, got, other, value)
    for _ in range(20):
        step = rng.normal(size=len(got)) * 3e-2 * np.abs(got).max()
        if name == "mf":
            step[-1] = 0
        assert loss_of_user(model, got + step, other, value) > least


def test_a_user_of_svdpp_has_the_terms_of_the_items_rated(fitted):
    model = fitted("svdpp")
    terms = 100 * model.parts["item_terms"]
    shift = terms[model.items.encode(list(NEW))].sum(axis=0) / 2
    away = [
        replace(model, parts={"item_terms": parts}).fold_in(NEW).user_factors[0]
        for parts in (terms, 0 * terms)
    ]
    assert np.corrcoef(away[0] - away[1], shift)[0, 1] > 0.9


def test_a_damped_mean(fitted):
    model = fitted("bias")
    rest = [
        value - model.mean - model.item_bias[model.items.encode([item])][0] for item, value in NEW.items()
    ]
    got = model.fold_in(NEW).user_bias[0]
    np.testing.assert_allclose(got, sum(rest) / (len(rest) + model.recipe.user_damping), rtol=1e-6)


@pytest.mark.parametrize("name", ["spectral-mf", "implicit-als"])
def test_a_training_row_folds_in_to_itself(name, fitted):
    model = fitted(name) if name == "spectral-mf" else fitted(name, epochs=200)
    for row in (0, 17):
        new = model.fold_in(history(model, row))
        np.testing.assert_allclose(new.user_factors[0], model.user_factors[row], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize(
    "changes",
    [{}, {"history_exponent": 0.1}, {"weighted": True, "power": 1.0, "sharpness": 0.0}, {"popularity": 0.0}],
    ids=["plain", "history", "weighted", "unpopular"],
)
def test_a_training_item_of_spectral_mf_folds_in_to_itself(changes, fitted):
    """Within a thousandth of the largest factor, where the decomposition has converged."""
    model = fitted("spectral-mf", **{**changes, "epochs": 80})
    for row in (0, 17, 30):
        new = model.fold_in_item(ratings_of(model, row))
        wanted = model.item_factors[row]
        np.testing.assert_allclose(new.item_factors[0], wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mf", {"factors": 4, "epochs": 100, "learning_rate": 0.01}),
        ("biased-mf", {}),
        ("svdpp", {}),
        ("als", {}),
    ],
    ids=["mf", "biased-mf", "svdpp", "als"],
)
def test_folded_users_predict_nearly_as_well_as_trained_ones(name, changes):
    """Within 3 % of the error on ratings that neither has seen."""
    ratings = hx.synthetic.make(300, 80, n_ratings=9000, seed=2)[0]
    split = hx.split.per_user(ratings, test=0.25, seed=0)
    model = algorithm(name)(**changes).fit(split.train, seed=1)
    test = split.test
    trained = model.predict_rows(test.user, test.item)
    folded = np.empty(len(test))
    for user in range(len(model.users)):
        mine = test.user == user
        if mine.any():
            new = model.fold_in(history(model, user))
            folded[mine] = new.predict_rows(np.zeros(mine.sum(), int), test.item[mine])
    errors = [np.sqrt(np.mean((scores - test.value) ** 2)) for scores in (trained, folded)]
    assert errors[1] < 1.03 * errors[0]


def test_bpr_maximises_its_objective(fitted):
    model = fitted("bpr", sampling="uniform", regularization=0.02)
    got = model.fold_in(NEW).user_factors[0].astype(float)
    mine = model.items.encode(list(NEW))
    others = np.setdiff1d(np.flatnonzero(model.item_count), mine)
    Q, b = model.item_factors.astype(float), model.item_bias.astype(float)

    def loss(p):
        score = b + Q @ p
        gap = score[mine][:, None] - score[others]
        return np.log1p(np.exp(-gap)).mean(axis=1).sum() + 0.5 * len(mine) * 0.02 * p @ p

    best = minimize(loss, np.zeros(len(got)), tol=1e-10)
    np.testing.assert_allclose(got, best.x, atol=2e-3)


@pytest.mark.parametrize("sampling", ["uniform", "adaptive", "popularity"])
def test_bpr_prefers_what_is_like_the_ratings(sampling):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 6)
    item = np.concatenate([rng.choice(12, 6, replace=False) + 12 * (u % 2) for u in range(60)])
    model = hx.BPR(factors=4, epochs=60, sampling=sampling).fit(hx.Ratings.from_columns(user, item), seed=0)
    alike, own = [], []
    for row in range(60):
        new = model.fold_in(history(model, row))
        alike.append(np.corrcoef(new.user_factors[0], model.user_factors[row])[0, 1])
        own.append((new.recommend("new user", 6)["item"] // 12 == row % 2).mean())
    assert np.median(alike) > 0.85
    assert np.mean(own) > 0.7


def slope_of_item(model, x, users):
    """What the steps of an epoch of BPR do to an item's row in sum, over every user, item and draw."""
    recipe, n_items = model.recipe, len(model.items)
    p, q = model.user_factors.astype(float), model.item_factors.astype(float)
    scores, new = model.item_bias + p @ q.T, p @ x[:-1] + x[-1]
    slope, draws = np.zeros(len(x)), float(len(users))
    c = recipe.candidates if recipe.sampling == "adaptive" else 1
    pool = model.item_count if recipe.sampling == "popularity" else np.ones(n_items)
    for u in range(len(p)):
        mine = model.seen.item[model.seen.of(u)]
        rest = np.setdiff1d(np.arange(n_items), mine)
        rest = rest[np.argsort(scores[u, rest])]
        weight = pool[rest] / pool[rest].sum()
        if u in users:
            ends = np.append(0, np.cumsum(weight)) ** c
            g = -np.sum(np.diff(ends) / (1 + np.exp(new[u] - scores[u, rest])))
        else:
            extra = len(users) if recipe.sampling == "popularity" else 1
            share = extra / (pool[rest].sum() + extra)
            below = weight[scores[u, rest] < new[u]].sum() * (1 - share)
            often = (below + share) ** c - below**c
            draws += often * len(mine)
            g = often * np.sum(1 / (1 + np.exp(scores[u, mine] - new[u])))
        slope += g * np.append(p[u], 1)
    return slope, draws * np.append(np.full(len(x) - 1, recipe.regularization), recipe.bias_regularization)


@pytest.mark.parametrize("sampling", ["uniform", "adaptive", "popularity"])
def test_an_item_of_bpr_is_where_its_steps_balance(sampling, fitted):
    """Within 2 % of the sizes of the slopes: scores are known by sixteenths."""
    model = fitted("bpr", sampling=sampling, candidates=4)
    users = np.array([2, 7, 11, 30, 45])
    new = model.fold_in_item(dict.fromkeys(model.users.decode(users).tolist(), 4.0))
    x = np.append(new.item_factors[0], new.item_bias[0]).astype(float)
    slope, penalty = slope_of_item(model, x, users)
    size = np.abs(slope_of_item(model, 0 * x, users)[0])
    # The bias is pulled towards what is usual for so popular an item.
    x[-1] -= usual_bias(model.item_bias, model.item_count, np.array([len(users)]))[0]
    assert np.abs(slope + penalty * x).max() < 0.02 * size.max()


def test_a_new_item_of_bpr_tells_whom_it_suits():
    """Better than who is active, which is what the level of a user's scores adds to their order."""
    rng = np.random.default_rng(0)
    count = rng.integers(3, 9, 120)
    user = np.repeat(np.arange(120), count)
    item = np.concatenate([rng.choice(16, count[u], replace=False) + 16 * (u % 2) for u in range(120)])
    clicks = hx.Ratings.from_columns(user, item)
    model = hx.BPR(factors=4, epochs=40).fit(clicks, seed=0)
    new = model.fold_in_item(dict.fromkeys(range(0, 40, 2), 1.0))
    score = new.predict(np.arange(40, 120), "new item")
    even = np.arange(40, 120) % 2 == 0
    assert (score[even][:, None] > score[~even]).mean() > 0.95
    expected = 1 / (1 + np.exp(-(model.scores(model.users.labels) + new.user_bias[:, None])))
    np.testing.assert_allclose(expected.sum(axis=1), count, rtol=1e-3)


def test_a_new_item_of_bpr_needs_the_training_rows(fitted):
    with pytest.raises(DataError, match="without its training rows"):
        replace(fitted("bpr"), seen=None).fold_in_item({3: 4.0})


# The conditional posterior.


@pytest.mark.parametrize("noise", ["common", "user"])
@pytest.mark.parametrize("side", [USER, ITEM])
@pytest.mark.parametrize("n", [2, 30])
def test_draws_have_the_mean_and_the_covariance_of_a_regression(noise, side, n, fitted):
    model = fitted("bayesian-mf", noise=noise)
    posterior = model.posterior
    rng = np.random.default_rng(n)
    other = np.sort(rng.choice(40, n, replace=False))
    given = Given(side=side, other=other, value=rng.integers(1, 6, n).astype(float))
    task = conditional._task(model, posterior, given)
    draws, size = task.centre.shape
    precision = rng.uniform(0.5, 3, draws)
    rest = (given.value - task.offset - np.einsum("snk,sk->sn", task.V, task.centre)) / task.spread
    along = conditional._along(task, rest)
    centre = conditional._draw(task, along, precision, np.zeros((draws, size)))
    columns = [
        conditional._draw(task, along, precision, np.tile(unit, (draws, 1))) - centre for unit in np.eye(size)
    ]
    bias, rows = (
        (model.item_bias, model.item_factors) if side == USER else (model.user_bias, model.user_factors)
    )
    priors = posterior.user_prior if side == USER else posterior.item_prior
    precisions = posterior.user_precision if side == USER else posterior.item_precision
    for s in range(draws):
        V = np.column_stack([rows[other].reshape(n, draws, -1)[:, s].astype(float), np.ones(n)])
        weight = np.full(n, precision[s])
        if side == ITEM and noise == "user":
            weight = weight / posterior.user_spread[other, s].astype(float) ** 2
        target = given.value - model.mean - bias[other, s]
        P = precisions[s] + (V.T * weight) @ V
        wanted = np.linalg.solve(P, precisions[s] @ priors[s].astype(float) + (V.T * weight) @ target)
        np.testing.assert_allclose(centre[s], wanted, rtol=1e-4, atol=1e-5)
        root = np.column_stack([column[s] for column in columns])
        np.testing.assert_allclose(root @ root.T @ P, np.eye(size), atol=1e-6)


def test_the_relative_precision_of_a_user_has_its_marginal_density(fitted):
    """Against the density of the ratings themselves, as a normal with the prior integrated out."""
    from scipy.stats import gamma, multivariate_normal

    model = fitted("bayesian-mf")
    given = Given(side=USER, other=np.arange(0, 24, 2), value=np.tile([1.0, 5.0, 3.0, 5.0], 3))
    task = conditional._task(model, model.posterior, given)
    precision = model.posterior.noise**-2.0
    rest = given.value - task.offset - np.einsum("snk,sk->sn", task.V, task.centre)
    rng = np.random.default_rng(0)
    along = conditional._along(task, rest)
    drawn = np.array([conditional._weight(model, task, rest, along, precision, rng) for _ in range(1500)])
    s = 3
    nu = model.fixed.freedom[s]
    grid = conditional.WEIGHTS
    spread = task.V[s] @ task.root[s] @ task.root[s].T @ task.V[s].T
    density = [
        gamma.logpdf(w, nu / 2, scale=2 / nu)
        + multivariate_normal.logpdf(rest[s], cov=spread + np.eye(12) / (precision[s] * w))
        for w in grid
    ]
    mass = np.exp(np.array(density) - max(density)) * grid
    mean = (mass * grid).sum() / mass.sum()
    sd = np.sqrt((mass * (grid - mean) ** 2).sum() / mass.sum())
    assert abs(drawn[:, s].mean() - mean) < 4 * sd / np.sqrt(len(drawn))
    assert abs(drawn[:, s].std() / sd - 1) < 0.2


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_intervals_of_new_users_cover_what_they_say(likelihood):
    ratings = hx.synthetic.make(400, 60, n_ratings=14000, seed=4)[0]
    apart = ratings.user >= 320
    recipe = hx.BayesianMF(factors=4, epochs=80, draws=20, likelihood=likelihood)
    model = recipe.fit(ratings.take(~apart), seed=0)
    inside, errors, bare = [], [], []
    for user in range(320, 400):
        rows = np.flatnonzero(ratings.user == user)
        given, rest = rows[::3], np.delete(rows, np.s_[::3])
        labels = ratings.items.decode(ratings.item)
        new = model.fold_in(dict(zip(labels[given].tolist(), ratings.value[given].tolist(), strict=True)))
        got = new.predict("new user", labels[rest], interval=0.9)
        inside.append((got.low <= ratings.value[rest]) & (ratings.value[rest] <= got.high))
        errors.append(got.rating - ratings.value[rest])
        bare.append(model.predict("nobody", labels[rest]) - ratings.value[rest])
    coverage, error = np.concatenate(inside).mean(), np.square(np.concatenate(errors)).mean()
    assert 0.87 < coverage < (0.94 if likelihood == "gaussian" else 0.99)
    assert error < 0.85 * np.square(np.concatenate(bare)).mean()


def test_an_ordinal_model_wants_ratings_that_it_knows(fitted):
    with pytest.raises(DataError, match="knows the ratings"):
        fitted("bayesian-mf", likelihood="ordinal").fold_in({3: 4.4})


HUGE = """
import json, resource, sys
import numpy as np, pandas as pd, hatrix as hx
n, k, rng = 60_000, 4, np.random.default_rng(0)
model = hx.FactorModel(
    hx.BPR(factors=k), hx.Ids(np.arange(2)), hx.Ids(np.arange(n)), 0.0, np.zeros(2, np.float32),
    np.zeros(n, np.float32), *(rng.normal(0, 0.1, (m, k)).astype(np.float32) for m in (2, n)),
    np.array([n, 1]), np.ones(n, np.int64), 1.0, None, 0, pd.DataFrame({"epoch": [1]}),
)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
model.fold_in({1: 1.0}).explain("new user", 2)
before = peak()
folded = model.fold_in(dict.fromkeys(range(0, n, 2), 1.0))
assert np.isfinite(folded.user_factors).all()
print(peak() - before)
"""


def test_folding_in_many_clicks_of_bpr_takes_no_memory_for_all_pairs():
    """30,000 items and 2,048 rivals: 246 MB in single precision."""
    ran = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 120


def test_explaining_many_clicks_goes_by_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    clicks = hx.Ratings.from_columns(rng.integers(0, 30, 600), rng.integers(0, 60, 600))
    model = hx.BPR(factors=4, epochs=3).fit(clicks, progress=False)
    whole = model.explain(3, 5)
    monkeypatch.setattr(pairwise, "ITEMS_AT_ONCE", 3)
    pd.testing.assert_frame_equal(whole, model.explain(3, 5), rtol=1e-4)


def test_more_ratings_than_memory_for_a_posterior_end_in_a_typed_error(monkeypatch):
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    model = hx.BayesianMF(factors=2, epochs=20, burn_in=5, draws=5).fit(ratings, progress=False)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 8_000}[name])
    with pytest.raises(
        DataError, match=r"with 6 ratings in 5 posterior draws needs .* GB .*: give fewer ratings"
    ):
        model.fold_in(dict.fromkeys(model.items.labels[:6].tolist(), 3.0))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 400}[name])
    with pytest.raises(DataError, match=r"the scores of 2 users for 20 items needs .*: ask for fewer users"):
        model.scores([1, 2])


def test_rows_beyond_what_models_compute_with_end_in_typed_errors():
    vast = hx.Ratings.from_columns([1, 1, 2], [1, 2, 1], [1e32, -1e32, 1e32])
    model = hx.Bias(user_damping=0, item_damping=0).fit(vast, progress=False)
    low = replace(model, item_bias=np.full(2, -1e33), user_bias=np.full(2, -1e33))
    for ask in (lambda: low.fold_in({1: 1e32}), lambda: low.fold_in_item({1: 1e32})):
        with pytest.raises(DataError, match=r"numbers beyond 1e\+33, .*divide the ratings"):
            ask()
    for values in ([1.0, np.nan], [np.inf], [2e17]):
        with pytest.raises(DataError, match=r"numbers beyond 1e\+17"):
            in_type(values, np.dtype(np.float32), 1e17)
    assert in_type([1e17, -1e17], np.dtype(np.float32), 1e17).dtype == np.float32


def test_equations_without_a_solution_end_in_a_typed_error():
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    model = hx.BayesianMF(factors=2, epochs=20, burn_in=5, draws=5).fit(ratings, progress=False)
    nothing = np.zeros_like(model.posterior.user_precision)
    flat = replace(model, posterior=model.posterior._replace(user_precision=nothing))
    for ask in (
        lambda: flat.fold_in({1: 3.0}),
        lambda: flat.explain(1, 1),
        lambda: flat.update(ratings.take(slice(0, 3))),
    ):
        with pytest.raises(DataError, match=r"equations without a solution .* fit again"):
            ask()


@pytest.mark.parametrize("error", [np.nan, -1.0])
def test_a_history_that_cannot_be_is_no_measure_of_the_error(error):
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    model = hx.BiasedMF(factors=2, epochs=3).fit(ratings, progress=False)
    with pytest.raises(DataError, match="says that its training error is"):
        replace(model, history=model.history.assign(train_mse=error)).fold_in({1: 3.0})


def test_a_baseline_with_factors_folds_in():
    """The golden file has one."""
    model = hx.load(GOLDEN)
    item = model.items.labels[0].item()
    assert np.isfinite(model.fold_in({item: 3.0}).scores(["new user"])).all()
    assert model.fold_in({item: 3.0}).explain("new user", item)["contribution"].notna().all()


def test_a_new_item_of_bpr_whose_slope_is_zero_at_once():
    user, item = np.nonzero(np.random.default_rng(0).random((12, 9)) < 0.6)
    model = hx.BPR(factors=3, epochs=2).fit(hx.Ratings.from_columns(user, item), progress=False)
    low = replace(model, item_bias=np.full(9, -1e17, np.float32))
    assert np.isfinite(low.fold_in_item({0: 1.0, 1: 1.0, 2: 1.0}).item_factors).all()


RANKERS = {
    "implicit-als": hx.ImplicitALS(factors=4, epochs=3),
    "counts": hx.ImplicitALS(factors=4, epochs=3, evidence="count"),
    "spectral-mf": hx.SpectralMF(factors=4, noise=0.0),
    "bpr": hx.BPR(factors=4, epochs=3),
    "blend": hx.Blend(
        [hx.ImplicitALS(factors=3, epochs=2), hx.SpectralMF(factors=3, noise=0.0)], weights=(1.0, 0.5, 0.0)
    ),
}


def stars(low: float = 1.0, high: float = 5.0) -> hx.Ratings:
    ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    value = low + (ratings.value - 1) / 4 * (high - low)
    return hx.Ratings.from_columns(ratings.user, ratings.item, value, scale=(low, high))


@pytest.mark.parametrize("name", RANKERS)
def test_a_new_user_who_likes_nothing_gets_what_is_popular(name):
    model = RANKERS[name].fit(stars(), progress=False)
    bad = {3: 1.0, 8: 2.5, 20: 2.0}
    visitor = model.fold_in(bad)
    assert not visitor.flat.user_factors.any()
    found = visitor.recommend("new user", 40)
    assert found.attrs["fallback"]
    assert not set(found["item"]) & set(bad)
    assert len(found) == 40 - len(bad)
    assert found.attrs["fallback"] == {"new user": "popularity"}
    by_count = model.items.labels[(-model.item_count).argsort(kind="stable")]
    assert found["item"].tolist() == [item for item in by_count.tolist() if item not in bad]
    assert not visitor.explain("new user", 5).query("part == 'rating'")["contribution"].any()
    likes_one = model.fold_in(bad | {9: 3.0})
    assert likes_one.flat.user_factors.any()
    assert not likes_one.recommend("new user", 3).attrs["fallback"]


def test_low_values_are_likes_where_most_are_low_or_low_ones_count_against():
    few = dict.fromkeys([3, 8], 2.0)
    signed = hx.ImplicitALS(factors=4, epochs=3, evidence="signed").fit(stars(), progress=False)
    assert signed.fold_in(few).user_factors.any()
    plays = stars()
    plays = hx.Ratings.from_columns(plays.user, plays.item, plays.value, scale=(1, 5000))
    assert hx.ImplicitALS(factors=4, epochs=3).fit(plays, progress=False).fold_in(few).user_factors.any()
    assert hx.BiasedMF(factors=4, epochs=3).fit(stars(), progress=False).fold_in(few).user_factors.any()
    item = hx.ImplicitALS(factors=4, epochs=3).fit(stars(), progress=False).fold_in_item(few)
    assert item.item_factors.any()


def test_an_update_gives_a_new_user_who_likes_nothing_the_row_of_a_fold_in():
    model = hx.ImplicitALS(factors=4, epochs=3).fit(stars(), progress=False)
    new = hx.Ratings.from_columns([99, 99, 98], [3, 8, 8], [1.0, 2.0, 5.0], scale=(1, 5))
    updated = model.update(new)
    rows = updated.users.encode([99, 98])
    assert updated.user_factors[rows].any(axis=1).tolist() == [False, True]
    found = updated.recommend([99, 98], 5)
    assert set(found.attrs["fallback"]) == {99}
