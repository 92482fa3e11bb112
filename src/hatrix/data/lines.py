"""A text file cut into pieces of whole records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hatrix.data.text import LONGEST, end_of_plain, records, too_long

__all__ = ["Piece", "pieces_of_text"]

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)")


class Piece(NamedTuple):
    """Whole records of a file, the number of lines before them, and the number of bytes up to their end."""

    text: bytes
    before: int
    end: int


def pieces_of_text(path: Path, named: str, separator: str, size: int) -> Iterator[Piece]:
    """The file in pieces of about ``size`` bytes; a quoted field that spans lines stays in one."""
    rest, before, end = b"", 0, 0
    with open(path, "rb") as file:
        while block := file.read(size):
            rest += block
            cut = _end_of_records(rest, separator)
            if cut:
                end += cut
                yield Piece(rest[:cut], before, end)
                before += rest.count(b"\n", 0, cut)
                if b"\r" in rest:
                    before += rest.count(b"\r", 0, cut) - rest.count(b"\r\n", 0, cut)
                rest = rest[cut:]
            elif len(rest) > LONGEST and b"\n" not in rest and b"\r" not in rest:
                raise too_long(named, before + 1)
    if rest:
        yield Piece(rest, before, end + len(rest))


def _end_of_records(text: bytes, separator: str) -> int:
    """Where the last record ends that is surely whole; 0 if none is."""
    end = text.rfind(b"\n") + 1
    if not end:
        end = text.rfind(b"\r", 0, len(text) - 1) + 1  # a line feed may follow the last byte
    if len(separator) > 1 or b'"' not in text[:end]:
        return end
    at = 0
    while at < end:
        at = end_of_plain(text, separator, at, end)
        if at < end:
            after = _after_odd_record(text, at, end, separator)
            if after == at:
                return at
            at = after
    return end


def _after_odd_record(text: bytes, at: int, end: int, separator: str) -> int:
    """Where a record ends whose quotes are not plainly paired; where it begins if its end may be further on."""
    ends = [at]
    enough = True

    def lines() -> Iterator[str]:
        nonlocal enough
        while line := _LINE.match(text, ends[-1], end):
            ends.append(line.end())
            yield line[0].decode(errors="replace").rstrip("\r\n")
        enough = False

    found = records(lines(), separator)
    first, second = next(found, None), next(found, None)
    return ends[second[0] - first[0]] if enough and first and second else at
