"""Training on a cluster: MLlib's alternating least squares goes the long way, sweeps of the recipe's objective the rest."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import functions as F

from hatrix import _files
from hatrix._checks import path_of, whole
from hatrix.app.spark import gathering, mllib, results, scoring
from hatrix.app.spark.ratings import SIDES, Table, lists_of, table
from hatrix.app.spark.sessions import explained
from hatrix.app.spark.shipping import retire, ship
from hatrix.app.spark.sweeps import bare, sweep
from hatrix.errors import DataError, DivergenceError, ParameterError
from hatrix.models import SEED, damping
from hatrix.models.als import ALS, ImplicitALS
from hatrix.models.als import USUAL as ALS_USUAL
from hatrix.models.factors import LARGEST_FACTOR, are_bounded
from hatrix.models.mf import natural_unit
from hatrix.models.trial import with_usual

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from hatrix.app.spark.gathering import Learned
    from hatrix.models.model import FactorModel

__all__ = ["Fitted", "fit"]

MOST_SEEN = 5_000_000
"""Training rows up to which the model keeps them, unless it is told to."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives where a test part or a folder is asked for.

    Attributes
    ----------
    model
        The model; None where it was written to ``path``.
    path
        The folder, which `load` reads.
    evaluation
        Figures on the test part: of ratings ``rmse``, ``mse``, ``mae`` (predictions clipped to the scale), the same with
        ``raw_``, and ``fallbacks``; of rankings ``recall``, ``ndcg``, ``precision``, ``hit_rate``, ``map`` and ``mrr`` of
        the ``k`` best.
        None without a test part.
    n_train, n_test
        Rows of the parts.
    duplicates
        Rows that gave way to another one of their pair, or were added to it.
    facts
        What a header says: algorithm, hyper-parameters, notes and so on.
    """

    model: FactorModel | None
    path: str | None
    evaluation: dict[str, Any] | None
    n_train: int
    n_test: int
    duplicates: int
    facts: dict[str, Any] = field(repr=False, default_factory=dict)


def fit(
    df: DataFrame,
    algorithm: ALS | ImplicitALS,
    *,
    user: str = "user",
    item: str = "item",
    rating: str | None = "rating",
    time: str | None = None,
    implicit: bool | None = None,
    test: float | DataFrame | None = None,
    split: str = "per_user",
    k: int = 20,
    seed: int = SEED,
    blocks: int | None = None,
    checkpoint: str | None = None,
    path: str | None = None,
    seen: bool | None = None,
    item_table: Any = None,
    name: str = "ratings",
) -> FactorModel | Fitted:
    """Fit a recipe to the ratings of a Spark DataFrame.

    MLlib's ALS minimises ``Σ (r - p_u·q_i)² + λ (Σ_u n_u |p_u|² + Σ_i n_i |q_i|²)``: that is ``ALS(nu=1, biased=False)``,
    and all epochs of such a recipe are MLlib's. Any other objective, with biases, another ``nu``, or that of `ImplicitALS`,
    is approached by MLlib with a λ of the same sum of penalties, and the last four epochs are sweeps of the recipe's
    own objective, in which every node solves rows by hatrix's kernel. What was done is said in the model's ``notes``.

    Parameters
    ----------
    df
        The ratings. Ids are of any type that is a number or text; they become row numbers on the cluster.
    algorithm
        ``hx.ALS(...)`` or ``hx.ImplicitALS(...)``.
    user, item, rating, time
        Its columns. Without ``rating`` each row is an event. Of several rows of a pair the latest wins (without ``time``,
        the highest rating); events are added up.
    implicit
        Whether ``rating`` counts events; by default where there is no such column, or it is called ``count`` or the like.
    test
        Share of the rows to test on, drawn by a hash of their ids and the seed; or a DataFrame of such rows.
    split
        Of which share it is: ``"per_user"`` (``min(round(test n), n - 1)`` of a user's n rows) or ``"random"``, of all.
    k
        Length of the lists that rankings are measured on.
    seed
        Of the draw and the start.
    blocks
        Into how many parts MLlib deals users and items (10, if not told): give two to four for each core of a large
        cluster.
    checkpoint
        A folder that all nodes reach, for more than 15 epochs of MLlib's on a cluster; a local session makes one itself.
    path
        Write the model to this folder of Parquet files, from all nodes, instead of bringing it to the driver.
    seen
        Keep the training rows in the model, so that it knows what is new to a user; by default up to 5 million.
    item_table
        Attributes of the items, such as titles: a DataFrame of Spark or pandas with the column ``item``.
    name
        What the data are called.

    Returns
    -------
    FactorModel or Fitted
        The model alone, or, with ``test`` or ``path``, what came of them beside it.

    Raises
    ------
    ParameterError
        If the recipe asks for what a cluster cannot do.
    DataError
        If the ratings are not usable as given.
    ClusterError
        If a job fails.

    Examples
    --------
    >>> import hatrix as hx
    >>> from hatrix.app.spark import fit
    >>> fitted = fit(ratings, hx.ALS(), user="who", item="film", rating="stars", test=0.2)  # doctest: +SKIP
    >>> fitted.evaluation["rmse"]  # doctest: +SKIP
    """
    _check(algorithm, df, seed=(seed, 0), k=(k, 1), blocks=(1 if blocks is None else blocks, 1))
    spark, started = df.sparkSession, clock.perf_counter()
    if path is not None:
        path_of("path", path, text=True)
        _refuse_existing(spark, path)
    with explained("the fit on Spark failed"), _files.scratch() as scratch:
        rows = table(
            df,
            user=user,
            item=item,
            rating=rating,
            time=time,
            implicit=implicit,
            test=test,
            split=split,
            seed=seed,
        )
        try:
            if rows.implicit and algorithm.task == "rating":
                raise DataError(
                    f"the table has events and no ratings, and {algorithm.name} predicts ratings: name the column of ratings"
                )
            work = _Work(spark, rows, algorithm, seed, scratch)
            work.train(blocks, checkpoint)
            history, evaluation = {"epoch": algorithm.epochs}, None
            if path is None or test is not None:
                figures, evaluation = work.figures(k, tested=test is not None)
                history |= figures
            said = work.said(history | {"seconds": clock.perf_counter() - started}, name)
            extras: dict[str, Any] = {"item_table": item_table, "item": item}
            extras["seen"] = rows.n <= MOST_SEEN if seen is None else seen
            model = None
            if path is None:
                model = results.model_of(work.bare(), rows, said, **extras)
            else:
                results.write(spark, path, work.frames, rows, said, **extras)
        finally:
            rows.free()
    if model is not None and test is None:
        return model
    facts = said | {"users": rows.users.n, "items": rows.items.n, "protocol": rows.protocol}
    return Fitted(model, path, evaluation, rows.n, rows.n_test, rows.duplicates, facts)


def _check(recipe: Any, df: Any, **numbers: tuple[int, int]) -> None:
    mllib.refuse_foreign(recipe)
    if not hasattr(df, "sparkSession"):
        raise DataError(f"df is a {type(df).__name__}: give a Spark DataFrame")
    for name, (given, least) in numbers.items():
        whole(name, given, least, 2**32 - 1)


def _refuse_existing(spark: SparkSession, path: str) -> None:
    """Raise if there is something at a path, of whatever file system, before any time is spent."""
    try:
        context = spark.sparkContext
    except Exception:  # Spark Connect: writing itself says so
        return
    with explained(f"{path} cannot be reached"):
        place = context._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]
        there = place.getFileSystem(context._jsc.hadoopConfiguration()).exists(place)
    if there:
        raise ParameterError(f"{path} exists: give a new folder, or remove it first")


class _Work:
    """One fit: the cluster's frames, and, as far as sweeps and figures need them, their numbers in files of this machine."""

    def __init__(
        self, spark: SparkSession, rows: Table, recipe: ALS | ImplicitALS, seed: int, scratch: Path
    ) -> None:
        self.spark, self.rows, self.seed, self.scratch = spark, rows, seed, scratch
        self.counts = gathering.counts_of(rows)
        self.recipe = self._resolved(recipe)
        biased = isinstance(self.recipe, ALS) and self.recipe.biased
        self.mean = rows.mean if biased else 0.0
        self.plan = mllib.plan(self.recipe, self.counts, rows.n)
        self.frames: list[DataFrame] = []
        self._learned: list[Learned] | None = None

    def _resolved(self, recipe: ALS | ImplicitALS) -> ALS | ImplicitALS:
        if isinstance(recipe, ALS):
            left: dict[str, float] = {}
            if recipe.unit == "auto":
                left["unit"] = natural_unit(self.rows.deviation, self.rows.mean)
            if "auto" in damping.given(recipe):
                found = damping.dampings([self._products(side) for side in SIDES], self.rows.deviation**2)
                left |= {name: number for name, number in found.items() if getattr(recipe, name) == "auto"}
            return with_usual(recipe.replace(**left), ALS_USUAL)
        if self.rows.least <= 0:
            raise DataError(
                f"a value is {self.rows.least:g}: {recipe.name} takes counts, or other confidences, above 0"
            )
        users, items = (int(np.count_nonzero(count)) for count in self.counts)
        return recipe.with_weights(self.rows.n, users * items, self.rows.mean)

    def _products(self, side: str) -> tuple[float, float]:
        """Return the sums over the rows of a side that `damping.dampings` takes."""
        left = F.col("value") - F.lit(self.rows.mean)
        n, total, squares = F.count("*").alias("n"), F.sum(left).alias("s"), F.sum(left * left).alias("q")
        rows = self.rows.train.groupBy(side).agg(n, total, squares).where("n > 1")
        found = rows.agg(F.sum(F.expr("(s * s - q) / n")), F.sum(F.expr("n - 1"))).first()
        assert found is not None
        return float(found[0] or 0), float(found[1] or 0)

    def train(self, blocks: int | None, checkpoint: str | None) -> None:
        """MLlib's epochs, then the recipe's own."""
        with mllib.checkpoints(self.spark, self.plan, checkpoint, self.scratch):
            self.frames = mllib.trained(self.rows, self.mean, self.plan, self.seed, blocks)
        if not self.plan.own:
            return
        by, sent = [self._by(side) for side in SIDES], dict[int, str]()
        for _ in range(self.plan.own):
            for side, name, frame in sweep(self.spark, self.rows, self.recipe, self.mean, self.learned, by):
                self.frames[side].unpersist()
                self.frames[side] = self.rows.keep(frame)
                gathering.gather(self.frames[side], self.learned[side])
                if side in sent:
                    retire(sent[side])
                sent[side] = name
        for name in sent.values():
            self.rows.kept.callback(retire, name)

    def _by(self, side: str) -> DataFrame:
        other = SIDES[1 - SIDES.index(side)]
        lists = lists_of(self.rows.train, side, "value").withColumnRenamed(other, "other")
        return self.rows.keep(lists)

    @property
    def learned(self) -> list[Learned]:
        """Both sides on this machine, brought here when first wanted."""
        if self._learned is None:
            k, sides = int(self.recipe.factors), zip(SIDES, (self.rows.users, self.rows.items), strict=True)
            self._learned = [gathering.room_for(self.scratch, name, side.n, k) for name, side in sides]
            for frame, into in zip(self.frames, self._learned, strict=True):
                gathering.gather(frame, into)
        return self._learned

    def bare(self) -> FactorModel:
        for name, side in zip(SIDES, self.learned, strict=True):
            if not are_bounded(side.bias, side.factors):
                raise DivergenceError(
                    f"the numbers of {name}s are not finite, or beyond {LARGEST_FACTOR:g}: try more regularization, or "
                    "look at the ratings"
                )
        counts: dict[str, Any] = {"user_count": self.counts[0], "item_count": self.counts[1]}
        return bare(self.recipe, self.mean, self.learned, self.rows, **counts)

    def figures(self, k: int, *, tested: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What the history has besides, and the figures on the test part."""
        sent = ship(self.spark, self.bare(), seen=False)
        self.rows.kept.callback(retire, sent)
        if self.recipe.task == "ranking":
            return {}, scoring.ranking_figures(sent, self.rows, k) if tested else None
        trained = {"train_mse": scoring.rating_figures(sent, self.rows.train)["raw_mse"]}
        return trained, scoring.rating_figures(sent, self.rows.test) if tested else None

    def said(self, history: dict[str, Any], name: str) -> dict[str, Any]:
        """What the model says of itself."""
        return {
            "algorithm": self.recipe.name,
            "hyperparameters": self.recipe.model_dump(mode="json"),
            "factors": self.recipe.factors,
            "seed": int(self.seed),
            "mean": self.mean,
            "fallback": self.rows.mean,
            "scale": self.rows.scale,
            "data_name": name,
            "fingerprint": results.fingerprint(self.rows),
            "notes": [self.plan.note],
            "history": [history],
        }
