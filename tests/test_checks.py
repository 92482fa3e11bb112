"""Checks of arguments: what each allows, and public functions that are given what nobody should give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix import _checks
from hatrix.errors import HatrixError, ParameterError
from hatrix.evaluation import charts

ODD = {
    "array": np.array(["a", "b"]),
    "numbers": np.array([1.0, 2.0]),
    "series": pd.Series(["a", "b"]),
    "list": ["notebook"],
    "empty list": [],
    "dict": {"a": 1},
    "object": object(),
    "bytes": b"x",
    "nan": float("nan"),
    "number": 3.5,
    "huge": 10**400,
    "unprintable": 10**5000,
    "half a character": "\ud800",
    "null character": "a\0b",
}


def test_numbers_are_whole_and_no_truth_values():
    for given in (3, np.int8(3), np.uint64(3)):
        assert _checks.whole("n", given, 1, 3) == 3
        assert type(_checks.whole("n", given)) is int
    for given in (True, np.True_, 0, 4, 2.0, np.float64(2), "2", None, *ODD.values()):
        with pytest.raises(ParameterError, match=r"^n is .*: give a whole number from 1 to 3 \(all\)$"):
            _checks.whole("n", given, 1, 3, of="all")
    with pytest.raises(ParameterError, match=r"^n is 0: give a whole number from 1 up$"):
        _checks.whole("n", 0)


def test_words_are_texts_of_a_list():
    _checks.one_of("metric", "dot", ["cosine", "dot"])
    _checks.one_of("metric", np.str_("dot"), ["cosine", "dot"])
    for given in (None, "Dot", "", *ODD.values()):
        with pytest.raises(ParameterError, match=r"^metric is .*: give 'cosine', 'dot' or 'l2'$"):
            _checks.one_of("metric", given, ["cosine", "dot", "l2"])


def test_truth_values_are_those_of_python_and_numpy():
    assert _checks.yes_or_no("clip", np.False_) is False
    for given in (None, 0, 1, "no", *ODD.values()):
        with pytest.raises(ParameterError, match=r"^clip is .*: give True or False$"):
            _checks.yes_or_no("clip", given)


def test_columns_are_names_or_positions():
    assert _checks.column("user", np.int64(2)) == 2
    for given in (False, None, 1.0, ODD["array"], ODD["series"], ODD["list"]):
        with pytest.raises(ParameterError, match=r"^user is .*: give the name of a column, or its position"):
            _checks.column("user", given)


def test_what_is_shown_of_a_value_is_one_short_line():
    assert _checks.shown("a\nb") == r"'a\nb'"
    assert _checks.shown(10**5000) == "a value of the type int"
    assert _checks.shown(np.zeros((9, 9))).startswith("array([[0., 0.,")
    assert "\n" not in _checks.shown(pd.Series(range(99)))
    assert max(len(_checks.shown(given)) for given in ODD.values()) <= _checks.LONGEST


def test_paths_are_what_the_system_can_be_asked_for(tmp_path, monkeypatch):
    assert _checks.path_of("path", tmp_path) == _checks.path_of("path", str(tmp_path)) == tmp_path
    assert _checks.path_of("path", os.fsencode(tmp_path / "a")) == tmp_path / "a"
    assert os.fsencode(_checks.path_of("path", "\udcff")) == b"\xff"  # a name that is not UTF-8
    for given in ("", None, True, *(odd for odd in ODD.values() if not isinstance(odd, bytes))):
        with pytest.raises(ParameterError, match=r"^path is "):
            _checks.path_of("path", given)
    with pytest.raises(ParameterError, match=r"^path is '\\ud800', which has half a character"):
        _checks.path_of("path", "\ud800")
    with pytest.raises(ParameterError, match="not UTF-8 text"):
        _checks.path_of("path", "\udcff", text=True)
    odd = tmp_path / "\udcff"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert _checks.path_of("path", "x") == Path("x")
    with pytest.raises(ParameterError, match="not UTF-8 text"):
        _checks.path_of("path", "x", text=True)


@pytest.fixture(scope="module")
def model() -> hx.FactorModel:
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    return hx.ALS(factors=2, epochs=2).fit(ratings, progress=False)


@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
def test_no_argument_of_a_public_function_ends_in_an_error_of_another_library(model, odd, tmp_path):
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, seed=1)
    frame = ratings.to_frame()
    path = tmp_path / "r.csv"
    frame.to_csv(path, index=False)
    result = hx.evaluate(model, ratings)
    item = int(ratings.items.labels[0])
    films = pd.DataFrame({"item": ratings.items.labels, "title": "t"})
    calls: list[Any] = [
        lambda: hx.split.per_user(ratings, draw=odd),
        lambda: hx.split.k_fold(ratings, order=odd),
        lambda: hx.split.official(odd, 1),
        lambda: hx.split.official("ml-100k", odd),
        lambda: hx.datasets.load(odd),
        lambda: hx.synthetic.make(9, 9, n_ratings=20, implicit=odd),
        lambda: hx.synthetic.make(9, 9, n_ratings=20, factors=odd),
        lambda: model.similar_items(item, metric=odd),
        lambda: model.recommend(1, exclude_seen=odd),
        lambda: model.recommend_all(memory=odd, progress=False),
        lambda: model.predict(1, item, clip=odd),
        lambda: model.update(ratings, threads=odd),
        lambda: model.forget(1, refit=odd),
        lambda: model.save(tmp_path / "m.hatrix", seen=odd),
        lambda: hx.evaluate(model, ratings, bootstrap=odd),
        lambda: hx.evaluate_ranking(model, ratings, exclude_seen=odd),
        lambda: hx.compare([hx.Bias()], hx.split.random(ratings), metric=odd, progress=False),
        lambda: hx.cross_validate(hx.Bias(), ratings, processes=odd, progress=False),
        lambda: hx.tune(hx.Bias(), ratings, prune=odd, progress=False),
        lambda: hx.tune(hx.Bias(), ratings, refit=odd, progress=False),
        lambda: result.report(tmp_path / "r.html", baselines=odd),
        lambda: charts.loss(model.history, measure=odd),
        lambda: charts.slices(result.anatomy.by_rating, by="rating", measure=odd),
        lambda: ratings.with_items(films, id=odd),
        lambda: ratings.with_items(films, title=odd),
    ]
    for option in ("user", "item", "rating", "time", "separator", "header", "encoding", "implicit"):
        calls.append(lambda option=option: hx.read(path, **{option: odd}, progress=False))
    for option in ("user", "item", "rating", "time", "implicit"):
        given = {"user": "user", "item": "item"} | {option: odd}
        calls.append(lambda given=given: hx.Ratings.from_frame(frame, **given))
    if not isinstance(odd, bytes):  # a path may be bytes
        calls += [
            lambda: model.save(odd),
            lambda: hx.load(odd),
            lambda: hx.Checkpoint(odd),
            lambda: hx.ALS(factors=2).fit(ratings, checkpoint=odd, progress=False),
            lambda: hx.ALS(factors=2).fit(ratings, resume=odd, progress=False),
            lambda: model.recommend_all(path=odd, progress=False),
            lambda: hx.tune(hx.Bias(), ratings, study=odd, progress=False),
            lambda: hx.read(path, memory="2GB", folder=odd, progress=False),
            lambda: hx.synthetic.expand(ratings, path=odd),
            lambda: result.report(odd),
        ]
    for number, call in enumerate(calls):
        with pytest.raises(HatrixError):
            pytest.fail(f"call {number} took {_checks.shown(odd)}: {call()!r:.60}")
