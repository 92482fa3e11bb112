"""Unpacking an archive that nobody has looked into yet."""

from __future__ import annotations

import hashlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from hatrix.errors import DownloadError

__all__ = ["LARGEST_RATIO", "Checked", "unpack"]

LARGEST_RATIO = 20
"""How many times its packed size an archive may unpack to; ratings pack to about a quarter."""

SPARE_BYTES = 1 << 20
MEMBER_BYTES = 512
CHUNK = 1 << 16


class Checked(NamedTuple):
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


class _Member(NamedTuple):
    name: str
    size: int
    folder: bool
    plain: bool
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, into: Path, *, inside: str = "", skip: frozenset[str] = frozenset()
) -> dict[str, Checked]:
    """Unpack the files of a zip or tar archive.

    Parameters
    ----------
    archive
        Its name tells the kind: ``.tar.gz`` and ``.tgz``, else zip.
    into
        An empty folder, inside a temporary one: after an error some files may lie there.
    inside
        Only the members below this folder, whose name they lose. ``*`` stands for the one folder that holds
        everything.
    skip
        File names left out.

    Returns
    -------
    dict
        Each file's path in ``into`` with its size and checksum.

    Raises
    ------
    DownloadError
        If the archive is damaged or encrypted, has a path outside ``into`` or a member that is not a plain
        file, or would unpack to more than 20 times its size; declared sizes and actual ones both count.
    """
    budget = LARGEST_RATIO * archive.stat().st_size + SPARE_BYTES
    unpacked: dict[str, Checked] = {}
    try:
        with _members(archive) as members:
            for member in members:
                relative = _below(_safe(member.name), inside)
                budget -= member.size + MEMBER_BYTES
                if budget < 0:
                    raise DownloadError(f"it unpacks to more than {LARGEST_RATIO} times its size")
                if member.folder or relative is None or relative.name in skip:
                    continue
                if not member.plain:
                    raise DownloadError(f"{member.name!r} in it is a link or a device, not a plain file")
                if str(relative) in unpacked:
                    raise DownloadError(f"{member.name!r} is in it twice")
                unpacked[str(relative)] = _copy(member, into / relative)
    except DownloadError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise DownloadError(f"it cannot be unpacked ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"it is encrypted or packed in an unknown way ({error})") from None
    if not unpacked:
        raise DownloadError(f"it has no files in {inside!r}" if inside else "it is empty")
    return unpacked


def _copy(member: _Member, target: Path) -> Checked:
    target.parent.mkdir(parents=True, exist_ok=True)
    seen, sha256 = 0, hashlib.sha256()
    with member.open() as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            seen += len(chunk)
            if seen > member.size:
                raise DownloadError(f"{member.name!r} in it is larger than it says")
            sha256.update(chunk)
            file.write(chunk)
    if seen < member.size:
        raise DownloadError(f"{member.name!r} in it is cut short")
    return Checked(seen, sha256.hexdigest())


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if archive.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(archive, "r:gz") as tar:
            yield (_Member(m.name, m.size, m.isdir(), m.isfile(), partial(_open, tar, m)) for m in tar)
    else:
        with zipfile.ZipFile(archive) as packed:
            yield (
                _Member(m.filename, m.file_size, m.is_dir(), _is_plain(m), partial(packed.open, m))
                for m in packed.infolist()
            )


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None
    return file


def _is_plain(member: zipfile.ZipInfo) -> bool:
    mode = member.external_attr >> 16
    return not stat.S_IFMT(mode) or stat.S_ISREG(mode)


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    windows = "\\" in name or PureWindowsPath(name).drive
    if windows or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DownloadError(f"{name!r} in it would land outside its folder")
    return path


def _below(path: PurePosixPath, inside: str) -> PurePosixPath | None:
    folder = PurePosixPath(path.parts[0] if inside == "*" and len(path.parts) > 1 else inside)
    return path.relative_to(folder) if path.is_relative_to(folder) and path != folder else None
