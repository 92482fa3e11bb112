"""Ratings in memory, copied to disk."""

from dataclasses import replace
from pathlib import Path

import hatrix as hx
from hatrix.data.disk import Disk


def on_disk(ratings: hx.Ratings, folder: Path, memory: int = 2_000_000_000) -> hx.Ratings:
    """The same ratings with their columns on disk."""
    disk, columns = Disk(folder, memory), {}
    for name in ("user", "item", "value", "time"):
        column = getattr(ratings, name)
        columns[name] = (
            None if column is None else disk.kept((column[p] for p in ratings.slices(column)), column.dtype)
        )
    return replace(ratings, disk=disk, **columns)
