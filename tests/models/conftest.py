"""Models that several tests of a module ask, each fitted once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import hatrix as hx
from hatrix.models import algorithm


@pytest.fixture(scope="module")
def fitted(request: pytest.FixtureRequest, ratings: hx.Ratings) -> Callable[..., hx.FactorModel]:
    """A model of the module's ``ratings`` by an algorithm's name, with the module's ``SMALL`` settings and changes."""
    kept: dict[tuple[object, ...], hx.FactorModel] = {}

    def fit(name: str, **changes: object) -> hx.FactorModel:
        key = name, *changes.items()
        if key not in kept:
            kept[key] = algorithm(name)(**(request.module.SMALL[name] | changes)).fit(ratings, seed=3)
        return kept[key]

    return fit
