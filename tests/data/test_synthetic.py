"""Made-up ratings: what they are drawn from can be found in them again; expanded ratings keep their shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.data.ratings import Ratings
from hatrix.data.read import read
from hatrix.data.synthetic import expand, make
from hatrix.errors import DataError, ParameterError


def pairs(ratings):
    return ratings.user.astype(np.int64) * len(ratings.items) + ratings.item


def popularity_curve(count):
    """Share of all ratings that the most popular 0, 5, 10 ... 100 % of the rows hold."""
    share = np.append(0, np.cumsum(np.sort(count)[::-1]) / count.sum())
    return np.interp(np.linspace(0, 1, 21), np.linspace(0, 1, len(share)), share)


@st.composite
def sizes(draw):
    users, items = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return users, items, draw(st.integers(users, users * items))


class TestMake:
    @given(sizes(), st.sampled_from([0.0, 1.0, 3.0, 10.0]), st.booleans(), st.integers(0, 5))
    @settings(max_examples=150, deadline=None)
    def test_exact_number_of_distinct_pairs_at_any_density(self, size, skew, implicit, seed):
        users, items, n = size
        ratings, _ = make(users, items, n_ratings=n, skew=skew, implicit=implicit, factors=2, seed=seed)
        assert len(ratings) == n
        assert len(np.unique(pairs(ratings))) == n
        assert ratings.user_count.min() >= 1
        assert ratings.item.min() >= 0
        assert ratings.item.max() < items
        assert (len(ratings.users), len(ratings.items)) == (users, items)

    def test_same_seed_same_ratings(self):
        first, again, other = (make(60, 40, n_ratings=900, seed=seed)[0] for seed in (3, 3, 4))
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_chunks_leave_no_trace(self, monkeypatch):
        whole_run = [make(60, 40, n_ratings=900, implicit=i)[0].fingerprint for i in (False, True)]
        monkeypatch.setattr("hatrix.data.expansion._CHUNK", 100)
        assert [make(60, 40, n_ratings=900, implicit=i)[0].fingerprint for i in (False, True)] == whole_run

    def test_raw_values_are_the_score_plus_noise_of_the_asked_size(self):
        ratings, truth = make(500, 300, n_ratings=40_000, noise=0.3, scale=None)
        residual = ratings.value - truth.score(ratings.user, ratings.item)
        assert abs(residual.mean()) < 0.01
        assert abs(residual.std() - 0.3) < 0.01
        assert abs(np.corrcoef(residual[1:], residual[:-1])[0, 1]) < 0.03
        exact, truth = make(50, 30, n_ratings=400, noise=0, scale=None)
        np.testing.assert_array_equal(exact.value, truth.score(exact.user, exact.item))

    def test_score_is_the_formula(self):
        _, truth = make(5, 4, n_ratings=10, factors=3)
        full = (
            truth.mean
            + truth.user_bias[:, None]
            + truth.item_bias
            + truth.user_factors @ truth.item_factors.T
        )
        np.testing.assert_allclose(truth.score([0, 4, 2], [3, 0, 1]), full[[0, 4, 2], [3, 0, 1]], rtol=1e-12)

    def test_least_squares_finds_the_factors_again(self):
        ratings, truth = make(80, 60, n_ratings=4000, factors=3, noise=0.1, scale=None, skew=0.2)
        u, i = ratings.user, ratings.item
        rest = ratings.value - truth.mean - truth.user_bias[u] - truth.item_bias[i]
        found = np.zeros((80, 3))
        for user in range(80):
            mine = u == user
            found[user] = np.linalg.lstsq(truth.item_factors[i[mine]], rest[mine], rcond=None)[0]
        assert np.sqrt(np.mean((found - truth.user_factors) ** 2)) < 0.1 * truth.user_factors.std()

    @pytest.mark.parametrize(
        ("scale", "step"), [((1, 5), 1.0), ((0.5, 5.0), 0.5), ((0, 100), 1), ((-1, 1), 0.1)]
    )
    def test_stars_lie_on_the_scale_and_use_all_of_it(self, scale, step):
        ratings, _ = make(400, 300, n_ratings=20_000, scale=scale, step=step)
        stars = (ratings.value - scale[0]) / step
        np.testing.assert_allclose(stars, np.rint(stars), atol=1e-9)
        assert (ratings.value.min(), ratings.value.max()) == scale == ratings.scale
        assert len(np.unique(ratings.value)) == pytest.approx((scale[1] - scale[0]) / step + 1, rel=0.1)

    def test_values_between_the_stars(self):
        ratings, _ = make(50, 40, n_ratings=1000, step=None)
        assert len(np.unique(ratings.value)) > 900
        assert ratings.value.min() >= 1
        assert ratings.value.max() <= 5

    def test_counts_have_a_long_tail_like_movielens(self):
        ratings, _ = make(943, 1682, n_ratings=100_000, skew=1.2)
        for count in (ratings.user_count, ratings.item_count):
            assert 1.5 < count.mean() / np.median(count) < 3.5
            assert 0.40 < popularity_curve(count)[2] < 0.65  # MovieLens 100K: .40 of users, .49 of items
        level, _ = make(100, 50, n_ratings=2000, skew=0)
        assert set(level.user_count) == {20}

    def test_popularity_is_drawn_in_proportion(self):
        """Few draws per user hardly collide, so the counts follow the log-normal weights."""
        ratings, _ = make(20_000, 50, n_ratings=40_000, skew=0.5, seed=1)
        assert 0.4 < np.log(ratings.item_count).std() < 0.6

    def test_implicit_choices_follow_the_score(self):
        ratings, truth = make(200, 100, n_ratings=4000, implicit=True, skew=0.5, noise=0.5)
        full = truth.item_bias + truth.user_factors @ truth.item_factors.T
        seen = np.zeros((200, 100), bool)
        seen[ratings.user, ratings.item] = True
        assert full[seen].mean() > full[~seen].mean() + 1
        assert ratings.implicit
        assert ratings.scale is None
        assert set(ratings.value) == {1.0}
        sharp, truth = make(50, 40, n_ratings=500, implicit=True, noise=0)
        full = truth.item_bias + truth.user_factors @ truth.item_factors.T
        for user in range(50):
            mine = sharp.item[sharp.user == user]
            assert set(mine) == set(np.argsort(-full[user])[: len(mine)])

    @pytest.mark.parametrize(
        ("wrong", "what"),
        [
            ({"users": 0}, "users"),
            ({"items": 2.5}, "items"),
            ({"n_ratings": 9}, "n_ratings is 9: give a whole number from 10 to 50"),
            ({"n_ratings": 51}, "n_ratings"),
            ({"factors": -1}, "factors"),
            ({"noise": -0.1}, "noise"),
            ({"noise": float("nan")}, "noise"),
            ({"skew": 11}, "skew"),
            ({"scale": (5, 1)}, "scale"),
            ({"scale": 5}, "scale"),
            ({"step": 0}, "step"),
            ({"seed": -1}, "seed"),
            ({"seed": None}, "seed"),
        ],
    )
    def test_mistakes(self, wrong, what):
        with pytest.raises(ParameterError, match=what):
            make(**{"users": 10, "items": 5, "n_ratings": 20} | wrong)


class TestExpand:
    @given(sizes(), st.integers(1, 12), st.integers(1, 6), st.integers(0, 3))
    @settings(max_examples=100, deadline=None)
    def test_each_user_copy_repeats_the_original_on_some_copy_of_each_item(
        self, size, user_copies, item_copies, seed
    ):
        users, items, n = size
        small, _ = make(users, items, n_ratings=n, factors=1)
        large = expand(small, user_copies=user_copies, item_copies=item_copies, seed=seed)
        assert len(large) == n * user_copies
        assert (len(large.users), len(large.items)) == (users * user_copies, items * item_copies)
        np.testing.assert_array_equal(large.user % users, np.tile(small.user, user_copies))
        np.testing.assert_array_equal(large.user // users, np.repeat(np.arange(user_copies), n))
        np.testing.assert_array_equal(large.item % items, np.tile(small.item, user_copies))
        np.testing.assert_array_equal(large.value, np.tile(small.value, user_copies))
        assert len(np.unique(pairs(large))) == len(large)
        assert large.item.max() < len(large.items)
        assert large.scale == small.scale

    @pytest.mark.parametrize(
        ("user_copies", "item_copies"), [(1, 3), (2, 2), (2, 3), (10, 3), (7, 20), (30, 1)]
    )
    def test_popularity_curve_is_kept(self, user_copies, item_copies):
        small, _ = make(600, 200, n_ratings=30_000, skew=1.2)
        large = expand(small, user_copies=user_copies, item_copies=item_copies)
        np.testing.assert_array_equal(large.user_count, np.tile(small.user_count, user_copies))
        np.testing.assert_allclose(
            popularity_curve(large.item_count), popularity_curve(small.item_count), atol=0.02
        )

    def test_user_copies_prefer_their_item_copies(self):
        small, _ = make(600, 200, n_ratings=30_000)
        large = expand(small, user_copies=4, item_copies=4)
        meetings = np.zeros((4, 4))
        np.add.at(meetings, (large.user // 600, large.item // 200), 1 / 30_000)
        np.testing.assert_allclose(meetings.sum(axis=0), 1, atol=0.02)
        np.testing.assert_allclose(meetings[0], np.array([1.8, 1, 0.2, 1]) / 4, atol=0.02)
        np.testing.assert_allclose(meetings[1], np.array([1, 1.8, 1, 0.2]) / 4, atol=0.02)

    def test_batches_leave_no_trace(self, monkeypatch):
        small, _ = make(60, 40, n_ratings=500)
        large = expand(small, user_copies=9)
        monkeypatch.setattr("hatrix.data.expansion._CHUNK", 1500)
        assert expand(small, user_copies=9).fingerprint == large.fingerprint
        assert expand(small, user_copies=9, seed=1).fingerprint != large.fingerprint

    def test_times_and_tables_travel_along(self):
        small = Ratings.from_columns([1, 1, 2], ["a", "b", "a"], [3, 4, 5], time=[7, 8, 9])
        small = replace(
            small, item_table=pd.DataFrame({"title": ["A", "B"]}), user_table=pd.DataFrame({"age": [1, 2]})
        )
        large = expand(small, user_copies=3, item_copies=2)
        assert large.time.tolist() == [7, 8, 9] * 3
        assert large.item_table["title"].tolist() == ["A", "B"] * 2
        assert large.user_table["age"].tolist() == [1, 2] * 3
        assert large.items.labels.tolist() == [1, 2, 3, 4]
        assert large.item_table.index.tolist() == [0, 1, 2, 3]

    def test_implicit_data_stay_implicit(self):
        clicks, _ = make(20, 10, n_ratings=60, implicit=True)
        large = expand(clicks, user_copies=2)
        assert large.implicit
        assert large.scale is None

    def test_ids_without_ratings_have_copies_without_ratings(self):
        small = Ratings.from_columns([1, 2, 3], [1, 2, 3], [3, 4, 5]).take(np.array([True, False, True]))
        large = expand(small, user_copies=2, item_copies=2)
        assert large.user_count.tolist() == [1, 0, 1] * 2

    def test_mistakes(self):
        small, _ = make(20, 10, n_ratings=60)
        with pytest.raises(ParameterError, match="user_copies"):
            expand(small, user_copies=0)
        with pytest.raises(
            ParameterError, match=r"item_copies is .*: give a whole number from 1 to 214,748,364"
        ):
            expand(small, item_copies=2**30)
        with pytest.raises(DataError, match="no ratings"):
            expand(small.take(np.zeros(60, bool)))


class TestExpandToAFile:
    @pytest.mark.parametrize("chunk", [100, 1500, 1 << 20])
    @pytest.mark.parametrize("timed", [True, False])
    def test_the_file_has_the_rows_of_memory(self, tmp_path, monkeypatch, chunk, timed):
        monkeypatch.setattr("hatrix.data.expansion._CHUNK", chunk)
        small, _ = make(60, 40, n_ratings=500)
        if timed:
            small = replace(small, time=np.arange(500))
        large = expand(small, user_copies=9, item_copies=2, seed=3)
        path = tmp_path / "large.parquet"
        made = expand(small, user_copies=9, item_copies=2, seed=3, path=path)
        assert (made.path, made.rows, made.users, made.items) == (path, 4500, 540, 80)
        frame = pd.read_parquet(path)
        pd.testing.assert_frame_equal(frame, large.to_frame(), check_dtype=False)
        assert [entry.name for entry in tmp_path.iterdir()] == ["large.parquet"]

    def test_counts_stay_counts(self, tmp_path):
        clicks, _ = make(20, 10, n_ratings=60, implicit=True)
        made = expand(clicks, user_copies=2, path=tmp_path / "clicks.parquet")
        again = read(made.path)
        assert again.implicit
        assert len(again) == made.rows == 120

    def test_mistakes(self, tmp_path):
        small, _ = make(20, 10, n_ratings=60)
        with pytest.raises(DataError, match=r"ends on '.csv': end it on .parquet"):
            expand(small, path=tmp_path / "large.csv")
        with pytest.raises(DataError, match="there is no folder"):
            expand(small, path=tmp_path / "nowhere" / "large.parquet")
        (tmp_path / "large.parquet").mkdir()
        with pytest.raises(DataError, match="is a folder"):
            expand(small, path=tmp_path / "large.parquet")
