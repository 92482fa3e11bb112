"""What the tests of all commands share: how one went, what a refusal looks like, the columns of their files."""

from __future__ import annotations

from typing import NamedTuple

COLUMNS = ["--user-column", "who", "--item-column", "film", "--rating-column", "stars"]


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


def refused(outcome: Outcome, *parts: str) -> None:
    """The outcome is one line on stderr with exit status 2, and says these things."""
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    [line] = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
    assert outcome.err.splitlines()[-1] == line
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in line
