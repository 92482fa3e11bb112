"""Seconds until `BiasedMF` reaches the test RMSE that LIBMF reaches, set-up included, in one run.

    python benchmarks/time_to_rmse.py [--data ml-1m | expanded] [--threads 2]

LIBMF's factors, regularization, learning rate and epochs are chosen on a validation part of the training part,
and the winner is timed over its whole call. `BiasedMF`'s setting is the one of about as
many that reaches LIBMF's validation RMSE soonest on the same validation part; its clock stops after the
first epoch whose test RMSE is as good (measuring that RMSE is left out of the time, as it is for LIBMF).
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

import hatrix as hx
import libmf

LIBMF_GRID = {
    "ml-1m": list(itertools.product((32, 64, 128), (0.03, 0.05, 0.08), (0.03, 0.05, 0.1), (10, 20, 40))),
    "expanded": list(itertools.product((32, 64, 128), (0.02, 0.03, 0.05), (0.1, 0.15), (10, 20))),
}
"""Factors, regularization, learning rate, epochs."""
HATRIX_GRID = [
    {"factors": factors, "regularization": reg, "learning_rate": rate, "decay": decay}
    for factors, reg, rate, decay in itertools.product(
        (32, 64), (0.02, 0.03, 0.05), (0.025, 0.035, 0.05), (0.85, 0.9)
    )
] + [
    {
        "factors": factors,
        "regularization": reg,
        "learning_rate": rate,
        "frequency_scaling": scaling,
        "schedule": "adaptive",
        "epochs": 40,
    }
    for factors, reg, rate, scaling in itertools.product(
        (64, 96, 128), (0.03, 0.05), (0.01, 0.0145, 0.02), (0.25, 0.4)
    )
]
"""72 settings of BiasedMF; LIBMF has 81 on ml-1m and 36 on the expanded data."""
FIXED = {"unit": 1.0, "bias_regularization": 0.04, "init_scale": 0.05}
"""In all of them: the numbers of the grid are for ratings as they are, as LIBMF's are."""


def rmse(predicted: np.ndarray, part: hx.Ratings) -> float:
    return float(np.sqrt(np.mean((np.clip(predicted, 1, 5) - part.value) ** 2)))


def run_libmf(
    train: hx.Ratings, test: hx.Ratings, setting: dict[str, float], threads: int
) -> tuple[float, float]:
    rows = libmf.triplets(train.user, train.item, train.value)
    start = time.perf_counter()
    P, Q = libmf.fit(rows, threads=threads, bins=20, **setting)
    seconds = time.perf_counter() - start
    known = (test.user < len(P)) & (test.item < len(Q))
    predicted = np.full(len(test), train.value.mean())
    predicted[known] = np.einsum("nk,nk->n", P[test.user[known]], Q[test.item[known]])
    return seconds, rmse(np.where(np.isnan(predicted), train.value.mean(), predicted), test)


def run_hatrix(
    train: hx.Ratings, test: hx.Ratings, recipe: hx.BiasedMF, wanted: float, threads: int
) -> tuple[float, float, int]:
    start = time.perf_counter()
    state = recipe.init(train, seed=0, threads=threads)
    seconds, best = time.perf_counter() - start, np.inf
    for epoch in range(recipe.epochs):
        start = time.perf_counter()
        recipe.step(state, epoch)
        seconds += time.perf_counter() - start
        best = rmse(recipe.finish(state).score(test.user, test.item), test)
        if best <= wanted:
            start = time.perf_counter()
            recipe.finish(state)
            return seconds + time.perf_counter() - start, best, epoch + 1
    return np.inf, best, recipe.epochs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=["ml-1m", "expanded"], default="ml-1m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ratings = hx.datasets.load("ml-1m")
    if options.data == "expanded":
        ratings = hx.synthetic.expand(ratings, user_copies=10, item_copies=3, seed=0)
    split = hx.split.random(ratings, 0.1, seed=1)
    inner = hx.split.random(split.train, 0.1, seed=2)

    tried = []
    for factors, reg, rate, epochs in LIBMF_GRID[options.data]:
        setting = {"factors": factors, "regularization": reg, "learning_rate": rate, "epochs": epochs}
        tried.append((run_libmf(inner.train, inner.test, setting, options.threads)[1], setting))
    goal, setting = min(tried, key=lambda pair: pair[0])
    print(f"LIBMF: validation RMSE {goal:.4f} with {setting}")
    ours = []
    for setting_ in HATRIX_GRID:
        recipe = hx.BiasedMF(**FIXED, **setting_)
        run_hatrix(inner.train.take(np.arange(1000)), inner.test, recipe, 0.0, options.threads)
        seconds, *_ = run_hatrix(inner.train, inner.test, recipe, goal, options.threads)
        ours.append((seconds, len(ours), recipe))
    recipe = min(ours)[2]
    print(f"BiasedMF: soonest on the validation part with {recipe!r}")

    rounds = []
    for _ in range(options.rounds):
        theirs, wanted = run_libmf(split.train, split.test, setting, options.threads)
        seconds, reached, epochs = run_hatrix(split.train, split.test, recipe, wanted, options.threads)
        print(
            f"LIBMF {wanted:.4f} in {theirs:.2f} s; BiasedMF {reached:.4f} in {seconds:.2f} s, {epochs} epochs"
        )
        rounds.append(theirs / seconds)
    print(f"{np.median(rounds):.1f} times sooner (median; {min(rounds):.1f} to {max(rounds):.1f})")


if __name__ == "__main__":
    main()
