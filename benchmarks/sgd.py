"""Updates per second of one training epoch, beside LIBMF, in one run.

    python benchmarks/sgd.py [--threads 2] [--rounds 5]

Data: MovieLens 1M expanded to about 10 million ratings (`hatrix.synthetic.expand`). Both sides train the plain
model with squared regularization; hatrix and LIBMF take turns, and the ratio is the median over the rounds.
LIBMF's epoch is the difference between a run of 1 and a run of 4 epochs, which leaves its set-up out; its bin
count is the best of those tried. Ceiling: the same kernel on rows that all stay in the first cache.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import hatrix as hx
import libmf

EPOCHS = 3
BINS = (16, 24, 40)


def seconds_libmf(rows: np.ndarray, factors: int, threads: int, bins: int) -> float:
    spent = []
    for epochs in (1, 1 + EPOCHS):
        start = time.perf_counter()
        libmf.fit(
            rows,
            factors=factors,
            epochs=epochs,
            regularization=0.05,
            learning_rate=0.05,
            threads=threads,
            bins=bins,
        )
        spent.append(time.perf_counter() - start)
    return (spent[1] - spent[0]) / EPOCHS


def ceiling(factors: int, options: argparse.Namespace) -> float:
    """M updates/s where memory plays no part: 24 users, 24 items, one thread times the number of threads."""
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.tile(rng.permutation(576), 2000).astype(np.int32), 24)
    ids = hx.Ids(np.arange(24))
    tiny = hx.Ratings(user, item, rng.normal(size=len(user)), ids, ids)
    recipe = hx.MF(factors=factors, sequential=True)
    state, spent = recipe.init(tiny, seed=0, threads=1), []
    for _ in range(1 + options.rounds):
        start = time.perf_counter()
        state.epoch(0, rate=1e-4, biased=False, adaptive=False)
        spent.append(time.perf_counter() - start)
    return options.threads * len(tiny) / float(np.median(spent[1:])) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ratings = hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=10, item_copies=3, seed=0)
    n = len(ratings)
    print(
        f"{n:,} ratings, {len(ratings.users):,} users, {len(ratings.items):,} items, {options.threads} threads"
    )
    rows = libmf.triplets(ratings.user, ratings.item, ratings.value)
    print("M updates/s, medians; ratio: median [min..max over the rounds]")
    print("factors  hatrix  LIBMF  ratio             ceiling  LIBMF bins")
    for factors in (16, 32, 64, 128):
        recipe = hx.MF(factors=factors, learning_rate=0.005, regularization=0.05, init_scale=0.1)
        state = recipe.init(ratings, seed=0, threads=options.threads)
        recipe.step(state, 0)
        tries = {bins: seconds_libmf(rows, factors, options.threads, bins) for bins in BINS}
        bins = min(tries, key=tries.__getitem__)
        ours, theirs = [], []
        for round_ in range(options.rounds):
            start = time.perf_counter()
            for epoch in range(EPOCHS):
                recipe.step(state, 1 + round_ * EPOCHS + epoch)
            ours.append((time.perf_counter() - start) / EPOCHS)
            theirs.append(seconds_libmf(rows, factors, options.threads, bins))
        ratio = np.array(theirs) / np.array(ours)
        print(
            f"{factors:7}  {n / np.median(ours) / 1e6:6.0f}  {n / np.median(theirs) / 1e6:5.0f}"
            f"  {np.median(ratio):5.1f} [{ratio.min():.1f}..{ratio.max():.1f}]"
            f"  {ceiling(factors, options):7.0f}  {bins:10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
