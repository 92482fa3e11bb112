"""Training and test parts of ratings, by the protocols that published results use.

Both parts keep the order of the rows and share their ids, so a user or an item may have no training row.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from hatrix._checks import is_number, one_of, shown, whole
from hatrix._mixing import mix
from hatrix.data.origin import Origin, recorded
from hatrix.data.ratings import SLICE, Ratings
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Folds", "Split", "by_time", "k_fold", "last", "official", "per_user", "random"]

DRAWS = ("independent", "notebook")
"""Methods by which `per_user` draws the test ratings of a user."""
ORDERS = ("shuffled", "given")
"""Orders in which `k_fold` deals the rows."""


@dataclass(frozen=True, repr=False)
class Split:
    """Two parts of the same ratings.

    Parameters
    ----------
    train, test
        The parts; they share ``users``, ``items`` and the tables.
    protocol
        How they were parted, for tables and reports, for example ``"per_user 0.2, seed 42"``.
    """

    train: Ratings
    test: Ratings
    protocol: str

    def made_by(self, call: str, of: Origin | None) -> Split:
        """Return the split with a record, in both parts, of the call and the ratings that it came from."""
        train, test = (
            part.made_by(Origin(call, "split", name, of, len(self.train)))
            for part, name in ((self.train, ".train"), (self.test, ".test"))
        )
        return Split(train, test, self.protocol)

    def __repr__(self) -> str:
        return f"Split({self.protocol}: {len(self.train):,} train + {len(self.test):,} test)"


class Folds(Sequence[Split]):
    """The splits of a k-fold cross-validation; each is cut when asked for, so k folds cost no k copies.

    Parameters
    ----------
    ratings
        The ratings to cut.
    fold
        For each row the number of the fold that tests it, 0 .. ``folds`` - 1 (length n).
    folds
        How many there are.
    how
        How they were dealt, for `Split.protocol`.
    """

    def __init__(self, ratings: Ratings, fold: NDArray[Any], folds: int, how: str) -> None:
        self._ratings, self._fold, self._folds, self._how = ratings, fold, folds, how
        self._call: tuple[str, Origin | None] | None = None

    def made_by(self, call: str, of: Origin | None) -> Folds:
        """Return the folds with a record, in each split, of the call and the ratings that they came from."""
        folds = Folds(self._ratings, self._fold, self._folds, self._how)
        folds._call = call, of
        return folds

    def __len__(self) -> int:
        return self._folds

    @overload
    def __getitem__(self, index: int) -> Split: ...
    @overload
    def __getitem__(self, index: slice) -> list[Split]: ...
    def __getitem__(self, index: int | slice) -> Split | list[Split]:
        if isinstance(index, slice):
            return [self[one] for one in range(self._folds)[index]]
        number = range(self._folds)[index]
        protocol = f"fold {number + 1} of {self._folds}, {self._how}"
        found = _part(self._ratings, self._fold == number, protocol)
        return found if self._call is None else found.made_by(f"{self._call[0]}[{number}]", self._call[1])

    def __repr__(self) -> str:
        return f"Folds({self._folds} of {len(self._ratings):,} ratings, {self._how})"


@recorded("hx.split.per_user")
def per_user(
    ratings: Ratings,
    test: float = 0.2,
    *,
    seed: int = 42,
    draw: Literal["independent", "notebook"] = "independent",
) -> Split:
    """Put the same share of every user's ratings into the test part.

    A user with n ratings gives ``min(round(test * n), n - 1)`` of them (halves round to even): who has one
    rating stays in train.

    Parameters
    ----------
    ratings
        What to part.
    test
        Share of the test part, between 0 and 1.
    seed
        0 .. 2**32 - 1; the same seed gives the same split.
    draw
        ``"independent"`` makes a separate draw for each user, in which each rating has the same chance. It does not
        depend on the order of the rows. ``"notebook"`` takes the rows that
        ``frame.sample(frac=1, random_state=seed).tail(n_test)`` takes of each user's rows in pandas, as the teaching
        notebook does. There, users with equally many ratings give the same positions, so data sorted by item lose whole
        items from the training part. Use it only to reproduce the figures of that notebook.

    Raises
    ------
    ParameterError
        If ``test``, ``seed`` or ``draw`` is not allowed, or no user has enough ratings to give one.
    DataError
        If there are no ratings.

    Examples
    --------
    >>> ratings = Ratings.from_columns(["ann"] * 5 + ["bob"], [1, 2, 3, 4, 5, 1], [3, 4, 5, 2, 1, 4])
    >>> per_user(ratings)
    Split(per_user 0.2, seed 42: 5 train + 1 test)
    """
    _refuse_empty(ratings)
    share, seed = _share(test), _seed(seed)
    one_of("draw", draw, DRAWS)
    chosen = np.zeros(len(ratings), bool)
    for rows in _rows_by_count(ratings, 2):
        size = rows.shape[1]
        kept = max(size - round(share * size), 1)
        if kept == size:
            continue
        if draw == "notebook":
            # This draw depends only on the seed and the number of rows, so users with that number share it.
            chosen[rows[:, np.random.RandomState(seed).permutation(size)[kept:]]] = True
            continue
        at_once = max(1, SLICE // size)
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            order = np.argpartition(_chance(seed, ratings.user[some], ratings.item[some]), kept, axis=1)
            chosen[np.take_along_axis(some, order[:, kept:], axis=1)] = True
    if not chosen.any():
        raise ParameterError(
            f"test={share:g} leaves the test part empty, as no user has more than {ratings.user_count.max()} "
            "ratings: raise test, or use split.random"
        )
    notebook = ", draw notebook" if draw == "notebook" else ""
    return _part(ratings, chosen, f"per_user {share:g}, seed {seed}{notebook}")


@recorded("hx.split.random")
def random(ratings: Ratings, test: float = 0.2, *, seed: int = 42) -> Split:
    """Draw the test part from all rows alike.

    It has ``ceil(test * n)`` rows, those that scikit-learn's
    ``train_test_split(test_size=test, random_state=seed)`` draws.

    Raises
    ------
    ParameterError
        If ``test`` or ``seed`` is out of range, or there are too few ratings for two parts.
    DataError
        If there are no ratings.

    Examples
    --------
    >>> ratings = Ratings.from_columns([1, 1, 2, 2], [1, 2, 1, 2], [3, 4, 5, 2])
    >>> random(ratings, 0.5)
    Split(random 0.5, seed 42: 2 train + 2 test)
    """
    _refuse_empty(ratings)
    share, seed, n = _share(test), _seed(seed), len(ratings)
    chosen = np.zeros(n, bool)
    chosen[np.random.RandomState(seed).permutation(n)[: int(np.ceil(share * n))]] = True
    return _part(ratings, chosen, f"random {share:g}, seed {seed}")


@recorded("hx.split.last")
def last(ratings: Ratings, n: int = 1) -> Split:
    """Put the latest ``n`` ratings of every user into the test part; of equal times the later row is later.

    Every user keeps a rating in train: one with c ratings gives ``min(n, c - 1)``.

    Raises
    ------
    ParameterError
        If ``n`` is not a whole number from 1 up, or no user has two ratings.
    DataError
        If there are no ratings, or they have no time.

    Examples
    --------
    >>> ratings = Ratings.from_columns([1, 1, 1, 2], [1, 2, 3, 1], [3, 4, 5, 2], time=[30, 10, 20, 5])
    >>> last(ratings).test.to_frame().to_dict("list")
    {'user': [1], 'item': [1], 'rating': [3.0], 'time': [30]}
    """
    time = _times(ratings, "split.last")
    n = whole("n", n)
    chosen = np.zeros(len(ratings), bool)
    for rows in _rows_by_count(ratings, 2):
        by_age = np.argsort(time[rows], axis=1, kind="stable")
        latest = by_age[:, max(rows.shape[1] - n, 1) :]
        chosen[np.take_along_axis(rows, latest, axis=1)] = True
    if not chosen.any():
        raise ParameterError("every user has one rating, so none can be spared for a test: use split.random")
    return _part(ratings, chosen, f"last {n}")


@recorded("hx.split.by_time")
def by_time(ratings: Ratings, test: Any = 0.2) -> Split:
    """Train on what came before a moment, test on what came from then on.

    Parameters
    ----------
    ratings
        Ratings with a time.
    test
        The moment: a date (string, `datetime`, NumPy or pandas; UTC where it names no zone), Unix seconds, or
        a share between 0 and 1 of the latest ratings. Ratings of one moment stay together, so the share is
        met as nearly as the times allow.

    Raises
    ------
    ParameterError
        If ``test`` is none of these, or one part would be empty.
    DataError
        If there are no ratings, or they have no time.

    Examples
    --------
    >>> ratings = Ratings.from_columns([1, 1, 2], [1, 2, 1], [3, 4, 5], time=[0, 86_400, 172_800])
    >>> by_time(ratings, "1970-01-02")
    Split(by_time from 1970-01-02 00:00:00: 1 train + 2 test)
    >>> by_time(ratings, 0.3)
    Split(by_time 0.3: 2 train + 1 test)
    """
    time = _times(ratings, "split.by_time")
    first, final = int(time.min()), int(time.max())
    if first == final:
        raise ParameterError(f"all ratings have the time {_date(first)}: split.by_time cannot part them")
    if isinstance(test, float | np.floating) and not abs(float(test)) > 1:
        share = _share(test)
        return _part(ratings, time >= _moment_of_share(time, share), f"by_time {share:g}")
    moment: Any = test if is_number(test) else _unix_seconds(test)
    if not first < moment <= final:
        raise ParameterError(
            f"test={test!r} leaves the {'train' if moment <= first else 'test'} part empty: "
            f"the times run from {_date(first)} to {_date(final)}"
        )
    return _part(ratings, time >= moment, f"by_time from {_date(moment)}")


@recorded("hx.split.k_fold")
def k_fold(
    ratings: Ratings, folds: int = 5, *, seed: int = 0, order: Literal["shuffled", "given"] = "shuffled"
) -> Folds:
    """Part the rows into folds of (almost) equal size; each fold is the test part of one split.

    Parameters
    ----------
    ratings
        What to part.
    folds
        How many, 2 .. number of ratings. The first ``n % folds`` folds have one row more.
    seed
        0 .. 2**32 - 1; unused with ``order="given"``.
    order
        ``"shuffled"`` deals the rows as scikit-learn's ``KFold(folds, shuffle=True, random_state=seed)`` and
        Surprise's ``KFold(folds, random_state=seed)`` do, which agree. ``"given"`` takes consecutive blocks
        of rows, as u1 .. u5 of MovieLens 100K are made.

    Returns
    -------
    Folds
        A sequence of `Split`, each cut when it is asked for.

    Raises
    ------
    ParameterError
        If ``folds``, ``seed`` or ``order`` is not allowed.
    DataError
        If there are no ratings.

    Examples
    --------
    >>> ratings = Ratings.from_columns([1, 1, 2, 2, 3], [1, 2, 1, 2, 1], [3, 4, 5, 2, 1])
    >>> list(k_fold(ratings, 2))
    [Split(fold 1 of 2, seed 0: 2 train + 3 test), Split(fold 2 of 2, seed 0: 3 train + 2 test)]
    """
    _refuse_empty(ratings)
    n, seed = len(ratings), _seed(seed)
    folds = whole("folds", folds, 2, n, of="the number of ratings")
    one_of("order", order, ORDERS)
    size = np.full(folds, n // folds)
    size[: n % folds] += 1
    fold = np.repeat(np.arange(folds, dtype=np.min_scalar_type(folds - 1)), size)
    if order == "shuffled":
        dealt = np.empty_like(fold)
        dealt[np.random.RandomState(seed).permutation(n)] = fold
        fold = dealt
    return Folds(ratings, fold, folds, f"seed {seed}" if order == "shuffled" else "in given order")


@recorded("hx.split.official")
def official(source: str | Ratings, fold: int | str | None = None) -> Split:
    """The split that came with a data set.

    Parameters
    ----------
    source
        ``"ml-100k"``, or the name of a folder in ``HATRIX_DATA`` with a ``train.txt`` and a ``test.txt`` in
        LightGCN's layout (a user and then the user's items on each line), such as ``"gowalla"``. Ratings
        loaded by that name will do as well, and are not loaded again.
    fold
        For ``"ml-100k"`` 1 .. 5 (u1 .. u5: consecutive blocks of 20,000 rows) or ``"a"``, ``"b"`` (ten
        ratings of each user; needs ``ua.test``, ``ub.test`` beside ``u.data``). None for the others.

    Raises
    ------
    ParameterError
        If there is no such split.
    DataError
        If the ratings are not those of the data set in its own order, or a file is missing or does not fit.
    """
    if not isinstance(source, str | Ratings):
        raise ParameterError(f"official takes the name of a data set or its Ratings, not {shown(source)}")
    name = source if isinstance(source, str) else source.name
    return _movielens_100k(source, fold) if name == "ml-100k" else _lightgcn(source, name, fold)


_MOVIELENS_100K_ROWS = 1047010132
"""CRC-32 of u.data's user and item columns as int64: the folds are blocks of its order."""


def _movielens_100k(source: str | Ratings, fold: int | str | None) -> Split:
    from hatrix.data import datasets
    from hatrix.data.catalogue import CATALOGUE

    wanted = (str(fold) if isinstance(fold, str | np.integer) else shown(fold)).lower().removeprefix("u")
    if wanted not in ("1", "2", "3", "4", "5", "a", "b"):
        raise ParameterError(f'ml-100k has the folds 1, 2, 3, 4, 5, "a" and "b", not {shown(fold)}')
    ratings = datasets.load("ml-100k") if isinstance(source, str) else source
    ids = np.stack([ratings.users.decode(ratings.user), ratings.items.decode(ratings.item)])
    if ids.dtype == object or zlib.crc32(ids.astype("<i8").tobytes()) != _MOVIELENS_100K_ROWS:
        raise DataError(
            "these are not the 100,000 ratings of ml-100k in the order of its file u.data, which its folds "
            'are made from: use split.official("ml-100k", fold)'
        )
    if wanted not in "ab":
        return _part(ratings, np.arange(len(ratings)) // 20_000 == int(wanted) - 1, f"official u{wanted}")
    path = datasets.get("ml-100k") / f"u{wanted}.test"
    if not path.is_file():
        raise DataError(
            f'fold "{wanted}" of ml-100k is listed in {path.name}, which is not in {path.parent}: unpack '
            f"{CATALOGUE['ml-100k'].url} and set HATRIX_DATA to the folder that then holds ml-100k; "
            "the folds 1 to 5 need no such file"
        )
    try:
        listed = np.loadtxt(path, np.int64, usecols=(0, 1), unpack=True, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    return _listed(ratings, _pairs(ratings, *listed, listed_in=path.name), f"official u{wanted}")


def _lightgcn(source: str | Ratings, name: str, fold: int | str | None) -> Split:
    from hatrix.data import datasets
    from hatrix.data.catalogue import CATALOGUE
    from hatrix.data.layouts import lightgcn_parts

    if fold is not None or (name in CATALOGUE and CATALOGUE[name].layout is not None):
        raise ParameterError(
            f"there is no official split {name!r}{'' if fold is None else f', fold {shown(fold)}'}: there is one "
            'of "ml-100k" with the folds 1 to 5, "a" and "b", and, without folds, of "gowalla" and other '
            "data sets in LightGCN's layout in HATRIX_DATA"
        )
    train, test = lightgcn_parts(datasets.get(name))
    ratings = (
        source
        if isinstance(source, Ratings)
        else Ratings.from_columns(
            np.append(train.user, test.user), np.append(train.item, test.item), name=name
        )
    )
    trained = _pairs(ratings, *train, listed_in="train.txt")
    tested = _pairs(ratings, *test, listed_in="test.txt")
    both = int(np.isin(tested, trained).sum())
    if both:
        raise DataError(
            f"{both:,} pairs of a user and an item are in both train.txt and test.txt of {name}: "
            "a test cannot count what training has shown; take them out of one file"
        )
    return _listed(ratings, tested, f"official {name}")


def _pairs(ratings: Ratings, user_ids: Any, item_ids: Any, *, listed_in: str) -> NDArray[np.int64]:
    """One number for each listed (user, item): user row * items + item row."""
    user, item = ratings.users.encode(user_ids), ratings.items.encode(item_ids)
    unknown = (user < 0) | (item < 0)
    if unknown.any():
        at = int(np.argmax(unknown))
        raise DataError(
            f"{listed_in} and {ratings.name} are not of one data set: {int(unknown.sum()):,} listed pairs "
            f"have an unknown user or item, the first user {user_ids[at]}, item {item_ids[at]}"
        )
    return user * len(ratings.items) + item


def _listed(ratings: Ratings, pairs: NDArray[np.int64], protocol: str) -> Split:
    rows = ratings.user.astype(np.int64) * len(ratings.items) + ratings.item
    return _part(ratings, np.isin(rows, pairs), protocol)


def _part(ratings: Ratings, chosen: NDArray[np.bool_], protocol: str) -> Split:
    if chosen.all() or not chosen.any():
        raise ParameterError(
            f"{protocol} leaves the {'train' if chosen.any() else 'test'} part empty: "
            f"{len(ratings):,} ratings are too few"
        )
    return Split(ratings.take(~chosen), ratings.take(chosen), protocol)


def _chance(seed: int, user: NDArray[np.int32], item: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Return random numbers that depend only on the seed, the user and the item; those of one user all differ."""
    of_user = mix(mix(np.array([seed], np.uint64)) + user.astype(np.uint64))
    found: NDArray[np.uint64] = mix(of_user + item.astype(np.uint64))
    return found


def _rows_by_count(ratings: Ratings, least: int) -> Iterator[NDArray[np.int64]]:
    """The rows of users who have equally many, as (users, count) in the given order; from ``least`` up."""
    start, rows = ratings.by_user
    count = np.diff(start)
    users = np.argsort(count, kind="stable")
    users = users[count[users] >= least]
    sizes, first = np.unique(count[users], return_index=True)
    for size, alike in zip(sizes.tolist(), np.split(users, first[1:]), strict=False):
        yield rows[start[alike][:, None] + np.arange(size)]


def _refuse_empty(ratings: Ratings) -> None:
    if not isinstance(ratings, Ratings):
        raise DataError(f"this is a {type(ratings).__name__}, not Ratings: use Ratings.from_frame, or read")
    if not len(ratings):
        raise DataError("there are no ratings to split")


def _times(ratings: Ratings, protocol: str) -> NDArray[np.int64]:
    _refuse_empty(ratings)
    if ratings.time is None:
        raise DataError(
            f"{protocol} needs to know when each rating was given, and these ratings have no time: "
            "name the time column when reading them, or use split.per_user"
        )
    return ratings.time


def _share(test: Any) -> float:
    if not is_number(test) or not 0 < test < 1:
        raise ParameterError(f"test must be a share between 0 and 1, such as 0.2, not {test!r}")
    return float(test)


def _seed(seed: Any) -> int:
    return whole("seed", seed, 0, 2**32 - 1)


def _moment_of_share(time: NDArray[np.int64], share: float) -> int:
    """The moment from which on the share of ratings is nearest to ``share``, both parts having one."""
    n_test = min(max(round(share * len(time)), 1), len(time) - 1)
    at = np.partition(time, len(time) - n_test)[len(time) - n_test]
    later = time[time > at]
    with_at = len(later) + int(np.count_nonzero(time == at))
    if with_at < len(time) and (not later.size or with_at - n_test <= n_test - len(later)):
        return int(at)
    return int(later.min())


def _unix_seconds(moment: Any) -> int:
    import pandas as pd

    try:
        date = pd.to_datetime(moment, utc=True)
        return int(np.ceil(date.timestamp()))
    except (TypeError, ValueError, AttributeError):
        raise ParameterError(
            'test must be a share between 0 and 1, a date such as "2018-01-31" or Unix seconds, '
            f"not {moment!r}"
        ) from None


def _date(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")
