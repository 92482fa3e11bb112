from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from hatrix.kernels import sgd, svdpp


def problem(factors, dtype, seed=0, users=15, items=10, n=120):
    """Ratings of distinct pairs; the last user and the last item have none."""
    rng = np.random.default_rng(seed)
    user, item = np.divmod(rng.permutation((users - 1) * (items - 1))[:n], items - 1)
    draws = {
        "P": (users, factors), "Q": (items, factors), "Y": (items, factors), "user_bias": users, "item_bias": items
    }  # fmt: skip
    return {
        "user": user,
        "item": item,
        "value": rng.normal(size=len(user)).astype(dtype),
        **{name: rng.normal(0, 0.3, shape).astype(dtype) for name, shape in draws.items()},
        "user_reg": rng.uniform(0, 0.1, users).astype(dtype),
        "item_reg": rng.uniform(0, 0.1, items).astype(dtype),
        "user_bias_reg": rng.uniform(0, 0.1, users).astype(dtype),
        "item_bias_reg": rng.uniform(0, 0.1, items).astype(dtype),
    }


def fast(x, *, rate, ratio):
    """One epoch by the kernels, all ratings in one block."""
    k, dtype = x["P"].shape[1], x["P"].dtype
    P, Q, Y = (sgd.aligned_rows(x[name], dtype) for name in ("P", "Q", "Y"))
    S, G = (sgd.aligned_rows(np.zeros_like(x["P"]), dtype) for _ in range(2))
    user, item, number = x["user"].astype(np.uint32), x["item"].astype(np.uint32), dtype.type
    by_user, by_item = (svdpp.neighbours()(*pair) for pair in ((user, item, len(P)), (item, user, len(Q))))
    share = (1 / np.sqrt(np.maximum(np.diff(by_user[0]), 1))).astype(dtype)
    biases, loss = (x["user_bias"].copy(), x["item_bias"].copy()), np.zeros(1)
    svdpp.user_sums(k)(0, len(P), *by_user, share, Y, S)
    svdpp.update(k)(
        np.array([0]), np.array([0, len(user)]), user, item, x["value"], P, S, G, Q, *biases, x["user_reg"],
        x["item_reg"], x["user_bias_reg"], x["item_bias_reg"], number(rate), loss,
    )  # fmt: skip
    length, response = np.einsum("ij,ij->i", Q, Q), np.empty_like(share)
    svdpp.responses()(0, len(P), *by_user, length, number(rate), response)
    svdpp.item_terms(k)(
        0, len(Q), *by_item, share, G, response, Y, x["item_reg"], number(rate), number(ratio)
    )
    for rows in (P, Q, Y, S, G):
        assert not rows[:, k:].any()
    return P[:, :k], Q[:, :k], Y[:, :k], *biases, loss[0]


def slow(x, *, rate, ratio):
    x = {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in x.items()}
    arrays = [x[name].copy() for name in ("P", "Q", "Y", "user_bias", "item_bias")]
    loss = naive.svdpp_epoch(
        range(len(x["value"])), x["user"], x["item"], x["value"], *arrays, rate=rate, ratio=ratio,
        slack=svdpp.SLACK, user_reg=x["user_reg"], item_reg=x["item_reg"], bias_reg=(x["user_bias_reg"], x["item_bias_reg"]),
    )  # fmt: skip
    return *arrays, loss


SETTING = {"rate": 0.03, "ratio": 0.6}


@pytest.mark.parametrize("factors", [1, 5, 8, 20, 64, 100])
def test_the_kernels_equal_their_twin(factors):
    x = problem(factors, np.float64)
    for ours, theirs in zip(fast(x, **SETTING), slow(x, **SETTING), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_float32_stays_near_float64():
    x = problem(64, np.float32)
    for ours, theirs in zip(fast(x, **SETTING), slow(x, **SETTING), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def objective(x, flat, shapes):
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1].astype(int))
    P, Q, Y, a, b = (part.reshape(shape) for part, shape in zip(parts, shapes.values(), strict=True))
    u, i = x["user"], x["item"]
    Z = P + naive.svdpp_sums(u, i, Y, len(P))
    error = x["value"] - a[u] - b[i] - np.sum(Z[u] * Q[i], axis=1)
    squares = (P**2).sum(1), (Q**2).sum(1) + (Y**2).sum(1)
    return np.sum(
        error**2
        + x["user_reg"][u] * squares[0][u]
        + x["item_reg"][i] * squares[1][i]
        + x["user_bias_reg"][u] * a[u] ** 2
        + x["item_bias_reg"][i] * b[i] ** 2
    )


def test_an_epoch_of_tiny_steps_is_the_gradient_of_the_objective():
    x, h, rate = problem(3, np.float64), 1e-5, 1e-7
    names = ("P", "Q", "Y", "user_bias", "item_bias")
    shapes = {name: x[name].shape for name in names}
    at = np.concatenate([x[name].ravel() for name in names])
    differences = np.array(
        [
            (objective(x, at + h * unit, shapes) - objective(x, at - h * unit, shapes)) / (2 * h)
            for unit in np.eye(len(at))
        ]
    )
    *arrays, _ = fast(x, rate=2 * rate, ratio=1.0)
    step = np.concatenate([array.ravel() for array in arrays]) - at
    np.testing.assert_allclose(step / rate, -differences, rtol=1e-3, atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 126))
def test_one_wish_of_all_users_moves_their_sums_by_the_slack_at_most(seed, n):
    """Wishes √|N(u)| g are the eigenvector of the bound: however many users, each sum moves by SLACK rate times its own."""
    x, k, rate = problem(8, np.float64, seed, n=n), 8, 0.1
    user, item = x["user"].astype(np.uint32), x["item"].astype(np.uint32)
    by_user, by_item = svdpp.neighbours()(user, item, 15), svdpp.neighbours()(item, user, 10)
    rated = np.diff(by_user[0])
    share, wish = 1 / np.sqrt(np.maximum(rated, 1)), np.sqrt(rated)[:, None] * np.arange(1.0, k + 1)
    G, Y, S = (sgd.aligned_rows(rows, np.float64) for rows in (wish, np.zeros((10, k)), np.zeros((15, k))))
    svdpp.item_terms(k)(0, 10, *by_item, share, G, np.ones(15), Y, np.zeros(10), rate, 1e9)
    svdpp.user_sums(k)(0, 15, *by_user, share, Y, S)
    np.testing.assert_allclose(S, svdpp.SLACK * rate * wish, rtol=1e-6)


def test_a_response_is_the_rate_times_the_squared_lengths_and_at_most_1():
    start, item, length = np.array([0, 2, 3, 3]), np.array([1, 0, 1], np.uint32), np.array([0.5, 8.0])
    h = np.full(3, np.nan)
    svdpp.responses()(0, 3, start, item, length, 0.1, h)
    np.testing.assert_allclose(h, [0.85, 0.8, 0.0])
    svdpp.responses()(1, 2, start, item, length, 10.0, h)
    np.testing.assert_allclose(h, [0.85, 1.0, 0.0])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 99)), max_size=60))
def test_neighbours_are_listed_by_row_in_the_order_given(pairs):
    row, column = np.array(pairs, np.uint32).reshape(-1, 2).T
    start, listed = svdpp.neighbours()(np.ascontiguousarray(row), np.ascontiguousarray(column), 9)
    for r in range(9):
        assert listed[start[r] : start[r + 1]].tolist() == [c for r_, c in pairs if r_ == r]
    assert start[0] == 0
    assert start[-1] == len(pairs)
