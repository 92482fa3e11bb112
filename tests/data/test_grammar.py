"""One grammar of text, whichever parser reads a file, and whether it is read whole, in pieces, clean or unclean."""

from __future__ import annotations

import gzip
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hatrix as hx
from hatrix.data import files as files_module
from hatrix.data import text
from hatrix.data.lines import pieces_of_text
from hatrix.data.pieces import Columns
from hatrix.data.values import number
from hatrix.errors import DataError

ODD = [
    " ",
    "\t",
    "\v",
    "\f",
    "\u00a0",
    "\ufeff",
    "\u2028",
    "\x85",
    "\x1c",
    '"',
    '""',
    "é",
    "\\",
    "'",
    "#",
    "\r",
    "\n",
]
IDS = ["1", "7", "-3", "007", "+5", "1.0", "ann", "film 7", "0", "-0", str(2**63 - 1), str(2**63), "é", "1_0", 'a"b',
       "x" * 300, "nan", "NULL", "\\N", "#x", '\\"', "1e3", "١٢"]  # fmt: skip
NUMBERS = ["3", "4.5", "+5", "1e3", ".5", "5.", "0x10", "nan", "inf", "-1", "1_0", "1e400", "1e-400", "4,5", "١٢", "0005",
           "--1", "+-5", "-+5", "1E5", "2.2250738585072012e-308", "0.1000000000000000055511151231257827", "9" * 25, "1e",
           "-0", "1d", "5f", "0b1", "1e+5", "1 0", "+.5e1", "."]  # fmt: skip
TIMES = ["881250949", "1609459199999999999", "1609459200123456789", "1609459200", "-5", "1502824560000", "881250949.7",
         "2018-01-31", "2018-01-31 12:30", "2018-01-31T12:30:15.5Z", "2018-01-31 12:30:15.9999999",
         "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.5", "0000-01-01", "0001-01-01", "2018-02-30",
         "2018-01-31 12:60", "2018-01-31T12:30:15+02:00", "2018-01-31 12:30:15 UTC", "2018-01-31 24:00",
         "2018-01-31T12:30Z", str(2**63 - 1), str(2**63), str(-(2**63)), "1e9", "1.6e18", "9007199254740993",
         "99999999999.9", "1e14", "+1609459200123456789", "2018-1-3", "20180131"]  # fmt: skip


def field(draw: random.Random, pool: list[str], wild: float) -> str:
    """A field of the pool, perhaps with odd letters beside it, in quotes, or in what is no good quoting."""
    found = draw.choice(pool)
    found = draw.choice(ODD) * (draw.random() < wild) + found + draw.choice(ODD) * (draw.random() < wild)
    if draw.random() < wild:
        found = '"' + found.replace('"', '""') + '"'
        found = draw.choice(ODD) * (draw.random() < wild) + found + draw.choice(ODD) * (draw.random() < wild)
        found = found.replace('""', '"') if draw.random() < 0.1 else found
    return found


def drawn(draw: random.Random) -> tuple[str, str]:
    """A file of a few records that are more or less wild, and its separator."""
    separator = draw.choice([",", ",", ",", "\t", ";", "|", " ", "::", ":", "§"])
    end, wild = draw.choice(["\n", "\n", "\r\n", "\r", None]), draw.choice([0, 0.02, 0.05, 0.3])
    pools = [draw.sample(pool, draw.randint(1, 3)) for pool in (IDS, IDS, NUMBERS, TIMES)]
    pools[2:] = [
        pool if draw.random() < 0.3 else [plain] for pool, plain in zip(pools[2:], ("3", "5"), strict=True)
    ]
    content = "\ufeff" * draw.choice([0] * 20 + [1, 2])
    for _ in range(draw.randint(1, 12)):
        fields = [field(draw, pool, wild) for pool in pools]
        fields = fields[: 4 - (draw.random() < wild / 3)] + ["z"] * (draw.random() < wild / 3)
        content += separator.join(fields) + (end or draw.choice(["\n", "\r\n", "\r"]))
        content += "\n" * (draw.random() < wild / 5)
    return (content.rstrip("\r\n") if draw.random() < 0.2 else content), separator


def content_of(columns: Columns) -> Any:
    users, items = columns.users.decode(columns.user).tolist(), columns.items.decode(columns.item).tolist()
    rating = None if columns.rating is None else columns.rating.tolist()
    time = None if columns.time is None else columns.time.tolist()
    return users, items, rating, time, columns.users.kind, columns.items.kind, columns.report


def parsers_agree(folder: Path, seed: int, cases: int) -> int:
    """Compare what DuckDB makes of drawn files with what the other parser makes; returns how many DuckDB has read."""
    path, draw, fast = folder / "ratings.csv", random.Random(seed), 0
    places = {"user": 0, "item": 1, "rating": 2, "time": 3}
    for _ in range(cases):
        content, separator = drawn(draw)
        path.write_bytes(content.encode())
        with open(path, encoding="utf-8") as file:
            found = text.records((line.rstrip("\n") for line in file), separator)
            cells = [record for _, record, _ in found if record][:20]
        header = cells[0] if cells and draw.random() < 0.2 else None
        layout = text.Layout(separator, header, 4, cells[header is not None :])
        at_once = text._at_once(path, "a file", layout, places, 0)
        if at_once is not None:
            fast += 1
            slowly = text._one_by_one(path, "a file", layout, places, 0)
            assert content_of(at_once) == content_of(slowly), (content, separator)
    return fast


def outcome(path: Path, **how: Any) -> Any:
    """All that reading gives: ratings and report, or the refusal."""
    try:
        ratings = hx.read(path, user=0, item=1, rating=2, time=3, header=False, **how)
    except DataError as error:
        return str(error)
    rows = ratings.to_frame().to_dict("list")
    return rows, ratings.users.kind, ratings.items.kind, ratings.report


def in_pieces(patch: pytest.MonkeyPatch, size: int) -> None:
    patch.setattr(files_module, "LARGEST_AT_ONCE", 0)
    patch.setattr(files_module, "pieces_of_text", lambda *where: pieces_of_text(*where[:3], size))


def ways_agree(folder: Path, seed: int, cases: int) -> None:
    """Read drawn files whole, in pieces, and with blank lines at their end."""
    path, draw = folder / "ratings.csv", random.Random(seed)
    for _ in range(cases):
        content, separator = drawn(draw)
        path.write_bytes(content.encode())
        how = {"separator": separator, "skip_bad_rows": draw.random() < 0.8}
        wanted = outcome(path, **how)
        with pytest.MonkeyPatch.context() as patch:
            in_pieces(patch, draw.choice([50, 200]))
            assert outcome(path, **how) == wanted, content
        if not isinstance(wanted, str):
            path.write_bytes(content.encode() + b"\r\n \r\n")
            rows, users, items, report = outcome(path, **how)
            assert (rows, users, items, report.accepted) == (*wanted[:3], wanted[3].accepted), content


def test_both_parsers_agree(tmp_path):
    assert parsers_agree(tmp_path, 1, 150) > 15


def test_all_ways_through_a_file_agree(tmp_path):
    ways_agree(tmp_path, 1, 12)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [2, 3])
def test_all_ways_through_many_files_agree(tmp_path, seed):
    assert parsers_agree(tmp_path, seed, 1250) > 125
    ways_agree(tmp_path, seed, 75)


def naive_fields(record: str, separator: str) -> list[str] | str | None:
    """The fields of a record letter by letter; a text where the quoting is bad, None where a quote stays open."""
    fields, at = [], 0
    blanks = " \t".replace(separator, "")
    while True:
        start = at
        while at < len(record) and record[at] in blanks:
            at += 1
        if at < len(record) and record[at] == '"':
            found, at = "", at + 1
            while True:
                if at == len(record):
                    return None
                if record[at : at + 2] == '""':
                    found, at = found + '"', at + 2
                elif record[at] == '"':
                    at += 1
                    break
                else:
                    found, at = found + record[at], at + 1
            while at < len(record) and record[at] in blanks:
                at += 1
            if at < len(record) and record[at] != separator:
                return "bad"
        else:
            at = record.find(separator, start) if separator in record[start:] else len(record)
            found = record[start:at]
        fields.append(found)
        if at == len(record):
            return fields
        at += 1


def naive_records(content: str, separator: str) -> list[list[str] | str]:
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[list[str] | str] = []
    while lines:
        fields = None
        for more in range(len(lines)):
            fields = naive_fields("\n".join(lines[: more + 1]), separator)
            if fields is not None:
                break
        if lines[0].strip():
            found.append("bad" if fields is None else fields)
        del lines[: 1 if fields is None or not lines[0].strip() else more + 1]
    return found


def test_records_are_those_of_a_parser_that_goes_letter_by_letter():
    draw = random.Random(0)
    for _ in range(3000):
        separator = draw.choice(",;\t ")
        content = "".join(draw.choice('aé1,;" \t"\n') for _ in range(draw.randint(0, 40)))
        found = text.records(iter(content.split("\n")), separator)
        ours = [cells or "bad" for _, cells, wrong in found if cells or wrong]
        assert ours == naive_records(content, separator), (content, separator)


@pytest.fixture(params=["at once", "one by one", "in pieces", "in pieces one by one"])
def way(request, monkeypatch):
    if "one by one" in request.param:
        monkeypatch.setattr(text, "_at_once", lambda *_: None)
    if "pieces" in request.param:
        in_pieces(monkeypatch, 40)
    return request.param


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("film 7", "film 7"),
        (' "film 7"', "film 7"),
        ('\t"film 7"', "film 7"),
        ('"film 7" ', "film 7"),
        ('"film 7"\t', "film 7"),
        ('" film 7 "', "film 7"),
        (' "a "" b" ', 'a " b'),
        ('"a,b"', "a,b"),
        ('"a\nb"', "a\nb"),
        ('"a\r\nb"', "a\nb"),
        ('say "a"', 'say "a"'),
        ('a"b', 'a"b'),
        ("\va", "\va"),
        ("\u00a0a\u00a0", "\u00a0a\u00a0"),
        ('\u00a0"a"', '\u00a0"a"'),
        ("a\\", "a\\"),
        ("NULL", "NULL"),
        ("#a", "#a"),
        ('"' + "x" * 200_000 + '"', "x" * 200_000),
        ("x" * 3_000_000, "x" * 3_000_000),
    ],
    ids=lambda cell: repr(cell[:12]),
)
def test_a_field_is_read_in_one_way(tmp_path, monkeypatch, way, cell, label):
    if "pieces" in way and len(cell) > 1000:
        in_pieces(monkeypatch, 1 << 20)
    path = tmp_path / "ratings.csv"
    path.write_bytes((f"{cell},ann,3\n" + "b,bob,4\n" * 8).encode())
    ratings = hx.read(path, user=1, item=0, rating=2, header=False, separator=",")
    assert ratings.items.labels.tolist() == sorted(["b", label])
    assert (ratings.report.accepted, ratings.report.duplicates) == (9, 7)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "cell", ["\v3", "3\f", "+-3", "-+3", "3_0", "\u00a03", "٣", "0x3", "nan", "1e999", "3 3", '"3" "', "'3'"]
)
def test_what_is_no_number_is_a_bad_row(tmp_path, cell):
    path = tmp_path / "ratings.csv"
    path.write_text("a,b,3\n" * 5 + f"a,b,{cell}\n", newline="")
    ratings = hx.read(path, skip_bad_rows=True)
    assert (ratings.report.accepted, ratings.report.rejected) == (5, 1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("cell", ["3", "+3", "03", "3.", "3.0", "30e-1", " 3\t", '"3"', ' "3" '])
def test_what_is_a_number_is_one(tmp_path, cell):
    assert number(cell.strip(' \t"')) == 3
    path = tmp_path / "ratings.csv"
    path.write_text(f"a,b,{cell}\nc,d,1\n")
    assert hx.read(path).value.tolist() == [3, 1]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    path = tmp_path / "ratings.csv"
    path.write_bytes(end.join(["user,item,rating", "a,b,3", "c,d,4", "e,f,1"]).encode())
    assert hx.read(path).items.labels.tolist() == ["b", "d", "f"]
    path.write_bytes(b"a,b,3\r\nc,d,4\ne,f,1\rg,h,2")
    assert hx.read(path).items.labels.tolist() == ["b", "d", "f", "h"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("also", ["1609459200", "1609459200.5"])
def test_nanoseconds_are_exact(tmp_path, also):
    """As a double, this is the next second."""
    path = tmp_path / "ratings.csv"
    path.write_text(f"1,2,3,1609459199999999999\nx,2,3,{also}\n")
    assert hx.read(path, header=False).time.tolist() == [1609459199, 1609459200]


@pytest.mark.parametrize("marks", [1, 2])
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16-le", "utf-8-sig"])
def test_byte_order_marks_at_the_start_are_dropped(tmp_path, marks, encoding):
    path = tmp_path / "ratings.csv"
    path.write_bytes(
        ("\ufeff" * marks + "userId,movieId,rating\n1,2,3\n").encode(
            (encoding or "utf-8").removesuffix("-sig")
        )
    )
    assert hx.read(path, encoding=encoding).users.labels.tolist() == [1]


@pytest.mark.usefixtures("way")
def test_byte_order_marks_elsewhere_are_letters(tmp_path):
    """Files that are strung together have some; DuckDB would drop one at the start of a piece."""
    path = tmp_path / "ratings.csv"
    path.write_text("a,b,3\n" * 3 + "\ufeffa,b,3\n" * 20)
    assert hx.read(path).users.labels.tolist() == ["a", "\ufeffa"]


@pytest.mark.parametrize("end", ["", "\n", "\r"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("memory", [None, "4GB"])
def test_an_endless_line_is_refused(tmp_path, end, packed, memory):
    content = (f"1,2,3{end}" * bool(end) + "1" * (text.LONGEST + 1)).encode()
    path = tmp_path / "ratings.csv"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with pytest.raises(
        DataError, match=r"ratings.csv, line [12]: longer than 8 MB, the most a line may have"
    ):
        hx.read(path, memory=memory, progress=False)


def test_an_endless_line_is_not_unpacked_to_its_end(tmp_path, monkeypatch):
    packed = gzip.compress(b"1" * (4 * text.LONGEST), 1)
    (tmp_path / "ratings.csv.gz").write_bytes(packed)
    taken = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size: (taken.append(size), read(file, size))[1])
    with pytest.raises(DataError, match="line 1: longer than"):
        hx.read(tmp_path / "ratings.csv.gz")
    assert sum(taken) < 3 * text.LONGEST


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_line(tmp_path, more):
    """The bound does not depend on where the pieces of a file end."""
    path = tmp_path / "ratings.csv"
    start, line = b"1,2,3,4\n" * 100_000, b"2,3,4,"
    path.write_bytes(start + line + b"x" * (text.LONGEST + more - len(line)) + b"\n5,6,7,8\n")
    if more:
        with pytest.raises(DataError, match=r"line 100001: longer than"):
            hx.read(path, user=0, item=1, rating=2, header=False)
        return
    ratings = hx.read(path, user=0, item=1, rating=2, header=False)
    assert ratings.report.accepted == 100_002


def test_a_quote_in_lines_that_are_long_is_given_up(tmp_path, monkeypatch):
    path = tmp_path / "ratings.csv"
    path.write_text('"a,2,3\n' + "x,2,3\n" * 50)
    monkeypatch.setattr(text, "LONGEST", 100)
    ratings = hx.read(path, skip_bad_rows=True)
    assert (ratings.report.accepted, ratings.report.rejected) == (50, 1)


def test_the_report_of_pieces_is_that_of_the_whole(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(b'user,item,rating\r1,2,3\r\r"a\rb",2,3\r4,5,bad\r\n6,7,8\n9,9\n')
    whole = hx.read(path, skip_bad_rows=True)
    with pytest.MonkeyPatch.context() as patch:
        in_pieces(patch, 5)
        pieces = hx.read(path, skip_bad_rows=True)
    assert replace(pieces.report) == whole.report
    assert [line for _, line, _ in whole.report.errors] == [6, 8]


@pytest.mark.parametrize(
    ("piece", "end"),
    [
        (b'"a"\n\n\n""\t;"', 6),
        (b'1;"x;y";3\n"a""b";2\n', 19),
        (b'1;2\n"open;3\n', 4),
        (b'1;"a"b\n', 0),
        (b"a;b", 3),
    ],
)
def test_where_plain_records_end(piece, end):
    assert text.end_of_plain(piece, ";", 0, len(piece)) == end


def test_no_pattern_has_a_possessive_group():
    """Python 3.11.0 to 3.11.4 match them wrongly, and Debian 12 has 3.11.2."""
    package = Path(text.__file__).parents[1]
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>", line)
    ]
    assert not found
