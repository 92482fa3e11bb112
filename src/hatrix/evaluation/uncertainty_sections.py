"""What the report says of a posterior: coverage, examples of intervals and of stars' probabilities, the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatrix.evaluation import uncertainty_charts as charts
from hatrix.evaluation.layout import Part, Section, Table, Tile, columns, figure, short
from hatrix.evaluation.uncertainty import LEVEL

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.evaluation.evaluate import Evaluation
    from hatrix.evaluation.uncertainty import Uncertainty

__all__ = ["section", "tile"]

FOLDED = "The numbers"


def tile(found: Uncertainty) -> Tile:
    """Coverage in the summary."""
    figures = found.figures
    return Tile(
        f"Covered by {LEVEL:.0%} intervals", f"{figures['covered']:.1%}", f"mean width {figures['width']:.2f}"
    )


def section(evaluation: Evaluation, unit: str) -> Section:
    """How sure the model is, and whether rightly."""
    found = evaluation.uncertainty
    assert found is not None
    return Section(
        "sure",
        "How sure",
        "How sure it is",
        [_words(found)],
        [_calibration(found, evaluation.coverage), _examples(found, unit), *_trace(evaluation, unit)],
    )


def _words(found: Uncertainty) -> str:
    figures, parts = found.figures, found.by_activity["covered"]
    constant = figures["constant_score"]
    compared = "and intervals of no width would do, since every prediction is exact"
    if constant > 0:
        narrower = 1 - figures["score"] / constant
        compared = (
            f"{abs(narrower):.1%} {'better' if narrower > 0 else 'worse'} than that of the best intervals of one width for "
            f"all ({constant:.3f})"
        )
    held = found.to_dict()["calibrated_on"]
    return (
        f"Of the test ratings, {figures['covered']:.1%} lie inside their {LEVEL:.0%} interval, from {parts.min():.1%} to "
        f"{parts.max():.1%} in parts by the activity of the user. The intervals are {figures['width']:.2f} wide on average; "
        f"their interval score (width, and a penalty for each rating outside) is {figures['score']:.3f}, {compared}."
        + (f" They were calibrated on {held:,} held-out ratings." if held else "")
    )


def _calibration(found: Uncertainty, coverage: str) -> Part:
    level, activity = found.by_level, found.by_activity
    return Part(
        "What the intervals cover",
        (),
        [
            figure(
                "coverage",
                "Share of test ratings inside their interval; dashed: as it should be",
                charts.coverage(level),
            ),
            figure(
                "coverage-by-activity",
                f"The same at {LEVEL:.0%} by the user's training ratings, with {coverage} intervals",
                charts.coverage_by(activity, by="user has", level=LEVEL),
            ),
            figure(
                "predicted-place",
                "Test ratings by their place in the predicted distribution; dashed: where that is right",
                charts.histogram(found.histogram),
            ),
        ],
        [
            Table("By level", *columns(level, {"level": ".0%", "covered": ".1%"}, rest=".3f"), folded=FOLDED),
            Table(
                "By activity",
                *columns(
                    activity,
                    {"slice": "", "count": ",", "width": ".3f"},
                    rest=".1%",
                ),
                folded=FOLDED,
            ),
        ],
    )


def _examples(found: Uncertainty, unit: str) -> Part:
    table = found.examples
    names = table["title"].where(table["title"].notna(), table["item"]).astype(str).str.slice(0, 34)
    label = [short(f"{name} · {user}") for name, user in zip(names, table["user"], strict=True)]
    figures = [
        figure(
            "intervals",
            "Test ratings from the narrowest interval to the widest: item · user",
            charts.examples(table.assign(label=label), level=LEVEL, unit=unit),
        )
    ]
    if found.stars is not None:
        figures.append(
            figure(
                "stars",
                "Probability of each rating for the same; framed: the actual one",
                charts.stars(_long(found.stars, label, table["rating"]), unit=unit),
            )
        )
    return Part("Examples", (), figures)


def _long(stars: pd.DataFrame, label: list[str], actual: pd.Series[float]) -> pd.DataFrame:
    """A row per example and rating."""
    long = stars.assign(label=label, actual=actual).melt(
        ["label", "actual"], var_name="rating", value_name="probability"
    )
    return long.assign(actual=(long["actual"] == long["rating"]).astype(int))


def _trace(evaluation: Evaluation, unit: str) -> list[Part]:
    history, recipe = evaluation.model.history, evaluation.model.recipe
    if len(history) < 2:
        return []
    # The noise of an ordered probit is 1 by definition.
    told = "noise" if "noise" in history and history["noise"].nunique() > 1 else "train_mse"
    what = {"noise": "Noise drawn in each epoch", "train_mse": "Error on the training ratings of each draw"}[
        told
    ]
    chart = charts.trace(
        history.assign(value=history["noise"] if told == "noise" else history["train_mse"] ** 0.5),
        title=f"{'noise' if told == 'noise' else 'RMSE'} ({unit})",
        burn_in=int(getattr(recipe, "burn_in", 0)),
    )
    words = "The chain has settled where the line only trembles. Draws before the dashed line are not used."
    return [Part("Trace of the posterior", [words], [figure("trace", what, chart)])]
