"""Seconds that `import hatrix` and `hatrix --help` take: medians of fresh processes, with warm files.

    python benchmarks/startup.py [--runs 15]

The bare interpreter's own start is shown beside them, and is part of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import hatrix": ["-c", "import hatrix"],
    "hatrix --help": ["-m", "hatrix", "--help"],
    "hatrix run ml-100k --help": ["-m", "hatrix", "run", "ml-100k", "--help"],
}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    for name, arguments in COMMANDS.items():
        seconds(arguments)
        print(f"{name:28} {statistics.median(seconds(arguments) for _ in range(runs)):.3f} s")


if __name__ == "__main__":
    main()
