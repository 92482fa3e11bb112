"""Reasons that add up to the score, and what becomes of it without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.models import ALGORITHMS, algorithm, explain
from hatrix.models.factors import USER
from hatrix.models.terms import Given

SMALL = {name: {"factors": 5, "epochs": 8} for name in ALGORITHMS} | {"bias": {}, "popular": {}}
SMALL["spectral-mf"] |= {"noise": 0.0}  # its tastes do not stand out of chance
SMALL["bpr"] |= {"candidates": 16}
SMALL["als"] |= {"regularization": 0.1, "bias_regularization": 0.1, "nu": 1.0}
SMALL["bayesian-mf"] = {"likelihood": "gaussian", "factors": 3, "epochs": 40, "burn_in": 10, "draws": 8}
FACTORIZATIONS = [name for name in ALGORITHMS if name not in ("bias", "popular")]
POINTS = [name for name in FACTORIZATIONS if name != "bayesian-mf"]


@pytest.fixture(scope="module")
def ratings():
    made = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    frame = made.to_frame().assign(time=np.arange(len(made)) // 60 * 86400 * 30)
    ratings = hx.Ratings.from_frame(frame, user="user", item="item", rating="rating", time="time")
    return replace(
        ratings, item_table=pd.DataFrame({"title": [f"Film {item}" for item in range(len(made.items))]})
    )


VARIANTS = [(name, {}) for name in ALGORITHMS] + [
    ("als", {"nonnegative": True}),
    ("als", {"biased": False}),
    ("implicit-als", {"alpha0": 0.1}),
    ("bayesian-mf", {"likelihood": "ordinal"}),
    ("bayesian-mf", {"noise": "common"}),
    ("bayesian-mf", {"fields": ("user", "item", "time")}),
]
every_variant = pytest.mark.parametrize(("name", "changes"), VARIANTS, ids=[f"{n}-{c}" for n, c in VARIANTS])


@every_variant
def test_the_parts_add_up_to_the_score(name, changes, fitted):
    model = fitted(name, **changes)
    for user, item in ((1, 3), (7, 39), (31, 1)):
        reasons = model.explain(user, item)
        score = reasons.attrs["score"]
        np.testing.assert_allclose(reasons.contribution.sum(), score, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            score, model.scores(user)[0, model.items.encode([item])[0]], rtol=1e-5, atol=1e-6
        )


@every_variant
def test_rank_and_score_are_those_of_the_list(name, changes, fitted):
    model = fitted(name, **changes)
    listed = model.recommend(4, 40)
    for place in (0, 5, len(listed) - 1):
        found = model.explain(4, listed["item"][place], removals=0).attrs
        assert found["rank"] == place + 1
        np.testing.assert_allclose(found["score"], listed["score"][place], rtol=1e-9, atol=1e-9)
        assert found["without"] is None


@pytest.mark.parametrize("name", POINTS)
def test_for_a_folded_user_the_ratings_are_all_there_is(name, fitted):
    """Terms add up to the fold-in's row, which an own solver found."""
    model = fitted(name, **({"sampling": "uniform"} if name == "bpr" else {}))
    eve = model.fold_in({3: 5.0, 8: 4.0, 1: 1.0, 20: 2.0}, user_id="eve")
    reasons = eve.explain("eve", 11)
    rest = reasons.contribution[reasons.part == "rest"].iloc[0]
    within = 0.02 if name == "bpr" else 2e-3  # Newton's method stops early there
    assert abs(rest) < within
    assert (reasons.part == "rating").sum() == 4
    assert eve.explain("eve", 11).attrs["fit"] > 1 - within


def test_terms_of_a_posterior_add_up_to_the_mean_of_its_draws(fitted):
    from hatrix.models import conditional

    model = fitted("bayesian-mf", noise="common")
    given = Given(side=USER, other=np.array([1, 3, 8, 20]), value=np.array([1.0, 5.0, 4.0, 2.0]))
    row = np.zeros((8, 4))
    got = conditional.mean_terms(model, given, None, row).row()
    task = conditional._task(model, model.posterior, given)
    rest = given.value - task.offset - np.einsum("snk,sk->sn", task.V, task.centre)
    along = conditional._along(task, rest)
    wanted = conditional._draw(task, along, model.posterior.noise**-2.0, np.zeros((8, 4)))
    np.testing.assert_allclose(got.factors, wanted[:, :-1].ravel(), atol=1e-10)
    np.testing.assert_allclose(got.bias, wanted[:, -1], atol=1e-10)


def test_who_trained_on_the_ratings_is_explained_by_them(fitted):
    for name, least in (
        ("als", 0.9),
        ("implicit-als", 0.9),
        ("spectral-mf", 0.9999),
        ("bayesian-mf", 0.5),
        ("mf", 0.5),
    ):
        fits = [fitted(name).explain(user, 3, removals=0).attrs["fit"] for user in range(1, 21)]
        assert np.median(fits) > least, name


def test_spectral_contributions_are_those_of_the_formula(fitted):
    model = fitted("spectral-mf")
    reasons = model.explain(1, 3, removals=0)
    recipe = model.recipe
    for _, line in reasons[reasons.part == "rating"].iterrows():
        other = model.items.encode([line["item"]])
        alone = recipe.user_terms(
            model.parts["projection"], model.seen.item[: model.seen.start[1]], np.ones(model.seen.start[1])
        )
        at = np.flatnonzero(model.seen.item[: model.seen.start[1]] == other[0])[0]
        wanted = alone[at] @ model.item_factors[model.items.encode([3])[0]]
        np.testing.assert_allclose(line["contribution"], wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_without_what_carries_it_an_item_falls(name, fitted):
    """Refitting the row without those ratings gives the score and the rank that are told."""
    model = fitted(name)
    tried = left = 0
    for user in range(12):
        label, item = user + 1, model.recommend(user + 1, 1)["item"][0]
        reasons = model.explain(label, item, n=3, removals=4)
        found = reasons.attrs["without"]
        if not found["items"]:
            continue
        assert found["rank"] >= reasons.attrs["rank"] == 1
        tried += 1
        left += found["leaves"]
        assert len(found["items"]) <= 4
        assert found["leaves"] == (found["rank"] > 3)
        assert not set(found["items"]) - set(model.items.decode(history(model, user).other).tolist())
        if name in ("spectral-mf", "als", "implicit-als", "biased-mf", "svdpp"):
            given = history(model, user)
            kept = ~np.isin(given.other, model.items.encode(found["items"]))
            flat = model.flat
            rows = [
                model.fold_in(
                    dict(
                        zip(
                            model.items.decode(given.other[some]).tolist(),
                            given.value[some].tolist(),
                            strict=True,
                        )
                    )
                )
                for some in (slice(None), kept)
            ]
            p = flat.user_factors[user] + (rows[1].user_factors[0] - rows[0].user_factors[0]).astype(float)
            b = flat.mean + flat.user_bias[user] + (rows[1].user_bias[0] - rows[0].user_bias[0]).astype(float)
            scores = b + flat.item_bias + flat.item_factors @ p
            at = model.items.encode([item])[0]
            np.testing.assert_allclose(scores[at], found["score"], rtol=1e-4, atol=1e-4)
    assert tried >= 6
    assert left >= (name in ("als", "implicit-als", "spectral-mf", "bpr"))


def history(model, user):
    return explain._history(model, user)


def test_titles_stand_beside_ratings_only(fitted):
    reasons = fitted("als").explain(1, 3)
    rated = reasons.part == "rating"
    assert reasons.title[rated].tolist() == [
        f"Film {item}" for item in fitted("als").items.encode(reasons["item"][rated].tolist())
    ]
    assert reasons.title[~rated].isna().all()
    assert str(reasons["item"].dtype) == "Int64"
    assert np.abs(reasons.contribution[rated]).is_monotonic_decreasing


def test_attributes_keep_their_types_beside_parts_that_have_none(fitted):
    model, n = fitted("als"), len(fitted("als").items)
    table = pd.DataFrame({"year": 1950 + np.arange(n), "seen": np.arange(n) % 2 == 0, "price": 0.5})
    reasons = replace(model, item_table=table).explain(1, 3)
    assert [str(reasons[name].dtype) for name in table] == ["Int64", "boolean", "float64"]
    rated = reasons.part == "rating"
    assert reasons.year[rated].tolist() == [
        1950 + row for row in model.items.encode(reasons["item"][rated].tolist())
    ]
    assert reasons[list(table)][~rated].isna().all(axis=None)


def test_who_is_unknown_has_no_reasons_of_their_own(fitted):
    reasons = fitted("als").explain("nobody", 3)
    assert reasons.part.tolist() == ["mean", "item bias", "rest"]
    assert "user 'nobody' is unknown to the model (its user ids are integers" in reasons.attrs["warnings"][0]
    assert not reasons.attrs["seen"]
    with pytest.warns(UserWarning, match="user 'nobody' is unknown"):
        scores = fitted("als").scores("nobody")
    np.testing.assert_allclose(reasons.contribution.sum(), scores[0, 2])


def test_without_training_rows_what_is_known_is_told(fitted, tmp_path):
    fitted("als").save(tmp_path / "m.hatrix", seen=False)
    reasons = hx.load(tmp_path / "m.hatrix").explain(1, 3)
    assert reasons.part.tolist() == ["mean", "item bias", "user bias", "rest"]
    assert "without its training rows" in reasons.attrs["warnings"][0]


def test_what_is_wrong_is_said(fitted):
    model = fitted("als")
    with pytest.raises(DataError, match="unknown to the model"):
        model.explain(1, "nothing")
    with pytest.raises(ParameterError, match="one label"):
        model.explain([0], 3)
    with pytest.raises(ParameterError, match="removals"):
        model.explain(1, 3, removals=-1)
    with pytest.raises(ParameterError, match="n is 0"):
        model.explain(1, 3, n=0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_all_ratings_of_a_user_may_go(name):
    ratings = hx.Ratings.from_columns(["a", "a", "b", "b", "c"], list("xyxzy"), [3.0, 4.0, 5.0, 3.0, 2.0])
    model = algorithm(name)(**SMALL[name]).fit(ratings, seed=0)
    for user in "abc":
        for item in "xyz":
            reasons = model.explain(user, item, n=5)
            np.testing.assert_allclose(reasons.contribution.sum(), reasons.attrs["score"], atol=1e-12)
    nobody = model.fold_in({})
    assert np.isfinite(nobody.explain("new user", "x").contribution).all()


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_an_item_that_the_user_has_rated_is_in_no_list(name, fitted):
    """It says so, its rank is the one among unseen items and itself, and nothing is said of leaving a list."""
    model = fitted(name)
    rated = int(model.items.labels[history(model, 0).other[0]])
    found = model.explain(1, rated).attrs
    assert found["seen"]
    assert found["without"] is None
    scores = model.scores(1)[0]
    unseen = np.setdiff1d(np.arange(len(scores)), history(model, 0).other)
    at = model.items.encode([rated])[0]
    assert found["rank"] == 1 + np.count_nonzero(scores[unseen] > scores[at])
    new = model.recommend(1, 1)["item"][0]
    assert not model.explain(1, new).attrs["seen"]


def test_ids_come_as_text(fitted):
    model = fitted("als")
    pd.testing.assert_frame_equal(model.explain("5", "3"), model.explain(5, 3))
    with pytest.raises(
        DataError, match=r"item 'x' is unknown to the model \(its item ids are integers, such as 1\): give an"
    ):
        model.explain(5, "x")
