"""``memory=`` is a limit that holds, in processes that may have no more, and that end if they read in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from control_group import control_group, entering

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(),
        reason="Linux alone says what the most was that was resident",
    ),
]

ROWS = 10_000_000
LIMIT = 300_000_000
"""Bytes; the columns take as many, and reading them in memory two to three times as many."""

READ = """
import resource, sys
import hatrix as hx
from peaks import peak
path, memory, data = sys.argv[1:]
if data:
    resource.setrlimit(resource.RLIMIT_DATA, (int(data), int(data)))
ratings = hx.read(path, memory=int(memory) if memory else None)
print(len(ratings), ratings.user[-1], peak())
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    import duckdb

    path = tmp_path_factory.mktemp("large") / "large.parquet"
    duckdb.sql(
        f"""COPY (SELECT (i * 7919 % 99991)::INTEGER AS "user", (i * 104729 % 20011)::INTEGER AS item, 1 + i % 5 AS rating,
        1000000000 + i AS time FROM range({ROWS}) rows(i)) TO '{path}'"""
    )
    return path


def read(
    path: Path, memory: int | None, data: int | None = None, group: Path | None = None
) -> tuple[int, str]:
    """Status and output of a process that reads the file, as one of a group of processes if that is given."""
    command = [sys.executable, "-c", READ, str(path), str(memory or ""), str(data or "")]
    if group is not None:
        command = entering(group, command)
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=paths)
    return done.returncode, done.stdout + done.stderr


def test_resident_and_private_memory(large):
    # Stacks of threads and the like are reserved and not used, which this limit counts all the same.
    private = LIMIT + 150_000_000
    status, said = read(large, LIMIT, private)
    assert status == 0, said
    rows, _, peak = map(int, said.split())
    assert rows == ROWS
    assert peak < LIMIT
    status, said = read(large, None, private)
    assert status != 0
    assert "memory" in said.lower()


def test_a_control_group(large):
    with control_group(LIMIT) as limited:
        status, said = read(large, LIMIT, group=limited)
        assert status == 0, said
        assert said.split()[0] == str(ROWS)
        assert read(large, None, group=limited)[0] == -9  # the kernel ends what takes more


def test_too_many_ids_for_the_limit(tmp_path):
    import duckdb

    path = tmp_path / "ids.parquet"
    duckdb.sql(
        f"""COPY (SELECT 'user number ' || (i * 7919 % 2000003) AS "user", 1 AS item, 5 AS rating
        FROM range(2000000) rows(i)) TO '{path}'"""
    )
    status, said = read(path, LIMIT)
    assert status == 1
    last = said.strip().splitlines()[-1]
    assert "users and 1 items take more than the 300 MB allowed" in last
    assert last.endswith("allow more memory")
