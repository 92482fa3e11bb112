"""Spectral matrix factorization: a truncated singular value decomposition of the degree-normalised matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import numpy as np
from pydantic import Field

from hatrix.errors import DataError
from hatrix.models.fit import Algorithm, State, cores
from hatrix.models.model import FactorModel, Factors
from hatrix.models.signal import NO_SIGNAL, Normalisation, damped, signal_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatrix.data.ratings import Ratings
    from hatrix.kernels.sparse import Sparse

__all__ = ["SpectralMF"]

SPARE_COLUMNS = 16
"""Directions kept beyond the factors, at least: the last ones of a subspace converge slowly."""
DEGREE = 2
"""Of the polynomial that an epoch applies before it takes the subspace apart again."""
LARGEST_GAIN = 1e4
"""How much more a polynomial may amplify the first direction than the last: single precision has seven digits."""
MOST_FACTORS = 1024
"""The most factors that "auto" stands for."""
TINY = 1e-7
"""How large an item's bias is beside the largest scores, per logarithm of its count."""
NOISE = 1e-3
"""Singular values below this share of the largest count as zero: they are roundings of single precision."""


@final
class _State(State):
    """The subspace, item side: ``basis`` holds right singular vectors, ``values`` their singular values.

    Columns whose value is zero are not known yet, or the matrix has no such direction. The matrix itself is kept over
    ``unit``, the power of two below its largest entry: single precision holds no squares of large values.
    """

    def __init__(self, train: Ratings, recipe: SpectralMF, *, seed: int, threads: int) -> None:
        from hatrix.kernels import sparse

        self.threads, self.seed = threads, seed
        n, m = len(train.users), len(train.items)
        weight = recipe.entries(train)
        self.user_degree = np.bincount(train.user, weight**2, n).astype(np.float64)
        self.item_degree = np.bincount(train.item, weight**2, m).astype(np.float64)
        self.item_count = train.item_count
        user_scale = damped(self.user_degree, recipe.offset, recipe.user_exponent)
        item_scale = damped(self.item_degree, recipe.offset, recipe.item_exponent)
        exact = weight * user_scale[train.user] * item_scale[train.item]
        self.unit = float(2.0 ** np.floor(np.log2(np.abs(exact).max())))
        entry = (exact / self.unit).astype(np.float32)
        self.energy = float(np.sum(entry.astype(float) ** 2)) * self.unit**2
        self.by_user = _rows(train.by_user, train.item, entry)
        self.by_item = _rows(train.by_item, train.user, entry)
        width = sparse.wide(recipe.count + SPARE_COLUMNS)
        self.rank = min(width, n, m)
        self.spare, self.users = sparse.zeros(m, width), sparse.zeros(n, width)
        self.variables = {"basis": sparse.zeros(m, width), "values": np.zeros(width)}

    def iterate(self, epoch: int) -> None:
        """Apply a polynomial of N'N to the subspace, then find the best vectors in it."""
        from hatrix.kernels import dense, sparse

        basis, values = self.variables["basis"], self.variables["values"]
        self._fill(epoch)
        filtered = self._filter()
        sparse.multiply(self.by_user, filtered, self.users, threads=self.threads)
        G, H = dense.gram(filtered, threads=self.threads), dense.gram(self.users, threads=self.threads)
        found, W = rayleigh_ritz(G, H)
        values[:] = found * self.unit
        dense.rotate(filtered, W.astype(np.float32), basis, threads=self.threads)

    def project(self, block: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        """The first k columns of N / ``unit`` times a block."""
        from hatrix.kernels import sparse

        sparse.multiply(self.by_user, block, self.users, threads=self.threads)
        return self.users[:, :k].copy()

    def _fill(self, epoch: int) -> None:
        """Draw columns that are not known at random, at right angles to those that are."""
        from hatrix.kernels import dense

        basis, values = self.variables["basis"], self.variables["values"]
        unknown, known = np.flatnonzero(values[: self.rank] == 0), int(np.sum(values > 0))
        if not len(unknown):
            return
        fresh = dense.draw(len(basis), len(unknown), seed=(self.seed, epoch), threads=self.threads)
        if known:
            fresh -= basis[:, :known] @ (basis[:, :known].T @ fresh)
        basis[:, unknown] = fresh

    def _filter(self) -> NDArray[np.float32]:
        """The Chebyshev polynomial that is small on the spectrum below the subspace and grows fast above.

        Without a lower bound on the subspace's values, the polynomial is N'N itself. Returns one of two buffers.
        """
        basis, values = self.variables["basis"], self.variables["values"] / self.unit
        lowest = values[self.rank - 1] ** 2
        if lowest == 0:
            self._square(basis, self.spare)
            return self.spare
        middle = lowest / 2
        old, new = basis, self.spare
        self._square(old, new, scale=1 / middle, near=(-1.0, old))
        for _ in range(degree(values[0] ** 2 / middle - 1) - 1):
            self._square(new, old, scale=2 / middle, near=(-2.0, new), far=(-1.0, old))
            old, new = new, old
        return new

    def _square(self, X: NDArray[np.float32], out: NDArray[np.float32], **terms: Any) -> None:
        from hatrix.kernels import sparse

        sparse.multiply(self.by_user, X, self.users, threads=self.threads)
        sparse.multiply(self.by_item, self.users, out, threads=self.threads, **terms)


def _popular(state: _State) -> Factors:
    """Return the model without factors: an item's count is its score."""
    users, items = len(state.user_degree), len(state.item_degree)
    none = {
        "projection": np.zeros((items, 0), np.float32),
        "user_projection": np.zeros((users, 0), np.float32),
    }
    return Factors(
        0.0,
        np.zeros(users, np.float32),
        state.item_count.astype(np.float32),
        np.zeros((users, 0), np.float32),
        np.zeros((items, 0), np.float32),
        none,
    )


def _for_strangers(
    users: NDArray[np.float32], items: NDArray[np.float32], count: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return item biases too small to matter beside factors, so that users without any get the most popular items."""
    largest = [float(np.sqrt(np.einsum("nk,nk->n", rows, rows).max(initial=0.0))) for rows in (users, items)]
    return np.asarray(TINY * largest[0] * largest[1] * np.log1p(count), np.float32)


def _rows(groups: Any, column: NDArray[np.int32], entry: NDArray[np.float32]) -> Sparse:
    from hatrix.kernels.sparse import Sparse

    return Sparse(groups.start, column[groups.rows].astype(np.uint32), entry[groups.rows])


def _scaled(
    block: NDArray[np.float32],
    by_column: NDArray[np.float64],
    by_row: NDArray[np.float64],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    scaled = np.multiply(block, by_column.astype(np.float32), out=out)
    scaled *= by_row.astype(np.float32)[:, None]
    return scaled


def degree(outside: float) -> int:
    """The largest degree up to ``DEGREE`` whose Chebyshev polynomial stays moderate at ``outside`` (above 1)."""
    best = DEGREE
    while best > 1 and np.cosh(best * np.arccosh(max(outside, 1.0))) > LARGEST_GAIN:
        best -= 1
    return best


def rayleigh_ritz(
    G: NDArray[np.float64], H: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Singular values of N within the span of Y, largest first, and the W that makes YW orthonormal.

    ``G = Y'Y`` and ``H = (NY)'NY``, shapes (k, k). Values below the noise are zero, and so are their columns of W.
    """
    length = np.sqrt(np.diag(G))
    live = np.flatnonzero(length > 0)
    values, W = np.zeros(len(G)), np.zeros_like(G)
    if not len(live):
        return values, W
    scale = 1 / length[live]
    weight, Q = np.linalg.eigh(G[np.ix_(live, live)] * scale[:, None] * scale)
    sound = weight > 1e-6 * weight[-1]
    T = scale[:, None] * Q[:, sound] / np.sqrt(weight[sound])
    square, Z = np.linalg.eigh(T.T @ H[np.ix_(live, live)] @ T)
    square, Z = square[::-1], Z[:, ::-1]
    r = int(np.sum(square > NOISE**2 * square[0]))
    values[:r] = np.sqrt(square[:r])
    W[live, :r] = (T @ Z)[:, :r]
    return values, W


@final
class SpectralMF(Algorithm):
    """Truncated singular value decomposition of the degree-normalised matrix: ranking in closed form.

    With X the matrix of clicks (n_users, n_items), d_u and d_i the squared lengths of its rows and columns (the
    counts, where its entries are ones), and ``U S V'`` the first k singular triples of

    ``N = (D_u + offset)^-user_exponent · X · (D_i + offset)^-item_exponent``,

    ``score(u, i) = user_scale[u] · Σ_j x_uj (d_j + offset)^-history_exponent v_j f(S)/S · v_i · d_i^popularity``

    where ``user_scale = (d_u + offset)^-user_exponent``, and ``f(s) = s^power · exp(sharpness · s / s_1)`` for singular
    values above ``noise``, 0 for the others. Where ``history_exponent`` is the ``item_exponent`` (None says so) the score is
    ``U f(S) V'`` times the items' popularity. A user's factors are a projection of the user's row, and an item's one of
    its column: new ones need no training. An item's bias rises with its count and is too small to matter beside factors:
    users without factors get the most popular items.

    Minimises ``‖N - U S V'‖²`` over matrices of rank k, by subspace iteration: an epoch applies a Chebyshev
    polynomial of N'N, and solves for the best vectors in the subspace (Rayleigh-Ritz). The history tells the
    share of ``‖N‖²`` that is captured. Four epochs rank as well as the exact decomposition on the data tried.

    How many directions of N are more than chance depends on the data, from one to more than a thousand. ``noise="auto"``
    compares the spectrum of N with that of the same clicks dealt at random, so that each user and item keeps its count
    (`hatrix.models.signal`): it is the singular value above which chance accounts for fewer than 35 % of the directions.
    ``factors="auto"`` is the number of directions above ``noise``, at most 1,024. With more factors than that, the others
    are zero; ``noise=0`` keeps all.

    If no direction but that of popularity stands out of chance, ``factors="auto"`` is 0: the score is then the item's
    count, as in `Popular`, and a note of the model says so (H010).

    Special cases: PureSVD is ``user_exponent=item_exponent=0, offset=0, power=1, noise=0, popularity=0``;
    EigenRec with parameter d is ``user_exponent=0, item_exponent=(1 - d) / 2, offset=0, history_exponent=0, power=1,
    noise=0, popularity=0`` (both with ``weighted=True`` on ratings).

    Notes
    -----
    The rule, ``power`` and ``popularity`` were chosen on validation parts of the collection of ``benchmarks/defaults.py``,
    which has sparse and dense, real and made-up data.

    On ratings, rows count alike by default. Ratings as entries (``weighted=True``) make worse lists on the validation parts
    of ml-100k, ml-latest-small and ml-1m. Entries that rise a little with the rating find more of the items that users like
    on all three, and fewer of all held-out items on ml-1m (``benchmarks/evidence.py --recipe spectral-mf``).

    PureSVD: Cremonesi, Koren, Turrin, "Performance of recommender algorithms on top-N recommendation tasks",
    RecSys 2010. EigenRec: Nikolakopoulos et al., Knowledge and Information Systems 58, 2019. Normalisation on both
    sides with an exponential filter: Peng, Sugiyama, Mine, "SVD-GCN", CIKM 2022. Filtered subspace iteration:
    Zhou, Saad, Tiago, Chelikowsky, Journal of Computational Physics 219, 2006.

    Examples
    --------
    >>> from hatrix.data.ratings import Ratings
    >>> clicks = Ratings.from_columns(["ann", "ann", "bob", "bob", "cec"], ["a", "b", "a", "b", "c"])
    >>> model = SpectralMF(factors=2).fit(clicks)
    >>> model.scores("ann").round(2).argmax() in (0, 1)
    True
    """

    name: ClassVar[str] = "spectral-mf"
    task: ClassVar = "ranking"
    late: ClassVar[frozenset[str]] = frozenset(
        {"history_exponent", "power", "sharpness", "noise", "popularity"}
    )
    before: ClassVar[Mapping[str, Any]] = {"noise": 0.0}
    parts: ClassVar[Mapping[str, str]] = {"projection": "ik", "user_projection": "uk"}

    factors: Literal["auto"] | Annotated[int, Field(ge=0, le=8192)] = Field(
        default="auto",
        description="singular vectors to keep; beyond the rank of the matrix they are zero",
        json_schema_extra={"tune": [2, 1024, "log"]},
    )
    epochs: int = Field(default=4, ge=1, le=1000, description="rounds of subspace iteration")
    weighted: bool = Field(
        default=False, description="take the values as they are, instead of 1 for every row"
    )
    user_exponent: float = Field(
        default=0.45,
        ge=-1,
        le=2,
        description="how far the user's degree is divided out",
        json_schema_extra={"tune": [0.0, 1.0]},
    )
    item_exponent: float = Field(
        default=0.5,
        ge=-1,
        le=2,
        description="how far the item's degree is divided out",
        json_schema_extra={"tune": [0.0, 1.0]},
    )
    offset: float = Field(
        default=10.0,
        ge=0,
        le=1e9,
        description="added to every degree before that: pulls in users and items with few rows",
        json_schema_extra={"tune": [0.5, 50, "log"]},
    )
    history_exponent: float | None = Field(
        default=None,
        ge=-1,
        le=2,
        description="how far the degrees of a user's items are divided out when the user is projected; "
        "None means item_exponent",
    )
    power: float = Field(
        default=1.5,
        ge=-2,
        le=4,
        description="power of the singular values in the score",
        json_schema_extra={"tune": [0.0, 3.0]},
    )
    sharpness: float = Field(
        default=0.0,
        ge=-50,
        le=50,
        description="exponential weight of the first singular value against one of zero",
    )
    noise: Literal["auto"] | Annotated[float, Field(ge=0, le=1e6)] = Field(
        default="auto",
        description="singular values up to this one count as noise: their factors are zero",
        json_schema_extra={"tune": [0.05, 0.5]},
    )
    popularity: float = Field(
        default=0.3,
        ge=-2,
        le=2,
        description="power of the item's degree in the score",
        json_schema_extra={"tune": [0.0, 1.0]},
    )

    @property
    def rounds(self) -> int:
        return self.epochs if self.factors else 1

    @property
    def count(self) -> int:
        """The number of factors, which a resolved recipe has."""
        return int(self.factors)

    def resolved(self, train: Ratings) -> SpectralMF:
        left = [name for name in ("factors", "noise") if getattr(self, name) == "auto"]
        if not left:
            return self
        if self.factors == 0:
            return self.replace(noise=0.0)
        how = Normalisation(self.user_exponent, self.item_exponent, self.offset)
        weight = self.entries(train)
        found = signal_of(train, weight, how, most=MOST_FACTORS, threads=cores())
        numbers = {"noise": found.noise, "factors": found.factors if found.helps else 0}
        if self.noise != "auto":
            numbers["factors"] = found.above(float(self.noise))
        return self.replace(**{name: numbers[name] for name in left})

    def of_model(self, model: FactorModel) -> SpectralMF:
        numbers = {"factors": model.user_factors.shape[1], "noise": 0.0}
        left = {name: number for name, number in numbers.items() if getattr(self, name) == "auto"}
        return self.replace(**left) if left else self

    def remarks(self, left: Algorithm) -> list[str]:
        return [NO_SIGNAL] if self.factors == 0 and getattr(left, "factors", None) == "auto" else []

    def shares_training(self, other: Algorithm) -> bool:
        """Whether they decompose the same matrix, ``other`` to at least as many factors."""
        if not isinstance(other, SpectralMF) or other.count < self.count or not self.count:
            return self == other
        return super().shares_training(other.replace(factors=self.factors))

    def init(self, train: Ratings, *, seed: int, threads: int) -> _State:
        return _State(train, self, seed=seed, threads=threads)

    def step(self, state: _State, epoch: int) -> Mapping[str, float]:
        if self.count:
            state.iterate(epoch)
        captured = float(np.sum(state.variables["values"][: self.count] ** 2))
        return {"objective": state.energy - captured, "captured": captured / state.energy}

    def finish(self, state: _State) -> Factors:
        k, degree = self.count, state.item_degree
        if not k:
            return _popular(state)
        values = np.where(np.arange(len(state.spare[0])) < k, state.variables["values"], 0.0)
        root = np.sqrt(self.filter(values))
        inverse = np.divide(root, values, out=np.zeros_like(root), where=values > 0)
        history = self.item_exponent if self.history_exponent is None else self.history_exponent
        # The rows of N are already divided by item_exponent's power of the degree.
        rest = damped(degree, self.offset, history - self.item_exponent)
        vectors = state.variables["basis"][:, :k]
        users = state.project(
            _scaled(state.variables["basis"], inverse * state.unit, rest, out=state.spare), k
        )
        left = users  # left singular vectors, times the root
        if history != self.item_exponent:
            plain = np.ones(len(degree))
            left = state.project(
                _scaled(state.variables["basis"], inverse * state.unit, plain, out=state.spare), k
            )
        reciprocal = np.divide(1.0, values[:k], out=np.zeros(k), where=values[:k] > 0)
        user_scale = damped(state.user_degree, self.offset, self.user_exponent)
        items = _scaled(vectors, root[:k], damped(degree, 0.0, -self.popularity))
        return Factors(
            0.0,
            np.zeros(len(state.user_degree), np.float32),
            _for_strangers(users, items, state.item_count),
            users,
            items,
            {
                "projection": _scaled(vectors, inverse[:k], damped(degree, self.offset, history)),
                "user_projection": _scaled(left, reciprocal, user_scale),
            },
        )

    def filter(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``f(s) = s^power · exp(sharpness · s / s_1)``, and 0 where s is 0 or noise."""
        known = values > float(self.noise)
        s = np.where(known, values, 1.0)
        return np.where(known, s**self.power * np.exp(self.sharpness * s / s[:1]), 0.0)

    def entries(self, train: Ratings) -> NDArray[np.float64]:
        """Return the entries of X for the training ratings.

        Raises
        ------
        DataError
            If all of them are 0.
        """
        weight = self.weights(train.value)
        if not weight.any():
            raise DataError("every value is 0, so there is nothing to take apart: weighted=False counts rows")
        return weight

    def weights(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entries of X for rows of the given values."""
        return value.astype(float) if self.weighted else np.ones(len(value))

    def user_terms(
        self, projection: NDArray[np.float32], item: NDArray[Any], value: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What each of a user's items adds to the user's factors, shape (n, k): the user's row, projected.

        For a training user they add up to the user's factors in the model, up to rounding.
        """
        weight = self.weights(value)
        scale = damped(np.array([weight @ weight]), self.offset, self.user_exponent)
        return np.asarray((weight * scale)[:, None] * projection[item])

    def item_terms(
        self, user_projection: NDArray[np.float32], user: NDArray[Any], value: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What each of an item's users adds to the item's factors, shape (n, k): the item's column, projected.

        A column c of N beside the others has the right singular vector ``c'U S⁻¹`` to first order, with the users' degrees
        as they were. For a training item the terms add up to the item's factors, as far as the decomposition has converged.
        """
        weight = self.weights(value)
        degree = np.array([weight @ weight])
        scale = damped(degree, self.offset, self.item_exponent) * damped(degree, 0.0, -self.popularity)
        return np.asarray((weight * scale)[:, None] * user_projection[user])
