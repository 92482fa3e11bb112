"""`hatrix update` and `hatrix forget` as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from command import Outcome, refused
from hatrix.app.store import Store
from hatrix.app.update import _with_ids
from hatrix.models.update import training_ratings


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of integer ids, with and without training rows, and of text ids."""
    folder = tmp_path_factory.mktemp("fitted")
    ratings = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    hx.ALS(factors=4, epochs=5).fit(ratings, seed=0).save(folder / "m.hatrix")
    hx.ALS(factors=4, epochs=5).fit(ratings, seed=0).save(folder / "bare.hatrix", seen=False)
    texts = hx.Ratings.from_columns(
        [f"u{u}" if u % 2 else str(u) for u in ratings.user], ratings.item + 1, ratings.value
    )
    hx.BiasedMF(factors=4, epochs=3).fit(texts, seed=0).save(folder / "t.hatrix")
    return folder


@pytest.fixture(autouse=True)
def folder(fitted: Path, tmp_path: Path) -> Path:
    """Copies of the models, and new ratings."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    (tmp_path / "new.csv").write_text("user,item,rating\n1,3,5\n1,99,4\n777,3,2\n777,4,4\n")
    return tmp_path


def test_new_ratings_enter(hatrix, folder):
    done = hatrix("update", "m.hatrix", "--ratings", "new.csv", "--out", "next.hatrix")
    assert done.status == 0, done.err
    assert "4 ratings, 1 new users and 1 new items" in done.out
    assert "0.4% as many ratings" in done.err
    old, new = hx.load(folder / "m.hatrix"), hx.load(folder / "next.hatrix")
    assert len(new.users) == len(old.users) + 1
    assert np.isfinite(new.predict(777, 99))
    assert 99 not in new.recommend(1, 40)["item"].tolist()


def test_in_place_and_for_machines(hatrix, folder):
    done = hatrix("update", "m.hatrix", "--ratings", "new.csv", "--out", "m.hatrix", "--json")
    facts = json.loads(done.out)
    assert (facts["n_new"], facts["new_users"], facts["new_items"]) == (4, 1, 1)
    assert facts["drift"]["added"] == 4
    assert facts["drift"]["due"] is None
    done = hatrix("update", "m.hatrix", "--ratings", "new.csv", "--out", "m.hatrix", "--json")
    assert json.loads(done.out)["drift"]["added"] == 8
    assert hx.load(folder / "m.hatrix").drift.added == 8


def test_numbers_for_a_model_of_texts(hatrix, folder):
    done = hatrix("update", "t.hatrix", "--ratings", "new.csv", "--out", "next.hatrix")
    assert done.status == 0, done.err
    assert hx.load(folder / "next.hatrix").users.encode(["777"])[0] >= 0


def test_lines_of_tables_follow_their_ids_into_texts():
    numbers = replace(
        hx.Ratings.from_columns([9, 10, 9], [2, 11, 100], [1.0, 2.0, 3.0]),
        item_table=pd.DataFrame({"title": ["two", "eleven", "hundred"]}),
    )
    texts = hx.Bias().fit(hx.Ratings.from_columns(["9", "x"], ["2", "y"], [1.0, 2.0]), progress=False)
    found = _with_ids(texts, numbers)
    assert found.items.labels.tolist() == ["100", "11", "2"]
    assert found.item_table["title"].tolist() == ["hundred", "eleven", "two"]
    assert found.user_table is None


def test_when_a_fit_is_due_it_is_said(hatrix, folder):
    lines = [f"{user},{item},{1 + (user + item) % 5}" for user in range(1, 41) for item in (1, 5, 9, 13, 17)]
    (folder / "many.csv").write_text("\n".join(["user,item,rating", *lines]))
    done = hatrix("update", "m.hatrix", "--ratings", "many.csv", "--out", "next.hatrix")
    assert "fit again with all of them" in done.err
    assert "without a model" in done.err


def test_what_is_wrong_is_said(hatrix, folder):
    refused(
        hatrix("update", "bare.hatrix", "--ratings", "new.csv", "--out", "x.hatrix"),
        "without its training rows",
    )
    refused(hatrix("update", "m.hatrix", "--ratings", "new.csv", "--out", "new.csv"), "is what is read")
    refused(hatrix("update", "m.hatrix", "--ratings", "none.csv", "--out", "x.hatrix"), "none.csv")
    (folder / "wide.csv").write_text("user,item,rating\n1,3,50\n")
    refused(hatrix("update", "m.hatrix", "--ratings", "wide.csv", "--out", "x.hatrix"), "fit again")
    (folder / "text.csv").write_text("user,item,rating\nann,3,5\n")
    refused(
        hatrix("update", "m.hatrix", "--ratings", "text.csv", "--out", "x.hatrix"),
        "the user id 'ann'",
        "are integers",
    )
    refused(hatrix("update", "m.hatrix", "--out", "x.hatrix"), "either --ratings FILE or --store URL")
    refused(
        hatrix("update", "m.hatrix", "--ratings", "new.csv", "--store", "f.db", "--out", "x.hatrix"),
        "either --ratings FILE or --store URL",
    )
    refused(hatrix("forget", "m.hatrix", "--user", "4711", "--out", "x.hatrix"), "unknown to the model")
    refused(hatrix("forget", "m.hatrix", "--user", "ann", "--out", "x.hatrix"), "whole numbers")
    refused(
        hatrix("forget", "bare.hatrix", "--user", "1", "--refit", "--out", "x.hatrix"),
        "without its training rows",
    )
    assert not (folder / "x.hatrix").exists()


def test_feedback_enters_once(hatrix, folder, store_url):
    with Store.open(store_url, users="int", items="int") as store:
        store.add(1, [(3, 5.0, None), (99, 4.0, None), (3, 2.0, None)])
        store.add(777, [(4, 4.5, 1_700_000_000)])
        store.delete(2)
        store.delete(4711)
        store.add(5, [(3, 99.0, None)])
        assert hx.load(folder / "m.hatrix").merged == {}
        done = hatrix("update", "m.hatrix", "--store", store_url, "--out", "m.hatrix", "--json")
        assert done.status == 0, done.err
        assert "warning: 1 ratings of the store left out: they are outside the model's scale" in done.err
        facts = json.loads(done.out)
        named = ("n_new", "new_users", "new_items", "forgotten", "left_out", "changes")
        assert [facts[name] for name in named] == [3, 1, 1, 1, 1, 7]
        assert facts["merged"] == {store.identity: 7}
        merged = hx.load(folder / "m.hatrix")
        assert merged.merged == facts["merged"]
        assert merged.users.encode([2, 4711]).tolist() == [-1, -1]
        rows = training_ratings(merged).to_frame().set_index(["user", "item"]).rating
        assert (rows[1, 3], rows[1, 99], rows[777, 4]) == (2.0, 4.0, 4.5)
        assert merged.drift.added == 3
        content = (folder / "m.hatrix").read_bytes()
        for out in ("m.hatrix", "copy.hatrix"):
            done = hatrix("update", "m.hatrix", "--store", store_url, "--out", out)
            assert done.status == 0
            assert "nothing changed" in done.err
            assert "0 ratings, 0 new users and 0 new items in" in done.out
            assert (folder / out).read_bytes() == content
        store.add(2, [(3, 1.0, None)])
        done = hatrix("update", "m.hatrix", "--store", store_url, "--out", "m.hatrix", "--json")
        facts = json.loads(done.out)
        assert [facts[name] for name in named] == [1, 1, 0, 0, 0, 1]
        assert hx.load(folder / "m.hatrix").drift.added == 4


def test_a_deletion_alone_needs_no_training_rows(hatrix, folder):
    with Store.open("f.db", users="int", items="int") as store:
        store.delete(1)
        done = hatrix("update", "bare.hatrix", "--store", "f.db", "--out", "left.hatrix")
        assert "1 users forgotten" in done.out
        assert hx.load(folder / "left.hatrix").seen is None
        store.add(3, [(3, 1.0, None)])
    refused(
        hatrix("update", "left.hatrix", "--store", "f.db", "--out", "x.hatrix"), "without its training rows"
    )


def test_a_model_trained_anew_takes_all_of_the_store_again(hatrix):
    with Store.open("f.db", users="int", items="int") as store:
        store.add(1, [(3, 5.0, None)])
        store.delete(2)
        for _ in range(2):
            facts = json.loads(
                hatrix("update", "m.hatrix", "--store", "f.db", "--out", "n.hatrix", "--json").out
            )
            assert (facts["changes"], facts["forgotten"], facts["merged"]) == (2, 1, {store.identity: 2})


def test_a_store_that_does_not_do_is_said(hatrix, folder):
    def update(store: str, out: str = "x.hatrix") -> Outcome:
        return hatrix("update", "m.hatrix", "--store", store, "--out", out)

    Store.open("texts.db", users="str", items="int").close()
    refused(update("texts.db"), "user ids of the feedback store", "are text")
    refused(update("typo.db"), "there is no feedback store", "typo.db")
    assert not list(folder.glob("typo.db*"))
    refused(update("new.csv"), "new.csv: file is not a database")
    refused(update("none/f.db"), "there is no folder")
    refused(
        update("postgresql://me:secret@127.0.0.1:1/x"),
        "postgresql://127.0.0.1:1/x",
        "see that the server runs",
    )
    refused(update("oracle://x"), "cannot be oracle")
    Store.open("f.db", users="int", items="int").close()
    for url in ("f.db", f"sqlite:///{folder}/f.db"):
        refused(update(url, out="f.db"), "is what is read")
    assert not (folder / "x.hatrix").exists()


@pytest.mark.campaign
def test_an_update_that_is_killed_leaves_the_old_model_or_the_new(folder):
    with Store.open(str(folder / "f.db"), users="int", items="int") as store:
        store.add(1, [(3, 5.0, None)])
        store.delete(2)
        command = [
            sys.executable,
            "-m",
            "hatrix",
            "update",
            "m.hatrix",
            "--store",
            "f.db",
            "--out",
            "m.hatrix",
        ]
        old = (folder / "m.hatrix").read_bytes()
        started = time.monotonic()
        subprocess.run([*command[:-1], "new.hatrix"], cwd=folder, check=True, capture_output=True)
        whole = time.monotonic() - started
        new = (folder / "new.hatrix").read_bytes()
        for share in (0.5, 0.7, 0.85, 1.0):
            child = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(share * whole)
            child.kill()
            child.wait()
            assert (folder / "m.hatrix").read_bytes() in (old, new)
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert (folder / "m.hatrix").read_bytes() == new
        assert store.position() == 2


@pytest.mark.parametrize("refit", [(), ("--refit",)])
def test_users_leave(hatrix, folder, refit):
    done = hatrix("forget", "m.hatrix", "--user", "1", "2", "--out", "left.hatrix", *refit, "--json")
    assert json.loads(done.out)["forgotten"] == 2
    left = hx.load(folder / "left.hatrix")
    assert (left.users.encode([1, 2]) == -1).all()
    assert left.recommend(1, 3).attrs["fallback"] == {1: "bias"}
    done = hatrix("forget", "bare.hatrix", "--user", "1", "--out", "bare.hatrix")
    assert done.status == 0
    assert hx.load(folder / "bare.hatrix").seen is None


def test_the_items_of_all_who_leave_are_refitted(hatrix, folder):
    old = hx.load(folder / "t.hatrix")
    done = hatrix("forget", "t.hatrix", "--user", "u1", "u3", "--refit", "--out", "left.hatrix")
    assert done.status == 0, done.err
    left = hx.load(folder / "left.hatrix")
    for user in old.users.encode(["u1", "u3"]):
        theirs = old.seen.item[old.seen.of(user)]
        assert (left.item_factors[theirs] != old.item_factors[theirs]).any(axis=1).all()
