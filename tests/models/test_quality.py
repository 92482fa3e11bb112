"""The one table of accepted errors: algorithm, data, interval. Each is an interval, never a single number."""

from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx

pytestmark = [pytest.mark.quality, pytest.mark.campaign]

SMALL, LARGE = pytest.mark.data("ml-latest-small"), pytest.mark.data("ml-1m")
TABLE = [
    (hx.Bias(), "ml-100k", (0.938, 0.943)),
    (hx.BiasedMF(), "ml-100k", (0.900, 0.9115)),
    (hx.BiasedMF(schedule="adaptive", learning_rate=0.0125), "ml-100k", (0.900, 0.915)),
    (hx.MF(precision="float64", sequential=True), "ml-100k", (0.955, 0.975)),
    pytest.param(hx.Bias(), "ml-latest-small", (0.865, 0.885), marks=SMALL),
    pytest.param(hx.BiasedMF(), "ml-latest-small", (0.845, 0.868), marks=SMALL),
    pytest.param(hx.BiasedMF(), "ml-1m", (0.833, 0.845), marks=LARGE),
    (hx.SVDpp(), "ml-100k", (0.890, 0.905)),
    pytest.param(hx.SVDpp(), "ml-latest-small", (0.835, 0.850), marks=SMALL),
    pytest.param(hx.SVDpp(), "ml-1m", (0.830, 0.840), marks=LARGE),
]


def folds(name: str, request: pytest.FixtureRequest) -> list[hx.Split]:
    if name == "ml-100k":
        return [hx.split.official(request.getfixturevalue("ml_100k"), fold) for fold in range(1, 6)]
    ratings = hx.datasets.load(name, progress=False)
    return [hx.split.random(ratings, 0.1 if name == "ml-1m" else 0.2, seed=1)]


@pytest.mark.parametrize(("recipe", "name", "accepted"), TABLE, ids=lambda x: getattr(x, "name", str(x)))
def test_errors_lie_in_the_accepted_interval(recipe, name, accepted, request):
    splits = folds(name, request)
    rmse = np.mean([hx.evaluate(recipe.fit(s.train), s.test, bootstrap=1).rmse for s in splits])
    assert accepted[0] <= rmse <= accepted[1]


def test_the_notebooks_test_error(ml_100k):
    """The unseeded order of its training rows moved it between 0.9197 and 0.9213; ours is the file's order."""
    split = hx.split.per_user(ml_100k, 0.2, seed=42, draw="notebook")
    model = hx.MF(precision="float64", sequential=True).fit(split.train)
    assert 0.919 <= hx.evaluate(model, split.test).raw.mse <= 0.922
    assert model.history.train_mse.iloc[-1] == pytest.approx(0.7059, abs=0.002)
