"""The service: a FastAPI application over one model and, where there is one, a store of feedback."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

import hatrix
from hatrix.app import catalogue, collecting, explaining, operations, problems, recommending, reference
from hatrix.app.asking import Ask
from hatrix.app.batches import Batches, Quick, warm
from hatrix.app.guard import LOOPBACK, AccessLog, Budget, Guard, Ledger
from hatrix.app.live import Live
from hatrix.app.metrics import Metrics
from hatrix.app.shelf import Shelf
from hatrix.errors import HatrixError, StoreError
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    from hatrix.app.feedback import Feedback
    from hatrix.app.live import Served
    from hatrix.app.store import Store

__all__ = ["Service", "create_app", "service_of"]


THREADS = 4
"""Threads that answer all requests except plain ones for a list. Most of that work holds the interpreter's lock, so more
threads would be no quicker, and the event loop, which answers probes, would wait for each of them in turn."""

WRITERS = 40
"""Threads that write feedback. They mostly wait for the disk, which takes many commits together."""
COMPLAINTS = 10.0
"""Minimum seconds between log lines about a store that fails."""

logger = logging.getLogger("hatrix.serve")


class Beside(NamedTuple):
    """What belongs to one served model and is made once for it."""

    shelf: Shelf
    feedback: Feedback | None


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
    ledger: Ledger
    budget: Budget
    origins: frozenset[str] = frozenset()
    writers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(WRITERS))
    ready: bool = False
    _complained: float = -math.inf
    _beside: WeakKeyDictionary[Served, Beside] = field(default_factory=WeakKeyDictionary)
    _lock: Lock = field(default_factory=Lock)

    @property
    def served(self) -> Served:
        """What a request is answered from: take it once."""
        return self.live.current

    def beside(self, served: Served) -> Beside:
        """What belongs to a served model; kept for as long as that is."""
        found = self._beside.get(served)
        if found is None:
            with self._lock:
                found = self._beside.get(served)
                if found is None:
                    feedback = None if self.store is None else _feedback(self.store, served.model)
                    found = self._beside[served] = Beside(Shelf(served.model), feedback)
        return found

    def complain(self, error: StoreError) -> None:
        """Log why the store fails, since replies do not say it, but at most once every few seconds."""
        now = time.monotonic()
        if now > self._complained + COMPLAINTS:
            self._complained = now
            logger.warning("%s", error)

    def prepare(self, served: Served) -> None:
        """Work out what requests of a model would wait for; a model that the store does not go with fails here."""
        self.beside(served).shelf.prepare()
        warm(served)
        recommending.warm(Ask(self, served))


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
    allowed_origins: Sequence[str] = (),
    max_concurrent: int = 64,
    test: str | Path | None = None,
    page: bool = True,
    access_log: bool = False,
    writes: bool = True,
) -> FastAPI:
    """Build the application.

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
    allowed_origins
        Origins of other sites whose pages may use the API in a browser, such as ``https://shop.example.org``.
    max_concurrent
        Requests worked on at once; more are refused with 503.
    test
        Held-out ratings (a file as ``hatrix run`` leaves it) that the page measures errors on; by default the
        ``test.parquet`` beside a model file, if there is one.
    page
        Serve the web page, too.
    access_log
        Write a line of JSON for each request to standard error.
    writes
        Take feedback without a token.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        tasks = [asyncio.create_task(live.watch()), asyncio.create_task(_get_ready(service))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(batches.close)
        if log is not None:
            log.flush()
        if isinstance(store, str) and service.store is not None:
            service.store.close()

    live = (
        model
        if isinstance(model, Live)
        else Live.of(model)
        if isinstance(model, FactorModel)
        else Live.open(Path(model))
    )
    app = FastAPI(
        title="hatrix",
        version=hatrix.__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    metrics = Metrics(live)
    batches = Batches(
        live, feedback=lambda served: service.beside(served).feedback, observe=metrics.batch.observe
    )
    if test is None and live.path is not None:
        test = live.path.with_name("test.parquet")  # it may come later, or go
    log = AccessLog() if access_log else None
    service = Service(
        live,
        _opened(store, live.current.model),
        token,
        writes,
        None if test is None else Path(test),
        metrics,
        batches,
        Ledger(metrics, log),
        Budget(),
        frozenset(allowed_origins),
    )
    try:
        service.beside(
            live.current
        )  # a store that does not go with the model is told of now, not by every request
    except HatrixError:
        if isinstance(store, str) and service.store is not None:
            service.store.close()
        raise
    live.prepare = service.prepare
    app.state.service = service
    problems.install(app)
    for router in _routers(page=page):
        app.include_router(router)
    app.openapi = lambda: reference.describe(app)  # type: ignore[method-assign]
    app.add_middleware(Quick, batches=batches)
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(
        Guard,
        hosts=LOOPBACK if allowed_hosts is None else allowed_hosts,
        max_concurrent=max_concurrent,
        metrics=metrics,
        access_log=log,
        budget=service.budget,
    )
    return app


async def _get_ready(service: Service) -> None:
    await asyncio.to_thread(service.prepare, service.served)
    service.ready = True


def _routers(*, page: bool) -> list[APIRouter]:
    """The rooms of the API: each module has a router of its own."""
    from hatrix.app import views

    api = [
        recommending.router,
        explaining.router,
        catalogue.router,
        collecting.router,
        operations.router,
        reference.router,
    ]
    return [*api, views.router()] if page else api


def _opened(store: Store | str | None, model: FactorModel) -> Store | None:
    if not isinstance(store, str):
        return store
    from hatrix.app.store import Store

    return Store.open(store, users=model.users.kind, items=model.items.kind)


def _feedback(store: Store, model: FactorModel) -> Feedback:
    from hatrix.app.feedback import Feedback

    return Feedback(store, model)
