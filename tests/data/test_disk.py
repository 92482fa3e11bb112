"""Columns on disk: what can be let go of, and what must not be."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import hatrix as hx
from hatrix.data.disk import Disk, let_go
from hatrix.data.pairs import repeats
from hatrix.errors import DataError
from hatrix.models.seen import Seen
from on_disk import on_disk


def test_what_is_let_go_of_is_read_again(tmp_path):
    disk, values = Disk(tmp_path, 10**9), np.arange(300_000)
    with disk.writing("values", np.int64) as column:
        column.append(values[:1000])
        column.append(values[1000:])
    mapped = disk.mapped("values", np.int64)
    for part in (slice(0, 100_000), slice(7, 8), slice(299_999, None), slice(5, 5)):
        let_go(mapped, part)
        let_go(mapped[3:], part)
        assert (mapped == values).all()


def test_memory_that_cannot_be_read_again_is_not_let_go_of(tmp_path):
    """Pages of a mapping without a file, or of a private one, are lost when they are dropped."""
    nameless = np.frombuffer(mmap.mmap(-1, 80_000), np.int64)
    (tmp_path / "file").write_bytes(bytes(80_000))
    private = np.memmap(tmp_path / "file", np.int64, "c")
    for array in (nameless, private, np.empty(10_000, np.int64)):
        array[:] = 7
        let_go(array, slice(None))
        assert (array == 7).all()


@pytest.mark.parametrize("time", [True, False])
def test_rows_are_chosen_where_the_ratings_are(time, tmp_path):
    rng = np.random.default_rng(0)
    ratings = hx.Ratings.from_columns(
        rng.permutation(200),
        rng.integers(0, 9, 200),
        rng.integers(1, 6, 200),
        time=range(200) if time else None,
    )
    disk, mask = on_disk(ratings, tmp_path), rng.random(200) < 0.4
    there = set(tmp_path.iterdir())
    masks = [(slice(first, min(first + 60, 200)), mask[first : first + 60]) for first in range(0, 200, 60)]
    wanted, found = ratings.take(mask), disk.chosen(masks)
    assert ratings.chosen(masks).fingerprint == wanted.fingerprint
    assert (found.disk, found.fingerprint) == (disk.disk, wanted.fingerprint)
    assert len(disk.chosen([(slice(0, 200), np.zeros(200, bool))])) == 0
    assert set(tmp_path.iterdir()) == there  # their files go when they go, whatever becomes of the folder


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is nearly full: a write takes what there is room for, and the next one says that there is none."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def same_pairs(tmp_path):
    """A thousand ratings on disk, all of one user and item."""
    ratings = hx.Ratings.from_columns(np.zeros(1000, int), np.arange(1000), np.ones(1000))
    return on_disk(replace(ratings, item=np.zeros(1000, np.int32)), tmp_path)


def test_rows_that_do_not_fit_on_the_disk_are_not_passed_over(same_pairs):
    with files_of_at_most(7000), pytest.raises(OSError, match="File too large"):
        repeats(same_pairs.disk, 1000, 1000, timed=False, implicit=False, at_once=1000)


def test_training_rows_that_do_not_fit_on_the_disk_are_an_error(same_pairs, tmp_path):
    there = set(tmp_path.iterdir())
    with (
        files_of_at_most(7000),
        pytest.raises(DataError, match="cannot hold the training rows: File too large"),
    ):
        Seen.from_ratings(same_pairs)
    assert set(tmp_path.iterdir()) == there
