"""Microseconds to fold in a new user of 20 ratings, of every algorithm, and how well the new user is served.

    python benchmarks/fold_in.py            # on MovieLens 100K (HATRIX_DATA, or fetched)

Beside the time: 150 users are kept out of the training, 20 ratings of each are folded in, and the rest are predicted; the
same users' rest, of a model trained with those 20 ratings. The time is of the call `fold_in` alone, one thread. Where a
model has attributes among its fields, those of the new user are given, too.

Then new items: 250 of all are kept out wholly, and their ratings predicted from nothing, or from genres and year alone;
those that are rated 20 times or more, and the others, also apart.
"""

from __future__ import annotations

import time

import numpy as np

import hatrix as hx
from hatrix.models.fit import Algorithm

GIVEN, APART, FACTORS, NEW_ITEMS = 20, 150, 64, 250
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


def fields_of(recipe: Algorithm) -> tuple[str, ...]:
    return getattr(recipe, "fields", ())


def name_of(recipe: Algorithm) -> str:
    if not isinstance(recipe, hx.BayesianMF):
        return recipe.name
    more = {FIELDS: ", fields", ("user", "item"): ""}.get(recipe.fields, ", " + ", ".join(recipe.fields[2:]))
    return f"{recipe.name} {recipe.likelihood}{more}"


def main() -> None:
    ratings = hx.datasets.load("ml-100k")
    new_users(ratings)
    new_items(ratings)


def new_users(ratings: hx.Ratings) -> None:
    rng = np.random.default_rng(0)
    eligible = np.flatnonzero(ratings.user_count > 2 * GIVEN)
    apart = rng.choice(eligible, APART, replace=False)
    known, given, rest = ~np.isin(ratings.user, apart), [], []
    for user in apart:
        rows = rng.permutation(np.flatnonzero(ratings.user == user))
        given.append(rows[:GIVEN])
        rest.append(rows[GIVEN:])
    with_given = known.copy()
    with_given[np.concatenate(given)] = True
    items = ratings.items.decode(ratings.item)
    print(f"{'algorithm':<30}{'µs, median':>12}{'p95':>8}   folded in    trained    measure")
    for recipe in RECIPES + RANKERS:
        model = recipe.fit(ratings.take(known), seed=0, progress=False)
        trained = recipe.fit(ratings.take(with_given), seed=0, progress=False)
        seconds, folded_error, trained_error = [], [], []
        model.fold_in({items[0]: ratings.value[0]})  # what all have in common is worked out once
        for user, mine, others in zip(apart, given, rest, strict=True):
            history = dict(zip(items[mine].tolist(), ratings.value[mine].tolist(), strict=True))
            known_of = (
                ratings.user_table.iloc[user].to_dict() if "user_attributes" in fields_of(recipe) else None
            )
            start = time.perf_counter()
            new = model.fold_in(history, attributes=known_of)
            seconds.append(time.perf_counter() - start)
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
        micro = np.array(seconds) * 1e6
        print(
            f"{name_of(recipe):<30}{np.median(micro):>12.0f}{np.quantile(micro, 0.95):>8.0f}"
            f"{values[0]:>12.4f}{values[1]:>11.4f}    {'RMSE' if recipe.task == 'rating' else 'precision@20'}",
            flush=True,
        )


def new_items(ratings: hx.Ratings) -> None:
    apart = np.sort(np.random.default_rng(1).choice(len(ratings.items), NEW_ITEMS, replace=False))
    held, often = np.isin(ratings.item, apart), ratings.item_count >= GIVEN
    users = ratings.users.decode(ratings.user)
    print(f"\n{'new items':<42}{'RMSE':>8}{'often rated':>14}{'seldom':>9}    predicted by")
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
        print(f"{name_of(recipe):<42}{whole:>8.4f}{many:>14.4f}{few:>9.4f}    {by}", flush=True)


if __name__ == "__main__":
    main()
