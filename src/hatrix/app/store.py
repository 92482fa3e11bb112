"""The feedback store: ratings that have come since, and users who have left, as a log in a database."""

from __future__ import annotations

import math
import operator
import os
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from hatrix.app.database import FEEDBACK, META, Database, Kind, tables
from hatrix.errors import DataError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Change", "Rating", "Store"]

SCHEMA = 1
AT_ONCE = 10_000
"""Rows that are read, and changes that are committed, in one go."""
LONGEST = 2000
"""Bytes of a text id: what an index entry of PostgreSQL can hold."""
TOMBSTONE: list[tuple[Any, Any, Any]] = [(None, None, None)]
WORDS = {"int": "whole numbers", "str": "text"}


class Change(NamedTuple):
    """A row of the log: a rating, or, without an item, the tombstone of a user who was deleted."""

    sequence: int
    user: Any
    item: Any
    value: float | None
    time: int | None


class Rating(NamedTuple):
    """The latest rating that a user gave an item."""

    item: Any
    value: float
    time: int | None
    sequence: int


class _Job:
    """A change on its way into the log: a user's ratings, or None where the user is deleted."""

    def __init__(self, user: Any, ratings: list[tuple[Any, float, int | None]] | None) -> None:
        self.user, self.ratings = user, ratings
        self.sequence: int | None = None
        self.failure: str | None = None


class Store:
    """Ratings and deletions in the order in which they came, each with a number; `Store.open` makes it.

    Numbers become visible in order: who has seen one has seen all before it. Threads may share a store, and processes a
    database.

    Attributes
    ----------
    identity
        Made with the database: what a model's mark of merged feedback refers to.
    kinds
        Of user and item ids: ``"int"`` or ``"str"``.
    name
        What messages call it.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = Store.open(f"{folder.name}/feedback.db", users="str", items="int")
    >>> store.add("ann", [(50, 4.0, None), (172, 5.0, 1700000000)])
    2
    >>> store.add("ann", [(50, 3.0, None)])
    3
    >>> [(rating.item, rating.value) for rating in store.of("ann")]
    [(172, 5.0), (50, 3.0)]
    >>> store.delete("ann"), store.of("ann"), store.changes(0)
    (4, [], [Change(sequence=4, user='ann', item=None, value=None, time=None)])
    >>> store.close(); folder.cleanup()
    """

    def __init__(self, database: Database, kinds: tuple[Kind, Kind]) -> None:
        self._database, self.kinds, self.name = database, kinds, database.name
        schema = tables(*kinds)
        self._log, self._meta = schema.tables[FEEDBACK], schema.tables[META]
        self.identity = self._prepared()
        self._waiting: deque[_Job] = deque()
        self._turn = threading.Lock()

    @classmethod
    def open(cls, url: str | os.PathLike[str], *, users: Kind, items: Kind, make: bool = True) -> Store:
        """Open the store in a database, and create it if there is none yet.

        Parameters
        ----------
        url
            ``sqlite:///path.db``, the path alone, or ``postgresql://user:password@host/name``.
        users, items
            The kind of the ids: that of the model.
        make
            Make a file that is not there.

        Raises
        ------
        StoreError
            If the file is not there and is not to be made, the database cannot be reached or written, is no feedback store,
            is of a newer hatrix, or has other kinds of ids.
        MissingExtraError
            If the packages of the extra ``serve`` are not installed.
        """
        database = Database(url)
        if not make and database.is_file and not os.path.exists(database.name):
            raise StoreError(
                f"there is no feedback store {database.name}: give the one that the service writes to"
            )
        try:
            return cls(database, (users, items))
        except BaseException:
            database.close()
            raise

    def add(self, user: Any, ratings: Sequence[tuple[Any, float, int | None]]) -> int:
        """Take a user's ratings in, all or none: durable once this returns.

        Parameters
        ----------
        user
            The user's id.
        ratings
            Item id, value and time (Unix seconds, or None) of each.

        Returns
        -------
        int
            The number of the last one.

        Raises
        ------
        DataError
            If an id is not of the store's kind or cannot be stored, a value is not finite, a time is not in whole seconds,
            or there are no ratings.
        StoreError
            If the database fails; whether the ratings got in is then unknown.

        Notes
        -----
        Threads that write at once share a transaction, since waiting for the disk is what takes long.
        """
        rows = [(self._id(item, 1), _finite(value), _seconds(time)) for item, value, time in ratings]
        if not rows:
            raise DataError("there are no ratings to add: give at least one")
        return self._write(_Job(self._id(user, 0), rows))

    def delete(self, user: Any) -> int:
        """Remove a user's rows and leave a tombstone; its number. Raises as `add` does."""
        sequence = self._write(_Job(self._id(user, 0), None))
        with suppress(StoreError):  # the user is deleted, whatever becomes of the log
            self._database.scrub()
        return sequence

    def position(self) -> int:
        """The number of the last change, 0 where there is none yet."""
        return self._database.last()

    def changes(self, after: int, limit: int = AT_ONCE) -> list[Change]:
        """What came after a number, in order, at most so much."""
        from sqlalchemy import select

        log = self._log.c
        query = select(self._log).where(log.sequence > after).order_by(log.sequence).limit(limit)
        with self._database.reading() as connection:
            return [Change._make(row) for row in connection.execute(query)]

    def of(self, user: Any) -> list[Rating]:
        """A user's ratings in the order in which they came; of those of an item, the last."""
        from sqlalchemy import select

        log, label = self._log.c, self._id(user, 0)
        query = (
            select(log.item_id, log.value, log.time, log.sequence)
            .where(log.user_id == label, log.item_id.is_not(None))
            .order_by(log.sequence)
        )
        latest: dict[Any, Rating] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                latest.pop(row[0], None)
                latest[row[0]] = Rating._make(row)
        return list(latest.values())

    def close(self) -> None:
        """Give the database's connections back."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.name!r}, {self.position():,} changes)"

    def _prepared(self) -> str:
        """Make the tables where they are missing, and the store's identity."""
        from sqlalchemy import insert, inspect, select

        database = self._database
        with database.writing() as connection:
            database.check(connection)
            if not inspect(connection).has_table(self._meta.name):
                self._log.metadata.create_all(connection)
                users, items = self.kinds
                said = {"schema": str(SCHEMA), "identity": str(uuid.uuid4()), "users": users, "items": items}
                connection.execute(insert(self._meta), [{"name": k, "value": v} for k, v in said.items()])
            found = {row.name: row.value for row in connection.execute(select(self._meta))}
        return self._checked(found)

    def _checked(self, said: dict[str, str]) -> str:
        try:
            schema, identity = int(said["schema"]), str(uuid.UUID(said["identity"]))
            kinds = said["users"], said["items"]
        except (KeyError, ValueError):
            raise StoreError(
                f"{self.name} is no feedback store: what its table {META} says is not ours"
            ) from None
        if schema > SCHEMA:
            raise StoreError(f"the feedback store {self.name} was made by a newer hatrix: upgrade hatrix")
        for side, told, wanted in zip(("user", "item"), kinds, self.kinds, strict=True):
            if told != wanted:
                raise StoreError(
                    f"the {side} ids of the feedback store {self.name} are {WORDS.get(told, told)}, those asked for "
                    f"{WORDS[wanted]}: give another store, or a model of such ids"
                )
        return identity

    def _id(self, label: Any, side: int) -> Any:
        """An id as it is stored, checked."""
        name = ("user", "item")[side]
        if isinstance(label, bool) or label is None:
            raise DataError(f"the {name} id {label!r} is none: give a whole number or a text")
        if self.kinds[side] == "int":
            try:
                number = operator.index(label)
            except TypeError:
                raise DataError(
                    f"the {name} id {_short(label)} is not a whole number, as {name} ids here are"
                ) from None
            if not -(2**63) <= number < 2**63:
                raise DataError(f"the {name} id {_short(number)} is beyond 64 bits: it cannot be stored")
            return number
        if not isinstance(label, str):
            try:
                label = str(operator.index(label))  # as everywhere, texts know a number by its digits
            except (TypeError, ValueError):
                raise DataError(
                    f"the {name} id {_short(label)} is not text, as {name} ids here are"
                ) from None
        if not label or "\0" in label:
            raise DataError(f"the {name} id {_short(label)} is empty or has a zero byte: it cannot be stored")
        try:
            size = len(label.encode())
        except UnicodeEncodeError:
            raise DataError(f"the {name} id {_short(label)} is not Unicode text") from None
        if size > LONGEST:
            raise DataError(f"the {name} id {_short(label)} has {size:,} bytes: the longest has {LONGEST:,}")
        return str(label)

    def _write(self, job: _Job) -> int:
        self._waiting.append(job)
        with self._turn:  # whoever has it commits what all others wait for
            while job.sequence is None and job.failure is None:
                jobs = [self._waiting.popleft()]
                while self._waiting and len(jobs) < AT_ONCE:
                    jobs.append(self._waiting.popleft())
                self._commit(jobs)
        if job.sequence is None:
            raise StoreError(job.failure)
        return job.sequence

    def _commit(self, jobs: list[_Job]) -> None:
        for job in jobs:
            job.failure = f"the feedback store {self.name}: the write was interrupted"
        try:
            with self._database.writing() as connection:
                numbers = self._insert(connection, jobs)
        except StoreError as error:
            for job in jobs:
                job.failure = str(error)
        else:
            for job, number in zip(jobs, numbers, strict=True):
                job.sequence = number

    def _insert(self, connection: Connection, jobs: list[_Job]) -> list[int]:
        """Write the changes; the last number of each."""
        from sqlalchemy import delete, func, insert, select

        log = self._log.c
        last = connection.execute(select(func.coalesce(func.max(log.sequence), 0))).scalar_one()
        numbers: list[int] = []
        rows: list[dict[str, Any]] = []
        for job in jobs:
            if job.ratings is None:
                if rows:
                    connection.execute(insert(self._log), rows)
                    rows = []
                connection.execute(delete(self._log).where(log.user_id == job.user))
            for item, value, time in job.ratings or TOMBSTONE:
                last += 1
                rows.append(
                    {"sequence": last, "user_id": job.user, "item_id": item, "value": value, "time": time}
                )
            numbers.append(last)
        connection.execute(insert(self._log), rows)
        return numbers


def _finite(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"the rating {_short(value)} is not a finite number")
    return number + 0.0  # no negative zero, which a database may not tell from zero


def _seconds(time: Any) -> int | None:
    if time is None:
        return None
    try:
        number = None if isinstance(time, bool) else operator.index(time)
    except TypeError:
        number = None
    if number is None or not -(2**63) <= number < 2**63:
        raise DataError(f"the time {_short(time)} is not a whole number of seconds")
    return number


def _short(given: Any) -> str:
    try:
        text = repr(given)
    except ValueError:  # a whole number of thousands of digits
        return "of thousands of digits"
    return text if len(text) <= 60 else f"{text[:59]}…"
