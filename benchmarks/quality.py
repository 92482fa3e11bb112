"""Test RMSE on the official folds u1..u5 of MovieLens 100K: the defaults, and settings tuned fold by fold.

    python benchmarks/quality.py [--trials 60]

Tuning sees one fold's training part only: a tenth of it validates random settings, then the best are refitted on
the whole part, for as many epochs as they had. The five test parts are read once, at the end.
"""

from __future__ import annotations

import argparse

import numpy as np

import hatrix as hx


def rmse(recipe: hx.BiasedMF, train: hx.Ratings, test: hx.Ratings, seed: int) -> float:
    model = recipe.fit(train, seed=seed)
    error = model.predict_rows(test.user.astype(int), test.item.astype(int), clip=True) - test.value
    return float(np.sqrt(np.mean(error**2)))


def drawn(rng: np.random.Generator) -> hx.BiasedMF:
    return hx.BiasedMF(
        factors=int(rng.choice([64, 128, 256])),
        epochs=int(rng.choice([15, 20, 30, 40])),
        learning_rate=float(10 ** rng.uniform(-2.1, -1.6)),
        decay=float(rng.choice([0.9, 0.93, 0.95])),
        regularization=float(rng.uniform(0.03, 0.1)),
        bias_regularization=float(10 ** rng.uniform(-2, -1)),
        frequency_scaling=float(rng.uniform(0, 0.75)),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=60)
    trials = parser.parse_args().trials
    ratings = hx.datasets.load("ml-100k")
    folds = [hx.split.official(ratings, fold) for fold in range(1, 6)]
    print("untuned ", *(f"{name}:" for name in ("u1", "u2", "u3", "u4", "u5")), "mean")
    for seed in (1, 2, 3):
        scores = [rmse(hx.BiasedMF(), fold.train, fold.test, seed) for fold in folds]
        print(f"  seed {seed}", *(f"{score:.4f}" for score in scores), f"{np.mean(scores):.4f}")
    chosen = []
    for number, fold in enumerate(folds, 1):
        rng = np.random.default_rng(number)
        inner = hx.split.random(fold.train, 0.1, seed=number)
        recipes = [drawn(rng) for _ in range(trials)]
        scores = [rmse(recipe, inner.train, inner.test, 0) for recipe in recipes]
        chosen.append(recipes[int(np.argmin(scores))])
        print(f"u{number}: validation {min(scores):.4f} with {chosen[-1]!r}")
    scores = [rmse(recipe, fold.train, fold.test, 0) for recipe, fold in zip(chosen, folds, strict=True)]
    print("tuned   ", *(f"{score:.4f}" for score in scores), f"mean {np.mean(scores):.4f}")


if __name__ == "__main__":
    main()
