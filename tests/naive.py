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
            user_bias[u] += user_rate * (e - bias_reg[0][u] * user_bias[u])
            item_bias[i] += item_rate * (e - bias_reg[1][i] * item_bias[i])
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


def svdpp_sums(user, item, Y, n_users):
    """|N(u)|^-½ Σ y_j over the items j that each user has rated."""
    S = np.zeros((n_users, Y.shape[1]))
    for u in range(n_users):
        items = [i for v, i in zip(user, item, strict=True) if v == u]
        for j in items:
            S[u] += Y[j] / np.sqrt(len(items))
    return S


def svdpp_epoch(
    order,
    user,
    item,
    value,
    P,
    Q,
    Y,
    user_bias,
    item_bias,
    *,
    rate,
    ratio,
    slack,
    user_reg,
    item_reg,
    bias_reg,
):
    """One epoch of SVD++ in place over the ratings in ``order``; returns the sum of squared errors met on the way."""
    loss, rated = 0.0, np.bincount(user, minlength=len(P))
    S, G = svdpp_sums(user, item, Y, len(P)), np.zeros_like(P)
    for n in order:
        u, i = user[n], item[n]
        p, q, z = P[u].copy(), Q[i].copy(), P[u] + S[u]
        e = value[n] - user_bias[u] - item_bias[i] - z @ q
        user_bias[u] += rate * (e - bias_reg[0][u] * user_bias[u])
        item_bias[i] += rate * (e - bias_reg[1][i] * item_bias[i])
        P[u], Q[i] = p + rate * (e * q - user_reg[u] * p), q + rate * (e * z - item_reg[i] * q)
        G[u] += e * q
        loss += e * e
    items_of = [item[user == u] for u in range(len(P))]
    response = [min(1, rate * sum(Q[i] @ Q[i] for i in items)) for items in items_of]
    for j in range(len(Q)):
        users = user[item == j]
        step = ratio * rate / (1 + ratio * sum(response[u] for u in users) / slack)
        wish = sum((G[u] / np.sqrt(rated[u]) for u in users), np.zeros(Y.shape[1]))
        Y[j] = (Y[j] + step * wish) / (1 + step * item_reg[j] * len(users))
    return loss


def sparse_times_dense(start, column, value, X):
    """The product of a sparse matrix by rows and a dense one, an entry at a time, in double precision."""
    Y = np.zeros((len(start) - 1, X.shape[1]))
    for row in range(len(start) - 1):
        for n in range(start[row], start[row + 1]):
            Y[row] += float(value[n]) * X[column[n]].astype(float)
    return Y


def spectral_scores(
    X, k, *, user_exponent, item_exponent, offset, history_exponent, power, sharpness, noise, popularity
):
    """The scores of SpectralMF by its equation, from the dense matrix X and a full decomposition."""
    d_u, d_i = (X**2).sum(axis=1), (X**2).sum(axis=0)
    N = np.diag((d_u + offset) ** -user_exponent) @ X @ np.diag((d_i + offset) ** -item_exponent)
    s, V = (part[:k] for part in np.linalg.svd(N)[1:])
    f = np.where(s > noise, s**power * np.exp(sharpness * s / s[0]), 0.0)
    rows = np.diag((d_u + offset) ** -user_exponent) @ X @ np.diag((d_i + offset) ** -history_exponent)
    return rows @ V.T @ np.diag(f / s) @ V @ np.diag(d_i**popularity)


def top_n(users, items, bias, n, seen):
    """The n best items of each user by sorting every score, equals by row number; -1 where there is none."""
    lists, scores = np.full((len(users), n), -1), np.full((len(users), n), -np.inf)
    for u, row in enumerate(users @ items.T + bias):
        banned = set() if seen is None else set(seen[1][seen[0][u] : seen[0][u + 1]].tolist())
        order = [i for i in np.argsort(-row, kind="stable") if i not in banned][:n]
        lists[u, : len(order)], scores[u, : len(order)] = order, row[order]
    return lists, scores


def ridge(start, other, weight, target, Y, diagonal, ridge, bias_ridge):
    """Rows x and biases β that minimise Σ w (t - β - x·y)² + Σ (c + g) x² + bias_ridge β², from normal equations."""
    rows, k = len(start) - 1, Y.shape[1]
    X, bias = np.zeros((rows, k)), np.zeros(rows)
    for u in range(rows):
        part = slice(start[u], start[u + 1])
        if start[u] == start[u + 1]:
            continue
        A, penalty = Y[other[part]].astype(float), ridge[u] + diagonal.astype(float)
        if bias_ridge is not None:
            A, penalty = np.column_stack([A, np.ones(len(A))]), np.append(penalty, bias_ridge[u])
        x = np.linalg.solve((A.T * weight[part]) @ A + np.diag(penalty), (A.T * weight[part]) @ target[part])
        X[u], bias[u] = x[:k], x[k] if bias_ridge is not None else 0.0
    return X, bias


def losses(start, other, weight, target, Y, X, bias, slope):
    """Σ e (weight e + slope) of each row, e = target - bias - x·y."""
    total = np.zeros(len(X))
    for u in range(len(X)):
        for n in range(start[u], start[u + 1]):
            e = target[n] - bias[u] - float(X[u] @ Y[other[n]])
            total[u] += e * (weight[n] * e + slope)
    return total


def bpr(user, item, negatives, P, Q, bias, *, user_reg, item_reg, bias_reg, centre, rate):
    """One pass of Bayesian personalised ranking over given negatives, in place; returns Σ -ln σ(x)."""
    total = 0.0
    for u, i, j in zip(user, item, negatives, strict=True):
        p, q, r = P[u].copy(), Q[i].copy(), Q[j].copy()
        x = p @ q + bias[i] - p @ r - bias[j]
        g = 1 / (1 + np.exp(x))
        P[u] += rate * (g * (q - r) - user_reg[u] * p)
        Q[i] += rate * (g * p - item_reg[i] * q)
        Q[j] += rate * (-g * p - item_reg[j] * r)
        bias[i] += rate * (g - bias_reg * (bias[i] - centre[i]))
        bias[j] -= rate * (g + bias_reg * (bias[j] - centre[j]))
        total -= np.log(1 - g)
    return total


def recommended(scores, n, *, seen=(), allowed=None):
    """Item rows by falling score, equals by row number, without what was seen or is not allowed."""
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    return [i for i in order if i not in set(seen) and (allowed is None or i in allowed)][:n]


def bilinear_scores(user, item, when, mean, X, Z, T):
    """mean + b_u + b_i + b_t + p_u·q_i + (p_u + q_i)·s_t; each row is its factors, then its bias."""
    scores = []
    for u, i, t in zip(user, item, when, strict=True):
        p, q, s = X[u, :-1], Z[i, :-1], T[t, :-1]
        scores.append(mean + X[u, -1] + Z[i, -1] + T[t, -1] + p @ q + (p + q) @ s)
    return np.array(scores)


def regression(design, target, prior, precision, noise):
    """Λ + α DᵀD, and it times the mean of a normal posterior: prior N(Λ⁻¹ prior, Λ⁻¹), noise precision α."""
    return precision + noise * design.T @ design, prior + noise * design.T @ target


def counted_normals(key, row, size):
    """The normal numbers that a key and a row's number stand for: splitmix64, then Marsaglia's polar method."""

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    state, numbers = mix(key ^ mix(row)), []
    while len(numbers) < size:
        state = (state + 2) % 2**64
        across, along = ((mix((state + n) % 2**64) // 2**12 + 0.5) / 2**51 - 1 for n in (0, 1))
        square = across**2 + along**2
        if square < 1:
            numbers += [x * np.sqrt(-2 * np.log(square) / square) for x in (across, along)]
    return np.array(numbers[:size])


def normal_draw(A, b, z):
    """The draw of N(A⁻¹ b, A⁻¹) that standard normal numbers z stand for: mean + U⁻¹ z, where A = UᵀU."""
    return np.linalg.solve(A, b) + np.linalg.solve(np.linalg.cholesky(A).T, z)


def rows_of_normal_wishart(n, size, rng):
    """n rows ~ N(μ, Λ⁻¹), with μ | Λ ~ N(0, (2Λ)⁻¹) and Λ ~ Wishart(identity, size), as a sum of outer products."""
    z = rng.standard_normal((size, size))
    covariance = np.linalg.inv(z.T @ z)
    mean = rng.multivariate_normal(np.zeros(size), covariance / 2, method="cholesky")
    return rng.multivariate_normal(mean, covariance, n, method="cholesky")


def rows_of_normal_gamma(n, size, rng):
    """n rows of independent N(μ, 1/λ), with μ | λ ~ N(0, 1/λ) and λ ~ Gamma(½, rate ½), a squared normal number."""
    deviation = 1 / np.abs(rng.standard_normal(size))
    return deviation * (rng.standard_normal(size) + rng.standard_normal((n, size)))


def numbers_of_normal_gamma(n, rng):
    """Numbers around zero whose precision is drawn from Γ(1/2, 1/2)."""
    return rng.standard_normal(n) / np.sqrt(rng.gamma(0.5, 2.0))


def gibbs(user, item, value, mean, k, sweeps, rng, *, stars=None):
    """Gibbs sampling of Bayesian matrix factorization from its equations, ids only; yields (score of all pairs, noise).

    With ``stars`` L, values are 0 to L - 1 by ordered probit, and (score, cut points) are yielded.
    """
    from scipy.special import ndtr, ndtri
    from scipy.stats import wishart

    sides, size = ((user, item), (item, user)), k + 1
    rows = [rng.normal(0, 0.1, (own.max() + 1, size)) for own, _ in sides]
    precision, target = 1.0, value.astype(float)
    cuts = None if stars is None else np.arange(stars - 1) - stars / 2 + 1.0
    for _ in range(sweeps):
        if stars is not None:
            scores = (mean + rows[0][:, [-1]] + rows[1][:, -1] + rows[0][:, :-1] @ rows[1][:, :-1].T)[
                user, item
            ]
            cuts = _moved_cuts(cuts, scores, value, rng)
            edges = np.concatenate([[-np.inf], cuts, [np.inf]])
            low, high = ndtr(edges[value] - scores), ndtr(edges[value + 1] - scores)
            target = scores + ndtri(rng.uniform(low, high))
        for (own, other), x, z in zip(sides, rows, reversed(rows), strict=True):
            n, centre = len(x), x.mean(axis=0)
            spread = np.eye(size) + sum(np.outer(r - centre, r - centre) for r in x)
            spread += 2 * n / (2 + n) * np.outer(centre, centre)
            prior_precision = wishart.rvs(size + n, np.linalg.inv(spread), random_state=rng)
            prior_mean = normal_draw(
                (2 + n) * prior_precision, n * prior_precision @ centre, rng.normal(size=size)
            )
            for u in range(n):
                design = np.column_stack([z[other[own == u], :-1], np.ones((own == u).sum())])
                left = target[own == u] - mean - z[other[own == u], -1]
                A, b = regression(design, left, prior_precision @ prior_mean, prior_precision, precision)
                x[u] = normal_draw(A, b, rng.normal(size=size))
        scores = mean + rows[0][:, [-1]] + rows[1][:, -1] + rows[0][:, :-1] @ rows[1][:, :-1].T
        if stars is None:
            error = ((value - scores[user, item]) ** 2).sum()
            precision = rng.gamma((1 + len(value)) / 2, 2 / (1 + error))
        yield scores, precision**-0.5 if stars is None else cuts.copy()


def _moved_cuts(cuts, scores, star, rng):
    """Metropolis steps of one cut point at a time; their density is flat in the logarithms of the gaps."""
    from scipy.special import ndtr

    def density(cuts):
        edges = np.concatenate([[-np.inf], cuts, [np.inf]])
        mass = ndtr(edges[star + 1] - scores) - ndtr(edges[star] - scores)
        return np.log(np.maximum(mass, 1e-300)).sum() - np.log(np.diff(cuts)).sum()

    for c in 3 * list(range(len(cuts))):
        moved = cuts.copy()
        moved[c] += rng.normal(0, 0.5)
        if (np.diff(moved) > 0).all() and np.log(rng.random()) < density(moved) - density(cuts):
            cuts = moved
    return cuts


def row_of_pairs(Q, b, R, c, mass, candidates, penalty, steps=25):
    """The p that minimises Σ_i Σ_j w_j ln(1 + exp(s_j - x_i)) + ½ penalty |p|², with w that of s; and the w."""
    p, weight = np.zeros(Q.shape[1]), None
    for step in range(steps):
        x, s = b + Q @ p, c + R @ p
        drawn, left = np.zeros(len(s)), 1.0
        for j in np.argsort(-s, kind="stable"):
            drawn[j] = left**candidates - (left - mass[j]) ** candidates
            left -= mass[j]
        weight = drawn if step == 0 else weight + min(0.5, 2 / (step + 1)) * (drawn - weight)
        slope, H = penalty * p, penalty * np.eye(len(p))
        for i in range(len(x)):
            g = 1 / (1 + np.exp(x[i] - s))
            D = Q[i] - R
            slope = slope - (weight * g) @ D
            H += D.T @ ((weight * g * (1 - g))[:, None] * D)
        p = p - np.linalg.solve(H, slope)
    return p, weight
