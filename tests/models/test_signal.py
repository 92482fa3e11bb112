"""How many directions are more than chance: against full decompositions, and where nothing or everything is taste."""

from __future__ import annotations

import numpy as np
import pytest

import hatrix as hx
from hatrix.kernels import sparse
from hatrix.models import signal
from hatrix.models.signal import signal_of


def in_groups(groups: int, users: int = 40, items: int = 30, each: int = 10, seed: int = 0) -> hx.Ratings:
    """Clicks of users on items of their own group alone."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(groups * users), each)
    item = np.concatenate(
        [rng.permutation(items)[:each] + items * (one // users) for one in range(groups * users)]
    )
    return hx.Ratings.from_columns(user, item)


def by_popularity(users: int = 900, items: int = 400, n: int = 12_000, seed: int = 3) -> hx.Ratings:
    """Clicks of users without a taste."""
    return hx.synthetic.make(users, items, n_ratings=n, factors=0, implicit=True, seed=seed)[0]


def exact(ratings: hx.Ratings) -> np.ndarray:
    X = np.zeros((len(ratings.users), len(ratings.items)))
    X[ratings.user, ratings.item] = 1.0
    N = X / (X.sum(1) + 10)[:, None] ** 0.45 / (X.sum(0) + 10) ** 0.5
    return np.linalg.svd(N, compute_uv=False)


@pytest.mark.parametrize("groups", [2, 5, 12, 25])
def test_groups_of_users_are_counted(groups):
    found = signal_of(in_groups(groups), most=1024, threads=1)
    assert found.helps
    assert groups <= found.factors <= 1.5 * groups + 2
    values = exact(in_groups(groups))
    assert values[groups - 1] > found.noise > values[groups] * 0.9


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.campaign) for n in range(2, 6))])
def test_popularity_alone_is_no_taste(seed):
    found = signal_of(by_popularity(seed=seed), most=1024, threads=1)
    assert not found.helps
    assert np.sum(exact(by_popularity(seed=seed)) > found.noise) <= 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("users", "items", "n"), [(40, 60, 400), (2000, 300, 4000), (300, 3000, 6000), (60, 50, 1500)]
)
def test_chance_is_no_taste_in_any_shape(users, items, n, seed):
    assert not signal_of(by_popularity(users, items, n, seed), most=1024, threads=1).helps


def test_counts_of_directions_are_those_of_a_full_decomposition():
    ratings, _ = hx.synthetic.make(700, 500, n_ratings=20_000, implicit=True, seed=1)
    found, values = signal_of(ratings, most=1024, threads=1), exact(ratings)
    for level in np.quantile(values, [0.5, 0.7, 0.9]):
        assert found.above(level) == pytest.approx(np.sum(values > level), rel=0.25)
    assert 1 <= found.above(values[0] * 2) <= 2
    assert found.above(0.0) == 500


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (5, 1), (2, 2), (3, 40), (70, 90)])
def test_a_full_matrix_has_popularity_alone(n, m):
    user, item = np.divmod(np.arange(n * m), m)
    found = signal_of(hx.Ratings.from_columns(user, item), most=1024, threads=1)
    assert not found.helps
    assert found.factors == 1


def test_the_order_of_rows_the_labels_and_the_threads_change_nothing(monkeypatch):
    from hatrix.kernels import schedule

    monkeypatch.setattr(schedule, "WORTH_A_THREAD", 50)
    ratings = in_groups(5)
    mixed = np.random.default_rng(1).permutation(len(ratings))
    renamed = hx.Ratings.from_columns(
        [f"u{row:04}" for row in ratings.user[mixed]], [f"i{row:04}" for row in ratings.item[mixed]]
    )
    first = signal_of(ratings, most=1024, threads=1)
    for other, threads in ((renamed, 1), (ratings, 2), (renamed, 5)):
        again = signal_of(other, most=1024, threads=threads)
        assert (again.noise, again.factors, again.helps) == (first.noise, first.factors, first.helps)


@pytest.mark.parametrize("groups", [2, 40])
def test_the_work_does_not_depend_on_the_number_of_factors(groups, monkeypatch):
    columns, multiply = [], sparse.multiply

    def counted(A, X, out, **how):
        columns.append(X.shape[1])
        multiply(A, X, out, **how)

    monkeypatch.setattr(sparse, "multiply", counted)
    found = signal_of(in_groups(groups), most=1024, threads=1)
    assert len(columns) == found.products == 4 * signal.STEPS
    assert set(columns) == {sparse.NARROW}


def test_users_and_items_without_ratings_do_not_count():
    ratings = in_groups(3)
    some = ratings.take(ratings.user < 80)
    alone = hx.Ratings.from_columns(some.user, some.item)
    assert signal_of(some, most=64, threads=1).factors == signal_of(alone, most=64, threads=1).factors
