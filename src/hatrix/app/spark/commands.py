"""``hatrix spark fit`` and ``hatrix spark recommend``: the two jobs that a cluster does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

import hatrix
from hatrix.app.flags import Columns, Output, Seed, above_zero, file_path, flag, whole
from hatrix.app.recommend import Among, Exclude, Length, Where, ids_in
from hatrix.app.spark.java import need_the_extra
from hatrix.app.staging import staged
from hatrix.app.steps import load
from hatrix.errors import ParameterError
from hatrix.models import SEED

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

    from hatrix.data.ratings import Ratings
    from hatrix.models.fit import Algorithm
else:
    Algorithm = Any

__all__ = ["fit", "recommend"]

FILE = ".hatrix"
REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
"""How an address begins that the cluster reads, such as hdfs: or s3a:; ``table:`` is one of its catalogue."""
LOCAL = "file://"
TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")

ClusterSource = Annotated[
    str,
    Parameter(
        help="a data set or a file of ratings, which this machine reads; or what the cluster reads: a folder, an address "
        "such as hdfs://…, s3a://…, or table:NAME"
    ),
]


@Parameter(name="*", group=Group("Cluster", sort_key=3))
@dataclass(frozen=True)
class Cluster:
    """Where to run."""

    master: Annotated[
        str | None,
        Parameter(
            help="local[2], local[*], spark://HOST:7077, yarn, k8s://… [default: local[2], or that of spark-submit]"
        ),
    ] = None
    conf: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="settings of Spark, as spark.driver.memory=8g"),
    ] = None

    def settings(self) -> dict[str, str]:
        found = {}
        for text in self.conf or []:
            key, sign, value = text.partition("=")
            if not sign or not key.startswith("spark."):
                raise ParameterError(
                    f"--conf {text}: give a setting of Spark, such as spark.driver.memory=8g"
                )
            found[key] = value
        return found

    @contextmanager
    def session(self, output: Output) -> Iterator[SparkSession]:
        """The running session, or one for as long as the command takes."""
        need_the_extra()
        conf = self.settings()
        from pyspark.sql import SparkSession

        from hatrix.app.spark.sessions import session

        mine = SparkSession.getActiveSession() is None
        spark = session(self.master, conf=conf, debug=output.debug)
        try:
            yield spark
        finally:
            if mine:
                spark.stop()


def fit(
    source: ClusterSource,
    algorithm: Annotated[str, Parameter(help="als or implicit-als; write --help after it for its own flags")],
    /,
    *,
    out: Annotated[
        str,
        Parameter(
            help=f"file for the model that ends on {FILE}, which the driver writes; or a folder of Parquet files, which all "
            "nodes write"
        ),
    ],
    recipe: Algorithm,
    test: Annotated[
        float | None,
        Parameter(converter=above_zero(1, "0.2"), help="share of the ratings to test on, as 0.2"),
    ] = None,
    split: Annotated[
        Literal["per_user", "random"],
        Parameter(help="of each user's ratings, or of all: the share to test on"),
    ] = "per_user",
    seed: Seed = SEED,
    blocks: Annotated[
        int | None,
        Parameter(converter=whole(1), help="parts into which MLlib deals users and items [default: 10]"),
    ] = None,
    checkpoint: Annotated[
        str | None, Parameter(help="folder that all nodes reach, for more than 15 epochs on a cluster")
    ] = None,
    seen: Annotated[
        bool | None,
        Parameter(
            negative="--no-seen",
            help="keep the training ratings in the model, to know what is new to a user [default: up to 5 million]",
        ),
    ] = None,
    cluster: Cluster = Cluster(),
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Train on a Spark cluster."""
    del algorithm  # the recipe is of it
    started = time.perf_counter()
    with _placed(out, source) as place, cluster.session(output) as spark:
        from hatrix.app.spark.training import Fitted
        from hatrix.app.spark.training import fit as fit_on

        read = _read(spark, source, columns, output, recipe)
        output.note(f"training {recipe.name} at {_master(spark)}")
        given: dict[str, Any] = {**read.roles, "item_table": read.item_table, "name": read.name}
        given |= {
            "test": test,
            "split": split,
            "seed": seed,
            "blocks": blocks,
            "checkpoint": checkpoint,
            "seen": seen,
        }
        to_file = out.endswith(FILE)
        done = fit_on(read.frame, recipe, path=None if to_file else place, **given)  # type: ignore[arg-type]  # fit refuses others
        model = done.model if isinstance(done, Fitted) else done
        if to_file:
            assert model is not None
            model.save(place)
        facts = _facts(done)
    for note in facts["notes"]:
        output.note(note)
    facts |= {"hatrix": hatrix.__version__, "model": out, "seconds": time.perf_counter() - started}
    shown = {name: value for name, value in (facts["evaluation"] or {}).items() if isinstance(value, float)}
    text = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
    output.result(facts, f"{text}\n\nmodel: {out}" if text else f"model: {out}")


def recommend(
    model: Annotated[
        Path, Parameter(converter=file_path, help="a model file, or a folder that hatrix spark fit wrote")
    ],
    /,
    *,
    out: Annotated[str, Parameter(help="folder of Parquet files for the lists")],
    n: Length = 10,
    ratings: Annotated[
        str | None,
        Parameter(
            help="leave out what users have rated here, instead of the training ratings: read as by hatrix spark fit"
        ),
    ] = None,
    include_seen: Annotated[bool, Parameter(help="show items again that users have rated")] = False,
    where: Where = None,
    among: Among = None,
    exclude: Exclude = None,
    no_titles: Annotated[bool, Parameter(help="leave out the columns of the items")] = False,
    partitions: Annotated[
        int | None,
        Parameter(converter=whole(1), help="tasks to make of it [default: as many as run at once]"),
    ] = None,
    cluster: Cluster = Cluster(),
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> None:
    """Rank the items for every user on a Spark cluster."""
    if ratings is not None and include_seen:
        raise ParameterError(
            "--ratings says what to leave out, and --include-seen to leave out nothing: give one of them"
        )
    if not model.exists():
        raise ParameterError(f"{model}: there is no such file or folder")
    started = time.perf_counter()
    with _placed(out, str(model)) as place, cluster.session(output) as spark:
        from hatrix.app.spark.folder import FILE as IN_FOLDER
        from hatrix.app.spark.folder import load as load_folder
        from hatrix.app.spark.lists import recommend_all
        from hatrix.app.spark.sessions import explained

        fitted = load_folder(model) if model.is_dir() else hatrix.load(model)
        if ratings is None and not include_seen and fitted.seen is None:
            raise ParameterError(
                f"{model} does not have its training ratings, so it is not known what users have seen: give --ratings, or "
                "add --include-seen"
            )
        left_out: dict[str, Any] = {"exclude_seen": not include_seen}
        if ratings is not None:
            read = _read(spark, ratings, columns, output, None)
            left_out = {"exclude_seen": read.frame, "user": read.roles["user"], "item": read.roles["item"]}
        output.note(
            f"ranking {len(fitted.items):,} items for {len(fitted.users):,} users at {_master(spark)}"
        )
        lists = recommend_all(
            model / IN_FOLDER if model.is_dir() else model, spark, n, where=where, titles=not no_titles,
            partitions=partitions,
            among=None if among is None else ids_in(fitted.items, among, "--among"),
            exclude=None if exclude is None else ids_in(fitted.items, exclude, "--exclude"), **left_out,
        )  # fmt: skip
        with explained("the lists could not be written"):
            lists.write.parquet(place)
            rows = spark.read.parquet(_literal(place)).count()
    facts = {
        "out": out,
        "n": n,
        "users": len(fitted.users),
        "rows": rows,
        "seconds": time.perf_counter() - started,
    }
    output.result(facts, f"{rows:,} items for {len(fitted.users):,} users: {out}")


@dataclass(frozen=True)
class _Read:
    """Ratings as a DataFrame: which column is which, what else is known of the items, and what they are called."""

    frame: DataFrame
    roles: dict[str, Any]
    item_table: pd.DataFrame | None
    name: str


def _read(
    spark: SparkSession, source: str, columns: Columns, output: Output, recipe: Algorithm | None
) -> _Read:
    from hatrix.data import datasets

    if source in datasets.names() or os.path.isfile(source):
        if recipe is None:
            ratings = columns.load(source, progress=not output.quiet)
        else:
            ratings = load(source, columns, output, recipe)
        return _sent(spark, ratings)
    if not (REMOTE.match(source) or os.path.isdir(source)):
        columns.load(source, progress=False)  # says what is wrong with it
    from hatrix.app.spark.sessions import explained

    with explained(f"{source} cannot be read"):
        return _on_cluster(spark, _here(source) if os.path.isdir(source) else source, columns)


def _sent(spark: SparkSession, ratings: Ratings) -> _Read:
    """Ratings that this machine has read."""
    from hatrix.app.spark.sessions import explained, table_of

    value = "count" if ratings.implicit else "rating"
    held: dict[str, Any] = {
        "user": ratings.users.decode(ratings.user),
        "item": ratings.items.decode(ratings.item),
    }
    held |= {value: ratings.value} | ({} if ratings.time is None else {"time": ratings.time})
    with explained("the ratings could not be sent to the cluster"):
        frame = table_of(spark, held)
    table = ratings.item_table
    if table is not None:
        table = table.assign(item=ratings.items.labels)
    roles = {"user": "user", "item": "item", "rating": value, "time": "time" if "time" in held else None}
    return _Read(frame, roles, table, ratings.name)


def _on_cluster(spark: SparkSession, source: str, columns: Columns) -> _Read:
    """Ratings that the nodes read."""
    from hatrix.data.roles import places_of

    given = {
        one.name: getattr(columns, one.name)
        for one in fields(columns)
        if getattr(columns, one.name) != one.default
    }
    text = source.lower().endswith(TEXT) or "separator" in given
    for name in ("header", "encoding", "skip_bad_rows"):
        if name in given and (name == "skip_bad_rows" or not text):
            raise ParameterError(
                f"{flag(name)} does not go with what the cluster reads: prepare the table there"
            )
    place = (
        _literal(source) if source.startswith(LOCAL) and os.path.isdir(source.removeprefix(LOCAL)) else source
    )
    if source.startswith("table:"):
        frame = spark.table(source.removeprefix("table:"))
    elif text:
        separator = given.get("separator", "\t" if ".tsv" in source.lower() else ",")
        options = {
            "sep": separator,
            "header": given.get("header", True),
            "encoding": given.get("encoding", "UTF-8"),
        }
        frame = spark.read.csv(place, inferSchema=True, mode="FAILFAST", **options)
    else:
        frame = spark.read.parquet(place)
    chosen = {role: given.get(f"{role}_column") for role in ("user", "item", "rating", "time")}
    places = places_of(chosen, list(frame.columns), len(frame.columns), source, None)
    roles: dict[str, Any] = {role: frame.columns[places[role]] if role in places else None for role in chosen}
    return _Read(frame, roles, None, source.rstrip("/").rsplit("/", 1)[-1])


@contextmanager
def _placed(out: str, source: str) -> Iterator[str]:
    """Where to write: an address of the cluster as it is; a place on this machine is filled all or not at all."""
    if not out or "\0" in out:
        raise ParameterError("--out: give a path, not an empty text")
    if REMOTE.match(out):
        if out.endswith(FILE):
            raise ParameterError(
                f"--out {out}: a {FILE} file is written by this machine: give a path on it, or a folder"
            )
        yield out
        return
    path = Path(out).absolute()
    if not out.endswith(FILE) and os.path.lexists(path):
        raise ParameterError(f"--out: {out} exists: give a new folder, or remove it first")
    with staged(path.parent, [path.name], source) as stage:
        yield str(stage / path.name) if out.endswith(FILE) else _here(stage / path.name)


def _here(path: str | Path) -> str:
    """A place on this machine as Spark takes it, which would look for a bare path in its own default file system."""
    return LOCAL + os.path.abspath(path)


def _literal(place: str) -> str:
    """A place that is read with no letter of it taken for a pattern."""
    return re.sub(r"([][{}*?\\])", r"\\\1", place)


def _master(spark: SparkSession) -> str:
    return str(spark.conf.get("spark.master", "the cluster"))


def _facts(done: Any) -> dict[str, Any]:
    from hatrix.app.steps import facts_of

    if isinstance(done, hatrix.FactorModel):
        facts = facts_of(done)
        return facts | {
            "epochs": facts["hyperparameters"]["epochs"],
            "evaluation": None,
            "n_train": int(done.user_count.sum()),
        }
    known = ("algorithm", "hyperparameters", "seed", "notes", "users", "items")
    return {name: done.facts[name] for name in known} | {
        "data": done.facts["data_name"],
        "epochs": done.facts["hyperparameters"]["epochs"],
        "split": done.facts["protocol"],
        "n_train": done.n_train,
        "n_test": done.n_test,
        "duplicates": done.duplicates,
        "evaluation": done.evaluation,
    }
