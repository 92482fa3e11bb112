"""Ratings from files and tables."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrix.data.ratings import Ratings, ReadReport
from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read"]

KNOWN = {
    "user": ("user", "userid", "user_id", "uid", "u"),
    "item": ("item", "itemid", "item_id", "movieid", "movie_id", "movie", "product", "productid", "i"),
    "rating": ("rating", "ratings", "stars", "score", "value", "r"),
    "time": ("timestamp", "time", "date", "t"),
}
SEPARATORS = ("::", "\t", ",", ";", "|", " ")


def read(
    source: Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    time: str | int | None = None,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    implicit: bool | None = None,
    skip_bad_rows: bool = False,
    scale: tuple[float, float] | None = None,
    name: str | None = None,
) -> Ratings:
    """Ratings from a text file (also .gz or .zip), a Parquet file or any DataFrame."""
    chosen = {"user": user, "item": item, "rating": rating, "time": time}
    if not isinstance(source, str | Path):
        return _from_frame(source, chosen, implicit, name or "ratings")
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: give a file of ratings")
    if path.suffix == ".parquet":
        import duckdb

        try:
            frame = duckdb.connect().read_parquet(str(path)).df()
        except duckdb.Error as error:
            raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from None
        return _from_frame(frame, chosen, implicit, name or path.stem)
    lines = _text(path, encoding).splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty")
    separator = separator or next((s for s in SEPARATORS if s in lines[0]), ",")
    records = list(_records(lines, separator))
    first = records[0][1]
    has_header = header if header is not None else not any(_is_number(cell) for cell in first)
    place = _places(chosen, first if has_header else None, len(first), str(path))
    columns: dict[str, list[Any]] = {role: [] for role in place}
    bad: list[tuple[str, int, str]] = []
    blank = 0
    for number, cells in records[1 if has_header else 0 :]:
        if not any(cell.strip() for cell in cells):
            blank += 1
            continue
        problem = _problem(cells, place, len(first))
        if problem:
            bad.append((str(path), number, problem))
            continue
        for role, at in place.items():
            text = cells[at].strip()
            columns[role].append(float(text) if role == "rating" else text)
    if bad and not skip_bad_rows:
        shown = "; ".join(f"line {number}: {reason}" for _, number, reason in bad[:5])
        more = f" and {len(bad) - 5:,} more" if len(bad) > 5 else ""
        raise DataError(f"{path}: {shown}{more}; correct them, or leave them out with skip_bad_rows")
    if not columns["user"]:
        raise DataError(f"{path} has no ratings")
    report = ReadReport(
        len(records), len(columns["user"]), len(bad), blank, int(has_header), 0, tuple(bad[:5])
    )
    return Ratings.from_columns(
        _ids(columns["user"]),
        _ids(columns["item"]),
        columns.get("rating"),
        time=_times(columns["time"]) if "time" in columns else None,
        implicit=implicit,
        scale=scale,
        name=name or path.name.split(".")[0],
        report=report,
    )


def _from_frame(frame: Any, chosen: dict[str, Any], implicit: bool | None, name: str) -> Ratings:
    import narwhals as nw

    try:
        names = nw.from_native(frame, eager_only=True).columns
    except TypeError:
        raise DataError(
            f"cannot read ratings from a {type(frame).__name__}: give a path or a DataFrame"
        ) from None
    place = _places(chosen, names, len(names), "the table")
    found = {role: names[at] for role, at in place.items()}
    return Ratings.from_frame(
        frame,
        user=found["user"],
        item=found["item"],
        rating=found.get("rating"),
        time=found.get("time"),
        implicit=implicit,
        name=name,
    )


def _text(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = [member for member in archive.namelist() if not member.endswith("/")]
                if len(members) != 1:
                    raise DataError(f"{path} holds {len(members)} files: give a zip of one")
                data = archive.read(members[0])
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if b"\0" in data:
        raise DataError(f"{path} holds NUL bytes: it is not a text file in {encoding}")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {encoding} ({error.reason}): try encoding='latin-1'") from None


def _records(lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    if len(separator) > 1:
        yield from ((number, line.split(separator)) for number, line in enumerate(lines, 1))
        return
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: {error}") from None


def _places(chosen: dict[str, Any], names: list[str] | None, width: int, where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    lower = [name.strip().lower() for name in names] if names else []
    for order, role in enumerate(KNOWN):
        wanted = chosen[role]
        if isinstance(wanted, int):
            found[role] = wanted
        elif wanted is not None:
            if not names or wanted not in names:
                raise DataError(
                    f"{where} has no column {wanted!r} for {role}: it has {', '.join(names or ['no header'])}"
                )
            found[role] = names.index(wanted)
        else:
            match = next((lower.index(known) for known in KNOWN[role] if known in lower), None)
            if match is not None:
                found[role] = match
            elif not names and order < width:
                found[role] = order
            elif role in ("user", "item"):
                raise DataError(
                    f"{where} has no column for {role}: name it; there are {', '.join(names or [])}"
                )
    if max(found.values()) >= width:
        raise DataError(f"{where} has {width} columns, and column {max(found.values())} was asked for")
    return found


def _problem(cells: list[str], place: dict[str, int], width: int) -> str:
    if len(cells) != width:
        return f"{len(cells)} columns instead of {width}"
    for role, at in place.items():
        text = cells[at].strip()
        if not text:
            return f"no {role}"
        if role == "rating" and not (_is_number(text) and math.isfinite(float(text))):
            return f"rating {text!r} is not a finite number"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _ids(column: list[str]) -> list[Any]:
    whole = all(text.isascii() and text.lstrip("-").isdigit() and str(int(text)) == text for text in column)
    return [int(text) for text in column] if whole else column


def _times(column: list[str]) -> Any:
    import numpy as np

    numeric = all(_is_number(text) for text in column)
    return np.array([float(text) for text in column]) if numeric else np.array(column, object)
