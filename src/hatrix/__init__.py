"""hatrix, the R̂ matrix: a matrix-factorization recommender.

Public names load on first use, so ``import hatrix`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Ratings": "hatrix.data.ratings:Ratings",
    "Ids": "hatrix.data.ids:Ids",
    "read": "hatrix.data.read:read",
    "datasets": "hatrix.data.datasets",
    "split": "hatrix.data.split",
    "synthetic": "hatrix.data.synthetic",
    "Split": "hatrix.data.split:Split",
    "Bias": "hatrix.models.baseline:Bias",
    "MF": "hatrix.models.mf:MF",
    "BiasedMF": "hatrix.models.mf:BiasedMF",
    "Checkpoint": "hatrix.models.fit:Checkpoint",
    "FactorModel": "hatrix.models.model:FactorModel",
    "load": "hatrix.models.artifact:load",
    "evaluate": "hatrix.evaluation.evaluate:evaluate",
    "Evaluation": "hatrix.evaluation.evaluate:Evaluation",
    "HatrixError": "hatrix.errors:HatrixError",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    pass


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hatrix' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
