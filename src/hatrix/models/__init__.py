"""Algorithms (recipes), the loop that fits them, and the one fitted type."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hatrix.errors import ParameterError

if TYPE_CHECKING:
    from hatrix.models.fit import Algorithm

ALGORITHMS = {
    "bias": "hatrix.models.baseline:Bias",
    "als": "hatrix.models.als:ALS",
    "implicit-als": "hatrix.models.als:ImplicitALS",
    "bpr": "hatrix.models.bpr:BPR",
    "popular": "hatrix.models.baseline:Popular",
    "mf": "hatrix.models.mf:MF",
    "biased-mf": "hatrix.models.mf:BiasedMF",
    "svdpp": "hatrix.models.svdpp:SVDpp",
    "spectral-mf": "hatrix.models.spectral:SpectralMF",
    "bayesian-mf": "hatrix.models.bayesian:BayesianMF",
}


def algorithm(name: str) -> type[Algorithm]:
    """The recipe of a command-line name."""
    if name not in ALGORITHMS:
        raise ParameterError(f"there is no algorithm {name!r}: choose from {', '.join(ALGORITHMS)}")
    module, attribute = ALGORITHMS[name].split(":")
    recipe: type[Algorithm] = getattr(import_module(module), attribute)
    return recipe
