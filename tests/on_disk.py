"""Ratings whose columns lie on disk, as reading a file within a memory limit gives them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hatrix as hx
from hatrix.data.disk import Disk


def on_disk(ratings: hx.Ratings, folder: Path, memory: int = 10**10) -> hx.Ratings:
    """The same ratings, mapped from files in the folder."""
    disk, mapped = Disk(folder, memory), {}
    for name in ("user", "item", "value", "time"):
        column = getattr(ratings, name)
        if column is not None:
            with disk.writing(name, column.dtype) as file:
                file.append(column)
            mapped[name] = disk.mapped(name, column.dtype)
    return replace(ratings, disk=disk, **mapped)
