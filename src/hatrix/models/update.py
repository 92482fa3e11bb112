"""New ratings into a fitted model without training anew, and users out of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import whole, yes_or_no
from hatrix._threads import one_blas_thread
from hatrix.data.ids import Ids, as_column
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError
from hatrix.models.bags import ATTRIBUTES, OTHERS, Attributes
from hatrix.models.drift import measured
from hatrix.models.factors import ITEM, LARGEST, LARGEST_FACTOR, USER
from hatrix.models.fit import cores, thread_count
from hatrix.models.fold_in import FOLDS, Fixed
from hatrix.models.predictive import unknown_in
from hatrix.models.rows import Many
from hatrix.models.seen import Seen
from hatrix.models.terms import in_type, solvable
from hatrix.models.validation import refuse_dislikes

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Rows = NDArray[np.int64]

__all__ = ["forget", "training_ratings", "update", "without"]

WHOLE = ("spectral-mf", "bpr", "popular", "bias")
"""Learned from all ratings at once, and quickly: these are fitted again."""
MOST_EPOCHS = 1_000
"""Maximum epochs that an update trains again."""
ALTERNATING, SWEEPS = ("als", "implicit-als"), 15
"""Where a sweep may begin anywhere: what a fit starts from is forgotten with so many."""


@one_blas_thread()
def update(model: FactorModel, new: Ratings, *, sweeps: int = 2, threads: int | None = None) -> FactorModel:
    """See `FactorModel.update`."""
    if model.is_made_of_models:
        return model.recipe.changed(model, lambda one: update(one, new, sweeps=sweeps, threads=threads))
    sweeps, threads = whole("sweeps", sweeps), thread_count(threads)
    _check_base(model)
    if not isinstance(new, Ratings):
        raise DataError(f"new ratings are a {type(new).__name__}: give Ratings, as hatrix.read makes them")
    new = _with_ids_of(model, new)
    _check(model, new)
    if not len(new):
        return model
    drift = measured(model, new)
    old = training_ratings(model)
    wide = _widened(model, _merged(model, old, new))
    merged = training_ratings(wide)
    if model.recipe.name in WHOLE:
        fitted = _fitted_again(model, merged, threads)
        return replace(
            fitted,
            data_name=model.data_name,
            notes=(*model.notes, *fitted.notes),
            drift=drift,
            merged=model.merged,
        )
    touched = (
        merged.users.encode(new.users.labels[np.unique(new.user)]),
        merged.items.encode(new.items.labels[np.unique(new.item)]),
    )
    note = f"updated with {len(new):,} ratings by re-solving {len(touched[0]):,} users and {len(touched[1]):,} items"
    return replace(
        _solved(model, wide, merged, touched, sweeps, threads),
        fingerprint=merged.fingerprint,
        notes=(*model.notes, note),
        drift=drift,
    )


@one_blas_thread()
def forget(model: FactorModel, user_id: Any, *, refit: bool = False) -> FactorModel:
    """See `FactorModel.forget`."""
    if model.is_made_of_models:
        return model.recipe.changed(model, lambda one: forget(one, user_id, refit=refit))
    _check_base(model)
    refit = yes_or_no("refit", refit)
    labels = as_column([user_id] if np.ndim(user_id) == 0 else user_id)
    rows = model.users.encode(labels)
    if (rows < 0).any():
        raise DataError(f"{unknown_in('user', model.users, labels, rows)}: there is nothing to forget")
    rows = np.unique(rows)
    if len(rows) == len(model.users):
        who = f"user {labels.tolist()[0]!r} is the only one" if len(rows) == 1 else "these are all users"
        raise DataError(f"{who}: delete the model file")
    if refit and model.seen is None:
        raise DataError("the model was saved without its training rows: the items cannot be refitted")
    left = without(model, rows)
    if not refit or model.seen is None:
        return left
    rest = training_ratings(left)
    if model.recipe.name in WHOLE and len(rest):
        fitted = _fitted_again(model, rest, None)
        return replace(fitted, data_name=model.data_name, drift=model.drift, merged=model.merged)
    if model.recipe.name in ALTERNATING:
        return _swept(left, rest)
    theirs = np.unique(model.seen.item[np.isin(model.seen.user, rows)].astype(np.int64))
    return _solved(model, left, rest, (np.zeros(0, np.int64), theirs), 1, cores())


def without(model: FactorModel, gone: Rows) -> FactorModel:
    """The model without some of its users, by row number, and everything else as it is.

    Raises
    ------
    DataError
        If no user would be left.
    """
    if not len(gone):
        return model
    kept = np.delete(np.arange(len(model.users)), gone)
    if not len(kept):
        raise DataError("no user of the model would be left: delete the model file")
    seen, item_count = model.seen, model.item_count
    if seen is not None:
        rows = np.isin(seen.user, gone)
        item_count = item_count - np.bincount(seen.item[rows], minlength=len(item_count))
        start = np.concatenate([[0], np.cumsum(np.diff(seen.start)[kept])])
        seen = Seen(start.astype(np.int64), seen.item[~rows], seen.value[~rows])
    days = model.days
    for row in np.sort(gone)[::-1].tolist():
        days = None if days is None else days.without(row)
    posterior = model.posterior
    if posterior is not None and posterior.user_spread.size:
        posterior = posterior._replace(user_spread=np.delete(posterior.user_spread, gone, axis=0))
    left = replace(
        model,
        users=Ids(model.users.labels[kept]),
        user_bias=model.user_bias[kept],
        user_factors=model.user_factors[kept],
        user_count=model.user_count[kept],
        item_count=item_count,
        seen=seen,
        user_table=None if model.user_table is None else model.user_table.iloc[kept].reset_index(drop=True),
        posterior=posterior,
        days=days,
        bags=None if model.bags is None else tuple(bag.kept(USER, kept) for bag in model.bags),
        parts={
            name: np.delete(array, gone, axis=model.recipe.parts[name].index("u"))
            if "u" in model.recipe.parts[name]
            else array
            for name, array in model.parts.items()
        },
        fingerprint="",
    )
    return left if seen is None else replace(left, fingerprint=training_ratings(left).fingerprint)


def _fitted_again(model: FactorModel, ratings: Ratings, threads: int | None) -> FactorModel:
    """Fit the model's recipe again, for as many epochs as its history shows.

    Raises
    ------
    DataError
        If that needs more epochs than `MOST_EPOCHS`, or other factors than the model has: a file can come from anybody.
    """
    _refuse_other_factors(model)
    recipe, fields, history = model.recipe, type(model.recipe).model_fields, model.history
    epochs = recipe.rounds if not len(history) else min(recipe.rounds, len(history))
    if getattr(recipe, "patience", None) is not None and "valid_ndcg" in history and len(history):
        epochs = min(epochs, int(np.nan_to_num(history["valid_ndcg"].to_numpy(np.float64)).argmax()) + 1)
    if epochs > MOST_EPOCHS:
        raise DataError(
            f"an update fits a {recipe.name} model again, and this one's recipe and history have {epochs:,} epochs: up to "
            f"{MOST_EPOCHS:,} are run in an update; fit the recipe with all ratings instead"
        )
    changes: dict[str, Any] = {"epochs": epochs} if "epochs" in fields else {}
    if "patience" in fields:
        changes["patience"] = None  # there is nothing to validate on
    fitted = recipe.replace(**changes).fit(ratings, seed=model.seed, threads=threads, progress=False)
    return replace(fitted, recipe=recipe)


def _refuse_other_factors(model: FactorModel) -> None:
    """Refuse a recipe whose number of factors differs from that of the model."""
    have, wanted = model.user_factors.shape[1], getattr(model.recipe, "factors", 0)
    if have != wanted:
        raise DataError(
            f"the model has {have} factors, and its recipe asks for {wanted}: fit the recipe with all ratings instead"
        )


def _swept(model: FactorModel, ratings: Ratings) -> FactorModel:
    """Go on with the sweeps of the fit, from the model's rows."""
    _refuse_other_factors(model)
    state: Any = model.recipe.init(ratings, seed=model.seed, threads=cores())
    state.take_up(model.factors)
    for epoch in range(SWEEPS):
        model.recipe.step(state, epoch)
    learned = model.recipe.finish(state)
    for array, largest in zip(
        (learned.user_bias, learned.item_bias, learned.user_factors, learned.item_factors),
        (LARGEST, LARGEST, LARGEST_FACTOR, LARGEST_FACTOR),
        strict=True,
    ):
        in_type(array, array.dtype, largest)
    return replace(model, **learned._asdict())


def training_ratings(model: FactorModel) -> Ratings:
    """The training rows that the model keeps, without times."""
    assert model.seen is not None
    return Ratings(
        model.seen.user,
        np.array(model.seen.item),
        np.array(model.seen.value),
        model.users,
        model.items,
        scale=model.scale,
        implicit=model.scale is None,
        item_table=model.item_table,
        user_table=model.user_table,
        name=model.data_name,
    )


def _check_base(model: FactorModel) -> None:
    if model.origin is not None:
        raise DataError("what was folded in is a view of a model: update that model with the ratings instead")


def _with_ids_of(model: FactorModel, new: Ratings) -> Ratings:
    """Return the new ratings with ids of the model's kind, if all ids can be converted: ``"7"`` becomes 7."""
    changes: dict[str, Any] = {}
    for name, ids, theirs in (("user", model.users, new.users), ("item", model.items, new.items)):
        labels = (
            [ids.label_of(label) for label in theirs.labels.tolist()] if ids.kind != theirs.kind else [None]
        )
        if None in labels:
            continue
        found, place = Ids.from_labels(labels)
        table = getattr(new, f"{name}_table")
        changes |= {name: place[getattr(new, name)], f"{name}s": found}
        if table is not None:
            changes[f"{name}_table"] = table.iloc[np.argsort(place)].reset_index(drop=True)
    return replace(new, **changes) if changes else new


def _check(model: FactorModel, new: Ratings) -> None:
    if model.seen is None:
        raise DataError(
            "the model was saved without its training rows, and an update needs them: fit again with all ratings"
        )
    for name, old, fresh in (("user", model.users, new.users), ("item", model.items, new.items)):
        if len(new) and old.kind != fresh.kind:
            wrong = next(label for label in fresh.labels.tolist() if old.label_of(label) is None)
            such = f", such as {old.labels[0]}" if len(old) else ""
            raise DataError(
                f"the new ratings have the {name} id {wrong!r}, and the {name} ids of the model are integers{such}: give "
                "such ids, or fit again with all ratings"
            )
    if new.implicit != (model.scale is None):
        what = ("ratings", "clicks or counts") if model.scale is not None else ("clicks or counts", "ratings")
        raise DataError(f"the model was trained on {what[0]}, and the new rows are {what[1]}")
    if model.scale is not None and len(new):
        low, high = float(new.value.min()), float(new.value.max())
        if not model.scale[0] <= low <= high <= model.scale[1]:
            raise DataError(
                f"the new ratings run from {low:g} to {high:g}, and the model was trained on ratings from "
                f"{model.scale[0]:g} to {model.scale[1]:g}: fit again with all ratings"
            )
    refuse_dislikes(model.recipe, new, "new ratings")
    bagged = [name for name in getattr(model.recipe, "fields", ()) if name in (*OTHERS, *ATTRIBUTES)]
    if bagged and model.bags is None:
        raise DataError(
            f"the model was saved by a hatrix that did not keep the rows of {', '.join(bagged)}, which an update needs: fit "
            "again with all ratings"
        )


def _merged(model: FactorModel, old: Ratings, new: Ratings) -> Ratings:
    """All rows with the ids of both: the new rating of a pair wins, counts add up."""
    columns = []
    for mine, theirs, first, second in (
        (old.users, new.users, old.user, new.user),
        (old.items, new.items, old.item, new.item),
    ):
        labels = np.concatenate([mine.labels, theirs.labels[np.unique(second)]])
        ids, rows = Ids.from_labels(labels)
        columns.append(
            (ids, np.concatenate([rows[first], ids.encode(theirs.labels[second])]).astype(np.int32))
        )
    (users, user), (items, item) = columns
    merged = Ratings.from_rows(
        users, user, items, item, np.concatenate([old.value, new.value]),
        implicit=old.implicit, scale=model.scale, name=model.data_name,
    )  # fmt: skip
    tables = [
        _joined(ids, (mine, old_table), (theirs, new_table))
        for ids, mine, old_table, theirs, new_table in (
            (items, old.items, model.item_table, new.items, new.item_table),
            (users, old.users, model.user_table, new.users, new.user_table),
        )
    ]
    return replace(merged, item_table=tables[0], user_table=tables[1])


def _joined(
    ids: Ids, first: tuple[Ids, pd.DataFrame | None], second: tuple[Ids, pd.DataFrame | None]
) -> pd.DataFrame | None:
    """The lines of one table, and for ids that it lacks those of another; columns are those of the first."""
    import pandas as pd

    (mine, table), (theirs, other) = first, second
    if table is None:
        return None
    lines = table.reset_index(drop=True)
    if other is not None:
        fresh = mine.encode(theirs.labels) < 0
        lines = pd.concat(
            [lines, other.reset_index(drop=True)[fresh].reindex(columns=table.columns)], ignore_index=True
        )
        labels = np.concatenate([mine.labels, theirs.labels[fresh]])
    else:
        labels = mine.labels
    place = pd.Index(labels).get_indexer(ids.labels)
    found = lines.reindex(np.where(place < 0, len(lines), place)).reset_index(drop=True)
    return found.astype({name: kind for name, kind in table.dtypes.items() if not found[name].isna().any()})


def _widened(model: FactorModel, merged: Ratings) -> FactorModel:
    """The model with rows for all ids, those of new ones zero, and the merged training rows."""
    arrays: dict[str, Any] = {}
    place = merged.users.encode(model.users.labels), merged.items.encode(model.items.labels)
    sizes = len(merged.users), len(merged.items)
    for side, name in ((USER, "user"), (ITEM, "item")):
        for kind in ("bias", "factors"):
            arrays[f"{name}_{kind}"] = _placed(getattr(model, f"{name}_{kind}"), place[side], sizes[side])
    posterior = model.posterior
    if posterior is not None:
        fresh = [np.setdiff1d(np.arange(size), where) for size, where in zip(sizes, place, strict=True)]
        priors = posterior.user_prior, posterior.item_prior
        for name, rows, prior in zip(("user", "item"), fresh, priors, strict=True):
            arrays[f"{name}_bias"][rows] = prior[:, -1]
            arrays[f"{name}_factors"][rows] = prior[:, :-1].ravel()
        if posterior.user_spread.size:
            spread = np.repeat(posterior.user_spread[-1:], sizes[USER] + 1, axis=0)
            spread[place[USER]] = posterior.user_spread[:-1]
            posterior = posterior._replace(user_spread=spread)
    parts = {}
    for name, array in model.parts.items():
        axes = model.recipe.parts[name]
        side = USER if "u" in axes else ITEM
        parts[name] = _placed(array, place[side], sizes[side]) if {"u", "i"} & set(axes) else array
    by_user = merged.by_user
    # A stable sort of one key is quick where most rows are in order already, as those of the model are.
    order = np.argsort(merged.user.astype(np.int64) * sizes[ITEM] + merged.item, kind="stable")
    return replace(
        model,
        users=merged.users,
        items=merged.items,
        **arrays,
        parts=parts,
        posterior=posterior,
        days=None if model.days is None else model.days.placed(place[USER], sizes[USER]),
        bags=None if model.bags is None else tuple(bag.placed(place, sizes) for bag in model.bags),
        user_count=merged.user_count,
        item_count=merged.item_count,
        seen=Seen(by_user.start, merged.item[order], merged.value[order]),
        item_table=merged.item_table,
        user_table=merged.user_table,
    )


def _placed(array: NDArray[Any], place: Rows, size: int) -> NDArray[Any]:
    wide = np.zeros((size, *array.shape[1:]), array.dtype)
    wide[place] = array
    return wide


def _solved(
    base: FactorModel,
    model: FactorModel,
    ratings: Ratings,
    touched: tuple[Rows, Rows],
    sweeps: int,
    threads: int,
) -> FactorModel:
    """Solve the touched rows of either side in turns, all others as they are; users first.

    What folds have in common (the spread of trained rows, the error, hyper-priors) is that of ``base``.
    """
    known = [~model.cold_users, ~model.cold_items]
    if model.posterior is not None:
        known = [np.ones(len(rows), bool) for rows in known]
    solve = FOLDS[model.recipe.name].rows
    assert solve is not None
    for _ in range(sweeps):
        for side, name in ((USER, "user"), (ITEM, "item")):
            rows = touched[side]
            many = _ratings_of(ratings, side, rows, known[1 - side])
            many = many._replace(attributes=partial(_attributes_of, Attributes(model, side, rows), rows))
            model.__dict__["fixed"] = Fixed(model, base)
            with solvable(len(many.other)):
                solved = solve(model, many, threads)
            arrays: dict[str, Any] = {}
            for kind, largest in (("bias", LARGEST), ("factors", LARGEST_FACTOR)):
                arrays[f"{name}_{kind}"] = np.array(getattr(model, f"{name}_{kind}"))
                arrays[f"{name}_{kind}"][rows] = in_type(
                    getattr(solved, kind), arrays[f"{name}_{kind}"].dtype, largest
                )
            # A row of a posterior has a prior to be drawn from, with ratings or without.
            found = (np.diff(many.start) > 0) | (model.posterior is not None)
            known[side][rows[found]] = True
            posterior = model.posterior
            if posterior is not None and solved.spread is not None:
                spread = np.array(posterior.user_spread)
                spread[rows[found]] = solved.spread[found]
                posterior = posterior._replace(user_spread=spread)
            model = replace(model, **arrays, posterior=posterior)
    return model


def _attributes_of(attributes: Attributes, rows: Rows, at: int) -> NDArray[np.float64] | None:
    return attributes.of(int(rows[at]))


def _ratings_of(ratings: Ratings, side: int, rows: Rows, known: NDArray[np.bool_]) -> Many:
    """The ratings of some rows of a side, without those of rows of the other side that are not known."""
    start, entries = ratings.by_user if side == USER else ratings.by_item
    count = start[rows + 1] - start[rows]
    owner = np.repeat(np.arange(len(rows)), count)
    at = entries[np.arange(len(owner)) + np.repeat(start[rows] - np.cumsum(count) + count, count)]
    other = (ratings.item if side == USER else ratings.user)[at].astype(np.int64)
    kept = known[other]
    at, other, owner = at[kept], other[kept], owner[kept]
    order = np.argsort(owner * len(known) + other, kind="stable")
    count = np.bincount(owner, minlength=len(rows))
    return Many(side, np.append(0, np.cumsum(count)), other[order], ratings.value[at[order]])
