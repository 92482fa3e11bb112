"""What has come since a model was trained, in memory: the store's changes after the mark that the model bears."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.app.store import WORDS
from hatrix.errors import StoreError

if TYPE_CHECKING:
    from hatrix.app.store import Change, Store
    from hatrix.data.ratings import Ratings
    from hatrix.models.model import FactorModel

__all__ = ["Feedback", "OfUser"]

PAUSE = 1.0
"""Seconds after a failure of the store in which it is not asked again: one that is silent must not hold every request."""


class OfUser(NamedTuple):
    """What the store says of a user beyond the model.

    Attributes
    ----------
    deleted
        The user has been deleted since, so that nothing of the model's training rows counts.
    ratings
        Values of items, of each the last; for models of clicks and counts, their sum. Not to be changed.
    """

    deleted: bool
    ratings: Mapping[Any, float]


class Feedback:
    """Changes after a model's mark, kept up with the store. A new model has another mark, and gets another of these.

    Ratings outside the model's scale are left out here as they are by an update, and counted in ``left_out``. Threads may
    share it: what is said of a user is replaced whole.

    Parameters
    ----------
    store
        Where feedback is kept.
    model
        What it is feedback beyond.

    Attributes
    ----------
    position
        The number of the last change that is known here.

    Raises
    ------
    StoreError
        If the store has other kinds of ids than the model, ends before the model's mark, or fails.

    Examples
    --------
    >>> import hatrix as hx, tempfile
    >>> from hatrix.app.store import Store
    >>> ratings = hx.Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0], scale=(1, 5))
    >>> model, folder = hx.Bias().fit(ratings), tempfile.TemporaryDirectory()
    >>> feedback = Feedback(Store.open(f"{folder.name}/f.db", users="str", items="int"), model)
    >>> feedback.add("ann", [(2, 4.0, None), (3, 1.0, None)])
    2
    >>> feedback.of("ann"), feedback.with_training("ann"), feedback.of("bob")
    ({2: 4.0, 3: 1.0}, {1: 5.0, 2: 4.0, 3: 1.0}, None)
    >>> newer = feedback.merge()
    >>> Feedback(feedback.store, newer).of("ann"), dict(newer.merged) == {feedback.store.identity: 2}
    (None, True)
    >>> feedback.store.close(); folder.cleanup()
    """

    def __init__(self, store: Store, model: FactorModel) -> None:
        self.store, self.model = store, model
        for side, mine, theirs in zip(
            ("user", "item"), (model.users.kind, model.items.kind), store.kinds, strict=True
        ):
            if mine != theirs:
                raise StoreError(
                    f"the {side} ids of the feedback store {store.name} are {WORDS[theirs]}, those of the model "
                    f"{WORDS[mine]}"
                )
        self.position = model.merged.get(store.identity, 0)
        end = store.position()
        if end < self.position:
            raise StoreError(
                f"the feedback store {store.name} ends with change {end:,}, and the model has taken in {self.position:,}: "
                "it was set back to an older copy, and new feedback would be hidden: give a new store, or fit a new model"
            )
        self.left_out = 0
        self._users: dict[Any, OfUser] = {}
        self._refreshing = threading.Lock()
        self._failed: tuple[float, str] | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Take in what has come to the store, from whatever process; whether there was anything.

        Cheap where there is nothing. On return, everything counts that was acknowledged before the call.

        Raises
        ------
        StoreError
            If the store fails: what was known before stays. It is asked again after a second.
        """
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise StoreError(self._failed[1])
        try:
            before, end = self.position, self.store.position()
            if before < end:
                with self._refreshing:
                    while self.position < end and (changes := self.store.changes(self.position)):
                        self._take(changes)
                        self.position = changes[-1].sequence
        except StoreError as error:
            self._failed = time.monotonic() + PAUSE, str(error)
            raise
        self._failed = None
        return before < end

    def get(self, user: Any) -> OfUser | None:
        """What the store says of a user beyond the model; None where that is nothing."""
        if self.store.kinds[0] == "str" and not isinstance(user, str):
            user = str(user)
        return self._users.get(user)

    def of(self, user: Any) -> Mapping[Any, float] | None:
        """A user's ratings beyond the model, or None where there are none."""
        found = self.get(user)
        return None if found is None else found.ratings or None

    def deleted(self, user: Any) -> bool:
        """Whether a user was deleted since: the model's rows of the user no longer count."""
        found = self.get(user)
        return found is not None and found.deleted

    def with_training(self, user: Any, found: OfUser | None = None) -> dict[Any, float]:
        """Return all ratings of a user: the training ratings of the model, updated by the feedback since.

        ``found`` is the result of `get` for the user; by default it is looked up.
        """
        model, found = self.model, self.get(user) if found is None else found
        row = int(model.users.encode([user])[0])
        ratings: dict[Any, float] = {}
        if row >= 0 and model.seen is not None and not (found and found.deleted):
            part = model.seen.of(row)
            items = model.items.decode(model.seen.item[part]).tolist()
            ratings = dict(zip(items, model.seen.value[part].tolist(), strict=True))
        for item, value in (found.ratings if found else {}).items():
            ratings[item] = value + (ratings.get(item, 0.0) if model.scale is None else 0.0)
        return ratings

    def add(self, user: Any, ratings: Sequence[tuple[Any, float, int | None]]) -> int:
        """As `Store.add`; the ratings count here at once."""
        return self._taken_in(self.store.add(user, ratings))

    def delete(self, user: Any) -> int:
        """As `Store.delete`; the user is gone here at once."""
        return self._taken_in(self.store.delete(user))

    def merge(self, *, sweeps: int = 2) -> FactorModel:
        """The model with all of this taken in, users who were deleted left out, and the mark moved.

        Raises
        ------
        DataError
            If the model cannot take new ratings in (see `FactorModel.update`), or no user would be left.
        """
        from hatrix.models.update import without

        model = self.model
        if self.position == model.merged.get(self.store.identity, 0):
            return model
        gone = model.users.encode(self.deletions)
        left = without(model, gone[gone >= 0])
        new = self.ratings()
        newer = left if new is None else left.update(new, sweeps=sweeps)
        return replace(newer, merged={**model.merged, self.store.identity: self.position})

    @property
    def deletions(self) -> list[Any]:
        """Users who were deleted since, some of whom may have come again."""
        return [user for user, found in list(self._users.items()) if found.deleted]

    @property
    def users(self) -> list[Any]:
        """Return the users whose feedback the model does not have yet."""
        return [user for user, found in list(self._users.items()) if found.ratings]

    def ratings(self) -> Ratings | None:
        """All ratings beyond the model, or None where there are none."""
        from hatrix.data.ratings import Ratings

        rows = [
            (user, item, value)
            for user, found in self._users.items()
            for item, value in found.ratings.items()
        ]
        if not rows:
            return None
        users, items, values = zip(*rows, strict=True)
        scale = self.model.scale
        return Ratings.from_columns(users, items, np.array(values), scale=scale, implicit=scale is None)

    def _taken_in(self, sequence: int) -> int:
        """After a write: what is stored is acknowledged, even where the store fails when it is read."""
        self._failed = None  # it has just answered
        with suppress(StoreError):
            self.refresh()
        return sequence

    def _take(self, changes: list[Change]) -> None:
        scale = self.model.scale
        fresh: dict[Any, tuple[bool, dict[Any, float]]] = {}
        for _, user, item, value, _ in changes:
            if value is None:
                fresh[user] = True, {}
                continue
            if not (scale[0] <= value <= scale[1] if scale else value > 0):
                self.left_out += 1
                continue
            if user not in fresh:
                known = self._users.get(user, OfUser(False, {}))
                fresh[user] = known.deleted, dict(known.ratings)
            ratings = fresh[user][1]
            ratings[item] = value if scale else value + ratings.get(item, 0.0)
        for user, found in fresh.items():
            self._users[user] = OfUser(*found)
