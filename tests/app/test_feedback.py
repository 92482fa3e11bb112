"""What has come since a model was trained: in memory, and into the model."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.app import feedback as feedback_module
from hatrix.app.feedback import Feedback, OfUser
from hatrix.app.store import Store
from hatrix.errors import DataError, StoreError
from hatrix.models.update import training_ratings


def trained(recipe=None, users="str") -> hx.FactorModel:
    """Users a to f on items 0 to 5."""
    chance = np.random.default_rng(1)
    pairs = [(user, item) for user in "abcdef" for item in range(6) if chance.random() < 0.6]
    labels = [user if users == "str" else ord(user) for user, _ in pairs]
    values = chance.integers(1, 6, len(pairs)).astype(float)
    ratings = hx.Ratings.from_columns(labels, [item for _, item in pairs], values, scale=(1, 5))
    if recipe is not None and recipe.task == "ranking":
        ratings = hx.Ratings.from_columns(labels, [item for _, item in pairs])
    return (recipe or hx.Bias()).fit(ratings, progress=False)


def rows_of(model) -> dict[str, dict[int, float]]:
    """The training rows of each user that has any."""
    rows: dict[str, dict[int, float]] = {}
    for user, item, value in training_ratings(model).to_frame().itertuples(index=False):
        rows.setdefault(user, {})[item] = value
    return rows


@pytest.fixture
def store(store_url):
    with Store.open(store_url, users="str", items="int") as made:
        yield made


@pytest.fixture
def quick_store(tmp_path):
    with Store.open(str(tmp_path / "f.db"), users="str", items="int") as made:
        yield made


def test_writes_count_at_once_whoever_made_them(store, store_url):
    model = trained()
    feedback = Feedback(store, model)
    assert (feedback.of("a"), feedback.get("a"), feedback.deleted("a")) == (None, None, False)
    assert feedback.add("a", [(0, 1.0, None), (77, 5.0, 9)]) == feedback.position == 2
    assert feedback.of("a") == {0: 1.0, 77: 5.0}
    assert feedback.with_training("a") == rows_of(model)["a"] | {0: 1.0, 77: 5.0}
    assert feedback.with_training("b") == rows_of(model)["b"]
    with Store.open(store_url, users="str", items="int") as other:
        other.add("a", [(77, 2.0, None)])
        other.delete("b")
        assert feedback.of("a") == {0: 1.0, 77: 5.0}
        assert feedback.refresh()
        assert not feedback.refresh()
        assert feedback.of("a") == {0: 1.0, 77: 2.0}
        assert feedback.get("b") == OfUser(True, {})
        assert (feedback.of("b"), feedback.deleted("b"), feedback.with_training("b")) == (None, True, {})
        other.add("b", [(1, 3.0, None)])
        feedback.refresh()
        assert (feedback.of("b"), feedback.deleted("b")) == ({1: 3.0}, True)
        assert feedback.with_training("b") == {1: 3.0}
    assert feedback.delete("a") == feedback.position == 6
    assert feedback.get("a") == OfUser(True, {})
    assert sorted(feedback.deletions) == ["a", "b"]


def test_numbers_of_users_of_texts(quick_store):
    feedback = Feedback(quick_store, trained())
    feedback.add(7, [(1, 2.0, None)])
    assert feedback.of(7) == feedback.of("7") == {1: 2.0}


def test_what_no_update_would_take_is_left_out(quick_store):
    feedback = Feedback(quick_store, trained())
    feedback.add("a", [(0, 5.5, None), (1, 5.0, None), (2, 0.0, None)])
    assert (feedback.of("a"), feedback.left_out) == ({1: 5.0}, 2)
    feedback = Feedback(quick_store, trained(hx.ImplicitALS(factors=2, epochs=2)))
    assert (feedback.of("a"), feedback.left_out) == ({0: 5.5, 1: 5.0}, 1)


def test_counts_add_up(quick_store):
    model = trained(hx.ImplicitALS(factors=2, epochs=2))
    feedback = Feedback(quick_store, model)
    item = next(iter(rows_of(model)["a"]))
    feedback.add("a", [(item, 1.0, None), (item, 2.0, None), (99, 1.0, None)])
    feedback.add("a", [(99, 1.0, None)])
    assert feedback.of("a") == {item: 3.0, 99: 2.0}
    assert feedback.with_training("a")[item] == 4.0
    assert rows_of(feedback.merge())["a"] == feedback.with_training("a")


def test_a_store_and_a_model_that_do_not_fit(quick_store):
    with pytest.raises(
        StoreError, match=r"user ids of the feedback store .* are text, those of the model whole numbers"
    ):
        Feedback(quick_store, trained(users="int"))
    quick_store.add("a", [(0, 1.0, None)])
    with pytest.raises(
        StoreError, match=r"ends with change 1, and the model has taken in 2: it was set back"
    ):
        Feedback(quick_store, replace(trained(), merged={quick_store.identity: 2}))


def test_a_store_that_fails_is_not_asked_again_for_a_while(quick_store, monkeypatch):
    feedback = Feedback(quick_store, trained())
    feedback.add("a", [(0, 1.0, None)])
    asked = 0

    def position() -> int:
        nonlocal asked
        asked += 1
        raise StoreError("it is gone")

    now = 1000.0
    monkeypatch.setattr(feedback_module.time, "monotonic", lambda: now)
    monkeypatch.setattr(quick_store, "position", position)
    for _ in range(5):
        with pytest.raises(StoreError, match="it is gone"):
            feedback.refresh()
    assert asked == 1
    assert feedback.of("a") == {0: 1.0}
    now += feedback_module.PAUSE
    with pytest.raises(StoreError, match="it is gone"):
        feedback.refresh()
    assert asked == 2
    monkeypatch.undo()
    quick_store.add("a", [(1, 2.0, None)])
    feedback._failed = None
    assert feedback.refresh()
    assert feedback.of("a") == {0: 1.0, 1: 2.0}


def test_what_is_stored_is_acknowledged_though_it_cannot_be_read(quick_store, monkeypatch):
    feedback = Feedback(quick_store, trained())

    def fail(*_: object) -> None:
        raise StoreError("it is gone")

    monkeypatch.setattr(quick_store, "position", fail)
    with pytest.raises(StoreError, match="it is gone"):
        feedback.refresh()
    monkeypatch.undo()  # the store is back within the pause
    assert feedback.add("a", [(0, 1.0, None)]) == 1
    assert feedback.of("a") == {0: 1.0}
    monkeypatch.setattr(quick_store, "position", fail)
    monkeypatch.setattr(quick_store._database, "scrub", fail)
    assert (feedback.add("a", [(1, 2.0, None)]), feedback.delete("b")) == (2, 3)
    monkeypatch.undo()
    assert [change.user for change in quick_store.changes(0)] == ["a", "a", "b"]


def test_a_user_is_never_seen_half_changed(quick_store):
    """Every add gives both items one value, and a delete takes both."""
    feedback, stop = Feedback(quick_store, trained()), threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            feedback.refresh()
            found = (feedback.get("z") or OfUser(False, {})).ratings
            if len(found) not in (0, 2) or len({*found.values()}) > 1:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(60):
        if turn % 7 == 6:
            quick_store.delete("z")
        value = float(1 + turn % 5)
        quick_store.add("z", [(0, value, None), (1, value, None)])
    stop.set()
    for reader in readers:
        reader.join()
    feedback.refresh()
    assert not wrong
    assert feedback.get("z") == OfUser(True, {0: 5.0, 1: 5.0})


# What merging comes to, against plain dicts.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abgh"), st.integers(0, 7), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.sampled_from("abgh")),
        st.tuples(st.just("merge")),
        st.tuples(st.just("swap")),
    ),
    max_size=14,
)


@pytest.mark.parametrize(
    "recipe", [hx.Bias(), hx.ImplicitALS(factors=2, epochs=2)], ids=["ratings", "counts"]
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whenever_it_is_merged_all_counts_once(quick_store, recipe, steps):
    start = quick_store.position()
    base = trained(recipe)
    model = base if start == 0 else replace(base, merged={quick_store.identity: start})
    truth = rows_of(model)
    feedback = Feedback(quick_store, model)
    for step, *what in steps:
        if step == "add":
            user, item, value = what
            feedback.add(user, [(item, value, None)])
            theirs = truth.setdefault(user, {})
            theirs[item] = value if model.scale else value + theirs.get(item, 0)
        elif step == "delete":
            feedback.delete(what[0])
            truth.pop(what[0], None)
        elif step == "merge":
            model = feedback.merge()
            assert rows_of(model) == truth
            again = Feedback(quick_store, model)
            assert again.merge() is model
        else:
            feedback = Feedback(quick_store, model)
        for user in "abcgh":
            assert feedback.with_training(user) == truth.get(user, {})
    merged = Feedback(quick_store, model).merge()
    assert rows_of(merged) == truth
    assert merged.merged.get(quick_store.identity, 0) == quick_store.position()


def test_who_is_deleted_is_in_no_part_of_the_model(store):
    model = trained(hx.ALS(factors=2, epochs=3))
    feedback = Feedback(store, model)
    feedback.delete("a")
    feedback.delete("never there")
    left = feedback.merge()
    assert left.users.labels.tolist() == list("bcdef")
    assert left.merged == {store.identity: 2}
    assert rows_of(left) == {user: rows for user, rows in rows_of(model).items() if user != "a"}
    np.testing.assert_array_equal(left.predict(list("bcd"), 3), model.predict(list("bcd"), 3))
    other = replace(left, merged={**left.merged, "another store": 9})
    Feedback(store, left).add("a", [(3, 4.0, None)])
    again = Feedback(store, other).merge()
    assert rows_of(again)["a"] == {3: 4.0}
    assert again.merged == {store.identity: 3, "another store": 9}


def test_all_users_deleted(quick_store):
    feedback = Feedback(quick_store, trained())
    for user in "abcdef":
        feedback.delete(user)
    with pytest.raises(DataError, match="no user of the model would be left"):
        feedback.merge()
