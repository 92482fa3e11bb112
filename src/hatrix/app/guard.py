"""What stands before the application: who is let in, how much is taken in, what is counted and logged."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hatrix.app.metrics import Metrics

__all__ = ["LOOPBACK", "REFUSED", "AccessLog", "Guard", "problem"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LARGEST = 1 << 20
"""Bytes of a body."""
BODY_SECONDS = 10.0
"""Until a body must be there."""
RETRY_AFTER = 1
GONE = 499
"""What is logged and counted for a client that left before its request was complete."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
REFUSED = "hatrix.refused"
"""In the scope of a request that was refused for lack of room."""
PROBES = ("/health/live", "/health/ready")
KNOWN_HOSTS = 256
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = logging.getLogger("hatrix.serve")


def problem(status: int, code: str, detail: str) -> bytes:
    """The body of an error (see `hatrix.app.problems`)."""
    said = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return json.dumps(said, separators=(",", ":")).encode()


OVERLOADED = problem(503, "overloaded", "too many requests are being worked on: try again in a second")


class _Refused(Exception):
    """The request ends here."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.body = status, problem(status, code, detail)


class _Full(Exception):
    """As many requests are being worked on as may be."""


class _Gone(Exception):
    """The client has closed the connection before its request was complete."""


class Guard:
    """Checks each request, has the application answer it, and keeps account of it.

    Parameters
    ----------
    app
        The application.
    hosts
        Names that the Host header may give. The address that the connection was made to is always one: a foreign page
        can make a browser send its own name here (DNS rebinding), but not an address.
    max_concurrent
        Requests worked on at once. One more is refused with 503 and Retry-After, which costs next to nothing; probes of
        health never are.
    metrics, access_log
        Told of each request.
    largest, body_seconds
        The most bytes of a body, and the seconds until it must be complete. A request is let in when its body is here.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str] = LOOPBACK,
        max_concurrent: int = 64,
        metrics: Metrics | None = None,
        access_log: AccessLog | None = None,
        largest: int = LARGEST,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.metrics, self.access_log = app, metrics, access_log
        self.hosts = frozenset(host.lower() for host in hosts)
        self.max_concurrent, self.largest, self.body_seconds = max_concurrent, largest, body_seconds
        self.running = 0
        self._known: set[tuple[bytes, str | None]] = set()
        if metrics is not None:
            metrics.running.set(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 0, 0

        async def reply(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            if scope["path"] in PROBES:
                await self.app(scope, receive, reply)
            else:
                self._check_room()
                self._check_host(scope)
                await self._let_in(scope, await self._with_body(scope, receive), reply)
        except _Full:
            scope[REFUSED] = True
            await _refuse(reply, 503, OVERLOADED, (b"retry-after", b"%d" % RETRY_AFTER))
        except _Gone:
            status = GONE
        except _Refused as refused:
            # What is left of a body that was refused is not read.
            await _refuse(reply, refused.status, refused.body, (b"connection", b"close"))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await _refuse(
                reply, 500, problem(500, "internal", "the service has made a mistake, and logged it")
            )
        self._account(scope, status, size, time.perf_counter() - began)

    def _check_room(self) -> None:
        if self.running >= self.max_concurrent:
            raise _Full

    async def _let_in(self, scope: Scope, receive: Receive, reply: Send) -> None:
        self._check_room()  # others were let in while the body came
        self.running += 1
        if self.metrics is not None:
            self.metrics.running.inc()
        try:
            await self.app(scope, receive, reply)
        finally:
            self.running -= 1
            if self.metrics is not None:
                self.metrics.running.dec()

    def _check_host(self, scope: Scope) -> None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        here = scope["server"][0] if scope.get("server") else None
        if len(given) == 1 and (given[0], here) in self._known:
            return
        if len(given) != 1:
            raise _Refused(400, "bad-host", f"the request has {len(given)} Host headers instead of one")
        name, _, port = given[0].decode("latin-1").lower().rpartition(":")
        if not name or not (port.isascii() and port.isdecimal()):  # without a port
            name = given[0].decode("latin-1").lower()
        if name not in self.hosts and (here is None or name.strip("[]") != here.lower()):
            raise _Refused(
                421, "bad-host", "the Host header names another host: allow it with --allowed-host"
            )
        if len(self._known) < KNOWN_HOSTS:
            self._known.add((given[0], here))

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """What the application receives: a body that is complete and not too large."""
        length = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 20 else self.largest + 1
            elif name == b"transfer-encoding":
                length = -1
        if not length:
            return receive
        if length > self.largest:
            raise _Refused(413, "too-large", f"a body may have {self.largest:,} bytes at most")
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self.largest:
                        raise _Refused(413, "too-large", f"a body may have {self.largest:,} bytes at most")
        except TimeoutError:
            raise _Refused(
                408, "timeout", f"the body was not there after {self.body_seconds:g} seconds"
            ) from None
        return _told({"type": "http.request", "body": b"".join(parts), "more_body": False}, receive)

    def _account(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        if self.metrics is not None:
            self.metrics.count(method, _route(scope), status, seconds)
        if self.access_log is not None:
            client = scope.get("client")
            self.access_log.write(
                {
                    "time": round(time.time(), 3),
                    "client": client[0] if client else None,
                    "method": method,
                    "path": scope["path"],
                    "status": status,
                    "bytes": size,
                    "ms": round(1000 * seconds, 2),
                }
            )


class AccessLog:
    """Writes a line of JSON for each request, many of them at once.

    The query is left out, since it tells who asked for what.
    """

    EVERY = 0.2

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write
        self._lines: list[str] = []
        self._due: asyncio.TimerHandle | None = None

    def write(self, facts: dict[str, Any]) -> None:
        """Write a line, a moment later."""
        self._lines.append(json.dumps(facts, separators=(",", ":")) + "\n")
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self.EVERY, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines, self._due = self._lines, [], None
        with suppress(OSError):  # whoever read it has gone
            (self._write or sys.stderr.write)("".join(lines))
            sys.stderr.flush()


def _told(message: Message, then: Receive) -> Receive:
    """Receives a message that is here already, and afterwards what else comes."""
    here = [message]

    async def receive() -> Message:
        return here.pop() if here else await then()

    return receive


async def _refuse(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = b"%d" % len(body)
    headers = ((b"content-type", b"application/problem+json"), (b"content-length", length), *headers)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _route(scope: Scope) -> str:
    """The pattern of the route that answered; one name for all paths that there is no route for."""
    route = scope.get("hatrix.route") or getattr(scope.get("route"), "path", None)
    return route if isinstance(route, str) and route else "other"
