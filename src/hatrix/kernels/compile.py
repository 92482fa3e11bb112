"""How kernels are compiled: the one place with compile flags, and the cache of compiled code.

A kernel that is specialised (on the row length, say) is a function made inside another one; the constants it
closes over are part of its key in the cache.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

from hatrix import _mixing
from hatrix._files import replacing
from hatrix.errors import ParameterError

__all__ = ["FAST_MATH", "compiled", "inlined"]

FAST_MATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""LLVM flags that may change the last bits, never whether a number is finite."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
DIGEST = hashlib.sha256().digest_size


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel: no GIL, no Python objects, IEEE division, fast math that keeps NaN and infinity."""
    kernel = _jit(function)
    if (folder := _cache_folder()) is not None:
        kernel._cache = _Cache(function, folder)
    return kernel


def inlined(function: Callable[..., Any]) -> Any:
    """Compile what kernels call into each of them.

    As a function of its own it would exist in several copies that fast math rounds differently, and which of them
    runs would depend on what else the process has compiled, and what it has loaded from the cache.
    """
    return _jit(function, forceinline=True)


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    if config.DISABLE_JIT:  # kernels use vector instructions, which plain Python cannot run
        raise ParameterError(
            "NUMBA_DISABLE_JIT is set, and hatrix cannot run without compiled kernels: unset it in the environment. To "
            "measure coverage or to debug, switch compilation off for your own functions alone, by their py_func"
        )
    return njit(nogil=True, error_model="numpy", fastmath=set(FAST_MATH), **options)(function)


@lru_cache
def _cache_folder() -> Path | None:
    """Return the folder of compiled code for this version of the kernels' source, or None if there is no safe one.

    It is in ``NUMBA_CACHE_DIR`` or the user's cache. If that cannot be written, it is among the system's temporary files.
    Numba reads the code with pickle, so whoever can write there can run code in this process. A folder that others
    can write to is therefore not used.
    """
    import platformdirs

    digest = hashlib.sha256()
    for path in (*sorted(Path(__file__).parent.glob("*.py")), Path(_mixing.__file__)):
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    home = os.environ.get("NUMBA_CACHE_DIR") or platformdirs.user_cache_dir("hatrix", appauthor=False)
    first = Path(home) / name
    faults: list[str] = []
    found = None
    for folder in (first, Path(tempfile.gettempdir()) / f"hatrix-{_user()}" / name):
        try:
            checked = (folder,) if folder == first else (folder.parent, folder)
            if folder == first:
                folder.parent.mkdir(parents=True, exist_ok=True)
            for place in checked:
                place.mkdir(mode=0o700, exist_ok=True)
            fault = next(filter(None, map(_fault, checked)), None)
        except OSError:
            continue
        if fault is None and os.access(folder, os.W_OK | os.X_OK):
            found = folder
            break
        faults += [] if fault is None else [fault]
    if faults:
        warnings.warn(
            f"the cache of compiled kernels in {faults[0]}, so that others could run code here: it is not used, and kernels "
            f"are {'compiled anew' if found is None else f'kept in {found}'}. Remove the folder, or set "
            "NUMBA_CACHE_DIR to one of your own",
            stacklevel=2,
        )
    return found


def _fault(folder: Path) -> str | None:
    """Return why code in a folder cannot be trusted, or None; take write access to our own folder from others."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is not a folder of its own"
    if found.st_uid not in (_user(), 0):
        return f"{folder} belongs to another user"
    if found.st_mode & OTHERS_WRITE and _user() is not None:
        if found.st_uid != _user():
            return f"{folder} can be written to by others"
        folder.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS_WRITE)
    return None


def _user() -> int | None:
    """Return the user's number, or None on Windows, where a user's folders are closed to others."""
    return os.geteuid() if hasattr(os, "geteuid") else None


class _Locator(_CacheLocator):
    """A locator for numba that returns the folder which `_cache_folder` has found."""

    def get_cache_path(self) -> str:
        return str(_cache_folder())

    def get_source_stamp(self) -> str:
        return ""

    def get_disambiguator(self) -> str:
        return "kernel"

    @classmethod
    def from_function(cls, py_func: Any, py_file: Any) -> _Locator:  # noqa: ARG003
        return cls()


class _Files(IndexDataCacheFile):
    """A cache with one file per key: numba's own index can mix up keys when two processes write at once.

    A file has numba's format and ends with its own SHA-256, which pickle does not read. A file that is damaged or not
    ours is removed, and the kernel is compiled again.
    """

    def _name(self, key: Any) -> str:
        stem = str(self._data_name_pattern).split(".{")[0]
        return f"{stem}.{hashlib.sha256(repr((key, self._version)).encode()).hexdigest()[:32]}.nbc"

    def save(self, key: Any, data: Any) -> None:
        code = self._dump(data)
        try:
            with replacing(self._data_path(self._name(key)), durable=False, private=True) as file:
                file.write(code)
                file.write(hashlib.sha256(code).digest())
        except OSError:
            return  # A full disk costs the next process a compilation, no more.

    def load(self, key: Any) -> Any:
        name = self._name(key)
        path = self._data_path(name)
        try:
            if _is_sound(path):
                return self._load_data(name)
        except FileNotFoundError:
            return None
        except Exception:  # pickle can raise anything, and the cache must never be a reason to fail
            pass
        with suppress(OSError):
            os.unlink(path)
        return None


def _is_sound(path: str) -> bool:
    """Return whether a file of compiled code is complete, and nobody else can have written it."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        code = file.read()
    if _user() is not None and (found.st_uid not in (_user(), 0) or found.st_mode & OTHERS_WRITE):
        return False
    return hashlib.sha256(code[:-DIGEST]).digest() == code[-DIGEST:]


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _Cache(FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        super().__init__(function)
        self._cache_path = str(folder)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, "")
        self._constants = _constants(function)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return sig, codegen.magic_tuple(), self._constants


def _constants(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What a function closes over. Numba's own key numbers the kernels among it anew in each process."""
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    kernels = [getattr(value, "py_func", None) for value in values]
    return tuple(
        repr(value) if kernel is None else (kernel.__qualname__, _constants(kernel))
        for value, kernel in zip(values, kernels, strict=True)
    )
