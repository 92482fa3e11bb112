from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx


@pytest.fixture(scope="module")
def split() -> hx.Split:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 90, 4000), rng.integers(0, 50, 4000)
    level = rng.normal(size=90)[user] * 0.5 + rng.normal(size=50)[item] * 0.5
    stars = np.clip(np.round(3.5 + level + rng.normal(0, 0.7, 4000)), 1, 5)
    ratings = hx.Ratings.from_columns(user, item, stars, time=rng.integers(8e8, 9e8, 4000))
    items = len(ratings.items)
    table = pd.DataFrame(
        {
            "title": [f"Film {n}" if n else None for n in range(items)],
            "year": pd.array([1950 + n if n % 7 else None for n in range(items)], "Int64"),
            "genres": [["Comedy", "Comedy|War", None, ""][n % 4] for n in range(items)],
        }
    )
    return hx.split.per_user(replace(ratings, item_table=table))


@pytest.fixture(scope="module")
def model(split) -> hx.FactorModel:
    return hx.BiasedMF(factors=8).fit(split.train)


@pytest.fixture(scope="module")
def result(model, split) -> hx.Evaluation:
    return hx.evaluate(model, split.test)
