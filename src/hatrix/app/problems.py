"""Errors as ``application/problem+json`` (RFC 9457), each with a stable code."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hatrix.errors import HatrixError, StoreError

__all__ = ["CODES", "Problem", "install", "invalid", "reply", "responses", "without_places"]

MEDIA = "application/problem+json"
OF_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
CODES = {
    400: ("bad-host",),
    401: ("unauthorized",),
    403: ("forbidden",),
    404: ("unknown-item", "unknown-user", "not-found"),
    405: ("method-not-allowed",),
    408: ("timeout",),
    409: ("no-seen", "no-store", "bad-model"),
    413: ("too-large",),
    415: ("unsupported-media-type",),
    421: ("bad-host",),
    422: ("validation", "unsupported", "bad-request"),
    431: ("too-large",),
    500: ("internal",),
    503: ("overloaded", "store-unavailable"),
}
"""The codes of each status."""
NO_STORE = "the feedback store does not answer: try again in a second; the log of the service says more"


class Problem(Exception):
    """What ends a request with an error: a status, a stable code and a sentence for people."""

    def __init__(self, status: int, code: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


def reply(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The body of an error."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(detail),
        "code": code,
    }
    return JSONResponse(body | more, status, headers, media_type=MEDIA)


def printable(text: str) -> str:
    """The text as UTF-8 can carry it: half a character becomes a question mark."""
    return text.encode(errors="replace").decode()


def without_places(error: object, path: Path | None) -> str:
    """Return the message of an error about a file without the file's path.

    A message that may contain another path is replaced by a reference to the log.
    """
    text = str(error) if path is None else str(error).replace(str(path), "the file")
    return "the log of the service says why" if "/" in text or "\\" in text else text


def invalid(errors: list[Any]) -> Problem:
    """What the first of pydantic's errors says."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return Problem(422, "validation", f"{where}: {first['msg']}")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors that an operation can end with, for its description."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": ", ".join(CODES[status]), "content": {MEDIA: {"schema": schema}}}
        for status in sorted({*statuses, 422, 503})
    }


def install(app: FastAPI) -> None:
    """Have every error of an application answered so."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return reply(error.status, error.code, error.detail, error.headers)

    @app.exception_handler(StoreError)
    async def _no_store(request: Request, error: StoreError) -> JSONResponse:
        request.app.state.service.complain(error)
        return reply(503, "store-unavailable", NO_STORE, {"Retry-After": "1"})

    @app.exception_handler(HatrixError)
    async def _mistake(_: Request, error: HatrixError) -> JSONResponse:
        return reply(422, "bad-request", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        found = invalid([{**first, "loc": first["loc"][1:] or first["loc"]}])
        return reply(found.status, found.code, found.detail)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        code, headers = OF_STATUS.get(error.status_code, "bad-request"), dict(error.headers or {})
        if "GET" in headers.get("Allow", ""):  # the guard answers HEAD as GET
            headers["Allow"] += ", HEAD"
        return reply(error.status_code, code, str(error.detail), headers)

    @app.exception_handler(Exception)
    async def _bug(_: Request, __: Exception) -> JSONResponse:
        return reply(500, "internal", "a mistake of the service, which its log describes")
