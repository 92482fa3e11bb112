"""A bar for work that goes through rows: how many are done, how many a second, and how long it will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["row_bar"]


@contextmanager
def row_bar(what: str, total: float, wanted: bool) -> Iterator[Callable[[float, int], None]]:
    """A bar on standard error, where that is a terminal.

    Parameters
    ----------
    what
        Stands before the bar.
    total
        How much there is to do, in any unit (rows, or bytes of text).
    wanted
        Whether to show anything.

    Yields
    ------
    function
        To be called with how much of the total is done, and how many rows that was.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda _done, _rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn()
    started = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, said="")

        def show(done: float, rows: int) -> None:
            speed = rows / max(time.perf_counter() - started, 1e-9)
            bar.update(task, completed=done, said=f"{rows:,} rows, {speed:,.0f} rows/s")

        yield show
