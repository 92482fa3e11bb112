"""The data that a model was trained on, in figures and charts: how many, how sparse, how long a tail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.app.rows import histogram
from hatrix.evaluation import data_charts
from hatrix.evaluation.anatomy import by_count
from hatrix.evaluation.layout import figure

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.app.insight import Insight

    Counts = NDArray[np.int64]

__all__ = ["census", "gini", "lorenz"]

POINTS = 101


def lorenz(count: Counts) -> NDArray[np.float64]:
    """Share of the total that the least share p of entries has, for p = 0, 0.01 ... 1."""
    total = np.concatenate([[0.0], np.cumsum(np.sort(count), dtype=np.float64)])
    at = np.interp(np.linspace(0, len(count), POINTS), np.arange(len(count) + 1), total)
    share: NDArray[np.float64] = at / max(total[-1], 1.0)
    return share


def gini(count: Counts) -> float:
    """Gini index: 0 where all entries are equal, towards 1 where one has everything.

    ``Σ_i (2i - n - 1) x_i / (n Σ x)`` over the entries in ascending order, i from 1.

    Examples
    --------
    >>> gini(np.array([3, 3, 3])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    ordered, n = np.sort(count).astype(np.float64), len(count)
    if not n or not ordered[-1]:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def census(insight: Insight) -> dict[str, Any]:
    """What the screen about data shows."""
    model = insight.model
    users, items = model.user_count, model.item_count
    total, what = int(users.sum()), "rows" if model.scale is None else "ratings"
    tenth = -(-len(items) // 10)
    top = float(np.sort(items)[::-1][:tenth].sum()) / max(total, 1)
    facts = [
        ("Users", f"{len(users):,}"),
        ("Items", f"{len(items):,}"),
        (f"Training {what}", f"{total:,}"),
        ("Filled cells", f"{total / max(len(users) * len(items), 1):.3%}"),
        ("Empty cells", f"{1 - total / max(len(users) * len(items), 1):.3%}"),
        (f"{what.capitalize()} per user", _spread(users)),
        (f"{what.capitalize()} per item", _spread(items)),
        (f"Users without training {what}", f"{int((users == 0).sum()):,}"),
        (f"Items without training {what}", f"{int((items == 0).sum()):,}"),
        ("Gini index over items", f"{gini(items):.3f}"),
        ("Gini index over users", f"{gini(users):.3f}"),
        ("The tenth of items most rated", f"has {top:.1%} of the {what}"),
        ("Rating scale", "none" if model.scale is None else f"{model.scale[0]:g} to {model.scale[1]:g}"),
    ]
    if model.scale is not None:
        facts.append(("Mean rating", f"{model.fallback:.3f}"))
    if insight.test is not None:
        facts.append((f"Test {what}", f"{len(insight.test):,}"))
    return {
        "facts": [list(fact) for fact in facts],
        "words": f"{top:.0%} of the {what} are of the tenth of items that is rated most. A random pair of a user and an "
        f"item has been rated with a chance of {total / max(len(users) * len(items), 1):.2%}.",
        "figures": [shown._asdict() for shown in _figures(insight, what)],
        "read": _read(insight.recorded.get("read")),
        "unread": None
        if insight.recorded.get("read")
        else "How the source was read stands in the metrics.json that hatrix run writes beside the model; it is not here.",
    }


def _read(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """How the source was read; of its files the names alone, since where they lie is nobody's business."""
    if not report:
        return None
    errors = [[Path(str(file)).name, line, reason] for file, line, reason in report.get("errors", ())]
    return {**report, "errors": errors}


def _spread(count: Counts) -> str:
    if not len(count):
        return "none"
    low, middle, high = np.quantile(count, [0.1, 0.5, 0.9])
    return f"median {middle:,.0f}; {low:,.0f} to {high:,.0f} for eight in ten"


def _figures(insight: Insight, what: str) -> list[Any]:
    import pandas as pd

    model, shown = insight.model, []
    if model.seen is not None and model.scale is not None:
        chart = data_charts.counts(
            histogram(model.seen.value, insight.levels),
            of="training ratings",
            by="rating",
            description="Training ratings of each value",
        )
        shown.append(figure("values", "How often each rating was given", chart))
    curves = pd.concat(
        [_curve("items", model.item_count), _curve("users", model.user_count)], ignore_index=True
    )
    caption = f"The long tail: who has the {what}; dashed, if all had as many"
    shown.append(figure("tail", caption, data_charts.long_tail(curves)))
    for name, count in (("items", model.item_count), ("users", model.user_count)):
        part, labels = by_count(count)
        table = pd.DataFrame({"label": labels, "count": np.bincount(part, minlength=len(labels))})
        caption = f"{name.capitalize()} by how many training {what} they have"
        table = table[table["count"].cumsum() > 0]
        table = table[table["count"][::-1].cumsum()[::-1] > 0]
        chart = data_charts.counts(table, of=name, by=f"training {what}", description=caption)
        shown.append(figure(f"{name}-by-count", caption, chart))
    return shown


def _curve(what: str, count: Counts) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"what": what, "share": np.linspace(0, 1, POINTS), "ratings": lorenz(count)})
