"""A blend is the weighted sum of its parts, in one model and one file, with weights learned on held-out ratings."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hatrix as hx
from hatrix.app.service import create_app
from hatrix.errors import DataError, ModelFileError, ParameterError
from hatrix.models import blend, explain
from hatrix.models.artifact import read, write
from served import Client

RATERS = (hx.BiasedMF(factors=4, epochs=4), hx.ALS(factors=3, epochs=4), hx.Bias())
RANKERS = (
    hx.ImplicitALS(factors=4, epochs=3),
    hx.SpectralMF(factors=3, noise=0.0),
    hx.BiasedMF(factors=4, epochs=4),
)
KINDS = {"ratings": hx.Blend(RATERS), "lists": hx.Blend(RANKERS)}
WEIGHTS = (0.5, 0.25, -0.125, 0.75)
ITEMS = list(range(1, 10))
NEW = {3: 5.0, 8: 4.0, 1: 1.0}

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return hx.synthetic.make(60, 40, n_ratings=1200, seed=1)[0]


@pytest.fixture(scope="module")
def models(ratings) -> dict[str, hx.FactorModel]:
    return {kind: recipe.fit(ratings, progress=False) for kind, recipe in KINDS.items()}


def summed(model: hx.FactorModel, answer) -> np.ndarray:
    """Return the weighted sum of the answers of the parts, and the constant."""
    *weights, constant = model.recipe.weights
    parts = (model.members[name] for name in model.recipe.member_names)
    return constant + sum(
        weight * np.asarray(answer(part)) for weight, part in zip(weights, parts, strict=True)
    )


def counted(part: hx.FactorModel, users: list[int], kind: str) -> np.ndarray:
    """Return a part's scores as they count in a blend: in lists, predicted ratings count without their biases."""
    if kind == "ratings" or part.task == "ranking":
        return part.scores(users)
    flat = part.flat
    return flat.user_factors[part.users.encode(users)] @ flat.item_factors.T


def same(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


@every_kind
def test_the_score_is_the_weighted_sum_of_the_parts_scores(models, kind):
    model = models[kind]
    same(model.scores([5, 6]), summed(model, lambda part: counted(part, [5, 6], kind)))
    if kind == "ratings":
        predicted = model.predict([7] * len(ITEMS), ITEMS)
        same(predicted, summed(model, lambda part: part.predict([7] * len(ITEMS), ITEMS)))
        stranger, known = np.array([-1]), np.array([3])
        same(
            model.predict_rows(stranger, known),
            summed(model, lambda part: part.predict_rows(stranger, known)),
        )


@every_kind
def test_parts_are_refitted_to_all_training_ratings(models, ratings, kind):
    model = models[kind]
    for part, recipe in zip(model.members.values(), KINDS[kind].recipes, strict=True):
        alone = recipe.fit(ratings, progress=False)
        assert part.recipe == alone.recipe
        assert part.fingerprint == model.fingerprint == ratings.fingerprint
        np.testing.assert_array_equal(part.scores([3]), alone.scores([3]))


def test_weights_of_ratings_are_least_squares_on_what_was_held_out(ratings):
    model = KINDS["ratings"].fit(ratings, progress=False)
    held = hx.split.per_user(ratings, 0.1, seed=hx.models.SEED)
    parts = [recipe.fit(held.train, progress=False) for recipe in RATERS]
    labels = held.test.users.decode(held.test.user), held.test.items.decode(held.test.item)
    columns = np.stack([part.predict(*labels) for part in parts], axis=1)

    def error(weights) -> float:
        return float(np.mean((columns @ weights[:-1] + weights[-1] - held.test.value) ** 2))

    learned = np.array(model.recipe.weights)
    assert error(learned) < min(error(np.append(row, 0.0)) for row in np.eye(len(parts)))
    design = np.c_[columns, np.ones(len(columns))]
    exact = np.linalg.lstsq(design, held.test.value, rcond=None)[0]
    equal = np.full(len(parts), 1 / len(parts))
    equal = np.append(equal, np.mean(held.test.value - columns @ equal))
    # A little is pulled to equal weights.
    assert error(exact) <= error(learned) < error(exact) + 0.5 * (error(equal) - error(exact))


def test_weights_of_lists_are_the_best_of_those_tried(ratings, monkeypatch):
    tried = []
    composed = blend.composed

    def noted(recipe, members):
        tried.append(recipe.weights)
        return composed(recipe, members)

    monkeypatch.setattr(blend, "composed", noted)
    model = KINDS["lists"].fit(ratings, progress=False)
    held = hx.split.per_user(ratings, 0.1, seed=hx.models.SEED)
    parts = {str(n): recipe.fit(held.train, progress=False) for n, recipe in enumerate(RANKERS)}

    def quality(weights) -> float:
        one = composed(hx.Blend(RANKERS, weights=weights), parts)
        return hx.evaluate_ranking(one, held.test, k=20, bootstrap=1).ndcg

    figures = {weights: quality(weights) for weights in set(tried)}
    assert figures[model.recipe.weights] == pytest.approx(max(figures.values()))
    assert model.recipe.weights[-1] == 0


def test_given_weights_are_taken_as_they_are(ratings):
    model = hx.Blend(RATERS, weights=WEIGHTS).fit(ratings, progress=False)
    assert model.recipe.weights == WEIGHTS
    same(model.scores([5]), summed(model, lambda part: part.scores([5])))


@every_kind
def test_same_seed_same_bits_for_any_threads(ratings, kind):
    one, two = (KINDS[kind].fit(ratings, seed=3, threads=n, progress=False) for n in (1, 2))
    assert one.recipe == two.recipe
    np.testing.assert_array_equal(one.scores([1, 2]), two.scores([1, 2]))
    assert (
        one.scores([1, 2]).tolist()
        != KINDS[kind].fit(ratings, seed=4, progress=False).scores([1, 2]).tolist()
    )


@every_kind
def test_checkpoints_of_all_parts_are_resumed(ratings, models, kind, tmp_path):
    saved = hx.Checkpoint(tmp_path / "state", epochs=1)
    first = KINDS[kind].fit(ratings, progress=False, checkpoint=saved)
    assert {path.name for path in tmp_path.iterdir()} >= {"state", "state.1", "state.2"}
    again = KINDS[kind].fit(ratings, progress=False, resume=tmp_path / "state")
    for model in (first, again):
        np.testing.assert_array_equal(model.scores([3]), models[kind].scores([3]))


def test_standardised_weights_are_for_scores_of_one_spread(ratings):
    recipe = hx.Blend(RANKERS, weights=(1.0, 0.5, -0.25, 0.0), standardized=True)
    model = recipe.fit(ratings, progress=False)
    spreads = []
    for part in model.members.values():
        flat = part.flat
        scores = flat.user_factors @ flat.item_factors.T + (flat.item_bias if part.task == "ranking" else 0)
        spreads.append(np.sqrt(scores.var(axis=1).mean()))
    relative = spreads[0] / np.array(spreads)
    assert model.recipe.weights[:-1] == pytest.approx(np.array([1.0, 0.5, -0.25]) * relative, rel=1e-5)
    assert not model.recipe.standardized  # its weights are for the scores as they are
    again = model.recipe.fit(ratings, progress=False)
    np.testing.assert_array_equal(again.scores([3]), model.scores([3]))
    for wrong in ({"recipes": RANKERS}, {"recipes": RATERS, "weights": WEIGHTS}):
        with pytest.raises(ParameterError, match="standardized is for weights"):
            hx.Blend(**wrong, standardized=True)


def test_parts_count_in_similarities_as_they_count_in_scores(ratings):
    """Whatever the scale of their factors: a part of nearly no weight has nearly no say in which items are alike."""
    parts = [part.fit(ratings, progress=False) for part in RANKERS]
    for which in (0, 1):
        weights = [1e-6] * len(parts)
        weights[which] = 1.0
        model = hx.Blend(RANKERS, weights=(*weights, 0.0), standardized=True).fit(ratings, progress=False)
        for kind in ("items", "users"):
            found, alone = (getattr(one, f"similar_{kind}")(3, 5) for one in (model, parts[which]))
            same(found["score"], alone["score"])
            assert found.iloc[:, 0].tolist() == alone.iloc[:, 0].tolist()


def test_predicted_ratings_count_for_users_that_a_ranking_part_knows(models):
    """One who likes none of the items rated gets the most popular items, not those with the highest average."""
    visitor = models["lists"].fold_in(dict.fromkeys(NEW, 1.0), user_id=0)
    assert visitor.members["2"].flat.user_factors[visitor.users.encode([0])].any()
    assert not visitor.user_factors[visitor.users.encode([0])].any()
    assert (
        visitor.explain(0, 5)["contribution"].abs().max() < 1e-4
    )  # the little by which SpectralMF breaks ties


def test_predicted_ratings_count_where_only_popularity_stands_beside_them(ratings):
    model = hx.Blend([hx.Popular(), hx.BiasedMF(factors=4)], weights=(1.0, 2.0, 0.0)).fit(
        ratings, progress=False
    )
    flat = model.members["1"].flat
    same(model.user_factors @ model.item_factors.T, 2 * (flat.user_factors @ flat.item_factors.T))
    assert model.recommend(3, 3).attrs["fallback"] == {}


def test_a_blend_whose_factors_are_all_zero_says_what_it_lacks(ratings):
    nothing = hx.BiasedMF(factors=1, init_scale=0.0)
    model = hx.Blend([hx.Popular(), nothing], weights=(1.0, 1.0, 0.0)).fit(ratings, progress=False)
    assert model.recommend(3, 3).attrs["fallback"] == {}  # the popular list is the model's own
    with pytest.raises(DataError, match="blend model has no factors"):
        model.similar_items(3, 2)


def test_a_recipe_without_factors_is_refused_where_only_factors_count():
    with pytest.raises(ParameterError, match="bias has no factors"):
        hx.Blend(["bias", "popular"])
    assert hx.Blend(["bias", "als"]).task == "rating"


def test_a_visitor_shares_the_items_of_the_blend(models):
    model = models["lists"]
    assert model.fold_in(NEW).item_factors is model.item_factors


@every_kind
@pytest.mark.parametrize("seen", [True, False])
def test_a_file_holds_all_parts(models, kind, seen, tmp_path):
    model = models[kind]
    model.save(tmp_path / "model.hatrix", seen=seen)
    loaded = hx.load(tmp_path / "model.hatrix")
    assert loaded.recipe == model.recipe
    assert loaded.history.equals(model.history)
    np.testing.assert_array_equal(loaded.scores([7, 8]), model.scores([7, 8]))
    assert loaded.predict(7, 3) == model.predict(7, 3)
    arrays, _ = read(tmp_path / "model.hatrix")
    assert sum(name.endswith("user_ids") for name in arrays) == 1  # what the parts share is there once
    if seen:
        assert loaded.recommend(7, 5).equals(model.recommend(7, 5))
        assert loaded.explain(7, 3).equals(model.explain(7, 3))


@every_kind
def test_new_users_and_items_are_folded_into_each_part(models, kind):
    model = models[kind]
    visitor, item = model.fold_in(NEW, user_id=0), model.fold_in_item(NEW, item_id=0)
    same(visitor.scores([0]), summed(model, lambda part: counted(part.fold_in(NEW, user_id=0), [0], kind)))
    same(
        item.scores([5, 6]),
        summed(model, lambda part: counted(part.fold_in_item(NEW, item_id=0), [5, 6], kind)),
    )
    listed = visitor.recommend(0, 5)
    assert len(listed) == 5
    assert not set(listed["item"]) & set(NEW)
    assert visitor.origin is model
    with pytest.raises(DataError, match="view of a model"):
        visitor.update(hx.Ratings.from_columns([0], [1], [4.0], scale=(1, 5)))


@every_kind
def test_an_update_and_a_removal_reach_each_part(models, kind, tmp_path):
    model = models[kind]
    new = hx.Ratings.from_columns([61, 61, 2], [3, 41, 41], [5.0, 4.0, 1.0], scale=(1, 5))
    updated = model.update(new)
    assert updated.recipe.weights == model.recipe.weights
    same(updated.scores([61]), summed(model, lambda part: counted(part.update(new), [61], kind)))
    updated.save(tmp_path / "model.hatrix")
    assert hx.load(tmp_path / "model.hatrix").predict(61, 41) == updated.predict(61, 41)
    left = updated.forget(2)
    assert 2 not in left.users.labels
    assert all(2 not in part.users.labels for part in left.members.values())
    same(left.scores([61]), summed(updated, lambda part: counted(part.forget(2), [61], kind)))
    again = updated.forget(2, refit=True)
    same(again.scores([61]), summed(updated, lambda part: counted(part.forget(2, refit=True), [61], kind)))


@every_kind
def test_the_parts_of_an_explanation_add_up_to_the_score(models, kind):
    model = models[kind]
    found = model.explain(7, 3, n=40)
    assert found["contribution"].sum() == pytest.approx(found.attrs["score"], abs=1e-5)
    rated = found[found["part"] == "rating"].set_index("item")["contribution"]
    expected = sum(
        weight * part.explain(7, 3, n=40).query("part == 'rating'").set_index("item")["contribution"]
        for weight, part in model.recipe.weighted_members(model)
        if part.user_factors.shape[1]
    )
    same(rated.sort_index(), expected.sort_index())
    row, items = int(model.users.encode([7])[0]), np.arange(5)
    for reason in (one for why in explain.reasons(model, row, items) for one in why):
        assert reason.contribution > 0
        assert reason.rating >= 3


@every_kind
def test_lists_are_the_best_unseen_scores(models, kind, tmp_path):
    model = models[kind]
    scores = model.scores([7])[0]
    seen = model.seen.item[model.seen.of(int(model.users.encode([7])[0]))]
    scores[seen] = -np.inf
    best = model.items.decode(np.argsort(-scores, kind="stable")[:5])
    assert model.recommend(7, 5)["item"].tolist() == best.tolist()
    everybody = model.recommend_all(5, path=tmp_path / "lists.parquet", progress=False)
    assert everybody is not None
    assert len(model.similar_items(3, 4)) == len(model.similar_users(3, 4)) == 4


def test_blends_of_both_kinds_are_the_parts_of_a_recommender(ratings, models, tmp_path):
    recipe = hx.Recommender(ratings=KINDS["ratings"], lists=KINDS["lists"])
    model = recipe.fit(ratings, progress=False)
    assert model.predict(7, 3) == models["ratings"].predict(7, 3)
    np.testing.assert_array_equal(model.scores([7]), models["lists"].scores([7]))
    model.save(tmp_path / "model.hatrix")
    loaded = hx.load(tmp_path / "model.hatrix")
    assert loaded.recipe == model.recipe
    assert loaded.predict(7, 3) == model.predict(7, 3)
    visitor = loaded.fold_in(NEW)
    assert visitor.predict("new user", 4) == models["ratings"].fold_in(NEW).predict("new user", 4)
    assert visitor.recommend("new user", 4)["item"].tolist() == (
        models["lists"].fold_in(NEW).recommend("new user", 4)["item"].tolist()
    )


@every_kind
def test_it_is_served(models, kind):
    model = models[kind]
    client = Client(create_app(model))
    reply = client.get("/v1/recommendations", user=7, n=5).json()
    assert [one["item"] for one in reply["items"]] == model.recommend(7, 5)["item"].tolist()


@every_kind
def test_it_is_compared(ratings, kind):
    split = hx.split.per_user(ratings, seed=3)
    recipe = KINDS[kind]
    result = hx.compare({"blend": recipe, "part": recipe.recipes[0]}, split, bootstrap=50, progress=False)
    assert result.task == {"ratings": "rating", "lists": "ranking"}[kind]
    model = recipe.fit(split.train, progress=False)
    measured = hx.evaluate if kind == "ratings" else hx.evaluate_ranking
    metric = {"ratings": "rmse", "lists": "ndcg"}[kind]
    assert getattr(result["blend"].evaluation, metric) == getattr(measured(model, split.test), metric)
    assert 0 <= result.differences["p"].iloc[0] <= 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: hx.Blend([]), "recipes"),
        (lambda: hx.Blend(["bias"]), "recipes"),
        (lambda: hx.Blend(["bias", "nonsense"]), "no algorithm 'nonsense'"),
        (lambda: hx.Blend(["bias", 3]), "recipes"),
        (lambda: hx.Blend([hx.Bias, hx.ALS]), "recipes"),
        (lambda: hx.Blend(hx.Bias()), "recipes"),
        (lambda: hx.Blend(), "recipes"),
        (lambda: hx.Blend(["bias"] * 17), "recipes"),
        (lambda: hx.Blend(["bias", hx.Blend(["als", "svdpp"])]), "a Blend itself"),
        (lambda: hx.Blend(["bias", hx.Recommender()]), "a Recommender itself"),
        (lambda: hx.Blend(["bias", "als"], weights=(1.0, 2.0)), "weights are 2 numbers"),
        (lambda: hx.Blend(["bias", "als"], weights=(1.0, float("nan"), 0.0)), "weights"),
        (lambda: hx.Blend(["bias", "als"], weights="equal"), "weights"),
        (lambda: hx.Blend(["bias", "als"], share=1.0), "share"),
        (lambda: hx.Blend(["bias", "als"], share=True), "share"),
        (lambda: hx.Blend(["bias", {"algorithm": "als", "factors": -1}]), "factors is -1"),
    ],
)
def test_blends_that_cannot_be(make, said):
    with pytest.raises(ParameterError, match=said):
        make()


def test_data_that_cannot_be_blended(ratings):
    alone = hx.Ratings.from_columns([1, 2, 3], [1, 2, 1], [3.0, 4.0, 5.0])
    with pytest.raises(DataError, match="give weights"):
        KINDS["ratings"].fit(alone, progress=False)
    with pytest.raises(DataError, match="Ratings"):
        KINDS["ratings"].fit([1, 2, 3], progress=False)
    with pytest.raises(ParameterError, match="valid"):
        KINDS["ratings"].fit(ratings, 2.0, progress=False)


def test_a_recipe_survives_json():
    recipe = hx.Blend(["svdpp", {"algorithm": "bpr", "factors": 8}], weights=(1.0, 2.0, 0.0))
    assert recipe == hx.Blend([hx.SVDpp(), hx.BPR(factors=8)], weights=(1.0, 2.0, 0.0))
    assert hx.Blend(**json.loads(recipe.model_dump_json())) == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header, _: header["members"].pop("1"), "members"),
        (lambda header, _: header["hyperparameters"].update(weights="auto"), "auto"),
        (lambda header, _: header["hyperparameters"].update(weights=[1.0]), "weights"),
        (lambda header, _: header["hyperparameters"]["recipes"].pop(), "."),
        (lambda _, arrays: arrays.pop("members.0.user_bias"), "user_bias"),
        (lambda _, arrays: arrays.update({"user_factors": np.zeros((60, 2), np.float32)}), "."),
    ],
)
def test_files_that_contradict_themselves(models, tmp_path, change, said):
    models["ratings"].save(tmp_path / "model.hatrix")
    arrays, header = read(tmp_path / "model.hatrix")
    arrays = {name: np.array(array) for name, array in arrays.items()}
    change(header, arrays)
    write(tmp_path / "forged.hatrix", arrays, header)
    with pytest.raises(ModelFileError, match=said):
        hx.load(tmp_path / "forged.hatrix")
