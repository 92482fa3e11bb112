"""Cross-validation: the same recipe on several splits, one after the other or several at once."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from hatrix._checks import whole
from hatrix.data.ratings import Ratings
from hatrix.data.split import Folds, Split, k_fold
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation import cautions, cost
from hatrix.evaluation.compare import refuse, task_of
from hatrix.evaluation.comparison import RANKED, RATED
from hatrix.evaluation.evaluate import evaluate
from hatrix.evaluation.ranking import evaluate_ranking
from hatrix.models.fit import Algorithm, cores, thread_count

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["CrossValidation", "cross_validate"]

MOST_PROCESSES = 4096


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """Figures of a recipe on each fold; `cross_validate` makes it.

    Attributes
    ----------
    recipe
        What was fitted on each.
    folds
        A row for each fold: ``protocol``, ``n_train``, ``n_test``, the metrics, ``train_seconds`` and ``epochs``.
    metric
        The main one.
    warnings
        What deserves attention, each beginning with a code (`hatrix.evaluation.cautions.CODES`).
    confidence
        Coverage of the intervals.
    seed, data
        Of the folds and fits, and what the data are called.
    """

    recipe: Algorithm
    folds: pd.DataFrame
    metric: str
    warnings: tuple[str, ...]
    confidence: float
    seed: int
    data: str

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics."""
        return [name for name in (*RATED, *RANKED) if name in self.folds]

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each metric over the folds."""
        return {name: float(self.folds[name].mean()) for name in self.metrics}

    @property
    def deviation(self) -> dict[str, float]:
        """Standard deviation of each metric between folds (n - 1 in the denominator)."""
        return {name: float(self.folds[name].std()) for name in self.metrics}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """(low, high) of each mean.

        Student's, with the variance ``(1 / k + n_test / n_train) s²`` for k folds of deviation s: folds share most
        of their training ratings, and ``s² / k`` alone would be too small.

        Notes
        -----
        Nadeau, Bengio, "Inference for the generalization error", Machine Learning 52, 2003.
        """
        from scipy.special import stdtrit

        k = len(self.folds)
        overlap = float((self.folds["n_test"] / self.folds["n_train"]).mean())
        reach = float(stdtrit(k - 1, (1 + self.confidence) / 2)) * float(np.sqrt(1 / k + overlap))
        ends = {}
        for name, mean in self.mean.items():
            width = reach * self.deviation[name]
            ends[name] = mean - width, mean + width
        return ends

    def table(self) -> pd.DataFrame:
        """A row for each fold, and below them mean, standard deviation (sd) and the ends of the interval."""
        import pandas as pd

        names = [*self.metrics, "train_seconds", "epochs"]
        table = self.folds[names].astype(float)
        table.index = pd.Index([str(number) for number in range(1, len(table) + 1)], name="fold")
        below = {
            "mean": self.folds[names].mean(),
            "sd": pd.Series(self.deviation),
            "low": pd.Series({name: ends[0] for name, ends in self.intervals.items()}),
            "high": pd.Series({name: ends[1] for name, ends in self.intervals.items()}),
        }
        last = pd.DataFrame(below).T.reindex(columns=names)
        return pd.concat([table, last]).rename_axis("fold")

    def chart(self, metric: str | None = None) -> alt.LayerChart:
        """A metric on each fold; the dashed line is the mean."""
        from hatrix.evaluation import search_charts

        name = metric or self.metric
        if name not in self.metrics:
            raise ParameterError(f"there is no metric {name!r}: choose from {', '.join(self.metrics)}")
        rows = [
            {"label": f"fold {number}", "value": float(value), "low": None, "high": None}
            for number, value in enumerate(self.folds[name], 1)
        ]
        return search_charts.intervals(rows, what=name, by="fold", line=self.mean[name])

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        from hatrix.evaluation.records import records

        return {
            "algorithm": self.recipe.name,
            "hyperparameters": self.recipe.model_dump(mode="json"),
            "data": self.data,
            "seed": self.seed,
            "metric": self.metric,
            "folds": records(self.folds),
            "mean": self.mean,
            "sd": self.deviation,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "confidence": self.confidence,
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        low, high = self.intervals[self.metric]
        return (
            f"CrossValidation({self.recipe.name} on {self.data}, {len(self.folds)} folds: {self.metric} "
            f"{self.mean[self.metric]:.4f} ± {self.deviation[self.metric]:.4f} [{low:.4f}, {high:.4f}])"
        )


def cross_validate(
    recipe: Algorithm,
    ratings: Ratings | Sequence[Split],
    *,
    folds: int | Sequence[Split] = 5,
    metric: str | None = None,
    k: int = 20,
    relevant_from: float | None = None,
    valid: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    processes: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Fit a recipe on each of several splits, and measure it on their test parts.

    Parameters
    ----------
    recipe
        What to fit.
    ratings
        The ratings to cut into folds; or a list of splits, such as ``[hatrix.split.official("ml-100k", fold) for fold in
        range(1, 6)]``.
    folds
        Into how many to cut (`hatrix.split.k_fold`, shuffled), or a list of splits in place of that.
    metric, k, relevant_from
        What to order by, and for rankings the length of the lists and the least value that is relevant, as in
        `hatrix.compare`.
    valid
        Share of each training part to hold out in the fit, for recipes with ``patience``.
    confidence
        Coverage of the intervals of the means.
    seed
        Of the folds and of each fit.
    processes
        How many folds to fit at once, each in a process of its own; by default one after the other in this process.
        The figures are the same bits either way. A script that uses more than one needs
        ``if __name__ == "__main__":`` around what it runs. A daemonic process (a worker of a ``multiprocessing.Pool``
        or of Celery) may not start others: there the folds run one after the other, and a warning says so.
    threads
        Threads of each fit: by default the cores divided by the processes.
    progress
        Show the progress of fits, where they run in this process.

    Raises
    ------
    DataError
        If the recipe or the data are something else, or do not fit each other.
    ParameterError
        If an argument is out of range.

    Examples
    --------
    >>> import hatrix as hx
    >>> ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
    >>> result = hx.cross_validate(hx.Bias(), ratings, folds=3)
    >>> len(result.folds), result.mean["rmse"] < 1.5
    (3, True)
    """
    if not isinstance(recipe, Algorithm):
        raise DataError(f"the recipe is a {type(recipe).__name__}: give one such as hatrix.BiasedMF()")
    splits, data = _splits(ratings, folds, seed)
    first = splits[0].train
    task, metric = task_of([recipe], first, metric)
    refuse([recipe], task, k, relevant_from, valid, confidence)
    several = 1 if processes is None else min(whole("processes", processes, 1, MOST_PROCESSES), len(splits))
    if several > 1 and multiprocessing.current_process().daemon:
        warnings.warn(
            f"processes={several}: this process is a daemonic worker, which may not start others, so the folds run one "
            "after the other; the figures are the same",
            RuntimeWarning,
            stacklevel=2,
        )
        several = 1
    job = _Job(
        recipe,
        splits,
        task,
        int(k),
        relevant_from,
        valid,
        seed,
        max(1, cores() // several) if threads is None else thread_count(threads),
        progress,
    )
    rows = _in_processes(job, several) if several > 1 else [job.fold(number) for number in range(len(splits))]
    return _gathered(recipe, rows, metric, confidence, seed, data)


@dataclass(frozen=True)
class _Job:
    """What to do on each split."""

    recipe: Algorithm
    splits: Sequence[Split]
    task: str
    k: int
    relevant_from: float | None
    valid: float | None
    seed: int
    threads: int
    progress: bool

    def alone(self, number: int) -> _Job:
        """The job with no more data than one fold needs, to be sent to a process; folds of one data set share it."""
        splits = self.splits
        if not isinstance(splits, Folds):
            splits = [split if place == number else None for place, split in enumerate(splits)]  # type: ignore[misc]
        return dataclasses.replace(self, splits=splits, progress=False)

    def fold(self, number: int) -> dict[str, Any]:
        """The figures of one split, and its warnings."""
        split = self.splits[number]
        cost.warm_up(self.recipe, split.train, threads=self.threads)
        started = time.perf_counter()
        model = self.recipe.fit(
            split.train, self.valid, seed=self.seed, threads=self.threads, progress=self.progress
        )
        spent = time.perf_counter() - started
        if model.unfinished:  # a partial training must not be averaged with complete ones
            raise KeyboardInterrupt
        row: dict[str, Any] = {
            "protocol": split.protocol,
            "n_train": len(split.train),
            "n_test": len(split.test),
        }
        said = cautions.of_parts(split.train, split.test)
        if self.task == "rating":
            errors = evaluate(model, split.test, bootstrap=1)
            row |= {name: float(getattr(errors, name)) for name in RATED}
            said += cautions.of_fallbacks(self.recipe.name, errors.fallbacks["share"])
        else:
            lists = evaluate_ranking(
                model,
                split.test,
                k=self.k,
                relevant_from=self.relevant_from,
                bootstrap=1,
                threads=self.threads,
            )
            row |= {name: float(getattr(lists, name)) for name in RANKED}
        restored = getattr(self.recipe, "patience", None) is not None
        said += cautions.of_overfitting(self.recipe.name, model.history, restored=restored)
        return row | {"train_seconds": spent, "epochs": len(model.history), "warnings": said}


def _splits(ratings: Any, folds: Any, seed: int) -> tuple[Sequence[Split], str]:
    """The splits to fit on, and what the data are called."""
    given = folds if not isinstance(folds, Integral) else None if isinstance(ratings, Ratings) else ratings
    if folds is None:
        raise ParameterError("folds is None: give a number of folds, such as 5, or a list of splits")
    if given is None:
        return k_fold(ratings, int(folds), seed=seed), ratings.name
    if isinstance(given, str) or not isinstance(given, Sequence):
        wanted = (
            "Ratings, or a list of splits" if given is ratings else "a number of folds, or a list of splits"
        )
        raise DataError(f"cross_validate was given a {type(given).__name__}: give {wanted}")
    for one in [] if isinstance(given, Folds) else given:  # which cuts each when asked
        if not isinstance(one, Split):
            raise DataError(
                f"among the folds is a {type(one).__name__}: give splits, as hatrix.split makes them"
            )
    if len(given) < 2:
        raise DataError(f"{len(given)} folds are too few to cross-validate: give two or more")
    return given, given[0].train.name


def _gathered(
    recipe: Algorithm, rows: list[dict[str, Any]], metric: str, confidence: float, seed: int, data: str
) -> CrossValidation:
    import pandas as pd

    said: dict[str, list[int]] = {}
    for number, row in enumerate(rows, 1):
        for words in row.pop("warnings"):
            said.setdefault(words, []).append(number)
    warnings = []
    for words, where in said.items():
        code, _, rest = words.partition(": ")
        everywhere = "" if len(where) == len(rows) else f" {', '.join(map(str, where))}"
        warnings.append(f"{code}: fold{everywhere}: {rest}" if everywhere else words)
    return CrossValidation(
        recipe, pd.DataFrame(rows), metric, tuple(sorted(warnings)), confidence, seed, data
    )


def _begin(threads: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to the process that started it, and keeps to its share of the cores."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(threads)


def _in_processes(job: _Job, processes: int) -> list[dict[str, Any]]:
    """Return the figures of all folds, from fresh processes; all of these have ended then, however the call ends."""
    rows: dict[int, dict[str, Any]] = {}
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(job.threads,),
    )
    try:
        tasks = {pool.submit(job.alone(number).fold, number): number for number in range(len(job.splits))}
        for task in as_completed(tasks):
            rows[tasks[task]] = task.result()
    except BrokenProcessPool:
        raise ParameterError(
            "a worker process ended before its fold was done: in a script, put what runs under "
            "`if __name__ == '__main__':`; if memory is short, use fewer processes; processes=1 needs neither"
        ) from None
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        if len(rows) < len(job.splits) and (queue := getattr(pool, "_call_queue", None)) is not None:
            # Nobody reads any more. Python before 3.11.5 would wait for ever to send a large job to a worker that ended.
            queue._reader.close()
        pool.shutdown(wait=True, cancel_futures=True)
    return [rows[number] for number in range(len(job.splits))]
