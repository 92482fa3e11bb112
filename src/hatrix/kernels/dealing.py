"""Swaps of the items of two pairs at random, so that users and items keep their counts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled
from hatrix.kernels.counter import mix

__all__ = ["count", "swap"]

MOST = 255
"""Counts are bytes, since a table of all cells is larger than the caches."""


@lru_cache
def count() -> Any:
    """Return the kernel that counts how often each pair is there, up to `MOST`, and returns how many are there already."""

    @compiled
    def count(user, item, times, width):
        again = 0
        for one in range(len(user)):
            cell = np.int64(user[one]) * width + item[one]
            again += times[cell] > 0
            times[cell] += times[cell] < MOST
        return again

    return count


@lru_cache
def swap() -> Any:
    """Return the kernel that swaps the item of pair after pair with that of a random other pair.

    ``times`` counts how often each pair of a user and an item is there, cell by cell, and ``width`` is the number of items.
    A swap is made if both users lack what they would get. With ``twice``, only pairs that are there more than once swap,
    and each tries up to ``tries`` partners; otherwise each pair takes the first partner that it can, and the pairs are gone
    through until ``wanted`` swaps are made or each has tried ``tries`` partners. Returns the number of swaps.
    """

    @compiled
    def swap(user, item, times, width, twice, tries, wanted, key):
        n, done = np.uint64(len(user)), 0
        state = mix(key)
        passes, each = (1, tries) if twice else (tries, 1)
        for _ in range(passes):
            for one in range(len(user)):
                mine = np.int64(user[one]) * width
                if done >= wanted:
                    return done
                if twice and times[mine + item[one]] < 2:
                    continue
                for _ in range(each):
                    state += np.uint64(1)
                    two = np.int64(((mix(state) >> np.uint64(32)) * n) >> np.uint64(32))
                    theirs = np.int64(user[two]) * width
                    if times[mine + item[two]] == 0 and times[theirs + item[one]] == 0:
                        times[mine + item[one]] -= 1
                        times[theirs + item[two]] -= 1
                        item[one], item[two] = item[two], item[one]
                        times[mine + item[one]] = 1
                        times[theirs + item[two]] = 1
                        done += 1
                        break
        return done

    return swap
