"""Scores of pairs under each of many posterior draws, whose factors stand side by side in a row."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix.kernels.compile import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["scores"]


@lru_cache
def _kernel(*, timed: bool) -> Any:
    @compiled
    def add_up(user, item, when, P, Q, T, user_bias, item_bias, time_bias, mean, factors, out):
        for n in range(len(user)):
            p, q, t = P[user[n]], Q[item[n]], T[when[n]]
            for s in range(out.shape[1]):
                total = p.dtype.type(0)
                for j in range(factors):
                    x, y = p[s * factors + j], q[s * factors + j]
                    total += x * y
                    if timed:
                        total += (x + y) * t[s * factors + j]
                out[n, s] = (
                    mean + user_bias[user[n], s] + item_bias[item[n], s] + time_bias[when[n], s] + total
                )

    return add_up


def scores(
    user: NDArray[Any],
    item: NDArray[Any],
    rows: tuple[NDArray[Any], NDArray[Any]],
    biases: tuple[NDArray[Any], NDArray[Any]],
    mean: float,
    time: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """``mean + b_u + b_i + p_u · q_i`` of each pair by draw, shape (pairs, draws); with a time block, its part too.

    Parameters
    ----------
    user, item
        Row numbers, from 0 on.
    rows
        Factors of users and items, shapes (n, draws · k) and (m, draws · k).
    biases
        Shapes (n, draws) and (m, draws).
    mean
        Added to every score.
    time
        The bin of each pair, and biases and factors of the bins.
    """
    draws = biases[0].shape[1]
    out, none = np.empty((len(user), draws)), np.zeros(1, np.int64)
    factors = rows[0].shape[1] // draws
    when, time_bias, time_rows = time or (
        np.broadcast_to(none, len(user)),
        np.zeros((1, draws), biases[0].dtype),
        np.zeros((1, factors * draws), rows[0].dtype),
    )
    kernel = _kernel(timed=time is not None)
    kernel(user, item, when, *rows, time_rows, *biases, time_bias, mean, factors, out)
    return out
