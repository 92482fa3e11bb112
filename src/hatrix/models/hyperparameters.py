"""Hyper-parameters that several recipes have in common: type, bounds, help and range for a search, once.

A recipe gives the default: ``decay: Decay = 0.9``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

__all__ = [
    "BiasRegularization",
    "Decay",
    "FactorCount",
    "FrequencyScaling",
    "InitScale",
    "LearningRate",
    "Passes",
    "Patience",
    "Precision",
    "Sweeps",
]

FactorCount = Annotated[
    int,
    Field(
        ge=1,
        le=4096,
        description="latent factors per user and item",
        json_schema_extra={"tune": [8, 256, "log"]},
    ),
]
Passes = Annotated[int, Field(ge=1, le=100_000, description="passes over the training ratings")]
Sweeps = Annotated[int, Field(ge=1, le=100_000, description="sweeps over users and items")]
LearningRate = Annotated[
    float,
    Field(
        gt=0,
        le=10,
        description="step size of the first epoch",
        json_schema_extra={"tune": [1e-3, 0.2, "log"]},
    ),
]
Decay = Annotated[
    float, Field(gt=0, le=1, description="factor on the learning rate after each epoch (schedule decay)")
]
BiasRegularization = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        description="weight of the squared biases",
        json_schema_extra={"tune": [0.001, 0.2, "log"]},
    ),
]
FrequencyScaling = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="how much less often-rated rows are penalised per rating: 0 not, 1 in full",
    ),
]
InitScale = Annotated[
    float, Field(gt=0, le=100, description="standard deviation at the start, times √factors")
]
Patience = Annotated[
    int | None, Field(ge=1, description="stop after so many epochs without a better validation")
]
Precision = Annotated[Literal["float32", "float64"], Field(description="number type of the factors")]
