from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatrix as hx
from hatrix.errors import DataError, DivergenceError, MissingExtraError, ParameterError
from hatrix.evaluation import ranges
from hatrix.evaluation import tune as tune_module
from hatrix.models import ALGORITHMS, SEED, algorithm

RECIPE = hx.BiasedMF(factors=4, epochs=8)
SAME = ["number", "state", "value", "epochs", "learning_rate", "regularization"]


@pytest.fixture(scope="module")
def parts() -> hx.Split:
    ratings, _ = hx.synthetic.make(150, 60, n_ratings=5000, factors=2, noise=0.4, seed=1)
    return hx.split.per_user(ratings)


@pytest.fixture(scope="module")
def found(parts) -> hx.Tuning:
    return hx.tune(RECIPE, parts.train, trials=16, progress=False)


def test_it_finds_better_values_than_those_given_on_ratings_that_it_never_saw(parts):
    bad = hx.BiasedMF(factors=4, epochs=8)
    result = hx.tune(bad, parts.train, trials=20, seed=0, space={"learning_rate": (1e-3, 0.3, "log")})
    before = hx.evaluate(bad.fit(parts.train), parts.test).rmse
    assert hx.evaluate(result.model, parts.test).rmse < before - 0.01
    assert result.value < result.trials["value"][0]


def test_the_first_trial_is_the_recipe_itself(found, parts):
    held = hx.split.random(parts.train, 0.1, seed=SEED)
    model = RECIPE.fit(held.train, held.test, seed=SEED, progress=False)
    assert found.trials["value"][0] == pytest.approx(model.history["valid_rmse"].min())
    assert found.trials["learning_rate"][0] == RECIPE.learning_rate


def test_weights_left_to_the_data_begin_a_search_and_those_not_searched_stay_so(parts, tmp_path):
    recipe = hx.ImplicitALS(factors=4, epochs=3)
    result = hx.tune(recipe, parts.train, trials=2, progress=False)
    first, begun = result.trials.iloc[0], recipe.resolved(hx.split.random(parts.train, 0.1, seed=SEED).train)
    assert set(result.space) == {"alpha0", "regularization"}
    for name in result.space:
        assert first[name] == float(f"{getattr(begun, name):.3g}")
    assert result.best.alpha == "auto"
    assert result.model.recipe == result.best.resolved(parts.train)
    given = hx.ImplicitALS(factors=4, alpha0="auto", regularization=0.1)
    with pytest.raises(ParameterError, match="nothing is left to search"):
        hx.tune(given, parts.train, trials=2)
    result.report(tmp_path / "search.html")


def test_the_best_is_the_least_complete_trial_with_its_best_epoch(found):
    complete = found.trials.query("state == 'complete'")
    best = complete.loc[complete["value"].idxmin()]
    assert found.value == best["value"]
    assert found.best.epochs == best["epochs"]
    assert found.best.learning_rate == best["learning_rate"]
    assert found.best.factors == 4  # given, so kept
    assert found.value <= found.trials["value"].min()


def test_the_model_is_the_best_recipe_fitted_to_all_training_ratings(found, parts):
    assert found.model.recipe == found.best.resolved(parts.train)
    assert found.model.fingerprint == parts.train.fingerprint
    again = found.best.fit(parts.train, seed=SEED)
    np.testing.assert_array_equal(found.model.user_factors, again.user_factors)


def test_some_trials_are_pruned_and_none_without_pruning(found, parts):
    pruned = found.trials.query("state == 'pruned'")
    assert len(pruned)
    assert (pruned["epochs"] < RECIPE.epochs).any()
    whole = hx.tune(RECIPE, parts.train, trials=16, prune=False, refit=False)
    assert set(whole.trials["state"]) <= {"complete", "failed"}
    assert whole.model is None


def test_the_same_seed_makes_the_same_trials_on_any_number_of_threads(found, parts):
    again = hx.tune(RECIPE, parts.train, trials=16, threads=1, refit=False)
    assert again.trials[SAME].equals(found.trials[SAME])
    other = hx.tune(RECIPE, parts.train, trials=16, seed=1, refit=False)
    assert not other.trials["learning_rate"].equals(found.trials["learning_rate"])


def test_interrupted_and_continued_it_makes_the_same_trials(found, parts, tmp_path, monkeypatch):
    file = tmp_path / "study.db"
    for trials in (5, 11, 16):
        result = hx.tune(RECIPE, parts.train, trials=trials, study=file, refit=False)
        assert len(result.trials) == trials
    assert result.trials[SAME].equals(found.trials[SAME])
    assert result.best == found.best
    with sqlite3.connect(file) as disk:
        assert disk.execute("select count(*) from trials").fetchone() == (16,)
    monkeypatch.setattr(
        tune_module._Search, "_trial", lambda _: pytest.fail("a trial of a finished study was made again")
    )
    hx.tune(RECIPE, parts.train, trials=16, study=file, refit=False)


def test_a_study_of_another_search_is_refused(parts, tmp_path):
    file = tmp_path / "study.db"
    hx.tune(RECIPE, parts.train, trials=1, study=file, refit=False)
    for recipe, train, options, about in (
        (hx.BiasedMF(factors=8), parts.train, {}, "hyperparameters"),
        (RECIPE, parts.test, {}, "data"),
        (RECIPE, parts.train, {"seed": 1}, "seed"),
        (RECIPE, parts.train, {"space": {"factors": (2, 4)}}, "space"),
        (hx.Bias(), parts.train, {}, "algorithm"),
    ):
        with pytest.raises(ParameterError, match=f"another search: its {about}"):
            hx.tune(recipe, train, trials=2, study=file, **options)


KILLED = """
import os, sys
import optuna
import hatrix as hx
def kill(*_, **__):
    os.kill(os.getpid(), 9)
WHEN = kill
ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
hx.tune(hx.BiasedMF(factors=4, epochs=2), ratings, trials=2, study=sys.argv[1], refit=False, progress=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    "when",
    ["optuna.Study.set_user_attr", "optuna.create_study", "optuna.storages.RDBStorage.create_new_study"],
)
def test_a_study_whose_maker_was_killed_goes_on(tmp_path, when):
    file = tmp_path / "study.db"
    script = KILLED.replace("WHEN", when)
    assert subprocess.run([sys.executable, "-c", script, file], check=False).returncode == -9
    assert file.exists()
    ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    recipe = hx.BiasedMF(factors=4, epochs=2)
    found = hx.tune(recipe, ratings, trials=2, study=file, refit=False, progress=False)
    assert len(found.trials) == 2
    assert os.listdir(tmp_path) == ["study.db"]
    with pytest.raises(ParameterError, match="another search: its seed"):
        hx.tune(recipe, ratings, trials=2, seed=1, study=file, refit=False, progress=False)


def test_files_that_are_no_studies_are_refused_and_left_alone(parts, tmp_path):
    csv = tmp_path / "ratings.csv"
    csv.write_text("user,item\n1,2\n")
    with pytest.raises(ParameterError, match="not a study"):
        hx.tune(RECIPE, parts.train, trials=1, study=csv)
    assert csv.read_text() == "user,item\n1,2\n"
    with pytest.raises(ParameterError, match="is a folder"):
        hx.tune(RECIPE, parts.train, trials=1, study=tmp_path)
    with pytest.raises(ParameterError, match="no folder"):
        hx.tune(RECIPE, parts.train, trials=1, study=tmp_path / "there" / "study.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"SQLite format 3\0" + b"\xff" * 2000)
    with pytest.raises(ParameterError, match="cannot be used as a study"):
        hx.tune(RECIPE, parts.train, trials=1, study=broken)


def test_each_trial_is_a_training_that_is_finished_several_times(parts, monkeypatch):
    trainings, resolvings = [], []
    train, resolved = hx.SpectralMF.train, hx.SpectralMF.resolved
    monkeypatch.setattr(
        hx.SpectralMF,
        "train",
        lambda self, *given, **how: trainings.append(self) or train(self, *given, **how),
    )
    monkeypatch.setattr(
        hx.SpectralMF,
        "resolved",
        lambda self, data: resolvings.append("auto" in dict(self).values()) or resolved(self, data),
    )
    result = hx.tune(hx.SpectralMF(), parts.train, trials=9, refit=False)
    assert result.metric == "valid_ndcg"
    assert len(result.trials) == len(trainings) == len({str(one) for one in trainings}) == 9
    assert sum(resolvings) == 1  # for all trials
    assert not result.trials["shared"].any()
    assert result.trials["finishes"].tolist() == [1] + [8] * 8
    assert result.trials["offset"].nunique() == 9
    assert result.trials["factors"][1:].nunique() > 4  # small numbers come up more than once
    top = result.trials.loc[result.trials["value"].idxmax()]
    monkeypatch.undo()
    held = hx.split.random(parts.train, 0.1, seed=SEED)
    alone = result.best.fit(held.train, held.test, seed=SEED, progress=False)
    assert alone.history["valid_ndcg"].iloc[-1] == pytest.approx(top["value"], rel=1e-6)
    assert result.best.epochs == hx.SpectralMF().epochs


def test_late_hyper_parameters_alone_need_one_training(parts):
    result = hx.tune(
        hx.SpectralMF(factors=8),
        parts.train,
        trials=4,
        space={"power": (0.0, 2.0), "popularity": (0.0, 1.0)},
        refit=False,
    )
    assert result.trials["shared"].tolist() == [False, True, True, True]


def test_interrupted_and_continued_finishes_are_the_same(parts, tmp_path):
    whole = hx.tune(hx.SpectralMF(), parts.train, trials=6, refit=False)
    for trials in (1, 3, 6):
        result = hx.tune(
            hx.SpectralMF(), parts.train, trials=trials, study=tmp_path / "study.db", refit=False
        )
    drop = ["seconds"]
    pd.testing.assert_frame_equal(result.trials.drop(columns=drop), whole.trials.drop(columns=drop))
    assert result.best == whole.best


def test_the_recipe_given_is_tried_in_full_and_nothing_worse_is_returned(parts):
    """A trial that looks settled early must not stand for the recipe: here it gets better late."""
    slow = hx.BiasedMF(factors=4, epochs=40, learning_rate=0.004)
    result = hx.tune(slow, parts.train, trials=3, space={"regularization": (5.0, 50.0)}, refit=False)
    held = hx.split.random(parts.train, 0.1, seed=SEED)
    course = slow.fit(held.train, held.test, seed=SEED, progress=False).history["valid_rmse"]
    assert result.trials["value"][0] == course.min()
    assert result.trials["epochs"][0] == 1 + course.to_numpy().argmin()
    assert result.value <= course.iloc[-1]
    assert result.gain.value >= 0
    assert result.best.regularization == slow.regularization


def test_a_default_outside_of_the_ranges_is_tried_too(parts):
    recipe = hx.SpectralMF(noise=0.9)
    result = hx.tune(
        recipe, parts.train, trials=2, space={"noise": (0.1, 0.2), "factors": (30, 40)}, refit=False
    )
    assert result.trials["noise"][0] == 0.9
    assert (
        result.trials["factors"][0]
        == recipe.resolved(hx.split.random(parts.train, 0.1, seed=SEED).train).factors
    )


def test_the_gain_is_that_of_both_recipes_user_by_user(found, parts):
    held = hx.split.random(parts.train, 0.1, seed=SEED)
    figures = []
    for recipe in (RECIPE, found.best):
        model = recipe.replace(patience=None).fit(held.train, seed=SEED, progress=False)
        figures.append(hx.evaluate(model, held.test).rmse)
    assert found.gain.value == pytest.approx(figures[0] - figures[1], abs=1e-6)
    assert found.gain.low < found.gain.value < found.gain.high
    assert found.to_dict()["gain"]["value"] == found.gain.value
    clicks = hx.tune(hx.BPR(factors=4, epochs=6), parts.train, trials=3, refit=False)
    assert clicks.gain.value >= 0
    assert clicks.value - clicks.trials["value"][0] <= clicks.gain.value + 1e-9


def test_clicks_are_searched_by_their_ranking(parts):
    clicks = hx.Ratings.from_columns(parts.train.user, parts.train.item)
    result = hx.tune(hx.SpectralMF(), clicks, trials=2, space={"factors": (2, 8), "popularity": (0.0, 1.0)})
    assert result.model.task == "ranking"
    assert result.metric == "valid_ndcg"
    with pytest.raises(DataError, match="events"):
        hx.tune(hx.BiasedMF(), clicks, trials=1)


def test_rankings_are_validated_on_no_more_users_than_needed(parts, monkeypatch):
    monkeypatch.setattr(tune_module, "MOST_RANKED", 20)
    result = hx.tune(hx.SpectralMF(factors=4), parts.train, trials=1, refit=False)
    held = hx.split.random(parts.train, 0.1, seed=SEED)
    assert result.n_valid < len(held.test) / 3
    assert result.n_train == len(held.train)
    assert hx.tune(RECIPE, parts.train, trials=1, refit=False).n_valid == len(held.test)


def test_validation_ratings_can_be_given(parts):
    later = hx.split.random(parts.train, 0.2, seed=9)
    result = hx.tune(RECIPE, later.train, trials=2, valid=later.test)
    assert (result.n_train, result.n_valid) == (len(later.train), len(later.test))
    assert result.model.fingerprint == later.train.fingerprint


def test_validation_ratings_that_are_trained_on_are_told_of_and_events_are_refused(parts):
    result = hx.tune(RECIPE, parts.train, trials=1, valid=parts.train, refit=False)
    assert any(word.startswith(f"H001: {len(parts.train):,} of") for word in result.warnings)
    apart = hx.tune(RECIPE, parts.train, trials=1, valid=parts.test, refit=False)
    assert not any(word.startswith("H001") for word in apart.warnings)
    events = hx.Ratings.from_columns(parts.test.user, parts.test.item)
    for search in (hx.tune, lambda recipe, train, valid: recipe.fit(train, valid)):
        with pytest.raises(DataError, match="validation data are events"):
            search(RECIPE, parts.train, valid=events)


def test_a_trial_that_time_cut_short_is_not_kept(parts, tmp_path):
    file = tmp_path / "study.db"
    slow = hx.BiasedMF(epochs=100_000, factors=4, learning_rate=1e-5, decay=1.0)
    result = hx.tune(slow, parts.train, minutes=0.01, study=file, refit=False)
    assert result.trials["state"].tolist() == ["complete"]
    assert any("before even one trial was finished" in note for note in result.notes)
    with sqlite3.connect(file) as disk:
        assert disk.execute("select count(*) from trials").fetchone() == (0,)


def test_time_ends_a_search_and_leaves_a_model(parts):
    started = time.perf_counter()
    result = hx.tune(hx.BiasedMF(epochs=100_000, factors=4, learning_rate=1e-4), parts.train, minutes=0.02)
    assert time.perf_counter() - started < 120
    assert len(result.trials) >= 1
    assert result.model is not None
    assert hx.tune(RECIPE, parts.train, minutes=10, trials=2, refit=False).trials.shape[0] == 2


def test_trials_that_diverge_are_failures_and_the_search_goes_on(parts):
    result = hx.tune(
        hx.MF(epochs=5), parts.train, trials=12, space={"learning_rate": (1e-3, 10.0, "log")}, refit=False
    )
    assert "failed" in set(result.trials["state"])
    assert result.trials.loc[result.trials["state"] == "failed", "value"].isna().all()
    with pytest.raises(DivergenceError, match="no trial"):
        hx.tune(
            hx.MF(epochs=5, learning_rate=10.0), parts.train, trials=2, space={"init_scale": (50.0, 100.0)}
        )


# ----------------------------------------------------------------------------------------------- ranges


@pytest.mark.parametrize("name", ALGORITHMS)
def test_declared_ranges_hold_the_defaults_and_stay_within_the_bounds(name, parts):
    recipe = algorithm(name)()
    started = recipe.resolved(parts.train)
    for knob, one in ranges.declared(recipe).items():
        for end in (one.low, one.high):
            recipe.replace(**{knob: int(end) if one.whole else end})
        own = getattr(started, knob)
        assert one.holds(own) or own == 0, knob  # no factors where only popularity stands out
        assert one.holds(one.nearest(own)), knob


def test_what_is_given_by_hand_keeps_its_value():
    assert set(ranges.declared(hx.BiasedMF(factors=64))) == set(ranges.declared(hx.BiasedMF())) - {"factors"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"factor": (1, 2)}, "BiasedMF has no factor: it has factors"),
        ({"factors": (0, 2)}, "beyond what it may be"),
        ({"factors": (2, 1)}, "the lower first"),
        ({"factors": (2.5, 8)}, "whole numbers"),
        ({"learning_rate": (0, 1, "log")}, "above 0"),
        ({"learning_rate": (0.1, float("inf"))}, "finite"),
        ({"learning_rate": 0.1}, "give"),
        ({"learning_rate": [0.1, 99]}, "beyond what it may be"),
        ({"schedule": ["constant", "fast"]}, "beyond what it may be"),
        ({"schedule": (0, 1)}, "no number"),
        (["factors"], "space is a list"),
        ({}, "nothing is left"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(parts, space, message):
    with pytest.raises(ParameterError, match=message):
        hx.tune(hx.BiasedMF(), parts.train, trials=1, space=space)


def test_a_list_of_two_numbers_is_no_range(parts, tmp_path):
    lists, ends = {"factors": [2, 8]}, {"factors": (2, 8)}
    result = hx.tune(RECIPE, parts.train, trials=8, space=lists, refit=False, study=tmp_path / "study.db")
    assert result.trials["factors"][0] == RECIPE.factors
    assert set(result.trials["factors"][1:]) == {2, 8}
    assert ranges.given(RECIPE, result.to_dict()["space"]) == result.space
    assert ranges.given(RECIPE, ends)["factors"].plain() == (2, 8)
    with pytest.raises(ParameterError, match="its space"):
        hx.tune(RECIPE, parts.train, trials=9, space=ends, study=tmp_path / "study.db")


def test_choices_are_searched(parts):
    space = {"schedule": ["constant", "adaptive"], "factors": [2, 4, 8], "decay": (0.8, 1.0)}
    result = hx.tune(RECIPE, parts.train, trials=8, space=space, refit=False)
    assert (
        result.trials["schedule"][0] == RECIPE.schedule
    )  # the recipe as it is, wherever the others are searched
    assert set(result.trials["schedule"][1:]) <= {"constant", "adaptive"}
    assert set(result.trials["factors"]) <= {2, 4, 8}
    assert result.best.schedule in (RECIPE.schedule, *space["schedule"])
    result.chart("schedule").to_dict()


@given(st.floats(0.01, 0.9), st.booleans())
def test_the_edge_of_a_range_is_its_first_and_last_twentieth(place, log):
    one = ranges.Range(0.1, 10.0, log)
    value = 0.1 * 100**place if log else 0.1 + 9.9 * place
    if abs(place - 0.05) > 1e-9:
        assert one.edge(value) == ("low" if place < 0.05 else "")
    assert one.edge(0.1) == "low"
    assert one.edge(10.0) == "high"


def test_the_edge_of_what_is_possible_is_no_edge_of_a_range():
    knob = ranges.given(hx.BiasedMF(), {"frequency_scaling": (0.0, 1.0), "decay": (0.5, 1.0)})
    assert knob["frequency_scaling"].edge(0.0) == knob["frequency_scaling"].edge(1.0) == ""
    assert knob["decay"].edge(0.5) == "low"
    assert knob["decay"].edge(1.0) == ""


def test_a_best_value_at_the_edge_is_told(parts):
    slow = RECIPE.replace(learning_rate=1e-4)
    result = hx.tune(slow, parts.train, trials=15, space={"learning_rate": (1e-4, 2e-3)}, refit=False)
    assert any(word.startswith("H005: the best learning_rate") for word in result.warnings)
    assert any(
        word.startswith("H005: the best trial was best after its last epoch") for word in result.warnings
    )


# ----------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"trials": 1.5}, "trials is 1.5"),
        ({"minutes": 0}, "minutes is 0"),
        ({"minutes": True}, "minutes is True"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"valid": 1.0}, "between 0 and 1"),
        ({"valid": 0}, "valid is 0: .*between 0 and 1"),
        ({"valid": None}, "valid is None"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_arguments_out_of_range_are_refused(parts, given, message):
    with pytest.raises(ParameterError, match=message):
        hx.tune(RECIPE, parts.train, **given)


def test_test_data_have_no_place_in_a_search(parts):
    with pytest.raises(DataError, match=r"give its \.train"):
        hx.tune(RECIPE, parts)
    with pytest.raises(DataError, match="recipe is a str"):
        hx.tune("biased-mf", parts.train)
    with pytest.raises(ParameterError, match="nothing is left"):
        hx.tune(hx.Popular(), parts.train)


def test_without_optuna_it_says_what_to_install(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"install '\.\[tune\]' in a clone"):
        hx.tune(RECIPE, parts.train, trials=1)


def test_it_is_silent_and_leaves_the_log_of_optuna_alone(parts, capsys):
    import logging

    import optuna

    optuna.logging.set_verbosity(optuna.logging.INFO)
    capsys.readouterr()
    hx.tune(RECIPE, parts.train, trials=2, refit=False)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    assert logging.getLogger("optuna").level == logging.INFO


# ------------------------------------------------------------------------------------------------ output


def test_it_is_ready_for_json_and_drawn(found):
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["value"] == found.value
    assert facts["hyperparameters"] == found.best.model_dump(mode="json")
    assert found.chart().to_dict()
    assert found.chart("learning_rate").to_dict()
    with pytest.raises(ParameterError, match="choose from"):
        found.chart("factors")


def test_the_page_is_complete(found, tmp_path):
    found.report(tmp_path / "tuning.html")
    page = (tmp_path / "tuning.html").read_text()
    for text in ("not searched", "The course of the search", "hx.BiasedMF("):
        assert text in page
    keys = re.findall(r'<div class="chart" id="([^"]+)"', page) + re.findall(r'<h2 id="([^"]+)"', page)
    assert len(keys) == len(set(keys)), "a chart would be drawn over a heading"


SCRIPT = """
import sys
import hatrix as hx
ratings, _ = hx.synthetic.make(300, 100, n_ratings=15000, seed=1)
print("begun", flush=True)
result = hx.tune(hx.BiasedMF(epochs=200), ratings, trials=100_000, study=sys.argv[1])
print("ended", len(result.trials), result.model is not None, *result.notes, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_the_search_and_keeps_what_was_found(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    running = subprocess.Popen(
        [sys.executable, script, tmp_path / "study.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    until = time.monotonic() + 120
    while not _kept(tmp_path / "study.db") and running.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    printed, errors = running.communicate(timeout=180)
    assert re.fullmatch(r"ended \d+ True the search was stopped after \d+ trials\n", printed), errors
    assert _kept(tmp_path / "study.db") >= 1


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_two_searches_do_not_share_a_study(tmp_path):
    file = tmp_path / "study.db"
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, file], stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not _kept(file) and running.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        ratings, _ = hx.synthetic.make(300, 100, n_ratings=15000, seed=1)
        with pytest.raises(
            ParameterError, match=rf"study.db: another process \(number {running.pid}\) writes"
        ):
            hx.tune(hx.BiasedMF(epochs=200), ratings, trials=1, study=file)
    finally:
        running.kill()
        running.communicate()
    kept = _kept(file)
    result = hx.tune(hx.BiasedMF(epochs=200), ratings, trials=kept, study=file, refit=False)
    assert len(result.trials) == kept
    assert not list(tmp_path.glob(".hatrix-*"))


def _kept(file) -> int:
    """Trials in a study that another process may be about to make."""
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as disk:
            return disk.execute("select count(*) from trials").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
