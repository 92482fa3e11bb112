from __future__ import annotations

import datetime
import gc
import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.data import text
from hatrix.data.values import times
from hatrix.errors import DataError

ROWS = [("ann", 7, 4.5, 10**9 + 100), ("bob", 7, 3.0, 10**9 + 200), ("ann", 9, 1.0, 10**9 + 300)]


def written(folder: Path, content: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(ratings: hx.Ratings) -> list[tuple[object, ...]]:
    frame = ratings.to_frame()
    return list(frame.itertuples(index=False, name=None))


def refused(path: object, *words: str, **how: object) -> str:
    """The one-line message of the refusal, which holds all the words."""
    with pytest.raises(DataError) as caught:
        hx.read(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.fixture(params=["at once", "one by one"])
def way(request, monkeypatch):
    """Both ways through a file must agree."""
    if request.param == "one by one":
        monkeypatch.setattr(text, "_at_once", lambda *_: None)
    return request.param


both_ways = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("separator", ["\t", ",", "::", ";", "|", " "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_separator_with_and_without_header(tmp_path, separator, header, end):
    lines = [["userId", "movieId", "rating", "timestamp"]] if header else []
    lines += [[str(cell) for cell in row] for row in ROWS]
    path = written(tmp_path, end.join(separator.join(line) for line in lines) + end)
    ratings = hx.read(path)
    assert rows(ratings) == ROWS
    assert ratings.items.kind == "int"
    assert (ratings.report.records, ratings.report.accepted, ratings.report.header) == (
        3 + header,
        3,
        int(header),
    )
    assert ratings.name == "ratings"


def test_the_fast_way_is_taken_for_a_clean_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_one_by_one", lambda *_, **__: pytest.fail("read one by one"))
    for content in (
        "1,2,3\n4,5,6\n",
        "u,7,3.5\nv,8,1",
        "userId,movieId,rating\n1,2,3\n",
        'user,item,rating\n"a",b,3\n',
    ):
        assert len(hx.read(written(tmp_path, content)))


@both_ways
def test_columns_by_name_by_position_and_in_any_order(tmp_path):
    path = written(
        tmp_path,
        "when,stars,film,who,note\n1000000100,4.5,7,ann,x\n1000000200,3,7,bob,y\n1000000300,1,9,ann,z\n",
    )
    assert rows(hx.read(path, user="who", item="film", rating="stars", time="when")) == ROWS
    assert rows(hx.read(path, user=3, item=2, rating=1, time=0)) == ROWS
    assert rows(hx.read(path, user="3", item="2", rating="1", time="0")) == ROWS


@both_ways
def test_movielens_files_of_three_and_four_columns(tmp_path):
    three = hx.read(written(tmp_path, "1::1193::5\n1::661::3\n", "ratings.dat"))
    assert three.time is None
    assert rows(three) == [(1, 1193, 5.0), (1, 661, 3.0)]
    assert hx.read(written(tmp_path, "196\t242\t3\t881250949\n", "u.data")).time.tolist() == [881250949]


@both_ways
def test_events_without_ratings(tmp_path):
    clicks = hx.read(written(tmp_path, "user,item\na,x\na,x\nb,x\n"))
    assert clicks.implicit
    assert clicks.scale is None
    assert clicks.value.tolist() == [2.0, 1.0]
    assert clicks.report.duplicates == 1
    plays = hx.read(written(tmp_path, "user,item,plays\na,x,3\na,x,4\nb,x,1\n"))
    assert plays.implicit
    assert sorted(plays.value.tolist()) == [1.0, 7.0]


@both_ways
@pytest.mark.parametrize(
    ("content", "labels", "kind"),
    [
        ("1,1,1\n007,1,2\n7,1,3\n", ["007", "1", "7"], "str"),
        ("1,1,1\n1.0,1,2\n", ["1", "1.0"], "str"),
        (f"{2**63 - 1},1,1\n-5,1,2\n", [-5, 2**63 - 1], "int"),
        (f"{2**63},1,1\n5,1,2\n", ["5", str(2**63)], "str"),
        ("1_000,1,1\n1000,1,2\n", ["1000", "1_000"], "str"),
        (" 7 ,1,1\n8,1,2\n", [7, 8], "int"),
        ("Zoë,1,1\n😀,1,2\na,1,2\n", ["Zoë", "a", "😀"], "str"),
        ("+7,1,1\n7,1,2\n", ["+7", "7"], "str"),
        ("0x10,1,1\n16,1,2\n", ["0x10", "16"], "str"),
        ("-0,1,1\n0,1,2\n", ["-0", "0"], "str"),
        ("nan,1,1\nNone,1,2\nnull,1,3\n", ["None", "nan", "null"], "str"),
    ],
)
def test_ids_are_never_merged(tmp_path, content, labels, kind):
    users = hx.read(written(tmp_path, content), header=False).users
    assert users.labels.tolist() == labels
    assert users.kind == kind


@both_ways
def test_ids_that_turn_to_text_late(tmp_path):
    content = "".join(f"{n},5,3\n" for n in range(1, 3000)) + "late,5,3\n"
    users = hx.read(written(tmp_path, content)).users
    assert users.kind == "str"
    assert len(users) == 3000


@both_ways
@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("881250949", 881250949),
        ("881250949.7", 881250949),
        ("1502824560000", 1502824560),
        ("2018-01-31", 1517356800),
        ("2018-01-31 12:30", 1517401800),
        ("2018-01-31T12:30:15.5Z", 1517401815),
        ("2018-01-31T12:30:15+02:00", 1517394615),
        ("1950-01-01", -631152000),
    ],
)
def test_times(tmp_path, cell, seconds):
    assert hx.read(written(tmp_path, f"1,2,3,{cell}\n4,5,3,{cell}\n")).time.tolist() == [seconds, seconds]


@both_ways
def test_the_latest_of_a_pair_wins_else_the_last(tmp_path):
    ratings = hx.read(written(tmp_path, "1,2,5,300\n1,2,4,100\n1,3,1,1\n"), time=3)
    assert rows(ratings) == [(1, 2, 5.0, 300), (1, 3, 1.0, 1)]
    assert ratings.report.duplicates == 1
    assert hx.read(written(tmp_path, "1,2,5\n1,2,4\n")).value.tolist() == [4.0]


BAD = {
    "nan": ("3,4,nan", "rating 'nan' is not a finite number"),
    "infinity": ("3,4,-inf", "rating '-inf' is not a finite number"),
    "too large": ("3,4,1e309", "rating '1e309' is not a finite number"),
    "decimal comma": ('3,4,"4,5"', "rating '4,5' is not a finite number"),
    "underscore": ("3,4,1_000", "rating '1_000' is not a finite number"),
    "hexadecimal": ("3,4,0x10", "rating '0x10' is not a finite number"),
    "word": ("3,4,good", "rating 'good' is not a finite number"),
    "no rating": ("3,4,", "no rating"),
    "no user": (",4,3", "no user"),
    "no item": ("3,  ,3", "no item"),
    "quoted nothing": ('"",4,3', "no user"),
    "NUL": ("3,4\0,3", "a NUL byte"),
    "short": ("3,4", "2 columns instead of 3"),
    "long": ("3,4,3,9", "4 columns instead of 3"),
    "trailing separator": ("3,4,3,", "4 columns instead of 3"),
    "open quote": ('3,"4,3', "a quote is opened and not closed"),
    "text behind a quote": ('3,"4"x,3', "bad quoting"),
}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_or_left_out_and_counted(tmp_path, name, skip):
    line, reason = BAD[name]
    path = written(tmp_path, f"user,item,rating\n1,2,3\n\n{line}\n5,6,2\n")
    if not skip:
        refused(path, str(path), "1 bad row: line 4: " + reason, "skip_bad_rows")
        return
    ratings = hx.read(path, skip_bad_rows=True)
    assert rows(ratings) == [(1, 2, 3.0), (5, 6, 2.0)]
    report = ratings.report
    assert (report.accepted, report.rejected, report.blank, report.header, report.records) == (2, 1, 1, 1, 5)
    assert report.errors[0][:2] == (str(path), 4)
    assert reason in report.errors[0][2]


def test_the_first_five_bad_rows_are_named_and_the_rest_counted(tmp_path):
    path = written(tmp_path, "1,2,3\n" + "1,2,x\n" * 8)
    message = refused(path, "8 bad rows", "line 2:", "line 6:", "and 3 more")
    assert "line 7" not in message


@both_ways
def test_quoted_fields_may_hold_separators_quotes_and_line_ends(tmp_path):
    path = written(tmp_path, 'user,item,rating\n"a,b","c ""d""\ne",4\nx,y,3\n')
    ratings = hx.read(path)
    assert rows(ratings) == [("a,b", 'c "d"\ne', 4.0), ("x", "y", 3.0)]
    assert ratings.report.records == 3


@both_ways
def test_a_quote_inside_a_plain_field_is_a_character(tmp_path):
    assert rows(hx.read(written(tmp_path, 'a"b,x,4\nc,y,3\n'))) == [('a"b', "x", 4.0), ("c", "y", 3.0)]


def test_line_numbers_count_lines_of_the_file(tmp_path):
    path = written(tmp_path, 'user,item,rating\n"a\nb",x,4\n\nc,y,bad\n')
    refused(path, "line 5: rating 'bad'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"userId,movieId,rating\n", "a header and no ratings"),
        (b"user\nann\n", "one column only"),
        (b"word\nother\n", "one column only"),
        (b"\xff\xfe1\0,\x002\0", "UTF-16"),
        ("1,Ben\xe9,3\n".encode("latin-1"), "line 1: not UTF-8 text: give its encoding"),
        (b"1,2,3,4,5\n1,2,3,4,6\n", "has no column for the user"),
    ],
)
def test_files_that_hold_no_ratings(tmp_path, content, words):
    refused(written(tmp_path, content), words)


def test_a_first_row_with_a_known_word_is_no_header(tmp_path):
    path = written(tmp_path, "1,value,4.0\n2,book,3\n")
    assert rows(hx.read(path, user=0, item=1, rating=2)) == [(1, "value", 4.0), (2, "book", 3.0)]


@both_ways
@pytest.mark.parametrize(
    ("cell", "seconds"), [("9999-12-31", 253402214400), ("0001-01-01 23:59", -62135510460)]
)
def test_dates_of_any_year(tmp_path, cell, seconds):
    path = written(tmp_path, f"user,item,rating,time\n1,2,3,{cell}\n")
    assert hx.read(path).time.tolist() == [seconds]


@both_ways
@both_ways
@pytest.mark.parametrize(
    ("zone", "seconds"),
    [("", 0), ("Z", 0), (" Z", 0), ("UTC", 0), (" UTC", 0), ("+00", 0), (" +00:00", 0), ("+0530", -19800),
     ("-05:30", 19800), (" -08", 28800)],
)  # fmt: skip
@pytest.mark.parametrize("time", ["22:14:21", "22:14:21.5", "22:14:21.999999999", "22:14:21,25"])
def test_zones_of_dates(tmp_path, time, zone, seconds):
    cell = f"2014-05-03 {time}{zone}"
    path = written(tmp_path, f"user;item;rating;time\n1;2;3;{cell}\n")
    assert hx.read(path).time.tolist() == [1399155261 + seconds]
    frame = pd.DataFrame({"user": [1], "item": [1], "rating": [3], "timestamp": [cell]})
    assert hx.read(frame).time.tolist() == [1399155261 + seconds]


@pytest.mark.parametrize(
    "cell", ["2014-02-29", "2014-13-01", "2014-00-01", "2014-01-00", "0000-01-01", "2014-01-01 10:60", "2014-01-01 1:00",
             "2014-01-01 10:00:60", "2014-01-01 10:00+24", "2014-01-01 10:00+01:60", "2014-01-01 +01", "20140101T10"]
)  # fmt: skip
def test_what_is_no_date(tmp_path, cell):
    refused(
        written(tmp_path, f"user,item,rating,time\n1,2,3,{cell}\n"), "is not a date or a number of seconds"
    )
    refused(
        pd.DataFrame({"user": [1], "item": [1], "rating": [3], "time": [cell]}), "neither dates nor numbers"
    )


@given(st.datetimes(), st.sampled_from(["seconds", "microseconds"]))
@settings(deadline=None)
def test_dates_are_those_of_python(moment, spec):
    moment = moment.replace(tzinfo=datetime.UTC)
    wanted = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(seconds=1)
    texts = [moment.isoformat(sep, spec) for sep in "T "]
    assert times(np.array(texts, object)).tolist() == [wanted] * 2


class TestWithoutHeader:
    def test_a_leftover_column_that_looks_like_no_time_is_left_out(self, tmp_path):
        path = written(tmp_path, "ann\t99\ttea\t3\nann\t7\ttea\t5\nbob\t1\tjam\t4\n")
        ratings = hx.read(path, user=0, item=2, rating=3)
        assert ratings.time is None
        assert rows(ratings) == [("ann", "tea", 5.0), ("bob", "jam", 4.0)]
        assert ratings.report.columns == (("user", "0"), ("unused", "1"), ("item", "2"), ("rating", "3"))

    def test_text_in_a_leftover_column_makes_no_bad_rows(self, tmp_path):
        path = written(tmp_path, "u1\tmbid-1\tthe band\t21\nu2\tmbid-2\tthe band\t4\n")
        assert len(hx.read(path, user=0, item=2, rating=3)) == 2

    @pytest.mark.parametrize(
        ("cells", "is_time"),
        [
            (["881250949", "881250950"], True),
            (["2018-01-31", "1950-02-01 10:00"], True),
            (["1502824560000", "1502824560000000"], True),
            (["881250949", ""], False),
            (["1", "2"], False),
            (["881250949", "5"], False),
            (["9780306406157", "9780306406158"], False),
            (["a", "b"], False),
            (["-5", "-6"], False),
        ],
    )
    def test_a_fourth_column_is_the_time_if_all_of_it_look_so(self, tmp_path, cells, is_time):
        path = written(tmp_path, "".join(f"{n},7,3,{cell}\n" for n, cell in enumerate(cells)))
        ratings = hx.read(path, header=False)
        assert (ratings.time is not None) == is_time
        assert ratings.report.columns[3] == ("time" if is_time else "unused", "3")

    def test_a_column_that_is_named_is_the_time_whatever_it_holds(self, tmp_path):
        assert hx.read(written(tmp_path, "1,2,3,4\n"), time=3).time.tolist() == [4]

    def test_two_columns_that_could_be_the_rating(self, tmp_path):
        path = written(tmp_path, "ann,99,tea,3\nbob,1,jam,4\n")
        refused(path, "each of the columns 1 and 3 could be the rating", "--rating-column", user=0, item=2)
        assert rows(hx.read(path, user=2, item=0, rating=3)) == [("tea", "ann", 3.0), ("jam", "bob", 4.0)]

    def test_files_with_a_header_and_tables_say_what_is_what(self, tmp_path):
        told = (("user", "userId"), ("item", "movieId"), ("rating", "rating"), ("unused", "note"))
        path = written(tmp_path, "userId,movieId,rating,note\n1,2,3,x\n")
        assert hx.read(path).report.columns == told
        assert hx.read(pd.read_csv(path)).report.columns == told
        assert hx.read(path, memory="4GB", progress=False).report.columns == told


@pytest.mark.parametrize("kind", ["bool", "boolean", "object"])
def test_booleans_are_ratings(kind):
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 1], "rating": [True, False, True]})
    assert hx.read(frame.astype({"rating": kind})).value.tolist() == [1.0, 0.0, 1.0]
    gap = frame.astype({"rating": "boolean"})
    gap.loc[1, "rating"] = pd.NA
    refused(gap, "1 ratings are not finite numbers, the first at row 1")
    assert hx.read(gap, skip_bad_rows=True).value.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("label", ["caf\udce9", "\ud83d", b"caf\xe9"])
def test_labels_that_are_no_unicode_text(label):
    frame = pd.DataFrame({"user": pd.Series([label, "ann"], dtype=object), "item": [1, 2], "rating": [3, 4]})
    refused(frame, "the label", "text")
    found = hx.read(frame, skip_bad_rows=True)
    assert rows(found) == [("ann", 2, 4.0)]
    assert [row for _, row, _ in found.report.errors] == [0]


class TestPipes:
    CONTENT = b"user,item,rating\n1,2,3\n1,3,4\n2,2,bad\n"

    @pytest.fixture
    def pipe(self, tmp_path):
        """A named pipe that a thread writes to."""
        path = tmp_path / "pipe.csv"
        os.mkfifo(path)
        thread = threading.Thread(target=lambda: path.write_bytes(self.CONTENT), daemon=True)
        thread.start()
        yield path
        thread.join(10)

    @pytest.mark.parametrize("memory", [None, "4GB"])
    def test_a_named_pipe_is_read(self, pipe, tmp_path, monkeypatch, memory):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        ratings = hx.read(pipe, skip_bad_rows=True, memory=memory, progress=False)
        assert (len(ratings), ratings.name) == (2, "pipe")
        assert ratings.report.errors[0][:2] == (str(pipe), 4)
        del ratings
        gc.collect()
        assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]

    def test_the_copy_that_a_killed_process_left_goes_with_the_next(self, tmp_path):
        program = "import hatrix as hx; print(len(hx.read('/dev/stdin', skip_bad_rows=True)))"
        command, place = [sys.executable, "-c", program], os.environ | {"TMPDIR": str(tmp_path)}
        killed = subprocess.Popen(command, stdin=subprocess.PIPE, env=place)
        killed.stdin.write(self.CONTENT)
        killed.stdin.flush()
        while not (left := [path for path in tmp_path.iterdir() if path.is_dir()]):
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        killed.stdin.close()
        assert left[0].exists()
        subprocess.run(command, input=self.CONTENT, env=place, check=True, capture_output=True)
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []

    def test_a_pipe_among_files(self, pipe, tmp_path):
        other = written(tmp_path, "user,item,rating\n5,6,1\n", "other.csv")
        assert len(hx.read([other, pipe], skip_bad_rows=True)) == 3

    def test_mistakes_name_the_pipe(self, pipe):
        refused(pipe, f"{pipe}: 1 bad row: line 4")

    def test_standard_input(self):
        program = "import hatrix as hx; print(len(hx.read('/dev/stdin', skip_bad_rows=True)))"
        done = subprocess.run([sys.executable, "-c", program], input=self.CONTENT, capture_output=True)
        assert (done.stdout, done.returncode) == (b"2\n", 0), done.stderr

    def test_a_pipe_that_gives_too_much(self, pipe, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20))
        refused(pipe, "is a pipe that gives more than", "write the ratings to a file, or set TMPDIR")

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
    @pytest.mark.parametrize("memory", [None, "4GB"])
    def test_devices_are_refused(self, device, memory):
        refused(device, f"{device} is a device: give a file of ratings, or a pipe", memory=memory)

    def test_sockets_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s")
            refused("s", "s is a socket")


def test_there_is_no_24th_hour(tmp_path):
    path = written(tmp_path, "user,item,rating,time\n1,2,3,2020-02-20 24:00:00\n")
    refused(path, "line 2: time '2020-02-20 24:00:00' is not a date")


def test_names_that_look_like_patterns(tmp_path):
    for content, name in (("9,9,1\n", "a1.csv"), ("1,2,3\n", "a[1].csv"), ("5,6,1\n", "b*.csv")):
        written(tmp_path, content, name)
    assert rows(hx.read(tmp_path / "a[1].csv")) == [(1, 2, 3.0)]
    assert rows(hx.read(tmp_path / "b*.csv")) == [(5, 6, 1.0)]
    for user, name in ((9, "p1.parquet"), (1, "p[1].parquet")):
        pl.DataFrame({"user": [user], "item": [2], "rating": [3.0]}).write_parquet(tmp_path / name)
    assert rows(hx.read(tmp_path / "p[1].parquet")) == [(1, 2, 3.0)]


@pytest.mark.parametrize("separator", ["\t", ";", "|", " "])
def test_a_decimal_comma_is_no_separator(tmp_path, separator):
    content = "1;2;3,5\n2;3;4,5\n".replace(";", separator)
    refused(written(tmp_path, content), "line 1: rating '3,5' is not a finite number")
    assert rows(hx.read(written(tmp_path, "1,2,3\n2,3,4\n"))) == [(1, 2, 3.0), (2, 3, 4.0)]
    assert rows(hx.read(written(tmp_path, "1,a;b,3\n2,c;d,4\n"))) == [(1, "a;b", 3.0), (2, "c;d", 4.0)]


@pytest.mark.parametrize("separator", ["", '"', "\n", "\0"])
def test_separators_that_cannot_be(tmp_path, separator):
    refused(written(tmp_path, "1;2;3\n"), "give what stands between fields", separator=separator)


def test_text_that_ends_inside_a_character(tmp_path):
    refused(written(tmp_path, b"1,2,3\n1,caf\xc3"), "line 2: not UTF-8 text")


@pytest.mark.parametrize("encoding", ["rot13", "base64", "undefined", "", "a\0"])
def test_encodings_that_are_not_of_text(tmp_path, encoding):
    refused(written(tmp_path, "1,2,3\n"), "there is no encoding", encoding=encoding)


def test_columns_are_chosen_once_and_never_guessed(tmp_path):
    refused(written(tmp_path, "user,item,rating,rating\n1,2,3,4\n"), "2 columns 'rating'", "position")
    path = written(tmp_path, "a,a,item,rating\n1,9,2,4\n")
    refused(path, "2 columns 'a'", "the user", user="a")
    refused(path, "one column is given for two of", user=0, item=0)
    refused(path, "no column -1", user=-1)
    refused(path, "no column '²'", user="²")
    assert hx.read(path, user=1).users.labels.tolist() == [9]


def test_ratings_outside_their_scale(tmp_path):
    path = written(tmp_path, "1,2,3\n1,3,30\n")
    refused(path, "run from 3 to 30", "outside the scale from 1 to 5", scale=(1, 5))
    refused(path, "scale is 5", scale=5)
    refused(pd.read_csv(path, names=["user", "item", "rating"]), "outside the scale", scale=(1, 5))


def test_encodings(tmp_path):
    path = written(tmp_path, "Ben\xe9,1,3\n".encode("latin-1"))
    assert hx.read(path, encoding="latin-1").users.labels.tolist() == ["Ben\xe9"]
    assert hx.read(written(tmp_path, b"\xef\xbb\xbfuser,item,rating\nx,1,3\n")).users.labels.tolist() == ["x"]
    utf16 = written(tmp_path, "a,1,3\n".encode("utf-16"))
    assert hx.read(utf16, encoding="utf-16").users.labels.tolist() == ["a"]
    refused(path, "no encoding 'klingon'", encoding="klingon")


def test_columns_that_are_not_there(tmp_path):
    path = written(tmp_path, "a,b,c\n1,2,3\n")
    refused(path, "no column for the user", "'a', 'b', 'c'")
    refused(path, "no column 'x' for the user", "'a', 'b', 'c'", user="x", item="b")
    refused(path, "no column 9 for the user", user=9, item="b")
    refused(path, "no column known to be the rating", user="a", item="b")
    assert hx.read(path, user="a", item="b", implicit=True).implicit


def test_paths_that_cannot_be_read(tmp_path):
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.csv", "there is no file")
    refused(written(tmp_path, b"not gzip", "x.csv.gz"), "cannot read")
    refused(written(tmp_path, b"not zip", "x.zip"), "cannot read")
    refused(written(tmp_path, b"not parquet", "x.parquet"), "cannot be read as Parquet")
    refused(written(tmp_path, gzip.compress(b"1,2,3\n" * 1000)[:-20], "y.csv.gz"), "cannot read")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", "1,2,3")
        archive.writestr("b", "1,2,3")
    refused(tmp_path / "two.zip", "holds 2 files")
    broken = b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 40
    refused(written(tmp_path, broken, "z.csv.gz"), "cannot read")
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("a", "1,2,3")
    encrypted = bytearray((tmp_path / "one.zip").read_bytes())
    encrypted[6] |= 1  # the flag, in the file's header and in the directory
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    refused(written(tmp_path, bytes(encrypted), "one.zip"), "cannot read", "encrypted")
    refused(3, "cannot read ratings from a int")


def test_packed_files(tmp_path):
    content = "\n".join(",".join(map(str, row)) for row in ROWS).encode()
    assert rows(hx.read(written(tmp_path, gzip.compress(content), "r.csv.gz"))) == ROWS
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("folder/ratings.csv", content)
        archive.writestr("__MACOSX/folder/._ratings.csv", b"\0\5\x16\7")
    assert rows(hx.read(tmp_path / "r.zip")) == ROWS
    assert rows(hx.read(written(tmp_path, gzip.compress(content), "R.CSV.GZ"))) == ROWS
    assert rows(hx.read(written(tmp_path, gzip.compress(content), "r.csv"))) == ROWS


def test_tables(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["who", "film", "stars", "when"])
    names = {"user": "who", "item": "film", "rating": "stars", "time": "when"}
    polars = pl.DataFrame(frame.to_dict("list"))
    polars.write_parquet(tmp_path / "r.parquet")
    for table in (frame, polars, pa.Table.from_pandas(frame), tmp_path / "r.parquet"):
        assert rows(hx.read(table, **names)) == ROWS
    assert hx.read(frame, **names, scale=(0, 5)).scale == (0, 5)
    with pytest.raises(DataError, match="no column for the user"):
        hx.read(frame)


def test_tables_with_odd_names():
    refused(pd.DataFrame([[1, 2, 3, 4]], columns=["user", "item", "rating", "rating"]), "'rating' 2 times")
    assert rows(hx.read(pd.DataFrame([[1, 2, 3]]), user=0, item=1, rating=2)) == [(1, 2, 3.0)]
    assert rows(hx.read(pd.DataFrame([[3, 2, 1]], columns=[2, 1, 0]), user=0, item=1, rating=2)) == [
        (1, 2, 3.0)
    ]
    refused(pl.DataFrame({"user": [1]}).lazy(), "cannot read ratings from a LazyFrame")
    refused(pl.DataFrame({"user": [1], "item": [1], "rating": [1]}).head(0), "has no ratings")


def test_large_whole_numbers_in_parquet_stay_apart(tmp_path):
    large = [2**60 + 1, 2**60 + 2]
    kinds = (pa.decimal128(38, 0), pa.int64(), pa.uint64())
    for kind in kinds:
        table = pa.table({"user": pa.array(large).cast(kind), "item": [1, 1], "rating": [3.0, 4.0]})
        pa.parquet.write_table(table, tmp_path / "large.parquet")
        assert hx.read(tmp_path / "large.parquet").users.labels.tolist() == large


def test_bad_rows_of_tables(tmp_path):
    large = [2**60, 2**60 + 1, None, 2**60 + 2, 2**60 + 3]
    table = pl.DataFrame(
        {"user": large, "item": ["a", "b", "c", "", "e"], "rating": [1.0, 2.0, 3.0, 4.0, None]}
    )
    table.write_parquet(tmp_path / "bad.parquet")
    refused(tmp_path / "bad.parquet", "bad.parquet", "missing or empty, the first at row 2")
    for source in (table, table.to_pandas(use_pyarrow_extension_array=True), tmp_path / "bad.parquet"):
        found = hx.read(source, skip_bad_rows=True)
        assert rows(found) == [(2**60, "a", 1.0), (2**60 + 1, "b", 2.0)]
        report = found.report
        assert (report.records, report.accepted, report.rejected) == (5, 2, 3)
        assert [row for _, row, _ in report.errors] == [2, 3, 4]


cells = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool)
table = st.lists(st.tuples(cells, cells, st.integers(1, 10), st.integers(0, 10**9)), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table)
def test_what_pandas_writes_is_read_back_both_ways(tmp_path, data):
    frame = pd.DataFrame(data, columns=["user", "item", "rating", "time"])
    wanted = hx.Ratings.from_frame(frame, user="user", item="item", rating="rating", time="time")
    path = tmp_path / "r.csv"
    frame.to_csv(path, index=False)
    readings = [hx.read(path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_at_once", lambda *_: None)
        readings.append(hx.read(path))
    for ratings in readings:
        frames = [part.to_frame().astype({"user": str, "item": str}) for part in (ratings, wanted)]
        pd.testing.assert_frame_equal(*frames)
        report = ratings.report
        assert report.accepted + report.rejected + report.blank + report.header == report.records


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from('1,2"\n\r\t;a:\0é '), max_size=80).map(str.encode),
    ),
    st.booleans(),
)
def test_any_bytes_give_ratings_or_one_line_of_refusal(tmp_path, content, skip):
    path = written(tmp_path, content)
    try:
        ratings = hx.read(path, skip_bad_rows=skip)
    except DataError as error:
        if "\n" in str(error):
            pytest.fail(f"more than one line: {error}")
        return
    report = ratings.report
    assert report.accepted + report.rejected + report.blank + report.header == report.records
    assert np.isfinite(ratings.value).all()
    assert (ratings.user >= 0).all()


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from('1 ,2.x"'), max_size=8), min_size=1, max_size=6), st.booleans())
def test_both_ways_agree_on_any_lines(tmp_path, lines, skip):
    path = written(tmp_path, "user,item,rating\n" + "\n".join(lines) + "\n")

    def outcome():
        try:
            ratings = hx.read(path, skip_bad_rows=skip)
        except DataError as error:
            return str(error)
        return rows(ratings), ratings.report

    first = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_at_once", lambda *_: None)
        assert outcome() == first
