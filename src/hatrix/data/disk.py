"""Columns on disk: written piece by piece, mapped into memory, and let go of when a piece is done with.

Mapped pages count as memory of the process while they are resident. Who goes through a mapped array says so piece by
piece (`will_need`, `let_go`), so that what is resident stays a few pieces, whatever the length of the array.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hatrix.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Column", "Disk", "let_go", "map_file", "resident", "will_need"]

LEAST_ROOM = 64_000_000
"""Less than this is no room to work in."""


class Column:
    """A file that an array is appended to, piece by piece."""

    def __init__(self, file: BinaryIO, dtype: DTypeLike) -> None:
        self._file, self.dtype, self.rows = file, np.dtype(dtype), 0

    def append(self, piece: NDArray[Any]) -> None:
        """Write some more rows."""
        self._file.write(np.ascontiguousarray(piece, self.dtype).data)
        self.rows += len(piece)


@dataclass(frozen=True)
class Disk:
    """A folder for columns that are larger than memory, and how much memory work on them may take.

    Parameters
    ----------
    folder
        Where the columns are, and what is made of them.
    memory
        Bytes that the whole process may hold.
    """

    folder: Path
    memory: int

    def room(self) -> int:
        """Bytes that may be taken besides what the process holds now.

        Raises
        ------
        DataError
            If that is next to nothing.
        """
        held = resident()
        if self.memory - held < LEAST_ROOM:
            raise DataError(
                f"{held / 1e6:,.0f} MB are in use and {self.memory / 1e6:,.0f} MB allowed, which leaves no room to work: "
                f"allow at least {(held + 2 * LEAST_ROOM) / 1e6:,.0f} MB"
            )
        return self.memory - held

    def path(self, name: str) -> Path:
        """The file of a column."""
        return self.folder / name

    @contextmanager
    def writing(self, name: str, dtype: DTypeLike) -> Iterator[Column]:
        """A column to append to; it has its name once it is whole."""
        path = self.path(name)
        unfinished = path.with_name(f"{name}.part")
        with open(unfinished, "wb") as file:
            yield Column(file, dtype)
        os.replace(unfinished, path)

    def mapped(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """The column as an array on its file."""
        path, kind = self.path(name), np.dtype(dtype)
        if not path.stat().st_size:
            return np.empty(0, kind)
        # Kernels are compiled for arrays that can be written to, as those in memory can; nobody writes to these.
        with open(path, "r+b") as file:
            return map_file(file, write=True).view(kind)


class _Shared(mmap.mmap):
    """A file in memory that can be read again. Other mappings (private ones, those without a file) lose what is dropped."""


def map_file(file: BinaryIO, *, write: bool = False) -> NDArray[np.uint8]:
    """The bytes of a file, mapped into memory."""
    shared = _Shared(file.fileno(), 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
    return np.ndarray(len(shared), np.uint8, shared)


def will_need(array: NDArray[Any], part: slice) -> None:
    """Ask for a part of a mapped array to be read from disk meanwhile; nothing to do for one in memory."""
    _advise(array, part, "MADV_WILLNEED")


def let_go(array: NDArray[Any], part: slice) -> None:
    """Say that a part of a mapped array is done with for now; nothing to do for one in memory."""
    _advise(array, part, "MADV_DONTNEED")


def _advise(array: NDArray[Any], part: slice, advice: str) -> None:
    base: Any = array
    while base is not None and not isinstance(base, _Shared):
        base = getattr(base, "base", None)
    piece = array[part]
    if base is None or not piece.size or not hasattr(mmap, advice):
        return
    whole = np.ndarray(0, np.uint8, base)
    first = piece.ctypes.data - whole.ctypes.data
    start = first // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(getattr(mmap, advice), start, first + piece.nbytes - start)


def resident() -> int:
    """Bytes of memory that the process holds now, or, where that cannot be told, the most that it has held."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
