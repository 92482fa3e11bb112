"""What a fit learns: factor matrices and biases, and the extras that some models have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.bags import BagRows
    from hatrix.models.days import UserDays

__all__ = ["LARGEST", "LARGEST_FACTOR", "NO_PARTS", "Factors", "Posterior", "TimeBlock", "are_bounded"]

LARGEST = 1e33
"""Largest absolute bias, mean or noise: ten times the largest rating (`hatrix.data.ratings.LARGEST`)."""
LARGEST_FACTOR = 1e17
"""Largest absolute factor: the product of two vectors of thousands of these fits into float32."""

PAIRS_AT_ONCE, NUMBERS_AT_ONCE = 1 << 16, 1 << 24
USER, ITEM = 0, 1
NO_PARTS: Mapping[str, Any] = MappingProxyType({})


class TimeBlock(NamedTuple):
    """What depends on the time of a rating: bin t, from ``edges[t]`` to ``edges[t + 1]``, adds ``bias[t]`` and
    ``(user_factors[u] + item_factors[i]) · factors[t]`` to the score."""

    edges: NDArray[np.float64]
    bias: NDArray[Any]
    factors: NDArray[Any]

    def bins(self, times: NDArray[Any] | None) -> NDArray[np.int64] | int:
        """The bin of each time (the nearest for one outside); the last bin for None."""
        last = len(self.bias) - 1
        if times is None:
            return last
        return np.asarray(np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, last))


class Posterior(NamedTuple):
    """What belongs to each of S posterior draws besides its biases and factors, which stand side by side.

    ``noise`` is the standard deviation of a rating around its score, which for user u is ``user_spread[u]`` times that
    (shape (n_users + 1, S), the last row for users not among them), unless that array is empty. ``cuts``, shape
    (S, L - 1), are the cut points of an ordered probit on the L ``levels`` of the ratings, or empty; without them, the
    levels are those that occur, if they are few. The rows ``user_prior`` and ``item_prior``, shape (S, k + 1), factors and
    then bias, stand for an unknown user or item, whose own row is normal around that with the ``precision``, shape
    (S, k + 1, k + 1). ``calibration`` holds, in order, the level at which each held-out rating was just inside its
    interval, or nothing. ``nominal`` holds the same for ratings drawn from the posterior itself, of an ordered probit: its
    ratings are few and lie apart, so that an interval between them covers more than its level says.
    """

    noise: NDArray[np.float64]
    user_spread: NDArray[Any]
    cuts: NDArray[np.float64]
    levels: NDArray[np.float64]
    user_prior: NDArray[Any]
    item_prior: NDArray[Any]
    user_precision: NDArray[np.float64]
    item_precision: NDArray[np.float64]
    calibration: NDArray[np.float64]
    nominal: NDArray[np.float64] = np.zeros(0)

    def level(self, wanted: float) -> float:
        """The nominal level that covers a share ``wanted`` of ratings, as far as held-out ones or the posterior told."""
        needed = self.calibration if len(self.calibration) else self.nominal
        n = len(needed)
        if not n:
            return wanted
        place = int(np.ceil((n + 1) * wanted - 1e-9))
        return float(needed[place - 1]) if place <= n else 1.0


class Factors(NamedTuple):
    """What is learned: ``mean + user_bias[u] + item_bias[i] + user_factors[u] · item_factors[i]``.

    With a posterior of S draws, biases have shape (n, S) and factors (n, S·k), and the score is the mean over draws.
    ``parts`` holds named arrays, and ``bags`` the rows of a posterior's further fields, that only the recipe's own fold-in
    of new users and items reads.
    """

    mean: float
    user_bias: NDArray[Any]
    item_bias: NDArray[Any]
    user_factors: NDArray[Any]
    item_factors: NDArray[Any]
    parts: Mapping[str, NDArray[Any]] = NO_PARTS
    time: TimeBlock | None = None
    posterior: Posterior | None = None
    days: UserDays | None = None
    bags: tuple[BagRows, ...] | None = None

    def score(
        self, user: NDArray[Any], item: NDArray[Any], times: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Scores of pairs of row numbers, in blocks so that memory stays bounded."""
        if self.time is not None or self.posterior is not None:
            return self.over_draws(user, item, times, lambda scores: scores.mean(axis=1))
        scores = np.empty(len(user))
        for start in range(0, len(user), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            u, i = user[part], item[part]
            scores[part] = np.einsum("nk,nk->n", self.user_factors[u], self.item_factors[i])
            scores[part] += self.mean + self.user_bias[u] + self.item_bias[i]
        return scores

    def over_draws(
        self,
        user: NDArray[Any],
        item: NDArray[Any],
        times: NDArray[Any] | None,
        reduce: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Apply ``reduce`` to the scores of pairs by draw, shape (pairs, S), in blocks; -1 is an unknown row."""
        return np.concatenate([reduce(scores) for _, scores in self.by_draw(user, item, times)])

    def by_draw(
        self, user: NDArray[Any], item: NDArray[Any], times: NDArray[Any] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The scores of pairs by draw, shape (pairs, S), in blocks so that memory stays bounded."""
        from hatrix.kernels import draws

        user, item = np.asarray(user, np.int64), np.asarray(item, np.int64)
        sides = [(self.user_bias, self.user_factors), (self.item_bias, self.item_factors)]
        count = self.user_bias.shape[1] if self.user_bias.ndim == 2 else 1
        if self.posterior is not None and min(user.min(initial=0), item.min(initial=0)) < 0:
            # An unknown row is one more, which -1 points to.
            priors = self.posterior.user_prior, self.posterior.item_prior
            sides = [
                (np.vstack([bias, prior[:, -1]]), np.vstack([rows, prior[:, :-1].reshape(1, -1)]))
                for (bias, rows), prior in zip(sides, priors, strict=True)
            ]
        biases = sides[USER][0].reshape(-1, count), sides[ITEM][0].reshape(-1, count)
        rows = sides[USER][1], sides[ITEM][1]
        u, i = user % len(rows[USER]), item % len(rows[ITEM])
        at_once = max(1, NUMBERS_AT_ONCE // max(1, count))
        for start in range(0, max(1, len(user)), at_once):
            part, time = slice(start, start + at_once), None
            then = None if times is None else times[part]
            if self.time is not None:
                bins = np.broadcast_to(np.asarray(self.time.bins(then), np.int64), u[part].shape)
                time = bins, self.time.bias.reshape(-1, count), self.time.factors
            scores = draws.scores(u[part], i[part], rows, biases, self.mean, time)
            if self.days is not None:
                day = self.days.find(user[part], then)
                scores[day >= 0] += self.days.bias[day[day >= 0]]
            yield part, scores

    def rows(self, side: int, row: NDArray[Any], draws: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Biases (n, S) and factors (n, S, k) of some rows."""
        bias, factors = (
            (self.user_bias, self.user_factors) if side == USER else (self.item_bias, self.item_factors)
        )
        b = bias[row].reshape(len(row), draws)
        f = factors[row].reshape(len(row), draws, -1)
        if self.posterior is not None and (row < 0).any():
            prior = self.posterior.user_prior if side == USER else self.posterior.item_prior
            b, f = b.copy(), f.copy()
            b[row < 0], f[row < 0] = prior[:, -1], prior[:, :-1]
        return b, f

    def flat(self) -> Factors:
        """The same score from one vector of biases and one matrix of factors a side, at the latest time."""
        if self.time is None and self.user_bias.ndim == 1:
            return self
        draws = self.user_bias.shape[1] if self.user_bias.ndim == 2 else 1
        user_bias, item_bias = self.user_bias.reshape(-1, draws), self.item_bias.reshape(-1, draws)
        # What changes is the items: of users there are more, and theirs would be a copy as large as the model.
        mean, item_factors = self.mean, self.item_factors
        if self.time is not None:
            shift = self.time.factors[-1]
            mean += float(self.time.bias[-1].mean())
            item_bias = item_bias + (self.item_factors @ shift / draws)[:, None]
            item_factors = item_factors + shift
        item_factors = item_factors / item_factors.dtype.type(draws)
        return Factors(mean, user_bias.mean(axis=1), item_bias.mean(axis=1), self.user_factors, item_factors)


def are_bounded(bias: NDArray[Any], factors: NDArray[Any]) -> bool:
    """Return whether numbers of a side are small enough for scores, sums and squares that are finite.

    Examples
    --------
    >>> are_bounded(np.zeros(2), np.full((2, 3), 1e20))
    False
    """
    return all(
        not array.size or max(-float(array.min()), float(array.max())) <= most  # a NaN is not, either
        for array, most in ((bias, LARGEST), (factors, LARGEST_FACTOR))
    )
