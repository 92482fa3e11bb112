"""Hyper-parameters that several recipes have in common: type, bounds, help and range for a search, once.

A recipe gives the default: ``decay: Decay = 0.9``.
"""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

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
    "bare",
    "bounds",
    "kinds",
    "words",
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


def bounds(field: FieldInfo) -> dict[str, float]:
    """The bounds of a field's numbers, by their pydantic names."""
    marks = list(field.metadata)
    for number in get_args(field.annotation):  # of a number or a word, the number alone is bounded
        if get_origin(number) is Annotated:
            marks += [mark for info in number.__metadata__ for mark in info.metadata]
    signs = ("ge", "gt", "le", "lt", "multiple_of")
    return {sign: getattr(mark, sign) for sign in signs for mark in marks if hasattr(mark, sign)}


def kinds(field: FieldInfo) -> list[Any]:
    """The types of a field's values, without bounds, words and None."""
    if get_origin(field.annotation) in (Literal, tuple):
        return [field.annotation]
    found = get_args(field.annotation) or (field.annotation,)
    return [kind for kind in map(bare, found) if kind is not NoneType and get_origin(kind) is not Literal]


def bare(kind: Any) -> Any:
    """Return a type without what is annotated to it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def words(field: FieldInfo) -> list[str]:
    """The words that a field takes beside its numbers; ``none`` is None."""
    if get_origin(field.annotation) in (Literal, tuple):
        return []
    found = get_args(field.annotation)
    texts = [word for kind in found if get_origin(kind) is Literal for word in get_args(kind)]
    return texts + ["none"] * (NoneType in found)
