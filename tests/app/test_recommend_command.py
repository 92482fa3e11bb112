"""`hatrix recommend` and `hatrix similar` as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from command import refused


@pytest.fixture(scope="module")
def models() -> dict[str, hx.FactorModel]:
    rng = np.random.default_rng(0)
    pairs = rng.integers(-1, [30, 25], (500, 2))
    stars = rng.integers(1, 6, 500)
    numbers = hx.Ratings.from_columns(pairs[:, 0], pairs[:, 1], stars)
    films = pd.DataFrame(
        {
            "title": [f"Film {n}" for n in range(len(numbers.items))],
            "year": pd.array([None, *range(1980, 1979 + len(numbers.items))], "Int64"),
            "genres": ["Drama|War" if n % 3 else "Comedy" for n in range(len(numbers.items))],
        }
    )
    texts = hx.Ratings.from_columns([f"u{u}" for u in pairs[:, 0]], [f"i {i}" for i in pairs[:, 1]], stars)
    recipe = hx.BiasedMF(factors=4, epochs=3)
    return {
        "m": recipe.fit(replace(numbers, item_table=films)),
        "t": recipe.fit(texts),
        "b": hx.BayesianMF(factors=2, epochs=12, burn_in=2, draws=4).fit(numbers),
        "p": hx.Popular().fit(numbers),
    }


@pytest.fixture(autouse=True)
def folder(models: dict[str, hx.FactorModel], tmp_path: Path) -> Path:
    for name, model in models.items():
        model.save(tmp_path / f"{name}.hatrix")
    models["m"].save(tmp_path / "bare.hatrix", seen=False)
    return tmp_path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".json":
        return pd.DataFrame(json.loads(path.read_text())["recommendations"])
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def test_a_table_with_titles(hatrix, models):
    done = hatrix("recommend", "m.hatrix", "--user", "3", "-n", "4")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["user", "item", "score", "title", "year", "genres"]
    want = models["m"].recommend(3, 4)
    assert [line.split()[1] for line in lines[1:]] == [str(item) for item in want.item]
    assert want.title[0] in lines[1]


def test_json_has_all_that_attrs_have(hatrix, models):
    done = hatrix("recommend", "m.hatrix", "--user", "3", "99", "-n", "40", "--exclude", "7", "777", "--json")
    assert done.status == 0
    facts = json.loads(done.out)
    want = models["m"].recommend([3, 99], 40, exclude=[7, 777])
    assert [row["item"] for row in facts["recommendations"]] == want.item.tolist()
    assert facts["fallback"] == {"99": "bias"}
    assert facts["short"] == {str(label): reason for label, reason in want.attrs["short"].items()}
    assert facts["warnings"] == want.attrs["warnings"]
    assert facts["n"] == 40
    assert "99: ranked by the item biases" in done.err
    assert "3: " in done.err
    assert "warning: 1 of 2 ids in exclude" in done.err
    assert any(row["year"] is None for row in facts["recommendations"])


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
@pytest.mark.parametrize("whom", [("--user", "3", "-1"), ("--all",)], ids=["some", "all"])
def test_files(hatrix, models, folder, ending, whom):
    out = folder / "new" / f"lists.{ending}"
    done = hatrix("recommend", "m.hatrix", *whom, "-n", "5", "--where", 'genre == "Drama"', "--out", out)
    assert done.status == 0, done
    assert str(out) in done.out
    assert os.listdir(out.parent) == [out.name]
    users = [3, -1] if whom[0] == "--user" else models["m"].users.labels.tolist()
    want = models["m"].recommend(users, 5, where='genre == "Drama"')
    got = read(out)
    assert got.user.tolist() == want.user.tolist()
    assert got["item"].tolist() == want.item.tolist()
    np.testing.assert_allclose(got.score, want.score)


def test_all_without_a_file(hatrix, models):
    done = hatrix("recommend", "m.hatrix", "--all", "-n", "2", "--json")
    facts = json.loads(done.out)
    assert len(facts["recommendations"]) == facts["users"] * 2 == len(models["m"].users) * 2


def test_all_to_a_file_says_what_was_written(hatrix, folder):
    facts = json.loads(hatrix("recommend", "p.hatrix", "--all", "-n", "30", "--out", "x.csv", "--json").out)
    assert facts["short_lists"] == facts["users"]
    assert facts["rows"] == len(pd.read_csv(folder / "x.csv"))
    assert facts["resumed_users"] == 0


def test_lists_of_ids_come_from_files_too(hatrix, folder):
    (folder / "items.txt").write_text("3\n\n5\r\n8\n")
    (folder / "7").write_text("not read, since 7 is an id")
    done = hatrix(
        "recommend", "m.hatrix", "--user", "3", "--among", "items.txt", "7", "--include-seen", "--json"
    )
    rows = json.loads(done.out)["recommendations"]
    assert {row["item"] for row in rows} == {3, 5, 8, 7}
    (folder / "wrong.txt").write_text("3\nfive\n")
    refused(
        hatrix("recommend", "m.hatrix", "--user", "3", "--among", "wrong.txt"),
        "--among wrong.txt: five",
        "whole numbers",
    )
    (folder / "latin.txt").write_bytes(b"\xe9\n")
    refused(hatrix("recommend", "t.hatrix", "--user", "latin.txt"), "not UTF-8")
    (folder / "none.txt").write_text("\n \n")
    refused(hatrix("recommend", "m.hatrix", "--user", "none.txt"), "the file is empty")
    refused(hatrix("recommend", "m.hatrix", "--user", "missing.txt"), "there is no file of this name")


@pytest.mark.parametrize("flag", ["--user", "--among", "--exclude"])
def test_a_file_of_ids_is_not_written_over(hatrix, folder, flag):
    (folder / "ids.csv").write_text("3\n")
    whom = () if flag == "--user" else ("--user", "3")
    refused(hatrix("recommend", "m.hatrix", *whom, flag, "ids.csv", "--out", "ids.csv"), "is what is read")
    assert (folder / "ids.csv").read_text() == "3\n"


def test_text_ids_stay_text(hatrix):
    done = hatrix(
        "recommend", "t.hatrix", "--user", "u3", "--among", "i 3", "i 4", "--json", "--include-seen"
    )
    assert {row["item"] for row in json.loads(done.out)["recommendations"]} == {"i 3", "i 4"}
    assert json.loads(hatrix("recommend", "t.hatrix", "--user", "3", "--json").out)["fallback"] == {
        "3": "bias"
    }


def test_safe_picks(hatrix, models):
    done = hatrix("recommend", "b.hatrix", "--user", "3", "--risk", "0.2", "--json")
    facts = json.loads(done.out)
    assert facts["risk"] == 0.2
    assert [row["item"] for row in facts["recommendations"]] == models["b"].recommend(
        3, risk=0.2
    ).item.tolist()
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--risk", "0.2"), "posterior")
    refused(hatrix("recommend", "b.hatrix", "--user", "3", "--risk", "2"), "between 0 and 1")


def test_what_cannot_be(hatrix, folder):
    refused(hatrix("recommend", "m.hatrix"), "either --user ID or --all")
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--all"), "either --user ID or --all")
    refused(hatrix("recommend", "m.hatrix", "--user", "ann"), "--user ann", "whole numbers", "such as -1")
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--out", "x.xlsx"), ".csv, .json or .parquet")
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--where", "yaer > 3"), "did you mean year")
    refused(hatrix("recommend", "no.hatrix", "--user", "3"), "no.hatrix")
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "-n", "0"), "whole number from 1")
    refused(hatrix("recommend", "bare.hatrix", "--user", "3"), "--no-seen", "--include-seen")
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--threads", "2"), "--all")
    refused(hatrix("recommend", "m.hatrix", "--all", "--memory", "lots", "--out", "x.csv"), "512MB")
    before = set(os.listdir(folder))
    refused(
        hatrix("recommend", "m.hatrix", "--all", "--memory", "64MB", "--out", "x.csv"),
        "--memory 64MB is too little for this model: allow at least",
    )
    refused(hatrix("recommend", "m.hatrix", "--user", "3", "--where", "x > 3", "--out", "x.csv"))
    assert set(os.listdir(folder)) == before
    assert hatrix("recommend", "bare.hatrix", "--user", "3", "--include-seen").status == 0


@pytest.mark.parametrize("ending", [None, "csv", "json", "parquet"])
def test_similar_items(hatrix, models, folder, ending):
    out = () if ending is None else ("--out", folder / f"x.{ending}")
    done = hatrix("similar", "m.hatrix", "--item", "5", "-n", "3", "--metric", "dot", *out)
    assert (done.status, done.err) == (0, "")
    want = models["m"].similar_items(5, 3, metric="dot")
    if ending is None:
        assert [line.split()[0] for line in done.out.splitlines()[1:]] == [str(item) for item in want["item"]]
    elif ending == "json":
        facts = json.loads((folder / "x.json").read_text())
        assert [row["title"] for row in facts["similar"]] == want.title.tolist()
    else:
        assert read(folder / f"x.{ending}")["item"].tolist() == want["item"].tolist()


def test_similar_users_and_what_has_no_neighbours(hatrix, models):
    done = hatrix("similar", "t.hatrix", "--user", "u5", "--json")
    assert [row["user"] for row in json.loads(done.out)["similar"]] == models["t"].similar_users(
        "u5"
    ).user.tolist()
    refused(hatrix("similar", "t.hatrix"), "either --item ID or --user ID")
    refused(hatrix("similar", "t.hatrix", "--item", "x"), "'x' is unknown")
    refused(hatrix("similar", "p.hatrix", "--item", "5"), "no factors")
    refused(hatrix("similar", "m.hatrix", "--item", "5", "--metric", "l2"), "metric")


@pytest.mark.parametrize("ending", [None, ".csv", ".json", ".parquet"])
def test_reasons(hatrix, models, folder, ending):
    item = str(models["m"].recommend(5, 1)["item"][0])
    out = () if ending is None else ("--out", f"why{ending}")
    done = hatrix("explain", "m.hatrix", "--user", "5", "--item", item, *out)
    want = models["m"].explain(5, int(item))
    assert done.status == 0
    assert "place 1 among what the user has not seen" in done.err
    if ending is None:
        assert done.out.splitlines()[0].split()[:5] == ["part", "item", "rating", "contribution", "title"]
        assert len(done.out.splitlines()) == len(want) + 1
    elif ending == ".json":
        facts = json.loads((folder / "why.json").read_text())
        assert [row["contribution"] for row in facts["parts"]] == want.contribution.tolist()
        assert facts["score"] == want.attrs["score"]
        assert facts["without"] == want.attrs["without"]
    else:
        path = folder / f"why{ending}"
        written = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
        np.testing.assert_allclose(written.contribution, want.contribution)


def test_numbers_have_the_decimals_that_they_need(hatrix, models):
    n = len(models["m"].items)
    films = pd.DataFrame(
        {
            "year": 1980 + np.arange(n),
            "gaps": pd.array([None, *range(1, n)], "Int64"),
            "runs": np.where(np.arange(n) % 5, np.arange(n) * 1.0, np.nan),
            "price": np.arange(n) + 0.95,
            "huge": 1e300,
        }
    )
    replace(models["m"], item_table=films).save("a.hatrix")
    parts_of = {"recommend": "recommendations", "similar": "similar", "explain": "parts"}
    for tokens in (
        ["recommend", "a.hatrix", "--user", "5", "-n", "25"],
        ["similar", "a.hatrix", "--item", "5", "-n", "24"],
        ["explain", "a.hatrix", "--user", "5", "--item", "5"],
    ):
        done = hatrix(*tokens)
        head, *lines = [line.split() for line in done.out.splitlines()]
        assert {len(line[head.index("score")].split(".")[1]) for line in lines if "score" in head} <= {4}
        whole = [line[head.index("year") :] for line in lines if len(line) == len(head)]
        assert len(whole) > 3
        for year, gaps, runs, price, huge in whole:
            assert (year.isdigit(), gaps.isdigit(), runs.isdigit(), huge.isdigit()) == (True,) * 4
            assert price.endswith(".95")
        ratings = {line[2] for line in lines if line[0] == "rating"}
        assert ratings <= {"1", "2", "3", "4", "5"}
        assert ("explain" in tokens) == bool(ratings)
        parts = json.loads(hatrix(*tokens, "--json").out)[parts_of[tokens[0]]]
        years = [part["year"] for part in parts if part["year"] is not None]
        assert years
        assert all(isinstance(year, int) for year in years)


def test_reasons_that_cannot_be_given(hatrix):
    refused(hatrix("explain", "m.hatrix", "--user", "5"), "--item")
    refused(hatrix("explain", "m.hatrix", "--user", "5", "--item", "999"), "unknown to the model")
    refused(hatrix("explain", "m.hatrix", "--user", "x", "--item", "5"), "whole numbers")
    done = hatrix("explain", "bare.hatrix", "--user", "5", "--item", "5")
    assert done.status == 0
    assert "without its training rows" in done.err
    assert "-0.0000" not in hatrix("explain", "m.hatrix", "--user", "999", "--item", "3").out
    done = hatrix("explain", "t.hatrix", "--user", "nobody", "--item", "i 5", "--json")
    assert json.loads(done.out)["warnings"]


def test_reasons_for_an_item_that_is_rated_say_so(hatrix, models):
    model = models["m"]
    rated = model.items.labels[model.seen.item[model.seen.of(int(model.users.encode([5])[0]))][0]]
    done = hatrix("explain", "m.hatrix", "--user", "5", "--item", str(rated))
    assert "the user has seen this item; if it were new, it would have place" in done.err
    assert "without the ratings" not in done.err
    facts = json.loads(hatrix("explain", "m.hatrix", "--user", "5", "--item", str(rated), "--json").out)
    assert facts["seen"] is True
    assert facts["without"] is None


@pytest.mark.parametrize("text", ["007", "+7", "7.0", "seven"])
def test_a_text_that_no_integer_is_written_as_is_refused(hatrix, text):
    refused(hatrix("recommend", "m.hatrix", "--user", text), text, "the ids of this model are whole numbers")


def test_an_id_that_is_no_utf8_text_is_refused_in_one_line(tmp_path):
    model = hx.Bias().fit(hx.Ratings.from_columns(["ann", "bob"], ["x", "y"], [1.0, 2.0]), progress=False)
    model.save(tmp_path / "m.hatrix")
    command = [sys.executable, "-m", "hatrix", "recommend", str(tmp_path / "m.hatrix"), "--user", b"caf\xe9"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines()[-1].startswith("error: --user 'caf\\udce9': this id is not UTF-8 text")
