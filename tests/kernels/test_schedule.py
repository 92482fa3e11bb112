from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.kernels import schedule


def problem(rng, users, items, n):
    user, item = (
        rng.integers(0, users, n).astype(np.int32),
        (rng.integers(0, items, n) ** 2 // items).astype(np.int32),
    )
    return user, item, rng.normal(size=n).astype(np.float32)


def grid_of(user, item, value, users, items, row_bytes=64, seed=3):
    counts = np.bincount(user, minlength=users), np.bincount(item, minlength=items)
    return schedule.deal(user, item, value, *counts, row_bytes=row_bytes, seed=seed)


def owners(place, bins_of):
    return [bins_of[np.flatnonzero(place == row)[0]] for row in range(len(place))]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.sampled_from([32, 4096, 16384]),
)
def test_a_grid_holds_every_rating_once_and_strata_share_no_row(users, items, n, seed, row_bytes):
    user, item, value = problem(np.random.default_rng(seed), users, items, n)
    grid = grid_of(user, item, value, users, items, row_bytes, seed)

    given_rows = sorted(zip(grid.user_place[user], grid.item_place[item], value, strict=True))
    assert given_rows == sorted(zip(grid.user, grid.item, grid.value, strict=True))
    assert sorted(grid.user_place) == list(range(users))
    assert sorted(grid.item_place) == list(range(items))
    assert grid.edge[0] == 0
    assert grid.edge[-1] == n
    assert len(grid.edge) == grid.bins**2 + 1

    rows_of = {}
    for block in range(grid.bins**2):
        part = slice(grid.edge[block], grid.edge[block + 1])
        rows_of[block] = set(grid.user[part].tolist()), set(grid.item[part].tolist())
    for shift in range(grid.bins):
        stratum = [a * grid.bins + (a + shift) % grid.bins for a in range(grid.bins)]
        for side in (0, 1):
            rows = [row for block in stratum for row in rows_of[block][side]]
            assert len(rows) == len(set(rows))


def test_bins_carry_equal_weight():
    rng = np.random.default_rng(0)
    user, item, value = problem(rng, 5000, 3000, 200_000)
    grid = grid_of(user, item, value, 5000, 3000)
    size = np.diff(grid.edge)
    assert grid.bins == schedule.FEWEST_BINS
    assert size.max() < 1.1 * size.mean()


def test_ratings_are_shuffled_inside_a_tile():
    n = 1000
    user, item = np.zeros(n, np.int32), np.arange(n, dtype=np.int32)
    grid = grid_of(user, item, np.ones(n, np.float32), 1, n)
    assert not np.array_equal(grid.item, np.sort(grid.item))
    other = grid_of(user, item, np.ones(n, np.float32), 1, n, seed=4)
    assert not np.array_equal(grid.item, other.item)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_epoch_runs_every_block_once(threads, monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 1)
    user, item, value = problem(np.random.default_rng(1), 200, 100, 5000)
    grid = grid_of(user, item, value, 200, 100)
    ran = []
    schedule.run_epoch(lambda blocks: ran.extend(blocks.tolist()), grid, epoch=0, threads=threads)
    assert sorted(ran) == list(range(grid.bins**2))


def test_an_error_in_a_thread_comes_out(monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 1)
    user, item, value = problem(np.random.default_rng(1), 200, 100, 5000)

    def fail(_blocks):
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        schedule.run_epoch(fail, grid_of(user, item, value, 200, 100), epoch=0, threads=2)


def test_epochs_differ_in_the_order_of_strata_only():
    user, item, value = problem(np.random.default_rng(1), 200, 100, 5000)
    grid = grid_of(user, item, value, 200, 100)
    orders = []
    for epoch in range(4):
        ran = []
        schedule.run_epoch(lambda blocks, ran=ran: ran.extend(blocks.tolist()), grid, epoch=epoch, threads=1)
        orders.append(tuple(ran))
    assert len(set(orders)) > 1
