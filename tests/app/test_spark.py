"""Spark on this machine: ratings, fits, figures, lists and folders are those of one machine."""

from __future__ import annotations

import datetime
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
import spark as own
from hatrix.data.ids import Ids
from hatrix.errors import ClusterError, DataError, ModelFileError, ParameterError

pytestmark = [
    pytest.mark.skipif(own.why_not() is not None, reason=str(own.why_not())),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
if own.why_not() is None:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import functions as F

    from hatrix.app.spark import fit, gathering, load, mllib, recommend_all
    from hatrix.app.spark import folder as folders
    from hatrix.app.spark.ratings import Table, table
    from hatrix.app.spark.sessions import _reason, _translated, arrow_of, explained, session, table_of
    from hatrix.app.spark.sweeps import bare, solved

QUICK = hx.ALS(factors=4, epochs=5)


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    running = session("local[2]", conf=own.SMALL)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    """Ratings with a table of items, of ids that do not begin at 0 and stand in no order."""
    made = hx.synthetic.make(90, 60, n_ratings=1500, factors=3, seed=3)[0]
    titles = pd.DataFrame({"title": [f"t{row}" for row in range(60)], "year": np.arange(60) % 7 + 1990})
    return replace(made, users=Ids(made.users.labels * 7 - 300), item_table=titles)


def frame_of(spark: SparkSession, ratings: hx.Ratings, **more: Any) -> DataFrame:
    columns = {"user": ratings.users.decode(ratings.user), "item": ratings.items.decode(ratings.item)}
    return table_of(spark, columns | {"rating": ratings.value} | more)


@pytest.fixture(scope="module")
def frame(spark: SparkSession, ratings: hx.Ratings) -> DataFrame:
    return frame_of(spark, ratings)


@pytest.fixture(scope="module")
def fitted(frame: DataFrame, ratings: hx.Ratings) -> Any:
    items = ratings.item_table.assign(item=ratings.items.labels)
    return fit(
        frame, QUICK, test=0.2, seed=5, blocks=2, item_table=items.sample(frac=1, random_state=0), name="made"
    )


@pytest.fixture(scope="module")
def parts(fitted: Any, ratings: hx.Ratings) -> tuple[hx.Ratings, hx.Ratings]:
    """What the cluster trained on, and what it tested on."""
    trained = fitted.model.was_seen(*fitted.model.rows_of(ratings))
    return ratings.take(trained), ratings.take(~trained)


def numbered(frame: DataFrame, **more: Any) -> Table:
    options = {
        "user": "user",
        "item": "item",
        "rating": "rating",
        "time": None,
        "implicit": None,
        "test": None,
    }
    return table(frame, **{**options, "split": "per_user", "seed": 1, **more})


def rows_of(found: Table) -> pd.DataFrame:
    """The rows with their labels, in the order of their numbers."""
    rows = found.rows.toPandas().sort_values(["user", "item"], ignore_index=True)
    for name, side in (("user", found.users), ("item", found.items)):
        ids = side.ids.toPandas().set_index("row").label
        rows[f"{name}_label"] = ids.loc[rows[name]].to_numpy()
    return rows


# Ratings on the cluster


LABELS = {
    "bigint": [30, -4, 7, 30],
    "string": ["b", "Ab", "é", "b"],
    "uuid": [str(uuid.UUID(int=n * 10**37)) for n in (3, 1, 2, 3)],
    "decimal(10,0)": [Decimal(30), Decimal(-4), Decimal(7), Decimal(30)],
    "decimal(10,2)": [Decimal("1.50"), Decimal("7.00"), Decimal("10.25"), Decimal("1.50")],
    "double": [30.0, -4.0, 7.0, 30.0],
    "boolean": [True, False, True, True],
    "date": [datetime.date(2020, 1, n) for n in (3, 1, 2, 3)],
}


@pytest.mark.parametrize(
    "kinds",
    [("bigint", "string"), ("uuid", "double"), ("decimal(10,0)", "decimal(10,2)"), ("boolean", "date")],
)
def test_ids_of_any_type_are_numbered_as_those_of_a_file(spark: SparkSession, kinds: tuple[str, str]) -> None:
    columns = [LABELS[kind] for kind in kinds]
    schema = ", ".join(
        f"{side} {'string' if kind == 'uuid' else kind}"
        for side, kind in zip(("user", "item"), kinds, strict=True)
    )
    rows = [(*labels, place) for place, labels in enumerate(zip(*columns, strict=True))]
    found = numbered(spark.createDataFrame(rows, f"{schema}, place int"), rating="place", time="place")
    for side, labels in ((found.users, columns[0]), (found.items, columns[1])):
        want, _ = Ids.from_labels(labels)
        ids = side.ids.toPandas().sort_values("row")
        assert ids.row.tolist() == list(range(len(want)))
        assert ids.label.tolist() == want.labels.tolist()
        assert side.kind == want.kind
    user, item = (Ids.from_labels(labels)[1] for labels in columns)
    pairs = {(int(u), int(i)) for u, i in zip(user, item, strict=True)}
    got = rows_of(found)
    assert set(zip(got.user, got.item, strict=True)) == pairs
    assert found.duplicates == 4 - len(pairs)
    found.free()


def test_ids_that_are_text_in_one_part_and_numbers_in_the_other_are_text(spark: SparkSession) -> None:
    train = spark.createDataFrame([(7, 1, 3.0), (8, 1, 4.0)], "user int, item int, rating double")
    test = spark.createDataFrame([("7", 1, 5.0)], "user string, item int, rating double")
    found = numbered(train, test=test)
    assert found.users.kind == "str"
    assert (found.n, found.n_test, found.users.n) == (2, 1, 2)
    found.free()
    train = spark.createDataFrame([(7.0, 1, 3.0), (1.5, 1, 4.0)], "user double, item int, rating double")
    found = numbered(train, test=test)
    assert sorted(row.label for row in found.users.ids.collect()) == ["1.5", "7"]
    found.free()
    with pytest.raises(DataError, match="1 of 3 rows have no user id"):
        numbered(train.replace(1.5, float("nan"), "user"), test=test)


def test_of_several_rows_of_a_pair_the_latest_wins_and_events_are_added_up(spark: SparkSession) -> None:
    given = [("a", 1, 5.0, 30), ("a", 1, 2.0, 40), ("a", 1, 4.0, 20), ("b", 1, 1.0, 5)]
    frame = spark.createDataFrame(given, "user string, item int, rating double, time long")
    found = [numbered(frame, **how) for how in ({"time": "time"}, {}, {"implicit": True}, {"rating": None})]
    values = [one.rows.toPandas().sort_values(["user", "item"]).value.tolist() for one in found]
    assert values == [[2.0, 1.0], [5.0, 1.0], [11.0, 1.0], [3.0, 1.0]]
    assert [one.duplicates for one in found] == [2] * 4
    assert [one.scale for one in found] == [(1.0, 2.0), (1.0, 5.0), None, None]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(None, "i", 1.0), ("", "i", 1.0), ("u", "i", 1.0)], "2 of 3 rows have no user id"),
        ([("u", None, 1.0), ("u", "i", 1.0)], "1 of 2 rows have no item id"),
        ([("u", "i", float("nan")), ("u", "j", None), ("u", "k", float("inf")), ("u", "l", 1.0)], "3 of 4 rows have no"),
        ([], "the table is empty"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_counted(spark: SparkSession, rows: list[Any], said: str) -> None:
    frame = spark.createDataFrame(rows, "user string, item string, rating double")
    with pytest.raises(DataError, match=said):
        numbered(frame)


def test_text_that_is_no_number_is_no_rating(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [("u", "i", "4.5"), ("u", "j", "4,5")], "user string, item string, rating string"
    )
    with pytest.raises(
        DataError, match=r"1 of 2 rows have no finite number as the rating \(column 'rating'\)"
    ):
        numbered(frame)


def test_columns_that_are_not_there_or_of_no_use_are_refused(spark: SparkSession, frame: DataFrame) -> None:
    with pytest.raises(DataError, match="no column 'who' for user: the table has 'user', 'item', 'rating'"):
        numbered(frame, user="who")
    with pytest.raises(DataError, match=r"column 'user' is of type array<int>: ids are numbers or text"):
        numbered(spark.createDataFrame([([1], 1, 1.0)], "user array<int>, item int, rating double"))
    with pytest.raises(DataError, match="1 ids in column 'user' are fractions: cast it to text"):
        numbered(spark.createDataFrame([(1.5, 1, 1.0)], "user double, item int, rating double"))
    with pytest.raises(DataError, match="1 of 1 rows have no user id"):  # bytes that are no text
        numbered(spark.createDataFrame([(b"\xff", 1, 1.0)], "user binary, item int, rating double"))
    with pytest.raises(DataError, match="times are numbers, dates or timestamps"):
        numbered(frame.withColumn("time", F.lit("soon")), time="time")


def test_a_share_of_each_user_is_drawn_by_the_ids_alone(frame: DataFrame, ratings: hx.Ratings) -> None:
    found = [numbered(one, test=0.3) for one in (frame, frame.repartition(5).orderBy("rating"))]
    held = [rows_of(one) for one in found]
    pd.testing.assert_frame_equal(*held)
    want = hx.split.per_user(ratings, 0.3)
    many = np.zeros(len(ratings.users), np.int64)
    np.add.at(many, held[0].user[held[0].held], 1)
    assert many.tolist() == want.test.user_count.tolist()
    other = rows_of(numbered(frame, test=0.3, seed=2))
    assert (other.held != held[0].held).any()
    drawn = numbered(frame, test=0.3, split="random")
    assert 0.25 < drawn.n_test / len(ratings) < 0.35
    with pytest.raises(ParameterError, match=r"test is 1\.5: give a share between 0 and 1"):
        numbered(frame, test=1.5)


def test_what_comes_to_the_driver_comes_in_pieces(
    frame: DataFrame, ratings: hx.Ratings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = numbered(frame)
    monkeypatch.setattr(gathering, "PIECE", 30 * 128)
    assert gathering.ids_of(found.items) == ratings.items
    level = found.items.ids.storageLevel
    assert level.useMemory or level.useDisk  # what was kept before is kept
    assert gathering.counts_of(found)[1].tolist() == ratings.item_count.tolist()
    seen = gathering.seen_of(found, ratings.user_count)
    assert seen.start.tolist() == ratings.by_user.start.tolist()
    order = np.lexsort((ratings.item, ratings.user))
    assert seen.item.tolist() == ratings.item[order].tolist()
    assert seen.value.tolist() == ratings.value[order].tolist()
    found.free()


# Fits


def test_the_model_is_of_the_shape_that_a_file_gives(
    fitted: Any, parts: tuple[hx.Ratings, hx.Ratings]
) -> None:
    model, (train, test) = fitted.model, parts
    assert model.users == train.users
    assert model.items == train.items
    assert model.user_count.tolist() == train.user_count.tolist()
    assert model.item_count.tolist() == train.item_count.tolist()
    assert (fitted.n_train, fitted.n_test) == (len(train), len(test))
    assert model.fallback == pytest.approx(train.value.mean(), rel=1e-12)
    assert model.scale == train.scale
    start, rows = train.by_user
    for user in range(0, 90, 13):
        part, mine = model.seen.of(user), rows[start[user] : start[user + 1]]
        order = np.argsort(train.item[mine])
        assert model.seen.item[part].tolist() == train.item[mine][order].tolist()
        assert model.seen.value[part].tolist() == train.value[mine][order].tolist()
    pd.testing.assert_frame_equal(model.item_table, train.item_table, check_dtype=False)
    here = QUICK.fit(
        train, progress=False
    ).recipe.model_dump()  # the same numbers for what is left to the data
    for name, value in model.recipe.model_dump().items():
        assert value == (pytest.approx(here[name], rel=1e-9) if type(value) is float else here[name]), name
    assert "last 4 are sweeps" in model.notes[0]


def test_figures_on_the_cluster_are_those_of_evaluate(
    fitted: Any, parts: tuple[hx.Ratings, hx.Ratings]
) -> None:
    train, test = parts
    want = hx.evaluate(fitted.model, test)
    assert fitted.evaluation["rmse"] == pytest.approx(want.rmse, rel=1e-9)
    assert fitted.evaluation["mae"] == pytest.approx(want.mae, rel=1e-9)
    assert fitted.evaluation["raw_rmse"] == pytest.approx(want.raw.rmse, rel=1e-9)
    raw = fitted.model.predict_rows(train.user, train.item) - train.value
    assert fitted.model.history.train_mse.tolist() == [pytest.approx(np.mean(raw**2), rel=1e-9)]


def test_the_last_sweeps_reach_the_objective_of_one_machine(
    fitted: Any, parts: tuple[hx.Ratings, hx.Ratings]
) -> None:
    train, _ = parts
    one = QUICK.fit(train, progress=False)

    def objective(model: hx.FactorModel) -> float:
        error = train.value - model.predict_rows(train.user, train.item)
        total = error @ error
        for side, count in (("user", train.user_count), ("item", train.item_count)):
            factors, bias = getattr(model, f"{side}_factors"), getattr(model, f"{side}_bias")
            weight = np.maximum(count, 1) ** QUICK.nu
            total += QUICK.regularization * train.deviation * (weight @ (factors**2).sum(axis=1))
            total += getattr(one.recipe, f"{side}_damping") * float(bias @ bias)
        return float(total)

    assert objective(fitted.model) < 1.02 * objective(one)


def test_a_sweep_solves_the_rows_of_one_machine(ratings: hx.Ratings, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    from hatrix.app.spark import shipping
    from hatrix.app.spark.gathering import Learned

    recipe = hx.ALS(factors=4, init_scale=0.1, unit=1.0, user_damping=5.0, item_damping=2.0)
    state = recipe.init(ratings, seed=1, threads=1)
    v = state.variables
    before = [Learned(v[f"{s}_bias"].copy(), v[f"{s}_factors"][:, :4].copy()) for s in ("user", "item")]
    recipe.step(state, 0)
    start, rows = ratings.by_user
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(90, dtype=np.int32)),
            pa.ListArray.from_arrays(pa.array(start.astype(np.int32)), pa.array(ratings.item[rows])),
            pa.ListArray.from_arrays(pa.array(start.astype(np.int32)), pa.array(ratings.value[rows])),
        ],
        names=["row", "other", "value"],
    )
    stand_in: Any = type("Rows", (), {"mean": 0.0, "scale": None})
    model = bare(recipe, float(ratings.value.mean()), before, stand_in, only=1)
    monkeypatch.setattr(shipping, "model_at", lambda _: model)
    whole = pa.Table.from_batches(solved([batch], "x", 0))
    halves = pa.Table.from_batches(solved([batch.slice(0, 37), batch.slice(37)], "x", 0))
    assert whole.equals(halves.combine_chunks()) or whole.to_pydict() == halves.to_pydict()
    factors = whole["factors"].combine_chunks().flatten().to_numpy().reshape(90, 4)
    np.testing.assert_allclose(factors, v["user_factors"][:, :4], rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(whole["bias"].to_numpy(), v["user_bias"], rtol=2e-4, atol=2e-5)


def test_mllib_is_asked_for_the_same_sum_of_penalties() -> None:
    counts = [np.array([4, 9, 0]), np.array([1, 12])]
    plain = mllib.plan(hx.ALS(nu=1, biased=False, regularization=0.3, epochs=9, unit=1), counts, 13)
    assert (plain.epochs, plain.own) == (9, 0)
    assert plain.options["regParam"] == pytest.approx(0.3)
    half = mllib.plan(hx.ALS(nu=0.5, regularization=1.0, epochs=9, unit=2), counts, 13)
    assert (half.epochs, half.own) == (5, 4)
    assert half.options["regParam"] == pytest.approx(2.0 * (2 + 3 + 1 + 12**0.5) / 26)
    clicks = mllib.plan(hx.ImplicitALS(alpha=3.0, alpha0=0.5, regularization=0.1, nu=1.0), counts, 13)
    assert clicks.options["alpha"] == pytest.approx(6.0)
    assert clicks.options["regParam"] == pytest.approx(0.1 / 0.5 * (4 + 1 + 9 + 1 + 1 + 1.5 + 12 + 1.5) / 26)


def test_what_a_fit_leaves_on_disk(spark: SparkSession, frame: DataFrame, tmp_path: Path) -> None:
    from pyspark import SparkFiles

    folder = Path(SparkFiles.getRootDirectory())
    before = set(folder.iterdir())
    fit(frame, hx.ALS(factors=2, epochs=3), blocks=1)
    sent = set(folder.iterdir()) - before
    assert len(sent) == 3 * 2 + 1  # sides of sweeps, and the model for its figures
    assert sum(path.stat().st_size for path in sent) == 0
    context = spark.sparkContext
    planned = mllib.plan(hx.ALS(nu=1, unit=1, biased=False, epochs=20), [np.ones(2, int)] * 2, 2)
    with mllib.checkpoints(spark, planned, None, tmp_path):
        assert str(tmp_path) in str(context.getCheckpointDir())
    assert context.getCheckpointDir() is None  # or the next fit would make the folder again


def test_what_a_cluster_cannot_do_is_refused(frame: DataFrame) -> None:
    for recipe, said in (
        (hx.BiasedMF(), "biased-mf is not trained on Spark: give ALS or ImplicitALS"),
        (hx.ALS(solver="cg"), "solver='cg' cannot be had on Spark"),
        (hx.ALS(init_scale=0.5), "init_scale=0.5 cannot be had on Spark: MLlib starts from rows of length 1"),
        (hx.ImplicitALS(patience=2), "patience=2 cannot be had on Spark"),
    ):
        with pytest.raises(ParameterError, match=said):
            fit(frame, recipe)
    with pytest.raises(ParameterError, match="blocks is 0: give a whole number from 1 to"):
        fit(frame, QUICK, blocks=0)
    with pytest.raises(ParameterError, match="k is 0: give a whole number from 1 to"):
        fit(frame, QUICK, test=0.2, k=0)
    with pytest.raises(DataError, match="df is a list: give a Spark DataFrame"):
        fit([], QUICK)
    with pytest.raises(DataError, match="the table has events and no ratings"):
        fit(frame, QUICK, rating=None)


def test_rankings_on_the_cluster_are_measured_as_here(spark: SparkSession, ratings: hx.Ratings) -> None:
    clicks = ratings.take(ratings.value >= 3)
    recipe = hx.ImplicitALS(factors=4, epochs=5)
    found = fit(frame_of(spark, clicks), recipe, test=0.3, k=5, blocks=2, implicit=True)
    model = found.model
    trained = model.was_seen(*model.rows_of(clicks))
    want = hx.evaluate_ranking(model, clicks.take(~trained), k=5)
    for figure in ("recall", "ndcg", "precision", "hit_rate", "map", "mrr"):
        assert found.evaluation[figure] == pytest.approx(want.mean(figure, 5), rel=1e-9)
    one = recipe.fit(replace(clicks.take(trained), implicit=True, scale=None), progress=False)
    assert one.recipe == model.recipe  # what is worked out from the data
    assert found.evaluation["ndcg"] > 0.9 * hx.evaluate_ranking(one, clicks.take(~trained), k=5).ndcg


# Lists


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclude_seen": False, "n": 3},
        {"where": "year >= 1993", "exclude": [5, 6, 7]},
        {"among": list(range(1, 30)), "n": 40},
    ],
)
def test_lists_are_those_of_one_machine(spark: SparkSession, fitted: Any, options: dict[str, Any]) -> None:
    n = options.pop("n", 10)
    want = fitted.model.recommend_all(n, progress=False, **options)
    found = recommend_all(fitted.model, spark, n, partitions=3, **options)
    got = found.toPandas().sort_values("user", kind="stable", ignore_index=True)
    assert list(got.columns) == ["user", "item", "score", "basis", "title", "year"]
    for column in ("user", "item", "score"):
        assert got[column].tolist() == want[column].tolist()
    assert got.basis.tolist() == want.basis.astype(str).tolist()
    assert got.title.tolist() == [f"t{item - 1}" for item in got.item]


def test_what_users_have_in_a_table_is_left_out(
    spark: SparkSession, fitted: Any, parts: Any, tmp_path: Path
) -> None:
    train, _ = parts
    stranger = spark.createDataFrame([(10**6, 1), (int(train.users.labels[0]), 10**6)], "who long, film long")
    seen = (
        frame_of(spark, train).select(F.col("user").alias("who"), F.col("item").alias("film")).union(stranger)
    )
    fitted.model.save(tmp_path / "bare.hatrix", seen=False)
    found = recommend_all(
        tmp_path / "bare.hatrix", spark, 10, exclude_seen=seen, user="who", item="film", titles=False
    )
    got = found.toPandas().sort_values("user", kind="stable", ignore_index=True)
    want = fitted.model.recommend_all(10, progress=False)
    assert got[["user", "item", "score"]].equals(want[["user", "item", "score"]])
    with pytest.raises(DataError, match="saved without its training rows"):
        recommend_all(tmp_path / "bare.hatrix", spark)
    with pytest.raises(DataError, match="no column 'user' for user: the ratings have 'who', 'film'"):
        recommend_all(fitted.model, spark, exclude_seen=seen)
    with pytest.raises(ParameterError, match="exclude_seen is 'all': give True, False, or a Spark DataFrame"):
        recommend_all(fitted.model, spark, exclude_seen="all")


def test_ids_of_a_table_are_looked_up_as_they_were_numbered(spark: SparkSession, tmp_path: Path) -> None:
    users = [2**60 + 1, 2**60 + 2, 2**60 + 3]  # as floats they are one
    days = [datetime.datetime(2020, 1, day, 12) for day in (1, 2, 3)]
    pairs = [(users[0], days[0]), (users[1], days[1]), (users[2], days[2]), (users[2], days[0])]
    rated = spark.createDataFrame(pairs, "who long, `at.day` timestamp").withColumn("stars", F.lit(3.0))
    titles = spark.createDataFrame(
        [*zip(days, "abc", strict=True), (None, "d")], "`at.day` timestamp, title string"
    )
    columns = {"user": "who", "item": "at.day"}
    recipe = hx.ALS(factors=2, epochs=1, nu=1, biased=False)
    model = fit(rated, recipe, rating="stars", blocks=1, item_table=titles, **columns)
    assert model.item_table.title.tolist() == ["a", "b", "c"]
    model.save(tmp_path / "bare.hatrix", seen=False)
    seen = (
        rated.drop("stars")
        .union(spark.createDataFrame([(None, days[0])], rated.drop("stars").schema))
        .coalesce(1)
    )
    found = recommend_all(tmp_path / "bare.hatrix", spark, 3, exclude_seen=seen, partitions=3, **columns)
    assert found.rdd.getNumPartitions() == 3
    got = found.toPandas()
    want = model.recommend_all(3, progress=False)
    assert sorted(zip(got.user, got.item, strict=True)) == sorted(zip(want.user, want.item, strict=True))


def test_columns_of_items_are_of_types_that_spark_has() -> None:
    table = pd.DataFrame(
        {"flag": np.array([1, 255], np.uint8), "hash": np.array([1, 2**64 - 1], np.uint64), "year": [1, 2]}
    )
    found = arrow_of(table)
    assert [str(kind) for kind in found.schema.types] == ["int16", "decimal128(20, 0)", "int64"]
    assert found.to_pydict() == {"flag": [1, 255], "hash": [1, 2**64 - 1], "year": [1, 2]}


def test_text_ids_and_users_without_ratings_have_lists_too(spark: SparkSession) -> None:
    ratings = hx.Ratings.from_columns(["b", "a", "é", "b"], ["x", "y", "x", "y"], [1.0, 2.0, 3.0, 4.0])
    model = hx.BiasedMF(factors=2, epochs=2).fit(ratings.take(ratings.user != 2), progress=False)
    got = recommend_all(model, spark, 2, exclude_seen=False).toPandas().sort_values("user", kind="stable")
    want = model.recommend_all(2, exclude_seen=False, progress=False)
    assert got.user.tolist() == want.user.tolist() == ["a", "a", "b", "b", "é", "é"]
    assert got.item.tolist() == want.item.tolist()
    assert got.basis.tolist() == ["model"] * 4 + ["bias"] * 2


# Folders


@pytest.fixture(scope="module")
def written(frame: DataFrame, ratings: hx.Ratings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "model"
    items = ratings.item_table.assign(item=ratings.items.labels)
    done = fit(frame, QUICK, test=0.2, seed=5, blocks=2, item_table=items, name="made", path=str(folder))
    assert (done.model, done.path) == (None, str(folder))
    return folder


def test_a_folder_loads_as_the_model_that_comes_to_the_driver(
    fitted: Any, written: Path, frame: DataFrame
) -> None:
    model = load(written)
    want = fitted.model
    for name in ("user_bias", "item_bias", "user_factors", "item_factors", "user_count", "item_count"):
        assert getattr(model, name).tolist() == getattr(want, name).tolist()
    assert all(mine.tolist() == theirs.tolist() for mine, theirs in zip(model.seen, want.seen, strict=True))
    assert (model.users, model.items, model.mean, model.scale) == (
        want.users,
        want.items,
        want.mean,
        want.scale,
    )
    assert (model.fingerprint, model.notes, model.recipe) == (want.fingerprint, want.notes, want.recipe)
    assert model.item_table.title.tolist() == want.item_table.title.tolist()
    assert isinstance(model.user_factors.base, np.ndarray)
    assert (written / "model.hatrix").is_file()
    with pytest.raises(ParameterError, match="exists: give a new folder, or remove it first"):
        fit(frame, QUICK, path=str(written))


def test_a_file_of_another_fit_to_the_same_ratings_is_made_anew(
    fitted: Any, written: Path, tmp_path: Path
) -> None:
    fitted.model.save(tmp_path / "m.hatrix")
    model = load(written, tmp_path / "m.hatrix")
    assert model.fingerprint == fitted.model.fingerprint
    assert (
        model.history.seconds.tolist()
        == load(written).history.seconds.tolist()
        != fitted.model.history.seconds.tolist()
    )


def test_lists_of_a_folder(spark: SparkSession, fitted: Any, written: Path) -> None:
    got = recommend_all(written, spark, 4, titles=False).toPandas().sort_values("user", kind="stable")
    assert got.item.tolist() == fitted.model.recommend_all(4, progress=False).item.tolist()


def test_a_folder_is_read_in_pieces(tmp_path: Path) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    users, items, k = 400_000, 50, 32
    for name, n in (("users", users), ("items", items)):
        (tmp_path / name).mkdir()
        rows = np.random.default_rng(0).permutation(n)  # parts come in any order
        for number, some in enumerate(np.array_split(rows, 3)):
            lists = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(some, k).astype(np.float32)), k)
            columns = {"row": some.astype(np.int32), "label": some * 2, "count": np.ones(len(some), np.int64),
                       "bias": some.astype(np.float32), "factors": lists.cast(pa.list_(pa.float32()))}  # fmt: skip
            pq.write_table(pa.table(columns), tmp_path / name / f"part-{number}.parquet")
    (tmp_path / "header").mkdir()
    header = {
        "format": 1, "parts": ["items", "users"], "algorithm": "als", "hyperparameters": {"factors": k}, "factors": k,
        "seed": 1, "mean": 3.0, "fallback": 3.0, "scale": [1, 5], "data_name": "x", "fingerprint": "f", "notes": [],
        "history": [{"epoch": 1}], "users": {"n": users, "kind": "int"}, "items": {"n": items, "kind": "int"},
    }  # fmt: skip
    (tmp_path / "header" / "part-0.txt").write_text(json.dumps(header))
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    model = load(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = users * k * 4
    assert peak < whole / 2
    assert pool.max_memory() - before < whole / 2
    assert model.user_factors[12345].tolist() == [12345.0] * k
    assert model.users.labels[:3].tolist() == [0, 2, 4]


def test_a_folder_that_is_not_whole_is_refused(written: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(ModelFileError, match="is not a folder on this machine"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="has no header, which is written last: the fit did not end"):
        load(tmp_path / "empty")
    shutil.copytree(written, tmp_path / "cut", ignore=shutil.ignore_patterns(folders.FILE))
    victim = max((tmp_path / "cut" / "users").glob("part-*"), key=lambda path: path.stat().st_size)
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="is not as hatrix spark fit writes it"):
        load(tmp_path / "cut")
    victim.unlink()
    with pytest.raises(ModelFileError, match=r"users has \d+ of 90 rows: run the fit again"):
        load(tmp_path / "cut")


# Failures


def test_failures_of_spark_are_one_line(spark: SparkSession) -> None:
    with pytest.raises(ClusterError, match=r"reading: .*PATH_NOT_FOUND") as caught, explained("reading"):
        spark.read.parquet("/nowhere/at/all")
    assert "\n" not in str(caught.value).strip()
    from hatrix.app.spark.lists import _listed

    with pytest.raises(ClusterError, match="lists: "), explained("lists"):
        spark.range(1).mapInArrow(lambda batches: _listed(batches, None), "x int").collect()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("PythonException:\n  ModuleNotFoundError: No module named 'hatrix'\n", "the Python of the workers has no hatrix"),
        ("org.apache…\nCaused by: java.lang.OutOfMemoryError: Java heap space\n", "raise spark.driver.memory"),
        ('Caused by: java.io.IOException: Cannot run program "x/python": error=2, No such\nCaused by: IOException: error=2',
         "there is no x/python on a node"),
        ("[PYTHON_VERSION_MISMATCH] 3.11 3.12", "different versions of Python"),
        ("PythonException: Traceback\n  File x\nhatrix.errors.DataError: a value is 0\n\n\tat org.x", "a value is 0"),
        ("Job aborted\nCaused by: org.apache.spark.SparkException: no room\n\tat x", "what: SparkException: no room"),
    ],
)  # fmt: skip
def test_what_spark_says_is_told_shortly(text: str, said: str) -> None:
    assert said in str(_translated("what", text))


def test_why_spark_did_not_start_is_told_shortly() -> None:
    quiet = 'Setting Spark log level to "ERROR".\n'
    raised = RuntimeError(
        "An error occurred while calling o1.\n: org.x.SparkException: [INVALID] local[x]\n\tat org.x"
    )
    assert _reason(quiet, raised) == "SparkException: [INVALID] local[x]"
    said = 'Exception in thread "main" org.x.SparkException: Master must be yarn\n\tat org.x\n'
    assert _reason(quiet + said, raised) == "SparkException: Master must be yarn"


@pytest.mark.quality
@pytest.mark.campaign
@pytest.mark.parametrize("recipe", [hx.ALS(factors=16, nu=1, biased=False, regularization=0.08), hx.ALS(factors=16)],
                         ids=["mllib", "biased"])  # fmt: skip
def test_quality_is_that_of_one_machine(spark: SparkSession, ml_100k: hx.Ratings, recipe: hx.ALS) -> None:
    """Means over draws of the test part and over starts: where a fit starts moves either side by more than they differ."""
    frame = frame_of(spark, ml_100k)
    errors = []
    for seed in (1, 2, 3):
        found = fit(frame, recipe, test=0.2, seed=seed, blocks=2)
        trained = found.model.was_seen(*found.model.rows_of(ml_100k))
        train, test = ml_100k.take(trained), ml_100k.take(~trained)
        start = recipe.replace(init_scale=1.0)  # rows of length 1, as MLlib's
        here = [hx.evaluate(start.fit(train, seed=s, progress=False), test).rmse for s in range(5)]
        errors.append((found.evaluation["rmse"], np.mean(here)))
    cluster, one = np.mean(errors, axis=0)
    assert abs(cluster / one - 1) < 0.002, errors
