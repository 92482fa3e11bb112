"""Why an item is recommended: the score in parts, and the ratings that carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix._checks import whole
from hatrix._threads import one_blas_thread
from hatrix.data.attributes import with_gaps
from hatrix.data.ids import as_column
from hatrix.errors import DataError
from hatrix.models.bags import Attributes
from hatrix.models.factors import USER
from hatrix.models.fold_in import FOLDS
from hatrix.models.predictive import unknown_in
from hatrix.models.recommend import refuse_lists, with_attributes
from hatrix.models.terms import Given, Terms, solvable

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]

__all__ = ["Reason", "carriers", "explain", "reasons"]

NEGLIGIBLE = 0.1
"""Contributions below this share of the standard deviation of a user's scores over all items are no reasons."""


class Reason(NamedTuple):
    """A rating that raised an item in a user's list: row of the rated item, rating, and what it adds to the score."""

    item: int
    rating: float
    contribution: float


class _Reasons(NamedTuple):
    """The flat factors that a user has without ratings, those of the attributes apart, both (S k,), and what each rating
    adds to them and to the bias."""

    prior: Floats
    attributes: Floats
    factors: Floats
    bias: Floats

    def total(self) -> tuple[Floats, float]:
        return self.prior + self.attributes + self.factors.sum(axis=0), float(self.bias.sum())


@one_blas_thread()
def explain(
    model: FactorModel, user_id: Any, item_id: Any, *, n: int = 10, removals: int = 3
) -> pd.DataFrame:
    """See `FactorModel.explain`."""
    import pandas as pd

    model = model.list_model
    n = whole("n", n)
    removals = whole("removals", removals, 0)
    refuse_lists("user_id", user_id)
    refuse_lists("item_id", item_id)
    user, item = int(model.users.encode([user_id])[0]), int(model.items.encode([item_id])[0])
    unknown = [
        unknown_in(name, ids, as_column([label]), np.array([row]))
        for name, ids, label, row in (
            ("user", model.users, user_id, user),
            ("item", model.items, item_id, item),
        )
    ]
    if unknown[1]:
        raise DataError(f"{unknown[1]}: give an id that was trained on")
    flat, scores = model.flat, _scores(model, user)
    known = user >= 0 and not model.cold_users[user]
    parts = [("mean", flat.mean if known else model.fallback), ("item bias", float(flat.item_bias[item]))]
    given, reasons, warnings = None, None, []
    if not known:
        why = unknown[0] or f"user {user_id!r} has no training ratings"
        warnings.append(f"{why}: the score says nothing of the user")
    else:
        parts.append(("user bias", float(flat.user_bias[user])))
        if model.seen is None:
            warnings.append(
                "the model was saved without its training rows: the score cannot be traced to ratings"
            )
        else:
            given = _history(model, user)
            reasons = _reasons(model, user, given)
    records: list[dict[str, Any]] = [{"part": name, "contribution": value} for name, value in parts]
    if given is not None and reasons is not None and flat.user_factors.shape[1]:
        q = flat.item_factors[item].astype(np.float64)
        by_rating = reasons.factors @ q
        if reasons.prior.any():
            records.append({"part": "average user", "contribution": float(reasons.prior @ q)})
        if reasons.attributes.any():
            records.append({"part": "attributes", "contribution": float(reasons.attributes @ q)})
        order = np.argsort(-np.abs(by_rating), kind="stable")
        columns = model.items.decode(given.other[order]).tolist(), given.value[order], by_rating[order]
        records += [
            {"part": "rating", "item": label, "rating": value, "contribution": share}
            for label, value, share in zip(*columns, strict=True)
        ]
    if flat.user_factors.shape[1]:
        rest = float(scores[item]) - sum(record["contribution"] for record in records)
        records.append({"part": "rest", "contribution": rest})
    frame = pd.DataFrame(records, columns=["part", "item", "rating", "contribution"])
    frame["item"] = pd.array(
        [record.get("item") for record in records], "Int64" if model.items.kind == "int" else object
    )
    frame = _with_titles(frame, model)
    unseen = _unseen(model, user if known else -1, item)
    rank = _rank(scores, item, unseen)
    seen = given is not None and bool((given.other == item).any())
    frame.attrs |= {
        "user": user_id,
        "item": model.items.decode(np.array([item])).tolist()[0],
        "score": float(scores[item]),
        "rank": rank,
        "seen": seen,
        "fit": None if reasons is None else _fit(flat.user_factors[user], reasons, flat.item_factors),
        "without": None,
        "warnings": warnings,
    }
    if given is not None and reasons is not None and rank <= n and removals and not seen:
        frame.attrs["without"] = _without(model, user, item, given, reasons, unseen, scores, n, removals)
    return frame


@one_blas_thread()
def carriers(
    model: FactorModel, user: int, items: NDArray[np.int64]
) -> tuple[list[int], list[float], NDArray[np.float64]]:
    """What each training rating of a user contributes to the scores of some items: the ``rating`` parts of `explain`.

    Parameters
    ----------
    model
        A model with its training rows.
    user, items
        Row numbers; the user's is not of a cold one.

    Returns
    -------
    items, values, contributions
        Rows and values of the m ratings, and an array (m, len(items)).
    """
    model = model.list_model
    given = _history(model, user)
    if not len(given.other) or not model.flat.item_factors.shape[1]:
        shares = np.zeros((len(given.other), len(items)))
    else:
        shares = _reasons(model, user, given).factors @ model.flat.item_factors[items].astype(np.float64).T
    return given.other.tolist(), given.value.tolist(), shares


def reasons(model: FactorModel, user: int, items: NDArray[np.int64], n: int = 3) -> list[list[Reason]]:
    """Return the ratings that raised each item in the list of a user, the strongest first.

    A rating is a reason if it adds to the item's score, by more than a negligible amount (see `NEGLIGIBLE`), and if the
    user did not dislike the item rated: ratings below the middle of the scale are dislikes. An item without a reason is in
    the list because everybody likes it.

    Parameters
    ----------
    model
        A model with its training ratings.
    user, items
        Row numbers; the user's is not of a cold one.
    n
        Maximum number of reasons for each item.
    """
    rated, values, shares = carriers(model, user, items)
    flat = model.list_model.flat
    personal = flat.item_factors @ flat.user_factors[user]
    least = NEGLIGIBLE * float(np.std(personal + flat.item_bias)) if len(personal) else 0.0
    liked = np.ones(len(values), bool)
    if model.scale is not None:
        liked = np.asarray(values) >= (model.scale[0] + model.scale[1]) / 2
    found = []
    for item, share in zip(items.tolist(), shares.T, strict=True):
        order = [at for at in np.argsort(-share, kind="stable").tolist() if liked[at] and rated[at] != item]
        found.append(
            [Reason(rated[at], values[at], float(share[at])) for at in order[:n] if share[at] > least]
        )
    return found


def _scores(model: FactorModel, user: int) -> Floats:
    """All scores of a user row, in double precision as lists have them."""
    if user < 0 or model.cold_users[user]:
        from hatrix.models.predictive import scores

        return np.asarray(scores(model, np.array([user]))[0])
    flat = model.flat
    found = flat.item_factors.astype(np.float64) @ flat.user_factors[user].astype(np.float64)
    return np.asarray(found + (flat.mean + float(flat.user_bias[user])) + flat.item_bias)


def _history(model: FactorModel, user: int) -> Given:
    assert model.seen is not None
    rows = model.seen.of(user)
    item, value = model.seen.item[rows].astype(np.int64), model.seen.value[rows]
    order = np.argsort(item, kind="stable")
    return Given(USER, item[order], value[order], _attributes(model, user))


def _attributes(model: FactorModel, user: int) -> Floats | None:
    return Attributes(model, USER, np.array([user])).of(user)


def _added(parts: list[tuple[float, _Reasons]]) -> _Reasons:
    """Return the terms of a blend's row: those of its members side by side, times their weights."""
    weights, found = [weight for weight, _ in parts], [reasons for _, reasons in parts]
    scaled = {
        name: np.concatenate(
            [weight * getattr(one, name) for weight, one in zip(weights, found, strict=True)], axis=-1
        )
        for name in ("prior", "attributes", "factors")
    }
    bias = sum(weight * one.bias for weight, one in zip(weights, found, strict=True))
    return _Reasons(**scaled, bias=np.asarray(bias))


def _reasons(model: FactorModel, user: int, given: Given) -> _Reasons:
    """The terms of the user's row, draws side by side as in `Factors.flat`; of a blend, those of its members."""
    width, n = model.user_factors.shape[1], len(given.other)
    nothing = _Reasons(np.zeros(width), np.zeros(width), np.zeros((n, width)), np.zeros(n))
    if model.task == "ranking" and not model.user_factors[user].any():
        return nothing  # the user likes none of these items
    if blended := model.recipe.weighted_members(model):
        return _added(
            [
                (weight, _reasons(member, user, given._replace(attributes=_attributes(member, user))))
                for weight, member in blended
            ]
        )
    if not n and model.posterior is None:
        return nothing
    draws = model.user_bias.shape[1] if model.user_bias.ndim == 2 else 1
    with solvable(len(given.other)):
        found = _terms(model, user, given, draws)
    factors = found.each[:, :, :-1].transpose(1, 0, 2).reshape(len(given.other), width)
    prior, attributes = found.base[:, :-1].ravel(), np.zeros(width)
    if given.attributes is not None:
        attributes = given.attributes[:, :-1].ravel()
    return _Reasons(prior - attributes, attributes, factors, found.each[:, :, -1].mean(axis=0))


def _terms(model: FactorModel, user: int, given: Given, draws: int) -> Terms:
    terms = FOLDS[model.recipe.name].terms
    if terms is not None:
        return terms(model, given)
    from hatrix.models.conditional import mean_terms

    assert model.posterior is not None
    bias, rows = model.factors.rows(USER, np.array([user]), draws)
    spread = model.posterior.user_spread
    return mean_terms(
        model, given, spread[user].astype(np.float64) if spread.size else None,
        np.concatenate([rows[0], bias[0][:, None]], axis=1).astype(np.float64),
    )  # fmt: skip


def _fit(row: NDArray[Any], reasons: _Reasons, item_factors: NDArray[Any]) -> float | None:
    """The share of the variance of ``row · item_factors[i]`` over the items that the ratings account for."""
    if not row.any():
        return None
    rows = item_factors.astype(np.float64)
    scores, rest = rows @ row.astype(np.float64), rows @ (row - reasons.total()[0])
    spread = scores.var()
    return float(1 - rest.var() / spread) if spread > 0 else 1.0


def _unseen(model: FactorModel, user: int, item: int) -> NDArray[np.bool_]:
    unseen = np.ones(len(model.items), bool)
    if user >= 0 and model.seen is not None:
        unseen[model.seen.item[model.seen.of(user)]] = False
    unseen[item] = True
    return unseen


def _rank(scores: Floats, item: int, unseen: NDArray[np.bool_]) -> int:
    """The place of an item among those that the user has not seen, from 1; of equals, the first in id order."""
    above = scores > scores[item]
    above[:item] |= scores[:item] == scores[item]
    return 1 + int(np.count_nonzero(above & unseen))


def _without(
    model: FactorModel,
    user: int,
    item: int,
    given: Given,
    reasons: _Reasons,
    unseen: NDArray[np.bool_],
    scores: Floats,
    n: int,
    removals: int,
) -> dict[str, Any]:
    """Take away the ratings that carry an item, the greatest first, until it leaves the list of n; see `explain`."""
    flat = model.flat
    q = flat.item_factors.astype(np.float64)
    p, b = flat.user_factors[user].astype(np.float64), float(flat.user_bias[user])
    whole_p, whole_b = reasons.total()
    left = given
    removed: list[int] = []
    rank = _rank(scores, item, unseen)
    while len(removed) < removals and rank <= n and len(left.other):
        gain = reasons.factors @ q[item]
        gain[left.other == item] = -np.inf
        at = int(np.argmax(gain))
        if gain[at] <= 0:
            break
        removed.append(int(left.other[at]))
        left = left._replace(other=np.delete(left.other, at), value=np.delete(left.value, at))
        reasons = _reasons(model, user, left)
        new_p, new_b = reasons.total()
        scores = flat.mean + b + (new_b - whole_b) + flat.item_bias + q @ (p + new_p - whole_p)
        rank = _rank(scores, item, unseen)
    return {
        "items": model.items.decode(np.array(removed, np.int64)).tolist(),
        "score": float(scores[item]),
        "rank": rank,
        "leaves": rank > n,
    }


def _with_titles(frame: pd.DataFrame, model: FactorModel) -> pd.DataFrame:
    """The columns of the item table beside the ratings, and nothing beside the other parts."""
    rated = (frame["part"] == "rating").to_numpy()
    rows = np.zeros(len(frame), np.int64)
    rows[rated] = model.items.encode(frame["item"][rated].tolist())
    table = None if model.item_table is None else with_gaps(model.item_table)
    with_all = with_attributes(frame, table, rows)
    for name in with_all.columns[len(frame.columns) :]:
        with_all[name] = with_all[name].where(rated)
    return with_all
