"""Neighbours: exact, without the one asked about, and a clear word where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, [30, 40], (500, 2))
    ratings = hx.Ratings.from_columns(pairs[:, 0], pairs[:, 1] + 100, rng.integers(1, 6, 500))
    return replace(
        ratings,
        item_table=pd.DataFrame({"title": [f"Film {n}" for n in range(len(ratings.items))]}),
        user_table=pd.DataFrame({"age": range(len(ratings.users))}),
    )


@pytest.fixture(scope="module")
def model(ratings) -> hx.FactorModel:
    return hx.BiasedMF(factors=5, epochs=3).fit(ratings)


def by_sorting(factors, row, n, metric):
    """The n nearest rows, from every score in double precision."""
    scores = factors.astype(float) @ factors[row].astype(float)
    length = np.linalg.norm(factors.astype(float), axis=1)
    if metric == "cosine":
        scores = scores / (np.where(length > 0, length, 1) * length[row])
    near = [i for i in np.argsort(-scores, kind="stable") if i != row and length[i] > 0][:n]
    return near, scores[near]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("side", ["item", "user"])
def test_the_nearest_with_their_titles(model, metric, side):
    ids, factors = getattr(model, f"{side}s"), getattr(model, f"{side}_factors")
    for row in (0, 7, 20):
        frame = getattr(model, f"similar_{side}s")(ids.labels[row], 6, metric=metric)
        want, scores = by_sorting(factors, row, 6, metric)
        assert list(frame.columns) == [side, "score", "title" if side == "item" else "age"]
        assert ids.encode(frame[side]).tolist() == want
        np.testing.assert_allclose(frame.score, scores, rtol=1e-9, atol=1e-12)
    assert frame.attrs["short"] == {}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 45),
    metric=st.sampled_from(["cosine", "dot"]),
    copies=st.booleans(),
)
def test_any_factors_equals_in_id_order(model, seed, n, metric, copies):
    rng = np.random.default_rng(seed)
    factors = rng.integers(-1, 2, model.item_factors.shape).astype(np.float32)  # many ties, some zero rows
    if not copies:
        factors *= rng.lognormal(0, 4, (len(factors), 1)).astype(np.float32)
    factors[3] = 1
    other = replace(model, item_factors=factors)
    want, _ = by_sorting(factors, 3, n, metric)
    got = other.items.encode(other.similar_items(other.items.labels[3], n, metric=metric)["item"]).tolist()
    if metric == "dot" and copies:
        assert got == want
    else:  # rounding breaks ties, but of rows that are the same
        assert [len(got), len(set(got))] == [len(want)] * 2
        np.testing.assert_allclose(
            *(by_cosine(factors, 3)[rows] for rows in (got, want)), rtol=1e-6, atol=1e-7
        )


def test_rows_that_are_the_same_come_in_id_order(model):
    twins = np.repeat(model.item_factors[:10], 4, axis=0)
    other = replace(model, item_factors=twins)
    got = other.items.encode(other.similar_items(other.items.labels[13], 39)["item"])
    assert got[:3].tolist() == [12, 14, 15]
    assert (np.diff(got[3:].reshape(-1, 4)) == 1).all()


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_short_and_very_long_rows(model, metric, size):
    factors = model.item_factors * np.float32(size)
    got = replace(model, item_factors=factors).similar_items(model.items.labels[3], 8, metric=metric)
    want, scores = by_sorting(factors, 3, 8, metric)
    assert model.items.encode(got["item"]).tolist() == want
    np.testing.assert_allclose(got.score, scores, rtol=1e-9)


def by_cosine(factors, row):
    length = np.linalg.norm(factors.astype(float), axis=1)
    return factors.astype(float) @ factors[row] / (np.where(length > 0, length, 1) * length[row])


def test_a_list_as_long_as_there_are_items(model):
    frame = model.similar_items(100, 99)
    assert len(frame) == len(model.items) - 1
    assert frame.attrs["short"][100].startswith("39 of 99")


def test_who_has_no_neighbours(model, ratings):
    with pytest.raises(hx.HatrixError, match="'nothing' is unknown"):
        model.similar_items("nothing")
    cold = hx.BiasedMF(factors=5, epochs=3).fit(ratings.take(ratings.item != 4))
    with pytest.raises(hx.HatrixError, match="item 104 has no training ratings"):
        cold.similar_items(104)
    assert 104 not in cold.similar_items(105, 99)["item"].tolist()
    with pytest.raises(hx.HatrixError, match="bias model has no factors"):
        hx.Bias().fit(ratings).similar_users(1)


def test_arguments(model):
    with pytest.raises(hx.HatrixError, match="'cosine' or 'dot'"):
        model.similar_items(100, metric="euclid")
    with pytest.raises(hx.HatrixError, match="n is 0"):
        model.similar_items(100, 0)
    with pytest.raises(hx.HatrixError, match="one label"):
        model.similar_items([100, 101])


def test_a_posterior_has_neighbours(ratings):
    model = hx.BayesianMF(factors=3, epochs=12, burn_in=2, draws=5).fit(ratings)
    want, _ = by_sorting(model.item_factors, 9, 5, "cosine")
    assert model.items.encode(model.similar_items(model.items.labels[9], 5)["item"]).tolist() == want
