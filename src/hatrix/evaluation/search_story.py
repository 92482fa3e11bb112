"""What the pages of comparisons and searches say: tables and charts of them, in order, as `sections` does for one model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hatrix.evaluation import search_charts, snippets
from hatrix.evaluation.layout import (
    Cell,
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

if TYPE_CHECKING:
    from hatrix.evaluation.comparison import Comparison
    from hatrix.evaluation.tune import Tuning

__all__ = ["bytes_in_words", "found_in_words", "of_comparison", "of_search", "p_in_words", "verdicts"]

LEVEL = 0.05
FOLDED = "The numbers"
SHOWN = {
    "rating": ("rmse", "mae"),
    "ranking": ("ndcg", "recall", "precision", "map", "mrr", "auc", "coverage"),
}
TEST = (
    "The test is Student's paired t-test over users, on the difference of each user's part in the figure; p is "
    "corrected by Holm's method over all pairs of models, so that it also holds for the best, which is known as such "
    "from the same test part."
)


def of_comparison(result: Comparison, *, command: str | None = None) -> Story:
    """Everything the page of a comparison says."""
    table = records(result.table().reset_index())
    best, name = table[0], _name(result)
    n_train, n_test = len(result.split.train), len(result.split.test)
    tiles = [Tile(f"Best {name}", f"{best[result.metric]:.4f}", best["model"])]
    for baseline in result.baselines:
        other = getattr(result[baseline].evaluation, result.metric)
        if baseline != best["model"]:
            tiles.append(
                Tile(f"Against {baseline}", change(best[result.metric], other), f"{name} {other:.4f}")
            )
    recipes = [row for row in table if not row["baseline"] and row["train_seconds"] is not None]
    if recipes:
        quickest = min(recipes, key=lambda row: row["train_seconds"])
        tiles.append(Tile("Quickest to train", f"{quickest['train_seconds']:.3g} s", quickest["model"]))
    return Story(
        title=f"{len(table)} models on {result.split.train.name}",
        lead=f"All were trained on the same {n_train:,} ratings and tested on the same {n_test:,} others "
        f"({result.split.protocol}), seed {result.seed}.",
        tiles=tiles,
        findings=verdicts(result),
        warnings=list(result.warnings),
        sections=[
            _models(result, table),
            _pairs(result),
            _costs(result, table),
            _recipes(result),
            _again(result, command),
        ],
    )


def verdicts(result: Comparison) -> list[str]:
    """What the tests say in plain language: of the best against each other model."""
    best, name, said = result.best.name, _name(result), []
    level, sure, open_ = [], [], []
    for row in records(result.table().reset_index())[1:]:
        if row["p_best"] is None:
            continue
        text = f"{row['model']} by {abs(row['difference']):.4f}"
        if row["p_best"] < LEVEL:
            sure.append(text)
        elif row["difference"] == 0:
            level.append(row["model"])
        else:
            open_.append(f"{text} (p = {p_in_words(row['p_best'])})")
    if sure:
        said.append(f"{best} has the best {name} and beats {_listed(sure)} beyond chance (p < {LEVEL:g}).")
    if open_:
        said.append(f"{best} is ahead of {_listed(open_)}, which may be chance.")
    if level:
        said.append(f"{_listed(level)} {'does' if len(level) == 1 else 'do'} as well as {best}.")
    return said


def p_in_words(p: float | None) -> str:
    """A p-value as papers print it."""
    if p is None or math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def bytes_in_words(size: float) -> str:
    """``3.1 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _name(result: Comparison) -> str:
    name = search_charts.MEANINGS.get(result.metric, result.metric)
    return f"{name}@{result.k}" if result.task == "ranking" and result.metric != "auc" else name


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _models(result: Comparison, table: list[dict[str, Any]]) -> Section:
    at = f" (at {result.k})" if result.task == "ranking" else ""
    shown = dict.fromkeys([result.metric, *SHOWN[result.task]])
    against = [f"p_{name}" for name in result.baselines]
    head = [("model", False), *((search_charts.MEANINGS.get(name, name), True) for name in shown)]
    head += [("p against the best", True), *((f"p against {name}", True) for name in result.baselines)]
    rows: list[list[Cell]] = []
    for row in table:
        line: list[Cell] = [(row["model"], "baseline") if row["baseline"] else row["model"]]
        for name in shown:
            ends = [row.get(f"{name}_{end}") for end in ("low", "high")]
            known = row.get(name) is not None and None not in ends
            line.append(
                with_interval(row[name], (ends[0], ends[1]))  # type: ignore[arg-type]
                if known
                else "–"
                if row.get(name) is None
                else f"{row[name]:.4f}"
            )
        rows.append(line + [p_in_words(row[column]) for column in ("p_best", *against)])
    coverage = f"{100 * result.confidence:g} %"
    dots = [
        {
            "label": row["model"],
            "value": row[result.metric],
            "low": row.get(f"{result.metric}_low"),
            "high": row.get(f"{result.metric}_high"),
            "pale": row["baseline"],
        }
        for row in table
        if row.get(result.metric) is not None
    ]
    chart = search_charts.intervals(dots, what=result.metric)
    return Section(
        "models",
        "Models",
        "The models",
        (
            "Intervals are of each figure by itself: two models whose intervals overlap can still differ beyond "
            f"chance, as they are tested on the same users. {TEST}",
        ),
        [
            Part(
                figures=[
                    figure(
                        "figures-of-models",
                        f"{_name(result)} with {coverage} intervals; grey: baselines",
                        chart,
                    )
                ]
            ),
            Part(
                tables=[
                    Table(f"Figures on the test part{at}, with {coverage} intervals", head, rows, wide=True)
                ]
            ),
        ],
    )


def _pairs(result: Comparison) -> Section:
    head = [("model", False), ("other", False), (f"difference in {_name(result)}", True), ("p", True)]
    head.append(("p, corrected", True))
    rows: list[list[Cell]] = []
    for row in records(result.differences):
        ends = None if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}".replace("-", "−")
        value = f"{row['difference']:+.4f}".replace("-", "−")
        rows.append(
            [
                row["model"],
                row["other"],
                (value, ends) if ends else value,
                p_in_words(row["p"]),
                p_in_words(row["p_holm"]),
            ]
        )
    coverage = f"{100 * result.confidence:g} %"
    table = Table(f"Model − other, with {coverage} intervals of the difference", head, rows, wide=True)
    return Section("pairs", "Pairs", "Every pair", (), [Part(tables=[table])])


def _costs(result: Comparison, table: list[dict[str, Any]]) -> Section:
    pairs = [("train_seconds", result.metric), ("microseconds_per_user", result.metric)]
    if result.task == "ranking":
        pairs.append(("coverage", "recall"))
    figures = []
    for x, y in pairs:
        if any(row.get(x) is not None for row in table):
            chart = result.chart(x, y)
            words = f"{search_charts.MEANINGS.get(y, y)} against {search_charts.MEANINGS.get(x, x)}"
            figures.append(figure(f"{y}-{x}", words, chart))
    head = [
        ("model", False),
        ("training", True),
        ("epochs", True),
        ("ten items for a user", True),
        ("size", True),
    ]
    rows: list[list[Cell]] = [
        [
            row["model"],
            "–" if row["train_seconds"] is None else f"{row['train_seconds']:.3g} s",
            f"{row['epochs']:,}",
            "–" if row["microseconds_per_user"] is None else f"{row['microseconds_per_user']:.3g} µs",
            bytes_in_words(row["size_in_bytes"]),
        ]
        for row in table
    ]
    words = (
        "Training does not count compiling. Listing is the median of five runs over a batch of users, training items "
        "left out. The size is that of the learned arrays."
    )
    return Section(
        "costs",
        "Costs",
        "What they cost",
        (words,),
        [Part(figures=figures), Part(tables=[Table("Costs", head, rows)])],
    )


def _recipes(result: Comparison) -> Section:
    rows: list[list[Cell]] = []
    for entry in result.entries:
        values = entry.recipe.model_dump(mode="json")
        changed = entry.recipe.model_dump(mode="json", exclude_defaults=True)
        told = ", ".join(f"{name} {value}" for name, value in values.items()) or "none"
        rows.append([entry.name, entry.recipe.name, ", ".join(changed) or "none", told])
    head = [("model", False), ("algorithm", False), ("changed", False), ("hyper-parameters", False)]
    return Section(
        "recipes",
        "Recipes",
        "The recipes",
        (),
        [Part(tables=[Table("Hyper-parameters", head, rows, wide=True)])],
    )


def _again(result: Comparison, command: str | None) -> Section:
    code = [("On the command line", command)] if command else []
    code.append(("In Python", snippets.of_comparison(result)))
    return Section("reproduce", "Reproduce", "How to reproduce it", (), [Part(code=code)])


def of_search(result: Tuning, *, command: str | None = None) -> Story:
    """Everything the page of a search says."""
    name, start = search_charts.title_of(result.metric), float(result.trials["value"].iloc[0])
    states = result.trials["state"].value_counts()
    seconds = float(result.trials["seconds"].sum())
    ended = ", ".join(f"{count:,} {state}" for state, count in states.items())
    return Story(
        title=f"Tuning {type(result.best).__name__} on {result.data}",
        lead=f"{len(result.trials):,} trials were fitted to {result.n_train:,} ratings and validated on {result.n_valid:,} "
        f"others; none saw test ratings. Seed {result.seed}.",
        tiles=[
            Tile(f"Best {name}", f"{result.value:.4f}", f"trial {_best_number(result)}"),
            Tile(
                "The recipe as given",
                "failed" if math.isnan(start) else f"{start:.4f}",
                change(result.value, start),
            ),
            Tile("Trials", f"{len(result.trials):,}", ended),
            Tile("Time of the trials", f"{seconds:.3g} s"),
        ],
        findings=[found_in_words(result)],
        warnings=[*result.warnings, *result.notes],
        sections=[_found(result), _course(result), _knobs(result), _again_search(result, command)],
    )


def found_in_words(result: Tuning) -> str:
    """What the search gained, and that the figure was chosen."""
    start = float(result.trials["value"].iloc[0])
    gain = "" if math.isnan(start) else f", from {start:.4f} with the recipe as given"
    if start == result.value:
        gain = ", which is that of the recipe as given: no other was better"
    elif result.gain is not None and math.isfinite(result.gain.low):
        gain += (
            f": better by {result.gain.value:.4f}, and with 95 % confidence by {result.gain.low:.4f} to "
            f"{result.gain.high:.4f} on users like these"
        )
    name = search_charts.title_of(result.metric)
    return (
        f"The best of {len(result.trials):,} trials has a {name} of {result.value:.4f}{gain}. It is the best of "
        "many on one part of the ratings: expect a little less on others."
    )


def _best_number(result: Tuning) -> Any:
    done = [row for row in records(result.trials) if row["state"] == "complete"]
    return next(row["number"] for row in done if row["value"] == result.value)


def _found(result: Tuning) -> Section:
    rows: list[list[Cell]] = []
    for name in result.best.hyper_parameters(result.task):
        given, best = result.start.value_of(name), result.best.value_of(name)
        where = str(result.space[name]) if name in result.space else "not searched"
        if name in result.values and name not in result.space:
            where = "best of the validation"
        rows.append([name, _value(best), _value(given), where])
    head = [("hyper-parameter", False), ("found", True), ("given", True), ("searched", False)]
    return Section(
        "found", "Found", "What was found", (), [Part(tables=[Table("Hyper-parameters", head, rows)])]
    )


def _value(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _course(result: Tuning) -> Section:
    formats = {"number": ",", "state": "", "value": ".5f", "epochs": ",", "seconds": ".2f"}
    formats |= dict.fromkeys(result.space, ".4g")
    trials = Table("All trials", *columns(result.trials, formats), wide=True, folded=FOLDED)
    words = (
        "A pruned trial was worse at some epoch than half of those before it; it stands at the best it had reached. Far "
        "outliers lie outside the frame."
    )
    caption = f"{search_charts.title_of(result.metric)} of each trial; the line is the best so far"
    return Section(
        "course",
        "Course",
        "The course of the search",
        (words,),
        [Part(figures=[figure("trials", caption, result.chart())], tables=[trials])],
    )


def _knobs(result: Tuning) -> Section:
    name = search_charts.title_of(result.metric)
    figures = [
        figure(
            f"knob-{knob}", f"{name} against {knob.replace('_', ' ')}; the best is orange", result.chart(knob)
        )
        for knob in result.space
    ]
    return Section(
        "knobs",
        "Hyper-parameters",
        "Each hyper-parameter",
        (
            "Complete trials only. All hyper-parameters differ between trials, so a point is not due to one alone.",
        ),
        [Part(figures=figures)],
    )


def _again_search(result: Tuning, command: str | None) -> Section:
    code = [("On the command line", command)] if command else []
    code.append(("In Python", snippets.of_search(result)))
    return Section("reproduce", "Reproduce", "How to reproduce it", (), [Part(code=code)])
