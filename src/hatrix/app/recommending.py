"""Lists of items for users and visitors, and predictions of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from hatrix.app import schemas
from hatrix.app.asking import Ask, Asked, User, answered, known_parameters, takes
from hatrix.app.personal import Person, user_of, visitor_of
from hatrix.app.problems import Problem, responses
from hatrix.app.schemas import LONGEST_WHERE, MOST_LISTED, MOST_N, PredictionsRequest, Rating, VisitorRequest
from hatrix.models.explain import reasons
from hatrix.models.recommend import TopN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["router", "warm"]

MOST_FOLDED = 100
"""Users of one batch of predictions whose feedback is folded in."""
REASONS = 3

router = APIRouter(prefix="/v1", tags=["recommendations"], dependencies=[Depends(known_parameters)])

Length = Annotated[int, Query(ge=1, le=MOST_N, description="Length of the list.")]
Share = Annotated[float, Query(gt=0, lt=1, allow_inf_nan=False)]


@router.get(
    "/recommendations",
    response_model=schemas.Recommendations,
    responses=responses(409),
    summary="Items for a user",
)
def for_user(
    ask: Asked,
    user: User,
    n: Length = 10,
    exclude_seen: Annotated[
        bool, Query(description="Leave out what the user has rated, in training or since.")
    ] = True,
    where: Annotated[
        str | None,
        Query(
            max_length=LONGEST_WHERE,
            description='Only items whose columns are so, as `year >= 1990 and genre == "Drama"`.',
        ),
    ] = None,
    among: Annotated[list[str] | None, Query(max_length=MOST_LISTED, description="Only these items.")] = None,
    exclude: Annotated[
        list[str] | None, Query(max_length=MOST_LISTED, description="Not these items.")
    ] = None,
    risk: Annotated[
        Share | None,
        Query(description="Rank by this quantile of the score's posterior draws: 0.1 makes safe picks."),
    ] = None,
    interval: Annotated[
        Share | None, Query(description="Add the interval that holds the rating with this probability.")
    ] = None,
    explain: Annotated[bool, Query(description="Add the ratings that speak most for each item.")] = False,
) -> Response:
    """The items that a user has not rated and would rate highest."""
    options = {
        "n": n, "exclude_seen": exclude_seen, "where": where, "among": among, "exclude": exclude, "risk": risk,
    }  # fmt: skip
    return _list(ask, user_of(ask, user), interval, explain, options)


@router.post(
    "/recommendations",
    response_model=schemas.Recommendations,
    responses=responses(413, 415),
    openapi_extra=takes(VisitorRequest),
    summary="Items for a visitor",
)
async def for_visitor(request: Request) -> Response:
    """The items that an unknown visitor with a few ratings would rate highest. Nothing is stored."""
    return await answered(request, VisitorRequest, _for_visitor)


def _for_visitor(ask: Ask, body: VisitorRequest) -> Response:
    options = body.model_dump(exclude={"ratings", "interval", "explain"})
    return _list(ask, visitor_of(ask, body.ratings), body.interval, body.explain, options)


def warm(ask: Ask) -> None:
    """Answer a visitor, so that the first one does not wait for what folding in needs."""
    model, shelf = ask.model, ask.shelf
    best = 1.0 if model.scale is None else float(model.scale[1])
    rated = Rating(item=shelf.item_labels[shelf.popular[0]], rating=best)
    _for_visitor(ask, VisitorRequest(ratings=[rated], explain=True))


def _list(
    ask: Ask, person: Person, interval: float | None, explain: bool, options: Mapping[str, Any]
) -> Response:
    model = person.model
    recommender = _recommender(ask, person, options)
    if interval is not None:
        _refuse_without_posterior(model, "interval")
    lists = recommender.lists(np.array([person.row]))
    length = int(lists.length[0])
    rows, scores = lists.items[0, :length].astype(np.int64), lists.scores[0, :length]
    entries = [
        {**ask.shelf.item(row), "score": score}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
    if model.rating_model is not None:
        user = np.full(length, person.row)
        columns = {"rating": model.predict_rows(user, rows, clip=True)} if length else {}
        if interval is not None and length:
            low, high = model.interval_rows(user, rows, level=interval, clip=True)
            columns |= {"low": low, "high": high}
        for name, column in columns.items():
            for entry, value in zip(entries, column.tolist(), strict=True):
                entry[name] = value
    if explain:
        for entry, because in zip(entries, _because(ask, person, rows), strict=True):
            entry["because"] = because
    return ask.reply(
        {
            "user": person.label,
            "basis": person.basis(lists.basis[0]),
            "items": entries,
            "short": recommender.shortage(length) if length < recommender.n else None,
            "warnings": [*person.warnings, *recommender.warnings],
        }
    )


def _recommender(ask: Ask, person: Person, options: Mapping[str, Any]) -> TopN:
    model, options = person.model, dict(options)
    if options["risk"] is not None and model.posterior is None:
        raise _without_posterior(model.list_model, "risk")
    if model.seen is None:
        if person.row >= 0 and options["exclude_seen"]:
            raise Problem(
                409,
                "no-seen",
                "the model was saved without its training rows, so it is not known what users have seen: "
                "pass exclude_seen=false to let that be recommended too",
            )
        options["exclude_seen"] = False  # nobody has seen nothing
    for name in ("among", "exclude"):
        if options[name] is not None:
            labels = [ask.model.items.label_of(given) for given in options[name]]
            options[name] = [
                given if label is None else label for label, given in zip(labels, options[name], strict=True)
            ]
    return TopN.of(model, **options, threads=1)


def _refuse_without_posterior(model: FactorModel, what: str) -> None:
    if not model.has_intervals:
        raise _without_posterior(model.rating_model or model, what)


def _without_posterior(model: FactorModel, what: str) -> Problem:
    return Problem(
        422,
        "unsupported",
        f"{what} needs a model with a posterior, and this one is of {model.recipe.name}",
    )


def _because(ask: Ask, person: Person, rows: NDArray[np.int64]) -> list[list[dict[str, Any]] | None]:
    """Return, for each item, the ratings that raised it in the list; None where the model does not have them."""
    if person.row < 0:
        return [[] for _ in rows]
    if person.model.seen is None:
        return [None for _ in rows]
    return [
        [
            {
                "item": ask.shelf.item_labels[one.item],
                **ask.shelf.titled(one.item),
                "rating": one.rating,
                "contribution": one.contribution,
            }
            for one in because
        ]
        for because in reasons(person.model, person.row, rows, REASONS)
    ]


@router.post(
    "/predictions",
    response_model=schemas.Predictions,
    responses=responses(413, 415),
    openapi_extra=takes(PredictionsRequest),
    summary="Predictions for pairs",
)
async def predict(request: Request) -> Response:
    """Predictions for pairs of users and items, in their order."""
    return await answered(request, PredictionsRequest, _predict)


def _predict(ask: Ask, body: PredictionsRequest) -> Response:
    model, pairs = ask.model, body.pairs
    if body.interval is not None:
        _refuse_without_posterior(model, "interval")
    users = [model.users.label_of(pair.user) for pair in pairs]
    items = [model.items.label_of(pair.item) for pair in pairs]
    user, item = (
        ids.encode(labels) if pairs else np.zeros(0, np.int64)
        for ids, labels in ((model.users, users), (model.items, items))
    )
    people = _with_feedback(ask, users)
    folded: dict[Any, list[int]] = {}
    for at, label in enumerate(users):
        if label in people:
            user[at] = people[label].row
            if people[label].folded:
                folded.setdefault(label, []).append(at)
    asked: list[tuple[FactorModel, NDArray[np.int64]]] = [
        (people[label].model, np.array(places)) for label, places in folded.items()
    ]
    of_views = {at for places in folded.values() for at in places}
    asked.append((model, np.array([at for at in range(len(pairs)) if at not in of_views], np.int64)))
    times = np.array(
        [np.inf if pair.time is None else pair.time for pair in pairs]
    )  # without one: the latest
    entries: list[dict[str, Any]] = [{} for _ in pairs]
    for view, places in asked:
        rows = user[places], item[places]
        columns = {"prediction": view.predict_rows(*rows, times=times[places], clip=True).tolist()}
        if body.interval is not None:
            low, high = view.interval_rows(*rows, times[places], level=body.interval, clip=True)
            columns |= {"low": low.tolist(), "high": high.tolist()}
        known = "model" if view is model else "fold-in"
        columns["basis"] = ["fallback" if cold else known for cold in view.is_fallback(*rows).tolist()]
        for number, at in enumerate(places.tolist()):
            ids = zip((users[at], items[at]), (pairs[at].user, pairs[at].item), strict=True)
            who, what = (given if label is None else label for label, given in ids)
            values = {name: column[number] for name, column in columns.items()}
            entries[at] = {"user": who, "item": what, **values}
    warnings = sorted({note for person in people.values() for note in person.warnings})
    return ask.reply({"predictions": entries, "warnings": warnings})


def _with_feedback(ask: Ask, labels: list[Any]) -> dict[Any, Person]:
    """Those among users whose row in the model is out of date."""
    feedback = ask.feedback
    if feedback is None:
        return {}
    changed = [
        label
        for label in dict.fromkeys(labels)
        if label is not None and (feedback.of(label) or feedback.deleted(label))
    ]
    if len(changed) > MOST_FOLDED:
        raise Problem(
            413,
            "too-large",
            f"{len(changed):,} of the users have new feedback, and at most {MOST_FOLDED} are folded in at once: "
            "ask for fewer users",
        )
    return {label: user_of(ask, label) for label in changed}
