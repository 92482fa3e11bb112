"""What the model knows: items, users, what resembles them, and the model itself."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Response

import hatrix
from hatrix.app import schemas
from hatrix.app.asking import Ask, Asked, Item, User, known_parameters, shown
from hatrix.app.personal import user_of
from hatrix.app.problems import Problem, responses
from hatrix.app.schemas import MOST_N
from hatrix.app.shelf import folded, plain
from hatrix.models.recommend import basis_of
from hatrix.models.similar import similar

if TYPE_CHECKING:
    from hatrix.app.feedback import Feedback

__all__ = ["router"]

LONGEST_TEXT = 500

router = APIRouter(prefix="/v1", tags=["catalogue"], dependencies=[Depends(known_parameters)])

Length = Annotated[int, Query(ge=1, le=MOST_N)]
Text = Annotated[str, Query(max_length=LONGEST_TEXT)]
Offset = Annotated[int, Query(ge=0, le=10**9)]
Metric = Annotated[
    Literal["cosine", "dot"],
    Query(description="Compare the direction of factors, or their product, which favours large ones."),
]


@router.get("/items", response_model=schemas.Items, responses=responses(), summary="Search items")
def items(ask: Asked, q: Text = "", n: Length = 20, offset: Offset = 0) -> Response:
    """Items whose title has all words of `q` (without titles: whose id has them), popular ones first."""
    shelf = ask.shelf
    found = shelf.find_items(q) if q.strip() else shelf.popular.tolist()
    rows = found[offset : offset + n]
    counts = ask.model.item_count[rows].tolist()
    listed = [{**shelf.item(row), "ratings": count} for row, count in zip(rows, counts, strict=True)]
    return ask.reply({"total": len(found), "offset": offset, "items": listed})


@router.get("/item", response_model=schemas.ItemPage, responses=responses(404), summary="An item")
def item(ask: Asked, item: Item) -> Response:
    """An item: its attributes, and how many ratings it has."""
    row = ask.item_row(item)
    model, shelf, seen = ask.model, ask.shelf, ask.model.seen
    values = None if seen is None else seen.value[seen.item == row]
    return ask.reply(
        {
            **shelf.item(row),
            "ratings": int(model.item_count[row]),
            "rank": int(shelf.place[row]) + 1,
            "bias": float(model.flat.item_bias[row]) if model.item_bias.any() else None,
            "mean": None if values is None or not len(values) else float(values.mean()),
        }
    )


@router.get(
    "/similar-items",
    response_model=schemas.Neighbours,
    responses=responses(404),
    summary="Items that resemble an item",
)
def similar_items(ask: Asked, item: Item, n: Length = 10, metric: Metric = "cosine") -> Response:
    """The items that resemble an item."""
    row = ask.item_row(item)
    shelf, label = ask.shelf, ask.shelf.item_labels[row]
    rows, scores, short = _similar(ask, "item", row, label, n, metric)
    found = [{**shelf.item(other), "score": score} for other, score in zip(rows, scores, strict=True)]
    return ask.reply({"item": label, "metric": metric, "items": found, "short": short})


@router.get(
    "/similar-users",
    response_model=schemas.Neighbours,
    responses=responses(404),
    summary="Users that resemble a user",
)
def similar_users(ask: Asked, user: User, n: Length = 10, metric: Metric = "cosine") -> Response:
    """The users that resemble a user, by what the model was trained on."""
    person = user_of(ask, user)
    if person.trained < 0:
        raise Problem(404, "unknown-user", f"the model knows no user {shown(user)}")
    rows, scores, short = _similar(ask, "user", person.trained, person.label, n, metric)
    labels = ask.model.users.decode(rows).tolist()
    found = [
        {"user": label, "score": score}
        for label, score in zip(labels, scores, strict=True)
        if ask.feedback is None or not ask.feedback.deleted(label)
    ]
    if len(found) < len(rows):
        short = f"{len(found)} of {n}: users who were deleted are left out"
    return ask.reply({"user": person.label, "metric": metric, "users": found, "short": short})


def _similar(
    ask: Ask, side: Literal["item", "user"], row: int, label: Any, n: int, metric: str
) -> tuple[list[int], list[float], str | None]:
    """Rows and scores of the nearest, and why they are fewer than n."""
    model = ask.model
    ids, factors = (model.items, model.item_factors) if side == "item" else (model.users, model.user_factors)
    if not factors.shape[1]:
        raise Problem(
            422, "unsupported", f"a {model.recipe.name} model has no factors, so no {side} resembles another"
        )
    if not factors[row].any():
        return (
            [],
            [],
            f"0 of {n}: the {side} has no training ratings, so it is not known which {side}s resemble it",
        )
    frame = similar(model, side, label, n, metric)
    short: dict[Any, str] = frame.attrs["short"]
    return (
        ids.encode(frame[side].to_numpy()).tolist(),
        frame["score"].tolist(),
        next(iter(short.values()), None),
    )


@router.get("/users", response_model=schemas.Users, responses=responses(), summary="Search users")
def users(ask: Asked, q: Text = "", n: Length = 20, offset: Offset = 0) -> Response:
    """Return users whose id contains `q`, the most active first. New feedback and its new users count at once."""
    shelf, model, feedback = ask.shelf, ask.model, ask.feedback
    rows = shelf.find_users(q) if q.strip() else shelf.active.tolist()
    new: list[Any] = []
    if feedback is not None:
        gone = set(model.users.encode(feedback.deletions).tolist()) if feedback.deletions else set()
        rows = [row for row in rows if row not in gone] if gone else rows
        new = _new_users(ask, feedback, q)
    known = ((int(model.user_count[row]), plain(model.users.labels[row]), row) for row in rows)
    fresh = sorted(((_size(ask, label), label, -1) for label in new), key=lambda one: -one[0])
    exact = q.strip()
    merged = heapq.merge(fresh, known, key=lambda one: -math.inf if str(one[1]) == exact else -one[0])
    users = [
        {"user": label, "ratings": count + (_size(ask, label, row) if row >= 0 else 0)}
        for count, label, row in itertools.islice(merged, offset, offset + n)
    ]
    return ask.reply({"total": len(new) + len(rows), "offset": offset, "users": users})


def _new_users(ask: Ask, feedback: Feedback, q: str) -> list[Any]:
    """Return users that only the feedback has and whose id contains all words of `q`."""
    words = folded(q).split()
    labels = [label for label in feedback.users if all(word in folded(str(label)) for word in words)]
    rows = ask.model.users.encode(labels).tolist() if labels else []
    return [label for label, row in zip(labels, rows, strict=True) if row < 0 or feedback.deleted(label)]


def _size(ask: Ask, label: Any, row: int = -1) -> int:
    """Count the items of the model that a user rated only in the feedback; ``row`` is the user's training row, if any."""
    new = None if ask.feedback is None else ask.feedback.of(label)
    if not new:
        return 0
    items = ask.model.items.encode(list(new))
    items = items[items >= 0]
    if row < 0 or ask.model.seen is None:
        return len(items)
    return int(np.count_nonzero(~np.isin(items, ask.model.seen.item[ask.model.seen.of(row)])))


@router.get("/user", response_model=schemas.UserPage, responses=responses(404), summary="A user")
def user(
    ask: Asked, user: User, n: Annotated[int, Query(ge=1, le=MOST_N, description="Ratings shown.")] = 100
) -> Response:
    """A user: what they have rated, in training and since."""
    person, shelf = user_of(ask, user), ask.shelf
    model, row = person.model, person.row
    if row < 0 and not person.new:
        raise Problem(404, "unknown-user", f"neither the model nor the feedback knows a user {shown(user)}")
    rated: dict[int, tuple[float, str]] = {}
    if row >= 0 and model.seen is not None:
        rows = model.seen.of(row)
        values = zip(model.seen.item[rows].tolist(), model.seen.value[rows].tolist(), strict=True)
        rated = {item: (value, "training") for item, value in values}
    known = ask.model.items.encode(list(person.new)).tolist() if person.new else []
    for item, value in zip(known, person.new.values(), strict=True):
        if item >= 0:  # a folded-in row counts the ratings of training and of the feedback together
            rated[item] = (rated[item][0] if person.folded else value), "feedback"
    order = sorted(rated, key=lambda item: (-rated[item][0], shelf.place[item]))
    history = [{**shelf.item(item), "rating": rated[item][0], "source": rated[item][1]} for item in order[:n]]
    attributes = {}
    if person.trained >= 0 and shelf.of_users:
        of_user = {name: column[person.trained] for name, column in shelf.of_users.items()}
        attributes = {"attributes": of_user}
    return ask.reply(
        {
            "user": person.label,
            "basis": person.basis(basis_of(model, row)),
            "ratings": len(rated) if model.seen is not None else None,
            "bias": float(model.flat.user_bias[row]) if row >= 0 and model.user_bias.any() else None,
            "mean": float(np.mean([value for value, _ in rated.values()])) if rated else None,
            **attributes,
            "history": history,
            "total": len(rated),
            "warnings": person.warnings,
        }
    )


@router.get("/model", response_model=schemas.Card, responses=responses(), summary="The model card")
def model(ask: Asked) -> Response:
    """The model card: what was trained, on how much, and what the model can do."""
    model, shelf = ask.model, ask.shelf
    n_ratings = int(model.user_count.sum())
    draws = model.user_bias.shape[1] if model.posterior is not None else None
    drift, predictor = model.drift, model.rating_model or model
    records = model.history.to_dict("records")
    return ask.reply(
        {
            "algorithm": model.recipe.name,
            "task": model.task,
            "hyperparameters": model.recipe.model_dump(mode="json"),
            "seed": model.seed,
            "data": model.data_name,
            "users": len(model.users),
            "items": len(model.items),
            "ratings": n_ratings,
            "factors": model.user_factors.shape[1] // (draws or 1),
            "draws": draws,
            "density": n_ratings / max(1, len(model.users) * len(model.items)),
            "mean": model.fallback,
            "scale": model.scale,
            "levels": shelf.levels,
            "user_ids": model.users.kind,
            "item_ids": model.items.kind,
            "has_titles": shelf.titles is not None,
            "has_attributes": bool(shelf.attributes),
            "has_seen": model.seen is not None,
            "has_factors": bool(model.user_factors.shape[1]),
            "predicts_ratings": model.rating_model is not None,
            "has_intervals": model.has_intervals,
            "has_time": predictor.time is not None,
            "calibrated": predictor.posterior is not None and bool(len(predictor.posterior.calibration)),
            "attributes": shelf.filters,
            "history": [{str(name): plain(value) for name, value in record.items()} for record in records],
            "drift": None if drift is None else {**drift._asdict(), "share": drift.share, "due": drift.due},
            "notes": list(model.notes),
            "feedback": ask.service.store is not None,
            "loaded": ask.served.loaded.isoformat(),
            "hatrix": hatrix.__version__,
        }
    )
