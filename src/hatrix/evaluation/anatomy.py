"""Where a model is wrong: the test errors cut by rating, user, item, genre and time."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.evaluation.rating import sliced

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.models.model import FactorModel

__all__ = ["Anatomy", "rounded_predictions"]

COUNT_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
MOST_LEVELS = 20
WORST = 50
COSTLIEST = 20
MILLISECONDS = 100_000_000_000


class Anatomy:
    """Tables of an evaluation, each made on first use; None where the data lack what a table is about.

    A *slice table* has the columns slice (label), count, rmse, mae, bias (mean of predicted - actual) and the ends
    of the intervals of rmse and bias.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._test, self._model = evaluation.test, evaluation.model
        self._predicted = evaluation.predicted
        self._error = self._predicted - self._test.value

    def _slices(
        self, part: NDArray[np.int64], labels: Sequence[str], rows: NDArray[Any] | slice = slice(None)
    ) -> pd.DataFrame:
        import pandas as pd

        user = self._test.user[rows].astype(np.int64)
        figures = sliced(self._error[rows], user, part, len(labels), confidence=self._evaluation.confidence)
        table = pd.DataFrame({"slice": list(labels), **vars(figures)})
        return table[table["count"] > 0].reset_index(drop=True)

    @cached_property
    def by_rating(self) -> pd.DataFrame:
        """By the true rating; ratings of many values are cut into ten ranges."""
        levels, part = np.unique(self._test.value, return_inverse=True)
        if len(levels) <= MOST_LEVELS:
            return self._slices(part, [f"{level:g}" for level in levels])
        edges = np.unique(np.quantile(self._test.value, np.linspace(0, 1, 11)))
        part = np.clip(np.searchsorted(edges, self._test.value, "right") - 1, 0, len(edges) - 2)
        labels = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
        return self._slices(part, labels)

    @cached_property
    def by_activity(self) -> pd.DataFrame:
        """By how many training ratings the user has."""
        return self._by_count(self._model.user_count, self._evaluation.user)

    @cached_property
    def by_popularity(self) -> pd.DataFrame:
        """By how many training ratings the item has."""
        return self._by_count(self._model.item_count, self._evaluation.item)

    def _by_count(self, count: NDArray[np.int64], row: NDArray[np.int64]) -> pd.DataFrame:
        edges = np.array(COUNT_EDGES)
        part = np.searchsorted(edges, np.where(row >= 0, count[row], 0), "right") - 1
        labels = [
            f"{low:,}" if high - low == 1 else f"{low:,}–{high - 1:,}"
            for low, high in itertools.pairwise(COUNT_EDGES)
        ]
        return self._slices(part, [*labels, f"{COUNT_EDGES[-1]:,}+"])

    @cached_property
    def by_genre(self) -> pd.DataFrame | None:
        """By the item's genre, the most rated first; an item of several genres counts in each."""
        import pandas as pd

        genres = self._column("genres")
        if genres is None:
            return None
        members: dict[str, NDArray[np.bool_]] = {}
        for item, listed in enumerate(genres):
            for name in str(listed).split("|") if isinstance(listed, str) else ():
                if name:
                    members.setdefault(name, np.zeros(len(genres), bool))[item] = True
        tables = []
        for name, has in members.items():
            rows = np.flatnonzero(has[self._test.item])
            if len(rows):
                tables.append(self._slices(np.zeros(len(rows), np.int64), [name], rows))
        if not tables:
            return None
        table = pd.concat(tables, ignore_index=True)
        return table.sort_values(["count", "slice"], ascending=[False, True], ignore_index=True)

    @cached_property
    def by_decade(self) -> pd.DataFrame | None:
        """By the decade in which the item was released."""
        import pandas as pd

        years = self._column("year")
        if years is None:
            return None
        year = pd.to_numeric(pd.Series(years), errors="coerce").to_numpy(float, na_value=np.nan)[
            self._test.item
        ]
        rows = np.flatnonzero(np.isfinite(year))
        if not len(rows):
            return None
        decades, part = np.unique(year[rows].astype(np.int64) // 10 * 10, return_inverse=True)
        return self._slices(part, [f"{decade}s" for decade in decades.tolist()], rows)

    @cached_property
    def by_period(self) -> pd.DataFrame | None:
        """By the calendar month, quarter or year in which the rating was given, whichever fits the span."""
        import pandas as pd

        time = self._test.time
        if time is None:
            return None
        unit = "ms" if np.abs(time).max() > MILLISECONDS else "s"
        moments = pd.DatetimeIndex(time.astype(f"datetime64[{unit}]"))
        months = (moments.max() - moments.min()).days / 30.4
        frequency = "M" if months <= 24 else "Q" if months <= 72 else "Y"
        part, periods = pd.factorize(moments.to_period(frequency), sort=True)
        return self._slices(part.astype(np.int64), [str(period) for period in periods])

    def _column(self, name: str) -> NDArray[Any] | None:
        """A column of the test data's item table, or of the model's, in the row order of the test items."""
        table = self._test.item_table
        if table is not None and name in table:
            return np.asarray(table[name].astype(object))
        table = self._model.item_table
        if table is None or name not in table:
            return None
        known = self._model.items.encode(self._test.items.labels)
        values = np.asarray(table[name].astype(object))[known]
        values[known < 0] = None
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
        """How often each of these absolute errors occurs: error, count."""
        import pandas as pd

        error, count = np.unique(self._rounded_error, return_counts=True)
        if len(error) > MOST_LEVELS:
            error, part = np.unique(np.round(self._rounded_error), return_inverse=True)
            count = np.bincount(part)
        return pd.DataFrame({"error": error, "count": count})

    @cached_property
    def prediction_range(self) -> pd.DataFrame:
        """Predictions before clipping, rounded to whole numbers: predicted, count."""
        import pandas as pd

        predicted, count = np.unique(np.round(self._evaluation.raw_predicted), return_counts=True)
        return pd.DataFrame({"predicted": predicted + 0.0, "count": count})

    @cached_property
    def residuals(self) -> pd.DataFrame:
        """Histogram of predicted - actual: low, high, count; 0 and whole numbers are edges on a usual scale."""
        import pandas as pd

        spread = float(np.ptp(self._error)) or 1.0
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
        table["actual_low"] = table["predicted"] - table["bias_high"]
        table["actual_high"] = table["predicted"] - table["bias_low"]
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
        """The 20 items with the largest part of the squared error: item, title, count, actual, predicted, rmse, bias."""
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
