"""What has to be on the machine before Spark can start: the package, and a Java that runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec

from hatrix.errors import MissingExtraError

__all__ = ["LEAST_JAVA", "need_java", "need_the_extra"]

LEAST_JAVA = 17
PATIENCE = 30
"""Seconds that a Java has to say its version."""


def need_the_extra() -> None:
    """Raise unless pyspark and what it exchanges data by are installed."""
    for package in ("pyspark", "pyarrow"):
        if find_spec(package) is None:
            raise MissingExtraError.of("hatrix spark", package, "spark")


def need_java() -> int:
    """The version of the Java that Spark would start.

    Raises
    ------
    MissingExtraError
        If there is none, or one too old.
    """
    home = os.environ.get("JAVA_HOME")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java")
    advice = (
        f"install Java {LEAST_JAVA} or newer (apt-get install openjdk-{LEAST_JAVA}-jre-headless, brew install "
        f"openjdk@{LEAST_JAVA}, https://adoptium.net) and let JAVA_HOME name its folder"
    )
    if program is None:
        raise MissingExtraError(
            f"Spark needs Java {LEAST_JAVA} or newer, and there is no java on the path: {advice}"
        )
    where = f"{program} (of JAVA_HOME)" if home else program
    try:
        said = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        raise MissingExtraError(
            f"Spark needs Java {LEAST_JAVA} or newer, and {where} does not run ({reason}): {advice}"
        ) from None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if found is None:
        raise MissingExtraError(
            f"Spark needs Java {LEAST_JAVA} or newer, and {where} does not tell its version: {advice}"
        )
    version = int(found[1])
    if version < LEAST_JAVA:
        raise MissingExtraError(
            f"Spark needs Java {LEAST_JAVA} or newer, and {where} is Java {version}: {advice}"
        )
    return version
