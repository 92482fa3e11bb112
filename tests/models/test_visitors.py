"""Ten visitors of MovieLens 100K, each with four ratings of one kind of film: their lists are visibly of that kind."""

from __future__ import annotations

import pytest

import hatrix as hx
from hatrix.errors import DownloadError

LISTED, NEAREST, ENOUGH = 10, 30, 7
RATED = (5.0, 5.0, 4.0, 5.0)
VISITORS = {
    "Children's": [
        "Lion King, The (1994)", "Beauty and the Beast (1991)", "Aladdin (1992)", "Snow White and the Seven Dwarfs (1937)",
    ],
    "Sci-Fi": ["Star Wars (1977)", "Blade Runner (1982)", "Alien (1979)", "Terminator, The (1984)"],
    "Film-Noir": [
        "Maltese Falcon, The (1941)", "Big Sleep, The (1946)", "Third Man, The (1949)", "Laura (1944)",
    ],
    "Romance": [
        "Sleepless in Seattle (1993)", "When Harry Met Sally... (1989)", "Pretty Woman (1990)", "Sabrina (1995)",
    ],
    "Horror": ["Shining, The (1980)", "Nightmare on Elm Street, A (1984)", "Psycho (1960)", "Birds, The (1963)"],
    "War": ["Apocalypse Now (1979)", "Full Metal Jacket (1987)", "Platoon (1986)", "Braveheart (1995)"],
    "Musical": ["Sound of Music, The (1965)", "Mary Poppins (1964)", "Grease (1978)", "Singin' in the Rain (1952)"],
    "Documentary": [
        "Hoop Dreams (1994)", "Crumb (1994)", "Koyaanisqatsi (1983)", "Celluloid Closet, The (1995)",
    ],
    "Action": ["Die Hard (1988)", "Speed (1994)", "Rock, The (1996)", "Fugitive, The (1993)"],
    "Crime": ["Godfather, The (1972)", "GoodFellas (1990)", "Pulp Fiction (1994)", "Reservoir Dogs (1992)"],
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> hx.FactorModel:
    try:
        ratings = hx.datasets.load("ml-100k", progress=False)
    except DownloadError as error:
        pytest.skip(f"this needs MovieLens 100K: {error}")
    return hx.Recommender().fit(ratings, progress=False)


@pytest.mark.parametrize("genre", VISITORS)
def test_four_ratings_make_a_list_of_their_kind(model, genre):
    table = model.item_table
    items = dict(zip(table["title"], model.items.labels.tolist(), strict=True))
    rated = [items[title] for title in VISITORS[genre]]
    near = {item for one in rated for item in model.similar_items(one, NEAREST)["item"].tolist()}
    visitor = model.fold_in(dict(zip(rated, RATED, strict=True)))
    found = visitor.recommend("new user", LISTED)
    of_genre = found["genres"].str.split("|").map(lambda genres: genre in genres)
    assert (of_genre | found["item"].isin(near)).sum() >= ENOUGH, found[["title", "genres"]]


def test_four_bad_ratings_make_the_list_of_the_most_popular_films(model):
    items = dict(zip(model.item_table["title"], model.items.labels.tolist(), strict=True))
    rated = [items[title] for title in VISITORS["Sci-Fi"]]
    by_count = model.items.labels[(-model.item_count).argsort(kind="stable")].tolist()
    popular = [item for item in by_count if item not in rated]
    for low in (1.0, 2.0):
        found = model.fold_in(dict.fromkeys(rated, low)).recommend("new user", LISTED)
        assert found["item"].tolist() == popular[:LISTED]
    one_liked = model.fold_in(dict.fromkeys(rated, 1.0) | {rated[0]: 4.0}).recommend("new user", LISTED)
    assert one_liked["item"].tolist() != popular[:LISTED]
