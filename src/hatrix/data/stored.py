"""Ratings read onto disk piece by piece, equal to those that reading gives in memory, and found there again."""

from __future__ import annotations

import json
import os
import re
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hatrix import _files
from hatrix.data.disk import Disk
from hatrix.data.ids import Ids
from hatrix.data.pairs import Repeats, repeats
from hatrix.data.pieces import Columns, Numbering, total
from hatrix.data.ratings import Ratings, ReadReport, check_scale
from hatrix.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

__all__ = ["ahead", "clear", "kept", "open_disk", "rows_at_once", "store"]

T = TypeVar("T")
MANIFEST = "ratings.json"
KINDS = {"user": np.int32, "item": np.int32, "value": np.float64, "time": np.int64}
_OURS = re.compile(
    r"(new-)?(user|item)s?(-end)?|(new-)?(value|time)|(pair|row|time|value|gone|changed|sums|piece)-[0-9]+|ratings[.]json|"
    r"(regions|kept)-[0-9a-f]{16}(-[0-9]+)?|duckdb_temp_.*"  # of a process that was killed
)
BYTES_PER_ROW = 400
"""Of a piece in the making, from what DuckDB reads to columns of ids and numbers."""


def open_disk(folder: str | PathLike[str] | None, memory: int) -> Disk:
    """The folder as a disk; without one a temporary folder, which goes when the ratings do."""
    import duckdb  # noqa: F401  what takes memory itself is there before the room is measured
    import pandas  # noqa: F401

    try:
        if folder is None:
            made = ExitStack()
            disk = Disk(made.enter_context(_files.scratch()) / "columns", memory)
            disk.folder.mkdir()
            weakref.finalize(disk, made.close)
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
            disk = Disk(Path(folder), memory)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be written: {error.strerror}") from None
    return disk


def rows_at_once(disk: Disk) -> int:
    """How many rows to have in memory at a time."""
    return min(max(disk.room() // (2 * BYTES_PER_ROW), 1 << 15), 1 << 20)


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items, each made in a thread while the one before is worked with."""
    with closing(items), ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def store(
    pieces: Iterator[Columns],
    disk: Disk,
    *,
    source: dict[str, Any],
    implicit: Callable[[], bool | None],
    scale: tuple[float, float] | None,
    name: str,
    where: str,
    show: Callable[[int], None],
) -> Ratings:
    """Write the pieces as the columns of a disk.

    Parameters
    ----------
    pieces
        In order, each with ids of its own.
    disk
        Where to, and how much memory there is.
    source
        What was read and how, for `kept`.
    implicit
        Called when all pieces are read: whether values count events; None says that they do if there is no rating.
    scale, name
        As in `Ratings.from_rows`.
    where
        What the source is called in messages.
    show
        Called with the number of rows read so far.
    """
    at_once = rows_at_once(disk)
    users, items, report, timed, counted, span = _provisional(pieces, disk, show)
    rows = report.accepted
    if not rows:
        raise DataError(f"{where} has {'a header and ' if report.header else ''}no ratings")
    known = implicit()
    events = counted if known is None else known
    user_ids, user_place = users.finish()
    item_ids, item_place = items.finish()
    _keep_ids(disk, "users", user_ids)
    _keep_ids(disk, "items", item_ids)
    found = repeats(disk, rows, len(item_ids), timed=timed, implicit=events, at_once=at_once)
    names = [name for name in KINDS if timed or name != "time"]
    places = {"user": user_place, "item": item_place}
    moved = [name for name in names if found or (name in places and not _in_order(places[name]))]
    if moved:
        span = _final(disk, moved, places, found, at_once) or span
    if scale is None and not events:
        scale = span
    check_scale(scale, span)
    report = total([report, ReadReport(0, 0, duplicates=found.count if found else 0)])
    facts = {
        "source": source,
        "rows": rows - report.duplicates,
        "timed": timed,
        "implicit": events,
        "scale": None if events or scale is None else [float(end) for end in scale],
        "name": name,
        "report": asdict(report),
        "kinds": [user_ids.kind, item_ids.kind],
    }
    _note(disk, facts)
    return _ratings(disk, facts, user_ids, item_ids)


def kept(disk: Disk, source: dict[str, Any]) -> Ratings | None:
    """What an earlier reading of the same source left on the disk; None, and the disk made ready, if there is nothing.

    Raises
    ------
    DataError
        If there are files in the folder that no reading has written.
    """
    _files.sweep(disk.folder)
    try:
        there = [path.name for path in disk.folder.iterdir()]
        if there and MANIFEST not in there:
            raise DataError(f"{disk.folder} has files of other kinds in it: give a new or an empty folder")
        facts = json.loads(disk.path(MANIFEST).read_text("utf-8"))
        if facts["source"] == json.loads(_json(source)):
            users, items = (
                _kept_ids(disk, f"{side}s", kind)
                for side, kind in zip(("user", "item"), facts["kinds"], strict=True)
            )
            ratings = _ratings(disk, facts, users, items)
            if all(len(column) == facts["rows"] for column in ratings.columns):
                return ratings
    except DataError:
        raise
    except (OSError, ValueError, LookupError, TypeError):
        pass
    try:
        clear(disk)
        _note(disk, {"source": source})
    except OSError as error:
        raise DataError(f"{disk.folder} cannot be written: {error.strerror or error}") from None
    return None


def clear(disk: Disk, *, gone: bool = False) -> None:
    """Remove what reading has written, and the folder too if it is to be gone."""
    _files.sweep(disk.folder)
    for path in disk.folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if gone:
        with suppress(OSError):
            disk.folder.rmdir()


def _note(disk: Disk, facts: dict[str, Any]) -> None:
    """Write down what the disk holds, and by that whose it is."""
    with _files.replacing(disk.path(MANIFEST), durable=False) as file:
        file.write(_json(facts).encode() + b"\n")


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, default=str)  # numbers of NumPy that a caller gave


def _ratings(disk: Disk, facts: dict[str, Any], users: Ids, items: Ids) -> Ratings:
    report = dict(facts["report"])
    report |= {name: tuple(map(tuple, report[name])) for name in ("errors", "columns")}
    columns = {
        name: disk.mapped(name, kind) for name, kind in KINDS.items() if facts["timed"] or name != "time"
    }
    return Ratings(
        columns["user"],
        columns["item"],
        columns["value"],
        users,
        items,
        time=columns.get("time"),
        scale=None if facts["scale"] is None else tuple(facts["scale"]),
        implicit=facts["implicit"],
        report=ReadReport(**report),
        name=facts["name"],
        disk=disk,
    )


def _provisional(
    pieces: Iterator[Columns], disk: Disk, show: Callable[[int], None]
) -> tuple[Numbering, Numbering, ReadReport, bool, bool, tuple[float, float]]:
    """Write the columns with the numbers that labels get as they come."""
    users, items, reports = Numbering(), Numbering(), ReadReport(0, 0)
    timed = counted = False
    low, high = np.inf, -np.inf
    with (
        disk.writing("user", np.int32) as user,
        disk.writing("item", np.int32) as item,
        disk.writing("value", np.float64) as value,
        disk.writing("time", np.int64) as time,
    ):
        for piece in pieces:
            disk.refuse_excess(f"{len(users):,} users and {len(items):,} items")
            user.append(users.of(piece.users)[piece.user])
            item.append(items.of(piece.items)[piece.item])
            counted = piece.rating is None
            values = np.ones(len(piece.user)) if piece.rating is None else piece.rating
            value.append(values)
            low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
            timed = piece.time is not None
            if piece.time is not None:
                time.append(piece.time)
            reports = total([reports, piece.report])
            show(reports.accepted)
    return users, items, reports, timed, counted, (float(low), float(high))


def _in_order(place: NDArray[np.int32]) -> bool:
    return bool((place[1:] > place[:-1]).all())


def _final(
    disk: Disk, names: list[str], places: dict[str, NDArray[np.int32]], found: Repeats | None, at_once: int
) -> tuple[float, float] | None:
    """Write columns anew with the rows of sorted labels and without those that give way; the span of the values."""
    low, high, start = np.inf, -np.inf, 0
    with ExitStack() as stack:
        columns = {name: stack.enter_context(disk.writing(f"new-{name}", KINDS[name])) for name in names}
        parts = (disk.pieces(name, KINDS[name], at_once) for name in names)
        for arrays in zip(*parts, strict=True):
            part = dict(zip(names, arrays, strict=True))
            stop = start + len(arrays[0])
            for name in places.keys() & part.keys():
                part[name] = places[name][part[name]]
            if found is not None:
                keep, part["value"] = found.apply(start, stop, part["value"])
                part = {name: column[keep] for name, column in part.items()}
                low, high = (
                    min(low, part["value"].min(initial=low)),
                    max(high, part["value"].max(initial=high)),
                )
            for name, column in part.items():
                columns[name].append(column)
            start = stop
    for name in names:
        os.replace(disk.path(f"new-{name}"), disk.path(name))
    return None if found is None else (float(low), float(high))


def _keep_ids(disk: Disk, name: str, ids: Ids) -> None:
    if ids.kind == "int":
        with disk.writing(name, np.int64) as column:
            column.append(ids.labels)
        return
    with disk.writing(name, np.uint8) as text, disk.writing(f"{name}-end", np.int64) as ends:
        end = 0
        for start in range(0, len(ids), 1 << 16):
            labels = [label.encode() for label in ids.labels[start : start + (1 << 16)].tolist()]
            text.append(np.frombuffer(b"".join(labels), np.uint8))
            end_of = end + np.cumsum([len(label) for label in labels])
            ends.append(end_of)
            end = int(end_of[-1])


def _kept_ids(disk: Disk, name: str, kind: str) -> Ids:
    if kind == "int":
        return Ids(np.fromfile(disk.path(name), np.int64))
    ends = np.fromfile(disk.path(f"{name}-end"), np.int64).tolist()
    labels = np.empty(len(ends), object)
    with open(disk.path(name), "rb") as file:
        start = 0
        for at, end in enumerate(ends):
            labels[at] = file.read(end - start).decode()
            start = end
    return Ids(labels)
