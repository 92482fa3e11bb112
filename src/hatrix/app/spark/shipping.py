"""Files that every worker reads: a model is mapped into memory there, once for all Python processes of a node."""

from __future__ import annotations

import atexit
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatrix import _files

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

    from hatrix.models.model import FactorModel

__all__ = ["model_at", "numbers_at", "retire", "ship", "ship_numbers"]

_OURS: dict[str, Path] = {}
"""The files that were sent, by the names that workers know them by."""


def ship(spark: SparkSession, model: FactorModel | Path, *, seen: bool) -> str:
    """Send a model, or a model file, to the nodes that will work on it; its name there.

    Spark takes the file from this machine as long as the session lives, so it stays until this process ends.
    """
    path = _new_path()
    if isinstance(model, Path):
        try:
            os.link(model, path)
        except OSError:
            shutil.copyfile(model, path)
    else:
        model.save(path, seen=seen)
    return _sent(spark, path)


def ship_numbers(spark: SparkSession, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Send arrays; their file's name there."""
    from hatrix.models import container

    path = _new_path()
    container.write(path, arrays, {})
    return _sent(spark, path)


def retire(name: str) -> None:
    """Give back what a file takes on this machine, when no task needs it any more.

    Spark still sends it to nodes that join later, so an empty file takes its place; who has mapped the old one keeps it.
    """
    from pyspark import SparkFiles

    places = [_OURS.pop(name)]
    with suppress(Exception):  # with Spark Connect there is no second copy here
        places.append(Path(SparkFiles.get(name)))
    with suppress(OSError):  # such as a session that has ended, whose folder is gone
        for place in places:
            with _files.replacing(place, durable=False):
                pass


@lru_cache(maxsize=2)
def model_at(name: str) -> FactorModel:
    """In a worker: the model that was sent. Its bytes were checked when it was written or read, so they are not again."""
    from pyspark import SparkFiles

    from hatrix.models.artifact import load

    return load(SparkFiles.get(name), verify=False)


@lru_cache(maxsize=2)
def numbers_at(name: str) -> dict[str, NDArray[Any]]:
    """In a worker: the arrays that were sent."""
    from pyspark import SparkFiles

    from hatrix.models import container

    return container.read(SparkFiles.get(name))[0]


def _sent(spark: SparkSession, path: Path) -> str:
    spark.addArtifacts(str(path), file=True)
    _OURS[path.name] = path
    return path.name


def _new_path() -> Path:
    made = ExitStack()
    folder = made.enter_context(_files.scratch())
    atexit.register(made.close)
    return folder / f"{uuid.uuid4().hex}.hatrix"
