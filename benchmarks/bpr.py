"""Seconds of an epoch of Bayesian personalised ranking, and what it reaches, beside implicit's.

    python benchmarks/bpr.py [--factors 64] [--epochs 60] [--rounds 3] [--threads 2]

gowalla; an epoch visits as many pairs as there are rows in both. Rates and penalties of implicit and of our uniform
negatives are the best of one grid on a validation part of the training part, by Recall@20 plus NDCG@20; the
adaptive negatives have the settings of `gowalla.py`. The models then train on the whole training part, taking turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import numpy as np

import hatrix as hx
from gowalla import MODELS, accuracy, validation_part
from hatrix.errors import DivergenceError

RATES, PENALTIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4), (0.0001, 0.001, 0.003, 0.01)

Fit = Callable[[hx.Ratings, int, int], tuple[float, hx.FactorModel]]


def ours(recipe: hx.BPR, threads: int) -> Fit:
    def fit(train: hx.Ratings, epochs: int, seed: int) -> tuple[float, hx.FactorModel]:
        start = time.perf_counter()
        model = recipe.replace(epochs=epochs).fit(train, seed=seed, threads=threads, progress=False)
        return time.perf_counter() - start, model

    return fit


def implicits(factors: int, rate: float, penalty: float, threads: int) -> Fit:
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from implicit.recommender_base import ModelFitError
    from scipy.sparse import csr_matrix

    def fit(train: hx.Ratings, epochs: int, seed: int) -> tuple[float, hx.FactorModel]:
        shape = len(train.users), len(train.items)
        matrix = csr_matrix((np.ones(len(train), np.float32), (train.user, train.item)), shape)
        model = BayesianPersonalizedRanking(
            factors, learning_rate=rate, regularization=penalty, iterations=epochs, num_threads=threads,
            random_state=seed,
        )  # fmt: skip
        start = time.perf_counter()
        try:
            model.fit(matrix, show_progress=False)
        except ModelFitError as error:
            raise FloatingPointError(str(error)) from None
        seconds = time.perf_counter() - start
        return seconds, hx.from_implicit(model, matrix, users=train.users.labels, items=train.items.labels)

    return fit


def chosen(make: Callable[[float, float], Fit], split: hx.Split, epochs: int) -> tuple[float, float]:
    """The rate and penalty that do best on a validation part of the training part."""
    part, valid = validation_part(split)

    def quality(setting: tuple[float, float]) -> float:
        try:
            return sum(accuracy(make(*setting)(part, epochs, 0)[1], valid))
        except (FloatingPointError, DivergenceError):
            return 0.0

    return max(product(RATES, PENALTIES), key=quality)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    factors, threads = options.factors, options.threads
    split = hx.split.official("gowalla")

    def uniform(rate: float, penalty: float) -> Fit:
        recipe = hx.BPR(
            factors=factors,
            sampling="uniform",
            learning_rate=rate,
            regularization=penalty,
            bias_regularization=penalty,
        )
        return ours(recipe, threads)

    def implicit(rate: float, penalty: float) -> Fit:
        return implicits(factors, rate, penalty, threads)

    adaptive = MODELS["bpr-64"].replace(factors=factors)
    best = chosen(uniform, split, options.epochs)
    theirs = chosen(implicit, split, options.epochs)
    racers = {
        f"hatrix, uniform, rate and penalty {best}": uniform(*best),
        f"implicit, uniform, rate and penalty {theirs}": implicit(*theirs),
        f"hatrix, adaptive, {adaptive.candidates} candidates": ours(adaptive, threads),
    }
    spent: dict[str, list[float]] = {name: [] for name in racers}
    models = {}
    for seed in range(options.rounds):
        for name, fit in racers.items():
            seconds, models[name] = fit(split.train, options.epochs, seed)
            spent[name].append(seconds)
    print(
        f"gowalla, {len(split.train):,} pairs an epoch, {factors} factors, {options.epochs} epochs, {threads} threads"
    )
    first = np.array(next(iter(spent.values())))
    for name, seconds in spent.items():
        ratio, (recall, ndcg) = np.array(seconds) / first, accuracy(models[name], split.test)
        print(
            f"{name:52} {np.median(seconds) / options.epochs:6.3f} s an epoch  {np.median(ratio):4.1f} times the first"
            f" [{ratio.min():.1f}..{ratio.max():.1f}]  Recall@20 {recall:.4f}  NDCG@20 {ndcg:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
