"""Files that appear all or none, and places where they cannot."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hatrix.errors import ParameterError

__all__ = ["refuse_unwritable", "staged"]


@contextmanager
def staged(folder: Path, names: Iterable[str], source: str) -> Iterator[Path]:
    """A hidden folder for files of these names, which move to ``folder`` when all went well, and only then."""
    home = refuse_unwritable(folder, names, "--out", [source])
    try:
        stage = Path(tempfile.mkdtemp(prefix=".hatrix-", dir=home))
    except OSError as error:
        raise ParameterError(f"--out: cannot write in {home}: {error.strerror}: give another place") from None
    try:
        yield stage
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(stage / name, folder / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def refuse_unwritable(
    folder: Path, names: Iterable[str], given_as: str, inputs: Iterable[str | Path] = ()
) -> Path:
    """The folder, or the nearest one above it that exists; an error unless the files can be written there.

    None of them may be an input: what a user trains on is not replaced by what comes out.
    """
    inputs = [
        there for path in inputs for there in ([path] if os.path.exists(path) else glob.glob(str(path)))
    ]
    home = next(place for place in (folder, *folder.parents, Path("/")) if os.path.lexists(place))
    if not os.path.isdir(home):
        raise ParameterError(f"{given_as}: {home} is a file, not a folder: give another place")
    for name in names:
        there = folder / name
        if there.exists() and not there.is_file():  # a device would become a file, for every program
            what = "a folder" if there.is_dir() else "not a file on disk"
            raise ParameterError(f"{given_as}: {there} is {what}: give another place")
        if there.exists() and any(os.path.samefile(there, path) for path in inputs):
            raise ParameterError(f"{given_as}: {there} is what is read: give another place")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ParameterError(f"{given_as}: no permission to write in {home}: give another place")
    return home
