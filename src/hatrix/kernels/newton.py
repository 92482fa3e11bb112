"""The row of a new user of BPR: Newton's method on pairs of an item had and a rival that might be drawn.

With x_i = b_i + p·q_i of the n items had, s_j = c_j + p·r_j of the m rivals and w_j how often each is drawn, the row p
minimises ::

    Σ_i Σ_j w_j ln(1 + exp(s_j - x_i)) + ½ penalty |p|²

Each pair needs a division and no exponential of its own: ``1 / (1 + exp(x_i - s_j)) = e_j / (e_j + e_i)`` with the n + m
numbers ``e = exp(score - highest)``. The gradient counts every pair. The Hessian decides on the way only, not on where it
ends: it leaves out rivals that hardly bend the objective, and takes every other, third, ... of those left if they are many.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from hatrix.kernels.compile import compiled, inlined
from hatrix.kernels.simd import combine, dot, load, store
from hatrix.kernels.tiles import CHUNK, TILE, add_gram, cholesky, substitute

__all__ = ["row_of_pairs"]

STEPS, CLOSE = 16, 1e-3
"""Steps at most, and the relative move that ends them."""
LIGHT, MOST = 0.02, 512
"""Rivals whose curvature is below this share of the largest stay out of the Hessian, and so many are in it at most."""
BINS = 1024
"""Of scores, in which rivals count as equal when it is worked out which of some candidates is the best."""


@inlined
def _drawn(score, mass, candidates, ahead, weight):
    """How often each rival is the best of some candidates drawn by mass."""
    low = high = score[0]
    for j in range(len(score)):
        low, high = min(low, score[j]), max(high, score[j])
    scale = np.float32(BINS - 1) / max(high - low, np.float32(1e-9))
    ahead[:] = 0.0
    for j in range(len(score)):
        ahead[np.int64((score[j] - low) * scale)] += mass[j]
    left = above = 1.0
    for place in range(BINS - 1, -1, -1):
        inside, chance = ahead[place], 0.0
        if inside > 0.0:
            left = max(0.0, left - inside)
            below = left**candidates
            chance, above = (above - below) / inside, below
        ahead[place] = chance
    for j in range(len(score)):
        weight[j] = mass[j] * ahead[np.int64((score[j] - low) * scale)]


@lru_cache
def row_of_pairs(lanes: int) -> Any:
    """The kernel; ``mass`` sums to 1, ``candidates`` is 1 where rivals are drawn by mass alone.

    Q (n, lanes) and R (m, lanes) are padded rows. It sets ``p`` (1, lanes), the row, and ``weight``, w of each rival.
    """
    blocks = np.uint64(lanes // TILE)

    @inlined
    def hessian(Q, R, ours, theirs, weight, bend, penalty, A, A2, S, S2, across):
        one = np.float32(1)
        heavy, largest = 0, 0.0
        for j in range(len(R)):
            largest = max(largest, bend[j])
        for j in range(len(R)):
            heavy += bend[j] > LIGHT * largest
        stride = np.uint64(1 + heavy // MOST)
        A[:, :] = 0
        picked, kept, seen = np.empty(heavy, np.uint64), np.uint64(0), np.uint64(0)
        for j in range(np.uint64(len(R))):
            if bend[j] > LIGHT * largest:
                if seen % stride == 0:
                    picked[kept] = j
                    kept += np.uint64(1)
                seen += np.uint64(1)
        factor = np.float32(np.float64(heavy) / np.float64(max(kept, np.uint64(1))))
        first = np.uint64(0)
        while first < kept:
            some = min(np.uint64(CHUNK), kept - first)
            for t in range(some):
                j = picked[first + t]
                r = load(R, j, lanes)
                store(S, t, combine(np.sqrt(factor * np.float32(bend[j])), r, one - one, r))
            add_gram(S, S2, blocks, some, A2)
            first += some
        for i in range(np.uint64(len(Q))):
            total, line = np.float32(0), load(Q, i, lanes)
            rivals = combine(one - one, line, one - one, line)
            for t in range(kept):
                j = picked[t]
                g = theirs[j] / (theirs[j] + ours[i])
                k = factor * np.float32(weight[j] * g * (1 - g))
                total += k
                rivals = combine(one, rivals, k, load(R, picked[t], lanes))
            store(across, np.uint64(0), rivals)
            for x in range(np.uint64(lanes)):
                added = combine(total * Q[i, x] - across[0, x], line, -Q[i, x], rivals)
                store(A, x, combine(one, load(A, x, lanes), one, added))
        for x in range(lanes):
            A[x, x] += penalty

    @compiled
    def solve(Q, b, R, c, mass, candidates, penalty, p, weight):
        n, m = len(Q), len(R)
        one = np.float32(1)
        score, drawn = np.empty(m, np.float32), np.empty(m, np.float32)
        ahead, mine, theirs = np.empty(BINS), np.empty(n), np.empty(m)
        ours, pull, push, bend = np.empty(n), np.empty(n), np.empty(m), np.empty(m)
        A = np.empty((lanes, lanes), np.float32)
        A2 = A.reshape(lanes * lanes // TILE, TILE)
        S = np.empty((CHUNK, lanes), np.float32)
        S2 = S.reshape(S.size // TILE, TILE)
        inverse = np.empty(lanes, np.float32)
        move, across = np.empty((1, lanes), np.float32), np.empty((1, lanes), np.float32)
        p[:] = 0
        for step in range(STEPS):
            row = load(p, np.uint64(0), lanes)
            highest = -np.inf
            for j in range(np.uint64(m)):
                score[j] = c[j] + dot(row, load(R, j, lanes))
                highest = max(highest, score[j])
            for i in range(np.uint64(n)):
                mine[i] = b[i] + dot(row, load(Q, i, lanes))
                highest = max(highest, mine[i])
            if candidates > 1:
                _drawn(score, mass, candidates, ahead, drawn)
            else:
                drawn[:] = mass
            # Who is drawn depends on p where the best of some is taken: a part of the way, so that it settles.
            part = np.float32(1 if step == 0 else min(0.5, 2 / (step + 1)))
            for j in range(m):
                weight[j] = weight[j] + part * (drawn[j] - weight[j]) if step else drawn[j]
                theirs[j] = np.exp(max(score[j] - highest, -600.0))
                push[j], bend[j] = 0.0, 0.0
            for i in range(n):
                e, total = np.exp(max(mine[i] - highest, -600.0)), 0.0
                ours[i] = e
                for j in range(m):
                    g = theirs[j] / (theirs[j] + e)
                    slope = weight[j] * g
                    total += slope
                    push[j] += slope
                    bend[j] += slope * (1 - g)
                pull[i] = total
            toward = combine(np.float32(-penalty), row, one - one, row)
            for i in range(np.uint64(n)):
                toward = combine(one, toward, np.float32(pull[i]), load(Q, i, lanes))
            for j in range(np.uint64(m)):
                toward = combine(one, toward, np.float32(-push[j]), load(R, j, lanes))
            store(move, np.uint64(0), toward)
            hessian(Q, R, ours, theirs, weight, bend, penalty, A, A2, S, S2, across)
            cholesky(A, A2, blocks, blocks, inverse)
            substitute(A, inverse, np.uint64(lanes), move[0])
            far, size = np.float32(0), np.float32(0)
            for a in range(lanes):
                p[0, a] += move[0, a]
                far, size = max(far, abs(move[0, a])), max(size, abs(p[0, a]))
            if far < CLOSE * (1 + size):
                break

    return solve
