"""How kernels are compiled: the one place with compile flags, and the cache of compiled code.

A kernel that is specialised (on the row length, say) is a function made inside another one; the constants it
closes over are part of its key in the cache.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

from hatrix.errors import ParameterError

__all__ = ["FAST_MATH", "compiled", "inlined"]

FAST_MATH = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""LLVM flags that may change the last bits, never whether a number is finite."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel: no GIL, no Python objects, IEEE division, fast math that keeps NaN and infinity."""
    kernel = _jit(function)
    if _writable(_cache_folder()):
        kernel._cache = _Cache(function)
    return kernel


def inlined(function: Callable[..., Any]) -> Any:
    """Compile what kernels call into each of them.

    As a function of its own it would exist in several copies that fast math rounds differently, and which of them
    runs would depend on what else the process has compiled, and what it has loaded from the cache.
    """
    return _jit(function, forceinline=True)


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    if config.DISABLE_JIT:  # kernels use vector instructions, which Python has no way to run
        raise ParameterError(
            "NUMBA_DISABLE_JIT is set, and hatrix cannot run without compiled kernels: unset it in the environment. To "
            "measure coverage or to debug, switch compilation off for your own functions alone, by their py_func"
        )
    return njit(nogil=True, error_model="numpy", fastmath=set(FAST_MATH), **options)(function)


@lru_cache
def _cache_folder() -> Path:
    """``NUMBA_CACHE_DIR`` or the user's cache, with a folder for each version of the kernels' source."""
    import platformdirs

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    home = os.environ.get("NUMBA_CACHE_DIR") or platformdirs.user_cache_dir("hatrix", appauthor=False)
    return Path(home) / f"kernels-{digest.hexdigest()[:16]}"


@lru_cache
def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


class _Locator(_CacheLocator):
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
    """One file per key: numba's index can pair a key with another's code when two processes write at once."""

    def _name(self, key: Any) -> str:
        stem = str(self._data_name_pattern).split(".{")[0]
        return f"{stem}.{hashlib.sha256(repr((key, self._version)).encode()).hexdigest()[:32]}.nbc"

    def save(self, key: Any, data: Any) -> None:
        try:
            self._save_data(self._name(key), data)
        except OSError:
            return  # A full disk costs the next process a compilation, no more.

    def load(self, key: Any) -> Any:
        try:
            return self._load_data(self._name(key))
        except (OSError, EOFError):
            return None


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _Cache(FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
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
