"""Algorithms (recipes), the loop that fits them, and the one fitted type."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from hatrix.errors import ParameterError

if TYPE_CHECKING:
    from hatrix.models.fit import Algorithm

SEED = 42
"""The default seed of fits, searches, comparisons and evaluations, in Python and on the command line."""

ALGORITHMS = {
    "bias": "hatrix.models.baseline:Bias",
    "mf": "hatrix.models.mf:MF",
    "biased-mf": "hatrix.models.mf:BiasedMF",
    "svdpp": "hatrix.models.svdpp:SVDpp",
    "als": "hatrix.models.als:ALS",
    "bayesian-mf": "hatrix.models.bayesian:BayesianMF",
    "popular": "hatrix.models.baseline:Popular",
    "implicit-als": "hatrix.models.als:ImplicitALS",
    "spectral-mf": "hatrix.models.spectral:SpectralMF",
    "bpr": "hatrix.models.bpr:BPR",
}

COMBINATIONS = {
    "recommender": "hatrix.models.recommender:Recommender",
    "blend": "hatrix.models.blend:Blend",
}
"""Recipes that combine algorithms."""


def algorithm(name: str) -> type[Algorithm]:
    """The recipe of a command-line name."""
    if name not in ALGORITHMS:
        raise ParameterError(f"there is no algorithm {name!r}: choose from {', '.join(ALGORITHMS)}")
    return recipe_type(name)


def recipe_type(name: str) -> type[Algorithm]:
    """Return the recipe of a command-line name, be it of an algorithm or of a combination of several."""
    found = ALGORITHMS | COMBINATIONS
    if name not in found:
        raise ParameterError(f"there is no algorithm {name!r}: choose from {', '.join(found)}")
    module, attribute = found[name].split(":")
    recipe: type[Algorithm] = getattr(import_module(module), attribute)
    return recipe


def is_found_by_name(recipe: Algorithm) -> bool:
    """Return whether a model file can name the recipe, and `recipe_type` then finds it."""
    return recipe.name in ALGORITHMS | COMBINATIONS and recipe_type(recipe.name) is type(recipe)
