"""``hatrix recommend``, ``similar`` and ``explain``: what a model file answers, as a table, CSV, JSON or Parquet."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import hatrix
from hatrix.app.flags import Output, above_zero, dumps, file_path, whole
from hatrix.app.staging import refuse_unwritable, staged
from hatrix.app.steps import aligned, write_parquet
from hatrix.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

    from hatrix.data.ids import Ids
    from hatrix.models.model import FactorModel

__all__ = ["Model", "explain", "id_of", "ids_in", "recommend", "similar"]

FORMATS = (".csv", ".json", ".parquet")
NAMED = 5
DEFAULT_MEMORY = "512MB"
DIGITS = 4
LARGEST_FRACTION = 2.0**52
"""Numbers from here on are whole."""
MEASURED = ("score", "contribution")
"""Columns of figures that the model worked out; all others are ratings, or come from a table of items or users."""

Model = Annotated[Path, Parameter(converter=file_path, help="a model file, as run and fit write it")]
Length = Annotated[int, Parameter(name=("--n", "-n"), converter=whole(1), help="length of a list")]
Where = Annotated[
    str | None,
    Parameter(help="only items whose columns are so, as 'year >= 1990 and genre == \"Drama\"'"),
]
Among = Annotated[
    list[str] | None, Parameter(consume_multiple=True, help="only these items: ids, or files of ids")
]
Exclude = Annotated[
    list[str] | None, Parameter(consume_multiple=True, help="not these items: ids, or files of ids")
]
Out = Annotated[
    Path | None, Parameter(converter=file_path, help="write to this file: .csv, .json or .parquet [default: print]")
]  # fmt: skip


def recommend(
    model: Model,
    /,
    *,
    user: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, help="ids of users, or files with an id on each line"),
    ] = None,
    all_users: Annotated[bool, Parameter(name="--all", help="for every user of the model")] = False,
    n: Length = 10,
    out: Out = None,
    where: Where = None,
    among: Among = None,
    exclude: Exclude = None,
    include_seen: Annotated[bool, Parameter(help="show items of the training ratings again")] = False,
    risk: Annotated[
        float | None,
        Parameter(
            converter=above_zero(1, "0.1"),
            help="rank by this quantile of the score's posterior draws: 0.1 makes safe picks (bayesian-mf only)",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        Parameter(
            help="with --all and --out: what the process may hold [default: 512MB, or more where the items need it]"
        ),
    ] = None,
    threads: Annotated[
        int | None, Parameter(converter=whole(1), help="with --all: threads to use [default: all cores]")
    ] = None,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Show the items that users have not rated and would rate highest."""
    if all_users == bool(user):
        raise ParameterError("say for whom: give either --user ID or --all")
    if not all_users and threads is not None:
        raise ParameterError("--threads goes with --all")
    _check(out, model, *(token for tokens in (user, among, exclude) for token in tokens or ()))
    fitted = hatrix.load(model)
    if not include_seen and fitted.seen is None:
        raise ParameterError(
            f"{model} was saved with --no-seen, so it is not known what users have seen: add --include-seen"
        )
    options: dict[str, Any] = {
        "where": where,
        "risk": risk,
        "exclude_seen": not include_seen,
        "among": None if among is None else ids_in(fitted.items, among, "--among"),
        "exclude": None if exclude is None else ids_in(fitted.items, exclude, "--exclude"),
    }
    if not all_users:
        frame = fitted.recommend(ids_in(fitted.users, user or [], "--user"), n, **options)
        _remarks(frame, output)
        _answer(frame, "recommendations", out, model, output)
        return
    options |= {"memory": _limit(fitted, memory), "threads": threads, "progress": not output.quiet}
    if out is None or _ends(out, ".json"):
        everybody: Any = fitted.recommend_all(n, **options)
        _warn(everybody.attrs["warnings"])
        _answer(everybody, "recommendations", out, model, output)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    _report(fitted.recommend_all(n, out, **options), n, output)


def _limit(model: FactorModel, memory: str | None) -> int:
    """The bytes that the process may hold."""
    from hatrix.data.disk import size_in_bytes
    from hatrix.models.recommend_all import needed

    least = needed(model)
    if memory is None:
        return max(size_in_bytes(DEFAULT_MEMORY), least)
    size = size_in_bytes(memory)
    if size < least:
        raise ParameterError(
            f"--memory {memory} is too little for this model: allow at least {-(-least // 10**6)}MB"
        )
    return size


def _report(done: Any, n: int, output: Output) -> None:
    """Say what was streamed to a file."""
    _warn(done.warnings)
    facts = {
        "out": str(done.path),
        "n": n,
        "users": done.users,
        "rows": done.rows,
        "short_lists": done.short,
        "fallback_lists": done.fallback,
        "resumed_users": done.resumed,
        "warnings": done.warnings,
    }
    text = f"{done.rows:,} items for {done.users:,} users: {done.path}"
    if done.short:
        text += f"\n{done.short:,} lists have fewer than {n} items"
    for basis, count in done.fallback.items():
        text += f"\n{count:,} lists are ranked by {_why(basis)}"
    output.result(facts, text)


def similar(
    model: Model,
    /,
    *,
    item: Annotated[str | None, Parameter(help="id of an item")] = None,
    user: Annotated[str | None, Parameter(help="id of a user")] = None,
    n: Length = 10,
    metric: Annotated[
        Literal["cosine", "dot"],
        Parameter(help="compare the direction of factors, or their product, which favours large ones"),
    ] = "cosine",
    out: Out = None,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Show the items that resemble an item, or the users that resemble a user."""
    if (item is None) == (user is None):
        raise ParameterError("say to what: give either --item ID or --user ID")
    _check(out, model)
    fitted = hatrix.load(model)
    if item is not None:
        frame = fitted.similar_items(id_of(fitted.items, item, "--item"), n, metric=metric)
    else:
        frame = fitted.similar_users(id_of(fitted.users, user or "", "--user"), n, metric=metric)
    _remarks(frame, output)
    _answer(frame, "similar", out, model, output)


def explain(
    model: Model,
    /,
    *,
    user: Annotated[str, Parameter(help="id of a user")],
    item: Annotated[str, Parameter(help="id of an item")],
    n: Annotated[
        int,
        Parameter(name=("--n", "-n"), converter=whole(1), help="length of the list that an item can leave"),
    ] = 10,
    removals: Annotated[
        int,
        Parameter(
            converter=whole(0), help="ratings to take away at the most, to see whether the item leaves it"
        ),
    ] = 3,
    out: Out = None,
    output: Output = Output(),  # noqa: B008
) -> None:
    """Show why an item has its score for a user: the parts that add up to it, and the ratings that carry it."""
    _check(out, model)
    fitted = hatrix.load(model)
    frame = fitted.explain(
        id_of(fitted.users, user, "--user"), id_of(fitted.items, item, "--item"), n=n, removals=removals
    )
    _warn(frame.attrs["warnings"])
    for line in _reading(frame, n):
        output.note(line)
    _answer(frame, "parts", out, model, output)


def _reading(frame: pd.DataFrame, n: int) -> list[str]:
    """Say in words what the parts of a score come to."""
    attrs, rank = frame.attrs, frame.attrs["rank"]
    among = "among what the user has not seen"
    if attrs["seen"]:
        place = f"the user has seen this item; if it were new, it would have place {rank:,} {among}"
    else:
        place = f"place {rank:,} {among}"
    lines = [f"score {attrs['score']:.4f}, {place}"]
    if attrs["fit"] is not None:
        lines.append(
            f"the ratings account for {max(0.0, attrs['fit']):.0%} of how this user's factors tell items apart"
        )
    without = attrs["without"]
    if without is not None and not without["items"]:
        lines.append("no rating of this user speaks for the item")
    elif without is not None:
        named = ", ".join(map(str, without["items"]))
        if without["rank"] == rank:
            end = f"it keeps place {rank:,}"
        elif without["leaves"]:
            end = f"place {without['rank']:,}: it leaves the list of {n}"
        else:
            end = f"place {without['rank']:,}: it stays in the list of {n}"
        lines.append(f"without the ratings of {named}: score {without['score']:.4f}, {end}")
    return lines


def _check(out: Path | None, *read: Path | str) -> None:
    """Refuse a file that cannot be written, or that is read, before any time is spent."""
    if out is None:
        return
    if out.suffix.lower() not in FORMATS:
        raise ParameterError(f"--out {out}: end the name on {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    refuse_unwritable(out.parent, [out.name], "--out", read)


def ids_in(ids: Ids, tokens: Sequence[str], flag: str) -> list[Any]:
    """The labels that tokens stand for: each an id, or a file with one on each line."""
    labels: list[Any] = []
    for token in tokens:
        if token not in ids and os.path.isfile(token):
            try:
                lines = Path(token).read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError:
                raise ParameterError(
                    f"{flag} {token}: the file is not UTF-8 text with an id on each line"
                ) from None
            found = [id_of(ids, line.strip(), f"{flag} {token}:") for line in lines if line.strip()]
            if not found:
                raise ParameterError(f"{flag} {token}: the file is empty: write an id on each line")
            labels += found
        else:
            labels.append(id_of(ids, token, flag, "there is no file of this name, and "))
    return labels


def id_of(ids: Ids, text: str, flag: str, but: str = "") -> Any:
    """Return the text as an id of the model's type."""
    from hatrix.data.ids import is_unicode  # which needs NumPy; `hatrix --help` does without

    if not is_unicode(text):
        raise ParameterError(
            f"{flag} {text!a}: this id is not UTF-8 text, so no rating has it: type it in a terminal that uses UTF-8"
        )
    label = ids.label_of(text)
    if label is None:
        such = f", such as {ids.labels[0]}" if len(ids) else ""
        raise ParameterError(f"{flag} {text}: {but}the ids of this model are whole numbers{such}")
    return label


def _remarks(frame: pd.DataFrame, output: Output) -> None:
    """Say on stderr what the lists are not."""
    _warn(frame.attrs["warnings"])
    remarks = [
        f"{label}: ranked by {_why(basis)}" for label, basis in frame.attrs.get("fallback", {}).items()
    ]
    remarks += [f"{label}: {reason}" for label, reason in frame.attrs["short"].items()]
    for remark in remarks[:NAMED]:
        output.note(remark)
    if len(remarks) > NAMED:
        output.note(f"… and {len(remarks) - NAMED:,} more remarks like these: see --json")


def _warn(messages: Sequence[str]) -> None:
    for message in messages:
        warnings.warn(message, stacklevel=1)


def _why(basis: str) -> str:
    from hatrix.models.recommend import WHY

    return WHY[basis]


def _answer(frame: pd.DataFrame, name: str, out: Path | None, model: Path, output: Output) -> None:
    """Print the frame, or write it to the file."""
    facts = {**frame.attrs, name: _records(frame)} if output.json or _ends(out, ".json") else {}
    if out is None:
        output.result(facts, _table(frame))
        return
    with staged(out.parent, [out.name], str(model)) as stage:
        if _ends(out, ".json"):
            (stage / out.name).write_text(dumps(facts) + "\n", encoding="utf-8")
        elif _ends(out, ".csv"):
            frame.to_csv(stage / out.name, index=False)
        else:
            write_parquet(frame, stage / out.name)
    summary = {**frame.attrs, "out": str(out), "rows": len(frame)}
    output.result(summary, f"{len(frame):,} rows: {out}")


def _ends(out: Path | None, ending: str) -> bool:
    return out is not None and out.suffix.lower() == ending


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict for each row; what is missing is None, and what is no number or text is text."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [
        {str(name): x if isinstance(x, int | float | str | None) else str(x) for name, x in row.items()}
        for row in plain.to_dict("records")
    ]


def _table(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "nothing to show"
    records, digits = _records(frame), _digits(frame)
    left = [at for at, name in enumerate(records[0]) if any(isinstance(row[name], str) for row in records)]
    cells = [
        [
            f"{value:z.{digits[at]}f}"
            if isinstance(value, float)
            else ""
            if value is None
            else " ".join(str(value).split())
            for at, value in enumerate(row.values())
        ]
        for row in records
    ]
    return aligned([list(records[0]), *cells], left=left)


def _digits(frame: pd.DataFrame) -> list[int]:
    """Return the decimals of each column: four for scores, and as few as do for ratings and attributes."""
    import numpy as np

    found = []
    for at, name in enumerate(frame.columns):
        column = frame.iloc[:, at]
        if name in MEASURED or column.dtype.kind != "f":
            found.append(DIGITS)
            continue
        values = column.dropna().to_numpy(np.float64)
        values = values[np.abs(values) < LARGEST_FRACTION]
        wanted = np.round(values, DIGITS)
        found.append(next(few for few in range(DIGITS + 1) if (np.round(values, few) == wanted).all()))
    return found
