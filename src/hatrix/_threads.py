"""BLAS held at one thread, in whatever threads of ours compute.

How BLAS divides work among its own threads, and so how it rounds, depends on their number. Everything in hatrix that
calls BLAS or LAPACK therefore holds it at one thread: results have the same bits on every machine, and no idle BLAS
threads spin for the sake of small matrices. Our own threads (`hatrix.kernels.schedule`) use the other cores.
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
    """Hold BLAS at one thread until the last of those who asked for it (in any thread) is done.

    It is a decorator, too: ``@one_blas_thread()`` holds BLAS while the function runs. The limit is one for the whole
    process, so holders are counted: the first sets it, whoever leaves last lifts it, in whatever order they leave.
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
        """Find the BLAS libraries that are loaded, again whenever modules were imported that may have brought one."""
        if self.libraries is not None and self.modules == len(sys.modules):
            return
        import scipy.linalg  # noqa: F401 - it brings an OpenBLAS of its own, which must not appear while BLAS is held
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().lib_controllers
        self.libraries = [library for library in found if library.user_api == "blas"]
        self.modules = len(sys.modules)

    @staticmethod
    def _forget() -> None:
        """Let any thread change the limit: from version 3.7 on, threadpoolctl obeys the first one alone."""
        from threadpoolctl import OpenBLASController

        getattr(OpenBLASController, "clear_controlling_thread", lambda **_: None)(force=True)


_hold = _Hold()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold.forked)
