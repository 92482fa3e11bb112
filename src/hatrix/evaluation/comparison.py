"""What a comparison of models found: a table, tests of all pairs, charts, a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.split import Split
from hatrix.errors import ParameterError
from hatrix.evaluation.evaluate import Evaluation
from hatrix.evaluation.ranking import PER_USER, RankingEvaluation
from hatrix.models.fit import Algorithm
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    import os

    import altair as alt
    import pandas as pd

__all__ = ["LOWER_IS_BETTER", "RANKED", "RATED", "Comparison", "Entry", "order"]

RATED = ("rmse", "mae", "mse")
RANKED = (*PER_USER, "auc")
WHOLE_LISTS = ("coverage", "gini", "novelty", "diversity")
LOWER_IS_BETTER = frozenset(
    {*RATED, "train_seconds", "microseconds_per_user", "size_in_bytes", "epochs", "gini"}
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One model of a comparison.

    Attributes
    ----------
    name
        What it is called in the tables.
    recipe, model
        The recipe, and what was fitted; None where training failed.
    evaluation
        On the test part; None where training failed.
    baseline
        Whether it is there for the others to be held against.
    train_seconds
        Time of the fit without compiling; of a model that came fitted, what its history says.
    microseconds_per_user
        Time to score all items for one user and keep the ten best.
    size_in_bytes
        Of the learned arrays.
    train_rmse
        On (at most 200,000 of) the training ratings, for models of ratings.
    """

    name: str
    recipe: Algorithm
    baseline: bool
    model: FactorModel | None = None
    evaluation: Evaluation | RankingEvaluation | None = None
    train_seconds: float = np.nan
    microseconds_per_user: float = np.nan
    size_in_bytes: int = 0
    train_rmse: float = np.nan


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """A comparison of models; `hatrix.compare` makes it.

    Attributes
    ----------
    entries
        The models, the best first, those that failed last.
    metric
        What they are ordered and tested by.
    task
        ``"rating"`` or ``"ranking"``: what they were measured by.
    k
        Length of the lists, for rankings.
    differences
        A row for each pair of models: ``model``, ``other``, ``difference`` of the metric, its interval ``low`` and
        ``high``, ``p`` of the paired test, and ``p_holm``, corrected for the number of pairs.
    warnings
        What deserves attention, each beginning with a code (`hatrix.evaluation.cautions.CODES`).
    options
        The arguments that the function was called with, as code, for reports.
    """

    entries: tuple[Entry, ...]
    split: Split = field(repr=False)
    metric: str
    task: str
    k: int
    differences: pd.DataFrame
    warnings: tuple[str, ...]
    confidence: float
    seed: int
    options: Mapping[str, str | None] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Entry]:
        """The entries by their names."""
        return {entry.name: entry for entry in self.entries}

    def __getitem__(self, name: str) -> Entry:
        if name not in self.by_name:
            raise ParameterError(f"there is no model {name!r}: there are {', '.join(self.by_name)}")
        return self.by_name[name]

    @property
    def best(self) -> Entry:
        """The entry with the best value of the metric."""
        return self.entries[0]

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines."""
        return [entry.name for entry in self.entries if entry.baseline]

    def table(self) -> pd.DataFrame:
        """A row for each model: every metric with its interval, the tests, and what it costs.

        ``difference`` is from the best, ``p_best`` whether that may be chance, and ``p_`` with the name of a
        baseline the same against it; all corrected by Holm's method for all pairs of models.
        """
        import pandas as pd

        rows = []
        for entry in self.entries:
            found = entry.evaluation
            row: dict[str, Any] = {"model": entry.name} | _figures(found, self.k)
            row["difference"], row["p_best"] = self._against(entry, self.best)
            for name in self.baselines:
                row[f"p_{name}"] = self._against(entry, self[name])[1]
            row |= {
                "train_rmse": entry.train_rmse,
                "train_seconds": entry.train_seconds,
                "epochs": 0 if entry.model is None else len(entry.model.history),
                "microseconds_per_user": entry.microseconds_per_user,
                "size_in_bytes": entry.size_in_bytes,
                "baseline": entry.baseline,
            }
            rows.append(row)
        table = pd.DataFrame(rows).set_index("model")
        table = table.drop(columns=["train_rmse"]) if self.task == "ranking" else table
        table.attrs = {"metric": self.metric, "warnings": list(self.warnings)}
        return table

    def _against(self, entry: Entry, other: Entry) -> tuple[float, float]:
        """Difference and corrected p of two entries."""
        if entry is other or entry.evaluation is None or other.evaluation is None:
            return (0.0 if entry is other else np.nan), np.nan
        pairs = self.differences
        names = {entry.name, other.name}
        row = pairs[[{a, b} == names for a, b in zip(pairs["model"], pairs["other"], strict=True)]].iloc[0]
        sign = 1.0 if row["model"] == entry.name else -1.0
        return sign * float(row["difference"]), float(row["p_holm"])

    def chart(self, x: str = "train_seconds", y: str | None = None) -> alt.LayerChart:
        """One column of the table against another, a point for each model: accuracy against cost, say."""
        from hatrix.evaluation import search_charts

        return search_charts.tradeoff(self.table(), x=x, y=y or self.metric, confidence=self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        from hatrix.evaluation.records import records

        table = records(self.table().reset_index())
        for row in table:
            row["algorithm"] = self[row["model"]].recipe.name
            row["hyperparameters"] = self[row["model"]].recipe.model_dump(mode="json")
        return {
            "metric": self.metric,
            "task": self.task,
            "k": self.k if self.task == "ranking" else None,
            "data": self.split.train.name,
            "split": self.split.protocol,
            "n_train": len(self.split.train),
            "n_test": len(self.split.test),
            "seed": self.seed,
            "confidence": self.confidence,
            "best": self.best.name,
            "models": table,
            "differences": records(self.differences),
            "warnings": list(self.warnings),
        }

    def report(
        self, path: str | os.PathLike[str], *, title: str | None = None, command: str | None = None
    ) -> None:
        """Write one self-contained HTML file with the tables, the tests and the charts."""
        from hatrix.evaluation import report, search_story

        report.save(report.page(search_story.of_comparison(self, command=command), title=title), path)

    def _repr_html_(self) -> str:
        return str(self.table().to_html())

    def __repr__(self) -> str:
        ranks = ", ".join(
            f"{entry.name} {getattr(entry.evaluation, self.metric):.4f}"
            for entry in self.entries
            if entry.evaluation is not None
        )
        return f"Comparison({self.metric} on {self.split.train.name}, {self.split.protocol}: {ranks})"


def order(entry: Entry, metric: str) -> tuple[bool, float]:
    if entry.evaluation is None:
        return True, 0.0
    value = float(getattr(entry.evaluation, metric))
    return False, value if metric in LOWER_IS_BETTER else -value


def _figures(found: Evaluation | RankingEvaluation | None, k: int) -> dict[str, float]:
    """Every metric, and the ends of its interval where it has one."""
    if found is None:
        return {}
    names = RATED if isinstance(found, Evaluation) else (*RANKED, *WHOLE_LISTS)
    ends = found.intervals if isinstance(found, Evaluation) else found.intervals[k]
    row: dict[str, float] = {}
    for name in names:
        row[name] = float(getattr(found, name))
        if name in ends:
            row[f"{name}_low"], row[f"{name}_high"] = ends[name]
    return row
