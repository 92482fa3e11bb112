"""Rows of new users and items as sums of fields: who rated what, and attributes."""

from __future__ import annotations

import pickle
from dataclasses import fields as parts_of
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ModelFileError
from hatrix.models import artifact, bags, conditional
from hatrix.models.factors import ITEM, USER
from hatrix.models.fields import attributes
from hatrix.models.terms import Given

ALL = ("user", "item", "user_attributes", "item_attributes", "rated", "raters")
SHORT = {"likelihood": "gaussian", "factors": 2, "epochs": 40, "burn_in": 20, "draws": 8, "fields": ALL}


def made(seed=0, users=90, items=60, density=0.4):
    """Ratings of users and items whose tastes come from their attributes, in large part."""
    rng = np.random.default_rng(seed)
    job, age = rng.choice(["cook", "poet", "pilot"], users), rng.integers(18, 70, users)
    genres = [
        "|".join(rng.choice(["crime", "drama", "farce", "opera"], 2, replace=False)) for _ in range(items)
    ]
    taste = {name: rng.normal(size=2) for name in ("cook", "poet", "pilot")}
    look = {name: rng.normal(size=2) for name in ("crime", "drama", "farce", "opera")}
    level = dict(zip(look, rng.normal(0, 0.4, 4), strict=True))
    P = np.array([taste[j] for j in job]) + rng.normal(0, 0.3, (users, 2))
    Q = np.array([sum(look[g] for g in text.split("|")) / 2**0.5 for text in genres])
    b = np.array([sum(level[g] for g in text.split("|")) for text in genres])
    score = 3 + b + (age[:, None] - 44) / 40 + P @ (Q + rng.normal(0, 0.2, Q.shape)).T * 0.6
    user, item = np.nonzero(rng.random((users, items)) < density)
    value = np.clip(np.round(score[user, item] + rng.normal(0, 0.5, len(user))), 1, 5)
    ratings = hx.Ratings.from_columns(user, item, value, scale=(1, 5))
    assert (len(ratings.users), len(ratings.items)) == (users, items)
    return replace(
        ratings,
        user_table=pd.DataFrame({"job": job, "age": age, "name": [f"user {u}" for u in range(users)]}),
        item_table=pd.DataFrame({"genres": genres}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def ratings():
    return made()


@pytest.fixture(scope="module")
def model(ratings):
    return hx.BayesianMF(**SHORT).fit(ratings, seed=1)


@pytest.fixture(scope="module")
def plain(ratings):
    """With one noise for all, so that a conditional distribution is normal."""
    return hx.BayesianMF(**SHORT, noise="common").fit(ratings, seed=1)


def history(model, row):
    seen = model.seen.of(row)
    labels = model.items.decode(model.seen.item[seen]).tolist()
    return dict(zip(labels, model.seen.value[seen].tolist(), strict=True))


def dense_centre(model, side, other, line):
    """The mean of a row's prior from the columns of a table and what was rated, written out."""
    posterior = model.posterior
    centre = (posterior.user_prior if side == USER else posterior.item_prior).astype(float)
    for bag in model.bags:
        if bag.side != side:
            continue
        if bag.column is None:
            held = list(other)
        elif bag.column.name == "age":
            held = [int(np.sum(bag.column.edges <= line["age"]))]
        else:
            held = [bag.column.values.tolist().index(value) for value in line[bag.column.name].split("|")]
        centre = centre + bag.rows[held].astype(float).sum(axis=0) / np.sqrt(len(held))
    return centre


def dense(model, side, other, value, line):
    """Mean (S, k + 1) and precision (S, k + 1, k + 1) of a row given its ratings, by the textbook."""
    posterior, mu = model.posterior, dense_centre(model, side, other, line)
    bias, rows = (
        (model.item_bias, model.item_factors) if side == USER else (model.user_bias, model.user_factors)
    )
    prior = posterior.user_precision if side == USER else posterior.item_precision
    means, precisions = [], []
    for s in range(len(mu)):
        V = np.column_stack(
            [rows[other].reshape(len(other), len(mu), -1)[:, s].astype(float), np.ones(len(other))]
        )
        c = posterior.noise[s] ** -2
        P = prior[s] + c * V.T @ V
        target = value - model.mean - bias[other, s]
        means.append(np.linalg.solve(P, prior[s] @ mu[s] + c * V.T @ target))
        precisions.append(P)
    return np.array(means), np.array(precisions)


# What a model keeps.


def test_the_trained_rows_are_sums_of_what_is_kept(ratings):
    """With own rows that hardly differ, a trained row is its centre."""
    recipe = hx.BayesianMF(**SHORT)
    state = recipe.init(ratings, seed=1, threads=1)
    for epoch in range(recipe.epochs):
        recipe.step(state, epoch)
    model = hx.models.fit.model_of(recipe, ratings, recipe.finish(state), seed=1, history=[], seen=None)
    last = -1
    unit = np.append(np.full(2, state.unit**0.5), state.unit)
    for side, own in ((USER, state.variables["own.0"]), (ITEM, state.variables["own.1"])):
        table = (ratings.user_table, ratings.item_table)[side]
        bias, rows = (
            (model.user_bias, model.user_factors) if side == USER else (model.item_bias, model.item_factors)
        )
        prior = (model.posterior.user_prior, model.posterior.item_prior)[side]
        for row in (0, 7, 31):
            column, others = (ratings.user, ratings.item)[:: 1 if side == USER else -1]
            centre = dense_centre(model, side, np.sort(others[column == row]), table.iloc[row])[last]
            x = np.append(rows[row].reshape(len(prior), -1)[last], bias[row, last])
            np.testing.assert_allclose(x, centre - prior[last] + own[row, :3] * unit, atol=1e-4)


def test_the_lines_of_the_table_hold_what_the_bags_held(ratings, model):
    for table, side in ((ratings.user_table, USER), (ratings.item_table, ITEM)):
        found = [bag.column for bag in model.bags if bag.side == side and bag.column is not None]
        assert [column.name for column in found] == [bag.name for bag in attributes(table)]
        for bag, column in zip(attributes(table), found, strict=True):
            rows, features = column.held(table[column.name])
            held = sorted(zip(features.tolist(), rows.tolist(), strict=True))
            trained = np.repeat(np.arange(len(bag.start) - 1), np.diff(bag.start)).tolist()
            assert held == sorted(zip(trained, bag.holder.tolist(), strict=True))


def test_models_of_ids_alone_keep_no_bags(ratings):
    recipe = hx.BayesianMF(**(SHORT | {"fields": ("user", "item")}))
    assert recipe.fit(ratings, seed=1).bags is None


def test_a_copy_has_the_bags(model):
    for one, other in zip(model.bags, pickle.loads(pickle.dumps(model)).bags, strict=True):
        for ours, theirs in zip(one.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# The conditional distribution.


@pytest.mark.parametrize("n", [0, 2, 30])
@pytest.mark.parametrize("side", [USER, ITEM])
def test_draws_have_the_mean_and_the_covariance_of_a_regression(side, n, plain):
    rng = np.random.default_rng(n)
    other = np.sort(rng.choice(60, n, replace=False))
    value = rng.integers(1, 6, n).astype(float)
    line = ({"job": "poet", "age": 30}, {"genres": "opera|drama"})[side]
    frame, notes = bags.line_of(plain, side, line)
    assert all("name" in note for note in notes)
    added = bags.Attributes(plain, side, np.zeros(1, int), frame).of(0)
    task = conditional._task(plain, plain.posterior, Given(side, other, value, added))
    draws, size = task.centre.shape
    precision = plain.posterior.noise**-2
    along = conditional._along(task, value - task.offset - np.einsum("snk,sk->sn", task.V, task.centre))
    centre = conditional._draw(task, along, precision, np.zeros((draws, size)))
    columns = [
        conditional._draw(task, along, precision, np.tile(unit, (draws, 1))) - centre for unit in np.eye(size)
    ]
    if n:
        mean, P = dense(plain, side, other, value, line)
    else:
        mean = dense_centre(plain, side, [0], line) - next(
            bag.rows[0] for bag in plain.bags if bag.side == side and bag.column is None
        )
        P = (plain.posterior.user_precision, plain.posterior.item_precision)[side]
    np.testing.assert_allclose(centre, mean, rtol=1e-4, atol=1e-5)
    for s in range(draws):
        root = np.column_stack([column[s] for column in columns])
        np.testing.assert_allclose(root @ root.T @ P[s], np.eye(size), atol=1e-6)
    terms = conditional.mean_terms(plain, Given(side, other, value, added), None, centre)
    np.testing.assert_allclose(terms.base + terms.each.sum(axis=1), mean, rtol=1e-4, atol=1e-5)


def test_a_training_user_folds_in_to_the_conditional_row_in_expectation(ratings, plain):
    """Over seeds, by a test of each number of the row at four and a half standard errors."""
    for row in (3, 40):
        line = ratings.user_table.iloc[row].to_dict()
        drawn = []
        for seed in range(200):
            new = replace(plain, seed=seed).fold_in(history(plain, row), attributes=line)
            drawn.append(np.column_stack([new.user_factors[0].reshape(8, -1), new.user_bias[0]]))
        seen = plain.seen.of(row)
        mean, P = dense(plain, USER, plain.seen.item[seen], plain.seen.value[seen], line)
        sd = np.sqrt(np.array([np.linalg.inv(each).diagonal() for each in P]))
        z = (np.mean(drawn, axis=0) - mean) / (sd / np.sqrt(len(drawn)))
        assert np.abs(z).max() < 4.5
        np.testing.assert_allclose(np.std(drawn, axis=0), sd, rtol=0.25)


@pytest.mark.campaign
@pytest.mark.parametrize("noise", ["common", "user"])
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_training_rows_fold_in_to_what_the_chain_says_of_them(likelihood, noise, ratings):
    """A draw given all else is one more step of the chain: means over draws agree, and not without the bags."""
    recipe = hx.BayesianMF(**(SHORT | {"epochs": 320, "draws": 150, "likelihood": likelihood}), noise=noise)
    model = recipe.fit(ratings, seed=2)
    bare = replace(model, bags=None)
    with_bags, without = [], []
    few = np.argsort(ratings.user_count, kind="stable")[:30]
    for row in few:
        whole = history(model, row)
        line = ratings.user_table.iloc[row].to_dict()
        trained = model.scores(row)[0]
        with_bags.append(model.fold_in(whole, attributes=line).scores("new user")[0] - trained)
        without.append(bare.fold_in(whole).scores("new user")[0] - trained)
    errors = np.sqrt(np.mean(np.square(with_bags))), np.sqrt(np.mean(np.square(without)))
    assert errors[0] < 0.04 * np.std(model.scores(few))
    assert errors[0] < 0.6 * errors[1]


def test_new_rows_are_in_units_of_the_rating(ratings):
    """Powers of two, as training divides by one: the same to rounding."""
    recipe = hx.BayesianMF(**SHORT)
    one, other = (
        recipe.fit(replace(ratings, value=unit * ratings.value, scale=(0, 999)), seed=1) for unit in (1, 64)
    )
    line = {"job": "poet", "age": 33}
    news = one.fold_in({3: 5.0, 8: 1.0}, attributes=line), other.fold_in({3: 320.0, 8: 64.0}, attributes=line)
    np.testing.assert_allclose(64 * news[0].scores("new user"), news[1].scores("new user"), rtol=1e-5)


# Attributes by name.


def test_unknown_values_and_columns_contribute_nothing_and_are_noted(model):
    whole = model.fold_in({1: 5.0}, attributes={"job": "poet", "age": 30, "name": "eve"})
    assert whole.notes == ("name is no field of the model: it contributes nothing",)
    assert whole.user_table.to_dict("records") == [{"job": "poet", "age": 30, "name": "eve"}]
    odd = model.fold_in({1: 5.0}, attributes={"job": "poet|spy", "age": None})
    assert odd.notes == (
        "job 'spy' is unknown to the model: it contributes nothing",
        "no age is given: it contributes nothing",
    )
    lone = model.fold_in({1: 5.0}, attributes={"job": "poet"})
    np.testing.assert_array_equal(odd.user_factors, lone.user_factors)
    nothing = model.fold_in({1: 5.0}, attributes={})
    np.testing.assert_array_equal(nothing.user_factors, model.fold_in({1: 5.0}).user_factors)
    assert not np.array_equal(nothing.user_factors, lone.user_factors)
    np.testing.assert_array_equal(
        model.fold_in({}, attributes={"age": "30"}).user_bias,
        model.fold_in({}, attributes={"age": 30}).user_bias,
    )


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"weather": "rain"}, "no attribute 'weather': the model has job, age, name"),
        ({"age": "young"}, "age is 'young': give a number"),
        ({"job": ["poet", "cook"]}, "job is a list: give one value"),
        ([("job", "poet")], "attributes are list: give them as a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_attributes_is_said(given, because, model):
    with pytest.raises(DataError, match=because):
        model.fold_in({1: 5.0}, attributes=given)


def test_models_that_know_no_attributes_say_so(ratings, model):
    for other in (
        hx.Bias().fit(ratings),
        hx.BayesianMF(**(SHORT | {"fields": ("user", "item", "rated")})).fit(ratings),
    ):
        with pytest.raises(DataError, match="with the field user_attributes"):
            other.fold_in({1: 5.0}, attributes={"job": "poet"})
        with pytest.raises(DataError, match="with the field item_attributes"):
            other.fold_in_item({1: 5.0}, attributes={"genres": "opera"})
    with pytest.raises(DataError, match="did not keep the rows of user_attributes"):
        replace(model, bags=None).fold_in({1: 5.0}, attributes={"job": "poet"})


def test_lists_of_a_user_of_whom_only_attributes_are_known_say_so(model):
    new = model.fold_in({}, attributes={"job": "poet"})
    assert new.recommend("new user", 3).attrs["fallback"] == {"new user": "attributes"}
    assert model.fold_in({}).recommend("new user", 3).attrs["fallback"] == {"new user": "prior"}
    assert model.fold_in({1: 4.0}).recommend("new user", 3).attrs["fallback"] == {}
    assert new.recommend_all(2, progress=False)["basis"].unique().tolist() == ["attributes"]


def test_a_new_item_is_found_by_its_attributes(model):
    new = model.fold_in_item({}, attributes={"genres": "opera|farce"})
    assert len(new.recommend(0, 5, where='genres == "opera"')) == 1
    assert len(new.recommend(0, 5, where='genres == "crime"')) == 0


@pytest.mark.campaign
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_cold_item_with_genres_is_foretold_better_than_by_the_bias_of_users(likelihood):
    ratings = made(seed=3, users=200, items=90, density=0.3)
    held = ratings.item >= 75
    train = ratings.take(~held)
    recipe = hx.BayesianMF(factors=3, epochs=120, draws=30, fields=ALL, likelihood=likelihood)
    model, fallback = recipe.fit(train, seed=0), hx.Bias().fit(train)
    bare = hx.BayesianMF(factors=3, epochs=120, draws=30, likelihood=likelihood).fit(train, seed=0)
    errors, inside = {"attributes": [], "bias": [], "prior": []}, []
    for item in range(75, 90):
        rows = ratings.item == item
        users, value = ratings.user[rows], ratings.value[rows]
        new = model.fold_in_item({}, attributes={"genres": ratings.item_table["genres"][item]})
        got = new.predict(users, "new item", interval=0.9)
        inside.append((got.low <= value) & (value <= got.high))
        errors["attributes"].append(got.rating - value)
        errors["bias"].append(fallback.predict(users, "new item") - value)
        errors["prior"].append(bare.predict(users, "new item") - value)
    found = {name: np.sqrt(np.mean(np.concatenate(each) ** 2)) for name, each in errors.items()}
    assert found["attributes"] < 0.85 * found["bias"]
    assert found["attributes"] < 0.85 * found["prior"]
    assert np.concatenate(inside).mean() > 0.87


# Reasons.


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
@pytest.mark.parametrize("fields", [ALL, (*ALL, "time")])
def test_the_parts_add_up_to_the_score(fields, likelihood, ratings):
    timed = replace(ratings, time=np.arange(len(ratings)) % 5 * 86_400 * 7)
    model = hx.BayesianMF(**(SHORT | {"fields": fields, "likelihood": likelihood})).fit(timed, seed=1)
    new = model.fold_in({3: 5.0, 8: 1.0}, attributes={"job": "cook", "age": 20})
    cold = model.fold_in({}, attributes={"job": "cook"})
    late = model.update(news(model))
    item = model.fold_in_item({3: 5.0, 8: 1.0}, attributes={"genres": "opera"})
    for some, user, asked in (
        (model, 5, 7), (new, "new user", 7), (cold, "new user", 7), (late, 900, 7), (late, 3, 77), (item, 3, "new item"),
    ):  # fmt: skip
        reasons = some.explain(user, asked)
        row = some.items.encode([asked])[0]
        assert reasons["contribution"].sum() == pytest.approx(some.scores(user)[0, row], abs=1e-5)
        assert "attributes" in reasons["part"].tolist()
    # Of stars, the reasons stand for what hidden numbers did; with all fields in them, they still tell most of a row.
    assert model.explain(5, 7).attrs["fit"] > 0.8
    carried = model.explain(5, int(model.recommend(5, 1)["item"][0])).attrs["without"]
    assert carried["rank"] >= 1


def test_without_a_rating_the_row_is_solved_with_what_is_left(plain):
    """The list after a removal is that of the row with one rating less in it, and in its bag."""
    user = 5
    item = int(plain.recommend(user, 1)["item"][0])
    found = plain.explain(user, item, removals=1).attrs["without"]
    left = history(plain, user)
    del left[found["items"][0]]
    line, before = plain.user_table.iloc[user].to_dict(), history(plain, user)
    means = [
        dense(plain, USER, np.array(list(rated)), np.array(list(rated.values())), line)[0]
        for rated in (before, left)
    ]
    change = np.einsum(
        "sk,sk->s", (means[1] - means[0])[:, :-1], plain.item_factors[item].reshape(8, -1).astype(float)
    )
    wanted = plain.scores(user)[0, item] + (change + (means[1] - means[0])[:, -1]).mean()
    assert found["score"] == pytest.approx(wanted, abs=1e-4)


# Updates.


def news(model):
    """An old pair rated anew, two users and an item that are new, with attributes."""
    rows = [
        (1, int(model.seen.item[0]), 1.0),
        (1, 77, 5.0),
        (2, 77, 4.0),
        (900, 77, 4.0),
        (900, 3, 5.0),
        (901, 4, 2.0),
    ]
    new = hx.Ratings.from_columns(*zip(*rows, strict=True), scale=(1, 5))
    users = pd.DataFrame({"job": ["cook", "cook", "poet", "spy"], "age": [1, 2, 30, 40]})
    return replace(
        new, user_table=users, item_table=pd.DataFrame({"genres": ["opera|drama"] * len(new.items)})
    )


def test_new_users_enter_as_they_would_fold_in(model):
    row = hx.Ratings.from_columns([900, 900, 900], [3, 5, 9], [5.0, 1.0, 4.0], scale=(1, 5))
    told = replace(row, user_table=pd.DataFrame({"job": ["poet"], "age": [30]}))
    updated = model.update(told, sweeps=1)
    place = updated.users.encode([900])[0]
    new = model.fold_in({3: 5.0, 5: 1.0, 9: 4.0}, attributes={"job": "poet", "age": 30})
    np.testing.assert_array_equal(updated.user_factors[place], new.user_factors[0])
    np.testing.assert_array_equal(updated.user_bias[place], new.user_bias[0])
    bare = model.update(row, sweeps=1)
    assert not np.array_equal(bare.user_factors[place], new.user_factors[0])


def test_untouched_rows_stay_and_touched_ones_have_new_centres(model, tmp_path):
    updated = model.update(news(model))
    for side, ids, touched in (
        ("user", model.users, {1, 2}),
        ("item", model.items, {3, 4, int(model.seen.item[0])}),
    ):
        same = np.array([label for label in ids.labels.tolist() if label not in touched])
        place = getattr(updated, f"{side}s").encode(same), ids.encode(same)
        for kind in ("bias", "factors"):
            arrays = getattr(updated, f"{side}_{kind}")[place[0]], getattr(model, f"{side}_{kind}")[place[1]]
            np.testing.assert_array_equal(*arrays)
        moved = [getattr(updated, f"{side}s").encode(list(touched)), ids.encode(list(touched))]
        assert (
            (getattr(updated, f"{side}_factors")[moved[0]] != getattr(model, f"{side}_factors")[moved[1]])
            .any(axis=1)
            .all()
        )
    for before, after in zip(model.bags, updated.bags, strict=True):
        assert (before.side, before.column) == (after.side, after.column)
        if before.column is not None:
            assert after.rows is before.rows
            continue
        old, new = (model.items, updated.items) if before.side == USER else (model.users, updated.users)
        np.testing.assert_array_equal(after.rows[new.encode(old.labels)], before.rows)
        fresh = np.setdiff1d(np.arange(len(new)), new.encode(old.labels))
        assert len(fresh)
        np.testing.assert_allclose(
            after.rows[fresh], np.broadcast_to(before.rows.mean(0), after.rows[fresh].shape), atol=1e-6
        )
    updated.save(tmp_path / "m.hatrix")
    again = hx.load(tmp_path / "m.hatrix")
    np.testing.assert_array_equal(again.predict([900, 901, 4], 77), updated.predict([900, 901, 4], 77))
    assert again.update(news(model)).drift.added == 12


def test_an_updated_model_foretells_nearly_as_well_as_one_fitted_again():
    ratings = made(seed=5, users=250, items=80, density=0.35)
    rng = np.random.default_rng(0)
    late = (rng.random(len(ratings)) < 0.15) | (ratings.user >= 230) | (ratings.item >= 75)
    test = late & (rng.random(len(ratings)) < 0.4)
    recipe = hx.BayesianMF(factors=3, epochs=80, draws=20, fields=ALL, likelihood="gaussian")
    old, anew = recipe.fit(ratings.take(~late), seed=0), recipe.fit(ratings.take(~test), seed=0)
    updated = old.update(ratings.take(late & ~test))
    labels = ratings.users.decode(ratings.user[test]), ratings.items.decode(ratings.item[test])
    errors = [
        np.sqrt(np.mean((found.predict(*labels) - ratings.value[test]) ** 2))
        for found in (old, updated, anew)
    ]
    assert errors[1] < 0.98 * errors[0]
    assert errors[1] < 1.03 * errors[2]


def test_biases_of_days_stay(ratings):
    timed = replace(ratings, time=np.arange(len(ratings)) % 40 * 86_400)
    recipe = hx.BayesianMF(**(SHORT | {"fields": ("user", "item", "rated", "user_day")}))
    model = recipe.fit(timed, seed=1)
    updated = model.update(news(model))
    users, days = model.users.labels, np.arange(40) * 86_400
    old, new = (
        found.days.find(np.repeat(found.users.encode(users), 40), np.tile(days, len(users)))
        for found in (model, updated)
    )
    assert (old >= 0).any()
    np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model.days.bias, updated.days.bias)
    assert (updated.days.find(updated.users.encode(np.repeat([900, 901], 40)), np.tile(days, 2)) < 0).all()
    eve = model.fold_in({3: 5.0})
    assert eve.predict("new user", 4, times=0) == eve.predict("new user", 4)


def test_a_rating_of_an_unknown_day_counts_less(ratings):
    timed = replace(ratings, time=np.arange(len(ratings)) % 40 * 86_400)
    model = hx.BayesianMF(**(SHORT | {"fields": ("user", "item", "user_day")}), noise="common").fit(
        timed, seed=1
    )
    other, value = np.array([3, 8]), np.array([5.0, 5.0])
    noise = np.hypot(model.posterior.noise, model.days.spread)
    wanted = dense(
        replace(model, bags=(), posterior=model.posterior._replace(noise=noise)), USER, other, value, {}
    )
    found = conditional.mean_terms(model, Given(USER, other, value), None, np.zeros((8, 3)))
    np.testing.assert_allclose(found.base + found.each.sum(axis=1), wanted[0], rtol=1e-4, atol=1e-5)


def test_a_forgotten_user_is_in_no_bag(model, tmp_path):
    (raters,) = (bag for bag in model.bags if bag.side == ITEM and bag.column is None)
    for refit in (False, True):
        left = model.forget(7, refit=refit)
        left.save(tmp_path / "m.hatrix")
        content = (tmp_path / "m.hatrix").read_bytes()
        assert raters.rows[7].tobytes() not in content
        assert raters.rows[8].tobytes() in content
        assert np.isfinite(left.predict([5, 9], [3, 4])).all()


def test_an_item_that_only_a_forgotten_user_rated_is_what_its_attributes_say(ratings):
    rows = (ratings.item != 9) | (ratings.user == ratings.user[ratings.item == 9][0])
    few = ratings.take(rows)
    model = hx.BayesianMF(**SHORT).fit(few, seed=1)
    owner = int(few.user[few.item == 9][0])
    left = model.forget(owner, refit=True)
    new = model.fold_in_item({}, attributes={"genres": ratings.item_table["genres"][9]})
    np.testing.assert_allclose(left.item_factors[9], new.item_factors[0], rtol=1e-5, atol=1e-6)


# The file.


def contents(model):
    out = {part.name: getattr(model, part.name) for part in parts_of(model)}
    return {name: value for name, value in out.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("verify", [True, False])
def test_the_bags_come_back_to_the_last_bit(verify, model, tmp_path):
    model.save(tmp_path / "m.hatrix")
    again = hx.load(tmp_path / "m.hatrix", verify=verify)
    assert len(model.bags) == len(again.bags) == 5
    for one, other in zip(model.bags, again.bags, strict=True):
        assert one.side == other.side
        assert (one.column and one.column.name) == (other.column and other.column.name)
        for ours, theirs in zip(one.arrays, other.arrays, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    new = [found.fold_in({3: 5.0}, attributes={"job": "poet", "age": 20}) for found in (model, again)]
    np.testing.assert_array_equal(new[0].user_factors, new[1].user_factors)
    again.save(tmp_path / "again.hatrix")
    assert (tmp_path / "m.hatrix").read_bytes() == (tmp_path / "again.hatrix").read_bytes()


def test_files_of_before_behave_as_before(model, tmp_path):
    """They have no array of bags: rows fold in by the prior of the ids alone, and updates are refused."""
    replace(model, bags=None).save(tmp_path / "m.hatrix")
    assert not any("bags" in name for name in artifact.read(tmp_path / "m.hatrix")[0])
    old = hx.load(tmp_path / "m.hatrix")
    assert old.bags is None
    other, value = np.array([3, 8]), np.array([5.0, 1.0])
    task = conditional._task(old, old.posterior, Given(USER, other, value))
    np.testing.assert_array_equal(task.centre, old.posterior.user_prior.astype(float))
    for name, array in contents(model).items():
        np.testing.assert_array_equal(array, getattr(old, name))
    with pytest.raises(
        DataError, match="did not keep the rows of user_attributes, item_attributes, rated, raters"
    ):
        old.update(news(model))


def setter(name, place, value):
    return lambda arrays: arrays[name].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda a: a.pop("bags.side"), "has an array 'bags.0.edges', which this hatrix does not know"),
        (lambda a: a.pop("bags.2.rows"), "array 'bags.2.rows' is missing"),
        (lambda a: a.pop("bags.1.edges"), "array 'bags.1.edges' is missing"),
        (lambda a: a.pop("bags.name"), "array 'bags.name' is missing"),
        (lambda a: a.update({"bags.side": a["bags.side"][:-1]}), "4 bags and 5 names"),
        (lambda a: a.update({"bags.9.rows": a["bags.2.rows"]}), "has an array 'bags.9.rows'"),
        (lambda a: a.update({"bags.2.rows": a["bags.2.rows"][1:]}), r"bag is float32 of shape \(59, 8, 3\) instead of"),
        (lambda a: a.update({"bags.0.rows": a["bags.0.rows"][:, :, 1:]}), r"bag is float32 of shape \(3, 8, 2\)"),
        (lambda a: a.update({"bags.0.rows": a["bags.0.rows"][:, 1:]}), r"bag is float32 of shape \(3, 7, 3\)"),
        (lambda a: a.update({"bags.0.rows": a["bags.0.rows"].astype("f8")}), "'bags.0.rows' is float64"),
        (setter("bags.2.rows", 0, np.nan), "not finite"),
        (setter("bags.side", 0, 2), "a bag is of the side 2"),
        (setter("bags.side", 0, -1), "a bag is of the side -1"),
        (setter("bags.side", 2, 1), "bag is float32 of shape"),
        (setter("bags.0.values", 0, ord("z")), "the values of the column 'job' are not in order"),
        (setter("bags.1.values", 0, 5.0), "the values of the column 'age' are not in order"),
        (setter("bags.1.values", 0, 0.5), "of the column 'age' is not the number of a bin"),
        (setter("bags.1.values", -1, 77.0), "of the column 'age' is not the number of a bin"),
        (setter("bags.1.edges", 0, 99.0), "the edges of the column 'age' are not in order"),
        (lambda a: a.update({"bags.0.edges": a["bags.1.edges"]}), "the edges of the column 'job'"),
    ],
)  # fmt: skip
def test_tampered_bags_are_refused(change, because, model, tmp_path):
    path = tmp_path / "m.hatrix"
    model.save(path)
    arrays, header = artifact.read(path)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(arrays)
    try:
        artifact.write(path, arrays, header)
    except DataError as error:
        assert because in str(error)  # noqa: PT017
        return
    with pytest.raises(ModelFileError, match=because):
        hx.load(path)


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        (["user", "item", "user_attributes", "item_attributes", "rated"], "bags of raters do not fit its recipe"),
        (["user", "item", "item_attributes", "rated", "raters"], "bag of user_attributes, which its recipe has not"),
        (["user", "item"], "bag of user_attributes, which its recipe has not"),
    ],
)  # fmt: skip
def test_bags_of_another_recipe_are_refused(fields, because, model, tmp_path):
    path = tmp_path / "m.hatrix"
    model.save(path)
    arrays, header = artifact.read(path)
    header["hyperparameters"]["fields"] = fields
    artifact.write(path, arrays, header)
    with pytest.raises(ModelFileError, match=because):
        hx.load(path)


@pytest.mark.parametrize(("field", "what"), [("item_attributes", "item"), ("user_attributes", "user")])
def test_a_field_of_attributes_needs_its_table(field, what):
    bare, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    recipe = hx.BayesianMF(factors=2, epochs=10, burn_in=2, draws=2, fields=("user", "item", field))
    with pytest.raises(
        DataError, match=f"the field {field} needs the {what} table, and these ratings have none: give"
    ):
        recipe.fit(bare, progress=False)
    unique = pd.DataFrame({"title": [f"no. {row}" for row in range(len(getattr(bare, f"{what}s")))]})
    with pytest.warns(
        UserWarning, match=f"the field {field} adds nothing: no column of the {what} table .title. has values"
    ):
        recipe.fit(replace(bare, **{f"{what}_table": unique}), progress=False)
