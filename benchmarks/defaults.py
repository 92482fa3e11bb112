"""The default recipe of every algorithm beside the baseline, 20 trials of `tune` and the peers' defaults, on many data sets.

    python benchmarks/defaults.py [--task lists|ratings] [--only NAMES] [--tune 20] [--peers] [--threads 2] [--names]

Each data set is a training part with a validation part: real ones, resampled ones (fewer users, items or ratings, another
unit, another skew) and synthetic ones. Test parts are not looked at: what a fixed split or `PER_USER` leaves for a test is
dropped before anything else. ``--only`` takes names, or their beginnings (``--only ml-1m gowalla``).

A row of the table is a data set, a column a recipe with its default hyper-parameters. The figure of recipes that rank is
NDCG@20 of the validation part. That of recipes that predict ratings is RMSE / deviation: the root mean squared error over
the standard deviation of the ratings there, so that sets of different units compare. ``--tune N`` searches each recipe for N
trials on the training part alone, and measures what was found on the same validation part. ``resolve`` is the processor time
of resolving "auto" as a share of the whole fit, the largest of the recipes. Below the table stand the counts: losses to the
baseline, defaults within 3 % of the tuned recipe, and sets on which the best default is ahead of every peer's default.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import hatrix as hx

PER_USER = partial(hx.split.per_user, test=0.2)
BOARD = Path(os.environ.get("HATRIX_BOARD", "../shared/board"))
WITHIN = 0.03
"""The share by which a default may be worse than the tuned recipe, and still count as close."""
SAME = 1e-3
"""A figure that differs from the baseline's by a smaller share of it counts as the same."""


class Part(NamedTuple):
    """A data set of the collection: ratings to train on, and others of the same ids to validate on."""

    name: str
    train: hx.Ratings
    valid: hx.Ratings


class Peer(NamedTuple):
    """A model of another library with its defaults: its figure on a part, smaller or larger as the task's own figure is."""

    name: str
    measure: Callable[[Part, int], float]


class Task(NamedTuple):
    """What is compared on a task: default recipes, their baseline, the data, the figure and the peers."""

    recipes: dict[str, hx.Algorithm]
    baseline: hx.Algorithm
    figure: str
    sign: float
    """1 if a larger figure is better, -1 if a smaller one is."""
    sets: dict[str, Callable[[], Part]]
    measure: Callable[[hx.FactorModel, hx.Ratings], float]
    peers: Callable[[], list[Peer]]


# Real data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def training_part(name: str) -> hx.Ratings:
    """Return the training ratings of a named data set; its test part is dropped here."""
    ratings = hx.datasets.load(name)
    return hx.split.official(name).train if name == "gowalla" else PER_USER(ratings, seed=42).train


def lines_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of a file whose lines are a user, then the user's items."""
    rows = [np.array(line.split(), np.int64) for line in path.read_text().splitlines()]
    return np.repeat(
        [row[0] for row in rows if len(row)], [len(row) - 1 for row in rows if len(row)]
    ), np.concatenate([row[1:] for row in rows])


def of_pairs(*parts: tuple[np.ndarray, np.ndarray], name: str) -> list[hx.Ratings]:
    """Return clicks from pairs of users and items that share their ids; later parts leave out pairs of earlier ones."""
    user, item = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    part = np.repeat(np.arange(len(parts)), [len(users) for users, _ in parts])
    _, first = np.unique(np.stack([user, item]), axis=1, return_index=True)
    kept = np.zeros(len(user), bool)
    kept[first] = True
    ratings = hx.Ratings.from_columns(user[kept], item[kept], name=name)
    return [ratings.take(part[kept] == number) for number in range(len(parts))]


def board(folder: str) -> Part:
    """Return a fixed split of the board: its validation part, or a fifth of each user's training items where it has none."""
    place = BOARD / folder
    if (place / "valid.txt").exists():
        train, valid = of_pairs(lines_of(place / "train.txt"), lines_of(place / "valid.txt"), name=folder)
        return Part(folder, train, valid)
    return halves(folder, board_training(folder))


@lru_cache(maxsize=2)
def board_training(folder: str) -> hx.Ratings:
    """Return the training ratings of a fixed split that comes as tables; clicks, whatever the values."""
    place = BOARD / folder
    if (place / "train.txt").exists():
        return of_pairs(lines_of(place / "train.txt"), name=folder)[0]
    rows = np.loadtxt(place / "train.tsv", np.int64, skiprows=int(folder.startswith("ir-")), usecols=(0, 1))
    return of_pairs((rows[:, 0], rows[:, 1]), name=folder)[0]


def halves(name: str, ratings: hx.Ratings) -> Part:
    """Return ratings with a fifth of each user's held out for validation, or a fifth of all where users have too few."""
    few = np.median(ratings.user_count) < 3
    split = hx.split.random(ratings, 0.2, seed=0) if few else PER_USER(ratings, seed=0)
    return Part(name, split.train, split.test)


# Resampled data -------------------------------------------------------------------------------------------------------


def anew(ratings: hx.Ratings, kept: np.ndarray, value: np.ndarray | None = None) -> hx.Ratings:
    """Return some ratings, whose users and items are all there are, with other values if they are given.

    Clicks stay clicks, and become ratings with values.
    """
    values = None if ratings.implicit else ratings.value
    if value is not None:
        values = value
    return hx.Ratings.from_columns(
        ratings.users.decode(ratings.user[kept]),
        ratings.items.decode(ratings.item[kept]),
        None if values is None else values[kept],
        name=ratings.name,
    )


def some_rows(ratings: hx.Ratings, share: float) -> hx.Ratings:
    """Return a share of the ratings, drawn at random."""
    return anew(ratings, np.random.default_rng(1).random(len(ratings)) < share)


def some_users(ratings: hx.Ratings, count: int) -> hx.Ratings:
    """Return the ratings of some users, drawn at random."""
    users = np.random.default_rng(2).permutation(np.flatnonzero(ratings.user_count))[:count]
    return anew(ratings, np.isin(ratings.user, users))


def some_items(ratings: hx.Ratings, count: int) -> hx.Ratings:
    """Return the ratings of some items, drawn at random."""
    items = np.random.default_rng(3).permutation(np.flatnonzero(ratings.item_count))[:count]
    return anew(ratings, np.isin(ratings.item, items))


def few_each(ratings: hx.Ratings, count: int) -> hx.Ratings:
    """Return so many ratings of each user, drawn at random."""
    mixed = np.random.default_rng(4).permutation(len(ratings))
    order = mixed[np.argsort(ratings.user[mixed], kind="stable")]
    start = np.concatenate([[0], np.cumsum(ratings.user_count)])[ratings.user[order]]
    kept = np.zeros(len(ratings), bool)
    kept[order[np.arange(len(ratings)) - start < count]] = True
    return anew(ratings, kept)


def core(ratings: hx.Ratings, users: int, items: int) -> hx.Ratings:
    """Return the dense corner: ratings of the most active users for the most popular items."""
    active = np.argsort(-ratings.user_count, kind="stable")[:users]
    popular = np.argsort(-ratings.item_count, kind="stable")[:items]
    return anew(ratings, np.isin(ratings.user, active) & np.isin(ratings.item, popular))


def tail(ratings: hx.Ratings, items: int) -> hx.Ratings:
    """Return the ratings without those of so many most popular items: the skew is less."""
    popular = np.argsort(-ratings.item_count, kind="stable")[:items]
    return anew(ratings, ~np.isin(ratings.item, popular))


def skewed(ratings: hx.Ratings, share: float) -> hx.Ratings:
    """Return a share of the ratings, the likelier the more popular the item is: the skew is more."""
    wanted = ratings.item_count[ratings.item] ** 1.0
    chance = np.minimum(1, wanted / wanted.mean() * share)
    return anew(ratings, np.random.default_rng(5).random(len(ratings)) < chance)


def in_unit(ratings: hx.Ratings, factor: float, shift: float) -> hx.Ratings:
    """Return the ratings times a factor, plus a constant."""
    return anew(ratings, np.ones(len(ratings), bool), ratings.value * factor + shift)


def two_valued(ratings: hx.Ratings) -> hx.Ratings:
    """Return 2 for the ratings above the mean, and 1 for the others."""
    return anew(ratings, np.ones(len(ratings), bool), 1.0 + (ratings.value > ratings.mean))


# Synthetic data -------------------------------------------------------------------------------------------------------


def made(users: int, items: int, **how: object) -> hx.Ratings:
    """Return made-up ratings or clicks."""
    return hx.synthetic.make(users, items, seed=7, **how)[0]


def clustered(users: int, items: int, groups: int, each: int) -> hx.Ratings:
    """Return clicks of users who take items of their own group alone, all alike."""
    rng = np.random.default_rng(8)
    size = items // groups
    item = np.concatenate([rng.permutation(size)[:each] + size * (user % groups) for user in range(users)])
    return hx.Ratings.from_columns(np.repeat(np.arange(users), each), item, name="clustered")


# The collection -------------------------------------------------------------------------------------------------------

NAMED = ("ml-100k", "ml-1m", "ml-latest-small")
RESAMPLED: dict[str, tuple[str, Callable[[hx.Ratings], hx.Ratings]]] = {
    "ml-100k, 20 % of the ratings": ("ml-100k", lambda r: some_rows(r, 0.2)),
    "ml-100k, 300 items": ("ml-100k", lambda r: some_items(r, 300)),
    "ml-100k, 10 a user": ("ml-100k", lambda r: few_each(r, 10)),
    "ml-100k, times 25 plus 3": ("ml-100k", lambda r: in_unit(r, 25, 3)),
    "ml-latest-small, 30 % of the ratings": ("ml-latest-small", lambda r: some_rows(r, 0.3)),
    "ml-latest-small, without 300 popular items": ("ml-latest-small", lambda r: tail(r, 300)),
    "ml-1m, 500 users": ("ml-1m", lambda r: some_users(r, 500)),
    "ml-1m, 10 % of the ratings": ("ml-1m", lambda r: some_rows(r, 0.1)),
    "ml-1m, 2 % of the ratings": ("ml-1m", lambda r: some_rows(r, 0.02)),
    "ml-1m, 1000 users x 500 items": ("ml-1m", lambda r: core(r, 1000, 500)),
    "ml-1m, without 300 popular items": ("ml-1m", lambda r: tail(r, 300)),
    "ml-1m, skewed": ("ml-1m", lambda r: skewed(r, 0.3)),
    "ml-1m, two values": ("ml-1m", two_valued),
}
FOR_LISTS: dict[str, tuple[str, Callable[[hx.Ratings], hx.Ratings]]] = {
    "gowalla, 3000 users": ("gowalla", lambda r: some_users(r, 3000)),
    "gowalla, 30 % of the clicks": ("gowalla", lambda r: some_rows(r, 0.3)),
    "gowalla, 3000 users x 2000 items": ("gowalla", lambda r: core(r, 3000, 2000)),
    "gowalla, without 1000 popular items": ("gowalla", lambda r: tail(r, 1000)),
    "lastfm, skewed": ("lightgcnpp/lastfm", lambda r: skewed(r, 0.3)),
    "lastfm, 2 a user": ("lightgcnpp/lastfm", lambda r: few_each(r, 2)),
    "epinions, 40 % of the clicks": ("epinions/0", lambda r: some_rows(r, 0.4)),
    "epinions, 1000 users x 1000 items": ("epinions/0", lambda r: core(r, 1000, 1000)),
    "electronic, 3000 users x 1000 items": (
        "ir-benchmark/amazon2014-electronic",
        lambda r: core(r, 3000, 1000),
    ),
}
BOARDS = (
    "lightgcnpp/lastfm", "lightgcnpp/ml-1m", "lightgcnpp/gowalla", "ir-benchmark/movielens-100k",
    "ir-benchmark/amazon2014-electronic", "epinions/0",
)  # fmt: skip
CLICKS: dict[str, Callable[[], hx.Ratings]] = {
    "made: 50 users": lambda: made(50, 80, n_ratings=600, implicit=True),
    "made: 2 a user": lambda: few_each(made(3000, 500, n_ratings=30_000, implicit=True), 2),
    "made: dense": lambda: made(300, 120, n_ratings=15_000, implicit=True),
    "made: skewed": lambda: made(1500, 600, n_ratings=30_000, skew=2.5, implicit=True),
    "made: no skew": lambda: made(1500, 600, n_ratings=30_000, skew=0.0, implicit=True),
    "made: popularity alone": lambda: made(1500, 600, n_ratings=20_000, factors=0, implicit=True),
    "made: chance alone": lambda: made(800, 300, n_ratings=8_000, factors=0, skew=0.0, implicit=True),
    "made: constant": lambda: in_unit(made(600, 300, n_ratings=12_000, implicit=True), 0.0, 3.0),
    "made: values 0 to 100, chosen by popularity": lambda: in_unit(
        made(600, 300, n_ratings=12_000, scale=(0.0, 99.0), step=None), 1.0, 1.0
    ),
    "made: two values, chosen by popularity": lambda: two_valued(made(600, 300, n_ratings=12_000)),
    "made: 40 groups": lambda: clustered(2000, 2000, 40, 12),
}


def source(name: str) -> hx.Ratings:
    """Return the training ratings that a resampled set is drawn from."""
    return board_training(name) if "/" in name else training_part(name)


def _resampled(
    sets: dict[str, tuple[str, Callable[[hx.Ratings], hx.Ratings]]],
) -> dict[str, Callable[[], Part]]:
    def part(name: str, of: str, draw: Callable[[hx.Ratings], hx.Ratings]) -> Part:
        return halves(name, draw(source(of)))

    return {name: partial(part, name, of, draw) for name, (of, draw) in sets.items()}


def collection(task: str, names: Sequence[str] = ()) -> Iterator[Part]:
    """Yield the data sets of a task; with names, those that begin with one of them."""
    for name, make in TASKS[task].sets.items():
        if not names or name.startswith(tuple(names)):
            yield make()


# Lists ----------------------------------------------------------------------------------------------------------------


def ndcg(model: hx.FactorModel, valid: hx.Ratings) -> float:
    """Return NDCG@20 of the validation part, all items ranked but those of the training part."""
    return float(hx.evaluate_ranking(model, valid, k=20, bootstrap=1).ndcg)


def of_lists(lists: np.ndarray, part: Part) -> float:
    """Return NDCG@20 of lists of item rows, one for each user of the validation part, as `ndcg` measures it."""
    known = (part.train.item_count > 0)[part.valid.item] & (part.train.user_count > 0)[part.valid.user]
    users, owner = np.unique(part.valid.user[known], return_inverse=True)
    gain, discount = np.zeros(len(users)), 1 / np.log2(np.arange(20) + 2)
    pairs = set(zip(owner.tolist(), part.valid.item[known].tolist(), strict=True))
    for row in range(len(users)):
        gain[row] = sum(
            discount[place] for place, item in enumerate(lists[row].tolist()) if (row, item) in pairs
        )
    ideal = np.cumsum(discount)[np.minimum(np.bincount(owner), 20) - 1]
    return float(np.mean(gain / ideal))


def _matrix(part: Part) -> tuple[object, np.ndarray]:
    """Return the training part as a matrix of ones, and the users of the validation part."""
    from scipy.sparse import csr_matrix

    train, valid = part.train, part.valid
    shape = len(train.users), len(train.items)
    known = (train.item_count > 0)[valid.item] & (train.user_count > 0)[valid.user]
    return csr_matrix((np.ones(len(train)), (train.user, train.item)), shape), np.unique(valid.user[known])


def _of_implicit(make: Callable[[int], object], part: Part, threads: int) -> float:
    seen, users = _matrix(part)
    model = make(threads)
    model.fit(seen.astype(np.float32), show_progress=False)
    found = model.recommend(users, seen[users].astype(np.float32), N=20)[0]
    return of_lists(found, part)


def _of_irspack(make: Callable[[object, int], object], part: Part, threads: int) -> float:
    seen, users = _matrix(part)
    with contextlib.redirect_stdout(io.StringIO()):  # it draws progress bars there
        model = make(seen, threads).learn()
    lists = []
    for first in range(0, len(users), 1000):
        score = model.get_score_remove_seen(users[first : first + 1000])
        lists.append(np.argsort(-score, axis=1, kind="stable")[:, :20])
    return of_lists(np.concatenate(lists), part)


def list_peers() -> list[Peer]:
    """Return the peers' factor models that are installed; say which are not."""
    found = []
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from implicit.cpu.lmf import LogisticMatrixFactorization

        models = {
            "implicit ALS": AlternatingLeastSquares,
            "implicit BPR": BayesianPersonalizedRanking,
            "implicit LMF": LogisticMatrixFactorization,
        }
        found += [
            Peer(
                name,
                partial(
                    _of_implicit, lambda threads, model=model: model(num_threads=threads, random_state=0)
                ),
            )
            for name, model in models.items()
        ]
    except ImportError as error:
        print(f"without implicit: {error}")
    try:
        from irspack.recommenders import IALSRecommender, RP3betaRecommender

        found.append(
            Peer(
                "irspack iALS",
                partial(_of_irspack, lambda seen, threads: IALSRecommender(seen, n_threads=threads)),
            )
        )
        found.append(
            Peer(
                "irspack RP3beta",
                partial(_of_irspack, lambda seen, threads: RP3betaRecommender(seen, n_threads=threads)),
            )
        )
    except ImportError as error:
        print(f"without irspack: {error}")
    return found


LISTS = Task(
    recipes={"spectral": hx.SpectralMF(), "als": hx.ImplicitALS(), "bpr": hx.BPR()},
    baseline=hx.Popular(),
    figure="NDCG@20",
    sign=1.0,
    sets={name: partial(lambda name: halves(name, training_part(name)), name) for name in (*NAMED, "gowalla")}
    | {name: partial(board, name) for name in BOARDS}
    | _resampled(RESAMPLED)
    | _resampled(FOR_LISTS)
    | {name: partial(lambda name, make: halves(name, make()), name, make) for name, make in CLICKS.items()},
    measure=ndcg,
    peers=list_peers,
)


# Ratings --------------------------------------------------------------------------------------------------------------

NEAR_ZERO = 1e-9
"""A smaller deviation of the ratings is that of rounding: they are all alike."""


def relative_rmse(model: hx.FactorModel, valid: hx.Ratings) -> float:
    """Return the RMSE on the validation part, predictions clipped to the scale, over the deviation of its ratings."""
    deviation = float(np.std(valid.value))
    return float(hx.evaluate(model, valid, bootstrap=1).rmse) / (deviation if deviation > NEAR_ZERO else 1.0)


def structured(
    users: int, items: int, n: int, strength: float, *, noise: float = 0.5, scale: float = 1.0
) -> hx.Ratings:
    """Return ratings without rounding: biases, two factors whose product has so large a deviation, and noise."""
    rng = np.random.default_rng(9)
    user, item = np.divmod(rng.choice(users * items, n, replace=False), items)
    P, Q = rng.normal(size=(users, 2)), rng.normal(size=(items, 2))
    level = 0.4 * rng.normal(size=users)[user] + 0.6 * rng.normal(size=items)[item]
    product = (P[user] * Q[item]).sum(axis=1) * strength / 2**0.5
    return hx.Ratings.from_columns(user, item, scale * (3 + level + product + noise * rng.normal(size=n)))


def noise_only(users: int, items: int, n: int) -> hx.Ratings:
    """Return stars that depend on neither user nor item."""
    rng = np.random.default_rng(10)
    user, item = np.divmod(rng.choice(users * items, n, replace=False), items)
    return hx.Ratings.from_columns(user, item, rng.integers(1, 6, n).astype(float), name="noise only")


FOR_RATINGS: dict[str, tuple[str, Callable[[hx.Ratings], hx.Ratings]]] = {
    "ml-100k, 5 % of the ratings": ("ml-100k", lambda r: some_rows(r, 0.05)),
    "ml-100k, 2 a user": ("ml-100k", lambda r: few_each(r, 2)),
    "ml-100k, skewed": ("ml-100k", lambda r: skewed(r, 0.3)),
    "ml-latest-small, 300 users": ("ml-latest-small", lambda r: some_users(r, 300)),
    "ml-1m, 2 a user": ("ml-1m", lambda r: few_each(r, 2)),
    "ml-1m, 300 items": ("ml-1m", lambda r: some_items(r, 300)),
    "ml-1m, times 25 plus 3": ("ml-1m", lambda r: in_unit(some_rows(r, 0.3), 25, 3)),
}
STARS: dict[str, Callable[[], hx.Ratings]] = {
    "made: 50 users": lambda: made(50, 80, n_ratings=600),
    "made: sparse": lambda: made(3000, 1500, n_ratings=15_000),
    "made: 2 a user": lambda: few_each(made(3000, 500, n_ratings=30_000), 2),
    "made: dense": lambda: made(300, 120, n_ratings=15_000),
    "made: skewed": lambda: made(1500, 600, n_ratings=30_000, skew=2.5),
    "made: no skew": lambda: made(1500, 600, n_ratings=30_000, skew=0.0),
    "made: biases alone": lambda: made(1500, 600, n_ratings=20_000, factors=0),
    "made: noise alone": lambda: noise_only(1500, 600, 20_000),
    "made: constant": lambda: in_unit(made(600, 300, n_ratings=12_000), 0.0, 3.0),
    "made: two values": lambda: two_valued(made(600, 300, n_ratings=12_000)),
    "made: values 0 to 100": lambda: made(
        600, 300, n_ratings=12_000, scale=(0.0, 100.0), step=None, noise=12.0
    ),
    "made: one strong factor": lambda: made(800, 400, n_ratings=24_000, factors=1),
    "made: two factors, no rounding": lambda: structured(600, 400, 20_000, 1.0),
    "made: faint factors": lambda: structured(600, 400, 20_000, 0.25, scale=1000.0),
}


def of_ratings(predicted: np.ndarray, part: Part) -> float:
    """Return the RMSE of predictions for the validation part as `relative_rmse` measures it."""
    valid = part.valid
    low, high = part.train.scale or (-np.inf, np.inf)
    deviation = float(np.std(valid.value))
    error = float(np.sqrt(np.mean((np.clip(predicted, low, high) - valid.value) ** 2)))
    return error / (deviation if deviation > NEAR_ZERO else 1.0)


def _of_surprise(make: Callable[[], object], part: Part, threads: int) -> float:  # noqa: ARG001
    import pandas as pd
    import surprise

    train, valid = part.train, part.valid
    frame = pd.DataFrame({"user": train.user, "item": train.item, "rating": train.value})
    reader = surprise.Reader(rating_scale=train.scale)
    model = make().fit(surprise.Dataset.load_from_df(frame, reader).build_full_trainset())
    pairs = zip(valid.user.tolist(), valid.item.tolist(), strict=True)
    return of_ratings(np.array([model.predict(user, item).est for user, item in pairs]), part)


def _of_myfm(part: Part, threads: int) -> float:  # noqa: ARG001
    import myfm
    from scipy.sparse import csr_matrix, hstack

    def features(ratings: hx.Ratings) -> object:
        rows, ones = np.arange(len(ratings)), np.ones(len(ratings))
        sides = ((ratings.user, len(ratings.users)), (ratings.item, len(ratings.items)))
        return hstack([csr_matrix((ones, (rows, row)), (len(rows), n)) for row, n in sides], format="csr")

    groups = [len(part.train.users), len(part.train.items)]
    model = myfm.MyFMRegressor(rank=10, random_seed=0)
    with contextlib.redirect_stderr(io.StringIO()):  # it draws progress bars there
        model.fit(features(part.train), part.train.value, group_shapes=groups)
    return of_ratings(model.predict(features(part.valid)), part)


def rating_peers() -> list[Peer]:
    """Return the peers' models of ratings that are installed; say which are not. myFM has no default rank: it gets 10."""
    found = []
    try:
        import surprise

        found.append(
            Peer("Surprise baseline", partial(_of_surprise, lambda: surprise.BaselineOnly(verbose=False)))
        )
        found.append(Peer("Surprise SVD", partial(_of_surprise, lambda: surprise.SVD(random_state=0))))
    except ImportError as error:
        print(f"without Surprise: {error}")
    try:
        import myfm  # noqa: F401

        found.append(Peer("myFM", _of_myfm))
    except ImportError as error:
        print(f"without myFM: {error}")
    return found


RATINGS = Task(
    recipes={
        "biased-mf": hx.BiasedMF(),
        "svdpp": hx.SVDpp(),
        "als": hx.ALS(),
        "bayesian": hx.BayesianMF(),
    },
    baseline=hx.Bias(),
    figure="RMSE / deviation",
    sign=-1.0,
    sets={name: partial(lambda name: halves(name, training_part(name)), name) for name in NAMED}
    | _resampled(RESAMPLED)
    | _resampled(FOR_RATINGS)
    | {name: partial(lambda name, make: halves(name, make()), name, make) for name, make in STARS.items()},
    measure=relative_rmse,
    peers=rating_peers,
)
TASKS = {"lists": LISTS, "ratings": RATINGS}


# The table ------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What was measured on a part: the figure of each column, and the largest share of a fit that resolving took."""

    name: str
    baseline: float
    defaults: dict[str, float]
    tuned: dict[str, float]
    peers: dict[str, float]
    resolving: float


def fitted(recipe: hx.Algorithm, part: Part, threads: int) -> tuple[hx.FactorModel, float]:
    """Return the model and the share of its processor time that went into resolving "auto"."""
    begin = time.process_time()
    numbers = recipe.resolved(part.train)
    resolving = time.process_time() - begin
    begin = time.process_time()
    model = numbers.fit(part.train, seed=1, threads=threads, progress=False)
    return model, resolving / max(resolving + time.process_time() - begin, 1e-9)


def measured(task: Task, part: Part, peers: list[Peer], *, trials: int, threads: int) -> Row:
    """Return a row of the table."""
    defaults, tuned, resolving = {}, {}, 0.0
    for name, recipe in task.recipes.items():
        model, share = fitted(recipe, part, threads)
        defaults[name], resolving = task.measure(model, part.valid), max(share, resolving)
        if trials:
            found = hx.tune(recipe, part.train, trials=trials, threads=threads, progress=False)
            tuned[name] = task.measure(found.model, part.valid)
    baseline = task.measure(task.baseline.fit(part.train, threads=threads, progress=False), part.valid)
    theirs = {}
    for peer in peers:
        try:
            theirs[peer.name] = peer.measure(part, threads)
        except Exception as error:  # a peer that cannot take a data set is no reason to end
            print(f"{peer.name} on {part.name}: {type(error).__name__}: {error}")
            theirs[peer.name] = float("nan")
    return Row(part.name, baseline, defaults, tuned, theirs, resolving)


def summary(task: Task, rows: list[Row]) -> Iterator[str]:
    """Yield the counts below the table."""
    sign = task.sign
    for name in task.recipes:
        lost = [row for row in rows if sign * (row.defaults[name] - row.baseline) < -SAME * row.baseline]
        most = max((abs(row.defaults[name] / row.baseline - 1) for row in lost), default=0.0)
        named = f", by at most {most:.1%}: {'; '.join(row.name for row in lost)}" if lost else ""
        yield f"{name}: worse than {task.baseline.name} by more than {SAME:.1%} on {len(lost)} of {len(rows)} sets{named}"
        if rows[0].tuned:
            far = [row.name for row in rows if _is_far(row.defaults[name], row.tuned[name], sign)]
            near = f"within {WITHIN:.0%} of the tuned recipe on {len(rows) - len(far)} of {len(rows)}"
            yield f"{name}: {near}; not on {'; '.join(far)}"
    if rows[0].peers:
        behind = [row.name for row in rows if not _is_ahead(row, sign)]
        ahead = f"best default ahead of every peer's default on {len(rows) - len(behind)} of {len(rows)}"
        yield f"{ahead}; not on {'; '.join(behind)}"
    yield f"resolving: at most {max(row.resolving for row in rows):.0%} of a fit"


def _is_far(default: float, tuned: float, sign: float) -> bool:
    return sign * (tuned - default) > WITHIN * abs(tuned)


def _is_ahead(row: Row, sign: float) -> bool:
    return max(sign * value for value in row.defaults.values()) >= np.nanmax(
        [sign * value for value in row.peers.values()]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=TASKS, default="lists")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--recipes", nargs="*", default=None)
    parser.add_argument("--tune", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--names", action="store_true", help="print the names of the data sets, and end")
    options = parser.parse_args()
    task = TASKS[options.task]
    if options.names:
        print("\n".join(task.sets))
        return
    if options.recipes is not None:
        task = task._replace(recipes={name: task.recipes[name] for name in options.recipes})
    warnings.simplefilter("ignore")
    peers = task.peers() if options.peers else []
    titles = [task.baseline.name, *task.recipes]
    titles += [f"{name} tuned" for name in task.recipes] if options.tune else []
    titles += [peer.name for peer in peers]
    print(f"{task.figure} of validation parts, {options.threads} threads")
    print("  ".join([f"{'data':44} {'ratings':>9}  {'users':>6}  {'items':>6}", *titles, "resolve"]))
    rows = []
    small, _ = hx.synthetic.make(200, 100, n_ratings=4000, implicit=task.baseline.task == "ranking")
    for recipe in task.recipes.values():  # compiles, or loads what was compiled
        recipe.fit(small, threads=options.threads, progress=False)
    for part in collection(options.task, options.only):
        row = measured(task, part, peers, trials=options.tune, threads=options.threads)
        rows.append(row)
        numbers = [row.baseline, *row.defaults.values(), *row.tuned.values(), *row.peers.values()]
        cells = [f"{number:{len(title)}.4f}" for title, number in zip(titles, numbers, strict=True)]
        size = f"{len(part.train):9,}  {len(part.train.users):6}  {len(part.train.items):6}"
        print("  ".join([f"{row.name:44} {size}", *cells, f"{row.resolving:7.0%}"]), flush=True)
    for line in summary(task, rows):
        print(line)


if __name__ == "__main__":
    main()
