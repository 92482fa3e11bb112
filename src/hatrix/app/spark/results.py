"""What a fit on a cluster leaves: a model on this machine, or a folder that the nodes write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from hatrix.app.spark import folder, gathering
from hatrix.app.spark.ratings import SIDES, Table, sought
from hatrix.app.spark.sessions import arrow_of, table_of
from hatrix.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

__all__ = ["fingerprint", "model_of", "write"]


def fingerprint(rows: Table) -> str:
    """Of the training rows, in whatever order they lie."""
    columns = "user", "item", "value"
    marks = rows.train.agg(F.bit_xor(F.xxhash64(*columns)), F.sum(F.hash(*columns))).first()
    assert marks is not None
    return f"spark-{marks[0] & (2**64 - 1):016x}{marks[1] & (2**64 - 1):016x}-{rows.n}"


def model_of(
    bare: FactorModel, rows: Table, said: dict[str, Any], *, seen: bool, item_table: Any, item: str
) -> FactorModel:
    """The model of row numbers with its ids and all that belongs to it, its arrays in memory."""
    import pandas as pd

    items = gathering.ids_of(rows.items)
    arrays = {
        f"{name}_{what}": getattr(bare, f"{name}_{what}").copy()
        for name in SIDES
        for what in ("bias", "factors")
    }
    return replace(
        bare,
        users=gathering.ids_of(rows.users),
        items=items,
        seed=said["seed"],
        history=pd.DataFrame(said["history"]),
        seen=gathering.seen_of(rows, bare.user_count) if seen else None,
        item_table=_aligned(item_table, item, items),
        fingerprint=said["fingerprint"],
        data_name=said["data_name"],
        notes=tuple(said["notes"]),
        **arrays,
    )


def write(
    spark: SparkSession, path: str, found: list[DataFrame], rows: Table, said: dict[str, Any], *, seen: bool,
    item_table: Any, item: str,
) -> None:  # fmt: skip
    """Write the model as a folder, without bringing it here."""
    sides = dict(zip(SIDES, (rows.users, rows.items), strict=True))
    zeros = F.array_repeat(F.lit(0.0).cast("float"), said["factors"])
    frames: dict[str, DataFrame] = {}
    for (name, side), learned in zip(sides.items(), found, strict=True):
        count = rows.train.groupBy(name).agg(F.count("*").alias("count")).withColumnRenamed(name, "row")
        frames[f"{name}s"] = (
            side.ids.join(count, "row", "left")
            .join(learned, "row", "left")
            .select(
                "row",
                "label",
                F.coalesce("count", F.lit(0)).cast("bigint").alias("count"),
                F.coalesce("bias", F.lit(0.0)).cast("float").alias("bias"),
                F.coalesce("factors", zeros).alias("factors"),
            )
        )
    if seen:
        frames["seen"] = rows.train.select("user", "item", "value").sort("user", "item")
    if item_table is not None:
        table = _aligned(item_table, item, gathering.ids_of(rows.items))
        assert table is not None
        columns = arrow_of(table)
        row: dict[str, Any] = {"row": np.arange(rows.items.n)}
        frames["table"] = table_of(spark, row | dict(zip(columns.column_names, columns.columns, strict=True)))
    folder.write(
        spark,
        path,
        frames,
        said | {f"{name}s": {"n": side.n, "kind": side.kind} for name, side in sides.items()},
    )


def _aligned(given: Any, item: str, items: Ids) -> pd.DataFrame | None:
    """A table of items as its rows in the order of the ids; items that it does not have are missing there."""
    import pandas as pd

    if given is None:
        return None
    if isinstance(given, DataFrame) and item in given.columns:
        ids = sought(given, item)
        given = given.where(ids.isNotNull()).withColumn(item, ids).toArrow().to_pandas()
    if not isinstance(given, pd.DataFrame) or item not in given.columns:
        have = ", ".join(map(repr, getattr(given, "columns", [])))
        raise DataError(
            f"item_table needs a column {item!r} with the ids of the items: it has {have or 'no columns'}"
        )
    rows: NDArray[np.int64] = items.encode(given[item])
    known = (rows >= 0) & ~pd.Series(rows).duplicated().to_numpy()
    frame: pd.DataFrame = given[known].drop(columns=item).set_index(rows[known])
    return frame.reindex(np.arange(len(items))).reset_index(drop=True)
