"""What the report of a ranking says, in order, as `sections` does for predicted ratings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hatrix.evaluation import cautions, ranking_charts, search_charts, snippets
from hatrix.evaluation.layout import (
    Cell,
    Figure,
    Part,
    Section,
    Story,
    Table,
    Tile,
    change,
    columns,
    figure,
    with_interval,
)
from hatrix.evaluation.records import records
from hatrix.evaluation.search_charts import MEANINGS, title_of
from hatrix.evaluation.sections import facts_of, hyper_parameters, reproduce, seconds_of

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.evaluation.ranking import RankingEvaluation
    from hatrix.models.model import FactorModel

__all__ = ["headline", "label", "story", "training", "versus"]

FOLDED, MOST_EPOCHS = "The numbers", 100
FIGURES = ("ndcg", "recall", "precision", "hit_rate", "map", "mrr", "auc")
LISTS = ("coverage", "gini", "novelty", "diversity")
EXPLAINED = {
    "ndcg": "hits, discounted by rank, of what was possible",
    "recall": "share of a user's held-out items in the list",
    "precision": "share of the list that was held out",
    "hit_rate": "users with a hit in the list",
    "map": "precision at each hit, over all held-out items",
    "mrr": "one over the rank of the first hit",
    "auc": "share of pairs of a held-out and another item in the right order",
    "coverage": "share of all items in anybody's list",
    "gini": "0: all items are shown alike; 1: always the same ones",
    "novelty": "bits: how rare shown items are among training users",
    "diversity": "how little the items of a list share their users",
}
ENOUGH = 30


def story(
    evaluation: RankingEvaluation,
    baselines: Mapping[str, RankingEvaluation],
    *,
    protocol: str | None = None,
    command: str | None = None,
    model_file: str | None = None,
) -> Story:
    """Everything the report says about a ranking; `hatrix.evaluation.report.write` describes the rest."""
    model = evaluation.model
    name = type(model.recipe).__name__
    return Story(
        title=f"{name} on {model.data_name}",
        lead=f"{name} was trained on {int(model.user_count.sum()):,} rows of {len(model.users):,} users and "
        f"{len(model.items):,} items, and ranked items for {evaluation.n:,} users with {int(evaluation.relevant.sum()):,} "
        f"held-out ones: {evaluation.protocol}" + (f" ({protocol})." if protocol else "."),
        tiles=_tiles(evaluation, baselines),
        findings=[headline(evaluation), *versus(evaluation, baselines), *_who(evaluation)],
        warnings=[*evaluation.warnings, *cautions.of_notes(model.notes)],
        sections=[
            _run(evaluation, baselines, protocol),
            training(model),
            *_lengths(evaluation, baselines),
            _users(evaluation),
            _items(evaluation),
            reproduce(snippets.of_evaluation(evaluation, "hx.evaluate_ranking", model=model_file), command),
        ],
    )


def label(name: str, k: int) -> str:
    """A figure as it is called in text: ``NDCG@20``."""
    written = MEANINGS.get(name, name)
    return written if name == "auc" else f"{written}@{k}"


def headline(evaluation: RankingEvaluation) -> str:
    """What a user finds in a list."""
    k = evaluation.k[0]
    low, high = evaluation.intervals[k]["ndcg"]
    ends = (
        f" ({evaluation.coverage_in_words} interval {low:.4f} to {high:.4f})"
        if math.isfinite(low + high)
        else ""
    )
    return (
        f"In lists of {k}, {evaluation.hit_rate:.1%} of the {evaluation.n:,} users find something that was held out, on "
        f"average {evaluation.recall:.1%} of it. NDCG@{k} is {evaluation.ndcg:.4f}{ends}."
    )


def versus(evaluation: RankingEvaluation, baselines: Mapping[str, RankingEvaluation]) -> list[str]:
    """How NDCG compares with each baseline's."""
    sentences, mine, k = [], evaluation.ndcg, evaluation.k[0]
    for name, other in baselines.items():
        if mine == other.ndcg:
            sentences.append(f"That is as good as {name}.")
        elif other.ndcg == 0:
            sentences.append(f"{name} finds nothing.")
        else:
            word = "better" if mine > other.ndcg else "worse"
            by = abs(mine / other.ndcg - 1)
            sentences.append(f"That is {by:.0%} {word} than {name} (NDCG@{k} {other.ndcg:.4f}).")
    return sentences


def _who(evaluation: RankingEvaluation) -> list[str]:
    """For whom it works best and worst, and which items are shown, where that is no chance."""
    said = []
    parts = [row for row in records(evaluation.by_activity) if row["count"] >= ENOUGH]
    if len(parts) > 1:
        best, worst = max(parts, key=lambda row: row["ndcg"]), min(parts, key=lambda row: row["ndcg"])
        if None not in (worst["high"], best["low"]) and worst["high"] < best["low"]:
            said.append(
                f"It is best for users with {best['slice']} training rows (NDCG {best['ndcg']:.3f}) and worst for those "
                f"with {worst['slice']} ({worst['ndcg']:.3f})."
            )
    said.append(
        f"Its lists hold {evaluation.coverage:.1%} of the items. The Gini index of their places is {evaluation.gini:.2f}, "
        "where 0 is all items alike and 1 always the same few."
    )
    return said


def _tiles(evaluation: RankingEvaluation, baselines: Mapping[str, RankingEvaluation]) -> list[Tile]:
    k = evaluation.k[0]
    tiles = []
    for name in ("ndcg", "recall", "hit_rate"):
        low, high = evaluation.intervals[k][name]
        note = f"{evaluation.coverage_in_words} interval {low:.3f} to {high:.3f}" if low <= high else ""
        tiles.append(Tile(label(name, k), f"{getattr(evaluation, name):.4f}", note))
    for name, other in baselines.items():
        tiles.append(
            Tile(f"Against {name}", change(evaluation.ndcg, other.ndcg), f"NDCG@{k} {other.ndcg:.4f}")
        )
    seconds = seconds_of(evaluation.model.history)
    if seconds is not None:
        tiles.append(Tile("Training", f"{seconds:.3g} s", f"{len(evaluation.model.history):,} epochs"))
    return tiles


def _run(
    evaluation: RankingEvaluation, baselines: Mapping[str, RankingEvaluation], protocol: str | None
) -> Section:
    model, k = evaluation.model, evaluation.k[0]
    left_out = evaluation.left_out
    facts = facts_of(model, len(evaluation.test), protocol)
    facts[3:3] = [
        ("Ranking", evaluation.protocol),
        ("Users evaluated", f"{evaluation.n:,}, of them without training rows {left_out['cold_users']:,}"),
        ("Unknown users left out", f"{left_out['unknown_users']:,}"),
        ("Unknown items, counted as missed", f"{left_out['unknown_items']:,}"),
    ]
    models = {type(model.recipe).__name__: evaluation, **baselines}
    head = [("figure", False), *((name, True) for name in models)]
    means: list[list[Cell]] = [
        [
            (label(name, k), EXPLAINED[name]),
            *(with_interval(getattr(one, name), one.intervals[k][name]) for one in models.values()),
        ]
        for name in FIGURES
    ]
    lists: list[list[Cell]] = [
        [(label(name, k), EXPLAINED[name]), *(_figure(getattr(one, name)) for one in models.values())]
        for name in LISTS
    ]
    intervals = f"with {evaluation.coverage_in_words} intervals"
    parts = [
        Part(facts=facts),
        Part(tables=[Table(f"Means over users, {evaluation.protocol}, {intervals}", head, means)]),
        Part(tables=[Table("What the lists are like together", head, lists)]),
        *hyper_parameters(model),
    ]
    return Section("run", "The run", "What was done", (), parts)


def _figure(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def training(model: FactorModel) -> Section:
    """The objective and the validation by epoch."""
    history = model.history
    if not len(history):
        return Section("training", "Training", "How it learned", ("The model has no training history.",), ())
    figures: list[Figure] = []
    for column, what in (("objective", "objective"), ("valid_ndcg", title_of("valid_ndcg"))):
        if len(history) > 1 and column in history:
            chart = ranking_charts.progress(history, column=column, what=what)
            figures.append(figure(f"history-{column}", f"{what[0].upper()}{what[1:]} by epoch", chart))
    shown = history.iloc[:: -(-len(history) // MOST_EPOCHS)]
    formats = {"epoch": ",", "seconds": ".2f"}
    table = Table("Training history", *columns(shown, formats, rest=".5g"), folded=FOLDED)
    words = f"Training took {len(history):,} epoch{'' if len(history) == 1 else 's'}."
    if "valid_ndcg" in history:
        best = int(history["valid_ndcg"].argmax())
        words += f" Validation was best after epoch {best + 1:,} ({history['valid_ndcg'].iloc[best]:.4f})"
        kept = getattr(model.recipe, "patience", None) is not None
        words += ", and the model is the one of that epoch." if kept else "."
    return Section("training", "Training", "How it learned", [words], [Part(figures=figures, tables=[table])])


def _lengths(evaluation: RankingEvaluation, baselines: Mapping[str, RankingEvaluation]) -> list[Section]:
    """Figures by the length of the lists, where there are several."""
    if len(evaluation.k) < 2:
        return []
    import pandas as pd

    models = {type(evaluation.model.recipe).__name__: evaluation, **baselines}
    figures, tables = [], []
    for name in ("ndcg", "recall", "precision", "hit_rate"):
        rows = [
            {"model": title, "k": k, "value": one.mean(name, k), "low": ends[0], "high": ends[1]}
            for title, one in models.items()
            for k in sorted(one.k)
            for ends in [one.intervals[k][name]]
        ]
        table, what = pd.DataFrame(rows), MEANINGS.get(name, name)
        caption = f"{what[0].upper()}{what[1:]}, with {evaluation.coverage_in_words} intervals"
        figures.append(figure(f"length-{name}", caption, ranking_charts.by_length(table, what=what)))
        tables.append(
            Table(caption, *columns(table, {"model": "", "k": ","}, rest=".4f"), folded=f"{FOLDED}: {what}")
        )
    part = Part(figures=figures, tables=tables)
    return [Section("lengths", "List length", "By length of the list", (), [part])]


def _users(evaluation: RankingEvaluation) -> Section:
    table, k = evaluation.by_activity, evaluation.k[0]
    words = "Users are parted by how many training rows they have; slices of fewer than 30 users are grey."
    return Section(
        "users",
        "Users",
        "By user activity",
        (words,),
        [
            _slices(
                evaluation, table, "ndcg", f"NDCG@{k}", "training rows of the user", evaluation.ndcg, "users"
            )
        ],
    )


def _items(evaluation: RankingEvaluation) -> Section:
    table, k = evaluation.by_popularity, evaluation.k[0]
    words = (
        "Held-out rows are parted by how many training rows their item has. Found is the share of them that is in "
        "the list of its user; recommended is the share of the places of all lists. A list leans to the popular where "
        "popular items have a larger share of its places than of what was held out."
    )
    found = _slices(evaluation, table, "found", f"found in {k}", "training rows of the item", None, "items")
    chart = figure(
        "popularity",
        "What is held out and what is recommended, by popularity",
        ranking_charts.popularity(table),
    )
    return Section("items", "Items", "By item popularity", (words,), [found, Part(figures=[chart])])


def _slices(
    evaluation: RankingEvaluation,
    table: pd.DataFrame,
    column: str,
    what: str,
    by: str,
    line: float | None,
    key: str,
) -> Part:
    rows = [
        {"label": row["slice"], "value": row[column], "low": row["low"], "high": row["high"]}
        | {"pale": row["count"] < ENOUGH}
        for row in records(table)
    ]
    caption = f"{what[0].upper()}{what[1:]} by {by}, with {evaluation.coverage_in_words} intervals"
    caption += "; dashed: all users" if line is not None else ""
    chart = search_charts.intervals(rows, what=what, by=by, line=line)
    numbers = Table(caption, *columns(table, {"slice": "", "count": ","}, rest=".4f"), folded=FOLDED)
    return Part("", (), [figure(f"by-{key}", caption, chart)], [numbers])
