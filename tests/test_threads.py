"""BLAS is held at one thread while anybody asks for it, and gets its threads back when the last is done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import scipy.linalg  # noqa: F401 - its OpenBLAS is one of those counted
import threadpoolctl

from hatrix._threads import one_blas_thread


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


def test_blas_gets_its_threads_back_when_the_last_is_done():
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        other = threading.Thread(target=hold)
        with one_blas_thread():
            other.start()
            inside.wait(10)
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
        leave.set()
        other.join()
        assert blas_threads() == before


def test_sixteen_threads_that_come_and_go_never_see_more_than_one():
    seen, start = set(), threading.Barrier(16)

    def come_and_go() -> None:
        start.wait(10)
        for _ in range(50):
            with one_blas_thread(), one_blas_thread():
                seen.update(blas_threads())

    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        threads = [threading.Thread(target=come_and_go) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {1}
        assert set(blas_threads()) == {3}


def test_a_decorated_function_holds_it_and_lets_go_after_an_error():
    @one_blas_thread()
    def fails() -> None:
        assert set(blas_threads()) == {1}
        raise KeyError

    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        with pytest.raises(KeyError):
            fails()
        assert set(blas_threads()) == {3}


def test_every_copy_of_blas_is_held_one_that_is_loaded_later_too():
    # NumPy and SciPy bring an OpenBLAS each, and SciPy's appears with the first function that needs it.
    code = """
import numpy, threadpoolctl
from hatrix._threads import one_blas_thread
with one_blas_thread():
    import scipy.linalg, scipy.special
    import hatrix.models.bayesian
    print(sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}))
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[1]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_no_limit_and_no_lock_of_threads_that_it_lacks():
    code = """
import os, threading, numpy, scipy.linalg, threadpoolctl
from hatrix import _threads
def threads():
    return sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"})
inside, leave = threading.Event(), threading.Event()
def hold():
    with _threads.one_blas_thread():
        inside.set()
        leave.wait(20)
other = threading.Thread(target=hold)
other.start()
inside.wait(10)
child = os.fork()
if child == 0:
    print(threads(), flush=True)
    with _threads.one_blas_thread():
        print(threads(), flush=True)
    print(threads(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
leave.set()
other.join()
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["[2]", "[1]", "[2]"]
