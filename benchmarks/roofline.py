"""What the machine can do, and what share of it each kernel uses.

    python benchmarks/roofline.py [--threads 2]

Peaks, all threads together: multiply-adds on registers, and
bytes read and written per second by ``a += c b`` on arrays that fit the first cache, the second cache, or neither.
Below them, whole epochs of each algorithm, on MovieLens 1M expanded to 10 million ratings and on gowalla (ImplicitALS,
BPR): the arithmetic that the algorithm needs (not what is executed), and the bytes of factor rows that it must
read and write if each is fetched once for each use, per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

import hatrix as hx
from hatrix.kernels.compile import compiled
from hatrix.kernels.simd import combine, load, store

LANES = 128


@compiled
def multiply_add(rows, times):
    """LANES sums, which with what is added to them leave registers free; what comes out is a lower bound of the peak."""
    x = load(rows, np.uint64(0), LANES)
    one, half = rows.dtype.type(1), rows.dtype.type(0.5)
    y = load(rows, np.uint64(1), LANES)
    for _ in range(times):
        x = combine(half, x, one, y)
    store(rows, np.uint64(0), x)


@compiled
def stream(a, b, c, times):
    for _ in range(times):
        for k in range(np.uint64(len(a))):
            a[k] += c * b[k]


def rate(work: Callable[[int], float], threads: int, rounds: int = 7) -> float:
    """Work per second of all threads together, the best round."""
    with ThreadPoolExecutor(threads) as pool:
        best = 0.0
        for _ in range(rounds):
            start = time.perf_counter()
            done = sum(pool.map(work, range(threads)))
            best = max(best, done / (time.perf_counter() - start))
    return best


def peak(threads: int) -> float:
    rows = [np.ones((2, LANES), np.float32) for _ in range(threads)]

    def work(thread: int) -> float:
        multiply_add(rows[thread], 1_000_000)
        return 2.0 * LANES * 1_000_000

    return rate(work, threads)


def bandwidth(threads: int, floats: int) -> float:
    arrays = [(np.ones(floats, np.float32), np.ones(floats, np.float32)) for _ in range(threads)]
    times = max(1, 40_000_000 // floats)

    def work(thread: int) -> float:
        stream(*arrays[thread], np.float32(1e-9), times)
        return 12.0 * floats * times

    return rate(work, threads)


class Need(NamedTuple):
    """What an epoch needs: floating-point operations, and bytes of rows read and written."""

    operations: float
    moved: float


def seconds(recipe: hx.Algorithm, ratings: hx.Ratings, threads: int, epochs: int = 5) -> float:
    """Of an epoch: the median, the first left out."""
    state = recipe.init(ratings, seed=0, threads=threads)
    recipe.step(state, 0)
    spent = []
    for epoch in range(1, 1 + epochs):
        start = time.perf_counter()
        recipe.step(state, epoch)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def descent(n: int, k: int, rows: int = 2, updates: int = 2) -> Need:
    """n products of rows, each with ``updates`` rows a p + b q, ``rows`` of them read and as many written."""
    return Need(n * k * (2.0 + 4 * updates), n * k * 8.0 * rows)


def exact(ratings: hx.Ratings, k: int) -> Need:
    """Half of a Gram matrix, its decomposition, two substitutions; short rows in their dual."""
    n = np.concatenate([ratings.user_count, ratings.item_count]).astype(float)
    m = np.minimum(n, k)
    work = np.where(n < k, n**2 * k, n * k**2) + m**3 / 3 + 2 * m**2 + 4 * n * k
    return Need(float(work.sum()), float(4 * n.sum() * k))


def steps(ratings: hx.Ratings, k: int, times: int) -> Need:
    """A residual and ``times`` products with the matrix of a row, whose regressors are fetched once, on both sides."""
    return Need(2.0 * len(ratings) * k * (6 + 4 * times), 2.0 * len(ratings) * k * 4)


def kernels(ratings: hx.Ratings, few: hx.Ratings) -> Iterator[tuple[str, hx.Algorithm, hx.Ratings, Need]]:
    """Name, recipe and data, and what an epoch needs."""
    n = len(ratings)
    for k in (16, 32, 64, 128):
        recipe = hx.MF(factors=k, learning_rate=0.005, regularization=0.05, init_scale=0.1)
        yield f"MF, {k} factors", recipe, ratings, descent(n, k)
    # Its own rows as MF, what users wish added up, terms gathered by users and wishes by items.
    own, wish = descent(n, 64), Need(n * 64 * (2.0 + 2 + 2), n * 64 * (8.0 + 4 + 4))
    yield "SVDpp, 64 factors", hx.SVDpp(factors=64), ratings, Need(*np.add(own, wish))
    for k in (64, 128):
        yield f"ALS exact, {k} factors", hx.ALS(factors=k), ratings, exact(ratings, k)
        yield f"ALS cg, {k} factors", hx.ALS(factors=k, solver="cg"), ratings, steps(ratings, k, 3)
        yield f"ImplicitALS exact, {k} factors", hx.ImplicitALS(factors=k), few, exact(few, k)
        yield f"ImplicitALS cg, {k} factors", hx.ImplicitALS(factors=k, solver="cg"), few, steps(few, k, 3)
    for candidates in (1, 32):
        need = descent(len(few), 64, rows=3, updates=3)
        more = (candidates - 1) * len(few) * 64
        yield (
            f"BPR, 64 factors, {candidates} candidates",
            hx.BPR(factors=64, sampling="adaptive" if candidates > 1 else "uniform", candidates=candidates),
            few, Need(need.operations + 2.0 * more, need.moved + 4.0 * more),
        )  # fmt: skip
    # For both sides, half of a Gram matrix and a product; the decompositions of the rows are small beside them.
    for k in (10, 32):
        size = 2.0 * n * ((k + 1) ** 2 + 4 * k), 2.0 * n * 4 * k
        yield (
            f"BayesianMF, {k} factors",
            hx.BayesianMF(factors=k, epochs=50, burn_in=10, draws=10),
            ratings,
            Need(*size),
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    flops = peak(threads)
    print(f"{threads} threads, float32")
    print(f"multiply-adds on registers      {flops / 1e9:7.0f} GFLOP/s")
    speed = {}
    for name, kilobytes in (("first cache", 16), ("second cache", 512), ("memory", 256 * 1024)):
        speed[name] = bandwidth(threads, kilobytes * 1024 // 8)
        print(f"bytes, arrays in {name:12}   {speed[name] / 1e9:7.0f} GB/s")
    ratings = hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=10, item_copies=3, seed=0)
    clicks = hx.split.official("gowalla").train
    print(
        f"\n{'epoch of':34} seconds  GFLOP/s  share of peak  GB/s of rows  share of second cache  of memory"
    )
    for name, recipe, data, need in kernels(ratings, clicks):
        spent = seconds(recipe, data, threads)
        work, moved = need.operations / spent, need.moved / spent
        print(
            f"{name:34} {spent:7.3f}  {work / 1e9:7.0f}  {work / flops:13.0%}  {moved / 1e9:12.0f}"
            f"  {moved / speed['second cache']:21.0%}  {moved / speed['memory']:9.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
