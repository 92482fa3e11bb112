"""Who is asked about: a user's row of the model, or one folded in from what is known of them now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.app.asking import Ask, shown
from hatrix.app.problems import Problem
from hatrix.app.shelf import label_of

if TYPE_CHECKING:
    from hatrix.app.schemas import Rating
    from hatrix.models.model import FactorModel

__all__ = ["Person", "checked_rating", "personal", "told", "user_of", "visitor_of"]

VISITOR = "visitor"
MOST_COUNTED = 1e6
"""The largest count that is taken: single precision ends before counts do."""


class Person(NamedTuple):
    """A user as answers see them.

    ``model`` is the whole model, or the view of one user that a fold-in is; ``row`` is the user's in it, -1 for nobody.
    ``new`` are the ratings that training did not have, by item label.
    """

    label: Any
    model: FactorModel
    row: int
    folded: bool
    new: Mapping[Any, float]
    warnings: list[str]

    def basis(self, found: str) -> str:
        """What a list is called that is by the model for whom a list is by the person's row."""
        return "fold-in" if self.folded and found == "model" else found


def user_of(ask: Ask, given: int | str) -> Person:
    """The user with an id: with feedback folded in, or, if deleted, without what the model was trained on."""
    model = ask.model
    label = label_of(model.users, given)
    if label is None:
        return Person(given, model, -1, False, {}, [])
    row = int(model.users.encode([label])[0])
    new: Mapping[Any, float] = {}
    if ask.feedback is not None:
        if ask.feedback.deleted(label):
            row = -1
        new = _usable(model, ask.feedback.of(label) or {})
    if not new:
        return Person(label, model, row, False, {}, [])
    known = model.items.encode(list(new)) >= 0
    if not known.any():
        return Person(label, model, row, False, new, [_unknown(new, known)])
    if row >= 0 and model.seen is None:
        note = "the model was saved without its training rows, so new feedback of this user counts from the next update on"
        return Person(label, model, row, False, new, [note])
    view = personal(model, None if row < 0 else row, new, label)
    return Person(label, view, 0, True, new, [] if known.all() else [_unknown(new, known)])


def visitor_of(ask: Ask, ratings: Sequence[Rating]) -> Person:
    """Who is known by some ratings alone."""
    new, warnings = told(ask, ratings)
    if not new:
        return Person(None, ask.model, -1, False, {}, warnings)
    label = VISITOR if ask.model.users.kind == "str" else 0
    return Person(None, personal(ask.model, None, new, label), 0, True, new, warnings)


def personal(model: FactorModel, row: int | None, feedback: Mapping[Any, float], label: Any) -> FactorModel:
    """A model of one user, folded in from the training rows of ``row`` (None: without any) and newer feedback.

    The newer rating of an item takes the place of the trained one. Items that the model does not know are left out.
    """
    ratings: dict[Any, float] = {}
    if row is not None:
        assert model.seen is not None
        rows = model.seen.of(row)
        items = model.items.decode(model.seen.item[rows]).tolist()
        ratings = dict(zip(items, model.seen.value[rows].tolist(), strict=True))
    return model.fold_in(ratings | dict(feedback), user_id=label)


def told(ask: Ask, ratings: Sequence[Rating]) -> tuple[dict[Any, float], list[str]]:
    """Ratings of a request by the labels of items that the model knows, and a warning of the others.

    Of several ratings of an item the last counts.
    """
    items = ask.model.items
    labels = [label_of(items, rating.item) for rating in ratings]
    known = items.encode(labels) >= 0 if labels else np.zeros(0, bool)
    for rating in ratings:
        checked_rating(ask.model, rating.item, rating.rating)
    new = {label: rating.rating for label, rating, there in zip(labels, ratings, known, strict=True) if there}
    return new, [] if known.all() else [_unknown([rating.item for rating in ratings], known)]


def _usable(model: FactorModel, feedback: Mapping[Any, float]) -> dict[Any, float]:
    """Stored ratings as this model can take them, which may have another scale than the one that they were checked by."""
    if model.scale is None:
        return {item: value for item, value in feedback.items() if value > 0}
    low, high = model.scale
    return {item: min(max(value, low), high) for item, value in feedback.items()}


def checked_rating(model: FactorModel, item: int | str, rating: float) -> None:
    """Refuse a rating off the scale, or what is no count of clicks."""
    if model.scale is not None:
        low, high = model.scale
        if not low <= rating <= high:
            raise Problem(
                422,
                "validation",
                f"the rating of item {shown(item)} is {rating:g}: give one from {low:g} to {high:g}",
            )
    elif not 0 < rating <= MOST_COUNTED:
        raise Problem(
            422,
            "validation",
            f"the count of item {shown(item)} is {rating:g}: give one above 0, up to {MOST_COUNTED:,.0f}",
        )


def _unknown(items: Any, known: Any) -> str:
    some = [shown(item) for item, there in zip(items, known, strict=True) if not there]
    few = ", ".join(some[:5]) + (", …" if len(some) > 5 else "")
    return f"{len(some):,} of {len(known):,} items rated are unknown to the model: {few}"
