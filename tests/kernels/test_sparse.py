"""Sparse times dense: equal to the twin, the same bits for any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from hatrix.kernels import schedule, sparse


def drawn(rows: int, columns: int, density: float, seed: int) -> sparse.Sparse:
    rng = np.random.default_rng(seed)
    present = rng.random((rows, columns)) < density
    start = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    column = np.nonzero(present)[1].astype(np.uint32)
    return sparse.Sparse(start.astype(np.int64), column, rng.normal(size=len(column)).astype(np.float32))


def block(rows: int, width: int, seed: int) -> np.ndarray:
    out = sparse.zeros(rows, width)
    out[:] = np.random.default_rng(seed).normal(size=out.shape)
    return out


@settings(deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.1, 0.7]),
    width=st.sampled_from([1, 64, 65, 130]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_product_is_that_of_the_twin(rows, columns, density, width, seed):
    A = drawn(rows, columns, density, seed)
    X = block(columns, sparse.wide(width), seed)
    out = sparse.zeros(rows, X.shape[1])
    sparse.multiply(A, X, out, threads=1)
    np.testing.assert_allclose(out, naive.sparse_times_dense(*A, X), rtol=1e-4, atol=1e-4)


def test_terms_are_added_in_place():
    A, X, near, far = drawn(30, 20, 0.3, 0), block(20, 64, 1), block(30, 64, 2), block(30, 64, 3)
    wanted = 2.0 * naive.sparse_times_dense(*A, X) - 3.0 * near + 0.5 * far
    sparse.multiply(A, X, far, threads=2, scale=2.0, near=(-3.0, near), far=(0.5, far))
    np.testing.assert_allclose(far, wanted, rtol=1e-4, atol=1e-4)


def test_same_bits_for_any_threads(monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    A, X = drawn(300, 200, 0.1, 0), block(200, 192, 1)
    outs = [sparse.zeros(300, 192) for _ in range(3)]
    for out, threads in zip(outs, (1, 2, 5), strict=True):
        sparse.multiply(A, X, out, threads=threads)
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


@pytest.mark.parametrize(
    ("columns", "width"), [(1, 64), (64, 64), (65, 128), (129, 192), (512, 576), (528, 576)]
)
def test_rows_are_whole_slices_and_do_not_share_cache_sets(columns, width):
    assert sparse.wide(columns) == width
    assert sparse.zeros(3, width).ctypes.data % 64 == 0
