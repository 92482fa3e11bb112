"""The layouts of MovieLens and LightGCN, in small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hatrix.data.layouts import LAYOUTS, from_recbole, lightgcn_parts, load_lightgcn, load_movielens
from hatrix.errors import DataError


def fill(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        name = name.replace("__", ".")
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    return folder


def load(folder: Path, layout: str, scale: tuple[float, float] = (1.0, 5.0)):
    return load_movielens(folder, LAYOUTS[layout], scale=scale, name="tiny")


def flags(*places: int) -> str:
    return "|".join("1" if place in places else "0" for place in range(19))


U_ITEM = (
    f"7|Twelve Monkeys (1995)|01-Jan-1995||http://x|{flags(8, 15)}\n"
    f"2|Two Friends (1986) |26-Apr-1986||http://x|{flags(8)}\n"
    f"3|Am\xe9lie|25-Apr-2001||http://x|{flags(5, 14)}\n"
    f"9|unknown||||{flags(0)}\n"
)


def test_ml_100k(tmp_path):
    fill(
        tmp_path,
        u__data="196\t7\t3\t881250949\n186\t3\t5\t891717742\n196\t9\t1\t881250940\n",
        u__item=U_ITEM,
        u__user="186|39|F|executive|00000\n196|49|M|writer|55105\n",
    )
    ratings = load(tmp_path, "ml-100k")
    assert ratings.users.decode(ratings.user).tolist() == [196, 186, 196]
    assert ratings.items.decode(ratings.item).tolist() == [7, 3, 9]
    assert ratings.value.tolist() == [3, 5, 1]
    assert ratings.time.tolist() == [881250949, 891717742, 881250940]
    assert ratings.scale == (1.0, 5.0)
    assert ratings.name == "tiny"
    assert not ratings.implicit
    assert ratings.item_table.to_dict("list") == {
        "title": ["Amélie", "Twelve Monkeys (1995)", "unknown"],
        "year": [2001, 1995, None],
        "genres": ["Comedy|Romance", "Drama|Sci-Fi", "unknown"],
    }
    assert ratings.user_table.to_dict("list") == {
        "age": [39, 49],
        "gender": ["F", "M"],
        "occupation": ["executive", "writer"],
        "zip": ["00000", "55105"],
    }


USERS = "1::F::1::10::48067\r\n2::M::56::16::70072\r\n"


@pytest.mark.parametrize("stamped", [True, False])
def test_ml_1m_with_and_without_timestamps(tmp_path, stamped):
    lines = ["1::1193::5::978300760", "2::661::3::978302109", "1::914::3::978301968"]
    if stamped:
        fill(tmp_path, ratings__dat="\n".join(lines) + "\n")
    else:
        fill(tmp_path, ratings_no_timestamp__dat="".join(line.rpartition("::")[0] + "\n" for line in lines))
    fill(tmp_path, users__dat=USERS)
    fill(tmp_path, movies__dat="661::James and the Giant Peach (1996)::Animation|Children's\n")
    ratings = load(tmp_path, "ml-1m")
    assert ratings.value.tolist() == [5, 3, 3]
    assert (None if ratings.time is None else ratings.time.tolist()) == (
        [978300760, 978302109, 978301968] if stamped else None
    )
    giant_peach = ["James and the Giant Peach (1996)", 1996, "Animation|Children's"]
    assert ratings.item_table.loc[0].tolist() == giant_peach
    assert ratings.item_table.loc[1:].isna().all(axis=None)
    assert ratings.user_table["age"].tolist() == ["Under 18", "56+"]
    assert ratings.user_table["occupation"].tolist() == ["K-12 student", "self-employed"]
    assert list(ratings.user_table.columns) == ["age", "gender", "occupation", "zip"]


def test_ml_1m_takes_the_file_with_timestamps_first(tmp_path):
    fill(tmp_path, ratings__dat="1::1::5::978300760\n", ratings_no_timestamp__dat="1::1::4\n")
    assert load(tmp_path, "ml-1m").value.tolist() == [5]


def test_ml_10m_has_half_stars_and_utf8(tmp_path):
    movies = "122::Boomerang: a::b (1992)::Comedy\n185::Cité (2000)::Drama\n".encode()
    fill(tmp_path, ratings__dat="1::122::4.5::838985046\n1::185::0.5::838983525\n", movies__dat=movies)
    ratings = load(tmp_path, "ml-10m", (0.5, 5.0))
    assert ratings.value.tolist() == [4.5, 0.5]
    assert ratings.item_table["title"].tolist() == ["Boomerang: a::b (1992)", "Cité (2000)"]
    assert ratings.item_table["year"].tolist() == [1992, 2000]
    assert ratings.user_table is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv(tmp_path, end):
    ratings = ["userId,movieId,rating,timestamp", "1,31,2.5,1260759144", "2,1029,3.0,1260759179"]
    movies = [
        "movieId,title,genres",
        '31,"Mr. ""X"", a (b, c) (1995–1996)","Comedy|NA"',
        "1029,null,(no genres listed)",
        "5,Seen by nobody (2001),Drama",
    ]
    fill(
        tmp_path,
        ratings__csv=end.join(ratings) + end,
        movies__csv=(end.join(movies) + end).encode(),
    )
    loaded = load(tmp_path, "csv", (0.5, 5.0))
    assert loaded.value.tolist() == [2.5, 3.0]
    assert loaded.scale == (0.5, 5.0)
    assert loaded.item_table.to_dict("list") == {
        "title": ['Mr. "X", a (b, c) (1995–1996)', "null"],
        "year": [1995, None],
        "genres": ["Comedy|NA", "(no genres listed)"],
    }


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("2001: A Space Odyssey (1968)", 1968),
        ("1984 (Nineteen Eighty-Four) (1984)", 1984),
        ("Fawlty Towers (1975-1979)", 1975),
        ("Still on (2011– )", 2011),
        ("Still on (2011–)", 2011),
        ("Land Before Time III (1995) (V)", 1995),
        ("(500) Days of Summer", None),
        ("Stranger Things", None),
        ("Twice (1999) (2000)", 2000),
    ],
)
def test_the_year_is_the_last_in_brackets(tmp_path, title, year):
    fill(
        tmp_path,
        ratings__csv="userId,movieId,rating,timestamp\n1,1,1,1\n",
        movies__csv=f'movieId,title,genres\n1,"{title}",x\n'.encode(),
    )
    [found] = load(tmp_path, "csv").item_table["year"].tolist()
    assert (None if found is pd.NA else found) == year


def test_ratings_alone_will_do(tmp_path):
    fill(tmp_path, u__data="1\t2\t3\t4\n")
    ratings = load(tmp_path, "ml-100k")
    assert ratings.item_table is None
    assert ratings.user_table is None


RATING = "1\t2\t3\t4\n"
RATINGS = "userId,movieId,rating,timestamp\n1,2,3,4\n"


@pytest.mark.parametrize(
    ("layout", "files", "reason"),
    [
        ("ml-100k", {"u__data": RATING, "u__item": "1|a|b\n"}, r"u\.item, line 1: 3 fields instead of 24"),
        ("ml-100k", {"u__data": RATING, "u__user": "x|1|M|a|b\n"}, r"u\.user: an id is not a whole number"),
        ("ml-10m", {"ratings__dat": "1::2::3::4\n", "movies__dat": "2::\xe9::x\n"}, "is not utf-8 text"),
        ("csv", {"ratings__csv": RATINGS, "movies__csv": "a,b\n1,2\n"}, "title"),
        ("csv", {"ratings__csv": RATINGS, "movies__csv": ""}, "title"),
        ("csv", {"ratings__csv": RATINGS, "movies__csv": "movieId,title,genres\nx,y,z\n"}, "title"),
    ],
)
def test_damaged_tables_are_named(tmp_path, layout, files, reason):
    fill(tmp_path, **files)
    with pytest.raises(DataError, match=reason):
        load(tmp_path, layout)


@pytest.mark.parametrize(
    "line", ["1\t2\n", "1\t2\t3\t4\t5\n", "1\t2\tx\t4\n", "1\t\t3\t4\n", "1\t2\tnan\t4\n"]
)
def test_damaged_ratings_are_named(tmp_path, line):
    folder = tmp_path / "o'clock"
    folder.mkdir()
    fill(folder, u__data=RATING)
    assert len(load(folder, "ml-100k")) == 1
    fill(folder, u__data=RATING + line)
    with pytest.raises(DataError):
        load(folder, "ml-100k")


def test_recbole_becomes_the_original(tmp_path):
    ratings = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t1\t3\t881250949\n"
    fill(
        tmp_path,
        **{
            "ml-100k__inter": ratings,
            "ml-100k__item": (
                "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                "1\tAmélie\t2001\tChildren's Comedy\n267\tunkonwn\tunkonwn\tunknown\n"
                "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Children's\n"
            ).encode(),
            "ml-100k__user": "user_id:token\tage:token\n196\t49\tM\twriter\t55105\n",
            "ml-100k__kg": "left out",
        },
    )
    from_recbole(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"u.data", "u.item", "u.user"}
    assert (tmp_path / "u.data").read_bytes() == b"196\t1\t3\t881250949\n"
    assert (tmp_path / "u.user").read_bytes() == b"196|49|M|writer|55105\n"
    assert (tmp_path / "u.item").read_bytes().decode("latin-1") == (
        f"1|Amélie (2001)||||{flags(4, 5)}\n267|unknown||||{flags(0)}\n"
        f"1412|Land Before Time III: The Time of the Great Giving (1995) (V)||||{flags(3, 4)}\n"
    )


def test_lightgcn(tmp_path):
    fill(tmp_path, train__txt="0 5 6 7 \n2 5\n\n", test__txt="0 9\n1\n2 5\n")
    train, test = lightgcn_parts(tmp_path)
    assert [column.tolist() for column in (*train, *test)] == [[0, 0, 0, 2], [5, 6, 7, 5], [0, 2], [9, 5]]
    ratings = load_lightgcn(tmp_path, name="shop")
    assert ratings.implicit
    assert ratings.scale is None
    assert ratings.name == "shop"
    rows = sorted(zip(ratings.user.tolist(), ratings.item.tolist(), ratings.value.tolist(), strict=True))
    assert rows == [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (1, 0, 2)]
    assert ratings.items.labels.tolist() == [5, 6, 7, 9]


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ("0 1\n1 x\n", r"train\.txt, line 2: each line is a user and items"),
        ("0 1.5\n", "line 1"),
        ("", "has no events"),
        ("0\n1\n", "has no events"),
        (f"0 {2**63}\n", "cannot be read"),
    ],
)
def test_damaged_lightgcn_files_are_named(tmp_path, train, reason):
    fill(tmp_path, train__txt=train, test__txt="0 1\n")
    with pytest.raises(DataError, match=reason):
        lightgcn_parts(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt cannot be read"):
        lightgcn_parts(tmp_path)


def test_tables_follow_the_ids_however_the_files_are_ordered(tmp_path):
    rng = np.random.default_rng(0)
    items = rng.permutation(200)[:60]
    fill(
        tmp_path,
        ratings__csv="userId,movieId,rating,timestamp\n" + "".join(f"1,{item},1,1\n" for item in items),
        movies__csv="movieId,title,genres\n"
        + "".join(f"{item},T{item} (1990),G{item}\n" for item in rng.permutation(200)),
    )
    ratings = load(tmp_path, "csv")
    labels = ratings.items.decode(ratings.item)
    assert labels.tolist() == items.tolist()
    titles = ratings.item_table["title"].to_numpy()[ratings.item]
    assert titles.tolist() == [f"T{item} (1990)" for item in items]
    assert replace(ratings, name="x").item_table is ratings.item_table
