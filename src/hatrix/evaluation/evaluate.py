"""Evaluating a model on ratings that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import whole
from hatrix.data.origin import remembered
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation.tally import MOST_DRAWS, Errors, Means, Tally
from hatrix.models import SEED
from hatrix.models.fit import Algorithm
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.evaluation.anatomy import Anatomy
    from hatrix.evaluation.uncertainty import Uncertainty

__all__ = ["Evaluation", "evaluate"]

ROUNDING = 1e-6
"""Relative error of predictions in float32, which is no merit of a model."""
AT_ONCE = 1 << 18
"""Test ratings that are predicted at once."""
SAMPLED, BYTES_PER_SAMPLED = 1_000_000, 1000
"""Of the test ratings on disk that are kept: how many at most, and how much memory has to be allowed for each."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The errors of a model on test ratings; `evaluate` makes it.

    Attributes
    ----------
    model, test
        What was evaluated on what. Of ratings on disk, ``test`` is an even sample in memory of at most a million, on which
        all tables and charts are; the figures below are those of all ratings.
    user, item
        Row numbers of ``test`` in the model, -1 for unknown ids.
    raw_predicted
        Predictions before clipping, in the order of ``test``.
    n
        Number of test ratings.
    mse, rmse, mae
        Errors of the clipped predictions.
    raw, constant
        The same of the unclipped ones, and of always predicting the training mean.
    intervals
        (low, high) of mse, rmse and mae, from a bootstrap over users; NaN for a single rating.
    clipped_share
        Share of predictions outside the rating scale before clipping.
    fallbacks
        Distinct unknown and cold users and items, and the share of predictions that fell back to what was known.
    warnings
        What deserves attention, each beginning with a code.
    confidence
        Coverage of the intervals.
    options
        The arguments that the function was called with, as code, for reports.
    """

    model: FactorModel
    test: Ratings
    user: NDArray[np.int64] = field(repr=False)
    item: NDArray[np.int64] = field(repr=False)
    raw_predicted: NDArray[np.float64] = field(repr=False)
    n: int
    mse: float
    rmse: float
    mae: float
    raw: Errors
    constant: Errors
    intervals: dict[str, tuple[float, float]]
    clipped_share: float
    fallbacks: dict[str, float]
    warnings: tuple[str, ...]
    confidence: float = 0.95
    options: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    @property
    def coverage(self) -> str:
        """Coverage of the intervals in words: ``"95 %"``."""
        return f"{100 * self.confidence:g} %"

    @property
    def is_sampled(self) -> bool:
        """Whether ``test`` is a sample of the test ratings."""
        return len(self.test) < self.n

    @property
    def predicted(self) -> NDArray[np.float64]:
        """Predictions clipped to the rating scale."""
        return _clipped(self.raw_predicted, self.model.scale)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the model is wrong: tables by rating, activity, popularity, genre, decade, period and more."""
        from hatrix.evaluation.anatomy import Anatomy

        return Anatomy(self)

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """What the model's intervals cover and how wide they are; None for a model without a posterior."""
        from hatrix.evaluation.uncertainty import Uncertainty

        return None if self.model.posterior is None else Uncertainty(self)

    def table(self) -> pd.DataFrame:
        """The metrics as rows: value, low, high, and the value without clipping."""
        import pandas as pd

        rows = {}
        for name in ("rmse", "mse", "mae"):
            low, high = self.intervals[name]
            rows[name] = {
                "value": getattr(self, name),
                "low": low,
                "high": high,
                "raw": getattr(self.raw, name),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")

    def predictions(self) -> pd.DataFrame:
        """Every rating of ``test`` with its prediction: user, item, rating, predicted, raw, error."""
        frame = self.test.to_frame()[["user", "item", "rating"]]
        predicted = self.predicted
        return frame.assign(predicted=predicted, raw=self.raw_predicted, error=predicted - self.test.value)

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON; None stands for ends of intervals that are not known."""
        return {
            "rmse": self.rmse,
            "mse": self.mse,
            "mae": self.mae,
            "intervals": {
                name: [end if isfinite(end) else None for end in ends]
                for name, ends in self.intervals.items()
            },
            "confidence": self.confidence,
            "raw": self.raw._asdict(),
            "clipped_share": self.clipped_share,
            "fallbacks": self.fallbacks,
            "warnings": list(self.warnings),
            **({"sampled": len(self.test)} if self.is_sampled else {}),
            **({"uncertainty": self.uncertainty.to_dict()} if self.uncertainty is not None else {}),
        }

    def report(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        baselines: Mapping[str, Evaluation] | None = None,
        protocol: str | None = None,
        command: str | None = None,
        model_file: str | None = None,
    ) -> None:
        """Write one self-contained HTML file; `hatrix.evaluation.report.write` describes the parameters."""
        from hatrix.evaluation import report

        report.write(
            self,
            path,
            title=title,
            baselines=baselines,
            protocol=protocol,
            command=command,
            model_file=model_file,
        )

    def __repr__(self) -> str:
        low, high = self.intervals["rmse"]
        return (
            f"Evaluation({self.model.recipe.name} on {self.n:,} ratings: RMSE {self.rmse:.4f} "
            f"[{low:.4f}, {high:.4f}], MAE {self.mae:.4f})"
        )


@remembered(skip=2)
def evaluate(
    model: FactorModel, test: Ratings, *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = SEED
) -> Evaluation:
    """Evaluate a model on test ratings.

    Predictions are clipped to the model's rating scale; ``.raw`` has the errors without that. Ids are matched by
    label, so the test ratings may come from another file. Memory is a few numbers per test rating. Ratings on disk are gone
    through slice by slice; then the figures are of all of them, and tables and charts of an even sample.

    Parameters
    ----------
    model
        A fitted model.
    test
        Ratings that it was not trained on.
    bootstrap
        Draws behind the intervals.
    confidence
        Coverage of the intervals.
    seed
        Of the bootstrap, and of the sample.

    Raises
    ------
    DataError
        If the model is not fitted or only ranks, there are no test ratings, they are events without a rating, or
        errors are too large to be squared.
    ParameterError
        If ``bootstrap``, ``confidence`` or ``seed`` is out of range.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> split = hx.split.per_user(ratings)
    >>> result = hx.evaluate(hx.Bias().fit(split.train), split.test)
    >>> result.intervals["rmse"][0] < result.rmse < result.intervals["rmse"][1]
    True
    """
    if not isinstance(test, Ratings):
        raise DataError(
            f"the test data are a {type(test).__name__}: give Ratings, such as the .test of a split"
        )
    if not isinstance(model, FactorModel):
        hint = ": call its fit(train) and give the result" if isinstance(model, Algorithm) else ""
        raise DataError(f"the model is a {type(model).__name__}, not a fitted one{hint}")
    predictor = model.rating_model
    if predictor is None:
        raise DataError(
            f"{model.recipe.name} ranks items and predicts no ratings, so its scores have no error: measure it with "
            "hatrix.evaluate_ranking"
        )
    model = predictor
    if len(test) == 0:
        raise DataError("there are no ratings to evaluate on")
    if test.implicit:
        raise DataError("the test data are events without ratings: their errors mean nothing")
    if not (isinstance(confidence, Real) and 0 < confidence < 1):
        raise ParameterError(f"confidence is {confidence!r}: give a share between 0 and 1, such as 0.95")
    whole("seed", seed, 0)
    whole("bootstrap", bootstrap, 1, MOST_DRAWS)
    users, items = model.rows_of_ids(test)
    tally, raw_means, constant = Tally(test.user_count), Means(), Means()
    kept, outside, fallen = _Kept(test, seed), 0, 0
    for part in test.slices(rows=AT_ONCE):
        user, item, value = users[test.user[part]], items[test.item[part]], test.value[part]
        raw = model.predict_rows(user, item, times=None if test.time is None else test.time[part])
        error, raw_error = _clipped(raw, model.scale) - value, raw - value
        with np.errstate(over="ignore"):
            squares = float(np.square(error).mean() + np.square(raw_error).mean())
        if not isfinite(squares):
            raise DataError(
                f"errors as large as {np.abs(raw_error).max():.3g} cannot be squared: check the ratings, which go "
                f"from {value.min():.3g} to {value.max():.3g}"
            )
        tally.add(error, test.user[part])
        raw_means.add(raw_error)
        constant.add(model.fallback - value)
        if model.scale is not None:
            outside += int(np.count_nonzero((raw < model.scale[0]) | (raw > model.scale[1])))
        fallen += int(np.count_nonzero(model.is_fallback(user, item)))
        kept.add(part, user, item, raw)
    found, fallbacks = tally.errors, _fallbacks(model, test, users, items, fallen)
    warnings = _warnings(model, test, found, constant.errors, fallbacks)
    return Evaluation(
        model,
        *kept.rows(),
        len(test),
        *found,
        raw_means.errors,
        constant.errors,
        tally.intervals(draws=bootstrap, confidence=confidence, seed=seed),
        outside / len(test),
        fallbacks,
        tuple(warnings),
        confidence,
    )


class _Kept:
    """The test ratings that are kept, with their rows and predictions: all in memory, or an even sample of those on disk."""

    def __init__(self, test: Ratings, seed: int) -> None:
        self.test, self.place = test, None
        if test.disk is not None:
            size = min(SAMPLED, max(1, test.disk.memory // BYTES_PER_SAMPLED), len(test))
            ends = np.arange(size + 1) * len(test) // size
            self.place = np.random.default_rng(seed).integers(ends[:-1], ends[1:])
        self.parts: list[list[NDArray[Any]]] = []

    def add(self, part: slice, *found: NDArray[Any]) -> None:
        """What was found of a slice of the test ratings."""
        if self.place is None:
            self.parts.append([*found])
            return
        first, last = np.searchsorted(self.place, [part.start, part.stop])
        rows = self.place[first:last] - part.start
        self.parts.append([column[rows] for column in (*found, *(c[part] for c in self.test.columns))])

    def rows(self) -> tuple[Ratings, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The ratings kept, their rows in the model, and their raw predictions."""
        user, item, raw, *columns = (np.concatenate(pieces) for pieces in zip(*self.parts, strict=True))
        test = self.test
        if columns:
            test = replace(test, user=columns[0], item=columns[1], value=columns[2], disk=None)
            test = test if test.time is None else replace(test, time=columns[3])
        return test, user, item, raw


def _clipped(raw: NDArray[np.float64], scale: tuple[float, float] | None) -> NDArray[np.float64]:
    return raw if scale is None else np.clip(raw, *scale)


def _fallbacks(
    model: FactorModel, test: Ratings, users: NDArray[np.int64], items: NDArray[np.int64], fallen: int
) -> dict[str, float]:
    user, item = users[test.user_count > 0], items[test.item_count > 0]
    return {
        "unknown_users": int(np.count_nonzero(user < 0)),
        "unknown_items": int(np.count_nonzero(item < 0)),
        "cold_users": int(np.count_nonzero(model.user_count[user[user >= 0]] == 0)),
        "cold_items": int(np.count_nonzero(model.item_count[item[item >= 0]] == 0)),
        "share": fallen / len(test),
    }


def _warnings(
    model: FactorModel, test: Ratings, found: Errors, constant: Errors, fallbacks: Mapping[str, float]
) -> list[str]:
    said = []
    seen = 0 if model.seen is None else sum(int(np.count_nonzero(mask)) for _, mask in model.seen_among(test))
    if seen:
        said.append(
            f"overlap: {seen:,} of {len(test):,} test ratings are of a user and an item that the model was "
            "trained on, so the errors look better than they are"
        )
    if fallbacks["share"] > 0.05:
        said.append(
            f"cold: {fallbacks['share']:.1%} of the predictions are of users or items without training ratings and "
            "fall back to means and biases"
        )
    level = constant.rmse
    if found.rmse >= level * (1 - ROUNDING) > 0:
        said.append(
            f"worse-than-mean: RMSE {found.rmse:.4f} is no better than always predicting the training mean ({level:.4f})"
        )
    return said
