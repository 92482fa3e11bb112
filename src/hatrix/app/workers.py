"""Several processes that serve from one listening socket: started anew when they die, ended together."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from socket import socket
from typing import Any

__all__ = ["NOT_STARTED", "supervise"]

NOT_STARTED = 3
"""Exit status of a process that could not start. At the beginning that ends all; later, others still serve."""
LOOK = 0.5
"""Seconds between looks, and until a process that has died is replaced."""

Work = Callable[[Any, socket], None]

log = logging.getLogger("hatrix.serve")


def supervise(work: Work, options: Any, listener: socket, count: int) -> bool:
    """Run ``work(options, listener)`` in ``count`` processes until told to stop; whether they could start.

    A process is a fresh interpreter and not a fork, which would have half of our threads. SIGTERM and SIGINT end all of
    them, each in its own time.
    """
    context, stop = get_context("spawn"), threading.Event()

    def start() -> SpawnProcess:
        process = context.Process(target=_work, args=(work, options, listener))
        process.start()
        return process

    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    processes: list[SpawnProcess] = []
    started = True
    try:
        processes += [start() for _ in range(count)]
        first = frozenset(processes)
        while started and not stop.is_set():
            wait([process.sentinel for process in processes], LOOK)
            for at, process in enumerate(processes):
                if process.exitcode is None or stop.is_set():
                    continue
                if process.exitcode == NOT_STARTED and process in first:
                    started = False
                    break
                log.error("process %s ended with status %s: starting another", process.pid, process.exitcode)
                stop.wait(LOOK)
                processes[at] = start()
    finally:
        listener.close()  # nobody is to wait for those that end
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    return started


def _work(work: Work, options: Any, listener: socket) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(options, listener)


def _end_with_parent() -> None:
    """Nobody else would end what a killed parent leaves behind."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
