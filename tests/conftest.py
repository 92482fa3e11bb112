"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("hatrix", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("hatrix")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _data_folder() -> None:
    """Let `HATRIX_DATA` default to the data beside the checkout, where there are any."""
    if "HATRIX_DATA" not in os.environ and SHARED.is_dir():
        os.environ["HATRIX_DATA"] = str(SHARED)
