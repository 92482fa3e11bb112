"""Columns on disk: written piece by piece, mapped into memory, and let go of when a piece is done with.

Mapped pages count as memory of the process while they are resident. Who goes through a mapped array says so piece by
piece (`will_need`, `let_go`), so that what is resident stays a few pieces, whatever the length of the array.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hatrix import _files
from hatrix._checks import shown
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Column",
    "Disk",
    "at_random",
    "let_go",
    "map_file",
    "one_line",
    "quoted",
    "resident",
    "size_in_bytes",
    "will_need",
    "write_all",
]

MOST_BYTES = 10**15
"""Bound of what can be given as an amount of memory."""
LIBRARIES = 100_000_000
"""Of the files of libraries, what is in memory in any case."""

LEAST_ROOM = 64_000_000
"""Less than this is no room to work in."""


def write_all(file: FileIO, array: NDArray[Any]) -> None:
    """Write an array to an unbuffered file, which takes a part where the disk is nearly full, and fails at the next call."""
    left = np.ascontiguousarray(array).view(np.uint8).data
    while left:
        left = left[file.write(left) :]


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

    def __reduce__(self) -> Any:
        return type(None), ()  # columns that are pickled or copied deep are in memory

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
                f"allow at least {-(-(held + 2 * LEAST_ROOM) // 10**6)}MB"
            )
        return self.memory - held

    def refuse_excess(self, what: str) -> None:
        """Refuse to go on where the process holds nearly all that it may, because of what has come to be held."""
        held = resident()
        if held > self.memory - LEAST_ROOM // 4:
            raise DataError(
                f"{what} take more than the {self.memory / 1e6:,.0f} MB allowed, of which {held / 1e6:,.0f} MB are in use: "
                "allow more memory"
            )

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Nobody else reads into the folder meanwhile; ``shared`` with others that only make files of their own.

        The lock ends with the process, however that ends. Where the system or the file system has none, nothing is locked.

        Raises
        ------
        DataError
            If it is not ``shared``, and somebody else works in the folder now.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(_files.holding(self.folder, own=False, shared=shared, wait=shared))
            except ParameterError as error:
                raise DataError(str(error)) from None
            except OSError:
                pass
            yield

    def path(self, name: str) -> Path:
        """The file of a column."""
        return self.folder / name

    @contextmanager
    def writing(self, name: str, dtype: DTypeLike) -> Iterator[Column]:
        """A column to append to; it has its name once it is whole."""
        with _files.replacing(self.path(name), durable=False) as file:
            yield Column(file, dtype)

    @contextmanager
    def keeping(self, dtypes: Sequence[DTypeLike]) -> Iterator[tuple[list[Column], list[NDArray[Any]]]]:
        """Columns to append to, and a list that has their arrays in the end, on files that go when the arrays go."""
        mark = secrets.token_hex(8)
        names = [f"kept-{mark}-{number}" for number in range(len(dtypes))]
        mapped: list[NDArray[Any]] = []
        try:
            with ExitStack() as files:
                pairs = zip(names, dtypes, strict=True)
                yield [files.enter_context(self.writing(name, dtype)) for name, dtype in pairs], mapped
            mapped += [self.mapped(name, dtype) for name, dtype in zip(names, dtypes, strict=True)]
        finally:
            for name in names:
                with suppress(OSError):  # outside POSIX they stay until the folder is removed
                    self.path(name).unlink()

    def pieces(self, name: str, dtype: DTypeLike, rows: int) -> Iterator[NDArray[Any]]:
        """The column from its beginning, so many rows at a time, each piece an array of its own."""
        with open(self.path(name), "rb", buffering=0) as file:
            while len(piece := np.fromfile(file, dtype, rows)):
                yield piece

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


def at_random(array: NDArray[Any]) -> NDArray[Any]:
    """The mapped array, which will be read here and there: what is not asked for is not read along with what is."""
    _advise(array, slice(None), "MADV_RANDOM")
    return array


def _advise(array: NDArray[Any], part: slice, advice: str) -> None:
    base: Any = array
    while base is not None and not isinstance(base, _Shared):
        base = getattr(base, "base", None)
    piece = array[part]
    madvise = _madvise()
    if base is None or not piece.size or madvise is None:
        return
    first = piece.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    madvise(first, piece.ctypes.data + piece.nbytes - first, getattr(mmap, advice))


@lru_cache
def _madvise() -> Any:
    """The system's function, which other threads need not wait for: the one of `mmap.mmap` holds the interpreter's lock."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return function


def resident() -> int:
    """Bytes of memory that the process holds now, or, where that cannot be told, the most that it has held.

    Of mapped files, libraries among them, as much counts as is always needed: how much more the system maps of them
    depends on how it once read them, and it takes that back when it needs room.
    """
    try:
        with open("/proc/self/statm") as file:
            _, pages, of_files, *_ = map(int, file.read().split())
            return (pages - of_files) * mmap.PAGESIZE + min(of_files * mmap.PAGESIZE, LIBRARIES)
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size_in_bytes(text: str | int) -> int:
    """A number of bytes from "512MB", "2 GB", "1GiB" or a plain number."""
    if isinstance(text, int) and not isinstance(text, bool):
        size = text
    else:
        match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", str(text).lower())
        if match is None:
            raise ParameterError(f"memory is {shown(text)}: give a size such as '512MB' or '2GB'")
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))
    if not 1 <= size < MOST_BYTES:
        raise ParameterError(
            f"memory is {shown(text)}: give a size above 0 and below 1000TB, such as '512MB'"
        )
    return size


def quoted(path: Path) -> str:
    """The path as a text of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())
