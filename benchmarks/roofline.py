"""What the machine can do, and what share of it each kernel uses.

    python benchmarks/roofline.py [--threads 2]

Peaks, all threads together: multiply-adds on registers, and
bytes read and written per second by ``a += c b`` on arrays that fit the first cache, the second cache, or neither.
Below them, each training kernel: the arithmetic it needs (not what it happens to execute) per second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import hatrix as hx
from hatrix.kernels.compile import compiled
from hatrix.kernels.simd import combine, load, store

LANES = 256


@compiled
def multiply_add(rows, times):
    """LANES sums, kept in registers, none waiting for another."""
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


def sgd(threads: int, factors: int, ratings: hx.Ratings) -> tuple[float, float]:
    """Multiply-adds and bytes of rows per second: a dot product and two updates, two rows read and written."""
    recipe = hx.MF(factors=factors, learning_rate=0.005, regularization=0.05, init_scale=0.1)
    state = recipe.init(ratings, seed=0, threads=threads)
    recipe.step(state, 0)
    spent = []
    for epoch in range(1, 8):
        start = time.perf_counter()
        recipe.step(state, epoch)
        spent.append(time.perf_counter() - start)
    updates = len(ratings) / float(np.median(spent))
    return updates * 10 * factors, updates * 16 * factors


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
    print("\nkernel                 GFLOP/s  share of peak    GB/s of rows  share of second cache")
    for factors in (16, 32, 64, 128):
        work, moved = sgd(threads, factors, ratings)
        print(
            f"MF, {factors:4} factors       {work / 1e9:7.0f}  {work / flops:13.0%}    {moved / 1e9:12.0f}"
            f"  {moved / speed['second cache']:21.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
