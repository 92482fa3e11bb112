"""Sentences that say in plain language what the tables of an evaluation show; each is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hatrix.evaluation.records import records

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "calibrated",
    "headline",
    "ranged",
    "residual",
    "rounded",
    "sliced",
    "trained",
    "unit_of",
    "versus",
]

ENOUGH = 30


def unit_of(scale: tuple[float, float] | None) -> str:
    """What ratings on this scale are counted in: stars where the best is 5, else points."""
    return "stars" if scale is not None and scale[1] == 5 else "points"


def headline(evaluation: Any) -> str:
    """RMSE with its interval, and the mean miss."""
    unit = unit_of(evaluation.model.scale)
    low, high = evaluation.intervals.get("rmse", (math.nan, math.nan))
    interval = (
        f" ({evaluation.coverage} interval {low:.3f} to {high:.3f})" if math.isfinite(low + high) else ""
    )
    return (
        f"On {_many(evaluation.n, 'test rating')}, predictions have a root mean squared error (RMSE) of "
        f"{evaluation.rmse:.3f} {unit}{interval} and miss by {evaluation.mae:.2f} {unit} on average."
    )


def versus(rmse: float, baselines: Mapping[str, float]) -> list[str]:
    """How the error compares with each baseline's."""
    sentences = []
    for name, other in baselines.items():
        if abs(rmse - other) < 0.0005 * max(rmse, other) or rmse == other:
            sentences.append(f"That is as much error as {name} makes ({other:.3f}).")
        else:
            by = f"{abs(rmse / other - 1):.1%} " if other > 0 else ""
            word = "less" if rmse < other else "more"
            sentences.append(f"That is {by}{word} error than {name} makes ({other:.3f}).")
    return sentences


def trained(history: pd.DataFrame, *, restored: bool = False) -> str:
    """What the loss curve shows: the fall, the best epoch (``restored`` as the result), how it ended."""
    epochs = records(history)
    words = f"Training took {_many(len(epochs), 'epoch')}"
    if epochs[-1].get("seconds") is not None:
        words += f" and {epochs[-1]['seconds']:.2g} s"
    train = [math.sqrt(row["train_mse"]) for row in epochs if row.get("train_mse") is not None]
    valid = {row["epoch"]: row["valid_rmse"] for row in epochs if row.get("valid_rmse") is not None}
    if len(train) > 1:
        words += f"; the RMSE on the training ratings went from {train[0]:.3f} to {train[-1]:.3f}"
    if valid:
        best = min(valid, key=lambda epoch: valid[epoch])
        words += f". Validation was best after epoch {best:,} ({valid[best]:.4f})"
        last = list(valid)[-1]
        if best == last and len(valid) > 1:
            words += ", the last: more epochs may help"
        elif valid[last] > valid[best] * 1.0005:
            words += f" and worse in the end ({valid[last]:.4f}): from there on it learned noise"
        if restored:
            words += ". The model is the one of that epoch"
    elif len(train) > 9:
        tenth = len(train) // 10
        before = train[-1 - tenth]
        fall = 1 - train[-1] / before if before else 0.0
        if fall > 0.01:
            words += (
                f", still falling by {fall:.1%} in the last {_many(tenth, 'epoch')}; validation ratings would "
                "tell whether more epochs help"
            )
    return f"{words}."


def sliced(table: pd.DataFrame, what: str, unit: str) -> str:
    """Which part has the largest error and which the smallest, how they lean, and whether that may be chance.

    ``what`` names a part, with ``{}`` in the place of its label: ``"users with {} ratings"``. Parts of fewer than
    30 ratings are left aside where there are larger ones.
    """
    parts = _large(table)
    if not parts:
        return ""
    worst, best = max(parts, key=lambda row: row["rmse"]), min(parts, key=lambda row: row["rmse"])
    if len(parts) == 1:
        return f"All are {what.format(worst['slice'])}: RMSE {worst['rmse']:.2f}."
    words = (
        f"It is most wrong about {what.format(worst['slice'])} (RMSE {worst['rmse']:.2f}{_leaning(worst, unit)}) "
        f"and least about {what.format(best['slice'])} ({best['rmse']:.2f}{_leaning(best, unit)})."
    )
    return words if differ(table) else f"{words} Their intervals overlap, so this may be chance."


def extremes(table: pd.DataFrame, title: str, what: str) -> str:
    """`sliced` in short, or nothing where the difference may be chance."""
    if not differ(table):
        return ""
    parts = _large(table)
    worst, best = max(parts, key=lambda row: row["rmse"]), min(parts, key=lambda row: row["rmse"])
    return (
        f"{title}: worst for {what.format(worst['slice'])} (RMSE {worst['rmse']:.2f}), "
        f"best for {what.format(best['slice'])} ({best['rmse']:.2f})."
    )


def differ(table: pd.DataFrame) -> bool:
    """Whether the interval of the part with the largest error lies above that of the part with the smallest."""
    parts = _large(table)
    if len(parts) < 2:
        return False
    worst, best = max(parts, key=lambda row: row["rmse"]), min(parts, key=lambda row: row["rmse"])
    low, high = worst.get("rmse_low"), best.get("rmse_high")
    return low is not None and high is not None and bool(low > high)


def _large(table: pd.DataFrame) -> list[dict[str, Any]]:
    parts = [row for row in records(table) if row["rmse"] is not None]
    return [row for row in parts if row["count"] >= ENOUGH] or parts


def _leaning(row: Mapping[str, Any], unit: str) -> str:
    bias, low, high = row.get("bias"), row.get("bias_low"), row.get("bias_high")
    may_be_none = low is not None and high is not None and low <= 0 <= high
    if bias is None or may_be_none or abs(bias) < 0.05:
        return ""
    return f", predicted {abs(bias):.1f} {unit} too {'high' if bias > 0 else 'low'} on average"


def rounded(counts: pd.DataFrame, unit: str) -> str:
    """Shares of rounded predictions that hit, and that miss by at most one."""
    rows = records(counts)
    total = sum(row["count"] for row in rows)
    if not total:
        return ""
    exact = sum(row["count"] for row in rows if row["error"] == 0) / total
    near = sum(row["count"] for row in rows if row["error"] <= 1) / total
    worst = max(row["error"] for row in rows if row["count"])
    return (
        f"Rounded to whole {unit}, {exact:.0%} of the predictions are exactly right and {near:.0%} are within "
        f"one; the furthest is off by {worst:g}."
    )


def ranged(
    low: float, high: float, scale: tuple[float, float] | None, *, share: float, raw: float, clipped: float
) -> str:
    """How far predictions go before clipping, what share leaves the scale, and what clipping gains."""
    words = f"Before clipping, predictions go from {low:.2f} to {high:.2f}"
    if scale is None:
        return f"{words}."
    on = f"the scale of {scale[0]:g} to {scale[1]:g}"
    if not share:
        return f"{words}, all within {on}."
    return (
        f"{words}; {_percent(share)} of the test predictions lie outside {on}, and clipping them brings the "
        f"RMSE from {raw:.4f} to {clipped:.4f}."
    )


def residual(table: pd.DataFrame, bias: float, unit: str) -> str:
    """The share of predictions within one, and whether they lean to a side."""
    rows = records(table)
    total = sum(row["count"] for row in rows)
    inside = sum(row["count"] for row in rows if row["low"] >= -1 - 1e-9 and row["high"] <= 1 + 1e-9)
    words = f"{inside / total:.0%} of the predictions are within 1 of the actual rating; " if total else ""
    if abs(bias) < 0.005:
        return f"{words}on the whole they lean neither high nor low."
    return f"{words}on the whole they are {abs(bias):.2f} {unit} too {'high' if bias > 0 else 'low'}."


def calibrated(table: pd.DataFrame, unit: str) -> str:
    """The largest gap between what was predicted and what came, and the slope of the one on the other."""
    rows = [row for row in records(table) if row["count"] >= ENOUGH and row["actual"] is not None]
    if len(rows) < 2:
        return "There are too few ratings to tell whether predictions are on the right level."
    worst = max(rows, key=lambda row: abs(row["actual"] - row["predicted"]))
    weight = sum(row["count"] for row in rows)
    mean = {name: sum(row["count"] * row[name] for row in rows) / weight for name in ("predicted", "actual")}
    spread = [
        (row["count"], row["predicted"] - mean["predicted"], row["actual"] - mean["actual"]) for row in rows
    ]
    slope = sum(n * x * y for n, x, y in spread) / (sum(n * x * x for n, x, _ in spread) or 1.0)
    verdict = "as it should be"
    if not 0.95 <= slope <= 1.05:
        verdict = "so its extremes are overdone" if slope < 1 else "so it is too cautious"
    return (
        f"The largest gap is where it predicts {worst['predicted']:.2f}: the actual mean there is "
        f"{worst['actual']:.2f}. Per predicted {unit.removesuffix('s')}, actual ratings rise by {slope:.2f}, {verdict}."
    )


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "fewer than 0.1%"
