"""Which column of a table is the user, the item, the rating and the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from hatrix.data.values import times
from hatrix.errors import DataError

__all__ = ["counts_events", "known_names", "places_of", "taken"]

FIRST, LAST = 631_152_000, 4_102_444_800
"""The range of Unix seconds that look like times: from 1990 to the end of 2099."""

COUNTS = ("count", "counts", "plays", "playcount", "clicks", "weight")
KNOWN = {
    "user": ("user", "userid", "user_id", "uid", "customer", "customerid", "customer_id", "reviewerid", "visitorid"),
    "item": ("item", "itemid", "item_id", "iid", "movie", "movieid", "movie_id", "product", "productid", "product_id",
             "asin", "parent_asin", "book", "bookid", "book_id", "song", "songid", "artist", "artistid", "track"),
    "rating": ("rating", "ratings", "stars", "score", "value", "overall", *COUNTS),
    "time": ("timestamp", "time", "date", "datetime", "unixreviewtime", "created_at"),
}  # fmt: skip
"""Column names that are understood, in any case."""


def known_names(chosen: dict[str, Any]) -> frozenset[str]:
    """Names, in lower case, that tell a header from a rating."""
    own = frozenset(
        str(column).lower()
        for column in chosen.values()
        if isinstance(column, str) and not column.isdecimal()
    )
    return own.union(*KNOWN.values())


def places_of(
    chosen: dict[str, Any],
    names: list[Any] | None,
    width: int,
    where: str,
    implicit: bool | None,
    sample: list[list[str]] | None = None,
) -> dict[str, int]:
    """Assign the roles to columns: as chosen, else by name, else by position if there is no header.

    By position a column is the time only if all its fields in the ``sample`` of records look like times.
    """
    listed = ", ".join(map(repr, names)) if names else f"{width} columns without names"
    places = {role: _place(role, column, names, width, where, listed) for role, column in chosen.items()
              if column is not None}  # fmt: skip
    if len(set(places.values())) < len(places):
        raise DataError(f"{where}: one column is given for two of {', '.join(places)}; there are {listed}")
    lower = [str(name).strip().lower() for name in names] if names else []
    for role in chosen:
        if role in places:
            continue
        free = [place for place in range(width) if place not in places.values()]
        match = [place for place in free if names and lower[place] in KNOWN[role]]
        if names and match:
            place = min(match, key=lambda place: KNOWN[role].index(lower[place]))
            places[role] = _place(role, names[place], names, width, where, listed)
        elif names is None and free and width <= len(chosen):
            if role == "rating" and len(free) > 1 and {places["user"], places["item"]} != {0, 1}:
                raise DataError(
                    f"{where} has no header, and each of the columns {' and '.join(map(str, free))} could be the rating: "
                    f"name it (rating=…, --rating-column); there are {listed}"
                )
            if role != "time" or _look_like_times(
                [row[free[0]] for row in sample or [] if len(row) > free[0]]
            ):
                places[role] = free[0]
        elif role in ("user", "item"):
            raise DataError(
                f"{where} has no column for the {role}: name it ({role}=…, --{role}-column); there are {listed}"
            )
    left = [place for place in range(width) if place not in places.values()]
    if "rating" not in places and left and implicit is None and names:
        raise DataError(
            f"{where} has no column known to be the rating: name it (rating=…, --rating-column), or say that there "
            f"are none (implicit=True); there are {listed}"
        )
    return {role: places[role] for role in chosen if role in places}


def _look_like_times(texts: list[str]) -> bool:
    """Return whether all texts are dates, or numbers that are times from 1990 to 2099 in seconds, ms, µs or ns."""
    column = np.fromiter(texts, object, len(texts))
    dates = np.fromiter(("-" in text.strip()[1:] for text in texts), bool, len(texts))
    found = times(column)
    return bool(len(found)) and bool(((found >= FIRST) & (found < LAST) | (found >= -(10**11)) & dates).all())


def taken(places: dict[str, int], names: list[Any] | None, width: int) -> tuple[tuple[str, str], ...]:
    """Return the role of each column, with its name, or its position if there is no header."""
    roles = {place: role for role, place in places.items()}
    return tuple(
        (roles.get(place, "unused"), str(names[place] if names else place)) for place in range(width)
    )


def counts_events(places: dict[str, int], names: list[Any] | None) -> bool | None:
    """Whether the rating column's name says that it counts events."""
    if names is None or "rating" not in places:
        return None
    return str(names[places["rating"]]).strip().lower() in COUNTS


def _place(role: str, column: str | int, names: list[Any] | None, width: int, where: str, listed: str) -> int:
    if names and column in names:
        if names.count(column) > 1:
            raise DataError(
                f"{where} has {names.count(column)} columns {column!r}: give the one of the {role} by its "
                f"position from 0; there are {listed}"
            )
        return names.index(column)
    if isinstance(column, int) or str(column).isdecimal():
        if 0 <= int(column) < width:
            return int(column)
        raise DataError(f"{where} has no column {column} for the {role}: there are {listed}")
    raise DataError(f"{where} has no column {column!r} for the {role}: there are {listed}")
