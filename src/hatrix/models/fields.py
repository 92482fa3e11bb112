"""What the rows of a side are made of, besides themselves: attributes from tables, and who rated what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.errors import DataError
from hatrix.models.factors import day_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings

__all__ = ["Bag", "Days", "attributes", "rated_together", "user_days"]

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


class Days(NamedTuple):
    """The days on which each user rated: those of user u are ``start[u]`` to ``start[u + 1]``, in order.

    ``day`` and ``count`` (of ratings) and ``user`` are theirs; rating n was made on the day numbered ``of[n]``.
    """

    start: NDArray[np.int64]
    day: NDArray[np.int64]
    count: NDArray[np.int64]
    user: NDArray[np.int64]
    of: NDArray[np.int64]


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


def user_days(train: Ratings) -> Days:
    """The days of each user's ratings."""
    if train.time is None:
        raise DataError("the field user_day needs ratings with a time, and these have none: leave it out")
    day = day_of(train.time)
    first = int(day.min())
    width = int(day.max()) - first + 1
    cells, of, count = np.unique(
        train.user.astype(np.int64) * width + (day - first), return_inverse=True, return_counts=True
    )
    user = cells // width
    start = np.searchsorted(user, np.arange(len(train.users) + 1))
    return Days(start.astype(np.int64), cells % width + first, count, user, of)


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
