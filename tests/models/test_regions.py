"""Training on ratings on disk: to the last bit what training in memory gives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.data.disk import Disk
from hatrix.data.ids import Ids
from hatrix.errors import DataError, ParameterError
from hatrix.kernels import schedule, topk
from hatrix.models import ALGORITHMS, algorithm, regions, validation
from hatrix.models.container import read
from hatrix.models.fit import Checkpoint
from hatrix.models.seen import Seen
from on_disk import on_disk

ABLE = [
    hx.MF(epochs=2),
    hx.MF(epochs=2, precision="float64", factors=3),
    hx.BiasedMF(epochs=3, factors=8),
    hx.BiasedMF(epochs=2, factors=5, schedule="adaptive", precision="float64"),
    hx.ALS(epochs=2, factors=8),
    hx.ALS(epochs=2, factors=8, biased=False, solver="cg"),
    hx.ALS(epochs=2, factors=4, nonnegative=True),
    hx.ImplicitALS(epochs=2, factors=8),
    hx.ImplicitALS(epochs=2, factors=8, alpha0=None, solver="cg"),
    hx.ImplicitALS(epochs=2, factors=20, solver="ialspp", block_size=16),
]


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    made, _ = hx.synthetic.make(300, 120, n_ratings=9_000, seed=3)
    return replace(made, time=np.arange(len(made)))


@pytest.fixture
def small_pieces(monkeypatch):
    """Many slices, regions and windows."""
    monkeypatch.setattr(regions, "AT_ONCE", 1_000)
    monkeypatch.setattr(regions, "WINDOW", 700)
    monkeypatch.setattr(regions, "PIECE", 100)
    whole = regions._edges
    monkeypatch.setattr(regions, "_edges", lambda weight, _most: whole(weight, 1_500))


def test_the_algorithms_that_train_on_disk_are_tested_here():
    assert {name for name in ALGORITHMS if algorithm(name).out_of_core} == {recipe.name for recipe in ABLE}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("recipe", ABLE, ids=repr)
@pytest.mark.parametrize("valid", [None, 0.2])
def test_a_fit_from_disk_has_the_bits_of_one_in_memory(recipe, valid, ratings, tmp_path):
    held = on_disk(ratings, tmp_path)
    assert held.fingerprint == ratings.fingerprint
    wanted = recipe.fit(ratings, valid, progress=False, threads=2)
    got = recipe.fit(held, valid, progress=False, threads=1 if valid else 2)
    for name in ("user_bias", "item_bias", "user_factors", "item_factors", "user_count", "item_count"):
        a, b = getattr(wanted, name), getattr(got, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert (wanted.mean, wanted.fallback, wanted.fingerprint) == (got.mean, got.fallback, got.fingerprint)
    for a, b in zip(wanted.seen, got.seen, strict=True):
        np.testing.assert_array_equal(a, b)
    columns = [name for name in wanted.history if name != "seconds"]
    assert wanted.history[columns].equals(got.history[columns])
    # Of what training wrote, nothing is left that has a name.
    assert {path.name for path in tmp_path.iterdir()} == {"user", "item", "value", "time"}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 300), st.integers(1, 80), st.integers(0, 99))
def test_the_grid_on_disk_is_the_one_in_memory(tmp_path_factory, users, items, n, most, seed):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, users, n), rng.integers(0, items, n)
    ratings = replace(
        hx.Ratings.from_columns(np.arange(max(users, items)), np.arange(max(users, items)), np.ones(max(users, items))),
        user=user.astype(np.int32), item=item.astype(np.int32), value=rng.normal(size=n),
    )  # fmt: skip
    held = on_disk(ratings, tmp_path_factory.mktemp("grid"))
    wanted = schedule.deal(
        ratings.user,
        ratings.item,
        ratings.value,
        ratings.user_count,
        ratings.item_count,
        row_bytes=4096,
        seed=seed,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "AT_ONCE", 1 + n // 7)
        whole = regions._edges
        patch.setattr(regions, "_edges", lambda weight, _most: whole(weight, most))
        value = np.float64, lambda part: held.value[part]
        got = regions.deal(held, value, row_bytes=4096, seed=seed, threads=2)
        seen = Seen.from_ratings(held, threads=2)
    for name in schedule.Grid._fields:
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
    for a, b in zip(seen, Seen.from_ratings(ratings), strict=True):
        np.testing.assert_array_equal(a, b)


def test_regions_hold_no_more_than_they_may_unless_one_unit_does():
    weight = np.array([3, 0, 4, 10, 1, 1, 1, 0])
    edges = regions._edges(weight, 5)
    assert edges[0] == 0
    assert edges[-1] == len(weight)
    for first, last in pairwise(edges):
        assert last - first == 1 or weight[first:last].sum() - weight[last - 1] < 5 + weight[first]


def test_windows_cover_every_row_and_entry_once(monkeypatch):
    monkeypatch.setattr(regions, "WINDOW", 10)
    start = np.array([0, 3, 3, 25, 26, 30, 36, 36])
    found = list(regions.windows(start, []))
    assert [rows.start for rows, _ in found] == [0, *(rows.stop for rows, _ in found[:-1])]
    assert found[-1][0].stop == len(start) - 1
    for rows, entries in found:
        assert (start[rows.start], start[rows.stop]) == (entries.start, entries.stop)
        assert entries.stop - entries.start <= 10 or rows.stop - rows.start == 1


def test_training_rows_of_all_users_are_never_looked_at_at_once(ratings, tmp_path, monkeypatch):
    """Lists of a validation part leave out what users trained on: nearly all training rows, which may not fit."""
    recipe = hx.ImplicitALS(epochs=2, factors=4)
    whole = recipe.fit(ratings, 0.2, progress=False)
    sizes, some_rows = [], topk.some_rows

    def some(*where):
        found = some_rows(*where)
        sizes.append(len(found[1]))
        return found

    monkeypatch.setattr(topk, "some_rows", some)
    monkeypatch.setattr(validation, "SEEN_AT_ONCE", 1_000)
    model = recipe.fit(on_disk(ratings, tmp_path), 0.2, progress=False)
    assert max(sizes) < 1_000 + model.user_count.max()
    assert sum(sizes) > model.user_count.sum()
    assert model.history.valid_ndcg.tolist() == whole.history.valid_ndcg.tolist()


@pytest.mark.usefixtures("small_pieces")
def test_progress_within_an_epoch_adds_up_to_all_rows(ratings, tmp_path):
    held = on_disk(ratings, tmp_path)
    for recipe in ABLE:
        told = []
        state = recipe.resolved(held).init(held, seed=0, threads=1)
        state.report = told.append
        recipe.resolved(held).step(state, 0)
        assert len(told) > 3
        assert sum(told) == pytest.approx(len(ratings))


def test_a_fit_goes_on_from_a_checkpoint(ratings, tmp_path):
    held, file = on_disk(ratings, tmp_path), tmp_path / "state.hatrix"
    whole = hx.BiasedMF(epochs=6, factors=4).fit(ratings, progress=False)
    stopped = hx.BiasedMF(epochs=6, factors=4)

    class Stop(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:
        step = hx.BiasedMF.step

        def three(self, state, epoch):
            if epoch == 3:
                raise Stop
            return step(self, state, epoch)

        patch.setattr(hx.BiasedMF, "step", three)
        with pytest.raises(Stop):
            stopped.fit(held, progress=False, checkpoint=Checkpoint(file, epochs=1))
    assert len(read(file)[1]["history"]) == 3
    gone_on = stopped.fit(held, progress=False, resume=file)
    np.testing.assert_array_equal(gone_on.user_factors, whole.user_factors)
    # The same data in memory may go on from it as well.
    np.testing.assert_array_equal(
        stopped.fit(ratings, progress=False, resume=file).user_factors, whole.user_factors
    )


def test_what_cannot_train_on_disk_says_what_can(ratings, tmp_path):
    held = on_disk(ratings, tmp_path)
    with pytest.raises(ParameterError, match=r"svdpp trains in memory only.*biased-mf, als, implicit-als"):
        hx.SVDpp().fit(held, progress=False)
    with pytest.raises(ParameterError, match="sequential"):
        hx.MF(sequential=True).fit(held, progress=False)


def test_too_little_memory_is_said_before_any_work(ratings, tmp_path):
    tight = on_disk(ratings, tmp_path, memory=1_000_000)
    with pytest.raises(DataError, match="allow at least"):
        hx.BiasedMF().fit(tight, progress=False)
    many = replace(on_disk(ratings, tmp_path, memory=2_000_000_000), users=Ids(np.arange(500_000)))
    with pytest.raises(
        DataError, match=r"the factors of 500,000 users and 120 items take .* MB .*fewer factors"
    ):
        hx.BiasedMF(factors=512).fit(many, progress=False)


def test_a_share_to_validate_on_that_takes_too_much_is_refused(ratings, tmp_path, monkeypatch):
    held, said = on_disk(ratings, tmp_path), r"to hold out 0.5 of 9,000 ratings takes . MB: allow more memory"
    monkeypatch.setattr(Disk, "room", lambda _: 200_000)
    hx.BiasedMF(factors=4, epochs=1).fit(held, 0.5, progress=False)
    with pytest.raises(
        DataError, match=said
    ):  # lists are compared with what was held out of all users at once
        hx.ImplicitALS(factors=4, epochs=1).fit(held, 0.5, progress=False)
    monkeypatch.setattr(Disk, "room", lambda _: 50_000)
    with pytest.raises(DataError, match=said):
        hx.BiasedMF(factors=4, epochs=1).fit(held, 0.5, progress=False)


KILLED = """
    import os, sys
    from pathlib import Path
    import hatrix as hx
    from hatrix.models.fit import Checkpoint

    folder = Path(sys.argv[1])
    step = hx.BiasedMF.step

    def counted(recipe, state, epoch):
        if epoch == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return step(recipe, state, epoch)

    hx.BiasedMF.step = counted
    ratings = hx.read(folder / "ratings.csv", memory="2GB", folder=folder / "read")
    file = folder / "state.hatrix"
    model = hx.BiasedMF(epochs=6, factors=4).fit(
        ratings, progress=False, checkpoint=Checkpoint(file, epochs=1), resume=file
    )
    model.save(folder / "model.hatrix")
"""


@pytest.mark.campaign
def test_killed_while_training_it_goes_on_to_the_same_bits(ratings, tmp_path):
    ratings.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    for epoch in (2, 4, -1):
        done = subprocess.run(
            [*command, str(epoch)], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == (0 if epoch == -1 else -9), done.stderr
        assert (tmp_path / "model.hatrix").exists() == (epoch == -1)
    whole = hx.BiasedMF(epochs=6, factors=4).fit(hx.read(tmp_path / "ratings.csv"), progress=False)
    got = hx.load(tmp_path / "model.hatrix")
    np.testing.assert_array_equal(got.user_factors, whole.user_factors)
    assert len(got.history) == 6
    assert not [path.name for path in (tmp_path / "read").iterdir() if path.name.startswith("regions")]


LIMITED = """
    import sys
    from pathlib import Path
    import numpy as np
    import hatrix as hx
    from hatrix.data.disk import Disk
    from hatrix.data.ids import Ids
    from peaks import peak

    n, users, items = 12_000_000, 60_000, 4_000
    disk, rng = Disk(Path(sys.argv[1]), int(sys.argv[2])), np.random.default_rng(0)
    with disk.keeping([np.int32, np.int32, np.float64]) as (columns, mapped):
        for _ in range(0, n, 1_000_000):
            for column, (low, high) in zip(columns, [(0, users), (0, items), (1, 6)]):
                column.append(rng.integers(low, high, 1_000_000, np.int32))
    ids = [Ids(np.arange(k)) for k in (users, items)]
    ratings = hx.Ratings(*mapped, *ids, scale=(1.0, 5.0), disk=disk)
    model = getattr(hx, sys.argv[3])(factors=16, epochs=1).fit(ratings, progress=False, threads=2)
    assert len(model.seen.item) == n
    print(peak())
"""


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["BiasedMF", "ImplicitALS"])
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits of memory are measured as Linux counts"
)
def test_the_limit_of_memory_holds(name, ratings, tmp_path):
    """12 million ratings are 192 MB, 144 of grid and 144 of training rows by user beside the libraries' 250."""
    (tmp_path / "small").mkdir()
    small = on_disk(ratings, tmp_path / "small")
    getattr(hx, name)(factors=16, epochs=1).fit(
        small, progress=False
    )  # compiling takes memory, too: done before
    limit = 450_000_000
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path), str(limit), name],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < limit
