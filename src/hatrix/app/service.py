"""The service: a FastAPI application over one model and, where there is one, a store of feedback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request

import hatrix
from hatrix.app import operations, problems
from hatrix.app.batches import Batches, Quick, warm
from hatrix.app.guard import LOOPBACK, AccessLog, Guard
from hatrix.app.live import Live
from hatrix.app.metrics import Metrics
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
    metrics: Metrics
    batches: Batches
    ready: bool = False

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
        tasks = [asyncio.create_task(live.watch()), asyncio.create_task(_get_ready(service))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(batches.close)
        if log is not None:
            log.flush()

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
    metrics = Metrics(live)
    batches = Batches(live, observe=metrics.batch.observe)
    log = AccessLog() if access_log else None
    live.prepare = warm
    held_out = None if test is None else Path(test)
    service = Service(live, store, token, writes, held_out, metrics, batches)  # type: ignore[arg-type]
    app.state.service = service
    problems.install(app)
    for router in _routers(page=page):
        app.include_router(router)
    app.add_middleware(Quick, batches=batches)
    app.add_middleware(
        Guard,
        hosts=LOOPBACK if allowed_hosts is None else allowed_hosts,
        max_concurrent=max_concurrent,
        metrics=metrics,
        access_log=log,
    )
    return app


async def _get_ready(service: Service) -> None:
    await asyncio.to_thread(warm, service.served)
    service.ready = True


def _routers(*, page: bool) -> list[Any]:  # noqa: ARG001
    """The rooms of the API: each module has a router of its own."""
    return [operations.router]
