"""What all tests share: data that may not be on the machine, and tests that a machine cannot run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

import hatrix as hx
from hatrix.errors import DownloadError

hypothesis.settings.register_profile("hatrix", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("hatrix")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts jobs in the background deaf to Ctrl-C, and so would be the processes that tests send it to.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return how many processes run the tests: two more than cores, since tests wait for what they start."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist reads it
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 2


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose ``data`` marks name files that are not in the folder of ``HATRIX_DATA``."""
    folder = os.environ.get("HATRIX_DATA")
    for mark in item.iter_markers("data"):
        for name in mark.args:
            if not folder or not (Path(folder).expanduser() / name).exists():
                pytest.skip(
                    f"needs {name} in the folder that HATRIX_DATA names, which has the original files"
                )


@pytest.fixture(scope="session")
def ml_100k() -> hx.Ratings:
    """MovieLens 100K: from HATRIX_DATA or the cache, else downloaded from its origin or its mirror."""
    try:
        return hx.datasets.load("ml-100k", progress=False)
    except DownloadError:
        pytest.skip("needs ml-100k, and neither its origin nor its mirror can be reached from here")
