"""``hatrix serve``: a model file as a service that programs call and people look at."""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from hatrix import _files
from hatrix.app.flags import Output, file_path, whole
from hatrix.app.workers import NOT_STARTED, supervise
from hatrix.errors import HatrixError, MissingExtraError, ParameterError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from hatrix.app.live import Live

__all__ = ["serve"]

TOKEN = "HATRIX_TOKEN"
MODEL = "model.hatrix"
SHORTEST_TOKEN = 16
GRACE = 30
"""Seconds that requests have left when the service is told to stop."""
SWITCH = 0.001
"""Seconds after which one thread has the interpreter from another: the default of 5 ms is as long as a whole batch."""
BACKLOG = 2048
ORIGIN = re.compile(r"https?://[^/?#@*\s:]+(?::\d+)?|https?://\[[0-9a-f:]+\](?::\d+)?", re.IGNORECASE)


def serve(
    model: Annotated[
        Path, Parameter(converter=file_path, help="a model file, or a folder that hatrix run wrote")
    ],
    /,
    *,
    store: Annotated[
        str | None,
        Parameter(
            help="where feedback is kept: a file, sqlite:///FILE or postgresql://… [default: none is taken]"
        ),
    ] = None,
    host: Annotated[str, Parameter(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, Parameter(converter=whole(0, 65535), help="port; 0 for any that is free")] = 8000,
    workers: Annotated[int, Parameter(converter=whole(1, 256), help="processes that share the model")] = 1,
    token: Annotated[
        str | None,
        Parameter(
            help=f"what writes from elsewhere and administration have to bear (better in the environment: {TOKEN})"
        ),
    ] = None,
    test: Annotated[
        Path | None,
        Parameter(
            converter=file_path,
            help="held-out ratings that the page measures errors on [default: test.parquet beside the model]",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="names that requests may give as their host, besides loopback"),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            help="origins of pages elsewhere that may use the API in a browser, such as https://shop.example.org",
        ),
    ] = None,
    max_concurrent: Annotated[
        int,
        Parameter(converter=whole(1), help="requests worked on at once by a process; more get status 503"),
    ] = 64,
    no_access_log: Annotated[bool, Parameter(help="write no line for each request")] = False,
    no_page: Annotated[bool, Parameter(help="serve the API alone")] = False,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Serve a model: a JSON API for programs, a page for people."""
    _need_the_extra()
    from hatrix.app.metrics import FOLDER

    if model.is_dir():
        model = _in_folder(model)
    if test is not None and not test.is_file():
        raise ParameterError(f"--test {test}: there is no such file")
    token = _checked_token(token)
    listener, loopback = _listening(host, port)
    with listener, ExitStack() as stack:
        options = _Options(
            model=model,
            folder=None,
            store=store,
            token=token,
            hosts=_hosts(host, allowed_host or []),
            origins=_origins(allowed_origin or []),
            max_concurrent=max_concurrent,
            test=test,
            page=not no_page,
            access_log=not no_access_log,
            writes=loopback,
            quiet=output.quiet,
        )
        _freeze()
        live = options.live()
        stack.callback(live.close)
        output.note(f"{live.current.model!r}, version {live.current.version}")
        if not loopback:
            output.note(_openness(host, token, allowed_host))
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        note = f"listening on http://{shown}:{address[1]}"
        _set_up_process(output.quiet)
        if workers == 1:
            _serve_here(options.app(live), listener, lambda: output.note(note))
        else:
            assert live.snapshots is not None
            os.environ[FOLDER] = str(stack.enter_context(_files.scratch()))
            output.note(f"{note} with {workers} processes")
            options = replace(options, folder=live.snapshots.folder)
            if not supervise(_serve_in_worker, options, listener, workers):
                raise ParameterError("a process of the service could not start: see above")
    output.note("stopped")


@dataclass(frozen=True)
class _Options:
    """What a process needs to make the application; travels to the workers."""

    model: Path
    folder: Path | None
    store: str | None
    token: str | None
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    max_concurrent: int
    test: Path | None
    page: bool
    access_log: bool
    writes: bool
    quiet: bool

    def live(self) -> Live:
        from hatrix.app.live import Live

        return Live.open(self.model, folder=self.folder)

    def app(self, live: Live) -> FastAPI:
        from hatrix.app.service import create_app

        return create_app(
            live, self.store, token=self.token, allowed_hosts=self.hosts, allowed_origins=self.origins,
            max_concurrent=self.max_concurrent,
            test=self.test, page=self.page, access_log=self.access_log, writes=self.writes,
        )  # fmt: skip


def _serve_here(app: FastAPI, listener: socket.socket, said: Callable[[], object]) -> None:
    """Serve until told to stop."""
    import uvicorn

    from hatrix.app.protocol import Patient, Shared

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            said()

    # uvicorn's usual loop accepts one connection at a time: one more would wait behind hundreds that come with it.
    service = app.state.service
    shared = Shared(service.budget, service.ledger)
    http: Any = partial(Patient, shared=shared)
    config = uvicorn.Config(
        app, loop="asyncio", http=http, ws="none", lifespan="on", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    server = Server(config)
    # It raises a signal that it has obeyed once more at its end: here that must not end the process by force.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.run([listener])


def _serve_in_worker(options: _Options, listener: socket.socket) -> None:
    _set_up_process(options.quiet)
    _freeze()
    try:
        app = options.app(options.live())
    except HatrixError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(NOT_STARTED)
    _serve_here(app, listener, lambda: None)


def _set_up_process(quiet: bool) -> None:
    sys.setswitchinterval(SWITCH)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("hatrix.serve").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


class _Lines(logging.Formatter):
    """What happens as lines of JSON, as the access log's are."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["trace"] = self.formatException(record.exc_info)
        return json.dumps(facts, separators=(",", ":"))


def _freeze() -> None:
    """Spare the collector what is loaded before the model: it would hold up requests to look through it again."""
    import hatrix.app.service  # noqa: F401

    gc.collect()
    gc.freeze()


def _need_the_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.of("hatrix serve", str(error.name), "serve") from None


def _in_folder(folder: Path) -> Path:
    model = folder / MODEL
    if not model.is_file():
        raise ParameterError(f"{folder} has no {MODEL}: give a model file, or a folder that hatrix run wrote")
    return model


def _checked_token(given: str | None) -> str | None:
    token = os.environ.get(TOKEN) if given is None else given
    if token is None or (given is None and not token):
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ParameterError(
            f"the token must have {SHORTEST_TOKEN} characters at least, none of them a blank: "
            "make one with python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _listening(host: str, port: int) -> tuple[socket.socket, bool]:
    """A socket bound to the address, and whether only this machine can reach it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ParameterError(f"--host {host}: there is no such address") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)  # asyncio sends at once only where the protocol is named
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hint = ": give another with --port" if host else ""
        raise ParameterError(
            f"cannot listen on port {port} of {host}: {error.strerror or error}{hint}"
        ) from None
    listener.set_inheritable(True)
    return listener, ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback


def _hosts(host: str, allowed: list[str]) -> tuple[str, ...]:
    from hatrix.app.guard import LOOPBACK

    for name in allowed:
        if not name or "/" in name or name != name.strip() or (name.count(":") == 1):
            raise ParameterError(f"--allowed-host {name!r}: give a name alone, such as films.example.org")
    return (*LOOPBACK, host.lower(), *(name.lower() for name in allowed))


def _origins(allowed: list[str]) -> tuple[str, ...]:
    for origin in allowed:
        if not ORIGIN.fullmatch(origin):
            raise ParameterError(
                f"--allowed-origin {origin!r}: give the scheme and the host, and a port that is not the usual one, "
                "such as https://shop.example.org"
            )
    return tuple(origin.lower() for origin in allowed)


def _openness(host: str, token: str | None, allowed: list[str] | None) -> str:
    """What is to be known when other machines can reach the service."""
    said = f"reachable from other machines ({host})"
    if token is None:
        said += f"; without a token (--token or {TOKEN}), nothing can be written or administered"
    if not allowed:
        said += "; by this machine's addresses alone: add names with --allowed-host"
    return said
