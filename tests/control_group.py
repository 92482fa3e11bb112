"""A limit of memory that the kernel enforces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """A group of processes that together may have so many bytes of memory, files in the cache of pages included."""
    for home, name in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        made = Path(home) / f"hatrix-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            if (made / name).exists():
                (made / name).write_text(str(limit))
                yield made
                return
        finally:
            made.rmdir()
    pytest.skip("no control group of memory can be made here")


def entering(group: Path, command: list[str]) -> list[str]:
    """A command that runs in the group from its start."""
    return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
