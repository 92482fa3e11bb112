"""The description of the API: ``/openapi.json``, and ``/docs``, where people read it and try it out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from hatrix.app import assets, schemas

__all__ = ["describe", "router"]

FOLDER = Path(__file__).parent / "swagger"
SCRIPT = "text/javascript; charset=utf-8"
FILES = {"start.js": SCRIPT, "swagger-ui-bundle.js": SCRIPT, "swagger-ui.css": "text/css; charset=utf-8"}
FRESH = {"Cache-Control": "no-cache"}
REQUESTS = (
    schemas.VisitorRequest,
    schemas.PredictionsRequest,
    schemas.VisitorExplanationRequest,
    schemas.FeedbackRequest,
)
"""Bodies that handlers read themselves, so that FastAPI does not know of them."""
ABOUT = """Recommendations from one model: for users, for visitors with a few ratings, with reasons.

Ids are as in the data, numbers or texts; in queries they are always text. Every reply bears the version of the model that it
is from, and an error is `application/problem+json` with a stable `code`."""

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """What the API is, for programs. Not a coroutine: describing it for the first time takes long."""
    return Response(to_json(request.app.openapi()), media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """What the API is, for people."""
    return assets.answer(request, _file("index.html", "text/html; charset=utf-8"), FRESH)


@router.get("/docs/{name}")
async def docs_file(request: Request, name: str) -> Response:
    """What the page of the description loads."""
    if name not in FILES:
        raise HTTPException(404)
    return assets.answer(request, _file(name, FILES[name]), FRESH)


@cache
def _file(name: str, kind: str) -> assets.Text:
    """Return a file of the page, and keep it in memory."""
    return assets.Text((FOLDER / name).read_bytes(), kind)


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application, made once."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
        kept = found.setdefault("components", {}).setdefault("schemas", {})
        wanted = [(schema, "validation") for schema in (*REQUESTS, schemas.Problem)]
        _, extra = models_json_schema(wanted, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        for name, schema in extra["$defs"].items():
            kept.setdefault(name, schema)
        # The address is relative to this document, so that it also works under the prefix of a proxy.
        found["servers"] = [{"url": "."}]
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = found
    return app.openapi_schema
