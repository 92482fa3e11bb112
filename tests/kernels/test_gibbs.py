from __future__ import annotations

import numpy as np
import pytest

import naive
from hatrix.kernels import gibbs
from hatrix.kernels.tiles import padded, padded_rows

USERS, ITEMS, BINS, NOISE = 7, 6, 3, 1.7


class Problem:
    """Ratings by user, rows of three sides, two fields on the user side; user 5 has no ratings."""

    def __init__(self, size, dtype=np.float64, *, timed=True, seed=0):
        self.rng = rng = np.random.default_rng(seed)
        self.size, self.timed, self.dtype, self.lanes = size, timed, dtype, padded(size)
        user, self.item = np.divmod(np.sort(rng.permutation((USERS - 1) * ITEMS)[:20]), ITEMS)
        self.user = user + (user == 5)
        self.when = rng.integers(0, BINS, len(user))
        self.value = rng.normal(size=len(user)).astype(dtype)
        self.own, self.Z, self.T, self.Y = (
            rng.normal(0, 0.5, (n, size)).astype(dtype) for n in (USERS, ITEMS, BINS, 4)
        )
        if not timed:
            self.T[:] = 0
        self.precise = rng.uniform(0.4, 2, len(user)).astype(dtype)
        self.weight = np.where(rng.random((USERS, 4)) < 0.6, rng.uniform(0.3, 1, (USERS, 4)), 0).astype(dtype)
        self.X = self.own + self.weight @ self.Y
        root = rng.normal(size=(size, size))
        self.precision, self.prior = root @ root.T + np.eye(size), rng.normal(size=size)

    def aligned(self, rows):
        return padded_rows(rows, self.dtype)

    def others(self):
        """The arrays of the other side and of time as the kernels want them."""
        V, T = self.aligned(self.Z), self.aligned(self.T)
        bias, second = V[:, self.size - 1].copy(), T[:, self.size - 1].copy()
        V[:, self.size - 1], T[:, self.size - 1] = 1, 0
        return V, bias, T, second

    def sums(self):
        G = np.full((USERS * self.size, self.lanes), np.nan, self.dtype)
        h = np.full((USERS, self.lanes), np.nan, self.dtype)
        start = np.searchsorted(self.user, np.arange(USERS + 1))
        kernel = gibbs.sums(self.size, self.lanes, timed=self.timed)
        for rows in ((0, 3), (3, USERS)):
            args = (self.item, self.when, self.value, self.precise)
            kernel(*rows, start, *args, *self.others(), G, h)
        return G, h

    def regressors(self, u):
        """Of the ratings of a user: what its row is multiplied with, and the ratings less all else.

        Both times the root of the rating's relative precision.
        """
        mine = self.user == u
        item, when = self.item[mine], self.when[mine]
        design = np.ones((mine.sum(), self.size))
        design[:, :-1] = self.Z[item, :-1] + self.T[when, :-1]
        alone = np.zeros((USERS, self.size))
        rest = naive.bilinear_scores(self.user[mine], item, when, 0.0, alone, self.Z, self.T)
        root = np.sqrt(self.precise[mine])
        return root[:, None] * design, root * (self.value[mine] - rest)

    def tolerance(self):
        return {"rtol": 1e-9, "atol": 1e-9} if self.dtype == np.float64 else {"rtol": 2e-4, "atol": 2e-4}


cases = pytest.mark.parametrize(
    ("size", "dtype", "timed"),
    [
        pytest.param(2, np.float64, True, marks=pytest.mark.campaign),
        (3, np.float64, False),
        (11, np.float32, True),
        pytest.param(17, np.float64, True, marks=pytest.mark.campaign),
        (33, np.float32, False),
    ],
)


@cases
def test_sums_are_those_of_the_regressors(size, dtype, timed):
    problem = Problem(size, dtype, timed=timed)
    G, h = problem.sums()
    for u in range(USERS):
        design, target = problem.regressors(u)
        gram = G[u * size : (u + 1) * size]
        np.testing.assert_allclose(gram[:, :size], design.T @ design, **problem.tolerance())
        np.testing.assert_allclose(h[u, :size], design.T @ target, **problem.tolerance())
        assert not gram[:, size:].any()
        assert not h[u, size:].any()


@cases
def test_scores_are_the_formula(size, dtype, timed):
    problem = Problem(size, dtype, timed=timed)
    out = np.empty(len(problem.user))
    gibbs.scores(problem.lanes, timed=timed)(
        0, len(out), problem.user, problem.item, problem.when, problem.aligned(problem.X), *problem.others(),
        out,
    )  # fmt: skip
    wanted = naive.bilinear_scores(
        problem.user, problem.item, problem.when, 0.0, problem.X, problem.Z, problem.T
    )
    np.testing.assert_allclose(out, wanted, **problem.tolerance())


@cases
def test_own_rows_are_draws_of_their_regressions(size, dtype, timed):
    problem = Problem(size, dtype, timed=timed)
    X, P, key = problem.aligned(problem.X), problem.aligned(problem.own), 123456789
    kernel = gibbs.own_rows(size, problem.lanes)
    for rows in ((4, USERS), (0, 4)):
        kernel(*rows, *problem.sums(), X, P, problem.prior, problem.precision, NOISE, np.uint64(key))
    for u in range(USERS):
        design, target = problem.regressors(u)
        target = target - design @ (problem.X[u] - problem.own[u])
        A, b = naive.regression(design, target, problem.prior, problem.precision, NOISE)
        drawn = naive.normal_draw(A, b, naive.counted_normals(key, u, size))
        np.testing.assert_allclose(P[u, :size], drawn, **problem.tolerance())
        np.testing.assert_allclose(X[u, :size], problem.X[u] + drawn - problem.own[u], **problem.tolerance())
    assert not P[:, size:].any()
    assert not X[:, size:].any()


@cases
def test_bag_rows_are_draws_one_after_another_that_move_their_holders(size, dtype, timed):
    problem = Problem(size, dtype, timed=timed)
    X, Y, key = problem.aligned(problem.X), problem.aligned(problem.Y), 987654321
    feature, holder = np.nonzero(problem.weight.T)
    start = np.searchsorted(feature, np.arange(5))
    gibbs.bag_rows(size, problem.lanes)(
        start, holder, problem.weight[holder, feature], *problem.sums(), X, Y, problem.prior, problem.precision, NOISE,
        np.uint64(key),
    )  # fmt: skip
    rows, features = problem.X.astype(float), problem.Y.astype(float)
    for j in range(4):
        designs, targets = [], []
        for u in range(USERS):
            w, (design, target) = problem.weight[u, j], problem.regressors(u)
            designs.append(w * design)
            targets.append(target - design @ (rows[u] - w * features[j]))
        A, b = naive.regression(
            np.concatenate(designs), np.concatenate(targets), problem.prior, problem.precision, NOISE
        )
        drawn = naive.normal_draw(A, b, naive.counted_normals(key, j, size))
        rows += np.outer(problem.weight[:, j], drawn - features[j])
        features[j] = drawn
    np.testing.assert_allclose(Y[:, :size], features, **problem.tolerance())
    np.testing.assert_allclose(X[:, :size], rows, **problem.tolerance())
    assert not Y[:, size:].any()
    assert not X[:, size:].any()


@pytest.mark.parametrize("size", [2, pytest.param(5, marks=pytest.mark.campaign)])
def test_draws_have_the_mean_and_covariance_of_the_posterior(size):
    problem, draws = Problem(size), 40_000
    design, target = problem.regressors(0)
    A, b = naive.regression(design, target, problem.prior, problem.precision, NOISE)
    G, h = problem.sums()
    # One user over and over: the number of a row alone tells its draws apart.
    G, h = np.tile(G[:size], (draws, 1)), np.tile(h[:1], (draws, 1))
    X, P = (problem.aligned(np.zeros((draws, size))) for _ in range(2))
    kernel = gibbs.own_rows(size, problem.lanes)
    kernel(0, draws, G, h, X, P, problem.prior, problem.precision, NOISE, np.uint64(7))
    z = (P[:, :size] - np.linalg.solve(A, b)) @ np.linalg.cholesky(A)
    assert np.abs(z.mean(axis=0) * np.sqrt(draws)).max() < 4
    off = (z.T @ z / draws - np.eye(size)) * np.sqrt(draws / (1 + np.eye(size)))
    assert np.abs(off).max() < 4
    assert np.abs((z**3).mean(axis=0)).max() < 4 * np.sqrt(15 / draws)
    assert np.abs((z**4).mean(axis=0) - 3).max() < 4 * np.sqrt(96 / draws)
    neighbours = (z[1:] * z[:-1]).mean(axis=0) * np.sqrt(draws)
    assert np.abs(neighbours).max() < 4


def test_keys_give_unrelated_draws():
    size, draws = 3, 20_000
    problem = Problem(size)
    numbers = []
    for key in (1, 2, 2**40):
        X, P = (problem.aligned(np.zeros((draws, size))) for _ in range(2))
        empty = np.zeros((draws * size, problem.lanes)), np.zeros((draws, problem.lanes))
        kernel = gibbs.own_rows(size, problem.lanes)
        kernel(0, draws, *empty, X, P, np.zeros(size), np.eye(size), 1.0, np.uint64(key))
        numbers.append(P[:, :size])
    correlation = np.corrcoef(np.concatenate(numbers, axis=1).T) * np.sqrt(draws)
    assert np.abs(correlation[~np.eye(9, dtype=bool)]).max() < 4.5
