"""`hatrix serve` as a user meets it: a process of its own, its signals, swaps under load, several workers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hatrix as hx
from command import refused
from hatrix.app import serve
from service import Running, serving, until


@pytest.fixture
def path(files: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(files[0], tmp_path / "model.hatrix"))


def put(source: Path, target: Path) -> None:
    shutil.copy(source, target.with_suffix(".new"))
    os.replace(target.with_suffix(".new"), target)


def version_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Load:
    """Clients that ask without a pause, and check each reply against the model of its version."""

    def __init__(self, running: Running, files: list[Path], clients: int = 4) -> None:
        self.models = {version_of(file): hx.load(file) for file in files}
        self.running, self.faults, self.count, self.versions = running, [], 0, set()
        self.ended = threading.Event()
        self.pool = ThreadPoolExecutor(clients)
        self.done = [self.pool.submit(self.client, number) for number in range(clients)]

    def client(self, number: int) -> None:
        lists = {
            (version, user): list(map(tuple, model.recommend(user, 5)[["item", "score"]].to_numpy().tolist()))
            for version, model in self.models.items()
            for user in range(1, 6)
        }
        user = number
        while not self.ended.is_set():
            user = user % 5 + 1
            try:
                status, body = self.running.get(f"/v1/recommendations?user={user}&n=5")
                assert status == 200, body
                assert [(i["item"], i["score"]) for i in body["items"]] == lists[body["model"], user], (
                    "versions mixed"
                )
                self.versions.add(body["model"])
            except Exception as error:
                self.faults.append(error)
            self.count += 1

    def end(self) -> None:
        self.ended.set()
        for task in self.done:
            task.result()
        self.pool.shutdown()


def test_it_serves_swaps_and_stops(path, files):
    with serving(path) as running:
        assert running.address.startswith("http://127.0.0.1:")
        load = Load(running, files)
        for source in (files[1], files[2], files[0]):
            before = load.count
            put(source, path)
            until(lambda: running.get("/health/ready")[1]["model"] == version_of(source))  # noqa: B023
            until(lambda: load.count > before + 20)  # noqa: B023
        path.write_bytes(files[1].read_bytes()[:-50])  # overwritten in place, and bad
        ready = until(lambda: (body := running.get("/health/ready")[1])["refused"] and body)
        assert "is cut off" in ready["refused"]
        assert ready["model"] == version_of(files[0])
        path.write_bytes(files[1].read_bytes())  # in place, and good
        until(lambda: running.get("/health/ready")[1]["model"] == version_of(files[1]))
        load.end()
        assert load.faults == []
        assert load.versions == {version_of(file) for file in files}
        metrics = running.get("/metrics")[1]
        assert "hatrix_model_reloads_total 4.0" in metrics
        folder = path.parent / ".model.hatrix.served"
        assert [file.stem[:12] for file in folder.glob("*.hatrix")] == [version_of(files[1])]
        assert running.stop() == 0
        assert not folder.exists()
    lines = [json.loads(line) for line in running.said if line.startswith("{")]
    assert {line["status"] for line in lines if line.get("path", "").startswith("/v1/")} == {200}
    assert any("refused" in line and "is cut off" in line for line in running.said)


def children_of(running: Running) -> list[int]:
    path = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    if not path.exists():
        pytest.skip("the system does not tell the children of a process")
    return [int(child) for child in path.read_text().split()]


def mapping(running: Running, version: str) -> int:
    """How many processes have the model's copy in memory."""
    return sum(version in Path(f"/proc/{child}/maps").read_text() for child in children_of(running))


@pytest.mark.campaign
def test_several_processes_swap_alike(path, files):
    with serving(path, "--workers", "2", "--no-access-log") as running:
        load = Load(running, files)
        put(files[1], path)
        until(lambda: mapping(running, version_of(files[1])) == 2)  # both have the same copy
        until(lambda: running.get("/health/ready")[1]["model"] == version_of(files[1]))
        until(lambda: load.count > 50)
        load.end()
        assert load.faults == []
        total = sum(
            float(line.split()[-1])
            for line in running.get("/metrics")[1].splitlines()
            if line.startswith("hatrix_requests_total") and "recommendations" in line
        )
        assert total == load.count
        assert len(list((path.parent / ".model.hatrix.served").glob("*.hatrix"))) == 1
        assert running.stop(signal.SIGINT) == 0
    assert not (path.parent / ".model.hatrix.served").exists()


def test_a_process_that_died_is_replaced(path, files):
    with serving(path, "--workers", "2") as running:
        assert running.get("/v1/recommendations?user=1")[0] == 200
        path.write_bytes(files[1].read_bytes()[:-1])  # what joins must serve what the other does
        before = children_of(running)
        workers = [child for child in before if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: any("is cut off" in line for line in running.said))
        until(lambda: set(children_of(running)) - set(before))
        until(lambda: sum("is cut off" in line for line in running.said) == 2)  # it looks at the file, too
        assert {running.get("/v1/recommendations?user=1")[1]["model"] for _ in range(20)} == {
            version_of(files[0])
        }
        assert running.stop() == 0


@pytest.mark.campaign
def test_a_process_that_cannot_be_replaced_now_is_replaced_later(path, tmp_path):
    store = tmp_path / "f.db"
    with serving(path, "--workers", "2", "--store", store) as running:
        assert running.get("/v1/recommendations?user=1")[0] == 200
        for end in ("", "-wal", "-shm"):
            store.with_name(store.name + end).unlink(missing_ok=True)
        store.write_text("not a database, and what opens it now fails\n" * 100)
        before = children_of(running)
        worker = next(c for c in before if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        until(lambda: sum("not a database" in line for line in running.said) >= 2)
        assert running.get("/v1/model")[0] == 200
        store.unlink()
        until(store.exists)  # one that could start has made it
        assert running.get("/v1/recommendations?user=1")[0] == 200
        assert running.stop() == 0


def closed(running: Running) -> bool:
    """Whether new connections are refused or reset."""
    try:
        running.get("/health/live")
    except OSError:
        return True
    return False


def test_requests_in_flight_are_finished(path):
    with (
        serving(path) as running,
        socket.create_connection(("127.0.0.1", int(running.address.rpartition(":")[2]))) as connection,
    ):
        body = b'{"ratings":[]}'
        head = f"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:5])
        assert (
            running.get("/health/live")[0] == 200
        )  # connections are accepted in turn, so the first one is, too
        running.process.send_signal(signal.SIGTERM)
        until(lambda: closed(running))
        assert running.process.poll() is None
        connection.sendall(body[5:])
        connection.settimeout(120)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        assert running.process.wait(timeout=120) == 0


def test_overload_is_refused_and_health_answers(path):
    with serving(path, "--max-concurrent", "1", "--no-access-log") as running:
        statuses: list[int] = []
        slow: list[float] = []

        def many() -> None:
            for user in range(80):
                statuses.append(running.get(f"/v1/recommendations?user={user % 60}&n=10")[0])

        with ThreadPoolExecutor(16) as pool:
            tasks = [pool.submit(many) for _ in range(16)]
            while not all(task.done() for task in tasks):
                began = time.perf_counter()
                assert running.get("/health/live")[0] == 200
                slow.append(time.perf_counter() - began)
        assert set(statuses) == {200, 503}
        assert sorted(slow)[len(slow) // 2] < 0.5
        assert running.get("/v1/recommendations?user=1&n=10")[0] == 200
        assert running.stop() == 0


def test_beyond_loopback_nothing_is_written_without_a_token(path):
    with serving(path, "--host", "0.0.0.0", "--allowed-host", "films.example.org") as running:
        port = running.address.rpartition(":")[2]
        running.address = f"http://127.0.0.1:{port}"
        assert running.get("/health/ready")[0] == 200
        assert running.get("/metrics", Host="films.example.org")[0] == 200
        assert running.get("/metrics", Host="evil.example.org")[0] == 421
        assert any("without a token" in line for line in running.said)


@pytest.mark.parametrize("given", ["folder", pytest.param("file", marks=pytest.mark.campaign)])
def test_a_folder_of_run(path, given):
    ratings = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    ratings.to_frame().to_parquet(path.with_name("test.parquet"))
    with serving(path.parent if given == "folder" else path) as running:
        assert running.get("/health/ready")[1]["model"] == version_of(path)
        rows = until(lambda: "count" in (body := running.get("/v1/errors/rows")[1]) and body)
        assert rows["count"] == len(ratings)


def test_what_cannot_be_is_said_in_a_line(hatrix, path, tmp_path, monkeypatch):
    refused(hatrix("serve", "none.hatrix"), "none.hatrix", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(hatrix("serve", "empty"), "has no model.hatrix")
    (tmp_path / "text").write_text("user,item\n")
    refused(hatrix("serve", "text"), "not a hatrix file")
    assert not list(tmp_path.glob(".*served"))
    refused(hatrix("serve", path, "--test", "none.parquet"), "--test none.parquet")
    refused(hatrix("serve", path, "--workers", "0"), "--workers", "whole number")
    refused(hatrix("serve", path, "--port", "70000"), "from 0 to 65535")
    refused(hatrix("serve", path, "--token", "short"), "16 characters")
    monkeypatch.setenv(serve.TOKEN, "short")
    refused(hatrix("serve", path), "16 characters")
    monkeypatch.delenv(serve.TOKEN)
    refused(hatrix("serve", path, "--host", "no.such.host.invalid"), "no such address")
    refused(hatrix("serve", path, "--allowed-host", "http://x"), "--allowed-host")
    for origin in ("shop.example.org", "https://shop.example.org/", "*", "https://*.example.org", "ftp://x"):
        refused(
            hatrix("serve", path, "--allowed-origin", origin), "--allowed-origin", "https://shop.example.org"
        )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(hatrix("serve", path, "--port", port), f"port {port}", "--port")


def test_a_missing_extra_is_named(hatrix, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused(hatrix("serve", path), "uvicorn", "install '.[serve]' in a clone of hatrix")
