"""Commands that are stopped, killed, or run twice at once: exit statuses, and what becomes of their files."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import hatrix as hx
from command import refused
from hatrix import _files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

FOREVER = (
    "biased-mf",
    "--factors",
    "4",
    "--epochs",
    "100000",
    "--checkpoint",
    "c",
    "--checkpoint-epochs",
    "1",
)
INTERRUPTED, TERMINATED = (signal.SIGINT, 130), (signal.SIGTERM, 143)


def repeated(*values: object) -> object:
    """Values that only repeat what others show: `make test` leaves them to `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.campaign)


@pytest.fixture
def source(tmp_path):
    ratings, _ = hx.synthetic.make(60, 40, n_ratings=900, seed=1)
    ratings.to_frame().to_csv(tmp_path / "r.csv", index=False)
    return ratings


@pytest.fixture
def good(source, tmp_path):
    """A model that took a while, for its owner alone."""
    path = tmp_path / "m.hatrix"
    hx.BiasedMF(factors=4, epochs=3).fit(source, progress=False).save(path)
    path.chmod(0o600)
    return path


def started(folder: Path, *tokens: str) -> subprocess.Popen[str]:
    """A command that has trained for an epoch."""
    running = subprocess.Popen(
        [sys.executable, "-m", "hatrix", *tokens],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 300
    while not (folder / "c").exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    return running


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(("number", "status"), [TERMINATED, repeated(*INTERRUPTED)])
def test_a_stopped_fit_keeps_the_good_model(good, tmp_path, number, status):
    before = good.read_bytes()
    running = started(tmp_path, "fit", "r.csv", *FOREVER, "--out", "m.hatrix", "--json")
    running.send_signal(number)
    printed, said = running.communicate(timeout=120)
    assert (running.returncode, printed) == (status, "")
    epochs = len(hx.load(tmp_path / "m.unfinished.hatrix").history)
    word = {130: "interrupted", 143: "terminated"}[status]
    assert said.splitlines()[-1] == (
        f"error: {word}: unfinished: stopped after epoch {epochs} of 100000; the model so far is in "
        "m.unfinished.hatrix, and m.hatrix was not written; --resume goes on from the checkpoint"
    )
    assert good.read_bytes() == before
    assert hx.load(tmp_path / "m.unfinished.hatrix").unfinished
    assert names(tmp_path) == ["c", "m.hatrix", "m.unfinished.hatrix", "r.csv"]
    assert stat.S_IMODE((tmp_path / "m.unfinished.hatrix").stat().st_mode) == 0o600


@pytest.mark.parametrize(("number", "status"), [INTERRUPTED, repeated(*TERMINATED)])
def test_a_stopped_run_writes_no_report(source, tmp_path, number, status):  # noqa: ARG001
    running = started(tmp_path, "run", "r.csv", *FOREVER, "--out", "new/d")
    running.send_signal(number)
    _, said = running.communicate(timeout=120)
    assert running.returncode == status, said
    assert names(tmp_path / "new" / "d") == ["model.unfinished.hatrix"]
    assert "model.unfinished.hatrix, and new/d/model.hatrix was not written" in said


@pytest.mark.parametrize("command", ["fit", repeated("run")])
def test_what_a_killed_command_left_goes_with_the_next(good, tmp_path, hatrix, command):
    before, out = good.read_bytes(), {"fit": "m.hatrix", "run": "d"}[command]
    running = started(tmp_path, command, "r.csv", *FOREVER, "--out", out)
    refused(
        hatrix(command, "r.csv", *FOREVER[:5], "--out", out, "-q"),
        "m.hatrix" if command == "fit" else "d/model.hatrix",
        f"another process (number {running.pid}) writes here now: wait for it, or give another place",
    )
    running.kill()
    running.communicate()
    assert good.read_bytes() == before
    flags = [*FOREVER[:4], "2", "--checkpoint", "d2", "-q"]
    assert hatrix(command, "r.csv", *flags, "--out", out).status == 0
    assert (
        hatrix("fit", "r.csv", *FOREVER[:4], "1", "--checkpoint", "c", "-q", "--out", "x.hatrix").status == 0
    )
    assert [str(path) for path in tmp_path.rglob(".hatrix-*")] == []
    assert stat.S_IMODE(good.stat().st_mode) == 0o600


def test_a_replaced_model_keeps_permissions_and_links(good, tmp_path, hatrix):
    (tmp_path / "there").mkdir()
    good.rename(tmp_path / "there" / "m.hatrix")
    good.symlink_to("there/m.hatrix")
    (tmp_path / "new.csv").write_text("user,item,rating\n1,3,5\n1,99,4\n")
    for tokens in (
        ["fit", "r.csv", "biased-mf", "--factors", "4", "--epochs", "1", "-q"],
        ["update", "m.hatrix", "--ratings", "new.csv"],
        ["update", "m.hatrix", "--ratings", "new.csv"],
        ["forget", "m.hatrix", "--user", "2"],
    ):
        before = (tmp_path / "there" / "m.hatrix").stat().st_ino
        assert hatrix(*tokens, "--out", "m.hatrix").status == 0
        found = (tmp_path / "there" / "m.hatrix").stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_ino != before
        assert good.is_symlink()
    assert hx.load(good).users.encode([2]).tolist() == [-1]
    for ending in (".csv", ".json", ".parquet"):
        out = tmp_path / f"lists{ending}"
        (tmp_path / "there" / out.name).write_text("old")
        (tmp_path / "there" / out.name).chmod(0o600)
        out.symlink_to(f"there/{out.name}")
        for who in (["--user", "1"], ["--all"]):
            assert hatrix("recommend", "m.hatrix", *who, "--out", out).status == 0
            assert out.is_symlink()
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
            assert out.stat().st_size > 10


def unfinished(model: hx.FactorModel) -> hx.FactorModel:
    return replace(model, notes=("unfinished: stopped after epoch 1 of 9",))


@pytest.mark.parametrize(
    "tokens", [["update", "m.hatrix", "--ratings", "r.csv"], ["forget", "m.hatrix", "--user", "2"]]
)
def test_an_update_that_was_stopped_keeps_the_good_model(good, tmp_path, hatrix, monkeypatch, tokens):
    before, fitted = good.read_bytes(), hx.load(good)
    monkeypatch.setattr(hx.FactorModel, tokens[0], lambda *_, **__: unfinished(fitted))
    done = hatrix(*tokens, "--out", "m.hatrix", "-q")
    assert done.status == 130
    assert "the model so far is in m.unfinished.hatrix, and m.hatrix was not written" in done.err
    assert good.read_bytes() == before
    assert names(tmp_path) == ["m.hatrix", "m.unfinished.hatrix", "r.csv"]


@pytest.mark.parametrize("there", [True, False])
def test_an_unfinished_model_is_as_private_as_the_model_beside_it(good, tmp_path, there):
    from hatrix.app.steps import leave_unfinished

    place, model = tmp_path / "m.unfinished.hatrix", unfinished(hx.load(good))
    if there:  # from a run before the model became private
        place.write_text("old")
        place.chmod(0o644)
    (tmp_path / "link.hatrix").symlink_to("m.hatrix")
    for out in (good, tmp_path / "link.hatrix", tmp_path / "new.hatrix"):
        with pytest.raises(KeyboardInterrupt):
            leave_unfinished(model, out, seen=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*.unfinished.hatrix")}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {
        "m.unfinished.hatrix": 0o600,
        "link.unfinished.hatrix": 0o600,
        "new.unfinished.hatrix": 0o666 & ~mask,
    }
    assert hx.load(place).unfinished


def test_comparing_never_counts_half_a_training(source, monkeypatch):
    fit = hx.BiasedMF.fit
    monkeypatch.setattr(hx.BiasedMF, "fit", lambda *a, **k: unfinished(fit(*a, **k)))
    recipe = hx.BiasedMF(factors=2, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        hx.compare([recipe], hx.split.random(source, seed=1), progress=False)
    with pytest.raises(KeyboardInterrupt):
        hx.cross_validate(recipe, source, folds=2, progress=False)


def test_compare_refuses_a_second_run_before_any_training(source, tmp_path, hatrix, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(hx.Bias, "fit", lambda *_, **__: pytest.fail("training began"))
    (tmp_path / "d").mkdir()
    with _files.claimed(tmp_path / "d" / "compare.csv"):
        refused(
            hatrix("compare", "r.csv", "bias", "--out", "d", "-q"), "compare.csv", f"number {os.getpid()}"
        )
    assert names(tmp_path / "d") == []


def terminate(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_sigterm_in_a_search_writes_what_was_found(source, hatrix, monkeypatch):  # noqa: ARG001
    from hatrix.evaluation.tune import _Search

    trial = _Search._trial
    monkeypatch.setattr(
        _Search, "_trial", lambda search: terminate() if len(search.study.trials) == 2 else trial(search)
    )
    flags = ["--epochs", "2", "--range", "factors=2:4", "--trials", "9", "--study", "s.db", "--json", "-q"]
    done = hatrix("tune", "r.csv", "biased-mf", *flags, "--out", "d")
    assert done.status == 143
    assert sum(json.loads(done.out)["trials"].values()) == 2
    assert "error: terminated: the search was stopped after 2 trials; what it had found is in d" in done.err
    assert names(Path("d")) == ["model.hatrix", "report.html", "trials.csv", "tuning.json"]
    assert not hx.load("d/model.hatrix").unfinished


def test_sigterm_in_recommend_all_keeps_the_finished_blocks(good, tmp_path, hatrix, monkeypatch):  # noqa: ARG001
    from hatrix.models import recommend_all

    monkeypatch.setattr(recommend_all, "MOST_USERS", 16)
    block = recommend_all._block
    with monkeypatch.context() as patch:
        patch.setattr(
            recommend_all, "_block", lambda r, a, b, t: terminate() if a == 32 else block(r, a, b, t)
        )
        done = hatrix("recommend", "m.hatrix", "--all", "--out", "l.parquet", "-q")
    assert (done.status, done.err) == (143, "error: terminated\n")
    assert names(tmp_path) == [".l.parquet.partial", "m.hatrix", "r.csv"]
    done = hatrix("recommend", "m.hatrix", "--all", "--out", "l.parquet", "-q", "--json")
    assert json.loads(done.out)["resumed_users"] == 32
    assert names(tmp_path) == ["l.parquet", "m.hatrix", "r.csv"]


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_elsewhere_ends_with_one_line(tmp_path, hatrix, monkeypatch, ignored):
    monkeypatch.setattr("hatrix.data.datasets.get", terminate)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        assert hatrix("data", "get", "ml-100k") == (143, "", "error: terminated\n")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path) == []


def test_a_checkpoint_is_not_the_model(source, hatrix):  # noqa: ARG001
    refused(
        hatrix("fit", "r.csv", "mf", "--checkpoint", "./m", "--out", "m"),
        "--checkpoint and --out both name m: give the state of training another file",
    )
