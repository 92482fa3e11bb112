"""Products of tall blocks: right, and the same bits for any number of threads."""

from __future__ import annotations

import numpy as np

from hatrix.kernels import dense

ROWS = 2 * dense.CHUNK + 77


def tall(columns: int = 70) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, columns)).astype(np.float32)


def test_gram_and_rotate_are_right():
    Y, W = tall(), np.random.default_rng(1).normal(size=(70, 70)).astype(np.float32)
    np.testing.assert_allclose(
        dense.gram(Y, threads=2), Y.astype(float).T @ Y.astype(float), rtol=1e-5, atol=1e-2
    )
    out = np.zeros_like(Y)
    dense.rotate(Y, W, out, threads=2)
    np.testing.assert_allclose(out, Y.astype(float) @ W.astype(float), rtol=1e-4, atol=1e-3)
    dense.rotate(Y, W, Y, threads=2)
    np.testing.assert_array_equal(Y, out)


def test_same_bits_for_any_threads():
    Y, W = tall(), np.random.default_rng(1).normal(size=(70, 70)).astype(np.float32)
    grams, turned = [], []
    for threads in (1, 2, 5):
        grams.append(dense.gram(Y, threads=threads))
        turned.append(np.zeros_like(Y))
        dense.rotate(Y, W, turned[-1], threads=threads)
    for other in (1, 2):
        np.testing.assert_array_equal(grams[0], grams[other])
        np.testing.assert_array_equal(turned[0], turned[other])
