"""Conditions on item tables: plain Python says the same, the cost is bounded, and a changed table is noticed."""

from __future__ import annotations

import operator
import random

import numpy as np
import pandas as pd
import pytest

from hatrix.errors import ParameterError
from hatrix.models import where
from hatrix.models.where import rows_where

SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
WORDS = ["", "a", "b", "War", "Drama", "é", "ab"]


def table(chance: random.Random, rows: int = 40) -> pd.DataFrame:
    """Numbers, texts and texts of several values, some of each missing."""
    return pd.DataFrame(
        {
            "year": pd.array([chance.choice([None, 1990, 1991, 2001]) for _ in range(rows)], "Int64"),
            "price": [chance.choice([float("nan"), 0.5, -1.0, 3.0]) for _ in range(rows)],
            "title": pd.Series([chance.choice([None, *WORDS]) for _ in range(rows)], dtype=object),
            "genres": pd.Series(
                [chance.choice([None, "|".join(chance.sample(WORDS, 2)), "War"]) for _ in range(rows)],
                dtype=chance.choice(["str", "string", "category", object]),
            ),
        }
    )


def comparison(chance: random.Random) -> tuple[str, object]:
    """A comparison as text, and as a function of a line that gives True, False or None."""
    name = chance.choice(["year", "price", "title", "genres"])
    signs = ["==", "!="] if name == "genres" else list(SIGNS)
    pool = [1990, 1991.0, 0.5, -1, 7, True] if name in ("year", "price") else WORDS
    listed = chance.random() < 0.4
    values = [chance.choice(pool) for _ in range(chance.randrange(1, 5) if listed else 1)]
    sign, negated = ("==" if listed else chance.choice(signs)), listed and chance.random() < 0.5

    def met(line: dict[str, object]) -> bool | None:
        own = line[name]
        if pd.isna(own):
            return None
        parts = str(own).split("|") if name == "genres" else [own]
        if sign == "!=":
            return values[0] not in parts
        return any(SIGNS[sign](part, value) for part in parts for value in values) != negated

    words = ("not in" if negated else "in") + f" {values!r}" if listed else f"{sign} {values[0]!r}"
    return f"{name} {words}", met


def condition(chance: random.Random, depth: int) -> tuple[str, object]:
    """An expression of comparisons, and the function that it stands for, by the logic of SQL."""
    match chance.choice(["and", "or", "not"]) if depth and chance.random() < 0.7 else "":
        case "not":
            text, inner = condition(chance, depth - 1)
            return f"not ({text})", lambda line: None if inner(line) is None else not inner(line)
        case "and" | "or" as word:
            decisive = word == "or"
            parts = [condition(chance, depth - 1) for _ in range(chance.randrange(2, 4))]

            def both(line: dict[str, object]) -> bool | None:
                found = [part(line) for _, part in parts]
                return decisive if decisive in found else None if None in found else not decisive

            return f" {word} ".join(f"({text})" for text, _ in parts), both
    return comparison(chance)


def test_a_condition_means_what_plain_python_says():
    chance = random.Random(4)
    for _ in range(400):
        films = table(chance)
        text, met = condition(chance, 3)
        wanted = [met(line) is True for line in films.to_dict("records")]
        assert rows_where(films, text).tolist() == wanted, text


def test_a_column_is_made_ready_once_however_many_values_are_listed(monkeypatch):
    prepared = []
    monkeypatch.setattr(where, "_Texts", lambda *column: prepared.append(column) or TEXTS(*column))
    films = pd.DataFrame({"genres": ["Drama|Comedy", "War"] * 500})
    listed = "genres in [" + ",".join(f'"{n}"' for n in range(246)) + "]"
    assert not rows_where(films, f"{listed} or {listed} or {listed} and {listed}").any()
    assert rows_where(films, 'genre == "War"').sum() == 500
    assert len(prepared) == 1


TEXTS = where._Texts


def test_a_changed_table_is_noticed():
    films = pd.DataFrame({"genre": ["War", "Drama"], "year": [1990, 1995]})
    assert rows_where(films, 'genre == "War" and year < 1992').tolist() == [True, False]
    films.loc[1, "genre"] = "War"
    assert rows_where(films, 'genre == "War" and year < 1992').tolist() == [True, False]
    films["year"] = [2000, 1991]
    assert rows_where(films, 'genre == "War" and year < 1992').tolist() == [False, True]
    films.columns = ["year", "genre"]
    assert rows_where(films, "genre < 1992").tolist() == [False, True]
    known = len(where._TABLES)
    del films
    assert len(where._TABLES) == known - 1


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (" or ".join(["year == 1"] * 201), "compares more than 200 times: list values with `in"),
        (" < ".join(["1", *["year", "2"] * 200]), "compares more than 200 times"),
        ("year == 1 or " * 1000 + "year == 1", "has 13,009 characters, and at most 10,000"),
        ("(year == 1 or " * 60 + "year == 1" + " and year == 2)" * 60, "nested too deep, more than 50 times"),
        ("not " * 60 + "year == 1", "nested too deep"),
        ("-" * 5000 + "year", "where"),
        ("(" * 5000, "where"),
        ("year == 1 and " * 50 + "x" * 9000 + " == 1", "where"),
    ],
)
def test_what_costs_too_much_is_refused(condition, said):
    with pytest.raises(ParameterError, match="where") as caught:
        rows_where(pd.DataFrame({"year": np.arange(5)}), condition)
    assert said in str(caught.value)


def test_conditions_within_the_bounds_are_met():
    films = pd.DataFrame({"year": np.arange(5)})
    assert (
        rows_where(films, " or ".join(f"year == {n}" for n in range(3, 203))).tolist()
        == [False] * 3 + [True] * 2
    )
    listed = ", ".join(map(str, range(1000, 2600)))
    assert rows_where(films, f"year in [4, {listed}]").tolist() == [False] * 4 + [True]
    assert rows_where(films, "not " * 48 + "year > 2").sum() == 2
