"""BayesianMF beside myFM, the same model by the same sampler in C++: error, seconds, and what the intervals cover.

    python benchmarks/bayesian.py [--fields ids | all] [--likelihood gaussian | ordinal] [--data ml-100k | ml-1m]
                                  [--folds 1 2 3 4 5] [--epochs 200] [--threads 2] [--no-peer]

MovieLens 100K: the official folds u1..u5. MovieLens 1M (our copy has no times): a random tenth is the test part. ``all``
takes every field: dates, the days of each user, who rated what both ways, and the tables of users and items; all but the
days of users are given to myFM too. In u1..u5 test ratings are of days on which their users also rated in train, so these
fields are of use there as they are not for days to come. The settings were chosen on a
validation part (a random tenth) of the training part of u1. myFM runs with rank 10, as many iterations (keeping all of
them but the first tenth), its features grouped by field, in relation blocks where it has them; it uses one thread. The
two take turns; predictions of both are clipped to 1..5.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

import hatrix as hx

os.environ.setdefault("TQDM_DISABLE", "1")  # of the peer
ALL = ("user", "item", "user_attributes", "item_attributes", "rated", "raters", "time", "user_day")
DAY = 86_400


def recipe(options: argparse.Namespace) -> hx.BayesianMF:
    fields = ("user", "item") if options.fields == "ids" else ALL
    if options.data == "ml-1m" and options.fields == "all":
        fields = tuple(name for name in ALL if name not in ("time", "user_day"))
    return hx.BayesianMF(
        factors=options.factors,
        fields=fields,
        likelihood=options.likelihood,
        noise=options.noise,
        epochs=options.epochs,
        burn_in=options.epochs // 10,
        draws=min(options.draws, options.epochs - options.epochs // 10),
    )


def peer(split: hx.Split, options: argparse.Namespace) -> tuple[float, float]:
    """RMSE and seconds of myFM, its features made before the clock starts."""
    import myfm

    train, test = split.train, split.test
    X, X_test, blocks, test_blocks, shapes = features(train, test, options.fields == "all")
    if options.likelihood == "ordinal":
        model: Any = myfm.MyFMOrderedProbit(rank=10, random_seed=options.seed)
        target = train.value.astype(int) - 1
    else:
        model, target = myfm.MyFMGibbsRegressor(rank=10, random_seed=options.seed), train.value
    kept = options.epochs - options.epochs // 10
    start = time.perf_counter()
    model.fit(X, target, X_rel=blocks, n_iter=options.epochs, n_kept_samples=kept, group_shapes=shapes)
    seconds = time.perf_counter() - start
    if options.likelihood == "ordinal":
        predicted = model.predict_proba(X_test, test_blocks) @ np.arange(1, 6)
    else:
        predicted = np.clip(model.predict(X_test, test_blocks), 1, 5)
    return float(np.sqrt(np.mean((predicted - test.value) ** 2))), seconds


def features(
    train: hx.Ratings, test: hx.Ratings, all_fields: bool
) -> tuple[Any, Any, list[Any], list[Any], list[int]]:
    """Design matrices of both parts, relation blocks, and how many columns each field has."""
    from myfm import RelationBlock
    from scipy.sparse import csr_matrix, hstack, identity

    from hatrix.models import fields

    def one_hot(row: Any, columns: int) -> csr_matrix:
        return csr_matrix((np.ones(len(row)), (np.arange(len(row)), row)), (len(row), columns))

    users, items = len(train.users), len(train.items)
    if not all_fields:
        X, X_test = (
            hstack([one_hot(part.user, users), one_hot(part.item, items)]).tocsr() for part in (train, test)
        )
        return X, X_test, [], [], [users, items]
    together = fields.rated_together(train)
    sides, shapes = [], []
    for rows, table, who in ((users, train.user_table, together[0]), (items, train.item_table, together[1])):
        columns = [identity(rows)]
        for bag in (*fields.attributes(table), who):
            sizes = np.diff(bag.start)
            feature = np.repeat(np.arange(len(sizes)), sizes)
            columns.append(csr_matrix((bag.weight, (bag.holder, feature)), (rows, len(sizes))))
        shapes += [column.shape[1] for column in columns]
        sides.append(hstack(columns).tocsr().astype(np.float64))
    blocks, test_blocks = (
        [RelationBlock(part.user.astype(int), sides[0]), RelationBlock(part.item.astype(int), sides[1])]
        for part in (train, test)
    )
    if train.time is None:
        return csr_matrix((len(train), 0)), csr_matrix((len(test), 0)), blocks, test_blocks, shapes
    day, first = (train.time // DAY).astype(int), int(train.time.min() // DAY)
    last = int(day.max()) - first
    dates = [
        one_hot(np.clip((part.time // DAY).astype(int) - first, 0, last), last + 1) for part in (train, test)
    ]
    return *dates, blocks, test_blocks, [last + 1, *shapes]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=("ml-100k", "ml-1m"), default="ml-100k")
    parser.add_argument("--fields", choices=("ids", "all"), default="ids")
    parser.add_argument("--likelihood", choices=("gaussian", "ordinal"), default="gaussian")
    parser.add_argument("--noise", choices=("user", "common"), default="user")
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    parser.add_argument("--factors", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    ratings = hx.datasets.load(options.data)
    if options.data == "ml-100k":
        splits = [(f"u{fold}", hx.split.official(ratings, fold)) for fold in options.folds]
    else:
        splits = [("90/10", hx.split.random(ratings, 0.1, seed=0))]
    mine = recipe(options)
    print(f"{options.data}, {mine!r}, {options.threads} threads")
    print(
        "fold    RMSE  seconds  covered at 90 %  by tenths      width  Winkler  (constant width)  myFM: RMSE  seconds"
    )
    mine.replace(epochs=3, burn_in=0).fit(splits[0][1].train, progress=False)
    rows = []
    for name, split in splits:
        start = time.perf_counter()
        model = mine.fit(split.train, seed=options.seed, threads=options.threads, progress=False)
        seconds = time.perf_counter() - start
        result = hx.evaluate(model, split.test, bootstrap=1)
        assert result.uncertainty is not None
        sure, (low, high) = result.uncertainty.figures, result.uncertainty.to_dict()["covered_by_activity"]
        error, taken = (np.nan, np.nan) if options.no_peer else peer(split, options)
        rows.append(
            (
                result.rmse,
                seconds,
                sure["covered"],
                low,
                high,
                sure["width"],
                sure["score"],
                sure["constant_score"],
                error,
                taken,
            )
        )
        print(f"{name:5} {line(rows[-1])}", flush=True)
    if len(rows) > 1:
        print(f"mean  {line(np.mean(rows, axis=0))}")
    print(f"seconds, myFM's over ours: {np.median([row[-1] / row[1] for row in rows]):.1f}")


def line(row: Any) -> str:
    rmse, seconds, covered, low, high, width, score, constant, error, taken = row
    return (
        f"{rmse:6.4f}  {seconds:7.2f}  {covered:15.2%}  {low:.1%}..{high:.1%}  {width:5.3f}  {score:7.4f}  "
        f"{constant:16.4f}  {error:10.4f}  {taken:7.2f}"
    )


if __name__ == "__main__":
    main()
