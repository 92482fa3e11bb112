"""Items in two dimensions, so that those which please the same people lie close together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hatrix._threads import one_blas_thread
from hatrix.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.models.model import FactorModel

    Floats = NDArray[np.float64]

__all__ = ["Projection", "project"]

MOST_SHOWN, WIDEST, FEWEST, PERPLEXITY = 6000, 50, 30, 30.0


class Projection(NamedTuple):
    """Item rows, the most rated first, their places in the square from -1 to 1, and how they came there."""

    items: NDArray[np.int64]
    places: Floats
    method: str


@one_blas_thread()
def project(model: FactorModel) -> Projection:
    """Lay the items of a model out on a plane; the same model gives the same map.

    Items with training rows are placed by the direction of their factors: by openTSNE where it is installed (the
    extra ``map``), else by their two principal components. Of many items, the 6,000 most rated are placed.

    Raises
    ------
    DataError
        If the model has fewer than two factors that differ between items.
    """
    rated = np.flatnonzero(model.item_count > 0)
    rated = rated[np.argsort(-model.item_count[rated], kind="stable")][:MOST_SHOWN]
    rows = np.asarray(model.flat.item_factors, np.float64)[rated]
    length = np.linalg.norm(rows, axis=1)
    rated, rows = rated[length > 0], rows[length > 0] / length[length > 0, None]
    if rows.shape[1] < 2 or len(rows) < 3 or np.ptp(rows, axis=0).max(initial=0.0) == 0:
        raise DataError(f"A {model.recipe.name} model has no factors that tell where an item lies")
    reduced = _principal(rows, WIDEST)
    if len(rows) >= FEWEST:
        try:
            return Projection(rated, _in_square(_neighbours(reduced)), "t-SNE of the item factors")
        except ImportError:
            pass
    return Projection(rated, _in_square(reduced[:, :2]), "the two principal components of the item factors")


def _principal(rows: Floats, most: int) -> Floats:
    """Coordinates along the principal axes, each axis with the sign that makes its largest entry positive."""
    centred = rows - rows.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred.T @ centred, hermitian=True)
    axes = axes[: max(2, min(most, int((spread > spread[0] * 1e-12).sum())))]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    coordinates: Floats = centred @ axes.T
    return coordinates


def _neighbours(rows: Floats) -> Floats:
    from openTSNE import TSNE

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    fitted = TSNE(
        perplexity=perplexity, neighbors="exact", initialization="pca", n_jobs=1, random_state=0
    ).fit(rows)
    return np.asarray(fitted, np.float64)


def _in_square(places: Floats) -> Floats:
    """The middle of each axis at 0 and nearly all within 1; what lies further out comes to lie on the edge."""
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    reach = np.where(high > low, (high - low) / 2, 1.0)
    clipped: Floats = np.clip((places - (high + low) / 2) / reach, -1, 1)
    return clipped
