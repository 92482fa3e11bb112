"""Ratings of made-up films, and folders as ``hatrix run`` leaves them, for the tests of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hatrix as hx
from hatrix.app.steps import write_parquet

GENRES = ["Comedy", "Drama", "War", "Musical", "Horror"]
HOSTILE = "<img src=x onerror=window.hit=1>"


def films(n_users: int = 160, n_items: int = 90, *, titles: bool = True, seed: int = 0) -> hx.Ratings:
    """Ratings from one to five in which tastes differ, by ids that are numbers; one title is hostile."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    chance = np.linspace(0.75, 0.08, n_items)
    user, item = np.nonzero(rng.random((n_users, n_items)) < chance)
    level = 3.4 + 0.5 * (taste[user] * kind[item]).sum(axis=1) + rng.normal(0, 0.6, len(user))
    stars = np.clip(np.round(level), 1, 5)
    time = rng.integers(880_000_000, 890_000_000, len(user))
    found = hx.Ratings.from_columns(user + 1, item + 1, stars, time=time, name="films")
    if not titles:
        return found
    table = pd.DataFrame(
        {
            "title": [HOSTILE if n == 3 else f"Film Number {n + 1}" for n in range(len(found.items))],
            "year": [1950 + n % 50 for n in range(len(found.items))],
            "genres": [f"{GENRES[n % 5]}|{GENRES[n % 3]}" for n in range(len(found.items))],
        }
    )
    return replace(found, item_table=table)


def folder(home: Path, recipe: Any, ratings: hx.Ratings) -> Path:
    """A model with its held-out rows, and the path of the model."""
    split = hx.split.per_user(ratings)
    home.mkdir(parents=True, exist_ok=True)
    recipe.fit(split.train, progress=False).save(home / "model.hatrix")
    write_parquet(split.test.to_frame(), home / "test.parquet")
    return home / "model.hatrix"
