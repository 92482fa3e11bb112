"""What stands before the application: hosts, headers, limits, slow clients, the log and the counters."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

import hatrix as hx
from hatrix.app.guard import AccessLog, Guard
from hatrix.app.live import Live
from hatrix.app.metrics import Metrics
from hatrix.app.protocol import Patient
from hatrix.app.service import create_app
from service import until


def model() -> hx.FactorModel:
    ratings = hx.synthetic.make(30, 20, n_ratings=300, seed=1)[0]
    return hx.BiasedMF(factors=4, epochs=2).fit(ratings, progress=False)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body is; at /large sends more than buffers hold, at /bug breaks."""
    message = await receive()
    body = message["body"]
    if scope["path"] == "/bug":
        raise RuntimeError("a secret")
    text = b"x" * (16 << 20) if scope["path"] == "/large" else b"%d" % len(body)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def problem_of(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body.keys() == {"type", "title", "status", "detail", "code"}
    return body["code"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LocalHost:8000", 200), ("127.0.0.1:1", 200), ("[::1]:8000", 200), ("[::1]", 200),
        ("films.example.org", 200), ("films.example.org:443", 200), ("evil.example.org", 421), ("localhost.evil.org", 421),
        ("localhost:80:80", 421), ("", 421), ("127.0.0.1@evil.org", 421), ("testserver", 200),
    ],
)  # fmt: skip
def test_hosts(host, status):
    guarded = Guard(echo, hosts=("localhost", "127.0.0.1", "[::1]", "films.example.org"))
    client = TestClient(guarded)
    for _ in range(2):  # the second time from memory
        response = client.get("/", headers={"host": host})
        assert response.status_code == status
    if status == 421:
        assert problem_of(response) == "bad-host"


def test_every_reply_has_the_headers_of_safety():
    with TestClient(create_app(model()), raise_server_exceptions=False) as client:
        for path, headers in (
            ("/health/live", {}),
            ("/nothing", {}),
            ("/health/live", {"host": "evil.org"}),
            ("/metrics", {}),
        ):
            response = client.get(path, headers=headers)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"


def test_a_large_body_is_refused():
    client = TestClient(Guard(echo, largest=1000))
    assert client.post("/", content=b"x" * 1000).text == "1000"
    assert client.post("/", content=iter([b"x" * 500, b"y" * 500])).text == "1000"
    for content in (b"x" * 1001, iter([b"x" * 600, b"y" * 600])):
        response = client.post("/", content=content)
        assert response.status_code == 413
        assert problem_of(response) == "too-large"
        assert response.headers["connection"] == "close"


def test_a_bug_is_a_problem_and_says_nothing(caplog):
    response = TestClient(Guard(echo)).get("/bug")
    assert response.status_code == 500
    assert problem_of(response) == "internal"
    assert "secret" not in response.text
    assert "a secret" in caplog.text


def test_the_log_is_json_and_tells_no_query():
    lines: list[str] = []
    log = AccessLog(lines.append)
    client = TestClient(Guard(echo, access_log=log))
    client.post("/some/%0Apath?user=ann", content=b"1234")
    client.get("/", headers={"host": "evil.org"})
    assert lines == []  # many are written at once
    log.flush()
    first, second = map(json.loads, "".join(lines).splitlines())
    assert first.keys() == {"time", "client", "method", "path", "status", "bytes", "ms"}
    assert (first["method"], first["path"], first["status"], first["bytes"]) == (
        "POST",
        "/some/\npath",
        200,
        1,
    )
    assert "ann" not in "".join(lines)
    assert second["status"] == 421


def test_the_counters():
    app = create_app(model())
    with TestClient(app) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        for user in (1, 2, 3, 999):
            assert client.get(f"/v1/recommendations?user={user}&n=5").status_code == 200
        client.get("/no/such/1")
        client.get("/no/such/2")
        client.request("BREW", "/health/live")
        text = client.get("/metrics").text
    assert 'hatrix_requests_total{method="GET",route="/v1/recommendations",status="200"} 4.0' in text
    assert 'hatrix_requests_total{method="GET",route="other",status="404"} 2.0' in text
    assert 'method="other"' in text
    assert re.search(r'hatrix_request_seconds_bucket\{le="\+Inf",route="/v1/recommendations"\} 4\.0', text)
    assert "hatrix_batch_users_sum 4.0" in text
    assert "hatrix_requests_in_flight 1.0" in text
    version = app.state.service.live.current.version
    assert f'hatrix_model_info{{algorithm="biased-mf",version="{version}"}} 1.0' in text
    assert "hatrix_model_reloads_total 0.0" in text
    assert "hatrix_model_refusals_total 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_more_than_are_worked_on_at_once_are_refused_and_probes_are_not():
    release, running = asyncio.Event(), []

    async def application(scope, receive, send) -> None:
        if scope["path"] == "/":
            running.append(1)
            await release.wait()
        await echo(scope, receive, send)

    guarded = Guard(application, max_concurrent=3, metrics=Metrics(Live.of(model())))

    async def ask(path: str) -> tuple[int, dict[bytes, bytes]]:
        messages = []

        async def send(message) -> None:
            messages.append(message)

        async def receive():
            return {"type": "http.request", "body": b""}

        scope = {
            "type": "http", "method": "GET", "path": path, "headers": [(b"host", b"localhost")], "server": ("::1", 1),
        }  # fmt: skip
        await guarded(scope, receive, send)
        return messages[0]["status"], dict(messages[0]["headers"])

    async def scenario() -> None:
        held = [asyncio.create_task(ask("/")) for _ in range(3)]
        while len(running) < 3:
            await asyncio.sleep(0)
        status, headers = await ask("/")
        assert status == 503
        assert headers[b"retry-after"] == b"1"
        assert (await ask("/health/live"))[0] == 200
        assert len(running) == 3
        release.set()
        assert [status for status, _ in await asyncio.gather(*held)] == [200] * 3
        assert (await ask("/"))[0] == 200
        assert guarded.running == 0

    asyncio.run(scenario())


def test_bodies_that_are_complete_at_once_do_not_get_round_the_limit():
    release, running = asyncio.Event(), []

    async def application(scope, receive, send) -> None:
        running.append(1)
        await asyncio.sleep(0.01)
        await echo(scope, receive, send)

    guarded = Guard(application, max_concurrent=3)

    async def ask() -> int:
        messages = []

        async def send(message) -> None:
            messages.append(message)

        async def receive():
            await release.wait()
            return {"type": "http.request", "body": b"12"}

        headers = [(b"host", b"localhost"), (b"content-length", b"2")]
        await guarded({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        return messages[0]["status"]

    async def scenario() -> list[int]:
        asked = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*asked)

    assert sorted(asyncio.run(scenario())) == [200] * 3 + [503] * 5
    assert len(running) == 3


class Hasty(Patient):
    HEAD_SECONDS, READ_SECONDS, HEAD_BYTES, CONNECTIONS = 0.3, 0.3, 4096, 8


@contextmanager
def served(app: Any) -> Iterator[Callable[[], socket.socket]]:
    """Connections to an application that uvicorn serves in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=Hasty, ws="none", lifespan="off", log_level="critical", timeout_keep_alive=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = listener.getsockname()

        def connect() -> socket.socket:
            connection = socket.create_connection(address, timeout=10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            return connection

        try:
            yield connect
        finally:
            server.should_exit = True
            thread.join()


def rest(connection: socket.socket) -> bytes:
    """What comes until the connection ends."""
    parts = []
    with connection:
        try:
            while part := connection.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass
    return b"".join(parts)


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


def test_slow_clients_are_cut():
    with served(Guard(echo, body_seconds=0.3)) as connect:
        connections = [connect() for _ in range(5)]
        head, trickle, body, again = connections[1:]  # the first is silent
        head.sendall(HEAD)
        body.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
        again.sendall(HEAD + b"\r\n" + HEAD)  # the second request never ends
        for byte in HEAD[:12]:
            time.sleep(0.05)
            try:
                trickle.sendall(bytes([byte]))
            except OSError:
                break
        replies = [rest(connection) for connection in connections]
    for reply in replies[:4]:
        assert reply.startswith(b"HTTP/1.1 408 "), reply
        assert b'"code":"timeout"' in reply
    assert replies[4].startswith(b"HTTP/1.1 200 OK")


def test_who_leaves_before_the_end_is_counted_as_that(caplog):
    lines: list[str] = []
    log = AccessLog(lines.append)
    with served(Guard(echo, access_log=log)) as connect:
        with connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
            time.sleep(0.1)
        until(lambda: lines)
    assert [json.loads(line)["status"] for line in lines] == [499]
    assert caplog.text == ""


def test_who_does_not_read_is_cut():
    with served(Guard(echo)) as connect:
        connection = connect()
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3.0)  # ten times the limit
        assert len(rest(connection)) < 16 << 20
        connection = connect()  # a reader who is slow, but reads
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(rest(connection)) > 16 << 20


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + 5000 * b"x", b"431"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_answered_by_a_problem(sent, status):
    with served(Guard(echo)) as connect:
        connection = connect()
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        reply = rest(connection)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status), reply
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == int(status)


def test_too_many_connections():
    with served(Guard(echo)) as connect:
        held = [connect() for _ in range(Hasty.CONNECTIONS)]
        time.sleep(0.1)
        assert rest(connect()) == b""
        held[0].sendall(HEAD + b"Connection: close\r\n\r\n")
        assert rest(held[0]).startswith(b"HTTP/1.1 200")
        for connection in held[1:]:
            connection.close()


def test_few_threads_answer_at_once_so_that_probes_do_not_wait(monkeypatch):
    """Work that holds the interpreter's lock in many threads would keep the event loop from its turn."""
    from concurrent.futures import ThreadPoolExecutor

    from hatrix.app import recommending, service

    running, most, lock = 0, 0, threading.Lock()
    look_up = recommending.user_of

    def slowly(*given: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return look_up(*given)

    with TestClient(create_app(model())) as client, ThreadPoolExecutor(24) as pool:
        until(lambda: client.get("/health/ready").status_code == 200)
        monkeypatch.setattr(recommending, "user_of", slowly)
        asked = [pool.submit(client.get, "/v1/recommendations?user=1&explain=true") for _ in range(24)]
        assert client.get("/health/live").status_code == 200
        assert {task.result().status_code for task in asked} == {200}
    assert 1 < most <= service.THREADS
