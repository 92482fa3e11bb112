"""`hatrix serve` under load: requests per second, latencies, errors, memory; swaps of the model; overload.

    python benchmarks/serve.py [--parts load swaps overload] [--items 60000 1682] [--requests 200000]

One process serves lists of 10 at 64 factors for 120,000 users, each asked for in turn, so that nothing is answered twice
before all have been asked; there is no cache of replies. `wrk` drives it on the same machine. The models are those of a fit:
factors whose directions matter less and less and whose items are longer the more popular they are, and 20 ratings a user.
CPU microseconds are those of the service per request. ``drift`` is the growth of resident memory from the end of the warm-up
(a tenth of the requests more) to the end.

``swaps``: the file is replaced by one of two models 200 times, each time once the one before is served.
``overload``: four times as many clients as are worked on at once, for 60 seconds, while health is asked for.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

import hatrix as hx

USERS, FACTORS, SEEN, N = 120_000, 64, 20, 10
PAGE = resource.getpagesize()
SCRIPT = """
local user, stride = %d, 7919
function request()
  user = (user + stride) %% %d
  return wrk.format("GET", "/v1/recommendations?user=" .. user .. "&n=%d")
end
function done(summary, latency, requests)
  local form = '{"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "max": %%f, "status": %%d, "socket": %%d}\\n'
  io.write("RESULT " .. string.format(form, summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def made_up(items: int, seed: int) -> hx.FactorModel:
    """A model as a fit leaves it; only its numbers are made up."""
    rng = np.random.default_rng(seed)
    tiny = hx.Ratings.from_columns([1, 2], [1, 2], [1.0, 5.0])
    model = hx.BiasedMF(factors=FACTORS, epochs=1).fit(tiny, progress=False)
    direction = (0.6 / np.sqrt(1 + np.arange(FACTORS))).astype(np.float32)
    popularity = rng.pareto(1.1, items) + 0.05
    popularity /= popularity.sum()
    length = np.clip((popularity * items) ** 0.25, 0.3, 2.5).astype(np.float32)
    start = np.arange(USERS + 1) * SEEN
    item = rng.choice(items, USERS * SEEN, p=popularity).astype(np.int32).reshape(USERS, SEEN)
    item.sort(axis=1)
    item += np.arange(SEEN, dtype=np.int32)  # distinct, within what there is
    item = (item % items).astype(np.int32)
    item.sort(axis=1)
    for user in np.flatnonzero((np.diff(item, axis=1) == 0).any(axis=1)):
        item[user] = np.sort(rng.choice(items, SEEN, replace=False))
    flat = item.ravel()
    return replace(
        model,
        users=hx.Ids(np.arange(USERS)),
        items=hx.Ids(np.arange(items)),
        user_bias=rng.normal(0, 0.3, USERS).astype(np.float32),
        item_bias=rng.normal(0, 0.4, items).astype(np.float32),
        user_factors=rng.standard_normal((USERS, FACTORS), dtype=np.float32) * direction,
        item_factors=rng.standard_normal((items, FACTORS), dtype=np.float32) * direction * length[:, None],
        user_count=np.full(USERS, SEEN),
        item_count=np.bincount(flat, minlength=items),
        mean=3.5,
        fallback=3.5,
        seen=type(model.seen)(start, flat, rng.integers(1, 6, len(flat)).astype(np.float64)),
    )


class Service:
    """A running service."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def get(self, path: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE / 1e6

    @property
    def cpu(self) -> float:
        """Seconds of processors used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(model: Path) -> Iterator[Service]:
    with open(model.parent / "service.log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hatrix", "serve", str(model), "--port", "0"], stderr=log, text=True
        )
        try:
            while not (said := re.search(r"listening on http://127.0.0.1:(\d+)", Path(log.name).read_text())):
                if process.poll() is not None:
                    raise SystemExit(Path(log.name).read_text())
                time.sleep(0.1)
            service = Service(process, int(said[1]))
            while service.get("/health/ready")[0] != 200:
                time.sleep(0.1)
            yield service
        finally:
            process.terminate()
            process.wait()


def drive(service: Service, seconds: float, clients: int, first: int = 0) -> dict:
    """What wrk measured: all users in turn, from ``first`` on."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % (first, USERS, N))
        script.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
            "-s",
            script.name,
        ]
        ran = subprocess.run(
            [*command, f"http://127.0.0.1:{service.port}"], capture_output=True, text=True, check=True
        )
    return json.loads(ran.stdout.partition("RESULT ")[2].splitlines()[0])


def load(folder: Path, sizes: list[int], requests: int, clients: int) -> None:
    print(f"top {N} of 120,000 users at {FACTORS} factors, one process, {clients} connections")
    print(
        "   items  requests  errors  requests/s  p50 ms  p99 ms  max ms  CPU µs  MB start  MB warm   MB end  drift",
        flush=True,
    )
    for items in sizes:
        path = folder / "model.hatrix"
        made_up(items, 0).save(path)
        with serving(path) as service:
            start = service.memory
            rate = drive(service, 3, clients)["requests"] / 3
            warm_up = drive(service, max(3, 0.1 * requests / rate), clients, first=1)
            warm, began, done = service.memory, service.cpu, 0
            parts = []
            while done < requests:
                seconds = max(5, 1.1 * (requests - done) * warm_up["seconds"] / warm_up["requests"])
                parts.append(drive(service, seconds, clients, first=2 + len(parts)))
                done += parts[-1]["requests"]
            errors = sum(part["status"] + part["socket"] for part in parts)
            spent = sum(part["seconds"] for part in parts)
            p50, p99, worst = (max(part[name] for part in parts) for name in ("p50", "p99", "max"))
            print(
                f"{items:8,} {done:9,} {errors:7,} {done / spent:11,.0f} {p50:7.1f} {p99:7.1f} {worst:7.1f} "
                f"{1e6 * (service.cpu - began) / done:7.0f} {start:9.0f} {warm:8.0f} {service.memory:8.0f} "
                f"{service.memory / warm - 1:6.1%}",
                flush=True,
            )


def swaps(folder: Path, items: int, count: int, clients: int) -> None:
    path = folder / "model.hatrix"
    sources = [folder / f"{seed}.hatrix" for seed in (1, 2)]
    for seed, source in enumerate(sources, 1):
        made_up(items, seed).save(source)
    shutil.copy(sources[0], path)
    with serving(path) as service:
        drive(service, 3, clients)
        warm, results, ended = service.memory, [], threading.Event()

        def clients_ask() -> None:
            while not ended.is_set():
                results.append(drive(service, 10, clients, first=len(results)))

        asking = threading.Thread(target=clients_ask)
        asking.start()
        waits, peak = [], 0.0
        for number in range(count):
            old = service.get("/health/ready")[1]["model"]
            shutil.copy(sources[(number + 1) % 2], folder / "next")
            os.replace(folder / "next", path)
            began = time.perf_counter()
            while service.get("/health/ready")[1]["model"] == old:
                time.sleep(0.05)
            waits.append(time.perf_counter() - began)
            peak = max(peak, service.memory)
        ended.set()
        asking.join()
        total = sum(result["requests"] for result in results)
        errors = sum(result["status"] + result["socket"] for result in results)
        p99, worst = (max(result[name] for result in results) for name in ("p99", "max"))
        print(
            f"{count} swaps of {items:,} items under load: {total:,} requests, {errors} errors, "
            f"highest p99 of 10 s {p99:.0f} ms, max {worst:.0f} ms;\n"
            f"a new file is served after {np.median(waits):.1f} s (median; it is looked for each second); "
            f"MB {warm:.0f} before, {peak:.0f} at most, {service.memory:.0f} after",
            flush=True,
        )


def overload(folder: Path, items: int, seconds: float, limit: int = 64) -> None:
    path = folder / "model.hatrix"
    made_up(items, 0).save(path)
    with serving(path) as service:
        usual = drive(service, 5, 32)
        took, failures, ended = [], 0, threading.Event()

        def ask_health() -> None:
            nonlocal failures
            while not ended.is_set():
                began = time.perf_counter()
                try:
                    failures += service.get("/health/live")[0] != 200
                except OSError:
                    failures += 1
                took.append(time.perf_counter() - began)
                time.sleep(0.05)

        asking = threading.Thread(target=ask_health)
        asking.start()
        during = drive(service, seconds, 4 * limit)
        ended.set()
        asking.join()
        began = time.perf_counter()
        while (again := drive(service, 1, 32))["status"] + again["socket"]:
            pass
        recovered = time.perf_counter() - began
        after = drive(service, 5, 32)
        took_ms = 1e3 * np.array(took)
        print(
            f"{4 * limit} clients where {limit} requests are worked on at once, {seconds:g} s: {during['requests']:,} "
            f"replies, {during['status']:,} of them 503, {during['socket']} broken connections;\n"
            f"{len(took)} health probes, {failures} failed: p50 {np.median(took_ms):.0f} ms, "
            f"p99 {np.quantile(took_ms, 0.99):.0f} ms, max {took_ms.max():.0f} ms;\n"
            f"a second without a refusal after {recovered:.1f} s; requests/s "
            f"{usual['requests'] / usual['seconds']:,.0f} before, {after['requests'] / after['seconds']:,.0f} after; "
            f"p99 {usual['p99']:.1f} ms before, {after['p99']:.1f} ms after",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--parts", nargs="*", choices=("load", "swaps", "overload"), default=["load", "swaps", "overload"]
    )
    parser.add_argument("--items", nargs="*", type=int, default=[60_000, 1_682])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "load" in options.parts:
            load(folder, options.items, options.requests, options.clients)
        if "swaps" in options.parts:
            swaps(folder, options.items[0], options.swaps, options.clients)
        if "overload" in options.parts:
            overload(folder, options.items[0], options.seconds)


if __name__ == "__main__":
    main()
