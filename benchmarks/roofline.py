"""What the machine can do, and what share of it each kernel uses.

    python benchmarks/roofline.py [--threads 2]

Peaks, all threads together: multiply-adds on registers, also for each clock cycle of a thread (a core does a whole
number of vector instructions in a cycle, so that a peak which falls short shows: 32 are two of 8 numbers or one of 16),
and bytes read and written per second by ``a += c b`` on arrays that fit the first cache, the second cache, or neither.
A peak is the best of 15 rounds, by the processor time of each thread: what else runs on the machine, or that threads just
woken share a core for a while, does not lower it. Epochs, the best of five, are timed by the clock on the wall; "cores"
is the share of the threads' cores that they had meanwhile, less than 100 % where threads waited or others were at work.
Below them, whole epochs of each algorithm, on MovieLens 1M expanded to 10 million ratings and on gowalla (ImplicitALS,
BPR): the arithmetic that the algorithm needs (not what is executed), and the bytes of factor rows that it must
read and write if each is fetched once for each use, per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba import njit

import hatrix as hx
from hatrix.kernels.compile import FAST_MATH
from hatrix.kernels.simd import combine, load, store

LANES = 16 if get_host_cpu_features().get("avx512f") else 8
SUMS = 12
"""Sums at once: enough for two multiply-adds a cycle that take up to six cycles, and all of them in 16 registers."""
SHORTEST = 0.1
"""Seconds of a round: below that, the clock and the caches have not settled."""

# Not of hatrix.kernels.compile, whose cache looks for changes in the package only.
measured = njit(nogil=True, error_model="numpy", fastmath=set(FAST_MATH))


@measured
def multiply_add(rows, times):
    """``x = x / 2 + y`` on SUMS vectors x that never leave their registers."""
    one, half = rows.dtype.type(1), rows.dtype.type(0.5)
    y = load(rows, np.uint64(SUMS), LANES)
    x0 = load(rows, np.uint64(0), LANES)
    x1 = load(rows, np.uint64(1), LANES)
    x2 = load(rows, np.uint64(2), LANES)
    x3 = load(rows, np.uint64(3), LANES)
    x4 = load(rows, np.uint64(4), LANES)
    x5 = load(rows, np.uint64(5), LANES)
    x6 = load(rows, np.uint64(6), LANES)
    x7 = load(rows, np.uint64(7), LANES)
    x8 = load(rows, np.uint64(8), LANES)
    x9 = load(rows, np.uint64(9), LANES)
    x10 = load(rows, np.uint64(10), LANES)
    x11 = load(rows, np.uint64(11), LANES)
    for _ in range(times):
        x0 = combine(half, x0, one, y)
        x1 = combine(half, x1, one, y)
        x2 = combine(half, x2, one, y)
        x3 = combine(half, x3, one, y)
        x4 = combine(half, x4, one, y)
        x5 = combine(half, x5, one, y)
        x6 = combine(half, x6, one, y)
        x7 = combine(half, x7, one, y)
        x8 = combine(half, x8, one, y)
        x9 = combine(half, x9, one, y)
        x10 = combine(half, x10, one, y)
        x11 = combine(half, x11, one, y)
    row = np.uint64(0)
    for x in (x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11):
        store(rows, row, x)
        row += np.uint64(1)


@measured
def dependent(times):
    """An addition and an exclusive or, each of which waits for the other: two cycles a round on any processor."""
    x = np.uint64(times)
    for n in range(np.uint64(times)):
        x = (x + n) ^ np.uint64(0x5555555555555555)
    return x


@measured
def stream(a, b, c, times):
    for _ in range(times):
        for k in range(np.uint64(len(a))):
            a[k] += c * b[k]


def rate(work: Callable[[int, int], float], threads: int, rounds: int = 15) -> float:
    """Work per second of all threads together, the best round; ``work(thread, times)`` returns how much it was."""

    def measure(thread: int, times: int) -> tuple[float, float]:
        start = time.thread_time()
        return work(thread, times), time.thread_time() - start

    with ThreadPoolExecutor(threads) as pool:
        best, times = 0.0, 1
        while rounds:
            done, spent = zip(*pool.map(measure, range(threads), repeat(times)), strict=True)
            if min(spent) < SHORTEST:
                times *= 2
            else:
                best, rounds = max(best, sum(np.divide(done, spent))), rounds - 1
    return best


def peak(threads: int) -> float:
    rows = [np.random.default_rng(thread).random((SUMS + 1, LANES), np.float32) for thread in range(threads)]

    def work(thread: int, times: int) -> float:
        multiply_add(rows[thread], 1000 * times)
        return 2.0 * LANES * SUMS * 1000 * times

    return rate(work, threads)


def clock(threads: int) -> float:
    """Cycles per second of one thread while all are at work."""

    def work(thread: int, times: int) -> float:  # noqa: ARG001
        dependent(1000 * times)
        return 2.0 * 1000 * times

    return rate(work, threads) / threads


def bandwidth(threads: int, floats: int) -> float:
    arrays = [(np.ones(floats, np.float32), np.ones(floats, np.float32)) for _ in range(threads)]

    def work(thread: int, times: int) -> float:
        stream(*arrays[thread], np.float32(1e-9), times)
        return 12.0 * floats * times

    return rate(work, threads)


class Need(NamedTuple):
    """What an epoch needs: floating-point operations, and bytes of rows read and written."""

    operations: float
    moved: float


def seconds(recipe: hx.Algorithm, ratings: hx.Ratings, threads: int, epochs: int = 5) -> tuple[float, float]:
    """Of the best epoch, the first left out; and what share of so many cores' time it had."""
    state = recipe.init(ratings, seed=0, threads=threads)
    recipe.step(state, 0)
    spent = []
    for epoch in range(1, 1 + epochs):
        start, busy = time.perf_counter(), time.process_time()
        recipe.step(state, epoch)
        wall = time.perf_counter() - start
        spent.append((wall, (time.process_time() - busy) / wall / threads))
    return min(spent)


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
        weights = {"alpha": 1.0, "alpha0": 0.01, "regularization": 0.003}
        implicit = {solver: hx.ImplicitALS(factors=k, solver=solver, **weights) for solver in ("exact", "cg")}
        yield f"ImplicitALS exact, {k} factors", implicit["exact"], few, exact(few, k)
        yield f"ImplicitALS cg, {k} factors", implicit["cg"], few, steps(few, k, 3)
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
    cycles, flops = clock(threads), peak(threads)
    print(f"{threads} threads, float32, {cycles / 1e9:.2f} GHz")
    print(
        f"multiply-adds on registers      {flops / 1e9:7.0f} GFLOP/s, {flops / threads / cycles:.1f} a cycle and thread"
    )
    speed = {}
    for name, kilobytes in (("first cache", 16), ("second cache", 512), ("memory", 256 * 1024)):
        speed[name] = bandwidth(threads, kilobytes * 1024 // 8)
        print(f"bytes, arrays in {name:12}   {speed[name] / 1e9:7.0f} GB/s")
    ratings = hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=10, item_copies=3, seed=0)
    clicks = hx.split.official("gowalla").train
    print(
        f"\n{'epoch of':34} seconds  cores  GFLOP/s  share of peak  GB/s of rows  share of second cache  of memory"
    )
    for name, recipe, data, need in kernels(ratings, clicks):
        spent, cores = seconds(recipe, data, threads)
        work, moved = need.operations / spent, need.moved / spent
        print(
            f"{name:34} {spent:7.3f}  {cores:5.0%}  {work / 1e9:7.0f}  {work / flops:13.0%}  {moved / 1e9:12.0f}"
            f"  {moved / speed['second cache']:21.0%}  {moved / speed['memory']:9.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
