"""A reader of separated text that checks a file, or a chunk of one, at a time.

DuckDB parses a file in one go. If the counts of lines, separators and good fields do not show a file without faults, or
if the file has something that DuckDB reads differently from the grammar below, Python reads the records again one by one
and names each bad one with its line and the reason. Both ways give the same ratings.

The grammar
-----------
- The text is UTF-8, or in the encoding given. Byte order marks are dropped at its start only.
- A line ends with a line feed, a carriage return, or both. It has at most `LONGEST` bytes: a longer one is refused at
  once, since a file without line ends is no table. A line of only white space is blank, and counted as such.
- A record is one line, and one more for each line end inside quotes, which reads as a line feed. A record with a NUL
  byte, or with more or fewer fields than the first record, is bad.
- The separator stands between fields. *Blanks* are spaces and tabs, unless one of them is the separator.
- A field whose first character after any blanks is ``"`` is quoted: it goes to the next ``"`` that is not doubled, and
  only blanks may stand between that and the separator. Inside, ``""`` is one ``"``, and separators and line ends are
  ordinary characters. A quote that is not closed within `LONGEST_QUOTE` more lines makes its line a bad one.
- A quote anywhere else is an ordinary character. With a separator of several characters, every quote is.
- Blanks around the text of a field do not belong to it, even if it is quoted. All other white space does.
- An id is the text of its field. Ids are integers if all ids of a column are written as Python writes int64 numbers
  (``7``, ``-7``; never ``+7``, ``007``, ``7.0``, ``-0`` or ``1e3``). Otherwise all of them are text.
- A rating is a finite decimal number in ASCII digits: an optional sign, digits with at most one point, an optional
  exponent (``4``, ``+4.5``, ``.5``, ``5.``, ``1e3``); never ``nan``, ``inf``, ``0x10``, ``1_000``, ``4,5``.
- A time is such a number, exact in int64 if it has only digits, or a date; see `hatrix.data.values`.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix import _files
from hatrix.data.ids import INTEGER, Ids, is_unicode
from hatrix.data.pieces import Columns
from hatrix.data.ratings import ReadReport
from hatrix.data.values import NO_TIME, numbers, seconds, times
from hatrix.errors import DataError

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

__all__ = [
    "LONGEST",
    "Layout",
    "end_of_plain",
    "is_blank",
    "packing",
    "parsed",
    "plain_file",
    "records",
    "refuse_bad",
    "sniff",
    "too_long",
]

SEPARATORS = ("::", "\t", ",", ";", "|", " ")
PIECE = 1 << 23
"""Bytes of a file that are scanned together."""
RECORDS_AT_ONCE = 20_000
LONGEST = 1 << 23
"""Bytes that a line may have, and characters that a record may have; at least `PIECE`."""
LONGEST_QUOTE = 100
"""Maximum number of further lines that a record may span."""
EXACT = 2**53
"""The size from which float64 no longer holds every integer."""
_DECIMAL_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9])")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?Z?)?"
)
"""The dates that DuckDB reads as `hatrix.data.values` does; the latter reads all other dates one by one."""


class Layout(NamedTuple):
    """The layout of a text file: its separator, its header or None, its number of columns, and its first records."""

    separator: str
    header: list[str] | None
    width: int
    sample: list[list[str]]


@contextmanager
def plain_file(path: Path, named: str, encoding: str | None, beside: Path | None = None) -> Iterator[Path]:
    """Yield the path of the file as UTF-8 text without byte order mark: itself, or an unpacked and decoded copy.

    The temporary copy is in the folder ``beside``, or in the system's folder of temporary files.
    """
    try:
        with _opened(path, named) as packed:
            start = packed.read(4)
            if encoding is None and start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise DataError(f"{named} is UTF-16 text: give encoding='utf-16'")
            if not packing(path) and not start.startswith(codecs.BOM_UTF8) and _is_utf8(encoding):
                yield path
                return
        with _files.scratch(beside) as folder:
            copy = folder / "ratings"
            with _opened(path, named) as packed, open(copy, "wb") as plain:
                _copy(named, packed, plain, None if _is_utf8(encoding) else encoding)
            yield copy
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot read {named}: {reason}") from None


def _is_utf8(encoding: str | None) -> bool:
    try:
        "".encode(encoding or "utf-8")  # encode refuses codecs that are not for text
        return encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except (LookupError, ValueError):
        raise DataError(f"there is no encoding {encoding!r}: give one such as utf-8 or latin-1") from None


def packing(path: Path) -> str:
    """Return how the file is packed (gzip, zip or not), even if its name does not say so."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b" or path.suffix.lower() == ".gz":
        return "gzip"
    return "zip" if start in (b"PK\3\4", b"PK\5\6") or path.suffix.lower() == ".zip" else ""


@contextmanager
def _opened(path: Path, named: str) -> Iterator[IO[bytes]]:
    kind = packing(path)
    if kind == "gzip":
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]
    elif kind == "zip":
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir() and not member.filename.startswith("__MACOSX/")
            ]
            if len(members) != 1:
                raise DataError(
                    f"{named} holds {len(members)} files: give a zip of one, or unpack the one you mean"
                )
            try:
                member = archive.open(members[0])
            except RuntimeError as error:  # encrypted, or packed in a way that Python does not know
                raise DataError(f"cannot read {named}: {error}") from None
            with member:
                yield member
    else:
        with open(path, "rb") as file:
            yield file


def _copy(named: str, packed: IO[bytes], plain: IO[bytes], encoding: str | None) -> None:
    """Copy text as UTF-8 without the byte order marks at its start; refuse a line as soon as it is too long."""
    decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
    lines = unended = 0
    starts = True
    while piece := packed.read(PIECE):
        if decoder is not None:
            piece = _decoded(named, decoder, piece, str(encoding))
        while starts and piece.startswith(codecs.BOM_UTF8):
            piece = piece.removeprefix(codecs.BOM_UTF8)
        starts = starts and not piece
        plain.write(piece)
        lines += _line_ends(piece)
        unended = len(piece) - _after_last_end(piece) + (0 if _after_last_end(piece) else unended)
        if unended > LONGEST:
            raise too_long(named, lines + 1)
    if decoder is not None:
        plain.write(_decoded(named, decoder, b"", str(encoding)))


def _decoded(named: str, decoder: codecs.IncrementalDecoder, piece: bytes, encoding: str) -> bytes:
    try:
        return decoder.decode(piece, final=not piece).encode()
    except UnicodeError as error:
        raise DataError(f"{named} is not {encoding} text: {error}") from None


def too_long(named: str, line: int) -> DataError:
    """Return the error for a line that is longer than `LONGEST`."""
    return DataError(
        f"{named}, line {line}: longer than {LONGEST / 1e6:,.0f} MB, the most a line may have: give a file with a rating "
        "a line"
    )


def _line_ends(text: bytes) -> int:
    """Count the line ends in the text: line feeds, carriage returns, or both together."""
    ends = _count(text, b"\n")
    return ends + _count(text, b"\r") - text.count(b"\r\n") if b"\r" in text else ends


def _after_last_end(text: bytes) -> int:
    """Return the end of the last line that is surely complete, or 0: a line feed may still follow the last byte."""
    return max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1


def _whole_lines(file: IO[bytes], named: str, before: int) -> Iterator[bytes]:
    """Yield the file in chunks of whole lines, and refuse a line that is too long."""
    rest = b""
    while block := file.read(PIECE):
        rest += block
        ends = [at for at in (rest.find(b"\n"), rest.find(b"\r")) if at >= 0]
        if min(ends, default=len(rest)) > LONGEST:  # later lines are shorter than a block
            raise too_long(named, before + 1)
        if cut := _after_last_end(rest):
            before += _line_ends(rest[:cut])
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def sniff(
    path: Path, named: str, separator: str | None, header: bool | None, known: frozenset[str]
) -> Layout:
    """Find the separator and the header of a plain file; ``known`` are column names that make a header."""
    separator = {"\\t": "\t", "tab": "\t"}.get(separator or "", separator)
    if separator is not None and (not separator or set(separator) & set('\n\r\0"')):
        raise DataError(
            f"separator is {separator!r}: give what stands between fields, without quotes or line ends, such as ';'"
        )
    lines: list[str] = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST + 1)
            if len(line) > LONGEST:
                raise too_long(named, number)
            if line.strip():
                lines.append(line.rstrip("\n"))
            if not line or len(lines) == 100 or sum(map(len, lines)) > LONGEST:
                break
    if not lines:
        raise DataError(f"{named} is empty: give a file with a rating a line")
    if separator is None:
        counts = {mark: [line.count(mark) for line in lines] for mark in SEPARATORS}
        steady = [mark for mark in SEPARATORS if min(counts[mark]) and len(set(counts[mark])) == 1]
        inside = sum(len(_DECIMAL_COMMA.findall(line)) for line in lines) == sum(counts[","])
        if inside and any(counts[mark][0] > counts[","][0] for mark in steady):
            steady = [mark for mark in steady if mark != ","]  # 1;2;3,5
        present = [mark for mark in SEPARATORS if counts[mark][0]]
        separator = next(iter(steady or present), None)
        if separator is None:
            raise DataError(
                f"{named} has one column only: give a file with users and items, or its separator"
            )
    cells = [record for _, record, _ in records(iter(lines[:20]), separator) if record]
    first, rest = (cells or [lines[0].split(separator)])[0], cells[1:]
    if header is None:
        named_here = sum(cell.strip().lower() in known for cell in first)
        numeric = [_numeric(record) for record in (first, *rest[:5])]
        header = named_here > 1 or (not numeric[0] and (named_here > 0 or any(numeric[1:])))
    names = [cell.strip() for cell in first] if header else None
    return Layout(separator, names, len(first), rest if header else cells)


def is_blank(path: Path) -> bool:
    """Return whether the file has nothing but white space."""
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            if piece.strip():
                return False
    return True


def _numeric(cells: list[str]) -> bool:
    return bool(np.isfinite(numbers(np.array(cells, object))).any())


def parsed(path: Path, named: str, layout: Layout, places: dict[str, int], before: int = 0) -> Columns:
    """Return the good rows of a plain file, or of a chunk of one after ``before`` lines, with a report on all rows."""
    found = _at_once(path, named, layout, places, before)
    return _one_by_one(path, named, layout, places, before) if found is None else found


def refuse_bad(report: ReadReport, named: str) -> None:
    """Refuse a file with rows that cannot be read."""
    if report.rejected:
        shown = "; ".join(f"line {line}: {reason}" for _, line, reason in report.errors)
        more = f"; and {report.rejected - 5:,} more" if report.rejected > 5 else ""
        raise DataError(
            f"{named}: {report.rejected:,} bad {'row' if report.rejected == 1 else 'rows'}: {shown}{more}. Correct "
            "them, or leave them out with skip_bad_rows=True (--skip-bad-rows)"
        )


class _Counts(NamedTuple):
    """Counts from a scan over the bytes of a file; ``plain`` is True if DuckDB reads it as the grammar says."""

    lines: int
    separators: int
    plain: bool


def _scan(path: Path, named: str, separator: str, before: int) -> _Counts:
    lines = separators = feeds = returns = pairs = 0
    mark = separator.encode()
    plain = True
    with open(path, "rb") as file:
        for piece in _whole_lines(file, named, before):
            if not piece.isascii():
                try:
                    piece.decode()
                except UnicodeDecodeError as error:
                    line = before + lines + _line_ends(piece[: error.start]) + 1
                    raise DataError(
                        f"{named}, line {line}: not UTF-8 text: give its encoding, such as encoding='latin-1'"
                    ) from None
            plain = plain and not (lines == 0 and piece.startswith(codecs.BOM_UTF8))
            lines += _line_ends(piece) + (piece[-1:] not in (b"\n", b"\r"))
            feeds += _count(piece, b"\n")
            separators += _count(piece, mark)
            if b"\r" in piece:
                returns += _count(piece, b"\r")
                pairs += piece.count(b"\r\n")
            # DuckDB also strips vertical tabs and form feeds from numbers.
            plain = plain and b"\0" not in piece and b"\v" not in piece and b"\f" not in piece
            if plain and len(separator) == 1 and b'"' in piece:
                plain = _are_quotes_around(piece, mark) or (
                    end_of_plain(piece, separator, 0, len(piece)) == len(piece)
                )
    return _Counts(lines, separators, plain and returns == pairs and pairs in (0, feeds))


def _are_quotes_around(piece: bytes, mark: bytes) -> bool:
    """Return whether each quote begins or ends a field, at less cost than a check of each record.

    It assumes that no quoted field holds a separator or a line end; if one does, DuckDB's counts differ.
    """
    around = piece.count(mark + b'"') + piece.count(b'\n"') + piece.startswith(b'"')
    around += piece.count(b'"' + mark) + piece.count(b'"\n') + piece.count(b'"\r\n') + piece.endswith(b'"')
    # DuckDB knows a blank before a quote, but not a tab.
    return around == _count(piece, b'"') and (mark == b"\t" or b'\t"' not in piece)


def end_of_plain(text: bytes, separator: str, at: int, end: int) -> int:
    """Return the offset of the first record from ``at`` on that spans lines or has quotes that DuckDB reads differently."""
    some_records = _plain_records(separator)
    while at < end and (found := some_records.match(text, at, end)):
        at = found.end()
    return at


@lru_cache(maxsize=16)
def _plain_records(separator: str) -> re.Pattern[bytes]:
    """Return a pattern of up to 64 records of one line in which DuckDB reads all quotes as the grammar says.

    No two ways lead to one match, so a failure takes no longer than a match. Possessive groups would say the same, and all
    records could then be one match, but Python before 3.11.5 matches them wrongly.
    """
    mark = re.escape(separator.encode())
    blanks, space = _blanks(separator).encode(), b"" if separator == " " else b" *"
    quoted = rb'%s"[^"\r\n]*(?:""[^"\r\n]*)*"%s(?=%s|[\r\n]|\Z)' % (space, space, mark)
    usual = rb'[^"%s\r\n%s][^\r\n%s]*' % (blanks, mark, mark)
    blank = rb'(?=[%s\r\n%s]|\Z)(?![%s]*")[^\r\n%s]*' % (blanks, mark, blanks, mark)
    field = rb"(?:%s|%s|%s)" % (quoted, usual, blank)
    record = rb"%s(?:%s%s)*" % (field, mark, field)
    return re.compile(rb"(?:%s\r?\n){1,64}|%s\Z" % (record, record))


def _blanks(separator: str) -> str:
    return " \t".replace(separator, "")


def _count(piece: bytes, mark: bytes) -> int:
    if len(mark) > 1:
        return piece.count(mark)
    return int(np.count_nonzero(np.frombuffer(piece, np.uint8) == mark[0]))


def _at_once(path: Path, named: str, layout: Layout, places: dict[str, int], before: int) -> Columns | None:
    """Return the columns that DuckDB parsed, or None if anything in the file needs the slower reader."""
    counts = _scan(path, named, layout.separator, before)
    records = counts.lines - (layout.header is not None)
    if not counts.plain or counts.separators != counts.lines * (layout.width - 1) or not records:
        return None
    if not is_unicode(str(path)):  # DuckDB takes no other file names
        return None
    import duckdb

    with duckdb.connect() as connection:
        try:
            found = _with_duckdb(connection, path, layout, places, records)
        except duckdb.Error:
            return None
    if found is None:
        return None
    report = ReadReport(counts.lines, records, header=int(layout.header is not None))
    users, user, items, item, rating, time = found
    return Columns(users, user, items, item, rating, time, report)


def _with_duckdb(
    connection: duckdb.DuckDBPyConnection, path: Path, layout: Layout, places: dict[str, int], records: int
) -> Any:
    """Return the columns of a file without faults; parse again if a column that began with integers goes on otherwise."""
    connection.execute("SET enable_progress_bar = false")
    kinds = {role: _kind(layout.sample, place, role) for role, place in places.items()}
    while True:
        filled = _parse(connection, path, layout, places, kinds)
        if filled is None or filled.pop("records") != records:
            return None
        missing = [role for role, count in filled.items() if count != records]
        if not missing:
            break
        if any(kinds[role] != "integer" for role in missing):
            return None
        kinds |= {role: "number" if role == "time" else "text" for role in missing}
    users, user = _ids(connection, "user_", kinds["user"])
    items, item = _ids(connection, "item_", kinds["item"])
    rating = _column(connection, "rating_") if "rating" in places else None
    time = _column(connection, "time_") if "time" in places else None
    if time is not None and kinds["time"] == "number" and (np.abs(time) >= EXACT).any():
        return None
    if time is not None:
        time = time.astype(np.int64) if kinds["time"] == "date" else seconds(time)
        if (time == NO_TIME).any():
            return None
    return users, user, items, item, rating, time


def _parse(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    layout: Layout,
    places: dict[str, int],
    kinds: dict[str, str],
) -> dict[str, int] | None:
    """Parse the columns into a table; return the numbers of records and of fields per role; None if any was rejected."""
    quote = '"' if len(layout.separator) == 1 else ""
    source = (
        "read_csv($path, auto_detect=false, strict_mode=true, header=$header, delim=$separator, quote=$quote, "
        "escape=$quote, columns=$columns, store_rejects=true, hive_partitioning=false, compression='none')"
    )
    fields = ", ".join(f"{_field(f'c{place}', kinds[role])} AS {role}_" for role, place in places.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE parsed AS SELECT {fields} FROM {source}",
        {
            "path": glob.escape(str(path)),
            "header": layout.header is not None,
            "separator": layout.separator,
            "quote": quote,
            "columns": {f"c{number}": "VARCHAR" for number in range(layout.width)},
        },
    )
    filled = ", ".join(f"count({role}_)" for role in places)
    counts = connection.execute(f"SELECT count(*), {filled} FROM parsed").fetchone()
    rejected = connection.execute("SELECT count(*) FROM reject_errors").fetchone()
    if counts is None or rejected is None or rejected[0]:
        return None
    return dict(zip(("records", *places), counts, strict=True))


def _kind(sample: list[list[str]], place: int, role: str) -> str:
    if role == "rating":
        return "number"
    texts = [record[place].strip(" \t") for record in sample if place < len(record)]
    if all(INTEGER.fullmatch(text) for text in texts):
        return "integer"
    if role == "time":
        return "date" if all(_DATE.fullmatch(text) for text in texts) else "number"
    return "text"


def _field(column: str, kind: str) -> str:
    """Return SQL that reads a column as this kind, and is NULL where the text is of another kind."""
    if kind == "integer":
        number = f"TRY_CAST({column} AS BIGINT)"
        return f"CASE WHEN {number}::VARCHAR = {column} THEN {number} END"
    if kind == "number":
        number = f"TRY_CAST({column} AS DOUBLE)"
        odd = f"contains({column}, '_') OR contains({column}, '+-')"  # 1_000 and +-1 are no numbers
        return f"CASE WHEN isfinite({number}) AND NOT ({odd}) THEN {number} END"
    if kind == "date":
        moment = f"epoch(date_trunc('second', TRY_CAST({column} AS TIMESTAMP)))"
        sound = f"{column} >= '0001' AND regexp_full_match({column}, '{_DATE.pattern}')"  # a cast ignores time zones
        return f"CASE WHEN {sound} THEN {moment} END"
    return f"nullif(trim({column}, ' ' || chr(9)), '')"


def _column(connection: duckdb.DuckDBPyConnection, name: str) -> NDArray[Any]:
    values = connection.execute(f"SELECT {name} FROM parsed").fetchnumpy()[name]
    return np.asarray(values)


def _ids(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> tuple[Ids, NDArray[np.int32]]:
    if kind == "integer":
        return Ids.from_labels(_column(connection, name))
    connection.execute(
        f"CREATE TYPE {name}labels AS ENUM (SELECT DISTINCT {name} FROM parsed ORDER BY {name})"
    )
    labels = connection.execute(f"SELECT unnest(enum_range(NULL::{name}labels))::VARCHAR").fetchall()
    code = connection.execute(
        f"SELECT enum_code({name}::{name}labels)::INTEGER AS code FROM parsed"
    ).fetchnumpy()
    ids, place = _of_texts([label for (label,) in labels])
    return ids, place[np.asarray(code["code"])]


def _of_texts(texts: list[str]) -> tuple[Ids, NDArray[np.int32]]:
    """Return ids for distinct texts: integers if every text is written as one (7, never 007 or 7.0)."""
    whole = all(INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63 for text in texts)
    return Ids.from_labels([int(text) for text in texts] if whole else texts)


def _one_by_one(path: Path, named: str, layout: Layout, places: dict[str, int], before: int) -> Columns:
    """Read the columns record by record; count every bad record, and report the first ones."""
    labels: dict[str, dict[str, int]] = {"user": {}, "item": {}}
    parts: dict[str, list[NDArray[Any]]] = {role: [] for role in places}
    bad: list[tuple[str, int, str]] = []
    counted = blank = header = accepted = rejected = 0
    with open(path, encoding="utf-8") as file:
        found = records((line.rstrip("\n") for line in file), layout.separator)
        while some := list(islice(found, RECORDS_AT_ONCE)):
            counted += len(some)
            good: list[tuple[int, list[str]]] = []
            reasons: list[tuple[int, str]] = []
            for line, cells, reason in some:
                if reason:
                    reasons.append((line, reason))
                elif not cells:
                    blank += 1
                elif layout.header is not None and not header:
                    header = 1
                elif len(cells) != layout.width:
                    reasons.append((line, f"{len(cells)} columns instead of {layout.width}"))
                else:
                    good.append((line, cells))
            kept = _checked(good, places, labels, parts, reasons)
            accepted += kept
            rejected += len(reasons)
            bad += [(named, before + line, reason) for line, reason in sorted(reasons)][: 5 - len(bad)]
    report = ReadReport(counted, accepted, rejected, blank, header, 0, tuple(bad))
    joined: dict[str, NDArray[Any]] = {
        role: np.concatenate(columns) if columns else np.empty(0, np.int64 if role == "time" else np.float64)
        for role, columns in parts.items()
    }
    users, user_place = _of_texts(list(labels["user"]))
    items, item_place = _of_texts(list(labels["item"]))
    user, item = user_place[joined["user"].astype(np.int32)], item_place[joined["item"].astype(np.int32)]
    return Columns(users, user, items, item, joined.get("rating"), joined.get("time"), report)


def _checked(
    good: list[tuple[int, list[str]]],
    places: dict[str, int],
    labels: dict[str, dict[str, int]],
    parts: dict[str, list[NDArray[Any]]],
    reasons: list[tuple[int, str]],
) -> int:
    """Append the records whose fields can be read to ``parts``, as numbers, and return how many they are."""
    if not good:
        return 0
    texts = {role: [cells[place].strip(" \t") for _, cells in good] for role, place in places.items()}
    values: dict[str, NDArray[Any]] = {}
    wrong: dict[str, NDArray[np.bool_]] = {}
    for role, column in texts.items():
        array = np.array(column, object)
        if role in labels:
            wrong[role] = array == ""
        elif role == "rating":
            values[role] = numbers(array)
            wrong[role] = np.isnan(values[role])
        else:
            values[role] = times(array)
            wrong[role] = values[role] == NO_TIME
    keep = ~np.logical_or.reduce(list(wrong.values()))
    for at in np.flatnonzero(~keep).tolist():
        role = next(role for role in places if wrong[role][at])
        text = texts[role][at]
        if not text:
            reason = f"no {role}"
        else:
            kind = "a finite number" if role == "rating" else "a date or a number of seconds"
            reason = f"{role} {text[:40]!r} is not {kind}"
        reasons.append((good[at][0], reason))
    rows = np.flatnonzero(keep).tolist()
    for role, number in labels.items():
        column = texts[role]
        codes = [number.setdefault(column[at], len(number)) for at in rows]
        parts[role].append(np.array(codes, np.int32))
    for role, array in values.items():
        parts[role].append(array[keep])
    return len(rows)


def records(lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield records as (line number, cells, fault); a blank record has no cells. A quoted field may span lines."""
    waiting: list[str] = []
    number = 0
    while True:
        line = waiting.pop(0) if waiting else next(lines, None)
        if line is None:
            return
        number += 1
        if not line.strip():
            yield number, [], ""
            continue
        text, taken = line, 0
        cells = _cells(text, separator)
        while cells is None and taken < LONGEST_QUOTE and len(text) <= LONGEST:
            if taken == len(waiting):
                following = next(lines, None)
                if following is None:
                    break
                waiting.append(following)
            text += "\n" + waiting[taken]
            if '"' in waiting[taken]:
                cells = _cells(text, separator)
            taken += 1
        if cells is None:
            yield number, [], "a quote is opened and not closed"
            continue
        yield (number, [], "a NUL byte") if "\0" in text else (number, *cells)
        number += taken
        del waiting[:taken]


def _cells(text: str, separator: str) -> tuple[list[str], str] | None:
    """Return the cells of a record and its fault, or None while a quote is still open."""
    if len(separator) > 1 or '"' not in text:
        return text.split(separator), ""
    cells: list[str] = []
    at = 0
    while found := _cell(separator).match(text, at):
        quoted, closed, plain, end = found.groups()
        if plain is None and not closed:
            return None
        if end is None:
            return [], "bad quoting: text behind a closing quote"
        cells.append(plain if plain is not None else quoted.replace('""', '"'))
        at = found.end()
        if not end:
            break
    return cells, ""


@lru_cache(maxsize=16)
def _cell(separator: str) -> re.Pattern[str]:
    """Return a pattern of one cell, quoted or plain, and of the separator or end of the record after it."""
    # Without possessive groups, as in `_plain_records`; each text matches, so nothing is tried twice.
    mark, blank = re.escape(separator), f"[{_blanks(separator)}]*"
    quoted = rf'{blank}"([^"]*(?:""[^"]*)*)("?){blank}'
    return re.compile(rf"(?:{quoted}|([^{mark}]*))({mark}|\Z)?")
