"""A Recommender is its two parts, fitted alone, in one model and one file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, ModelFileError, ParameterError
from hatrix.models import fit
from hatrix.models.artifact import read, write
from hatrix.models.recommender import combined, default_lists

RATINGS_BY = hx.BiasedMF(factors=4, epochs=4)
LISTS_BY = hx.ImplicitALS(factors=4, epochs=3)
RECIPE = hx.Recommender(ratings=RATINGS_BY, lists=LISTS_BY)


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return hx.synthetic.make(60, 40, n_ratings=1200, seed=1)[0]


@pytest.fixture(scope="module")
def model(ratings: hx.Ratings) -> hx.FactorModel:
    return RECIPE.fit(ratings, progress=False)


@pytest.fixture(scope="module")
def parts(ratings: hx.Ratings) -> tuple[hx.FactorModel, hx.FactorModel]:
    return RATINGS_BY.fit(ratings, progress=False), LISTS_BY.fit(ratings, progress=False)


def same_answers(
    model: hx.FactorModel, predictor: hx.FactorModel, ranker: hx.FactorModel, user: object
) -> None:
    items = predictor.items.labels[:9]
    np.testing.assert_array_equal(model.predict(user, items), predictor.predict(user, items))
    np.testing.assert_array_equal(model.scores(user), ranker.scores(user))
    assert model.recommend(user, 5).equals(ranker.recommend(user, 5))
    assert model.explain(user, items[0]).equals(ranker.explain(user, items[0]))


def test_predictions_come_from_one_part_and_lists_from_the_other(model, parts):
    same_answers(model, *parts, user=7)
    assert model.similar_items(3, 4).equals(parts[1].similar_items(3, 4))
    assert model.recommend_all(3, progress=False).equals(parts[1].recommend_all(3, progress=False))
    assert model.recipe == hx.Recommender(ratings=parts[0].recipe, lists=parts[1].recipe)
    assert model.rating_model.recipe == parts[0].recipe
    assert model.list_model.recipe == parts[1].recipe


def test_it_is_measured_on_both_tasks(ratings):
    split = hx.split.per_user(ratings, seed=3)
    model = RECIPE.fit(split.train, progress=False)
    errors = hx.evaluate(RATINGS_BY.fit(split.train, progress=False), split.test)
    lists = hx.evaluate_ranking(LISTS_BY.fit(split.train, progress=False), split.test)
    assert hx.evaluate(model, split.test).to_dict() == errors.to_dict()
    assert hx.evaluate_ranking(model, split.test).to_dict() == lists.to_dict()


@pytest.mark.parametrize("seen", [True, False])
def test_a_file_holds_both(model, parts, tmp_path, seen):
    model.save(tmp_path / "model.hatrix", seen=seen)
    loaded = hx.load(tmp_path / "model.hatrix")
    assert loaded.recipe == model.recipe
    assert loaded.rating_model.history.equals(model.rating_model.history)
    np.testing.assert_array_equal(loaded.predict(7, [1, 2, 3]), model.predict(7, [1, 2, 3]))
    np.testing.assert_array_equal(loaded.scores([7, 8]), model.scores([7, 8]))
    if seen:
        same_answers(loaded, *parts, user=9)
    arrays, _ = read(tmp_path / "model.hatrix")
    assert sum(name.endswith("user_ids") for name in arrays) == 1  # what the parts share is there once


def test_a_new_user_is_folded_into_both(model, parts):
    rated = {3: 5.0, 8: 4.0, 1: 1.0}
    both = model.fold_in(rated, user_id=0)
    same_answers(both, *(part.fold_in(rated, user_id=0) for part in parts), user=0)
    with pytest.raises(DataError, match="view of a model"):
        both.update(hx.Ratings.from_columns([0], [1], [4.0], scale=(1, 5)))


def test_a_new_item_is_folded_into_both(model, parts):
    rated = {3: 5.0, 8: 4.0, 1: 1.0}
    both, *alone = (one.fold_in_item(rated, item_id=0) for one in (model, *parts))
    assert both.predict(5, 0) == alone[0].predict(5, 0)
    np.testing.assert_array_equal(both.scores([5, 6]), alone[1].scores([5, 6]))


def test_attributes_go_to_the_part_that_knows_them(ratings):
    import pandas as pd

    told = replace(ratings, user_table=pd.DataFrame({"kind": ["a", "b"] * (len(ratings.users) // 2)}))
    sampled = hx.BayesianMF(factors=2, epochs=60, fields=("user", "item", "user_attributes"))
    model = hx.Recommender(ratings=sampled, lists=LISTS_BY).fit(told, progress=False)
    new = model.fold_in({3: 5.0}, user_id=0, attributes={"kind": "a"})
    alone = model.rating_model.fold_in({3: 5.0}, user_id=0, attributes={"kind": "a"})
    assert new.predict(0, 8) == alone.predict(0, 8)
    rating, low, high = model.predict(7, 8, interval=0.9)
    assert low < rating < high
    with pytest.raises(DataError, match="knows no attributes"):
        RECIPE.fit(ratings, progress=False).fold_in({3: 5.0}, attributes={"kind": "a"})


def test_an_update_and_a_removal_reach_both(model, parts, tmp_path):
    new = hx.Ratings.from_columns([61, 61, 2], [3, 41, 41], [5.0, 4.0, 1.0], scale=(1, 5))
    updated = model.update(new)
    same_answers(updated, *(part.update(new) for part in parts), user=61)
    updated.save(tmp_path / "model.hatrix")
    assert hx.load(tmp_path / "model.hatrix").predict(61, 41) == updated.predict(61, 41)
    left = updated.forget(2)
    assert 2 not in left.users.labels
    assert 2 not in left.rating_model.users.labels
    alone = [part.update(new).forget(2).forget(3, refit=True) for part in parts]
    same_answers(left.forget(3, refit=True), *alone, user=61)


def test_clicks_have_a_part_for_lists_alone(tmp_path):
    clicks = hx.Ratings.from_columns(
        *zip(*[(u, i) for u in range(20) for i in range(9) if (u + i) % 2 == 0], strict=True)
    )
    model = RECIPE.fit(clicks, progress=False)
    assert model.recipe.ratings is None
    assert model.rating_model is None
    model.save(tmp_path / "model.hatrix")
    assert hx.load(tmp_path / "model.hatrix").recipe == model.recipe
    np.testing.assert_array_equal(model.scores([1]), LISTS_BY.fit(clicks, progress=False).scores([1]))
    with pytest.raises(DataError, match="predicts no ratings"):
        hx.evaluate(model, hx.Ratings.from_columns([1], [2], [3.0]))


def test_lists_that_are_left_to_the_data(ratings, tmp_path):
    """A blend makes the lists of ratings in memory; ImplicitALS those of clicks and of ratings on disk."""
    model = hx.Recommender().fit(ratings, progress=False)
    blended = default_lists(hx.BiasedMF()).fit(ratings, progress=False)
    assert model.recipe.lists == blended.recipe
    np.testing.assert_array_equal(model.scores([3]), blended.scores([3]))
    clicks = hx.Ratings.from_columns(ratings.user, ratings.item)
    ratings.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    on_disk = hx.read(tmp_path / "ratings.csv", memory="3GB")
    for data in (clicks, on_disk):
        listed = hx.Recommender().fit(data, progress=False)
        assert listed.recipe.lists == hx.ImplicitALS().fit(data, progress=False).recipe
    assert hx.Recommender().out_of_core
    assert not hx.Recommender(lists="spectral-mf").out_of_core


@pytest.mark.parametrize(
    "lists", [LISTS_BY, hx.BPR(factors=3, epochs=4), hx.Popular()], ids=lambda recipe: recipe.name
)
def test_models_for_lists_alone_can_do_what_their_recipe_can(ratings, lists, tmp_path):
    clicks = hx.Ratings.from_columns(ratings.user, ratings.item)
    new = hx.Ratings.from_columns([61, 61], [3, 12])
    model, alone = (recipe.fit(clicks, progress=False) for recipe in (hx.Recommender(lists=lists), lists))
    for changed, same in (
        (model.fold_in({3: 1.0}, user_id=61), alone.fold_in({3: 1.0}, user_id=61)),
        (model.update(new), alone.update(new)),
        (model.update(new).forget(61, refit=True), alone.update(new).forget(61, refit=True)),
        (model.fold_in_item({3: 1.0}, item_id=99), alone.fold_in_item({3: 1.0}, item_id=99)),
    ):
        assert changed.recipe == hx.Recommender(ratings=None, lists=same.recipe)
        users = changed.users.labels[-1:].tolist()
        np.testing.assert_array_equal(changed.scores(users), same.scores(users))
        if len(changed.items) > 1:
            assert (
                changed.recommend(users[0], 3)["item"].tolist()
                == same.recommend(users[0], 3)["item"].tolist()
            )
    model.update(new).save(tmp_path / "model.hatrix")
    assert hx.load(tmp_path / "model.hatrix").fold_in({3: 1.0}).recommend("new user", 3)["item"].size == 3


def test_predicted_ratings_that_have_a_part_in_the_lists_are_trained_once(ratings, tmp_path):
    model = hx.Recommender().fit(ratings, progress=False)
    assert list(model.members) == ["0", "1", "2"]
    assert model.rating_model is model.members["2"]
    alone = hx.BiasedMF().fit(ratings, progress=False)
    new = hx.Ratings.from_columns([61, 61], [3, 12], [5.0, 4.0], scale=(1, 5))
    model.save(tmp_path / "model.hatrix")
    for changed, same in (
        (hx.load(tmp_path / "model.hatrix"), alone),
        (model.update(new), alone.update(new)),
        (model.fold_in({3: 5.0}, user_id=61), alone.fold_in({3: 5.0}, user_id=61)),
        (model.forget(5), alone.forget(5)),
    ):
        assert list(changed.members) == ["0", "1", "2"]
        user = changed.users.labels[-1]
        assert changed.predict(user, 3) == same.predict(user, 3)
    for apart in ("bayesian-mf", "bias", None):  # the lists have two parts
        assert "2" not in hx.Recommender(ratings=apart).with_part_for("ranking", ratings).member_names
    assert hx.Recommender(ratings="bias").fit(ratings, progress=False).rating_model.recipe.name == "bias"


def test_lists_of_a_blend_without_a_part_for_ratings_are_changed(ratings):
    model = hx.Recommender(ratings=None, lists=default_lists(None)).fit(ratings, progress=False)
    alone = default_lists(None).fit(ratings, progress=False)
    new = hx.Ratings.from_columns([61, 61], [3, 12], [5.0, 4.0], scale=(1, 5))
    for changed, same in (
        (model.update(new), alone.update(new)),
        (model.update(new).forget(61), alone.update(new).forget(61)),
        (model.fold_in({3: 5.0}, user_id=61), alone.fold_in({3: 5.0}, user_id=61)),
    ):
        assert changed.recipe == hx.Recommender(ratings=None, lists=same.recipe)
        np.testing.assert_array_equal(
            changed.scores([61, 5][: len(changed.users)]), same.scores([61, 5][: len(changed.users)])
        )


def test_a_share_to_validate_on_is_the_same_for_both(ratings):
    model = RECIPE.fit(ratings, 0.2, progress=False)
    assert "valid_ndcg" in model.history
    assert "valid_rmse" in model.rating_model.history
    assert model.fingerprint == model.rating_model.fingerprint


@pytest.mark.parametrize("training", [LISTS_BY, RATINGS_BY])
def test_a_training_that_is_stopped_gives_what_there_is(ratings, monkeypatch, training):
    def stopped(self, train, *args, **how):
        found = fitted(self, train, *args, **how)
        return replace(found, notes=("unfinished: stopped",)) if type(self) is type(training) else found

    fitted = fit.Algorithm.fit
    monkeypatch.setattr(fit.Algorithm, "fit", stopped)
    model = RECIPE.fit(ratings, progress=False)
    assert model.unfinished
    assert (model.rating_model is None) == (training is LISTS_BY)


def test_checkpoints_of_both_are_resumed(ratings, tmp_path):
    first = RECIPE.fit(ratings, progress=False, checkpoint=hx.Checkpoint(tmp_path / "state", epochs=1))
    assert {path.name for path in tmp_path.iterdir()} >= {"state", "state.ratings"}
    again = RECIPE.fit(ratings, progress=False, resume=tmp_path / "state")
    np.testing.assert_array_equal(again.scores([3]), first.scores([3]))
    assert again.predict(3, 4) == first.predict(3, 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ratings": hx.ImplicitALS()}, "predicts no ratings"),
        ({"lists": hx.Recommender()}, "a Recommender itself"),
        ({"lists": "nonsense"}, "no algorithm 'nonsense'"),
        ({"lists": None}, "lists is None"),
        ({"lists": 3}, "lists is 3"),
        ({"ratings": {"algorithm": "als", "factors": -1}}, "factors is -1"),
    ],
)
def test_parts_that_cannot_be(given, said):
    with pytest.raises(ParameterError, match=said):
        hx.Recommender(**given)


def test_parts_may_be_named():
    recipe = hx.Recommender(ratings="svdpp", lists={"algorithm": "bpr", "factors": 8})
    assert recipe == hx.Recommender(ratings=hx.SVDpp(), lists=hx.BPR(factors=8))
    assert hx.Recommender(**json.loads(recipe.model_dump_json())) == recipe


def test_models_of_different_ratings_are_not_combined(ratings, parts):
    other = LISTS_BY.fit(hx.split.random(ratings, 0.5, seed=1).train, progress=False)
    with pytest.raises(ParameterError, match="different ratings"):
        combined(other, parts[0])


def add_member(name: str, header: dict, arrays: dict, at: str = "members.") -> dict:
    """Copy the member ``ratings``, with its arrays, to a member of another name."""
    mine = {key: array for key, array in arrays.items() if key.startswith("members.ratings.")}
    arrays |= {key.replace("members.ratings.", f"{at}{name}.", 1): array for key, array in mine.items()}
    copied = dict(header["members"]["ratings"])
    if at == "members.":
        header["members"][name] = copied
    return copied


def nest(header: dict, arrays: dict) -> None:
    """Put copies of the member ``ratings`` inside each other, five levels deep."""
    inner, at = header["members"]["ratings"], "members.ratings."
    for _ in range(5):
        copied = add_member("ratings", {"members": {"ratings": dict(inner)}}, dict(arrays), at + "members.")
        mine = {key: array for key, array in arrays.items() if key.startswith(at)}
        arrays |= {key.replace(at, at + "members.ratings.", 1): array for key, array in mine.items()}
        inner["members"] = {"ratings": copied}
        inner, at = copied, at + "members.ratings."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header, _: header.pop("members"), "members"),
        (lambda header, arrays: add_member("other", header, arrays), "members"),
        (lambda header, _: header["members"]["ratings"].update(mean="x"), "mean"),
        (lambda header, _: header["members"]["ratings"].pop("algorithm"), "algorithm"),
        (lambda header, arrays: nest(header, arrays), "models inside models"),
        (lambda _, arrays: arrays.pop("members.ratings.user_bias"), "user_bias"),
        (lambda _, arrays: arrays.update({"members.ratings.extra": np.zeros(2)}), "extra"),
        (lambda _, arrays: arrays.update({"members.ratings.user_bias": np.zeros(2)}), "user_bias has shape"),
        (lambda _, arrays: arrays.update({"members.ratings.item_bias": np.full(40, 1e35)}), "beyond"),
        (lambda header, _: header["hyperparameters"]["lists"].update(alpha="auto"), "auto"),
        (
            lambda header, _: header["hyperparameters"].update(lists={"algorithm": "recommender"}),
            "cannot be loaded",
        ),
    ],
)
def test_files_that_contradict_themselves(model, tmp_path, change, said):
    model.save(tmp_path / "model.hatrix")
    arrays, header = read(tmp_path / "model.hatrix")
    arrays = {name: np.array(array) for name, array in arrays.items()}
    change(header, arrays)
    write(tmp_path / "forged.hatrix", arrays, header)
    with pytest.raises(ModelFileError, match=said):
        hx.load(tmp_path / "forged.hatrix")
