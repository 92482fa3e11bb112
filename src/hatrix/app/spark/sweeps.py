"""Sweeps of the recipe's own objective on the cluster: every row by the kernel that one machine trains with.

The side that stands still goes to the nodes as a file; the rows of the other one come back. A row is solved from its own
ratings alone, so how users are dealt to tasks changes no bit of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.data.ids import Ids
from hatrix.models.model import FactorModel

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from hatrix.app.spark.gathering import Learned
    from hatrix.app.spark.ratings import Table
    from hatrix.models.fit import Algorithm

__all__ = ["bare", "sweep"]

ROWS = "row int, bias float, factors array<float>"


def sweep(
    spark: SparkSession,
    table: Table,
    recipe: Algorithm,
    mean: float,
    learned: list[Learned],
    by: list[DataFrame],
) -> Iterator[tuple[int, str, DataFrame]]:
    """Solve all users, then all items: yields the number of the side, the name of the file that was
    sent for it, and its new rows, which go into ``learned`` at once.

    Parameters
    ----------
    learned
        What is known of users and of items, as this machine holds it; read anew for each side.
    by
        The ratings of each user and of each item: columns ``row``, ``other`` and ``value``, both lists.
    """
    from hatrix.app.spark.shipping import ship

    for side in (0, 1):
        name = ship(spark, bare(recipe, mean, learned, table, only=1 - side), seen=False)
        yield side, name, by[side].mapInArrow(partial(solved, name=name, side=side), ROWS)


def bare(
    recipe: Algorithm,
    mean: float,
    learned: list[Learned],
    table: Table,
    *,
    only: int | None = None,
    **more: Any,
) -> FactorModel:
    """A model of row numbers instead of ids; ``only`` one side of it, the other having no rows."""
    import pandas as pd

    n = [len(side.bias) if only in (None, at) else 0 for at, side in enumerate(learned)]
    values: dict[str, Any] = {
        f"{name}_{what}": array[:many]
        for name, side, many in zip(("user", "item"), learned, n, strict=True)
        for what, array in (("bias", side.bias), ("factors", side.factors))
    }
    values |= {"user_count": np.zeros(n[0], np.int64), "item_count": np.zeros(n[1], np.int64)} | more
    return FactorModel(
        recipe, Ids(np.arange(n[0])), Ids(np.arange(n[1])), mean, fallback=table.mean, scale=table.scale, seed=0,
        history=pd.DataFrame(), **values,
    )  # fmt: skip


def solved(batches: Iterable[pa.RecordBatch], name: str, side: int) -> Iterator[pa.RecordBatch]:
    """In a worker: the rows of a batch of users or items."""
    import pyarrow as pa

    from hatrix.app.spark.shipping import model_at
    from hatrix.models.rows import Many, als_rows, implicit_rows

    model = model_at(name)
    solve = als_rows if model.recipe.name == "als" else implicit_rows
    for batch in batches:
        lists = batch["other"]
        start = lists.offsets.to_numpy().astype(np.int64)
        other, value = lists.flatten().to_numpy(), batch["value"].flatten().to_numpy()
        with one_blas_thread():
            found = solve(model, Many(side, start - start[0], other.astype(np.int64), value), threads=1)
        n, k = found.factors.shape
        factors = pa.array(np.ascontiguousarray(found.factors, np.float32).reshape(-1))
        rows = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * k), factors)
        columns = [batch["row"], pa.array(found.bias.astype(np.float32)), rows]
        yield pa.RecordBatch.from_arrays(columns, names=["row", "bias", "factors"])
