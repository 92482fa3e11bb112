"""The notebook's 100 epochs: its own loop beside `MF` in exact float64 mode, in one run.

    python benchmarks/notebook.py [--epochs 100]

Both train rank 5 on the same rows in the same order; the whole ``fit`` call is timed (median of 15, compiled
kernels in the cache), and the training curves are compared.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import hatrix as hx


def notebook(train: hx.Ratings, epochs: int) -> tuple[list[float], float]:
    """The loop as the notebook writes it: pandas rows, NumPy vectors, the whole predicted matrix per epoch."""
    frame = train.to_frame()[["user", "item", "rating"]]
    user, item = (frame.user - 1).to_numpy(), (frame.item - 1).to_numpy()
    np.random.seed(42)
    P, Q = np.random.rand(len(train.users), 5), np.random.rand(len(train.items), 5)
    history, start = [], time.perf_counter()
    for _ in range(epochs):
        for _, user_id, movie_id, rating in frame.itertuples():
            u, i = user_id - 1, movie_id - 1
            error = Q[i] @ P[u] - rating
            current_p = P[u].copy()
            P[u] = P[u] - 0.001 * (Q[i] * error * 2)
            Q[i] = Q[i] - 0.001 * (current_p * error * 2)
        predictions = (P @ Q.T)[user, item]
        history.append(float(np.mean((predictions - frame.rating) ** 2)))
    return history, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=100)
    epochs = parser.parse_args().epochs
    split = hx.split.per_user(hx.datasets.load("ml-100k"), test=0.2, seed=42, draw="notebook")
    recipe = hx.MF(precision="float64", sequential=True, epochs=epochs)
    recipe.fit(split.train)
    theirs_mse, theirs = notebook(split.train, epochs)
    spent = []
    for _ in range(15):
        start = time.perf_counter()
        model = recipe.fit(split.train)
        spent.append(time.perf_counter() - start)
    ours = float(np.median(spent))
    apart = np.max(np.abs(model.history.train_mse / np.array(theirs_mse) - 1))
    frame = split.test.to_frame()
    test_mse = np.mean((model.predict(frame.user, frame.item) - frame.rating) ** 2)
    print(
        f"notebook {theirs:.1f} s, MF {ours * 1000:.0f} ms (best {min(spent) * 1000:.0f}): {theirs / ours:.0f} times faster"
    )
    print(
        f"train MSE {model.history.train_mse.iloc[-1]:.4f}, largest relative difference {apart:.1e}; test MSE {test_mse:.4f}"
    )


if __name__ == "__main__":
    main()
