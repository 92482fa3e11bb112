"""Run every benchmark and write docs/benchmarks.md: what was measured, where, when, with which peers.

    make bench                                  # installs the peers into .venv-bench, then runs this
    python benchmarks/page.py [--only sgd als]

Sections of benchmarks that are not run keep what the page says of them.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
SCRIPTS = {
    "roofline": ("How close to the machine each kernel runs", "roofline.py"),
    "sgd": ("MF: updates per second beside LIBMF", "sgd.py"),
    "time_to_rmse": ("BiasedMF: seconds to LIBMF's test error", "time_to_rmse.py"),
    "notebook": ("MF in double precision beside the notebook's loop", "notebook.py"),
    "quality": ("BiasedMF: RMSE on the five folds of MovieLens 100K", "quality.py"),
    "quality-1m": ("BiasedMF: RMSE on five folds of MovieLens 1M", "quality.py --data ml-1m --trials 0"),
    "svdpp-quality": ("SVDpp: RMSE on the five folds of MovieLens 100K", "quality.py --algorithm svdpp"),
    "svdpp-quality-1m": (
        "SVDpp: RMSE on five folds of MovieLens 1M",
        "quality.py --algorithm svdpp --data ml-1m --trials 0",
    ),
    "svdpp": ("SVDpp: seconds of training beside Surprise", "svdpp.py"),
    "recommender": (
        "`hatrix run ml-100k`, no flags: errors, lists and time",
        "recommender.py --part run",
    ),
    "recommender-lists": (
        "The default recommender beside all recipes that rank",
        "recommender.py --part lists",
    ),
    "recommender-choice": (
        "The default recommender: what its weights were chosen by",
        "recommender.py --part choice",
    ),
    "recommender-visitors": (
        "New users who give low ratings alone",
        "recommender.py --part visitors",
    ),
    "blends": ("Blends of three recipes beside their best part", "recommender.py --part blends"),
    "blends-folds": (
        "A blend of recipes for ratings on the five folds of MovieLens 100K",
        "recommender.py --part folds",
    ),
    "evidence": ("What a rating says to ImplicitALS", "evidence.py"),
    "evidence-spectral": ("What a rating says to SpectralMF", "evidence.py --recipe spectral-mf"),
    "gowalla": ("Ranking models on gowalla: accuracy against training time", "gowalla.py"),
    "defaults": ("Defaults of the list recipes on many data sets", "defaults.py --task lists --peers"),
    "defaults-ratings": (
        "Defaults of the recipes for ratings on many data sets",
        "defaults.py --task ratings --peers",
    ),
    "spectral": ("SpectralMF beside scikit-learn's decomposition", "spectral.py"),
    "bpr": ("BPR beside implicit", "bpr.py"),
    "als": ("ImplicitALS beside implicit and irspack", "als.py --data clicks --rounds 3"),
    "als-ratings": ("ALS beside cmfrec and LensKit", "als.py --data ratings"),
    "bayesian": ("BayesianMF beside myFM: ids alone", "bayesian.py"),
    "bayesian-all": (
        "BayesianMF beside myFM: every field",
        "bayesian.py --fields all --epochs 600 --draws 180 --folds 1",
    ),
    "bayesian-stars": (
        "BayesianMF beside myFM: every field, ordered probit",
        "bayesian.py --fields all --likelihood ordinal --factors 14 --epochs 600 --draws 180 --folds 1",
    ),
    "bayesian-1m": (
        "BayesianMF on MovieLens 1M",
        "bayesian.py --data ml-1m --fields all --factors 16 --no-peer",
    ),
    "ranking": ("The best items of every user beside implicit", "ranking.py"),
    "large": ("A million items, a million users", "large.py"),
    "out_of_core": (
        "Beyond memory: BiasedMF on 100 million ratings within 2 GB and in memory",
        "out_of_core.py --parts speed",
    ),
    "libmf-disk": ("Beyond memory: LIBMF's disk mode on the same ratings", "out_of_core.py --parts libmf"),
    "cost": ("Beyond memory: cost against size", "out_of_core.py --parts cost"),
    "read": ("Reading 25 million ratings", "read.py"),
    "fold_in": ("New users, items and ratings: milliseconds, and how well they are served", "fold_in.py"),
    "serve": ("`hatrix serve` under load, through swaps and overload", "serve.py"),
    "spark": ("Spark: everybody's lists and ALS beside MLlib", "spark.py"),
    "startup": ("Seconds until a command answers", "startup.py"),
    "feedback": ("Feedback store in SQLite: writes, and writers that are killed", "feedback.py"),
    "feedback-postgresql": (
        "Feedback store in PostgreSQL: writes, and writers that are killed",
        "feedback.py --postgresql",
    ),
}
INTRO = """# Benchmarks

Each section is the output of one command, run beside the peers named in it on the same data with the same number of
threads; hatrix and the peer take turns, and a ratio is the median over the rounds. The machines are virtual and shared:
compare ratios, not seconds. `make bench` writes this page anew.

"""


def machine() -> str:
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if os.name == "posix" else None
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{model[1] if model else platform.processor()}, {cores} cores, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {metadata.version('numpy')}, numba {metadata.version('numba')}"
    )


def peers() -> str:
    lines = []
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, wanted = line.partition("==")
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{name} {wanted} (did not install here)")
    return ", ".join(lines)


def section(name: str) -> str:
    title, command = SCRIPTS[name]
    print(f"{name} ...", flush=True)
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, str(HERE / command.split()[0]), *command.split()[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    said = ran.stdout.rstrip()
    if ran.returncode:
        said += f"\nfailed: {(ran.stderr.strip().splitlines() or ['no message'])[-1]}"
    today = datetime.date.today().isoformat()
    return (
        f"<!-- {name} -->\n## {title}\n\n`python benchmarks/{command}` on {today}, {time.perf_counter() - start:.0f} s, "
        f"{machine()}:\n\n```text\n{said}\n```\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, default=list(SCRIPTS))
    options = parser.parse_args()
    kept = {}
    if PAGE.exists():
        for part in PAGE.read_text().split("<!-- ")[1:]:
            kept[part.split(" ", 1)[0]] = f"<!-- {part.rstrip()}\n"
    for name in options.only:
        kept[name] = section(name)
        PAGE.write_text(INTRO + f"Peers: {peers()}.\n\n" + "\n".join(kept[n] for n in SCRIPTS if n in kept))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
