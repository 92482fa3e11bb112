"""Have chains of posterior draws come to the same distribution? R-hat and effective sample sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import whole
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation.cautions import caution
from hatrix.models.probit import expected

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.factors import Posterior
    from hatrix.models.model import FactorModel

__all__ = ["convergence", "effective_size", "r_hat"]

FEWEST_DRAWS = 4
SAMPLE = 1000
"""Training pairs behind the rows that speak of all of them."""
GOOD = 1.01
FALSE_ALARMS = 0.01
"""How often chains of independent draws are warned of, all rows together."""


def convergence(models: Sequence[FactorModel], *, pairs: int = 50, seed: int = 0) -> pd.DataFrame:
    """Whether models fitted with different seeds drew from the same posterior.

    Parameters
    ----------
    models
        Two or more models of one `BayesianMF` recipe on the same ratings, each with a seed of its own.
    pairs
        How many training pairs to follow the predictions of.
    seed
        Draws these pairs.

    Returns
    -------
    DataFrame
        A row per ``quantity`` that has a value in each draw: the noise, or the cut points; the mean score; standard
        deviations of biases and of the products of factors; and the predicted ratings of ``pairs`` training
        pairs, whose labels are in ``user`` and ``item``. Columns ``r_hat`` (rank-normalised, split; 1 where the chains
        agree), ``ess`` (bulk effective sample size: so many independent draws would tell the mean as well), ``mean``
        and ``sd``. Its ``attrs`` hold the ``worst`` R-hat, the ``limit`` up to which it may be by chance (1.01, or
        more where draws are few), ``chains``, ``draws`` per chain and ``warnings``, with a code, if it is beyond.

    Raises
    ------
    ParameterError
        If there is one chain, a model without posterior draws, too few draws, or recipes or seeds do not fit.
    DataError
        If the models come from different ratings, or were saved without those.

    Notes
    -----
    Vehtari, Gelman, Simpson, Carpenter, Bürkner, "Rank-normalization, folding, and localization: an improved R-hat for
    assessing convergence of MCMC", Bayesian Analysis 16, 2021. The limit follows from R-hat² ≈ 1 + (F - 1) / n for halves
    of n independent draws, F being χ² over its degrees of freedom, one less than there are halves.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(30, 20, n_ratings=300, factors=1)
    >>> recipe = hx.BayesianMF(likelihood="gaussian", factors=1, epochs=230, draws=200)
    >>> table = hx.convergence([recipe.fit(ratings, seed=seed) for seed in (1, 2)])
    >>> table.quantity.iloc[0], table.attrs["chains"], table.attrs["draws"], bool(table.r_hat.median() < 1.05)
    ('noise', 2, 200, True)
    """
    import pandas as pd

    models = _chains(models)
    rows = _followed(models[0], pairs, seed)
    draws = min(len(_posterior(model).noise) for model in models)
    each = [_quantities(model, *rows) for model in models]
    table = pd.DataFrame([(*key, *_figures([chain[key][-draws:] for chain in each])) for key in each[0]])
    table.columns = pd.Index(["quantity", "user", "item", "r_hat", "ess", "mean", "sd"])
    worst, limit = float(table["r_hat"].max()), _limit(len(table), len(models), draws)
    table.attrs = {"worst": worst, "limit": limit, "chains": len(models), "draws": draws, "warnings": []}
    if worst > limit:
        where = table.iloc[int(table["r_hat"].argmax())]
        pair = f" of {where['user']!r} and {where['item']!r}" if where["quantity"] == "prediction" else ""
        words = (
            f"the chains disagree: R-hat of the {where['quantity']}{pair} is {worst:.3f}, above {limit:.3f}"
        )
        table.attrs["warnings"] = [caution("H009", f"{words}; give more epochs, and a longer burn_in")]
    return table


def r_hat(chains: NDArray[Any]) -> float:
    """Rank-normalised split R-hat of draws of shape (chains, n): the larger one of location and of scale.

    NaN where nothing varies.
    """
    halves = _halves(chains)
    folded = np.abs(halves - np.median(halves))
    return float(np.max([_spread_ratio(_rank_normal(draws)) for draws in (halves, folded)]))


def effective_size(chains: NDArray[Any]) -> float:
    """Bulk effective sample size of draws of shape (chains, n), from the autocorrelation of their ranks.

    NaN where nothing varies.
    """
    return _effective_size(_rank_normal(_halves(chains)))


def _chains(models: Sequence[FactorModel]) -> list[FactorModel]:
    if not isinstance(models, Sequence | np.ndarray) or len(models) < 2:
        got = f"{len(models)}" if isinstance(models, Sequence | np.ndarray) else f"a {type(models).__name__}"
        raise ParameterError(
            f"models is {got}: give a list of two or more models, fitted with different seeds on the same ratings"
        )
    first, seeds = models[0], set()
    for number, model in enumerate(models, 1):
        draws = 0 if getattr(model, "posterior", None) is None else len(_posterior(model).noise)
        if draws < FEWEST_DRAWS:
            raise ParameterError(
                f"model {number}, {model!r}, has {draws or 'no'} posterior draws: give models of BayesianMF with "
                f"{FEWEST_DRAWS} draws or more"
            )
        if model.recipe != first.recipe:
            raise ParameterError(
                f"the recipes differ: model 1 is {first.recipe!r}, model {number} is {model.recipe!r}; fit one recipe "
                "with different seeds"
            )
        if model.fingerprint != first.fingerprint:
            raise DataError(
                f"models 1 and {number} were fitted on different ratings ({first.data_name}, {model.data_name}): fit "
                "all on the same"
            )
        if model.seed in seeds:
            raise ParameterError(
                f"two models have the seed {model.seed} and so the same draws: fit each with a seed of its own"
            )
        seeds.add(model.seed)
    return list(models)


def _posterior(model: FactorModel) -> Posterior:
    assert model.posterior is not None
    return model.posterior


def _followed(model: FactorModel, pairs: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Rows of users and items of training pairs, and how many of them to follow one by one."""
    pairs = whole("pairs", pairs, 0, SAMPLE)
    if model.seen is None:
        raise DataError("the first model was saved without its training rows: give one that has them")
    start, item, _ = model.seen
    chosen = np.random.default_rng(seed).permutation(len(item))[:SAMPLE]
    return np.searchsorted(start, chosen, side="right") - 1, item[chosen].astype(np.int64), pairs


def _quantities(
    model: FactorModel, user: NDArray[Any], item: NDArray[Any], pairs: int
) -> dict[tuple[str, Any, Any], NDArray[np.float64]]:
    """What has a value in each draw: by name and, for predictions, labels."""
    posterior, factors = _posterior(model), model.factors
    scores = np.concatenate([part for _, part in factors.by_draw(user, item)])
    (_, p), (_, q) = (factors.rows(side, rows, scores.shape[1]) for side, rows in enumerate((user, item)))
    named = (
        {f"cut point {n + 1}": cut for n, cut in enumerate(posterior.cuts.T)}
        if posterior.cuts.size
        else {"noise": posterior.noise}
    )
    named["mean score"] = scores.mean(axis=0)
    named["sd of user biases"] = model.user_bias[model.user_count > 0].std(axis=0)
    named["sd of item biases"] = model.item_bias[model.item_count > 0].std(axis=0)
    named["sd of products"] = np.einsum("nsk,nsk->ns", p, q).std(axis=0)
    if posterior.user_spread.size:
        named["sd of user spreads"] = posterior.user_spread[:-1][model.user_count > 0].std(axis=0)
    if model.time is not None:
        named["sd of time biases"] = model.time.bias.std(axis=0)
    if model.days is not None:
        named["spread of the biases of days"] = model.days.spread
    out = {(name, None, None): np.asarray(values, np.float64) for name, values in named.items()}
    predicted = _predicted(model, scores[:pairs], user[:pairs])
    labels = zip(model.users.decode(user[:pairs]), model.items.decode(item[:pairs]), strict=True)
    for row, (one, two) in enumerate(labels):
        out["prediction", one, two] = predicted[row]
    return out


def _predicted(model: FactorModel, scores: NDArray[np.float64], user: NDArray[Any]) -> NDArray[np.float64]:
    """The rating that each draw predicts."""
    posterior = _posterior(model)
    if not posterior.cuts.size:
        return scores
    spread = posterior.user_spread[user] if posterior.user_spread.size else np.ones_like(scores)
    if model.days is not None:
        spread = np.hypot(spread, model.days.spread)
    draws = zip(scores.T, spread.T, posterior.cuts, strict=True)
    return np.column_stack([expected(score, d, cuts, posterior.levels) for score, d, cuts in draws])


def _figures(chains: list[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    draws = np.array(chains)
    return r_hat(draws), effective_size(draws), float(draws.mean()), float(draws.std())


def _limit(quantities: int, chains: int, draws: int) -> float:
    from scipy.stats import chi2

    freedom, n = 2 * chains - 1, draws // 2
    ratio = chi2.isf(FALSE_ALARMS / (2 * quantities), freedom) / freedom
    return max(GOOD, float(np.sqrt(1 + (ratio - 1) / n)))


def _halves(chains: NDArray[Any]) -> NDArray[np.float64]:
    """Each chain cut in two, without the middle draw of an odd number."""
    n = chains.shape[1] // 2
    return np.concatenate([chains[:, :n], chains[:, chains.shape[1] - n :]]).astype(np.float64)


def _rank_normal(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(draws).reshape(draws.shape) - 0.375) / (draws.size + 0.25)))


def _spread_ratio(draws: NDArray[np.float64]) -> float:
    """R-hat of chains as they are: √ of their variance together over the mean of their own."""
    n = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean()
    between = draws.mean(axis=1).var(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt((n - 1) / n + between / within))


def _effective_size(draws: NDArray[np.float64]) -> float:
    chains, n = draws.shape
    centred = draws - draws.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * n, axis=1)) ** 2
    covariance = np.fft.irfft(power, axis=1)[:, :n].mean(axis=0) / n
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + draws.mean(axis=1).var(ddof=1)
    if not total > 0:
        return float("nan")
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1.0
    # Geyer: sums of neighbours are positive and fall, in truth; from where they are not, they are noise.
    sums = correlation[: n - n % 2].reshape(-1, 2).sum(axis=1)
    sums = np.minimum.accumulate(sums[: np.argmax(sums < 0) if (sums < 0).any() else None])
    length = max(2 * sums.sum() - 1, 1 / np.log10(chains * n))
    return float(chains * n / length)
