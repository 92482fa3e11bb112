"""The quick way of plain requests for lists gives what the application's own route gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.app.batches import Asked
from hatrix.app.service import create_app
from hatrix.models import algorithm
from served import Client

ITEMS = 30
TABLE = pd.DataFrame(
    {
        "title": [None if item % 5 == 0 else f"é {item}" for item in range(ITEMS)],
        "year": [np.nan if item % 7 == 0 else 1950.0 + item for item in range(ITEMS)],
        "when": pd.to_datetime(["1999-01-01"] * (ITEMS - 1) + [None]),
        "flag": [bool(item % 2) for item in range(ITEMS)],
        "n": pd.array([None if item % 3 else item for item in range(ITEMS)], "Int64"),
    }
)


@pytest.mark.parametrize("name", ["als", "bpr", "bayesian-mf", "popular", "bias"])
def test_both_ways_say_the_same(name):
    ratings = hx.synthetic.make(50, ITEMS, n_ratings=700, seed=2)[0]
    recipe = algorithm(name)(**({} if name in ("bias", "popular") else {"factors": 4}))
    app = create_app(recipe.fit(replace(ratings, item_table=TABLE), progress=False))
    client = Client(app)
    for user in (1, 50, 999):
        for n in (1, 10, 40):
            quick = app.state.service.batches.answer([Asked(user, n)])[0]
            slow = client.request("GET", f"/v1/recommendations?user={user}&n={n}&explain=false")
            assert slow.status_code == 200
            assert json.loads(quick) == slow.json()
