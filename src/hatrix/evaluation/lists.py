"""What recommendation lists are like, whatever the users turned to: breadth, surprise and variety."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.data.disk import let_go

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

__all__ = ["OVERALL", "overall"]

OVERALL = ("coverage", "gini", "novelty", "diversity")
CELLS_AT_ONCE = 1 << 22
"""Pairs of a list and a training user that are looked at at once."""
SAMPLED_LISTS = 2000
"""Lists whose diversity is measured: the mean of more would say no more."""


@one_blas_thread()
def overall(model: FactorModel, lists: NDArray[np.int32], seed: int) -> dict[str, float]:
    """Coverage, Gini index, novelty and diversity of lists of item rows, -1 where a list is short.

    With ``c_i`` the number of lists that hold item i (sorted, of n items, C their sum), and ``share_i`` the share of
    training users with item i: ``coverage`` is the share of items with ``c_i > 0``, ``gini = Σ (2 i - n - 1) c_i / (n C)``
    and ``novelty = Σ c_i log2(1 / share_i) / C``. ``diversity`` is the mean of 1 - cosine of the training users of two
    items of a list, over the pairs of each list and then over (at most 2,000 drawn) lists.
    """
    shown = np.bincount(lists[lists >= 0], minlength=len(model.items)).astype(np.float64)
    share = np.maximum(model.item_count, 1) / max(1, np.count_nonzero(model.user_count))
    information = -np.log2(np.minimum(share, 1.0))
    order = np.sort(shown)
    n, total = len(order), max(order.sum(), 1.0)
    return {
        "coverage": float(np.count_nonzero(shown) / n),
        "gini": float((2 * np.arange(1, n + 1) - n - 1) @ order / (n * total)),
        "novelty": float((shown @ information) / total),
        "diversity": _diversity(model, lists, seed),
    }


def _diversity(model: FactorModel, lists: NDArray[np.int32], seed: int) -> float:
    """Mean over lists of 1 - cosine, by the length of the sum of each list's unit vectors; NaN where unknown."""
    if model.seen is None or lists.shape[1] < 2:
        return float("nan")
    from scipy import sparse

    if len(lists) > SAMPLED_LISTS:
        lists = lists[np.random.default_rng(seed).choice(len(lists), SAMPLED_LISTS, replace=False)]
    lists = lists[(lists >= 0).sum(axis=1) > 1]
    if not len(lists):
        return float("nan")
    start, item, _ = model.seen
    row, rank = np.nonzero(lists >= 0)
    member = sparse.csr_array(
        (np.ones(len(row)), (row, lists[row, rank])), shape=(len(lists), len(model.items))
    )
    length, together = np.bincount(row), np.zeros(len(lists))
    users = max(1, CELLS_AT_ONCE // len(lists))
    for first, last in pairwise([*range(0, len(model.users), users), len(model.users)]):
        part = slice(start[first], start[last])
        who = np.repeat(np.arange(last - first), np.diff(start[first : last + 1]))
        share = 1 / np.sqrt(model.item_count[item[part]])
        taken = sparse.csr_array((share, (item[part], who)), shape=(len(model.items), last - first))
        sums = member @ taken
        together += np.bincount(
            np.repeat(np.arange(len(lists)), np.diff(sums.indptr)), sums.data**2, len(lists)
        )
        let_go(item, part)
    alone = member @ (model.item_count > 0)
    return float(np.mean(1 - (together - alone) / (length * (length - 1))))
