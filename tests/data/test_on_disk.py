"""Ratings read onto disk are those read in memory, whatever the layout, and several files are one after another."""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import hatrix as hx
from hatrix.data import files as files_module
from hatrix.data import pairs, stored, text
from hatrix.data.disk import Disk
from hatrix.data.lines import pieces_of_text
from hatrix.data.tables import Parquet
from hatrix.errors import DataError, ParameterError

MEMORY = "4GB"


@pytest.fixture(params=["small pieces", "one piece"])
def pieces(request, monkeypatch):
    """Pieces of a few rows, so that small files have many, and pieces that hold all."""
    if request.param == "small pieces":
        small(monkeypatch)
    return request.param


any_pieces = pytest.mark.usefixtures("pieces")


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatrix.data.read.rows_at_once", lambda _: 7)
    monkeypatch.setattr(stored, "rows_at_once", lambda _: 5)
    monkeypatch.setattr(pairs, "LEAST_IN_FILE", 10)
    monkeypatch.setattr(pairs, "BYTES_PER_ROW", 1 << 40)
    cut = files_module.pieces_of_text
    monkeypatch.setattr(files_module, "pieces_of_text", lambda *where: cut(*where[:3], 100))


def equal(stored: hx.Ratings, wanted: hx.Ratings) -> None:
    for one, other in zip(stored.columns, wanted.columns, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for ids, others in ((stored.users, wanted.users), (stored.items, wanted.items)):
        assert ids == others
        assert ids.labels.dtype == others.labels.dtype
    told = ("scale", "implicit", "name", "report", "fingerprint", "mean", "deviation")
    assert {name: getattr(stored, name) for name in told} == {name: getattr(wanted, name) for name in told}
    assert stored.disk is not None
    assert wanted.disk is None


def both(source: object, **how: object) -> hx.Ratings:
    """The ratings in memory, after a look that those on disk are equal."""
    wanted = hx.read(source, **how)
    equal(hx.read(source, memory=MEMORY, progress=False, **how), wanted)
    return wanted


def frame(rows: int = 60, seed: int = 0, **more: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {
        "user": rng.integers(-3, 12, rows),
        "item": rng.integers(1, 9, rows) * 10**12,
        "rating": rng.integers(1, 11, rows) / 2,
        "time": rng.integers(0, 20, rows) + 10**9,
    }
    return pd.DataFrame(columns | more)


def words(rows: int = 60) -> list[str]:
    return [
        ["Zoë", "007", "7", "a b", "😀", "x" * 300][n] for n in np.random.default_rng(5).integers(0, 6, rows)
    ]


LAYOUTS: dict[str, pd.DataFrame] = {
    "integers with repeated pairs and times": frame(),
    "without times": frame().drop(columns="time"),
    "without repeated pairs": frame().drop_duplicates(["user", "item"]),
    "in order already": frame().drop_duplicates(["user", "item"]).sort_values(["user", "item"]),
    "events": frame()[["user", "item"]],
    "events with times": frame()[["user", "item", "time"]],
    "counts": frame().rename(columns={"rating": "plays"}),
    "texts": frame(user=words()),
    "uuids": frame(user=[str(uuid.UUID(int=n % 7)) for n in range(60)]),
    "integers that turn to text late": frame(user=[*map(str, range(59)), "x"]),
    "dates": frame(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60)[::-1] // 2, "D")),
}
# Those that a boundary between files touches in a way of its own; `make test` reads only these from several files.
TELLING = (
    "integers with repeated pairs and times",
    "texts",
    "integers that turn to text late",
    "events with times",
)


@any_pieces
@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "layout",
    [name if name in TELLING else pytest.param(name, marks=pytest.mark.campaign) for name in LAYOUTS],
)
def test_the_same_as_in_memory(tmp_path, layout, kind):
    path = tmp_path / f"ratings.{kind}"
    table = LAYOUTS[layout]
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, row_group_size=11)
    ratings = both(path)
    assert (layout.startswith(("events", "counts"))) == ratings.implicit
    alone = ("without repeated pairs", "in order already", "integers that turn to text late")
    assert (ratings.report.duplicates > 0) == (layout not in alone)


@pytest.mark.parametrize(
    "kind", ["float64", "int8", "uint64", "bool", "decimal", "hugeint", "uuid", "float ids"]
)
@any_pieces
def test_types_of_parquet(tmp_path, kind):
    import duckdb

    user = {
        "bool": "user > 3", "uint64": "(user + 18446744073709551600 - 5 * (user % 3))::UBIGINT", "int8": "user::TINYINT",
        "decimal": "user::DECIMAL(38, 0)", "hugeint": "user::HUGEINT * 1000000000000000000",
        "uuid": "md5(user::VARCHAR)::UUID", "float64": "user::DOUBLE", "float ids": "user / 4",
    }[kind]  # fmt: skip
    path = tmp_path / "ratings.parquet"
    with duckdb.connect() as connection:
        connection.register("made", frame(user=np.random.default_rng(2).integers(0, 15, 60)))
        connection.execute(f"COPY (SELECT {user} AS user, item, rating, time FROM made) TO '{path}'")
    both(path)


def test_large_row_groups_are_cut(tmp_path, monkeypatch):
    path = tmp_path / "ratings.parquet"
    frame(500).to_parquet(path)
    monkeypatch.setattr("hatrix.data.read.rows_at_once", lambda _: 7)
    cut = []
    regrouped = Parquet.regrouped
    monkeypatch.setattr(Parquet, "regrouped", lambda *where: cut.append(1) or regrouped(*where))
    both(path)
    assert cut


@any_pieces
def test_a_row_group_larger_than_memory(tmp_path, monkeypatch):
    path = tmp_path / "ratings.parquet"
    frame(300_000, user=np.arange(300_000).astype(str)).to_parquet(path)
    monkeypatch.setattr(Disk, "room", lambda _: 4_000_000)
    with pytest.raises(
        DataError, match=r"ratings.parquet: a row group takes more than the memory allowed: allow more, or"
    ):
        hx.read(path, memory=MEMORY, progress=False)


def test_any_names_of_columns(tmp_path):
    path = tmp_path / "ratings.parquet"
    frame().rename(columns={"user": "file_row_number", "item": 'it"em'}).to_parquet(path)
    both(path, user=0, item='it"em')


TEXTS = {
    "blank lines before the header": "\n" * 250 + "user,item,rating\n1,2,3\n2,2,4\n",
    "double colons": "1::10::5::978300760\n2::10::3::978302109\n1::11::4::978301968\n" * 9,
    "windows": "user,item,rating\r\n1,2,3\r\n\r\n4,5,6\r\n",
    "old mac": "user,item,rating\r1,2,3\r4,5,6\r" * 1,
    "no line end": "user,item,rating\n1,2,3\n4,5,6",
    "blank lines": "user,item,rating\n\n1,2,3\n  \n4,5,6\n\n\n",
    "header only in front": "user,item,rating\n" + "".join(f"{n},{n % 3},{n % 5}\n" for n in range(50)),
    "quoted": 'user,item,rating\n"a,b",1,3\n"c ""d""",2,4\n' * 1 + '"e",3,5\nf,4,1\n' * 20,
    "quotes over lines": "user,item,rating\n" + '"a\nb",1,3\n"c\n\n""\nd",2,4\ne,3,5\n' * 9,
    "byte order mark": "\ufeffuser,item,rating\n1,2,3\n4,5,6\n",
}
BAD = {
    "a word for a number": "user,item,rating\n"
    + "1,2,3\n" * 20
    + "4,5,x\n"
    + "6,7,8\n" * 20
    + "9,1,\n,1,2\n",
    "columns": "user,item,rating\n" + "1,2,3\n4,5\n" * 9,
    "open quotes": "user,item,rating\n" + '1,2,3\n"4,5,6\n' + "7,8,9\n" * 150 + '"1,2\n"\n',
    "stray quotes": "user,item,rating\n" + '1,2,3\na"b,5,6\n"7"x,8,9\n"8"\n' * 12,
    "late text time": "user,item,rating,time\n" + "1,2,3,4\n" * 20 + "1,3,3,2020-01-01\n1,4,3,soon\n",
    "everything": "user,item,rating\n" + "1,2,x\n" * 20 + "1,2,3\n",
}


@any_pieces
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_texts(tmp_path, content):
    path = tmp_path / "ratings.csv"
    path.write_bytes(content.encode())
    both(path)


@any_pieces
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_rows_have_their_lines(tmp_path, content):
    path = tmp_path / "ratings.csv"
    path.write_text(content)
    ratings = both(path, skip_bad_rows=True)
    assert ratings.report.rejected
    messages = []
    for how in ({}, {"memory": MEMORY}):
        with pytest.raises(DataError) as caught:
            hx.read(path, **how)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("content", [*TEXTS.values(), *BAD.values()], ids=[*TEXTS, *BAD])
def test_large_texts_are_read_in_pieces_in_memory_too(tmp_path, monkeypatch, content):
    path = tmp_path / "ratings.csv"
    path.write_bytes(content.encode())
    wanted = hx.read(path, skip_bad_rows=True)
    monkeypatch.setattr(files_module, "LARGEST_AT_ONCE", 0)
    monkeypatch.setattr(files_module, "LARGEST_PIECE", 100)
    found = hx.read(path, skip_bad_rows=True)
    assert (found.fingerprint, found.report, found.scale) == (wanted.fingerprint, wanted.report, wanted.scale)


@any_pieces
def test_bad_rows_of_parquet(tmp_path):
    path = tmp_path / "ratings.parquet"
    table = frame().astype({"rating": object, "user": object})
    table.loc[[3, 30, 31], "rating"] = np.nan
    table.loc[40, "user"] = None
    table.to_parquet(path)
    assert both(path, skip_bad_rows=True).report.rejected == 4
    with pytest.raises(DataError, match=r"not finite|rating .*cannot be read|missing or empty"):
        hx.read(path, memory=MEMORY)
    table.loc[[3, 31], "rating"] = 1.0
    table.loc[40, "user"] = 1
    table.to_parquet(path)
    with pytest.raises(DataError, match="row 30"):
        hx.read(path, memory=MEMORY)


@any_pieces
def test_packed_and_recoded(tmp_path):
    content = "user;item;rating\n" + "Zoë;1;2,5\nAnn;1;3\n".replace(",5", "") * 20
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(content.encode("latin-1")))
    assert both(path, encoding="latin-1").users.labels.tolist() == ["Ann", "Zoë"]
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        hx.read(path, memory=MEMORY)


names = st.sampled_from(["1", "2", "007", "7", "b c", "-5", "0", '"q', "é", str(2**63)])
lines = st.lists(
    st.tuples(
        names, names, st.sampled_from(["1", "2.5", "x", ""]), st.sampled_from(["3", "2020-01-01", "", "9"])
    ),
    min_size=1,
    max_size=60,
)


any_lines = given(lines, st.booleans(), st.booleans(), st.integers(1, 4))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@any_lines
def test_any_lines(tmp_path, rows, timed, rated, parts):
    the_same_in_parts(tmp_path, rows, timed, rated, parts)


@pytest.mark.campaign
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@any_lines
def test_many_lines(tmp_path, rows, timed, rated, parts):
    the_same_in_parts(tmp_path, rows, timed, rated, parts)


def the_same_in_parts(tmp_path, rows, timed, rated, parts):
    header = ["user", "item", *(["rating"] if rated else []), *(["time"] if timed else [])]
    records = [(u, i, *([r] if rated else []), *([t] if timed else [])) for u, i, r, t in rows]
    folder = tmp_path / str(uuid.uuid4())
    folder.mkdir()
    for part in range(parts):
        some = records[part * len(rows) // parts : (part + 1) * len(rows) // parts]
        text = "\n".join(",".join(record) for record in [header, *some])
        (folder / f"part-{part}.csv").write_text(text + "\n")
    whole = folder / "whole.csv"
    whole.write_text("\n".join(",".join(record) for record in [header, *records]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        one, several = (_or_none(source) for source in (whole, str(folder / "part-*.csv")))
    if '"' in whole.read_text():  # a quote that is open at the end of a file does not go on in the next one
        return
    assert (one is None) == (several is None)
    if one is not None and several is not None:
        assert several.fingerprint == one.fingerprint
        assert several.report.accepted == one.report.accepted
        assert several.report.duplicates == one.report.duplicates


def _or_none(source: object) -> hx.Ratings | None:
    """The ratings, the same in memory and on disk; None if neither has any."""
    try:
        hx.read(source, skip_bad_rows=True)
    except DataError:
        with pytest.raises(DataError, match="no ratings"):
            hx.read(source, skip_bad_rows=True, memory=MEMORY)
        return None
    return both(source, skip_bad_rows=True)


@given(st.text('a",\n\r', max_size=400), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_no_record_is_cut(tmp_path_factory, content, size):
    path = tmp_path_factory.mktemp("cut") / "some.csv"
    path.write_bytes(content.encode())

    def records(text_of: str) -> list[tuple[list[str], str]]:
        lines = text_of.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return [(cells, wrong) for _, cells, wrong in text.records(iter(lines), ",") if cells or wrong]

    cut = [piece.text.decode() for piece in pieces_of_text(path, "some.csv", ",", size)]
    assert "".join(cut) == content
    assert [record for piece in cut for record in records(piece)] == records(content)


class TestSeveralFiles:
    def parts(self, folder: Path, kind: str, table: pd.DataFrame) -> list[Path]:
        """The table in files of 25 rows, one of them without any."""
        paths = [folder / f"part-{number}.{kind}" for number in range(4)]
        for path, some in zip(paths, (table[:25], table[:0], table[25:50], table[50:]), strict=True):
            some.to_csv(path, index=False) if kind == "csv" else some.to_parquet(path)
        return paths

    @pytest.mark.parametrize(
        "pieces", ["one piece", pytest.param("small pieces", marks=pytest.mark.campaign)], indirect=True
    )
    @pytest.mark.usefixtures("pieces")
    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    @pytest.mark.parametrize(
        "layout",
        [name if name in TELLING else pytest.param(name, marks=pytest.mark.campaign) for name in LAYOUTS],
    )
    def test_they_are_read_as_one_after_another(self, tmp_path, kind, layout):
        table = LAYOUTS[layout]
        whole = tmp_path / f"whole.{kind}"
        table.to_csv(whole, index=False) if kind == "csv" else table.to_parquet(whole)
        paths = self.parts(tmp_path, kind, table)
        one = hx.read(whole, name="all")
        for source in (tuple(map(str, paths)), str(tmp_path / f"part-*.{kind}")):
            several = both(source, name="all")
            assert several.fingerprint == one.fingerprint
            assert (several.scale, several.implicit) == (one.scale, one.implicit)
            headers = 3 if kind == "csv" else 0
            assert several.report == replace(one.report, header=one.report.header + headers,
                                             records=one.report.records + headers)  # fmt: skip

    @any_pieces
    @pytest.mark.parametrize("place", [0, 1], ids=["first", "last"])
    @pytest.mark.parametrize("kind", [pa.null(), pa.float64(), pa.string()], ids=str)
    def test_a_parquet_file_without_rows_may_have_columns_of_any_type(self, tmp_path, kind, place):
        """Writers cannot know the types of columns that have no values."""
        frame().to_parquet(tmp_path / f"part-{1 - place}.parquet")
        nothing = pa.table({name: pa.array([], kind) for name in frame()})
        parquet.write_table(nothing, tmp_path / f"part-{place}.parquet")
        assert both(tmp_path).fingerprint == hx.read(tmp_path / f"part-{1 - place}.parquet").fingerprint

    def test_parquet_files_without_any_rows_have_no_ratings(self, tmp_path):
        for number in range(2):
            frame()[:0].to_parquet(tmp_path / f"part-{number}.parquet")
        with pytest.raises(DataError, match="has no ratings"):
            hx.read(tmp_path)

    @any_pieces
    def test_a_folder_as_spark_writes_it(self, tmp_path):
        folder = tmp_path / "big.parquet"
        folder.mkdir()
        self.parts(folder, "parquet", frame())
        (folder / "_SUCCESS").touch()
        (folder / ".part-0.parquet.crc").write_text("not ratings")
        ratings = both(folder)
        assert ratings.name == "big"
        assert ratings.report.records == 60

    @any_pieces
    def test_empty_files_are_passed_over(self, tmp_path):
        paths = self.parts(tmp_path, "csv", frame())
        (tmp_path / "part-0a.csv").touch()
        (tmp_path / "part-0b.csv").write_text("\n\n")
        assert len(both(str(tmp_path / "part-*.csv"))) == len(hx.read(paths))
        assert len(both([tmp_path / "part-0a.csv", *paths])) == len(hx.read(paths))
        with pytest.raises(DataError, match="no ratings"):
            hx.read([tmp_path / "part-0a.csv", tmp_path / "part-0b.csv"])

    @any_pieces
    def test_packed_files(self, tmp_path):
        for number in range(3):
            content = frame(20, number).to_csv(index=False)
            (tmp_path / f"part-{number}.csv.gz").write_bytes(gzip.compress(content.encode()))
        assert both(str(tmp_path / "part-?.csv.gz")).report.records == 63

    def test_one_layout_for_all(self, tmp_path):
        first = tmp_path / "a.csv"
        first.write_text("user,item,rating\n1,2,3\n")
        for content, said in {
            "user,item,stars\n1,2,3\n": "b.csv has 'user', 'item', 'stars', and .*a.csv has 'user', 'item', 'rating'",
            "user,item\n1,2\n": "b.csv has 'user', 'item'",
            "user,item,rating,time\n1,2,3,4\n": "b.csv has",
            "4,5,6\n": "b.csv has '4', '5', '6'",
        }.items():
            (tmp_path / "b.csv").write_text(content)
            for how in ({}, {"memory": MEMORY}):
                with pytest.raises(DataError, match=said):
                    hx.read([first, tmp_path / "b.csv"], **how)
        frame().to_parquet(tmp_path / "a.parquet")
        frame().astype({"user": str}).to_parquet(tmp_path / "b.parquet")
        for how in ({}, {"memory": MEMORY}):
            with pytest.raises(DataError, match=r"b.parquet: column 'user' is VARCHAR, and BIGINT in"):
                hx.read(str(tmp_path / "?.parquet"), **how)
            with pytest.raises(DataError, match=r"is Parquet and .* is text"):
                hx.read([first, tmp_path / "a.parquet"], **how)

    def test_there_must_be_some(self, tmp_path):
        with pytest.raises(DataError, match=r"no file that matches .*x-\*.csv"):
            hx.read(str(tmp_path / "x-*.csv"))
        with pytest.raises(DataError, match="no files"):
            hx.read([])
        with pytest.raises(DataError, match="the path of a file is empty"):
            hx.read("")
        with pytest.raises(DataError, match=r"there is no file .*nowhere.csv"):
            hx.read([tmp_path / "nowhere.csv"])
        path = tmp_path / "[odd]*.csv"
        path.write_text("user,item,rating\n1,2,3\n")
        assert len(hx.read(path)) == 1


class TestTheFolder:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "ratings.csv"
        frame(user=words()).to_csv(path, index=False)
        return path

    def test_a_temporary_one_goes_with_the_ratings(self, path):
        ratings = hx.read(path, memory=MEMORY)
        part = replace(ratings, name="other")
        folder = ratings.disk.folder
        assert folder.is_dir()
        del ratings
        assert folder.is_dir()
        del part
        assert not folder.exists()

    def test_what_is_there_is_used_again(self, path, tmp_path, monkeypatch):
        folder = tmp_path / "columns"
        one = hx.read(path, memory=MEMORY, folder=folder)
        monkeypatch.setattr("hatrix.data.read.store", lambda *_, **__: pytest.fail("read again"))
        equal(hx.read(path, memory="2GB", folder=folder), hx.read(path))
        monkeypatch.undo()
        assert sorted(entry.name for entry in folder.iterdir()) == [
            "item", "items", "ratings.json", "time", "user", "users", "users-end", "value",
        ]  # fmt: skip
        again = Mock(wraps=stored.store)
        monkeypatch.setattr("hatrix.data.read.store", again)
        assert hx.read(path, memory=MEMORY, folder=folder, scale=(0, 10)).scale == (0, 10)
        again.assert_called_once()
        monkeypatch.undo()
        path.write_text("user,item,rating\n1,2,3\n")
        equal(hx.read(path, memory=MEMORY, folder=folder), hx.read(path))
        assert len(one) > 1

    @pytest.mark.parametrize("spoil", ["cut", "json", "missing", "unfinished"])
    def test_what_is_not_whole_is_read_anew(self, path, tmp_path, spoil):
        folder = tmp_path / "columns"
        hx.read(path, memory=MEMORY, folder=folder)
        if spoil == "cut":
            os.truncate(folder / "value", 16)
        elif spoil == "json":
            (folder / "ratings.json").write_text("{")
        elif spoil == "missing":
            (folder / "users").unlink()
        else:
            facts = json.loads((folder / "ratings.json").read_text())
            (folder / "ratings.json").write_text(json.dumps({"source": facts["source"]}))
            (folder / "pair-3").write_bytes(b"12345678")
        equal(hx.read(path, memory=MEMORY, folder=folder), hx.read(path))
        assert not (folder / "pair-3").exists()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
    def test_a_temporary_one_stays_when_a_fork_ends(self, path):
        code = (
            f"import os, sys, hatrix as hx; ratings = hx.read({str(path)!r}, memory='4GB')\n"
            "if (child := os.fork()) == 0: sys.exit()\n"
            "os.waitpid(child, 0); sys.exit(not ratings.disk.folder.exists())"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda ratings: pickle.loads(pickle.dumps(ratings))])
    def test_a_copy_is_in_memory(self, path, again):
        copied = again(hx.read(path, memory=MEMORY))
        assert copied.disk is None
        assert copied.fingerprint == hx.read(path).fingerprint
        assert len(hx.ALS(epochs=1, factors=2).fit(copied).history) == 1

    def test_what_a_killed_process_left_goes_with_the_columns(self, path, tmp_path):
        folder = tmp_path / "columns"
        hx.read(path, memory=MEMORY, folder=folder)
        there = set(folder.iterdir())
        for name in (
            "regions-0123456789abcdef-0",
            "kept-0123456789abcdef-0",
            "duckdb_temp_storage-0.tmp",
        ):
            (folder / name).touch()
        hx.read(path, memory=MEMORY, folder=folder, name="other")
        assert set(folder.iterdir()) == there

    def test_only_one_reads_into_a_folder(self, path, tmp_path):
        folder = tmp_path / "columns"
        one = hx.read(path, memory=MEMORY, folder=folder)
        assert one.disk is not None
        with (
            one.disk.lock(),
            pytest.raises(
                DataError, match=rf"{folder}: this process \(number {os.getpid()}\) writes here now"
            ),
        ):
            hx.read(path, memory=MEMORY, folder=folder)
        with (
            one.disk.lock(shared=True),
            one.disk.lock(shared=True),
            pytest.raises(DataError, match="writes here now"),
        ):
            hx.read(path, memory=MEMORY, folder=folder)
        equal(hx.read(path, memory=MEMORY, folder=folder), hx.read(path))

    def test_nothing_is_made_any_more_when_reading_has_failed(self, path, tmp_path, monkeypatch):
        small(monkeypatch)
        running: list[object] = []
        left: list[int] = []
        folder, parse = tmp_path / "columns", files_module._parse

        def slow(*where):
            running.append(where)
            time.sleep(0.02)
            found = parse(*where)
            running.pop()
            return found

        def interrupted(*_):
            time.sleep(0.01)
            raise KeyboardInterrupt

        monkeypatch.setattr(files_module, "_parse", slow)
        monkeypatch.setattr("hatrix.data.disk.Column.append", interrupted)
        monkeypatch.setattr("hatrix.data.read.clear", lambda *_, **__: left.append(len(running)))
        with pytest.raises(KeyboardInterrupt):
            hx.read(path, memory=MEMORY, folder=folder)
        assert left == [0]

    def test_numbers_of_numpy(self, path, tmp_path, monkeypatch):
        how = {"user": np.int64(0), "scale": (np.float32(0), np.float32(6)), "folder": tmp_path / "columns"}
        equal(hx.read(path, memory=MEMORY, **how), hx.read(path, scale=(0, 6)))
        monkeypatch.setattr("hatrix.data.read.store", lambda *_, **__: pytest.fail("read again"))
        hx.read(path, memory=MEMORY, **how)

    def test_what_others_have_put_there_stays(self, path, tmp_path):
        with pytest.raises(DataError, match="has files of other kinds in it: give a new or an empty folder"):
            hx.read(path, memory=MEMORY, folder=tmp_path)
        folder = tmp_path / "columns"
        hx.read(path, memory=MEMORY, folder=folder)
        (folder / "blocks").touch()
        hx.read(path, memory=MEMORY, folder=folder, name="other")
        assert (folder / "blocks").exists()

    def test_where_nothing_can_be_written(self, path, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"cannot be written: (File exists|Not a directory)"):
            hx.read(path, memory=MEMORY, folder=tmp_path / "file")

        def read_only(*_, **__):
            raise OSError(30, "Read-only file system")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", read_only)
            with pytest.raises(DataError, match="columns cannot be written: Read-only file system"):
                hx.read(path, memory=MEMORY, folder=tmp_path / "read-only columns")
        folder = tmp_path / "columns"

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("hatrix.data.disk.Column.append", full)
        with pytest.raises(DataError, match=r"columns cannot hold .*ratings.csv: No space left"):
            hx.read(path, memory=MEMORY, folder=folder)
        assert not folder.exists()
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1))
        with pytest.raises(DataError, match=r"takes about .* GB on disk, and .* has 0.0 GB: give a folder"):
            hx.read(path, memory=MEMORY, folder=folder)
        assert not folder.exists()

    def test_a_file_that_changes_meanwhile(self, path, tmp_path, monkeypatch):
        parse = text.parsed

        def slow(*where):
            with open(path, "a") as file:
                file.write("1,2,3,4\n")
            return parse(*where)

        monkeypatch.setattr(text, "parsed", slow)
        folder = tmp_path / "columns"
        for how in ({}, {"memory": MEMORY, "folder": folder}):
            with pytest.raises(DataError, match=r"ratings.csv has changed while it was read"):
                hx.read(path, **how)
        assert not folder.exists()

    def test_mistakes(self, path, tmp_path):
        with pytest.raises(ParameterError, match="say how much there is, memory='2GB'"):
            hx.read(path, folder=tmp_path)
        with pytest.raises(ParameterError, match="memory is 'much': give a size"):
            hx.read(path, memory="much")
        with pytest.raises(DataError, match="cannot read ratings from a list: give a path"):
            hx.read([[path]])
        with pytest.raises(ParameterError, match="a table is in memory already"):
            hx.read(frame(), memory=MEMORY)
        with pytest.raises(
            DataError, match=r"which leaves no room to work: allow at least [0-9]+MB"
        ) as error:
            hx.read(path, memory="1MB")
        assert hx.read(path, memory=str(error.value).rpartition(" ")[2])  # the size can be pasted as it is
