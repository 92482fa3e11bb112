"""Several models on one split: figures with intervals, paired tests, costs, and what deserves a warning."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import shown, whole
from hatrix.data.origin import remembered
from hatrix.data.split import Split
from hatrix.errors import DataError, DivergenceError, ParameterError
from hatrix.evaluation import cautions, cost
from hatrix.evaluation.comparison import RANKED, RATED, Comparison, Entry, order
from hatrix.evaluation.evaluate import Evaluation, evaluate
from hatrix.evaluation.paired import Sums, compared, holm
from hatrix.evaluation.ranking import RankingEvaluation, evaluate_ranking
from hatrix.models import SEED
from hatrix.models.baseline import Bias, Popular
from hatrix.models.fit import Algorithm, thread_count
from hatrix.models.model import FactorModel
from hatrix.models.validation import RANKED as RANKED_AT
from hatrix.models.validation import ndcg_of_users, some_users

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.data.origin import remembered
from hatrix.data.ratings import Ratings

__all__ = ["compare", "refuse", "task_of"]

MOST_TRAINING_ROWS = 200_000
MOST_LISTED = 2_000
"""Maximum number of users whose lists are compared with those of Popular where only errors are asked for."""


@remembered(skip=2)
def compare(
    models: Sequence[Algorithm | FactorModel] | Mapping[str, Algorithm | FactorModel],
    split: Split,
    *,
    metric: str | None = None,
    k: int = 20,
    relevant_from: float | None = None,
    valid: float | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = SEED,
    threads: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Fit models on the training part of a split and compare them on its test part.

    Parameters
    ----------
    models
        Recipes, or models fitted on the training part; with names, if a mapping. The baselines are added where they
        are missing: `Bias`, and for rankings `Popular`.
    split
        The parts.
    metric
        What to order and test by: rmse, mae or mse, or for rankings ndcg, recall, precision, hit_rate, map, mrr or
        auc. By default RMSE, or NDCG where a model ranks or the data are events without ratings: then all
        models are compared by their rankings.
    k
        Length of the lists, for rankings.
    relevant_from
        For rankings: count only test ratings of at least this value as relevant.
    valid
        Share of the training part to hold out in each fit, for recipes with ``patience``.
    bootstrap, confidence
        Draws behind the intervals of the figures, and the coverage of these and of those of differences.
    seed, threads, progress
        As `Algorithm.fit` takes them. Random draws for the figures use the seed of `hatrix.evaluate` instead.

    Returns
    -------
    Comparison
        A model whose training diverges is listed without figures, and does not end the comparison.

    Raises
    ------
    DataError
        If there are no models, something else is among them, or no data to compare them on.
    ParameterError
        If the metric does not exist or does not fit, or names repeat.

    Notes
    -----
    Tests are paired, over users (`hatrix.evaluation.paired.compared`), and corrected by Holm's method over *all*
    pairs, so that they hold for the best model although it is known as such from the same test part.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> result = hx.compare([hx.BiasedMF(factors=4)], hx.split.per_user(ratings))
    >>> sorted(result.by_name)
    ['bias', 'biased-mf']
    """
    if not isinstance(split, Split):
        raise DataError(
            f"the split is a {type(split).__name__}: give a Split, such as hatrix.split.per_user(ratings)"
        )
    named = _named(models)
    recipes = [_recipe(model) for _, model in named]
    task, metric = task_of(recipes, split.train, metric)
    refuse(recipes, task, k, relevant_from, valid, confidence)
    wanted = [Bias()] if task == "rating" else [Popular()] if split.train.implicit else [Bias(), Popular()]
    present = {_recipe(model).name for _, model in named}
    taken = {name for name, _ in named}
    for recipe in wanted:
        if recipe.name not in present:
            named.append((f"{recipe.name} (baseline)" if recipe.name in taken else recipe.name, recipe))
    entries, said = [], cautions.of_parts(split.train, split.test)
    for name, model in named:
        try:
            fitted, spent = _fitted(model, split.train, valid, seed, threads, progress)
        except DivergenceError as error:
            entries.append(Entry(name, _recipe(model), False))
            said.append(cautions.caution("H007", f"{name}: {error}"))
            continue
        found: Evaluation | RankingEvaluation
        if task == "rating":
            found = evaluate(fitted, split.test, bootstrap=bootstrap, confidence=confidence)
        else:
            found = evaluate_ranking(
                fitted, split.test, k=k, relevant_from=relevant_from, bootstrap=bootstrap,
                confidence=confidence, threads=threads,
            )  # fmt: skip
        entries.append(_entry(name, fitted, found, spent, split.train, threads))
    entries.sort(key=lambda entry: order(entry, metric))
    if entries[0].evaluation is None:
        raise DivergenceError(f"no model could be trained: {said[-1]}")
    said += _of_models(entries, split.train)
    pairs = _differences(entries, split.test, metric, k, confidence)
    said += _of_baselines(entries, metric, pairs)
    said += _of_lists(entries, split, k, seed, threads)
    return Comparison(
        tuple(entries), split, metric, task, int(k), pairs, tuple(sorted(said)), confidence, seed
    )


def _of_lists(entries: Sequence[Entry], split: Split, k: int, seed: int, threads: int | None) -> list[str]:
    """Warn of lists that are worse than those of Popular, also where the errors of ratings are compared."""
    measured = [entry for entry in entries if entry.model is not None and not entry.baseline]
    ranked = {
        entry.name: entry.evaluation.sums("ndcg", k)
        for entry in entries
        if isinstance(entry.evaluation, RankingEvaluation)
    }
    if ranked:
        popular = next(
            (ranked[e.name] for e in entries if isinstance(e.recipe, Popular) and e.name in ranked), None
        )
    else:
        k = RANKED_AT
        model = Popular().fit(split.train, seed=seed, threads=threads, progress=False)
        held = some_users(split.test, MOST_LISTED, seed)
        try:
            popular = _gains(model, model, held, threads)
        except DataError:  # no user of the test part is known
            return []
        ranked = {
            entry.name: _gains(entry.model, model, held, threads)
            for entry in measured
            if entry.model is not None
        }
    if popular is None:
        return []
    return cautions.of_lists({one.name: (one.recipe, ranked[one.name]) for one in measured}, popular, k)


def _gains(model: FactorModel, popular: FactorModel, held: Ratings, threads: int | None) -> Sums:
    """Return the NDCG@20 of each user of the held-out ratings."""
    seen = model.seen or popular.seen
    assert seen is not None
    users, gain = ndcg_of_users(model, seen, held, threads=thread_count(threads))
    sums = Sums(np.zeros(len(held.users)), np.zeros(len(held.users)))
    row = held.users.encode(model.users.decode(users))
    sums.total[row], sums.numbers[row] = gain, 1.0
    return sums


def task_of(recipes: Iterable[Algorithm], train: Ratings, metric: str | None) -> tuple[str, str]:
    """What to measure by, and the metric: what is asked for, or what fits the recipes and the data."""
    recipes = list(recipes)
    if metric is None:
        ranking = train.implicit or any(recipe.task == "ranking" for recipe in recipes)
        return ("ranking", "ndcg") if ranking else ("rating", "rmse")
    if not isinstance(metric, str) or metric not in (*RATED, *RANKED):
        raise ParameterError(
            f"there is no metric {shown(metric)}: choose from {', '.join(RATED)}, and for rankings {', '.join(RANKED)}"
        )
    if metric in RATED and (train.implicit or not all(recipe.predicts_ratings for recipe in recipes)):
        why = "the data are events without ratings" if train.implicit else "one of the models only ranks"
        raise ParameterError(f"{metric} does not fit, as {why}: choose from {', '.join(RANKED)}")
    return "rating" if metric in RATED else "ranking", metric


def refuse(
    recipes: Iterable[Algorithm],
    task: str,
    k: int,
    relevant_from: float | None,
    valid: float | None,
    confidence: float,
) -> None:
    """Raise for arguments that are out of range or do not fit each other, before any time is spent."""
    for recipe in recipes:
        if getattr(recipe, "patience", None) is not None and valid is None:
            raise ParameterError(
                f"{recipe.name} has patience, and needs something to validate on: pass valid=0.1"
            )
    whole("k", k)
    if relevant_from is not None and task == "rating":
        raise ParameterError(
            f"relevant_from={relevant_from!r} says which ratings count in rankings, and errors of ratings are measured "
            "here: ask for a metric of rankings, such as ndcg"
        )
    if not (isinstance(confidence, Real) and 0 < float(confidence) < 1):
        raise ParameterError(f"confidence is {confidence!r}: give a share between 0 and 1, such as 0.95")


def _named(models: Any) -> list[tuple[str, Algorithm | FactorModel]]:
    if isinstance(models, Algorithm | FactorModel):
        models = [models]
    if not isinstance(models, Mapping | Iterable):
        raise DataError(
            f"models is a {type(models).__name__}: give a list of recipes, such as [hatrix.BiasedMF()]"
        )
    given = list(models.items()) if isinstance(models, Mapping) else [(None, model) for model in models]
    for _, model in given:
        if not isinstance(model, Algorithm | FactorModel):
            hint = (
                f": write {model.__name__}()"
                if isinstance(model, type) and issubclass(model, Algorithm)
                else ""
            )
            raise DataError(
                f"among the models is a {type(model).__name__}, which is neither a recipe nor a model{hint}"
            )
    if not given:
        raise DataError("there are no models to compare: give recipes, such as [hatrix.BiasedMF()]")
    kinds = [_recipe(model).name for _, model in given]
    named = []
    for (name, model), kind in zip(given, kinds, strict=True):
        if name is None:
            name = kind if kinds.count(kind) == 1 else _told_apart(_recipe(model))
        named.append((str(name), model))
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(
                f"two models are called {name!r}: give {{name: model}} with a name for each, or leave one out"
            )
    return named


def _told_apart(recipe: Algorithm) -> str:
    """The name with the hyper-parameters that are not the defaults."""
    changed = recipe.model_dump(exclude_defaults=True)
    values = (
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in changed.items()
    )
    return " ".join([recipe.name, *values])


def _recipe(model: Algorithm | FactorModel) -> Algorithm:
    return model.recipe if isinstance(model, FactorModel) else model


def _fitted(
    model: Algorithm | FactorModel,
    train: Ratings,
    valid: float | None,
    seed: int,
    threads: int | None,
    progress: bool,
) -> tuple[FactorModel, float]:
    """The model, and the seconds that training took."""
    if isinstance(model, FactorModel):
        told = "seconds" in model.history and len(model.history) > 0
        return model, float(model.history["seconds"].iloc[-1]) if told else np.nan
    cost.warm_up(model, train, threads=threads)
    started = time.perf_counter()
    fitted = model.fit(train, valid, seed=seed, threads=threads, progress=progress)
    if fitted.unfinished:  # a partial training must not be compared with complete ones
        raise KeyboardInterrupt
    return fitted, time.perf_counter() - started


def _entry(
    name: str,
    model: FactorModel,
    found: Evaluation | RankingEvaluation,
    spent: float,
    train: Ratings,
    threads: int | None,
) -> Entry:
    train_rmse = np.nan
    if isinstance(found, Evaluation):
        some = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_TRAINING_ROWS)).astype(np.int64))
        part = train.take(some)
        error = model.predict_rows(*model.rows_of(part), times=part.time, clip=True) - part.value
        train_rmse = float(np.sqrt(np.mean(error**2)))
    return Entry(
        name,
        model.recipe,
        isinstance(model.recipe, Bias | Popular),
        model,
        found,
        spent,
        cost.microseconds_per_user(model, threads=threads),
        cost.size_in_memory(model),
        train_rmse,
    )


def _sums(found: Evaluation | RankingEvaluation, test: Ratings, metric: str, k: int) -> Sums:
    """What each user of the test part adds to the metric."""
    if isinstance(found, Evaluation):
        users, error, user = len(test.users), found.predicted - found.test.value, found.test.user
        size = np.abs(error) if metric == "mae" else error**2
        rated = np.bincount(user, minlength=users).astype(np.float64)
        return Sums(np.bincount(user, size, users).astype(np.float64), rated, metric == "rmse")
    return found.sums(metric, k)


def _differences(
    entries: Sequence[Entry], test: Ratings, metric: str, k: int, confidence: float
) -> pd.DataFrame:
    """All pairs, tested."""
    import pandas as pd

    sums = {
        entry.name: _sums(entry.evaluation, test, metric, k)
        for entry in entries
        if entry.evaluation is not None
    }
    rows = [
        {"model": a, "other": b} | compared(sums[a], sums[b], confidence=confidence)._asdict()
        for a, b in combinations(sums, 2)
    ]
    table = pd.DataFrame(rows, columns=["model", "other", "value", "low", "high", "p"])
    table = table.rename(columns={"value": "difference"})
    return table.assign(p_holm=holm(table["p"].tolist()))


def _of_models(entries: Sequence[Entry], train: Ratings) -> list[str]:
    """Warnings about single models."""
    said: list[str] = []
    errors = {
        entry.name: (entry.train_rmse, float(entry.evaluation.rmse))
        for entry in entries
        if isinstance(entry.evaluation, Evaluation)
    }
    bias = next((errors[entry.name] for entry in entries if isinstance(entry.recipe, Bias) and errors), None)
    for entry in entries:
        if entry.model is None:
            continue
        if isinstance(entry.evaluation, Evaluation):
            said += cautions.of_fallbacks(entry.name, entry.evaluation.fallbacks["share"])
        said += cautions.of_overfitting(
            entry.name,
            entry.model.history,
            restored=getattr(entry.recipe, "patience", None) is not None,
            errors=errors.get(entry.name),
            baseline=None if isinstance(entry.recipe, Bias) else bias,
        )
        if entry.model.fingerprint and not _of_these(entry.model, train):
            words = f"{entry.name} was trained on other ratings than the training part of this split"
            said.append(
                cautions.caution("H008", f"{words}, and may know the test part: give its recipe instead")
            )
    return said


def _of_these(model: FactorModel, train: Ratings) -> bool:
    """Whether the model was trained on these ratings, or all but a validation part of them."""
    if model.fingerprint == train.fingerprint:
        return True
    if not any(str(column).startswith("valid_") for column in model.history) or model.seen is None:
        return False
    user, item = np.repeat(np.arange(len(model.users)), np.diff(model.seen.start)), model.seen.item
    if model.users != train.users or model.items != train.items:
        return False
    width = len(train.items)
    return bool(np.isin(user * width + item, train.user.astype(np.int64) * width + train.item).all())


def _of_baselines(entries: Sequence[Entry], metric: str, pairs: pd.DataFrame) -> list[str]:
    """Warnings about models that are no better than a baseline."""
    said = []
    values = {entry.name: order(entry, metric) for entry in entries}
    p = {
        frozenset((a, b)): value
        for a, b, value in zip(pairs["model"], pairs["other"], pairs["p_holm"], strict=True)
    }
    for entry in entries:
        for other in entries:
            if entry.baseline or not other.baseline or values[entry.name][0]:
                continue
            if metric == "ndcg" and isinstance(other.recipe, Popular):
                continue  # lists that are worse than these have a code of their own
            if values[entry.name] >= values[other.name]:
                chance = p[frozenset((entry.name, other.name))]
                sure = (
                    " beyond chance" if chance < cautions.LEVEL else ", though the difference may be chance"
                )
                figures = [getattr(one.evaluation, metric) for one in (entry, other)]
                said.append(
                    cautions.caution(
                        "H004",
                        f"{entry.name} is worse than the baseline {other.name}{sure}: {metric} {figures[0]:.4f} against "
                        f"{figures[1]:.4f}",
                    )
                )
    return said
