"""Training beyond memory: speed beside memory and LIBMF's disk mode, and what it costs as data and factors grow.

    python benchmarks/out_of_core.py [--parts speed libmf cost] [--copies 100] [--memory 2GB] [--folder FOLDER]

The data are MovieLens 1M expanded ``--copies`` times by `hatrix.synthetic.expand` (100: 100,020,900 ratings of 604,000
users and 11,118 items), as a Parquet file. Every run is a process of its own; where memory cgroups can be made, those with a
limit run inside one of that size, which counts the page cache of their files, too.

``speed``: `BiasedMF` with 32 factors, from the file within ``--memory`` and in memory, in turns; updates per second are
ratings over the median seconds of an epoch after the first. The learned numbers must be the same to the last bit.

``libmf``: an epoch of LIBMF's ``--disk`` mode (mf_train_on_disk) on the same ratings as text, by the times at which it
prints its iterations, for several numbers of bins on 10 million ratings and the one that is best there on all; beside it
the time it takes before the first.

``cost``: 1, 10 and 100 million ratings, 16 to 128 factors within ``--memory``: seconds to read, to deal the grid, of an
epoch, to finish and save, and peak memory; then straight lines through them, to a billion and ten.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np

import hatrix as hx

PROGRAM = """
import hashlib, json, resource, sys, time
import hatrix as hx
path, memory, factors, epochs, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

start = time.perf_counter()
ratings = hx.read(path, memory=None if memory == "all" else memory)
read, read_peak = time.perf_counter() - start, peak()
start = time.perf_counter()
recipe = hx.BiasedMF(factors=factors, epochs=epochs)
recipe.fit(hx.Ratings.from_columns([1, 2], [1, 2], [1.0, 2.0]), progress=False)  # compiled before
compiled = time.perf_counter() - start
start = time.perf_counter()
model = recipe.fit(ratings, seed=1, progress=False)
fit = time.perf_counter() - start
seconds = model.history.seconds.tolist()
start = time.perf_counter()
model.save(out)
save = time.perf_counter() - start
bits = hashlib.sha256(model.user_factors.tobytes() + model.item_factors.tobytes() + model.item_bias.tobytes())
print(json.dumps({
    "ratings": len(ratings), "users": len(ratings.users), "items": len(ratings.items), "read": read,
    "epochs": [b - a for a, b in zip(seconds, seconds[1:])], "first": seconds[0], "rest": fit - seconds[-1],
    "save": save, "peak": peak(), "read_peak": read_peak, "bits": bits.hexdigest(), "mse": model.history.train_mse.iloc[-1],
}))
"""


def expanded(copies: int, folder: Path) -> Path:
    path = folder / f"ml-1m-x{copies}.parquet"
    if not path.exists():
        start = time.perf_counter()
        hx.synthetic.expand(hx.datasets.load("ml-1m"), user_copies=copies, item_copies=3, path=path)
        print(
            f"{path.name}: {path.stat().st_size / 1e6:,.0f} MB, made in {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    return path


class Cgroup:
    """A memory cgroup of this size, version 1 or 2, or nothing where none can be made."""

    def __init__(self, size: int) -> None:
        self.folder: Path | None = None
        for root, limit, most in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ):
            folder = Path(root) / f"hatrix-{os.getpid()}"
            try:
                folder.mkdir()
                (folder / limit).write_text(str(size))
            except OSError:
                if folder.is_dir():
                    folder.rmdir()
                continue
            self.folder, self._most = folder, folder / most
            return

    def enter(self) -> None:
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> str:
        if self.folder is None:
            return "no cgroup could be made"
        most = int(self._most.read_text())
        self.folder.rmdir()
        return f"cgroup held {most / 1e9:.2f} GB with page cache"


def fitted(path: Path, memory: str, factors: int, epochs: int, folder: Path) -> dict[str, object]:
    """What a process of its own says of a fit."""
    out = folder / "model.hatrix"
    limited = memory != "all"
    group = Cgroup(int(float(memory.removesuffix("GB")) * 1e9)) if limited else None
    command = [sys.executable, "-c", PROGRAM, str(path), memory, str(factors), str(epochs), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=group.enter if group else None
    )
    said = group.close() if group else ""
    if done.returncode:
        raise SystemExit(done.stderr)
    out.unlink()
    return {**json.loads(done.stdout), "cgroup": said}


def speed(path: Path, memory: str, rounds: int, epochs: int, folder: Path) -> None:
    print(f"\nBiasedMF, 32 factors, {epochs} epochs, 2 threads: {path.name}, {rounds} rounds in turns")
    print("where     read s  deal + first s  epoch s  M updates/s  share  finish s  save s  peak GB")
    ratios = []
    for _ in range(rounds):
        rates = {}
        for where in (memory, "all"):
            found = fitted(path, where, 32, epochs, folder)
            rates[where] = found["ratings"] / np.median(found["epochs"]) / 1e6
            bits = rates.setdefault("bits", found["bits"])
            if bits != found["bits"]:
                raise SystemExit("the model from disk is not the one from memory")
            share = f"{rates[memory] / rates['all']:.0%}" if where == "all" else ""
            print(
                f"{'memory' if where == 'all' else where:8}  {found['read']:6.1f}  {found['first']:14.1f}  "
                f"{np.median(found['epochs']):7.3f}  {rates[where]:11.1f}  {share:>5}  {found['rest']:8.1f}  "
                f"{found['save']:6.1f}  {found['peak'] / 1e9:7.2f}  {found['cgroup']}",
                flush=True,
            )
        ratios.append(rates[memory] / rates["all"])
    print(f"median share of the speed in memory: {np.median(ratios):.0%}; same bits each time")


LIBMF = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import libmf
library = libmf.library()
library.mf_train_on_disk.restype = ctypes.c_void_p
library.mf_train_on_disk.argtypes = (ctypes.c_char_p, libmf.Parameter)
parameter = libmf.Parameter(0, 32, 2, int(sys.argv[3]), int(sys.argv[4]), 0, .05, 0, .05, .05, False, False, True)
library.mf_train_on_disk(sys.argv[2].encode(), parameter)
"""


def on_libmf_disk(path: Path, bins: int, iterations: int) -> tuple[float, float, float]:
    """Seconds before the first iteration ends, median seconds of those after it, and peak memory in GB."""
    command = [sys.executable, "-c", LIBMF, str(Path(__file__).parent), str(path), str(bins), str(iterations)]
    start, moments = time.perf_counter(), []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] and line.split()[0].isdigit():
            moments.append(time.perf_counter() - start)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status or len(moments) != iterations:
        raise SystemExit(f"LIBMF ended with status {status} after {len(moments)} iterations")
    return moments[0], float(np.median(np.diff(moments))), usage.ru_maxrss / 1e6


def peer(path: Path, copies: int, folder: Path) -> None:
    text = folder / f"ml-1m-x{copies}.txt"
    if not text.exists():
        columns = '"user" - 1, item - 1, rating'
        duckdb.sql(f"COPY (SELECT {columns} FROM '{path}') TO '{text}' (HEADER false, DELIMITER ' ')")
    print(
        f"\nLIBMF's disk mode, 32 factors, 2 threads: {text.name}, {text.stat().st_size / 1e9:.2f} GB of text"
    )
    print("bins  before the 2nd iteration s  iteration s  M updates/s  peak GB")
    rows = 1_000_209 * copies
    for bins in (10, 20, 40) if copies <= 10 else (10,):
        before, iteration, memory = on_libmf_disk(text, bins, 4)
        print(
            f"{bins:4}  {before:26.1f}  {iteration:11.2f}  {rows / iteration / 1e6:11.1f}  {memory:7.2f}",
            flush=True,
        )
    text.unlink()
    text.with_suffix(".txt.disk").unlink(missing_ok=True)


def cost(memory: str, folder: Path) -> None:
    print(f"\nBiasedMF within {memory}: seconds, and GB of memory at the peak")
    print("     ratings    users  factors   read   deal  epoch  finish   save  M updates/s  peak")
    rows = []
    for copies in (1, 10, 100):
        path = expanded(copies, folder)
        for factors in (16, 32, 64, 128):
            found = fitted(path, memory, factors, 4, folder)
            epoch = float(np.median(found["epochs"]))
            deal = found["first"] - epoch
            rows.append(
                (found["ratings"], factors, found["read"], deal, epoch, found["rest"] + found["save"])
            )
            print(
                f"{found['ratings']:12,}  {found['users']:7,}  {factors:7}  {found['read']:5.1f}  {deal:5.1f}  "
                f"{epoch:5.2f}  {found['rest']:6.1f}  {found['save']:5.1f}  {found['ratings'] / epoch / 1e6:11.1f}  "
                f"{found['peak'] / 1e9:4.2f}",
                flush=True,
            )
    table = np.array(rows)
    print("\nfrom ten to a hundred million ratings, times ten in size:")
    for factors in (16, 32, 64, 128):
        ten, hundred = (table[(table[:, 1] == factors) & (table[:, 0] > low)][0] for low in (5e6, 5e7))
        print(f"{factors:4} factors: reading x {hundred[2] / ten[2]:.1f}, epoch x {hundred[4] / ten[4]:.1f}")
    print("\nextrapolated: the line through ten and a hundred million, 20 epochs")
    print(
        "      ratings  factors  read and deal min  20 epochs min  all h  working files GB  factors in training GB"
    )
    for ratings in (1e9, 1e10):
        for factors in (32, 128):
            ten, hundred = (table[(table[:, 1] == factors) & (table[:, 0] > low)][0] for low in (5e6, 5e7))
            slope = (hundred[2:] - ten[2:]) / (hundred[0] - ten[0])
            line = hundred[2:] + slope * (ratings - hundred[0])
            users = 604_000 * ratings / 1e8
            held = 3 * (users + 11_118) * (factors + 2) * 4 / 1e9
            total = line[0] + line[1] + 20 * line[2] + line[3]
            print(
                f"{ratings:13,.0f}  {factors:7}  {(line[0] + line[1]) / 60:17.1f}  {20 * line[2] / 60:13.1f}  "
                f"{total / 3600:5.1f}  {ratings * (16 + 12 + 12) / 1e9:16.0f}  {held:22.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--parts", nargs="*", choices=["speed", "libmf", "cost"], default=["speed", "libmf", "cost"]
    )
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = expanded(options.copies, folder)
        if "speed" in options.parts:
            speed(path, options.memory, options.rounds, options.epochs, folder)
        if "libmf" in options.parts:
            peer(expanded(10, folder), 10, folder)
            peer(path, options.copies, folder)
        if "cost" in options.parts:
            cost(options.memory, folder)


if __name__ == "__main__":
    main()
