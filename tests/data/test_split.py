"""Splits: each protocol selects exactly the rows that its definition, or the peer it equals, selects."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatrix.data import datasets, split
from hatrix.data.ids import Ids
from hatrix.data.ratings import Ratings
from hatrix.data.read import read
from hatrix.errors import DataError, HatrixError, ParameterError


def many(n_rows, n_users=7, seed=0, times=100):
    """Distinct pairs in random order, users of uneven activity, times with ties."""
    rng = np.random.default_rng(seed)
    user = np.sort((n_users * rng.random(n_rows) ** 2).astype(int))
    order = rng.permutation(n_rows)
    return Ratings.from_columns(
        user[order], order, rng.integers(1, 6, n_rows).astype(float), time=rng.integers(0, times, n_rows)
    )


def rows(part):
    """What identifies a row of `many`: its item."""
    return part.items.decode(part.item).tolist()


ragged = st.builds(
    many,
    st.integers(2, 150),
    n_users=st.integers(1, 20),
    seed=st.integers(0, 1000),
    times=st.sampled_from([1, 3, 10**9]),
)


def notebook_test_rows(frame, share, seed):
    """The teaching notebook's loop, word for word but for the guard that leaves each user a training row."""
    test_set = []
    for user in frame.user.unique():
        user_df = frame[frame.user == user].sample(frac=1, random_state=seed)
        n_test = min(round(share * len(user_df)), len(user_df) - 1)
        test_set.append(user_df.tail(n_test))
    return sorted(pd.concat(test_set).index)


def positions(whole, part):
    """Positions in `whole` of the rows of `part`, in the part's order."""
    place = {pair: at for at, pair in enumerate(zip(whole.user.tolist(), whole.item.tolist(), strict=True))}
    return [place[pair] for pair in zip(part.user.tolist(), part.item.tolist(), strict=True)]


def assert_is_partition(whole, parts):
    """Both parts keep the order, share the ids and the metadata, and together are the whole."""
    train, test = positions(whole, parts.train), positions(whole, parts.test)
    assert train
    assert test
    assert train == sorted(train)
    assert test == sorted(test)
    assert sorted(train + test) == list(range(len(whole)))
    for part, at in ((parts.train, train), (parts.test, test)):
        assert part.users is whole.users
        assert part.items is whole.items
        assert (part.scale, part.name, part.implicit) == (whole.scale, whole.name, whole.implicit)
        np.testing.assert_array_equal(part.value, whole.value[at])
        np.testing.assert_array_equal(part.time, whole.time[at])


def cut(protocol, ratings, *args, **kwargs):
    """The split, or None where the protocol says that it would leave a part empty."""
    try:
        parts = protocol(ratings, *args, **kwargs)
    except ParameterError as error:
        assert any(words in str(error) for words in ("part empty", "one rating", "cannot part"))  # noqa: PT017
        return None
    assert_is_partition(ratings, parts)
    return parts


class TestPerUser:
    @given(ragged, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
    @settings(max_examples=150, deadline=None)
    def test_the_notebooks_draw_selects_what_pandas_selects(self, ratings, share, seed):
        parts = cut(split.per_user, ratings, share, seed=seed, draw="notebook")
        expected = notebook_test_rows(ratings.to_frame(), share, seed)
        assert (positions(ratings, parts.test) if parts else []) == expected

    def test_movielens_selects_the_notebooks_rows(self, ml_100k):
        parts = split.per_user(ml_100k, test=0.2, seed=42, draw="notebook")
        assert positions(ml_100k, parts.test) == notebook_test_rows(ml_100k.to_frame(), 0.2, 42)
        assert (len(parts.train), len(parts.test)) == (80_000, 20_000)
        assert parts.protocol == "per_user 0.2, seed 42, draw notebook"

    @given(ragged, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
    @settings(max_examples=150, deadline=None)
    def test_laws(self, ratings, share, seed):
        count = ratings.user_count
        wanted = [max(min(round(share * n), n - 1), 0) for n in count.tolist()]
        parts = cut(split.per_user, ratings, share, seed=seed)
        assert (parts.test.user_count if parts else np.zeros(len(count))).tolist() == wanted
        if parts:
            assert rows(split.per_user(ratings, share, seed=seed).test) == rows(parts.test)
            assert parts.protocol == f"per_user {share:g}, seed {seed}"

    @given(ragged, st.floats(0.1, 0.9), st.integers(0, 100))
    @settings(deadline=None)
    def test_the_order_of_rows_does_not_matter(self, ratings, share, seed):
        order = np.random.default_rng(seed).permutation(len(ratings))
        parts = [cut(split.per_user, some, share, seed=seed) for some in (ratings, ratings.take(order))]
        assert len({tuple(sorted(rows(one.test))) if one else None for one in parts}) == 1

    def test_no_item_of_sorted_data_loses_its_training_rows(self):
        """With one draw for all of these users, 20 of the items had no training row."""
        user, item = np.tile(np.arange(200), 100), np.repeat(np.arange(100), 200)
        for seed in range(20):
            parts = split.per_user(Ratings.from_columns(user, item, np.ones(20_000)), seed=seed)
            # 160 of 200 are expected, give or take 5.7: six times that is never left by chance.
            assert np.abs(parts.train.item_count - 160).max() < 34

    def test_each_rating_is_as_likely_as_any_other(self):
        users, items, seeds = 50, 10, 400
        user, item = np.repeat(np.arange(users), items), np.tile(np.arange(items), users)
        ratings = Ratings.from_columns(user, item, np.ones(users * items))
        times = np.zeros((users, items))
        pairs = np.zeros((items, items))
        for seed in range(seeds):
            test = split.per_user(ratings, 0.3, seed=seed).test
            held = np.zeros((users, items))
            held[test.user, test.item] = 1
            times += held
            pairs += held.T @ held
        spread = np.sqrt(seeds * 0.3 * 0.7)
        assert np.abs(times - seeds * 0.3).max() < 5 * spread
        assert 0.8 < (times - seeds * 0.3).std() / spread < 1.2
        # Two ratings of a user are both drawn with chance 3/10 * 2/9, whichever they are.
        both, chance = pairs[~np.eye(items, dtype=bool)], 3 / 10 * 2 / 9
        assert np.abs(both / (users * seeds) - chance).max() < 5 * np.sqrt(chance / (users * seeds))

    def test_the_seed_and_the_user_matter(self):
        ratings = Ratings.from_columns(np.repeat([1, 2], 50), np.tile(np.arange(50), 2), np.ones(100))
        one, other = (split.per_user(ratings, seed=seed).test for seed in (1, 2))
        assert rows(one) != rows(other)
        assert rows(one)[:10] != rows(one)[10:]

    def test_ratings_on_disk_are_parted_alike(self, tmp_path):
        many(3000, n_users=200).to_frame().to_csv(tmp_path / "ratings.csv", index=False)
        parts = [
            split.per_user(read(tmp_path / "ratings.csv", memory=memory, progress=False))
            for memory in (None, "3GB")
        ]
        assert parts[1].test.disk
        assert parts[0].test.fingerprint == parts[1].test.fingerprint
        assert parts[0].train.fingerprint == parts[1].train.fingerprint

    @pytest.mark.parametrize(
        "draw", ["same", "", None, 1, "Notebook", ["notebook"], np.array(["notebook", "independent"])]
    )
    def test_draws(self, draw):
        with pytest.raises(ParameterError, match=r"draw is .*: give 'independent' or 'notebook'"):
            split.per_user(many(20), draw=draw)

    def test_halves_round_to_even_and_one_rating_stays(self):
        counts = {"a": 1, "b": 5, "c": 15, "d": 2}
        user = [name for name, count in counts.items() for _ in range(count)]
        ratings = Ratings.from_columns(user, range(len(user)), np.ones(len(user)))
        assert split.per_user(ratings, 0.5).test.user_count.tolist() == [0, 2, 8, 1]
        assert split.per_user(ratings, 0.1).test.user_count.tolist() == [0, 0, 2, 0]
        assert split.per_user(ratings, 0.99).test.user_count.tolist() == [0, 4, 14, 1]

    def test_ids_without_ratings_are_no_obstacle(self):
        ratings = many(100)
        cold = ratings.take(ratings.user != 2)
        assert split.per_user(cold).test.user_count[2] == 0

    def test_nobody_with_enough_ratings(self):
        with pytest.raises(ParameterError, match="no user has more than 1 ratings: raise test"):
            split.per_user(Ratings.from_columns([1, 2, 3], [1, 2, 3], [1, 2, 3]))


class TestRandom:
    def test_equals_scikit_learn(self):
        """From scikit-learn 1.9.1: sorted(train_test_split(range(11), test_size=t, random_state=s)[1])."""
        ratings = Ratings.from_columns(np.zeros(11, int), range(11), np.ones(11), time=np.zeros(11, int))
        assert rows(split.random(ratings, 0.25, seed=7).test) == [0, 5, 8]
        assert rows(split.random(ratings, 0.3, seed=42).test) == [0, 5, 9, 10]

    @given(ragged, st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
    @settings(deadline=None)
    def test_laws(self, ratings, share, seed):
        parts = cut(split.random, ratings, share, seed=seed)
        n_test = int(np.ceil(share * len(ratings)))
        assert (len(parts.test) if parts else len(ratings)) == n_test
        if parts:
            assert rows(split.random(ratings, share, seed=seed).test) == rows(parts.test)

    def test_the_seed_matters(self):
        ratings = many(200)
        assert rows(split.random(ratings, seed=1).test) != rows(split.random(ratings, seed=2).test)


class TestLast:
    @given(ragged, st.integers(1, 12))
    @settings(max_examples=150, deadline=None)
    def test_selects_what_sorting_selects(self, ratings, n):
        frame = ratings.to_frame()
        expected = []
        for _, mine in frame.sort_values("time", kind="stable").groupby("user"):
            expected += mine.tail(min(n, len(mine) - 1)).index.tolist() if len(mine) > 1 else []
        parts = cut(split.last, ratings, n)
        assert (positions(ratings, parts.test) if parts else []) == sorted(expected)

    def test_of_equal_times_the_later_row_is_later(self):
        ratings = Ratings.from_columns([1, 1, 1, 1], [5, 6, 7, 8], [1, 1, 1, 1], time=[9, 9, 2, 9])
        assert rows(split.last(ratings, 2).test) == [6, 8]

    def test_times_may_be_as_far_apart_as_int64_goes(self):
        ends = [2**63 - 1, -(2**63)]
        ratings = Ratings.from_columns([1, 1, 2, 2], [1, 2, 1, 2], [1, 1, 1, 1])
        ratings = replace(ratings, time=np.array(ends + ends[::-1]))
        assert split.last(ratings).test.time.tolist() == [2**63 - 1] * 2


class TestByTime:
    @given(ragged, st.floats(0.01, 0.99))
    @settings(max_examples=150, deadline=None)
    def test_share_parts_the_times_as_near_as_ties_allow(self, ratings, share):
        parts = cut(split.by_time, ratings, share)
        if parts is None:
            assert len(set(ratings.time.tolist())) == 1
            return
        assert parts.train.time.max() < parts.test.time.min()
        asked = min(max(round(share * len(ratings)), 1), len(ratings) - 1)
        possible = [np.count_nonzero(ratings.time >= moment) for moment in np.unique(ratings.time)[1:]]
        assert abs(len(parts.test) - asked) == min(abs(n - asked) for n in possible)

    @pytest.mark.parametrize(
        "moment",
        [
            "1998-01-01",
            "1998-01-01T00:00:00Z",
            "1998-01-01 01:00+01:00",
            datetime.date(1998, 1, 1),
            datetime.datetime(1998, 1, 1),
            datetime.datetime(1998, 1, 1, tzinfo=datetime.UTC),
            datetime.datetime(1997, 12, 31, 23, 59, 59, 500_000),
            np.datetime64("1998-01-01"),
            pd.Timestamp("1998-01-01"),
            883_612_800,
            np.int64(883_612_800),
            883_612_799.5,
        ],
        ids=str,
    )
    def test_from_a_moment(self, moment):
        times = 883_612_800 + np.array([5, -1, 0, -500, 7])
        ratings = Ratings.from_columns([1, 1, 2, 2, 3], [1, 2, 3, 4, 5], np.ones(5), time=times)
        parts = split.by_time(ratings, moment)
        assert rows(parts.test) == [1, 3, 5]
        assert rows(parts.train) == [2, 4]

    def test_a_moment_is_named_in_utc(self):
        ratings = many(20, times=10**9)
        assert split.by_time(ratings, "1980-05-06 07:08:09+02:00").protocol == (
            "by_time from 1980-05-06 05:08:09"
        )

    @pytest.mark.parametrize("moment", ["1969-01-01", 0, 1, -5, "2100-01-01", 10**30, 1e300, float("inf")])
    def test_a_moment_outside_the_times(self, moment):
        ratings = Ratings.from_columns([1, 1], [1, 2], [1, 1], time=[1, 86_400])
        with pytest.raises(ParameterError, match="1970-01-01 00:00:01 to 1970-01-02 00:00:00"):
            split.by_time(ratings, moment)

    @pytest.mark.parametrize(
        "moment", ["soon", "", None, True, [1, 2], object(), float("nan"), pd.NaT, "99999-01-01"]
    )
    def test_what_is_no_moment(self, moment):
        with pytest.raises(ParameterError, match="share between 0 and 1"):
            split.by_time(many(20), moment)

    def test_one_moment_for_all(self):
        with pytest.raises(ParameterError, match="all ratings have the time 1970-01-01 00:00:00"):
            split.by_time(many(20, times=1))


class TestKFold:
    def test_equals_scikit_learn_and_surprise(self):
        """Test rows of 11 ratings by scikit-learn 1.9.1 and scikit-surprise 1.1.5, which agree:

        KFold(3, shuffle=True, random_state=7).split(range(11))
        surprise.model_selection.KFold(3, random_state=7).split(Dataset.load_from_df(frame, reader))
        """
        ratings = Ratings.from_columns(np.arange(11), np.arange(11), np.ones(11))
        folds = split.k_fold(ratings, 3, seed=7)
        assert [rows(fold.test) for fold in folds] == [[0, 2, 5, 8], [1, 3, 7, 10], [4, 6, 9]]
        assert rows(folds[0].train) == [1, 3, 4, 6, 7, 9, 10]

    @given(ragged, st.integers(2, 12), st.integers(0, 2**32 - 1), st.sampled_from(["shuffled", "given"]))
    @settings(deadline=None)
    def test_equals_the_definition(self, ratings, folds, seed, order):
        folds = min(folds, len(ratings))
        indices = np.arange(len(ratings))
        if order == "shuffled":
            np.random.RandomState(seed).shuffle(indices)
        expected = [sorted(block.tolist()) for block in np.array_split(indices, folds)]
        parts = split.k_fold(ratings, folds, seed=seed, order=order)
        assert [positions(ratings, part.test) for part in parts] == expected
        for part in parts:
            assert_is_partition(ratings, part)

    def test_is_a_sequence(self):
        folds = split.k_fold(many(20), 4, seed=3)
        assert len(folds) == len(list(folds)) == 4
        assert rows(folds[-1].test) == rows(folds[3].test)
        assert [part.protocol for part in folds[1:3]] == ["fold 2 of 4, seed 3", "fold 3 of 4, seed 3"]
        assert repr(folds) == "Folds(4 of 20 ratings, seed 3)"
        with pytest.raises(IndexError):
            folds[4]

    def test_leave_one_out(self):
        folds = split.k_fold(many(300), 300)
        assert {len(fold.test) for fold in folds} == {1}
        assert sorted(row for fold in folds for row in rows(fold.test)) == list(range(300))

    def test_mistakes(self):
        for wrong in (1, 0, -3, 21, 2.5, "5", True, None):
            with pytest.raises(
                ParameterError, match=r"folds is .*: give a whole number from 2 to 20 \(the number of"
            ):
                split.k_fold(many(20), wrong)
        with pytest.raises(ParameterError, match=r"order is .*: give 'shuffled' or 'given'"):
            split.k_fold(many(20), order="random")
        with pytest.raises(ParameterError, match=r"order is array\(\['given'"):
            split.k_fold(many(20), order=np.array(["given", "shuffled"]))


class TestOfficial:
    @pytest.mark.parametrize("fold", [1, 2, 3, 4, 5])
    def test_movielens_folds_are_blocks_of_the_file(self, ml_100k, fold):
        parts = split.official(ml_100k, fold)
        assert_is_partition(ml_100k, parts)
        assert positions(ml_100k, parts.test) == [*range(20_000 * (fold - 1), 20_000 * fold)]
        assert parts.protocol == f"official u{fold}"

    @pytest.mark.data("ml-100k/ua.test", "ml-100k/ua.base")
    @pytest.mark.parametrize("fold", [1, 2, 3, 4, 5, "a", "b"])
    def test_movielens_folds_are_those_of_the_files(self, ml_100k, fold):
        parts = split.official(ml_100k, fold)
        assert_is_partition(ml_100k, parts)
        for part, end in ((parts.train, "base"), (parts.test, "test")):
            file = datasets.get("ml-100k") / f"u{fold}.{end}"
            listed = pd.read_csv(file, sep="\t", names=["user", "item", "rating", "time"])
            ours = part.to_frame().astype(np.int64)
            by = ["user", "item"]
            pd.testing.assert_frame_equal(
                ours.sort_values(by, ignore_index=True), listed.sort_values(by, ignore_index=True)
            )
        assert parts.protocol == f"official u{fold}"

    def test_by_name(self, ml_100k):
        assert split.official("ml-100k", "u2").test.fingerprint == split.official(ml_100k, 2).test.fingerprint

    def test_blocks_are_cut_only_from_the_files_own_order(self, ml_100k):
        shuffled = ml_100k.take(np.random.default_rng(0).permutation(len(ml_100k)))
        some = ml_100k.take(np.arange(50_000))
        strings = replace(ml_100k, users=Ids(np.array(sorted(map(str, range(943))), object)))
        for wrong in (shuffled, some, strings, replace(many(20), name="ml-100k")):
            with pytest.raises(DataError, match=r"in the order of its file u\.data"):
                split.official(wrong, 1)

    @pytest.mark.parametrize("fold", [0, 6, None, "c", True, 1.0, "base"])
    def test_no_such_fold(self, fold):
        with pytest.raises(ParameterError, match="ml-100k has the folds"):
            split.official("ml-100k", fold)

    def test_missing_and_damaged_lists(self, ml_100k, tmp_path, monkeypatch):
        folder = tmp_path / "ml-100k"
        folder.mkdir()
        (folder / "u.data").write_bytes((datasets.get("ml-100k") / "u.data").read_bytes())
        monkeypatch.setenv("HATRIX_DATA", str(tmp_path))
        with pytest.raises(DataError, match=r"ua\.test, which is not in .*ml-100k: unpack https"):
            split.official(ml_100k, "a")
        (folder / "ua.test").write_text("1\t20\t4\t887431883\n1\t9999\t4\t878542699\n")
        with pytest.raises(DataError, match=r"not of one data set: 1 listed pairs .* user 1, item 9999"):
            split.official(ml_100k, "a")
        for damage in ("1\tx\t4\n", "1\n", "\0\0"):
            (folder / "ua.test").write_text(damage)
            with pytest.raises(DataError, match=r"ua\.test is damaged"):
                split.official(ml_100k, "a")

    @pytest.mark.data("gowalla")
    def test_gowalla(self):
        parts = split.official("gowalla")
        assert (len(parts.train), len(parts.test)) == (810_128, 217_242)
        assert (len(parts.train.users), len(parts.train.items)) == (29_858, 40_981)
        with (datasets.get("gowalla") / "test.txt").open() as file:
            user, *items = map(int, file.readline().split())
        mine = parts.test.item[parts.test.user == parts.test.users.encode(user)[0]]
        assert sorted(parts.test.items.decode(mine)) == sorted(items)

    @pytest.fixture
    def shop(self, tmp_path, monkeypatch):
        folder = tmp_path / "shop"
        folder.mkdir()
        (folder / "train.txt").write_text("7 10 30\n8 10\n9\n")
        (folder / "test.txt").write_text("7 20\n8 30 20\n")
        monkeypatch.setenv("HATRIX_DATA", str(tmp_path))
        return folder

    @pytest.mark.usefixtures("shop")
    def test_lightgcn_layout(self):
        parts = split.official("shop")
        pairs = [
            list(part.to_frame()[["user", "item"]].itertuples(index=False, name=None))
            for part in (parts.train, parts.test)
        ]
        assert pairs == [[(7, 10), (7, 30), (8, 10)], [(7, 20), (8, 30), (8, 20)]]
        assert parts.train.implicit
        assert parts.train.users is parts.test.users
        assert parts.protocol == "official shop"
        again = split.official(datasets.load("shop"))
        assert again.test.fingerprint == parts.test.fingerprint
        with pytest.raises(DataError, match="not of one data set"):
            split.official(replace(many(20), name="shop"))

    def test_lightgcn_parts_may_not_overlap(self, shop):
        (shop / "test.txt").write_text("7 20 10\n")
        with pytest.raises(DataError, match=r"1 pairs .* in both train\.txt and test\.txt of shop"):
            split.official("shop")

    @pytest.mark.usefixtures("shop")
    def test_no_such_split(self):
        for source, fold in (("ml-1m", None), ("ml-25m", 1), ("shop", 1)):
            with pytest.raises(ParameterError, match=f"no official split '{source}'"):
                split.official(source, fold)
        with pytest.raises(ParameterError, match="no data set 'shap'"):
            split.official("shap")
        for source in (None, 3, ["ml-100k"], pd.DataFrame({"user": [1]})):
            with pytest.raises(ParameterError, match="official takes the name"):
                split.official(source, 1)


class TestMistakes:
    @pytest.mark.parametrize("share", [0, 1, 0.0, 1.0, -0.2, 1.5, 20, float("nan"), "0.2", None, True])
    @pytest.mark.parametrize("protocol", [split.per_user, split.random])
    def test_shares(self, protocol, share):
        with pytest.raises(ParameterError, match=r"test must be a share between 0 and 1, such as 0\.2, not"):
            protocol(many(20), share)

    @pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, "42", True])
    @pytest.mark.parametrize("protocol", [split.per_user, split.random, split.k_fold])
    def test_seeds(self, protocol, seed):
        with pytest.raises(ParameterError, match=r"seed is .*: give a whole number from 0 to 4,294,967,295"):
            protocol(many(20), seed=seed)

    @pytest.mark.parametrize("n", [0, -1, 1.5, "1", None, True])
    def test_n(self, n):
        with pytest.raises(ParameterError, match=r"n is .*: give a whole number from 1 up"):
            split.last(many(20), n)

    @pytest.mark.parametrize(
        "protocol", [split.per_user, split.random, split.last, split.by_time, split.k_fold]
    )
    def test_nothing_to_split(self, protocol):
        with pytest.raises(DataError, match="no ratings to split"):
            protocol(many(20).take(np.zeros(20, bool)))
        with pytest.raises(DataError, match="this is a DataFrame, not Ratings"):
            protocol(many(20).to_frame())

    @pytest.mark.parametrize("protocol", [split.last, split.by_time])
    def test_no_time(self, protocol):
        with pytest.raises(DataError, match="these ratings have no time"):
            protocol(replace(many(20), time=None))

    @pytest.mark.parametrize(
        "protocol", [split.per_user, split.random, split.last, split.by_time, split.k_fold]
    )
    def test_a_single_rating(self, protocol):
        with pytest.raises(HatrixError):
            protocol(Ratings.from_columns([1], [1], [1.0], time=[5]))


def test_numpy_numbers_are_numbers():
    ratings = many(100)
    assert rows(split.per_user(ratings, np.float32(0.5), seed=np.int64(3)).test) == rows(
        split.per_user(ratings, 0.5, seed=3).test
    )
    assert len(split.k_fold(ratings, np.int16(4))) == 4


def test_a_split_tells_what_it_is():
    assert repr(split.random(many(1500), 0.25)) == "Split(random 0.25, seed 42: 1,125 train + 375 test)"


def test_no_loop_over_rows_or_users():
    """2.6 million ratings: one user with 700,000, 1,598 users of as many counts, 60,000 users with ten."""
    counts = np.concatenate([np.arange(2, 1600), [700_000], np.full(60_000, 10)])
    n = int(counts.sum())
    user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    item = np.arange(n, dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)
    ids = Ids(np.arange(len(counts))), Ids(np.arange(700_000))
    ratings = Ratings(user, item, np.ones(n), *ids, time=np.arange(n) % 1000)
    start = time.process_time()
    for protocol in (split.per_user, split.random, split.last, split.by_time):
        protocol(ratings)
    assert time.process_time() - start < 10
