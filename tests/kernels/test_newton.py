"""A new user of BPR: the kernel of Newton's method against a plain twin that goes on until nothing moves."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from hatrix.kernels.newton import row_of_pairs
from hatrix.kernels.tiles import padded_rows


def solve(Q, b, R, c, mass, candidates, penalty):
    Q_, R_ = padded_rows(Q), padded_rows(R)
    p, weight = np.full((1, R_.shape[1]), 7.0, np.float32), np.empty(len(R), np.float32)
    row_of_pairs(R_.shape[1])(
        Q_, b.astype(np.float32), R_, c.astype(np.float32), mass.astype(np.float32), candidates,
        np.float32(penalty), p, weight,
    )  # fmt: skip
    assert not p[0, Q.shape[1] :].any()
    return p[0, : Q.shape[1]], weight


def task(n, m, k, seed, scale=0.25):
    rng = np.random.default_rng(seed)
    mass = rng.random(m) ** 3
    mass[rng.random(m) < 0.1] = 0  # items had
    mass[0] = 1.0
    return (
        rng.standard_normal((n, k)) * scale, rng.standard_normal(n) * 0.3, rng.standard_normal((m, k)) * scale,
        rng.standard_normal(m) * 0.3, mass / mass.sum(),
    )  # fmt: skip


@pytest.mark.parametrize("candidates", [1, 2, 16])
@pytest.mark.parametrize(
    ("n", "m", "k"),
    [(20, 300, 12), (1, 40, 12), (3, 1, 5), pytest.param(25, 700, 20, marks=pytest.mark.campaign), (1, 1, 1)],
)
def test_the_row_is_where_the_plain_method_comes_to_rest(n, m, k, candidates):
    pairs = task(n, m, k, seed=n + m + k)
    penalty = (
        0.3 * n + 0.5
    )  # with less, and longer rows, whom the row is to beat would change with every step
    row, weight = solve(*pairs, candidates, penalty)
    wanted, drawn = naive.row_of_pairs(*pairs, candidates, penalty)
    assert np.linalg.norm(row - wanted) < 0.02 * np.linalg.norm(wanted)
    assert np.abs(weight - drawn).sum() < 0.02
    assert weight.sum() == pytest.approx(1, abs=1e-4)


def test_many_rivals_alike_bend_no_less_for_being_sampled():
    """All of more rivals than the Hessian takes have the same weight, and it ends where the plain method does."""
    rng = np.random.default_rng(3)
    m = 1100
    pairs = (
        rng.standard_normal((5, 8)),
        np.zeros(5),
        rng.standard_normal((m, 8)),
        np.zeros(m),
        np.full(m, 1 / m),
    )
    row, _ = solve(*pairs, 1, 0.05)
    wanted, _ = naive.row_of_pairs(*pairs, 1, 0.05)
    np.testing.assert_allclose(row, wanted, atol=0.02 * np.abs(wanted).max())


def test_rivals_of_equal_scores_are_drawn_by_their_mass():
    m = 6
    mass = np.arange(1, m + 1) / 21
    pairs = np.zeros((2, 4)), np.zeros(2), np.zeros((m, 4)), np.zeros(m), mass
    row, weight = solve(*pairs, 16, 1.0)
    assert not row.any()
    np.testing.assert_allclose(weight, mass, rtol=1e-5)


def test_scores_far_apart_are_no_trouble():
    pairs = task(4, 50, 6, seed=1)
    pairs[3][:] *= 3000
    row, weight = solve(*pairs, 16, 0.4)
    assert np.isfinite(row).all()
    assert np.isfinite(weight).all()
