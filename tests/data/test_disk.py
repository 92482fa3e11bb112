"""Columns on disk: what can be let go of, and what must not be."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

import hatrix as hx
from hatrix.data.disk import Disk, let_go
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
    masks = [(slice(first, min(first + 60, 200)), mask[first : first + 60]) for first in range(0, 200, 60)]
    wanted, found = ratings.take(mask), disk.chosen(masks, "some")
    assert ratings.chosen(masks, "some").fingerprint == wanted.fingerprint
    assert (found.disk, found.fingerprint) == (disk.disk, wanted.fingerprint)
    assert len(disk.chosen([(slice(0, 200), np.zeros(200, bool))], "none")) == 0
