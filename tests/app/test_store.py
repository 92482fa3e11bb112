"""The feedback store: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import postgres
from hatrix.app import store as store_module
from hatrix.app.store import Change, Rating, Store
from hatrix.errors import DataError, HatrixError, MissingExtraError, StoreError

LARGEST = 2**63 - 1


def opened(url: str, users="str", items="int") -> Store:
    return Store.open(url, users=users, items=items)


@pytest.fixture
def store(store_url):
    with opened(store_url) as made:
        yield made


@pytest.fixture
def two_stores(store_url):
    """One database, opened twice."""
    with opened(store_url) as first, opened(store_url) as second:
        assert first.identity == second.identity
        yield first, second


def test_ratings_get_numbers_in_order(store):
    assert store.position() == 0
    assert store.of("ann") == []
    assert store.add("ann", [(50, 4.0, None), (172, 5.0, 1_700_000_000)]) == 2
    assert store.add("bob", [(50, 1, 7)]) == 3
    assert store.add("ann", [(50, 3.5, -1)]) == store.position() == 4
    assert store.changes(0) == [
        Change(1, "ann", 50, 4.0, None),
        Change(2, "ann", 172, 5.0, 1_700_000_000),
        Change(3, "bob", 50, 1.0, 7),
        Change(4, "ann", 50, 3.5, -1),
    ]
    assert store.changes(1, limit=2) == store.changes(0)[1:3]
    assert store.changes(4) == []
    assert store.of("ann") == [Rating(172, 5.0, 1_700_000_000, 2), Rating(50, 3.5, -1, 4)]


def test_who_is_deleted_leaves_a_tombstone_alone(store):
    store.add("ann the first", [(item, 4.0, None) for item in range(300)])
    store.add("bob", [(1, 2.0, None)])
    assert store.delete("ann the first") == 302
    assert store.changes(0) == [
        Change(301, "bob", 1, 2.0, None),
        Change(302, "ann the first", None, None, None),
    ]
    assert store.of("ann the first") == []
    store.add("ann the first", [(5, 1.0, None)])
    assert store.of("ann the first") == [Rating(5, 1.0, None, 303)]
    assert store.delete("ann the first") == store.delete("ann the first") - 1 == 304
    assert [change.sequence for change in store.changes(0)] == [301, 305]
    assert store.delete("nobody we know") == 306


def test_what_is_deleted_is_in_no_file(tmp_path):
    path = tmp_path / "f.db"
    with opened(str(path), items="str") as store:
        store.add("ann", [(f"a very private item {number}", 4.0, None) for number in range(200)])
        assert b"a very private item" in b"".join(file.read_bytes() for file in tmp_path.iterdir())
        store.delete("ann")
        assert b"a very private item" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"ann" in path.read_bytes()


@pytest.mark.parametrize("kind", ["int", "str"])
def test_ids_come_back_as_they_were(store_url, kind):
    labels = {
        "int": [0, -1, 7, LARGEST, -LARGEST - 1, np.int64(9), np.uint8(3)],
        "str": ["7", "07", " 7", "7.0", "é", "e\u0301", "日本", "\U0001f600", "a\nb", "'; --", "Ann", "ann", "x" * 2000],
    }[kind]  # fmt: skip
    with opened(store_url, kind, kind) as store:
        store.add(labels[0], [(label, 1.0, None) for label in labels])
        for label in labels[1:]:
            store.add(label, [(label, 2.0, LARGEST)])
        changes = store.changes(0)
        assert [change.item for change in changes] == [*labels, *labels[1:]]
        assert {type(change.item) for change in changes} == {int if kind == "int" else str}
        for label in labels[1:]:
            assert [rating.item for rating in store.of(label)] == [label]


def test_texts_know_a_number_by_its_digits(store):
    store.add(7, [(1, 2.0, None)])
    assert store.of("7") == store.of(7) == [Rating(1, 2.0, None, 1)]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**63), LARGEST),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=99),
)
def test_all_values_come_back(store, value, number, text):
    store.add(text, [(number, value, number)])
    assert store.of(text)[-1][:3] == (number, value, number)


@pytest.mark.parametrize(
    ("user", "rating", "because"),
    [
        ("a\0b", (1, 3.0, None), "has a zero byte"),
        ("", (1, 3.0, None), "user id '' is empty"),
        ("\udc80", (1, 3.0, None), "is not Unicode text"),
        ("é" * 1001, (1, 3.0, None), "has 2,002 bytes: the longest has 2,000"),
        (None, (1, 3.0, None), "user id None is none"),
        (True, (1, 3.0, None), "user id True is none"),
        (1.5, (1, 3.0, None), "user id 1.5 is not text"),
        (b"ann", (1, 3.0, None), "is not text"),
        (10**5000, (1, 3.0, None), "is not text"),
        ("ann", (2**63, 3.0, None), "9223372036854775808 is beyond 64 bits"),
        ("ann", (-(2**63) - 1, 3.0, None), "is beyond 64 bits"),
        ("ann", (10**5000, 3.0, None), "of thousands of digits is beyond 64 bits"),
        ("ann", ("7", 3.0, None), "item id '7' is not a whole number"),
        ("ann", (7.5, 3.0, None), "item id 7.5 is not a whole number"),
        ("ann", (False, 3.0, None), "item id False is none"),
        ("ann", (1, float("nan"), None), "rating nan is not a finite number"),
        ("ann", (1, float("-inf"), None), "is not a finite number"),
        ("ann", (1, 10**400, None), "is not a finite number"),
        ("ann", (1, "3", None), "rating '3' is not a finite number"),
        ("ann", (1, None, None), "is not a finite number"),
        ("ann", (1, True, None), "is not a finite number"),
        ("ann", (1, 3.0, 1.5), "time 1.5 is not a whole number of seconds"),
        ("ann", (1, 3.0, "now"), "is not a whole number of seconds"),
        ("ann", (1, 3.0, 2**63), "is not a whole number of seconds"),
        ("ann", (1, 3.0, True), "is not a whole number of seconds"),
    ],
    ids=lambda value: value[:30].encode("ascii", "replace").decode() if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused_whole(tmp_path, user, rating, because):
    with opened(str(tmp_path / "f.db")) as store:
        with pytest.raises(DataError, match=re.escape(because)) as caught:
            store.add(user, [(1, 5.0, None), rating])
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()
        assert store.position() == 0


def test_no_ratings_are_an_error(store):
    with pytest.raises(DataError, match="no ratings to add"):
        store.add("ann", [])


# A plain model of the log: what any sequence of writes must come to, whoever makes them.

WRITES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from("abc"),
        st.none() | st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=3),
    ),
    max_size=25,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WRITES)
def test_the_log_is_that_of_a_plain_list(two_stores, writes):
    first, second = two_stores
    start = first.position()
    log: list[Change] = []
    for user in "abc":
        first.delete(user)
        log.append(Change(first.position(), user, None, None, None))
    for which, user, ratings in writes:
        one, other = (first, second) if which else (second, first)
        last = log[-1].sequence
        if ratings is None:
            log = [change for change in log if change.user != user]
            log.append(Change(last + 1, user, None, None, None))
            assert one.delete(user) == last + 1
        else:
            rows = [(item, float(value), None) for item, value in ratings]
            log += [
                Change(last + number, user, item, value, None)
                for number, (item, value, _) in enumerate(rows, 1)
            ]
            assert one.add(user, rows) == log[-1].sequence
        assert other.position() == one.position() == log[-1].sequence
    for store in (first, second):
        assert store.changes(start) == log
        assert store.changes(start, limit=2) == log[:2]
        for user in "abc":
            latest = {c.item: (c.value, c.sequence) for c in log if c.user == user and c.item is not None}
            assert {item: (value, at) for item, value, _, at in store.of(user)} == latest


# Many writers and readers.


def test_threads_lose_nothing_and_readers_skip_nothing(store_url):
    with opened(store_url, "int", "int") as one, opened(store_url, "int", "int") as two:
        numbers: dict[tuple[int, int], int] = {}
        done = threading.Event()
        seen: list[int] = []

        def write(user: int) -> None:
            for item in range(25):
                numbers[user, item] = (one, two)[user % 2].add(
                    user, [(item, 1.0, None), (item + 100, 2.0, None)]
                )

        def read() -> None:
            finished = False
            while not finished:
                finished = done.is_set()
                for change in two.changes(seen[-1] if seen else 0, limit=7):
                    seen.append(change.sequence)
                    finished = False

        reader, writers = (
            threading.Thread(target=read),
            [threading.Thread(target=write, args=(user,)) for user in range(6)],
        )
        reader.start()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        done.set()
        reader.join()
        assert seen == list(range(1, 301))
        assert sorted(numbers.values()) == list(range(2, 301, 2))
        rows = {change.sequence: (change.user, change.item) for change in one.changes(0)}
        assert all(rows[number] == (user, item + 100) for (user, item), number in numbers.items())


def test_a_change_by_another_is_seen_at_once(store_url):
    with opened(store_url) as one, opened(store_url) as two:
        for turn in range(1, 20):
            (one, two)[turn % 2].add("ann", [(1, 2.0, None)])
            assert one.position() == two.position() == turn


def test_processes_that_open_a_new_store_at_once_agree(store_url):
    code = (
        "import sys; from hatrix.app.store import Store; s = Store.open(sys.argv[1], users='str', items='int'); "
        "[s.add('u', [(1, 2.0, None)]) for _ in range(5)]; print(s.identity)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, store_url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    identities = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 3
    assert len(identities) == 1
    with opened(store_url) as store:
        assert identities == {f"{store.identity}\n"}
        assert [change.sequence for change in store.changes(0)] == list(range(1, 16))


def test_a_failed_write_is_told_to_all_that_waited(store, monkeypatch):
    gate, entered = threading.Event(), threading.Event()
    whole = Store._insert

    def failing(self, connection, jobs):
        entered.set()
        gate.wait(10)
        whole(self, connection, jobs)
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "_insert", failing)
    told: list[str] = []

    def write() -> None:
        try:
            store.add("ann", [(1, 2.0, None)])
        except StoreError as error:
            told.append(str(error))

    threads = [threading.Thread(target=write) for _ in range(4)]
    threads[0].start()
    entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert told == ["the disk is full"] * 4
    monkeypatch.undo()
    assert store.position() == 0
    assert store.add("ann", [(1, 2.0, None)]) == 1


def test_a_long_queue_is_written_in_parts(store, monkeypatch):
    monkeypatch.setattr(store_module, "AT_ONCE", 3)
    store.add("ann", [(item, 1.0, None) for item in range(10)])
    threads = [
        threading.Thread(target=store.add, args=("bob", [(item, 2.0, None)] * 2)) for item in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [change.sequence for change in store.changes(0, limit=10**9)] == list(range(1, 31))
    assert len(store.changes(0, limit=3)) == 3


def test_sqlite_is_set_to_lose_nothing(tmp_path):
    with opened(str(tmp_path / "f.db")) as store, store._database.reading() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "busy_timeout": 30_000}


# An acknowledged write survives the death of the process.

WRITER = """
import json, sys, threading
from hatrix.app.store import Store
store = Store.open(sys.argv[1], users='str', items='int')
def work(name):
    for item in range(10**9):
        number = store.add(name, [(item, 3.5, item)])
        sys.stdout.write(json.dumps([number, name, item]) + chr(10))
        sys.stdout.flush()
for name in sys.argv[2:]:
    threading.Thread(target=work, args=(name,)).start()
"""


def test_what_was_acknowledged_outlives_the_writer(store_url):
    chance = np.random.default_rng(1)
    acknowledged: dict[int, tuple[str, int]] = {}
    lives = 0
    while len(acknowledged) < 300 or lives < 4:
        names = [f"life {lives}, thread {number}" for number in range(3)]
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, store_url, *names], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(int(chance.integers(1, 150)))]
        child.kill()
        lines += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        for line in lines:
            if line.endswith("\n"):
                number, name, item = json.loads(line)
                assert number not in acknowledged
                acknowledged[number] = name, item
        lives += 1
    with opened(store_url) as store:
        rows = {change.sequence: change for change in store.changes(0, limit=10**9)}
    assert list(rows) == list(range(1, len(rows) + 1))
    for number, (name, item) in acknowledged.items():
        assert rows[number] == Change(number, name, item, 3.5, item)


# What is wrong is said in a line.


def complaint(url: str, users="str", items="int") -> str:
    with pytest.raises(StoreError) as caught:
        opened(url, users, items)
    text = str(caught.value)
    assert text.isprintable()
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return text


def test_other_kinds_of_ids_are_refused(store_url):
    opened(store_url).close()
    assert "user ids of the feedback store" in complaint(store_url, users="int")
    assert "are text, those asked for whole numbers" in complaint(store_url, users="int")
    assert "item ids of the feedback store" in complaint(store_url, items="str")
    opened(store_url).close()


def test_a_newer_or_broken_schema_is_refused(store_url):
    with opened(store_url) as store:
        for said, because in (
            ("schema = '2'", "was made by a newer hatrix: upgrade hatrix"),
            ("schema = 'x'", "is no feedback store: what its table"),
            ("identity = 'x'", "is no feedback store"),
        ):
            name, value = said.split(" = ")
            with store._database.writing() as connection:
                old = connection.exec_driver_sql(
                    f"SELECT value FROM hatrix_meta WHERE name = '{name}'"
                ).scalar_one()
                connection.exec_driver_sql(f"UPDATE hatrix_meta SET value = {value} WHERE name = '{name}'")
            assert because in complaint(store_url)
            with store._database.writing() as connection:
                connection.exec_driver_sql(f"UPDATE hatrix_meta SET value = '{old}' WHERE name = '{name}'")


def test_files_that_are_no_store(tmp_path):
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"Once upon a time, there was no database at all. " * 99)
    assert "file is not a database: give another path" in complaint(str(junk))
    assert junk.read_bytes().startswith(b"Once upon")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE accounts (id)")
    connection.close()
    before = other.read_bytes()
    assert "has a table 'accounts'" in complaint(str(other))
    assert str(other) in complaint(str(other))
    assert other.read_bytes() == before
    assert "is a folder" in complaint(str(tmp_path))
    assert f"there is no folder {tmp_path}/none" in complaint(str(tmp_path / "none" / "f.db"))
    assert "/proc/f.db" in complaint("/proc/f.db")
    (tmp_path / "empty.db").touch()
    opened(str(tmp_path / "empty.db")).close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert f"no permission to write in {tmp_path}" in complaint(str(tmp_path / "f.db"))
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("", "no path"),
        (":memory:", "no path"),
        ("sqlite://", "three slashes"),
        ("sqlite:///:memory:", "three slashes"),
        ("sqlite:///f.db?mode=ro", "nothing after the path"),
        ("mysql://root:secret@localhost/x", "cannot be mysql"),
        ("postgresql://u:secret@h:port/x", "is not one: give sqlite:///path.db"),
        ("://u:secret@", "is not one"),
        ("f\0.db", "zero byte"),
        ("postgresql://u:secret@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x: "),
        ("postgresql://u@127.0.0.1:1/x?password=secret", "see that the server runs"),
        ("postgresql://u:secret@nowhere.invalid/x", "nowhere.invalid"),
        ("postgres://u:secret@127.0.0.1:1/x?nonsense=secret", "postgresql://127.0.0.1:1/x: "),
    ],
)
def test_urls_that_lead_nowhere(url, because):
    text = complaint(url)
    assert because in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("package", "url"), [("sqlalchemy", "f.db"), ("psycopg", "postgresql://x@127.0.0.1/x")]
)
def test_a_package_that_is_missing_is_named(package, url, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs the package {package}.* install '\.\[serve\]'"):
        opened(url)


def test_a_wrong_password_is_told_without_it(server, caplog):
    caplog.set_level("DEBUG")
    text = complaint(server.url("not%20the%20password"))
    assert "password authentication failed" in text
    with opened(server.url()) as store:
        assert postgres.PASSWORD not in f"{store!r} {store.name}"
        assert postgres.USER not in store.name
        store._database._secrets.append("division")
        with pytest.raises(StoreError) as caught, store._database.reading() as connection:
            connection.exec_driver_sql("SELECT 1 / 0")
    assert "… by zero" in str(caught.value)
    for told in (text, str(caught.value), caplog.text):
        assert "not the password" not in told
        assert postgres.PASSWORD not in told
    assert "database" in complaint(server.url(database="none"))


def test_a_database_in_another_encoding(server):
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    assert "is in LATIN1: give a database in UTF8" in complaint(server.url(database="latin"))


def test_a_connection_that_was_cut_is_made_anew(server):
    url = server.fresh()
    with opened(url) as store, opened(url) as other:
        store.add("ann", [(1, 2.0, None)])
        assert store.position() == 1
        with other._database.reading() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'hatrix' AND pid <> pg_backend_pid()"
            )
        assert store.position() == 1
        assert store.add("ann", [(1, 3.0, None)]) == 2
        assert store.of("ann") == [Rating(1, 3.0, None, 2)]


def test_writes_of_a_server_that_does_not_wait_for_the_disk_are_waited_for(server):
    url = f"{server.fresh()}%20-csynchronous_commit%3Doff"
    with opened(url) as store:
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off"
        with store._database.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_store_that_has_gone_is_told(tmp_path):
    path = tmp_path / "f.db"
    with opened(str(path)) as store:
        with store._database.writing() as connection:
            connection.exec_driver_sql("DROP TABLE hatrix_feedback")
        for ask in (store.position, lambda: store.of("ann"), lambda: store.add("ann", [(1, 2.0, None)])):
            with pytest.raises(HatrixError, match=re.escape(f"the feedback store {path}: no such table")):
                ask()
