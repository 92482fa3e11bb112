"""Spark: everybody's lists beside MLlib's recommendForAllUsers, and MLlib's ALS beside one machine, on the same 2 cores.

    python benchmarks/spark.py [--copies 10] [--factors 32] [--epochs 10] [--rounds 3] [--master local[2]] [--memory 6g]

MovieLens 1M expanded to about 10 million ratings; a tenth of them is held out, and both sides train on the others with the
same objective (weighted-lambda, no biases), rank, epochs and lambda, at rows that start with length 1. ``hx.ALS`` gets the
ratings as arrays, MLlib as a cached DataFrame, each with its preparation left out; ``hatrix.app.spark.fit`` is
the whole call on that DataFrame: checks, ids, duplicates, MLlib's epochs, counts, the model on the driver.

The lists are those of MLlib's own factors: its recommendForAllUsers, with the fastest of its block sizes, and
`recommend_all` of a model with the same factors, both unfiltered, as MLlib cannot leave out what was seen, and both written
to Parquet by the same session. They take turns after a warm-up of each; seconds and ratios are medians over rounds. Lists
are compared item by item; where they differ, ``apart`` is how far the scores of the two items are from each other at
most, in double precision. MLlib's fastest way to multiply is JNIBLAS, with an OpenBLAS of the system (Debian:
libopenblas0), on one thread for each of Spark's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import hatrix as hx
from hatrix.app.spark import fit, recommend_all, session
from hatrix.app.spark.gathering import flat
from hatrix.app.spark.sessions import table_of

N = 10
BLOCK_SIZES = (1024, 4096)
"""Users and items in a block of recommendForAllUsers; 4096 is MLlib's own choice."""


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def blas(spark: Any) -> str:
    """The best of the ways to multiply that MLlib finds, in its own order."""
    found = spark.sparkContext._jvm.dev.ludovic.netlib.blas
    for name in ("NativeBLAS", "JavaBLAS"):
        try:
            return str(getattr(found, name).getInstance().getClass().getSimpleName())
        except Exception:
            continue
    return "an unknown way"


def java() -> str:
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return said.split('"')[1]


def frame_of(spark: Any, ratings: hx.Ratings) -> Any:
    return table_of(
        spark, {"user": ratings.user, "item": ratings.item, "rating": ratings.value.astype(np.float32)}
    )


def rmse(test: hx.Ratings, X: np.ndarray, Y: np.ndarray) -> float:
    error = np.einsum("nk,nk->n", X[test.user], Y[test.item]) - test.value
    return float(np.sqrt(np.mean(error**2)))


def factors_of(frame: Any, n: int, k: int) -> np.ndarray:
    table, rows = frame.toArrow(), np.zeros((n, k), np.float32)
    rows[table["id"].to_numpy()] = flat(table["features"]).reshape(-1, k)
    return rows


def training(spark: Any, split: hx.Split, options: argparse.Namespace) -> tuple[Any, np.ndarray, np.ndarray]:
    """Train on both sides, and print what it took; MLlib's model and its factors."""
    from pyspark.ml.recommendation import ALS

    train, k = split.train, options.factors
    test = split.test.take((train.user_count[split.test.user] > 0) & (train.item_count[split.test.item] > 0))
    shared = {"rank": k, "maxIter": options.epochs, "regParam": options.regularization, "seed": 1}
    frame = frame_of(spark, train).persist()
    frame.count()
    trainer = ALS(userCol="user", itemCol="item", ratingCol="rating", checkpointInterval=-1, **shared)
    trainer.copy({trainer.maxIter: 1}).fit(frame)
    mllib, model = seconds(lambda: trainer.fit(frame))
    X, Y = (
        factors_of(side, n, k)
        for side, n in ((model.userFactors, len(train.users)), (model.itemFactors, len(train.items)))
    )
    recipe = hx.ALS(
        factors=k,
        epochs=options.epochs,
        regularization=options.regularization,
        nu=1,
        biased=False,
        init_scale=1.0,
        unit=1.0,  # as MLlib's regParam has it
    )
    recipe.replace(epochs=1).fit(train, threads=2, progress=False)
    here, one = seconds(lambda: recipe.fit(train, seed=1, threads=2, progress=False))
    on_cluster = recipe.replace(init_scale=hx.ALS().init_scale)
    whole, ours = seconds(lambda: fit(frame, on_cluster, seed=1, seen=False))
    frame.unpersist()
    aligned = []  # its ids are row numbers here, of those that are in the training part
    for ids, factors, n in ((ours.users, ours.user_factors, len(X)), (ours.items, ours.item_factors, len(Y))):
        rows = np.zeros((n, k), np.float32)
        rows[ids.labels] = factors
        aligned.append(rows)
    print(
        f"{len(train):,} ratings of {len(train.users):,} users and {len(train.items):,} items, {k} factors, "
        f"{options.epochs} epochs, {options.master}"
    )
    print("ALS                          seconds  RMSE of test  to hx.ALS")
    for name, spent, error in (
        ("hx.ALS, one machine", here, rmse(test, one.user_factors, one.item_factors)),
        ("MLlib's ALS.fit", mllib, rmse(test, X, Y)),
        ("hatrix.app.spark.fit, whole", whole, rmse(test, *aligned)),
    ):
        print(f"{name:27}  {spent:7.1f}  {error:12.4f}  {spent / here:9.1f}", flush=True)
    return model, X, Y


def ranking(
    spark: Any, split: hx.Split, model: Any, X: np.ndarray, Y: np.ndarray, options: argparse.Namespace
) -> None:
    train, folder = split.train, Path(tempfile.mkdtemp(prefix="hatrix-bench-"))
    ours = replace(
        hx.ALS(factors=2, epochs=1, biased=False).fit(train.take(np.arange(1000)), progress=False),
        users=hx.Ids(np.arange(len(X))), items=hx.Ids(np.arange(len(Y))), user_factors=X, item_factors=Y, seen=None,
        user_bias=np.zeros(len(X), np.float32), item_bias=np.zeros(len(Y), np.float32), mean=0.0, history=pd.DataFrame(),
        user_count=np.maximum(train.user_count, X.any(axis=1)), item_count=train.item_count, item_table=None,
        user_table=None,
    )  # fmt: skip

    def written(lists: Any, name: str) -> str:
        lists.write.mode("overwrite").parquet(str(folder / name))
        return str(folder / name)

    def mllibs(size: int) -> str:
        model.setBlockSize(size)
        return written(model.recommendForAllUsers(N), f"mllib-{size}")

    calls: dict[Any, Callable[[], str]] = {
        "hatrix": lambda: written(recommend_all(ours, spark, N, exclude_seen=False), "hatrix")
    }
    calls |= {size: lambda size=size: mllibs(size) for size in BLOCK_SIZES}
    first = {name: seconds(call)[0] for name, call in calls.items()}
    rounds = range(options.rounds)
    spent: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in rounds:
        for name, call in calls.items():
            spent[name].append(seconds(call)[0])
    best = min(BLOCK_SIZES, key=lambda size: statistics.median(spent[size]))
    ratio = [theirs / mine for theirs, mine in zip(spent[best], spent["hatrix"], strict=True)]
    got = spark.read.parquet(str(folder / "hatrix")).toArrow().to_pandas().sort_values("user", kind="stable")
    items = got.item.to_numpy().reshape(-1, N)
    lists = spark.read.parquet(str(folder / f"mllib-{best}")).toArrow().to_pandas().sort_values("user")
    theirs = np.array([[row["item"] for row in one] for one in lists.recommendations])
    user, place = np.nonzero(items != theirs)
    rows = lists.user.to_numpy()[user]
    scores = [np.einsum("nk,nk->n", X[rows].astype(float), Y[some[user, place]]) for some in (items, theirs)]
    apart = float(np.abs(scores[0] - scores[1]).max()) if len(user) else 0.0
    print(f"\n{N} best of {len(Y):,} items for {len(items):,} users, written to Parquet")
    print("                              first  seconds  MLlib to hatrix")
    print(f"MLlib, blocks of {best:4}          {first[best]:6.1f}  {statistics.median(spent[best]):7.2f}")
    print(
        f"hatrix.app.spark             {first['hatrix']:6.1f}  {statistics.median(spent['hatrix']):7.2f}  "
        f"{statistics.median(ratio):.1f} [{min(ratio):.1f}..{max(ratio):.1f}]"
    )
    print(f"other items: {len(user)} of {items.size:,}, apart {apart:.0e}")
    shutil.rmtree(folder)


def main() -> None:
    warnings.simplefilter("ignore", FutureWarning)  # of pyspark, about pandas
    parser = argparse.ArgumentParser()
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--regularization", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--memory", default="6g")
    options = parser.parse_args()
    ratings = hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=options.copies)
    split = hx.split.random(ratings, 0.1, seed=1)
    spark = session(
        options.master, conf={"spark.driver.memory": options.memory, "spark.driver.maxResultSize": "0"}
    )
    print(f"MLlib multiplies by {blas(spark)}, Java {java()}")
    model, X, Y = training(spark, split, options)
    ranking(spark, split, model, X, Y, options)
    spark.stop()


if __name__ == "__main__":
    main()
