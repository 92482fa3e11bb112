"""How honest a posterior is: what its intervals cover, how wide they are, and how likely each rating was."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.evaluation.rating import sliced
from hatrix.models import predictive
from hatrix.models.predictive import Pairs

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.evaluation.evaluate import Evaluation

__all__ = ["LEVEL", "Uncertainty", "winkler"]

LEVEL = 0.9
"""Of the intervals that the headline figures are about."""
LEVELS = (0.5, 0.6, 0.7, 0.8, LEVEL, 0.95, 0.99)
PARTS, BINS, EXAMPLES = 10, 20, 12


def winkler(
    low: NDArray[np.float64], high: NDArray[np.float64], value: NDArray[np.float64], level: float
) -> NDArray[np.float64]:
    """Interval score: the width, and ``2 / (1 - level)`` times the distance of a value that lies outside. Lower is better.

    Notes
    -----
    Winkler, "A decision-theoretic approach to interval estimation", JASA 1972; Gneiting, Raftery, JASA 2007.
    """
    outside = np.maximum(low - value, 0) + np.maximum(value - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * outside)


class Uncertainty:
    """Figures of a model's intervals on test ratings, each made on first use; intervals are clipped to the scale."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._model, self._test = evaluation.model, evaluation.test
        self._posterior = predictive.posterior_of(evaluation.model, "intervals")
        self._pairs = Pairs(evaluation.user, evaluation.item, evaluation.test.time)

    def ends(self, level: float = LEVEL) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high ends of the interval of each test rating."""
        return self._model.interval_rows(*self._pairs, level=level, clip=True)

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.ends()

    def _covered(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
        # Ratings stand on the ends where those were clipped, and float32 rounds.
        return np.asarray((self._test.value >= low - 1e-6) & (self._test.value <= high + 1e-6))

    @cached_property
    def figures(self) -> dict[str, float]:
        """Of intervals at 90 %: coverage, mean width, interval score, and those of intervals of one width for all."""
        row = self.by_level.set_index("level").loc[LEVEL]
        return {"level": LEVEL, **{str(name): float(row[name]) for name in row.index}}

    @cached_property
    def by_level(self) -> pd.DataFrame:
        """By nominal level: share covered, mean width and interval score; the same of intervals of constant width.

        The constant width is the one that covers this very share of the test ratings, or more, with the same
        predictions: the best that a model without a posterior could do, and better than it could know.
        """
        import pandas as pd

        rows = []
        predicted, value = self._evaluation.predicted, self._test.value
        distance = np.sort(np.abs(predicted - value))
        for level in LEVELS:
            low, high = self._ends if level == LEVEL else self.ends(level)
            half = distance[min(int(np.ceil(level * len(distance))), len(distance)) - 1]
            flat = predicted - half, predicted + half
            flat = (
                (np.clip(flat[0], *self._model.scale), np.clip(flat[1], *self._model.scale))
                if self._model.scale
                else flat
            )
            rows.append(
                {
                    "level": level,
                    "covered": float(self._covered(low, high).mean()),
                    "width": float((high - low).mean()),
                    "score": float(winkler(low, high, value, level).mean()),
                    "constant_width": float((flat[1] - flat[0]).mean()),
                    "constant_score": float(winkler(*flat, value, level).mean()),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def by_activity(self) -> pd.DataFrame:
        """Share covered at 90 % in tenths of the test ratings by how many training ratings their user has.

        Columns slice, count, covered with the ends of its interval, and the mean width.
        """
        import pandas as pd

        user = self._evaluation.user
        count = np.where(user >= 0, self._model.user_count[user], 0)
        edges = np.unique(np.quantile(count, np.linspace(0, 1, PARTS + 1)))
        inner = edges[1:-1]
        part = np.searchsorted(inner, count, side="right")
        low, high = self._ends
        error = self._covered(low, high).astype(np.float64)
        found = sliced(
            error,
            self._test.user.astype(np.int64),
            part,
            len(inner) + 1,
            confidence=self._evaluation.confidence,
        )
        width = np.bincount(part, high - low, len(inner) + 1)
        bounds = [int(count.min()), *(int(np.ceil(edge)) for edge in inner), int(count.max()) + 1]
        labels = [f"{a:,}" if b - a <= 1 else f"{a:,}–{b - 1:,}" for a, b in itertools.pairwise(bounds)]
        table = pd.DataFrame(
            {
                "slice": labels,
                "count": found.count,
                "covered": found.bias,
                "covered_low": np.clip(found.bias_low, 0, 1),
                "covered_high": np.clip(found.bias_high, 0, 1),
                "width": width / np.maximum(found.count, 1),
            }
        )
        return table[table["count"] > 0].reset_index(drop=True)

    @cached_property
    def histogram(self) -> pd.DataFrame:
        """How often ratings fell into each twentieth of their predicted distribution: low, high, share."""
        import pandas as pd

        share = predictive.shares(self._model, self._pairs, self._test.value)
        edges = np.linspace(0, 1, BINS + 1)
        count, _ = np.histogram(share, edges)
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": count / count.sum()})

    @cached_property
    def examples(self) -> pd.DataFrame:
        """A few test ratings from the narrowest interval to the widest: user, item, title, rating, predicted, low, high."""
        low, high = self._ends
        rows = self._rows_by_width
        frame = self._evaluation.predictions().iloc[rows][["user", "item", "rating", "predicted"]]
        table = self._test.item_table
        title = (
            None
            if table is None or "title" not in table
            else table["title"].to_numpy()[self._test.item[rows]]
        )
        frame.insert(2, "title", title)
        return frame.assign(low=low[rows], high=high[rows]).reset_index(drop=True)

    @cached_property
    def stars(self) -> pd.DataFrame | None:
        """Probability of each rating for the `examples`, a row each; None where ratings have too many values."""
        if not len(self._posterior.levels):
            return None
        rows = self._rows_by_width
        times = None if self._pairs.times is None else self._pairs.times[rows]
        return predictive.probabilities(
            self._model, Pairs(self._pairs.user[rows], self._pairs.item[rows], times)
        )

    @cached_property
    def _rows_by_width(self) -> NDArray[np.int64]:
        """Rows of the examples: evenly spread over the test ratings in order of the width of their interval."""
        low, high = self._ends
        order = np.argsort(high - low, kind="stable")
        place = np.unique(np.linspace(0, len(order) - 1, EXAMPLES).round().astype(np.int64))
        return np.asarray(order[place])

    def to_dict(self) -> dict[str, Any]:
        """The headline figures, ready for JSON, with the lowest and highest coverage of the tenths by activity."""
        covered = self.by_activity["covered"]
        return {
            **self.figures,
            "calibrated_on": len(self._posterior.calibration),
            "covered_by_activity": [float(covered.min()), float(covered.max())],
        }
