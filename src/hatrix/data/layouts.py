"""The file layouts of the named data sets: MovieLens in its four forms, and LightGCN's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix.data.ratings import Ratings
from hatrix.data.read import read
from hatrix.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids

__all__ = [
    "LAYOUTS",
    "Layout",
    "Pairs",
    "from_recbole",
    "is_lightgcn",
    "lightgcn_parts",
    "load_lightgcn",
    "load_movielens",
]

_GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror"
    "|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
GENRES = _GENRES.split("|")
"""Of the flags in ml-100k's ``u.item``, in their order."""

AGES = {"1": "Under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49"}
AGES |= {"50": "50-55", "56": "56+"}

_OCCUPATIONS = (
    "other|academic/educator|artist|clerical/admin|college/grad student|customer service|doctor/health care"
    "|executive/managerial|farmer|homemaker|K-12 student|lawyer|programmer|retired|sales/marketing|scientist"
    "|self-employed|technician/engineer|tradesman/craftsman|unemployed|writer"
)
OCCUPATIONS = {str(code): name for code, name in enumerate(_OCCUPATIONS.split("|"))}
"""The codes in ml-1m's ``users.dat``, as its README has them."""


class Layout(NamedTuple):
    """Where a form of MovieLens keeps what, and how its ratings are written."""

    ratings: tuple[str, ...]
    items: str
    users: str | None
    separator: str
    header: bool
    encoding: str


LAYOUTS = {
    "ml-100k": Layout(("u.data",), "u.item", "u.user", "\t", False, "latin-1"),
    "ml-1m": Layout(
        ("ratings.dat", "ratings_no_timestamp.dat"), "movies.dat", "users.dat", "::", False, "latin-1"
    ),
    "ml-10m": Layout(("ratings.dat",), "movies.dat", None, "::", False, "utf-8"),
    "csv": Layout(("ratings.csv",), "movies.csv", None, ",", True, "utf-8"),
}


class Pairs(NamedTuple):
    """Labels of users and items, an event each (int64, same length)."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]


def load_movielens(folder: Path, layout: Layout, *, scale: tuple[float, float], name: str) -> Ratings:
    """The ratings of a MovieLens folder in file order, with what it knows of items and users."""
    source = next(folder / file for file in layout.ratings if (folder / file).is_file())
    ratings = _ratings(source, layout, scale, name)
    items = users = None
    if (folder / layout.items).is_file():
        items = _aligned(_items(folder / layout.items, layout.encoding), ratings.items)
    if layout.users and (folder / layout.users).is_file():
        users = _aligned(_users(folder / layout.users), ratings.users)
    return replace(ratings, item_table=items, user_table=users)


def _ratings(source: Path, layout: Layout, scale: tuple[float, float], name: str) -> Ratings:
    time = None if source.name == "ratings_no_timestamp.dat" else 3
    try:
        return read(
            source,
            user=0,
            item=1,
            rating=2,
            time=time,
            separator=layout.separator,
            header=layout.header,
            scale=scale,
            name=name,
        )
    except DataError as error:
        raise DataError(f"{source} is not as published: {error}") from None


def _aligned(table: pd.DataFrame, ids: Ids) -> pd.DataFrame:
    """The lines of ``table``, which is indexed by label, in the order of the ids; empty where it has none."""
    return table[~table.index.duplicated()].reindex(ids.labels).reset_index(drop=True)


def _items(path: Path, encoding: str) -> pd.DataFrame:
    """Title, year and genres (joined by ``|``) of each item, indexed by its label."""
    import pandas as pd

    if path.suffix == ".csv":
        wanted = {"movieId": "int64", "title": "str", "genres": "str"}
        try:
            table = pd.read_csv(
                path, usecols=list(wanted), dtype=wanted, keep_default_na=False, encoding=encoding
            )
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path} is not a table of {', '.join(wanted)}: {error}") from None
        table = table.set_index("movieId")[["title", "genres"]]
        dates = None
    elif path.name == "u.item":
        rows = list(_fields(path, "|", encoding, 5 + len(GENRES)))
        genres = ["|".join(g for g, flag in zip(GENRES, row[5:], strict=True) if flag == "1") for row in rows]
        table = pd.DataFrame({"title": [row[1] for row in rows], "genres": genres}, index=_labels(path, rows))
        dates = pd.Series([row[2] for row in rows], table.index)
    else:
        parts = _fields(path, "::", encoding, 3, more=True)
        rows = [[row[0], "::".join(row[1:-1]), row[-1]] for row in parts]
        table = pd.DataFrame([row[1:] for row in rows], _labels(path, rows), ["title", "genres"])
        dates = None
    table["title"] = table["title"].str.strip()
    years = table["title"].str.extract(r".*\((\d{4})(?:[-–—]\d{0,4}\s*)?\)", expand=False)
    if dates is not None:
        years = years.fillna(dates.str.extract(r"-(\d{4})$", expand=False))
    table.insert(1, "year", years.astype("Int64"))
    return table


def _users(path: Path) -> pd.DataFrame:
    """Age, gender, occupation and zip code of each user, indexed by its label."""
    import pandas as pd

    columns = ["age", "gender", "occupation", "zip"]
    if path.name == "u.user":
        rows = list(_fields(path, "|", "latin-1", 5))
        table = pd.DataFrame([row[1:] for row in rows], _labels(path, rows), columns)
        return table.assign(age=pd.to_numeric(table["age"], errors="coerce").astype("Int64"))
    rows = list(_fields(path, "::", "latin-1", 5))
    table = pd.DataFrame(
        [row[1:] for row in rows], _labels(path, rows), ["gender", "age", "occupation", "zip"]
    )
    table["age"] = [AGES.get(code, code) for code in table["age"]]
    table["occupation"] = [OCCUPATIONS.get(code, code) for code in table["occupation"]]
    return table[columns]


def _fields(
    path: Path, separator: str, encoding: str, count: int, *, more: bool = False
) -> Iterator[list[str]]:
    """The fields of each line; ``more`` allows the separator inside them."""
    try:
        lines = path.read_text(encoding).split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not {encoding} text: {error.reason} at byte {error.start:,}") from None
    for number, line in enumerate(lines, 1):
        fields = line.removesuffix("\r").split(separator)
        if line.strip() and (len(fields) < count or (len(fields) > count and not more)):
            raise DataError(f"{path}, line {number}: {len(fields)} fields instead of {count}")
        if line.strip():
            yield fields


def _labels(path: Path, rows: list[list[str]]) -> NDArray[np.int64]:
    try:
        return np.array([int(row[0]) for row in rows], np.int64)
    except ValueError as error:
        raise DataError(f"{path}: an id is not a whole number ({error})") from None


def from_recbole(folder: Path) -> None:
    """Turn recbole's copy of ml-100k into GroupLens' layout; ``u.data`` and ``u.user`` get their very bytes.

    Its items have no release day and no web address, so these stay empty. The year is a column of its own
    there, and the one item without any reads "unkonwn" in both.
    """
    for old, new, separator in (("ml-100k.inter", "u.data", "\t"), ("ml-100k.user", "u.user", "|")):
        _, _, body = (folder / old).read_bytes().partition(b"\n")
        (folder / new).write_bytes(body.replace(b"\t", separator.encode()))
    lines = []
    for item, title, year, genres in list(_fields(folder / "ml-100k.item", "\t", "utf-8", 4))[1:]:
        full = "unknown" if year == "unkonwn" else f"{title} ({year})"
        flags = ["01"[genre in genres.split(" ")] for genre in GENRES]
        lines.append("|".join([item, full, "", "", "", *flags]) + "\n")
    (folder / "u.item").write_bytes("".join(lines).encode("latin-1"))
    for left in folder.glob("ml-100k.*"):
        left.unlink()


def is_lightgcn(folder: Path) -> bool:
    """Whether the folder has LightGCN's two files."""
    return (folder / "train.txt").is_file() and (folder / "test.txt").is_file()


def load_lightgcn(folder: Path, *, name: str) -> Ratings:
    """The training events and then the test events of a folder in LightGCN's layout."""
    train, test = lightgcn_parts(folder)
    user, item = (np.concatenate(column) for column in zip(train, test, strict=True))
    return Ratings.from_columns(user, item, name=name)


def lightgcn_parts(folder: Path) -> tuple[Pairs, Pairs]:
    """Training and test events of a folder with a ``train.txt`` and a ``test.txt``.

    A line has a user and then the user's items, all whole numbers parted by blanks.

    Raises
    ------
    DataError
        If a line has anything else, or a file is missing or empty.
    """
    return _lightgcn(folder / "train.txt"), _lightgcn(folder / "test.txt")


def _lightgcn(path: Path) -> Pairs:
    users: list[int] = []
    counts: list[int] = []
    items: list[int] = []
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):  # noqa: B007
                if labels := [int(label) for label in line.split()]:
                    users.append(labels[0])
                    counts.append(len(labels) - 1)
                    items += labels[1:]
        pairs = Pairs(np.repeat(np.array(users, np.int64), counts), np.array(items, np.int64))
    except ValueError:
        raise DataError(f"{path}, line {number}: each line is a user and items, all whole numbers") from None
    except (OSError, OverflowError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not len(pairs.item):
        raise DataError(f"{path} has no events: each line is a user and then the user's items")
    return pairs
