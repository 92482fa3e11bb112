"""The caller's labels and the row numbers that stand for them."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hatrix.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ids", "are_labels", "as_column", "coded", "unmasked"]

_SLICE = 1 << 20


class Ids:
    """Distinct labels in sorted order; the row number of a label is its place in that order.

    Integer labels stay integers (int64) and sort numerically. Anything else, a mixed column included, becomes
    strings and sorts by code point. Memory depends on how many labels there are, never on how large one is.

    Parameters
    ----------
    labels
        Distinct labels, already sorted: int64, or an object array of ``str``. Use `Ids.from_labels` for a
        column as it comes.

    Examples
    --------
    >>> ids, rows = Ids.from_labels(["b", "a", "b"])
    >>> rows.tolist(), ids.decode([0, 1]).tolist()
    ([1, 0, 1], ['a', 'b'])
    >>> ids.encode(["b", "nobody"]).tolist()
    [1, -1]
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        self.labels = labels
        self.labels.setflags(write=False)

    @classmethod
    def from_labels(cls, labels: Any) -> tuple[Ids, NDArray[np.int32]]:
        """Map a column of labels to ids and the column's row numbers.

        Parameters
        ----------
        labels
            Array-like of integers, strings, UUIDs or a mixture. A whole float is an integer, since that is what
            a table makes of integers beside a gap; in a mixed column every label becomes its text, so that
            ``7`` and ``"7"`` are the same one.

        Returns
        -------
        ids, rows
            The distinct labels, and for each element its row number (int32).

        Raises
        ------
        DataError
            If a label is missing (None, NaN), an empty string or not Unicode text.

        Examples
        --------
        >>> Ids.from_labels([30, 4, 30])[0].labels.tolist()
        [4, 30]
        >>> Ids.from_labels([30, "007", 4])[0].labels.tolist()
        ['007', '30', '4']
        """
        column = as_column(labels)
        if column.dtype.kind in "iu":
            distinct, rows = _integers(column)
            if not distinct.size or _is_int64(int(distinct[-1])):
                return cls(distinct.astype(np.int64)), rows
        rows = np.empty(len(column), np.int32)
        number: dict[Any, int] = {}
        for start in range(0, len(column), _SLICE):
            codes, keys = coded(column[start : start + _SLICE])
            _refuse_missing(codes < 0, start)
            number_of = np.array([number.setdefault(key, len(number)) for key in keys], np.int32)
            rows[start : start + _SLICE] = number_of[codes]
        if "" in number:
            _refuse_missing(rows == number[""], 0)
        labels, place = _in_order(list(number))
        return cls(labels), place[rows]

    @property
    def kind(self) -> Literal["int", "str"]:
        """``"int"`` or ``"str"``."""
        return "str" if self.labels.dtype == object else "int"

    @cached_property
    def _index(self) -> Any:
        import pandas as pd

        index = pd.Index(self.labels, dtype=self.labels.dtype)
        # pandas fills its hash table at the first look-up and lets other threads look into it meanwhile: fill it before
        # they see it.
        index.get_indexer(self.labels[:1])
        return index

    def encode(self, labels: Any) -> NDArray[np.int64]:
        """Row numbers of labels; -1 where the label is unknown or missing.

        An integer and the text of its digits are the same label, as in a mixed column: ``"7"`` finds 7 and 7 finds
        ``"7"``, since forms and URLs carry text. Other texts (``"007"``, ``"7.0"``, ``" 7"``) match no
        integer. A whole float is an integer.

        Examples
        --------
        >>> ids, _ = Ids.from_labels(["7", "nan"])
        >>> ids.encode([7, 7.0, None, float("nan"), "nan"]).tolist()
        [0, 0, -1, -1, 1]
        >>> ids, _ = Ids.from_labels([7, 30])
        >>> ids.encode(["30", "030", "thirty"]).tolist()
        [1, -1, -1]
        """
        column = as_column(labels)
        if self.kind == "int" and column.dtype.kind in "iu":
            return self._rows_of_integers(column)
        rows = np.empty(len(column), np.int64)
        for start in range(0, len(column), _SLICE):
            codes, keys = coded(column[start : start + _SLICE])
            known = np.full(len(keys) + 1, -1, np.int64)  # the last is for missing labels, whose code is -1
            if self.kind == "str":
                known[:-1] = self._rows_of_texts(list(map(str, keys)))
            else:
                whole = {at: number for at, key in enumerate(keys) if (number := _integer(key)) is not None}
                known[list(whole)] = self._index.get_indexer(np.array(list(whole.values()), np.int64))
            rows[start : start + _SLICE] = known[codes]
        return rows

    def _rows_of_texts(self, texts: list[str]) -> NDArray[np.intp]:
        column = np.fromiter(texts, object, len(texts))
        try:
            return np.asarray(self._index.get_indexer(column))
        except UnicodeEncodeError:
            # A lone surrogate (half a character) is in no id, and pandas cannot look it up.
            sound = [text if text.isascii() or is_unicode(text) else "" for text in texts]
            return np.asarray(self._index.get_indexer(np.fromiter(sound, object, len(sound))))

    def label_of(self, given: int | str) -> int | str | None:
        """Return a label converted to this kind of id, known or not; None if it cannot be converted.

        Examples
        --------
        >>> ids, _ = Ids.from_labels([7, 30])
        >>> ids.label_of("8"), ids.label_of("eight")
        (8, None)
        """
        return str(given) if self.kind == "str" else _integer(given)

    def _rows_of_integers(self, column: NDArray[Any]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._index.get_indexer(column.astype(np.int64, copy=False)).astype(
            np.int64
        )
        if column.dtype == np.uint64:
            rows[column > np.uint64(2**63 - 1)] = -1
        return rows

    def decode(self, rows: Any) -> NDArray[Any]:
        """Labels of row numbers.

        Raises
        ------
        DataError
            If a row number is outside 0 .. len - 1.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            bad = rows[(rows < 0) | (rows >= len(self))].flat[0]
            raise DataError(f"row {bad} has no id: rows run from 0 to {len(self) - 1}")
        return np.asarray(self.labels[rows])

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return bool(self.encode([label])[0] >= 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ids):
            return NotImplemented
        return self is other or (self.kind == other.kind and np.array_equal(self.labels, other.labels))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        ends = ", ".join(repr(label) for label in self.labels[:3].tolist())
        return f"Ids({len(self):,} {self.kind}: {ends}{', …' if len(self) > 3 else ''})"


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold a text, that is, whether it has no lone surrogate (half a character)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_column(labels: Any) -> NDArray[Any]:
    """Labels as a one-dimensional array; NumPy alone would turn ``[1, "a"]`` into text."""
    if isinstance(labels, np.ndarray):
        column = unmasked(labels)
    elif hasattr(labels, "to_numpy"):
        column = np.asarray(labels.to_numpy())
    else:
        single = isinstance(labels, str | bytes) or not hasattr(labels, "__iter__")
        items = [labels] if single else list(labels)
        column = np.fromiter(items, object, len(items))
    column = np.atleast_1d(column)
    if column.ndim != 1:
        raise DataError(f"labels must be one column, not an array of {column.ndim} dimensions")
    if column.dtype.kind in "Mm":
        texts = column.astype(str).astype(object)
        texts[np.isnat(column)] = None
        return np.asarray(texts)
    return column if column.dtype.kind in "iufO" else column.astype(object)


def unmasked(column: NDArray[Any]) -> NDArray[Any]:
    """The column with its masked elements missing, instead of what lies under the mask."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    data, mask = np.asarray(column.data), np.ma.getmaskarray(column)
    if mask.any():
        data = data.copy() if data.dtype.kind in "Mm" else data.astype(object)
        data[mask] = np.datetime64("NaT") if data.dtype.kind == "M" else None
    return data


def coded(column: NDArray[Any]) -> tuple[NDArray[np.intp], list[Any]]:
    """The place of each label among the distinct ones, -1 where it is missing, and these as ``int`` or ``str``."""
    import pandas as pd

    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) not in _PURE:
        column = np.fromiter(map(_key, column.tolist()), object, len(column))
    codes, distinct = pd.factorize(column)
    return codes, distinct.tolist() if column.dtype.kind in "iu" else list(map(_key, distinct.tolist()))


def are_labels(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the elements that can be labels: numbers and Unicode text, neither missing nor empty."""

    def is_label(element: Any) -> bool:
        try:
            key = _key(element)
        except DataError:
            return False
        return key is not None and key != "" and is_unicode(str(key))

    try:
        codes, keys = coded(column)
    except DataError:
        return np.fromiter(map(is_label, column.tolist()), bool, len(column))
    return np.array([*map(is_label, keys), False])[codes]  # the code of a gap is -1


_PURE = ("string", "integer", "empty")
"""Kinds of object columns in which equal labels are one label; elsewhere ``1 == True == 1.0``."""


def _key(label: Any) -> int | str | None:
    import pandas as pd

    if type(label) is str or type(label) is int:
        return label
    if isinstance(label, bytes | bytearray):
        try:
            return label.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"the label {bytes(label[:40])!r} is not UTF-8 text: decode it with its own encoding, or drop those rows"
            ) from None
    if hasattr(label, "__iter__") and not isinstance(label, str):
        raise DataError(f"labels must be numbers or text, not {type(label).__name__}")
    if pd.isna(label):
        return None
    if (
        isinstance(label, float | np.floating | Decimal)
        and abs(float(label)) <= 2**53
        and label == int(label)
    ):
        return int(label)
    return int(label) if isinstance(label, np.integer) else str(label)


def _integers(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The distinct numbers in order, and the place of each."""
    import pandas as pd

    rows = np.empty(len(column), np.int32)
    found = [column[:0]]
    count = 0
    for start in range(0, len(column), _SLICE):
        codes, distinct = pd.factorize(column[start : start + _SLICE])
        rows[start : start + _SLICE] = codes + count
        found.append(distinct)
        count += len(distinct)
    distinct, place = np.unique(np.concatenate(found), return_inverse=True)
    return distinct, place.astype(np.int32)[rows]


def _in_order(distinct: list[int | str]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The labels in order, and each one's place in it."""
    if all(map(_is_int64, distinct)):
        return _integers(np.array(distinct, np.int64))
    texts = list(map(str, distinct))
    if not is_unicode("".join(texts)):
        broken = next(text for text in texts if not is_unicode(text))
        raise DataError(f"the label {broken[:40]!r} is not Unicode text")
    place = {text: at for at, text in enumerate(sorted(set(texts)))}
    return np.fromiter(place, object, len(place)), np.array([place[text] for text in texts], np.int32)


INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
"""Matches a text that is written as Python writes integers: 7, never 007 or 7.0."""


def _integer(label: Any) -> int | None:
    """Return the integer id that a label is, or whose text it is; None if there is none."""
    if isinstance(label, str):
        label = int(label) if INTEGER.fullmatch(label) else None
    return label if _is_int64(label) else None


def _is_int64(label: Any) -> bool:
    return isinstance(label, int) and -(2**63) <= label < 2**63


def _refuse_missing(missing: NDArray[np.bool_], start: int) -> None:
    if missing.any():
        raise DataError(
            f"an id is missing or empty, the first at row {start + int(np.argmax(missing))}: "
            "give every row a user and an item, or drop those rows"
        )
