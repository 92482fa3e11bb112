"""DataFrames and texts as plain arrays and back, each column with its type and its gaps.

A column is an array of its numbers. Text is an array of UTF-8 bytes and one of n + 1 ``.offsets``. Where values are
missing or infinite, an array ``.gaps`` has a code from `GAPS` per line (0: the value is there).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.errors import DataError, ModelFileError
from hatrix.models.container import is_partition, take

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["pack", "pack_text", "unpack", "unpack_text"]

NAN, NONE, NA, PLUS_INFINITY, MINUS_INFINITY = GAPS = range(1, 6)

TEXT = {"str": {NAN}, "string": {NA}, "object": {NAN, NONE, NA}}
"""Types of text columns, and the gaps that each can have."""

_FLOATS = ("float16", "float32", "float64")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_NUMBERS = ("bool", *_INTEGERS, *_FLOATS)
_NULLABLE = {"boolean": "bool", "Float32": "float32", "Float64": "float64"}
_NULLABLE |= {name.replace("int", "Int").replace("uI", "UI"): name for name in _INTEGERS}
TIMES = re.compile(r"(datetime64|timedelta64)\[(s|ms|us|ns)\]")


def pack(name: str, frame: pd.DataFrame) -> tuple[dict[str, NDArray[Any]], list[tuple[str | int, str]]]:
    """A frame as arrays ``NAME.0``, ``NAME.1`` …, and for each column its label and its type.

    The index is left out. Categories are kept as their values.

    Raises
    ------
    DataError
        If a label is neither text nor a whole number, or a column holds anything but numbers, truth values,
        dates without a time zone, and text.
    """
    arrays: dict[str, NDArray[Any]] = {}
    columns: list[tuple[str | int, str]] = []
    for position, label in enumerate(frame.columns.tolist()):
        if type(label) not in (str, int):
            raise DataError(f"{name}: the column label {label!r} is neither text nor a whole number")
        try:
            dtype, parts = _pack_column(frame.iloc[:, position])
        except DataError as error:
            raise DataError(f"{name}, column {label!r}: {error}") from None
        arrays |= {f"{name}.{position}{part}": array for part, array in parts.items()}
        columns.append((label, dtype))
    return arrays, columns


def unpack(
    arrays: dict[str, NDArray[Any]], name: str, columns: Iterable[tuple[str | int, str]], rows: int | None
) -> pd.DataFrame:
    """The frame that `pack` took apart; takes its arrays out of ``arrays``."""
    import pandas as pd

    labels, parts = [], []
    for position, (label, dtype) in enumerate(columns):
        column = _unpack_column(arrays, f"{name}.{position}", dtype)
        rows = len(column) if rows is None else rows
        if len(column) != rows:
            raise ModelFileError(
                f"is not consistent: column {label!r} of {name} has {len(column):,} lines, not {rows:,}"
            )
        labels.append(label)
        parts.append(column)
    if not parts:
        return pd.DataFrame(index=range(rows or 0))
    frame = pd.DataFrame(dict(enumerate(parts)))
    frame.columns = pd.Index(labels)
    return frame


def pack_text(texts: Sequence[str] | NDArray[np.object_]) -> dict[str, NDArray[Any]]:
    """Texts as UTF-8 bytes and offsets."""
    data, offsets = bytearray(), np.zeros(len(texts) + 1, np.int64)
    try:
        for place, text in enumerate(texts, 1):
            data += text.encode()
            offsets[place] = len(data)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object!r} has half a character (a lone surrogate), which UTF-8 cannot hold: correct it"
        ) from None
    return {"": np.frombuffer(data, np.uint8), ".offsets": offsets}


def unpack_text(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[np.object_]:
    """The texts that `pack_text` took apart."""
    data, offsets = take(arrays, name, "uint8").tobytes(), take(arrays, f"{name}.offsets", "int64")
    if not is_partition(offsets, len(data)):
        raise ModelFileError(f"is not consistent: the offsets of {name!r} do not divide its text")
    texts = np.empty(len(offsets) - 1, object)
    ends = offsets.tolist()
    try:
        texts[:] = [data[start:end].decode() for start, end in pairwise(ends)]
    except UnicodeDecodeError:
        raise ModelFileError(f"is not consistent: {name!r} is not UTF-8 text") from None
    return texts


def _pack_column(column: pd.Series[Any]) -> tuple[str, dict[str, NDArray[Any]]]:
    import pandas as pd

    if not _is_known(str(column.dtype)):
        column = pd.Series(np.asarray(column))
    dtype = str(column.dtype)
    if dtype in TEXT:
        values = column.to_numpy(object).tolist()
        gaps = np.array([_gap(value) for value in values], np.uint8)
        parts = pack_text([value if isinstance(value, str) else "" for value in values])
    elif TIMES.fullmatch(dtype):
        numbers = column.to_numpy().view(np.int64)
        gaps, parts = np.zeros(len(numbers), np.uint8), {"": numbers}
    elif _is_known(dtype):
        plain = np.dtype(_NULLABLE.get(dtype, dtype))
        if dtype in _NULLABLE:
            missing = column.isna().to_numpy(bool)
            numbers = column.to_numpy(plain, na_value=plain.type(0))
        else:
            missing, numbers = np.zeros(len(column), bool), column.to_numpy()
        gaps = missing * np.uint8(NA)
        if plain.kind == "f" and not np.isfinite(numbers).all():
            gaps[np.isnan(numbers)] = NAN
            gaps[np.isposinf(numbers)], gaps[np.isneginf(numbers)] = PLUS_INFINITY, MINUS_INFINITY
            numbers = np.where(np.isfinite(numbers), numbers, plain.type(0))
        parts = {"": numbers}
    else:
        raise DataError(
            f"values of type {dtype} have no place in a model file: turn them into text or numbers"
        )
    return dtype, parts | ({".gaps": gaps} if gaps.any() else {})


def _unpack_column(arrays: dict[str, NDArray[Any]], name: str, dtype: str) -> pd.Series[Any]:
    import pandas as pd

    if not _is_known(dtype):
        raise ModelFileError(
            f"has a column of type {dtype!r}, which this hatrix does not know: upgrade hatrix"
        )
    if dtype in TEXT:
        texts = unpack_text(arrays, name)
        gaps = _take_gaps(arrays, name, len(texts), TEXT[dtype])
        for gap, value in ((NAN, np.nan), (NONE, None), (NA, pd.NA)):
            texts[gaps == gap] = value
        kind = {"str": pd.Series(["text"]).dtype, "string": "string", "object": object}[dtype]
        return pd.Series(texts, dtype=kind)
    if TIMES.fullmatch(dtype):
        return pd.Series(take(arrays, name, "int64").copy().view(dtype))
    plain = _NULLABLE.get(dtype, dtype)
    numbers = take(arrays, name, plain).copy()
    allowed = {NAN, PLUS_INFINITY, MINUS_INFINITY} if plain in _FLOATS else set()
    gaps = _take_gaps(arrays, name, len(numbers), allowed | ({NA} if dtype in _NULLABLE else set()))
    if plain in _FLOATS:
        for gap, value in ((NAN, np.nan), (PLUS_INFINITY, np.inf), (MINUS_INFINITY, -np.inf)):
            numbers[gaps == gap] = value
    if dtype not in _NULLABLE:
        return pd.Series(numbers)
    if plain == "bool":
        return pd.Series(pd.arrays.BooleanArray(numbers, gaps == NA))
    if plain in _FLOATS:
        return pd.Series(pd.arrays.FloatingArray(numbers, gaps == NA))
    return pd.Series(pd.arrays.IntegerArray(numbers, gaps == NA))


def _take_gaps(arrays: dict[str, NDArray[Any]], name: str, rows: int, allowed: set[int]) -> NDArray[np.uint8]:
    if f"{name}.gaps" not in arrays:
        return np.zeros(rows, np.uint8)
    gaps = take(arrays, f"{name}.gaps", "uint8")
    if len(gaps) != rows or not np.isin(gaps, [0, *allowed]).all():
        raise ModelFileError(f"is not consistent: {name!r} has gaps that its type cannot have")
    return gaps


def _gap(value: object) -> int:
    import pandas as pd

    if isinstance(value, str):
        return 0
    if value is None or value is pd.NA:
        return NA if value is pd.NA else NONE
    if isinstance(value, float) and value != value:
        return NAN
    raise DataError(f"{value!r} is not text in a column of text: turn it into text, or drop it")


def _is_known(dtype: str) -> bool:
    return dtype in TEXT or dtype in _NULLABLE or dtype in _NUMBERS or bool(TIMES.fullmatch(dtype))
