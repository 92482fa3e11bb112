"""The beginnings of items in replies, encoded once for each model: ``{"item":50,"title":"…","score":``."""

from __future__ import annotations

import json
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from hatrix.app.shelf import plain

if TYPE_CHECKING:
    from hatrix.models.model import FactorModel

__all__ = ["Fragments", "encoded"]

AT_ONCE = 4096


def encoded(value: Any) -> bytes:
    """As JSON; half a character becomes a question mark, since UTF-8 has no bytes for it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Fragments:
    """One text of all fragments and where each begins: a Python object for each of a million items would take gigabytes.

    >>> import hatrix as hx
    >>> model = hx.Bias().fit(hx.Ratings.from_columns(["a", "b"], [7, 9], [1.0, 2.0]), progress=False)
    >>> Fragments(model)[1]
    b'{"item":9,"score":'
    """

    def __init__(self, model: FactorModel) -> None:
        parts, self._begin = [], array("q", [0])
        for first in range(0, len(model.items), AT_ONCE):
            texts = _texts(model, first, first + AT_ONCE)
            ends = accumulate(map(len, texts), initial=self._begin.pop())
            self._begin.extend(ends)
            parts.append(b"".join(texts))
        self._text = b"".join(parts)

    def __getitem__(self, item: int) -> bytes:
        begin = self._begin
        return self._text[begin[item] : begin[item + 1]]


def _texts(model: FactorModel, first: int, last: int) -> list[bytes]:
    labels = model.items.labels[first:last].tolist()
    table = model.item_table
    if table is None or not len(table.columns):
        return [b'{"item":%b,"score":' % encoded(label) for label in labels]
    part = table.iloc[first:last]
    columns = {
        str(name): [plain(value) for value in part.iloc[:, at].astype(object).tolist()]
        for at, name in enumerate(part.columns)
    }
    titles = columns.pop("title", [None] * len(labels))
    texts = []
    for at, label in enumerate(labels):
        item: dict[str, Any] = {"item": label}
        if titles[at] is not None:
            item["title"] = str(titles[at])
        if columns:
            item["attributes"] = {name: values[at] for name, values in columns.items()}
        texts.append(encoded(item)[:-1] + b',"score":')
    return texts
