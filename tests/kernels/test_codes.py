"""Lists from eight-bit codes: exactly those of sorting all scores, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from hatrix.kernels import codes, topk

pytestmark = pytest.mark.skipif(not codes.available(), reason="the processor does not multiply bytes")


def problem(seed, m, items, k, kind):
    rng = np.random.default_rng(seed)
    shapes = (m, k), (items, k), (items,)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    if kind == "ties":
        arrays = [rng.integers(-2, 3, shape).astype(float) for shape in shapes]
    elif kind == "skewed":
        arrays = [a * rng.lognormal(0, 4, (len(a), *[1] * (a.ndim - 1))) for a in arrays]
    elif kind == "zeros":
        arrays = [a * (rng.random((len(a), *[1] * (a.ndim - 1))) < 0.3) for a in arrays]
    lists = [np.sort(rng.permutation(items)[: rng.integers(0, items // 2 + 1)]) for _ in range(m)]
    start = np.append(0, np.cumsum([len(one) for one in lists])).astype(np.int64)
    return *arrays, (start, np.concatenate([*lists, []]).astype(np.int32)), rng.random(items) < 0.8


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(0, 9) | st.just(150),
    items=st.integers(1, 300),
    k=st.integers(0, 9),
    n=st.integers(1, 40),
    kind=st.sampled_from(["normal", "ties", "skewed", "zeros"]),
    bias=st.sampled_from([0.0, 1.0, 1e3, 1e-6]),
    level=st.sampled_from([0.0, 3.0, -1e4]),
    barred=st.booleans(),
    threads=st.integers(1, 3),
)
def test_lists_are_those_of_sorting(seed, m, items, k, n, kind, bias, level, barred, threads):
    users, goods, biases, seen, allowed = problem(seed, m, items, k, kind)
    biases = biases * bias
    coded = codes.code_items(users, goods, biases)
    n = min(n, items)
    got, scores = codes.best_of_coded(
        coded, users, goods, biases, n, level=np.full(m, level), seen=seen,
        allowed=allowed if barred else None, threads=threads,
    )  # fmt: skip
    struck = naive.top_n(users, goods, biases + level + np.where(allowed | (not barred), 0, -np.inf), n, seen)
    want, best = (
        np.where(struck[1] == -np.inf, gone, part) for gone, part in zip((-1, -np.inf), struck, strict=True)
    )
    np.testing.assert_allclose(scores, best, rtol=1e-12, atol=1e-9)
    if kind == "ties" and bias in (0.0, 1.0):
        np.testing.assert_array_equal(got, want)
    else:  # what rounding makes different stands next to each other
        finite = np.where(np.isinf(best), -1e300, best)
        apart = np.diff(np.concatenate([finite, finite[:, -1:] - 1], axis=1), axis=1)
        clear = np.ones_like(best, bool)
        clear[:, :] = apart < -1e-9 * (1 + np.abs(best))
        clear[:, 1:] &= clear[:, :-1]
        np.testing.assert_array_equal(got[clear], want[clear])


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(0, 40), kind=st.sampled_from(["normal", "skewed", "zeros"]))
def test_codes_and_rests_make_up_the_factors(seed, k, kind):
    users, goods, biases, _, _ = problem(seed, 5, 150, k, kind)
    coded = codes.code_items(users, goods, biases)
    y = np.column_stack([goods, biases / coded.unit])
    rows = coded.item[coded.item >= 0]
    assert sorted(rows) == list(range(150))
    q = (
        coded.codes.transpose(0, 2, 1, 3).reshape(len(coded.item), -1)[: len(rows), : k + 1].astype(float)
        - 128
    )
    assert np.abs(q).max(initial=0) <= 127
    tile = np.arange(len(rows)) // codes.TILE
    rest = np.linalg.norm(y[rows] - q * coded.step[tile, None], axis=1)
    rounding = 1e-15 * np.linalg.norm(y[rows], axis=1)  # all that is left where a tile has one number
    assert (rest <= coded.rest[tile] * (1 + 1e-12) + rounding).all()
    assert (np.linalg.norm(y[rows], axis=1) <= coded.length[tile] * (1 + 1e-12)).all()
    for place in range(len(coded.step)):
        later = rows[place * codes.TILE :]
        assert np.linalg.norm(goods[later], axis=1).max() == pytest.approx(coded.far[place], rel=1e-12)
        assert biases[later].max() == coded.high[place]


def test_single_precision_gives_the_lists_of_the_product():
    rng = np.random.default_rng(0)
    users, goods = (rng.standard_normal((rows, 32)).astype(np.float32) for rows in (300, 5000))
    bias = rng.standard_normal(5000).astype(np.float32)
    coded = codes.code_items(users, goods, bias)
    got, scores = codes.best_of_coded(
        coded, users, goods, bias, 10, level=np.zeros(300), seen=None, allowed=None, threads=2
    )
    want, rough = topk.top_n(users, goods, bias, 10, threads=2)
    assert np.mean(got != want) < 0.001
    np.testing.assert_allclose(scores, rough, rtol=1e-4)
