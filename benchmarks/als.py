"""Seconds per sweep of alternating least squares, beside its peers, in one run.

    python benchmarks/als.py [--data clicks ratings] [--factors 64 128] [--rounds 5] [--threads 2]

Clicks: gowalla (the LightGCN split's training part), the iALS objective with the same weights on both sides: implicit
(conjugate gradient with 3 steps, Cholesky), irspack (conjugate gradient, iALS++, Cholesky). Ratings: MovieLens 1M
expanded to about 10 million ratings, cmfrec and LensKit. Every fit starts anew in each round, and the seconds
of one sweep are the difference between a run of 2 and a run of 2 + SWEEPS, over SWEEPS, so that set-up is left out.
All run BLAS on one thread and as many threads of their own. The objective after the longer run is computed
by one function for all, from their factors: its mean and range over the seeds, a new one in each round, since
where a fit starts moves it more than who fits.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np

import hatrix as hx

SWEEPS = 4
ALPHA, LAMBDA = 10.0, 1.0

Factors = tuple[np.ndarray, np.ndarray]
Fit = Callable[[int, int], tuple[float, Any]]


def clicks_objective(train: hx.Ratings, X: np.ndarray, Y: np.ndarray) -> float:
    """Σ_seen (1 + alpha) (1 - s)² + Σ_unseen s² + lambda (|X|² + |Y|²)."""
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    s = np.einsum("nk,nk->n", X[train.user], Y[train.item])
    every = float(((X.T @ X) * (Y.T @ Y)).sum())
    return (
        float(((1 + ALPHA) * (1 - s) ** 2 - s**2).sum()) + every + LAMBDA * float((X**2).sum() + (Y**2).sum())
    )


def fit_ours(train: hx.Ratings, recipe: hx.ImplicitALS | hx.ALS, threads: int) -> Fit:
    def fit(sweeps: int, seed: int) -> tuple[float, Any]:
        state = recipe.init(train, seed=seed, threads=threads)
        start = time.perf_counter()
        for sweep in range(sweeps):
            recipe.step(state, sweep)
        return time.perf_counter() - start, recipe.finish(state)

    return fit


def fit_implicit(train: hx.Ratings, factors: int, threads: int, *, use_cg: bool) -> Fit:
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    shape = len(train.users), len(train.items)
    matrix = csr_matrix((np.full(len(train), 1 + ALPHA, np.float32), (train.user, train.item)), shape)

    def fit(sweeps: int, seed: int) -> tuple[float, Any]:
        model = AlternatingLeastSquares(
            factors, regularization=LAMBDA, alpha=1.0, use_cg=use_cg, iterations=sweeps, num_threads=threads,
            random_state=seed,
        )  # fmt: skip
        start = time.perf_counter()
        model.fit(matrix, show_progress=False)
        return time.perf_counter() - start, (model.user_factors, model.item_factors)

    return fit


def fit_irspack(train: hx.Ratings, factors: int, threads: int, solver: str) -> Fit:
    from irspack import IALSRecommender
    from scipy.sparse import csr_matrix

    shape = len(train.users), len(train.items)
    matrix = csr_matrix((np.ones(len(train)), (train.user, train.item)), shape)

    def fit(sweeps: int, seed: int) -> tuple[float, Any]:
        model = IALSRecommender(
            matrix, n_components=factors, alpha0=1 / ALPHA, reg=LAMBDA / ALPHA, nu=0.0, loss_type="ORIGINAL",
            train_epochs=sweeps, solver_type=solver, max_cg_steps=3, ialspp_subspace_dimension=64,
            n_threads=threads, random_seed=seed, prediction_time_max_cg_steps=3,
        )  # fmt: skip
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # it draws progress bars there
            model.learn()
        return time.perf_counter() - start, (model.get_user_embedding(), model.get_item_embedding())

    return fit


def ratings_objective(train: hx.Ratings, mean: float, bu: Any, bi: Any, X: Any, Y: Any, reg: float) -> float:
    """Mean squared error plus reg (Σ n_u |row|² + Σ n_i |row|²) / n, biases in the rows."""
    X, Y, bu, bi = (np.asarray(a, np.float64) for a in (X, Y, bu, bi))
    error = 0.0
    for first in range(0, len(train), 1 << 20):
        part = slice(first, first + (1 << 20))
        u, i = train.user[part], train.item[part]
        s = mean + bu[u] + bi[i] + np.einsum("nk,nk->n", X[u], Y[i])
        error += float(((train.value[part] - s) ** 2).sum())
    rows = ((X**2).sum(1) + bu**2) @ train.user_count + ((Y**2).sum(1) + bi**2) @ train.item_count
    return (error + reg * float(rows)) / len(train)


def fit_cmfrec(train: hx.Ratings, factors: int, threads: int, reg: float, *, use_cg: bool) -> Fit:
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    matrix = coo_matrix((train.value, (train.user, train.item)), (len(train.users), len(train.items)))

    def fit(sweeps: int, seed: int) -> tuple[float, Any]:
        model = CMF(
            k=factors, lambda_=reg, scale_lam=True, method="als", use_cg=use_cg, niter=sweeps, nthreads=threads,
            user_bias=True, item_bias=True, verbose=False, precompute_for_predictions=False, use_float=True,
            random_state=seed,
        )  # fmt: skip
        start = time.perf_counter()
        model.fit(matrix)
        seconds = time.perf_counter() - start
        return seconds, (float(model.glob_mean_), model.user_bias_, model.item_bias_, model.A_, model.B_)

    return fit


def fit_lenskit(train: hx.Ratings, factors: int, threads: int, reg: float) -> Fit:
    import pandas as pd
    from lenskit.als import BiasedMFConfig, BiasedMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.parallel import initialize
    from lenskit.training import TrainingOptions

    with contextlib.suppress(Exception):  # it is set up once in a process
        initialize(threads=threads, backend_threads=1)
    frame = pd.DataFrame({"user_id": train.user, "item_id": train.item, "rating": train.value})
    data = from_interactions_df(frame)

    def fit(sweeps: int, seed: int) -> tuple[float, Any]:
        model = BiasedMFScorer(BiasedMFConfig(embedding_size=factors, epochs=sweeps, regularization=reg))
        start = time.perf_counter()
        model.train(data, TrainingOptions(rng=seed))
        return time.perf_counter() - start, model

    return fit


def race(
    fits: dict[str, Fit], objective: Callable[[str, Any], float], rounds: int, sweeps: int = SWEEPS
) -> None:
    """Take turns, a seed for each round; print seconds per sweep, the ratio to the first, and the objectives."""
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    values: dict[str, list[float]] = {name: [] for name in fits}
    for name in list(fits):
        try:
            fits[name](1, 0)
        except Exception as error:
            print(f"  {name:32} does not run here: {type(error).__name__}: {str(error)[:80]}")
            del fits[name], seconds[name]
    for seed in range(1, rounds + 1):
        for name, fit in fits.items():
            short, _ = fit(2, seed)
            long, fitted = fit(2 + sweeps, seed)
            seconds[name].append((long - short) / sweeps)
            values[name].append(objective(name, fitted))
    first = np.array(seconds[next(iter(fits))])
    for name, spent in seconds.items():
        ratio, value = np.array(spent) / first, values[name]
        print(
            f"  {name:28} {np.median(spent):7.3f} s per sweep  {np.median(ratio):5.1f} times the first"
            f" [{ratio.min():.1f}..{ratio.max():.1f}]  objective {np.mean(value):.6g}"
            f" [{min(value):.6g}..{max(value):.6g}]",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="+", choices=["clicks", "ratings"], default=["clicks", "ratings"])
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rounds-of-ratings", type=int, default=1, help="some peers take minutes")
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    if "clicks" in o.data:
        train = hx.split.official("gowalla").train
        for factors in o.factors:
            base = {"factors": factors, "alpha": ALPHA, "alpha0": None, "regularization": LAMBDA, "nu": 0.0}

            def ours(**setting: Any) -> Fit:
                return fit_ours(train, hx.ImplicitALS(**base, **setting), o.threads)  # noqa: B023

            def measure(name: str, f: Any) -> float:
                if name.startswith("hatrix"):
                    return clicks_objective(train, f.user_factors, f.item_factors)
                return clicks_objective(train, *f)

            print(f"gowalla, {len(train):,} clicks, {factors} factors, {o.threads} threads")
            print(" exact")
            exact = {
                "hatrix exact": ours(solver="exact"),
                "irspack Cholesky": fit_irspack(train, factors, o.threads, "CHOLESKY"),
                "implicit Cholesky": fit_implicit(train, factors, o.threads, use_cg=False),
            }
            race(exact, measure, o.rounds)
            print(" in part")
            partly = {
                "hatrix cg, 3 steps": ours(solver="cg", cg_steps=3),
                "hatrix iALS++, blocks of 64": ours(solver="ialspp", block_size=64),
                "irspack CG, 3 steps": fit_irspack(train, factors, o.threads, "CG"),
                "irspack iALS++, blocks of 64": fit_irspack(train, factors, o.threads, "IALSPP"),
                "implicit CG, 3 steps": fit_implicit(train, factors, o.threads, use_cg=True),
            }
            race(partly, measure, o.rounds)
    if "ratings" in o.data:
        train = hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=10, item_copies=3, seed=0)
        reg, factors = 0.05, o.factors[0]
        print(f"MovieLens 1M expanded, {len(train):,} ratings, {factors} factors, {o.threads} threads")
        # The peers' penalties are in the ratings as they are: unit=1.
        penalties = {"regularization": reg, "bias_regularization": reg, "nu": 1.0, "unit": 1.0}

        def model(**setting: Any) -> Fit:
            return fit_ours(train, hx.ALS(factors=factors, **penalties, **setting), o.threads)

        def value(name: str, f: Any) -> float:
            if name.startswith("hatrix"):
                return ratings_objective(train, *f[:5], reg)
            if name.startswith("cmfrec"):
                return ratings_objective(train, *f, reg)
            return lenskit_objective(train, f, reg)

        print(" exact")
        exact = {
            "hatrix exact": model(),
            "cmfrec Cholesky": fit_cmfrec(train, factors, o.threads, reg, use_cg=False),
            "LensKit": fit_lenskit(train, factors, o.threads, reg),
        }
        race(exact, value, o.rounds_of_ratings)
        print(" in part")
        partly = {
            "hatrix cg, 3 steps": model(solver="cg", cg_steps=3),
            "cmfrec CG, 3 steps": fit_cmfrec(train, factors, o.threads, reg, use_cg=True),
        }
        # cmfrec prepares for 13 s, which drown few sweeps of it.
        race(partly, value, max(3, o.rounds_of_ratings), sweeps=20)


def lenskit_objective(train: hx.Ratings, model: Any, reg: float) -> float:
    """Of LensKit's factors with its fixed biases, in the order of our rows."""
    users = model.users.numbers(np.arange(len(train.users)), missing="negative")
    items = model.items.numbers(np.arange(len(train.items)), missing="negative")

    def rows(array: Any, of: Any) -> Any:
        found = np.asarray(array)[of]
        found[of < 0] = 0  # a row without a rating, which it does not have
        return found

    bias = model.bias
    return ratings_objective(
        train, float(bias.global_bias), rows(bias.user_biases, users), rows(bias.item_biases, items),
        rows(model.user_embeddings, users), rows(model.item_embeddings, items), reg,
    )  # fmt: skip


if __name__ == "__main__":
    main()
