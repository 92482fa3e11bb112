"""What the rows of a side are made of, besides themselves: attributes from tables, and who rated what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["Bag", "attributes", "rated_together"]

BINS = 10
FEWEST_HOLDERS = 2
"""A value that a single row holds says no more than the row's own number."""


class Bag(NamedTuple):
    """A field of features: feature j is held by rows ``holder[start[j]:start[j + 1]]``, each with its weight.

    A row's weights have squares that sum to 1, however many features it holds.
    """

    name: str
    start: NDArray[np.int64]
    holder: NDArray[np.int64]
    weight: NDArray[np.float32]


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
        rows, values = _values(table[name])
        names, count = np.unique(values, return_counts=True)
        common = names[count >= FEWEST_HOLDERS]
        if len(common) < 2:
            continue
        place = np.searchsorted(common, values).clip(max=len(common) - 1)
        known = common[place] == values
        if np.count_nonzero(known) > len(table) // 2:
            bags.append(_bag(str(name), rows[known], place[known], len(table), len(common)))
    return bags


def rated_together(train: Ratings) -> tuple[Bag, Bag]:
    """For users, the items that each rated; for items, the users who rated each."""
    user, item = train.user.astype(np.int64), train.item.astype(np.int64)
    n, m = len(train.users), len(train.items)
    return _bag("rated", user, item, n, m), _bag("raters", item, user, m, n)


def _values(column: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """(row, value) pairs of a column; a value missing gives none."""
    here = np.flatnonzero(column.notna().to_numpy())
    if column.dtype.kind in "iuf":
        numbers = column.iloc[here].to_numpy(np.float64)
        if len(np.unique(numbers)) > BINS:
            edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
            numbers = np.searchsorted(edges, numbers, side="right").astype(np.float64)
        return here, numbers
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
