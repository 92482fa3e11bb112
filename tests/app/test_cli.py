"""The command line as a user meets it: results, one-line errors, and nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import hatrix as hx
from hatrix.app.cli import main
from hatrix.models import ALGORITHMS, algorithm
from hatrix.models.fit import Algorithm

COLUMNS = ["--user-column", "who", "--item-column", "film", "--rating-column", "stars"]
FILES = ["history.csv", "metrics.json", "model.hatrix", "report.html"]


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def hatrix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the command in this process, in a folder of its own with no data sets but ml-100k's cache."""
    monkeypatch.chdir(tmp_path)

    def call(*tokens: str | Path) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(token) for token in tokens])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, printed.out, printed.err)

    return call


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


def refused(outcome: Outcome, *parts: str) -> None:
    """The outcome is one line on stderr with exit status 2, and says these things."""
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    [line] = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
    assert outcome.err.splitlines()[-1] == line
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in line


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
            ["run", "ml-100k", "--precision", "float16", "--out", "d"],
            ["one of float32, float64", "'float16'"],
        ),
        (["run", "ml-100k", "--decy", "1", "--out", "d"], ["--decy", "--decay"]),
        (["run", "ml-100k", "mf", "--decay", "1", "--out", "d"], ["--decay is a flag of biased-mf only"]),
        (["run", "ml-100k", "mf", "--decay=1", "--out", "d"], ["--decay is a flag of biased-mf only"]),
        (["run", "ml-100k", "--seed", "-1", "--out", "d"], ["--seed", "from 0 to 4294967295"]),
        (["run", "ml-100k", "--seed", "1.0", "--out", "d"], ["--seed", "whole number"]),
        (["run", "ml-100k", "--threads", "0", "--out", "d"], ["--threads", "from 1 up"]),
        (["run", "ml-100k", "--valid", "1", "--out", "d"], ["--valid", "between 0 and 1"]),
        (["run", "ml-100k", "--patience", "2", "--out", "d"], ["--valid 0.1"]),
        (["run", "ml-100k", "--resume", "--out", "d"], ["--checkpoint FILE"]),
        (["run", "ml-100k", "--split", "thirds", "--out", "d"], ["thirds", "per-user"]),
        (["run", "ml-100k", "--split", "last", "--test", "0.5", "--out", "d"], ["--test 0.5", "how many"]),
        (["run", "ml-100k", "--split", "official", "--test", "0.5", "--out", "d"], ["--fold"]),
        (["run", "ml-100k", "--fold", "1", "--out", "d"], ["--split official"]),
        (["run", "ml-100k", "--separator", ",", "--out", "d"], ["--separator", "./ml-100k"]),
        (["fit", "ml-100k", "--out", "m"], ["ALGORITHM is missing"]),
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
        for bound in info.metadata:
            assert f"{getattr(bound, 'ge', getattr(bound, 'le', getattr(bound, 'gt', None))):g}" in text


def test_help_of_run_alone_is_that_of_its_default(hatrix: Callable[..., Outcome]) -> None:
    assert hatrix("run", "--help").out == hatrix("run", "x", "biased-mf", "--help").out


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
