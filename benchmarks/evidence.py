"""What a rating says to a recipe that ranks: mappings from ratings to weights, on validation parts of three data sets.

    python benchmarks/evidence.py [--recipe implicit-als | spectral-mf] [--only ml-100k] [--threads 2]

For ImplicitALS a mapping gives weights and targets, and for SpectralMF the entries of its matrix.

NDCG@20 of all held-out ratings and of those of 4 and 5, and how many different items are in all lists of ten. A fifth of
each user's ratings is put aside as the test part, which is not looked at; a fifth of the rest is the validation part. The
place z of a rating on the scale is from 0 to 1; every weight is divided by its mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import hatrix as hx
from hatrix.models import als

Floats = NDArray[np.float64]
Mapping = Callable[[Floats], tuple[Floats, Floats]]

SETS = ("ml-100k", "ml-latest-small", "ml-1m")
MAPPINGS: dict[str, Mapping | None] = {
    "value": None,
    "weight 1": lambda z: (np.ones_like(z), np.ones_like(z)),
}
for least in (0.05, 0.2):
    MAPPINGS[f"weight z + {least}"] = lambda z, least=least: (z + least, np.ones_like(z))
for low in (-0.5, 0.0, 0.3, 0.5, 0.7):
    MAPPINGS[f"target {low} to 1"] = lambda z, low=low: (np.ones_like(z), low + (1 - low) * z)
for least, low in ((0.25, 0.6), (0.25, 0.75), (0.5, 0.6), (1, 0.4), (1, 0.5), (1, 0.6), (1, 0.75), (2, 0.5)):
    name = f"weight z + {least}, target {low} to 1"
    MAPPINGS[name] = lambda z, least=least, low=low: (z + least, low + (1 - low) * z)

ENTRIES: dict[str, Callable[[Floats], Floats] | None] = {"ones": None, "value": lambda z: z}
for least in (0.25, 0.5, 1.0, 2.0):
    ENTRIES[f"z + {least}, mean square 1"] = lambda z, least=least: (
        (z + least) / np.sqrt(np.mean((z + least) ** 2))
    )


def _decomposed(
    entries: Callable[[Floats], Floats] | None, train: hx.Ratings, threads: int
) -> hx.FactorModel:
    """Fit SpectralMF to entries other than ones; "value" are the ratings as they are."""
    low, high = train.scale
    ours = hx.SpectralMF.weights
    if entries is ENTRIES["value"]:
        return hx.SpectralMF(weighted=True).fit(train, seed=1, threads=threads, progress=False)
    if entries is not None:
        hx.SpectralMF.weights = lambda _recipe, value: entries((value - low) / (high - low))
    try:
        return hx.SpectralMF().fit(train, seed=1, threads=threads, progress=False)
    finally:
        hx.SpectralMF.weights = ours


def _fitted(mapping: Mapping | None, train: hx.Ratings, threads: int) -> hx.FactorModel:
    """Fit with another mapping in place of the one that hatrix has; None takes the values as counts."""
    if mapping is None:
        return hx.ImplicitALS(evidence="count").fit(train, seed=1, threads=threads, progress=False)
    low, high = train.scale
    ours = als.evidence
    als.evidence = lambda _recipe, value, _scale: mapping((value - low) / (high - low))
    try:
        return hx.ImplicitALS(evidence="stars").fit(train, seed=1, threads=threads, progress=False)
    finally:
        als.evidence = ours


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", choices=("implicit-als", "spectral-mf"), default="implicit-als")
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{'data':16} {'mapping':34} {'all':>6} {'4 and 5':>8} {'items':>6}")
    for data in (options.only,) if options.only else SETS:
        ratings = hx.datasets.load(data)
        split = hx.split.per_user(hx.split.per_user(ratings, 0.2, seed=42).train, 0.2, seed=0)
        graded = options.recipe == "implicit-als"
        for name, mapping in (MAPPINGS if graded else ENTRIES).items():
            fit = _fitted if graded else _decomposed
            model = fit(mapping, split.train, options.threads)
            every, liked = (
                hx.evaluate_ranking(model, split.test, k=20, relevant_from=least, bootstrap=1)
                for least in (None, 4)
            )
            shown = len(np.unique(np.asarray(every.lists)[:, :10]))
            print(f"{data:16} {name:34} {every.ndcg:6.4f} {liked.ndcg:8.4f} {shown:6,}", flush=True)


if __name__ == "__main__":
    main()
