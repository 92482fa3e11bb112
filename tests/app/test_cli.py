"""The command line as a user meets it: results, one-line errors, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hatrix as hx
from command import COLUMNS, Outcome, refused
from hatrix.app import commands
from hatrix.app.cli import main
from hatrix.evaluation import evaluate as evaluation
from hatrix.models import ALGORITHMS, algorithm
from hatrix.models import model as models
from hatrix.models.fit import Algorithm
from hatrix.models.hyperparameters import bounds
from on_disk import on_disk

FILES = ["history.csv", "metrics.json", "model.hatrix", "report.html", "test.parquet"]


@pytest.fixture
def ratings_file(tmp_path: Path) -> Path:
    """40 users, 30 films, two thirds of all pairs, in stars from 1 to 5."""
    rng = np.random.default_rng(1)
    taste, quality = rng.normal(0, 0.5, 40), rng.normal(0, 0.8, 30)
    lines = [
        f"{u},{i},{min(5, max(1, round(3.4 + taste[u] + quality[i] + rng.normal(0, 0.6))))},{1_000_000 + 60 * (u + i)}"
        for u in range(40)
        for i in rng.permutation(30)[:20]
    ]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(["who,film,stars,when", *lines]) + "\n")
    return path


# ---------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        (["rnu"], ['"rnu"', 'Did you mean "run"?']),
        (["--nonsense"], ["--nonsense"]),
        (["run"], ["SOURCE is missing"]),
        (["run", "ml-100k"], ["--out is missing"]),
        (["run", "ml-100k", "--out"], ["--out needs a value"]),
        (["run", "ml-100k", "--out", ""], ["--out", "path"]),
        (["run", "ml-100k", "--out", "d", "--out", "e"], ["--out", "multiple times"]),
        (["run", "ml-100K", "--out", "d"], ["ml-100K", "did you mean ml-100k?"]),
        (["run", "absent.csv", "--out", "d"], ["no file and no data set 'absent.csv'"]),
        (
            ["run", "ml-100k", "biasedmf", "--out", "d"],
            ["'biasedmf'", "did you mean biased-mf?", "choose from"],
        ),
        (["run", "ml-100k", "mf", "extra", "--out", "d"], ["no place for 'extra'"]),
        (["run", "ml-100k", "mf", "--factors", "0", "--out", "d"], ["--factors", "from 1 to 4096", "'0'"]),
        (["run", "ml-100k", "mf", "--factors", "1.5", "--out", "d"], ["--factors", "whole number", "'1.5'"]),
        (
            ["run", "ml-100k", "mf", "--factors", "many", "--out", "d"],
            ["--factors", "whole number", "'many'"],
        ),
        (["run", "ml-100k", "mf", "--learning-rate", "nan", "--out", "d"], ["--learning-rate", "above 0"]),
        (["run", "ml-100k", "bias", "--user-damping", "inf", "--out", "d"], ["--user-damping", "'inf'"]),
        (
            ["run", "ml-100k", "biased-mf", "--precision", "float16", "--out", "d"],
            ["one of float32, float64", "'float16'"],
        ),
        (["run", "ml-100k", "biased-mf", "--decy", "1", "--out", "d"], ["--decy", "--decay"]),
        (["run", "ml-100k", "mf", "--decay", "1", "--out", "d"], ["--decay is a flag of "]),
        (["run", "ml-100k", "mf", "--decay=1", "--out", "d"], ["--decay is a flag of "]),
        (["run", "ml-100k", "--seed", "-1", "--out", "d"], ["--seed", "from 0 to 4294967295"]),
        (
            ["run", "x", "implicit-als", "--block-size", "17", "--out", "d"],
            ["16 to 512 in steps of 16", "'17'"],
        ),
        (
            ["run", "x", "implicit-als", "--alpha", "all", "--out", "d"],
            ["--alpha: give a number above 0 to 1e+06, or auto, not 'all'"],
        ),
        (
            ["run", "x", "implicit-als", "--alpha0", "0", "--out", "d"],
            ["--alpha0: give a number above 0 to 1000, or auto or none, not '0'"],
        ),
        (["run", "ml-100k", "--seed", "1.0", "--out", "d"], ["--seed", "whole number"]),
        (["run", "ml-100k", "--threads", "0", "--out", "d"], ["--threads", "from 1 up"]),
        (["run", "ml-100k", "--valid", "1", "--out", "d"], ["--valid", "between 0 and 1"]),
        (["run", "ml-100k", "biased-mf", "--patience", "2", "--out", "d"], ["--valid 0.1"]),
        (["run", "ml-100k", "--resume", "--out", "d"], ["--checkpoint FILE"]),
        (["run", "ml-100k", "--split", "thirds", "--out", "d"], ["thirds", "per-user"]),
        (["run", "ml-100k", "--split", "last", "--test", "0.5", "--out", "d"], ["--test 0.5", "how many"]),
        (["run", "ml-100k", "--split", "official", "--test", "0.5", "--out", "d"], ["--fold"]),
        (["run", "ml-100k", "--fold", "1", "--out", "d"], ["--split official"]),
        (["run", "ml-100k", "--split", "random", "--draw", "notebook", "--out", "d"], ["--split per-user"]),
        (["run", "ml-100k", "--separator", ",", "--out", "d"], ["--separator", "./ml-100k"]),
        (["fit", "--out", "m"], ["SOURCE is missing"]),
        (["evaluate", "absent.hatrix", "ml-100k"], ["absent.hatrix"]),
        (["evaluate", "m.hatrix"], ["SOURCE is missing"]),
        (["data", "get", "ml-10"], ["'ml-10'", "ml-100k"]),
        (["data", "gt"], ['Did you mean "get"?']),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    hatrix: Callable[..., Outcome], tmp_path: Path, tokens: list[str], parts: list[str]
) -> None:
    refused(hatrix(*tokens), *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_error_shows_no_control_characters(hatrix: Callable[..., Outcome]) -> None:
    outcome = hatrix("run", "a\nb\x1b[31m\x9b", "--out", "d")
    refused(outcome)
    assert outcome.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_shows_every_hyper_parameter_with_its_bounds(hatrix: Callable[..., Outcome], name: str) -> None:
    outcome = hatrix("run", "ml-100k", name, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    text = " ".join(outcome.out.replace("│", " ").split())
    for field, info in algorithm(name).model_fields.items():
        assert f"--{field.replace('_', '-')}" in text
        for limit in bounds(info).values():
            assert f"{limit:g}" in text


def test_weights_can_be_left_to_the_data(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    outcome = hatrix("run", "x", "implicit-als", "--help")
    text = " ".join(outcome.out.replace("│", " ").split())
    assert text.count("[default: auto]") == 5
    assert bounds(algorithm("implicit-als").model_fields["alpha0"]) == {"gt": 0, "le": 1000}
    flags = ["--factors", "4", "--alpha", "auto", "--alpha0", "none", "--out", "d", "--json"]
    facts = json.loads(hatrix("run", ratings_file, "implicit-als", *COLUMNS, *flags).out)
    model = hx.load(tmp_path / "d" / "model.hatrix")
    chosen = facts["hyperparameters"]
    assert chosen["alpha"] == pytest.approx(1 / model.seen.value.mean())
    assert chosen["alpha0"] is None
    assert chosen["evidence"] == "count"
    assert 0 < chosen["regularization"] < 0.07
    assert chosen == model.recipe.model_dump(mode="json")


@pytest.mark.parametrize("command", ["run", "fit"])
def test_help_of_a_command_alone_is_that_of_its_default(hatrix: Callable[..., Outcome], command: str) -> None:
    assert hatrix(command, "--help").out == hatrix(command, "x", "recommender", "--help").out


def test_version(hatrix: Callable[..., Outcome]) -> None:
    assert hatrix("--version") == (0, f"{hx.__version__}\n", "")


@pytest.mark.parametrize(
    "tokens",
    [
        ["SOURCE", "mf", "--factors", "7", "--out", "d"],
        ["--factors", "7", "SOURCE", "--out", "d", "mf"],
        ["--factors=7", "--out=mf", "-q", "SOURCE", "--json", "mf"],
        ["--sequential", "SOURCE", "--factors", "7", "mf", "--out", "biased-mf"],
        ["--factors", "7", "--out", "d", "--", "SOURCE", "mf"],
    ],
    ids=" ".join,
)
def test_flags_stand_anywhere(
    hatrix: Callable[..., Outcome], ratings_file: Path, monkeypatch: pytest.MonkeyPatch, tokens: list[str]
) -> None:
    fitted: list[Algorithm] = []

    def fit(recipe: Algorithm, *_: Any, **__: Any) -> None:
        fitted.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(Algorithm, "fit", fit)
    found = [str(ratings_file) if token == "SOURCE" else token for token in tokens]
    assert hatrix("run", *COLUMNS, *found).status == 130
    [recipe] = fitted
    assert (recipe.name, recipe.model_dump()["factors"]) == ("mf", 7)


# ------------------------------------------------------------------------------------------------ run


def test_run_writes_its_files_and_says_where_the_report_is(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("stays")
    outcome = hatrix("run", ratings_file, "mf", *COLUMNS, "--epochs", "5", "--seed", "7", "--out", "there")
    assert outcome.status == 0, outcome.err
    assert f"report: {Path('there') / 'report.html'}" in outcome.out
    for word in ("RMSE", "MAE", "mf", "bias", "640 training and 160 test ratings"):
        assert word in outcome.out
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted([*FILES, "mine.txt"])
    assert (tmp_path / "there" / "mine.txt").read_text() == "stays"
    metrics = json.loads((tmp_path / "there" / "metrics.json").read_text())
    assert (metrics["algorithm"], metrics["seed"], metrics["n_train"], metrics["n_test"]) == (
        "mf",
        7,
        640,
        160,
    )
    assert metrics["hyperparameters"]["epochs"] == 5
    assert metrics["mse"] == pytest.approx(metrics["rmse"] ** 2)
    assert 0 < metrics["train_seconds"] < metrics["seconds"]
    assert metrics["baselines"]["bias"]["rmse"] > 0
    assert len((tmp_path / "there" / "history.csv").read_text().splitlines()) == 6
    model = hx.load(tmp_path / "there" / "model.hatrix")
    assert (model.recipe.name, model.seed, int(model.user_count.sum())) == ("mf", 7, 640)
    held_out = hx.read(tmp_path / "there" / "test.parquet")
    assert hx.evaluate(model, held_out, bootstrap=1).rmse == pytest.approx(metrics["rmse"])
    assert metrics["read"]["accepted"] == 800


def test_run_as_json_prints_what_metrics_json_holds(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    outcome = hatrix("run", ratings_file, "bias", *COLUMNS, "--out", "new/folder", "--json", "--quiet")
    assert outcome.status == 0
    assert outcome.err == ""
    assert json.loads(outcome.out) == json.loads((tmp_path / "new" / "folder" / "metrics.json").read_text())


def test_a_second_run_gives_the_same_numbers(hatrix: Callable[..., Outcome], ratings_file: Path) -> None:
    first, second = (
        json.loads(hatrix("run", ratings_file, *COLUMNS, "--threads", n, "--out", f"d{n}", "--json").out)
        for n in ("1", "2")
    )
    assert {**first, "train_seconds": 0, "seconds": 0} == {**second, "train_seconds": 0, "seconds": 0}


@pytest.mark.parametrize(
    ("flags", "n_test", "protocol"),
    [
        (["--split", "per-user", "--test", "0.5"], 400, "per_user 0.5, seed 42"),
        (["--split", "per_user", "--test", "0.5"], 400, "per_user 0.5, seed 42"),
        (["--draw", "notebook"], 160, "per_user 0.2, seed 42, draw notebook"),
        (["--draw", "independent"], 160, "per_user 0.2, seed 42"),
        (["--split", "random", "--test", "0.1"], 80, "random"),
        (["--split", "last", "--test", "3", "--time-column", "when"], 120, "last 3"),
        (
            ["--split", "by-time", "--test", "1970-01-12 14:36:40", "--time-column", "when"],
            None,
            "by_time from",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_splits(
    hatrix: Callable[..., Outcome], ratings_file: Path, flags: list[str], n_test: int | None, protocol: str
) -> None:
    outcome = hatrix("run", ratings_file, "bias", *COLUMNS, *flags, "--out", "d", "--json")
    facts = json.loads(outcome.out)
    assert facts["split"].startswith(protocol)
    assert facts["n_train"] + facts["n_test"] == 800
    assert n_test in (None, facts["n_test"])


def test_titles_are_joined_by_id(hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path) -> None:
    lines = [f'{item},"Film, {item}"' for item in range(29, -1, -1)]
    (tmp_path / "films.csv").write_text("\n".join(["movieId,title", *lines]) + "\n")
    told = hatrix("fit", ratings_file, "bias", *COLUMNS, "--items", "films.csv", "--out", "m.hatrix")
    assert "columns: who is user, film is item, stars is rating, when is" in told.err
    table = hx.load(tmp_path / "m.hatrix").item_table
    assert table is not None
    assert table["title"].tolist() == [f"Film, {item}" for item in range(30)]
    refused(
        hatrix("fit", ratings_file, "bias", *COLUMNS, "--items", "none.csv", "--out", "n"),
        "none.csv is no file",
    )
    refused(
        hatrix("fit", ratings_file, "bias", *COLUMNS, "--items", "films.csv", "--out", "films.csv"),
        "films.csv",
    )


def test_a_run_that_fails_leaves_nothing(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    outcome = hatrix("run", ratings_file, "mf", *COLUMNS, "--learning-rate", "10", "--out", "new/folder")
    refused(outcome, "diverged in epoch", "learning_rate")
    assert sorted(tmp_path.iterdir()) == before


def test_an_unwritable_folder_is_told_before_training(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Algorithm, "fit", lambda *_, **__: pytest.fail("training began"))
    (tmp_path / "file").write_text("")
    refused(hatrix("run", ratings_file, *COLUMNS, "--out", "file"), "file is a file")
    refused(hatrix("run", ratings_file, *COLUMNS, "--out", "file/in/it"), "file is a file")
    refused(hatrix("fit", ratings_file, "mf", *COLUMNS, "--out", tmp_path), "is a folder")
    (tmp_path / "d" / "report.html").mkdir(parents=True)
    refused(hatrix("run", ratings_file, *COLUMNS, "--out", "d"), "report.html is a folder")
    refused(
        hatrix("run", ratings_file, *COLUMNS, "--out", "e", "--checkpoint", "d"),
        "--checkpoint",
        "is a folder",
    )
    os.mkfifo(tmp_path / "pipe")
    refused(hatrix("fit", ratings_file, "mf", *COLUMNS, "--out", "pipe"), "pipe is not a file on disk")
    if Path("/proc/self").is_dir():
        refused(
            hatrix("run", ratings_file, *COLUMNS, "--out", "/proc/self/new"), "/proc/self", "another place"
        )


@pytest.mark.parametrize(
    "tokens",
    [
        ["fit", "ratings.csv", "bias", *COLUMNS, "--out", "./ratings.csv"],
        ["fit", "ratings.csv", "bias", *COLUMNS, "--out", "m", "--checkpoint", "ratings.csv"],
        ["run", "ratings.csv", "bias", *COLUMNS, "--out", "d", "--checkpoint", "ratings.csv"],
        ["evaluate", "m.hatrix", "ratings.csv", "--report", "ratings.csv"],
    ],
    ids=" ".join,
)
def test_what_is_read_is_never_replaced(
    hatrix: Callable[..., Outcome], ratings_file: Path, tokens: list[str]
) -> None:
    content = ratings_file.read_text()
    refused(hatrix(*tokens), "ratings.csv is what is read")
    assert ratings_file.read_text() == content


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(hatrix("run", ratings_file, *COLUMNS, "--out", "locked/new"), "no permission", "locked")


def test_events_are_refused_where_ratings_are_needed(
    hatrix: Callable[..., Outcome], ratings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = hx.Ratings.from_columns([1, 1, 2], [1, 2, 1])
    monkeypatch.setattr("hatrix.data.read.read", lambda *_, **__: clicks)
    refused(hatrix("run", ratings_file, "biased-mf", "--out", "d"), "no ratings", "--rating-column")


def test_column_flags_reach_read(
    hatrix: Callable[..., Outcome], ratings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "hatrix.data.read.read", lambda _, **names: given.update(names) or pytest.skip("read")
    )
    flags = [
        "--time-column",
        "t",
        "--separator",
        "::",
        "--no-header",
        "--encoding",
        "latin-1",
        "--skip-bad-rows",
    ]
    with pytest.raises(pytest.skip.Exception):
        hatrix("run", ratings_file, *COLUMNS, *flags, "--out", "d")
    columns = {"user": "who", "item": "film", "rating": "stars", "time": "t"}
    assert given == {
        **columns,
        "separator": "::",
        "header": False,
        "encoding": "latin-1",
        "skip_bad_rows": True,
    }


# ----------------------------------------------------------------------------------- fit and evaluate


def test_fit_without_an_algorithm_trains_both_parts(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    assert hatrix("fit", ratings_file, *COLUMNS, "--out", "m.hatrix").status == 0
    ratings = hx.read(ratings_file, user="who", item="film", rating="stars")
    model, same = hx.load(tmp_path / "m.hatrix"), hx.Recommender().fit(ratings, progress=False)
    assert model.recipe == same.recipe
    assert model.predict(3, 4) == same.predict(3, 4)
    assert (model.scores([3]) == same.scores([3])).all()
    facts = json.loads(hatrix("evaluate", "m.hatrix", ratings_file, *COLUMNS, "--json").out)
    assert (facts["algorithm"], facts["n_test"]) == ("recommender", 800)
    assert {"rmse", "lists"} <= set(facts)
    (tmp_path / "new.csv").write_text("who,film,stars\n900,3,5\n900,4,4\n")
    assert hatrix("update", "m.hatrix", "--ratings", "new.csv", *COLUMNS, "--out", "n.hatrix").status == 0
    table = json.loads(hatrix("recommend", "n.hatrix", "--user", "900", "-n", "3", "--json").out)
    assert {row["item"] for row in table["recommendations"]}.isdisjoint({3, 4})
    clicks = tmp_path / "clicks.csv"
    pairs = (f"{user},{item}" for user in range(9) for item in range(9) if (user + item) % 2)
    clicks.write_text("\n".join(["user,item", *pairs]))
    assert hatrix("fit", clicks, "--out", "c.hatrix").status == 0
    listed = hx.load(tmp_path / "c.hatrix").recipe
    assert (listed.name, listed.ratings, listed.lists.name) == ("recommender", None, "implicit-als")


def test_run_of_a_model_that_ranks_measures_rankings(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    outcome = hatrix("run", ratings_file, "popular", "--out", tmp_path / "d", "-k", "7", *COLUMNS)
    assert outcome.status == 0, outcome
    assert "NDCG@7" in outcome.out
    assert "RMSE" not in outcome.out
    facts = json.loads((tmp_path / "d" / "metrics.json").read_text())
    assert {"recall", "ndcg", "map", "mrr", "hit_rate", "precision", "auc", "coverage", "gini"} <= set(facts)
    assert "rmse" not in facts
    assert facts["users"] == 40
    assert facts["k"] == 7
    split = hx.split.per_user(hx.read(ratings_file, user="who", item="film", rating="stars"), 0.2, seed=42)
    same = hx.evaluate_ranking(hx.Popular().fit(split.train), split.test, k=7)
    assert facts["ndcg"] == same.ndcg
    assert "NDCG@7" in (tmp_path / "d" / "report.html").read_text()
    again = hatrix("evaluate", tmp_path / "d" / "model.hatrix", ratings_file, "--unseen", "-k", "7", *COLUMNS)
    assert f"{same.ndcg:.4f}" in again.out
    seen = hatrix("evaluate", tmp_path / "d" / "model.hatrix", ratings_file, "--json", *COLUMNS)
    assert "count as missed" in seen.err
    assert json.loads(seen.out)["k"] == 20


def test_models_of_ratings_can_be_ranked_when_asked(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    run = ["run", ratings_file, "bias", "--out", tmp_path / "d", *COLUMNS]
    assert "ranked among 9 sampled negatives" in hatrix(*run, "--rank-among", "9").out
    facts = json.loads((tmp_path / "d" / "metrics.json").read_text())
    assert facts["rmse"] > 0
    assert set(facts["lists"]["baselines"]) == {"popular"}
    outcome = hatrix(*run, "--ranking", "--rank-among", "9", "--relevant-from", "4")
    assert outcome.status == 0, outcome
    assert "ranked among 9 sampled negatives, relevant from 4" in outcome.out
    assert "Note: sampled:" in outcome.out
    facts = json.loads((tmp_path / "d" / "metrics.json").read_text())
    assert set(facts["baselines"]) == {"popular"}


def test_rankings_need_what_was_seen(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    assert hatrix("fit", ratings_file, "popular", "--out", tmp_path / "m", "--no-seen", *COLUMNS).status == 0
    refused(hatrix("evaluate", tmp_path / "m", ratings_file, *COLUMNS), "--no-seen", "fit it without")


def test_evaluate_warns_of_ratings_it_was_trained_on(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    hatrix("run", ratings_file, "bias", *COLUMNS, "--out", "d")
    test_error = json.loads((tmp_path / "d" / "metrics.json").read_text())["rmse"]
    outcome = hatrix("evaluate", "d/model.hatrix", ratings_file, *COLUMNS, "--json")
    assert "trained on 640 of these 800 ratings" in outcome.err
    assert "--unseen" in outcome.err
    assert json.loads(outcome.out)["overlap"] == 640
    outcome = hatrix("evaluate", "d/model.hatrix", ratings_file, *COLUMNS, "--json", "--unseen")
    assert "trained on" not in outcome.err
    facts = json.loads(outcome.out)
    assert (facts["overlap"], facts["n_test"]) == (0, 160)
    assert facts["rmse"] == pytest.approx(test_error)


def test_evaluate_ratings_on_disk(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hatrix("run", ratings_file, "bias", *COLUMNS, "--out", "d")
    wanted = [
        hatrix("evaluate", "d/model.hatrix", ratings_file, *COLUMNS, "--json", *more)
        for more in ([], ["--unseen"])
    ]
    load = commands.load
    monkeypatch.setattr(commands, "load", lambda *given: on_disk(load(*given), tmp_path))
    monkeypatch.setattr(models, "MOST_ASKED", 90)
    for outcome, more in zip(wanted, ([], ["--unseen"]), strict=True):
        found = hatrix("evaluate", "d/model.hatrix", ratings_file, *COLUMNS, "--json", *more)
        assert found.err == outcome.err
        assert json.loads(found.out) == json.loads(outcome.out)
    monkeypatch.setattr(evaluation, "SAMPLED", 100)
    found = hatrix("evaluate", "d/model.hatrix", ratings_file, *COLUMNS)
    assert found.out.endswith("800 test ratings; parts of them as of an even sample of 100\n")


def test_evaluate_without_the_seen_ratings_knows_equal_data(
    hatrix: Callable[..., Outcome], ratings_file: Path
) -> None:
    assert hatrix("fit", ratings_file, "bias", *COLUMNS, "--no-seen", "--out", "m.hatrix").status == 0
    assert hx.load("m.hatrix").seen is None
    outcome = hatrix("evaluate", "m.hatrix", ratings_file, *COLUMNS, "--report", "new/r.html")
    assert "800 of these 800" in outcome.err
    assert Path("new/r.html").stat().st_size > 0
    refused(hatrix("evaluate", "m.hatrix", ratings_file, *COLUMNS, "--unseen"), "--unseen")
    assert hatrix("fit", ratings_file, "bias", *COLUMNS, "--out", "seen.hatrix").status == 0
    refused(hatrix("evaluate", "seen.hatrix", ratings_file, *COLUMNS, "--unseen"), "none are left")


def test_fit_resumes_to_the_same_model(hatrix: Callable[..., Outcome], ratings_file: Path) -> None:
    fit = ["fit", ratings_file, "mf", *COLUMNS, "--seed", "3"]
    assert hatrix(*fit, "--epochs", "6", "--out", "whole.hatrix").status == 0
    saved = ["--checkpoint", "state/c.hatrix", "--checkpoint-epochs", "1", "--resume"]
    for name in ("first.hatrix", "second.hatrix"):
        assert hatrix(*fit, "--epochs", "6", *saved, "--out", name).status == 0
    whole, second = hx.load("whole.hatrix"), hx.load("second.hatrix")
    assert np.array_equal(whole.user_factors, second.user_factors)
    refused(hatrix(*fit, "--epochs", "7", *saved, "--out", "third.hatrix"), "another run")
    assert not Path("third.hatrix").exists()


def test_data_list_and_get(
    hatrix: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_text("1\t1\t5\t0\n")
    monkeypatch.setenv("HATRIX_DATA", str(tmp_path / "data"))
    head, *rows = hatrix("data", "list").out.splitlines()
    assert head.split() == ["name", "ratings", "users", "items", "scale", "download", "here", "licence"]
    assert " ".join(rows[0].split()).startswith("ml-100k 100,000 943 1,682 1 to 5 4.9 MB yes GroupLens")
    table = json.loads(hatrix("data", "list", "--json").out)
    assert table[0] | {"licence": ""} == {
        "name": "ml-100k", "rows": 100_000, "users": 943, "items": 1_682, "scale": [1, 5], "size": 4_924_029,
        "licence": "", "changes": False, "where": str(folder),
    }  # fmt: skip
    assert hatrix("data", "get", "ml-100k") == (0, f"{folder}\n", "")


# ------------------------------------------------------------------------------- what goes wrong in us


def test_a_bug_is_one_line_unless_debugging(
    hatrix: Callable[..., Outcome], ratings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(Algorithm, "fit", broken)
    outcome = hatrix("fit", ratings_file, "mf", *COLUMNS, "--out", "m")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith("error: unexpected ZeroDivisionError: by zero")
    assert "report" in outcome.err
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(ratings_file), "mf", *COLUMNS, "--out", "m", "--debug"])
    monkeypatch.setenv("HATRIX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(ratings_file), "mf", *COLUMNS, "--out", "m"])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "m"), "m: No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    hatrix: Callable[..., Outcome],
    ratings_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("hatrix.models.model.FactorModel.save", fails)
    refused(hatrix("fit", ratings_file, "bias", *COLUMNS, "--out", "m"), words)
    assert not Path("m").exists()


def process(*tokens: str | Path, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "hatrix", *map(str, tokens)], **{**pipes, **options})


def test_a_broken_pipe_is_quiet(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with process("data", "list", stdout=writing, cwd=tmp_path) as listing:
        os.close(writing)
        _, said = listing.communicate(timeout=60)
    assert (listing.returncode, said) == (141, "")


def test_ctrl_c_elsewhere_ends_with_one_line_and_leaves_nothing(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        assert list(tmp_path.rglob(".hatrix-*"))
        raise KeyboardInterrupt

    monkeypatch.setattr("hatrix.data.read.read", interrupted)
    assert hatrix("run", ratings_file, "--out", "d") == (130, "", "error: interrupted\n")
    assert list(tmp_path.iterdir()) == [ratings_file]


def test_several_fields_stand_with_commas_between(hatrix, ratings_file, tmp_path):
    flags = ["--fields", "user,item,rated", "--epochs", "12", "--burn-in", "2", "--factors", "2", *COLUMNS]
    ran = hatrix("run", ratings_file, "bayesian-mf", *flags, "--out", tmp_path / "out", "--json")
    found = json.loads(ran.out)
    assert found["hyperparameters"]["fields"] == ["user", "item", "rated"]
    assert 0.5 < found["uncertainty"]["covered"] <= 1
    for wrong, said in (
        ("user", "they need user and item"),
        ("user,itm", "give one of user, item"),
        ("user,user,item", "twice"),
    ):
        refused(
            hatrix("run", ratings_file, "bayesian-mf", "--fields", wrong, *COLUMNS, "--out", tmp_path / "no"),
            said,
        )


@pytest.mark.parametrize(
    ("columns", "algorithm", "said"),
    [
        (
            ("user,item,rating", "1,2,3", "1,2,5", "2,2,4", "2,3,1"),
            "bias",
            "1 repeated rating gave way to the latest of its user and item",
        ),
        (
            ("user,item", "1,2", "1,2", "2,2", "2,3"),
            "popular",
            "1 repeated row of the same user and item was added to the first",
        ),
    ],
)
def test_what_became_of_repeated_rows_is_said(hatrix, tmp_path, columns, algorithm, said):
    (tmp_path / "rows.csv").write_text("\n".join(columns) + "\n")
    done = hatrix("fit", "rows.csv", algorithm, "--out", "m.hatrix")
    assert done.status == 0, done.err
    assert said in done.err


def test_ratings_that_are_all_the_same_run_to_the_end(hatrix, tmp_path):
    rows = [f"{user},{item},5" for user in range(12) for item in range(8) if (user * 3 + item) % 4]
    (tmp_path / "same.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    small = ("--epochs", "40", "--factors", "2")
    assert hatrix("run", "same.csv", "bayesian-mf", *small, "--out", "run", "-q").status == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_dislikes_are_refused_by_what_ranks(hatrix, tmp_path):
    rows = [f"{user},{item},{-1 if item < 4 else 1}" for user in range(9) for item in range(8)]
    (tmp_path / "thumbs.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    for command in (
        ("run", "thumbs.csv", "popular", "--out", "r"),
        ("fit", "thumbs.csv", "bpr", "--out", "m.hatrix"),
    ):
        refused(hatrix(*command), "below 0, the lowest -1", "biased-mf")
    refused(hatrix("compare", "thumbs.csv", "popular", "bpr"), "below 0, the lowest -1", "biased-mf")


def test_a_warning_never_ends_a_command(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n1,1,3\n1,2,4\n2,1,5\n2,3,1\n")
    command = [sys.executable, "-W", "error::UserWarning", "-m", "hatrix"]
    for tokens in (["fit", "r.csv", "bias", "--out", "m.hatrix"], ["evaluate", "m.hatrix", "r.csv"]):
        ran = subprocess.run([*command, *tokens], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    assert "warning: the model was trained on 4 of these 4 ratings" in ran.stderr


@pytest.fixture
def rated(hatrix: Callable[..., Outcome]) -> hx.Ratings:  # noqa: ARG001 - it changes the folder
    """Ratings in r.csv, with columns of the usual names."""
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    ratings.to_frame().to_csv("r.csv", index=False)
    return ratings


@pytest.mark.parametrize("name", ["\ud800", "a\0b", ""])
def test_a_path_that_no_file_can_have_is_one_line(hatrix, rated, name):
    source = "r.csv"
    hx.Bias().fit(rated, progress=False).save("m.hatrix")
    before = sorted(os.listdir("."))
    for tokens in (
        ["fit", source, "bias", "--out", name],
        ["fit", source, "mf", "--out", "n.hatrix", "--checkpoint", name],
        ["run", source, "bias", "--out", name],
        ["tune", source, "biased-mf", "--out", "t", "--study", name],
        ["evaluate", "m.hatrix", source, "--report", name],
        ["recommend", name, "--user", "1"],
        ["recommend", "m.hatrix", "--user", "1", "--out", name],
        ["update", "m.hatrix", "--ratings", source, "--out", name],
        ["data", "expand", source, "--out", name],
    ):
        refused(hatrix(*tokens), "the path is", "give")
    assert sorted(os.listdir(".")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_names_that_are_not_utf8_serve_where_hatrix_writes_and_are_refused_where_duckdb_does(hatrix, rated):
    odd = os.fsdecode(b"\xff")
    os.rename("r.csv", f"r{odd}.csv")
    source, model = f"r{odd}.csv", f"m{odd}.hatrix"
    for tokens in (
        ["fit", source, "bias", "--out", model],
        ["recommend", model, "--user", "1", "--out", f"l{odd}.csv"],
        ["evaluate", model, source, "--report", f"r{odd}.html"],
        ["update", model, "--ratings", source, "--out", model],
    ):
        assert hatrix(*tokens, "-q").status == 0
    assert len(hx.load(model).users) == len(rated.users)
    assert hx.load(model).data_name == "r\N{REPLACEMENT CHARACTER}"
    Path(f"p{odd}.parquet").write_bytes(b"")
    before = sorted(os.listdir("."))
    for tokens in (
        ["run", source, "bias", "--out", f"d{odd}"],
        ["recommend", model, "--user", "1", "--out", f"l{odd}.parquet"],
        ["recommend", model, "--all", "--out", f"a{odd}.parquet"],
        ["recommend", model, "--all", "--out", f"a{odd}.csv"],
        ["data", "expand", source, "--out", f"x{odd}.parquet"],
        ["fit", f"p{odd}.parquet", "bias", "--out", "p.hatrix"],
        ["fit", source, "bias", "--items", f"p{odd}.parquet", "--out", "p.hatrix"],
    ):
        refused(hatrix(*tokens, "-q"), "which is not UTF-8 text: give another path")
    assert sorted(os.listdir(".")) == before


def test_fit_prints_what_auto_stands_for(
    hatrix: Callable[..., Outcome], ratings_file: Path, tmp_path: Path
) -> None:
    left = hatrix("fit", ratings_file, "spectral-mf", *COLUMNS, "--out", tmp_path / "left.hatrix")
    assert re.search(r"auto: factors=\d+, noise=[\d.]+; found in [\d.]+ s, \d+% of the fit", left.err)
    given = hatrix(
        "fit",
        ratings_file,
        "spectral-mf",
        *COLUMNS,
        "--factors",
        3,
        "--noise",
        0,
        "--out",
        tmp_path / "given.hatrix",
    )
    assert "auto" not in given.err
