"""The database under the feedback store: how SQLite and PostgreSQL are opened, locked and watched."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from hatrix.errors import MissingExtraError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, MetaData

__all__ = ["FEEDBACK", "META", "Database", "Kind", "tables"]

Kind = Literal["int", "str"]

SECONDS_BUSY = 30
"""How long a writer waits for the one before it."""
LOCK = 0x6861_7472_6978
"""PostgreSQL's advisory lock that writers hold: "hatrix" in ASCII."""
FEEDBACK, META = "hatrix_feedback", "hatrix_meta"
LAST = f"SELECT max(sequence) FROM {FEEDBACK}"


def _sqlalchemy() -> Any:
    try:
        import sqlalchemy
    except ImportError:
        raise MissingExtraError.of("feedback", "sqlalchemy", "serve") from None
    return sqlalchemy


def tables(users: Kind, items: Kind) -> MetaData:
    """What is stored: the log of feedback, and what the store says of itself.

    Ids have the type of their kind, so that each comes back as it was given. A row without an item is a tombstone.
    """
    sa = _sqlalchemy()
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite's INTEGER has 64 bits, too
    label = {"int": number, "str": sa.Text()}
    schema: MetaData = sa.MetaData()
    sa.Table(
        FEEDBACK,
        schema,
        sa.Column("sequence", number, primary_key=True, autoincrement=False),
        sa.Column("user_id", label[users], nullable=False),
        sa.Column("item_id", label[items]),
        sa.Column("value", sa.Double()),
        sa.Column("time", number),
        sa.CheckConstraint("(item_id IS NULL) = (value IS NULL)", name="hatrix_tombstone"),
        sa.Index("hatrix_feedback_of_user", "user_id", "sequence"),
    )
    sa.Table(
        META,
        schema,
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    return schema


class Database:
    """An SQLite file or a PostgreSQL database, with one writer at a time.

    Parameters
    ----------
    url
        ``sqlite:///path.db``, the path alone, or ``postgresql://user:password@host/name``.

    Attributes
    ----------
    name
        What messages call it; without what is secret.
    engine
        Of SQLAlchemy, for reading.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        address = _address(os.fspath(url))
        self.is_file = address.drivername == "sqlite"
        self.name = _name(address)
        secrets = address.password, *(address.query.get(name) for name in ("password", "sslpassword"))
        self._secrets = [text for text in secrets if isinstance(text, str) and text]
        self.engine = _engine(address)
        self._writing = self.engine.execution_options(hatrix_writes=True)
        self._watch: Any = None
        self._watching = threading.Lock()
        self._last = (-1, 0)
        if self.is_file:
            self._check_folder(address)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection, what goes wrong with it said in a line."""
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer's overlaps: durable, and seen by all, once the block is left."""
        with self._explained(), self._writing.begin() as connection:
            if not self.is_file:
                # Two statements, so that the second takes its snapshot with the lock in hand.
                connection.exec_driver_sql(
                    f"SELECT set_config('lock_timeout', '{SECONDS_BUSY}s', true), CASE current_setting("
                    "'synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"
                )
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            yield connection

    def check(self, connection: Connection) -> None:
        """Raise unless all text can be stored."""
        if not self.is_file:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if encoding != "UTF8":
                raise StoreError(f"the feedback store {self.name} is in {encoding}: give a database in UTF8")

    def last(self) -> int:
        """The number of the last row, 0 where there is none: cheap enough to ask all the time."""
        driver = self.engine.dialect.dbapi
        assert driver is not None
        with self._explained(), self._watching:
            try:
                return self._asked()
            except driver.Error:
                self._unwatch()  # the server may have been started anew
                return self._asked()

    def _asked(self) -> int:
        if self._watch is None:
            self._watch = self.engine.raw_connection()
            self._watch.detach()
            if not self.is_file:
                self._watch.dbapi_connection.autocommit = True
        ask = self._watch.dbapi_connection.execute
        if not self.is_file:
            return int(ask(LAST).fetchone()[0] or 0)
        # This number changes when another connection has committed; it is read first, so that no commit goes by unseen.
        [(version,)] = ask("PRAGMA data_version").fetchall()
        if version != self._last[0]:
            self._last = version, int(ask(LAST).fetchall()[0][0] or 0)
        return self._last[1]

    def _unwatch(self) -> None:
        watch, self._watch, self._last = self._watch, None, (-1, 0)
        if watch is not None:
            watch.close()

    def scrub(self) -> None:
        """Leave nothing of deleted rows in SQLite's log beside the file either, unless readers are in the way."""
        if not self.is_file:
            return
        with self._explained():
            held = self.engine.raw_connection()
            driver: Any = held.driver_connection
            try:
                driver.execute("PRAGMA busy_timeout = 1000")  # writers wait as long as this one does
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout = {1000 * SECONDS_BUSY}")
                held.close()

    def close(self) -> None:
        """Give all connections back."""
        with self._watching:
            self._unwatch()
        self.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        driver = self.engine.dialect.dbapi
        assert driver is not None
        try:
            yield
        except (SQLAlchemyError, driver.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            text = " ".join(str(cause).split())
            for secret in self._secrets:
                text = text.replace(secret, "…")
            raise StoreError(f"the feedback store {self.name}: {text}{_advice(text)}") from None

    def _check_folder(self, address: URL) -> None:
        path = str(address.database)
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise StoreError(f"the feedback store {path}: there is no folder {folder}: make it first")
        if os.path.isdir(path):
            raise StoreError(f"the feedback store {path} is a folder: give the path of a file in it")
        # SQLite keeps its log in files beside the database, even for readers.
        if not os.access(folder, os.W_OK | os.X_OK) or (
            os.path.exists(path) and not os.access(path, os.W_OK)
        ):
            raise StoreError(f"the feedback store {path}: no permission to write in {folder}")


def _address(text: str) -> URL:
    sa = _sqlalchemy()
    if "://" not in text:
        if not text or text == ":memory:":
            raise StoreError("the feedback store has no path: give that of a file, such as feedback.db")
        return _file(text)
    try:
        address: URL = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # their message has the text, and the text a password
        raise StoreError(
            "the URL of the feedback store is not one: give sqlite:///path.db, or postgresql://user@host/name"
        ) from None
    kind = address.drivername.partition("+")[0]
    if kind == "sqlite":
        if address.database in (None, "", ":memory:") or address.query or address.host:
            raise StoreError(
                "the feedback store is a file of SQLite: give sqlite:///path.db, with three slashes (four for a path "
                "from the root), and nothing after the path"
            )
        return _file(str(address.database))
    if kind not in ("postgresql", "postgres"):
        raise StoreError(
            f"the feedback store cannot be {kind}: give sqlite:///path.db, or postgresql://user@host/name"
        )
    return address.set(drivername="postgresql+psycopg")


def _file(path: str) -> URL:
    if "\0" in path:
        raise StoreError("the path of the feedback store has a zero byte in it")
    url: URL = _sqlalchemy().URL.create("sqlite", database=os.path.abspath(path))
    return url


def _name(address: URL) -> str:
    if address.drivername == "sqlite":
        return str(address.database)
    host = address.host or address.query.get("host") or "localhost"
    return f"postgresql://{host}{f':{address.port}' if address.port else ''}/{address.database or ''}"


def _engine(address: URL) -> Engine:
    sa = _sqlalchemy()
    if address.drivername != "sqlite":
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise MissingExtraError.of("a feedback store in PostgreSQL", "psycopg", "serve") from None
        # Without a limit a server that has gone silent would hold every request for a quarter of an hour.
        limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "hatrix"}
        made: Engine = sa.create_engine(
            address,
            connect_args={name: value for name, value in limits.items() if name not in address.query},
            pool_pre_ping=True,
            hide_parameters=True,
        )
        return made
    made = sa.create_engine(
        address,
        connect_args={"isolation_level": None, "timeout": SECONDS_BUSY, "check_same_thread": False},
        hide_parameters=True,
    )
    sa.event.listen(made, "connect", lambda connection, _: _set_up(connection, str(address.database)))
    sa.event.listen(made, "begin", _begin)
    return made


def _set_up(connection: Any, path: str) -> None:
    """A new connection to SQLite: whatever is committed is on the disk, and what is deleted is overwritten."""
    import sqlite3

    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if names and not names & {FEEDBACK, META}:
        raise StoreError(
            f"{path} is no feedback store, it has a table {min(names)!r}: give the path of another file"
        )
    until = time.monotonic() + SECONDS_BUSY
    while True:
        try:
            # The first to open a file changes it, and SQLite lets others fail meanwhile instead of wait.
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise sqlite3.OperationalError(f"its file system allows no write-ahead log (the journal is {mode})")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("hatrix_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _advice(text: str) -> str:
    """What to do about a complaint."""
    for part, advice in (
        ("not a database", ": give another path"),
        ("unable to open", ": see that files can be made in its folder"),
        ("malformed", ": restore it from a copy"),
        ("readonly", ": see to the permissions of the file and its folder"),
        ("locked", ": another program has been writing to it for long"),
        ("lock timeout", ": another program has been writing to it for long"),
        ("Connection refused", " (see that the server runs, and to host and port)"),
    ):
        if part in text:
            return advice
    return ""
