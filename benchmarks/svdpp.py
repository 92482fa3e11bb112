"""Seconds of SVD++ beside Surprise on MovieLens 100K u1..u5, in one run: same rank, same epochs, one thread each.

    python benchmarks/svdpp.py [--rounds 3] [--threads 1]

Surprise runs with its defaults (rank 20, 20 epochs) and ``cache_ratings=True``, hatrix with a little less
regularization than by default, so that its training RMSE too is no worse. A time is that of the whole call of
``fit``; the two take turns, and the ratio is the median over the rounds.
RMSE is of the finished models over all training ratings (not clipped) and over the test part (clipped to 1..5).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import surprise

import hatrix as hx

FACTORS, EPOCHS = 20, 20
OURS = hx.SVDpp(factors=FACTORS, epochs=EPOCHS, regularization=0.0515)


def rmse(predicted: np.ndarray, part: hx.Ratings, *, clip: bool) -> float:
    predicted = np.clip(predicted, 1, 5) if clip else predicted
    return float(np.sqrt(np.mean((predicted - part.value) ** 2)))


def run_surprise(split: hx.Split) -> tuple[float, float, float]:
    train = split.train
    frame = pd.DataFrame({"user": train.user, "item": train.item, "rating": train.value})
    known = surprise.Dataset.load_from_df(frame, surprise.Reader(rating_scale=(1, 5))).build_full_trainset()
    algorithm = surprise.SVDpp(n_factors=FACTORS, n_epochs=EPOCHS, cache_ratings=True, random_state=0)
    start = time.perf_counter()
    algorithm.fit(known)
    seconds = time.perf_counter() - start
    errors = []
    for part, clip in ((train, False), (split.test, True)):
        pairs = zip(part.user.tolist(), part.item.tolist(), strict=True)
        errors.append(
            rmse(np.array([algorithm.predict(u, i, clip=False).est for u, i in pairs]), part, clip=clip)
        )
    return seconds, *errors


def run_hatrix(split: hx.Split, threads: int) -> tuple[float, float, float]:
    start = time.perf_counter()
    model = OURS.fit(split.train, threads=threads, progress=False)
    seconds = time.perf_counter() - start
    pairs = (
        (part, model.predict_rows(*model.rows_of(part)), clip)
        for part, clip in ((split.train, False), (split.test, True))
    )
    return seconds, *(rmse(predicted, part, clip=clip) for part, predicted, clip in pairs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    ratings = hx.datasets.load("ml-100k")
    folds = [hx.split.official(ratings, fold) for fold in range(1, 6)]
    start = time.perf_counter()
    run_hatrix(folds[0], options.threads)
    print(
        f"rank {FACTORS}, {EPOCHS} epochs; first fit, kernels compiled or loaded: {time.perf_counter() - start:.2f} s"
    )
    print(
        "fold  seconds: hatrix  Surprise  ratio   train RMSE: hatrix  Surprise   test RMSE: hatrix  Surprise"
    )
    ratios = []
    for number, fold in enumerate(folds, 1):
        ours, theirs = [], []
        for _ in range(options.rounds):
            ours.append(run_hatrix(fold, options.threads))
            theirs.append(run_surprise(fold))
        a, b = np.median(ours, axis=0), np.median(theirs, axis=0)
        ratio = np.array(theirs)[:, 0] / np.array(ours)[:, 0]
        ratios.extend(ratio)
        print(
            f"u{number}  {a[0]:15.3f}  {b[0]:8.2f}  {np.median(ratio):5.0f}  {a[1]:19.4f}  {b[1]:8.4f}"
            f"  {a[2]:18.4f}  {b[2]:8.4f}", flush=True,
        )  # fmt: skip
    print(
        f"{np.median(ratios):.0f} times faster (median over folds and rounds; {min(ratios):.0f} to {max(ratios):.0f})"
    )


if __name__ == "__main__":
    main()
