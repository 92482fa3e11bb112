"""The Python code in each report runs as it is printed, and gives the figures of the report."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from command import COLUMNS, Outcome
from hatrix.data import datasets
from hatrix.errors import DownloadError

Hatrix = Callable[..., Outcome]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ratings, which commands and code run in."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((60, 40)) < 0.4)
    table = pd.DataFrame({"who": user, "film": item, "stars": rng.integers(1, 6, len(user))})
    table["at"] = rng.integers(880_000_000, 890_000_000, len(user))
    table.to_csv(tmp_path / "my ratings.csv", index=False)
    clicks = rng.integers(1, 9, len(user))
    table[["who", "film"]].assign(plays=clicks).to_csv(tmp_path / "plays.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_in(report: Path) -> str:
    """The Python code of a report."""
    found = re.search(r'aria-label="In Python"><code>(.*?)</code>', report.read_text(encoding="utf-8"), re.S)
    assert found, report
    return html.unescape(found[1])


def made_by(code: str, folder: Path, **known: Any) -> dict[str, Any]:
    """The names after the code ran; its report goes into a folder of its own."""
    assert "..." not in code
    compile(code, "snippet", "exec")
    folder.mkdir()
    again = code.replace('.report("', f'.report("{folder.name}/')
    names: dict[str, Any] = dict(known)
    run(again, names)
    assert list(folder.iterdir())
    return names


def check_figures(printed: dict[str, Any], again: dict[str, Any]) -> None:
    """A command prints the figures of the code, and may warn of more: it compares lists with `Popular`'s."""
    for name, value in json.loads(json.dumps(again)).items():
        if name == "warnings":
            assert set(value) <= set(printed[name])
        else:
            assert printed[name] == value, name


def run(code: str, names: dict[str, Any]) -> None:
    exec(code, names)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("biased-mf", "--factors", "4", "--epochs", "3"), marks=pytest.mark.campaign),
        ("biased-mf", "--factors", "4", "--valid", "0.15", "--patience", "2", "--seed", "7", "--test", "0.3"),
        pytest.param(
            ("als", "--factors", "3", "--split", "random", "--test", "0.123456789"),
            marks=pytest.mark.campaign,
        ),
        ("bias", "--split", "last", "--test", "2", *COLUMNS, "--time-column", "at"),
        pytest.param(
            ("bias", "--split", "by-time", *COLUMNS, "--time-column", "at"), marks=pytest.mark.campaign
        ),
        ("mf", "--factors", "4", "--epochs", "2", "--ranking", "--relevant-from", "4", "-k", "7"),
        pytest.param(
            ("bpr", "--factors", "4", "--epochs", "2", "--rank-among", "9"), marks=pytest.mark.campaign
        ),
    ],
)
def test_code_of_a_run(hatrix: Hatrix, home: Path, flags: tuple[str, ...]) -> None:
    columns = () if "--time-column" in flags else COLUMNS
    done = hatrix("run", "my ratings.csv", *flags, *columns, "--out", "out", "-q")
    assert done.status == 0, done
    code = code_in(home / "out" / "report.html")
    assert "hx.read('my ratings.csv', user='who', item='film', rating='stars'" in code
    again = made_by(code, home / "again")["result"].to_dict()
    first = json.loads((home / "out" / "metrics.json").read_text())
    check_figures(first, again)


def test_code_of_a_run_on_clicks(hatrix: Hatrix, home: Path) -> None:
    flags = ("--user-column", "who", "--item-column", "film", "--rating-column", "plays")
    assert (
        hatrix("run", "plays.csv", "implicit-als", "--factors", "3", *flags, "--out", "out", "-q").status == 0
    )
    again = made_by(code_in(home / "out" / "report.html"), home / "again")["result"]
    assert again.ndcg == json.loads((home / "out" / "metrics.json").read_text())["ndcg"]


def test_code_of_a_run_on_a_data_set(hatrix: Hatrix, home: Path) -> None:
    try:
        datasets.load("ml-100k", progress=False)
    except DownloadError as error:
        pytest.skip(f"this needs MovieLens 100K: {error}")
    assert hatrix("run", "ml-100k", "bias", "--out", "out", "-q").status == 0
    code = code_in(home / "out" / "report.html")
    assert "hx.datasets.load('ml-100k')" in code
    again = made_by(code, home / "again")["result"]
    assert again.rmse == json.loads((home / "out" / "metrics.json").read_text())["rmse"]


@pytest.mark.parametrize(
    "models", [("als:factors=3", "bias"), ("bpr:factors=3,epochs=2", "mf:factors=3,epochs=2")]
)
def test_code_of_a_comparison(hatrix: Hatrix, home: Path, models: tuple[str, ...]) -> None:
    done = hatrix("compare", "my ratings.csv", *models, *COLUMNS, "--valid", "0.1", "--out", "out", "-q")
    assert done.status == 0, done
    again = made_by(code_in(home / "out" / "compare.html"), home / "again")["result"]
    first = json.loads((home / "out" / "compare.json").read_text())
    assert again.best.name == first["best"]
    figures = {row["model"]: row[first["metric"]] for row in first["models"]}
    assert again.table()[first["metric"]].to_dict() == pytest.approx(figures, abs=0)
    assert again.table()[f"{first['metric']}_low"].notna().all()


def test_code_of_a_search(hatrix: Hatrix, home: Path) -> None:
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    flags = (
        "--trials",
        "4",
        "--epochs",
        "4",
        "--no-pruning",
        "--range",
        "factors=2:6",
        "--range",
        "learning-rate=0.01:0.1:log",
    )
    done = hatrix("tune", "my ratings.csv", "biased-mf", *flags, *COLUMNS, "--out", "out", "-q")
    assert done.status == 0, done
    again = made_by(code_in(home / "out" / "report.html"), home / "again")
    first = json.loads((home / "out" / "tuning.json").read_text())
    assert again["result"].value == first["value"]
    assert again["result"].best == again["best"]
    assert again["best"].model_dump(mode="json") == first["hyperparameters"]


@pytest.mark.parametrize(
    "flags",
    [
        ("recommender", "--lists-by", "popular", "--metric", "rmse", "--range", "ratings.epochs=1:3"),
        ("blend", "--recipes", "mf,popular", "--range", "0.epochs=1:3"),
    ],
)
def test_code_of_a_search_of_parts(hatrix: Hatrix, home: Path, flags: tuple[str, ...]) -> None:
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    done = hatrix("tune", "my ratings.csv", *flags, *COLUMNS, "--trials", "3", "--out", "out", "-q")
    assert done.status == 0, done
    again = made_by(code_in(home / "out" / "report.html"), home / "again")
    first = json.loads((home / "out" / "tuning.json").read_text())
    assert again["result"].value == first["value"]
    assert again["result"].best == again["best"]


@pytest.mark.parametrize("flags", [(), ("--unseen",), ("--ranking", "-k", "5")])
def test_code_of_an_evaluation(hatrix: Hatrix, home: Path, flags: tuple[str, ...]) -> None:
    train = hx.split.random(hx.read("my ratings.csv", user="who", item="film", rating="stars"), 0.5).train
    hx.ALS(factors=3).fit(train, progress=False).save("als.hatrix")
    done = hatrix(
        "evaluate", "als.hatrix", "my ratings.csv", *COLUMNS, *flags, "--report", "r.html", "--json", "-q"
    )
    assert done.status == 0, done
    code = code_in(home / "r.html")
    assert "hx.load('als.hatrix')" in code
    again = made_by(code, home / "again")["result"].to_dict()
    check_figures(json.loads(done.out), again)
    assert "hatrix evaluate als.hatrix" in (home / "r.html").read_text()


def films(names: list[str]) -> pd.DataFrame:
    numbers = np.arange(len(names))
    return pd.DataFrame(
        {"film": names, "name": [f"Film {n}" for n in names], "genres": np.where(numbers % 2, "War", "Drama")}
    )


def test_code_of_a_run_with_a_table_of_items_joins_it(hatrix: Hatrix, home: Path) -> None:
    table = films([str(n) for n in range(40)]).rename(columns={"film": "item"})
    table.to_csv("films.csv", index=False)
    flags = ("biased-mf", "--factors", "4", "--epochs", "3", *COLUMNS, "--items", "films.csv")
    done = hatrix("run", "my ratings.csv", *flags, "--out", "out", "-q")
    assert done.status == 0, done
    code = code_in(home / "out" / "report.html")
    assert "ratings = ratings.with_items('films.csv')\nsplit = " in code
    result = made_by(code, home / "again")["result"]
    assert result.test.item_table["genres"].tolist() == table["genres"].tolist()
    assert result.rmse == json.loads((home / "out" / "metrics.json").read_text())["rmse"]
    result.report("errors.html")
    assert "By genre" in Path("errors.html").read_text()


def test_code_of_tables_in_memory_says_that_they_are_needed(home: Path) -> None:
    ratings = hx.read("my ratings.csv", user="who", item="film", rating="stars")
    table = films(list(ratings.items.labels))
    jobs = pd.DataFrame({"user": ratings.users.labels, "job": "poet"})
    known = {"item_table": table, "user_table": jobs}
    with_both = ratings.with_items(table, id="film", title="name").with_users(jobs)
    split = hx.split.random(with_both, 0.3)
    recipe = hx.BayesianMF(
        factors=1, epochs=6, burn_in=2, draws=2, fields=("user", "item", "item_attributes")
    )
    result = hx.evaluate(recipe.fit(split.train, progress=False), split.test)
    result.report("r.html")
    compared = hx.compare([hx.Bias()], split, progress=False)
    compared.report("c.html")
    for report, folder in (("r.html", "first"), ("c.html", "second")):
        code = code_in(home / report)
        assert (
            "# item_table: the table of items that you joined\n# user_table: the table of users that" in code
        )
        assert (
            "ratings.with_items(item_table, id='film', title='name')\nratings = ratings.with_users(user_table)"
            in code
        )
        assert "in memory" not in code
        assert made_by(code, home / folder, **known)["split"].train.item_table["title"][0] == "Film 0"
    assert made_by(code_in(home / "r.html"), home / "third", **known)["result"].rmse == result.rmse
    later = hx.evaluate(recipe.fit(split.train, progress=False), ratings.take(np.arange(99)))
    later.report("l.html")  # of ratings that do not have the table which the model was trained with
    assert "# model: the fitted bayesian-mf model" in code_in(home / "l.html")
    parts = hx.split.random(ratings, 0.3)
    other = hx.evaluate(hx.Bias().fit(parts.train.with_items(table, id="film"), progress=False), parts.test)
    other.report("o.html")
    assert "# model: the fitted bias model" in code_in(home / "o.html")


def test_code_for_data_in_memory_says_what_it_needs(home: Path) -> None:
    table = pd.read_csv("my ratings.csv")
    ratings = hx.Ratings.from_frame(table, user="who", item="film", rating="stars", name="table")
    split = hx.split.k_fold(ratings, 4)[1]
    result = hx.evaluate(hx.ALS(factors=3).fit(split.train, progress=False), split.test)
    result.report("r.html")
    code = code_in(home / "r.html")
    assert "# ratings: the ratings that you made in memory, called 'table'" in code
    assert made_by(code, home / "again", ratings=ratings)["result"].rmse == result.rmse
    own = hx.Split(split.train, ratings.take(np.arange(50)), "my own")
    hx.compare([hx.Bias()], own, progress=False).report("c.html")
    code = code_in(home / "c.html")
    assert "# split: the split that you made, my own of 'table'" in code
    made_by(code, home / "third", split=own)
    other = hx.ALS(factors=3).fit(ratings, progress=False)  # not on the training part of the split
    found = hx.evaluate_ranking(
        other, split.test, negatives={1: [2, 3]} | {u: list(range(9)) for u in range(60)}
    )
    found.report("e.html")
    code = code_in(home / "e.html")
    assert "# model: the fitted als model of 'table'" in code
    assert "# negatives: as you gave it" in code


def test_ratings_that_were_chosen_by_hand_are_of_no_known_origin() -> None:
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    assert ratings.origin is not None
    assert ratings.take(np.arange(10)).origin is None
    assert ratings.chosen([(slice(0, 300), np.ones(300, bool))]).origin is None
    assert hx.Ratings.from_columns([1], [2], [3.0]).origin is None
    parted = hx.split.random(hx.split.per_user(ratings).train, 0.5)
    assert parted.test.origin is not None
    assert parted.test.origin.lines()[-1] == "split = hx.split.random(split.train, test=0.5, seed=42)"
    names: dict[str, Any] = {"hx": hx}
    run("\n".join(parted.test.origin.lines()), names)
    np.testing.assert_array_equal(names["split"].test.item, parted.test.item)
