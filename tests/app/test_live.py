"""The model being served: copies, swaps, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import hatrix as hx
from hatrix.app import live as room
from hatrix.app.live import Live
from hatrix.app.snapshots import Snapshots
from hatrix.errors import ModelFileError, StoreError


@pytest.fixture
def path(files: list[Path], tmp_path: Path) -> Path:
    target = tmp_path / "m.hatrix"
    shutil.copy(files[0], target)
    settle(target)
    return target


def settle(path: Path) -> None:
    """Make the file as old as one that nobody is writing."""
    os.utime(path, (time.time() - 10 - np.random.default_rng().random(), time.time() - 10))


def put(source: Path, target: Path) -> None:
    """Replace a file as `save` does."""
    shutil.copy(source, target.with_suffix(".new"))
    os.replace(target.with_suffix(".new"), target)


def copies(live: Live) -> list[str]:
    assert live.snapshots is not None
    return sorted(file.name for file in live.snapshots.folder.glob("*.hatrix"))


def test_a_model_is_served_from_a_copy(path):
    live = Live.open(path)
    assert len(live.current.version) == 12
    assert live.current.path != path
    assert live.current.path.parent == path.parent / ".m.hatrix.served"
    assert (live.current.path.parent.stat().st_mode & 0o777) == 0o700
    before = live.current.model.predict(1, 1)
    path.write_bytes(b"\0" * path.stat().st_size)  # in place: what is mapped must not change
    assert live.current.model.user_factors.any()
    assert live.current.model.predict(1, 1) == before
    live.close()
    assert not live.current.path.parent.exists()


def test_a_new_file_takes_its_place_and_the_old_copy_goes(path, files):
    live = Live.open(path)
    old = live.current
    assert asyncio.run(live.reload()) is False
    prepared = []
    live.prepare = prepared.append
    put(files[1], path)
    assert asyncio.run(live.reload()) is True
    assert prepared == [live.current]
    assert live.current.version != old.version
    assert copies(live) == [live.current.path.name]
    assert live.current.model.predict(1, 1) == hx.load(files[1]).predict(1, 1)
    assert old.model.predict(1, 1) == hx.load(files[0]).predict(1, 1)  # still mapped
    assert (live.reloads, live.refusals, live.fault) == (1, 0, None)
    live.close()


@pytest.mark.parametrize("spoil", ["cut", "flipped", "text", "empty", "folder", "other ids", "checkpoint"])
def test_a_bad_file_is_refused_and_the_old_model_stays(path, files, spoil):
    live = Live.open(path)
    old, good = live.current, files[1].read_bytes()
    if spoil == "folder":
        path.unlink()
        path.mkdir()
    elif spoil == "other ids":
        texts = hx.Ratings.from_columns(["ann", "bob"], [1, 2], [1.0, 5.0])
        hx.Bias().fit(texts, progress=False).save(path)
    elif spoil == "checkpoint":
        ratings = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
        hx.BiasedMF(factors=4, epochs=2).fit(ratings, checkpoint=path, progress=False)
    else:
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        bad = {"cut": good[:-100], "flipped": flipped, "text": b"user,item,rating\n", "empty": b""}[spoil]
        path.write_bytes(bad)
    with pytest.raises(ModelFileError, match=r"m\.hatrix") as refused:
        asyncio.run(live.reload())
    assert live.current is old
    assert (live.reloads, live.refusals, live.fault) == (0, 1, str(refused.value))
    assert "copying" not in str(refused.value)
    assert old.model.recommend(1, 3)["item"].tolist()
    if spoil != "folder":
        put(files[1], path)
        assert asyncio.run(live.reload())
        assert live.fault is None
    live.close()


def test_the_file_is_watched(path, files, monkeypatch):
    monkeypatch.setattr(room, "EVERY", 0.02)
    live = Live.open(path)

    async def seen(what) -> None:
        async with asyncio.timeout(10):
            while not what():
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        watching = asyncio.create_task(live.watch())
        first = live.current.version
        put(files[1], path)
        await seen(lambda: live.current.version != first)
        second = live.current.version
        path.write_bytes(files[2].read_bytes()[:-1])
        await seen(lambda: live.fault is not None)
        assert live.current.version == second
        path.unlink()
        await seen(lambda: live.gone)
        put(files[2], path)
        await seen(lambda: live.current.version not in (first, second))
        assert not live.gone
        assert live.fault is None
        path.write_bytes(files[0].read_bytes())  # in place
        await seen(lambda: live.current.version == first)
        watching.cancel()

    asyncio.run(scenario())
    live.close()


@pytest.mark.parametrize(
    "error", [StoreError("the store is away"), OSError("no space"), RuntimeError("a bug")]
)
def test_a_model_that_could_not_be_prepared_does_not_end_the_watch(path, files, monkeypatch, error):
    monkeypatch.setattr(room, "EVERY", 0.02)
    live, tried = Live.open(path), []

    def prepare(served) -> None:
        tried.append(served.version)
        if len(tried) == 1 or (len(tried) < 4 and isinstance(error, StoreError)):
            raise error

    async def scenario() -> None:
        live.prepare, first = prepare, live.current.version
        watching = asyncio.create_task(live.watch())
        put(files[1], path)
        async with asyncio.timeout(10):
            while not tried:
                await asyncio.sleep(0.01)
            assert live.current.version == first
            if not isinstance(error, StoreError):  # what is no passing trouble waits for another file
                put(files[2], path)
            while live.current.version == first:
                await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(scenario())
    assert live.current.version == tried[-1]
    assert live.fault is None
    assert live.refusals <= 1
    live.close()


def test_a_folder_that_cannot_be_written_is_said_in_a_line(path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hatrix._files.replacing", full)
    with pytest.raises(ModelFileError, match="cannot be written: No space left on device"):
        Live.open(path)


def test_processes_share_one_copy_and_check_it_once(path, files, monkeypatch):
    one = Live.open(path)
    verified = []
    load = hx.load
    monkeypatch.setattr(
        hx, "load", lambda *a, verify=True: verified.append(verify) or load(*a, verify=verify)
    )
    two = Live.open(path, folder=one.snapshots.folder)
    assert two.current.path == one.current.path
    put(files[1], path)
    settle(path)
    assert asyncio.run(one.reload())
    assert asyncio.run(two.reload())
    assert two.current.path == one.current.path
    assert verified == [False, True, False]
    # A bad file is looked at by one of them, and a process that joins serves what the others do.
    path.write_bytes(b"{}")
    settle(path)
    for live in (one, two):
        with pytest.raises(ModelFileError):
            asyncio.run(live.reload())
    assert verified == [False, True, False, True]
    three = Live.open(path, folder=one.snapshots.folder)
    assert three.current.version == one.current.version
    assert three.fault == one.fault
    with pytest.raises(ModelFileError):
        Live.open(path)
    one.close()
    two.close()


def test_a_file_that_changes_unseen_is_looked_at_again(path):
    recent = Live.open(path)
    path.touch()
    assert not asyncio.run(recent.reload())
    assert recent._tried is None  # written a moment ago: perhaps again within the same tick of the clock
    settle(path)
    assert not asyncio.run(recent.reload())
    assert recent._tried == recent.snapshots.stamp()
    recent.close()


def test_a_folder_that_was_removed_or_scribbled_on_is_no_hindrance(path, files):
    live = Live.open(path)
    (live.snapshots.folder / "latest.json").write_text("[")
    assert not asyncio.run(live.reload())
    shutil.rmtree(live.snapshots.folder)
    put(files[1], path)
    assert asyncio.run(live.reload())
    assert json.loads((live.snapshots.folder / "latest.json").read_text())["digest"].startswith(
        live.current.version
    )
    live.close()


def test_where_nothing_can_be_written_beside_the_file(path, tmp_path):
    (tmp_path / ".m.hatrix.served").write_text("in the way")
    snapshots = Snapshots(path)
    assert snapshots.folder.parent != tmp_path
    assert snapshots.take().path.parent == snapshots.folder
    snapshots.close()
    assert not snapshots.folder.exists()


def test_a_model_in_memory_is_never_replaced(files):
    live = Live.of(hx.load(files[0]))
    assert asyncio.run(live.reload()) is False
    asyncio.run(live.watch())
    live.close()
