"""Repeated pairs of a user and an item among columns on disk.

Rows are dealt by a hash of their pair into files that fit into memory, so that equal pairs meet in one; what
`hatrix.data.ratings` does with all rows at once is done with each file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.disk import Disk, let_go, write_all
from hatrix.data.ratings import has_repeats, one_per_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Repeats", "repeats"]

BYTES_PER_ROW = 128
"""That sorting a file and telling its repeated pairs takes, from keys to the order of rows."""
LEAST_IN_FILE = 1 << 16
THREADS = 2
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
KINDS = dict.fromkeys(("pair", "row", "time"), np.int64) | {"value": np.float64}


@dataclass
class Repeats:
    """Rows that give way to others, and, for events, rows whose value is the sum of theirs; both in rising order."""

    gone: list[NDArray[np.int64]]
    changed: list[NDArray[np.int64]]
    sums: list[NDArray[np.float64]]

    def __post_init__(self) -> None:
        self._gone = [0] * len(self.gone)
        self._changed = [0] * len(self.changed)

    @property
    def count(self) -> int:
        """How many rows give way."""
        return sum(map(len, self.gone))

    def apply(
        self, start: int, stop: int, value: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which of the rows from ``start`` to ``stop`` stay, and their values; to be asked for in rising order."""
        keep = np.ones(stop - start, bool)
        for file, rows in enumerate(self.gone):
            part = _until(rows, self._gone[file], stop)
            keep[rows[part] - start] = False
            let_go(rows, part)
            self._gone[file] = part.stop
        for file, (rows, sums) in enumerate(zip(self.changed, self.sums, strict=True)):
            part = _until(rows, self._changed[file], stop)
            value[rows[part] - start] = sums[part]
            let_go(rows, part)
            let_go(sums, part)
            self._changed[file] = part.stop
        return keep, value


def _until(rows: NDArray[np.int64], start: int, stop: int) -> slice:
    # Row numbers differ, so those below ``stop`` are within the next ``stop - rows[start]``.
    if start == len(rows) or rows[start] >= stop:
        return slice(start, start)
    near = rows[start : start + stop - int(rows[start])]
    return slice(start, start + int(np.searchsorted(near, stop)))


def repeats(
    disk: Disk, rows: int, n_items: int, *, timed: bool, implicit: bool, at_once: int
) -> Repeats | None:
    """The repeated pairs among the columns ``user``, ``item``, ``value`` and ``time`` of a disk, or None.

    Parameters
    ----------
    disk
        Where the columns are, and how much memory there is.
    rows, n_items
        How many ratings and items.
    timed
        Whether the latest row of a pair stays, and not the last.
    implicit
        Whether the values of a pair are added up.
    at_once
        Rows to read at a time.
    """
    in_file = max(disk.room() // (2 * THREADS * BYTES_PER_ROW), LEAST_IN_FILE)
    bits = max(0, (rows // in_file).bit_length())
    every = range(1 << bits)
    _deal(disk, n_items, bits, ["pair"], every, at_once)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda file: has_repeats(_take(disk, "pair", file)), every))
    some = [file for file in every if found[file]]
    if not some:
        return None
    fields = ["pair", "row", *(["time"] if timed else []), *(["value"] if implicit else [])]
    _deal(disk, n_items, bits, fields, some, at_once)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda file: _resolve(disk, file, fields), some))
    changed = [disk.mapped(f"changed-{file}", np.int64) for file in some] if implicit else []
    sums = [disk.mapped(f"sums-{file}", np.float64) for file in some] if implicit else []
    gone = [disk.mapped(f"gone-{file}", np.int64) for file in some]
    for file in some:
        for name in ("gone", "changed", "sums"):  # mapped files need no names
            with suppress(OSError):  # elsewhere than on POSIX they stay until their folder goes
                disk.path(f"{name}-{file}").unlink()
    return Repeats(gone, changed, sums)


def _deal(disk: Disk, n_items: int, bits: int, fields: list[str], files: Any, at_once: int) -> None:
    """Append the fields of each row to those of its file, for the files that are wanted."""
    wanted = set(files)
    start = 0
    for columns in _together(
        disk, [name for name in ("user", "item", *fields) if name not in ("pair", "row")], at_once
    ):
        pair = columns["user"].astype(np.int64) * n_items + columns["item"]
        columns |= {"pair": pair, "row": np.arange(start, start + len(pair))}
        start += len(pair)
        if bits:
            file_of = ((pair.view(np.uint64) * GOLDEN) >> np.uint64(64 - bits)).astype(np.uint16)
        else:
            file_of = np.zeros(len(pair), np.uint16)
        order = np.argsort(file_of, kind="stable")
        end = np.cumsum(np.bincount(file_of, minlength=1 << bits)).tolist()
        for field in fields:
            dealt = columns[field][order]
            for file in wanted:
                part = dealt[end[file - 1] if file else 0 : end[file]]
                if len(part):
                    with open(disk.path(f"{field}-{file}"), "ab", buffering=0) as out:
                        write_all(out, part)


def _together(disk: Disk, names: list[str], at_once: int) -> Iterator[dict[str, NDArray[Any]]]:
    kinds = {"user": np.int32, "item": np.int32, **KINDS}
    for parts in zip(*(disk.pieces(name, kinds[name], at_once) for name in names), strict=True):
        yield dict(zip(names, parts, strict=True))


def _take(disk: Disk, field: str, file: int) -> NDArray[Any]:
    """A field of a file, which is then gone."""
    path = disk.path(f"{field}-{file}")
    found = np.fromfile(path, KINDS[field]) if path.exists() else np.empty(0, KINDS[field])
    path.unlink(missing_ok=True)
    return found


def _resolve(disk: Disk, file: int, fields: list[str]) -> None:
    """Write which rows of a file go, and what becomes of the values of those that stay."""
    found = {field: _take(disk, field, file) for field in fields}
    value = found.get("value", np.empty(0))
    keep, sums = one_per_pair(found["pair"], value, found.get("time"), implicit="value" in found)
    assert keep is not None
    row = found["row"]
    with disk.writing(f"gone-{file}", np.int64) as out:
        out.append(row[~keep])
    if "value" in found:
        changed = keep & (sums != value)
        for name, part in (("changed", row[changed]), ("sums", sums[changed])):
            with disk.writing(f"{name}-{file}", part.dtype) as out:
                out.append(part)
