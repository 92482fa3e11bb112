"""Milliseconds to fold in a new user or item of 20 ratings, of every algorithm, and how well it is served; and of updates.

    python benchmarks/fold_in.py            # on MovieLens 100K and 1M (HATRIX_DATA, or fetched)
    python benchmarks/fold_in.py --only updates

Beside the time of the call, one thread:

- Users: 150 are kept out of the training, 20 ratings of each are folded in, and the rest are predicted; the same users'
  rest, of a model trained with those 20 ratings. Where a model has attributes among its fields, those of the new user are
  given, too.
- Items, of algorithms that rank: 100 are kept out, 20 ratings of each are folded in, and all other users are ranked by
  their scores: how far up are those who rated the item? Beside it the scores of a model trained with those 20 ratings, and
  the users' activity, which needs no model.
- Items without ratings: 250 of all are kept out wholly, and their ratings predicted from nothing, or from genres and year
  alone; those that are rated 20 times or more, and the others, also apart.

Updates: 10,000 ratings of MovieLens 1M are kept out, and 1,000 or all of them brought in, on all cores; medians of 5
(of BayesianMF, one run).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import rankdata

import hatrix as hx

GIVEN, FACTORS = 20, 64
APART_USERS, APART_ITEMS, UNRATED = 150, 100, 250
SHORT = {"factors": 10, "draws": 20, "epochs": 80}
FIELDS = ("user", "item", "user_attributes", "item_attributes", "rated", "raters")
RECIPES = [
    hx.Bias(),
    hx.MF(epochs=200),
    hx.BiasedMF(factors=FACTORS),
    hx.SVDpp(factors=FACTORS),
    hx.ALS(factors=FACTORS),
    hx.BayesianMF(**SHORT),
    hx.BayesianMF(**SHORT, likelihood="ordinal"),
    hx.BayesianMF(**SHORT, fields=FIELDS),
    hx.BayesianMF(**SHORT, fields=FIELDS, likelihood="ordinal"),
]
RANKERS = [
    hx.ImplicitALS(factors=FACTORS),
    hx.SpectralMF(factors=FACTORS),
    hx.BPR(factors=FACTORS),
]
OTHER_DRAWS = [hx.BPR(factors=FACTORS, sampling=sampling) for sampling in ("uniform", "popularity")]


class Apart:
    """Rows of a side that the training lacks: 20 ratings given of each, and the rest."""

    def __init__(self, side: np.ndarray, count: np.ndarray, size: int) -> None:
        rng = np.random.default_rng(0)
        self.rows = rng.choice(np.flatnonzero(count > 2 * GIVEN), size, replace=False)
        mixed = [rng.permutation(np.flatnonzero(side == row)) for row in self.rows]
        self.given, self.rest = [rows[:GIVEN] for rows in mixed], [rows[GIVEN:] for rows in mixed]
        self.known = ~np.isin(side, self.rows)
        self.with_given = self.known.copy()
        self.with_given[np.concatenate(self.given)] = True

    def models(self, recipe: hx.Algorithm, ratings: hx.Ratings) -> tuple[hx.FactorModel, hx.FactorModel]:
        return tuple(
            recipe.fit(ratings.take(mask), seed=0, progress=False) for mask in (self.known, self.with_given)
        )


def fields_of(recipe: hx.Algorithm) -> tuple[str, ...]:
    return getattr(recipe, "fields", ())


def named(recipe: hx.Algorithm) -> str:
    detail = getattr(recipe, "likelihood", getattr(recipe, "sampling", ""))
    more = fields_of(recipe)[2:]
    return f"{recipe.name} {detail}".strip() + (
        ", " + ("fields" if len(more) > 1 else more[0]) if more else ""
    )


def timed(
    fold: Callable[..., hx.FactorModel], history: dict[int, float], seconds: list[float], **known: Any
) -> hx.FactorModel:
    start = time.perf_counter()
    folded = fold(history, **known)
    seconds.append(time.perf_counter() - start)
    return folded


def told(seconds: list[float]) -> str:
    return f"{np.median(seconds) * 1e3:>12.2f}{np.quantile(seconds, 0.95) * 1e3:>8.2f}"


def users(ratings: hx.Ratings) -> None:
    apart, items = Apart(ratings.user, ratings.user_count, APART_USERS), ratings.items.decode(ratings.item)
    print(f"{'new users':<34}{'ms, median':>12}{'p95':>8}   folded in    trained    measure")
    for recipe in RECIPES + RANKERS:
        model, trained = apart.models(recipe, ratings)
        seconds, folded_error, trained_error = [], [], []
        model.fold_in({items[0]: ratings.value[0]})  # what all have in common is worked out once
        for user, mine, others in zip(apart.rows, apart.given, apart.rest, strict=True):
            new = timed(
                model.fold_in,
                dict(zip(items[mine].tolist(), ratings.value[mine].tolist(), strict=True)),
                seconds,
                attributes=ratings.user_table.iloc[user].to_dict()
                if "user_attributes" in fields_of(recipe)
                else None,
            )
            label = ratings.users.decode(np.array([user]))[0]
            for found, asked, errors in ((new, "new user", folded_error), (trained, label, trained_error)):
                if recipe.task == "rating":
                    errors.append(
                        (found.predict(asked, items[others], clip=True) - ratings.value[others]) ** 2
                    )
                else:
                    errors.append([np.isin(found.recommend(asked, 20)["item"], items[others]).mean()])
        values = [np.concatenate(errors).mean() for errors in (folded_error, trained_error)]
        if recipe.task == "rating":
            values = np.sqrt(values).tolist()
        measure = "RMSE" if recipe.task == "rating" else "precision@20"
        print(
            f"{named(recipe):<34}{told(seconds)}{values[0]:>12.4f}{values[1]:>11.4f}    {measure}", flush=True
        )


def found_among(score: np.ndarray, users: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Of users ranked by score: the AUC of those wanted, and their share of the first 20."""
    right = np.isin(users, wanted)
    ranks, n = rankdata(score[users]), right.sum()
    auc = (ranks[right].sum() - n * (n + 1) / 2) / (n * (len(users) - n))
    return float(auc), float(right[np.argsort(-score[users], kind="stable")[:20]].mean())


def items(ratings: hx.Ratings) -> None:
    apart, labels = Apart(ratings.item, ratings.item_count, APART_ITEMS), ratings.users.decode(ratings.user)
    print(f"\n{'new items':<34}{'ms, median':>12}{'p95':>8}      AUC: folded in    trained   activity"
          "      precision@20: folded in    trained   activity")  # fmt: skip
    for recipe in RANKERS + OTHER_DRAWS:
        model, trained = apart.models(recipe, ratings)
        seconds, found = [], []
        model.fold_in_item({labels[0]: ratings.value[0]})
        for item, mine, others in zip(apart.rows, apart.given, apart.rest, strict=True):
            new = timed(
                model.fold_in_item, dict(zip(labels[mine].tolist(), ratings.value[mine].tolist(), strict=True)),
                seconds,
            )  # fmt: skip
            asked = np.setdiff1d(np.arange(len(ratings.users)), ratings.user[mine])
            same = trained.user_factors @ trained.item_factors[item] + trained.fixed.levels
            scores = new.predict(ratings.users.labels, "new item"), same, model.user_count
            found.append([found_among(score, asked, ratings.user[others]) for score in scores])
        auc, precision = np.mean(found, axis=0).T
        print(f"{named(recipe):<34}{told(seconds)}{auc[0]:>20.4f}{auc[1]:>11.4f}{auc[2]:>11.4f}"
              f"{precision[0]:>28.4f}{precision[1]:>11.4f}{precision[2]:>11.4f}", flush=True)  # fmt: skip


def unrated_items(ratings: hx.Ratings) -> None:
    apart = np.sort(np.random.default_rng(1).choice(len(ratings.items), UNRATED, replace=False))
    held, often = np.isin(ratings.item, apart), ratings.item_count >= GIVEN
    users = ratings.users.decode(ratings.user)
    print(f"\n{'items without ratings':<42}{'RMSE':>8}{'often rated':>14}{'seldom':>9}    predicted by")
    for recipe, by in (
        (hx.Bias(), "the mean and the user's bias"),
        (hx.BayesianMF(**SHORT), "the prior of items"),
        (hx.BayesianMF(**SHORT, fields=("user", "item", "item_attributes")), "genres and year"),
        (hx.BayesianMF(**SHORT, fields=FIELDS), "genres and year"),
    ):
        model, errors = recipe.fit(ratings.take(~held), seed=0, progress=False), np.zeros(len(ratings))
        for item in apart:
            rows = np.flatnonzero(ratings.item == item)
            known_of = (
                ratings.item_table.iloc[item].to_dict() if "item_attributes" in fields_of(recipe) else None
            )
            new = model.fold_in_item({}, attributes=known_of)
            errors[rows] = new.predict(users[rows], "new item", clip=True) - ratings.value[rows]
        whole, many, few = (
            np.sqrt(np.mean(errors[held & part[ratings.item]] ** 2))
            for part in (np.ones_like(often), often, ~often)
        )
        print(f"{named(recipe):<42}{whole:>8.4f}{many:>14.4f}{few:>9.4f}    {by}", flush=True)


def updates() -> None:
    ratings = hx.datasets.load("ml-1m")
    mixed = np.random.default_rng(0).permutation(len(ratings))
    print(f"\n{'updates, ms':<22}{'1,000 ratings':>15}{'10,000 ratings':>16}")
    for recipe in (
        hx.ALS(factors=FACTORS),
        hx.ImplicitALS(factors=FACTORS),
        hx.BiasedMF(factors=FACTORS, epochs=5),
        hx.SVDpp(factors=FACTORS, epochs=5),
        hx.BayesianMF(factors=10, draws=20, epochs=40),
    ):
        model = recipe.fit(ratings.take(np.sort(mixed[10_000:])), seed=0, progress=False)
        medians = []
        for size in (1000, 10_000):
            new, seconds = ratings.take(np.sort(mixed[:size])), []
            for _ in range(1 if recipe.name == "bayesian-mf" else 6):
                start = time.perf_counter()
                model.update(new)
                seconds.append(time.perf_counter() - start)
            medians.append(np.median(seconds[1:] or seconds) * 1e3)  # the first compiles
        print(f"{named(recipe):<22}{medians[0]:>15.0f}{medians[1]:>16.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("users", "items", "updates"))
    only = parser.parse_args().only
    ratings = hx.datasets.load("ml-100k")
    if only in (None, "users"):
        users(ratings)
    if only in (None, "items"):
        items(ratings)
        unrated_items(ratings)
    if only in (None, "updates"):
        updates()


if __name__ == "__main__":
    main()
