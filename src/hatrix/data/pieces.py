"""Columns that come in pieces, each with ids of its own, and how their labels get numbers in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.data.ids import Ids
from hatrix.data.ratings import ReadReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Columns", "Numbering", "joined", "total"]


class Columns(NamedTuple):
    """The columns of a source, or of a piece of it, as ids, rows and numbers."""

    users: Ids
    user: NDArray[np.int32]
    items: Ids
    item: NDArray[np.int32]
    rating: NDArray[np.float64] | None
    time: NDArray[np.int64] | None
    report: ReadReport


class Numbering:
    """Labels numbered in the order in which they come, until all are known and can be put in their own order.

    As in `Ids.from_labels`, labels are integers only if those of all pieces are. Memory depends on how many there are.
    """

    def __init__(self) -> None:
        self._known = np.empty(0, np.int64)
        self._number = np.empty(0, np.int32)
        self._texts: dict[str, int] | None = None

    def of(self, ids: Ids) -> NDArray[np.int32]:
        """The numbers of a piece's labels, new ones among them."""
        if self._texts is None and ids.kind == "int":
            return self._of_integers(ids.labels)
        if self._texts is None:
            known, number = self._known.tolist(), self._number.tolist()
            self._texts = {str(label): at for label, at in zip(known, number, strict=True)}
        texts = self._texts
        return np.array([texts.setdefault(str(label), len(texts)) for label in ids.labels.tolist()], np.int32)

    def _of_integers(self, labels: NDArray[np.int64]) -> NDArray[np.int32]:
        at = np.searchsorted(self._known, labels)
        old = np.zeros(len(labels), bool)
        inside = at < len(self._known)
        old[inside] = self._known[at[inside]] == labels[inside]
        numbers = np.empty(len(labels), np.int32)
        numbers[old] = self._number[at[old]]
        new = ~old
        if new.any():
            numbers[new] = np.arange(len(self), len(self) + np.count_nonzero(new))
            self._known = np.insert(self._known, at[new], labels[new])
            self._number = np.insert(self._number, at[new], numbers[new])
        return numbers

    def finish(self) -> tuple[Ids, NDArray[np.int32]]:
        """The ids of all labels, and for each number the row of its label."""
        labels: NDArray[Any]
        if self._texts is None:
            labels, order = self._known, self._number
        else:
            texts = sorted(self._texts)
            labels = np.fromiter(texts, object, len(texts))
            order = np.fromiter((self._texts[text] for text in texts), np.int32, len(texts))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        return Ids(labels), place

    def __len__(self) -> int:
        return len(self._known) if self._texts is None else len(self._texts)


def joined(pieces: Iterable[Columns]) -> Columns:
    """All pieces as one, in memory."""
    users, items, reports = Numbering(), Numbering(), []
    parts: dict[str, list[Any]] = {"user": [], "item": [], "rating": [], "time": []}
    for piece in pieces:
        parts["user"].append(users.of(piece.users)[piece.user])
        parts["item"].append(items.of(piece.items)[piece.item])
        parts["rating"].append(piece.rating)
        parts["time"].append(piece.time)
        reports.append(piece.report)

    def whole(role: str) -> Any:
        found = parts.pop(role)  # and gone: columns are not to be held twice
        return None if found[0] is None else np.concatenate(found)

    all_users, user_place = users.finish()
    all_items, item_place = items.finish()
    return Columns(
        all_users,
        user_place[whole("user")],
        all_items,
        item_place[whole("item")],
        whole("rating"),
        whole("time"),
        total(reports),
    )


def total(reports: Iterable[ReadReport]) -> ReadReport:
    """What became of the records of all pieces."""
    counts = dict.fromkeys(("records", "accepted", "rejected", "blank", "header", "duplicates"), 0)
    errors: list[tuple[str, int, str]] = []
    columns: tuple[tuple[str, str], ...] = ()
    for one in reports:
        columns = columns or one.columns
        counts = {name: count + getattr(one, name) for name, count in counts.items()}
        errors += one.errors
    return ReadReport(**counts, errors=tuple(errors[:5]), columns=columns)
