"""What a handler needs of a request: the model it is answered from, who asks, the body, and the right to write."""

from __future__ import annotations

import hmac
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Query, Request, Response
from fastapi.params import Depends as Dependency
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from hatrix.app import problems
from hatrix.app.problems import Problem
from hatrix.app.schemas import LONGEST_ID
from hatrix.app.shelf import row_of
from hatrix.errors import StoreError

if TYPE_CHECKING:
    from hatrix.app.feedback import Feedback
    from hatrix.app.live import Served
    from hatrix.app.service import Service
    from hatrix.app.shelf import Shelf
    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

__all__ = [
    "Ask",
    "Asked",
    "Item",
    "User",
    "answer",
    "answered",
    "ask_of",
    "known_parameters",
    "may_administer",
    "may_write",
    "takes",
]

Body = TypeVar("Body", bound=BaseModel)
User = Annotated[str, Query(min_length=1, description="Id of a user, as in the data.")]
Item = Annotated[str, Query(min_length=1, description="Id of an item, as in the data.")]


class Ask:
    """What one request is answered from: one model, taken once, and what belongs to it."""

    def __init__(self, service: Service, served: Served) -> None:
        self.service, self.served = service, served
        self.stale: str | None = None

    @property
    def model(self) -> FactorModel:
        return self.served.model

    @cached_property
    def shelf(self) -> Shelf:
        return self.service.beside(self.served).shelf

    @cached_property
    def feedback(self) -> Feedback | None:
        """The feedback that has come since the model was made, up to this moment. It may wait for the store.

        A store that fails does not keep the model from answering, with what is known: see `stale`.
        """
        feedback = self.service.beside(self.served).feedback
        if feedback is not None:
            try:
                feedback.refresh()
            except StoreError as error:
                self.service.complain(error)
                self.stale = f"the latest feedback may be missing: {problems.NO_STORE}"
        return feedback

    def item_row(self, item: int | str) -> int:
        """The row of an item that has to exist."""
        row = row_of(self.model.items, item)
        if row < 0:
            raise Problem(404, "unknown-item", f"the model knows no item {shown(item)}")
        return row

    def reply(self, body: dict[str, Any], status: int = 200) -> Response:
        """The body with the model's version."""
        return answer({"model": self.served.version, **body}, status)


def ask_of(request: Request) -> Ask:
    service: Service = request.app.state.service
    return Ask(service, service.served)


async def _asked(request: Request) -> Ask:  # a coroutine, so that no thread is taken for it
    return ask_of(request)


Asked = Annotated[Ask, Depends(_asked)]


def answer(body: dict[str, Any], status: int = 200) -> Response:
    """The body as JSON; numbers that JSON lacks become null."""
    return Response(to_json(body, inf_nan_mode="null"), status, media_type="application/json")


async def answered(
    request: Request,
    schema: type[Body],
    handler: Callable[[Ask, Body], Response],
    limiter: CapacityLimiter | None = None,
) -> Response:
    """Read the body, then check and handle it in a thread, so that other requests need not wait.

    ``limiter`` bounds how many threads do so at once; by default all handlers share one bound.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "unsupported-media-type", "send the body as Content-Type: application/json")
    data = await request.body()
    ask = ask_of(request)

    def handle() -> Response:
        try:
            body = schema.model_validate_json(data)
        except ValidationError as error:
            raise problems.invalid(error.errors(include_url=False, include_input=False)) from None
        return handler(ask, body)

    return await to_thread.run_sync(handle, limiter=limiter)


async def known_parameters(request: Request) -> None:
    """Refuse a query parameter that the operation does not have, or one that is given twice.

    Otherwise a misspelt filter, or one of two users, would be ignored silently.
    """
    if not request.scope["query_string"]:
        return
    allowed, path = _query_of(request.scope["endpoint"]), request.scope["path"]
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in allowed:
            known = f"the parameters are {', '.join(allowed)}" if allowed else "it takes none"
            raise Problem(
                422,
                "validation",
                f"{shown(name)}: {request.method} {path} has no such query parameter; {known}",
            )
        if times > 1 and not allowed[name]:
            raise Problem(
                422, "validation", f"{name}: this query parameter was given {times:,} times; give it once"
            )


@cache
def _query_of(endpoint: Callable[..., Any]) -> Mapping[str, bool]:
    """Return the query parameters of a handler, and whether each may be repeated."""
    found = {}
    for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items():
        kind, *marks = get_args(parameter.annotation) or (parameter.annotation,)
        if get_origin(parameter.annotation) is not Annotated:
            kind, marks = parameter.annotation, []
        if kind in (Request, Response) or any(isinstance(mark, Dependency) for mark in marks):
            continue
        found[name] = list in (get_origin(kind), *map(get_origin, get_args(kind)))
    return found


def takes(schema: type[BaseModel]) -> dict[str, Any]:
    """The body of an operation, for its description."""
    reference = {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}
    return {"requestBody": {"required": True, "content": {"application/json": reference}}}


def new_label(ids: Ids, given: int | str, what: str) -> int | str:
    """An id that may be new, as one of the model's kind.

    Raises
    ------
    Problem
        If it is none, or one that a store cannot keep.
    """
    label = ids.label_of(given)
    if label is None:
        raise Problem(
            422, "bad-request", f"{what} {shown(given)}: the ids of this model are whole numbers of 64 bits"
        )
    if isinstance(label, str) and (not label or len(label) > LONGEST_ID or "\0" in label):
        raise Problem(
            422, "bad-request", f"{what}: an id has 1 to {LONGEST_ID} characters, none of them U+0000"
        )
    return label


def shown(given: int | str) -> str:
    """An id in a message, cut where it is long."""
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:80]}…"


def may_write(request: Request) -> None:
    """Refuse who may not write feedback."""
    service: Service = request.app.state.service
    if service.writes:
        _refuse_pages(request)
    else:
        _refuse_without_token(request, service)


def may_administer(request: Request) -> None:
    """Refuse who may not have the model reloaded."""
    service: Service = request.app.state.service
    if not service.token and service.writes:
        _refuse_pages(request)
    else:
        _refuse_without_token(request, service)


def _refuse_without_token(request: Request, service: Service) -> None:
    if not service.token:
        raise Problem(403, "forbidden", "this service has no token, so nothing can be changed through it")
    given = request.headers.get("authorization", "").encode("latin-1")
    kind, _, bearer = given.partition(b" ")
    if kind.lower() != b"bearer" or not hmac.compare_digest(bearer.strip(), service.token.encode()):
        raise Problem(
            401,
            "unauthorized",
            "send the token, as Authorization: Bearer TOKEN",
            **{"WWW-Authenticate": "Bearer"},
        )


def _refuse_pages(request: Request) -> None:
    """Refuse writes from pages of other origins: without a token, any page in a browser on this machine could write.

    Browsers send Sec-Fetch-Site only to the loopback and over TLS, and Origin with every request that writes. A proxy may
    change Host, so that Origin looks foreign. So a Sec-Fetch-Site of "same-origin" is believed first.
    """
    service: Service = request.app.state.service
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if origin in service.origins or site == "same-origin":
        return
    here = origin is None or _address(origin) == _address(f"//{request.headers.get('host', '')}")
    if site not in (None, "none") or not here:
        raise Problem(
            403, "forbidden", "pages of other origins may not write: allow this one with --allowed-origin"
        )


def _address(url: str) -> tuple[str | None, int | None]:
    """Return the host and the port; the port is None if it is the usual one."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return None, None
    return found.hostname, None if port in (80, 443) else port
