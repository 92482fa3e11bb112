"""Work on data larger than memory, in a process of its own: ``limited.py FOLDER LIMIT [CGROUP]``.

It prints the most bytes that were resident after each step, the last of which does not go by slices and needs more.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import hatrix as hx
from hatrix.data.disk import Disk
from hatrix.data.ids import Ids
from hatrix.models.seen import Seen
from peaks import peak

USERS, ITEMS, FACTORS, ROWS = 100_000, 2_000, 16, 10_000_000
COLUMNS = {"user": np.int32, "item": np.int32, "value": np.float64}


def make(folder: Path) -> None:
    """Columns of ratings sorted by user; not even the cache of files keeps them."""
    disk, rng, each, users = Disk(folder, 0), np.random.default_rng(0), ROWS // USERS, USERS // 10
    with (
        disk.writing("user", np.int32) as user,
        disk.writing("item", np.int32) as item,
        disk.writing("value", np.float64) as value,
    ):
        for first in range(0, USERS, users):
            user.append(np.repeat(np.arange(first, first + users), each))
            item.append(
                (np.arange(each) * (ITEMS // each) + rng.integers(0, ITEMS // each, (users, each))).ravel()
            )
            value.append(rng.integers(1, 6, users * each))
    for name in COLUMNS:
        with open(disk.path(name), "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def work(folder: Path, limit: int) -> None:
    """A model is saved, loaded, evaluated on data of the size of its training part, and asked for lists."""
    disk = Disk(folder, limit)
    mapped = {name: disk.mapped(name, dtype) for name, dtype in COLUMNS.items()}
    ids = Ids(np.arange(USERS)), Ids(np.arange(ITEMS))
    ratings = hx.Ratings(**mapped, users=ids[0], items=ids[1], scale=(1.0, 5.0), disk=disk)
    rng = np.random.default_rng(1)
    seen = Seen(np.append(0, np.cumsum(ratings.user_count)), ratings.item, ratings.value)
    hx.FactorModel(
        hx.BiasedMF(factors=FACTORS), *ids, 3.0,
        *(rng.normal(0, 0.2, n).astype(np.float32) for n in (USERS, ITEMS)),
        *(rng.normal(0, 0.2, (n, FACTORS)).astype(np.float32) for n in (USERS, ITEMS)),
        ratings.user_count, ratings.item_count, 3.0, (1.0, 5.0), 0, pd.DataFrame({"epoch": [1]}), seen=seen,
    ).save(folder / "model.hatrix")  # fmt: skip
    said("save")
    model = hx.load(folder / "model.hatrix")
    said("load")
    result = hx.evaluate(model, ratings)
    assert result.warnings[0].startswith("overlap: 10,000,000 of 10,000,000 test ratings")
    said("evaluate")
    result.report(folder / "report.html")
    said("report")
    done = model.recommend_all(path=folder / "lists.parquet", memory=limit, progress=False)
    assert done.rows == 10 * USERS
    said("lists")
    hx.evaluate(model, replace(ratings, disk=None))
    said("whole")


def said(step: str) -> None:
    print(step, peak(), flush=True)


if __name__ == "__main__":
    folder, limit, *cgroup = sys.argv[1:]
    for group in cgroup:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    work(Path(folder), int(limit))
