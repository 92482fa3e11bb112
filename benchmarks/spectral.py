"""SpectralMF on gowalla, in one run: accuracy against training time, and the decomposition beside scikit-learn's.

    python benchmarks/spectral.py [--threads 2] [--rounds 3] [--factors 64 256 512 1024] [--search]

Recall@20 and NDCG@20 of the official test part, all items ranked with the training items removed. The settings of
each number of factors were chosen on a validation part of the training part: a fifth of every user's rows, as in the
official test part, drawn for each user on its own. ``--search`` prints how settings do there instead. The peer is
scikit-learn's `randomized_svd` with 4 power iterations on the same matrix, up to 512 factors; the two take turns and
the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

import hatrix as hx

SETTINGS: dict[int, dict[str, float]] = {  # elsewhere the recipe's defaults
    64: {"offset": 20.0, "sharpness": 0.0, "popularity": 0.5},
    256: {"sharpness": 1.0, "popularity": 0.4},
    1024: {"sharpness": 2.5},
}
DECOMPOSITIONS = [
    {"offset": offset, "user_exponent": exponent}
    for offset, exponent in itertools.product((5.0, 10.0, 20.0), (0.4, 0.45, 0.5))
]
SCORES = [
    {"sharpness": sharpness, "popularity": popularity}
    for sharpness, popularity in itertools.product((0.0, 1.0, 2.0, 2.5), (0.3, 0.35, 0.4, 0.5))
]
PUBLISHED = {"LightGCN": (0.1820, 0.1547), "UltraGCN": (0.1862, 0.1580), "SimpleX": (0.1872, 0.1557)}
MOST_FACTORS_OF_PEER = 512


def recipe(factors: int) -> hx.SpectralMF:
    return hx.SpectralMF(factors=factors, **SETTINGS.get(factors, {}))


def accuracy(model: hx.FactorModel, test: hx.Ratings) -> tuple[float, float]:
    measured = hx.evaluate_ranking(model, test, k=20)
    return float(measured.recall), float(measured.ndcg)


def search(train: hx.Ratings, factors: int, threads: int) -> None:
    """Recall and NDCG on a held-out fifth of ``train`` for a grid of settings, best first."""
    # per_user takes the same positions of users with equally many rows, and rows come sorted by item.
    shuffled = train.take(np.random.default_rng(7).permutation(len(train)))
    held = hx.split.per_user(shuffled, 0.2, seed=1)
    rows = []
    for knobs in DECOMPOSITIONS:
        trained = hx.SpectralMF(factors=factors, **knobs).train(held.train, threads=threads)
        for late in SCORES:
            model = trained.finish(hx.SpectralMF(factors=factors, **knobs, **late))
            rows.append((*accuracy(model, held.test), knobs | late))
    for recall, ndcg, knobs in sorted(rows, key=lambda row: -(row[0] + row[1]))[:10]:
        print(f"{factors:7}  {recall:.4f}  {ndcg:.4f}  {knobs}", flush=True)


def seconds_of_peer(train: hx.Ratings, mine: hx.SpectralMF, threads: int) -> tuple[float, float]:
    """Seconds of the peer's decomposition of the same matrix, and the share of its energy that is captured."""
    shape = len(train.users), len(train.items)
    X = csr_array((np.ones(len(train), np.float32), (train.user, train.item)), shape)
    for axis, exponent in ((0, mine.user_exponent), (1, mine.item_exponent)):
        degree = (train.user_count, train.item_count)[axis]
        scale = ((degree + mine.offset) ** -exponent).astype(np.float32)
        X = X.multiply(scale[:, None] if axis == 0 else scale).tocsr()
    start = time.perf_counter()
    with threadpool_limits(threads):
        values = randomized_svd(X, mine.factors, n_iter=4, random_state=0)[1]
    return time.perf_counter() - start, float(
        np.sum(values.astype(float) ** 2) / np.sum(X.data.astype(float) ** 2)
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--factors", type=int, nargs="*", default=[64, 256, 512, 1024])
    parser.add_argument("--search", action="store_true")
    options = parser.parse_args()
    split = hx.split.official("gowalla")
    if options.search:
        for factors in options.factors:
            search(split.train, factors, options.threads)
        return
    tiny = split.train.take(np.arange(1000))
    recipe(8).fit(tiny, threads=options.threads, progress=False)
    print(f"gowalla, {len(split.train):,} training rows, {options.threads} threads; seconds are medians")
    print("factors  Recall@20  NDCG@20  seconds  captured  scikit-learn: seconds  captured  ratio")
    for factors in options.factors:
        ours, theirs, captured = [], [], 0.0
        for _ in range(options.rounds):
            start = time.perf_counter()
            model = recipe(factors).fit(split.train, threads=options.threads, progress=False)
            ours.append(time.perf_counter() - start)
            if factors <= MOST_FACTORS_OF_PEER:
                spent, captured = seconds_of_peer(split.train, recipe(factors), options.threads)
                theirs.append(spent)
        recall, ndcg = accuracy(model, split.test)
        line = f"{factors:7}  {recall:9.4f}  {ndcg:7.4f}  {np.median(ours):7.2f}  {model.history.captured.iloc[-1]:8.4f}"
        if theirs:
            ratio = np.array(theirs) / np.array(ours)
            line += (
                f"  {np.median(theirs):21.2f}  {captured:8.4f}  {np.median(ratio):.1f}"
                f" [{ratio.min():.1f}..{ratio.max():.1f}]"
            )
        print(line, flush=True)
    popular = accuracy(hx.Popular().fit(split.train, progress=False), split.test)
    print(f"Popular  {popular[0]:9.4f}  {popular[1]:7.4f}")
    for name, (recall, ndcg) in PUBLISHED.items():
        print(f"{name:8} {recall:9.4f}  {ndcg:7.4f}  (64 dimensions, published)")


if __name__ == "__main__":
    main()
