from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.data.ratings import Ratings
from hatrix.errors import DataError

rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 5), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(rows, st.booleans(), st.booleans())
def test_one_row_per_pair(data, timed, implicit):
    user, item, value, time = zip(*data, strict=True)
    ratings = Ratings.from_columns(user, item, value, time=time if timed else None, implicit=implicit)
    wanted: dict[tuple[int, int], tuple[float, int, int]] = {}
    for at, (u, i, v, t) in enumerate(data):
        old = wanted.get((u, i))
        total = v + old[0] if old and implicit else v
        wins = old is None or not timed or t >= old[1]
        wanted[u, i] = (total, t, at) if wins else (total if implicit else old[0], old[1], old[2])
    kept = sorted(wanted.items(), key=lambda pair: pair[1][2])
    assert ratings.to_frame().iloc[:, :3].to_numpy().tolist() == [[u, i, v] for (u, i), (v, _, _) in kept]
    assert ratings.report.duplicates == len(data) - len(wanted)
    if timed:
        assert ratings.time.tolist() == [t for _, (_, t, _) in kept]


@settings(deadline=None)
@given(rows)
def test_grouping_keeps_the_order_inside(data):
    user, item, value, _ = zip(*data, strict=True)
    ratings = Ratings.from_columns(user, item, value)
    for owner, (start, positions) in ((ratings.user, ratings.by_user), (ratings.item, ratings.by_item)):
        for row in range(len(start) - 1):
            assert positions[start[row] : start[row + 1]].tolist() == np.flatnonzero(owner == row).tolist()
    assert ratings.user_count.tolist() == np.diff(ratings.by_user.start).tolist()
    assert ratings.item_count.tolist() == np.diff(ratings.by_item.start).tolist()


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_frames_with_dates(library):
    frame = library({"u": ["a", "b"], "i": [1, 2], "r": [3.0, 4.5]})
    dates = pd.to_datetime(["2018-01-31 00:00", "2018-02-01 12:00"])
    frame = (
        frame.assign(t=dates)
        if library is pd.DataFrame
        else frame.with_columns(t=pl.Series(dates.to_pydatetime()))
    )
    ratings = Ratings.from_frame(frame, user="u", item="i", rating="r", time="t")
    assert ratings.time.tolist() == [1517356800, 1517486400]
    assert ratings.scale == (3.0, 4.5)


def test_a_column_that_is_not_there():
    with pytest.raises(DataError, match="no column 'x' for user: the table has 'u', 'i'"):
        Ratings.from_frame(pd.DataFrame({"u": [1], "i": [1]}), user="x", item="i")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1, 2], [1, 2], [1, np.nan]), "1 ratings are not finite numbers, the first at row 1"),
        (([1, 2], [1, 2], [1, np.inf]), "not finite"),
        (([1, 2], [1, 2], ["1", "x"]), "not finite numbers, the first at row 1"),
        (([1, 2], [1], [1, 2]), "2 users but 1 item"),
        (([1, None], [1, 2], [1, 2]), "missing or empty"),
        (([1, 2], [1, 2], np.ma.array([1.0, 2.0], mask=[0, 1])), "not finite numbers, the first at row 1"),
    ],
)
def test_columns_that_cannot_be(columns, message):
    with pytest.raises(DataError, match=message):
        Ratings.from_columns(*columns)


def test_times_that_cannot_be():
    with pytest.raises(DataError, match="neither dates nor numbers of seconds, the first at row 1"):
        Ratings.from_columns([1, 2], [1, 2], [1, 2], time=["2018-01-01", "soon"])
    for unmasked in ([7, 8], ["2018-01-01", "2018-01-02"]):
        time = np.ma.array(np.array(unmasked, "M8[s]" if unmasked[0] != 7 else None), mask=[0, 1])
        with pytest.raises(DataError, match="the first at row 1"):
            Ratings.from_columns([1, 2], [1, 2], [1, 2], time=time)


def test_columns_are_read_only_and_parts_share_ids():
    ratings = Ratings.from_columns([1, 2], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        ratings.value[0] = 5
    given = np.array([7, 8])
    Ratings.from_columns(given, given, given, time=given)
    given[0] = 9  # what the caller gave stays the caller's
    part = ratings.take(np.array([True, False]))
    assert part.users is ratings.users
    assert len(part) == 1
    assert part.scale == (1.0, 2.0)


def test_the_fingerprint_tells_data_apart():
    def of(user=(1, 2), value=(1.0, 2.0), time=None):
        return Ratings.from_columns(user, [1, 2], value, time=time).fingerprint

    assert of() == of()
    assert len({of(), of(user=("1", "2")), of(value=(1.0, 3.0)), of(time=(1, 2)), of(user=(1, 3))}) == 5


@pytest.mark.parametrize("implicit", [False, True])
def test_values_that_no_model_can_add_up_are_refused(implicit):
    with pytest.raises(
        DataError, match=r"run from 1 to 1e\+308, and models compute with values up to 1e\+32: correct"
    ):
        Ratings.from_columns([1, 2, 3], [1, 2, 3], [1.0, 1e308, 2.0], implicit=implicit)
    with pytest.raises(DataError, match=r"run from -1e\+33 to 1"):
        Ratings.from_columns([1, 2], [1, 2], [1.0, -1e33], implicit=implicit)
    with pytest.raises(DataError, match="run from inf to inf"), np.errstate(over="ignore"):
        Ratings.from_columns([1, 1], [1, 1], [1e308, 1e308], implicit=True)
    assert np.isfinite(Ratings.from_columns([1, 2], [1, 2], [1e32, -1e32], implicit=implicit).deviation)


def test_a_scale_beyond_that_is_refused():
    with pytest.raises(DataError, match="scale is"):
        Ratings.from_columns([1], [1], [1.0], scale=(0, 1e308))
