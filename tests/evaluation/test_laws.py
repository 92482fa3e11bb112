"""Answers and metrics of a model do not change when it is saved, its ids are renamed, or rows are given in another order."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.models import ALGORITHMS, algorithm
from hatrix.models.seen import Seen

SMALL = {name: {"factors": 4, "epochs": 6} for name in ALGORITHMS} | {"bias": {}, "popular": {}}
SMALL["bayesian-mf"] = {"factors": 3, "epochs": 20, "burn_in": 8, "draws": 4}
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
orders = given(st.integers(0, 2**32 - 1))
few = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


@lru_cache
def parts():
    return hx.split.random(hx.synthetic.make(50, 35, n_ratings=800, seed=2)[0], 0.25, seed=0)


@lru_cache
def fitted(name):
    return algorithm(name)(**SMALL[name]).fit(parts().train, seed=1, progress=False)


def shuffled(ratings, rng):
    """The same ratings in another order."""
    frame = ratings.to_frame().iloc[rng.permutation(len(ratings))]
    return hx.Ratings.from_frame(frame, user="user", item="item", rating="rating")


def renamed(model, rng):
    """The model under random names, so that its rows come in another order; and the new name of each id."""
    users, items = (
        hx.Ids.from_labels([f"{name} {n:03}" for n in range(len(ids))])[0]
        for name, ids in (("user", model.users), ("item", model.items))
    )
    u, i = rng.permutation(len(users)), rng.permutation(len(items))  # new row -> old row
    place = np.argsort(i)
    rows = [np.arange(len(model.seen.item))[model.seen.of(old)] for old in u]
    rows = [row[np.argsort(place[model.seen.item[row]])] for row in rows]
    order = np.concatenate(rows)
    posterior = model.posterior
    if posterior is not None and posterior.user_spread.size:
        posterior = posterior._replace(user_spread=posterior.user_spread[np.append(u, len(u))])
    moved = replace(
        model, users=users, items=items,
        user_bias=model.user_bias[u], user_factors=model.user_factors[u], user_count=model.user_count[u],
        item_bias=model.item_bias[i], item_factors=model.item_factors[i], item_count=model.item_count[i],
        seen=Seen(
            np.append(0, np.cumsum([len(row) for row in rows])),
            place[model.seen.item[order]].astype(np.int32), model.seen.value[order],
        ),
        parts={name: array[i] for name, array in model.parts.items()}, posterior=posterior,
    )  # fmt: skip
    names = (
        dict(zip(model.users.labels[u].tolist(), users.labels.tolist(), strict=True)),
        dict(zip(model.items.labels[i].tolist(), items.labels.tolist(), strict=True)),
    )
    return moved, *names


def metrics(model, test):
    ranked = hx.evaluate_ranking(model, test, k=5, bootstrap=1)
    rated = hx.evaluate(model, test, bootstrap=1).rmse if model.task == "rating" else 0.0
    return [rated, *(float(getattr(ranked, name)) for name in ("recall", "ndcg", "map", "mrr", "auc"))]


@every_algorithm
def test_saving_changes_nothing(name, tmp_path):
    model, test = fitted(name), parts().test
    model.save(tmp_path / "model.hatrix")
    again = hx.load(tmp_path / "model.hatrix")
    assert metrics(again, test) == metrics(model, test)
    assert again.recommend([0, 5, 9], 6).equals(model.recommend([0, 5, 9], 6))
    assert again.explain(5, 3).equals(model.explain(5, 3))
    mine = {3: 5.0, 8: 4.0, 1: 2.0}
    assert again.fold_in(mine).recommend("new user", 6).equals(model.fold_in(mine).recommend("new user", 6))


@every_algorithm
@orders
@few
def test_names_change_nothing(name, seed):
    model, test = fitted(name), parts().test
    moved, user_names, item_names = renamed(model, np.random.default_rng(seed))
    frame = test.to_frame()
    frame["user"], frame["item"] = frame["user"].map(user_names), frame["item"].map(item_names)
    same = hx.Ratings.from_frame(frame, user="user", item="item", rating="rating")
    ours, theirs = (
        model.predict(*pairs_of(test)),
        moved.predict(frame["user"].tolist(), frame["item"].tolist()),
    )
    np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6)
    if name not in ("popular", "bias"):  # their scores have ties, which go by id
        np.testing.assert_allclose(metrics(moved, same), metrics(model, test), rtol=1e-5)
        for user in (1, 7, 31):
            wanted = [item_names[item] for item in model.recommend(user, 6)["item"]]
            assert moved.recommend(user_names[user], 6)["item"].tolist() == wanted


def pairs_of(test):
    frame = test.to_frame()
    return frame["user"].tolist(), frame["item"].tolist()


@every_algorithm
@orders
@few
def test_the_order_of_test_rows_changes_no_metric(name, seed):
    model, test = fitted(name), parts().test
    np.testing.assert_allclose(
        metrics(model, shuffled(test, np.random.default_rng(seed))), metrics(model, test), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["bias", "popular", "als", "implicit-als", "spectral-mf"])
@orders
@few
def test_the_order_of_training_rows_changes_no_model_that_does_not_draw_them(name, seed):
    """Sums are rounded in another order: nothing more."""
    model, train = fitted(name), parts().train
    other = algorithm(name)(**SMALL[name]).fit(
        shuffled(train, np.random.default_rng(seed)), seed=1, progress=False
    )
    pairs = pairs_of(parts().test)
    np.testing.assert_allclose(other.predict(*pairs), model.predict(*pairs), rtol=2e-3, atol=2e-3)
