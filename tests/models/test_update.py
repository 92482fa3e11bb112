"""New ratings into a model, and users out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.kernels import schedule
from hatrix.models import ALGORITHMS, algorithm
from hatrix.models.factors import ITEM, USER
from hatrix.models.fold_in import FOLDS
from hatrix.models.update import WHOLE, _ratings_of, training_ratings, without

SMALL = {name: {"factors": 5, "epochs": 8} for name in ALGORITHMS} | {"bias": {}, "popular": {}}
SMALL["bayesian-mf"] = {"factors": 3, "epochs": 40, "burn_in": 10, "draws": 8}
STEPWISE = [name for name in ALGORITHMS if name not in WHOLE]


@pytest.fixture(scope="module")
def ratings():
    made = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    return replace(
        made, item_table=pd.DataFrame({"title": [f"Film {item}" for item in made.items.labels], "year": 1990})
    )


def new_ratings(model):
    """An old pair rated anew, two new users, and a new item."""
    old = model.items.decode(model.seen.item[:1])[0]
    rows = [
        (1, old, 1.0),
        (1, 77, 5.0),
        (2, 77, 4.0),
        (900, 77, 4.0),
        (900, 3, 5.0),
        (901, 4, 2.0),
        (901, 5, 3.0),
    ]
    return hx.Ratings.from_columns(*zip(*rows, strict=True), scale=(1, 5))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_new_users_and_items_enter(name, fitted, tmp_path):
    model = fitted(name)
    new = new_ratings(model)
    updated = model.update(new)
    assert updated.users.encode([900, 901]).min() >= 0
    assert updated.items.encode([77])[0] >= 0
    merged = training_ratings(updated).to_frame().set_index(["user", "item"]).rating
    before = training_ratings(model).to_frame().set_index(["user", "item"]).rating
    told = new.to_frame().set_index(["user", "item"]).rating
    assert len(merged) == len(before) + 6
    assert (merged[told.index] == told).all()
    rest = before.index.difference(told.index)
    assert (merged[rest] == before[rest]).all()
    assert updated.user_count.sum() == updated.item_count.sum() == len(merged)
    assert 77 not in updated.recommend(900, 40)["item"].tolist()
    assert not updated.is_fallback(updated.users.encode([900]), updated.items.encode([3]))[0]
    assert np.isfinite(updated.predict([900, 901, 5], [77, 3, 77])).all()
    assert updated.item_table["title"].tolist()[:2] == model.item_table["title"].tolist()[:2]
    assert pd.isna(updated.item_table["title"][updated.items.encode([77])[0]])
    assert updated.drift.added == 7
    assert updated.drift.fitted == 900
    updated.save(tmp_path / "m.hatrix")
    again = hx.load(tmp_path / "m.hatrix")
    assert again.drift == updated.drift
    np.testing.assert_array_equal(again.predict([900, 901], 77), updated.predict([900, 901], 77))
    assert again.update(new).drift.added == 14


@pytest.mark.parametrize("name", STEPWISE)
def test_rows_without_new_ratings_stay(name, fitted):
    model = fitted(name)
    updated = model.update(new_ratings(model))
    for side, ids, touched in (("user", model.users, {1, 2}), ("item", model.items, {3, 4, 5})):
        touched = touched | set(model.items.decode(model.seen.item[:1]).tolist())
        same = np.array([label for label in ids.labels.tolist() if label not in touched])
        place = getattr(updated, f"{side}s").encode(same), ids.encode(same)
        for kind in ("bias", "factors"):
            arrays = getattr(updated, f"{side}_{kind}")[place[0]], getattr(model, f"{side}_{kind}")[place[1]]
            np.testing.assert_array_equal(*arrays)


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_quick_is_fitted_again(name, fitted):
    model = fitted(name)
    updated = model.update(new_ratings(model))
    anew = model.recipe.fit(training_ratings(updated), seed=3)
    np.testing.assert_array_equal(updated.scores(900), anew.scores(900))


def test_als_solves_touched_rows_as_a_sweep_does(fitted):
    model = fitted("als")
    updated = model.update(new_ratings(model), sweeps=30)
    row = updated.users.encode([901])[0]
    again = updated.fold_in({4: 2.0, 5: 3.0})
    np.testing.assert_allclose(again.user_factors[0], updated.user_factors[row], atol=1e-4)
    np.testing.assert_allclose(again.user_bias[0], updated.user_bias[row], atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "als",
        "biased-mf",
        *(pytest.param(name, marks=pytest.mark.campaign) for name in ("svdpp", "bayesian-mf")),
    ],
)
def test_an_updated_model_foretells_nearly_as_well_as_one_fitted_again(name):
    made = hx.synthetic.make(300, 80, n_ratings=9000, seed=2)[0]
    rng = np.random.default_rng(0)
    late = (rng.random(len(made)) < 0.15) | (made.user >= 280) | (made.item >= 76)
    test = late & (rng.random(len(made)) < 0.4)
    recipe = algorithm(name)(**({"factors": 4, "epochs": 60, "draws": 20} if name == "bayesian-mf" else {}))
    old = recipe.fit(made.take(~late), seed=0)
    updated = old.update(made.take(late & ~test))
    anew = recipe.fit(made.take(~test), seed=0)
    labels = made.users.decode(made.user[test]), made.items.decode(made.item[test])
    errors = [
        np.sqrt(np.mean((model.predict(*labels) - made.value[test]) ** 2)) for model in (old, updated, anew)
    ]
    assert errors[1] < 0.98 * errors[0]
    assert errors[1] < 1.03 * errors[2]


def test_counts_are_added():
    clicks = hx.Ratings.from_columns([1, 1, 2, 2, 3], [1, 2, 1, 3, 2])
    model = hx.ImplicitALS(factors=2, epochs=4).fit(clicks, seed=0)
    updated = model.update(hx.Ratings.from_columns([1, 1, 4], [1, 3, 1]))
    rows = training_ratings(updated).to_frame().set_index(["user", "item"])["count"]
    assert rows[(1, 1)] == 2
    assert rows[(1, 3)] == rows[(4, 1)] == rows[(2, 1)] == 1
    with pytest.raises(DataError, match="clicks or counts, and the new rows are ratings"):
        model.update(hx.Ratings.from_columns([1], [1], [5.0]))


def test_drift_says_when_to_fit_again(fitted, ratings):
    model = fitted("als")
    assert model.drift is None
    few = ratings.take(np.arange(50))
    known = model.update(few).drift
    assert known.due is None
    assert known.error < known.baseline
    wrong = replace(few, value=6 - few.value)
    assert "foretold worse" in model.update(wrong).drift.due
    assert "190 ratings have come" in model.update(ratings.take(np.arange(190))).drift.due
    new = hx.Ratings.from_columns([900], [900], [3.0], scale=(1, 5))
    assert model.update(new).drift.error is None
    assert model.update(new).drift.due is None
    ranker = fitted("implicit-als").update(few).drift
    assert 0 <= ranker.error < ranker.baseline < 1


def test_what_is_wrong_is_said(fitted, tmp_path):
    model = fitted("als")
    with pytest.raises(DataError, match="give Ratings"):
        model.update([1, 2])
    with pytest.raises(
        DataError, match=r"the user id 'a', and the user ids of the model are integers, such as 1"
    ):
        model.update(hx.Ratings.from_columns(["a"], [1], [3.0]))
    with pytest.raises(DataError, match="run from 1 to 9"):
        model.update(hx.Ratings.from_columns([1, 2], [1, 2], [9.0, 1.0]))
    with pytest.raises(ParameterError, match="sweeps"):
        model.update(new_ratings(model), sweeps=0)
    with pytest.raises(DataError, match="a view of a model"):
        model.fold_in({3: 4.0}).update(new_ratings(model))
    model.save(tmp_path / "m.hatrix", seen=False)
    with pytest.raises(DataError, match="without its training rows"):
        hx.load(tmp_path / "m.hatrix").update(new_ratings(model))
    assert model.update(training_ratings(model).take(np.zeros(0, int))) is model


@pytest.mark.parametrize("name", ["als", "bias", "svdpp"])
def test_what_was_merged_stays_known(name, fitted):
    model = replace(fitted(name), merged={"store": 7})
    assert model.update(new_ratings(model)).merged == {"store": 7}
    assert model.forget(5).merged == model.forget(5, refit=True).merged == {"store": 7}
    assert model.fold_in({3: 4.0}).merged == {"store": 7}


# Forgetting.


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("refit", [False, True])
def test_a_forgotten_user_is_in_no_part_of_the_file(name, refit, ratings, tmp_path):
    named = hx.Ratings.from_columns(
        [f"user-{u}" for u in ratings.users.decode(ratings.user)],
        ratings.items.decode(ratings.item),
        ratings.value,
    )
    model = algorithm(name)(**SMALL[name]).fit(named, seed=3)
    left = model.forget("user-7", refit=refit)
    row = model.users.encode(["user-7"])[0]
    assert len(left.users) == len(model.users) - 1
    rest = named.take(named.user != row)
    np.testing.assert_array_equal(left.item_count, rest.item_count)
    np.testing.assert_array_equal(np.delete(model.user_count, row), left.user_count)
    kept = training_ratings(left).to_frame().set_index(["user", "item"]).rating.sort_index()
    wanted = rest.to_frame().set_index(["user", "item"]).rating.sort_index()
    assert (kept == wanted).all()
    assert left.fingerprint != model.fingerprint
    left.save(tmp_path / "m.hatrix")
    content = (tmp_path / "m.hatrix").read_bytes()
    assert b"user-7" not in content
    if not refit:
        assert model.user_factors[row].tobytes() not in content or not model.user_factors.shape[1]
        others = [label for label in named.users.labels if label != "user-7"][:5]
        np.testing.assert_array_equal(left.predict(others, 3), model.predict(others, 3))
    with pytest.raises(DataError, match="unknown to the model"):
        left.forget("user-7")


def test_refitted_items_of_als_are_those_of_a_fit_without_the_user(ratings):
    """A fit of the other users' ratings in which the surviving rows start from the same draws."""
    recipe = hx.ALS(factors=4, epochs=40, regularization=0.2, bias_regularization=0.01, nu=1.0)
    model = recipe.fit(ratings, seed=0)
    row = int(np.argmax(model.user_count))
    rest = training_ratings(model.forget(model.users.labels[row]))
    starts = [recipe.init(part, seed=0, threads=1) for part in (ratings, rest)]
    for name, array in starts[1].variables.items():
        full = starts[0].variables[name]
        array[...] = np.delete(full, row, axis=0) if name.startswith("user") else full
    for epoch in range(recipe.epochs):
        recipe.step(starts[1], epoch)
    reference = recipe.finish(starts[1])
    users = np.arange(len(rest.users))
    theirs = model.seen.item[model.seen.start[row] : model.seen.start[row + 1]].astype(int)
    u, i = (grid.ravel() for grid in np.meshgrid(users, theirs))
    wanted = reference.score(u, i)
    away = [
        np.sqrt(np.mean((found.factors.score(u, i) - wanted) ** 2))
        for found in (
            model.forget(model.users.labels[row]),
            model.forget(model.users.labels[row], refit=True),
        )
    ]
    assert away[1] < 0.1 * away[0]


@pytest.mark.parametrize("name", ["biased-mf", "als", "spectral-mf"])
def test_several_users_are_forgotten_as_one(name, fitted):
    model = fitted(name)
    several = [7, 3, 7]
    one_by_one = model.forget(3).forget(7)
    together = model.forget(several)
    for part in ("user_factors", "item_factors", "user_count", "item_count"):
        np.testing.assert_array_equal(getattr(together, part), getattr(one_by_one, part))
    for part, other in zip(together.seen, one_by_one.seen, strict=True):
        np.testing.assert_array_equal(part, other)
    refitted = model.forget(several, refit=True)
    theirs = np.unique(
        np.concatenate([model.seen.item[model.seen.of(row)] for row in model.users.encode([3, 7])])
    )
    left = model.item_factors[theirs], refitted.item_factors[theirs]
    assert (left[0] != left[1]).any(axis=1).all()
    with pytest.raises(DataError, match="these are all users"):
        model.forget(model.users.labels)


@pytest.mark.parametrize("name", ["svdpp", "bayesian-mf", "implicit-als"])
def test_many_leave_as_one_after_the_other(name, fitted, tmp_path):
    model = fitted(name)
    gone = model.users.labels[[40, 2, 17]]
    one_by_one = model
    for label in gone:
        one_by_one = one_by_one.forget(label)
    one_by_one.save(tmp_path / "one.hatrix")
    without(model, model.users.encode(gone)).save(tmp_path / "many.hatrix")
    assert (tmp_path / "one.hatrix").read_bytes() == (tmp_path / "many.hatrix").read_bytes()
    with pytest.raises(DataError, match="no user of the model would be left"):
        without(model, np.arange(len(model.users)))


def test_the_only_user_stays():
    model = hx.Bias().fit(hx.Ratings.from_columns([1, 1], [1, 2], [3.0, 4.0]))
    with pytest.raises(DataError, match="the only one"):
        model.forget(1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("als", {}),
        ("als", {"biased": False, "nu": 0.0}),
        ("als", {"nonnegative": True}),
        ("implicit-als", {"alpha0": None}),
        ("mf", {}),
        ("biased-mf", {}),
        ("svdpp", {}),
        ("bayesian-mf", {}),
    ],
)
@pytest.mark.parametrize("side", [USER, ITEM])
def test_many_rows_are_what_each_alone_is(name, changes, side, fitted, ratings, monkeypatch):
    """Within 1e-4 of the largest number, and to the last bit on any number of threads."""
    model = fitted(name, **changes)
    wanted = np.arange(1, len(model.users if side == USER else model.items), 3)
    others = len(model.items if side == USER else model.users)
    many = _ratings_of(ratings, side, wanted, np.ones(others, bool))
    fold = FOLDS[name]
    rows = fold.rows(model, many, 1)
    for at, row in enumerate(wanted):
        given = many.given(at)
        mine = (ratings.user, ratings.item)[side] == row
        assert given.value.sum() == ratings.value[mine].sum()
        assert (np.sort((ratings.user, ratings.item)[1 - side][mine]) == given.other).all()
        alone = fold.row(model, given)
        np.testing.assert_allclose(rows.factors[at], alone.factors, atol=1e-4 * np.abs(rows.factors).max())
        np.testing.assert_allclose(rows.bias[at], alone.bias, atol=1e-4 * max(1, np.abs(rows.bias).max()))
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 1)
    for threads in (2, 5):
        for one, other in zip(rows, fold.rows(model, many, threads), strict=True):
            np.testing.assert_array_equal(one, other)


def small() -> hx.Ratings:
    rng = np.random.default_rng(5)
    return hx.Ratings.from_columns(rng.integers(0, 20, 150), rng.integers(0, 15, 150))


def test_an_update_runs_no_more_epochs_than_the_history_shows(monkeypatch):
    ratings = small()
    model = hx.BPR(factors=3, epochs=4).fit(ratings, progress=False)
    greedy = replace(model, recipe=model.recipe.replace(epochs=100_000))
    epochs: list[int] = []
    step = hx.BPR.step
    monkeypatch.setattr(
        hx.BPR, "step", lambda self, state, epoch: epochs.append(epoch) or step(self, state, epoch)
    )
    updated = greedy.update(ratings.take(slice(0, 5)))
    assert epochs == [0, 1, 2, 3]
    assert updated.recipe == greedy.recipe
    np.testing.assert_array_equal(updated.user_factors, model.update(ratings.take(slice(0, 5))).user_factors)


def test_an_update_refuses_an_effort_without_bounds():
    ratings = small()
    model = hx.BPR(factors=3, epochs=2).fit(ratings, progress=False)
    greedy = replace(model, recipe=model.recipe.replace(epochs=100_000), history=model.history.iloc[:0])
    with pytest.raises(DataError, match="have 100,000 epochs: up to 1,000 are run in an update"):
        greedy.update(ratings.take(slice(0, 5)))
    wide = replace(model, recipe=model.recipe.replace(factors=512))
    with pytest.raises(DataError, match="has 3 factors, and its recipe asks for 512"):
        wide.update(ratings.take(slice(0, 5)))
    with pytest.raises(DataError, match="its recipe asks for 512"):
        wide.forget(1, refit=True)


def test_a_model_that_stopped_early_is_updated_without_validation():
    ratings = small()
    model = hx.BPR(factors=3, epochs=30, patience=1).fit(ratings, valid=0.2, progress=False)
    assert len(model.history) < 30
    updated = model.update(ratings.take(slice(0, 5)))
    assert len(updated.history) == model.history["valid_ndcg"].argmax() + 1
    assert updated.recipe.patience == 1


def test_sweeps_that_leave_the_finite_numbers_end_in_a_typed_error(monkeypatch):
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    model = hx.ALS(factors=3, epochs=3).fit(ratings, progress=False)
    monkeypatch.setattr(
        hx.ALS, "step", lambda _, state, epoch: state.variables["item_factors"].fill(np.nan * epoch)
    )
    with pytest.raises(DataError, match="numbers beyond"):
        model.forget(1, refit=True)
