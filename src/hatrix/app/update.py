"""``hatrix update`` and ``hatrix forget``: new ratings into a model file, and a user out of it."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

import hatrix
from hatrix.app.flags import Columns, Output, file_path, whole
from hatrix.app.recommend import Model, id_of
from hatrix.app.staging import staged
from hatrix.app.steps import facts_of, leave_unfinished, load
from hatrix.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.app.feedback import Feedback
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
    ratings: Annotated[
        str | None, Parameter(help="new ratings: a file, or a data set (see hatrix data list)")
    ] = None,
    store: Annotated[
        str | None,
        Parameter(
            help="feedback that the service has taken, each change once: a path or sqlite:///path.db, or "
            "postgresql://user@host/name"
        ),
    ] = None,
    out: Out,
    sweeps: Annotated[
        int, Parameter(converter=whole(1), help="how often the users and items with new ratings are solved")
    ] = 2,
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Bring new ratings, users and items into a model, without training anew."""
    if (ratings is None) == (store is None):
        raise ParameterError("say what is new: give either --ratings FILE or --store URL")
    source = ratings or (store or "").removeprefix("sqlite:///")
    with staged(out.parent, [out.name], source) as stage:
        old = hatrix.load(model)
        facts: dict[str, Any] = {}
        if ratings is not None:
            new = _with_ids(old, load(ratings, columns, output, old.recipe))
            started = time.perf_counter()
            updated = old.update(new, sweeps=sweeps)
            facts["n_new"] = len(new)
        else:
            with _feedback(store or "", old) as feedback:
                started = time.perf_counter()
                updated = feedback.merge(sweeps=sweeps)
                facts |= _facts_of_feedback(feedback, updated)
        facts["update_seconds"] = time.perf_counter() - started
        if updated is old:
            shutil.copyfile(model, stage / out.name)
            output.note("there is nothing that the model has not taken in before: nothing changed")
        else:
            if updated.unfinished and not old.unfinished:
                leave_unfinished(updated, out, seen=old.seen is not None)
            updated.save(stage / out.name, seen=old.seen is not None)
    fresh = {
        f"new_{side}": int((old_ids.encode(new_ids.labels) < 0).sum())
        for side, old_ids, new_ids in (
            ("users", old.users, updated.users),
            ("items", old.items, updated.items),
        )
    }
    facts = {**facts_of(updated), **facts, **fresh, "drift": None, "model": str(out)}
    drift = updated.drift
    if drift is not None:
        facts["drift"] = {**drift._asdict(), "share": drift.share, "due": drift.due}
        if drift.due:
            warnings.warn(drift.due, stacklevel=1)
        if drift.error is not None and facts["n_new"]:
            output.note(
                f"foretold the new ratings with {drift.error:.4f} (without a model {drift.baseline:.4f})"
            )
        output.note(f"{drift.share:.1%} as many ratings as were fitted have come since")
    forgotten = f", {facts['forgotten']:,} users forgotten" if facts.get("forgotten") else ""
    output.result(
        facts,
        f"{facts['n_new']:,} ratings, {facts['new_users']:,} new users and {facts['new_items']:,} new items{forgotten} in "
        f"{facts['update_seconds']:.1f} s\nmodel: {out}",
    )


@contextmanager
def _feedback(url: str, model: FactorModel) -> Iterator[Feedback]:
    from hatrix.app.feedback import Feedback
    from hatrix.app.store import Store

    with Store.open(url, users=model.users.kind, items=model.items.kind, make=False) as store:
        yield Feedback(store, model)


def _facts_of_feedback(feedback: Feedback, updated: FactorModel) -> dict[str, Any]:
    old, new = feedback.model, feedback.ratings()
    gone = old.users.encode(feedback.deletions)
    if feedback.left_out:
        outside = "no counts" if old.scale is None else "outside the model's scale"
        warnings.warn(
            f"{feedback.left_out:,} ratings of the store left out: they are {outside}", stacklevel=1
        )
    return {
        "n_new": 0 if new is None else len(new),
        "forgotten": int((gone >= 0).sum()),
        "left_out": feedback.left_out,
        "changes": feedback.position - old.merged.get(feedback.store.identity, 0),
        "merged": dict(updated.merged),
    }


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
        if left.unfinished and not old.unfinished:
            leave_unfinished(left, out, seen=old.seen is not None)
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
