from __future__ import annotations

import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrix.data.ids import Ids
from hatrix.errors import DataError

integers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1)


@given(st.lists(integers, min_size=1))
def test_integers_stay_integers_in_numeric_order(labels):
    ids, rows = Ids.from_labels(labels)
    assert ids.labels.dtype == np.int64
    assert ids.labels.tolist() == sorted(set(labels))
    assert ids.decode(rows).tolist() == labels
    assert ids.encode(labels).tolist() == rows.tolist()


@given(st.lists(st.one_of(integers, texts), min_size=1))
def test_anything_else_is_text_in_the_order_of_code_points(labels):
    ids, rows = Ids.from_labels(labels)
    if all(isinstance(label, int) for label in labels):
        return
    wanted = [str(label) for label in labels]
    assert ids.kind == "str"
    assert ids.labels.tolist() == sorted(set(wanted))
    assert ids.decode(rows).tolist() == wanted
    assert ids.encode(labels).tolist() == rows.tolist()


@given(
    st.lists(st.one_of(integers, texts), min_size=1),
    st.lists(st.one_of(integers, texts, st.floats(), st.none())),
)
def test_an_unknown_label_is_never_a_row(known, asked):
    ids, _ = Ids.from_labels(known)
    have = set(ids.labels.tolist())
    for label, row in zip(asked, ids.encode(asked).tolist(), strict=True):
        if row >= 0:
            found = ids.labels[row]
            assert str(label) == str(found) or float(found) == label
        elif isinstance(label, int | str):
            assert label not in have


def test_a_large_id_costs_nothing():
    ids, rows = Ids.from_labels([2**63 - 1, 0, 2**63 - 1])
    assert len(ids) == 2
    assert rows.tolist() == [1, 0, 1]


def test_beyond_int64_ids_are_text():
    ids, _ = Ids.from_labels([2**63, 5])
    assert ids.labels.tolist() == ["5", str(2**63)]
    assert Ids.from_labels(np.array([2**63, 5], np.uint64))[0].labels.tolist() == ["5", str(2**63)]
    small, _ = Ids.from_labels([1, 2])
    assert small.encode(np.array([2**64 - 1, 1], np.uint64)).tolist() == [-1, 0]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([3, 1, 3]),
        pd.Series([3.0, 1.0, 3.0]),
        pd.Series([3, 1, 3], dtype="Int64"),
        pd.Categorical([3, 1, 3]),
        pl.Series([3, 1, 3]),
        np.array([3, 1, 3], np.uint8),
        [Decimal(3), Decimal(1), 3],
        (np.int32(3), 1, 3),
    ],
    ids=repr,
)
def test_integers_from_any_column(column):
    ids, rows = Ids.from_labels(column)
    assert ids.labels.tolist() == [1, 3]
    assert ids.kind == "int"
    assert rows.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["b", "a", "b"]),
        pd.Categorical(["b", "a", "b"]),
        pl.Series(["b", "a", "b"]),
        np.array(["b", "a", "b"]),
    ],
    ids=repr,
)
def test_texts_from_any_column(column):
    ids, rows = Ids.from_labels(column)
    assert ids.labels.tolist() == ["a", "b"]
    assert rows.tolist() == [1, 0, 1]


def test_uuids_are_text():
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    ids, rows = Ids.from_labels([two, one])
    assert rows.tolist() == [1, 0]
    assert ids.encode([one]).tolist() == [0]


@pytest.mark.parametrize(
    "column",
    [
        *([1, None], ["a", ""], ["a", float("nan")], pd.Series([1.0, np.nan]), pl.Series([None, 1])),
        *(np.ma.array([1, 2], mask=[0, 1]), np.ma.array(["a", "b"], mask=[0, 1])),
    ],
    ids=repr,
)
def test_missing_labels_are_refused(column):
    with pytest.raises(DataError, match="missing or empty"):
        Ids.from_labels(column)


def test_missing_is_no_label():
    ids, _ = Ids.from_labels(["None", "nan", "7"])
    assert ids.encode([None, float("nan"), 7, "nan"]).tolist() == [-1, -1, 0, 2]


def test_types_are_not_confused():
    ids, _ = Ids.from_labels([0, 1, 7])
    assert ids.encode([True, 7.5, 7.0, "7.0", "true"]).tolist() == [-1, -1, 2, -1, -1]


@given(integers)
def test_an_integer_and_the_text_of_its_digits_are_one_label(number):
    for ids in (Ids.from_labels([number])[0], Ids.from_labels([str(number), "x"])[0]):
        for label in (number, str(number), str(number).encode(), np.str_(number)):
            assert ids.encode([label]).tolist() == ids.encode(np.array([label], object)).tolist() == [0], (
                ids,
                label,
            )
            assert str(ids.label_of(label if isinstance(label, int) else str(number))) == str(number)
            assert label in ids


@pytest.mark.parametrize(
    "text", ["07", "+7", " 7", "7 ", "7.0", "-0", "7_0", "٧", "7e0", "0x7", "", "-", "9" * 19, "seven", "7\n"]
)
def test_a_text_that_no_integer_is_written_as_is_no_integer(text):
    ids, _ = Ids.from_labels([0, 7, 70])
    assert ids.encode([text, "7", 70]).tolist() == [-1, 1, 2]
    assert ids.label_of(text) is None
    assert text not in ids


def test_the_table_of_labels_is_full_before_other_threads_see_it():
    # pandas would fill it at the first look-up, and find unknown what is not in it yet.
    for labels in ([3, 1, 2], ["b", "a"], [[]]):
        ids = Ids.from_labels(labels)[0] if labels != [[]] else Ids(np.zeros(0, np.int64))
        assert ids._index._engine.is_mapping_populated or not len(ids)


def test_rows_outside_are_refused():
    ids, _ = Ids.from_labels([1])
    for row in (-1, 1):
        with pytest.raises(DataError, match="has no id: rows run from 0 to 0"):
            ids.decode([row])


def test_equality_and_membership():
    ids, _ = Ids.from_labels([1, 2])
    assert ids == Ids.from_labels([2, 1])[0]
    assert ids != Ids.from_labels(["1", "2"])[0]
    assert 2 in ids
    assert "2" in ids
    assert "two" not in ids
    assert repr(ids) == "Ids(2 int: 1, 2)"


def test_labels_are_read_only():
    ids, _ = Ids.from_labels([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        ids.labels[0] = 5


def test_half_a_character_is_in_no_id():
    ids, _ = Ids.from_labels(["a", "b", "\U0001f600"])
    assert ids.encode(["a\ud800", "b", "\ud83d", "\U0001f600", None]).tolist() == [-1, 1, -1, 2, -1]
    assert Ids.from_labels([1, 2])[0].encode(["\ud800", 2]).tolist() == [-1, 1]
    assert "\ud800" not in ids
    with pytest.raises(DataError, match="is not Unicode text"):
        Ids.from_labels(["a", "b\ud800"])
    with pytest.raises(DataError, match="is not UTF-8 text"):
        ids.encode([b"\xff"])
