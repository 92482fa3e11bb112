"""Lists of every user: the same as one by one, in files that are whole or not there."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.models import recommend_all
from hatrix.models.recommend import TopN


@pytest.fixture(scope="module")
def model() -> hx.FactorModel:
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, [60, 40], (900, 2))
    ratings = hx.Ratings.from_columns(pairs[:, 0], pairs[:, 1], rng.integers(1, 6, 900))
    ratings = replace(ratings, item_table=pd.DataFrame({"year": np.arange(len(ratings.items)) + 1980}))
    return hx.BiasedMF(factors=5, epochs=3).fit(ratings.take(ratings.user != 7))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend_all, "MOST_USERS", 16)


def read(path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


OPTIONS = [
    {},
    {"n": 60},
    {"exclude_seen": False, "n": 3},
    {"among": [1, 2, 3, 4, 30], "n": 4},
    {"where": "year > 1990", "exclude": [20, 21]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("ending", [None, ".csv", ".parquet"])
def test_all_lists_are_those_of_each_user(model, options, ending, tmp_path):
    users = model.users.labels.tolist()
    want = model.recommend(users, **options)
    path = None if ending is None else tmp_path / f"lists{ending}"
    got = model.recommend_all(path=path, **options)
    short = want.attrs["short"]
    if path is None:
        assert got.attrs["short_lists"] == len(short)
        assert got.attrs["fallback_lists"] == {"bias": 1}
        frame = got
    else:
        assert (got.users, got.rows, got.short) == (60, len(want), len(short))
        assert (got.fallback, got.resumed, got.path) == ({"bias": 1}, 0, path)
        assert os.listdir(tmp_path) == [path.name]
        frame = read(path)
    assert list(frame.columns) == ["user", "item", "score", "basis"]
    for column in ("user", "item"):
        assert frame[column].tolist() == want[column].tolist()
    np.testing.assert_allclose(frame.score, want.score, rtol=1e-15)
    assert set(frame.user[frame.basis == "bias"]) == {7}


def test_threads_change_nothing(model):
    one, three = (model.recommend_all(threads=threads) for threads in (1, 3))
    pd.testing.assert_frame_equal(one, three, check_exact=True)


def test_text_ids(tmp_path):
    users, items = ["x,1", "ann", "ann", 'b"ob'], ["007", "1", "007", "ü"]
    model = hx.Popular().fit(hx.Ratings.from_columns(users, items))
    model.recommend_all(2, tmp_path / "a.csv")
    model.recommend_all(2, tmp_path / "a.parquet")
    read_back = pd.read_csv(tmp_path / "a.csv", dtype={"item": str})
    for frame in (read_back, read(tmp_path / "a.parquet")):
        assert set(frame.user) == set(users)
        assert frame.item[frame.user == "ann"].tolist() == ["ü"]


def test_a_run_that_broke_off_goes_on(model, tmp_path, monkeypatch):
    path = tmp_path / "lists.parquet"
    lists, calls = TopN.lists, []

    def breaks(self, rows):
        calls.append(rows[0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return lists(self, rows)

    monkeypatch.setattr(TopN, "lists", breaks)
    with pytest.raises(KeyboardInterrupt):
        model.recommend_all(path=path)
    assert not path.exists()
    assert os.listdir(tmp_path) == [".lists.parquet.partial"]
    got = model.recommend_all(path=path)
    assert calls == [0, 16, 32, 32, 48]
    assert got.resumed == 32
    assert got == replace(model_of_nothing_kept(model, tmp_path), path=path, resumed=32)
    assert os.listdir(tmp_path) == [path.name]
    pd.testing.assert_frame_equal(read(path), model.recommend_all().astype({"basis": "str"}))


def test_a_run_that_was_killed_leaves_nothing_but_its_folder(model, tmp_path, monkeypatch):
    places, replaced = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (places.append(a.parent), replaced(a, b)))
    model.recommend_all(path=tmp_path / "lists.csv")
    assert set(places) == {tmp_path / ".lists.csv.partial"}


def model_of_nothing_kept(model, tmp_path):
    other = tmp_path / "other.parquet"
    done = model.recommend_all(path=other)
    other.unlink()
    return done


@pytest.mark.parametrize("change", ["n", "model", "damaged"])
def test_blocks_of_another_run_are_not_used(model, tmp_path, monkeypatch, change):
    path = tmp_path / "lists.csv"
    copy = recommend_all._copy

    def breaks(connection, query, target, how, **frame):
        if target == path:
            raise KeyboardInterrupt
        copy(connection, query, target, how, **frame)

    monkeypatch.setattr(recommend_all, "_copy", breaks)
    with pytest.raises(KeyboardInterrupt):
        model.recommend_all(5, path)
    monkeypatch.undo()
    monkeypatch.setattr(recommend_all, "MOST_USERS", 16)
    other, n = model, 5
    if change == "n":
        n = 4
    elif change == "model":
        other = replace(model, item_bias=model.item_bias + np.arange(len(model.items), dtype=np.float32))
    else:
        (tmp_path / ".lists.csv.partial" / "run.json").write_text("[")
    done = other.recommend_all(n, path)
    assert done.resumed == 0
    assert read(path).item.tolist() == other.recommend_all(n)["item"].tolist()


WRITING = """
import sys, time
import hatrix as hx
from hatrix.models import recommend_all
recommend_all.MOST_USERS = 16
block = recommend_all._block
def slow(recommender, first, last, tally):
    if first == 32:
        print("ready", flush=True)
        time.sleep(600)
    return block(recommender, first, last, tally)
recommend_all._block = slow
hx.load(sys.argv[1]).recommend_all(5, sys.argv[2], progress=False)
"""


def test_two_processes_never_mix_their_lists(model, tmp_path):
    other = replace(model, item_bias=model.item_bias + np.arange(len(model.items), dtype=np.float32))
    other.save(tmp_path / "other.hatrix")
    path = tmp_path / "lists.parquet"
    arguments = [sys.executable, "-c", WRITING, tmp_path / "other.hatrix", path]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout.readline() == "ready\n"
        said = rf"lists.parquet: another process \(number {running.pid}\) writes here now: wait for it"
        with pytest.raises(hx.HatrixError, match=said):
            model.recommend_all(5, path, progress=False)
        model.recommend_all(5, tmp_path / "elsewhere.parquet", progress=False)
    finally:
        running.kill()
        running.communicate()
    assert not path.exists()
    done = model.recommend_all(5, path, progress=False)
    assert done.resumed == 0
    assert read(path).item.tolist() == model.recommend_all(5)["item"].tolist()
    assert sorted(os.listdir(tmp_path)) == ["elsewhere.parquet", "lists.parquet", "other.hatrix"]


def test_where_files_cannot_be(model, tmp_path):
    with pytest.raises(hx.HatrixError, match=r"end it on \.parquet or \.csv"):
        model.recommend_all(path=tmp_path / "lists.json")
    with pytest.raises(hx.HatrixError, match="no folder"):
        model.recommend_all(path=tmp_path / "no" / "lists.csv")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(hx.HatrixError, match="is a folder"):
        model.recommend_all(path=tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(hx.HatrixError, match="not a file on disk"):
        model.recommend_all(path=tmp_path / "pipe.csv")
    with pytest.raises(hx.HatrixError, match="memory is '1MB'"):
        model.recommend_all(memory="1MB")
    for wrong in ("9" * 400, [1], None):
        with pytest.raises(hx.HatrixError, match="give a size such as"):
            model.recommend_all(memory=wrong)
    for wrong in (0, "all"):
        with pytest.raises(hx.HatrixError, match="threads is"):
            model.recommend_all(threads=wrong)
    with pytest.raises(hx.HatrixError, match="n is 0"):
        model.recommend_all(0)


def test_lists_longer_than_the_catalogue_are_made_many_at_a_time(model, monkeypatch):
    blocks, lists = [], TopN.lists
    monkeypatch.setattr(TopN, "lists", lambda self, rows: (blocks.append(len(rows)), lists(self, rows))[1])
    model.recommend_all(10**9)
    assert blocks == [16, 16, 16, 12]


def test_an_earlier_file_is_replaced(model, tmp_path):
    path = tmp_path / "it's.csv"
    path.write_text("old")
    model.recommend_all(2, path)
    assert len(read(path)) == 120


def test_blocks_hold_as_many_users_as_fit_with_their_training_rows(model, monkeypatch):
    monkeypatch.setattr(recommend_all, "MOST_USERS", 50)
    recommender = TopN.of(model, 10, exclude_seen=True)
    size = (
        np.diff(model.seen.start) * recommend_all.BYTES_PER_SEEN
        + 10 * recommend_all.BYTES_PER_ROW
        + 2 * 5 * 4
    )
    for budget in (1, 10_000, 10**9):
        ends = recommend_all._ends(recommender, budget)
        assert (ends[0], ends[-1]) == (0, 60)
        for first, last in itertools.pairwise(ends):
            assert last == first + 1 or size[first:last].sum() <= budget
            assert last == 60 or last - first == 50 or size[first : last + 1].sum() > budget
