"""Swaps of items at random: counts stay, pairs are distinct, and every arrangement is as likely."""

from __future__ import annotations

from collections import Counter

import numpy as np

from hatrix.kernels.dealing import count, swap


def counted(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    times = np.zeros(shape[0] * shape[1], np.uint8)
    return times, count()(user, item, times, shape[1])


def test_pairs_that_are_there_twice_are_swapped_away_and_counts_stay():
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(60, dtype=np.int32), 8), rng.integers(0, 90, 480).astype(np.int32)
    before, (times, again) = item.copy(), counted(user, item, (60, 90))
    assert again == 480 - len(np.unique(user * 90 + item)) > 5
    swap()(user, item, times, 90, True, 32, 480, np.uint64(3))
    assert len(np.unique(user * 90 + item)) == 480
    np.testing.assert_array_equal(np.bincount(item, minlength=90), np.bincount(before, minlength=90))
    np.testing.assert_array_equal(times, np.bincount(user * 90 + item, minlength=5400))


def test_as_many_swaps_are_made_as_wanted_and_no_pair_is_there_twice():
    rng = np.random.default_rng(1)
    user, item = (rows.astype(np.int32) for rows in np.divmod(np.sort(rng.permutation(2400)[:800]), 40))
    before, (times, again) = item.copy(), counted(user, item, (60, 40))
    assert again == 0
    assert swap()(user, item, times, 40, False, 16, 1000, np.uint64(5)) == 1000
    assert len(np.unique(user * 40 + item)) == 800
    np.testing.assert_array_equal(np.bincount(item, minlength=40), np.bincount(before, minlength=40))
    assert np.mean(before == item) < 0.3


def test_a_full_matrix_has_nothing_to_swap():
    user, item = (rows.astype(np.int32) for rows in np.divmod(np.arange(60), 10))
    times, _ = counted(user, item, (6, 10))
    assert swap()(user, item, times, 10, False, 4, 100, np.uint64(1)) == 0


def test_every_arrangement_is_as_likely():
    """Three users and three items with a pair each have six arrangements."""
    user, found = np.arange(3, dtype=np.int32), Counter()
    for key in range(3000):
        item = np.arange(3, dtype=np.int32)
        times, _ = counted(user, item, (3, 3))
        swap()(user, item, times, 3, False, 16, 7 + key % 2, np.uint64(key))
        found[tuple(item.tolist())] += 1
    assert len(found) == 6
    assert max(abs(number - 500) for number in found.values()) < 100
