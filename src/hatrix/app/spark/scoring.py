"""How good a model is, worked out on the cluster: by the model's own predictions and lists, which the workers make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from hatrix.app.spark.ratings import lists_of

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from hatrix.app.spark.ratings import Table

__all__ = ["ranking_figures", "rating_figures"]

SUMS = ("n", "squared", "absolute", "raw_squared", "raw_absolute", "fallbacks")
FIGURES = ("recall", "ndcg", "precision", "hit_rate", "map", "mrr")


def rating_figures(name: str, rows: DataFrame) -> dict[str, float]:
    """Errors of the predictions of a model that was sent, clipped to the scale and raw.

    ``fallbacks`` counts the rows with a user or an item without training ratings.
    """
    sums = rows.select("user", "item", "value").mapInArrow(partial(_errors, name=name), _columns(SUMS))
    total = sums.agg(*(F.sum(column).alias(column) for column in SUMS)).first()
    assert total is not None
    n = total["n"]
    mse, raw = total["squared"] / n, total["raw_squared"] / n
    return {
        "rmse": float(np.sqrt(mse)), "mse": mse, "mae": total["absolute"] / n, "raw_rmse": float(np.sqrt(raw)),
        "raw_mse": raw, "raw_mae": total["raw_absolute"] / n, "fallbacks": int(total["fallbacks"]),
    }  # fmt: skip


def ranking_figures(name: str, table: Table, k: int) -> dict[str, float]:
    """Means over the users with a test row of the figures of their k best items, those of the training part left out."""
    held = lists_of(table.test, "user").withColumnRenamed("item", "relevant")
    lists = held.join(lists_of(table.train, "user"), "row", "left")
    sums = lists.mapInArrow(partial(_hits, name=name, k=k), _columns(("n", *FIGURES)))
    total = sums.agg(*(F.sum(column).alias(column) for column in ("n", *FIGURES))).first()
    assert total is not None
    return {"k": k, "users": int(total["n"]), **{figure: total[figure] / total["n"] for figure in FIGURES}}


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"{name} double" for name in names)


def _errors(batches: Iterable[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    from hatrix.app.spark.shipping import model_at

    model = model_at(name)
    for batch in batches:
        user, item = (batch[side].to_numpy().astype(np.int64) for side in ("user", "item"))
        raw = model.predict_rows(user, item)
        error = raw - batch["value"].to_numpy()
        clipped = error if model.scale is None else np.clip(raw, *model.scale) - batch["value"].to_numpy()
        sums = [len(user)]
        for wrong in (clipped, error):  # without BLAS, whose rounding depends on the number of its threads
            sums += [np.square(wrong).sum(), np.abs(wrong).sum()]
        sums.append(model.is_fallback(user, item).sum())
        yield pa.RecordBatch.from_arrays([pa.array([float(x)]) for x in sums], names=list(SUMS))


def _hits(batches: Iterable[pa.RecordBatch], name: str, k: int) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    from hatrix.app.spark.lists import seen_in
    from hatrix.app.spark.shipping import model_at
    from hatrix.evaluation.ranking import measures
    from hatrix.models.recommend import TopN

    model = model_at(name)
    for batch in batches:
        user = batch["row"].to_numpy().astype(np.int64)
        seen = seen_in(batch, "item", len(model.users))
        lists = TopN(model, k, None, seen).lists(user).items
        lists = np.pad(lists, ((0, 0), (0, k - lists.shape[1])), constant_values=-1)
        start, relevant = seen_in(batch, "relevant", len(model.users))
        many = start[user + 1] - start[user]
        pairs = np.repeat(user, many) * len(model.items) + relevant
        found = np.isin(user[:, None] * len(model.items) + lists, pairs) & (lists >= 0)
        figures = measures(found, many)
        sums = [float(len(user)), *(float(figures[figure].sum()) for figure in FIGURES)]
        yield pa.RecordBatch.from_arrays([pa.array([x]) for x in sums], names=["n", *FIGURES])
