"""Large catalogues: one user among a million items, a thousand users, a million users' lists within a memory limit.

    python benchmarks/large.py [--factors 64] [--rounds 15] [--parts one all]

``one``: the 10 best items of one user on one core, from codes made beforehand, beside the bare product of all factors
with those of the user; then 1,000 users beside the bare product with all of them. The factors are those of an
`ImplicitALS` fit to gowalla expanded to a million items, and, for the worst case, independent normal numbers, in which
all items are as long as each other. ``tiles looked at`` are those before a user is done.

``all``: `recommend_all` for a million users and 100,000 items at 32 factors to a Parquet file, in a process of its own
that reports its peak memory; made-up factors, with lengths as skewed as popularity is.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import hatrix as hx
from hatrix.kernels.codes import best_of_coded, code_items

USERS, ITEMS, FACTORS, SEEN = 1_000_000, 100_000, 32, 10
MEMORY = "512MB"
N = 10


def milliseconds(call: Callable[[int], object], users: np.ndarray) -> float:
    spent = []
    for user in users:
        start = time.perf_counter()
        call(int(user))
        spent.append(time.perf_counter() - start)
    return 1e3 * float(np.median(spent))


def one(factors: int, rounds: int) -> None:
    train = hx.synthetic.expand(hx.split.official("gowalla").train, user_copies=10, item_copies=25)
    recipe = hx.ImplicitALS(factors=factors, epochs=2, alpha=1.0, alpha0=0.01, regularization=0.003)
    fitted = recipe.fit(train, progress=False)
    rng = np.random.default_rng(0)
    normal = [rng.standard_normal((n, factors), dtype=np.float32) for n in (10_000, 1_000_000)]
    print(
        f"{N} best of a million items at {factors} factors, one core; milliseconds are medians over {rounds} users"
    )
    print(
        "factors     items  codes s  one ms  product ms  ratio  tiles looked at  1,000 users s  product s  ratio"
    )
    for name, X, Y in (("a fit", fitted.user_factors, fitted.item_factors), ("normal", *normal)):
        bias, level = np.zeros(len(Y), np.float32), np.zeros(1000)
        code_items(X[:100], Y[:1000], bias[:1000])
        start = time.perf_counter()
        coded = code_items(X, Y, bias)
        coding = time.perf_counter() - start

        def lists(users: slice, X=X, Y=Y, bias=bias, coded=coded, level=level) -> np.ndarray:
            some = X[users]
            return best_of_coded(
                coded, some, Y, bias, N, level=level[: len(some)], seen=None, allowed=None, threads=1
            )[1]

        users = rng.choice(len(X) - 1000, rounds, replace=False)
        lists(slice(0, 1))
        mine = milliseconds(lambda user: lists(slice(user, user + 1)), users)
        out = np.empty(len(Y), np.float32)
        bare = milliseconds(lambda user, X=X, Y=Y, out=out: np.dot(Y, X[user], out=out), users)
        worst = np.array([lists(slice(user, user + 1))[0, -1] for user in users])
        reach = np.linalg.norm(X[users], axis=1)[:, None] * coded.far >= worst[:, None]
        start = time.perf_counter()
        lists(slice(0, 1000))
        many = time.perf_counter() - start
        start = time.perf_counter()
        for first in range(0, 1000, 100):
            X[first : first + 100] @ Y.T
        product = time.perf_counter() - start
        print(
            f"{name:7} {len(Y):9,}  {coding:7.2f}  {mine:6.2f}  {bare:10.2f}  {bare / mine:5.1f}  {reach.mean():15.1%}  "
            f"{many:13.2f}  {product:9.2f}  {product / many:5.1f}",
            flush=True,
        )


def made_up() -> hx.FactorModel:
    rng = np.random.default_rng(0)
    tiny = hx.Ratings.from_columns([1, 2], [1, 2], [1.0, 2.0])
    X, Y = (rng.standard_normal((n, FACTORS), dtype=np.float32) for n in (USERS, ITEMS))
    Y *= rng.lognormal(-1, 0.7, (ITEMS, 1)).astype(np.float32)
    model = hx.BiasedMF(factors=2, epochs=1).fit(tiny, progress=False)
    start = np.arange(USERS + 1) * SEEN
    item = rng.integers(0, ITEMS, USERS * SEEN, dtype=np.int32)
    return replace(
        model,
        users=hx.Ids(np.arange(USERS)),
        items=hx.Ids(np.arange(ITEMS)),
        user_bias=np.zeros(USERS, np.float32),
        item_bias=rng.normal(0, 0.3, ITEMS).astype(np.float32),
        user_factors=X,
        item_factors=Y,
        user_count=np.full(USERS, SEEN),
        item_count=np.bincount(item, minlength=ITEMS),
        seen=type(model.seen)(start, item, np.ones(len(item))),
    )


def peak() -> float:
    """The most memory this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def everybody() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made_up().save(Path(folder) / "model.hatrix")
        code = "import sys; sys.path.insert(0, sys.argv[1]); import large; large.stream(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), folder], check=True)


def stream(folder: str) -> None:
    """Load the model, write everybody's lists, and say what it took."""
    model = hx.load(Path(folder) / "model.hatrix")
    size = os.path.getsize(Path(folder) / "model.hatrix") / 1e6
    few = replace(model, users=hx.Ids(np.arange(64)), user_factors=model.user_factors[:64].copy(),
                  user_bias=model.user_bias[:64].copy(), user_count=model.user_count[:64].copy(),
                  seen=type(model.seen)(model.seen.start[:65], *model.seen[1:]))  # fmt: skip
    few.recommend_all(
        N, Path(folder) / "few.parquet", progress=False
    )  # libraries are loaded, kernels compiled
    sum(int(array.view(np.uint8).sum()) for array in (model.user_factors, model.item_factors, *model.seen))
    before = peak()
    start = time.perf_counter()
    done = model.recommend_all(N, Path(folder) / "lists.parquet", memory=MEMORY, progress=False)
    print(
        f"{done.rows:,} rows for {done.users:,} users x {ITEMS:,} items at {FACTORS} factors in "
        f"{time.perf_counter() - start:.1f} s; model {size:.0f} MB; peak {peak():.0f} MB, {before:.0f} MB of it before "
        f"with the model in memory: {peak() - before:.0f} MB more ({MEMORY} allowed)"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", nargs="*", choices=["one", "all"], default=["one", "all"])
    options = parser.parse_args()
    if "one" in options.parts:
        one(options.factors, options.rounds)
    if "all" in options.parts:
        everybody()


if __name__ == "__main__":
    main()
