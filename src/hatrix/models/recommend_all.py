"""The best items of every user, as a DataFrame or streamed to a file in blocks of users.

Each finished block lies as a small Parquet file in a hidden folder beside the target, so that an interrupted run goes on
where it was; in the end DuckDB strings them together, and the file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix import _files
from hatrix._checks import path_of
from hatrix.data.disk import let_go, quoted, resident, size_in_bytes
from hatrix.errors import DataError, ParameterError
from hatrix.models.container import pieces
from hatrix.models.recommend import TopN

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["Streamed", "needed", "recommend_all"]

FORMATS = {".parquet": "(FORMAT parquet, COMPRESSION zstd)", ".csv": "(FORMAT csv, HEADER)"}
MOST_USERS = 1 << 16
BYTES_PER_ROW = 200
"""Of a list, from the scan to the columns of a frame and what DuckDB makes of them."""
BYTES_PER_SEEN = 40
"""Of a training row, while it is put in order and left out."""
LEAST_MEMORY, LEAST_OF_DUCKDB = 64_000_000, 16_000_000
LABELS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Streamed:
    """What was written: lists of ``users``, ``rows`` lines in all.

    ``short`` lists have fewer than n items, ``fallback`` counts those that are not the user's own by what they are ranked
    by, and ``resumed`` users were done by an earlier run.
    """

    path: Path
    users: int
    rows: int
    short: int
    fallback: dict[str, int]
    resumed: int
    warnings: list[str]


@dataclass
class _Tally:
    rows: int = 0
    short: int = 0
    basis: Counter[str] = field(default_factory=Counter)

    def add(self, basis: Iterable[str], length: NDArray[np.int64], n: int, users: int) -> None:
        """Count the lists of some users, those without any item not among them."""
        self.rows += int(length.sum())
        self.short += users - int(np.count_nonzero(length == n))
        self.basis.update(basis)

    @property
    def fallback(self) -> dict[str, int]:
        return {basis: count for basis, count in sorted(self.basis.items()) if basis != "model"}


def recommend_all(
    model: FactorModel,
    n: int = 10,
    path: str | Path | None = None,
    *,
    memory: str | int = "512MB",
    exclude_seen: bool = True,
    among: Any = None,
    exclude: Any = None,
    where: str | None = None,
    risk: float | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> pd.DataFrame | Streamed:
    """See `FactorModel.recommend_all`."""
    import pandas as pd

    place = None if path is None else path_of("path", path, text=True)
    recommender = TopN.of(
        model,
        n,
        exclude_seen=exclude_seen,
        among=among,
        exclude=exclude,
        where=where,
        risk=risk,
        threads=threads,
    )
    size = size_in_bytes(memory)
    if size < LEAST_MEMORY:
        raise ParameterError(f"memory is {memory!r}: give at least 64MB")
    ends = _ends(recommender, size // 8)
    users = len(model.users)
    if place is not None:
        return _streamed(recommender, place, ends, size, progress)
    frames, tally = [], _Tally()
    with _bar(users, progress) as show:
        for first, last in pairwise(ends):
            frames.append(_block(recommender, first, last, tally))
            show(last)
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs = {
        "n": recommender.n,
        "users": users,
        "short_lists": tally.short,
        "fallback_lists": tally.fallback,
        "warnings": list(recommender.warnings),
    }
    return frame


def needed(model: FactorModel) -> int:
    """Bytes from which on ``memory`` is a limit of the whole process, whatever the number of users and training rows.

    An eighth of it is for a block of users and one for DuckDB, so what the process holds has to fit into the rest: itself,
    the items and their codes.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SELECT 1")
    TopN.of(model, 1, exclude_seen=False).lists(np.arange(min(1, len(model.users))))
    let_go(model.user_factors, slice(None))
    return resident() * 4 // 3


def _ends(recommender: TopN, size: int) -> list[int]:
    """Where the blocks of users end, and the first begins: the lists and training rows of a block fit into the size."""
    model = recommender.model
    longest = min(recommender.n, len(model.items))
    each = longest * BYTES_PER_ROW + 2 * model.user_factors.shape[1] * model.user_factors.itemsize
    sizes = np.full(len(model.users), each, np.int64)
    if recommender.seen is not None:
        sizes += np.diff(recommender.seen[0]) * BYTES_PER_SEEN
    total, ends = np.append(0, np.cumsum(sizes)), [0]
    while ends[-1] < len(sizes):
        fitting = int(np.searchsorted(total, total[ends[-1]] + size, "right")) - 1
        ends.append(min(max(fitting, ends[-1] + 1), ends[-1] + MOST_USERS))
    return ends


def _block(recommender: TopN, first: int, last: int, tally: _Tally) -> pd.DataFrame:
    """The lists of some users, a row for each item."""
    import pandas as pd

    model = recommender.model
    rows = np.arange(first, last)
    lists = recommender.lists(rows)
    let_go(model.user_factors, slice(None))  # codes of items are made for a sample of all users
    if recommender.seen is not None:
        start, item = recommender.seen
        let_go(item, slice(start[first], start[last]))
    filled = lists.items >= 0
    kinds = ["model", "bias", "popularity", "prior", "attributes"]
    codes = np.array([kinds.index(basis) for basis in lists.basis], np.int8)
    some = lists.length > 0
    tally.add([kinds[code] for code in codes[some]], lists.length[some], recommender.n, last - first)
    return pd.DataFrame(
        {
            "user": model.users.decode(np.repeat(rows, lists.length)),
            "item": model.items.decode(lists.items[filled]),
            "score": lists.scores[filled],
            "basis": pd.Categorical.from_codes(np.repeat(codes, lists.length), pd.Index(kinds)),
        }
    )


def _streamed(recommender: TopN, path: Path, ends: Sequence[int], memory: int, progress: bool) -> Streamed:
    import duckdb

    if path.suffix.lower() not in FORMATS:
        raise ParameterError(f"{path} ends on {path.suffix!r}: end it on .parquet or .csv")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
        raise DataError(f"{path} {what}")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file on disk: give another path")
    users, tally, resumed = len(recommender.model.users), _Tally(), 0
    try:
        with ExitStack() as stack, duckdb.connect() as connection, _bar(users, progress) as show:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET memory_limit = '{max(memory // 8, LEAST_OF_DUCKDB)}B'")
            connection.execute(f"SET threads = {recommender.threads}")
            folder = stack.enter_context(_partial(path, _identity(recommender, ends)))
            connection.execute(f"SET temp_directory = {quoted(folder)}")
            parts = []
            for number, (first, last) in enumerate(pairwise(ends)):
                parts.append(folder / f"{number:06}.parquet")
                if parts[-1].exists():
                    there = "SELECT any_value(basis), count(*) FROM read_parquet(?) GROUP BY user"
                    lists = connection.execute(there, [str(parts[-1])]).fetchall()
                    length = np.array([count for _, count in lists], np.int64)
                    tally.add([basis for basis, _ in lists], length, recommender.n, last - first)
                    resumed += last - first
                else:
                    frame = _block(recommender, first, last, tally)
                    _copy(
                        connection,
                        "SELECT * FROM frame",
                        parts[-1],
                        FORMATS[".parquet"],
                        folder=folder,
                        frame=frame,
                    )
                show(last)
            source = f"SELECT * FROM read_parquet([{', '.join(quoted(part) for part in parts)}])"
            _copy(connection, source, path, FORMATS[path.suffix.lower()], folder=folder)
            _files.discard(folder)
    except (duckdb.Error, OSError) as error:
        raise DataError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
    return Streamed(path, users, tally.rows, tally.short, tally.fallback, resumed, list(recommender.warnings))


def _copy(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    path: Path,
    how: str,
    *,
    folder: Path,
    frame: pd.DataFrame | None = None,
) -> None:
    """Write what a query gives to a file that appears when it is whole, and lies in the folder until then."""
    temporary = folder / "unfinished"
    try:
        if frame is not None:
            connection.register("frame", frame)
        connection.execute(f"COPY ({query}) TO {quoted(temporary)} {how}")
        _files.move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        if frame is not None:
            connection.unregister("frame")


@contextmanager
def _partial(path: Path, identity: str) -> Iterator[Path]:
    """Hold the folder of finished blocks, which keeps those of an interrupted run; one process at a time uses it."""
    place = Path(os.path.realpath(path))
    folder = place.with_name(f".{place.name}.partial")
    mark = folder / "run.json"
    with _files.holding(folder, of=path):
        try:
            same = json.loads(mark.read_text())["run"] == identity
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            _files.clear(folder)
            with _files.replacing(mark) as file:
                file.write(json.dumps({"run": identity}).encode() + b"\n")
        yield folder


def _identity(recommender: TopN, ends: Sequence[int]) -> str:
    """A digest of all that the lists depend on."""
    import hatrix

    model = recommender.model
    digest = hashlib.sha256()
    said = [hatrix.__version__, recommender.n, recommender.risk, ends, model.mean, model.fallback]
    digest.update(repr([*said, model.users.kind, model.items.kind]).encode())
    arrays = [model.user_bias, model.item_bias, model.user_factors, model.item_factors]
    arrays += [model.user_count, model.item_count, *(model.time or ()), *(model.posterior or ())]
    arrays += [
        np.zeros(0) if part is None else part for part in (recommender.candidates, *(recommender.seen or ()))
    ]
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        for piece in pieces(np.ascontiguousarray(array)):
            digest.update(piece.data)
    for ids in (model.users, model.items):
        for first in range(0, len(ids), LABELS_AT_ONCE):
            labels = ids.labels[first : first + LABELS_AT_ONCE]
            digest.update("\0".join(labels).encode() if ids.kind == "str" else labels.data)
    return digest.hexdigest()


@contextmanager
def _bar(users: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar over users, on standard error where that is a terminal."""
    import sys

    if not wanted or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("users"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("users", total=users)
        yield lambda done: bar.update(task, completed=done)
