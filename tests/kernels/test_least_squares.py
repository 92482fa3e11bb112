"""Ridge regressions of rows: the exact, the iterative and the block solvers, against normal equations in NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import naive
from hatrix.kernels import conjugate_gradients, least_squares
from hatrix.kernels.tiles import padded_rows


class Problem:
    """Rows with 0 to 3 × factors entries, so that both forms of the solution are met."""

    def __init__(self, factors: int, *, seed: int = 0, rows: int = 40) -> None:
        rng = np.random.default_rng(seed)
        count = rng.integers(0, 3 * factors + 2, rows)
        count[:3] = 0, 1, 3 * factors + 1
        self.start = np.concatenate([[0], np.cumsum(count)])
        n = self.start[-1]
        self.rows, self.factors = rows, factors
        self.other = rng.integers(0, 90, n).astype(np.int32)
        self.weight = (0.5 + rng.random(n)).astype(np.float32)
        self.target = rng.standard_normal(n).astype(np.float32)
        self.Y = rng.standard_normal((90, factors))
        self.padded = padded_rows(self.Y)
        self.lanes = self.padded.shape[1]
        self.diagonal = np.zeros(self.lanes, np.float32)
        self.diagonal[:factors] = rng.random(factors)
        self.ridge = (0.5 + rng.random(rows)).astype(np.float32)
        self.bias_ridge = (0.5 + rng.random(rows)).astype(np.float32)

    def entries(self):
        return self.start, self.other, self.weight, self.target

    def exact(self, *, biased):
        return naive.ridge(
            *self.entries(),
            self.Y,
            self.diagonal[: self.factors],
            self.ridge,
            self.bias_ridge if biased else None,
        )

    def zeros(self):
        return np.zeros((self.rows, self.lanes), np.float32)


@pytest.mark.parametrize("factors", [1, 5, 16, 17, 40])
@pytest.mark.parametrize("biased", [False, True])
def test_rows_are_solved_exactly(factors, biased):
    p = Problem(factors)
    X, bias = p.zeros(), np.full(p.rows, 9.0, np.float32)
    least_squares.solve_rows(
        *p.entries(), p.padded, p.diagonal, p.ridge, X,
        bias=bias if biased else None, bias_ridge=p.bias_ridge if biased else None,
    )  # fmt: skip
    want, want_bias = p.exact(biased=biased)
    np.testing.assert_allclose(X[:, :factors], want, atol=2e-5)
    assert not X[:, factors:].any()
    if biased:
        np.testing.assert_allclose(bias, want_bias, atol=2e-5)
    assert not X[0].any()


@pytest.mark.parametrize("entries", [5, 12, 40])
@pytest.mark.parametrize("weight", [1e4, 1e6, 1e8])
def test_unknowns_that_rounding_decides_leave_a_solution_that_is_about_the_best(entries, weight):
    """Half of the regressors are there twice, columns reach down to 1e-4, and the ridge is next to nothing."""
    for seed in range(6):
        Y = np.random.default_rng(seed).normal(size=(entries, 16)) * np.logspace(0, -4, 16)
        Y[entries // 2 :] = Y[: entries - entries // 2]
        X = np.zeros((1, 16), np.float32)
        least_squares.solve_rows(
            np.array([0, entries]), np.arange(entries, dtype=np.int32), np.full(entries, weight, np.float32),
            np.ones(entries, np.float32), padded_rows(Y), np.zeros(16, np.float32), np.array([0.01], np.float32), X,
        )  # fmt: skip

        def objective(x, Y=Y):
            return weight * np.sum((1 - Y @ x) ** 2) + 0.01 * x @ x

        best = np.linalg.solve(weight * Y.T @ Y + 0.01 * np.eye(16), weight * Y.sum(0))
        assert objective(X[0].astype(float)) - objective(best) < 1e-7 * objective(0 * best)


def test_the_slope_at_a_solved_row_is_zero():
    p = Problem(20)
    X = p.zeros()
    least_squares.solve_rows(*p.entries(), p.padded, p.diagonal, p.ridge, X)

    def objective(u, x):
        part = slice(p.start[u], p.start[u + 1])
        e = p.target[part] - p.Y[p.other[part]] @ x
        return p.weight[part] @ e**2 + (p.ridge[u] + p.diagonal[:20]) @ x**2

    for u in (1, 2, 7, 12):
        x, step = X[u, :20].astype(float), 1e-4
        slope = [
            (objective(u, x + step * one) - objective(u, x - step * one)) / (2 * step) for one in np.eye(20)
        ]
        np.testing.assert_allclose(slope, 0, atol=1e-3)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("gathered", [4, 1024])
def test_many_conjugate_gradient_steps_reach_the_solution_and_few_come_near(biased, gathered, monkeypatch):
    monkeypatch.setattr(conjugate_gradients, "GATHERED", gathered)
    # A kernel anew, since it closes over the size of its buffer.
    monkeypatch.setattr(conjugate_gradients, "_steps", conjugate_gradients._steps.__wrapped__)
    p = Problem(24)
    want, want_bias = p.exact(biased=biased)
    off = []
    for steps in (1, 3, 60):
        X, bias = p.zeros(), np.zeros(p.rows, np.float32)
        conjugate_gradients.take_steps(
            *p.entries(), p.padded, p.diagonal, p.ridge, X, times=steps,
            bias=bias if biased else None, bias_ridge=p.bias_ridge if biased else None,
        )  # fmt: skip
        off.append(np.abs(X[:, :24] - want).max())
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-4
    if biased:
        np.testing.assert_allclose(bias, want_bias, atol=1e-4)
    else:
        assert not bias.any()


@pytest.mark.parametrize("size", [16, 32])
def test_blocks_of_columns_reach_the_solution(size):
    p = Problem(40)
    want, _ = p.exact(biased=False)
    X = p.zeros()
    for _ in range(400):
        least_squares.solve_by_blocks(*p.entries(), p.padded, p.diagonal, p.ridge, X, size=size)
    np.testing.assert_allclose(X[:, :40], want, atol=5e-5)
    assert not X[:, 40:].any()


def test_a_block_of_all_columns_is_the_solution_from_any_start():
    p = Problem(40)
    X = padded_rows(np.random.default_rng(1).standard_normal((p.rows, 40)))
    least_squares.solve_by_blocks(*p.entries(), p.padded, p.diagonal, p.ridge, X, size=48)
    np.testing.assert_allclose(X[:, :40], p.exact(biased=False)[0], atol=5e-5)


def test_every_block_lowers_the_objective():
    p = Problem(40)
    X, seen = p.zeros(), []
    for _ in range(5):
        least_squares.solve_by_blocks(*p.entries(), p.padded, p.diagonal, p.ridge, X, size=16)
        row = np.repeat(np.arange(p.rows), np.diff(p.start))
        e = p.target - np.einsum("nk,nk->n", X[row, :40].astype(float), p.Y[p.other])
        penalty = (p.ridge[:, None] + p.diagonal).astype(float)
        seen.append(float(p.weight @ e**2 + (penalty * X.astype(float) ** 2).sum()))
    assert all(after < before for before, after in pairwise(seen))


@pytest.mark.parametrize("biased", [False, True])
def test_nonnegative_rows_meet_their_conditions(biased):
    p = Problem(12)
    X, bias = p.zeros(), np.zeros(p.rows, np.float32)
    least_squares.solve_rows(
        *p.entries(), p.padded, p.diagonal, p.ridge, X,
        bias=bias if biased else None, bias_ridge=p.bias_ridge if biased else None, nonnegative=True,
    )  # fmt: skip
    assert (X >= 0).all()
    for u in range(1, p.rows):
        part = slice(p.start[u], p.start[u + 1])
        Y, x = p.Y[p.other[part]], X[u, :12]
        e = p.weight[part] * (p.target[part] - bias[u] - Y @ x)
        slope = Y.T @ e - (p.ridge[u] + p.diagonal[:12]) * x
        assert (slope < 2e-3).all()  # no coordinate wants to grow
        assert np.abs(slope[x > 0]).max(initial=0) < 2e-3  # and none that is not at its bound to shrink


def test_bits_do_not_depend_on_threads(monkeypatch):
    from hatrix.kernels import schedule

    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    p, results = Problem(20, rows=200), []
    for threads in (1, 2, 5):
        X = p.zeros()
        least_squares.solve_rows(*p.entries(), p.padded, p.diagonal, p.ridge, X, threads=threads)
        results.append(X)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("factors", [5, 24])
@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_losses_are_summed_by_row(factors, slope):
    p = Problem(factors)
    rng = np.random.default_rng(3)
    X, bias, total = (
        padded_rows(rng.standard_normal((p.rows, factors))),
        rng.standard_normal(p.rows),
        np.zeros(p.rows),
    )
    bias = bias.astype(np.float32)
    kernel = least_squares.losses(p.lanes)
    kernel(0, p.rows, *p.entries(), p.padded, X, bias, np.float64(slope), total)
    want = naive.losses(*p.entries(), p.padded.astype(float), X.astype(float), bias, slope)
    np.testing.assert_allclose(total, want, rtol=1e-5, atol=1e-4)
