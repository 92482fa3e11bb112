"""Why an item has its score, for a user or a visitor."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Depends, Query, Request, Response

from hatrix.app import schemas
from hatrix.app.asking import Ask, Asked, Item, User, answered, known_parameters, takes
from hatrix.app.personal import Person, user_of, visitor_of
from hatrix.app.problems import responses
from hatrix.app.schemas import MOST_N, VisitorExplanationRequest
from hatrix.app.shelf import plain
from hatrix.models.recommend import basis_of

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["recommendations"], dependencies=[Depends(known_parameters)])


@router.get(
    "/explanation",
    response_model=schemas.Explanation,
    responses=responses(404),
    summary="Why an item has its score",
)
def explain(
    ask: Asked,
    user: User,
    item: Item,
    n: Annotated[int, Query(ge=1, le=MOST_N, description="Length of the list that the item can leave.")] = 10,
    removals: Annotated[
        int,
        Query(
            ge=0, le=10, description="Ratings to take away at the most, to see whether the item leaves it."
        ),
    ] = 3,
    top: Annotated[
        int, Query(ge=1, le=MOST_N, description="Ratings shown; the others are one part together.")
    ] = 50,
) -> Response:
    """The parts that add up to a score, and the ratings that carry it."""
    return _explanation(ask, user_of(ask, user), item, n, removals, top)


@router.post(
    "/explanation",
    response_model=schemas.Explanation,
    responses=responses(404, 413, 415),
    openapi_extra=takes(VisitorExplanationRequest),
    summary="The same for a visitor",
)
async def explain_to_visitor(request: Request) -> Response:
    """The same for an unknown visitor with a few ratings. Nothing is stored."""
    return await answered(request, VisitorExplanationRequest, _for_visitor)


def _for_visitor(ask: Ask, body: VisitorExplanationRequest) -> Response:
    person = visitor_of(ask, body.ratings)
    return _explanation(ask, person, body.item, body.n, body.removals, body.top)


def _explanation(ask: Ask, person: Person, item: int | str, n: int, removals: int, top: int) -> Response:
    row = ask.item_row(item)
    model, nobody = person.model, person.row < 0
    label = None if nobody else model.users.labels[person.row]
    frame = model.explain(label, ask.shelf.item_labels[row], n=n, removals=removals)
    found = frame.attrs
    notes = (
        ["nothing is known of the user: the score is that of an unknown one"] if nobody else found["warnings"]
    )
    without = found["without"]
    return ask.reply(
        {
            "user": person.label,
            **ask.shelf.item(row),
            "basis": person.basis(basis_of(model, person.row)),
            "score": found["score"],
            "rank": found["rank"],
            "seen": found["seen"],
            "fit": found["fit"],
            "parts": _parts(ask, frame, top),
            "without": without,
            "warnings": [*person.warnings, *notes],
        }
    )


def _parts(ask: Ask, frame: pd.DataFrame, top: int) -> list[dict[str, Any]]:
    """The parts, ratings beyond the first ``top`` as one."""
    parts: list[dict[str, Any]] = []
    others: list[float] = []
    columns = (frame[name].tolist() for name in ("part", "item", "rating", "contribution"))
    shown = 0
    for part, item, rating, contribution in zip(*columns, strict=True):
        if part != "rating":
            if part == "rest" and others:
                parts.append({"part": "other ratings", "contribution": sum(others)})
            parts.append({"part": part, "contribution": contribution})
        elif shown < top:
            shown += 1
            row = int(ask.model.items.encode([item])[0])
            parts.append(
                {
                    "part": part,
                    "item": plain(item),
                    **ask.shelf.titled(row),
                    "rating": rating,
                    "contribution": contribution,
                }
            )
        else:
            others.append(contribution)
    return parts
