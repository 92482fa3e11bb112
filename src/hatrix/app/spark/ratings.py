"""Ratings on a cluster: checked, ids of any type numbered, one row for a pair, parted, and never all in one place."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.window import Window

from hatrix.data.roles import COUNTS
from hatrix.errors import DataError, ParameterError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["SIDES", "Side", "Table", "lists_of", "sought", "table"]

SIDES = ("user", "item")
MOST_IDS = 2**31 - 1
"""Row numbers are those of MLlib, which have 32 bits."""
EXACT = 2**53
"""Whole floats up to here are integers, as in `hatrix.data.ids`."""
DRAW_BITS = 53


@dataclass(frozen=True)
class Side:
    """The ids of users or items: ``ids`` has the columns ``label`` and ``row``, in the order of `hatrix.data.ids.Ids`."""

    ids: DataFrame
    n: int
    kind: str


@dataclass(frozen=True)
class Table:
    """Ratings of pairs: columns ``user`` and ``item`` (row numbers), ``value``, and ``held`` for those to test on."""

    rows: DataFrame
    users: Side
    items: Side
    n: int
    n_test: int
    duplicates: int
    mean: float
    deviation: float
    least: float
    scale: tuple[float, float] | None
    implicit: bool
    protocol: str | None
    kept: ExitStack = field(repr=False)

    @property
    def train(self) -> DataFrame:
        return self.rows.where(~F.col("held"))

    @property
    def test(self) -> DataFrame:
        return self.rows.where("held")

    def keep(self, frame: DataFrame) -> DataFrame:
        """Let the cluster keep another frame as long as these ratings."""
        return _kept(frame, self.kept)

    def free(self) -> None:
        """Let the cluster forget what it keeps."""
        self.kept.close()


def table(
    frame: DataFrame,
    *,
    user: str,
    item: str,
    rating: str | None,
    time: str | None,
    implicit: bool | None,
    test: float | DataFrame | None,
    split: str,
    seed: int,
) -> Table:
    """Check the ratings of a DataFrame, number their ids, and part them.

    Raises
    ------
    DataError
        If a column is missing or of a type that cannot be read, or some rows have no id or no finite rating.
    """
    names = {"user": user, "item": item, "rating": rating, "time": time}
    if implicit is None:
        implicit = rating is None or rating.strip().lower() in COUNTS
    raw = _columns(frame, names).withColumn("held", F.lit(False))
    if not isinstance(test, int | float | None):
        raw = _together(raw, _columns(test, names).withColumn("held", F.lit(True)))
    with ExitStack() as kept:
        raw = _kept(raw, kept)
        raw, kinds, n_given = _checked(raw, names)
        sides = [
            _numbered(raw.select(F.col(side).alias("label")), side, kind, kept)
            for side, kind in zip(SIDES, kinds, strict=True)
        ]
        rows = raw.withColumn("draw", F.xxhash64("user", "item", F.lit(seed)))
        for name, side in zip(SIDES, sides, strict=True):
            ids = side.ids.withColumnRenamed("label", name)
            rows = rows.join(ids, name).drop(name).withColumnRenamed("row", name)
        rows = _one_per_pair(rows, implicit=implicit, timed=time is not None)
        protocol = None if test is None else "a part of its own"
        if isinstance(test, int | float):
            rows, protocol = _parted(rows, test, split), f"{split} {test:g} by hash, seed {seed}"
        rows = _kept(rows.select("user", "item", "value", "held"), kept)
        facts = rows.agg(
            F.count("*").alias("all"),
            F.count_if("held").alias("test"),
            F.min("value").alias("low"),
            F.max("value").alias("high"),
            F.avg(F.when(~F.col("held"), F.col("value"))).alias("mean"),
            F.stddev_pop(F.when(~F.col("held"), F.col("value"))).alias("deviation"),
        ).first()
        assert facts is not None
        raw.unpersist()
        n, n_test = facts["all"] - facts["test"], facts["test"]
        if not n or (test is not None and not n_test):
            part = "test" if n else "train"
            raise DataError(
                f"there are no ratings to {part} on: of {facts['all']:,}, {n_test:,} are to test on"
            )
        return Table(
            rows,
            users=sides[0],
            items=sides[1],
            n=n,
            n_test=n_test,
            duplicates=n_given - facts["all"],
            mean=facts["mean"],
            deviation=facts["deviation"],
            least=facts["low"],
            scale=None if implicit else (facts["low"], facts["high"]),
            implicit=implicit,
            protocol=protocol,
            kept=kept.pop_all(),
        )


def _kept(frame: DataFrame, kept: ExitStack) -> DataFrame:
    """The frame, which the cluster keeps until then."""
    kept.callback(frame.persist().unpersist)
    return frame


def _columns(frame: DataFrame, names: dict[str, str | None]) -> DataFrame:
    """The columns by their role, each of a type to work with."""
    have = dict(zip(frame.columns, (field.dataType for field in frame.schema.fields), strict=True))
    for role, name in names.items():
        if name is not None and name not in have:
            raise DataError(
                f"no column {name!r} for {role}: the table has {', '.join(map(repr, frame.columns))}"
            )
    chosen = [_label(name, have[name]).alias(role) for role, name in list(names.items())[:2]]  # type: ignore[arg-type,index]
    rating, time = names["rating"], names["time"]
    chosen.append((F.lit(1.0) if rating is None else _number(rating, have[rating])).alias("value"))
    if time is not None:
        chosen.append(_moment(time, have[time]).alias("time"))
    return frame.select(*chosen)


def _quoted(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _label(name: str, kind: T.DataType) -> Column:
    """A column of ids as bigint, as double where its numbers may be whole, or as text."""
    column = _quoted(name)
    if isinstance(kind, T.IntegralType):
        return column.cast("bigint")
    if isinstance(kind, (T.FloatType, T.DoubleType)):
        return column.cast("double")
    if isinstance(kind, T.DecimalType) and kind.scale == 0 and kind.precision <= 18:
        return column.cast("bigint")
    if isinstance(kind, T.DecimalType):
        return _digits(column)
    if isinstance(kind, T.BooleanType):
        return F.when(column, F.lit("True")).when(~column, F.lit("False"))
    if isinstance(kind, T.BinaryType):
        return F.try_validate_utf8(column.cast("string"))
    if isinstance(
        kind,
        (
            T.StringType,
            T.DateType,
            T.TimestampType,
            T.TimestampNTZType,
            T.CharType,
            T.VarcharType,
        ),
    ):
        return column.cast("string")
    raise DataError(f"column {name!r} is of type {kind.simpleString()}: ids are numbers or text")


def _digits(column: Column) -> Column:
    """Numbers as text, whole ones without a point, and what is no number missing."""
    whole = (column == F.floor(column)) & (F.abs(column) <= EXACT)
    text = F.when(whole, column.cast("decimal(38,0)").cast("string")).otherwise(column.cast("string"))
    return F.nullif(text, F.lit("NaN"))


def sought(frame: DataFrame, name: str) -> Column:
    """A column of ids to look up, as text where `table` has made text of them; decimals find numbers and text."""
    kind = frame.schema[name].dataType
    return _quoted(name) if isinstance(kind, T.DecimalType) else _label(name, kind)


def _number(name: str, kind: T.DataType) -> Column:
    if not isinstance(kind, (T.NumericType, T.StringType, T.BooleanType)):
        raise DataError(f"column {name!r} is of type {kind.simpleString()}: ratings are numbers")
    return _quoted(name).try_cast("double")


def _moment(name: str, kind: T.DataType) -> Column:
    """Something that orders times: which of two ratings is the later one is all that is asked."""
    if isinstance(kind, (T.NumericType, T.DateType, T.TimestampType, T.TimestampNTZType)):
        return _quoted(name)
    raise DataError(
        f"column {name!r} is of type {kind.simpleString()}: times are numbers, dates or timestamps; cast it"
    )


def _together(train: DataFrame, test: DataFrame) -> DataFrame:
    """One frame of both; ids that are integers in one and text in the other are text."""
    for side in SIDES:
        if train.schema[side].dataType != test.schema[side].dataType:
            train, test = (one.withColumn(side, _plain(one, side).cast("string")) for one in (train, test))
    return train.unionByName(test)


def _plain(frame: DataFrame, side: str) -> Column:
    column = F.col(side)
    return _digits(column) if isinstance(frame.schema[side].dataType, T.DoubleType) else column


def _checked(raw: DataFrame, names: dict[str, str | None]) -> tuple[DataFrame, list[str], int]:
    """The rows with ids of their final type, the kinds of both sides, and how many rows there are."""
    types = {side: raw.schema[side].dataType for side in SIDES}
    fractional = [side for side in SIDES if isinstance(types[side], T.DoubleType)]
    bad: dict[str, Column] = {}
    for side in SIDES:
        nothing = F.isnan(side) if side in fractional else F.col(side).cast("string") == ""
        bad[side] = F.col(side).isNull() | nothing
    value = F.col("value")
    bad["rating"] = value.isNull() | F.isnan(value) | (F.abs(value) == float("inf"))
    if "time" in raw.columns:
        bad["time"] = F.col("time").isNull()
    broken = [
        F.count_if((F.abs(side) > EXACT) | (F.col(side) != F.floor(side))).alias(f"{side} broken")
        for side in fractional
    ]
    counts = raw.agg(
        F.count("*").alias("n"), *(F.count_if(wrong).alias(role) for role, wrong in bad.items()), *broken
    ).first()
    assert counts is not None
    if not counts["n"]:
        raise DataError("there are no ratings: the table is empty")
    for role in bad:
        if counts[role]:
            what = {"rating": "no finite number as the rating", "time": "no time"}.get(role, f"no {role} id")
            raise DataError(
                f"{counts[role]:,} of {counts['n']:,} rows have {what} (column {names[role]!r}): correct or drop those rows"
            )
    for side in fractional:
        if counts[f"{side} broken"]:
            raise DataError(
                f"{counts[f'{side} broken']:,} ids in column {names[side]!r} are fractions: cast it to text"
            )
        raw = raw.withColumn(side, F.col(side).cast("bigint"))
    kinds = ["str" if isinstance(types[side], T.StringType) else "int" for side in SIDES]
    return raw, kinds, counts["n"]


def _numbered(labels: DataFrame, side: str, kind: str, kept: ExitStack) -> Side:
    """The distinct labels and their places in the order of all: integers by size, text by code point.

    Spark sorts text by its UTF-8 bytes, which is the same. A partition of the sorted labels numbers its own, and how many
    are in the ones before is all that has to be known besides.
    """
    partition = F.shiftright("at", 33).cast("int")
    ordered = labels.distinct().sort("label").withColumn("at", F.monotonically_increasing_id()).persist()
    sizes = {row[0]: row[1] for row in ordered.groupBy(partition).count().collect()}
    n, before = 0, []
    for number in range(max(sizes) + 1):
        before.append(n)
        n += sizes.get(number, 0)
    if n > MOST_IDS:
        raise DataError(f"there are {n:,} {side} ids: MLlib takes {MOST_IDS:,} at most")
    start = F.element_at(F.lit(before).cast("array<bigint>"), partition + 1)
    row = (F.col("at").bitwiseAND(F.lit((1 << 33) - 1)) + start).cast("int")
    ids = _kept(ordered.select("label", row.alias("row")), kept)
    ids.count()
    ordered.unpersist()
    return Side(ids, n, kind)


def _one_per_pair(rows: DataFrame, *, implicit: bool, timed: bool) -> DataFrame:
    """Of several rows of a pair the latest (the highest rating of equal times, or without any); events are added up."""
    latest = F.max_by("value", F.struct("time", "value")) if timed else F.max("value")
    value = F.sum("value") if implicit else latest
    return rows.groupBy("user", "item", "held").agg(value.alias("value"), F.first("draw").alias("draw"))


def _parted(rows: DataFrame, share: float, split: str) -> DataFrame:
    """Draw the rows to test on by the hash of their ids, so that partitions and their order do not matter."""
    if not 0 < share < 1:
        raise ParameterError(f"test is {share:g}: give a share between 0 and 1, or a DataFrame")
    if split == "random":
        drawn = F.shiftrightunsigned("draw", 64 - DRAW_BITS) / F.lit(float(2**DRAW_BITS))
        return rows.withColumn("held", drawn < share)
    if split != "per_user":
        raise ParameterError(f"split is {split!r}: choose per_user or random")
    of_user = Window.partitionBy("user")
    many = F.count("*").over(of_user)
    place = F.row_number().over(of_user.orderBy("draw", "item"))
    return rows.withColumn("held", place <= F.least(F.bround(many * F.lit(share)), many - 1))


def lists_of(rows: DataFrame, side: str, *columns: str) -> DataFrame:
    """For each row of a side what it has of the other one: arrays in the order of the other side's rows."""
    other = SIDES[1 - SIDES.index(side)]
    found = F.array_sort(F.collect_list(F.struct(other, *columns)))
    lists = rows.groupBy(side).agg(found.alias("found"))
    return lists.select(
        F.col(side).alias("row"), *(F.col(f"found.{name}").alias(name) for name in (other, *columns))
    )
