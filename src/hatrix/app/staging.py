"""Files that appear all or none, and places where they cannot."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hatrix import _files
from hatrix._checks import path_of
from hatrix.errors import ParameterError

__all__ = ["refuse_unwritable", "staged"]


@contextmanager
def staged(folder: Path, names: Sequence[str], source: str) -> Iterator[Path]:
    """Make a hidden folder for files of these names, and move them to ``folder`` only if the block succeeds.

    Until then no other process can stage files whose first name is the same: two runs never mix their files.
    """
    refuse_unwritable(folder, names, "--out", [source])
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stage = stack.enter_context(_files.claimed(folder / names[0]))
        except OSError as error:
            raise ParameterError(
                f"--out: cannot write in {folder}: {error.strerror}: give another place"
            ) from None
        yield stage
        for name in names:
            _files.move(stage / name, folder / name)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders that are still empty, the innermost first."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


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
        path_of(given_as, there, text=there.suffix.lower() == ".parquet")
        if there.exists() and any(os.path.samefile(there, path) for path in inputs):
            raise ParameterError(f"{given_as}: {there} is what is read: give another place")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ParameterError(f"{given_as}: no permission to write in {home}: give another place")
    return home
