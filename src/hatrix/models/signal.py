"""Measure how much of a matrix of clicks is more than chance: the number of factors that the data support.

The singular values of the degree-normalised matrix are compared with those of the same clicks dealt at random: each user and
each item keeps its count, and nothing but popularity is left. Directions of the real matrix whose singular values lie among
those of the dealt one are as likely noise as taste. This is Horn's parallel analysis, with a bound on the share of noise.

The spectra are not computed but counted. Lanczos runs from a few random vectors give, by Gauss quadrature, how many singular
values lie above a level, in some ten products with each matrix, whatever the number of factors will be.

Horn, "A rationale and test for the number of factors in factor analysis", Psychometrika 30, 1965. Lin, Saad, Yang,
"Approximating spectral densities of large matrices", SIAM Review 58, 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hatrix.data.ratings import group_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.kernels.sparse import Sparse

    Floats = NDArray[np.float64]

__all__ = ["NO_SIGNAL", "Normalisation", "Signal", "damped", "signal_of"]

STEPS = 12
"""Steps of each Lanczos run; `NARROW` of them run side by side, as columns of one block."""
SHARE = 0.35
"""Up to which share of the directions that count may be noise."""
DEEPEST = 0.3
"""How far below the largest singular value of noise the level of noise is looked for, as a share of it."""
LEVELS = 400
OTHERS = 4
"""How many directions are compared one by one."""
GAP = 1.2
"""How much larger a singular value of the dealt matrix is than the next if it belongs to popularity."""
ROUNDING = 1e-5
"""Below this share of the largest number a Lanczos run has ended: single precision has no more directions."""
MARGIN = 6.0
"""How far chance moves the largest singular value of noise, in units of its scale by Tracy and Widom."""
MOST_CELLS, SPARSE = 1 << 26, 60
"""The largest table of cells for dealing, in all and per pair; sparser matrices have few pairs that are dealt twice."""
MANY, SWAPS, TRIES = 0.1, 4, 16
"""The share of pairs dealt twice that makes a matrix full, the swaps of each pair that mix one, and the tries of a pair."""
NO_SIGNAL = (
    "H010: apart from popularity, the training ratings show no pattern beyond chance, so the model has no factors, and its "
    "lists are those of Popular"
)
"""The note on a fit that found this out."""
SEED = 17
"""Of the Lanczos vectors and of the dealing: the same data give the same numbers, whatever the seed of a fit."""


class Normalisation(NamedTuple):
    """How a matrix of clicks is normalised: each entry over powers of its user's and its item's degree."""

    user_exponent: float = 0.45
    item_exponent: float = 0.5
    offset: float = 10.0


class Signal(NamedTuple):
    """What stands out of chance.

    Attributes
    ----------
    noise
        The singular value above which less than half of the directions are noise.
    factors
        How many directions lie above it; popularity is the first of them.
    helps
        Whether any direction but popularity stands out.
    products
        How many products of a matrix (or its transpose) and `NARROW` columns this took.
    counts
        How many directions lie above each of ``levels``, which fall.
    """

    noise: float
    factors: int
    helps: bool
    products: int
    levels: Floats
    counts: Floats

    def above(self, level: float) -> int:
        """Return how many directions lie above a singular value; popularity is the first of them."""
        return int(np.ceil(np.interp(-level, -self.levels, self.counts)))


class _Spectrum(NamedTuple):
    """Ritz values of each run, largest first, and how many singular values each stands for: shapes (runs, steps)."""

    value: Floats
    mass: Floats
    products: int

    def largest(self, apart: int) -> Floats:
        """Return the largest singular values but the first ``apart``, which are those of popularity."""
        return np.asarray(self.value[:, apart : apart + OTHERS].max(axis=0))

    def beyond(self, level: Floats, apart: int) -> Floats:
        """Return how many singular values but the first ``apart`` are above each level."""
        total = np.zeros(len(level))
        for value, mass in zip(self.value[:, apart:], self.mass[:, apart:], strict=True):
            upto = np.cumsum(mass) - mass / 2
            total += np.interp(-level, -value, upto, left=0.0, right=mass.sum())
        return total / len(self.value)


def damped(degree: Floats, offset: float, exponent: float) -> Floats:
    """Return ``(degree + offset) ** -exponent``, and 0 where the degree is 0."""
    known = degree > 0
    return np.where(known, np.where(known, degree + offset, 1.0) ** -exponent, 0.0)


def _live(row: NDArray[Any], count: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
    """Return the rows numbered without those that have no rating, and how many are left."""
    place = np.cumsum(count > 0) - 1
    return place[row].astype(np.int32), int(np.count_nonzero(count))


def signal_of(
    train: Ratings,
    weight: Floats | None = None,
    how: Normalisation | None = None,
    *,
    most: int,
    threads: int,
) -> Signal:
    """Compare the spectrum of the training ratings with that of the same ratings dealt at random.

    Parameters
    ----------
    train
        The training ratings.
    weight
        The entries of the matrix; by default ones.
    how
        Exponents and offset of the normalisation.
    most
        The largest number of factors to return.
    threads
        Threads to work with; the result does not depend on them.

    Returns
    -------
    Signal
        The result depends on which pairs there are, not on the order of the rows or the labels of ids.
    """
    how = how or Normalisation()
    # Ids without a training rating count for nothing: without them, random numbers fall on the same rows.
    (user, users), (item, items) = (
        _live(train.user, train.user_count),
        _live(train.item, train.item_count),
    )
    shape = users, items
    value = np.ones(len(train)) if weight is None else weight
    order = _sorted(user, item, shape)
    user, item, value = user[order], item[order], value[order]
    user_scale = damped(
        np.bincount(user, value**2, shape[0]).astype(np.float64), how.offset, how.user_exponent
    )
    item_scale = damped(
        np.bincount(item, value**2, shape[1]).astype(np.float64), how.offset, how.item_exponent
    )
    real = _spectrum(user, item, value * user_scale[user] * item_scale[item], shape, threads)
    dealt = _dealt(user, item, shape)
    order = _sorted(user, dealt, shape)
    user, dealt, value = user[order], dealt[order], value[order]
    once = np.append(True, (user[1:] != user[:-1]) | (dealt[1:] != dealt[:-1]))
    user, item, value = user[once], dealt[once], value[once]
    noise = _spectrum(user, item, value * user_scale[user] * item_scale[item], shape, threads)
    products = real.products + noise.products
    sides = int(np.count_nonzero(train.user_count)), int(np.count_nonzero(train.item_count))
    margin = MARGIN * float(min(sides)) ** (-2 / 3)
    # Popularity takes more than one direction where users have nearly all popular items: so it does in the dealt matrix.
    highest = noise.largest(0)
    apart = 1 + int(np.argmax(np.append(highest[1:-1] <= GAP * highest[2:], True)))
    top, chance_top = real.largest(apart), noise.largest(apart)
    grid = np.geomspace(1.0, 1e-3, LEVELS) * max(float(real.value[:, 0].max()), float(highest[0]))
    counts = np.minimum(apart + np.ceil(real.beyond(grid, apart)), min(*sides, most))
    if not (top > np.maximum((1 + margin) * chance_top, 1e-3 * grid[0])).any():
        # A level above the largest of these, and not equal to it, so that rounding does not decide which side it is on.
        highest_noise = 1.001 * float(max(chance_top[0], top[0]))
        return Signal(highest_noise, 1, False, products, grid, counts)
    level = np.geomspace(1.0, DEEPEST, LEVELS) * chance_top[0]
    found, chance = real.beyond(level, apart), noise.beyond(level, apart)
    at = int(np.flatnonzero(np.append(True, (chance <= SHARE * found)[1:]))[-1])
    seen = int(np.sum(real.value[:, apart:] > level[at], axis=1).max())
    factors = min(apart + max(int(np.ceil(found[at])), seen), *sides, most)
    return Signal(float(level[at]), factors, True, products, grid, counts)


def _dealt(user: NDArray[Any], item: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Deal the items to the users at random, and hardly any pair twice, so that users and items keep their counts.

    In a sparse matrix few pairs are dealt twice. Where some are, each of them swaps its item with a random other pair, if
    both users lack what they would get. A matrix so full that many are begins from the pairs that there are, and all of
    them swap, until each has done so `SWAPS` times on average.
    """
    from hatrix.kernels.dealing import count, swap

    rng, n = np.random.default_rng(SEED), len(user)
    dealt, cells = item[rng.permutation(n)], shape[0] * shape[1]
    if cells > MOST_CELLS or cells > SPARSE * n:
        return dealt
    times, key = np.zeros(cells, np.uint8), np.uint64(SEED)
    if count()(user, dealt, times, shape[1]) <= MANY * n:
        swap()(user, dealt, times, shape[1], True, TRIES, n, key)
        return dealt
    dealt, times[:] = item.copy(), 0
    count()(user, dealt, times, shape[1])
    # A swap moves two pairs.
    swap()(user, dealt, times, shape[1], False, TRIES, SWAPS * n // 2, key)
    return dealt


def _spectrum(
    user: NDArray[Any], item: NDArray[Any], entry: Floats, shape: tuple[int, int], threads: int
) -> _Spectrum:
    """Run Lanczos on the smaller side of a matrix whose entries are sorted by user, then by item."""
    from hatrix.kernels import sparse

    unit = float(np.abs(entry).max())
    by_user = _by_rows(user, item, entry / unit, shape[0])
    order = group_rows(item, shape[1]).rows
    by_item = _by_rows(item[order], user[order], entry[order] / unit, shape[1])
    there, back = (by_user, by_item) if shape[1] <= shape[0] else (by_item, by_user)
    size, other = min(shape), max(shape)
    live = np.diff(back.start) > 0
    steps = min(STEPS, int(live.sum()))
    middle, image, vector = (sparse.zeros(rows, sparse.NARROW) for rows in (other, size, size))
    basis = np.zeros((steps + 1, size, sparse.NARROW), np.float32)
    basis[0, live] = _signs(int(live.sum())) / np.sqrt(live.sum())
    diagonal, beside = np.zeros((steps, sparse.NARROW)), np.zeros((steps, sparse.NARROW))
    for step in range(steps):
        vector[:] = basis[step]
        sparse.multiply(there, vector, middle, threads=threads)
        sparse.multiply(back, middle, image, threads=threads)
        # Without this against all vectors so far, directions found would be found again, and counted twice.
        along = np.einsum("snk,nk->sk", basis[: step + 1], image)
        image -= np.einsum("snk,sk->nk", basis[: step + 1], along)
        diagonal[step] = along[step]
        beside[step] = np.sqrt(np.einsum("nk,nk->k", image, image))
        ended = beside[step] <= ROUNDING * np.abs(diagonal[: step + 1]).max(axis=0)
        beside[step, ended] = 0.0
        basis[step + 1] = np.where(ended, 0.0, image / np.where(ended, 1.0, beside[step]))
    values, masses = [], []
    for run in range(sparse.NARROW):
        tridiagonal = np.diag(diagonal[:, run]) + np.diag(beside[:-1, run], 1) + np.diag(beside[:-1, run], -1)
        square, vectors = np.linalg.eigh(tridiagonal)
        values.append(np.sqrt(np.maximum(square[::-1], 0.0)) * unit)
        masses.append(vectors[0, ::-1] ** 2 * live.sum())
    value, mass = (
        np.pad(np.array(rows), ((0, 0), (0, max(0, 3 + OTHERS - steps)))) for rows in (values, masses)
    )
    return _Spectrum(value, mass, 2 * steps)


def _by_rows(row: NDArray[Any], column: NDArray[Any], entry: Floats, rows: int) -> Sparse:
    from hatrix.kernels.sparse import Sparse

    start = np.append(0, np.cumsum(np.bincount(row, minlength=rows))).astype(np.int64)
    return Sparse(start, column.astype(np.uint32), entry.astype(np.float32))


def _signs(rows: int) -> NDArray[np.float32]:
    from hatrix.kernels.sparse import NARROW

    return (np.random.default_rng(SEED).integers(0, 2, (rows, NARROW)) * 2 - 1).astype(np.float32)


def _sorted(user: NDArray[Any], item: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the order of pairs by user, and by item within a user: two sorts by counting."""
    by_item = group_rows(item, shape[1]).rows
    return np.asarray(by_item[group_rows(user[by_item], shape[0]).rows])
