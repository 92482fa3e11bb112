from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from hatrix.kernels import schedule, sgd


def problem(factors, dtype, seed=0, users=30, items=20, n=300):
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, users, n).astype(np.int32),
        "item": rng.integers(0, items, n).astype(np.int32),
        "value": rng.normal(size=n).astype(dtype),
        "P": rng.normal(0, 0.3, (users, factors)).astype(dtype),
        "Q": rng.normal(0, 0.3, (items, factors)).astype(dtype),
        "user_bias": rng.normal(0, 0.3, users).astype(dtype),
        "item_bias": rng.normal(0, 0.3, items).astype(dtype),
        "user_reg": rng.uniform(0, 0.1, users).astype(dtype),
        "item_reg": rng.uniform(0, 0.1, items).astype(dtype),
        "bias_reg": tuple(rng.uniform(0, 0.1, n).astype(dtype) for n in (users, items)),
    }


def full(x, bias_reg):
    return tuple(np.full_like(x[side], bias_reg) for side in ("user_bias", "item_bias"))


def fast(x, *, rate, biased, adaptive, bias_reg=None):
    grid = schedule.in_order(x["user"], x["item"], x["value"], len(x["P"]), len(x["Q"]))
    P, Q = sgd.aligned_rows(x["P"], x["P"].dtype), sgd.aligned_rows(x["Q"], x["P"].dtype)
    number, loss = P.dtype.type, np.zeros(1)
    biases = x["user_bias"].copy(), x["item_bias"].copy()
    gains = np.ones(len(P), P.dtype), np.ones(len(Q), P.dtype)
    sgd.update(P.shape[1], biased=biased, adaptive=adaptive)(
        np.array([0]), grid.edge, grid.user, grid.item, grid.value, P, Q, *biases, x["user_reg"], x["item_reg"],
        *(x["bias_reg"] if bias_reg is None else full(x, bias_reg)), number(rate), *gains, loss, x["P"].shape[1],
    )  # fmt: skip
    k = x["P"].shape[1]
    assert not P[:, k:].any()
    assert not Q[:, k:].any()
    return P[:, :k], Q[:, :k], *biases, *gains, loss[0]


def slow(x, *, rate, biased, adaptive):
    P, Q = x["P"].astype(np.float64), x["Q"].astype(np.float64)
    biases = x["user_bias"].astype(np.float64), x["item_bias"].astype(np.float64)
    gains = np.ones(len(P)), np.ones(len(Q))
    loss = naive.sgd_epoch(
        range(len(x["value"])), x["user"], x["item"], x["value"].astype(np.float64), P, Q,
        *(biases if biased else (None, None)), rate=rate, user_reg=x["user_reg"].astype(np.float64),
        item_reg=x["item_reg"].astype(np.float64), bias_reg=x["bias_reg"], gains=gains if adaptive else None,
    )  # fmt: skip
    return P, Q, *biases, *gains, loss


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(
    "factors",
    [1, 5, 16, 100, *(pytest.param(number, marks=pytest.mark.campaign) for number in (8, 20, 64))],
)
def test_the_kernel_equals_its_twin(factors, biased, adaptive):
    x = problem(factors, np.float64)
    setting = {"rate": 0.03, "biased": biased, "adaptive": adaptive}
    for ours, theirs in zip(fast(x, **setting), slow(x, **setting), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True])
def test_float32_stays_near_float64(adaptive):
    setting = {"rate": 0.03, "biased": True, "adaptive": adaptive}
    x = problem(64, np.float32)
    for ours, theirs in zip(fast(x, **setting), slow(x, **setting), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_squared_errors_equal_numpy(factors, seed):
    x = problem(factors, np.float64, seed)
    P, Q = sgd.aligned_rows(x["P"], np.float64), sgd.aligned_rows(x["Q"], np.float64)
    user, item = x["user"].astype(np.uint32), x["item"].astype(np.uint32)
    total = sgd.squared_errors(P.shape[1])(user, item, x["value"], P, Q, 10, 250)
    part = slice(10, 250)
    wanted = np.sum((x["value"][part] - np.sum(x["P"][user[part]] * x["Q"][item[part]], axis=1)) ** 2)
    assert total == pytest.approx(wanted, rel=1e-12)


def test_the_step_is_the_gradient_symbolically_and_by_finite_differences():
    """Kernel, symbols and differences agree on the step for one rating, biases and regularization included."""
    k, rate, reg, bias_reg = 3, 1e-3, 0.05, 0.02
    p, q = sympy.symbols(f"p:{k}"), sympy.symbols(f"q:{k}")
    a, b, r = sympy.symbols("a b r")
    error = r - a - b - sum(x * y for x, y in zip(p, q, strict=True))
    squares = sum(x**2 for x in (*p, *q))
    loss = error**2 + reg * squares + bias_reg * (a**2 + b**2)
    unknowns = (*p, *q, a, b)
    gradient = [sympy.diff(loss, x) for x in unknowns]
    assert sympy.simplify(gradient[0] - (-2 * error * q[0] + 2 * reg * p[0])) == 0

    rng = np.random.default_rng(5)
    x = {
        "user": np.zeros(1, np.int32), "item": np.zeros(1, np.int32), "value": np.array([0.7]),
        "P": rng.normal(size=(1, k)), "Q": rng.normal(size=(1, k)), "user_bias": rng.normal(size=1),
        "item_bias": rng.normal(size=1), "user_reg": np.array([reg]), "item_reg": np.array([reg]),
    }  # fmt: skip
    at = np.concatenate([x["P"][0], x["Q"][0], x["user_bias"], x["item_bias"]])
    P, Q, user_bias, item_bias, *_ = fast(x, rate=2 * rate, bias_reg=bias_reg, biased=True, adaptive=False)
    step = np.concatenate([P[0], Q[0], user_bias, item_bias]) - at

    values = dict(zip(unknowns, at, strict=True)) | {r: 0.7}
    symbolic = np.array([float(g.subs(values)) for g in gradient])
    numeric = sympy.lambdify(unknowns, loss.subs(r, 0.7))
    h = 1e-6
    differences = [
        (numeric(*(at + h * unit)) - numeric(*(at - h * unit))) / (2 * h) for unit in np.eye(len(at))
    ]
    np.testing.assert_allclose(step, -rate * symbolic, rtol=1e-10)
    np.testing.assert_allclose(differences, symbolic, rtol=1e-6, atol=1e-8)


def test_rows_lie_on_cache_lines():
    rows = sgd.aligned_rows(np.arange(15.0).reshape(3, 5), np.float32)
    assert rows.ctypes.data % 64 == 0
    assert rows.shape == (3, 8)
    assert rows[:, :5].tolist() == np.arange(15.0).reshape(3, 5).tolist()


def test_nan_reaches_the_loss():
    x = problem(8, np.float32)
    x["value"][7] = np.nan
    assert np.isnan(fast(x, rate=0.1, bias_reg=0.0, biased=True, adaptive=False)[-1])


def test_kernels_are_right_when_loaded_from_the_cache(tmp_path):
    """A second process gets the compiled kernels of the first, for the right row length each."""
    program = (
        "import numpy as np; from hatrix.kernels import sgd\n"
        "out = []\n"
        "for k in (8, 16, 24):\n"
        "    P = np.full((1, k), 0.5); one = np.zeros(1, np.uint32)\n"
        "    out.append(float(sgd.squared_errors(k)(one, one, np.zeros(1), P, P, 0, 1)))\n"
        "print(out, sum(d.stats.cache_hits[s] for k in (8, 16, 24) for d in [sgd.squared_errors(k)]"
        " for s in d.signatures))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert printed == ["[4.0, 16.0, 36.0] 0", "[4.0, 16.0, 36.0] 3"]


def test_an_unwritable_cache_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    program = (
        "import numpy as np; from hatrix.kernels import sgd; P = np.ones((1, 8)); one = np.zeros(1, np.uint32)\n"
        "print(sgd.squared_errors(8)(one, one, np.zeros(1), P, P, 0, 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "64.0"
