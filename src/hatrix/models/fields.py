"""What the rows of a side are made of, besides themselves: attributes from tables, and who rated what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["Bag", "Column", "attributes", "rated_together"]

BINS = 10
FEWEST_HOLDERS = 2
"""A value that a single row holds says no more than the row's own number."""


class Column(NamedTuple):
    """Which features the lines of a table hold by what stands in one column: feature j is ``values[j]``.

    The values are in order: texts, or numbers; with ``edges``, the numbers of the bins between those.
    """

    name: str
    values: NDArray[Any]
    edges: NDArray[np.float64]

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, not texts."""
        return self.values.dtype.kind == "f"

    def held(self, column: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(line, feature) pairs of a column; a value that is missing, or that no feature stands for, gives none."""
        rows, values = _values(column, self.edges if self.numeric else None)
        place = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        known = self.values[place] == values
        return rows[known], place[known]


class Bag(NamedTuple):
    """A field of features: feature j is held by rows ``holder[start[j]:start[j + 1]]``, each with its weight.

    A row's weights have squares that sum to 1, however many features it holds. Of a field of attributes, ``column`` says
    what the features are; else they are the rows of the other side.
    """

    name: str
    start: NDArray[np.int64]
    holder: NDArray[np.int64]
    weight: NDArray[np.float32]
    column: Column | None = None


def attributes(table: pd.DataFrame | None) -> list[Bag]:
    """A bag for each column of a table that can be generalised from.

    Text columns are categories, several at once where values are separated by ``|``; numeric columns with
    more than ten values are cut into ten bins of equal count. A column where hardly any two rows agree (titles, say)
    gives nothing.
    """
    bags: list[Bag] = []
    if table is None:
        return bags
    for name in table.columns:
        edges = _edges(table[name])
        names, count = np.unique(_values(table[name], edges)[1], return_counts=True)
        common = names[count >= FEWEST_HOLDERS]
        if len(common) < 2:
            continue
        # Texts as wide as the widest of them, as those of a file will be.
        column = Column(str(name), np.array(common.tolist()), np.zeros(0) if edges is None else edges)
        rows, feature = column.held(table[name])
        if len(rows) > len(table) // 2:
            bag = _bag(str(name), rows, feature, len(table), len(common))
            bags.append(bag._replace(column=column))
    return bags


def rated_together(train: Ratings) -> tuple[Bag, Bag]:
    """For users, the items that each rated; for items, the users who rated each."""
    user, item = train.user.astype(np.int64), train.item.astype(np.int64)
    n, m = len(train.users), len(train.items)
    return _bag("rated", user, item, n, m), _bag("raters", item, user, m, n)


def _edges(column: pd.Series[Any]) -> NDArray[np.float64] | None:
    """Where a column of numbers is cut; nowhere, if it has few; None for texts."""
    if column.dtype.kind not in "iuf":
        return None
    numbers = _values(column, np.zeros(0))[1]
    if len(np.unique(numbers)) <= BINS:
        return np.zeros(0)
    return np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))


def _values(
    column: pd.Series[Any], edges: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """(line, value) pairs of a column, of texts where ``edges`` are None; a value missing gives none."""
    import pandas as pd

    if edges is not None:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        here = np.flatnonzero(np.isfinite(numbers))
        numbers = numbers[here]
        if len(edges):
            numbers = np.searchsorted(edges, numbers, side="right").astype(np.float64)
        return here, numbers
    here = np.flatnonzero(column.notna().to_numpy())
    # A value said twice is held once: the sampler draws a feature for rows that hold it once each.
    parts = [
        list(dict.fromkeys(filter(None, map(str.strip, str(text).split("|"))))) for text in column.iloc[here]
    ]
    rows = np.repeat(here, [len(part) for part in parts])
    return rows, np.array([value for part in parts for value in part], dtype=object).astype(str)


def _bag(name: str, row: NDArray[np.int64], feature: NDArray[np.int64], rows: int, features: int) -> Bag:
    order = np.argsort(feature, kind="stable")
    start = np.zeros(features + 1, np.int64)
    np.cumsum(np.bincount(feature, minlength=features), out=start[1:])
    weight = 1 / np.sqrt(np.maximum(np.bincount(row, minlength=rows), 1))
    return Bag(name, start, row[order], weight[row[order]].astype(np.float32))
