# ruff: noqa: ARG005 - the changes of a forger are all called with arrays and header
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, DivergenceError, ModelFileError, ParameterError
from hatrix.models import container
from hatrix.models.fit import Algorithm, State
from hatrix.models.model import Factors


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 80, 3000), rng.integers(0, 50, 3000)
    level = rng.normal(size=80)[user] * 0.4 + rng.normal(size=50)[item] * 0.4
    return hx.Ratings.from_columns(
        user, item, np.clip(np.round(3.5 + level + rng.normal(0, 0.8, 3000)), 1, 5)
    )


class _Countdown(State):
    def __init__(self) -> None:
        self.variables = {"user_bias": np.zeros(1)}


class Scripted(Algorithm):
    """Validation errors as scripted: the bias of the only user moves through ``path``."""

    name: ClassVar[str] = "scripted"
    path: tuple[float, ...]
    patience: int | None = None

    @property
    def rounds(self) -> int:
        return len(self.path)

    def init(self, train, *, seed, threads):  # noqa: ARG002
        return _Countdown()

    def step(self, state, epoch) -> Mapping[str, float]:
        state.variables["user_bias"][0] = self.path[epoch]
        return {"train_mse": 1.0}

    def finish(self, state):
        return Factors(
            3.0, state.variables["user_bias"].copy(), np.zeros(1), np.zeros((1, 0)), np.zeros((1, 0))
        )


@pytest.fixture
def one() -> hx.Ratings:
    return hx.Ratings.from_columns([1], [1], [3.0], scale=(1.0, 5.0))


def test_history_has_a_row_per_epoch(ratings):
    model = hx.BiasedMF(epochs=7, factors=4).fit(ratings, valid=0.1)
    assert model.history.epoch.tolist() == list(range(1, 8))
    assert {"train_mse", "valid_rmse", "seconds", "learning_rate"} <= set(model.history.columns)
    assert model.history.seconds.is_monotonic_increasing
    assert model.history.train_mse.iloc[-1] < model.history.train_mse.iloc[0]


def test_validation_is_the_rmse_of_the_clipped_predictions(ratings):
    split = hx.split.random(ratings, 0.2, seed=1)
    model = hx.BiasedMF(epochs=3, factors=4).fit(split.train, valid=split.test)
    frame = split.test.to_frame()
    predicted = model.predict(frame.user, frame.item, clip=True)
    assert model.history.valid_rmse.iloc[-1] == pytest.approx(
        np.sqrt(np.mean((predicted - frame.rating) ** 2))
    )


def test_early_stopping_restores_the_best_epoch(one):
    model = Scripted(path=(1.0, 0.5, 0.1, 0.2, 0.3, 0.0), patience=2).fit(one, valid=one)
    assert model.user_bias[0] == 0.1
    assert len(model.history) == 5


def test_without_patience_the_last_epoch_stands(one):
    model = Scripted(path=(1.0, 0.1, 0.9)).fit(one, valid=one)
    assert model.user_bias[0] == 0.9


def test_early_stopping_on_real_training_gives_the_bits_of_its_best_epoch(ratings):
    split = hx.split.random(ratings, 0.2, seed=1)
    hasty = {"factors": 8, "learning_rate": 0.05, "schedule": "constant", "regularization": 0.0}
    stopped = hx.BiasedMF(epochs=200, patience=3, **hasty).fit(split.train, valid=split.test)
    best = int(stopped.history.valid_rmse.idxmin()) + 1
    assert len(stopped.history) == best + 3
    short = hx.BiasedMF(epochs=best, **hasty).fit(split.train)
    np.testing.assert_array_equal(stopped.user_factors, short.user_factors)


def test_divergence_names_the_epoch_and_the_way_out(ratings):
    with pytest.raises(DivergenceError, match=r"diverged in epoch \d+ .*learning_rate=2\.5"):
        hx.BiasedMF(learning_rate=10.0, schedule="constant").fit(ratings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"seed": None}, "seed is None"),
        ({"seed": True}, "seed is True"),
        ({"threads": True}, "threads is True"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"threads": "2"}, "threads is '2'"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"valid": 0.0}, "valid is 0.0"),
        ({"valid": 1.5}, "valid is 1.5"),
        ({"valid": "0.1"}, "valid is '0.1'"),
        ({"valid": np.zeros(3)}, "valid is a ndarray"),
    ],
)
def test_bad_arguments(ratings, arguments, message):
    with pytest.raises(ParameterError, match=message):
        hx.Bias().fit(ratings, **arguments)


def test_a_table_is_no_training_data(ratings):
    with pytest.raises(DataError, match="train is a DataFrame: give Ratings"):
        hx.Bias().fit(ratings.to_frame())


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": "2"},
        {"seconds": -1.0},
        {"seconds": "60"},
        {"seconds": True},
        {"epochs": True},
    ],
)
def test_bad_intervals_of_checkpoints(wrong):
    with pytest.raises(ParameterError, match=f"{next(iter(wrong))} is "):
        hx.Checkpoint("state.hatrix", **wrong)


def test_a_checkpoint_without_a_place_is_refused_before_training(ratings, tmp_path, monkeypatch):
    monkeypatch.setattr(hx.Bias, "init", lambda *_, **__: pytest.fail("it trained first"))
    with pytest.raises(hx.HatrixError, match="there is no folder"):
        hx.Bias().fit(ratings, checkpoint=tmp_path / "none" / "state.hatrix")


def test_a_training_that_ran_off_is_a_divergence_though_all_numbers_are_finite():
    """Its model answered with infinities, and NaN where two of them met: "invalid value encountered in matmul"."""
    rng = np.random.default_rng(0)
    clicks = hx.Ratings.from_columns(rng.integers(0, 79, 396), np.minimum(rng.zipf(1.5, 396), 12))
    recipe = hx.BPR(
        factors=21,
        epochs=8,
        sampling="popularity",
        regularization=0.01,
        bias_regularization=0.1,
        learning_rate=3.0,
    )
    with pytest.raises(
        DivergenceError,
        match=r"diverged \(numbers of \w+ are beyond 1e\+17\): try learning_rate=0\.75, more regularization",
    ):
        recipe.replace(init_scale=1.0).fit(clicks, progress=False)


def test_advice_on_divergence_is_given_once():
    huge = hx.Ratings.from_columns([0, 0, 1, 1], [0, 1, 0, 1], [1e30, 2e30, 3e30, 4e30])
    with pytest.raises(DivergenceError) as told:
        hx.ALS(factors=2, unit=1).fit(huge)  # in their own unit they would not diverge
    assert str(told.value).count("more regularization") == 1


def test_patience_needs_validation(ratings):
    with pytest.raises(ParameterError, match="patience=3 needs something to validate on"):
        hx.BiasedMF(patience=3).fit(ratings)


def test_nothing_to_train_on(ratings):
    with pytest.raises(DataError, match="no ratings to train on"):
        hx.Bias().fit(ratings.take(np.zeros(len(ratings), bool)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"factors": 0}, "factors is 0"),
        ({"factors": "many"}, "factors is 'many'"),
        ({"faktors": 3}, "BiasedMF has no faktors: it has factors, epochs"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_a_recipe_explains_what_it_refuses(wrong, message):
    with pytest.raises(ParameterError, match=message):
        hx.BiasedMF(**wrong)


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        hx.MF().factors = 7


@pytest.mark.parametrize("every", [hx.Checkpoint, lambda path: hx.Checkpoint(path, epochs=2), str])
def test_a_finished_run_is_resumed_at_its_end(ratings, tmp_path, every):
    path = tmp_path / "state.hatrix"
    recipe = hx.BiasedMF(epochs=9, factors=8)
    whole = recipe.fit(ratings, valid=0.2, checkpoint=every(path))
    again = recipe.fit(ratings, valid=0.2, resume=path)
    np.testing.assert_array_equal(whole.user_factors, again.user_factors)
    np.testing.assert_array_equal(whole.item_bias, again.item_bias)
    assert whole.history.train_mse.tolist() == again.history.train_mse.tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda a, h: h.pop("history"),
        lambda a, h: h.update(history=3),
        lambda a, h: h.update(history=[{"epoch": 1}]),
        lambda a, h: h.update(history=[[1]]),
        lambda a, h: h["history"][0].update(seconds="1"),
        lambda a, h: h.update(history=h["history"] * 100),
        lambda a, h: h.update(best=[1.0]),
        lambda a, h: h.update(best=[None, 1]),
        lambda a, h: h.pop("best"),
        lambda a, h: a.pop("state.user_factors"),
        lambda a, h: a.update({"state.user_factors": a["state.user_factors"][:1]}),
        lambda a, h: a.update({"state.user_bias": a["state.user_bias"].astype(np.float64)}),
        lambda a, h: a.pop("best.user_bias"),
        lambda a, h: a.update({"state.more": np.zeros(3)}),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(ratings, tmp_path, change):
    path, recipe = tmp_path / "state.hatrix", hx.BiasedMF(factors=2, epochs=3, patience=2)
    recipe.fit(ratings, valid=0.2, checkpoint=path)
    arrays, header = container.read(path)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(arrays, header)
    container.write(path, arrays, header)
    with pytest.raises(
        ModelFileError, match="is not consistent: its history or its arrays are not those of this fit"
    ):
        recipe.fit(ratings, valid=0.2, resume=path)


def test_too_little_memory_for_a_fit_ends_in_a_typed_error(ratings, monkeypatch):
    def init(*_, **__):
        return np.empty((2**40, 2**20), np.int8)

    monkeypatch.setattr(hx.BiasedMF, "init", init)
    with pytest.raises(
        DataError, match=r"not enough memory to fit biased-mf .*Unable to allocate 1.00 EiB .*take fewer"
    ):
        hx.BiasedMF().fit(ratings)


def test_resume_without_a_file_starts_anew(ratings, tmp_path):
    model = hx.BiasedMF(epochs=2).fit(ratings, resume=tmp_path / "none.hatrix")
    assert len(model.history) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [("seed", "its seed is 42"), ("recipe", "its hyperparameters is"), ("data", "its fingerprint is")],
)
def test_resume_refuses_another_run(ratings, tmp_path, change, message):
    path = tmp_path / "state.hatrix"
    hx.BiasedMF(epochs=2).fit(ratings, checkpoint=path)
    recipe = hx.BiasedMF(epochs=2, regularization=0.5) if change == "recipe" else hx.BiasedMF(epochs=2)
    data = ratings.take(np.arange(100)) if change == "data" else ratings
    with pytest.raises(ParameterError, match=f"belongs to another run: {message}"):
        recipe.fit(data, resume=path, seed=7 if change == "seed" else 42)


EPOCHS = 300
PROGRAM = textwrap.dedent(f"""
    import sys
    import numpy as np
    import hatrix as hx
    rng = np.random.default_rng(0)
    user, item, value = (rng.integers(1, top, 30000) for top in (300, 200, 6))
    ratings = hx.Ratings.from_columns(user, item, value)
    out, checkpoint = sys.argv[1:]
    how = dict()
    if checkpoint != "none":
        how = dict(checkpoint=hx.Checkpoint(checkpoint, epochs=1), resume=checkpoint)
    model = hx.BiasedMF(epochs={EPOCHS}, factors=16, patience={EPOCHS}).fit(ratings, valid=0.1, **how)
    np.savez(out, p=model.user_factors, q=model.item_factors, b=model.user_bias, mse=model.history.train_mse,
             valid=model.history.valid_rmse)
""")


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)], env=os.environ.copy())


def _saved(checkpoint: Path) -> int:
    return checkpoint.stat().st_ino if checkpoint.exists() else 0


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.campaign)])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, kills):
    """kill -9 at random moments, resume each time; the end equals that of an undisturbed run, bit for bit."""
    calm, disturbed, checkpoint = tmp_path / "calm.npz", tmp_path / "disturbed.npz", tmp_path / "state.hatrix"
    assert _start(calm, "none").wait() == 0
    chance = random.Random(1)
    killed_after = []
    for _ in range(kills):
        before = _saved(checkpoint)
        process = _start(disturbed, checkpoint)
        while _saved(checkpoint) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        killed_after.append(len(container.read(checkpoint)[1]["history"]))
    assert 0 < killed_after[0] < EPOCHS
    assert killed_after == sorted(set(killed_after))
    assert _start(disturbed, checkpoint).wait() == 0
    with np.load(calm) as a, np.load(disturbed) as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_ctrl_c_keeps_the_model_so_far(ratings):
    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    hx.BiasedMF(epochs=1).fit(ratings)
    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    recipe = hx.BiasedMF(epochs=100_000)
    model = recipe.fit(ratings)
    epochs = len(model.history)
    assert 0 < epochs < 100_000
    assert model.notes[-1] == f"unfinished: stopped after epoch {epochs} of 100000"
    assert model.unfinished
    assert repr(model).endswith(" ratings, unfinished)")
    assert signal.getsignal(signal.SIGINT) is before
    calm = hx.BiasedMF(epochs=epochs).fit(ratings)
    np.testing.assert_array_equal(model.item_factors, calm.item_factors)


def test_a_stop_in_the_last_epoch_leaves_a_finished_model(ratings):
    class Stopping(hx.BiasedMF):
        def step(self, state, epoch):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(state, epoch)

    model = Stopping(epochs=3).fit(ratings)
    assert (len(model.history), model.notes, model.unfinished) == (3, (), False)
    assert "unfinished" not in repr(model)


def test_an_unfinished_model_stays_so_when_it_is_saved_and_updated(ratings, tmp_path):
    model = replace(hx.ALS(epochs=1).fit(ratings), notes=("unfinished: stopped after epoch 1 of 9",))
    model.save(tmp_path / "m.hatrix")
    loaded = hx.load(tmp_path / "m.hatrix")
    assert loaded.unfinished
    assert loaded.update(ratings).unfinished


TERMINATED = """
import sys
import hatrix as hx
ratings, _ = hx.synthetic.make(300, 100, n_ratings=15000, seed=1)
checkpoint = hx.Checkpoint(sys.argv[1], epochs=3, seconds=None) if len(sys.argv) > 1 else None
hx.BiasedMF(epochs=1).fit(ratings, progress=False)
print("ready", flush=True)
hx.BiasedMF(epochs=100_000).fit(ratings, progress=False, checkpoint=checkpoint)
print("returned", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("saves", [True, False])
def test_sigterm_ends_a_program_and_the_checkpoint_has_the_last_epoch(tmp_path, saves):
    path = tmp_path / "state.hatrix"
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINATED, *([path] if saves else [])], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    while saves and not path.exists() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    assert process.communicate(timeout=60) == ("", None)
    assert process.returncode == -signal.SIGTERM
    assert os.listdir(tmp_path) == ([path.name] if saves else [])


def test_two_trainings_do_not_save_to_one_checkpoint(ratings, tmp_path):
    path = tmp_path / "state.hatrix"
    process = subprocess.Popen([sys.executable, "-c", TERMINATED, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        with pytest.raises(
            ParameterError, match=rf"state.hatrix: another process \(number {process.pid}\) writes here now"
        ):
            hx.BiasedMF(epochs=2).fit(ratings, checkpoint=path)
    finally:
        process.kill()
        process.communicate()
    assert len(hx.BiasedMF(epochs=2).fit(ratings, checkpoint=path).history) == 2
    assert os.listdir(tmp_path) == [path.name]


def test_fit_works_outside_the_main_thread(ratings):
    models = []
    thread = threading.Thread(target=lambda: models.append(hx.BiasedMF(epochs=2).fit(ratings)))
    thread.start()
    thread.join()
    assert len(models[0].history) == 2


def test_no_bar_where_standard_error_is_no_terminal(ratings, capfd):
    hx.BiasedMF(epochs=2).fit(ratings, progress=True)
    assert capfd.readouterr().err == ""


def test_models_that_rank_are_validated_by_ndcg(ratings):
    split = hx.split.per_user(ratings, test=0.3, seed=1)
    model = hx.SpectralMF(factors=8).fit(split.train, valid=split.test)
    want = hx.evaluate_ranking(model, split.test, k=20, bootstrap=1).ndcg
    assert model.history.valid_ndcg.iloc[-1] == pytest.approx(want, abs=1e-6)
