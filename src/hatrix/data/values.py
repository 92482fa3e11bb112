"""Ratings and times out of texts and arrays; what cannot be read is NaN and `NO_TIME`."""

from __future__ import annotations

import re
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.ids import coded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["NO_TIME", "number", "numbers", "seconds", "times"]

NO_TIME = np.iinfo(np.int64).min
"""Stands for a time that cannot be read."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?Z|UTC| UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)


def number(text: str) -> float:
    """The finite number that a text spells with a decimal point, or NaN.

    Examples
    --------
    >>> [number(text) for text in ("4.5", " 3 ", "1e309", "4,5", "1_000")]
    [4.5, 3.0, nan, nan, nan]
    """
    text = text.strip(" \t")
    value = float(text) if _NUMBER.fullmatch(text) else nan
    return value if isfinite(value) else nan


def numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    """A column of numbers, or of texts that spell them, as finite numbers; NaN for the others."""
    if column.dtype.kind in "biuf":
        values = column.astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        return values
    return _looked_up(column, lambda keys: np.array([number(str(key)) for key in keys]), np.nan)


def times(column: NDArray[Any]) -> NDArray[np.int64]:
    """A column of dates, of numbers, or of texts that spell them, as whole Unix seconds, rounded down.

    Dates without a time zone are UTC. Numbers count from 1970: seconds below 1e11 (the year 5138), above it
    milliseconds, from 1e14 on microseconds and from 1e17 on nanoseconds.
    """
    if column.dtype.kind == "M":
        return column.astype("datetime64[s]").astype(np.int64)
    if column.dtype.kind in "iuf":
        return seconds(column)
    return _looked_up(column, lambda keys: _spelled(map(str, keys)), NO_TIME)


def seconds(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers since 1970 as whole seconds; their size tells the unit."""
    kind = numbers.dtype.kind
    top = 1e19 if kind == "f" else 2**63 - 1
    if kind in "iu" and (not len(numbers) or -(10**11) < numbers.min() <= numbers.max() < 10**11):
        return numbers.astype(np.int64, copy=False)
    good = (numbers > -top) & (numbers < top)
    size = np.where(good, np.abs(numbers), 0)
    unit = np.ones(len(numbers), np.int64)
    for bound, parts in ((1e11, 10**3), (1e14, 10**6), (1e17, 10**9)):
        unit[size >= bound] = parts
    whole = np.where(good, numbers, 0) // unit
    return np.where(good, whole, NO_TIME).astype(np.int64)


def _spelled(texts: Iterable[str]) -> NDArray[np.int64]:
    import pandas as pd

    texts = [text.strip(" \t") for text in texts]
    found = np.full(len(texts), NO_TIME, np.int64)
    whole = [at for at, text in enumerate(texts) if _WHOLE.fullmatch(text)]
    found[whole] = seconds(np.array([int(texts[at]) for at in whole], np.int64))
    rest = np.flatnonzero(found == NO_TIME).tolist()
    dates = [at for at in rest if _DATE.fullmatch(texts[at])]
    if dates:
        moments = pd.to_datetime(
            pd.Series([texts[at] for at in dates], dtype=object), format="ISO8601", utc=True, errors="coerce"
        )
        naive = moments.dt.tz_localize(None).to_numpy()
        found[dates] = np.where(np.isnat(naive), NO_TIME, naive.astype("datetime64[s]").astype(np.int64))
    others = [at for at in rest if _NUMBER.fullmatch(texts[at])]
    found[others] = seconds(np.array([number(texts[at]) for at in others], np.float64))
    return found


def _looked_up(column: NDArray[Any], read: Any, missing: float) -> NDArray[Any]:
    """Each distinct element of a column read once."""
    codes, keys = coded(column)
    known = read(keys)
    return np.append(known, np.array(missing, known.dtype))[codes]
