from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx
import naive
from hatrix.kernels import schedule
from hatrix.kernels.svdpp import SLACK


def drawn(seed=0, users=150, items=60, n=4000) -> hx.Ratings:
    rng = np.random.default_rng(seed)
    user, item = np.divmod(rng.permutation(users * items)[:n], items)
    return hx.Ratings.from_columns(user, item, rng.integers(1, 6, n).astype(float))


def test_epochs_equal_the_twin_block_by_block():
    """The recipe visits the ratings as its grid says; the twin does the same, one by one."""
    ratings = drawn(users=40, items=30, n=500).take(np.arange(480))
    recipe = hx.SVDpp(factors=5, precision="float64", implicit_rate=0.3)
    state = recipe.init(ratings, seed=3, threads=1)
    k, v, grid, unit = recipe.factors, state.variables, state.base.grid, state.base.unit
    assert unit == ratings.deviation
    user, item = grid.user.astype(int), grid.item.astype(int)
    twin = [v[name][:, :k].copy() for name in ("user_factors", "item_factors", "item_terms")]
    twin += [v[name].copy() for name in ("user_bias", "item_bias")]
    for epoch in range(3):
        blocks: list[int] = []
        schedule.run_epoch(blocks.extend, grid, epoch=epoch, threads=1)
        order = np.concatenate([np.arange(grid.edge[b], grid.edge[b + 1]) for b in blocks])
        loss = naive.svdpp_epoch(
            order, user, item, grid.value, *twin, rate=2 * recipe.learning_rate * recipe.decay**epoch,
            ratio=recipe.implicit_rate, slack=SLACK, user_reg=state.base.user_reg,
            item_reg=state.base.item_reg, bias_reg=(state.base.user_bias_reg, state.base.item_bias_reg),
        )  # fmt: skip
        figures = recipe.step(state, epoch)
        assert figures["train_mse"] == pytest.approx(loss / len(ratings) * unit**2, rel=1e-10)
    factors = recipe.finish(state)
    P, Q, Y, user_bias, item_bias = twin
    users, items = grid.user_place, grid.item_place
    assert np.abs(Y).max() > 1e-3
    root = np.sqrt(unit)
    for ours, theirs in (
        (factors.user_factors, root * (P + naive.svdpp_sums(user, item, Y, len(P)))[users]),
        (factors.item_factors, root * Q[items]),
        (factors.parts["item_terms"], root * Y[items]),
        (factors.user_bias, unit * user_bias[users]),
        (factors.item_bias, unit * item_bias[items]),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    ratings = drawn()
    models = [hx.SVDpp(factors=12, epochs=4).fit(ratings, threads=threads) for threads in (1, 2, 5)]
    assert np.any(models[0].parts["item_terms"])
    for other in models[1:]:
        np.testing.assert_array_equal(models[0].user_factors, other.user_factors)
        np.testing.assert_array_equal(models[0].item_factors, other.item_factors)
        np.testing.assert_array_equal(models[0].parts["item_terms"], other.parts["item_terms"])


def test_a_resumed_fit_and_a_validated_fit_end_in_the_same_bits(tmp_path):
    split = hx.split.random(drawn(), 0.1, seed=1)
    recipe, path = hx.SVDpp(factors=6, epochs=6), tmp_path / "state"
    whole = recipe.fit(split.train)
    watched = recipe.fit(split.train, valid=split.test)

    class Killed(Exception):
        pass

    def dies_in_epoch_4(recipe, state, epoch, step=hx.SVDpp.step):
        if epoch == 3:
            raise Killed
        return step(recipe, state, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hx.SVDpp, "step", dies_in_epoch_4)
        with pytest.raises(Killed):
            recipe.fit(split.train, checkpoint=hx.Checkpoint(path, epochs=1))
    resumed = recipe.fit(split.train, resume=path)
    for other in (watched, resumed):
        np.testing.assert_array_equal(whole.user_factors, other.user_factors)
        np.testing.assert_array_equal(whole.parts["item_terms"], other.parts["item_terms"])


def test_what_a_user_rated_is_learned_from():
    """Tastes that follow from which items were rated are found, though every user rated too few to show them."""
    rng = np.random.default_rng(4)
    users, items, each = 1500, 80, 8
    user = np.repeat(np.arange(users), each)
    item = np.concatenate([rng.permutation(items)[:each] for _ in range(users)])
    Y, Q = rng.normal(size=(items, 2)), rng.normal(size=(items, 2))
    taste = Y[item].reshape(users, each, 2).sum(1) / np.sqrt(each)
    value = np.sum(taste[user] * Q[item], axis=1)
    ratings = hx.Ratings.from_columns(user, item, value / value.std())
    split = hx.split.random(ratings, 0.05, seed=1)
    shared = {"factors": 4, "epochs": 200, "learning_rate": 0.02, "schedule": "constant"}
    shared |= {"bias_regularization": 0.01, "init_scale": 0.5}
    models = (
        hx.SVDpp(regularization=0.02, implicit_rate=0.1, **shared).fit(split.train),
        hx.BiasedMF(regularization=0.1, **shared).fit(split.train),
    )
    ours, biased = (
        float(
            np.std(
                model.predict_rows(split.test.user.astype(int), split.test.item.astype(int))
                - split.test.value
            )
        )
        for model in models
    )
    assert ours < 0.15 * split.test.value.std()
    assert ours < 0.5 * biased


def test_a_rate_far_too_high_is_a_divergence_that_says_what_to_do():
    with pytest.raises(hx.HatrixError, match="learning_rate="):
        hx.SVDpp(learning_rate=5.0).fit(drawn())


def test_float64_and_float32_agree():
    single, double = (hx.SVDpp(factors=8, epochs=3, precision=p).fit(drawn()) for p in ("float32", "float64"))
    assert single.parts["item_terms"].dtype == single.user_factors.dtype == np.float32
    assert double.parts["item_terms"].dtype == double.user_factors.dtype == np.float64
    np.testing.assert_allclose(single.user_factors, double.user_factors, atol=1e-4)
