from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatrix as hx
from hatrix.models import fields


def held(bag, rows):
    """A bag as a matrix of weights, rows × features."""
    weights = np.zeros((rows, len(bag.start) - 1))
    feature = np.repeat(np.arange(len(bag.start) - 1), np.diff(bag.start))
    weights[bag.holder, feature] = bag.weight
    return weights


def test_a_column_of_categories_is_a_bag():
    (bag,) = fields.attributes(pd.DataFrame({"kind": ["x", "y", "x", "y", "x"]}))
    assert bag.name == "kind"
    np.testing.assert_array_equal(held(bag, 5), [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]])


def test_several_values_share_the_weight_of_a_row():
    (bag,) = fields.attributes(pd.DataFrame({"genres": ["a|b", "b", "a|b|c|d", "c|d", None]}))
    weights = held(bag, 5)
    np.testing.assert_allclose(weights[0], [0.5**0.5, 0.5**0.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(weights[2], [0.5] * 4, rtol=1e-6)
    assert not weights[4].any()


def test_values_that_one_row_alone_holds_are_left_out():
    (bag,) = fields.attributes(pd.DataFrame({"g": ["a", "b", "a", "b", "odd"]}))
    assert len(bag.start) == 3
    assert fields.attributes(pd.DataFrame({"title": [f"film {n}" for n in range(20)]})) == []
    assert fields.attributes(pd.DataFrame({"same": ["a"] * 20})) == []
    assert fields.attributes(None) == []


def test_numbers_are_cut_into_ten_bins_of_equal_count():
    (bag,) = fields.attributes(pd.DataFrame({"year": np.random.default_rng(0).permutation(1000) + 0.5}))
    np.testing.assert_array_equal(np.diff(bag.start), [100] * 10)
    (few,) = fields.attributes(pd.DataFrame({"age": [18, 25, 18, 25, 35, 35, np.nan]}))
    np.testing.assert_array_equal(np.diff(few.start), [2, 2, 2])
    assert not held(few, 7)[6].any()


def test_who_rated_what_is_scaled_by_the_root_of_how_many():
    ratings = hx.Ratings.from_columns([0, 0, 0, 1, 2], [0, 1, 2, 0, 0], [1.0, 2, 3, 4, 5])
    rated, raters = fields.rated_together(ratings)
    np.testing.assert_allclose(held(rated, 3), [[3**-0.5] * 3, [1, 0, 0], [1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(held(raters, 3), [[3**-0.5] * 3, [1, 0, 0], [1, 0, 0]], rtol=1e-6)


def test_rows_without_training_ratings_hold_nothing():
    ratings = hx.Ratings.from_columns([0, 0, 1, 2], [0, 1, 1, 2], [1.0, 2, 3, 4])
    rated, raters = fields.rated_together(ratings.take(ratings.user != 2))
    assert not held(rated, 3)[2].any()
    assert not held(raters, 3)[2].any()
    assert rated.start.tolist() == [0, 1, 3, 3]


@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4), min_size=4, max_size=30))
def test_weights_of_a_row_have_squares_that_sum_to_one(rows):
    table = pd.DataFrame({"tags": ["|".join(tags) if tags else None for tags in rows]})
    for bag in fields.attributes(table):
        weights = held(bag, len(rows))
        total = (weights**2).sum(axis=1)
        assert ((total < 1e-9) | (abs(total - 1) < 1e-5)).all()
        assert ((weights > 0).sum(axis=0) >= fields.FEWEST_HOLDERS).all()


def test_a_value_said_twice_is_held_once_and_nothing_is_no_value():
    (bag,) = fields.attributes(pd.DataFrame({"tags": ["a|a|b", "b", "|a| |", "", "b"]}))
    weights = held(bag, 5)
    np.testing.assert_allclose(weights[:3], [[0.5**0.5] * 2, [0, 1], [1, 0]], rtol=1e-6)
    assert len(bag.holder) == 5


@pytest.mark.parametrize("dtype", ["category", "bool", "string"])
def test_columns_of_other_types_are_categories(dtype):
    column = pd.Series([True, False, True, False] if dtype == "bool" else ["x", "y", "x", "y"], dtype=dtype)
    (bag,) = fields.attributes(pd.DataFrame({"c": column}))
    assert len(bag.start) == 3
