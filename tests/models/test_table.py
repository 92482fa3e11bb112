"""Tables as arrays: every type of column that people have comes back, or is refused in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.errors import DataError, ModelFileError
from hatrix.models.table import pack, pack_text, unpack, unpack_text

NUMPY = ["bool", "int8", "int64", "uint8", "uint64", "float16", "float32", "float64"]


def through(frame: pd.DataFrame) -> pd.DataFrame:
    arrays, columns = pack("t", frame)
    for array in arrays.values():
        assert array.dtype.kind != "f" or np.isfinite(array).all()
        array.setflags(write=False)
    found = unpack(arrays, "t", columns, len(frame))
    assert not arrays
    return found


COLUMNS = {
    "title": ["Amélie (2001)", "", "a|b"],
    "with NaN": pd.Series(["x", np.nan, "\0"], dtype="str"),
    "with NA": pd.Series(["x", pd.NA, "😀"], dtype="string"),
    "objects": pd.Series(["x", None, np.nan], dtype=object),
    "more objects": pd.Series([pd.NA, "x", "\U0010ffff"], dtype=object),
    "year": pd.array([1995, None, 2001], "Int64"),
    "no year": pd.array([None] * 3, "Int16"),
    "large": pd.array([2**64 - 1, None, 0], "UInt64"),
    "flag": pd.array([True, None, False], "boolean"),
    "share": pd.array([0.1, None, -0.0], "Float64"),
    "single": pd.array([0.1, None, 3e38], "Float32"),
    "age": [1, 2, 3],
    "score": [0.1, np.nan, -np.inf],
    "half": np.array([1, np.nan, np.inf], np.float16),
    "day": pd.to_datetime(["2020-01-01", None, "1969-12-31 23:59:59.123456789"], format="mixed"),
    "second": np.array(["2020", "NaT", "1000"], "M8[s]"),
    "wait": np.array([1, -5, "NaT"], "m8[ms]"),
    7: [True, False, True],
}


@pytest.mark.parametrize("label", COLUMNS)
def test_a_column_comes_back(label):
    frame = pd.DataFrame({label: COLUMNS[label]})
    found = through(frame)
    pd.testing.assert_frame_equal(found, frame)
    assert found.dtypes.tolist() == frame.dtypes.tolist()
    for got, given_value in zip(found[label].tolist(), frame[label].tolist(), strict=True):
        assert repr(got) == repr(given_value)


def test_a_whole_table_comes_back_and_can_be_changed():
    frame = pd.DataFrame(COLUMNS)
    found = through(frame)
    pd.testing.assert_frame_equal(found, frame)
    found.loc[0, "age"] = 9
    found.loc[1, "title"] = "new"
    found.loc[1, "year"] = 7


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.floats(width=64) | st.just(-0.0), max_size=6),
    texts=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=6, max_size=6),
    wholes=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6),
)
def test_any_values_come_back(numbers, texts, wholes):
    n = len(numbers)
    frame = pd.DataFrame(
        {
            "a": np.array(numbers, np.float64),
            "b": pd.Series(texts[:n], dtype="str"),
            "c": pd.array(wholes[:n], "Int64"),
            "d": pd.Series(texts[:n], dtype=object),
        }
    )
    found = through(frame)
    pd.testing.assert_frame_equal(found, frame)
    kept = ~np.isnan(frame["a"].to_numpy())
    assert found["a"].to_numpy()[kept].tobytes() == frame["a"].to_numpy()[kept].tobytes()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Categorical(["b", "a", None]), pd.Series(["b", "a", np.nan], dtype="str")),
        (pd.Categorical([3, 1, 3]), pd.Series([3, 1, 3])),
        (pd.Series([1, 2, 3], dtype="int64[pyarrow]"), pd.Series([1, 2, 3])),
        (pd.arrays.SparseArray([0.0, 1.5, 0.0]), pd.Series([0.0, 1.5, 0.0])),
    ],
)
def test_other_types_come_back_as_their_values(column, expected):
    found = through(pd.DataFrame({"x": column}))
    pd.testing.assert_series_equal(found["x"], expected, check_names=False)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"x": [[1], [2]]}), r"t, column 'x': \[1\] is not text in a column of text"),
        (pd.DataFrame({"x": pd.Series(["a", 1], dtype=object)}), "1 is not text"),
        (pd.DataFrame({"x": pd.Series([b"a"], dtype=object)}), "b'a' is not text"),
        (pd.DataFrame({"x": pd.Series(["a\ud800"], dtype=object)}), "half a character"),
        (pd.DataFrame({"x": [1j]}), "values of type complex128 have no place in a model file"),
        (pd.DataFrame({"x": pd.to_datetime(["2020"], utc=True)}), r"type datetime64\[(ns|us), UTC\] have"),
        (pd.DataFrame({(1, 2): [1]}), r"column label \(1, 2\) is neither"),
        (pd.DataFrame({None: [1]}), "label nan is neither|label None is neither"),
    ],
)
def test_what_has_no_place_is_refused(frame, message):
    with pytest.raises(DataError, match=message):
        pack("t", frame)


def test_columns_of_one_name_and_tables_of_one_block():
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["x", "x"])
    pd.testing.assert_frame_equal(through(frame), frame)
    pd.testing.assert_frame_equal(
        through(frame.iloc[::-1].reset_index(drop=True)), frame[::-1].reset_index(drop=True)
    )


@pytest.mark.parametrize(
    "frame", [pd.DataFrame([]), pd.DataFrame(index=range(4)), pd.DataFrame({"x": [1]})[:0]]
)
def test_empty_tables(frame):
    pd.testing.assert_frame_equal(through(frame), frame)


def test_the_index_is_left_out():
    frame = pd.DataFrame({"x": [1, 2]}, index=["b", "a"])
    pd.testing.assert_frame_equal(through(frame), pd.DataFrame({"x": [1, 2]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t.0": None}, "'t.0' is missing"),
        ({"t.0.offsets": None}, "'t.0.offsets' is missing"),
        ({"t.0": np.zeros(3)}, "'t.0' is float64 with 1 axes, not uint8 with 1"),
        ({"t.0": np.zeros((1, 3), np.uint8)}, "2 axes"),
        ({"t.0": np.array([65, 0xFF, 66], np.uint8)}, "'t.0' is not UTF-8 text"),
        ({"t.0.offsets": np.array([0, 4], np.int64)}, "do not divide its text"),
        ({"t.0.offsets": np.array([0, 5, 3], np.int64)}, "do not divide its text"),
        ({"t.0.offsets": np.array([0, -1, 3], np.int64)}, "do not divide its text"),
        ({"t.0.offsets": np.array([1, 3], np.int64)}, "do not divide its text"),
        ({"t.0.offsets": np.array([], np.int64)}, "do not divide its text"),
        ({"t.0.offsets": np.array([0, 3], np.int64)}, "column 'x' of t has 1 lines, not 2"),
        ({"t.0.gaps": np.array([0, 3], np.uint8)}, "gaps that its type cannot have"),
        ({"t.0.gaps": np.array([0, 9], np.uint8)}, "gaps that its type cannot have"),
        ({"t.0.gaps": np.array([1], np.uint8)}, "gaps that its type cannot have"),
        ({"t.1.gaps": np.array([0, 1], np.uint8)}, "gaps that its type cannot have"),
        ({"t.1": np.arange(2, dtype=np.int32)}, "'t.1' is int32"),
        ({"t.1": np.arange(3)}, "column 'n' of t has 3 lines, not 2"),
    ],
)
def test_arrays_that_make_no_table(change, message):
    arrays, _ = pack("t", pd.DataFrame({"x": ["ab", "c"], "n": [1, 2]}))
    columns = [("x", "str"), ("n", "int64")]  # pandas 2 calls such a column of text "object"
    arrays = {name: array for name, array in (arrays | change).items() if array is not None}
    with pytest.raises(ModelFileError, match=message):
        unpack(arrays, "t", columns, 2)


@pytest.mark.parametrize(
    "dtype", ["", "float128", "datetime64[D]", "category", "int64[pyarrow]", "O", "<f8", "void"]
)
def test_a_type_of_the_future(dtype):
    with pytest.raises(ModelFileError, match=f"column of type {dtype!r}.*upgrade".replace("[", r"\[")):
        unpack({"t.0": np.zeros(1)}, "t", [("x", dtype)], 1)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_come_back(texts):
    arrays = {f"n{part}": array for part, array in pack_text(texts).items()}
    assert unpack_text(arrays, "n").tolist() == texts
    assert not arrays
