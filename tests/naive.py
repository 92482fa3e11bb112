"""Plain-Python twins of the kernels: obviously right, slow, and all that the fast ones must agree with."""

from __future__ import annotations

import numpy as np


def sgd_epoch(
    order, user, item, value, P, Q, user_bias, item_bias, *, rate, user_reg, item_reg, bias_reg, gains=None
):
    """One epoch in place over the ratings in ``order``; returns the sum of squared errors met on the way.

    ``gains`` is (user, item) accumulators for per-row rates; ``user_bias`` None means no biases.
    """
    loss = 0.0
    k = P.shape[1]
    for n in order:
        u, i = user[n], item[n]
        p, q = P[u].copy(), Q[i].copy()
        e = value[n] - sum(p[f] * q[f] for f in range(k))
        if user_bias is not None:
            e -= user_bias[u] + item_bias[i]
        user_rate = item_rate = rate
        grad_p, grad_q = e * q - user_reg[u] * p, e * p - item_reg[i] * q
        if gains is not None:
            user_rate, item_rate = rate / np.sqrt(gains[0][u]), rate / np.sqrt(gains[1][i])
            gains[0][u] += np.mean(grad_p**2)
            gains[1][i] += np.mean(grad_q**2)
        if user_bias is not None:
            user_bias[u] += user_rate * (e - bias_reg * user_bias[u])
            item_bias[i] += item_rate * (e - bias_reg * item_bias[i])
        P[u], Q[i] = p + user_rate * grad_p, q + item_rate * grad_q
        loss += e * e
    return loss


def notebook(train, *, rank, epochs, learning_rate, seed):
    """The notebook's class H, update_gradient and training loop, on row numbers; returns P, Q and the MSE history."""
    draw = np.random.RandomState(seed)
    P, Q = draw.rand(len(train.users), rank), draw.rand(len(train.items), rank)
    history = []
    for _ in range(epochs):
        for u, i, rating in zip(train.user.tolist(), train.item.tolist(), train.value.tolist(), strict=True):
            prediction = Q[i] @ P[u]
            error = prediction - rating
            current_p = P[u].copy()
            P[u] = P[u] - learning_rate * (Q[i] * error * 2)
            Q[i] = Q[i] - learning_rate * (current_p * error * 2)
        predictions = (P @ Q.T)[train.user, train.item]
        history.append(float(np.mean((predictions - train.value) ** 2)))
    return P, Q, history
