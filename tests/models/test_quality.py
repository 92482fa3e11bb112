"""The one table of accepted errors: algorithm, data, interval. An interval, never a single number."""

from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DownloadError

pytestmark = pytest.mark.quality

TABLE = [
    (hx.Bias(), "ml-100k", (0.938, 0.943)),
    (hx.BiasedMF(), "ml-100k", (0.900, 0.9115)),
    (hx.BiasedMF(schedule="adaptive", learning_rate=0.0125), "ml-100k", (0.900, 0.915)),
    (hx.MF(precision="float64", sequential=True), "ml-100k", (0.955, 0.975)),
    (hx.Bias(), "ml-latest-small", (0.865, 0.885)),
    (hx.BiasedMF(), "ml-latest-small", (0.845, 0.868)),
    (hx.BiasedMF(), "ml-1m", (0.833, 0.845)),
    (hx.SVDpp(), "ml-100k", (0.890, 0.905)),
    (hx.SVDpp(), "ml-latest-small", (0.835, 0.850)),
    (hx.SVDpp(), "ml-1m", (0.830, 0.840)),
]


def folds(name: str) -> list[hx.Split]:
    ratings = hx.datasets.load(name, progress=False)
    if name == "ml-100k":
        return [hx.split.official(ratings, fold) for fold in range(1, 6)]
    return [hx.split.random(ratings, 0.1 if name == "ml-1m" else 0.2, seed=1)]


@pytest.mark.parametrize(("recipe", "name", "accepted"), TABLE, ids=lambda x: getattr(x, "name", str(x)))
def test_errors_lie_in_the_accepted_interval(recipe, name, accepted):
    try:
        splits = folds(name)
    except DownloadError as error:
        pytest.skip(f"{name} is not here: {error}")
    rmse = np.mean([hx.evaluate(recipe.fit(s.train), s.test, bootstrap=1).rmse for s in splits])
    assert accepted[0] <= rmse <= accepted[1]


def test_the_notebooks_test_error():
    """The unseeded order of its training rows moved it between 0.9197 and 0.9213; ours is the file's order."""
    try:
        split = hx.split.per_user(hx.datasets.load("ml-100k", progress=False), 0.2, seed=42, draw="notebook")
    except DownloadError as error:
        pytest.skip(f"ml-100k is not here: {error}")
    model = hx.MF(precision="float64", sequential=True).fit(split.train)
    assert 0.919 <= hx.evaluate(model, split.test).raw.mse <= 0.922
    assert model.history.train_mse.iloc[-1] == pytest.approx(0.7059, abs=0.002)
