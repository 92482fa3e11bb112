"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hatrix.models.fit import Algorithm

__all__ = ["Shown", "training"]

FIGURES = ("train_mse", "objective", "valid_rmse", "valid_ndcg")
REFRESH_SECONDS = 0.2


class Shown(Protocol):
    """What a bar is told: some more rows of an epoch are done, or the epoch is."""

    def rows(self, more: float) -> None: ...

    def epoch(self, row: Mapping[str, float]) -> None: ...


class _Silent:
    def rows(self, more: float) -> None:
        pass

    def epoch(self, row: Mapping[str, float]) -> None:
        pass


@contextmanager
def training(recipe: Algorithm, rows: int, done: int, *, wanted: bool) -> Iterator[Shown]:
    """A bar over the epochs of a fit to so many rows, of which some are done: rows per second, time left, and figures."""
    if not wanted or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[epoch]}/" + str(recipe.rounds)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(
            recipe.name, total=recipe.rounds * rows, completed=done * rows, epoch=done, speed="", figures=""
        )
        started = shown = time.perf_counter()

        class Bar:
            within = 0.0
            epochs = done
            figures = ""

            def rows(self, more: float) -> None:
                nonlocal shown
                self.within += more
                if time.perf_counter() - shown > REFRESH_SECONDS:
                    shown = time.perf_counter()
                    self._show()

            def epoch(self, row: Mapping[str, float]) -> None:
                self.epochs, self.within = int(row["epoch"]), 0.0
                self._show("  ".join(f"{name} {row[name]:.4f}" for name in FIGURES if name in row))

            def _show(self, figures: str | None = None) -> None:
                reached = self.epochs * rows + self.within
                speed = (reached - done * rows) / (time.perf_counter() - started)
                self.figures = self.figures if figures is None else figures
                bar.update(
                    task,
                    completed=reached,
                    epoch=self.epochs,
                    speed=f"{speed / 1e6:,.1f} M rows/s",
                    figures=self.figures,
                )

        yield Bar()
