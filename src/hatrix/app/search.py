"""The commands that fit many models: compare and tune."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from cyclopts import Group, Parameter

import hatrix
from hatrix import models
from hatrix.app.flags import (
    Columns,
    Output,
    Parting,
    Seed,
    Threads,
    above_zero,
    dumps,
    file_path,
    flag,
    whole,
)
from hatrix.app.staging import staged
from hatrix.app.steps import Name, Source, aligned, facts_of, leave_unfinished, load, recipe_named
from hatrix.errors import ParameterError

if TYPE_CHECKING:
    from hatrix.data.split import Split
    from hatrix.evaluation.comparison import Comparison
    from hatrix.evaluation.tune import Tuning
    from hatrix.models.fit import Algorithm
else:
    Algorithm = Any  # recipes are imported when a command needs them

__all__ = ["compare", "tune"]

TABLE, DIFFERENCES, FACTS, PAGE = "compare.csv", "differences.csv", "compare.json", "compare.html"
MODEL, TUNING, TRIALS, REPORT = "model.hatrix", "tuning.json", "trials.csv", "report.html"

Named = Annotated[
    str,
    Parameter(
        help=f"one or more of {', '.join(models.ALGORITHMS)}, each with hyper-parameters where wanted: "
        "biased-mf:factors=32,epochs=30 or blend:recipes=svdpp+als"
    ),
]


@Parameter(name="*", group=Group("Training", sort_key=3))
@dataclass(frozen=True)
class Fits:
    """What all fits share."""

    seed: Seed = models.SEED
    threads: Threads = None


def compare(
    source: Source,
    /,
    *algorithms: Named,
    out: Annotated[
        Path | None,
        Parameter(converter=file_path, help=f"folder for {TABLE}, {DIFFERENCES}, {FACTS} and {PAGE}"),
    ] = None,
    metric: Annotated[
        str | None,
        Parameter(
            help="what to order and test by: rmse, mae or mse, or for rankings ndcg, recall, precision, hit_rate, map, "
            "mrr or auc [default: rmse, or ndcg where a model ranks]"
        ),
    ] = None,
    k: Annotated[
        int, Parameter(name=("--k", "-k"), converter=whole(1), help="length of the lists, for rankings")
    ] = 20,
    relevant_from: Annotated[
        float | None, Parameter(help="for rankings, count only test ratings of at least this value")
    ] = None,
    valid: Annotated[
        float | None,
        Parameter(
            converter=above_zero(1, "0.1"), help="share of the training part to validate on, for patience"
        ),
    ] = None,
    parting: Parting = Parting(),  # noqa: B008
    fits: Fits = Fits(),
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
    invoked: str | None = None,
) -> None:
    """Train several algorithms on the same part of the ratings, and compare them on the rest."""
    if not algorithms:
        raise ParameterError("ALGORITHM is missing: name one or more to compare (see hatrix compare --help)")
    for spec in algorithms:
        if algorithms.count(spec) > 1:
            raise ParameterError(f"{spec} stands there twice: leave one out, or change a hyper-parameter")
    recipes = {spec: _specified(spec) for spec in algorithms}
    parting.check()
    with (
        staged(out, (TABLE, DIFFERENCES, FACTS, PAGE), source) if out is not None else nullcontext() as stage
    ):
        strict = next(
            (recipe for recipe in recipes.values() if recipe.task == "rating"), recipes[algorithms[0]]
        )
        ratings = load(source, columns, output, strict)
        split = parting.part(ratings, fits.seed)
        output.note(f"training {len(recipes)} algorithms on {len(split.train):,} of them ({split.protocol})")
        result = hatrix.compare(
            recipes,
            split,
            metric=metric,
            k=k,
            relevant_from=relevant_from,
            valid=valid,
            seed=fits.seed,
            threads=fits.threads,
            progress=not output.quiet,
        )
        text = _compared(result)
        if out is not None and stage is not None:
            result.table().to_csv(stage / TABLE)
            result.differences.to_csv(stage / DIFFERENCES, index=False)
            (stage / FACTS).write_text(dumps(result.to_dict()) + "\n", encoding="utf-8")
            result.report(stage / PAGE, command=invoked)
            text += f"\n\nreport: {out / PAGE}"
    for word in result.warnings:
        warnings.warn(word, stacklevel=1)
    output.result(result.to_dict(), text)


def tune(
    source: Source,
    algorithm: Name,
    /,
    *,
    out: Annotated[
        Path, Parameter(converter=file_path, help=f"folder for {MODEL}, {TUNING}, {TRIALS} and {REPORT}")
    ],
    metric: Annotated[
        Literal["rmse", "ndcg"] | None,
        Parameter(
            help="search by the rmse of predicted ratings or by the ndcg of lists; of a recommender, rmse searches the "
            "part for ratings, and ndcg the part for lists [default: ndcg where the model ranks, else rmse]"
        ),
    ] = None,
    trials: Annotated[
        int | None,
        Parameter(
            converter=whole(1), help="stop after so many trials, those in --study counted [default: 50]"
        ),
    ] = None,
    minutes: Annotated[
        float | None, Parameter(converter=above_zero(math.inf, "5"), help="stop after so many minutes")
    ] = None,
    study: Annotated[
        Path | None,
        Parameter(converter=file_path, help="SQLite file to keep the trials in, and to go on from"),
    ] = None,
    search: Annotated[
        list[str] | None,
        Parameter(
            name="--range",
            negative=(),
            help="search this and nothing else, as learning-rate=0.001:0.1:log, nu=0:1 or "
            "solver=exact,cg; can be repeated; for a part of a blend as 0.factors=8:64, for one of a recommender as "
            "ratings.factors=8:64 or lists.0.factors=8:64 [default: what is declared for the algorithm, but for flags that "
            "are given]",
        ),
    ] = None,
    valid: Annotated[
        float,
        Parameter(
            converter=above_zero(1, "0.1"), help="share of the training part to validate the trials on"
        ),
    ] = 0.1,
    no_pruning: Annotated[
        bool, Parameter(help="let every trial run to its end, as those of a blend always do")
    ] = False,
    all_ratings: Annotated[
        bool, Parameter(name="--all", help="learn from all ratings, and leave none to test the result on")
    ] = False,
    recipe: Algorithm,
    parting: Parting = Parting(),  # noqa: B008
    fits: Fits = Fits(),
    columns: Columns = Columns(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
    invoked: str | None = None,
) -> None:
    """Search good hyper-parameters on a part of the training ratings; test ratings stay unseen."""
    parting.check()
    if all_ratings and parting != Parting():
        raise ParameterError(
            "--all leaves nothing to test on, so it does not go with --split, --test or --fold"
        )
    space = _space(recipe, search or [])
    with staged(out, (MODEL, TUNING, TRIALS, REPORT), source) as stage:
        ratings = load(source, columns, output, recipe)
        split = None if all_ratings else parting.part(ratings, fits.seed)
        train = ratings if split is None else split.train
        protocol = "all" if split is None else split.protocol
        output.note(f"tuning {algorithm} on {len(train):,} of them ({protocol})")
        if study is not None:
            study.parent.mkdir(parents=True, exist_ok=True)
        result = hatrix.tune(
            recipe,
            train,
            metric=metric,
            trials=trials,
            minutes=minutes,
            seed=fits.seed,
            study=study,
            space=space,
            valid=valid,
            prune=not no_pruning,
            threads=fits.threads,
            progress=not output.quiet,
        )
        assert result.model is not None
        if result.model.unfinished:
            leave_unfinished(result.model, out / MODEL, seen=True)
        result.model.save(stage / MODEL)
        result.trials.to_csv(stage / TRIALS, index=False)
        result.report(stage / REPORT, command=invoked)
        facts = {
            **facts_of(result.model),
            **result.to_dict(),
            "split": protocol,
            "test": _tested(result, split),
        }
        (stage / TUNING).write_text(dumps(facts) + "\n", encoding="utf-8")
    for word in (*result.warnings, *result.notes):
        warnings.warn(word, stacklevel=1)
    output.result(facts, f"{_tuned(result, facts['test'])}\n\nreport: {out / REPORT}")
    if result.interrupted:
        raise KeyboardInterrupt(
            f"the search was stopped after {len(result.trials)} trials; what it had found is in {out}"
        )


def _specified(spec: str) -> Algorithm:
    """Return the recipe of ``biased-mf:factors=32,epochs=30``; several values of a list have ``+`` between them."""
    name, _, settings = spec.partition(":")
    kind = recipe_named(name)
    values: dict[str, Any] = {}
    for part in filter(None, settings.split(",")):
        key, equals, value = part.partition("=")
        if not (equals and key.strip()):
            raise ParameterError(
                f"{spec}: {part!r} is no hyper-parameter: write name=value, as in biased-mf:factors=32"
            )
        field = key.strip().replace("-", "_")
        values[field] = None if value.lower() == "none" else value.strip()
        if _is_list(kind, field):
            values[field] = [part.strip() for part in value.split("+")]
    try:
        return kind(**values)
    except ParameterError as error:
        raise ParameterError(f"{spec}: {error}") from None


def _is_list(kind: type[Algorithm], field: str) -> bool:
    """Return whether a hyper-parameter is a list of values, or may be one."""
    annotation = kind.model_fields[field].annotation if field in kind.model_fields else None
    return any(get_origin(each) is tuple for each in (annotation, *get_args(annotation)))


def _space(recipe: Algorithm, texts: list[str]) -> dict[str, Any] | None:
    """The ranges of ``learning-rate=0.001:0.1:log`` and ``solver=exact,cg``."""
    space: dict[str, Any] = {}
    for text in texts:
        name, equals, ends = text.partition("=")
        parts: list[Any] = ends.split(":") if ":" in ends else ends.split(",")
        if not equals or not all(parts) or (":" in ends and parts[2:] not in ([], ["log"])):
            raise ParameterError(f"--range {text}: write name=low:high, name=low:high:log or name=this,that")
        name = name.strip().replace("-", "_")
        if name in space:
            raise ParameterError(f"--range {text}: there are two ranges of {name}, leave one out")
        values = [_read(part.strip()) for part in parts]
        space[name] = tuple(values) if ":" in ends else values
    if (
        space and not recipe.member_names
    ):  # before any time is spent; the parts of others can depend on the data
        from hatrix.evaluation import ranges

        ranges.given(recipe, space)
    return space or None


def _read(text: str) -> Any:
    """A number, a truth value or None where the text is one."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _compared(result: Comparison) -> str:
    """The table in short, and what the tests say."""
    from hatrix.evaluation.records import records
    from hatrix.evaluation.search_charts import MEANINGS
    from hatrix.evaluation.search_story import bytes_in_words, p_in_words, verdicts

    second = ("mae",) if result.task == "rating" else ("ndcg", "recall", "coverage")
    at = f"@{result.k}" if result.task == "ranking" else ""
    names = [name for name in dict.fromkeys([result.metric, *second]) if name in result.table()]
    head = ["", *(f"{MEANINGS.get(name, name)}{at if name != 'auc' else ''}" for name in names)]
    head.insert(2, f"{100 * result.confidence:g} % interval")
    head += ["p (best)", *(f"p ({name})" for name in result.baselines), "training", "ten items", "size"]
    rows = [head]
    for row in records(result.table().reset_index()):
        figures = ["–" if row[name] is None else f"{row[name]:.4f}" for name in names]
        ends = [row.get(f"{result.metric}_{end}") for end in ("low", "high")]
        figures.insert(1, "–" if None in ends else f"{ends[0]:.4f} to {ends[1]:.4f}")
        seconds, micros = row["train_seconds"], row["microseconds_per_user"]
        rows.append(
            [
                row["model"],
                *figures,
                *(
                    p_in_words(row[column])
                    for column in ("p_best", *(f"p_{name}" for name in result.baselines))
                ),
                "–" if seconds is None else f"{seconds:.3g} s",
                "–" if micros is None else f"{micros:.3g} µs",
                bytes_in_words(row["size_in_bytes"]),
            ]
        )
    parts = f"{len(result.split.train):,} training and {len(result.split.test):,} test ratings"
    return "\n".join([aligned(rows, left=(0,)), "", *verdicts(result), f"{parts} ({result.split.protocol})"])


def _tested(result: Tuning, split: Split | None) -> dict[str, Any] | None:
    """Figures of the tuned model on the test part, which the search did not see."""
    if split is None or result.model is None:
        return None
    if result.task == "ranking":
        ranked = hatrix.evaluate_ranking(result.model, split.test)
        return ranked.to_dict()
    return hatrix.evaluate(result.model, split.test).to_dict()


def _tuned(result: Tuning, test: dict[str, Any] | None) -> str:
    """What was found, on one screen."""
    from hatrix.evaluation.search_story import found_in_words

    rows = [["", "found", "given", "searched"]]
    for name, value in result.values.items():
        where = str(result.space[name]) if name in result.space else "best of the validation"
        rows.append([name, _short(value), _short(result.start.value_of(name)), where])
    lines = [aligned(rows, left=(0, 3)), "", found_in_words(result)]
    if test is not None:
        name, label = ("rmse", "RMSE") if "rmse" in test else ("ndcg", "NDCG@20")
        low, high = test["intervals"][name]
        ends = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
        lines.append(f"On the test part, which no trial saw: {label} {test[name]:.4f}{ends}")
    if result.best.member_names:  # whose parts have no flags
        from hatrix.evaluation.snippets import recipe_in_code

        lines.append(f"in Python: {recipe_in_code(result.best)}")
        return "\n".join(lines)
    changed = result.best.model_dump(exclude_defaults=True).items()
    lines.append("flags: " + " ".join(f"{flag(name)} {value}" for name, value in changed))
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
