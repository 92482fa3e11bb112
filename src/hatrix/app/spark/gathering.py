"""What the cluster found, brought to this machine in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pyspark.sql import functions as F

from hatrix.app.spark.ratings import SIDES, Side, Table, lists_of
from hatrix.data.ids import Ids
from hatrix.models.seen import Seen

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame

__all__ = ["Learned", "counts_of", "gather", "ids_of", "room_for", "seen_of"]

PIECE = 1 << 27
"""Bytes that come at once: Spark refuses results above ``spark.driver.maxResultSize``, which is 1 GiB by default."""


class Learned(NamedTuple):
    """Biases (n,) and factors (n, k) of a side, in files of the scratch folder, so that memory does not bound them."""

    bias: NDArray[np.float32]
    factors: NDArray[np.float32]


def room_for(scratch: Path, side: str, n: int, k: int) -> Learned:
    """Zeros, which rows without a rating keep."""
    arrays = (
        np.memmap(scratch / f"{side}-{name}", np.float32, "w+", shape=shape)
        for name, shape in (("bias", (n,)), ("factors", (n, k)))
    )
    return Learned(*(array.view(np.ndarray) for array in arrays))


def gather(frame: DataFrame, into: Learned) -> None:
    """Fill in the rows of a frame with the columns ``row``, ``bias`` and ``factors``; the others become zero."""
    n, k = into.factors.shape
    into.bias[:], into.factors[:] = 0, 0
    for piece in _pieces(frame, n, 4 * k + 64):
        rows = piece["row"].to_numpy()
        into.bias[rows] = piece["bias"].to_numpy()
        into.factors[rows] = flat(piece["factors"]).reshape(len(rows), k)


def flat(lists: pa.ChunkedArray) -> NDArray[Any]:
    """The values of a column of lists, one after the other."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in lists.chunks]
    return np.concatenate(values) if values else np.zeros(0, np.float32)


def counts_of(table: Table) -> list[NDArray[np.int64]]:
    """Training ratings of each user and of each item."""
    found = []
    for name, side in zip(SIDES, (table.users, table.items), strict=True):
        count = np.zeros(side.n, np.int64)
        frame = table.train.groupBy(name).agg(F.count("*").alias("count")).withColumnRenamed(name, "row")
        for piece in _pieces(frame, side.n, 32):
            count[piece["row"].to_numpy()] = piece["count"].to_numpy()
        found.append(count)
    return found


def ids_of(side: Side) -> Ids:
    """The labels in the order of their rows."""
    labels = np.empty(side.n, np.int64 if side.kind == "int" else object)
    for piece in _pieces(side.ids, side.n, 128):
        labels[piece["row"].to_numpy()] = piece["label"].to_numpy()
    return Ids(labels)


def seen_of(table: Table, user_count: NDArray[np.int64]) -> Seen:
    """The training rows by user."""
    start = np.append(0, np.cumsum(user_count))
    item, value = np.empty(start[-1], np.int32), np.empty(start[-1])
    lists = lists_of(table.train, "user", "value")
    for piece in _pieces(lists, table.users.n, 64 + 12 * (table.n // max(table.users.n, 1))):
        rows = piece["row"].to_numpy()
        length = start[rows + 1] - start[rows]
        place = np.arange(length.sum()) + np.repeat(start[rows] - (np.cumsum(length) - length), length)
        item[place], value[place] = flat(piece["item"]), flat(piece["value"])
    return Seen(start, item, value)


def _pieces(frame: DataFrame, n: int, bytes_per_row: int) -> Iterator[pa.Table]:
    """The frame by ranges of its column ``row``, which runs up to n."""
    at_once = max(1, PIECE // bytes_per_row)
    if n <= at_once:
        yield frame.toArrow()
        return
    level = frame.storageLevel
    kept_already = level.useMemory or level.useDisk
    if not kept_already:
        frame.persist()
    try:
        for first in range(0, n, at_once):
            yield frame.where(F.col("row").between(first, first + at_once - 1)).toArrow()
    finally:
        if not kept_already:
            frame.unpersist()
