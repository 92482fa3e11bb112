"""Connections whose clients are slow, endless or malicious: each part of a message has its limit in size and time."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hatrix.app.guard import SECURITY, AccessLog, Budget, Guard, Ledger
from hatrix.app.protocol import Patient, Shared
from service import Running, serving, until

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


class Hasty(Patient):
    HEAD_SECONDS, REST_SECONDS, READ_SECONDS, LINGER_SECONDS = 0.5, 0.7, 0.5, 0.3
    HEAD_BYTES, REST_BYTES, HEADERS, PAUSE_SECONDS = 8192, 100_000, 20, 0.01


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says the path, and how long the body is; at /large sends more than buffers hold."""
    body = (await receive())["body"]
    text = b"x" * (1 << 22) if scope["path"] == "/large" else f"{scope['path']} {len(body)}!".encode()
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Served:
    """A server in a thread of this process: its address, its log, its counts and its budget."""

    def __init__(self, address: Any, shared: Shared, lines: list[str], counts: list[Any]) -> None:
        self.address, self.shared, self.counts, self._lines = address, shared, counts, lines

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def reply(self, *sent: bytes) -> bytes:
        """All that comes back until the server ends the connection."""
        with self.connect() as connection:
            for part in sent:
                with suppress(OSError):
                    connection.sendall(part)
            return rest(connection)

    @property
    def log(self) -> list[dict[str, Any]]:
        assert self.shared.ledger.access_log is not None
        self.shared.ledger.access_log.flush()
        return [json.loads(line) for line in "".join(self._lines).splitlines()]


@contextmanager
def served(app: Any = echo, **limits: Any) -> Iterator[Served]:
    lines: list[str] = []
    counts: list[Any] = []
    metrics: Any = SimpleNamespace(
        count=lambda *told: counts.append(told),
        running=SimpleNamespace(set=lambda _: None, inc=lambda: None, dec=lambda: None),
    )
    log = AccessLog(lines.append)
    shared = Shared(Budget(limits.pop("budget", 1 << 20)), Ledger(metrics, log))
    guard = Guard(
        app, metrics=metrics, access_log=log, budget=shared.budget, **{"body_seconds": 0.5, **limits}
    )
    http: Any = partial(Hasty, shared=shared)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        config = uvicorn.Config(
            guard, http=http, loop="asyncio", ws="none", lifespan="off", log_level="critical",
            timeout_keep_alive=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Served(listener.getsockname(), shared, lines, counts)
        finally:
            server.should_exit = True
            thread.join()
    assert shared.budget.held == 0  # whatever happened, all of it was given back


def rest(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def statuses(reply: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+) ", reply)]


def problem_of(reply: bytes) -> dict[str, Any]:
    """The problem of the last reply, which has all headers that replies have."""
    last = [found.start() for found in re.finditer(rb"HTTP/1\.1 \d", reply)][-1]
    head, _, body = reply[last:].partition(b"\r\n\r\n")
    sent = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert sent[b"content-type"] == b"application/problem+json"
    assert sent[b"connection"] == b"close"
    assert set(SECURITY) <= set(sent.items())
    found: dict[str, Any] = json.loads(body)
    return found


def test_private_names_of_uvicorn_are_those_that_the_connection_uses():
    """A newer uvicorn may change them: read its httptools_impl.py, then raise the bound in pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = next(
        requirement
        for requirement in map(Requirement, project["optional-dependencies"]["serve"])
        if requirement.name == "uvicorn"
    )
    assert {"<"} <= {part.operator for part in wanted.specifier}
    assert version("uvicorn") in wanted.specifier
    for name in (
        "connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "on_message_begin",
        "on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete",
        "timeout_keep_alive_handler", "_unset_keepalive_if_required",
    ):  # fmt: skip
        assert callable(getattr(HttpToolsProtocol, name))
    assert HttpToolsProtocol.__init__.__code__.co_varnames[1:5] == (
        "config", "server_state", "app_state", "_loop",
    )  # fmt: skip
    ours = {"parser", "flow", "pipeline", "cycle", "connections", "client", "headers", "server_state"}
    assert ours <= set(HttpToolsProtocol.__init__.__code__.co_names)
    cycle = {
        "transport",
        "keep_alive",
        "disconnected",
        "message_event",
        "response_started",
        "response_complete",
    }
    assert cycle <= set(RequestResponseCycle.__init__.__code__.co_names)


def test_a_connection_is_what_the_server_makes_it():
    """The subclass overrides what exists, and nothing by accident."""
    known = {name for name in vars(HttpToolsProtocol) if not name.startswith("__")}
    ours = {name for name in vars(Patient) if not name.startswith("__") and callable(getattr(Patient, name))}
    assert {name for name in ours if not name.startswith("_")} <= known | {"get_buffer", "buffer_updated"}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\n" + HOST.replace(b"\r", b"") + b"\n",
        b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["length-and-chunks", "negative", "twice", "overflow", "coding", "http2", "bytes", "newlines", "connect", "tls"],
)  # fmt: skip
def test_what_is_no_request_is_refused_logged_and_counted(sent):
    with served() as server:
        reply = server.reply(sent)
        assert statuses(reply) == [400]
        assert problem_of(reply)["code"] == "bad-request"
        until(lambda: server.counts)
        [line] = server.log
        assert line["client"] == "127.0.0.1"
        known = b"gzip" in sent  # its head can be read
        assert (line["method"], line["path"], line["status"]) == (
            ("POST", "/", 400) if known else ("other", "", 400)
        )
        assert [count[1:3] for count in server.counts] == [("other", 400)]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431, "too-large"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 9000 + b"\r\n\r\n", 431, "too-large"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 21 + b"\r\n", 431, "too-large"),
        (CHUNKED + b"1\r\nx\r\n0\r\na: b\r\n\r\n", 400, "bad-request"),
        (CHUNKED + b"1;" + b"x" * 110_000, 413, "too-large"),
        (CHUNKED + b"1\r\nx\r\n" * 20_000, 413, "too-large"),
        (b"", 408, "timeout"),
        (b"\r\n", 408, "timeout"),
        (b"GET / HTTP/1.1\r\n", 408, "timeout"),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n1234", 408, "timeout"),
        (CHUNKED + b"4\r\n1234\r\n", 408, "timeout"),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            408,
            "timeout",
        ),
    ],
)
def test_each_part_of_a_message_has_a_limit(sent, status, code):
    with served() as server:
        reply = server.reply(sent)
        assert statuses(reply)[-1] == status, reply
        assert problem_of(reply)["code"] == code
        until(lambda: server.counts)
        assert [count[2] for count in server.counts] == [status]
        assert [line["status"] for line in server.log] == [status]


def test_a_trickle_does_not_extend_a_limit():
    """Whatever part of a message comes byte by byte, the connection ends in its time."""

    def trickle(connection: socket.socket, first: bytes, more: bytes) -> float:
        began = time.monotonic()
        with connection, suppress(OSError):
            connection.sendall(first)
            connection.settimeout(0.02)
            while time.monotonic() < began + 15:
                connection.sendall(more)
                with suppress(TimeoutError):
                    while connection.recv(1 << 16):
                        pass
                    break
        return time.monotonic() - began

    answered = GET.replace(b"GET / ", b"GET /health/live ")
    parts = [
        (b"", b"\r\n"),
        (GET, b"\r\n"),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n"),
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (GET + b"GET / HTTP/1.1\r\nX: ", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"0\r\n", b"a: b\r\n"),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 90000\r\n\r\n", b"x"),
        *((answered[:-2] + head, more) for head, more in [
            (b"Content-Length: 90000\r\n\r\n", b"x"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            (b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        ]),
    ]  # fmt: skip
    with served() as server, ThreadPoolExecutor(len(parts)) as pool:
        took = list(pool.map(lambda part: trickle(server.connect(), *part), parts))
    assert max(took) < 8, took


def test_requests_at_once_are_answered_in_order():
    paths = [f"/{at}" for at in range(2000)]
    requests = b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths)
    with served() as server, server.connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(requests + GET[:20],))
        sender.start()
        reply = b""
        while reply.count(b"!") < len(paths):
            reply += connection.recv(1 << 16)
        sender.join()
        assert re.findall(rb"(/\d+) 0!", reply) == [path.encode() for path in paths]
        connection.sendall(GET[20:].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert rest(connection).endswith(b"/ 0!")


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [1 << 20, 1000])
def test_the_beginning_of_the_next_request_does_not_count_as_a_head(size, chunked, step):
    body = (b"a\r\n\r\nb\n\n" * size)[:size]
    head = f"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    if chunked:
        head, body = CHUNKED.replace(b"/ ", b"/a ", 1), b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    sent = head + body + head + body + GET[:5]
    with served() as server, server.connect() as connection:
        for at in range(0, len(sent), step):
            connection.sendall(sent[at : at + step])
        reply = b""
        while reply.count(b"!") < 2:
            reply += connection.recv(1 << 16)
        assert re.findall(rb"/a (\d+)!", reply) == [b"%d" % size] * 2
        connection.sendall(GET[5:] + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert statuses(rest(connection)) == [200, 200]


def test_what_asks_for_another_protocol_is_answered_in_this_one():
    upgrade = GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n"
    last = GET.replace(b"/ ", b"/last ", 1)[:-2] + b"Connection: close\r\n\r\n"
    with served() as server:
        reply = server.reply(upgrade + last)
    assert statuses(reply) == [200, 200]
    assert reply.endswith(b"/last 0!")


def test_a_request_that_cannot_be_read_waits_for_the_replies_before_it():
    release = threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        await asyncio.to_thread(release.wait, 20)
        await echo(scope, receive, send)

    post = b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n"
    with served(slow) as server, server.connect() as connection:
        connection.sendall(post + b"xnonsense")
        time.sleep(0.2)
        release.set()
        reply = rest(connection)
    assert statuses(reply)[0] == 200
    assert b"/a 1!" in reply


def test_a_probe_reads_no_body():
    head = b"GET /health/live HTTP/1.1\r\n" + HOST
    with served() as server:
        for part in (
            b"Content-Length: 5000000000\r\n\r\n" + b"x" * 200_000,
            b"Transfer-Encoding: chunked\r\n\r\n" + b"30d40\r\n" + b"x" * 200_000,
            b"Content-Length: 3\r\n\r\nabc" + GET,
        ):
            reply = server.reply(head + part)
            assert statuses(reply) == [200]
            assert b"connection: close" in reply
            assert reply.endswith(b"/health/live 0!")


def test_bodies_have_a_budget_together_and_give_it_back():
    part = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 60001\r\n\r\n" + b"x" * 60_000
    with served(budget=400_000, body_seconds=15) as server:
        connections = [server.connect() for _ in range(12)]
        for connection in connections:
            connection.sendall(part)
        until(lambda: len(server.counts) == 6)
        assert [count[2] for count in server.counts] == [503] * 6
        held = server.shared.budget.held
        assert 6 * 60_000 <= held <= 400_000
        assert statuses(server.reply(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) == [200]
        replies = []
        for connection in connections:  # those that were let in are answered
            with suppress(OSError):
                connection.sendall(b"x")
            connection.settimeout(20)
            replies.append(connection.recv(1 << 16))
            connection.close()
        assert sorted(statuses(b"".join(replies))) == [200] * 6 + [503] * 6
        refused = next(reply for reply in replies if b"503" in reply)
        assert problem_of(refused)["code"] == "overloaded"
        assert b"retry-after: 1\r\n" in refused
        until(lambda: server.shared.budget.held == 0)


def test_a_refusal_ends_a_connection_with_more_requests_behind_it():
    with served(max_concurrent=0) as server, ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(server.reply, [GET * 500] * 5))
        assert [statuses(reply) for reply in replies] == [[503]] * 5
        until(lambda: len(server.counts) == 5)  # a reply is counted once it was sent
        with server.connect() as connection:  # one request after the other may go on
            for _ in range(3):
                connection.sendall(GET)
                reply = b""
                while not reply.endswith(b"}"):
                    reply += connection.recv(1 << 16)
                assert statuses(reply) == [503]
                assert json.loads(reply.partition(b"\r\n\r\n")[2])["code"] == "overloaded"


def test_unfinished_heads_and_unread_replies_count_in_the_budget():
    with served(budget=30_000, body_seconds=15) as server:
        heads = [server.connect() for _ in range(5)]
        for connection in heads:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 7000)
        replies = b"".join(rest(connection) for connection in heads)
        assert sorted(statuses(replies)) == [408] * 4 + [503]
        with server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.sendall(GET.replace(b"/ ", b"/large ", 1))
            until(lambda: [count for count in server.counts if count[2] == 200])
            assert len(rest(connection)) < 1 << 22
        for connection in heads:
            connection.close()


class Attacked:
    """A service under attack: how much memory it has, and what happens to the attackers."""

    def __init__(self, running: Running) -> None:
        self.port = int(running.address.rpartition(":")[2])
        self.pid, self.most, self._ended = running.process.pid, 0, threading.Event()
        self.idle = self.resident()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def resident(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) // 1024

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            with suppress(OSError):
                self.most = max(self.most, self.resident())

    def end(self) -> None:
        self._ended.set()
        self._watch.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def flood(self, first: bytes, more: bytes) -> float:
        """Send without end; the seconds until the service has had enough."""
        began = time.monotonic()
        with self.connect() as connection, suppress(OSError):
            connection.sendall(first)
            while time.monotonic() < began + 60:
                connection.sendall(more)
        return time.monotonic() - began


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_attacks_cost_little_memory_and_end(files, tmp_path):
    """Many clients at once that send without end, or send a part and wait; the service goes on answering."""
    path = Path(shutil.copy(files[0], tmp_path / "model.hatrix"))
    chunked = CHUNKED.replace(b"POST / ", b"POST /v1/predictions ")
    probe = CHUNKED.replace(b"POST / ", b"GET /health/live ")
    body = b"POST /v1/predictions HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000
    floods = [
        (probe + b"0\r\n", b"a: b\r\n" * 2000),
        (chunked + b"0\r\n", b"a: b\r\n" * 2000),
        (chunked + b"1;", b"x" * 12_000),
        (chunked, b"1\r\nx\r\n" * 2000),
        (probe, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 2000),
        (b"GET /", b"x" * 12_000),
        (b"", GET.replace(b"/ ", b"/health/live ", 1) * 200),  # and the replies are not read
    ]
    waits = [body, b"GET / HTTP/1.1\r\nX: " + b"x" * 60_000, chunked + b"1\r\nx\r\n" * 10_000]
    seconds = "; ".join(f"Patient.{name}_SECONDS = 3" for name in ("HEAD", "REST", "READ"))
    hasty = f"from hatrix.app.protocol import Patient; {seconds}"
    with serving(path, "--no-access-log", first=hasty) as running:
        attack = Attacked(running)
        with ThreadPoolExecutor(len(floods)) as pool:
            flooding = [pool.submit(attack.flood, *flood) for flood in floods]
            held = [attack.connect() for _ in range(300)]
            for number, connection in enumerate(held):
                connection.settimeout(5)
                with suppress(OSError):
                    connection.sendall(waits[number % len(waits)])
            assert running.get("/health/live")[0] == 200
            assert running.get("/v1/recommendations?user=1")[0] in (200, 503)
            took = [task.result() for task in flooding]
        assert max(took) < 45, took
        replies = []
        for connection in held:
            connection.settimeout(30)
            with connection:
                replies.append(rest(connection))
        attack.end()
        found = {status for reply in replies for status in statuses(reply)}
        assert found <= {408, 413, 503}
        assert running.get("/v1/recommendations?user=1")[0] == 200
        assert "traceback" not in "".join(running.said).lower()
        assert attack.most < 1.2 * attack.idle, (attack.idle, attack.most)
        assert running.stop() == 0


def test_a_reply_of_the_connection_is_one_like_all(files, tmp_path):
    """Of the real service: counted, logged, with the headers of safety."""
    path = Path(shutil.copy(files[0], tmp_path / "model.hatrix"))
    with serving(path) as running:
        with socket.create_connection(("127.0.0.1", int(running.address.rpartition(":")[2]))) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            reply = rest(connection)
        assert problem_of(reply)["status"] == 400
        assert (
            'hatrix_requests_total{method="other",route="other",status="400"} 1.0'
            in running.get("/metrics")[1]
        )
        [line] = until(lambda: [line for line in running.said if '"status":400' in line])
        assert json.loads(line).keys() == {"time", "client", "method", "path", "status", "bytes", "ms"}
        assert running.stop() == 0
