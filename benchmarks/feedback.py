"""The feedback store: is every acknowledged write there, whenever the writers die, and what does a write cost?

    python benchmarks/feedback.py [--writes 10000] [--postgresql]

Two processes of four threads write until they are killed (SIGKILL) at a random moment, again and again, until so many
writes have been acknowledged. The store is then read, and each of them looked for. This shows that nothing is acknowledged
before it is committed; that what is committed outlives the machine is the work of the database's fsync, which is on.
With --postgresql, a server is started for it in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from hatrix.app.store import Change, Store

THREADS = 4
WRITER = """
import json, sys, threading
from hatrix.app.store import Store
store = Store.open(sys.argv[1], users='str', items='int')
def work(name):
    for item in range(10**9):
        number = store.add(name, [(item, 0.5 + item % 5, item)])
        sys.stdout.write(json.dumps([number, name, item]) + chr(10))
        sys.stdout.flush()
for name in sys.argv[2:]:
    threading.Thread(target=work, args=(name,)).start()
"""


def life(url: str, number: int, folder: Path, seconds: float) -> list[list]:
    """What two processes had acknowledged when they were killed."""
    files = [folder / f"{number}-{process}" for process in range(2)]
    running = []
    for process, file in enumerate(files):
        names = [f"{number}/{process}/{thread}" for thread in range(THREADS)]
        with open(file, "wb") as out:
            running.append(subprocess.Popen([sys.executable, "-c", WRITER, url, *names], stdout=out))
    while not any(file.stat().st_size for file in files):
        if any(child.poll() is not None for child in running):
            raise SystemExit("a writer failed")
        time.sleep(0.005)
    time.sleep(seconds)
    for child in running:
        child.kill()
        child.wait()
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def with_kills(url: str, writes: int) -> None:
    chance, acknowledged, kills = random.Random(7), [], 0
    with tempfile.TemporaryDirectory() as folder:
        while len(acknowledged) < writes:
            acknowledged += life(url, kills, Path(folder), chance.uniform(0, 1.5))
            kills += 1
    with Store.open(url, users="str", items="int") as store:
        rows = {change.sequence: change for change in store.changes(0, limit=10**9)}
    missing = [
        number
        for number, name, item in acknowledged
        if rows.get(number) != Change(number, name, item, 0.5 + item % 5, item)
    ]
    print(
        f"{len(acknowledged):,} writes acknowledged, {2 * kills} processes killed, {len(missing)} acknowledged writes "
        f"missing or changed; {len(rows) - len(acknowledged)} rows committed without their acknowledgement getting out; "
        f"numbers without a gap: {list(rows) == list(range(1, len(rows) + 1))}"
    )
    if missing:
        raise SystemExit(1)


def costs(url: str, writes: int) -> None:
    with Store.open(url, users="str", items="int") as store:
        for threads in (1, 4, 16):
            seconds: list[float] = []

            def work(name: int, each: int = writes // threads, into: list[float] = seconds) -> None:
                for item in range(each):
                    started = time.perf_counter()
                    store.add(name, [(item, 3.0, None)])
                    into.append(time.perf_counter() - started)

            started = time.perf_counter()
            running = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            rate = len(seconds) / (time.perf_counter() - started)
            median, high = 1000 * np.quantile(seconds, [0.5, 0.99])
            print(f"{threads:3} threads: {rate:7,.0f} writes/s, median {median:.1f} ms, p99 {high:.1f} ms")
        started = time.perf_counter()
        for _ in range(2000):
            store.position()
        print(f"asking whether there is anything new: {(time.perf_counter() - started) / 2000 * 1e6:.0f} µs")


@contextlib.contextmanager
def stores(postgresql: bool):
    """URLs of new stores."""
    if not postgresql:
        with tempfile.TemporaryDirectory() as folder:
            yield lambda: f"{folder}/{time.monotonic_ns()}.db"
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import postgres

    with postgres.server() as server:
        yield server.fresh


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--writes", type=int, default=10_000)
    parser.add_argument("--postgresql", action="store_true")
    arguments = parser.parse_args()
    print("PostgreSQL" if arguments.postgresql else "SQLite")
    with stores(arguments.postgresql) as fresh:
        costs(fresh(), 1600)
        with_kills(fresh(), arguments.writes)


if __name__ == "__main__":
    main()
