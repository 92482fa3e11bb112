"""HTTP/1.1 connections that limit every part of a message in size and time; uvicorn's parser reads them.

A connection waits for a message (idle), for its head, or for the rest of it: the body and its end. The parser gets at most
one message more than has been answered. So a client that sends thousands of requests at once costs no more memory than
the bytes of one read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hatrix.app.guard import ANSWERED, REFUSED, RETRY_AFTER, SECURITY, Budget, Ledger, problem

__all__ = ["Patient", "Shared"]

READ_BYTES = 1 << 14
"""Maximum bytes of one read from a connection."""
UNSENT_BYTES = 1 << 14
"""Bytes of a reply that may wait in memory before the client counts as not reading."""
EMPTY_LINE = re.compile(rb"\n\r?\n")
LEAST = 64
"""Minimum bytes of a body for one call of the parser, however many empty lines they have."""
IDLE, HEAD, REST = range(3)


class _Fault(NamedTuple):
    """The reason why a message is refused: the status, code and detail of the reply."""

    status: int
    code: str
    detail: str


INVALID = _Fault(400, "bad-request", "the bytes received are not a request of HTTP/1.1")
OVERLOADED = _Fault(
    503, "overloaded", "too many bytes wait for the rest of their requests: try again in a second"
)


def _too_large(status: int, part: str, most: int) -> _Fault:
    return _Fault(status, "too-large", f"the {part} of a request may have {most:,} bytes at most")


@dataclass
class Shared:
    """State that the connections of one server share: the read buffer, the budget of bytes, and the ledger of replies."""

    budget: Budget = field(default_factory=Budget)
    ledger: Ledger = field(default_factory=Ledger)
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))


class Patient(HttpToolsProtocol, asyncio.BufferedProtocol):
    """A connection with limits of time and size for each part of a request; its error replies are JSON problems."""

    HEAD_SECONDS = 10.0
    """Seconds for the head of a request, from the start of the connection or from the first byte of the head."""
    HEAD_BYTES = 1 << 16
    HEADERS = 100
    REST_SECONDS = 12.0
    """Seconds from the head of a request to its end. The guard's limit is shorter, so its reply comes first."""
    REST_BYTES = 1 << 21
    """Bytes of the body as it is sent, with the sizes of chunks. The guard limits the body itself."""
    READ_SECONDS = 20.0
    """Seconds for which a reply may stay unread."""
    LINGER_SECONDS = 2.0
    """Seconds until a refused connection is cut. A cut at once might lose the reply with the reason."""
    PAUSE_SECONDS = 0.2
    """Seconds without a read after a refusal, so that clients that try again at once take no time from others.

    A connection on which more requests wait behind the refused one is closed instead."""
    CONNECTIONS = 4096

    _part = IDLE
    _bytes = 0
    _rest = b""
    """Bytes that the parser gets once the requests before them are answered."""
    _ended = False
    _fault: _Fault | None = None
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, shared: Shared | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shared = Shared() if shared is None else shared
        self._share = self._shared.budget.share()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.CONNECTIONS:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNSENT_BYTES)
        self._outlet: Any = SimpleNamespace(
            write=transport.write, is_closing=transport.is_closing, close=self._end_after_reply
        )
        self._timer = self.loop.call_later(self.HEAD_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._unread is not None:
            self._unread.cancel()
        self._ended, self._rest = True, b""
        self._share.hold(0)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._shared.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._rest = self._rest + data if self._rest else data
            self._read_on()

    def _read_on(self) -> None:
        """Give the parser the received bytes, up to the end of a message that has to be answered first."""
        while self._rest and not self._owes():
            before = self._part
            if before == IDLE:
                self._rest = self._rest.lstrip(b"\r\n")  # empty lines before a request are no part of it
                if not self._rest:
                    break
                self._unset_keepalive_if_required()
            # Each head ends with an empty line, so the bytes up to the first one complete at most one head.
            found = EMPTY_LINE.search(self._rest, LEAST if before == REST else 0)
            end = found.end() if found else len(self._rest)
            data, self._rest = self._rest[:end], self._rest[end:]
            if before != REST and self._bytes + len(data) > self.HEAD_BYTES:
                self._refuse(_too_large(431, "head", self.HEAD_BYTES))
                return
            if not self._parse(data):
                self._refuse(self._fault or INVALID)
                return
            if before in (IDLE, self._part):
                self._bytes += len(data)
            if self._part == REST and self._bytes > self.REST_BYTES:
                self._refuse(_too_large(413, "rest", self.REST_BYTES))
                return
        if self._rest:
            self.flow.pause_reading()
        self._start_timer()
        if not self._hold():
            self._refuse(OVERLOADED)

    def _owes(self) -> bool:
        """Return whether the parser has to wait for a reply."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return self._part != REST or bool(self.pipeline)

    def _parse(self, data: bytes) -> bool:
        """Give bytes to the parser; return False if they are not HTTP/1.1."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is spoken: what follows is HTTP/1.1 as before.
            self._rest = data[upgrade.args[0] :] + self._rest
        except httptools.HttpParserError:
            return False
        return True

    def on_message_begin(self) -> None:
        self._part, self._bytes = HEAD, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part == REST:
            self._give_up(_Fault(400, "bad-request", "a body has trailers behind it, which are not taken"))
        if len(self.headers) >= self.HEADERS:
            self._give_up(_Fault(431, "too-large", f"a request may have {self.HEADERS} headers at most"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        self._part, self._bytes = REST, 0
        self._stop_timer()
        if self.cycle is not before:
            self.cycle.transport = self._outlet

    def on_message_complete(self) -> None:
        self._part, self._bytes = IDLE, 0
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ended:
            self._unset_keepalive_if_required()
        elif self.transport.is_closing():
            self._close()
        elif REFUSED in self.cycle.scope and self._rest:
            # More requests wait behind the refused one. Each would be refused after a pause, so they would keep the
            # connection open for minutes; a client that sends several at once repeats those that get no reply.
            self._linger()
        elif REFUSED in self.cycle.scope and not self.pipeline:
            self.flow.pause_reading()
            self.loop.call_later(self.PAUSE_SECONDS, self._resume)
        else:
            if self._part == HEAD:
                self._unset_keepalive_if_required()
            if self._rest:
                self._read_on()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.READ_SECONDS, self.transport.abort)
        if not self._hold():
            self.transport.abort()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._hold()

    def timeout_keep_alive_handler(self) -> None:
        if not self.transport.is_closing():
            self._close()

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._read_on()

    def _hold(self) -> bool:
        """Charge the bytes that this connection holds to the shared budget; return False if they exceed it."""
        held = len(self._rest)
        if self._part == HEAD:
            held += self._bytes
        if self.flow.write_paused:
            held += self.transport.get_write_buffer_size()
        return self._share.hold(held)

    def _start_timer(self) -> None:
        if self._part != IDLE and self._timer is None:
            seconds = self.HEAD_SECONDS if self._part == HEAD else self.REST_SECONDS
            self._timer = self.loop.call_later(seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.flow.read_paused or self._owes():  # the server is late, not the client
            self._start_timer()
            return
        part, seconds = ("rest", self.REST_SECONDS) if self._part == REST else ("head", self.HEAD_SECONDS)
        self._refuse(
            _Fault(408, "timeout", f"the {part} of the request was not there after {seconds:g} seconds")
        )

    def _give_up(self, fault: _Fault) -> NoReturn:
        """End the parser's work from one of its callbacks."""
        self._fault = fault
        raise ValueError(fault.detail)

    def _refuse(self, fault: _Fault) -> None:
        """Reply that the message is refused, and end the connection."""
        self._drop()
        if self.transport.is_closing():
            return
        body = problem(*fault)
        cycle = None if self.cycle is None or self.cycle.response_complete else self.cycle
        if cycle is not None and self._part != REST:
            cycle.keep_alive = False  # what came before is answered first, and then uvicorn closes
            self.flow.resume_reading()
            return
        if self._part == REST:
            if cycle is None or cycle.response_started or self.pipeline:
                self._close()
                return
            cycle.scope[ANSWERED] = fault.status  # type: ignore[literal-required]
            cycle.disconnected = True
            cycle.message_event.set()  # the guard counts and logs the reply
        else:
            client = None if self.client is None else self.client[0]
            self._shared.ledger.write(client, "other", "", "other", fault.status, len(body), 0.0)
        headers = [
            *self.server_state.default_headers,
            *SECURITY,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        if fault.status == 503:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER))
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[fault.status] + head + b"\r\n" + body)
        self._linger()

    def _end_after_reply(self) -> None:
        """End the connection after a reply that says it closes."""
        if self._part == REST and not self.pipeline:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Send no more, and read and discard bytes for a while.

        If the connection were cut while the client is still sending, the client might lose the reply.
        """
        self._drop()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._cut_after(self.LINGER_SECONDS)

    def _close(self) -> None:
        """End the connection once the client has read the reply, or its time to read is over."""
        self._drop()
        self.transport.close()
        self._cut_after(self.READ_SECONDS)

    def _drop(self) -> None:
        """Take no more requests."""
        self._ended, self._rest = True, b""
        self._stop_timer()
        self._unset_keepalive_if_required()
        self._hold()

    def _cut_after(self, seconds: float) -> None:
        abort: Callable[[], None] = self.transport.abort
        self._timer = self.loop.call_later(seconds, abort)
