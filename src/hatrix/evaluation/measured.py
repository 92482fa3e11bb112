"""The figures of a model on both tasks, predicted ratings and top-N lists, each beside the simplest model of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrix.errors import DataError
from hatrix.evaluation.cautions import of_lists
from hatrix.evaluation.evaluate import Evaluation, evaluate
from hatrix.evaluation.ranking import RankingEvaluation, evaluate_ranking
from hatrix.models import SEED
from hatrix.models.baseline import Bias, Popular
from hatrix.models.update import training_ratings

if TYPE_CHECKING:
    from hatrix.data.ratings import Ratings
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = ["LENGTHS", "Measured", "measure"]

LENGTHS = (20, 5, 10, 50)
"""Lengths of the lists that rankings are measured on; figures without a length are of the first."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What `measure` returns.

    Attributes
    ----------
    model
        The model.
    errors
        Errors of its predicted ratings; None where it predicts none, or the test part has none.
    lists
        Figures of its top-N lists; None where they were not measured.
    bias, popular
        The same of the baselines `Bias` and `Popular`; None where there is nothing to compare.
    """

    model: FactorModel
    errors: Evaluation | None = None
    lists: RankingEvaluation | None = None
    bias: Evaluation | None = None
    popular: RankingEvaluation | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def main(self) -> Evaluation | RankingEvaluation:
        """The errors, or the lists of a model that predicts no ratings."""
        found = self.errors or self.lists
        assert found is not None
        return found

    def baselines(self, of: Evaluation | RankingEvaluation) -> dict[str, Any]:
        """Return the baseline of one of the two evaluations by its name."""
        name, other = ("bias", self.bias) if of is self.errors else ("popular", self.popular)
        return {} if other is None else {name: other}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON: those of `main`, and beside errors those of lists under ``lists``."""
        facts = _figures(self.main, self.baselines(self.main))
        if self.lists is not None and self.lists is not self.main:
            facts["lists"] = _figures(self.lists, self.baselines(self.lists))
        of_lists = facts.get("lists", facts)
        of_lists["warnings"] += [note for note in self.warnings if note.startswith("H011")]
        return facts

    def report(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        protocol: str | None = None,
        command: str | None = None,
        model_file: str | None = None,
    ) -> None:
        """Write one self-contained HTML file about both tasks; `hatrix.evaluation.report.write` has the parameters."""
        from hatrix.evaluation import report

        report.write(self, path, title=title, protocol=protocol, command=command, model_file=model_file)


def measure(
    model: FactorModel,
    test: Ratings,
    *,
    train: Ratings | None = None,
    errors: bool = True,
    lists: bool = True,
    baselines: bool = True,
    k: Sequence[int] = LENGTHS,
    negatives: int | None = None,
    relevant_from: float | None = None,
    threads: int | None = None,
) -> Measured:
    """Measure a model on both tasks, as far as it and the test part allow.

    Parameters
    ----------
    model
        A fitted model.
    test
        Held-out ratings or clicks.
    train
        The training part, for the baselines; by default the training ratings that the model keeps.
    errors, lists
        Whether to measure predicted ratings, and top-N lists. Lists need the training ratings in the model.
    baselines
        Whether to measure `Bias` and `Popular` beside it, where the training ratings are known.
    k, negatives, relevant_from, threads
        As in `hatrix.evaluate_ranking`; lengths beyond the number of items are left out.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> split = hx.split.per_user(ratings)
    >>> both = measure(hx.Recommender().fit(split.train, progress=False), split.test)
    >>> bool(both.errors.rmse < 1 and both.lists.ndcg > 0)
    True
    """
    predictor = model.rating_model
    if train is None and model.seen is not None:
        train = training_ratings(model)
    lengths = [length for length in k if length <= len(model.items)] or [len(model.items)]

    def rated(one: FactorModel) -> Evaluation:
        return evaluate(one, test)

    def ranked(one: FactorModel) -> RankingEvaluation:
        return evaluate_ranking(
            one,
            test,
            k=lengths,
            negatives=negatives,
            relevant_from=relevant_from,
            exclude_seen=one.seen is not None,
            threads=threads,
        )

    def baseline(recipe: Algorithm) -> FactorModel | None:
        wanted = baselines and train is not None and recipe.name != model.recipe.name
        return recipe.fit(train, seed=SEED, threads=threads, progress=False) if wanted and train else None

    found: dict[str, Any] = {}
    if errors and predictor is not None and not test.implicit:
        found["errors"] = rated(predictor)
        other = baseline(Bias())
        found["bias"] = None if other is None else rated(other)
    unmeasured = []
    if lists or not found:
        try:
            found["lists"] = ranked(model)
            other = baseline(Popular())
            found["popular"] = None if other is None else ranked(other)
        except (
            DataError
        ) as error:  # held-out ratings on disk may be too many to rank, or none of a known user
            if not found:
                raise
            unmeasured = [f"lists were not measured: {error}"]
    said = [note for name in ("errors", "lists") if name in found for note in found[name].warnings]
    if found.get("popular") is not None:
        mine, other = (found[name].sums("ndcg", lengths[0]) for name in ("lists", "popular"))
        said += of_lists({model.recipe.name: (model.recipe, mine)}, other, lengths[0])
    return Measured(model, **found, warnings=tuple(dict.fromkeys([*said, *unmeasured])))


def _figures(found: Evaluation | RankingEvaluation, baselines: Mapping[str, Any]) -> dict[str, Any]:
    return found.to_dict() | {"baselines": {name: other.to_dict() for name, other in baselines.items()}}
