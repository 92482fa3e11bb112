"""Errors as ``application/problem+json`` (RFC 9457), each with a stable code."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hatrix.errors import HatrixError

__all__ = ["Problem", "install", "reply"]

CODES = {404: "not-found", 405: "method-not-allowed"}


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
        "detail": detail,
        "code": code,
    }
    return JSONResponse(body | more, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Have every error of an application answered so."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> JSONResponse:
        return reply(error.status, error.code, error.detail, error.headers)

    @app.exception_handler(HatrixError)
    async def _mistake(_: Request, error: HatrixError) -> JSONResponse:
        return reply(422, "bad-request", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return reply(422, "validation", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "bad-request")
        return reply(error.status_code, code, str(error.detail), dict(error.headers or {}))
