"""A model as a folder of Parquet files, written by all nodes, and read into one memory-mapped file piece by piece.

::

    FOLDER/users/*.parquet    row, label, count, bias, factors
    FOLDER/items/*.parquet    the same
    FOLDER/seen/*.parquet     user, item, value: the training rows by row numbers, where they are kept
    FOLDER/table/*.parquet    row and the columns of the items, where there are any
    FOLDER/header             one line of JSON, written last: a folder without it is not complete
    FOLDER/model.hatrix       what `load` makes of all that
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix import _files
from hatrix._checks import path_of
from hatrix.data.ids import Ids
from hatrix.errors import ModelFileError
from hatrix.models import algorithm, artifact
from hatrix.models.model import FactorModel
from hatrix.models.seen import Seen

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["FILE", "load", "write"]

FILE = "model.hatrix"
AT_ONCE = 1 << 16
"""Rows that are read at once."""
FORMAT = 1


def write(spark: SparkSession, folder: str, frames: dict[str, DataFrame], header: dict[str, Any]) -> None:
    """Write the parts of a model from the cluster, its header last."""
    for name, frame in frames.items():
        frame.write.parquet(f"{folder}/{name}")
    text = json.dumps({"format": FORMAT, "parts": sorted(frames), **header}, allow_nan=False)
    spark.createDataFrame([(text,)], "value string").coalesce(1).write.text(f"{folder}/header")


def load(folder: str | Path, file: str | Path | None = None) -> FactorModel:
    """The model of a folder that `fit` wrote, its numbers mapped into memory.

    The Parquet files are read in pieces into one ``.hatrix`` file, which is made once: memory holds a piece, and the ids
    where they are text.

    Parameters
    ----------
    folder
        The folder, on a disk or a mounted file system of this machine.
    file
        Where to keep the ``.hatrix`` file; by default in the folder.

    Raises
    ------
    ModelFileError
        If the folder is missing, not complete or contradicts itself.

    Examples
    --------
    >>> from hatrix.app.spark import load
    >>> model = load("/mnt/models/today")  # doctest: +SKIP
    """
    folder = path_of("folder", folder)
    target = folder / FILE if file is None else path_of("file", file)
    header = _header(folder)
    if target.is_file():
        model = artifact.load(target)
        # with the seconds of the fit: two of the same ratings differ in them
        if model.history.to_dict("records") == header.get("history"):
            return model
    with _files.scratch(target.parent) as scratch:
        _model(folder, header, scratch).save(target)
    return artifact.load(target)


def _header(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ModelFileError(
            f"{folder} is not a folder on this machine: give one that hatrix spark fit wrote"
        )
    parts = sorted((folder / "header").glob("part-*"))
    if not parts:
        raise ModelFileError(
            f"{folder} has no header, which is written last: the fit did not end; run it again"
        )
    try:
        header = json.loads(parts[0].read_text(encoding="utf-8"))
        if header["format"] > FORMAT:
            raise ModelFileError(
                f"{folder} is of format {header['format']}, this hatrix reads up to {FORMAT}: upgrade hatrix"
            )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{folder}/header is damaged: run the fit again") from None
    return dict(header)


def _model(folder: Path, header: dict[str, Any], scratch: Path) -> FactorModel:
    import pandas as pd

    try:
        sides = {
            name: _side(folder / f"{name}s", header[f"{name}s"], header["factors"], scratch)
            for name in ("user", "item")
        }
        user_count = sides["user"]["count"]
        seen = _seen(folder / "seen", user_count, scratch) if "seen" in header["parts"] else None
        table = _table(folder / "table", len(sides["item"]["count"])) if "table" in header["parts"] else None
        values = {
            f"{name}_{what}": side[what]
            for name, side in sides.items()
            for what in ("bias", "factors", "count")
        }
        return FactorModel(
            algorithm(header["algorithm"])(**header["hyperparameters"]), sides["user"]["ids"], sides["item"]["ids"],
            header["mean"], **values, fallback=header["fallback"], scale=header["scale"] and tuple(header["scale"]),
            seed=header["seed"], history=pd.DataFrame(header["history"]), seen=seen, item_table=table,
            fingerprint=header["fingerprint"], data_name=header["data_name"], notes=tuple(header["notes"]),
        )  # fmt: skip
    except ModelFileError:
        raise
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise ModelFileError(f"{folder} is not as hatrix spark fit writes it: {error}") from None


def _side(folder: Path, said: dict[str, Any], k: int, scratch: Path) -> dict[str, Any]:
    n, name = said["n"], folder.name
    bias, factors = (
        _mapped(scratch / f"{name}-bias", np.float32, n),
        _mapped(scratch / f"{name}-factors", np.float32, n, k),
    )
    count, filled = _mapped(scratch / f"{name}-count", np.int64, n), np.zeros(n, bool)
    is_int = said["kind"] == "int"
    labels = _mapped(scratch / f"{name}-labels", np.int64, n) if is_int else np.empty(n, object)
    for piece in _pieces(folder, ["row", "label", "count", "bias", "factors"]):
        rows = piece["row"].to_numpy()
        if len(rows) and (rows.min() < 0 or rows.max() >= n or filled[rows].any()):
            raise ModelFileError(f"{folder} has a row twice, or one beyond its {n:,} rows: run the fit again")
        filled[rows] = True
        labels[rows] = piece["label"].to_numpy(zero_copy_only=False)
        count[rows], bias[rows] = piece["count"].to_numpy(), piece["bias"].to_numpy()
        factors[rows] = piece["factors"].flatten().to_numpy().reshape(len(rows), k)
    if not filled.all():
        raise ModelFileError(f"{folder} has {int(filled.sum()):,} of {n:,} rows: run the fit again")
    return {"ids": Ids(labels), "bias": bias, "factors": factors, "count": count}


def _seen(folder: Path, user_count: NDArray[np.int64], scratch: Path) -> Seen:
    start = np.append(0, np.cumsum(user_count))
    free, total = start[:-1].copy(), int(start[-1])
    item, value = (
        _mapped(scratch / "seen-item", np.int32, total),
        _mapped(scratch / "seen-value", np.float64, total),
    )
    there = 0
    for piece in _pieces(folder, ["user", "item", "value"]):
        user = piece["user"].to_numpy()
        order = np.argsort(user, kind="stable")
        owner, first, many = np.unique(user[order], return_index=True, return_counts=True)
        place = np.repeat(free[owner] - first, many) + np.arange(len(user))
        if len(place) and place.max() >= total:
            raise ModelFileError(f"{folder} has more training rows than the users: run the fit again")
        item[place], value[place] = piece["item"].to_numpy()[order], piece["value"].to_numpy()[order]
        free[owner] += many
        there += len(user)
    if there != total:
        raise ModelFileError(f"{folder} has {there:,} of {total:,} training rows: run the fit again")
    return Seen(start, item, value)


def _table(folder: Path, n: int) -> Any:
    import pyarrow as pa

    frame = pa.concat_tables([pa.Table.from_batches([piece]) for piece in _pieces(folder, None)]).to_pandas()
    frame = frame.sort_values("row", ignore_index=True)
    if len(frame) != n:
        raise ModelFileError(f"{folder} has {len(frame):,} of {n:,} items: run the fit again")
    return frame.drop(columns="row")


def _pieces(folder: Path, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Batches of rows, one after the other, from all files of a part."""
    from pyarrow.parquet import ParquetFile

    for path in sorted(folder.glob("part-*")):
        with ParquetFile(path) as file:
            yield from file.iter_batches(AT_ONCE, columns=columns, use_threads=False)


def _mapped(path: Path, dtype: Any, *shape: int) -> NDArray[Any]:
    """Zeros in a file; the arrays are views of it as long as they live."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    array = np.memmap(path, dtype, "w+", shape=shape).view(np.ndarray)
    os.unlink(path)  # the space is given back when the last view goes
    return array
