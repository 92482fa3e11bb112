"""An ASGI layer before the application that checks hosts, limits bodies and load, and counts and logs replies."""

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

__all__ = [
    "ANSWERED",
    "LOOPBACK",
    "REFUSED",
    "RETRY_AFTER",
    "SECURITY",
    "AccessLog",
    "Budget",
    "Guard",
    "Ledger",
    "problem",
]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LARGEST = 1 << 20
"""Maximum bytes of a body."""
BODY_SECONDS = 10.0
"""Seconds until a body must be complete."""
HELD = 1 << 24
"""Bytes that bodies, unfinished heads and unread replies may hold together, in one process."""
RETRY_AFTER = 1
CLOSE = (b"connection", b"close")
GONE = 499
"""The status in logs and metrics for a client that left before its request was complete."""
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
"""Key that is set in the scope of a request that was refused because the service is overloaded."""
ANSWERED = "hatrix.answered"
"""Key in the scope of a request that the connection refused before its body was complete: the status of the reply."""
PROBES = ("/health/live", "/health/ready")
KNOWN_HOSTS = 256
Headers = list[tuple[bytes, bytes]]
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = logging.getLogger("hatrix.serve")


def problem(status: int, code: str, detail: str) -> bytes:
    """Return the body of an error reply (see `hatrix.app.problems`)."""
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
    """Raised when the service has no room for a request now."""

    def __init__(self, *, in_body: bool = False) -> None:
        super().__init__()
        self.in_body = in_body


class _Gone(Exception):
    """The client has closed the connection before its request was complete."""


class Budget:
    """A limit on the bytes that all requests and replies hold in memory, so that many slow clients cannot fill it.

    Examples
    --------
    >>> budget = Budget(100)
    >>> one, other = budget.share(), budget.share()
    >>> one.hold(70), other.hold(40), one.hold(60), other.hold(40)
    (True, False, True, True)
    """

    def __init__(self, limit: int = HELD) -> None:
        self.limit, self.held = limit, 0

    def share(self) -> Share:
        """Return a new share of the budget, which holds no bytes yet."""
        return Share(self)


class Share:
    """The bytes of a budget that one request or connection holds."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget) -> None:
        self._budget, self.held = budget, 0

    def hold(self, size: int) -> bool:
        """Hold this many bytes from now on; if the budget has too few, change nothing and return False."""
        more = size - self.held
        if more > 0 and self._budget.held + more > self._budget.limit:
            return False
        self._budget.held += more
        self.held = size
        return True


class Ledger:
    """The account of replies: it counts each reply and logs a line for it."""

    def __init__(self, metrics: Metrics | None = None, access_log: AccessLog | None = None) -> None:
        self.metrics, self.access_log = metrics, access_log

    def write(
        self, client: str | None, method: str, path: str, route: str, status: int, size: int, seconds: float
    ) -> None:
        """Count and log a reply of ``size`` bytes that took this many seconds."""
        if self.metrics is not None:
            self.metrics.count(method, route, status, seconds)
        if self.access_log is not None:
            self.access_log.write(
                {
                    "time": round(time.time(), 3),
                    "client": client,
                    "method": method,
                    "path": path,
                    "status": status,
                    "bytes": size,
                    "ms": round(1000 * seconds, 2),
                }
            )


class Guard:
    """The ASGI layer that checks each request, passes it to the application, and records the reply.

    HEAD is answered as GET is, without the body.

    Parameters
    ----------
    app
        The application.
    hosts
        Names that the Host header may give. The address that the connection was made to is always one: a foreign page
        can make a browser send its own name here (DNS rebinding), but not an address.
    max_concurrent
        Maximum requests worked on at once. One more is refused with 503 and Retry-After, which costs next to nothing.
        Health probes are never refused, and their bodies are not read.
    metrics, access_log
        Told of each request.
    largest, body_seconds
        The most bytes of a body, and the seconds until it must be complete. A request is let in when its body is here.
    budget
        The bytes that all bodies may hold together, from their first byte to the reply. One that does not fit is
        refused with 503, as a request beyond ``max_concurrent`` is.
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
        budget: Budget | None = None,
    ) -> None:
        self.app, self.metrics = app, metrics
        self.ledger = Ledger(metrics, access_log)
        self.hosts = frozenset(host.lower() for host in hosts)
        self.max_concurrent, self.largest, self.body_seconds = max_concurrent, largest, body_seconds
        self.budget = Budget() if budget is None else budget
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
        more: Headers = SECURITY
        head = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if head else scope

        async def reply(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *more]
            elif head:
                message = {**message, "body": b""}
            else:
                size += len(message.get("body", b""))
            await send(message)

        body = Share(self.budget)
        try:
            if scope["path"] in PROBES:
                if self._length_of_body(scope):
                    more = [*SECURITY, CLOSE]
                await self.app(asked, _nothing_to_read, reply)
            else:
                self._check_room()
                self._check_host(scope)
                await self._let_in(asked, await self._with_body(scope, receive, body), reply)
        except _Full as full:
            scope[REFUSED] = True
            if full.in_body:  # the rest of the body is not read
                more = [*SECURITY, CLOSE]
            await _refuse(reply, 503, OVERLOADED, (b"retry-after", b"%d" % RETRY_AFTER))
        except _Gone:
            status = scope.get(ANSWERED, GONE)
        except _Refused as refused:
            await _refuse(reply, refused.status, refused.body, CLOSE)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise
            await _refuse(
                reply, 500, problem(500, "internal", "the service has made a mistake, and logged it")
            )
        finally:
            body.hold(0)
        client = scope.get("client")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.ledger.write(
            client[0] if client else None,
            method,
            scope["path"],
            _route(asked),
            status,
            size,
            time.perf_counter() - began,
        )

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

    def _length_of_body(self, scope: Scope) -> int:
        """Return the bytes of the body: 0 if there is none, and -1 if the head does not say."""
        length = 0
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 20 else self.largest + 1
            elif name == b"transfer-encoding":
                length = -1
        return length

    async def _with_body(self, scope: Scope, receive: Receive, share: Share) -> Receive:
        """Return the channel from which the application receives a body that is complete and not too large."""
        length = self._length_of_body(scope)
        if not length:
            return receive
        if length > self.largest:
            raise _Refused(413, "too-large", f"a body may have {self.largest:,} bytes at most")
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if len(body) + len(part) > self.largest:
                        raise _Refused(413, "too-large", f"a body may have {self.largest:,} bytes at most")
                    if not share.hold(len(body) + len(part)):
                        raise _Full(in_body=True)
                    body += part
        except TimeoutError:
            raise _Refused(
                408, "timeout", f"the body was not there after {self.body_seconds:g} seconds"
            ) from None
        return _told({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


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


async def _nothing_to_read() -> Message:
    """Return an empty body, whatever the client sends."""
    return {"type": "http.request", "body": b"", "more_body": False}


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
