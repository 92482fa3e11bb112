"""Seconds and peak memory to read 25 million ratings from a CSV file.

    python benchmarks/read.py [--rows 25000000]

The file is made up in a temporary folder: 160,000 users in order, 60,000 items, half stars, timestamps, as in the
MovieLens files. Reading runs in a process of its own, parsing, ids and the check for duplicates included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

PROGRAM = """
import json, resource, sys, time
start = time.perf_counter()
import hatrix
ratings = hatrix.read(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps([len(ratings), len(ratings.users), len(ratings.items), seconds,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def make(path: Path, rows: int, *, texts: bool) -> None:
    rng = np.random.default_rng(0)
    activity, popularity = rng.lognormal(0, 1.2, 160_000), rng.lognormal(0, 1.8, 60_000)
    frame = pd.DataFrame(
        {
            "userId": np.sort(rng.choice(160_000, rows, p=activity / activity.sum())) + 1,
            "movieId": rng.choice(60_000, rows, p=popularity / popularity.sum()) * 3 + 1,
            "rating": rng.integers(1, 11, rows) / 2,
            "timestamp": rng.integers(789_652_009, 1_574_327_703, rows),
        }
    )
    ids = "'u' || userId AS userId, 'm' || movieId AS movieId" if texts else "userId, movieId"
    duckdb.sql(f"COPY (SELECT {ids}, rating, timestamp FROM frame) TO '{path}' (HEADER)")
    assert len(frame) == rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=25_000_000)
    rows = parser.parse_args().rows
    for texts in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ratings.csv"
            make(path, rows, texts=texts)
            size = path.stat().st_size / 2**20
            for _ in range(3):
                done = subprocess.run(
                    [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True
                )
                kept, users, items, seconds, memory = json.loads(done.stdout)
                print(
                    f"{'text' if texts else 'integer'} ids, {rows:,} rows, {size:,.0f} MiB: {seconds:.1f} s, "
                    f"peak {memory:.2f} GiB; {kept:,} ratings of {users:,} users and {items:,} items",
                    flush=True,
                )


if __name__ == "__main__":
    main()
