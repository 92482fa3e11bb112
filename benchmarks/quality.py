"""Test RMSE over five folds: the defaults, and settings tuned fold by fold.

    python benchmarks/quality.py [--data ml-100k | ml-1m] [--algorithm biased-mf | svdpp] [--trials 60]

Folds: the official u1..u5 of MovieLens 100K; for MovieLens 1M those of ``split.k_fold(ratings, 5)``, which are
scikit-learn's ``KFold(5, shuffle=True, random_state=0)``. Predictions are clipped to 1..5. Tuning sees one
fold's training part only: a tenth of it validates random settings, then the best are refitted on the whole part,
for as many epochs as they had. The five test parts are read once, at the end.
"""

from __future__ import annotations

import argparse

import numpy as np

import hatrix as hx

RECIPES = {"biased-mf": hx.BiasedMF, "svdpp": hx.SVDpp}
SEEDS = {"ml-100k": (1, 2, 3), "ml-1m": (1,)}


def rmse(recipe: hx.BiasedMF | hx.SVDpp, train: hx.Ratings, test: hx.Ratings, seed: int) -> float:
    model = recipe.fit(train, seed=seed)
    error = model.predict_rows(test.user.astype(int), test.item.astype(int), clip=True) - test.value
    return float(np.sqrt(np.mean(error**2)))


def drawn(rng: np.random.Generator, algorithm: str) -> hx.BiasedMF | hx.SVDpp:
    setting = {
        "factors": int(rng.choice([64, 128, 256])),
        "epochs": int(rng.choice([15, 20, 30, 40])),
        "learning_rate": float(10 ** rng.uniform(-2.1, -1.6)),
        "decay": float(rng.choice([0.9, 0.93, 0.95])),
        "regularization": float(rng.uniform(0.03, 0.1)),
        "bias_regularization": float(10 ** rng.uniform(-2, -1)),
        "frequency_scaling": float(rng.uniform(0, 0.75)),
    }
    if algorithm == "svdpp":
        setting |= {
            "implicit_rate": float(10 ** rng.uniform(-1.5, -0.8)),
            "init_scale": float(rng.uniform(0.04, 0.12)),
        }
    return RECIPES[algorithm](**setting)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=SEEDS, default="ml-100k")
    parser.add_argument("--algorithm", choices=RECIPES, default="biased-mf")
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    ratings = hx.datasets.load(options.data)
    if options.data == "ml-100k":
        folds = [hx.split.official(ratings, fold) for fold in range(1, 6)]
    else:
        folds = list(hx.split.k_fold(ratings, 5))
    print(f"{options.algorithm} on {options.data}, fold by fold, and the mean")
    for seed in SEEDS[options.data]:
        scores = [rmse(RECIPES[options.algorithm](), fold.train, fold.test, seed) for fold in folds]
        print(
            f"untuned, seed {seed}:",
            *(f"{score:.4f}" for score in scores),
            f"{np.mean(scores):.4f}",
            flush=True,
        )
    if not options.trials:
        return
    chosen = []
    for number, fold in enumerate(folds, 1):
        rng = np.random.default_rng(number)
        inner = hx.split.random(fold.train, 0.1, seed=number)
        recipes = [drawn(rng, options.algorithm) for _ in range(options.trials)]
        scores = [rmse(recipe, inner.train, inner.test, 0) for recipe in recipes]
        chosen.append(recipes[int(np.argmin(scores))])
        print(f"fold {number}: validation {min(scores):.4f} with {chosen[-1]!r}", flush=True)
    scores = [rmse(recipe, fold.train, fold.test, 0) for recipe, fold in zip(chosen, folds, strict=True)]
    print("tuned:", *(f"{score:.4f}" for score in scores), f"{np.mean(scores):.4f}")


if __name__ == "__main__":
    main()
