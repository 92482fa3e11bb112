"""The default weights of ImplicitALS, chosen on gowalla, beside those of the rule in its docstring, on three data sets.

    python benchmarks/defaults.py [--threads 2]

NDCG@20 and Recall@20 of validation parts of training parts: gowalla's by `gowalla.validation_part`; of MovieLens (values:
stars) a fifth of each user's ratings, of what a test part drawn in the same way leaves. Test parts are not looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

import hatrix as hx
from gowalla import accuracy, validation_part


def parts() -> Iterator[tuple[str, hx.Ratings, hx.Ratings]]:
    """Name, and what to train and to validate on."""
    for name in ("ml-100k", "ml-1m"):
        train = hx.split.per_user(hx.datasets.load(name), 0.2, seed=42).train
        split = hx.split.per_user(train, 0.2, seed=0)
        yield name, split.train, split.test
    yield "gowalla", *validation_part(hx.split.official("gowalla"))


def by_rule(train: hx.Ratings) -> hx.ImplicitALS:
    """The weights that suit the mean of the values and the share of cells that are seen."""
    cells = np.count_nonzero(train.user_count) * np.count_nonzero(train.item_count)
    root = np.sqrt(len(train) / cells)
    return hx.ImplicitALS(
        alpha=1 / train.value.mean(), alpha0=root / 2, regularization=0.07 / (1 + 1 / (2 * root))
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    print("data     weights   alpha  alpha0  regularization  Recall@20  NDCG@20")
    for name, train, valid in parts():
        for weights, recipe in (("default", hx.ImplicitALS()), ("rule", by_rule(train))):
            recall, ndcg = accuracy(recipe.fit(train, seed=1, threads=threads, progress=False), valid)
            numbers = f"{recipe.alpha:6.3f}  {recipe.alpha0:6.4f}  {recipe.regularization:14.4f}"
            print(f"{name:7}  {weights:7}  {numbers}  {recall:9.4f}  {ndcg:7.4f}", flush=True)


if __name__ == "__main__":
    main()
