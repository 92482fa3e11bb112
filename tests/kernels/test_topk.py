"""The best items and the ranks of held-out ones, against sorting all scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from hatrix.kernels import ranks, topk


def problem(seed, m, items, k, *, ties, dtype="float32"):
    rng = np.random.default_rng(seed)
    shapes = (m, k), (items, k), (items,)
    users, goods, bias = (
        np.asarray(rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape), dtype)
        for shape in shapes
    )
    lists = [np.sort(rng.permutation(items)[: rng.integers(0, items + 1)]) for _ in range(m)]
    return users, goods, bias, rows(lists)


def rows(lists):
    start = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    return start, np.concatenate([*lists, []]).astype(np.int32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(0, 9),
    items=st.integers(1, 300),
    k=st.integers(0, 5),
    n=st.integers(1, 320),
    ties=st.booleans(),
    threads=st.integers(1, 3),
    memory=st.sampled_from([1, 1000, 1 << 20]),
    seen=st.booleans(),
)
def test_lists_are_those_of_sorting(seed, m, items, k, n, ties, threads, memory, seen):
    users, goods, bias, struck = problem(seed, m, items, k, ties=ties, dtype="float64")
    struck = struck if seen else None
    got, scores = topk.top_n(users, goods, bias, n, seen=struck, threads=threads, memory=memory)
    want, best = naive.top_n(users, goods, bias, n, struck)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(scores, best, rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 6),
    items=st.integers(1, 200),
    ties=st.booleans(),
    threads=st.integers(1, 3),
)
def test_ranks_count_what_is_better_and_what_is_level(seed, m, items, ties, threads):
    users, goods, bias, struck = problem(seed, m, items, 3, ties=ties, dtype="float64")
    held = problem(seed + 1, m, items, 3, ties=ties)[3]
    lists, above, same = ranks.ranks(
        users, goods, bias, 5, *held, seen=struck, threads=threads, memory=1 << 20
    )
    np.testing.assert_array_equal(lists, naive.top_n(users, goods, bias, 5, struck)[0])
    scores = users @ goods.T + bias
    for u in range(m):
        scores[u, struck[1][struck[0][u] : struck[0][u + 1]]] = -np.inf
        for n in range(held[0][u], held[0][u + 1]):
            x = scores[u, held[1][n]]
            assert above[n] == (-1 if x == -np.inf else (scores[u] > x).sum())
            assert x == -np.inf or same[n] == (scores[u] == x).sum() - 1


def test_bits_do_not_depend_on_threads():
    users, goods, bias, struck = problem(0, 700, 500, 33, ties=False)
    first = topk.top_n(users, goods, bias, 10, seen=struck, threads=1)
    for threads in (2, 5):
        again = topk.top_n(users, goods, bias, 10, seen=struck, threads=threads)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_error_in_a_thread_is_not_lost():
    def fail(_first, _last, _block):
        raise RuntimeError("in a thread")

    with pytest.raises(RuntimeError, match="in a thread"):
        topk.top_n(np.zeros((200, 4)), np.zeros((40, 4)), np.zeros(40), 5, threads=2, examine=fail)


def test_hits_are_found_by_search():
    lists = np.array([[3, 1, -1], [0, 2, 5], [7, 8, 9]], np.int32)
    found = ranks.hits(lists, *rows([np.array([1, 3, 4]), np.array([5]), np.array([], int)]))
    assert found.tolist() == [[True, True, False], [False, False, True], [False, False, False]]
