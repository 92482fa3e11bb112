"""hatrix, the R̂ matrix: a matrix-factorization recommender.

Public names load on first use, so ``import hatrix`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatrix.data import datasets, split, synthetic
    from hatrix.data.ids import Ids
    from hatrix.data.ratings import Ratings
    from hatrix.data.read import read
    from hatrix.data.split import Split
    from hatrix.errors import HatrixError
    from hatrix.evaluation.compare import compare
    from hatrix.evaluation.comparison import Comparison
    from hatrix.evaluation.convergence import convergence
    from hatrix.evaluation.evaluate import Evaluation, evaluate
    from hatrix.evaluation.folds import CrossValidation, cross_validate
    from hatrix.evaluation.ranking import RankingEvaluation, evaluate_ranking
    from hatrix.evaluation.tune import Tuning, tune
    from hatrix.models.als import ALS, ImplicitALS
    from hatrix.models.artifact import load
    from hatrix.models.baseline import Bias, Popular
    from hatrix.models.bayesian import BayesianMF
    from hatrix.models.blend import Blend
    from hatrix.models.bpr import BPR
    from hatrix.models.fit import Checkpoint
    from hatrix.models.imported import from_implicit, from_surprise
    from hatrix.models.mf import MF, BiasedMF
    from hatrix.models.model import FactorModel
    from hatrix.models.recommender import Recommender
    from hatrix.models.spectral import SpectralMF
    from hatrix.models.svdpp import SVDpp

__version__ = "0.1.0"

__all__ = [
    "ALS",
    "BPR",
    "MF",
    "BayesianMF",
    "Bias",
    "BiasedMF",
    "Blend",
    "Checkpoint",
    "Comparison",
    "CrossValidation",
    "Evaluation",
    "FactorModel",
    "HatrixError",
    "Ids",
    "ImplicitALS",
    "Popular",
    "RankingEvaluation",
    "Ratings",
    "Recommender",
    "SVDpp",
    "SpectralMF",
    "Split",
    "Tuning",
    "__version__",
    "compare",
    "convergence",
    "cross_validate",
    "datasets",
    "evaluate",
    "evaluate_ranking",
    "from_implicit",
    "from_surprise",
    "load",
    "read",
    "split",
    "synthetic",
    "tune",
]

_HOME = {
    "BPR": "hatrix.models.bpr:BPR",
    "ALS": "hatrix.models.als:ALS",
    "ImplicitALS": "hatrix.models.als:ImplicitALS",
    "BayesianMF": "hatrix.models.bayesian:BayesianMF",
    "MF": "hatrix.models.mf:MF",
    "Bias": "hatrix.models.baseline:Bias",
    "BiasedMF": "hatrix.models.mf:BiasedMF",
    "Blend": "hatrix.models.blend:Blend",
    "Checkpoint": "hatrix.models.fit:Checkpoint",
    "Comparison": "hatrix.evaluation.comparison:Comparison",
    "CrossValidation": "hatrix.evaluation.folds:CrossValidation",
    "Evaluation": "hatrix.evaluation.evaluate:Evaluation",
    "FactorModel": "hatrix.models.model:FactorModel",
    "HatrixError": "hatrix.errors:HatrixError",
    "Ids": "hatrix.data.ids:Ids",
    "Popular": "hatrix.models.baseline:Popular",
    "RankingEvaluation": "hatrix.evaluation.ranking:RankingEvaluation",
    "Ratings": "hatrix.data.ratings:Ratings",
    "Recommender": "hatrix.models.recommender:Recommender",
    "SVDpp": "hatrix.models.svdpp:SVDpp",
    "SpectralMF": "hatrix.models.spectral:SpectralMF",
    "Split": "hatrix.data.split:Split",
    "Tuning": "hatrix.evaluation.tune:Tuning",
    "compare": "hatrix.evaluation.compare:compare",
    "convergence": "hatrix.evaluation.convergence:convergence",
    "cross_validate": "hatrix.evaluation.folds:cross_validate",
    "datasets": "hatrix.data.datasets",
    "evaluate": "hatrix.evaluation.evaluate:evaluate",
    "evaluate_ranking": "hatrix.evaluation.ranking:evaluate_ranking",
    "from_implicit": "hatrix.models.imported:from_implicit",
    "from_surprise": "hatrix.models.imported:from_surprise",
    "load": "hatrix.models.artifact:load",
    "read": "hatrix.data.read:read",
    "split": "hatrix.data.split",
    "synthetic": "hatrix.data.synthetic",
    "tune": "hatrix.evaluation.tune:tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hatrix' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return __all__
