"""`--memory`, sources of several files, and `hatrix data expand`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import hatrix as hx
from command import refused
from control_group import control_group, entering

ROWS = 10_000_000
LIMIT = 500_000_000


@pytest.fixture
def source(tmp_path):
    """A file of ratings, and the same in parts."""
    ratings, _ = hx.synthetic.make(60, 40, n_ratings=900, seed=1)
    frame = ratings.to_frame()
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    frame[:500].to_csv(tmp_path / "part-1.csv", index=False)
    frame[500:].to_csv(tmp_path / "part-2.csv", index=False)
    return tmp_path / "ratings.csv"


FIT = ("biased-mf", "--factors", "4", "--epochs", "2", "-q")


def test_fit_on_disk_is_fit_in_memory(hatrix, source, tmp_path):
    assert hatrix("fit", source, *FIT, "--out", "a.hatrix").status == 0
    assert hatrix("fit", source, *FIT, "--out", "b.hatrix", "--memory", "3GB").status == 0
    one, other = hx.load(tmp_path / "a.hatrix"), hx.load(tmp_path / "b.hatrix")
    assert one.fingerprint == other.fingerprint
    assert one.user_factors.tobytes() == other.user_factors.tobytes()
    assert not list(tmp_path.glob(".*"))


def test_the_default_of_fit_trains_on_disk(hatrix, source, tmp_path):
    """The lists are those of ImplicitALS there: a blend needs all ratings in memory."""
    assert hatrix("fit", source, "-q", "--out", "m.hatrix", "--memory", "3GB").status == 0
    model, ratings = hx.load(tmp_path / "m.hatrix"), hx.read(source)
    assert (model.recipe.name, model.recipe.lists.name) == ("recommender", "implicit-als")
    for part in (model.list_model, model.rating_model):
        alone = part.recipe.fit(ratings, progress=False)
        assert part.user_factors.tobytes() == alone.user_factors.tobytes()
    assert not list(tmp_path.glob(".*"))


def test_what_was_read_is_used_by_the_next_run(hatrix, source, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hatrix.app.commands.train", broken)
        assert hatrix("fit", source, *FIT, "--out", "m.hatrix", "--memory", "3GB").status == 130
    assert (tmp_path / ".m.hatrix.reading" / "user").exists()
    with monkeypatch.context() as patch:
        patch.setattr("hatrix.data.read.store", lambda *_, **__: pytest.fail("read again"))
        assert hatrix("fit", source, *FIT, "--out", "m.hatrix", "--memory", "3GB").status == 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("source")
def test_evaluate_on_disk_says_the_same(hatrix):
    hatrix("fit", "part-1.csv", *FIT, "--out", "m.hatrix")
    plain = hatrix("evaluate", "m.hatrix", "part-2.csv", "--json")
    assert plain.status == 0
    assert hatrix("evaluate", "m.hatrix", "part-2.csv", "--json", "--memory", "3GB").out == plain.out


def test_several_files(hatrix, source, tmp_path):
    assert hatrix("fit", "part-?.csv", "bias", "--out", "m.hatrix").status == 0
    assert hatrix("fit", source, "bias", "--out", "n.hatrix").status == 0
    assert hx.load(tmp_path / "m.hatrix").fingerprint == hx.load(tmp_path / "n.hatrix").fingerprint
    refused(hatrix("fit", "nothing-?.csv", "bias", "--out", "m.hatrix"), "no file that matches nothing-?.csv")
    refused(hatrix("fit", "part-?.csv", "bias", "--out", "part-1.csv"), "part-1.csv is what is read")


def test_refusals_before_any_reading(hatrix, source, monkeypatch):
    monkeypatch.setattr("hatrix.data.read.read", lambda *_, **__: pytest.fail("read"))
    refused(
        hatrix("fit", source, "svdpp", "--out", "m.hatrix", "--memory", "1GB"),
        "--memory: svdpp needs all ratings in memory",
        "one of mf, biased-mf, als, implicit-als",
    )
    refused(hatrix("fit", source, *FIT, "--out", "m.hatrix", "--memory", "lots"), "memory is 'lots'", "2GB")
    refused(
        hatrix("fit", "ml-100k", *FIT, "--out", "m.hatrix", "--memory", "1GB"),
        "--memory says how to read a file",
    )
    refused(hatrix("run", source, "--out", "run", "--memory", "1GB"), "--memory")


def test_too_little(hatrix, source, tmp_path):
    outcome = hatrix("fit", source, *FIT, "--out", "m.hatrix", "--memory", "1MB")
    refused(outcome, "MB allowed, which leaves no room to work: allow at least")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-1.csv", "part-2.csv", "ratings.csv"]


class TestExpand:
    def test_a_file_like_the_function_makes(self, hatrix, source, tmp_path):
        outcome = hatrix(
            "data", "expand", source, "--users", "5", "--items", "2", "--out", "new/big.parquet", "--json"
        )
        facts = json.loads(outcome.out)
        assert (facts["rows"], facts["users"], facts["items"]) == (4500, 300, 80)
        large = hx.synthetic.expand(hx.read(source), user_copies=5, item_copies=2)
        frame = pd.read_parquet(tmp_path / "new" / "big.parquet")
        pd.testing.assert_frame_equal(frame, large.to_frame(), check_dtype=False)
        assert "4,500 ratings" in hatrix("data", "expand", source, "--users", "5", "--out", "big.parquet").out

    def test_mistakes(self, hatrix, source):
        expand = ("data", "expand", source)
        refused(hatrix(*expand, "--out", "big.csv"), "big.csv ends on '.csv': end it on .parquet")
        refused(hatrix(*expand, "--out", "b.parquet", "--users", "0"), "from 1 up")
        refused(hatrix(*expand, "--out", source), "is what is read")
        refused(hatrix(*expand), "--out is missing")


@pytest.mark.campaign
@pytest.mark.parametrize("algorithm", ["biased-mf", "implicit-als"])
def test_the_kernel_allows_no_more_than_was_said(algorithm, source, large, tmp_path):
    """10 million ratings take 160 MB on disk and 300 more in training; in memory the same command is killed."""
    flags = [algorithm, "--factors", "16", "--epochs", "1", "-q"]
    # Compiling takes memory, too: done before.
    small = "fit", str(source), *flags, "--memory", "2GB", "--out", str(tmp_path / "small.hatrix")
    assert run(*small).returncode == 0
    fit = ["fit", str(large), *flags, "--out", str(tmp_path / "large.hatrix")]
    with control_group(LIMIT) as group:
        done = run(*fit, "--memory", f"{LIMIT / 1e6:g}MB", group=group)
        assert done.returncode == 0, done.stderr
        model = hx.load(tmp_path / "large.hatrix")
        assert int(model.user_count.sum()) == len(model.seen.item) == ROWS
        if algorithm == "biased-mf":
            assert run(*fit, group=group).returncode == -9


def run(*arguments: str, group: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatrix", *arguments]
    return subprocess.run(
        command if group is None else entering(group, command),
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    import duckdb

    path = tmp_path_factory.mktemp("large") / "large.parquet"
    duckdb.sql(
        f"""COPY (SELECT (i * 7919 % 99991)::INTEGER AS "user", (i * 104729 % 20011)::INTEGER AS item, 1 + i % 5 AS rating
        FROM range({ROWS}) rows(i)) TO '{path}'"""
    )
    return path
