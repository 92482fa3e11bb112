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
_BOOLEANS = (bool, np.bool_)
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?(?:Z|UTC|([+-][0-9]{2}(?::?[0-9]{2})?)))?)?"
)
"""The only group is an offset from UTC; all parts before it stand at fixed places."""


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
    """Return a column of numbers, or of their texts, as finite floats; NaN for the others. True is 1, False is 0."""
    if column.dtype.kind in "biuf":
        values = column.astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        return values
    if any(isinstance(one, _BOOLEANS) for one in column.tolist()):
        given = [int(one) if isinstance(one, _BOOLEANS) else one for one in column.tolist()]
        column = np.fromiter(given, object, len(column))
    return _looked_up(column, lambda keys: np.array([number(str(key)) for key in keys]), np.nan)


def times(column: NDArray[Any]) -> NDArray[np.int64]:
    """Return a column of dates, of numbers, or of their texts, as whole Unix seconds, rounded down.

    A date is ``2018-01-31``, with a blank or ``T`` and the time of day if there is one: ``12:30``, ``12:30:15`` or
    ``12:30:15.25``, and then ``Z``, ``UTC`` or an offset, as ``+02``, ``+0200`` or ``+02:00``, also after a blank. Dates
    without a time zone are UTC. Numbers count from 1970: seconds below 1e11 (the year 5138), above it milliseconds, from
    1e14 on microseconds and from 1e17 on nanoseconds. Numbers with digits alone are exact.
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
    texts = [text.strip(" \t") for text in texts]
    found = np.full(len(texts), NO_TIME, np.int64)
    whole = [at for at, text in enumerate(texts) if _WHOLE.fullmatch(text) and abs(int(text)) < 2**63]
    found[whole] = seconds(np.array([int(texts[at]) for at in whole], np.int64))
    rest = np.flatnonzero(found == NO_TIME).tolist()
    matches = [(at, match) for at in rest if (match := _DATE.fullmatch(texts[at]))]
    if matches:
        found[[at for at, _ in matches]] = _dates([match for _, match in matches])
    others = [at for at in rest if _NUMBER.fullmatch(texts[at])]
    found[others] = seconds(np.array([number(texts[at]) for at in others], np.float64))
    return found


def _dates(matches: list[re.Match[str]]) -> NDArray[np.int64]:
    """Return dates as whole seconds, without the fraction; `NO_TIME` for a day or a time that does not exist."""
    letters = (
        np.array([match[0] for match in matches], "U19").view(np.uint32).reshape(-1, 19).astype(np.int64)
    )

    def spelled(first: int, last: int, there: NDArray[np.bool_]) -> NDArray[np.int64]:
        values: NDArray[np.int64] = (letters[:, first:last] - ord("0")) @ 10 ** np.arange(last - first)[::-1]
        return np.where(there, values, 0)

    always = np.ones(len(matches), bool)
    timed = letters[:, 10] != 0
    year, month, day = (spelled(*ends, always) for ends in ((0, 4), (5, 7), (8, 10)))
    hour, minute = spelled(11, 13, timed), spelled(14, 16, timed)
    second = spelled(17, 19, letters[:, 16] == ord(":"))
    months = (year - 1970).astype("M8[Y]").astype("M8[M]") + np.clip(month - 1, 0, 11)
    days = months.astype("M8[D]") + (day - 1)
    sound = (year > 0) & (month >= 1) & (month <= 12) & (days.astype("M8[M]") == months)
    sound &= (hour < 24) & (minute < 60) & (second < 60)
    zones = [match[1] for match in matches]
    shift = {zone: _shift(zone) for zone in set(zones)}
    shifts = np.array([shift[zone] for zone in zones])
    total = days.astype("M8[s]").astype(np.int64) + hour * 3600 + minute * 60 + second - shifts
    return np.where(sound & (np.abs(shifts) < 86_400), total, NO_TIME)


def _shift(zone: str | None) -> int:
    """Return the seconds that a zone is ahead of UTC, or a whole day if there is no such zone."""
    if zone is None:
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        return 86_400
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


def _looked_up(column: NDArray[Any], read: Any, missing: float) -> NDArray[Any]:
    """Each distinct element of a column read once."""
    codes, keys = coded(column)
    known = read(keys)
    return np.append(known, np.array(missing, known.dtype))[codes]
