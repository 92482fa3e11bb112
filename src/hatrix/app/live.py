"""The model being served: its version, and how a new one takes its place."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import hatrix

if TYPE_CHECKING:
    from hatrix.models.model import FactorModel

__all__ = ["Live", "Served"]


class Served:
    """A model with its version, and what is worked out once for it. A request uses one of these and nothing else."""

    def __init__(self, model: FactorModel, version: str, path: Path | None = None) -> None:
        self.model, self.version, self.path = model, version, path
        self.loaded = datetime.now(UTC)

    @cached_property
    def titles(self) -> list[str] | None:
        """The title of each item, where the item table has a column of that name."""
        table = self.model.item_table
        if table is None or "title" not in table.columns:
            return None
        return ["" if title is None else str(title) for title in table["title"].tolist()]


class Live:
    """What is served now; `current` is replaced whole."""

    def __init__(self, served: Served) -> None:
        self.current = served

    @classmethod
    def of(cls, model: FactorModel) -> Live:
        """A model that is already in memory, and is never replaced."""
        return cls(Served(model, model.fingerprint[:12] or "in-memory"))

    @classmethod
    def open(cls, path: Path) -> Live:
        """The model of a file."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(Served(hatrix.load(path), digest[:12], path))

    async def reload(self) -> bool:
        """Take the file again, if it has changed."""
        return False
