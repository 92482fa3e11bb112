"""What is shown of items: titles, attributes, how popular they are, and which ones a text finds."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

__all__ = ["Shelf", "folded", "plain", "row_of"]

TITLE = "title"
FEW_LEVELS, FEW_VALUES = 50, 100


class Shelf:
    """What one model has to show; each part is worked out when first wanted."""

    def __init__(self, model: FactorModel) -> None:
        self.model = model

    def prepare(self) -> None:
        """Work out what the first requests would wait for."""
        _ = self.titles, self.attributes, self.item_labels, self.place, self._item_keys, self.levels

    @cached_property
    def titles(self) -> list[str | None] | None:
        """The title of each item row, None where it has none."""
        column = self._columns.get(TITLE)
        return None if column is None else [None if title is None else str(title) for title in column]

    @cached_property
    def attributes(self) -> dict[str, list[Any]]:
        """The other columns of the item table, in row order."""
        return {name: column for name, column in self._columns.items() if name != TITLE}

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return _columns(self.model.item_table)

    @cached_property
    def of_users(self) -> dict[str, list[Any]]:
        """The columns of the user table."""
        return _columns(self.model.user_table)

    @cached_property
    def item_labels(self) -> list[Any]:
        """The items' ids as JSON has them."""
        return list(self.model.items.labels.tolist())

    def item(self, row: int) -> dict[str, Any]:
        """An item with its title and attributes."""
        return {"item": self.item_labels[row], **self.described(row)}

    def described(self, row: int) -> dict[str, Any]:
        """Title and attributes of an item, if it has them."""
        found: dict[str, Any] = self.titled(row)
        if self.attributes:
            found["attributes"] = {name: column[row] for name, column in self.attributes.items()}
        return found

    def titled(self, row: int) -> dict[str, Any]:
        """The title of an item, if it has one."""
        title = None if self.titles is None else self.titles[row]
        return {} if title is None else {"title": title}

    @cached_property
    def popular(self) -> NDArray[np.int64]:
        """Item rows, those with the most training ratings first, equals in id order."""
        return np.argsort(-self.model.item_count, kind="stable")

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """The place of each item row in `popular`."""
        place = np.empty(len(self.popular), np.int64)
        place[self.popular] = np.arange(len(place))
        return place

    @cached_property
    def active(self) -> NDArray[np.int64]:
        """User rows, those with the most training ratings first."""
        return np.argsort(-self.model.user_count, kind="stable")

    @cached_property
    def _item_keys(self) -> list[tuple[int, str]]:
        """Item rows in order of popularity, each with what a search looks at."""
        texts: Sequence[Any] = self.item_labels if self.titles is None else self.titles
        return [(row, folded("" if texts[row] is None else str(texts[row]))) for row in self.popular.tolist()]

    @cached_property
    def _user_keys(self) -> list[tuple[int, str]]:
        labels = self.model.users.labels.tolist()
        return [(row, folded(str(labels[row]))) for row in self.active.tolist()]

    def find_items(self, text: str) -> list[int]:
        """Item rows whose title has all words of a text (or, without titles, their id), popular ones first.

        An item with just that id stands before them.
        """
        return _found(self._item_keys, text, self.model.items)

    def find_users(self, text: str) -> list[int]:
        """User rows whose id has all words of a text, active ones first; the one with just that id before them."""
        return _found(self._user_keys, text, self.model.users)

    @cached_property
    def levels(self) -> list[float] | None:
        """The ratings that occur, if they are few."""
        model = self.model
        if model.posterior is not None and len(model.posterior.levels):
            return [float(level) for level in model.posterior.levels]
        if model.seen is None or not len(model.seen.value):
            return None
        levels = np.unique(model.seen.value)
        return levels.tolist() if len(levels) <= FEW_LEVELS else None

    @cached_property
    def filters(self) -> list[dict[str, Any]]:
        """The columns that items can be chosen by."""
        if self.model.item_table is None:
            return []
        types = {str(name): str(dtype) for name, dtype in self.model.item_table.dtypes.items()}
        return [
            {"name": name, "type": types[name], "values": _few(column)}
            for name, column in self._columns.items()
        ]


def plain(value: Any) -> Any:
    """A value as JSON has it; what is no number, truth or text becomes text, and what is missing None."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def row_of(ids: Ids, given: int | str) -> int:
    """The row of an id of a request, -1 for an unknown one."""
    return int(ids.encode([given])[0])


def _columns(table: pd.DataFrame | None) -> dict[str, list[Any]]:
    if table is None:
        return {}
    return {
        str(name): [plain(value) for value in table.iloc[:, at].astype(object).tolist()]
        for at, name in enumerate(table.columns)
    }


def _few(column: list[Any]) -> list[Any] | None:
    """The distinct values of a column, if they are few; of lines such as ``Crime|Drama`` the single ones."""
    texts = all(isinstance(value, str | None) for value in column)
    found: set[Any] = set()
    for value in column:
        if value is not None:
            found.update(value.split("|") if texts else [value])
        if len(found) > FEW_VALUES:
            return None
    return sorted(found, key=str) if texts else sorted(found)


def folded(text: str) -> str:
    """The text without case and accents."""
    marked = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in marked if not unicodedata.combining(c))


def _found(keys: list[tuple[int, str]], text: str, ids: Ids) -> list[int]:
    for word in folded(text).split():
        keys = [pair for pair in keys if word in pair[1]]
    found = [row for row, _ in keys]
    exact = row_of(ids, text.strip())
    if exact < 0:
        return found
    return [exact, *(row for row in found if row != exact)]
