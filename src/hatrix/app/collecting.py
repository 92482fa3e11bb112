"""Feedback, and the file of the model read again: what changes what is served."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request, Response

from hatrix.app import schemas
from hatrix.app.asking import (
    Ask,
    Asked,
    User,
    answer,
    answered,
    known_parameters,
    may_administer,
    may_write,
    new_label,
    takes,
)
from hatrix.app.personal import checked_rating
from hatrix.app.problems import Problem, responses, without_places
from hatrix.app.schemas import FeedbackRequest
from hatrix.errors import HatrixError

if TYPE_CHECKING:
    from hatrix.app.feedback import Feedback

__all__ = ["router"]

router = APIRouter(prefix="/v1", dependencies=[Depends(known_parameters)])
log = logging.getLogger("hatrix.serve")
WRITES = responses(401, 403, 409, 413, 415)
SECURED: dict[str, Any] = {"security": [{}, {"token": []}]}


@router.post(
    "/feedback",
    response_model=schemas.Stored,
    status_code=201,
    responses=WRITES,
    openapi_extra=takes(FeedbackRequest) | SECURED,
    dependencies=[Depends(may_write)],
    tags=["feedback"],
    summary="Store ratings",
)
async def give(request: Request) -> Response:
    """Store ratings of a user, who may be new. They are on disk when this replies, and count from the next request on.

    A rating of an item takes the place of an earlier one.
    """
    return await answered(request, FeedbackRequest, _give, request.app.state.service.writers)


def _give(ask: Ask, body: FeedbackRequest) -> Response:
    feedback, model = _feedback(ask), ask.model
    user = new_label(model.users, body.user, "user")
    now = int(time.time())
    rows = []
    for rating in body.ratings:
        item = new_label(model.items, rating.item, "item")
        checked_rating(model, item, rating.rating)
        rows.append((item, rating.rating, now if rating.time is None else rating.time))
    unknown = int((model.items.encode([item for item, _, _ in rows]) < 0).sum())
    note = f"{unknown:,} of {len(rows):,} items are unknown to the model: they count from the next update on"
    sequence = feedback.add(user, rows)
    return ask.reply(
        {"user": user, "accepted": len(rows), "sequence": sequence, "warnings": [note] if unknown else []},
        201,
    )


@router.get(
    "/feedback",
    response_model=schemas.Feedback,
    responses=responses(409),
    tags=["feedback"],
    summary="Ratings stored",
)
def kept(ask: Asked, user: User) -> Response:
    """The ratings stored of a user since their last deletion, the latest of each item."""
    _feedback(ask)
    assert ask.service.store is not None
    label = new_label(ask.model.users, user, "user")
    rows = ask.service.store.of(label)
    places = ask.model.items.encode([item for item, *_ in rows]).tolist() if rows else []
    ratings = [
        {
            "item": item,
            **(ask.shelf.titled(place) if place >= 0 else {}),
            "rating": value,
            "time": when,
            "sequence": sequence,
        }
        for (item, value, when, sequence), place in zip(rows, places, strict=True)
    ]
    return ask.reply({"user": label, "ratings": ratings})


@router.delete(
    "/feedback",
    response_model=schemas.Forgotten,
    responses=responses(401, 403, 409),
    openapi_extra=SECURED,
    dependencies=[Depends(may_write)],
    tags=["feedback"],
    summary="Delete a user",
)
def forget(ask: Asked, user: User) -> Response:
    """Delete a user's feedback, and leave what the model was trained on of them out of all answers.

    Their rows leave the model's file with the next update. Deleting again changes nothing.
    """
    feedback = _feedback(ask)
    label = new_label(ask.model.users, user, "user")
    return ask.reply({"user": label, "sequence": feedback.delete(label)})


def _feedback(ask: Ask) -> Feedback:
    if ask.feedback is None:
        raise Problem(409, "no-store", "this service keeps no feedback: start it with --store")
    return ask.feedback


@router.post(
    "/admin/reload",
    response_model=schemas.Reloaded,
    responses=responses(401, 403, 409),
    openapi_extra=SECURED,
    dependencies=[Depends(may_administer)],
    tags=["operation"],
    summary="Read the model file again",
)
async def reload(request: Request) -> Response:
    """Read the model's file again, and serve it if it has changed and is sound."""
    live = request.app.state.service.live
    try:
        changed = await live.reload()
    except (HatrixError, OSError) as error:
        if not isinstance(error, HatrixError):  # all others are logged where they occur
            log.warning("the model file was not taken: %s", error)
        why = without_places(error, live.path)
        raise Problem(
            409, "bad-model", f"the file is not served, and the model before it still is: {why}"
        ) from None
    return answer({"model": live.current.version, "changed": changed})
