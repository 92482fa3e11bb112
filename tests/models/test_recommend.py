"""Lists of items: exactly the best, exactly n, or a reason why not."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
import naive
from hatrix.models import ALGORITHMS, algorithm, recommend

SMALL = {name: {"factors": 6} for name in ALGORITHMS}
SMALL |= {"bias": {}, "popular": {}}
SMALL["bayesian-mf"] = {"factors": 3, "epochs": 16, "burn_in": 4, "draws": 6}
for name in ("mf", "biased-mf", "svdpp", "als", "implicit-als", "bpr"):
    SMALL[name] = {"factors": 6, "epochs": 4}
GENRES = ("Drama", "Comedy", "Crime|Drama", "Action|Comedy", None)
USERS, ITEMS = 40, 30


def made_up(seed=0, n=500) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": rng.integers(0, USERS, n), "item": rng.integers(0, ITEMS, n)})
    return frame.assign(stars=rng.integers(1, 6, n)).drop_duplicates(["user", "item"])


def as_ratings(frame: pd.DataFrame) -> hx.Ratings:
    ratings = hx.Ratings.from_frame(frame, user="user", item="item", rating="stars")
    items = range(len(ratings.items))
    table = pd.DataFrame(
        {
            "title": [f"Film {item}" for item in items],
            "year": pd.array([None if item == 7 else 1970 + item for item in items], "Int64"),
            "genres": [GENRES[item % len(GENRES)] for item in items],
        }
    )
    return replace(ratings, item_table=table)


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return as_ratings(made_up())


@pytest.fixture(scope="module")
def model(ratings) -> hx.FactorModel:
    return hx.BiasedMF(factors=6, epochs=4).fit(ratings)


@pytest.fixture(scope="module")
def bayesian(ratings) -> hx.FactorModel:
    return algorithm("bayesian-mf")(**SMALL["bayesian-mf"]).fit(ratings)


def seen_by(model: hx.FactorModel, user: int) -> list[int]:
    return model.seen.item[model.seen.start[user] : model.seen.start[user + 1]].tolist()


def exact(model: hx.FactorModel, user: int) -> np.ndarray:
    """Scores of all items in double precision."""
    flat = model.flat
    q = flat.item_factors.astype(float) @ flat.user_factors[user].astype(float)
    return q + flat.mean + float(flat.user_bias[user]) + flat.item_bias


both_ways = pytest.mark.parametrize("way", ["codes", "product"])
"""Small catalogues go by product, which is also the way of processors that do not multiply bytes."""


@contextmanager
def going(way: str):
    with pytest.MonkeyPatch.context() as patch:
        if way == "codes":
            patch.setattr(recommend, "FEWEST_CODED", 1)
            patch.setattr(recommend, "LONG", 0)
        yield


@both_ways
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_gives_the_best_unseen_items(name, way, ratings):
    with going(way):
        check_algorithm(name, ratings)


def check_algorithm(name, ratings):
    model = algorithm(name)(**SMALL[name]).fit(ratings)
    labels = ratings.users.labels[:12].tolist()
    together = model.recommend(labels, 8)
    for row, label in enumerate(labels):
        alone = model.recommend(label, 8)
        want = naive.recommended(exact(model, row), 8, seen=seen_by(model, row))
        assert model.items.encode(alone.item).tolist() == want
        np.testing.assert_allclose(alone.score, exact(model, row)[want], rtol=1e-12)
        both = together[together.user == label].drop(columns="user").reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, both, check_exact=True)
        np.testing.assert_allclose(model.scores([label])[0, want], alone.score, rtol=1e-5, atol=1e-5)
    assert together.user.tolist() == np.repeat(labels, 8).tolist()


def test_lists_of_a_posterior_need_no_copy_of_its_users(bayesian):
    assert np.shares_memory(bayesian.flat.user_factors, bayesian.user_factors)
    folded = bayesian.fold_in({3: 4.0})
    assert folded.flat.item_factors is bayesian.flat.item_factors


def test_titles_and_attributes_stand_beside_the_items(model):
    frame = model.recommend(3, 4)
    assert list(frame.columns) == ["item", "score", "title", "year", "genres"]
    assert frame.title.tolist() == [f"Film {row}" for row in model.items.encode(frame.item)]
    assert list(model.recommend([3], 4).columns) == ["user", "item", "score", "title", "year", "genres"]


def test_columns_of_the_table_do_not_hide_the_answer(model):
    table = pd.DataFrame({"score": range(len(model.items)), "title": "x"})
    frame = replace(model, item_table=table).recommend(3, 4)
    assert list(frame.columns) == ["item", "score", "score_", "title"]


def test_equal_scores_come_in_id_order():
    rows = [(user, item, 3.0) for user in range(3) for item in range(5)]
    model = hx.Bias().fit(hx.Ratings.from_columns(*zip(*rows, strict=True)))
    assert model.recommend(0, 9, exclude_seen=False).item.tolist() == [0, 1, 2, 3, 4]


@both_ways
def test_ties_are_broken_alike_inside_and_outside_of_batches(way):
    with going(way):
        check_ties()


def check_ties():
    rng = np.random.default_rng(3)
    rows = [(u, i, float(rng.integers(1, 6))) for u in range(9) for i in range(6)]
    model = hx.BiasedMF(factors=4, epochs=3).fit(hx.Ratings.from_columns(*zip(*rows, strict=True)))
    twins = np.ascontiguousarray(np.repeat(model.item_factors, 50, axis=0))
    many = replace(
        model, items=hx.Ids(np.arange(300)), item_factors=twins, item_bias=np.repeat(model.item_bias, 50),
        item_count=np.repeat(model.item_count, 50), seen=None,
    )  # fmt: skip
    together = many.recommend(list(range(9)), 70, exclude_seen=False)
    for user in range(9):
        order = np.lexsort((np.arange(300), -exact(many, user)))[:70]
        assert together.item[together.user == user].tolist() == order.tolist()
        assert many.recommend(user, 70, exclude_seen=False).item.tolist() == order.tolist()


@both_ways
@pytest.mark.parametrize("candidates", [None, range(0, 400, 3), range(400)])
def test_items_that_single_precision_does_not_tell_apart(model, way, candidates):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, ITEMS, 400)
    close = replace(
        model,
        items=hx.Ids(np.arange(400)),
        item_factors=model.item_factors[rows] * np.float32(1e-3),
        item_bias=(1000 + 1e-4 * rng.standard_normal(400)).astype(np.float32),
        item_count=np.ones(400, np.int64),
        item_table=None,
    )
    allowed = np.arange(400) if candidates is None else np.asarray(candidates)
    options = {"among": None if candidates is None else list(candidates)}
    with going(way):
        together = close.recommend(list(range(12)), 20, **options).groupby("user")["item"]
        for user in range(12):
            want = naive.recommended(exact(close, user)[allowed], len(allowed), seen=[])
            seen = seen_by(close, user)
            want = [item for item in allowed[want].tolist() if item not in seen][:20]
            assert together.get_group(user).tolist() == want
            assert close.recommend(user, 20, **options).item.tolist() == want


def test_a_list_as_long_as_there_are_items_and_why_it_is_short(model):
    seen = len(seen_by(model, 5))
    frame = model.recommend(5, 1000)
    assert len(frame) == len(model.items) - seen
    assert frame.attrs["short"] == {
        5: f"{ITEMS - seen} of 1000: the model knows {ITEMS} items, and the user has seen {seen} of them"
    }
    assert model.recommend(5, 1000, exclude_seen=False).attrs["short"][5].endswith("items")
    assert model.recommend(5, 3).attrs["short"] == {}


def test_what_was_seen_comes_back_on_demand(model):
    assert not set(seen_by(model, 2)) & set(model.items.encode(model.recommend(2, 30).item))
    assert len(model.recommend(2, 30, exclude_seen=False)) == ITEMS


@both_ways
@settings(deadline=None, max_examples=40)
@given(
    among=st.none() | st.lists(st.integers(-3, ITEMS + 3), max_size=40),
    exclude=st.none() | st.lists(st.integers(-3, ITEMS + 3), max_size=40),
    n=st.integers(1, 40),
    exclude_seen=st.booleans(),
    users=st.lists(st.integers(0, USERS + 2), min_size=1, max_size=5),
)
def test_among_and_exclude(model, bayesian, way, among, exclude, n, exclude_seen, users):
    for one, risk in ((model, None), (bayesian, 0.25)):
        with going(way):
            frame = one.recommend(
                users, n, among=among, exclude=exclude, exclude_seen=exclude_seen, risk=risk
            )
        allowed = set(range(ITEMS)) if among is None else set(among)
        allowed -= set(exclude or ())
        at = 0
        for user in users:
            mine = [] if user >= USERS or not exclude_seen else seen_by(one, user)
            scores = fallback(one, risk) if user >= USERS else ranked_by(one, user, risk)
            want = naive.recommended(scores, n, seen=mine, allowed=allowed)
            assert frame.item[at : at + len(want)].tolist() == want
            assert (user in frame.attrs["short"]) == (len(want) < n)
            at += len(want)
        assert at == len(frame)
        strange = {x for x in [*(among or ()), *(exclude or ())] if not 0 <= x < ITEMS}
        unknown = [user for user in users if user >= USERS]
        assert len(frame.attrs["warnings"]) == bool(set(among or ()) & strange) + bool(
            set(exclude or ()) & strange
        ) + bool(unknown)
        assert all("unknown to the model" in word for word in frame.attrs["warnings"])


def ranked_by(model, user, risk):
    if risk is None:
        return exact(model, user)
    pairs = np.full(ITEMS, user), np.arange(ITEMS)
    return model.factors.over_draws(*pairs, None, lambda draws: np.quantile(draws, risk, axis=1))


def fallback(model, risk):
    if risk is None:
        return model.fallback + model.item_bias
    return ranked_by(model, -1, risk)


def test_filters(model):
    rows = np.arange(ITEMS)
    drama = {r for r in rows if "Drama" in (GENRES[r % 5] or "").split("|")}
    frame = model.recommend(1, 30, where='genre == "Drama" and year >= 1980', exclude_seen=False)
    assert set(frame.item) == {r for r in drama if 1970 + r >= 1980}
    later = model.recommend(1, 30, where="not year < 1975", exclude_seen=False)
    assert set(later.item) == {r for r in rows if r >= 5 and r != 7}
    nothing = model.recommend(1, 5, where='genre == "Western"')
    assert nothing.empty
    assert list(nothing.columns) == ["item", "score", "title", "year", "genres"]
    assert nothing.attrs["short"] == {1: f"0 of 5: 0 of {ITEMS} items are allowed"}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("yaer > 1990", "did you mean year"),
        ("rank > 1990", "they have title, year, genres"),
        ('year > "1990"', "leave out the quotes"),
        ("genre == 3", "put it in quotes"),
        ('genre > "D"', "several values"),
        ("year + 1 > 1990", "is not the name of a column"),
        ('__import__("os").getcwd() == "x"', "is not the name of a column"),
        ("(lambda: 1)()", "is no condition"),
        ("title == Drama", "are two names"),
        ("year", "is no condition by itself"),
        ("year in []", "give a list of values"),
        ("year >", "cannot be read"),
        ("", "cannot be read"),
        ("not " * 2400 + "year > 1", "too deep"),
        ("year > " + "9" * 400, "too deep"),
        (3, "give a text"),
    ],
)
def test_filters_that_cannot_be(model, where, said):
    with pytest.raises(hx.HatrixError, match="where") as error:
        model.recommend(1, where=where)
    assert said in str(error.value)


def test_a_filter_needs_a_table(model):
    with pytest.raises(hx.HatrixError, match="no table of items"):
        replace(model, item_table=None).recommend(1, where="year > 1990")


def test_unknown_and_cold_users_get_a_labelled_fallback(ratings, bayesian):
    cold = ratings.take(ratings.user != 4)
    for recipe, basis in (
        (hx.BiasedMF(factors=4, epochs=2), "bias"),
        (hx.ImplicitALS(factors=4, epochs=2), "popularity"),
        (hx.Popular(), "bias"),
    ):
        model = recipe.fit(cold)
        frame = model.recommend([4, "nobody", 5], 6)
        assert frame.attrs["fallback"] == {4: basis, "nobody": basis}
        lists = [part.item.tolist() for _, part in frame.groupby("user", sort=False)]
        assert lists[0] == lists[1]
        by = model.item_bias if model.item_bias.any() else model.item_count
        assert lists[0] == naive.recommended(by, 6)
    assert bayesian.recommend("nobody", 3).attrs["fallback"] == {"nobody": "prior"}
    want = naive.recommended(bayesian.scores(["nobody"])[0], 3)
    assert bayesian.recommend("nobody", 3).item.tolist() == want
    fitted = algorithm("bayesian-mf")(**SMALL["bayesian-mf"]).fit(cold)
    assert fitted.recommend([4, 5], 3).attrs["fallback"] == {4: "prior"}


def test_risk_ranks_by_a_quantile_of_the_draws(bayesian):
    safe = bayesian.recommend(3, 5, risk=0.1, exclude_seen=False)
    want = naive.recommended(ranked_by(bayesian, 3, 0.1), 5)
    assert safe.item.tolist() == want
    np.testing.assert_allclose(safe.score, ranked_by(bayesian, 3, 0.1)[want], rtol=1e-5)
    bold = bayesian.recommend(3, ITEMS, risk=0.9, exclude_seen=False).set_index("item").score
    assert (bold[safe.item].to_numpy() >= safe.score.to_numpy()).all()
    assert safe.attrs["risk"] == 0.1


def test_risk_takes_users_and_items_in_blocks(bayesian, monkeypatch):
    whole = bayesian.recommend(list(range(9)), 5, risk=0.3)
    for scores in (1, 40, 700):
        monkeypatch.setattr(recommend, "SCORES_AT_ONCE", scores)
        pd.testing.assert_frame_equal(bayesian.recommend(list(range(9)), 5, risk=0.3), whole, rtol=1e-6)


def test_risk_knows_time():
    rng = np.random.default_rng(0)
    frame = made_up()
    dated = hx.Ratings.from_columns(
        frame.user, frame.item, frame.stars, time=rng.integers(0, 300, len(frame)) * 86400
    )
    model = hx.BayesianMF(factors=3, epochs=12, burn_in=2, draws=4, fields=("user", "item", "time")).fit(
        dated
    )
    assert model.time is not None
    got = model.recommend(3, 8, risk=0.3, exclude_seen=False)
    assert got.item.tolist() == naive.recommended(ranked_by(model, 3, 0.3), 8)


@pytest.mark.parametrize("risk", [0, 1, -0.1, 1.5, True, "0.1"])
def test_risk_is_a_share(bayesian, risk):
    with pytest.raises(hx.HatrixError, match="between 0 and 1"):
        bayesian.recommend(3, risk=risk)


def test_risk_needs_a_posterior(model):
    with pytest.raises(hx.HatrixError, match=r"posterior.*biased-mf"):
        model.recommend(3, risk=0.1)


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", True, None])
def test_n_is_a_whole_number(model, n):
    with pytest.raises(hx.HatrixError, match=r"n is .*from 1 up"):
        model.recommend(3, n)


def test_a_model_without_its_training_rows_says_so(model, tmp_path):
    model.save(tmp_path / "m.hatrix", seen=False)
    bare = hx.load(tmp_path / "m.hatrix")
    with pytest.raises(hx.HatrixError, match="exclude_seen=False"):
        bare.recommend(3)
    pd.testing.assert_frame_equal(
        bare.recommend(3, exclude_seen=False), model.recommend(3, exclude_seen=False), check_exact=True
    )


def test_saving_changes_no_answer(model, tmp_path):
    model.save(tmp_path / "m.hatrix")
    loaded = hx.load(tmp_path / "m.hatrix")
    pd.testing.assert_frame_equal(loaded.recommend(list(range(9))), model.recommend(list(range(9))))


def test_no_users_no_rows(model):
    assert list(model.recommend([]).columns) == ["user", "item", "score", "title", "year", "genres"]
    assert len(model.recommend([])) == 0


def test_an_order_preserving_relabelling_changes_no_list(ratings):
    frame = made_up()
    renamed = frame.assign(user=[f"u{x:03}" for x in frame.user], item=[f"i{x:03}" for x in frame.item])
    for name in ("als", "bias", "spectral-mf"):
        recipe = algorithm(name)(**SMALL[name])
        one, two = recipe.fit(ratings), recipe.fit(as_ratings(renamed))
        a, b = one.recommend(one.users.labels[:9], 7), two.recommend(two.users.labels[:9], 7)
        assert [f"i{x:03}" for x in a.item] == b.item.tolist()
        np.testing.assert_array_equal(a.score, b.score)


def test_a_permutation_of_rows_changes_no_list(model):
    """Users and items in another order: the same labels with the same scores."""
    rng = np.random.default_rng(1)
    users, items = rng.permutation(USERS), rng.permutation(ITEMS)
    item_of = np.argsort(items)
    start, item, value = model.seen
    parts = [slice(start[user], start[user + 1]) for user in users]
    moved = replace(
        model,
        user_factors=model.user_factors[users],
        user_bias=model.user_bias[users],
        user_count=model.user_count[users],
        item_factors=model.item_factors[items],
        item_bias=model.item_bias[items],
        item_count=model.item_count[items],
        item_table=model.item_table.iloc[items].reset_index(drop=True),
        seen=type(model.seen)(
            np.append(0, np.cumsum(np.diff(start)[users])),
            item_of[np.concatenate([item[part] for part in parts])].astype(np.int32),
            np.concatenate([value[part] for part in parts]),
        ),
    )
    for place, user in enumerate(users[:9]):
        a, b = model.recommend(int(user), 6), moved.recommend(place, 6)
        assert a.title.tolist() == b.title.tolist()
        np.testing.assert_allclose(a.score, b.score, rtol=1e-12)


def test_users_whose_labels_are_no_unicode_text_are_unknown():
    model = hx.Bias().fit(hx.Ratings.from_columns(["ann", "bob"], ["x", "y"], [1.0, 2.0]), progress=False)
    lists = model.recommend(["caf\udce9", "ann"], n=1)
    assert lists["user"].tolist() == ["caf\udce9", "ann"]
    assert lists.attrs["fallback"]["caf\udce9"] == "bias"
