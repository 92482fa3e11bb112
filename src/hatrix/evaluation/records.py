"""Tables as plain rows, and numbers as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["interval", "plain", "records", "share_in_words", "signed"]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain Python values; what is not a finite number becomes None, as JSON knows no other."""
    return [{str(key): _json(value) for key, value in row.items()} for row in table.to_dict("records")]


def _json(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None if _is_missing(value) else str(value)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value))


def plain(value: Any) -> str:
    """A rating as people write it: 4, not 4.0."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def share_in_words(share: float, *, digits: int = 1) -> str:
    """A share that fits above a bar: no digits where there are two before the point, nothing for nothing."""
    least = 10.0 ** -(digits + 2)
    if not share:
        return ""
    return f"<{least:.{digits}%}" if share < least / 2 else f"{share:.{0 if share >= 0.0995 else digits}%}"


def signed(value: float) -> str:
    """Two digits behind the point, with a plus or a real minus before."""
    return f"{value:+.2f}".replace("-", "−")


def interval(value: float | None, low: float | None, high: float | None, *, sign: bool = False) -> str:
    """A figure and its interval in words."""
    if value is None:
        return "unknown"
    number = signed if sign else "{:.3f}".format
    return (
        number(value) if low is None or high is None else f"{number(value)} ({number(low)} to {number(high)})"
    )
