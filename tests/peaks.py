"""The most memory that a process held."""

from __future__ import annotations

from pathlib import Path

from hatrix.data.disk import LIBRARIES


def peak() -> int:
    """Bytes, with libraries counted as `hatrix.data.disk.resident` counts them.

    Not ru_maxrss, in which Linux counts what the process held that started this one.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    most, of_files = (1024 * int(status[name].split()[0]) for name in ("VmHWM", "RssFile"))
    return most - of_files + min(of_files, LIBRARIES)
