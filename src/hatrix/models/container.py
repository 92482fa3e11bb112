"""What every hatrix file is made of: named arrays and one JSON header, in a safetensors file checked to the last byte.

::

    8 bytes    length of the second part, little-endian
    JSON       {"__metadata__": {"hatrix": MANIFEST, "sha256": digest of MANIFEST},
                NAME: {"dtype", "shape", "data_offsets"}, ...}, and blanks up to a multiple of 64
    arrays     without gaps, the widest numbers first (so that each lies aligned), then by name

MANIFEST is JSON text as well: ``{"format": 1, "arrays": {NAME: [dtype, shape, sha256]}, "header": {...}}``. It
alone determines the first two parts, so the reader builds them anew and compares: together with the digests no
byte goes unchecked. What a newer format may change is the manifest; where it stands and how it is digested stays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix import _files
from hatrix.data.disk import let_go, map_file
from hatrix.errors import DataError, ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_partition", "pieces", "read", "refuse_unwritable", "take", "write"]

FORMAT = 1
LONGEST_HEADER = 32_000_000
"""Maximum bytes of a header. Those of checkpoints are the longest: they hold a history of up to 100,000 epochs."""
MOST_VALUES = 2_000_000
"""Maximum values in its JSON, counted before it is parsed: each costs up to a hundred bytes of memory."""
MOST_ARRAYS, MOST_AXES, LONGEST_NAME = 40_000, 8, 200
ALIGNMENT = 64
AT_ONCE = 1 << 22
"""Bytes that are gone through at once: of what is mapped from a file, no more stays in memory."""

DTYPES = {
    "F64": "<f8", "I64": "<i8", "U64": "<u8", "F32": "<f4", "I32": "<i4", "U32": "<u4",
    "F16": "<f2", "I16": "<i2", "U16": "<u2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}

FOREIGN = {
    **{
        bytes([0x80, protocol]): "is a pickle, which hatrix never opens: give a file that model.save wrote"
        for protocol in range(2, 6)
    },
    b"PK\x03\x04": "is a zip archive, not a hatrix file: unpack it first, or give a file that model.save wrote",
    b"\x1f\x8b": "is compressed: unpack it first",
    b"\x93NUMPY": "is a NumPy file, not a hatrix file",
}
"""How files that people mistake for a model begin. No hatrix file begins so, whatever its length."""

Entries = Mapping[str, tuple[str, list[int], str]]


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write a hatrix file: all of it, or nothing.

    The bytes depend on the arguments alone. They go to a temporary file in the same folder, which replaces
    ``path`` once it is safely on disk (see `hatrix._files.replacing`): an existing file keeps its permissions, and a
    symbolic link stays and its target is replaced.

    Parameters
    ----------
    path
        Where to.
    arrays
        Arrays of finite numbers or truth values by name, of any layout.
    header
        What JSON can hold, without NaN and infinities.

    Raises
    ------
    DataError
        If an array or the header is not as said.
    ModelFileError
        If the file cannot be written; then what was there before is untouched.
    """
    if len(arrays) > MOST_ARRAYS:
        raise DataError(f"there are {len(arrays):,} arrays, and a hatrix file holds at most {MOST_ARRAYS:,}")
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    entries = {}
    for name, array in plain.items():
        digest = _digest(array)
        if digest is None:
            raise DataError(f"the array {name!r} has numbers that are not finite")
        entries[name] = CODES[array.dtype], list(array.shape), digest
    order = _in_order(entries)
    manifest = {"format": FORMAT, "arrays": {name: entries[name] for name in order}, "header": dict(header)}
    try:
        text = json.dumps(manifest, allow_nan=False, separators=(",", ":"), default=_number)
    except (TypeError, ValueError) as error:
        raise DataError(f"the header of a hatrix file must be plain JSON: {error}") from None
    frame = _frame(text, entries)
    if len(frame) > LONGEST_HEADER or _values(frame) > MOST_VALUES:
        raise DataError(
            f"the header takes {len(frame):,} bytes and {_values(frame):,} values: {LONGEST_HEADER:,} bytes and "
            f"{MOST_VALUES:,} values are the most"
        )
    try:
        with _files.replacing(path) as file:
            file.write(frame)
            for name in order:
                for piece in pieces(plain[name]):
                    file.write(_bytes(piece))
    except OSError as error:
        raise _unwritable(path, error) from error


def read(path: str | Path, *, verify: bool = True) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Map the arrays of a hatrix file into memory and return them with the header. Runs no code from the file.

    Parameters
    ----------
    path
        A file that `write` wrote.
    verify
        Compare each array with its SHA-256, and check that its numbers are finite. Without it the arrays are
        not touched, so that they are read from disk as they are needed; the rest is checked all the same.

    Returns
    -------
    arrays, header
        The arrays are read-only and stay valid when the file is replaced or deleted. (Do not write into the
        file itself: replace it, as `write` does.)

    Raises
    ------
    ModelFileError
        If it is not a hatrix file, damaged, cut off, of a newer format, missing or not a file at all.
    """
    try:
        data = _map(path)
        entries, header, end = _manifest(data)
        arrays = {}
        for name in _in_order(entries):
            code, shape, digest = entries[name]
            start, end = end, end + _size(code, shape)
            try:
                arrays[name] = array = data[start:end].view(DTYPES[code]).reshape(shape)
            except ValueError as error:
                raise ModelFileError(f"is not consistent: the array {name!r}: {error}") from None
            if verify and _digest(array) != digest:
                raise ModelFileError(f"is damaged: the array {name!r} is not what was saved")
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)} {error}") from None
    return arrays, header


def refuse_unwritable(path: str | Path) -> None:
    """Raise what `write` would, where the folder is missing or something else than a file is in the way."""
    try:
        _files.refuse(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: str | Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"{os.path.realpath(path)} cannot be written: {error.strerror or error}")


def take(arrays: dict[str, NDArray[Any]], name: str, *dtypes: str, axes: int = 1) -> NDArray[Any]:
    """Take an array out that must be there, be of one of the types and have so many axes."""
    if name not in arrays:
        raise ModelFileError(f"is not consistent: the array {name!r} is missing")
    array = arrays.pop(name)
    if array.dtype.name not in dtypes or array.ndim != axes:
        raise ModelFileError(
            f"is not consistent: {name!r} is {array.dtype.name} with {array.ndim} axes, "
            f"not {' or '.join(dtypes)} with {axes}"
        )
    return array


def is_partition(start: NDArray[Any], n: int) -> bool:
    """Return whether ``start`` rises from 0 to n, so that owner u has the entries from ``start[u]`` to ``start[u + 1]``.

    Neighbours are compared, since their differences could wrap around and look valid.
    """
    return bool(
        start.ndim == 1
        and len(start)
        and start[0] == 0
        and start[-1] == n
        and (start[1:] >= start[:-1]).all()
    )


def _plain(name: str, values: Any) -> NDArray[Any]:
    given = np.asarray(values)
    array: NDArray[Any] = np.asarray(given, given.dtype.newbyteorder("<"), order="C")
    if not isinstance(name, str) or not name or name == "__metadata__":
        raise DataError(f"an array cannot be called {name!r}")
    if len(name) > LONGEST_NAME or array.ndim > MOST_AXES:
        raise DataError(
            f"the array {name[:LONGEST_NAME]!r} has a name of {len(name):,} characters and {array.ndim} axes: "
            f"{LONGEST_NAME} characters and {MOST_AXES} axes are the most"
        )
    if array.dtype not in CODES:
        raise DataError(
            f"the array {name!r} is of type {array.dtype}: a hatrix file holds {', '.join(CODES.values())}"
        )
    return array


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The numbers of an array in their order, so many at once, mapped ones let go of behind."""
    flat, width = array.reshape(-1), AT_ONCE // array.dtype.itemsize
    for start in range(0, flat.size, width):
        part = slice(start, start + width)
        yield flat[part]
        let_go(flat, part)


def _digest(array: NDArray[Any]) -> str | None:
    """SHA-256 of an array; None if a number is not finite, or a truth value neither 0 nor 1."""
    digest = hashlib.sha256()
    for piece in pieces(array):
        if not _is_sound(piece):
            return None
        digest.update(_bytes(piece))
    return digest.hexdigest()


def _is_sound(array: NDArray[Any]) -> bool:
    if array.dtype.kind == "f":
        return bool(np.isfinite(array).all())
    return array.dtype.kind != "b" or bool(array.view(np.uint8).max() <= 1)


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.view(np.uint8).data


def _number(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not")


def _in_order(entries: Entries) -> list[str]:
    return sorted(entries, key=lambda name: (-np.dtype(DTYPES[entries[name][0]]).itemsize, name))


def _size(code: str, shape: list[int]) -> int:
    return math.prod(shape) * np.dtype(DTYPES[code]).itemsize


def _frame(manifest: str, entries: Entries) -> bytes:
    """Everything before the arrays."""
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    parts: dict[str, Any] = {"__metadata__": {"hatrix": manifest, "sha256": digest}}
    end = 0
    for name in _in_order(entries):
        code, shape, _ = entries[name]
        start, end = end, end + _size(code, shape)
        parts[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(parts, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _map(path: str | Path) -> NDArray[np.uint8]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ModelFileError("is a folder: give the model file in it")
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError("is not a file on disk")
        if status.st_size == 0:
            raise ModelFileError("is empty")
        with open(path, "rb") as file:
            return map_file(file)
    except ModelFileError:
        raise
    except FileNotFoundError:
        raise ModelFileError("does not exist") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot be read: {getattr(error, 'strerror', error)}") from None


def _manifest(data: NDArray[np.uint8]) -> tuple[Entries, dict[str, Any], int]:
    """Arrays, header, and where the arrays begin; all three sure to be as written."""
    text, begin = _manifest_text(data)
    manifest = _parse(text)
    version = manifest.get("format")
    if type(version) is int and version > FORMAT:
        raise ModelFileError(f"is of format {version}, this hatrix reads up to {FORMAT}: upgrade hatrix")
    if type(version) is not int or version < 1 or manifest.keys() != {"format", "arrays", "header"}:
        raise ModelFileError("is not consistent: its manifest is not one of hatrix")
    entries, header = manifest["arrays"], manifest["header"]
    if not (isinstance(entries, dict) and isinstance(header, dict) and all(map(_is_entry, entries.values()))):
        raise ModelFileError("is not consistent: its manifest is not one of hatrix")
    if len(entries) > MOST_ARRAYS or any(len(name) > LONGEST_NAME for name in entries):
        raise ModelFileError(
            f"is not one that hatrix wrote: it has {len(entries):,} arrays, some with long names; {MOST_ARRAYS:,} arrays "
            f"and names of {LONGEST_NAME} characters are the most"
        )
    if _frame(text, entries) != data[:begin].tobytes():
        raise ModelFileError("is damaged: its two lists of arrays differ")
    size = begin + sum(_size(code, shape) for code, shape, _ in entries.values())
    if size != len(data):
        what = "is cut off" if size > len(data) else "has bytes after its end"
        raise ModelFileError(f"{what}: {len(data):,} bytes instead of {size:,}")
    return entries, header, begin


def _manifest_text(data: NDArray[np.uint8]) -> tuple[str, int]:
    start = data[:ALIGNMENT].tobytes()
    for beginning, what in FOREIGN.items():
        if start.startswith(beginning):
            raise ModelFileError(what)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or length >= 1 << 48:
        raise ModelFileError("is not a hatrix file: give one that model.save wrote")
    if length > LONGEST_HEADER:
        raise ModelFileError(
            f"is not one that hatrix wrote: its header has {length:,} bytes, and {LONGEST_HEADER:,} are the most"
        )
    if 8 + length > len(data):
        raise ModelFileError(f"is cut off: {len(data):,} bytes, and its header alone has {length:,}")
    metadata = _parse(data[8 : 8 + length].tobytes()).get("__metadata__")
    text, digest = (
        (metadata.get(key) for key in ("hatrix", "sha256")) if isinstance(metadata, dict) else ("", "")
    )
    if not isinstance(text, str) or not text:
        raise ModelFileError("is a safetensors file, but not one that hatrix wrote")
    if not text.isascii() or hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ModelFileError("is damaged: its header is not what was saved")
    return text, 8 + length


def _values(text: bytes) -> int:
    """Return an upper bound for the values in a JSON text: each but the first of a list or object follows a comma."""
    return sum(map(text.count, (b",", b"[", b"{")))


def _parse(text: str | bytes) -> dict[str, Any]:
    count = _values(text if isinstance(text, bytes) else text.encode())
    if count > MOST_VALUES:
        raise ModelFileError(
            f"is not one that hatrix wrote: its header has {count:,} values, and {MOST_VALUES:,} are the most"
        )
    try:
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelFileError("is damaged: its header is not JSON with distinct keys")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError
    return found


def _refuse(_: str) -> None:
    raise ValueError


def _is_entry(entry: Any) -> bool:
    match entry:
        case [str(code), list(shape), str()]:
            return (
                code in DTYPES
                and len(shape) <= MOST_AXES
                and all(type(n) is int and 0 <= n < 2**48 for n in shape)
            )
    return False
