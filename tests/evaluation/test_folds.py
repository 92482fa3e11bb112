from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError

RECIPE = hx.BiasedMF(factors=4, epochs=5)


@pytest.fixture(scope="module")
def ratings(split) -> hx.Ratings:
    return split.train


@pytest.fixture(scope="module")
def result(ratings) -> hx.CrossValidation:
    return hx.cross_validate(RECIPE, ratings, folds=3, progress=False)


def test_it_is_the_loop_one_would_write(result, ratings):
    rmse = [
        hx.evaluate(RECIPE.fit(part.train, seed=0), part.test).rmse
        for part in hx.split.k_fold(ratings, 3, seed=0)
    ]
    assert result.folds["rmse"].tolist() == rmse
    table = result.table()
    assert table.index.tolist() == ["1", "2", "3", "mean", "sd", "low", "high"]
    assert table.loc["mean", "rmse"] == pytest.approx(np.mean(rmse))
    assert table.loc["sd", "rmse"] == pytest.approx(np.std(rmse, ddof=1))
    reach = 4.302652729911275 * np.std(rmse, ddof=1) * np.sqrt(1 / 3 + 1 / 2)
    assert table.loc["high", "rmse"] - np.mean(rmse) == pytest.approx(reach, rel=1e-3)


def test_each_fold_works_out_its_own_weights(ratings):
    recipe, parts = hx.ImplicitALS(factors=4, epochs=2), hx.split.k_fold(ratings, 2, seed=0)
    result = hx.cross_validate(recipe, ratings, folds=2, progress=False)
    chosen = [recipe.resolved(part.train) for part in parts]
    assert chosen[0] != chosen[1]
    ndcg = [
        hx.evaluate_ranking(one.fit(part.train, seed=0), part.test).ndcg
        for one, part in zip(chosen, parts, strict=True)
    ]
    assert result.folds["ndcg"].tolist() == ndcg
    assert result.recipe == recipe


def test_processes_give_the_same_bits(result, ratings):
    parallel = hx.cross_validate(RECIPE, ratings, folds=3, processes=2)
    names = ["rmse", "mae", "n_train", "n_test", "protocol"]
    assert parallel.folds[names].equals(result.folds[names])


IN_A_DAEMON = """
import multiprocessing, warnings
import hatrix as hx

def work(answers):
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=200, seed=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = hx.cross_validate(hx.Bias(), ratings, folds=2, processes=2, progress=False)
    answers.put([found.mean["rmse"], *(str(one.message) for one in said)])

fork = multiprocessing.get_context("fork")
answers = fork.Queue()
fork.Process(target=work, args=(answers,), daemon=True).start()
print(*answers.get(timeout=300), sep=chr(10))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_daemonic_process_fits_the_folds_one_after_the_other():
    ran = subprocess.run([sys.executable, "-c", IN_A_DAEMON], capture_output=True, text=True, check=True)
    rmse, *said = ran.stdout.splitlines()
    ratings, _ = hx.synthetic.make(30, 20, n_ratings=200, seed=1)
    assert float(rmse) == hx.cross_validate(hx.Bias(), ratings, folds=2, progress=False).mean["rmse"]
    assert any("may not start others, so the folds run one after the other" in line for line in said)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.campaign)])
def test_a_list_of_splits_is_taken_in_either_place(result, ratings, processes):
    parts = list(hx.split.k_fold(ratings, 3, seed=0))
    for one in (
        hx.cross_validate(RECIPE, parts, processes=processes, progress=False),
        hx.cross_validate(RECIPE, ratings, folds=parts, processes=processes, progress=False),
    ):
        assert one.folds["rmse"].tolist() == result.folds["rmse"].tolist()


def test_rankings_have_their_own_figures(ratings):
    found = hx.cross_validate(hx.SpectralMF(factors=4), ratings, folds=3, k=5)
    assert found.metric == "ndcg"
    assert {"recall", "ndcg", "auc"} <= set(found.mean)
    assert "rmse" not in found.mean
    assert hx.cross_validate(RECIPE, ratings, folds=3, metric="recall").metric == "recall"


def test_warnings_name_the_folds_where_not_all_have_them(ratings):
    later = hx.split.by_time(ratings)
    parts = [later, hx.Split(later.test, later.train, "backwards")]
    found = hx.cross_validate(RECIPE, parts, progress=False)
    assert any(word.startswith("H002: fold 2: ") for word in found.warnings)


def test_it_is_ready_for_json_and_drawn(result):
    facts = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert len(facts["folds"]) == 3
    assert result.chart().to_dict()
    assert "3 folds: rmse" in repr(result)
    with pytest.raises(ParameterError, match="choose from"):
        result.chart("recall")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 2.5}, "float"),
        ({"folds": "official"}, "str"),
        ({"folds": []}, "too few"),
        ({"folds": [1, 2]}, "among the folds is a int"),
        ({"processes": 0}, "processes is 0"),
        ({"processes": 1.5}, "processes is 1.5"),
        ({"metric": "accuracy"}, "accuracy"),
        ({"confidence": 1}, "confidence"),
        ({"confidence": "95"}, "confidence"),
        ({"folds": None}, "folds is None"),
        ({"k": 0}, "k is 0"),
        ({"k": 2.7, "metric": "ndcg"}, "k is 2.7"),
        ({"relevant_from": 4}, "relevant_from=4 says"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(ratings, given, message):
    with pytest.raises((DataError, ParameterError), match=message):
        hx.cross_validate(RECIPE, ratings, **given)


def test_a_recipe_and_ratings_are_needed(ratings):
    with pytest.raises(DataError, match=r"hatrix\.BiasedMF"):
        hx.cross_validate("biased-mf", ratings)
    with pytest.raises((DataError, ParameterError)):
        hx.cross_validate(RECIPE, ratings.to_frame())
    with pytest.raises(ParameterError, match=r"valid=0\.1"):
        hx.cross_validate(hx.BiasedMF(patience=2), ratings)


SCRIPT = """
import hatrix as hx
{guard}
    ratings, _ = hx.synthetic.make(200, 100, n_ratings=6000, seed=1)
    print("begun", flush=True)
    hx.cross_validate(hx.MF(epochs=100_000, factors=64), ratings, folds=4, processes=2)
"""


def children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_all_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(guard='if __name__ == "__main__":'))
    running = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    deadline = time.monotonic() + 120
    while (
        len(workers := children(running.pid)) < 3 and time.monotonic() < deadline
    ):  # with the resource tracker
        time.sleep(0.1)
    time.sleep(1.5)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert errors.count("KeyboardInterrupt") >= 1
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(guard="if True:"))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
