"""The pieces that a report is made of, as plain values, and how numbers and labels are written in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hatrix.evaluation.records import records

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Cell",
    "Figure",
    "Part",
    "Section",
    "Story",
    "Table",
    "Tile",
    "change",
    "columns",
    "figure",
    "named",
    "of_both",
    "short",
    "with_interval",
]

LONGEST = 160
FIT = {"type": "fit-x", "contains": "padding"}

Cell = str | tuple[str, str]


class Tile(NamedTuple):
    """One figure of the summary."""

    name: str
    value: str
    note: str = ""


class Table(NamedTuple):
    """Cells as text; a pair is a main line and a small one. ``head`` says of each column whether it is numeric.

    A folded table shows when the reader opens what ``folded`` says.
    """

    caption: str
    head: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]
    wide: bool = False
    folded: str = ""


class Figure(NamedTuple):
    """A chart with its place in the page and its caption."""

    key: str
    caption: str
    spec: dict[str, Any]


class Part(NamedTuple):
    """A piece of a section."""

    title: str = ""
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: Sequence[tuple[str, str]] = ()
    facts: Sequence[tuple[str, str]] = ()


class Section(NamedTuple):
    """A heading and what stands under it."""

    key: str
    short: str
    title: str
    words: Sequence[str]
    parts: Sequence[Part]


class Story(NamedTuple):
    """The whole report."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    findings: Sequence[str]
    warnings: Sequence[str]
    sections: Sequence[Section]


LISTS = "lists-"
"""Prefix of the keys of sections and charts about lists that stand beside those about ratings."""


def of_both(ratings: Story, lists: Story, last: Section) -> Story:
    """Return one story of two about the same model: how well it predicts ratings, what its lists are like, and ``last``."""

    def renamed(section: Section) -> Section:
        parts = [
            part._replace(figures=[one._replace(key=LISTS + one.key) for one in part.figures])
            for part in section.parts
        ]
        return section._replace(
            key=LISTS + section.key,
            short=f"Lists: {section.short.lower()}",
            title=f"Lists: {section.title[:1].lower()}{section.title[1:]}",
            parts=parts,
        )

    told = [renamed(section) for section in lists.sections if section.key != "reproduce"]
    return Story(
        title=lists.title,
        lead=f"{lists.lead} {ratings.lead}",
        tiles=[*ratings.tiles[:3], *lists.tiles[:3], *ratings.tiles[3:], *lists.tiles[3:]],
        findings=[*ratings.findings, *lists.findings],
        warnings=list(dict.fromkeys([*ratings.warnings, *lists.warnings])),
        sections=[*ratings.sections[:-1], *told, last],
    )


def named(row: Mapping[str, Any], name: str, label: str, note: str) -> Cell:
    """A title with its id and a note below it, or the id alone where there is no title."""
    title = row.get(name)
    return (
        (short(str(title)), f"{label} {short(str(row[label]))} · {note}")
        if title
        else (short(str(row[label])), note)
    )


def figure(key: str, caption: str, chart: Any) -> Figure:
    """The chart as JSON that fills the width of its place; the page holds the common look once."""
    spec = chart.to_dict(validate=False)
    spec.pop("config", None)
    return Figure(key, caption, spec | {"width": "container", "autosize": FIT})


def columns(
    table: pd.DataFrame, formats: Mapping[str, str], *, rest: str = ""
) -> tuple[list[tuple[str, bool]], list[list[Cell]]]:
    """Head and rows of a table, each column in its format; columns without one are left out unless ``rest``."""
    rows = records(table)
    names = [name for name in (rows[0] if rows else ()) if name in formats or rest]
    head = [(name.replace("_", " "), formats.get(name, rest) != "") for name in names]
    return head, [[cell(row[name], formats.get(name, rest)) for name in names] for row in rows]


def cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    return f"{value:{form}}" if form and isinstance(value, int | float) else short(str(value))


def short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def with_interval(value: float, interval: tuple[float, float] | None) -> Cell:
    if interval is None or not all(map(math.isfinite, interval)):
        return f"{value:.4f}"
    return f"{value:.4f}", f"{interval[0]:.3f}–{interval[1]:.3f}"


def change(value: float, other: float) -> str:
    return f"{100 * (value / other - 1):+.1f} %".replace("-", "−") if other > 0 else "–"
