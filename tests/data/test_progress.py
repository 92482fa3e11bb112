"""The bar of work that goes through rows."""

from __future__ import annotations

import io
import sys

import hatrix as hx
from hatrix.data.progress import row_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_says_how_many_rows_a_second(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with row_bar("reading", 100, True) as show:
        show(40, 123_456)
        show(100, 234_567)
    assert "reading" in terminal.getvalue()
    assert "234,567 rows" in terminal.getvalue()
    assert "rows/s" in terminal.getvalue()


def test_it_is_for_terminals_and_for_who_wants_it(monkeypatch, capsys):
    with row_bar("reading", 100, True) as show:
        show(40, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with row_bar("reading", 100, False) as show:
        show(40, 4)
    assert terminal.getvalue() == ""


def test_reading_shows_it(tmp_path, monkeypatch):
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n1,2,3\n4,5,6\n")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    hx.read(path, memory="4GB")
    assert "2 rows" in terminal.getvalue()
