"""What a model costs: time to train, time to score, memory."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.errors import HatrixError
from hatrix.models.fit import thread_count

if TYPE_CHECKING:
    from hatrix.data.ratings import Ratings
    from hatrix.models.fit import Algorithm
    from hatrix.models.model import FactorModel

__all__ = ["microseconds_per_user", "size_in_memory", "warm_up"]

LISTED = 10
USERS = 4096
REPEATS = 5
WARMING_ROWS = 2000


def size_in_memory(model: FactorModel) -> int:
    """Bytes of all learned arrays; ids and training rows, which every model of the data has, are not counted."""
    factors = model.factors
    arrays = [model.user_bias, model.item_bias, model.user_factors, model.item_factors]
    arrays += [*factors.parts.values(), *(factors.time or ()), *(factors.posterior or ())]
    arrays += factors.days or ()
    arrays += [bag.rows for bag in factors.bags or ()]
    return sum(array.nbytes for array in arrays)


def microseconds_per_user(model: FactorModel, *, threads: int | None = None) -> float:
    """Microseconds to score all items for a user and keep the ten best that are new to the user.

    The median of five runs over a batch of up to 4,096 users, each run ``threads`` wide, divided by the users.
    """
    from hatrix.kernels import topk

    flat, threads = model.flat, thread_count(threads)
    dtype = np.result_type(flat.user_factors, flat.item_factors)
    users = np.unique(np.linspace(0, len(model.users) - 1, min(USERS, len(model.users))).astype(np.int64))
    rows = np.ascontiguousarray(flat.user_factors[users], dtype)
    items = np.ascontiguousarray(flat.item_factors, dtype)
    bias = np.ascontiguousarray(flat.item_bias, dtype)
    seen = None if model.seen is None else topk.some_rows(model.seen.start, model.seen.item, users)
    spent = []
    for _ in range(REPEATS + 1):  # the first run loads the kernels
        started = time.perf_counter()
        topk.top_n(rows, items, bias, min(LISTED, len(items)), seen=seen, threads=threads)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:]) / len(users) * 1e6


def warm_up(recipe: Algorithm, train: Ratings, *, threads: int | None = None) -> None:
    """Compile or load the kernels of a recipe on a few rows, so that it is no part of the time to train."""
    few = train.take(np.arange(min(len(train), WARMING_ROWS)))
    with np.errstate(all="ignore"), suppress(HatrixError):
        recipe = recipe.resolved(few)
        with one_blas_thread():
            recipe.step(recipe.init(few, seed=0, threads=thread_count(threads)), 0)
