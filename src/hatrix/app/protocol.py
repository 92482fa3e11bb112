"""Connections that give a client no more time and room than a sound one needs: HTTP/1.1 by uvicorn's parser."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hatrix.app.guard import REFUSED, problem

__all__ = ["Patient"]

log = logging.getLogger("hatrix.serve")


class Patient(HttpToolsProtocol):
    """Cuts a connection that does not send a head, or does not read a reply, in time; errors are problems in JSON."""

    HEAD_SECONDS = 10.0
    """Until the head of a request must be complete, from the start of the connection or its first byte."""
    HEAD_BYTES = 1 << 16
    READ_SECONDS = 20.0
    """For which a reply may lie unread."""
    PAUSE_SECONDS = 0.2
    """For which nothing is read from who was refused: clients that ask again at once take no time from others."""
    CONNECTIONS = 4096

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.CONNECTIONS:
            transport.abort()
            return
        self._head = self.loop.call_later(self.HEAD_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.HEAD_BYTES:
            self._end(431, "too-large", f"the head of a request may have {self.HEAD_BYTES:,} bytes at most")
        elif self._head is None:
            self._head = self.loop.call_later(self.HEAD_SECONDS, self._late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head is not None:
            self._head.cancel()
            self._head = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if REFUSED in self.cycle.scope and not self.pipeline:
            self.flow.pause_reading()
            self.loop.call_later(self.PAUSE_SECONDS, self._read_on)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.READ_SECONDS, self.transport.abort)  # where the last reply is still unread

    def send_400_response(self, msg: str) -> None:
        self._end(400, "bad-request", msg)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _late(self) -> None:
        self._head = None
        self._end(
            408, "timeout", f"the head of the request was not there after {self.HEAD_SECONDS:g} seconds"
        )

    def _end(self, status: int, code: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        body = problem(status, code, detail)
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (len(body), body)
        )
        self.transport.close()
