"""`hatrix compare` and `hatrix tune` as a user meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hatrix as hx
from command import COLUMNS, refused


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """80 users, 40 films, in stars from 1 to 5."""
    rng = np.random.default_rng(1)
    taste, quality = rng.normal(0, 0.7, (2, 80)), rng.normal(0, 0.7, (2, 40))
    level = 3.3 + taste.T @ quality + quality[0]
    lines = [
        f"{u},{i},{min(5, max(1, round(level[u, i] + rng.normal(0, 0.3))))}"
        for u in range(80)
        for i in rng.permutation(40)[:30]
    ]
    path = tmp_path / "films.csv"
    path.write_text("\n".join(["who,film,stars", *lines]) + "\n")
    return path


# --------------------------------------------------------------------------------------------- compare


def test_compare_prints_a_table_and_writes_all_files(hatrix, films, tmp_path):
    done = hatrix(
        "compare", films, "biased-mf:factors=4,epochs=40", "mf", *COLUMNS, "--out", "out", "--seed", "3"
    )
    assert done.status == 0, done
    lines = done.out.splitlines()
    assert lines[0].split()[:1] == ["RMSE"]
    assert {line.split()[0] for line in lines[1:4]} == {"biased-mf:factors=4,epochs=40", "mf", "bias"}
    assert "beyond chance" in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv", "compare.html", "compare.json", "differences.csv",
    ]  # fmt: skip
    facts = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert facts["best"] == lines[1].split()[0]
    with open(tmp_path / "out" / "compare.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [row["model"] for row in facts["models"]]
    ratings = hx.read(films, user="who", item="film", rating="stars")
    split = hx.split.per_user(ratings, seed=3)
    alone = hx.evaluate(hx.BiasedMF(factors=4, epochs=40).fit(split.train, seed=3), split.test)
    assert {row["model"]: float(row["rmse"]) for row in rows}["biased-mf:factors=4,epochs=40"] == alone.rmse
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "hatrix compare" in page


def test_compare_in_json_on_rankings(hatrix, films):
    done = hatrix(
        "compare", films, "spectral-mf:factors=4", "biased-mf:factors=4", *COLUMNS, "-k", "5", "--json", "-q"
    )
    assert done.status == 0, done
    facts = json.loads(done.out)
    assert (facts["metric"], facts["k"]) == ("ndcg", 5)
    assert {row["model"] for row in facts["models"]} == {
        "spectral-mf:factors=4", "biased-mf:factors=4", "bias", "popular",
    }  # fmt: skip


def test_compare_of_a_blend(hatrix, films):
    spec = "blend:recipes=mf+als,weights=0.5+0.5+0"
    done = hatrix("compare", films, spec, "mf", *COLUMNS, "--seed", "0", "--json", "-q")
    assert done.status == 0, done
    facts = json.loads(done.out)
    rmse = {row["model"]: row["rmse"] for row in facts["models"]}
    split = hx.split.per_user(hx.read(films, user="who", item="film", rating="stars"), seed=0)
    blend = hx.Blend(["mf", "als"], weights=(0.5, 0.5, 0.0))
    assert rmse[spec] == hx.evaluate(blend.fit(split.train, seed=0, progress=False), split.test).rmse


def test_compare_warns_in_lines(hatrix, films):
    done = hatrix("compare", films, "mf:factors=20,epochs=300,learning-rate=0.01", *COLUMNS)
    assert done.status == 0
    assert "warning: H004: " in done.err
    assert "warning: H006: " in done.err


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        ([], ["ALGORITHM is missing"]),
        (["biasedmf"], ["'biasedmf'", "did you mean biased-mf?"]),
        (["mf", "mf"], ["mf stands there twice"]),
        (["mf:factors"], ["'factors' is no hyper-parameter", "biased-mf:factors=32"]),
        (["mf:=3"], ["'=3' is no hyper-parameter"]),
        (["mf", "--relevant-from", "4"], ["relevant_from=4", "ndcg"]),
        (["mf:factors=0"], ["mf:factors=0", "greater than or equal to 1"]),
        (["blend:recipes=mf"], ["blend:recipes=mf", "at least 2"]),
        (["blend:recipes=mf+mff"], ["blend:recipes=mf+mff", "'mff'"]),
        (["mf:decay=1"], ["MF has no decay"]),
        (["mf:patience=2"], ["valid"]),
        (["mf", "--metric", "accuracy"], ["'accuracy'", "choose from"]),
        (["mf", "--k", "0"], ["from 1 up"]),
        (["mf", "--out", "films.csv"], ["--out"]),
    ],
)
def test_a_mistake_in_compare_is_one_line(hatrix, films, tokens, parts, tmp_path):
    before = sorted(tmp_path.iterdir())
    refused(hatrix("compare", films, *tokens, *COLUMNS), *parts)
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------------------------------------ tune


def test_tune_writes_the_model_and_what_was_found(hatrix, films, tmp_path):
    command = ["tune", films, "biased-mf", "--factors", "4", "--epochs", "10", *COLUMNS, "--out", "out"]
    done = hatrix(*command, "--trials", "5", "--study", "new/study.db")
    assert done.status == 0, done
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.hatrix", "report.html", "trials.csv", "tuning.json",
    ]  # fmt: skip
    facts = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert set(facts["space"]) == {
        "learning_rate",
        "regularization",
    }  # factors are given
    assert sum(facts["trials"].values()) == 5
    model = hx.load(tmp_path / "out" / "model.hatrix")
    split = hx.split.per_user(hx.read(films, user="who", item="film", rating="stars"), seed=42)
    assert model.recipe == type(model.recipe)(**facts["hyperparameters"]).resolved(split.train)
    assert model.fingerprint == split.train.fingerprint  # test ratings stay unseen
    assert facts["test"]["rmse"] == pytest.approx(hx.evaluate(model, split.test).rmse)
    assert "which no trial saw" in done.out
    more = hatrix(*command, "--trials", "7", "--study", "new/study.db", "--json", "-q")
    assert sum(json.loads(more.out)["trials"].values()) == 7
    with open(tmp_path / "out" / "trials.csv") as file:
        assert [row["number"] for row in csv.DictReader(file)] == list("0123456")


def test_tune_on_all_ratings_in_given_ranges(hatrix, films, tmp_path):
    done = hatrix(
        "tune", films, "biased-mf", "--all", "--range", "factors=2:8:log", "--range", "schedule=constant,decay",
        *COLUMNS, "--trials", "3", "--out", "out", "--json", "-q",
    )  # fmt: skip
    assert done.status == 0, done
    facts = json.loads(done.out)
    assert facts["space"] == {"factors": [2, 8, "log"], "schedule": ["constant", "decay"]}
    assert facts["test"] is None
    assert len(hx.load(tmp_path / "out" / "model.hatrix").seen.item) == 80 * 30


@pytest.mark.parametrize(
    ("tokens", "searched", "tested"),
    [
        (["blend", "--recipes", "mf,popular", "--range", "0.factors=1:4"], {"0.factors"}, "ndcg"),
        (
            ["recommender", "--ratings-by", "bias", "--metric", "rmse"],
            {"ratings.user_damping", "ratings.item_damping"},
            "rmse",
        ),
        (["recommender", "--lists-by", "spectral-mf", "--range", "lists.power=0.5:2"], {"lists.power"}, "ndcg"),
    ],
)  # fmt: skip
def test_tune_of_recipes_that_combine_others(hatrix, films, tmp_path, tokens, searched, tested):
    done = hatrix("tune", films, *tokens, *COLUMNS, "--trials", "2", "--out", "out", "-q")
    assert done.status == 0, done
    facts = json.loads((tmp_path / "out" / "tuning.json").read_text())
    assert set(facts["space"]) == set(facts["found"]) == searched
    assert facts["metric"] == f"valid_{tested}"
    assert tested in facts["test"]
    assert f"in Python: hx.{tokens[0].capitalize()}(" in done.out
    model = hx.load(tmp_path / "out" / "model.hatrix")
    assert model.recipe.name == facts["algorithm"] == tokens[0]
    with open(tmp_path / "out" / "trials.csv") as file:
        assert searched < set(next(csv.reader(file)))


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        ([], ["ALGORITHM is missing"]),
        (["biased-mf", "--out", "out", "--metric", "mae"], ["--metric", "rmse", "ndcg"]),
        (["popular", "--out", "out", "--metric", "rmse"], ["popular as given has none"]),
        (["recommender", "--out", "out", "--range", "ratings.factors=2:4"], ["metric='rmse'"]),
        (
            ["recommender", "--out", "out", "--range", "factors=2:4"],
            ["Recommender has no factors", "lists.0.factors"],
        ),
        (["biased-mf"], ["--out is missing"]),
        (["biased-mf", "--out", "out", "--trials", "0"], ["--trials", "from 1 up"]),
        (["biased-mf", "--out", "out", "--minutes", "0"], ["--minutes", "above 0"]),
        (["biased-mf", "--out", "out", "--range", "factors"], ["--range factors", "name=low:high"]),
        (["biased-mf", "--out", "out", "--range", "factors=8:2"], ["factors", "the lower first"]),
        (["biased-mf", "--out", "out", "--range", "factor=2:8"], ["no factor"]),
        (["biased-mf", "--out", "out", "--range", "factors=true,2"], ["factors is True: give a number"]),
        (
            ["biased-mf", "--out", "out", "--range", "factors=2:4:8"],
            ["--range factors=2:4:8", "name=low:high"],
        ),
        (
            ["mf", "--out", "out", "--range", "factors=2:4", "--range", "factors=2,8"],
            ["two ranges of factors"],
        ),
        (["biased-mf", "--out", "out", "--all", "--test", "0.3"], ["--all"]),
        (["popular", "--out", "out"], ["nothing is left to search"]),
        (["biased-mf", "--out", "out", "--study", "films.csv"], ["films.csv is not a study"]),
        (["biased-mf", "--out", "films.csv"], ["--out"]),
    ],
)
def test_a_mistake_in_tune_is_one_line_and_leaves_nothing(hatrix, films, tokens, parts, tmp_path):
    before = films.read_bytes()
    refused(hatrix("tune", films, *tokens, *(COLUMNS if tokens else [])), *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films.csv"]
    assert films.read_bytes() == before


def test_the_flags_of_the_algorithm_are_in_the_help(hatrix):
    assert "--regularization" in hatrix("tune", "x.csv", "biased-mf", "--help").out
    assert "--range" in hatrix("tune", "--help").out
    assert "biased-mf:factors=32" in hatrix("compare", "--help").out.replace("\n", " ")
