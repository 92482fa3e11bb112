"""Who is asked about: a user's row of the model, or one folded in from what is known of them now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.app.asking import Ask, shown
from hatrix.app.problems import Problem

if TYPE_CHECKING:
    from hatrix.app.schemas import Rating
    from hatrix.models.model import FactorModel

__all__ = ["Person", "checked_rating", "told", "user_of", "visitor_of"]

VISITOR = "visitor"
MOST_COUNTED = 1e6
"""The largest count that is taken: single precision ends before counts do."""


class Person(NamedTuple):
    """A user as answers see them.

    ``model`` is the whole model, or the view of one user that a fold-in is; ``row`` is the user's in it, -1 for nobody;
    ``trained`` is the row in the whole model, -1 where there is none or the user was deleted. ``new`` are the ratings that
    training did not have, by item label.
    """

    label: Any
    model: FactorModel
    row: int
    trained: int
    folded: bool
    new: Mapping[Any, float]
    warnings: list[str]

    def basis(self, found: str) -> str:
        """What a list is called that is by the model for whom a list is by the person's row."""
        return "fold-in" if self.folded and found == "model" else found


def user_of(ask: Ask, given: int | str) -> Person:
    """The user with an id: with feedback folded in, or, if deleted, without what the model was trained on."""
    model = ask.model
    label = model.users.label_of(given)
    if label is None:
        return Person(given, model, -1, -1, False, {}, [])
    row = int(model.users.encode([label])[0])
    feedback = ask.feedback
    if feedback is None:
        return Person(label, model, row, row, False, {}, [])
    warnings = [] if ask.stale is None else [ask.stale]
    found = feedback.get(label)  # once: other threads may take in more of it meanwhile
    if found is not None and found.deleted:
        row = -1
    new = {} if found is None else found.ratings
    known = model.items.encode(list(new)) >= 0 if new else np.zeros(0, bool)
    if not known.all():
        warnings.append(_unknown(new, known))
    if not known.any():
        return Person(label, model, row, row, False, new, warnings)
    if row >= 0 and model.seen is None:
        warnings.append(
            "the model was saved without its training rows, so new feedback of this user counts from the next update on"
        )
        return Person(label, model, row, row, False, new, warnings)
    view = model.fold_in(feedback.with_training(label, found), user_id=label)
    return Person(label, view, 0, row, True, new, warnings)


def visitor_of(ask: Ask, ratings: Sequence[Rating]) -> Person:
    """Who is known by some ratings alone."""
    new, warnings = told(ask, ratings)
    if not new:
        return Person(None, ask.model, -1, -1, False, {}, warnings)
    label = VISITOR if ask.model.users.kind == "str" else 0
    return Person(None, ask.model.fold_in(new, user_id=label), 0, -1, True, new, warnings)


def told(ask: Ask, ratings: Sequence[Rating]) -> tuple[dict[Any, float], list[str]]:
    """Ratings of a request by the labels of items that the model knows, and a warning of the others.

    Of several ratings of an item the last counts.
    """
    items = ask.model.items
    labels = [items.label_of(rating.item) for rating in ratings]
    known = items.encode(labels) >= 0 if labels else np.zeros(0, bool)
    for rating in ratings:
        checked_rating(ask.model, rating.item, rating.rating)
    new = {label: rating.rating for label, rating, there in zip(labels, ratings, known, strict=True) if there}
    return new, [] if known.all() else [_unknown([rating.item for rating in ratings], known)]


def checked_rating(model: FactorModel, item: int | str, rating: float) -> None:
    """Refuse a rating off the scale, or what is no count of clicks."""
    if model.scale is not None:
        low, high = model.scale
        if not low <= rating <= high:
            raise Problem(
                422,
                "bad-request",
                f"the rating of item {shown(item)} is {rating:g}: give one from {low:g} to {high:g}",
            )
        if rating < 0 and not model.list_model.recipe.knows_dislikes(model.scale):
            raise Problem(
                422,
                "bad-request",
                f"the rating of item {shown(item)} is {rating:g}, and {model.recipe.name} takes every rating as a like: "
                f"give one from {max(low, 0):g} to {high:g}",
            )
    elif not 0 < rating <= MOST_COUNTED:
        raise Problem(
            422,
            "bad-request",
            f"the count of item {shown(item)} is {rating:g}: give one above 0, up to {MOST_COUNTED:,.0f}",
        )


def _unknown(items: Any, known: Any) -> str:
    some = [shown(item) for item, there in zip(items, known, strict=True) if not there]
    few = ", ".join(some[:5]) + (", …" if len(some) > 5 else "")
    return f"{len(some):,} of {len(known):,} items rated are unknown to the model: {few}"
