"""What the guides show is what happens."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    "page", ["recommending.md", "bayesian.md", "serving.md", "out-of-core.md", "reading.md"]
)
def test_the_examples_run(page: str) -> None:
    ran = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=OPTIONS)
    assert ran.attempted > 5
    assert ran.failed == 0
