"""The service: a FastAPI application over one model and, where there is one, a store of feedback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request

import hatrix
from hatrix.app import problems
from hatrix.app.live import Live
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    from hatrix.app.live import Served
    from hatrix.app.store import Store

__all__ = ["Service", "create_app", "service_of"]


@dataclass
class Service:
    """What handlers share; in an application at ``app.state.service``."""

    live: Live
    store: Store | None
    token: str | None
    writes: bool
    test: Path | None

    @property
    def served(self) -> Served:
        """What a request is answered from: take it once."""
        return self.live.current


def service_of(request: Request) -> Service:
    """For handlers: ``Annotated[Service, Depends(service_of)]``."""
    service: Service = request.app.state.service
    return service


def create_app(
    model: FactorModel | Live | str | Path,
    store: Store | str | None = None,
    *,
    token: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    max_concurrent: int = 128,
    test: str | Path | None = None,
    page: bool = True,
    access_log: bool = False,
    writes: bool = True,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    model
        A fitted model, a model file, or a `Live`.
    store
        Where feedback is kept: a `Store`, its URL, or None for a service that takes none.
    token
        What a request to ``/v1/admin`` has to bear, and one that writes where ``writes`` is False.
    allowed_hosts
        Names that the Host header may give; by default those of this machine's loopback.
    max_concurrent
        Requests worked on at once; more are refused with 503.
    test
        Held-out ratings (a file as ``hatrix run`` leaves it) that the page measures errors on.
    page
        Serve the web page, too.
    access_log
        Write a line of JSON for each request to standard error.
    writes
        Take feedback without a token.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    live = (
        model
        if isinstance(model, Live)
        else Live.of(model)
        if isinstance(model, FactorModel)
        else Live.open(Path(model))
    )
    app = FastAPI(
        title="hatrix", version=hatrix.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service = Service(live, store, token, writes, None if test is None else Path(test))  # type: ignore[arg-type]
    problems.install(app)
    for router in _routers(page=page):
        app.include_router(router)
    return app


def _routers(*, page: bool) -> list[Any]:
    """The rooms of the API: each module has a router of its own."""
    from hatrix.app import views

    return [views.router()] if page else []
