"""The caller's labels and the row numbers that stand for them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Ids"]


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
            Array-like of integers, strings, UUIDs or a mixture.

        Returns
        -------
        ids, rows
            The distinct labels, and for each element its row number (int32).

        Raises
        ------
        DataError
            If a label is missing (None, NaN) or an empty string.
        """
        import pandas as pd

        column = _as_column(labels)
        codes, distinct = pd.factorize(column)
        order = np.argsort(distinct, kind="stable")
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        return cls(distinct[order]), place[codes]

    @property
    def kind(self) -> str:
        """``"int"`` or ``"str"``."""
        return "str" if self.labels.dtype == object else "int"

    @cached_property
    def _index(self) -> pd.Index[Any]:
        import pandas as pd

        return pd.Index(self.labels, dtype=self.labels.dtype)

    def encode(self, labels: Any) -> NDArray[np.int64]:
        """Row numbers of labels; -1 where the label is unknown.

        A label of another type is unknown, except that string ids know an integer by its digits, as in a mixed
        column.
        """
        values = np.atleast_1d(_as_array(labels))
        if self.kind == "str":
            wanted = values.astype(str).astype(object)
            return np.asarray(self._index.get_indexer(wanted), np.int64)
        if values.dtype.kind in "iu":
            fits = values <= np.uint64(2**63 - 1) if values.dtype == np.uint64 else np.True_
            return np.where(fits, self._index.get_indexer(values.astype(np.int64)), -1)
        rows = np.full(len(values), -1, np.int64)
        whole = [position for position, value in enumerate(values.tolist()) if _is_int64(value)]
        if whole:
            picked = np.array([int(values[position]) for position in whole], np.int64)
            rows[whole] = self._index.get_indexer(picked)
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


def _is_int64(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, float | np.floating):
        return bool(value.is_integer() and -(2.0**63) <= value < 2.0**63)
    return isinstance(value, int | np.integer) and -(2**63) <= int(value) < 2**63


def _as_array(labels: Any) -> NDArray[Any]:
    """Labels as an array that has not turned mixed types into something else (NumPy would make [1, "a"] text)."""
    if isinstance(labels, np.ndarray):
        return labels
    if hasattr(labels, "to_numpy"):
        return np.asarray(labels.to_numpy())
    if isinstance(labels, str | bytes) or not hasattr(labels, "__iter__"):
        labels = [labels]
    boxed = np.empty(len(items := list(labels)), object)
    boxed[:] = items
    return boxed


def _as_column(labels: Any) -> NDArray[Any]:
    """A whole column as int64, or as an object array of non-empty strings."""
    values = _as_array(labels)
    if values.dtype.kind in "iu" and (values.dtype != np.uint64 or not values.size or values.max() < 2**63):
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "f":
        _refuse_missing(np.isnan(values))
        if np.all(np.abs(values) <= 2.0**53) and np.array_equal(values, np.floor(values)):
            return values.astype(np.int64)
    if values.dtype == object:
        import pandas as pd

        _refuse_missing(pd.isna(values))
        if all(isinstance(value, int | np.integer) and _is_int64(value) for value in values):
            return values.astype(np.int64)
    strings = np.array([str(value) for value in values.tolist()], object)
    _refuse_missing(strings == "")
    return strings


def _refuse_missing(missing: NDArray[np.bool_]) -> None:
    if missing.any():
        first = int(np.argmax(missing))
        raise DataError(
            f"{int(missing.sum())} ids are missing or empty, the first at row {first}: "
            "give every row a user and an item, or drop those rows"
        )
