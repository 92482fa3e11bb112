"""Tables of items and users: lines go by id, and a table whose lines are not in order is refused where it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatrix as hx
from hatrix.data.attributes import read_table
from hatrix.errors import DataError

FILMS = pd.DataFrame({"item": [30, 10, 20], "title": ["Thirty", "Ten", "Twenty"], "year": [30, 10, 20]})


@pytest.fixture(params=["item", "user"])
def side(request):
    return request.param


def rated(side: str, labels: list[object] | None = None) -> hx.Ratings:
    columns = [1, 2, 3], labels or [10, 20, 30]
    return hx.Ratings.from_columns(*(columns if side == "item" else columns[::-1]), [5.0, 3, 4])


def given_to(ratings: hx.Ratings, side: str, table: object) -> hx.Ratings:
    return replace(ratings, **{f"{side}_table": table})


@pytest.mark.parametrize(
    ("table", "because"),
    [
        (FILMS[:2], "_table has 2 lines, and there are 3"),
        (pd.concat([FILMS, FILMS]), "_table has 6 lines, and there are 3"),
        (FILMS[:0], "_table has 0 lines"),
        (FILMS.set_index("item"), "_table, index: line 0 is of .* 30, and should be of .* 10"),
        (FILMS.rename(columns={"item": "id"}), "_table, column 'id': line 0 is of .* 30"),
        (FILMS.assign(item=[10, 20, 99]).rename(columns={"item": "id"}), "column 'id': line 2 is of .* 99"),
        (FILMS[["title"]].sort_values("title"), "_table, index: line 0"),
        (pl.DataFrame({"title": ["a", "b", "c"]}), "_table is a DataFrame: give a pandas DataFrame"),
        ([1, 2, 3], "_table is a list: give a pandas DataFrame"),
    ],
)
def test_lines_in_another_order_are_refused(side, table, because):
    with pytest.raises(DataError, match=because) as caught:
        given_to(rated(side), side, table)
    assert f"ratings.with_{side}s(table, id=...)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        FILMS[["title"]],
        FILMS[["year", "title"]],
        FILMS.sort_values("item", ignore_index=True),
        FILMS.set_index("item").sort_index(),
        pd.DataFrame({"id": [7, 7, 8], "title": ["a", "b", "c"]}),
    ],
)
def test_lines_in_order_or_without_ids_are_taken(side, table):
    assert given_to(rated(side), side, table) is not None


def test_a_column_of_names_is_no_column_of_ids():
    """`artist` is a usual name of item ids, and in a table of songs it is none."""
    songs = rated("item", ["a", "b", "c"])
    assert replace(songs, item_table=pd.DataFrame({"artist": ["x", "y", "z"]})) is not None


@given(
    st.permutations(range(5)),
    st.sampled_from(["column", "index", "text", "polars"]),
    st.sampled_from(["item", "user"]),
)
def test_a_table_of_any_order_is_joined_by_id(order, kind, side):
    ratings = hx.Ratings.from_columns(*[[10, 20, 30, 50]] * 2, [1, 2, 3, 4])
    table = pd.DataFrame(
        {"key": np.array([10, 20, 30, 40, 50])[order], "note": np.array(list("abcde"))[order]}
    )
    join = ratings.with_items if side == "item" else ratings.with_users
    if kind == "index":
        found = join(table.set_index("key")) if order != tuple(range(5)) else join(table, id="key")
    else:
        if kind == "text":
            table = table.astype({"key": str})
        found = join(pl.DataFrame(table.to_dict("list")) if kind == "polars" else table, id="key")
    made = getattr(found, f"{side}_table")
    assert made["note"].tolist() == ["a", "b", "c", "e"]
    assert list(made) == ["note"]
    assert made.index.tolist() == [0, 1, 2, 3]


def test_ids_without_a_line_have_missing_values():
    table = rated("item").with_items(FILMS[:2].assign(good=[True, False])).item_table
    assert table["title"].isna().tolist() == [False, True, False]
    assert table["year"].dtype == "Int64"
    assert table["good"].dtype == "boolean"
    assert rated("item").with_items(FILMS).item_table["year"].dtype == np.int64


def test_columns_by_other_names():
    films = FILMS.rename(columns={"title": "name", "year": "made", "item": "film"})
    table = rated("item").with_items(films, id="film", title="name", year="made").item_table
    assert list(table) == ["title", "year"]
    assert table["title"].tolist() == ["Ten", "Twenty", "Thirty"]


@pytest.mark.parametrize(
    ("table", "how", "because"),
    [
        (FILMS, {"id": "film"}, "no column 'film': name it .*there are 'item', 'title', 'year'"),
        (FILMS[["title"]], {}, "no one column of item ids: name it"),
        (FILMS.assign(id=1), {}, "no one column of item ids"),
        (FILMS, {"title": "name"}, "no column 'name' for title"),
        (FILMS, {"title": "year"}, "columns 'title' and 'year' for title"),
        (pd.concat([FILMS, FILMS]), {}, "two lines for item 30, the first at line 0"),
        (FILMS.assign(item=[1, 2, 3]), {}, "none of the 3 item ids: its ids begin with 1, 2, 3"),
        (FILMS[:0], {}, "none of the 3 item ids"),
    ],
)
def test_tables_that_cannot_be_joined(table, how, because):
    with pytest.raises(DataError, match=because):
        rated("item").with_items(table, **how)


@pytest.mark.parametrize("table", [None, 5, [1, 2], {"item": [10], "title": ["Ten"]}])
def test_what_is_no_table_is_refused(table):
    because = (
        f"cannot read a table of items from a {type(table).__name__}: give a pandas, polars or Arrow table"
    )
    with pytest.raises(DataError, match=because):
        rated("item").with_items(table)


def test_recommendations_have_the_titles_of_their_items():
    model = hx.Bias().fit(rated("item").with_items(FILMS), progress=False)
    shown = model.recommend(1, 3, exclude_seen=False).set_index("item")["title"].to_dict()
    assert shown == {10: "Ten", 20: "Twenty", 30: "Thirty"}


def test_tables_from_files(tmp_path):
    (tmp_path / "films.csv").write_text('movieId,title,year,zip\n30,"Thirty, a",30,007\n10,Ten,10.5,1\n')
    table = read_table(tmp_path / "films.csv")
    assert table["movieId"].tolist() == ["30", "10"]
    assert table["year"].tolist() == [30, 10.5]
    assert table["zip"].tolist() == ["007", "1"]
    found = rated("item").with_items(table).item_table
    assert found["title"].fillna("").tolist() == ["Ten", "", "Thirty, a"]
    pl.DataFrame(FILMS.to_dict("list")).write_parquet(tmp_path / "films.parquet")
    assert rated("item").with_items(read_table(tmp_path / "films.parquet")).item_table["year"].tolist() == [
        10,
        20,
        30,
    ]
    (tmp_path / "gaps.csv").write_text("item,year,price,empty\n10,1993,1.5,\n20,,,\n")
    pl.DataFrame({"item": [10, 20], "year": [1993, None], "price": [1.5, None]}).write_parquet(
        tmp_path / "gaps.parquet"
    )
    for name in ("gaps.csv", "gaps.parquet"):  # a missing value makes no year a float
        table = read_table(tmp_path / name)
        assert [str(table[name].dtype) for name in ("year", "price")] == ["Int64", "float64"]
        assert rated("item").with_items(table).item_table["year"].tolist() == [1993, pd.NA, pd.NA]
    by_path = rated("item").with_items(tmp_path / "films.csv")
    pd.testing.assert_frame_equal(by_path.item_table, found)
    assert by_path.origin.lines() == [f"ratings = ratings.with_items({str(tmp_path / 'films.csv')!r})"]
    (tmp_path / "people.csv").write_text("user,age\n10,33\n")
    assert rated("user").with_users(str(tmp_path / "people.csv")).user_table["age"].tolist()[0] == 33
    for name, because in {"none.csv": "is no file", "bad.parquet": "cannot be read as a table"}.items():
        (tmp_path / "bad.parquet").write_text("no parquet")
        with pytest.raises(DataError, match=because):
            read_table(tmp_path / name)
