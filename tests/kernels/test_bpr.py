"""Bayesian personalised ranking: the kernel against a plain loop, its gradient, and how negatives are drawn."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from hatrix.kernels import bpr, sgd

CENTRE = (np.arange(100) % 7 / 10 - 0.3).astype(np.float32)


def run(
    user, item, *, n_users, n_items, factors=6, candidates=1, bins=1, pool=None, seed=0, rate=0.05, Q=None
):
    """One epoch; returns what it learned, what it started from, and its figures. Biases are pulled to `CENTRE`."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_users, factors)) * 0.5, rng.standard_normal((n_items, factors)) * 0.5
    P, Q = sgd.aligned_rows(rows[0], np.float32), sgd.aligned_rows(rows[1] if Q is None else Q, np.float32)
    bias = (rng.standard_normal(n_items) * 0.1).astype(np.float32)
    before = P[:, :factors].copy(), Q[:, :factors].copy(), bias.copy()
    grid, item_bin = bpr.deal(user, item, n_users, n_items, bins=bins, rng=rng, seed=seed)
    every = np.arange(n_items, dtype=np.int32) if pool is None else pool
    drawn = bpr.Pool(every, item_bin, grid.bins)
    order = np.lexsort((item, user))
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))])
    reg = np.full(n_users, 0.02, np.float32), np.full(n_items, 0.03, np.float32)
    figures = [np.zeros(grid.bins**2) for _ in range(3)]
    bpr.update(factors, candidates)(
        np.arange(grid.bins**2), grid.edge, grid.user, grid.item, grid.bins, drawn.start, drawn.item, start,
        item[order], P, Q, bias, CENTRE[:n_items], *reg, np.float32(0.04), np.float32(rate), np.uint64(seed), *figures,
    )  # fmt: skip
    return (P[:, :factors], Q[:, :factors], bias), before, grid, figures


def test_one_pair_moves_as_its_gradient_says():
    """User 0 has item 0 and item 1 is the only other: the step is known in full, and so is the slope."""
    user, item = np.array([0], np.int32), np.array([0], np.int32)
    after, before, _, (loss, _, used) = run(user, item, n_users=1, n_items=2)
    P, Q, bias = (array.astype(float) for array in before)
    want = P.copy(), Q.copy(), bias.copy()
    total = naive.bpr(
        [0], [0], [1], *want, user_reg=[0.02], item_reg=[0.03] * 2, bias_reg=0.04, centre=CENTRE, rate=0.05
    )
    for got, wanted in zip(after, want, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert (loss[0], used[0]) == (pytest.approx(total, rel=1e-5), 1)

    def objective(p):
        x = p @ Q[0] + bias[0] - p @ Q[1] - bias[1]
        return np.log1p(np.exp(-x)) + 0.01 * p @ p

    step = 1e-6
    slope = [(objective(P[0] + step * one) - objective(P[0] - step * one)) / (2 * step) for one in np.eye(6)]
    np.testing.assert_allclose((after[0][0] - P[0]) / -0.05, slope, atol=1e-4)


def test_an_epoch_is_that_of_the_plain_loop():
    """Each user has all items but one, so that the negatives are known whatever is drawn."""
    n_users, n_items = 30, 4
    free = np.arange(n_users) % n_items
    user, item = (side.astype(np.int32) for side in np.nonzero(np.arange(n_items)[None, :] != free[:, None]))
    after, before, grid, figures = run(user, item, n_users=n_users, n_items=n_items)
    P, Q, bias = (array.astype(float) for array in before)
    total = naive.bpr(
        grid.user, grid.item, free[grid.user], P, Q, bias,
        user_reg=np.full(n_users, 0.02), item_reg=np.full(n_items, 0.03), bias_reg=0.04, centre=CENTRE,
        rate=0.05,
    )  # fmt: skip
    assert figures[2].sum() == len(user)  # one in four is free: 32 draws find it
    np.testing.assert_allclose(figures[0].sum(), total, rtol=1e-4)
    for got, wanted in zip(after, (P, Q, bias), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def negatives_of(n_items, pool=None, bins=1, epochs=40, rate=1e-3, candidates=1, Q=None):
    """How often each item was drawn by user 0, who has item 0 in many rows: seen from the biases that fall."""
    count = np.zeros(n_items)
    for epoch in range(epochs):
        user, item = np.zeros(50, np.int32), np.zeros(50, np.int32)
        (_, _, bias), (_, _, start), _, _ = run(
            user, item, n_users=1, n_items=n_items, pool=pool, bins=bins, seed=epoch, rate=rate,
            candidates=candidates, Q=Q,
        )  # fmt: skip
        count += start - bias > 1e-5
    return count


def test_every_item_but_the_users_own_is_drawn():
    drawn = negatives_of(8)
    assert drawn[0] == 0
    assert (drawn[1:] > 30).all()


def test_items_are_drawn_as_often_as_they_stand_in_the_pool():
    pool = np.repeat(np.arange(4, dtype=np.int32), [1, 1, 2, 6])
    user, item = np.zeros(9000, np.int32), np.zeros(9000, np.int32)
    (_, Q, _), (_, before, _), _, _ = run(user, item, n_users=1, n_items=4, pool=pool, rate=1e-5)
    moved = np.linalg.norm(Q - before, axis=1)[1:]
    share = moved / moved.sum()
    np.testing.assert_allclose(share, [1 / 9, 2 / 9, 6 / 9], atol=0.08)


def test_adaptive_negatives_are_the_ones_that_score_highest():
    Q = np.zeros((30, 6))
    Q[:, 0] = np.arange(30) / 10
    user, item = np.zeros(400, np.int32), np.zeros(400, np.int32)
    moved = {}
    for candidates in (1, 8):
        (P, after, bias), (P0, _, bias0), _, _ = run(
            user, item, n_users=1, n_items=30, candidates=candidates, Q=Q, rate=1e-4
        )
        fallen = bias0 - bias
        order = np.argsort(Q @ P0[0] + bias0)
        moved[candidates] = fallen[order[-8:]].sum() / fallen[fallen > 0].sum()
        assert np.isfinite(P).all()
        assert np.isfinite(after).all()
    assert moved[8] > 2 * moved[1]


def test_a_user_who_has_everything_is_passed_over():
    user, item = np.zeros(5, np.int32), np.arange(5, dtype=np.int32)
    after, before, _, (_, _, used) = run(user, item, n_users=1, n_items=5)
    assert used.sum() == 0
    for got, was in zip(after, before, strict=True):
        np.testing.assert_array_equal(got, was)


def test_blocks_on_a_diagonal_share_no_row_and_hold_every_pair_once():
    rng = np.random.default_rng(1)
    user, item = (rng.integers(0, n, 500).astype(np.int32) for n in (40, 30))
    grid, item_bin = bpr.deal(user, item, 40, 30, bins=4, rng=rng, seed=0)
    assert sorted(zip(grid.user.tolist(), grid.item.tolist(), strict=True)) == sorted(
        zip(user.tolist(), item.tolist(), strict=True)
    )
    bins_of_user: dict[int, int] = {}
    for block in range(16):
        part = slice(grid.edge[block], grid.edge[block + 1])
        assert (item_bin[grid.item[part]] == block % 4).all()
        for u in grid.user[part].tolist():
            assert bins_of_user.setdefault(u, block // 4) == block // 4


def test_over_epochs_all_pairs_of_items_share_a_bin():
    together = np.zeros((12, 12))
    for seed in range(200):
        _, item_bin = bpr.deal(
            np.zeros(1, np.int32),
            np.zeros(1, np.int32),
            12,
            12,
            bins=3,
            rng=np.random.default_rng(seed),
            seed=seed,
        )
        together += item_bin[:, None] == item_bin[None, :]
    pairs = together[np.triu_indices(12, 1)] / 200
    assert pairs.min() > 0.15  # three others of eleven: 0.27
    assert pairs.max() < 0.42
