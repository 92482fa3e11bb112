"""Spark for tests: why there is none, and a standalone cluster of two workers on loopback for a while."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hatrix.app.spark.java import need_java, need_the_extra
from hatrix.errors import MissingExtraError

PATIENCE = 120
SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.driver.memory": "1g",
    "spark.sql.codegen.wholeStage": "false",  # compiling a plan takes longer than running it on a few rows
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@cache
def why_not() -> str | None:
    """What is missing for Spark on this machine."""
    try:
        need_the_extra()
        need_java()
    except MissingExtraError as error:
        return str(error)
    return None


def program(name: str) -> str:
    """One of the programs that come with pyspark."""
    import pyspark

    return str(Path(pyspark.__file__).parent / "bin" / name)


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The address of a master with two workers of one core; all three end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"spark://127.0.0.1:{port}"
    here = ["--host", "127.0.0.1", "--webui-port", "0"]
    started = [_start(folder, "master", "org.apache.spark.deploy.master.Master", *here, "--port", str(port))]
    try:
        _until(folder / "master.log", "I have been elected leader", started[0])
        for number in range(2):
            name = f"worker{number}"
            options = [*here, "--cores", "1", "--memory", "1g", "--work-dir", str(folder / name), address]
            started.append(_start(folder, name, "org.apache.spark.deploy.worker.Worker", *options))
        for number in range(2):
            _until(folder / f"worker{number}.log", "Successfully registered with master", started[1 + number])
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(folder: Path, name: str, *command: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "PYSPARK_PYTHON": sys.executable,
        "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            [program("spark-class"), *command], stdout=log, stderr=log, env=environment, cwd=folder
        )


def _until(log: Path, said: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while said not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{log.name} does not say {said!r}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
