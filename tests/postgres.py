"""A PostgreSQL server of our own for a while: found on the machine, in a temporary folder, on a free port of loopback."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

USER, PASSWORD = "tester", "a secret: p@ss/word"
ENCODED = "a%20secret%3A%20p%40ss%2Fword"


class NoServer(Exception):
    """Why there is none."""


class Server(NamedTuple):
    """Where it listens."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, password: str = ENCODED, *, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a schema that has nothing in it yet."""
        import psycopg

        name = f"s{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url()}?options=-csearch_path%3D{name}"


@contextmanager
def server() -> Iterator[Server]:
    """Start one, and stop it after."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="hatrix-pg-") as folder:
        refusals = []
        for number, (before, owner) in enumerate(_ways()):
            home = Path(folder, str(number))
            home.mkdir()
            (home / "password").write_text(PASSWORD)
            if owner is not None:
                for path in (Path(folder), home, home / "password"):
                    shutil.chown(path, *owner)
            made = subprocess.run(
                [*before, f"{programs}/initdb", "-D", home / "data", "-U", USER, "-E", "UTF8", "--locale=C", "-A",
                 "scram-sha-256", "--pwfile", home / "password"],
                cwd=home, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if made.returncode == 0:
                break
            refusals.append(made.stderr.strip().splitlines()[-1:])
        else:
            raise NoServer(f"initdb fails: {refusals}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [*before, f"{programs}/postgres", "-D", home / "data", "-k", home, "-p", str(port)]
        with open(home / "log", "wb") as log:
            process = subprocess.Popen([*command, "-h", "127.0.0.1"], cwd=home, stdout=log, stderr=log)
        running = Server(port, process)
        try:
            _await(running, home / "log")
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _programs() -> str:
    on_path = shutil.which("initdb")
    found = [os.path.dirname(os.path.realpath(on_path))] if on_path else []
    found += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for folder in found:
        if all(os.access(f"{folder}/{name}", os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise NoServer("there is no initdb, neither on the path nor in /usr/lib/postgresql")


def _ways() -> list[tuple[list[str], tuple[str, str] | None]]:
    """What to put before the command, and who owns the files: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return [([], None)]
    users = [("postgres", "postgres"), ("nobody", "nogroup")]
    ways: list[tuple[list[str], tuple[str, str] | None]] = [
        (["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"], (user, group))
        for user, group in users
        if _exists(user, group)
    ]
    return [*ways, (["unshare", "--user", "--map-user=1000", "--map-group=1000"], ("root", "root"))]


def _exists(user: str, group: str) -> bool:
    import grp
    import pwd

    try:
        pwd.getpwnam(user), grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _await(running: Server, log: Path) -> None:
    import psycopg

    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(running.url(), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if running.process.poll() is not None or time.monotonic() > until:
                raise NoServer(f"the server does not start: {log.read_text()[-500:]}") from None
            time.sleep(0.1)
