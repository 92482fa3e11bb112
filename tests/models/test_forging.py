"""Model files by a malicious author are refused, or answer as others do (see ``tests/forging.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "forging.py"


def campaign(mutations: int, seed: int, timeout: int) -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(mutations), str(seed)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found.pop("faults") == []
    assert found["grown_mb"] < 500
    assert found["refused"] + found["loaded"] == mutations
    return found


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_many_mutated_models_are_refused_or_answer():
    """``python tests/forging.py 20000 7`` goes on with the same mutations, twenty times as long."""
    campaign(1000, 7, 3600)
