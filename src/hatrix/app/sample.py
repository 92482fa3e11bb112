"""A few recommendations for one user, so that whoever trains a model sees what its lists are like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatrix.models.model import FactorModel

__all__ = ["example_in_words", "example_of"]

SHOWN, LIKED, REASONS = 5, 3, 2
LONGEST = 60


def example_of(model: FactorModel) -> dict[str, Any]:
    """Return the first items of a typical user's list, with reasons and what the user liked best; for JSON.

    The user has the median number of training ratings, so neither the list of a beginner nor that of a fan is shown.
    """
    import numpy as np

    from hatrix.models.explain import reasons
    from hatrix.models.recommend import TopN

    active = np.flatnonzero(model.user_count > 0)
    row = int(active[np.argsort(model.user_count[active], kind="stable")[len(active) // 2]])
    seen = model.seen
    found = TopN.of(model, SHOWN, exclude_seen=seen is not None, threads=1).lists(np.array([row]))
    items = found.items[0, : int(found.length[0])].astype(np.int64)
    why = reasons(model, row, items, REASONS) if seen is not None else [[] for _ in items]
    predictor = model.rating_model
    stars = None if predictor is None else model.predict_rows(np.full(len(items), row), items, clip=True)
    liked: list[dict[str, Any]] = []
    if seen is not None:
        mine = seen.of(row)
        best = np.argsort(-seen.value[mine], kind="stable")[:LIKED]
        liked = [
            {**_named(model, int(item)), "rating": float(value)}
            for item, value in zip(seen.item[mine][best], seen.value[mine][best], strict=True)
        ]
    return {
        "user": model.users.labels[[row]].tolist()[0],
        "ratings": int(model.user_count[row]),
        "rated": model.scale is not None,
        "liked": liked,
        "items": [
            {
                **_named(model, int(item)),
                **({} if stars is None else {"rating": float(stars[at])}),
                "because": [_named(model, one.item) for one in why[at]],
            }
            for at, item in enumerate(items)
        ],
    }


def _named(model: FactorModel, row: int) -> dict[str, Any]:
    label = model.items.labels[[row]].tolist()[0]
    table = model.item_table
    title = None if table is None or "title" not in table else table["title"].iloc[row]
    return {"item": label} | ({"title": title} if isinstance(title, str) else {})


def example_in_words(example: dict[str, Any]) -> str:
    """Return the example as lines of text."""

    def name(one: dict[str, Any]) -> str:
        text = " ".join(str(one.get("title", one["item"])).split())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

    about = ""
    if example["liked"] and example["rated"]:
        liked = ", ".join(f"{name(one)} ({one['rating']:g})" for one in example["liked"])
        about = f", whose highest of {example['ratings']:,} ratings are {liked}"
    elif example["liked"]:
        about = f", who has {', '.join(map(name, example['liked']))}"
    lines = [f"Recommended to user {example['user']}{about}:"]
    width = max((len(name(one)) for one in example["items"]), default=0)
    for place, one in enumerate(example["items"], 1):
        stars = f"  {one['rating']:.1f}" if "rating" in one else ""
        why = " and ".join(map(name, one["because"]))
        reason = f"because of {why}" if why else "popular with everyone"
        lines.append(f"{place:>3}. {name(one):{width}}{stars}  {reason}")
    return "\n".join(lines)
