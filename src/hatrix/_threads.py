"""A lock that limits BLAS to one thread while hatrix computes, in any of its threads.

BLAS divides its work by the number of its threads, so its rounding depends on that number. All code in hatrix that calls
BLAS or LAPACK therefore limits it to one thread: results have the same bits whatever the number of cores, and no BLAS
threads wait busily beside small matrices. Our own threads (`hatrix.kernels.schedule`) use the other cores.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread until the last caller, in any thread, leaves its block.

    It is a decorator, too: ``@one_blas_thread()`` limits BLAS while the function runs. The limit applies to the whole
    process, so its holders are counted: the first one sets it, and the last one to leave lifts it.
    """
    _hold.enter()
    try:
        yield
    finally:
        _hold.leave()


class _Hold:
    """The limit that all holders share."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self.libraries: list[Any] | None = None
        self.before: list[tuple[Any, int]] = []
        self.modules = 0

    def enter(self) -> None:
        with self.lock:
            if self.users == 0:
                self._begin()
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self._end()

    def forked(self) -> None:
        """Start anew in a child process, where none of the threads that held BLAS exist."""
        held = self.users > 0
        self.lock, self.users = threading.Lock(), 0
        if held:
            self._end()

    def _begin(self) -> None:
        self._find()
        self._forget()
        self.before = [(library, library.num_threads) for library in self.libraries or []]
        for library, _ in self.before:
            library.set_num_threads(1)
        self._forget()

    def _end(self) -> None:
        self._forget()
        for library, threads in self.before:
            library.set_num_threads(threads)
        self._forget()

    def _find(self) -> None:
        """Find the loaded BLAS libraries; look again after new modules were imported, as they may have loaded one."""
        if self.libraries is not None and self.modules == len(sys.modules):
            return
        import scipy.linalg  # noqa: F401 - it loads its own OpenBLAS, which must not appear while BLAS is held
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().lib_controllers
        self.libraries = [library for library in found if library.user_api == "blas"]
        self.modules = len(sys.modules)

    @staticmethod
    def _forget() -> None:
        """Let any thread change the limit: from version 3.7 on, threadpoolctl obeys only the first thread."""
        from threadpoolctl import OpenBLASController

        getattr(OpenBLASController, "clear_controlling_thread", lambda **_: None)(force=True)


_hold = _Hold()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold.forked)
