"""Models that Surprise and implicit have fitted, as `FactorModel`.

Neither library is imported: what is read are the attributes that its documentation names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.data.ids import Ids, as_column
from hatrix.data.ratings import Ratings
from hatrix.errors import DataError, ParameterError
from hatrix.models.factors import Factors
from hatrix.models.fit import model_of
from hatrix.models.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = ["from_implicit", "from_surprise"]


def from_surprise(algorithm: Any) -> FactorModel:
    """The model that a fitted algorithm of Surprise has learned.

    Parameters
    ----------
    algorithm
        A fitted ``SVD``, ``SVDpp``, ``NMF`` or ``BaselineOnly``.

    Returns
    -------
    FactorModel
        It predicts what ``algorithm.predict(user, item, clip=False)`` does, in double precision, under the raw ids, and has
        the ratings of the trainset. Its recipe, by which new users fold in and new ratings enter, is `SVDpp`, `Bias`
        for ``BaselineOnly``, `BiasedMF` for what has biases and `MF` for what has none, with the hyper-parameters that
        they share (Surprise's rates are twice ours).

    Raises
    ------
    ParameterError
        If it is no such algorithm, or not fitted.

    Notes
    -----
    Surprise keeps all ratings of a pair, and a model here the last one.
    """
    from hatrix.models.baseline import Bias
    from hatrix.models.mf import MF, BiasedMF
    from hatrix.models.svdpp import SVDpp

    kind = type(algorithm).__name__
    if kind not in ("SVD", "SVDpp", "NMF", "BaselineOnly"):
        raise ParameterError(
            f"{kind} has no factors that hatrix could take over: give Surprise's SVD, SVDpp, NMF or BaselineOnly, fitted"
        )
    wanted = ("bu", "bi") if kind == "BaselineOnly" else ("pu", "qi")
    if getattr(algorithm, "trainset", None) is None or not all(hasattr(algorithm, name) for name in wanted):
        raise ParameterError(f"{kind} is not fitted: call its fit(trainset) first")
    trainset = algorithm.trainset
    users = as_column([trainset.to_raw_uid(u) for u in range(trainset.n_users)])
    items = as_column([trainset.to_raw_iid(i) for i in range(trainset.n_items)])
    rows = list(trainset.all_ratings())
    user, item, value = (np.array([row[at] for row in rows]) for at in range(3))
    low, high = map(float, trainset.rating_scale)
    train = Ratings.from_columns(
        users[user], items[item], value, scale=(low, high), name="Surprise's trainset"
    )
    of_users, of_items = _order(users, train.users), _order(items, train.items)

    biased = kind in ("SVDpp", "BaselineOnly") or bool(algorithm.biased)
    nothing = np.zeros((trainset.n_users, 0)), np.zeros((trainset.n_items, 0))
    P, Q = nothing if kind == "BaselineOnly" else (algorithm.pu, algorithm.qi)
    parts: dict[str, NDArray[Any]] = {}
    if kind == "SVDpp":
        terms = np.asarray(algorithm.yj, np.float64)
        sums = np.zeros_like(P, dtype=np.float64)
        np.add.at(sums, user, terms[item])
        P = P + sums / np.sqrt(np.bincount(user, minlength=len(users)))[:, None]
        parts["item_terms"] = terms[of_items]
    recipe: Algorithm
    if kind == "BaselineOnly":
        recipe = _recipe(
            Bias, _baselines(algorithm.bsl_options, len(rows) / len(users), len(rows) / len(items))
        )
    else:
        shared = {
            "factors": P.shape[1],
            "epochs": algorithm.n_epochs,
            "learning_rate": getattr(algorithm, "lr_pu", 0.0) / 2,  # NMF has none
            "regularization": algorithm.reg_pu,
            "bias_regularization": algorithm.reg_bu,
        }
        recipe = _recipe(SVDpp if kind == "SVDpp" else BiasedMF if biased else MF, shared)
    return _model(recipe, train, f"Surprise's {kind}", Factors(
        mean=float(trainset.global_mean) if biased else 0.0,
        user_bias=np.asarray(algorithm.bu, np.float64)[of_users] if biased else np.zeros(len(users)),
        item_bias=np.asarray(algorithm.bi, np.float64)[of_items] if biased else np.zeros(len(items)),
        user_factors=np.asarray(P, np.float64)[of_users],
        item_factors=np.asarray(Q, np.float64)[of_items],
        parts=parts,
    ))  # fmt: skip


def _baselines(options: dict[str, Any], per_user: float, per_item: float) -> dict[str, Any]:
    """Return the hyper-parameters of `Bias` that match Surprise's ``bsl_options``, with its defaults filled in.

    Surprise's alternating least squares equal ours. Its gradient descent with rate η and penalty λ moves the bias of n
    ratings, in E epochs, by the share ``(1 - (1 - η (1 + λ))^(n E)) / (1 + λ)`` of the way to their mean. The damping is
    the one that gives the same share for the average number of ratings of a user, or of an item.
    """
    if options.get("method", "als") == "als":
        epochs, user, item = options.get("n_epochs", 10), options.get("reg_u", 15), options.get("reg_i", 10)
        return {"epochs": epochs, "user_damping": float(user), "item_damping": float(item)}
    rate, penalty = options.get("learning_rate", 0.005), options.get("reg", 0.02)
    steps, damping = options.get("n_epochs", 20), []
    for n in (per_user, per_item):
        share = (1 - (1 - rate * (1 + penalty)) ** (n * steps)) / (1 + penalty)
        damping.append(max(0.0, n * (1 / share - 1)))
    return {"user_damping": damping[0], "item_damping": damping[1]}


def from_implicit(
    model: Any, user_items: Any, *, users: Iterable[Any] | None = None, items: Iterable[Any] | None = None
) -> FactorModel:
    """Return a fitted matrix factorization of implicit as a model of hatrix.

    Parameters
    ----------
    model
        A fitted ``AlternatingLeastSquares``, ``BayesianPersonalizedRanking`` or ``LogisticMatrixFactorization``, of the
        processor or a GPU.
    user_items
        The sparse matrix (users × items) that it was fitted to.
    users, items
        Labels of the rows and columns; by default their numbers.

    Returns
    -------
    FactorModel
        Its scores are implicit's, and so are the recommendations. Its recipe, by which new users fold in, is `ImplicitALS`
        with ``alpha0=1, nu=0, weighting="replace"`` for ALS, and `BPR` for both others.

    Raises
    ------
    ParameterError
        If it is no such model, or not fitted.
    DataError
        If the matrix or the labels do not fit the model.

    Notes
    -----
    implicit's ALS gives seen items the weight alpha times the value, and all others the weight 1. Factor vectors
    that are folded in, updated or explained are solved with these weights, so they equal those of implicit's
    ``recalculate_user`` up to rounding.
    """
    from scipy.sparse import csr_matrix, issparse

    from hatrix.models.als import ImplicitALS
    from hatrix.models.bpr import BPR

    kind = type(model).__name__
    known = ("AlternatingLeastSquares", "BayesianPersonalizedRanking", "LogisticMatrixFactorization")
    if kind not in known:
        raise ParameterError(
            f"{kind} is no model to take over: give implicit's {', '.join(known[:2])} or {known[2]}"
        )
    if getattr(model, "user_factors", None) is None or getattr(model, "item_factors", None) is None:
        raise ParameterError(f"{kind} is not fitted: call its fit(user_items) first")
    P, Q = (_on_host(rows) for rows in (model.user_factors, model.item_factors))
    sparse: bool = issparse(user_items)
    if not sparse or user_items.shape != (len(P), len(Q)):
        got = getattr(user_items, "shape", type(user_items).__name__)
        raise DataError(
            f"user_items is {got}: give the matrix that the model was fitted to, sparse, "
            f"{len(P):,} users × {len(Q):,} items"
        )
    of_users, of_items = _labels("users", users, len(P)), _labels("items", items, len(Q))
    matrix = csr_matrix(user_items)[of_users[1]][:, of_items[1]]
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    counted = matrix.tocoo()
    if not len(counted.data):
        raise DataError("user_items has no entries")
    train = Ratings(
        counted.row, counted.col, counted.data.astype(np.float64), of_users[0], of_items[0], implicit=True,
        name="implicit's user_items",
    )  # fmt: skip

    user_bias, item_bias = np.zeros(len(P), P.dtype), np.zeros(len(Q), Q.dtype)
    if kind == "LogisticMatrixFactorization":  # its last column is the users' bias, against ones
        user_bias, P, Q = P[:, -1], P[:, :-1], Q[:, :-1]
    if kind != "AlternatingLeastSquares":  # and this one the items'
        item_bias, P, Q = Q[:, -1], P[:, :-1], Q[:, :-1]
    shared = {
        "factors": P.shape[1],
        "epochs": model.iterations,
        "regularization": float(model.regularization),
    }
    recipe: Algorithm
    if kind == "AlternatingLeastSquares":
        recipe = _recipe(
            ImplicitALS,
            {**shared, "alpha": float(model.alpha), "alpha0": 1.0, "nu": 0.0, "weighting": "replace"},
        )
    else:
        recipe = _recipe(BPR, {**shared, "learning_rate": float(model.learning_rate), "sampling": "uniform"})
    return _model(recipe, train, f"implicit's {kind}", Factors(
        mean=0.0,
        user_bias=user_bias[of_users[1]],
        item_bias=item_bias[of_items[1]],
        user_factors=P[of_users[1]],
        item_factors=Q[of_items[1]],
        parts={},
    ))  # fmt: skip


def _model(recipe: Algorithm, train: Ratings, maker: str, learned: Factors) -> FactorModel:
    names = ("user_bias", "item_bias", "user_factors", "item_factors")
    arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(learned, name)) for name in names}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"the {name.replace('_', ' ')} of {maker} are not all finite numbers")
    factors, notes = learned._replace(**arrays), [f"learned by {maker}"]
    return model_of(
        recipe.resolved(train), train, factors, seed=0, history=[], notes=notes, seen=Seen.from_ratings(train)
    )


def _recipe(kind: type[Algorithm], wanted: dict[str, Any]) -> Algorithm:
    """The recipe with the values wanted; a default stays where hatrix allows no such value."""
    kept = {}
    for name, value in wanted.items():
        try:
            kind(**{name: value})
        except ParameterError:
            continue
        kept[name] = value
    return kind(**{**kind.before, **kept})


def _order(labels: NDArray[Any], ids: Ids) -> NDArray[np.int64]:
    """The place among ``labels`` of each id."""
    place = np.empty(len(labels), np.int64)
    place[ids.encode(labels)] = np.arange(len(labels))
    return place


def _labels(name: str, labels: Iterable[Any] | None, count: int) -> tuple[Ids, NDArray[np.int64]]:
    """Ids of rows, and the row of each."""
    column = as_column(np.arange(count) if labels is None else list(labels))
    ids, _ = Ids.from_labels(column)
    if len(column) != count or len(ids) != count:
        raise DataError(
            f"{name} has {len(column):,} labels, {len(ids):,} of them different: give one to each of {count:,} {name}"
        )
    return ids, _order(column, ids)


def _on_host(rows: Any) -> NDArray[Any]:
    """Rows as a NumPy array of a float type, from wherever they are."""
    array = np.asarray(rows.to_numpy() if hasattr(rows, "to_numpy") else rows)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
