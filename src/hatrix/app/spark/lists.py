"""The best items of every user, ranked on a cluster by the kernel that ranks on one machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from hatrix._checks import whole
from hatrix.app.spark.ratings import lists_of, sought
from hatrix.app.spark.sessions import arrow_of, explained, parallelism, session, table_of
from hatrix.app.spark.shipping import model_at, numbers_at, ship, ship_numbers
from hatrix.errors import DataError, ParameterError
from hatrix.models.artifact import load as load_file
from hatrix.models.model import FactorModel
from hatrix.models.recommend import TopN

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["recommend_all", "seen_in"]

USERS_OF_A_TASK = 50_000
"""At most, so that a task that fails is little to do again."""
LABELS = {"int": "bigint", "str": "string"}


@dataclass(frozen=True)
class _Order:
    """What workers are to do: names of the files they have, and no array."""

    model: str
    n: int
    candidates: str | None
    seen: str
    """``"model"``: the training rows; ``"rows"``: lists that come with the users; ``"none"``."""
    risk: float | None
    titles: bool


def recommend_all(
    model: FactorModel | str | Path,
    spark: SparkSession | None = None,
    n: int = 10,
    *,
    exclude_seen: bool | DataFrame = True,
    user: str = "user",
    item: str = "item",
    among: Any = None,
    exclude: Any = None,
    where: str | None = None,
    risk: float | None = None,
    titles: bool = True,
    partitions: int | None = None,
) -> DataFrame:
    """The best items of every user of a model: the same lists as `FactorModel.recommend_all`, computed on the cluster.

    The model goes to each node once, as a file that all its Python processes map into memory; users are dealt to tasks
    of one thread each, in batches of Arrow columns.

    Parameters
    ----------
    model
        A fitted model of any algorithm, its ``.hatrix`` file, or a folder that `fit` wrote. A file is sent as it is.
    spark
        The session; by default the one that is running, or a new ``local[2]``.
    n
        Length of a list.
    exclude_seen
        True leaves out what is among the training rows that the model has; False leaves nothing out; a DataFrame of ratings
        leaves out what each user has there, without bringing them to this machine.
    user, item
        The columns of that DataFrame. Ids that the model does not know are passed over.
    among, exclude, where, risk
        As in `FactorModel.recommend`: only these items, not these, only those whose columns are so, by a quantile.
    titles
        Add the columns of the model's table of items.
    partitions
        Tasks to make of it; by default as many as run at once, and no task with more than 50,000 users (beside a DataFrame
        to leave out, as many as Spark joins it in).

    Returns
    -------
    DataFrame
        Columns ``user``, ``item``, ``score`` and ``basis`` (what the list is ranked by: ``model``, or what stands in where
        nothing is known of the user), and those of the items; a user's items stand together, best first. It is computed
        when it is asked for.

    Raises
    ------
    ParameterError
        If an argument is outside what is allowed.
    DataError
        If the training rows are to be left out, and the model does not have them.

    Examples
    --------
    >>> from hatrix.app.spark import recommend_all
    >>> lists = recommend_all("model.hatrix", n=20, where="year >= 1990")  # doctest: +SKIP
    >>> lists.write.parquet("lists")  # doctest: +SKIP
    """
    from hatrix.app.spark.folder import load

    spark = session() if spark is None else spark
    file = None
    if isinstance(model, (str, Path)):
        file = Path(model)
        if file.is_dir():
            model = load(file)
            file = file / "model.hatrix"
        else:
            model = load_file(file)
    by_rows = isinstance(exclude_seen, DataFrame)
    known = exclude_seen is True
    if not by_rows and not isinstance(exclude_seen, bool):
        raise ParameterError(
            f"exclude_seen is {exclude_seen!r}: give True, False, or a Spark DataFrame of ratings"
        )
    checked = TopN.of(
        model, n, exclude_seen=known, among=among, exclude=exclude, where=where, risk=risk, threads=1
    )
    if partitions is not None:
        whole("partitions", partitions)
    for warning in checked.warnings:
        warnings.warn(warning, stacklevel=2)
    with explained("sending the model to the workers"):
        order = _Order(
            ship(spark, model if file is None else file, seen=known), checked.n,
            None if checked.candidates is None else ship_numbers(spark, {"candidates": checked.candidates}),
            "rows" if by_rows else "model" if known else "none", risk, titles,
        )  # fmt: skip
        users, tasks = len(model.users), partitions
        if tasks is None:
            tasks = max(parallelism(spark), -(-users // USERS_OF_A_TASK))
        rows = spark.range(0, users, 1, tasks).withColumnRenamed("id", "row")
        if isinstance(exclude_seen, DataFrame):
            rows = rows.join(_known(exclude_seen, user, item, order.model), "row", "left")
            rows = rows if partitions is None else rows.repartition(partitions, "row")
        return rows.mapInArrow(partial(_listed, order=order), _schema(spark, model, titles))


def _known(ratings: DataFrame, user: str, item: str, model: str) -> DataFrame:
    """What each user has among ratings, by row numbers: columns ``row`` and ``seen``, a list."""
    for role, name in (("user", user), ("item", item)):
        if name not in ratings.columns:
            have = ", ".join(map(repr, ratings.columns))
            raise DataError(f"no column {name!r} for {role}: the ratings have {have}")
    labels = ratings.select(sought(ratings, user).alias("user"), sought(ratings, item).alias("item"))
    labels = labels.dropna()  # integers beside a gap would come to a worker as floats
    pairs = labels.mapInArrow(partial(_numbered, model=model), "user bigint, item int").distinct()
    return lists_of(pairs, "user").withColumnRenamed("item", "seen")


def _schema(spark: SparkSession, model: FactorModel, titles: bool) -> str:
    columns = [
        f"user {LABELS[model.users.kind]}",
        f"item {LABELS[model.items.kind]}",
        "score double",
        "basis string",
    ]
    if titles and model.item_table is not None:
        empty = _attributes(model).slice(0, 0)
        if empty.num_columns:
            frame = table_of(spark, dict(zip(empty.column_names, empty.columns, strict=True)))
            quoted = (
                (field.name.replace("`", "``"), field.dataType.simpleString())
                for field in frame.schema.fields
            )
            columns += [f"`{name}` {kind}" for name, kind in quoted]
    return ", ".join(columns)


def _attributes(model: FactorModel) -> pa.Table:
    """The table of items with names that are not those of the lists."""
    assert model.item_table is not None
    table = arrow_of(model.item_table)
    taken = ("user", "item", "score", "basis")
    names = [f"{name}_" if name in taken else str(name) for name in table.column_names]
    return table.rename_columns(names)


def _numbered(batches: Iterable[pa.RecordBatch], model: str) -> Iterator[pa.RecordBatch]:
    """In a worker: row numbers of labels, without what the model does not know."""
    import pyarrow as pa

    fitted = model_at(model)
    for batch in batches:
        user, item = (
            ids.encode(batch[name].to_numpy(zero_copy_only=False))
            for ids, name in ((fitted.users, "user"), (fitted.items, "item"))
        )
        known = (user >= 0) & (item >= 0)
        columns = [pa.array(user[known]), pa.array(item[known].astype(np.int32))]
        yield pa.RecordBatch.from_arrays(columns, names=["user", "item"])


@lru_cache(maxsize=2)
def _ranking(order: _Order) -> tuple[TopN, list[pa.Array], pa.Table | None]:
    """In a worker: what ranks, the labels of users and items, and the columns of the items."""
    import pyarrow as pa

    model = model_at(order.model)
    candidates = None if order.candidates is None else numbers_at(order.candidates)["candidates"]
    seen = (model.seen.start, model.seen.item) if order.seen == "model" and model.seen is not None else None
    labels = [
        pa.array(ids.labels, pa.int64() if ids.kind == "int" else pa.string())
        for ids in (model.users, model.items)
    ]
    table = _attributes(model).combine_chunks() if order.titles and model.item_table is not None else None
    return TopN(model, order.n, candidates, seen, order.risk, 1), labels, table


def _listed(batches: Iterable[pa.RecordBatch], order: _Order) -> Iterator[pa.RecordBatch]:
    """In a worker: the lists of a batch of users."""
    import pyarrow as pa

    recommender, (users, items), table = _ranking(order)
    for batch in batches:
        rows = batch["row"].to_numpy().astype(np.int64)
        if order.seen == "rows":
            recommender = replace(recommender, seen=seen_in(batch, "seen", len(users)))
        lists = recommender.lists(rows)
        filled = lists.items >= 0
        item = pa.array(lists.items[filled])
        place = pa.array(np.repeat(np.arange(len(rows), dtype=np.int32), lists.length))
        bases = sorted(set(lists.basis))
        codes = pa.array(
            np.repeat(np.array([bases.index(basis) for basis in lists.basis], np.int32), lists.length)
        )
        columns = [
            users.take(pa.array(rows)).take(place),
            items.take(item),
            pa.array(lists.scores[filled]),
            pa.array(bases, pa.string()).take(codes),
        ]
        names = ["user", "item", "score", "basis"]
        if table is not None:
            taken = table.take(item)
            columns += [column.combine_chunks() for column in taken.columns]
            names += taken.column_names
        yield pa.RecordBatch.from_arrays(columns, names=names)


def seen_in(batch: pa.RecordBatch, column: str, users: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lists of items beside their users, as the lists of all users: those elsewhere have none.

    Parameters
    ----------
    batch
        With the columns ``row``, the users, and ``column``, a list of item rows or null.
    users
        How many users there are.

    Returns
    -------
    start, item
        User u has ``item[start[u]:start[u + 1]]``.
    """
    rows, lists = batch["row"].to_numpy().astype(np.int64), batch[column]
    length = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    start = np.zeros(users + 1, np.int64)
    start[rows + 1] = length
    np.cumsum(start, out=start)
    place = np.arange(length.sum()) + np.repeat(start[rows] - (np.cumsum(length) - length), length)
    item = np.empty(len(place), np.int32)
    item[place] = lists.flatten().to_numpy(zero_copy_only=False)
    return start, item
