"""SpectralMF on gowalla, in one run: accuracy against training time, and the decomposition beside scikit-learn's.

    python benchmarks/spectral.py [--threads 2] [--rounds 3] [--factors 64 256 512 1024] [--search]

Recall@20 and NDCG@20 of the official test part, all items ranked with the training items removed. The settings (of
`gowalla.MODELS`) were chosen on a validation part of the training part, by the sum of both; ``--search`` prints how
settings do there instead. The peer is
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
from gowalla import MODELS, OLD, accuracy, validation_part

CHOSEN = {
    recipe.factors: recipe
    for recipe in MODELS.values()
    if isinstance(recipe, hx.SpectralMF) and recipe.factors != "auto"
}
DECOMPOSITIONS = [
    {"offset": offset, "user_exponent": exponent}
    for offset, exponent in itertools.product((5.0, 10.0, 20.0), (0.4, 0.45, 0.5))
]
SCORES = [
    {"sharpness": sharpness, "popularity": popularity}
    for sharpness, popularity in itertools.product((0.0, 1.0, 2.0, 2.5, 3.0, 3.5), (0.3, 0.35, 0.4, 0.5))
]
MOST_FACTORS_OF_PEER = 512


def search(split: hx.Split, factors: int, threads: int) -> None:
    """Recall and NDCG on the validation part for a grid of settings, best first."""
    train, valid = validation_part(split)
    rows = []
    for knobs in DECOMPOSITIONS:
        trained = hx.SpectralMF(factors=factors, **OLD, **knobs).train(train, threads=threads)
        for late in SCORES:
            model = trained.finish(hx.SpectralMF(factors=factors, **OLD, **knobs, **late))
            rows.append((*accuracy(model, valid), knobs | late))
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
    parser.add_argument("--factors", type=int, nargs="*", choices=CHOSEN, default=list(CHOSEN))
    parser.add_argument("--search", action="store_true")
    options = parser.parse_args()
    split = hx.split.official("gowalla")
    if options.search:
        for factors in options.factors:
            search(split, factors, options.threads)
        return
    tiny = split.train.take(np.arange(1000))
    hx.SpectralMF(factors=8).fit(tiny, threads=options.threads, progress=False)
    print(f"gowalla, {len(split.train):,} training rows, {options.threads} threads; seconds are medians")
    print("factors  Recall@20  NDCG@20  seconds  captured  scikit-learn: seconds  captured  ratio")
    for factors in options.factors:
        ours, theirs, captured = [], [], 0.0
        for _ in range(options.rounds):
            start = time.perf_counter()
            model = CHOSEN[factors].fit(split.train, threads=options.threads, progress=False)
            ours.append(time.perf_counter() - start)
            if factors <= MOST_FACTORS_OF_PEER:
                spent, captured = seconds_of_peer(split.train, CHOSEN[factors], options.threads)
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


if __name__ == "__main__":
    main()
