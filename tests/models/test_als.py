from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.kernels import schedule

COUNTS = (1, 2, 3, 5, 8, 13, 21, 30)
"""Ratings of a user, both fewer and more than the factors of these tests: short rows are solved in their dual."""


@cache
def drawn(seed=0, users=64, items=40) -> hx.Ratings:
    rng = np.random.default_rng(seed)
    count = np.resize(COUNTS, users)
    user = np.repeat(np.arange(users), count)
    item = np.concatenate([rng.permutation(items)[:n] for n in count])
    return hx.Ratings.from_columns(user, item, rng.integers(1, 6, len(user)).astype(float))


def dense(ratings: hx.Ratings) -> tuple[np.ndarray, np.ndarray]:
    """Values, and where there are any, as (users, items) matrices."""
    value = np.zeros((len(ratings.users), len(ratings.items)))
    seen = np.zeros(value.shape, bool)
    value[ratings.user, ratings.item], seen[ratings.user, ratings.item] = ratings.value, True
    return value, seen


def doubles(source) -> dict[str, np.ndarray]:
    """Both sides' factors and biases of a model or of a state's variables, in double precision."""
    names = ("user_factors", "item_factors", "user_bias", "item_bias")
    given = source if isinstance(source, dict) else {name: getattr(source, name) for name in names}
    return {name: np.array(given[name], float) for name in names}


def explicit_objective(recipe: hx.ALS, ratings: hx.Ratings, model: hx.FactorModel) -> tuple[float, float]:
    """The documented formula over the dense matrix, and its squared errors alone."""
    value, seen = dense(ratings)
    v = doubles(model)
    score = v["user_factors"] @ v["item_factors"].T + v["user_bias"][:, None] + v["item_bias"] + model.mean
    loss = np.sum((value - score)[seen] ** 2)
    total = loss
    for side, axis in (("user", 1), ("item", 0)):
        scale = np.maximum(seen.sum(axis), 1.0) ** recipe.nu
        total += (
            recipe.regularization * ratings.deviation * np.sum(scale[:, None] * v[f"{side}_factors"] ** 2)
        )
        total += recipe.bias_regularization * np.sum(scale * v[f"{side}_bias"] ** 2)
    return total, loss


def evidence_of(recipe: hx.ImplicitALS, ratings: hx.Ratings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How strong the evidence of each cell is, its target, and which cells are seen, as the docstring has them."""
    value, seen = dense(ratings)
    place = (value - 1) / 4
    if recipe.evidence == "stars":
        return seen * (1 + place), 0.4 + 0.6 * place, seen
    if recipe.evidence == "signed":
        return seen.astype(float), 1.25 * place - 0.25, seen
    return value, np.ones_like(value), seen


def weights_and_targets(recipe: hx.ImplicitALS, ratings: hx.Ratings) -> tuple[np.ndarray, np.ndarray, float]:
    """The weight and target of each cell as the docstring has them, and the constant that completes the square."""
    value, liking, seen = evidence_of(recipe, ratings)
    if recipe.alpha0 is None:
        return 1 + recipe.alpha * value, seen.astype(float), 0.0
    weight = recipe.alpha0 + recipe.alpha * value
    target = recipe.alpha * value * liking / weight
    return weight, target, np.sum(recipe.alpha * value * liking**2) - np.sum(weight * target**2)


def implicit_ridge(recipe: hx.ImplicitALS, ratings: hx.Ratings) -> tuple[np.ndarray, np.ndarray]:
    _, seen = dense(ratings)
    alpha0 = 1.0 if recipe.alpha0 is None else recipe.alpha0
    users = recipe.regularization * (seen.sum(1) + alpha0 * seen.shape[1]) ** recipe.nu
    items = recipe.regularization * (seen.sum(0) + alpha0 * seen.shape[0]) ** recipe.nu
    return users, items


def implicit_objective(recipe: hx.ImplicitALS, ratings: hx.Ratings, model: hx.FactorModel) -> float:
    """The documented formula: Σ over the seen, plus Σ over all or over all else, plus penalties."""
    value, liking, seen = evidence_of(recipe, ratings)
    v = doubles(model)
    score = v["user_factors"] @ v["item_factors"].T
    if recipe.alpha0 is None:
        total = np.sum(((1 + recipe.alpha * value) * (1 - score) ** 2)[seen]) + np.sum(score[~seen] ** 2)
    else:
        total = np.sum((recipe.alpha * value * (liking - score) ** 2)[seen]) + recipe.alpha0 * np.sum(
            score**2
        )
    users, items = implicit_ridge(recipe, ratings)
    return float(
        total + users @ np.sum(v["user_factors"] ** 2, 1) + items @ np.sum(v["item_factors"] ** 2, 1)
    )


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("extra", [{}, {"biased": False}, {"nonnegative": True}], ids=str)
def test_the_objective_is_the_documented_one_and_falls(nu, extra):
    ratings = drawn()
    recipe = hx.ALS(factors=6, epochs=8, nu=nu, regularization=0.3, bias_regularization=0.05, **extra)
    model = recipe.fit(ratings)
    objective, loss = explicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(objective, rel=1e-5)
    assert model.history.train_mse.iloc[-1] == pytest.approx(loss / len(ratings), rel=1e-4)
    assert np.all(np.diff(model.history.objective) < 0)
    if not recipe.biased:
        assert model.mean == 0
        assert not np.any(model.user_bias)
        assert not np.any(model.item_bias)
    else:
        assert model.mean == pytest.approx(ratings.value.mean())
        assert np.any(model.user_bias)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("factors", [4, 10, pytest.param(40, marks=pytest.mark.campaign)])
def test_rows_of_a_sweep_solve_their_normal_equations(biased, factors):
    """Users given the items before the sweep, items given the users after it; short and long rows alike."""
    ratings = drawn()
    recipe = hx.ALS(
        factors=factors, biased=biased, nu=0.5, regularization=0.5, bias_regularization=0.2, unit=1
    )
    value, seen = dense(ratings)
    state = recipe.init(ratings, seed=1, threads=1)
    state.sweep(recipe)
    before = doubles(state.variables)
    state.sweep(recipe)
    after = doubles(state.variables)
    mean = ratings.value.mean() if biased else 0.0
    for side, fixed, known, cells, mask in (
        ("user", before, "item", value, seen),
        ("item", after, "user", value.T, seen.T),
    ):
        for row, rated in enumerate(mask):
            X, n = fixed[f"{known}_factors"][rated, :factors], rated.sum()
            target = cells[row, rated] - mean - fixed[f"{known}_bias"][rated]
            ridge = np.full(factors, recipe.regularization * n**recipe.nu)
            if biased:
                X = np.column_stack([X, np.ones(n)])
                ridge = np.append(ridge, recipe.bias_regularization * n**recipe.nu)
            wanted = np.linalg.solve(X.T @ X + np.diag(ridge), X.T @ target)
            got = after[f"{side}_factors"][row, :factors]
            np.testing.assert_allclose(got, wanted[:factors], rtol=2e-3, atol=2e-4)
            if biased:
                assert after[f"{side}_bias"][row] == pytest.approx(wanted[factors], rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("biased", [True, False])
def test_nonnegative_rows_meet_the_conditions_of_kuhn_and_tucker(biased):
    ratings = drawn()
    k = 5
    recipe = hx.ALS(
        factors=k,
        nonnegative=True,
        biased=biased,
        nu=0.0,
        regularization=0.4,
        bias_regularization=0.3,
        init_scale=1.0,
        unit=1,
    )
    value, seen = dense(ratings)
    state = recipe.init(ratings, seed=2, threads=1)
    for _ in range(4):
        state.sweep(recipe)
    v = doubles(state.variables)
    P, Q = v["user_factors"][:, :k], v["item_factors"][:, :k]
    assert P.min() >= 0
    assert Q.min() >= 0
    mean = ratings.value.mean() if biased else 0.0
    error = seen * (P @ Q.T + v["user_bias"][:, None] + v["item_bias"] + mean - value)
    gradient = error.T @ P + recipe.regularization * Q
    if biased:
        assert np.any(Q == 0)  # the sign binds somewhere, so that both conditions are tried
        np.testing.assert_allclose(error.sum(0) + recipe.bias_regularization * v["item_bias"], 0, atol=5e-3)
    assert np.any(Q > 0)
    np.testing.assert_allclose(gradient[Q > 0], 0, atol=5e-3)
    assert np.all(gradient[Q == 0] > -5e-3)


def test_the_truth_is_recovered_up_to_the_noise():
    rng = np.random.default_rng(3)
    users, items, k, noise = 300, 120, 3, 0.3
    P, Q = rng.normal(size=(users, k)), rng.normal(size=(items, k))
    full = 3 + rng.normal(size=users)[:, None] + rng.normal(size=items) + P @ Q.T
    user, item = np.divmod(rng.permutation(users * items)[:12000], items)
    ratings = hx.Ratings.from_columns(user, item, full[user, item] + rng.normal(0, noise, len(user)))
    split = hx.split.random(ratings, 0.1, seed=0)
    recipe = hx.ALS(factors=k, epochs=25, nu=0.0, regularization=0.1, bias_regularization=0.1)
    model = recipe.fit(split.train)
    test_user, test_item = split.test.user.astype(int), split.test.item.astype(int)
    predicted = model.predict_rows(test_user, test_item)
    assert 0.9 * noise < np.sqrt(np.mean((predicted - split.test.value) ** 2)) < 1.2 * noise
    assert np.sqrt(np.mean((predicted - full[test_user, test_item]) ** 2)) < 0.6 * noise


@pytest.mark.parametrize("alpha0", [0.05, 1.0, None])
@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_the_implicit_objective_counts_every_cell_and_falls(alpha0, nu):
    ratings = drawn()
    recipe = hx.ImplicitALS(
        evidence="count", factors=6, epochs=6, alpha=0.7, alpha0=alpha0, nu=nu, regularization=0.02
    )
    model = recipe.fit(ratings)
    wanted = implicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(wanted, rel=1e-4)
    assert np.all(np.diff(model.history.objective) < 1e-5 * wanted)
    assert model.history.objective.iloc[-1] < 0.9 * model.history.objective.iloc[0]
    assert not np.any(model.user_bias)
    assert not np.any(model.item_bias)
    assert model.mean == 0


@pytest.mark.parametrize("evidence", ["stars", "signed"])
def test_graded_evidence_has_an_objective_that_falls_and_rows_that_fold_in(evidence):
    ratings = drawn()
    recipe = hx.ImplicitALS(
        evidence=evidence, factors=6, epochs=12, alpha=0.7, alpha0=0.05, regularization=0.02
    )
    model = recipe.fit(ratings)
    wanted = implicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(wanted, rel=1e-4)
    assert np.all(np.diff(model.history.objective) < 1e-5 * wanted)
    mine = ratings.user == 5
    folded = model.fold_in(
        dict(zip(ratings.items.decode(ratings.item[mine]), ratings.value[mine], strict=True))
    )
    weight, target, _ = weights_and_targets(recipe, ratings)
    q = model.item_factors.astype(float)
    A = q.T @ (weight[5][:, None] * q) + implicit_ridge(recipe, ratings)[0][5] * np.eye(6)
    np.testing.assert_allclose(
        folded.user_factors[0], np.linalg.solve(A, q.T @ (weight[5] * target[5])), rtol=2e-3, atol=5e-4
    )


def test_what_values_mean_follows_the_data():
    ratings = drawn()
    assert hx.ImplicitALS().resolved(ratings).evidence == "stars"
    assert hx.ImplicitALS(alpha0=None).resolved(ratings).evidence == "count"
    assert hx.ImplicitALS(weighting="replace").resolved(ratings).evidence == "count"
    clicks = hx.Ratings.from_columns(ratings.user, ratings.item)
    assert hx.ImplicitALS().resolved(clicks).evidence == "count"
    with pytest.raises(DataError, match="clicks or counts"):
        hx.ImplicitALS(evidence="stars").fit(clicks)
    with pytest.raises(ParameterError, match="needs an alpha0"):
        hx.ImplicitALS(evidence="signed", alpha0=None)


def test_stars_do_not_depend_on_the_scale():
    ratings = drawn()
    other = hx.Ratings.from_columns(ratings.user, ratings.item, 25 * ratings.value - 40)
    recipe = hx.ImplicitALS(factors=4, epochs=4)
    np.testing.assert_allclose(
        recipe.fit(other).scores(np.arange(9)), recipe.fit(ratings).scores(np.arange(9)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("solver", ["cg", "ialspp"])
def test_inexact_solvers_report_the_objective_too(solver):
    ratings = drawn()
    recipe = hx.ImplicitALS(
        evidence="count",
        factors=20,
        epochs=3,
        solver=solver,
        block_size=16,
        alpha=1.0,
        alpha0=0.1,
        regularization=0.003,
    )
    model = recipe.fit(ratings)
    wanted = implicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("alpha", [1e-6, 1e-5, 1e-4, 1e-2, 1.0, 1e2, 1e3])
@pytest.mark.parametrize("alpha0", [1e-3, 0.1, 10.0, None])
@pytest.mark.parametrize("solver", ["exact", "cg", "ialspp"])
def test_no_weight_costs_the_objective_its_digits(solver, alpha0, alpha):
    """With alpha0=None and small weights it was once a difference of numbers near 1 / alpha, a few digits right."""
    ratings = drawn()
    recipe = hx.ImplicitALS(
        evidence="count",
        factors=20,
        epochs=6,
        alpha=alpha,
        alpha0=alpha0,
        regularization=0.02,
        solver=solver,
        block_size=16,
    )
    model = recipe.fit(ratings)
    wanted = implicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(wanted, rel=3e-6)
    assert np.all(np.diff(model.history.objective) < 3e-6 * wanted)


@pytest.mark.parametrize("alpha", [1e4, 1e5, 1e6])
@pytest.mark.parametrize("alpha0", [1e-3, 0.1])
@pytest.mark.parametrize("solver", ["exact", "ialspp"])
def test_heavy_weights_beside_a_tiny_ridge_do_not_end_the_fit(solver, alpha0, alpha):
    """Most of these once ended in a DivergenceError: in single precision the normal equations were not definite."""
    ratings = drawn()
    recipe = hx.ImplicitALS(
        evidence="count",
        factors=20,
        epochs=6,
        alpha=alpha,
        alpha0=alpha0,
        regularization=0.02,
        solver=solver,
        block_size=16,
    )
    model = recipe.fit(ratings)
    wanted = implicit_objective(recipe, ratings, model)
    assert model.history.objective.iloc[-1] == pytest.approx(wanted, rel=3e-6)
    assert wanted < 0.5 * np.sum(alpha * ratings.value)  # that of zero factors


@pytest.mark.parametrize(
    ("alpha0", "evidence"), [(0.05, "count"), (None, "count"), (0.05, "stars"), (0.05, "signed")]
)
@pytest.mark.parametrize("factors", [4, 10, pytest.param(40, marks=pytest.mark.campaign)])
def test_implicit_rows_solve_the_normal_equations_of_all_cells(alpha0, evidence, factors):
    ratings = drawn()
    recipe = hx.ImplicitALS(evidence=evidence, factors=factors, alpha=0.7, alpha0=alpha0, regularization=0.05)
    weight, target, _ = weights_and_targets(recipe, ratings)
    users, items = implicit_ridge(recipe, ratings)
    state = recipe.init(ratings, seed=1, threads=1)
    state.sweep(recipe)
    raw = state.variables
    state._solve(raw["user_factors"], raw["item_factors"], state.by_user, state.ridge[0], recipe)
    v = doubles(raw)
    fixed, solved = v["item_factors"][:, :factors], v["user_factors"][:, :factors]
    check_rows(solved, fixed, weight, target, users)
    state._solve(raw["item_factors"], raw["user_factors"], state.by_item, state.ridge[1], recipe)
    v = doubles(raw)
    fixed, solved = v["user_factors"][:, :factors], v["item_factors"][:, :factors]
    check_rows(solved, fixed, weight.T, target.T, items)


def check_rows(solved, fixed, weight, target, ridge):
    for row, x in enumerate(solved):
        A = fixed.T @ (weight[row][:, None] * fixed) + ridge[row] * np.eye(fixed.shape[1])
        wanted = np.linalg.solve(A, fixed.T @ (weight[row] * target[row]))
        np.testing.assert_allclose(x, wanted, rtol=2e-3, atol=5e-4)


@pytest.mark.parametrize("solver", ["cg", "ialspp"])
@pytest.mark.parametrize("alpha0", [0.1, None])
def test_solvers_end_at_the_same_objective(solver, alpha0):
    """From one start; for blocks of 16 columns to differ from whole rows there are more columns."""
    ratings = drawn()
    shared = {"factors": 20, "epochs": 60, "alpha": 1.0, "alpha0": alpha0, "regularization": 0.05}
    exact = hx.ImplicitALS(evidence="count", **shared).fit(ratings)
    other = hx.ImplicitALS(evidence="count", solver=solver, block_size=16, **shared).fit(ratings)
    assert not np.array_equal(exact.user_factors, other.user_factors)
    assert other.history.objective.iloc[-1] == pytest.approx(exact.history.objective.iloc[-1], rel=2e-3)


def structured_clicks(seed=0, groups=6, users=240, items=90, each=9) -> hx.Split:
    """Users of a group click on its items, nine times out of ten."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    within = rng.integers(0, items // groups, len(user)) * groups + user % groups
    item = np.where(rng.random(len(user)) < 0.9, within, rng.integers(0, items, len(user)))
    return hx.split.per_user(hx.Ratings.from_columns(user, item), 0.25, seed=1)


@pytest.mark.parametrize("solver", ["exact", "cg", "ialspp"])
def test_clicks_with_structure_are_ranked_better_than_by_popularity(solver):
    split = structured_clicks()
    recipe = hx.ImplicitALS(
        evidence="count", factors=8, alpha=1.0, alpha0=0.1, regularization=0.02, solver=solver
    )
    ours, popular = (
        hx.evaluate_ranking(r.fit(split.train), split.test, k=10).ndcg for r in (recipe, hx.Popular())
    )
    assert ours > 2 * popular


WEIGHTS = ("alpha", "alpha0", "regularization")


def weights(recipe: hx.Algorithm) -> list[object]:
    return [getattr(recipe, name) for name in WEIGHTS]


def by_the_rule(ratings: hx.Ratings) -> list[float]:
    """The documented equations, counted cell by cell; rows and columns without any do not count."""
    value, seen = dense(ratings)
    cells = sum(row.any() for row in seen) * sum(column.any() for column in seen.T)
    mean, share = value[seen].sum() / seen.sum(), seen.sum() / cells
    return [1 / mean, share**0.5 / 2, 0.07 / (1 + 1 / (2 * share**0.5))]


def test_weights_left_to_the_data_are_those_of_the_rule():
    full = drawn()
    part = full.take((full.user > 9) & (full.item != 3))  # ids stay, some of them cold
    assert by_the_rule(part) != pytest.approx(by_the_rule(full), rel=0.01)
    for ratings in (full, part):
        model = hx.ImplicitALS(evidence="count", factors=4, epochs=2).fit(ratings)
        assert weights(model.recipe) == pytest.approx(by_the_rule(ratings), rel=1e-12)
        assert model.recipe == hx.ImplicitALS(evidence="count", factors=4, epochs=2).resolved(ratings)
        again = hx.ImplicitALS(**model.recipe.model_dump()).fit(ratings)
        np.testing.assert_array_equal(model.user_factors, again.user_factors)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_that_is_given_stays_and_the_others_do_not_depend_on_it(name):
    ratings = drawn()
    wanted = dict(zip(WEIGHTS, by_the_rule(ratings), strict=True)) | {name: 0.25}
    recipe = hx.ImplicitALS(evidence="count", factors=4, epochs=1, **{name: 0.25}).fit(ratings).recipe
    assert weights(recipe) == pytest.approx(list(wanted.values()), rel=1e-12)
    assert hx.ImplicitALS(evidence="count", alpha0=None).resolved(ratings).alpha0 is None


def test_what_is_held_out_for_validation_has_no_say_in_the_weights():
    ratings = drawn()
    model = hx.ImplicitALS(evidence="count", factors=4, epochs=1).fit(ratings, 0.5, seed=7)
    part = hx.split.random(ratings, 0.5, seed=7).train
    assert weights(model.recipe) == pytest.approx(by_the_rule(part), rel=1e-12)


@pytest.mark.parametrize(("groups", "factors"), [(3, (3, 8)), (70, (70, 140))])
def test_the_number_of_factors_is_that_of_directions_above_noise(groups, factors):
    """``factors`` are the least and the most directions that may be counted."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(groups * 40), 10)
    item = np.concatenate([rng.permutation(30)[:10] + 30 * (one // 40) for one in range(groups * 40)])
    clicks = hx.Ratings.from_columns(user, item)
    found, stars = (
        hx.ImplicitALS().resolved(data)
        for data in (clicks, hx.Ratings.from_columns(user, item, 3.0 + item % 2))
    )
    assert min(2 * factors[0], 64) <= found.factors <= min(2 * factors[1], 64)
    assert (found.regularization == 0.08 * 10**-0.25) == (groups == 3)
    assert min(3 * factors[0], 128) <= stars.factors <= min(3 * factors[1], 128)
    assert (stars.regularization == 0.115 * 10**-0.42) == (groups == 3)
    given = hx.ImplicitALS(factors=100, regularization=0.25).resolved(drawn())
    assert (given.factors, given.regularization) == (100, 0.25)


def test_ratings_have_a_weight_of_all_pairs_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(240), 10)
    item = np.concatenate([rng.permutation(30)[:10] + 30 * (one // 40) for one in range(240)])
    ratings = hx.Ratings.from_columns(user, item, rng.integers(1, 6, len(user)).astype(float))
    for part in (ratings, ratings.take(ratings.user > 79)):
        found = hx.ImplicitALS().resolved(part)
        value, seen = dense(part)
        cells = sum(row.any() for row in seen) * sum(column.any() for column in seen.T)
        place = (value[seen] - part.scale[0]) / (part.scale[1] - part.scale[0])
        assert weights(found)[:2] == pytest.approx(
            [1 / (1 + place.mean()), (len(part) / cells) ** 0.5 / 2.5], rel=1e-12
        )
    ratings.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    on_disk = hx.ImplicitALS().resolved(hx.read(tmp_path / "ratings.csv", memory="3GB"))
    assert on_disk.factors == 64
    assert weights(on_disk)[:2] == weights(hx.ImplicitALS().resolved(ratings))[:2]


def test_clicks_have_a_weight_of_one():
    clicks = hx.Ratings.from_columns([1, 1, 2, 3], [1, 2, 1, 2])
    assert hx.ImplicitALS(evidence="count").resolved(clicks).alpha == 1.0


def test_a_wrong_weight_is_told_in_one_line():
    with pytest.raises(ParameterError) as caught:
        hx.ImplicitALS(evidence="count", alpha="much", alpha0=-1.0)
    assert str(caught.value) == (
        "alpha is 'much': input should be 'auto' or a valid number, unable to parse string as a number; "
        "alpha0 is -1.0: input should be 'auto' or greater than 0"
    )


def test_a_checkpoint_of_other_data_is_told_by_the_data(tmp_path):
    ratings, path = drawn(), tmp_path / "state.hatrix"
    recipe = hx.ImplicitALS(evidence="count", factors=4, epochs=2)
    recipe.fit(ratings, checkpoint=path)
    with pytest.raises(ParameterError, match="belongs to another run: its fingerprint is"):
        recipe.fit(ratings.take(ratings.user > 3), resume=path)


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_counts_that_are_not_above_zero_are_refused(wrong):
    ratings = hx.Ratings.from_columns([1, 1, 2], [1, 2, 1], [1.0, wrong, 3.0])
    with pytest.raises(DataError, match=r"1 of the 3 .* (are 0, .* above 0|below 0, the lowest -1)"):
        hx.ImplicitALS(evidence="count", factors=2).fit(ratings)


@pytest.mark.parametrize("alpha0", [0.01, None])
@pytest.mark.parametrize("wrong", [1e-50, 1e31, 1e-30])
def test_weights_beyond_single_precision_are_refused(wrong, alpha0):
    """They gave NaN, an infinite objective, or one of which no digit is right."""
    ratings = hx.Ratings.from_columns([1, 1, 2], [1, 2, 1], [1.0, wrong, 3.0])
    with pytest.raises(DataError, match=f"{wrong:g}".replace("+", r"\+") + ".*rescale the values"):
        hx.ImplicitALS(evidence="count", factors=2, alpha=1.0, alpha0=alpha0, regularization=0.003).fit(
            ratings
        )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_counts_that_are_not_finite_never_become_ratings(wrong):
    with pytest.raises(DataError, match="not finite"):
        hx.Ratings.from_columns([1, 1, 2], [1, 2, 1], [1.0, wrong, 3.0])


@pytest.mark.parametrize(
    ("recipe", "wrong"),
    [
        (hx.ALS, {"factors": 0}),
        (hx.ALS, {"factors": 2000}),
        (hx.ALS, {"epochs": 0}),
        (hx.ALS, {"regularization": 0.0}),
        (hx.ALS, {"bias_regularization": -1.0}),
        (hx.ALS, {"nu": 1.5}),
        (hx.ALS, {"regularization": float("nan")}),
        (hx.ImplicitALS, {"alpha": 0.0}),
        (hx.ImplicitALS, {"alpha": "automatic"}),
        (hx.ImplicitALS, {"alpha": None}),
        (hx.ImplicitALS, {"regularization": "none"}),
        (hx.ImplicitALS, {"alpha0": -0.1}),
        (hx.ImplicitALS, {"alpha0": float("inf")}),
        (hx.ImplicitALS, {"solver": "lu"}),
        (hx.ImplicitALS, {"cg_steps": 0}),
        (hx.ImplicitALS, {"block_size": 20}),
        (hx.ImplicitALS, {"learning_rate": 0.1}),
    ],
    ids=str,
)
def test_strange_recipes_are_refused_by_name(recipe, wrong):
    (name,) = wrong
    with pytest.raises(ParameterError, match=rf"\b{name}\b"):
        recipe(**wrong)


@pytest.mark.parametrize("biased", [True, False])
def test_conjugate_gradients_end_where_exact_solutions_do(biased):
    ratings = hx.synthetic.make(80, 50, n_ratings=1500, seed=0)[0]
    shared = {"factors": 6, "epochs": 60, "regularization": 0.1, "nu": 1.0, "biased": biased}
    exact, steps, few = (
        hx.ALS(**shared, **solver).fit(ratings, seed=0)
        for solver in ({}, {"solver": "cg", "cg_steps": 3}, {"solver": "cg", "cg_steps": 1})
    )
    wanted = exact.history.objective.iloc[-1]
    assert abs(steps.history.objective.iloc[-1] / wanted - 1) < 2e-3
    assert few.history.objective.iloc[3] > steps.history.objective.iloc[3]
    assert steps.history.objective.is_monotonic_decreasing
    np.testing.assert_allclose(steps.predict([1, 2, 3], 4), exact.predict([1, 2, 3], 4), atol=0.05)


def test_conjugate_gradients_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    ratings = hx.synthetic.make(80, 50, n_ratings=1500, seed=0)[0]
    models = [hx.ALS(factors=6, epochs=4, solver="cg").fit(ratings, threads=threads) for threads in (1, 2, 5)]
    for other in models[1:]:
        np.testing.assert_array_equal(models[0].user_factors, other.user_factors)
        np.testing.assert_array_equal(models[0].item_bias, other.item_bias)


def test_nonnegative_factors_need_exact_solutions():
    with pytest.raises(ParameterError, match="need solver='exact'"):
        hx.ALS(nonnegative=True, solver="cg")


def test_weights_that_replace_those_of_unseen_pairs_are_fitted_and_folded_in():
    """The objective of implicit: alpha r on what was seen, alpha0 on all else; rows solve its equations."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(30 * 20)[:150]
    ratings = hx.Ratings.from_columns(
        cells // 20, cells % 20, rng.integers(1, 5, 150).astype(float), implicit=True
    )
    recipe = hx.ImplicitALS(
        evidence="count",
        factors=3,
        epochs=15,
        alpha=2.0,
        alpha0=1.0,
        nu=0.0,
        regularization=0.5,
        weighting="replace",
    )
    model = recipe.fit(ratings, seed=1, progress=False)
    R = np.zeros((len(model.users), len(model.items)))
    R[ratings.user, ratings.item] = ratings.value
    weight = np.where(R > 0, 2.0 * R, 1.0)
    P, Q = model.user_factors.astype(float), model.item_factors.astype(float)
    objective = (weight * ((R > 0) - P @ Q.T) ** 2).sum() + 0.5 * ((P**2).sum() + (Q**2).sum())
    assert model.history["objective"].iloc[-1] == pytest.approx(objective, rel=1e-4)
    assert model.history["objective"].is_monotonic_decreasing
    for user in range(3):
        rated = np.flatnonzero(R[user])
        A = (Q.T * weight[user]) @ Q + 0.5 * np.eye(3)
        wanted = np.linalg.solve(A, Q.T @ (weight[user] * (R[user] > 0)))
        found = model.fold_in({model.items.labels[i]: R[user, i] for i in rated}).user_factors[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    # A weight that is exactly the one it replaces still pulls.
    assert np.isfinite(
        recipe.model_copy(update={"alpha": 1.0}).fit(ratings, progress=False).user_factors
    ).all()
    with pytest.raises(DataError, match="below the weight alpha0=1 of pairs that were not seen"):
        hx.ImplicitALS(evidence="count", factors=3, alpha=0.1, alpha0=1.0, weighting="replace").fit(
            ratings, progress=False
        )
    with pytest.raises(ParameterError, match="needs an alpha0"):
        hx.ImplicitALS(evidence="count", alpha0=None, weighting="replace")
