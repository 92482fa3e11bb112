"""Where a model is wrong: the test errors cut by rating, user, item, genre and time."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.data.values import NO_TIME, seconds
from hatrix.evaluation.rating import sliced

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.models.model import FactorModel

__all__ = ["Anatomy", "by_count", "rounded_predictions"]

COUNT_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
MOST_LEVELS = 20
WORST = 50
COSTLIEST = 20
MOST_PERIODS = 36
MOST_GENRES = 40
MOST_BARS = 400


class _Parts(NamedTuple):
    """Test ratings, by position, and which of the labelled parts each belongs to."""

    part: NDArray[np.int64]
    labels: list[str]
    rows: NDArray[np.int64]


class Anatomy:
    """Tables of an evaluation, each made on first use; None where the data lack what a table is about.

    A *slice table* has the columns slice (label), count, rmse, mae, bias (mean of predicted - actual) and the ends
    of the intervals of rmse and bias (NaN where a slice has a single user), cut to what the rating scale allows; slices
    without ratings are left out.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._test, self._model = evaluation.test, evaluation.model
        self._predicted = evaluation.predicted
        self._error = self._predicted - self._test.value
        low, high = self._model.scale or (-np.inf, np.inf)
        self._lowest = min(low, float(self._test.value.min()))
        self._highest = max(high, float(self._test.value.max()))

    def _slices(
        self, part: NDArray[np.int64], labels: Sequence[str], rows: NDArray[Any] | slice = slice(None)
    ) -> pd.DataFrame:
        import pandas as pd

        user = self._test.user[rows].astype(np.int64)
        figures = sliced(self._error[rows], user, part, len(labels), confidence=self._evaluation.confidence)
        table = pd.DataFrame({"slice": list(labels), **vars(figures)})
        reach = self._highest - self._lowest
        for end in ("rmse_low", "rmse_high", "bias_low", "bias_high"):
            table[end] = table[end].clip(-reach, reach)
        return table[table["count"] > 0].reset_index(drop=True)

    @cached_property
    def by_rating(self) -> pd.DataFrame:
        """By the true rating; ratings of many values are cut into ten ranges."""
        return self._cut(self._ratings)

    @cached_property
    def by_activity(self) -> pd.DataFrame:
        """By how many training ratings the user has."""
        return self._cut(self._activity)

    @cached_property
    def by_popularity(self) -> pd.DataFrame:
        """By how many training ratings the item has."""
        return self._cut(self._popularity)

    @cached_property
    def by_genre(self) -> pd.DataFrame | None:
        """By the item's genre, the 40 most rated; an item of several genres counts in each."""
        import pandas as pd

        if self._genres is None:
            return None
        tables = [
            self._slices(np.zeros(len(rows), np.int64), [name], rows) for name, rows in self._genres.items()
        ]
        return pd.concat(tables, ignore_index=True) if tables else None

    @cached_property
    def by_decade(self) -> pd.DataFrame | None:
        """By the decade in which the item was released; by centuries or more where there are over 36 decades."""
        return None if self._decades is None else self._cut(self._decades)

    @cached_property
    def by_period(self) -> pd.DataFrame | None:
        """By the month, quarter, year, decade ... in which the rating was given, the finest with at most 36."""
        return None if self._periods is None else self._cut(self._periods)

    def rows_of(self, by: str, label: str) -> NDArray[np.int64]:
        """Positions of the test ratings that a slice is of; none where there is no such slice.

        Parameters
        ----------
        by
            ``"rating"``, ``"activity"``, ``"popularity"``, ``"genre"``, ``"decade"`` or ``"period"``.
        label
            As in the column ``slice`` of that table.
        """
        if by == "genre":
            found: dict[str, NDArray[np.int64]] = self._genres or {}
            return found.get(label, np.empty(0, np.int64))
        names = {"rating": "_ratings", "activity": "_activity", "popularity": "_popularity"}
        parts: _Parts | None = getattr(self, (names | {"decade": "_decades", "period": "_periods"})[by])
        if parts is None or label not in parts.labels:
            return np.empty(0, np.int64)
        chosen: NDArray[np.int64] = parts.rows[parts.part == parts.labels.index(label)]
        return chosen

    def _cut(self, parts: _Parts) -> pd.DataFrame:
        return self._slices(parts.part, parts.labels, parts.rows)

    @cached_property
    def _everything(self) -> NDArray[np.int64]:
        return np.arange(len(self._error))

    @cached_property
    def _ratings(self) -> _Parts:
        levels, part = np.unique(self._test.value, return_inverse=True)
        if len(levels) <= MOST_LEVELS:
            return _Parts(part, _written(levels), self._everything)
        edges = np.unique(np.quantile(self._test.value, np.linspace(0, 1, 11)))
        part = np.clip(np.searchsorted(edges, self._test.value, "right") - 1, 0, len(edges) - 2)
        labels = [f"{low} to {high}" for low, high in itertools.pairwise(_written(edges))]
        return _Parts(part, labels, self._everything)

    @cached_property
    def _activity(self) -> _Parts:
        return self._by_count(self._model.user_count, self._evaluation.user)

    @cached_property
    def _popularity(self) -> _Parts:
        return self._by_count(self._model.item_count, self._evaluation.item)

    def _by_count(self, count: NDArray[np.int64], row: NDArray[np.int64]) -> _Parts:
        return _Parts(*by_count(np.where(row >= 0, count[row], 0)), self._everything)

    @cached_property
    def _genres(self) -> dict[str, NDArray[np.int64]] | None:
        """Positions of the test ratings of each genre."""
        genres = self._column("genres")
        if genres is None:
            return None
        members: dict[str, list[int]] = {}
        for item, listed in enumerate(genres):
            if isinstance(listed, str):
                for name in sorted({name.strip() for name in listed.split("|")} - {""}):
                    members.setdefault(name, []).append(item)
        rated = self._test.item_count
        count = {name: int(rated[items].sum()) for name, items in members.items()}
        names = sorted((name for name in members if count[name]), key=lambda name: (-count[name], name))
        found = {}
        for name in names[:MOST_GENRES]:
            has = np.zeros(len(genres), bool)
            has[members[name]] = True
            found[name] = np.flatnonzero(has[self._test.item])
        return found

    @cached_property
    def _decades(self) -> _Parts | None:
        import pandas as pd

        years = self._column("year")
        if years is None:
            return None
        year = pd.to_numeric(pd.Series(years), errors="coerce").to_numpy(float, na_value=np.nan)
        year = year[self._test.item]
        rows = np.flatnonzero(np.abs(year) < 1e6)
        if not len(rows):
            return None
        first, part, width = _steps(year[rows].astype(np.int64), (10, 100, 1000, 10_000, 100_000))
        return _Parts(part, [_years(start, width) for start in first], rows)

    @cached_property
    def _periods(self) -> _Parts | None:
        if self._test.time is None:
            return None
        moment = seconds(self._test.time)
        rows = np.flatnonzero(moment != NO_TIME)
        if not len(rows):
            return None
        month = moment[rows].astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) + 1970 * 12
        first, part, width = _steps(month, (1, 3, 12, 120, 1200, 12_000))
        return _Parts(part, [_months(start, width) for start in first], rows)

    def _column(self, name: str) -> NDArray[Any] | None:
        """A column of the test data's item table, or of the model's, by test item; missing values are None."""
        import pandas as pd

        table, rows = self._test.item_table, np.arange(len(self._test.items))
        if table is None or name not in table:
            table, rows = self._model.item_table, self._model.items.encode(self._test.items.labels)
        if table is None or name not in table:
            return None
        values = np.asarray(table[name].astype(object))[rows]
        values[pd.isna(values) | (rows < 0)] = None
        return values

    @cached_property
    def _rounded_error(self) -> NDArray[np.float64]:
        return np.abs(np.round(self._evaluation.raw_predicted) - self._test.value)

    @cached_property
    def rounded_describe(self) -> pd.Series[float]:
        """The notebook's ``describe``: absolute errors of predictions rounded to whole numbers, not clipped."""
        import pandas as pd

        return pd.Series(self._rounded_error, name="error").describe()

    @cached_property
    def rounded_counts(self) -> pd.DataFrame:
        """How often each of these absolute errors occurs: error, count; rounded where there are over 20 of them."""
        import pandas as pd

        error, count = np.unique(self._rounded_error, return_counts=True)
        if len(error) > MOST_LEVELS:
            error, count = _rounded(self._rounded_error)
        return pd.DataFrame({"error": error, "count": count})

    @cached_property
    def prediction_range(self) -> pd.DataFrame:
        """Predictions before clipping, rounded to whole numbers (tens, ... where over 400): predicted, count."""
        import pandas as pd

        predicted, count = _rounded(self._evaluation.raw_predicted)
        return pd.DataFrame({"predicted": predicted, "count": count})

    @cached_property
    def residuals(self) -> pd.DataFrame:
        """Histogram of predicted - actual: low, high, count; 0 and whole numbers are edges on a usual scale."""
        import pandas as pd

        spread = float(np.ptp(self._error))
        if spread <= 1e-9 * max(1.0, float(np.abs(self._error).max())):
            spread = max(1.0, float(np.abs(self._error).max()))
        width = 0.25 if 2 <= spread <= 16 else 10.0 ** np.floor(np.log10(spread / 8))
        first, last = np.floor(self._error.min() / width), np.ceil(self._error.max() / width)
        edges = np.arange(first, max(last, first + 1) + 1) * width
        count = np.histogram(self._error, edges)[0]
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count})

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Mean actual rating by predicted one, in up to 20 ranges: predicted, actual, its interval, count."""
        predicted = self._predicted
        low, high = float(predicted.min()), float(predicted.max())
        part = np.zeros(len(predicted), np.int64)
        if high > low:
            part = np.minimum((predicted - low) / (high - low) * MOST_LEVELS, MOST_LEVELS - 1).astype(
                np.int64
            )
        table = self._slices(part, [str(number) for number in range(MOST_LEVELS)])
        filled = table["slice"].astype(int).to_numpy()
        table["predicted"] = (np.bincount(part, predicted, MOST_LEVELS)[filled]) / table["count"]
        table["actual"] = table["predicted"] - table["bias"]
        for end, other in (("actual_low", "bias_high"), ("actual_high", "bias_low")):
            table[end] = (table["predicted"] - table[other]).clip(self._lowest, self._highest)
        return table[["predicted", "actual", "actual_low", "actual_high", "count"]]

    @cached_property
    def confusion(self) -> pd.DataFrame | None:
        """Counts of (actual, predicted), predictions put on the nearest rating that occurs; None with many values."""
        import pandas as pd

        levels, actual = np.unique(self._test.value, return_inverse=True)
        if len(levels) > MOST_LEVELS:
            return None
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, self._predicted, "right")
        cell, count = np.unique(actual * len(levels) + nearest, return_counts=True)
        actual, nearest = np.divmod(cell, len(levels))
        return pd.DataFrame({"actual": levels[actual], "predicted": levels[nearest], "count": count})

    @cached_property
    def worst(self) -> pd.DataFrame:
        """The 50 predictions furthest off: user, item, title, rating, predicted, error, user_count, item_count."""
        import pandas as pd

        size = np.abs(self._error)
        first = np.argsort(-size, kind="stable")[:WORST]
        test, found, model = self._test, self._evaluation, self._model
        user, item = found.user[first], found.item[first]
        titles = self._column("title")
        return pd.DataFrame(
            {
                "user": test.users.decode(test.user[first]),
                "item": test.items.decode(test.item[first]),
                "title": None if titles is None else titles[test.item[first]],
                "rating": test.value[first],
                "predicted": self._predicted[first],
                "error": self._error[first],
                "user_count": np.where(user >= 0, model.user_count[user], 0),
                "item_count": np.where(item >= 0, model.item_count[item], 0),
            }
        )

    @cached_property
    def items(self) -> pd.DataFrame:
        """The 20 items with most of the squared error: item, title, count, actual, predicted, rmse, bias, share."""
        import pandas as pd

        test, n_items = self._test, len(self._test.items)
        square = np.bincount(test.item, self._error**2, n_items)
        count = np.bincount(test.item, minlength=n_items)
        first = np.argsort(-square, kind="stable")[:COSTLIEST]
        first = first[square[first] > 0]
        titles = self._column("title")
        n = count[first]
        bias = np.bincount(test.item, self._error, n_items)[first] / n
        actual = np.bincount(test.item, test.value, n_items)[first] / n
        return pd.DataFrame(
            {
                "item": test.items.decode(first),
                "title": None if titles is None else titles[first],
                "count": n,
                "actual": actual,
                "predicted": actual + bias,
                "rmse": np.sqrt(square[first] / n),
                "bias": bias,
                "share": square[first] / (square.sum() or 1.0),
            }
        )


def by_count(count: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """The range that each count falls into, and the ranges in words."""
    part = np.searchsorted(COUNT_EDGES, count, "right") - 1
    labels = [
        f"{low:,}" if high - low == 1 else f"{low:,}–{high - 1:,}"
        for low, high in itertools.pairwise(COUNT_EDGES)
    ]
    return part, [*labels, f"{COUNT_EDGES[-1]:,}+"]


def _written(values: NDArray[np.float64]) -> list[str]:
    """Distinct numbers in as few digits, at least four, as keep them apart."""
    for digits in range(4, 17):
        texts = [f"{value + 0.0:.{digits}g}" for value in values]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(float(value)) for value in values]


def _steps(number: NDArray[np.int64], widths: Sequence[int]) -> tuple[list[int], NDArray[np.int64], int]:
    """Cut whole numbers into ranges of the first width that gives at most 36: their starts, the parts, the width."""
    for width in widths:
        step = number // width
        first, last = int(step.min()), int(step.max())
        if last - first < MOST_PERIODS:
            break
    return [start * width for start in range(first, last + 1)], step - first, width


def _years(start: int, width: int) -> str:
    return f"{start}s" if width == 10 else f"{start} to {start + width - 1}"


def _months(start: int, width: int) -> str:
    """A range of months, counted from the year 0."""
    year, month = divmod(start, 12)
    if width == 1:
        return f"{year}-{month + 1:02d}"
    if width == 3:
        return f"{year}Q{month // 3 + 1}"
    return f"{year}" if width == 12 else _years(year, width // 12)


def _rounded(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values rounded to whole numbers, or to the least power of ten that leaves at most 400, and their counts."""
    unit = 1.0
    while np.ptp(values) / unit > MOST_BARS:
        unit *= 10
    rounded, count = np.unique(np.round(values / unit), return_counts=True)
    return rounded * unit + 0.0, count


def rounded_predictions(model: FactorModel, *, most: int = 100_000_000, seed: int = 0) -> pd.DataFrame:
    """The notebook's range of predictions: each rounded score of all user-item pairs, and how often it occurs.

    Users are scored in blocks; above ``most`` pairs a random part of the users stands for all of them, and
    ``attrs["sampled"]`` of the table is True.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> table = rounded_predictions(hx.Bias().fit(ratings))
    >>> int(table["count"].sum())
    2400
    """
    import pandas as pd

    users, items = len(model.users), len(model.items)
    chosen = np.arange(users)
    if users * items > most:
        chosen = np.random.default_rng(seed).permutation(users)[: max(1, most // items)]
    counts: dict[float, int] = {}
    at_once = max(1, 4_000_000 // items)
    for first in range(0, len(chosen), at_once):
        scores = model.scores(model.users.decode(chosen[first : first + at_once]))
        for value, count in zip(*np.unique(np.round(scores), return_counts=True), strict=True):
            counts[float(value) + 0.0] = counts.get(float(value) + 0.0, 0) + int(count)
    table = pd.DataFrame(sorted(counts.items()), columns=["predicted", "count"])
    table.attrs["sampled"] = len(chosen) < users
    return table
