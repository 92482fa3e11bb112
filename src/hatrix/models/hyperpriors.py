"""Hyper-priors of a field: its mean and precision drawn from their conditional distribution given its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["centred", "independent", "wishart"]


def wishart(
    rows: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw μ and Λ of a field given its rows: a normal-Wishart hyper-prior with identity scale."""
    from scipy.linalg.lapack import dpotrf, dtrtrs

    n, size = rows.shape
    weight = 2.0
    mean = rows.sum(axis=0) / n
    rows = rows - mean
    spread = rows.T @ rows + np.eye(size) + n * weight / (n + weight) * np.outer(mean, mean)
    # A Wishart draw by Bartlett: Λ = (L⁻ᵀ B)(L⁻ᵀ B)ᵀ, where spread = L Lᵀ. Then N(0, Λ⁻¹) is that of L B⁻ᵀ z.
    lower = np.tril(rng.standard_normal((size, size)), -1)
    lower[np.diag_indices(size)] = np.sqrt(rng.chisquare(size + n - np.arange(size)))
    factor = dpotrf(spread, lower=1)[0]
    root = dtrtrs(factor, lower, lower=1, trans=1)[0]
    noise = factor @ dtrtrs(lower, rng.standard_normal(size), lower=1, trans=1)[0]
    return n * mean / (n + weight) + noise / np.sqrt(n + weight), root @ root.T


def independent(
    rows: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw μ and a diagonal Λ of a field given its rows: a normal-gamma hyper-prior for each number by itself."""
    n = len(rows)
    mean = rows.mean(axis=0)
    spread = ((rows - mean) ** 2).sum(axis=0) + n / (n + 1) * mean**2
    precision = rng.gamma((1 + n) / 2, size=rows.shape[1]) * 2 / (1 + spread)
    centre = n * mean / (n + 1) + rng.standard_normal(rows.shape[1]) / np.sqrt((n + 1) * precision)
    return centre, np.diag(precision)


def centred(numbers: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Draw the precision of numbers with mean 0 given them: a hyper-prior Γ(1/2, 1/2)."""
    return float(rng.gamma((1 + len(numbers)) / 2) * 2 / (1 + numbers @ numbers))
