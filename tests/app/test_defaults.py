"""A default that is declared in Python and again for the command line or the service is the same in both."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hatrix as hx
from hatrix import data
from hatrix.app import (
    batches,
    catalogue,
    commands,
    explaining,
    flags,
    recommend,
    recommending,
    schemas,
    search,
)
from hatrix.data.expansion import expand
from hatrix.evaluation import rating
from hatrix.evaluation.measured import LENGTHS
from hatrix.models import SEED
from hatrix.models.fit import Algorithm, Checkpoint
from hatrix.models.model import FactorModel

API: dict[str, tuple[Callable[..., Any], ...]] = {
    "fit": (Algorithm.fit, Algorithm.train),
    "split": (hx.split.per_user, hx.split.random),
    "evaluate": (hx.evaluate,),
    "evaluate_ranking": (hx.evaluate_ranking,),
    "compare": (hx.compare,),
    "tune": (hx.tune,),
    "recommend": (FactorModel.recommend, FactorModel.recommend_all),
    "similar": (FactorModel.similar_items, FactorModel.similar_users),
    "explain": (FactorModel.explain,),
    "expand": (expand,),
}
"""What users call in Python, by what a command or a route does with it."""

AGAIN: list[tuple[str, Any]] = [
    ("fit", flags.Training),
    ("split", flags.Training),
    ("fit", search.Fits),
    ("split", search.Fits),
    ("compare", search.Fits),
    ("tune", search.Fits),
    ("compare", search.compare),
    ("tune", search.tune),
    ("recommend", recommend.recommend),
    ("similar", recommend.similar),
    ("explain", recommend.explain),
    ("expand", commands._expand),
    ("explain", explaining.explain),
    ("explain", schemas.VisitorExplanationRequest),
    ("recommend", recommending.for_user),
    ("similar", catalogue.similar_items),
    ("similar", catalogue.similar_users),
]
NAMES = {"users": "user_copies", "items": "item_copies"}
"""Flags that are called otherwise than the parameter."""


def defaults(declared: Any) -> Iterator[tuple[str, Any]]:
    """Names and defaults of a function, a dataclass or a pydantic model."""
    if dataclasses.is_dataclass(declared):
        yield from ((field.name, field.default) for field in dataclasses.fields(declared))
    elif hasattr(declared, "model_fields"):
        yield from ((name, field.default) for name, field in declared.model_fields.items())
    else:
        yield from ((name, one.default) for name, one in inspect.signature(declared).parameters.items())


@pytest.mark.parametrize(("what", "declared"), AGAIN, ids=lambda part: getattr(part, "__qualname__", part))
def test_defaults_are_those_of_python(what, declared):
    compared = 0
    for function in API[what]:
        wanted = dict(defaults(function))
        for name, value in defaults(declared):
            name = NAMES.get(name, name) if what == "expand" else name
            # None means that the command leaves it to Python.
            if name in wanted and isinstance(value, int | float | str) and wanted[name] is not None:
                assert value == wanted[name], (function.__qualname__, name)
                compared += 1
    assert compared


def test_seeds_have_one_default():
    for function in (
        Algorithm.fit, Algorithm.train, hx.split.per_user, hx.split.random, hx.evaluate, hx.evaluate_ranking, hx.compare,
        hx.tune, rating.bootstrap,
    ):  # fmt: skip
        assert inspect.signature(function).parameters["seed"].default == SEED, function.__qualname__
    assert (
        inspect.signature(data.split.k_fold).parameters["seed"].default == 0
    )  # whose folds are known by this number
    assert inspect.signature(hx.cross_validate).parameters["seed"].default == 0


def test_defaults_that_stand_in_a_text():
    checkpoint = {field.name: field.default for field in dataclasses.fields(Checkpoint)}
    assert f"[default: {checkpoint['seconds']:g}]" in help_of(flags.Training, "checkpoint_seconds")
    k = inspect.signature(hx.evaluate_ranking).parameters["k"].default
    assert f"[default: {k}]" in help_of(flags.Ranking, "k")
    assert LENGTHS[0] == k
    assert inspect.signature(FactorModel.recommend).parameters["n"].default == batches.N
    assert (
        inspect.signature(FactorModel.recommend_all).parameters["memory"].default == recommend.DEFAULT_MEMORY
    )


def help_of(declared: Any, name: str) -> str:
    from typing import get_type_hints

    return str(get_type_hints(declared, include_extras=True)[name].__metadata__[0].help)


@pytest.mark.parametrize("algorithm", ["bayesian-mf", "bpr"])
def test_python_and_the_commands_have_the_same_intervals(algorithm, hatrix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    frame = ratings.to_frame()[["user", "item", "rating"]]
    frame.to_csv("ratings.csv", index=False)
    settings = ["--epochs", "12", "--factors", "2"]
    settings += ["--burn-in", "2", "--draws", "4"] if algorithm == "bayesian-mf" else []
    assert hatrix("run", "ratings.csv", algorithm, *settings, "--seed", "7", "--out", "run", "-q").status == 0
    model = hx.load("run/model.hatrix")
    test = hx.split.per_user(hx.read("ratings.csv"), seed=7).test
    test.to_frame()[["user", "item", "rating"]].to_csv("test.csv", index=False)
    done = hatrix("evaluate", "run/model.hatrix", "test.csv", "--json", "-q")
    measured = (
        hx.evaluate(model, test)
        if model.task == "rating"
        else hx.evaluate_ranking(model, test, k=LENGTHS[:3])
    )
    found = json.loads(json.dumps(measured.to_dict()["intervals"]))
    written = json.loads((tmp_path / "run/metrics.json").read_text())["intervals"]
    again = json.loads(done.out)["intervals"]
    assert found == written == again
