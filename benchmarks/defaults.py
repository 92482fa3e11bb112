"""The weights that ImplicitALS works out from the training part, beside three numbers chosen on gowalla, on three data sets.

    python benchmarks/defaults.py [--threads 2]

NDCG@20 and Recall@20 of validation parts of training parts: gowalla's by `gowalla.validation_part`; of MovieLens (values:
stars) a fifth of each user's ratings, of what a test part drawn in the same way leaves. Test parts are not looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import hatrix as hx
from gowalla import accuracy, validation_part

RECIPES = {
    "fixed": hx.ImplicitALS(alpha=1.0, alpha0=0.01, regularization=0.003),
    "auto": hx.ImplicitALS(),
}


def parts() -> Iterator[tuple[str, hx.Ratings, hx.Ratings]]:
    """Name, and what to train and to validate on."""
    for name in ("ml-100k", "ml-1m"):
        train = hx.split.per_user(hx.datasets.load(name), 0.2, seed=42).train
        split = hx.split.per_user(train, 0.2, seed=0)
        yield name, split.train, split.test
    yield "gowalla", *validation_part(hx.split.official("gowalla"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    print("data     weights   alpha  alpha0  regularization  Recall@20  NDCG@20")
    for name, train, valid in parts():
        for weights, recipe in RECIPES.items():
            model = recipe.fit(train, seed=1, threads=threads, progress=False)
            recall, ndcg = accuracy(model, valid)
            recipe = model.recipe
            numbers = f"{recipe.alpha:6.3f}  {recipe.alpha0:6.4f}  {recipe.regularization:14.4f}"
            print(f"{name:7}  {weights:7}  {numbers}  {recall:9.4f}  {ndcg:7.4f}", flush=True)


if __name__ == "__main__":
    main()
