"""Models of Surprise and implicit, taken over: by stand-ins with their attributes, and by the real ones where installed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random

import hatrix as hx
from hatrix.errors import DataError, ParameterError


class Trainset:
    """What Surprise documents of a trainset: inner numbers in the order in which raw ids came."""

    def __init__(self, rows, scale=(1, 5)):
        self.rating_scale = scale
        self.users = list(dict.fromkeys(u for u, _, _ in rows))
        self.items = list(dict.fromkeys(i for _, i, _ in rows))
        self.n_users, self.n_items = len(self.users), len(self.items)
        self.rows = [(self.users.index(u), self.items.index(i), r) for u, i, r in rows]
        self.global_mean = np.mean([r for _, _, r in rows])

    def to_raw_uid(self, u):
        return self.users[u]

    def to_raw_iid(self, i):
        return self.items[i]

    def all_ratings(self):
        yield from self.rows


def rows_of_stars():
    rng = np.random.default_rng(3)
    cells = rng.permutation([(u, i) for u in range(9) for i in range(7)])[:40]
    return [(f"u{u}", int(i), float(rng.integers(1, 6))) for u, i in cells]


def surprise_like(kind, **options):
    """An algorithm with random numbers for what it has learned."""
    rng, trainset = np.random.default_rng(5), Trainset(rows_of_stars())
    n, m, k = trainset.n_users, trainset.n_items, 3
    algorithm = type(kind, (), {})()
    learned = {"pu": (n, k), "qi": (m, k), "bu": n, "bi": m, "yj": (m, k)}
    values = {name: rng.normal(0, 0.3, shape) for name, shape in learned.items()}
    settings = {
        "n_factors": k,
        "n_epochs": 20,
        "lr_pu": 0.005,
        "reg_pu": 0.02,
        "reg_bu": 0.02,
        "biased": True,
    }
    vars(algorithm).update(values, trainset=trainset, bsl_options={}, **{**settings, **options})
    return algorithm


def estimate(algorithm, u, i):
    """Surprise's formula for inner numbers u and i."""
    a, kind, t = algorithm, type(algorithm).__name__, algorithm.trainset
    if kind == "BaselineOnly":
        return t.global_mean + a.bu[u] + a.bi[i]
    p = a.pu[u]
    if kind == "SVDpp":
        rated = [item for user, item, _ in t.rows if user == u]
        p = p + sum(a.yj[j] for j in rated) / np.sqrt(len(rated))
    elif not a.biased:
        return a.qi[i] @ p
    return t.global_mean + a.bu[u] + a.bi[i] + a.qi[i] @ p


@pytest.mark.parametrize(
    ("kind", "options", "recipe"),
    [
        ("SVD", {}, hx.BiasedMF),
        ("SVD", {"biased": False}, hx.MF),
        ("SVDpp", {}, hx.SVDpp),
        ("NMF", {"biased": False}, hx.MF),
        ("BaselineOnly", {}, hx.Bias),
    ],
)
def test_a_model_of_surprise_predicts_as_before_and_answers_everything(kind, options, recipe, tmp_path):
    algorithm = surprise_like(kind, **options)
    model, t = hx.from_surprise(algorithm), algorithm.trainset
    assert type(model.recipe) is recipe
    for u, user in enumerate(t.users):
        wanted = [estimate(algorithm, u, i) for i in range(t.n_items)]
        np.testing.assert_allclose(model.predict([user] * t.n_items, t.items), wanted, rtol=1e-12)
    assert not set(model.recommend("u1")["item"]) & {i for u, i, _ in rows_of_stars() if u == "u1"}
    reasons = model.explain("u1", 2)
    assert reasons["contribution"].sum() == pytest.approx(model.scores("u1")[0, model.items.encode([2])[0]])
    assert np.isfinite(model.fold_in({2: 5.0, 3: 1.0}).predict("new user", 4))
    newer = model.update(hx.Ratings.from_columns(["eve", "u1"], [2, 9], [5.0, 1.0], scale=(1, 5)))
    assert (len(newer.users), len(newer.items)) == (t.n_users + 1, t.n_items + 1)
    model.save(tmp_path / "taken.hatrix")
    again = hx.load(tmp_path / "taken.hatrix")
    assert again.predict("u1", 2) == model.predict("u1", 2)
    assert again.notes == (f"learned by Surprise's {kind}",)
    assert hx.evaluate(again, hx.Ratings.from_columns(["u1"], [2], [4.0], scale=(1, 5))).rmse >= 0


def test_hyperparameters_go_along_as_far_as_they_are_shared():
    recipe = hx.from_surprise(surprise_like("SVD", lr_pu=0.01, reg_pu=1e9)).recipe
    assert (recipe.factors, recipe.epochs, recipe.learning_rate) == (3, 20, 0.005)
    assert recipe.regularization == hx.BiasedMF().regularization


def implicit_like(kind, k=3, n=8, m=11):
    rng = np.random.default_rng(2)
    wide = {"AlternatingLeastSquares": 0, "BayesianPersonalizedRanking": 1, "LogisticMatrixFactorization": 2}[
        kind
    ]
    model = type(kind, (), {})()
    P, Q = (rng.normal(size=(rows, k + wide)).astype(np.float32) for rows in (n, m))
    if wide:
        P[:, k] = 1
    if wide == 2:
        Q[:, k + 1] = 1
    vars(model).update(
        user_factors=P,
        item_factors=Q,
        iterations=15,
        regularization=0.01,
        alpha=2.0,
        learning_rate=0.01,
        factors=k,
    )
    seen = random(n, m, 0.3, format="csr", random_state=1, dtype=np.float32)
    seen.data[:] = np.ceil(seen.data * 3)
    return model, seen


IMPLICIT = ["AlternatingLeastSquares", "BayesianPersonalizedRanking", "LogisticMatrixFactorization"]


@pytest.mark.parametrize("kind", IMPLICIT)
def test_a_model_of_implicit_scores_as_before_under_the_labels_given(kind, tmp_path):
    theirs, seen = implicit_like(kind)
    users, items = [f"user {(5 * u) % 8}" for u in range(8)], [int((7 * i) % 11) for i in range(11)]
    model = hx.from_implicit(theirs, seen, users=users, items=items)
    wanted = theirs.user_factors.astype(float) @ theirs.item_factors.T.astype(float)
    for u, user in enumerate(users):
        np.testing.assert_allclose(model.predict([user] * 11, items), wanted[u], atol=1e-5)
        known = {items[i] for i in seen[u].indices}
        best = [items[i] for i in np.argsort(-wanted[u]) if items[i] not in known]
        assert model.recommend(user, 4)["item"].tolist() == best[:4]
    assert np.isfinite(model.fold_in({items[0]: 1.0, items[4]: 2.0}).predict("new user", items[1]))
    model.save(tmp_path / "taken.hatrix")
    assert hx.load(tmp_path / "taken.hatrix").recommend(users[0], 4).equals(model.recommend(users[0], 4))
    assert model.task == "ranking"


def test_a_penalty_that_is_not_allowed_here_is_worked_out_from_the_matrix():
    theirs, seen = implicit_like(IMPLICIT[0])
    theirs.regularization = 0.0
    recipe = hx.from_implicit(theirs, seen).recipe
    root = np.sqrt(seen.nnz / (np.count_nonzero(seen.sum(0)) * np.count_nonzero(seen.sum(1))))
    assert (recipe.alpha, recipe.alpha0) == (2.0, 1.0)
    assert recipe.regularization == pytest.approx(0.07 / (1 + 1 / (2 * root)))


@pytest.mark.parametrize(
    ("give", "error", "says"),
    [
        (lambda: hx.from_surprise(object()), ParameterError, "object has no factors"),
        (lambda: hx.from_surprise(type("SVD", (), {})()), ParameterError, "not fitted"),
        (lambda: hx.from_implicit(object(), csr_matrix((2, 2))), ParameterError, "object is no model"),
        (
            lambda: hx.from_implicit(type(IMPLICIT[0], (), {})(), csr_matrix((2, 2))),
            ParameterError,
            "not fitted",
        ),
        (
            lambda: hx.from_implicit(implicit_like(IMPLICIT[0])[0], csr_matrix((2, 2))),
            DataError,
            "8 users × 11 items",
        ),
        (
            lambda: hx.from_implicit(implicit_like(IMPLICIT[0])[0], csr_matrix((8, 11))),
            DataError,
            "no entries",
        ),
        (
            lambda: hx.from_implicit(*implicit_like(IMPLICIT[0]), users=["a"] * 8),
            DataError,
            "1 of them different",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused(give, error, says):
    with pytest.raises(error, match=says):
        give()


@pytest.mark.parametrize("kind", ["SVD", "SVDpp", "NMF", "BaselineOnly"])
def test_fitted_by_surprise_itself(kind):
    surprise = pytest.importorskip("surprise")
    import pandas as pd

    frame = pd.DataFrame(rows_of_stars(), columns=["user", "item", "rating"])
    trainset = surprise.Dataset.load_from_df(
        frame, surprise.Reader(rating_scale=(1, 5))
    ).build_full_trainset()
    algorithm = getattr(surprise, kind)().fit(trainset)
    model = hx.from_surprise(algorithm)
    for user, item in ((u, i) for u in frame["user"].unique() for i in frame["item"].unique()):
        assert model.predict(user, item) == pytest.approx(
            algorithm.predict(user, item, clip=False).est, abs=1e-9
        )


@pytest.mark.parametrize(
    ("name", "module"), [(IMPLICIT[0], "als"), (IMPLICIT[1], "bpr"), (IMPLICIT[2], "lmf")]
)
def test_fitted_by_implicit_itself(name, module):
    models = pytest.importorskip(f"implicit.cpu.{module}")
    seen = random(60, 40, 0.2, format="csr", random_state=4, dtype=np.float32)
    seen.data[:] = 1
    theirs = getattr(models, name)(factors=8, iterations=10, num_threads=1, random_state=0)
    theirs.fit(seen, show_progress=False)
    model = hx.from_implicit(theirs, seen)
    for user in range(60):
        ids, scores = theirs.recommend(user, seen[user], N=5)
        ours = model.recommend(user, 5)
        np.testing.assert_allclose(ours["score"], scores, atol=1e-5)
        assert ours["item"].tolist() == ids.tolist()


def recalculated(theirs, rows, others, values):
    """A row of implicit's ALS from its equations: weight alpha r on what was seen and 1 on all else."""
    Y = np.asarray(rows, float)
    A = Y.T @ Y + theirs.regularization * np.eye(Y.shape[1])
    for n, value in zip(others, values, strict=True):
        A += (theirs.alpha * value - 1) * np.outer(Y[n], Y[n])
    return np.linalg.solve(A, theirs.alpha * Y[others].T @ values)


@pytest.mark.parametrize("alpha", [0.25, 1.0, 2.0, 40.0])
def test_new_rows_have_the_weights_of_implicit(alpha):
    """Also where alpha times a value is 1, the weight of what was not seen, or less."""
    theirs, seen = implicit_like(IMPLICIT[0])
    theirs.alpha = alpha
    model = hx.from_implicit(theirs, seen)
    recipe = model.recipe
    assert (recipe.alpha, recipe.alpha0, recipe.nu, recipe.weighting) == (alpha, 1.0, 0.0, "replace")
    columns = seen.T.tocsr()
    for row, fold, side, other in (
        *((seen[u], model.fold_in, "user", theirs.item_factors) for u in range(8)),
        *((columns[i], model.fold_in_item, "item", theirs.user_factors) for i in range(11)),
    ):
        if row.nnz:
            folded = fold(dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)))
            found = folded.user_factors if side == "user" else folded.item_factors
            wanted = recalculated(theirs, other, row.indices, row.data.astype(float))
            np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


def test_an_update_and_reasons_have_the_weights_of_implicit_too():
    theirs, seen = implicit_like(IMPLICIT[0])
    model = hx.from_implicit(theirs, seen)
    user, item = 3, int(np.setdiff1d(np.arange(11), seen[3].indices)[0])
    newer = model.update(hx.Ratings.from_columns([user], [item], [1.0], implicit=True), sweeps=1)
    given = newer.seen.of(user)
    wanted = recalculated(theirs, model.item_factors, newer.seen.item[given], newer.seen.value[given])
    np.testing.assert_allclose(newer.user_factors[user], wanted, rtol=1e-4, atol=1e-5)
    # Of a row that solves the equations, the ratings account for everything.
    settled = model.fold_in(
        dict(zip(seen[user].indices.tolist(), seen[user].data.tolist(), strict=True)), user_id=9
    )
    reasons = settled.explain(9, item)
    assert reasons.attrs["fit"] == pytest.approx(1, abs=1e-6)
    assert reasons[reasons.part == "rest"].contribution.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "user", "item"),
    [
        ({}, 15, 10),
        ({"method": "als"}, 15, 10),
        ({"reg_u": 12}, 12, 10),
        ({"method": "als", "reg_i": 3}, 15, 3),
    ],
)
def test_the_dampings_of_surprise_come_along_its_defaults_too(options, user, item):
    algorithm = surprise_like("BaselineOnly")
    algorithm.bsl_options = options
    recipe = hx.from_surprise(algorithm).recipe
    assert (recipe.user_damping, recipe.item_damping, recipe.epochs) == (user, item, 10)


@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.01}, {"n_epochs": 5}, {"reg": 0.5}])
def test_gradient_descent_of_surprise_comes_to_a_damping(options):
    """Surprise's steps on the bias of one user, all else fixed, as its baseline_sgd takes them."""
    algorithm = surprise_like("BaselineOnly")
    algorithm.bsl_options = {"method": "sgd", **options}
    model, n = hx.from_surprise(algorithm), 40 / 9
    bias, rate, penalty = 0.0, options.get("learning_rate", 0.005), options.get("reg", 0.02)
    for _ in range(round(options.get("n_epochs", 20) * n)):
        bias += rate * ((1.0 - bias) - penalty * bias)
    assert n / (n + model.recipe.user_damping) == pytest.approx(bias, rel=0.02)


def test_rows_of_implicit_itself_are_those_folded_in():
    als = pytest.importorskip("implicit.cpu.als")
    rng = np.random.default_rng(0)
    seen = random(120, 80, 0.1, format="csr", random_state=1, dtype=np.float32)
    for alpha in (0.4, 1.0, 40.0):
        seen.data[:] = rng.uniform(0.2, 5, seen.nnz)
        theirs = als.AlternatingLeastSquares(factors=8, alpha=alpha, random_state=0)
        theirs.fit(seen, show_progress=False)
        model = hx.from_implicit(theirs, seen)
        for user in range(40):
            ratings = dict(zip(seen[user].indices.tolist(), seen[user].data.tolist(), strict=True))
            wanted = theirs.recalculate_user(np.array([user]), seen[[user]])[0]
            np.testing.assert_allclose(model.fold_in(ratings).user_factors[0], wanted, rtol=1e-4, atol=1e-5)
