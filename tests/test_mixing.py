"""Random numbers from counters: the published ones, and the same in NumPy and in kernels."""

from __future__ import annotations

import numpy as np

from hatrix import _mixing
from hatrix.kernels import counter
from hatrix.kernels.compile import compiled


@compiled
def mixed(counters, found):
    for at in range(len(counters)):
        found[at] = counter.mix(counters[at])


def test_numbers_are_those_of_splitmix64():
    """The first ones of Vigna's splitmix64.c from the state 1234567."""
    state = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * _mixing.STRIDE
    assert _mixing.mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_kernels_have_the_bits_of_numpy_and_arrays_stay_as_they_are():
    drawn = np.random.default_rng(0).integers(0, 2**64, 1000, np.uint64)
    counters = np.append(drawn, np.array([0, 1, 2**64 - 1], np.uint64))
    before, found = counters.copy(), np.empty_like(counters)
    mixed(counters, found)
    np.testing.assert_array_equal(_mixing.mix(counters), found)
    np.testing.assert_array_equal(counters, before)
