"""Ids that come as text, or are unknown: found, or answered with a fallback and a word about it."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError


@pytest.fixture(scope="module", params=["als", "bayesian-mf", "popular"])
def model(request):
    ratings, _ = hx.synthetic.make(40, 25, n_ratings=500, seed=1)
    settings = {"als": {"factors": 3}, "bayesian-mf": {"factors": 2, "epochs": 20, "burn_in": 2, "draws": 4}}
    recipe = hx.models.algorithm(request.param)(**settings.get(request.param, {}))
    return recipe.fit(ratings, seed=1, progress=False)


@pytest.fixture(autouse=True)
def nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_digits_find_integers_everywhere(model):
    assert model.predict("7", "3") == model.predict(7, 3)
    np.testing.assert_array_equal(model.predict(["7", 8], "3"), model.predict([7, 8], 3))
    np.testing.assert_array_equal(model.scores(["7"]), model.scores([7]))
    pd.testing.assert_frame_equal(model.recommend("7", 3), model.recommend(7, 3))
    among = [str(item) for item in model.items.labels[:9]]
    pd.testing.assert_frame_equal(
        model.recommend(7, 3, among=among, exclude=["1"]), model.recommend(7, 3, among=among[1:])
    )
    pd.testing.assert_frame_equal(model.explain("7", "3"), model.explain(7, 3))
    mine, texts = (model.fold_in({number(item): 4.0 for item in (3, 5)}) for number in (int, str))
    np.testing.assert_array_equal(mine.user_factors, texts.user_factors)
    mine, texts = (model.fold_in_item({number(user): 4.0 for user in (3, 5)}) for number in (int, str))
    np.testing.assert_array_equal(mine.item_factors, texts.item_factors)
    assert len(model.forget("7").users) == len(model.users) - 1
    if model.user_factors.shape[1]:
        pd.testing.assert_frame_equal(model.similar_items("3", 3), model.similar_items(3, 3))
        pd.testing.assert_frame_equal(model.similar_users("7", 3), model.similar_users(7, 3))
    if model.posterior is not None:
        assert model.predict("7", "3", interval=0.9) == model.predict(7, 3, interval=0.9)
        pd.testing.assert_frame_equal(model.probabilities("7", "3"), model.probabilities(7, 3))


def test_text_ids_of_new_ratings_and_of_test_ratings_are_those_of_the_model(model):
    columns = [7, 8, 99], [3, 4, 98], [2.0, 3.0, 4.0]
    texts = [list(map(str, column)) for column in columns[:2]]
    told, wanted = (
        model.update(hx.Ratings.from_columns(*ids, columns[2], scale=model.scale))
        for ids in (texts, columns[:2])
    )
    assert told.users == wanted.users
    assert told.items == wanted.items
    np.testing.assert_array_equal(told.user_factors, wanted.user_factors)
    with pytest.raises(
        DataError, match="the user id 'x9', and the user ids of the model are integers, such as 1: give such"
    ):
        model.update(hx.Ratings.from_columns(["7", "x9"], ["3", "4"], [2.0, 3.0], scale=model.scale))
    if model.task == "rating":
        test = [hx.Ratings.from_columns(*ids, columns[2], scale=model.scale) for ids in (texts, columns[:2])]
        assert hx.evaluate(model, test[0]).rmse == hx.evaluate(model, test[1]).rmse


def test_tables_of_new_ratings_keep_their_lines(model):
    """Text sorts "10" before "9", and integers the other way round."""
    from dataclasses import replace

    new = hx.Ratings.from_columns(["7", "7"], ["9", "10"], [2.0, 3.0], scale=model.scale)
    assert new.items.labels.tolist() == ["10", "9"]
    new = replace(new, item_table=pd.DataFrame({"title": ["ten", "nine"]}))
    from hatrix.models.update import _with_ids_of

    changed = _with_ids_of(model, new)
    assert changed.items.labels.tolist() == [9, 10]
    assert changed.item_table["title"].tolist() == ["nine", "ten"]
    assert changed.items.decode(changed.item).tolist() == [9, 10]


def test_predictions_for_unknown_ids_are_warned_of_once_a_call(model):
    with pytest.warns(UserWarning, match="unknown") as said:
        model.predict(["x", 7, "y", 999], [3, 3, 3, 998])
    [word] = [str(one.message) for one in said]
    assert word.startswith(
        "3 of 4 users are unknown to the model: 'x', 'y', 999 (its user ids are integers, such as 1); "
    )
    assert (
        "1 of 4 items are unknown to the model: 998: what is predicted for them is the training mean" in word
    )
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="user 'x' is unknown") as said:
        model.scores("x")
    assert len(said) == 1
    with pytest.warns(UserWarning, match="7 of 7 users are unknown to the model: 'a', 'b', 'c', 'd', 'e', …"):
        model.scores(list("abcdefg"))
    if model.posterior is not None:
        with pytest.warns(UserWarning, match="item 'x' is unknown") as said:
            model.predict(7, "x", interval=0.9)
        assert len(said) == 1
        with pytest.warns(UserWarning, match="item 'x' is unknown"):
            model.probabilities(7, "x")


def test_lists_for_unknown_users_say_so(model):
    found = model.recommend(["x", 7, 999], 3)
    assert found.attrs["warnings"] == [
        "2 of 3 users are unknown to the model: 'x', 999 (its user ids are integers, such as 1)"
    ]
    assert set(found.attrs["fallback"]) == {"x", 999}
    assert model.recommend(7, 3).attrs["warnings"] == []


def test_what_cannot_be_answered_says_what_ids_look_like(model):
    such = r"\(its {} ids are integers, such as 1\)"
    with pytest.raises(DataError, match="item 'x' is unknown to the model " + such.format("item")):
        model.explain(7, "x")
    with pytest.raises(DataError, match="user 'x' is unknown to the model " + such.format("user")):
        model.forget("x")
    with pytest.raises(DataError, match="item 'x' is unknown to the model " + such.format("item")):
        model.fold_in({"x": 3.0})
    if model.user_factors.shape[1]:
        with pytest.raises(DataError, match="user 'x' is unknown to the model " + such.format("user")):
            model.similar_users("x")
