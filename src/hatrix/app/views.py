"""The web page and its data: what it shows beyond the API."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from hatrix.app import assets
from hatrix.app.asking import Ask, Asked, Item, known_parameters
from hatrix.app.census import census
from hatrix.app.insight import Insight
from hatrix.app.problems import responses
from hatrix.app.projection import Projection, project
from hatrix.app.rows import audience, starters, test_rows
from hatrix.app.schemas import MOST_N, Screen
from hatrix.errors import HatrixError

__all__ = ["router"]

KEPT, WAIT, LOW = 2, 1.0, 10
WORKING = {
    **responses(),
    202: {"description": "It is being worked out: ask again after Retry-After seconds."},
}
TAKING_TURNS = ("overview", "errors", "rows")
"""Parts that are made from one evaluation."""
OF_MODEL = ("map",)
"""Parts that do not depend on the test file, and stay when it is replaced."""
FRESH = {"Cache-Control": "no-cache"}

Make = Callable[[Insight], dict[str, Any]]


def router() -> APIRouter:
    """Routes of the page, of its files and of its data; what it works out is kept for the model served."""
    routes, insights = APIRouter(), Insights()
    checked: dict[str, Any] = {"tags": ["page"], "dependencies": [Depends(known_parameters)]}

    @routes.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return assets.reply(request, "index.html")

    @routes.get("/page/{name:path}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return assets.reply(request, name)

    @routes.get(
        "/v1/overview",
        **checked,
        response_model=Screen,
        summary="The model card, figures and training curves",
        responses=WORKING,
    )
    async def overview(request: Request, ask: Asked) -> Response:
        """The model card, the figures of the test rows with their intervals, the training curves, and warnings."""
        return await insights.kept(request, ask, "overview", Insight.overview)

    @routes.get(
        "/v1/errors",
        **checked,
        summary="Where the model is wrong on the test rows",
        response_model=Screen,
        responses=WORKING,
    )
    async def errors(request: Request, ask: Asked) -> Response:
        """Where the model is wrong: the report's charts as Vega-Lite, with their words and tables."""
        return await insights.kept(request, ask, "errors", Insight.errors)

    @routes.get(
        "/v1/errors/rows",
        **checked,
        response_model=Screen,
        summary="The test rows of a slice, the worst first",
        responses=WORKING,
    )
    async def rows(
        request: Request,
        ask: Asked,
        slice: Literal[
            "all", "rating", "activity", "popularity", "genre", "decade", "period", "user", "item"
        ] = "all",
        key: Annotated[
            str, Query(max_length=512, description="Label of the slice, as its chart has it.")
        ] = "",
        n: Annotated[int, Query(ge=1, le=MOST_N)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    ) -> Response:
        """The test rows of a slice of the charts, of a user or of an item, those that are furthest off first."""

        def find(insight: Insight) -> dict[str, Any]:
            if insight.untested is not None:
                return {"untested": insight.untested, "count": 0, "rows": []}
            return {"untested": None, **test_rows(insight, slice, key, n, offset, _gone(ask))}

        return await insights.found(request, ask, "rows", Insight.is_measured, find)

    @routes.get(
        "/v1/map",
        **checked,
        summary="Items in two dimensions",
        response_model=Screen,
        responses=WORKING,
    )
    async def atlas(request: Request, ask: Asked) -> Response:
        """Where items lie on the map, with their titles, genres and training rows, one list for each."""
        return await insights.kept(request, ask, "map", _map)

    @routes.get(
        "/v1/data",
        **checked,
        summary="The training data: sparsity and long tail",
        response_model=Screen,
        responses=WORKING,
    )
    async def data(request: Request, ask: Asked) -> Response:
        """What the model was trained on: how sparse, how long its tail, and how it was read."""
        return await insights.kept(request, ask, "data", census)

    @routes.get(
        "/v1/starters",
        **checked,
        summary="Known items that differ, to be rated first",
        response_model=Screen,
        responses=WORKING,
    )
    async def first(request: Request, ask: Asked) -> Response:
        """Items that a visitor is likely to know and that tell much of their taste."""
        return await insights.kept(request, ask, "starters", lambda insight: starters(insight.model))

    @routes.get(
        "/v1/audience",
        **checked,
        response_model=Screen,
        summary="How an item was rated, and whose list has it",
        responses=WORKING,
    )
    async def listed(request: Request, ask: Asked, item: Item) -> Response:
        """How an item was rated, by whom, and which users have it among their first ten recommendations."""
        row = ask.item_row(item)
        return await insights.found(
            request,
            ask,
            "lists",
            lambda insight: insight.lists,
            lambda insight: audience(insight, row, _gone(ask)),
        )

    return routes


def _gone(ask: Ask) -> Callable[[Any], bool]:
    """Whether a user was deleted, and is not to be shown."""
    feedback = ask.feedback
    return (lambda _: False) if feedback is None else feedback.deleted


class Insights:
    """What was worked out for the models served lately: each part once, in a thread that gives way to requests.

    When the test file is replaced, what depends on it is worked out again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    async def kept(self, request: Request, ask: Ask, name: str, make: Make) -> Response:
        """The part of that name; 202 while it is not there yet."""
        kept = self._of(ask)
        future = self._part(kept, name, lambda: _text(kept.insight, make(kept.insight)))
        if await _in_time(future):
            return assets.answer(request, future.result(), FRESH)
        return _working(kept)

    async def found(
        self, request: Request, ask: Ask, name: str, prepare: Callable[[Insight], Any], make: Make
    ) -> Response:
        """What is quickly made from a part that is kept."""
        kept = self._of(ask)
        if await _in_time(self._part(kept, name, lambda: prepare(kept.insight))):
            text = await run_in_threadpool(lambda: _text(kept.insight, make(kept.insight)))
            return assets.answer(request, text, FRESH)
        return _working(kept)

    def _of(self, ask: Ask) -> _Kept:
        served = ask.served
        with self._lock:
            kept = self._kept.get(served.version)
            if kept is None or not kept.insight.is_current():
                parts = (
                    {}
                    if kept is None
                    else {name: kept.parts[name] for name in OF_MODEL if name in kept.parts}
                )
                kept = _Kept(Insight(served, ask.service.test), threading.Lock(), parts)
                self._kept[served.version] = kept
                for old in list(self._kept)[:-KEPT]:
                    del self._kept[old]
            return kept

    def _part(self, kept: _Kept, name: str, work: Callable[[], Any]) -> Future[Any]:
        with self._lock:
            future = kept.parts.get(name)
            if future is None or (future.done() and future.exception()):
                future = kept.parts[name] = _later(work, kept.turn if name in TAKING_TURNS else nullcontext())
            return future


class _Kept(NamedTuple):
    """What belongs to one model: whose turn it is to work on it, and its parts."""

    insight: Insight
    turn: threading.Lock
    parts: dict[str, Future[Any]]


async def _in_time(future: Future[Any]) -> bool:
    """Whether the work is done, at the latest in a second."""
    done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=WAIT)
    if done:
        future.result()  # raises what went wrong
    return bool(done)


def _working(kept: _Kept) -> Response:
    body = to_json({"model": kept.insight.served.version, "working": True})
    return Response(body, 202, {"Retry-After": "1"}, "application/json")


def _text(insight: Insight, made: dict[str, Any]) -> assets.Text:
    """A reply as JSON."""
    body = to_json({"model": insight.served.version, **made}, inf_nan_mode="null")
    return assets.Text(body, "application/json")


def _later(work: Callable[[], Any], turn: AbstractContextManager[Any]) -> Future[Any]:
    """Do the work in a thread of low priority that does not hold up the end of the process."""
    future: Future[Any] = Future()

    def run() -> None:
        if hasattr(os, "setpriority"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)  # on Linux, of this thread
        try:
            with turn:
                made = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(made)

    threading.Thread(target=run, name="hatrix-page", daemon=True).start()
    return future


def _map(insight: Insight) -> dict[str, Any]:
    """Columns of the map: ids, titles, genres and training rows of items, and where they lie."""
    model, table = insight.model, insight.model.item_table
    try:
        found = project(model)
    except HatrixError as error:
        return {"missing": f"{error}."}
    return {
        "missing": None,
        "method": found.method,
        "left_out": _left_out(insight, found),
        **_columns(insight, found),
    } | ({"genres": None} if table is None or "genres" not in table else {})


def _left_out(insight: Insight, found: Projection) -> int:
    return int((insight.model.item_count > 0).sum()) - len(found.items)


def _columns(insight: Insight, found: Projection) -> dict[str, Any]:
    model, table, rows = insight.model, insight.model.item_table, found.items
    columns: dict[str, Any] = {
        "item": model.items.labels[rows].tolist(),
        "count": model.item_count[rows].tolist(),
        "x": found.places[:, 0].round(4).tolist(),
        "y": found.places[:, 1].round(4).tolist(),
    }
    for name, key in (("title", "titles"), ("genres", "genres")):
        if table is not None and name in table:
            values = table[name].iloc[rows].tolist()
            columns[key] = [value if isinstance(value, str) else None for value in values]
    return columns
