"""MLlib's alternating least squares as the trainer behind a recipe: what it is asked for, and for how many epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pyspark.sql import functions as F

from hatrix.errors import ParameterError
from hatrix.models.als import ALS, FACTORS, ImplicitALS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame, SparkSession

    from hatrix.app.spark.ratings import Table

__all__ = ["Plan", "checkpoints", "plan", "refuse_foreign", "trained"]

OWN_SWEEPS = 4
"""Epochs that are of the recipe's own objective, where MLlib's is another one."""
LONGEST_LINEAGE = 15
"""Epochs of MLlib that Spark can plan without a folder for checkpoints: more overflow Java's stack."""
FOREIGN = {
    "init_scale": "MLlib starts from rows of length 1",
    "patience": "MLlib tells nothing between epochs, so that it cannot stop early",
    "cg_steps": "rows are solved exactly",
    "block_size": "rows are solved exactly",
}


class Plan(NamedTuple):
    """What becomes of a recipe: MLlib's epochs and settings, and the sweeps of the recipe's own objective after them."""

    epochs: int
    own: int
    options: dict[str, Any]
    note: str


def refuse_foreign(recipe: Any) -> None:
    """Raise unless the recipe is one that MLlib can begin."""
    if not isinstance(recipe, ALS | ImplicitALS):
        named = getattr(recipe, "name", type(recipe).__name__)
        raise ParameterError(
            f"{named} is not trained on Spark: give ALS or ImplicitALS, or fit it on one machine"
        )
    for name, reason in FOREIGN.items():
        given = getattr(recipe, name, None)
        if name in recipe.model_fields_set and given != type(recipe).model_fields[name].default:
            raise ParameterError(f"{name}={given!r} cannot be had on Spark: {reason}; leave it out")
    if recipe.factors == 0:
        raise ParameterError(
            "factors=0 leaves nothing to train on Spark: give a number from 1 on, or leave it out"
        )
    if recipe.solver != "exact":
        raise ParameterError(
            f"solver={recipe.solver!r} cannot be had on Spark: rows are solved exactly; leave it out"
        )


def plan(recipe: ALS | ImplicitALS, counts: list[NDArray[np.int64]], n: int) -> Plan:
    """How to come to the recipe's objective.

    MLlib penalises a row by regParam times its count. For ``ALS(nu=1, biased=False)`` that is the objective itself. For
    others regParam is that of the same sum of penalties over all rows, and the last epochs are sweeps of the recipe's own.
    With an ``alpha0``, the implicit objective is divided by it: MLlib's weight of what was not seen is 1.
    """
    if isinstance(recipe, ALS):
        weight = 1 / float(recipe.unit)  # MLlib is given the ratings as they are
        options: dict[str, Any] = {"nonnegative": recipe.nonnegative}
        own = 0 if recipe.nu == 1 and not recipe.biased else min(OWN_SWEEPS, recipe.epochs)
    else:
        weight = 1.0 if recipe.alpha0 is None else float(recipe.alpha0)
        options = {"implicitPrefs": True, "alpha": float(recipe.alpha) / weight}
        own = min(OWN_SWEEPS, recipe.epochs)
    total = 0.0
    for count, others in zip(counts, (len(counts[1]), len(counts[0])), strict=True):
        rows = count[count > 0].astype(np.float64)
        total += float(((rows if isinstance(recipe, ALS) else rows + weight * others) ** recipe.nu).sum())
    strength = float(recipe.regularization) / weight * total / (2 * n)
    epochs = max(recipe.epochs - own, 1)
    note = f"all {epochs} epochs are of MLlib's ALS, whose objective is this one"
    if own:
        note = (
            f"{epochs} epochs are of MLlib's ALS, with regParam {strength:.4g}, which has the same sum of penalties; the "
            f"last {own} are sweeps of the objective of {recipe.name} itself"
        )
    rank = FACTORS if recipe.factors == "auto" else recipe.factors
    return Plan(epochs, own, options | {"rank": rank, "maxIter": epochs, "regParam": strength}, note)


def trained(rows: Table, mean: float, planned: Plan, seed: int, blocks: int | None) -> list[DataFrame]:
    """Rows of users and of items after MLlib's epochs: columns ``row``, ``bias``, which is 0, and ``factors``."""
    from pyspark.ml.recommendation import ALS as MllibALS

    options = dict(planned.options)
    if blocks is not None:
        options |= {"numUserBlocks": blocks, "numItemBlocks": blocks}
    trainer = MllibALS(
        seed=seed, userCol="user", itemCol="item", ratingCol="value", checkpointInterval=5, **options
    )
    ratings = rows.train.select("user", "item", (F.col("value") - F.lit(mean)).cast("float").alias("value"))
    model = trainer.fit(ratings)
    bias = F.lit(0.0).cast("float").alias("bias")
    return [
        frame.select(F.col("id").alias("row"), bias, F.col("features").alias("factors"))
        for frame in (model.userFactors, model.itemFactors)
    ]


@contextmanager
def checkpoints(spark: SparkSession, planned: Plan, folder: str | None, scratch: Path) -> Iterator[None]:
    """A folder for Spark to cut long plans short by, where they are long; one in ``scratch`` is set no longer than that."""
    if planned.epochs <= LONGEST_LINEAGE and folder is None:
        yield
        return
    try:
        context = spark.sparkContext
    except Exception:  # Spark Connect: the server's setting spark.checkpoint.dir is all there is
        yield
        return
    if folder is not None:
        context.setCheckpointDir(folder)
    mine = context.getCheckpointDir() is None
    if mine:
        if not str(context.master).startswith("local"):
            raise ParameterError(
                f"{planned.epochs} epochs of MLlib's ALS need a place for checkpoints: give checkpoint, a folder that all "
                f"nodes reach, or at most {LONGEST_LINEAGE + planned.own} epochs"
            )
        context.setCheckpointDir(str(scratch / "checkpoint"))
    try:
        yield
    finally:
        if mine:
            context.setCheckpointDir(None)  # type: ignore[arg-type]  # Spark takes null as none
