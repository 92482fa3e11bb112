"""SpectralMF: the decomposition, the scores by their equation, special cases, projection, resume, odd shapes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import svds

import hatrix as hx
import naive
from hatrix.kernels import schedule
from hatrix.models import spectral

PURE = {
    "user_exponent": 0.0,
    "item_exponent": 0.0,
    "offset": 0.0,
    "power": 1.0,
    "sharpness": 0.0,
    "noise": 0.0,
    "popularity": 0.0,
}


def drawn(n: int, m: int, seed: int = 0, density: float = 0.15) -> hx.Ratings:
    """Stars at random where an item is in reach of a user, everyone and everything at least once."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(n, 4)) @ rng.normal(size=(4, m)) + rng.normal(size=m)
    present = taste + rng.normal(size=(n, m)) > np.quantile(taste, 1 - density)
    present[np.arange(max(n, m)) % n, np.arange(max(n, m)) % m] = True
    user, item = np.nonzero(present)
    return hx.Ratings.from_columns(user, item, rng.integers(1, 6, len(user)).astype(float))


def dense(ratings: hx.Ratings, *, weighted: bool = False) -> np.ndarray:
    X = np.zeros((len(ratings.users), len(ratings.items)))
    X[ratings.user, ratings.item] = ratings.value if weighted else 1.0
    return X


def scores(model: hx.FactorModel) -> np.ndarray:
    return model.user_factors.astype(float) @ model.item_factors.T.astype(float)


def state_after(recipe: hx.SpectralMF, ratings: hx.Ratings):
    state = recipe.init(ratings, seed=0, threads=2)
    for epoch in range(recipe.epochs):
        recipe.step(state, epoch)
    return state


def test_the_decomposition_is_that_of_scipy():
    ratings = drawn(300, 200)
    recipe = hx.SpectralMF(factors=8, epochs=10, offset=2.0, user_exponent=0.5)
    state = state_after(recipe, ratings)
    assert state.rank < 200  # so that the iteration has something to find
    X = dense(ratings)
    N = X / np.sqrt(X.sum(1) + 2)[:, None] / np.sqrt(X.sum(0) + 2)
    s, V = svds(N, k=8, solver="arpack")[1:]
    values, vectors = state.variables["values"][:8], state.variables["basis"][:, :8]
    np.testing.assert_allclose(values, s[::-1], rtol=1e-5)
    np.testing.assert_allclose(np.abs(V[::-1] @ vectors), np.eye(8), atol=1e-4)
    assert recipe.fit(ratings).history.captured.iloc[-1] == pytest.approx(
        np.sum(s**2) / np.sum(N**2), rel=1e-5
    )


def test_each_epoch_captures_more():
    history = hx.SpectralMF(factors=40, epochs=5).fit(drawn(500, 400)).history
    assert (np.diff(history.captured) > 0).all()
    assert (np.diff(history.objective) < 0).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "knobs",
    [
        {"noise": 0.0},
        PURE,
        {"user_exponent": 0.3, "item_exponent": 0.6, "power": 0.5, "noise": 0.0, "popularity": -0.2},
        {"history_exponent": 0.1, "sharpness": 4.0, "noise": 0.25},
    ],
)
def test_scores_follow_the_equation(knobs, weighted):
    ratings = drawn(50, 40)
    recipe = hx.SpectralMF(factors=6, weighted=weighted, **knobs)
    known = {name: getattr(recipe, name) for name in (*PURE, "history_exponent")}
    if recipe.history_exponent is None:
        known["history_exponent"] = recipe.item_exponent
    wanted = naive.spectral_scores(dense(ratings, weighted=weighted), 6, **known)
    np.testing.assert_allclose(
        scores(recipe.fit(ratings)), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max()
    )


def test_pure_svd_is_the_best_approximation_of_the_ratings():
    ratings = drawn(50, 40)
    X = dense(ratings, weighted=True)
    U, s, Vt = np.linalg.svd(X)
    got = scores(hx.SpectralMF(factors=5, weighted=True, **PURE).fit(ratings))
    np.testing.assert_allclose(got, U[:, :5] * s[:5] @ Vt[:5], atol=1e-4 * s[0])


@pytest.mark.parametrize("d", [0.0, 0.4, 1.0])
def test_eigenrec_projects_ratings_on_eigenvectors_of_scaled_cosines(d):
    ratings = drawn(50, 40)
    R = dense(ratings, weighted=True)
    length = np.linalg.norm(R, axis=0)
    cosine = (R / length).T @ (R / length)
    V = np.linalg.eigh(length[:, None] ** d * cosine * length**d)[1][:, ::-1][:, :5]
    knobs = PURE | {"item_exponent": (1 - d) / 2, "history_exponent": 0.0}
    got = scores(hx.SpectralMF(factors=5, weighted=True, **knobs).fit(ratings))
    np.testing.assert_allclose(got, R @ V @ V.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("history_exponent", [None, 0.0])
def test_a_training_users_factors_are_the_projection_of_the_users_row(weighted, history_exponent):
    ratings = drawn(300, 200)
    model = hx.SpectralMF(factors=10, weighted=weighted, history_exponent=history_exponent).fit(ratings)
    for user in range(0, 300, 37):
        mine = ratings.user == user
        row = model.recipe.user_terms(model.parts["projection"], ratings.item[mine], ratings.value[mine]).sum(
            axis=0
        )
        np.testing.assert_allclose(row, model.user_factors[user], rtol=1e-4, atol=1e-6)


def test_a_user_without_rows_projects_to_zero():
    model = hx.SpectralMF(factors=3).fit(drawn(20, 10))
    row = model.recipe.user_terms(model.parts["projection"], np.zeros(0, np.int64), np.zeros(0)).sum(axis=0)
    assert row.shape == (3,)
    assert not row.any()


def test_same_bits_for_any_threads_when_it_iterates(monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    ratings = drawn(500, 400)
    first, *others = (hx.SpectralMF(factors=80).fit(ratings, threads=threads) for threads in (1, 2, 5))
    for other in others:
        np.testing.assert_array_equal(first.user_factors, other.user_factors)
        np.testing.assert_array_equal(first.item_factors, other.item_factors)
        np.testing.assert_array_equal(first.parts["projection"], other.parts["projection"])


def test_resuming_gives_the_same_bits(tmp_path):
    ratings, recipe = drawn(300, 200), hx.SpectralMF(factors=20, epochs=4)
    whole = recipe.fit(ratings)
    file = tmp_path / "checkpoint"
    state = recipe.init(ratings, seed=42, threads=2)
    recipe.step(state, 0)
    recipe.fit(ratings, checkpoint=hx.Checkpoint(file, epochs=3))
    resumed = recipe.fit(ratings, resume=file)
    np.testing.assert_array_equal(whole.user_factors, resumed.user_factors)
    assert whole.history.captured.tolist() == resumed.history.captured.tolist()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (7, 1), (3, 50), (50, 3)])
def test_factors_beyond_the_rank_are_zero(n, m):
    ratings = drawn(n, m, density=0.5)
    model = hx.SpectralMF(factors=20).fit(ratings)
    rank = np.linalg.matrix_rank(dense(ratings))
    assert model.user_factors.shape == (n, 20)
    for array in (model.user_factors, model.item_factors, model.parts["projection"]):
        assert np.isfinite(array).all()
        assert not array[:, rank:].any()
    assert model.history.captured.iloc[-1] == pytest.approx(1.0, abs=1e-5)


def test_a_matrix_of_low_rank_has_no_factors_of_noise():
    rng = np.random.default_rng(0)
    group, part = rng.integers(0, 5, 400), rng.integers(0, 5, 300)
    user, item = np.nonzero(group[:, None] == part)
    ratings = hx.Ratings.from_columns(user, item)
    model = hx.SpectralMF(factors=100, epochs=4).fit(ratings)
    assert np.count_nonzero(model.item_factors.any(axis=0)) == 5
    np.testing.assert_array_equal(np.abs(scores(model)) > 1e-4, dense(ratings) > 0)


@pytest.mark.parametrize("times", [2.0**70, 1e7, 1e-20])
def test_large_and_small_values_are_decomposed_as_well_as_others(times):
    ratings = hx.Ratings.from_columns(
        np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30), np.random.default_rng(0).random(300) + 0.1
    )
    scaled = hx.Ratings.from_columns(ratings.user, ratings.item, ratings.value * times)
    recipe = hx.SpectralMF(factors=4, weighted=True, **PURE)
    wanted, got = (scores(recipe.fit(one, progress=False)) for one in (ratings, scaled))
    np.testing.assert_allclose(got / times, wanted, rtol=2e-4, atol=1e-5)


def test_zeros_alone_are_refused_and_explained():
    ratings = hx.Ratings.from_columns([1, 2], [1, 2], [0.0, 0.0])
    with pytest.raises(hx.HatrixError, match="weighted=False"):
        hx.SpectralMF(weighted=True).fit(ratings)
    assert np.isfinite(scores(hx.SpectralMF().fit(ratings))).all()


@pytest.mark.parametrize(("outside", "wanted"), [(1.0, 2), (5.0, 2), (70.0, 2), (71.0, 1), (1e9, 1)])
def test_the_polynomial_is_no_steeper_than_single_precision_bears(outside, wanted):
    assert spectral.degree(outside) == wanted


@pytest.mark.parametrize(
    "knobs", [{"power": 1.0, "sharpness": 0.5}, {"popularity": 0.0}, {"history_exponent": 0.0}]
)
def test_a_training_is_shared_by_recipes_that_differ_after_it(knobs):
    ratings = drawn(300, 200)
    first, other = hx.SpectralMF(factors=10), hx.SpectralMF(factors=10, **knobs)
    trained = first.train(ratings)
    shared, own = trained.finish(other), other.fit(ratings)
    assert shared.recipe == own.recipe == other.resolved(ratings)
    np.testing.assert_array_equal(shared.user_factors, own.user_factors)
    np.testing.assert_array_equal(shared.item_factors, own.item_factors)
    np.testing.assert_array_equal(trained.finish().user_factors, first.fit(ratings).user_factors)


def test_fewer_factors_share_a_training_and_more_do_not():
    ratings = drawn(300, 200)
    trained = hx.SpectralMF(factors=10).train(ratings)
    few, all_ = trained.finish(hx.SpectralMF(factors=4)), trained.finish()
    np.testing.assert_array_equal(few.item_factors, all_.item_factors[:, :4])
    for recipe in (hx.SpectralMF(factors=11), hx.SpectralMF(factors=10, offset=1.0), hx.Popular()):
        with pytest.raises(hx.HatrixError, match="a training of its own"):
            trained.finish(recipe)


def test_popular_counts_rows():
    ratings = drawn(30, 20)
    model = hx.Popular().fit(ratings)
    assert model.task == "ranking"
    np.testing.assert_array_equal(model.item_bias, ratings.item_count)
    np.testing.assert_array_equal(model.scores([0, 7])[1], ratings.item_count)
