"""The limit of memory holds: nothing of the length of the data is ever in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import limited
from control_group import control_group

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(),
        reason="Linux alone says what the most was that was resident",
    ),
]

LIMIT = 512_000_000
"""Of which Python and the libraries take 320 MB in the end."""
STEPS = ["save", "load", "evaluate", "report", "lists"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("columns")
    limited.make(made)
    return made


def peaks(folder: Path, *more: str) -> dict[str, int]:
    """The most bytes that were resident until the end of each step."""
    done = subprocess.run(
        [sys.executable, limited.__file__, str(folder), str(LIMIT), *more],
        capture_output=True,
        text=True,
        timeout=300,
        # Buffers of BLAS for each core of a large machine are not what this is about.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    found = dict(line.split() for line in done.stdout.splitlines())
    assert [*found][: len(STEPS)] == STEPS, done.stderr
    return {step: int(size) for step, size in found.items()}


def test_what_is_resident_stays_below_the_limit(folder):
    """And the same without slices does not, so that the test would notice."""
    found = peaks(folder)
    assert max(found[step] for step in STEPS) < LIMIT
    assert found["whole"] > LIMIT


def test_it_works_where_the_system_allows_no_more(folder):
    with control_group(LIMIT) as group:
        peaks(folder, str(group))
