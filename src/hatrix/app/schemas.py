"""What requests carry and what replies look like: the schemas of ``/openapi.json``.

Requests are checked against them. Replies are written from plain numbers and are not checked on their way out, since that
would cost more than finding them; the tests hold them against these schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "MOST_LISTED",
    "MOST_N",
    "MOST_PAIRS",
    "MOST_RATINGS",
    "Card",
    "Explanation",
    "Feedback",
    "FeedbackRequest",
    "Forgotten",
    "ItemPage",
    "Items",
    "Neighbours",
    "Predictions",
    "PredictionsRequest",
    "Problem",
    "Recommendations",
    "Reloaded",
    "Screen",
    "Stored",
    "UserPage",
    "Users",
    "VisitorExplanationRequest",
    "VisitorRequest",
]

MOST_N = 1_000
MOST_PAIRS = 10_000
MOST_RATINGS = 1_000
MOST_LISTED = 10_000
LONGEST_WHERE = 1_000
LONGEST_ID = 500
"""Characters; of four bytes each, what an index entry of PostgreSQL can hold."""
LATEST = 253_402_300_799
"""The last second of the year 9999."""


def _whole(value: Any) -> Any:
    """JSON does not tell 7.0 from 7."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Length = Annotated[int, Field(ge=1, le=MOST_N), BeforeValidator(_whole)]
Id = Annotated[
    int | str, BeforeValidator(_whole), Field(description="As in the data: a whole number or a text.")
]
Basis = Literal["model", "fold-in", "bias", "popularity", "prior"]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Seconds = Annotated[int, Field(ge=0, le=LATEST, description="Seconds since 1970."), BeforeValidator(_whole)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class _Reply(BaseModel):
    model: str = Field(description="Version of the model that the reply is from.")


class Rating(_Request):
    """A rating on the scale of the training ratings, or a count for models of clicks."""

    item: Id
    rating: float


class TimedRating(Rating):
    """A rating with the time it was made, by default now."""

    time: Seconds | None = None


class VisitorRequest(_Request):
    """Who is unknown and tells a few ratings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ratings": [{"item": 50, "rating": 5}], "n": 10}]}
    )

    ratings: list[Rating] = Field(max_length=MOST_RATINGS)
    n: Length = 10
    where: str | None = Field(default=None, max_length=LONGEST_WHERE)
    among: list[Id] | None = Field(default=None, max_length=MOST_LISTED)
    exclude: list[Id] | None = Field(default=None, max_length=MOST_LISTED)
    exclude_seen: bool = True
    risk: Share | None = None
    interval: Share | None = None
    explain: bool = False


class Pair(_Request):
    """A user and an item."""

    user: Id
    item: Id
    time: Seconds | None = None


class PredictionsRequest(_Request):
    """Pairs to predict."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pairs": [{"user": 1, "item": 50}]}]})

    pairs: list[Pair] = Field(max_length=MOST_PAIRS)
    interval: Share | None = None


class VisitorExplanationRequest(_Request):
    """Why an item has its score for a visitor with these ratings."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ratings": [{"item": 50, "rating": 5}], "item": 181}]}
    )

    ratings: list[Rating] = Field(max_length=MOST_RATINGS)
    item: Id
    n: Length = 10
    removals: Annotated[int, Field(ge=0, le=10), BeforeValidator(_whole)] = 3
    top: Length = 50


class FeedbackRequest(_Request):
    """Ratings of a user, to be kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": 1, "ratings": [{"item": 50, "rating": 5}]}]}
    )

    user: Id
    ratings: list[TimedRating] = Field(min_length=1, max_length=MOST_RATINGS)


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str = Field(description="A sentence for people.")
    code: str = Field(description="Stable, for programs.")


class _Shown(BaseModel):
    """An item with what the item table has of it."""

    item: Id
    title: str | None = None
    attributes: dict[str, Any] | None = None


class Reason(BaseModel):
    """A rating that speaks for an item, by what it adds to the score."""

    item: Id
    title: str | None = None
    rating: float
    contribution: float


class Recommended(_Shown):
    """An item of a list."""

    score: float = Field(description="What the list is ordered by.")
    rating: float | None = Field(None, description="The predicted rating, of models that predict ratings.")
    low: float | None = None
    high: float | None = None
    because: list[Reason] | None = None


class Recommendations(_Reply):
    """The best items of a user, best first."""

    user: Id | None = Field(description="None for a visitor.")
    basis: Basis = Field(
        description="`model`: the user's row. `fold-in`: their training ratings and feedback since. Otherwise nothing "
        "is known of them, and the list is by item biases, popularity, or the prior of the model."
    )
    items: list[Recommended]
    short: str | None = Field(description="Why there are fewer than n.")
    warnings: list[str]


class Prediction(BaseModel):
    """A pair with what the model predicts."""

    user: Id
    item: Id
    prediction: float = Field(description="The rating, within the scale; the score, of a model of rankings.")
    basis: Literal["model", "fold-in", "fallback"] = Field(
        description="`fallback`: the user or the item is unknown or has no ratings."
    )
    low: float | None = None
    high: float | None = None


class Predictions(_Reply):
    """Predictions in the order of the pairs."""

    predictions: list[Prediction]
    warnings: list[str]


class Neighbour(BaseModel):
    """What resembles something, and how much."""

    item: Id | None = None
    user: Id | None = None
    score: float
    title: str | None = None
    attributes: dict[str, Any] | None = None


class Neighbours(_Reply):
    """The nearest, nearest first."""

    item: Id | None = None
    user: Id | None = None
    metric: Literal["cosine", "dot"]
    items: list[Neighbour] | None = None
    users: list[Neighbour] | None = None
    short: str | None


class Part(BaseModel):
    """A part of a score."""

    part: str = Field(
        description="`mean`, `item bias`, `user bias`, `average user`, `rating`, `other ratings` or `rest`."
    )
    item: Id | None = None
    title: str | None = None
    rating: float | None = None
    contribution: float


class Without(BaseModel):
    """What becomes of an item without the ratings that carry it."""

    items: list[Id]
    score: float
    rank: int
    leaves: bool


class Explanation(_Reply):
    """Why an item has its score: parts that add up to it."""

    user: Id | None
    item: Id
    title: str | None = None
    basis: Basis
    score: float
    rank: int = Field(
        description="Among what the user has not rated; of an item that is rated, the rank it would have."
    )
    seen: bool = Field(description="Whether the user has rated the item, so that it is in no list.")
    fit: float | None = Field(
        description="Share of how the user's factors tell items apart that the ratings account for."
    )
    parts: list[Part]
    without: Without | None
    warnings: list[str]


class Listed(_Shown):
    """An item of the catalogue."""

    ratings: int = Field(description="Training ratings.")


class Items(_Reply):
    """Items found, popular ones first."""

    total: int
    offset: int
    items: list[Listed]


class ItemPage(_Reply, _Shown):
    """What is known of an item."""

    ratings: int
    rank: int = Field(description="By number of training ratings, from 1.")
    bias: float | None = Field(description="None of models without item biases.")
    mean: float | None = Field(description="Of its training ratings, where the model has them.")


class Active(BaseModel):
    """A user found."""

    user: Id
    ratings: int = Field(description="Training ratings and feedback, an item once.")


class Users(_Reply):
    """Users found, active ones first."""

    total: int
    offset: int
    users: list[Active]


class Rated(_Shown):
    """A rating of a user."""

    rating: float
    source: Literal["training", "feedback"]


class UserPage(_Reply):
    """What is known of a user."""

    user: Id
    basis: Basis
    ratings: int | None = Field(
        description="Training ratings and feedback, an item once; None where the model has no training rows."
    )
    bias: float | None
    mean: float | None
    attributes: dict[str, Any] | None = None
    history: list[Rated] = Field(description="Highest first.")
    total: int = Field(description="Length of the history, of which this may be the beginning.")
    warnings: list[str]


class Update(BaseModel):
    """How far `update` has carried the model from its last fit."""

    fitted: int
    added: int
    share: float
    error: float | None
    baseline: float | None
    due: str | None


class Attribute(BaseModel):
    """A column of the item table, for `where`."""

    name: str
    type: str
    values: list[Any] | None = Field(description="All that occur, if they are few.")


class Card(_Reply):
    """The model card."""

    algorithm: str
    task: Literal["rating", "ranking"]
    hyperparameters: dict[str, Any]
    seed: int
    data: str
    users: int
    items: int
    ratings: int
    factors: int
    draws: int | None
    density: float
    mean: float
    scale: tuple[float, float] | None
    levels: list[float] | None = Field(description="The ratings that occur, if they are few.")
    user_ids: Literal["int", "str"]
    item_ids: Literal["int", "str"]
    has_titles: bool
    has_attributes: bool
    has_seen: bool
    has_factors: bool
    predicts_ratings: bool
    has_intervals: bool
    has_time: bool
    calibrated: bool
    attributes: list[Attribute]
    history: list[dict[str, Any]]
    drift: Update | None
    notes: list[str]
    feedback: bool = Field(description="Whether the service keeps feedback.")
    loaded: str
    hatrix: str


class Stored(_Reply):
    """Ratings that were stored, durably."""

    user: Id
    accepted: int
    sequence: int
    warnings: list[str]


class Kept(BaseModel):
    """The latest rating of an item."""

    item: Id
    title: str | None = None
    rating: float
    time: int | None
    sequence: int


class Feedback(_Reply):
    """The feedback of a user since their last deletion, in the order it came in."""

    user: Id
    ratings: list[Kept]


class Forgotten(_Reply):
    """A user whose feedback was deleted, and whose training ratings are left out of account."""

    user: Id
    sequence: int


class Reloaded(_Reply):
    """What reloading came to."""

    changed: bool


class Screen(_Reply):
    """What a screen of the page shows: fields that may change with the page."""

    model_config = ConfigDict(extra="allow")
