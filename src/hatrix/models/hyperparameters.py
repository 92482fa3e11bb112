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
    "ItemDamping",
    "LearningRate",
    "Passes",
    "Patience",
    "Precision",
    "Start",
    "Sweeps",
    "Unit",
    "UserDamping",
    "bare",
    "bounds",
    "kinds",
    "words",
]

FactorCount = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1, le=4096)],
    Field(
        description="latent factors per user and item; auto leaves them out if a trial finds that they do not help",
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
    Annotated[float, Field(ge=0, le=100)] | None,
    Field(description="weight of the squared biases, per rating; none for a damping of users and items"),
]
UserDamping = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=0, le=1e9)],
    Field(
        description="ratings' worth of pull towards zero on a user's bias; auto is worked out from the ratings"
    ),
]
ItemDamping = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=0, le=1e9)],
    Field(
        description="ratings' worth of pull towards zero on an item's bias; auto is worked out from the ratings"
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
Start = Annotated[
    Literal["auto"] | Annotated[float, Field(ge=0, le=100)],
    Field(description="standard deviation at the start, times √factors; with 0, factors stay at zero"),
]
InitScale = Annotated[
    float, Field(gt=0, le=100, description="standard deviation at the start, times √factors")
]
Patience = Annotated[
    int | None, Field(ge=1, description="stop after so many epochs without a better validation")
]
Unit = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0, le=1e32)],
    Field(description="what ratings are divided by in training; auto is their standard deviation"),
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
