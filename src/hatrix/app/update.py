"""``hatrix update`` and ``hatrix forget``: new ratings into a model file, and a user out of it."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import hatrix
from hatrix.app.flags import Columns, Output, file_path, whole
from hatrix.app.recommend import Model, id_of
from hatrix.app.steps import Source, facts_of, load, staged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.data.ids import Ids
    from hatrix.data.ratings import Ratings
    from hatrix.models.model import FactorModel

__all__ = ["forget", "update"]

Out = Annotated[
    Path,
    Parameter(converter=file_path, help="file for the new model; may be the old one, which is then replaced"),
]


def update(
    model: Model,
    /,
    *,
    ratings: Source,
    out: Out,
    sweeps: Annotated[
        int, Parameter(converter=whole(1), help="how often the users and items with new ratings are solved")
    ] = 2,
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Bring new ratings, users and items into a model, without training anew."""
    with staged(out.parent, [out.name], ratings) as stage:
        old = hatrix.load(model)
        new = _with_ids(old, load(ratings, columns, output, old.recipe))
        started = time.perf_counter()
        updated = old.update(new, sweeps=sweeps)
        seconds = time.perf_counter() - started
        updated.save(stage / out.name)
    drift = updated.drift
    facts: dict[str, Any] = {
        **facts_of(updated),
        "n_new": len(new),
        "new_users": len(updated.users) - len(old.users),
        "new_items": len(updated.items) - len(old.items),
        "update_seconds": seconds,
        "drift": None,
        "model": str(out),
    }
    if drift is not None:
        facts["drift"] = {**drift._asdict(), "share": drift.share, "due": drift.due}
        if drift.due:
            warnings.warn(drift.due, stacklevel=1)
        if drift.error is not None:
            output.note(
                f"foretold the new ratings with {drift.error:.4f} (without a model {drift.baseline:.4f})"
            )
        output.note(f"{drift.share:.1%} as many ratings as were fitted have come since")
    output.result(
        facts,
        f"{len(new):,} ratings, {facts['new_users']:,} new users and {facts['new_items']:,} new items in {seconds:.1f} s\n"
        f"model: {out}",
    )


def forget(
    model: Model,
    /,
    *,
    user: Annotated[list[str], Parameter(consume_multiple=True, help="ids of users")],
    out: Out,
    refit: Annotated[
        bool, Parameter(help="solve the items that they had again, so that their ratings leave no mark there")
    ] = False,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Remove users from a model: their factors, ratings and attributes."""
    with staged(out.parent, [out.name], "") as stage:
        old = hatrix.load(model)
        left = old.forget([id_of(old.users, text, "--user") for text in user], refit=refit)
        left.save(stage / out.name, seen=old.seen is not None)
    facts = {
        **facts_of(left),
        "forgotten": len(old.users) - len(left.users),
        "refit": refit,
        "model": str(out),
    }
    output.result(facts, f"{facts['forgotten']:,} users forgotten, {len(left.users):,} left\nmodel: {out}")


def _with_ids(model: FactorModel, ratings: Ratings) -> Ratings:
    """The ratings with ids of the model's type: a file of numbers for a model of texts has texts, too."""
    from hatrix.data.ratings import Ratings

    users, user = _as_kind(ratings.users, model.users)
    items, item = _as_kind(ratings.items, model.items)
    if users is ratings.users and items is ratings.items:
        return ratings
    return Ratings(
        user[ratings.user],
        item[ratings.item],
        ratings.value,
        users,
        items,
        time=ratings.time,
        scale=ratings.scale,
        implicit=ratings.implicit,
        item_table=_in_order(ratings.item_table, item),
        user_table=_in_order(ratings.user_table, user),
        name=ratings.name,
    )


def _in_order(table: pd.DataFrame | None, row: NDArray[np.int32]) -> pd.DataFrame | None:
    """The lines of a table in the order of new rows."""
    return None if table is None else table.iloc[row.argsort()].reset_index(drop=True)


def _as_kind(ids: Ids, wanted: Ids) -> tuple[Ids, Any]:
    """The ids, and the new row of each."""
    import numpy as np

    if ids.kind == "int" and wanted.kind == "str":
        return type(ids).from_labels([str(label) for label in ids.labels.tolist()])
    return ids, np.arange(len(ids), dtype=np.int32)
