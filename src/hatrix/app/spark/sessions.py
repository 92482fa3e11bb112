"""Spark sessions that are quiet, and failures of Spark in one line."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hatrix.app.spark.java import need_java
from hatrix.errors import ClusterError, DataError, HatrixError
from hatrix.models.fit import cores

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["LOCAL", "arrow_of", "explained", "parallelism", "session", "table_of"]

LOCAL = "local[2]"
SUBMITTED = "PYSPARK_GATEWAY_PORT"
"""What spark-submit sets for the programs that it starts: then master and settings are its own."""
LINES = 400
"""Of what Spark said, that are searched for why it did not start."""


def session(
    master: str | None = None,
    *,
    conf: Mapping[str, str] | None = None,
    name: str = "hatrix",
    debug: bool = False,
) -> SparkSession:
    """The Spark session that is running, or a new one.

    Parameters
    ----------
    master
        Where to run: ``local[2]`` (the default), ``local[*]``, ``spark://host:7077``, ``yarn``, ``k8s://…``. Not needed
        in a program that spark-submit started, nor in a notebook of Databricks, which have a session or a master.
    conf
        Settings of Spark, such as ``{"spark.driver.memory": "8g"}``.
    name
        What the application is called.
    debug
        Let Spark print what it likes; otherwise errors alone are kept, to be told when Spark fails.

    Raises
    ------
    MissingExtraError
        If there is no Java 17 or newer.
    ClusterError
        If Spark does not start.

    Examples
    --------
    >>> from hatrix.app.spark import session
    >>> session("local[2]", conf={"spark.driver.memory": "4g"})  # doctest: +SKIP
    """
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    builder = SparkSession.builder.appName(name)
    if SUBMITTED not in os.environ:
        need_java()
        master = LOCAL if master is None else master
        builder = builder.master(master)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        if conf and "spark.pyspark.python" in conf:  # which Spark reads in spark-submit alone
            os.environ["PYSPARK_PYTHON"] = conf["spark.pyspark.python"]
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            local: dict[str, Any] = {"spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
            local["spark.sql.shuffle.partitions"] = str(2 * _cores(master))
            builder = builder.config(map=local)
    if not debug:
        builder = builder.config("spark.log.level", "ERROR").config("spark.ui.showConsoleProgress", "false")
    for key, value in (conf or {}).items():
        builder = builder.config(key, value)
    with _said(hidden=not debug) as said:
        try:
            return builder.getOrCreate()
        except Exception as error:
            raise ClusterError(
                f"Spark did not start at {master or 'its master'}: {_reason(said(), error)}"
            ) from error


def _cores(master: str) -> int:
    """Tasks that a local master runs at once."""
    count = re.match(r"local\[(\d+)", master)
    return int(count[1]) if count else cores() if "[" in master else 1


def parallelism(spark: SparkSession) -> int:
    """Tasks that run at once, as far as the session tells."""
    try:
        return int(spark.sparkContext.defaultParallelism)
    except Exception:  # Spark Connect has no context to ask
        return 2


def table_of(spark: SparkSession, columns: Mapping[str, Any]) -> DataFrame:
    """A DataFrame of columns that this process holds."""
    import pyarrow as pa

    return spark.createDataFrame(pa.table(dict(columns)))


def arrow_of(frame: pd.DataFrame) -> pa.Table:
    """The columns of a table in types that Spark has: it knows no unsigned integers."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    signed = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.decimal128(20),
    }
    return table.cast(
        pa.schema([field.with_type(signed.get(field.type, field.type)) for field in table.schema])
    )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise what went wrong in Spark as an error of one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise _translated(what, str(error)) from error


def _translated(what: str, text: str) -> HatrixError:
    ours = re.findall(
        r"^\s*(?:\w+: )*hatrix\.errors\.(?:DataError|ParameterError): (.+)$", text, re.MULTILINE
    )
    if ours:
        return DataError(ours[-1])
    if re.search(r"No module named 'hatrix", text):
        return ClusterError(
            f"{what}: the Python of the workers has no hatrix: run pip install '.[spark]' in a clone of "
            "hatrix there, or send an environment along (spark.pyspark.python, docs/spark.md)"
        )
    program = re.search(r'Cannot run program "([^"]+)"', text)
    if program:
        return ClusterError(
            f"{what}: there is no {program[1]} on a node: let PYSPARK_PYTHON or spark.pyspark.python name the Python of all"
        )
    if "PYTHON_VERSION_MISMATCH" in text:
        return ClusterError(
            f"{what}: workers and driver run different versions of Python: let PYSPARK_PYTHON name one"
        )
    if "OutOfMemoryError" in text or "maxResultSize" in text:
        return ClusterError(f"{what}: Spark ran out of memory: raise spark.driver.memory, spark.driver.maxResultSize or "
                            "spark.executor.memory")  # fmt: skip
    return ClusterError(f"{what}: {_cause(text)}")


def _cause(text: str) -> str:
    """The line of a stack trace that says most."""
    lines = [line.strip().removeprefix(": ") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("An error occurred while calling")]
    python = [
        line
        for line in lines
        if re.match(r"(\w+\.)*\w+(Error|Exception): \S", line) and not line.startswith("java")
    ]
    deepest = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    found = (
        (python[-1:] if "PythonException" in text or "Traceback" in text else []) or deepest[-1:] or lines[:1]
    )
    return re.sub(r"^(?:[a-z]\w*\.)+(?=[A-Z]\w*: )", "", found[0]) if found else "no reason given"


def _reason(said: str, error: Exception) -> str:
    lines = (line.removeprefix('Exception in thread "main" ') for line in said.splitlines())
    errors = [
        line
        for line in lines
        if re.search(r"\b(ERROR|\w*Exception|Error)\b", line)
        and not line.startswith("Setting Spark log level")
    ]
    return _cause("\n".join(errors[:LINES]) or str(error))


@contextmanager
def _said(*, hidden: bool) -> Iterator[Any]:
    """Let what Java prints as long as it runs go to a nameless file, which is read when it fails to start."""
    if not hidden:
        yield lambda: ""
        return
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:

            def said() -> str:
                file.seek(0)
                return file.read().decode(errors="replace")

            yield said
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
