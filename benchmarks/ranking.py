"""The 20 best items of every user of gowalla beside implicit's `recommend`, in one run.

    python benchmarks/ranking.py [--factors 64 128] [--rounds 5] [--threads 2]

Both are given the same factors, those of an `ImplicitALS` fit, and leave out what each user has in the training part.
implicit gets all users at once and in batches of several sizes, and its fastest is what counts. ``lists`` is
hatrix from factors to row numbers and scores, as implicit's call is; ``frame`` is `recommend_all`, with labels. Beside
them stands the bare matrix product that a scan cannot avoid, block by block on as many threads without storing anything
but one block. BLAS runs on one thread inside of each thread. All take turns; seconds and ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

import hatrix as hx
from hatrix.models.recommend import TopN

N = 20
BATCHES = (256, 1024, 4096, 0)
"""Users in a call of implicit; 0 is all of them."""
BLOCK, TILE = 512, 2048


def product(X: np.ndarray, Y: np.ndarray, threads: int) -> None:
    """Every score once, and none kept."""

    def run(first: int) -> None:
        block = X[first : first + BLOCK]
        out = np.empty((len(block), TILE), X.dtype)
        for begin in range(0, len(Y), TILE):
            tile = Y[begin : begin + TILE]
            np.matmul(block, tile.T, out=out[:, : len(tile)])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(0, len(X), BLOCK)))


def of_implicit(model: AlternatingLeastSquares, seen: csr_matrix, batch: int) -> np.ndarray:
    m = seen.shape[0]
    size = batch or m
    parts = [
        model.recommend(np.arange(first, min(first + size, m)), seen[first : first + size], N=N)[0]
        for first in range(0, m, size)
    ]
    return np.concatenate(parts)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def differing(ours: np.ndarray, theirs: np.ndarray, X: np.ndarray, Y: np.ndarray) -> tuple[float, float]:
    """The share of places with another item, and how far apart the scores there are at most."""
    user, place = np.nonzero(ours != theirs)
    scores = [np.einsum("nk,nk->n", X[user], Y[lists[user, place]].astype(float)) for lists in (ours, theirs)]
    apart = np.abs(scores[0] - scores[1]).max() if len(user) else 0.0
    return len(user) / ours.size, float(apart)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--factors", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    threads = options.threads
    train = hx.split.official("gowalla").train
    shape = len(train.users), len(train.items)
    seen = csr_matrix((np.ones(len(train), np.float32), (train.user, train.item)), shape)
    print(
        f"top {N} for {shape[0]:,} users x {shape[1]:,} items, {len(train):,} seen left out, {threads} threads; seconds"
    )
    print("factors  product  lists  frame  implicit  batch  implicit/lists  lists/product  other ids  apart")
    for factors in options.factors:
        recipe = hx.ImplicitALS(factors=factors, epochs=3, alpha=1.0, alpha0=0.01, regularization=0.003)
        fitted = recipe.fit(train, threads=threads, progress=False)
        X, Y = fitted.user_factors, fitted.item_factors
        peer = AlternatingLeastSquares(factors=factors, num_threads=threads)
        peer.user_factors, peer.item_factors = X.copy(), Y.copy()
        recommender = TopN.of(fitted, N, exclude_seen=True, threads=threads)
        users = np.arange(shape[0])
        calls: dict[Any, Callable[[], Any]] = {
            "product": lambda X=X, Y=Y: product(X, Y, threads),
            "lists": lambda recommender=recommender, users=users: recommender.lists(users).items,
            "frame": lambda fitted=fitted: fitted.recommend_all(N, threads=threads, progress=False),
        }
        calls |= {batch: lambda batch=batch, peer=peer: of_implicit(peer, seen, batch) for batch in BATCHES}
        spent: dict[Any, list[float]] = {name: [] for name in calls}
        with threadpool_limits(1, "blas"):
            recommender.lists(users[:100])
            for _ in range(options.rounds):
                answers = {}
                for name, call in calls.items():
                    took, answers[name] = seconds(call)
                    spent[name].append(took)
        median = {name: float(np.median(taken)) for name, taken in spent.items()}
        best = min(BATCHES, key=median.__getitem__)
        ratio = np.array(spent[best]) / np.array(spent["lists"])
        over = np.array(spent["lists"]) / np.array(spent["product"])
        share, apart = differing(answers["lists"], answers[best], X, Y)
        print(
            f"{factors:7}  {median['product']:7.2f}  {median['lists']:5.2f}  {median['frame']:5.2f}  {median[best]:8.2f}  "
            f"{best or 'all':>5}  {np.median(ratio):.2f} [{ratio.min():.2f}..{ratio.max():.2f}]  {np.median(over):13.2f}  "
            f"{share:9.1e}  {apart:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
