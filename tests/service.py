"""A service in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Running", "serving", "until"]


class Running:
    """A running ``hatrix serve``."""

    def __init__(self, process: subprocess.Popen[str], address: str, said: list[str]) -> None:
        self.process, self.address, self.said = process, address, said

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and body of a reply, as JSON where it is some."""
        request = urllib.request.Request(self.address + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                status, body = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=180)


@contextmanager
def serving(model: Path, *flags: str, first: str = "", **environment: str) -> Iterator[Running]:
    """``hatrix serve MODEL FLAGS`` once it is ready; ended at the end of the block if it has not ended before.

    ``first`` is Python that its process runs before, to shorten limits.
    """
    start = ["-c", f"{first}; from hatrix.app.cli import main; main()"] if first else ["-m", "hatrix"]
    process = subprocess.Popen(
        [sys.executable, *start, "serve", str(model), "--port", "0", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    said: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        running = Running(process, _address(process, said), said)
        until(lambda: running.get("/health/ready")[0] == 200)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=180)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def until(what: Callable[[], Any], seconds: float = 180) -> Any:
    """Wait until something is so; what it was."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return found


def _address(process: subprocess.Popen[str], said: list[str]) -> str:
    def found() -> str | None:
        assert process.poll() is None, "".join(said)
        lines = [re.search(r"listening on (http://\S+)", line) for line in list(said)]
        return next((line[1] for line in lines if line), None)

    return str(until(found))
