"""A fitted model as a ``.hatrix`` file, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hatrix._checks import path_of, yes_or_no
from hatrix.data.ids import Ids, is_unicode
from hatrix.errors import DataError, ModelFileError, ParameterError
from hatrix.models import bags, is_found_by_name, recipe_type
from hatrix.models.container import is_partition, pieces, read, take, write
from hatrix.models.days import UserDays
from hatrix.models.drift import Drift
from hatrix.models.factors import LARGEST, LARGEST_FACTOR, Posterior, TimeBlock
from hatrix.models.model import SHARED, FactorModel, Seen
from hatrix.models.table import pack, pack_text, unpack, unpack_text

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from hatrix.models.fit import Algorithm

__all__ = ["load", "read", "save", "write"]

LEARNED = {"user_bias": 1, "item_bias": 1, "user_factors": 2, "item_factors": 2}
"""Arrays in the order of `Factors`, with their number of axes."""
FLOATS = ("float32", "float64")
COUNTS = ("user_count", "item_count")
TABLES = ("item_table", "user_table")

EXTRAS = ("time", "posterior", "days")

SMALLEST = 1e-33
"""Smallest standard deviation."""
MOST_RATINGS = 1 << 53
MOST_COLUMNS, MOST_IN_HISTORY = 10_000, 100
"""Maximum columns of a table of items or users, and of the history."""

MOST_MEMBERS, DEEPEST = 32, 3
"""Maximum models inside a model, and maximum levels of them."""

Columns = list[tuple[str | int, str]]
Table = Annotated[Columns, Field(max_length=MOST_COLUMNS)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Figure = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class _Header(BaseModel):
    """What a model file says in words.

    A key or an array that the reader does not know is refused, since it could change what the numbers mean: a
    later hatrix may add optional ones within the same format, and only files that use them need that hatrix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["model"] = "model"
    hatrix: str
    algorithm: str
    hyperparameters: dict[str, Any]
    seed: int = Field(ge=0, lt=2**32)
    fingerprint: str
    data_name: str
    notes: tuple[str, ...]
    mean: Figure
    fallback: Figure
    scale: tuple[Figure, Figure] | None
    merged: dict[str, Annotated[int, Field(gt=0, lt=2**63)]] | None = None
    item_table: Table | None
    user_table: Table | None
    history: Columns = Field(max_length=MOST_IN_HISTORY)
    drift: tuple[Count, Count, Figure | None, Figure | None] | None = None
    members: dict[Annotated[str, Field(pattern="^[a-z0-9]{1,20}$")], dict[str, Any]] | None = Field(
        default=None, max_length=MOST_MEMBERS
    )


def save(model: FactorModel, path: str | Path, *, seen: bool = True) -> None:
    """Write a model to a ``.hatrix`` file, atomically: `load` gives the same model to the last bit.

    Parameters
    ----------
    model
        The fitted model.
    path
        The file; one that exists is replaced once the new one is safely on disk.
    seen
        Keep the training rows, which recommendations without the known, explanations and fold-in read.

    Raises
    ------
    DataError
        If the model contradicts itself, or has what a file cannot hold (see `hatrix.models.table.pack`).
    ModelFileError
        If the file cannot be written.

    Notes
    -----
    The index of a table is not kept: its lines stand for the ids in their order.
    """
    path = path_of("path", path)
    if not is_found_by_name(model.recipe):
        raise DataError(
            f"a {type(model.recipe).__name__} model cannot be saved: its algorithm is not one that hatrix finds by name"
        )
    if model.origin is not None:
        raise DataError(
            "what was folded in is a view of a model and is not saved: save that model, or first update it with the ratings"
        )
    if not yes_or_no("seen", seen) or model.seen is None:
        training = {}
    else:
        training = {f"seen.{name}": array for name, array in model.seen._asdict().items()}
    for fault in _faults(model, contents=True):
        raise DataError(f"the model cannot be saved: {fault}")
    try:
        arrays, header = _packed(model)
        arrays |= training | {name: getattr(model, name) for name in COUNTS}
        arrays |= _pack_ids("user_ids", model.users) | _pack_ids("item_ids", model.items)
        for name in TABLES:
            frame = getattr(model, name)
            packed, header[name] = ({}, None) if frame is None else pack(name, frame)
            arrays |= packed
        header = _Header.model_validate(header).model_dump()
        if header["members"] is None:
            del header["members"]  # an older hatrix reads the file
        if not is_unicode(json.dumps(header, ensure_ascii=False)):
            raise DataError(
                "its name, a note or the label of a column has half a character (a lone surrogate), which UTF-8 cannot hold"
            )
    except DataError as error:
        raise DataError(f"the model cannot be saved: {error}") from None
    except ValidationError as error:
        raise DataError(f"the model cannot be saved: {_first(error)}") from None
    write(path, arrays, header)


def _packed(model: FactorModel) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the header of a model without what its members share with it (see `SHARED`)."""
    arrays = {name: getattr(model, name) for name in LEARNED}
    arrays |= {f"parts.{name}": array for name, array in model.parts.items()}
    for extra in EXTRAS:
        block = getattr(model, extra)
        arrays |= {} if block is None else {f"{extra}.{name}": a for name, a in block._asdict().items()}
    if "posterior.nominal" in arrays and not len(arrays["posterior.nominal"]):
        del arrays["posterior.nominal"]  # as in files of earlier versions
    arrays |= bags.pack_bags(model.bags)
    packed, columns = pack("history", model.history)
    header = _in_words(model) | {"history": columns, "item_table": None, "user_table": None}
    members = {}
    for name, member in model.members.items():
        inner, members[name] = _packed(member)
        packed |= {f"members.{name}.{key}": array for key, array in inner.items()}
    return arrays | packed, header | ({"members": members} if members else {})


def load(path: str | Path, *, verify: bool = True) -> FactorModel:
    """The model of a ``.hatrix`` file, its numbers mapped into memory.

    Parameters
    ----------
    path
        A file that `save` wrote.
    verify
        Check every byte against its digest and every number against what it must be. Pass False only for a
        file that was verified before (as further workers of one service do): then factors and training rows
        are not read until they are needed.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, cut off, contradictory, of a newer hatrix, or no model.

    Examples
    --------
    >>> import hatrix, tempfile
    >>> ratings = hatrix.Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     hatrix.Bias().fit(ratings).save(f"{folder}/model.hatrix")
    ...     hatrix.load(f"{folder}/model.hatrix")
    FactorModel(bias, 2 users × 2 items, 0 factors, 3 ratings)
    """
    path = path_of("path", path)
    arrays, header = read(path, verify=yes_or_no("verify", verify))
    try:
        model = _model(arrays, header)
        if arrays:
            raise ModelFileError(
                f"has an array {min(arrays)!r}, which this hatrix does not know: upgrade hatrix"
            )
        for fault in _faults(model, contents=verify):
            raise ModelFileError(f"is not consistent: {fault}")
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)} {error}") from None
    return model


def _in_words(model: FactorModel) -> dict[str, Any]:
    from hatrix import __version__

    return {
        "hatrix": __version__,
        "algorithm": model.recipe.name,
        "hyperparameters": model.recipe.model_dump(mode="json"),
        "seed": int(model.seed),
        "fingerprint": model.fingerprint,
        "data_name": model.data_name,
        "notes": tuple(model.notes),
        "mean": float(model.mean),
        "fallback": float(model.fallback),
        "scale": None if model.scale is None else tuple(float(end) for end in model.scale),
        "merged": dict(model.merged) or None,
        "drift": None if model.drift is None else tuple(model.drift),
    }


def _model(
    arrays: dict[str, NDArray[Any]], said: dict[str, Any], owner: FactorModel | None = None, depth: int = 0
) -> FactorModel:
    """Return the model of the arrays, which are taken out, and the header; ``owner`` is the model that it is a member of."""
    if said.get("kind") == "checkpoint":
        raise ModelFileError("is a checkpoint of a fit, not a model: go on from it with fit(resume=...)")
    try:
        header = _Header.model_validate_json(json.dumps(said))
    except ValidationError as error:
        raise ModelFileError(_first(error)) from None
    except RecursionError:
        raise ModelFileError("is not consistent: its header is nested too deep") from None
    shared = _shared(arrays, header) if owner is None else {name: getattr(owner, name) for name in SHARED}
    recipe = _recipe(header)
    by_draw = "posterior.noise" in arrays
    learned: dict[str, Any] = {
        name: take(arrays, name, *FLOATS, axes=2 if by_draw else axes) for name, axes in LEARNED.items()
    }
    time = posterior = days = None
    if "time.edges" in arrays:
        time = TimeBlock(
            take(arrays, "time.edges", "float64"),
            take(arrays, "time.bias", *FLOATS, axes=2 if by_draw else 1),
            take(arrays, "time.factors", *FLOATS, axes=2),
        )
    if by_draw:
        posterior = Posterior(
            take(arrays, "posterior.noise", "float64"),
            take(arrays, "posterior.user_spread", *FLOATS, axes=2),
            take(arrays, "posterior.cuts", "float64", axes=2),
            take(arrays, "posterior.levels", "float64"),
            take(arrays, "posterior.user_prior", *FLOATS, axes=2),
            take(arrays, "posterior.item_prior", *FLOATS, axes=2),
            take(arrays, "posterior.user_precision", "float64", axes=3),
            take(arrays, "posterior.item_precision", "float64", axes=3),
            take(arrays, "posterior.calibration", "float64"),
            take(arrays, "posterior.nominal", "float64") if "posterior.nominal" in arrays else np.zeros(0),
        )
    if "days.start" in arrays:
        days = UserDays(
            take(arrays, "days.start", "int64"),
            take(arrays, "days.day", "int64"),
            take(arrays, "days.bias", *FLOATS, axes=2),
            take(arrays, "days.spread", "float64"),
        )
    parts = {
        name: take(arrays, f"parts.{name}", *FLOATS, axes=len(axes))
        for name, axes in recipe.list_recipe.parts.items()
    }
    model = FactorModel(
        recipe,
        mean=header.mean,
        **shared,
        **learned,
        origin=None,
        drift=None if header.drift is None else Drift(*header.drift),
        merged=header.merged or {},
        parts=parts,
        time=time,
        posterior=posterior,
        days=days,
        bags=bags.unpack_bags(arrays),
        fallback=header.fallback,
        scale=header.scale,
        seed=header.seed,
        history=unpack(arrays, "history", header.history, None),
        fingerprint=header.fingerprint,
        data_name=header.data_name,
        notes=header.notes,
    )
    return replace(model, members=_members(arrays, header, model, depth))


def _shared(arrays: dict[str, NDArray[Any]], header: _Header) -> dict[str, Any]:
    """Return what a model shares with its members; takes it out of ``arrays``."""
    users, items = _take_ids(arrays, "user_ids"), _take_ids(arrays, "item_ids")
    seen = None
    if "seen.start" in arrays:
        seen = Seen(
            take(arrays, "seen.start", "int64"),
            take(arrays, "seen.item", "int32"),
            take(arrays, "seen.value", "float64"),
        )
    return {
        "users": users,
        "items": items,
        "user_count": take(arrays, "user_count", "int64"),
        "item_count": take(arrays, "item_count", "int64"),
        "seen": seen,
        "item_table": _take_table(arrays, "item_table", header.item_table, len(items)),
        "user_table": _take_table(arrays, "user_table", header.user_table, len(users)),
    }


def _members(
    arrays: dict[str, NDArray[Any]], header: _Header, model: FactorModel, depth: int
) -> dict[str, FactorModel]:
    """Return the models inside a model; takes their arrays out of ``arrays``."""
    if header.members and depth == DEEPEST:
        raise ModelFileError(f"is not consistent: it has models inside models on more than {DEEPEST} levels")
    members = {}
    for name, said in (header.members or {}).items():
        prefix = f"members.{name}."
        mine = {key.removeprefix(prefix): arrays.pop(key) for key in list(arrays) if key.startswith(prefix)}
        members[name] = _model(mine, said, model, depth + 1)
        for key in mine:
            raise ModelFileError(
                f"has an array {prefix + key!r}, which this hatrix does not know: upgrade hatrix"
            )
    return members


def _recipe(header: _Header) -> Algorithm:
    try:
        kind = recipe_type(header.algorithm)
        recipe = kind(**{**kind.before, **header.hyperparameters})
    except (ParameterError, TypeError) as error:
        raise ModelFileError(f"cannot be loaded by this hatrix: {error}") from None
    kept = recipe.model_dump(mode="json")
    if any(kept[name] != value for name, value in header.hyperparameters.items()):
        raise ModelFileError("is not consistent: its hyper-parameters are not of their types")
    if _is_left_open(kept):
        raise ModelFileError(
            "is not consistent: a hyper-parameter is 'auto', and a fitted model has its number"
        )
    return recipe


def _is_left_open(value: Any) -> bool:
    """Return whether a hyper-parameter, or one of a recipe inside the recipe, is ``"auto"``."""
    if isinstance(value, dict):
        return any(map(_is_left_open, value.values()))
    return isinstance(value, str) and value == "auto"


def _pack_ids(name: str, ids: Ids) -> dict[str, NDArray[Any]]:
    if ids.kind == "int":
        return {name: ids.labels}
    try:
        return {name + part: array for part, array in pack_text(ids.labels).items()}
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _take_ids(arrays: dict[str, NDArray[Any]], name: str) -> Ids:
    return Ids(unpack_text(arrays, name) if f"{name}.offsets" in arrays else take(arrays, name, "int64"))


def _take_table(
    arrays: dict[str, NDArray[Any]], name: str, columns: Columns | None, rows: int
) -> pd.DataFrame | None:
    return None if columns is None else unpack(arrays, name, columns, rows)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] in ("extra_forbidden", "none_required", "literal_error"):
        return f"says {name!r}, which this hatrix does not know: upgrade hatrix"
    return f"is not consistent: {name!r}: {problem['msg'].lower()}"


def _faults(model: FactorModel, *, contents: bool) -> Iterator[str]:
    """What contradicts itself in a model; ``contents`` reads the training rows too."""
    yield from _faults_of_members(model, contents=contents)
    model = model.list_model
    n, m, k = len(model.users), len(model.items), model.user_factors.shape[1:]
    if len(k) != 1:
        yield f"user_factors has {len(k) + 1} axes instead of 2"
    draws = () if model.posterior is None else model.posterior.noise.shape
    for name, shape in zip(
        (*LEARNED, *COUNTS), ((n, *draws), (m, *draws), (n, *k), (m, *k), (n,), (m,)), strict=True
    ):
        array = getattr(model, name)
        if array.shape != shape:
            yield f"{name} has shape {array.shape} instead of {shape}"
        allowed = ("int64",) if name in COUNTS else FLOATS
        if array.dtype.name not in allowed:
            yield f"{name} is of type {array.dtype.name} instead of {' or '.join(allowed)}"
        if name in COUNTS and (array < 0).any():
            yield f"{name} is negative in places"
        if name in COUNTS and array.sum(dtype=np.float64) > MOST_RATINGS:
            yield f"{name} adds up to more than {MOST_RATINGS:,} ratings"
    yield from _faults_of_parts(model)
    yield from _faults_of_extras(model, draws)
    yield from _faults_of_history(model.history)
    yield from bags.faults(model)
    for name, ids in (("user", model.users), ("item", model.items)):
        yield from _faults_of_ids(name, ids)
    for name, rows in zip(TABLES, (m, n), strict=True):
        table = getattr(model, name)
        if table is not None and len(table) != rows:
            yield f"{name} has {len(table):,} lines for {rows:,} ids"
    if not np.isfinite([model.mean, model.fallback]).all():
        yield "the mean is not finite"
    if max(abs(model.mean), abs(model.fallback)) > LARGEST:
        yield f"the mean is beyond {LARGEST:g}"
    if model.scale is not None and not -np.inf < model.scale[0] <= model.scale[1] < np.inf:
        yield f"the scale runs from {model.scale[0]} to {model.scale[1]}"
    if model.seen is not None:
        yield from _faults_of_seen(model, model.seen, contents=contents)
    if contents:
        yield from _faults_of_numbers(model)


def _faults_of_members(model: FactorModel, *, contents: bool) -> Iterator[str]:
    """Yield faults of the models inside a model, and of members that its recipe does not have or lacks."""
    if sorted(model.members) != sorted(model.recipe.member_names):
        yield f"it has the members {sorted(model.members)}, its recipe {sorted(model.recipe.member_names)}"
    for name, member in model.members.items():
        if any(getattr(member, part) is not getattr(model, part) for part in SHARED):
            yield f"its member {name} has other ids, counts, tables or training rows"
        for fault in _faults(member.sharing({"seen": None}), contents=contents):
            yield f"of its member {name}: {fault}"


def _faults_of_numbers(model: FactorModel) -> Iterator[str]:
    """Yield a fault for each array so large that its scores, sums or squares would not be finite."""
    factors: dict[str, NDArray[Any]] = {
        "user_factors": model.user_factors,
        "item_factors": model.item_factors,
    }
    ratings: dict[str, NDArray[Any]] = {"user_bias": model.user_bias, "item_bias": model.item_bias}
    factors |= {f"parts.{name}": array for name, array in model.parts.items()}
    if model.seen is not None:
        ratings["seen.value"] = model.seen.value
    if model.time is not None:
        ratings |= {"time.edges": model.time.edges, "time.bias": model.time.bias}
        factors["time.factors"] = model.time.factors
    if model.days is not None:
        ratings |= {"days.bias": model.days.bias, "days.spread": model.days.spread}
    if model.posterior is not None:
        for name, array in model.posterior._asdict().items():
            if name.endswith("_prior"):
                factors[f"posterior.{name}"] = array[:, :-1]
                ratings[f"posterior.{name}"] = array[:, -1]
            else:
                ratings[f"posterior.{name}"] = array
    ratings |= {f"bags.{number}.rows": bag.rows for number, bag in enumerate(model.bags or ())}
    for arrays, most in ((factors, LARGEST_FACTOR), (ratings, LARGEST)):
        for name, array in arrays.items():
            for piece in pieces(array):
                if max(-float(piece.min()), float(piece.max())) > most:
                    yield f"{name} has numbers beyond {most:g}"
                    break


def _faults_of_history(history: pd.DataFrame) -> Iterator[str]:
    if len(set(history.columns)) < history.shape[1] or any(
        dtype.kind not in "iufb" for dtype in history.dtypes
    ):
        yield "its history has two columns of one name, or columns that are not numbers"
    elif (np.abs(history.to_numpy(np.float64, na_value=np.nan)) > LARGEST**2).any():
        yield f"its history has numbers beyond {LARGEST**2:g}"


def _faults_of_parts(model: FactorModel) -> Iterator[str]:
    if model.parts.keys() != model.recipe.parts.keys():
        yield f"it has the parts {sorted(model.parts)}, its algorithm {sorted(model.recipe.parts)}"
        return
    length = {"u": len(model.users), "i": len(model.items), "k": model.user_factors.shape[-1]}
    for name, axes in model.recipe.parts.items():
        array, shape = model.parts[name], tuple(length[axis] for axis in axes)
        if array.shape != shape or array.dtype.name not in FLOATS:
            yield f"its part {name} is {array.dtype.name} of shape {array.shape} instead of floats of {shape}"


def _faults_of_extras(model: FactorModel, draws: tuple[int, ...]) -> Iterator[str]:
    width = model.user_factors.shape[-1]
    for name in EXTRAS:
        if getattr(model, name) is not None and name not in model.recipe.extras:
            yield f"it has {name}, which models of {model.recipe.name} have not"
    if "posterior" in model.recipe.extras and model.posterior is None:
        yield f"it has no posterior, which models of {model.recipe.name} have"
    if model.time is not None:
        edges, bias, factors = model.time
        bins = max(1, len(edges) - 1)
        if edges.ndim != 1 or not (edges[1:] > edges[:-1]).all():
            yield "its bins of time are not in order"
        if bias.shape != (bins, *draws) or factors.shape != (bins, width):
            yield f"its time block has biases of shape {bias.shape} and factors of shape {factors.shape}"
    if model.days is not None:
        start, day, bias, spread = model.days
        if start.shape != (len(model.users) + 1,) or not is_partition(start, len(day)):
            yield "its days are not divided among the users"
        elif not _in_order(start, day):
            yield "the days of a user are not in order"
        if (
            not draws
            or bias.shape != (len(day), *draws)
            or spread.shape != draws
            or (spread < SMALLEST).any()
        ):
            yield f"its days have biases of shape {bias.shape} and spreads of shape {spread.shape}"
    if model.posterior is not None:
        noise, spread, cuts, levels, *priors, calibration, nominal = model.posterior
        priors, precisions = priors[:2], priors[2:]
        if noise.ndim != 1 or not len(noise) or (noise < SMALLEST).any() or width % len(noise):
            yield f"its posterior has {noise.shape} draws for {width} factors"
        elif any(prior.shape != (len(noise), 1 + width // len(noise)) for prior in priors):
            yield "its prior rows do not fit its factors"
        elif any(
            precision.shape != (*prior.shape, prior.shape[1])
            for prior, precision in zip(priors, precisions, strict=True)
        ):
            yield "the precisions of its priors do not fit them"
        elif not all(map(_are_precisions, precisions)):
            yield "a precision of its priors is not symmetric and positive definite"
        elif spread.shape not in ((len(model.users) + 1, len(noise)), (0, 0)) or (spread < SMALLEST).any():
            yield f"it has a spread of shape {spread.shape} for {len(model.users):,} users and {len(noise)} draws"
        elif cuts.shape not in ((len(noise), 0), (len(noise), len(levels) - 1)):
            yield f"it has cut points of shape {cuts.shape} for {len(levels)} ratings"
        if not ((cuts[..., 1:] > cuts[..., :-1]).all() and (levels[1:] > levels[:-1]).all()):
            yield "its cut points or ratings are not in order"
        for needed in (calibration, nominal):
            if (needed[1:] < needed[:-1]).any() or ((needed < 0) | (needed > 1)).any():
                yield "its calibration is not in order, or not of shares"


def _in_order(start: NDArray[np.int64], day: NDArray[np.int64]) -> bool:
    """Whether the days between two starts rise."""
    rise = np.ones(len(day) + 1, bool)
    rise[1:-1] = day[1:] > day[:-1]
    rise[start] = True
    return bool(rise.all())


def _are_precisions(matrices: NDArray[np.float64]) -> bool:
    """Return whether all are symmetric, up to rounding, and positive definite, so that samplers can take roots."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))
        scaled = matrices / (length[:, :, None] * length[:, None, :])
    if not (length > SMALLEST).all() or not np.allclose(scaled, scaled.transpose(0, 2, 1), rtol=0, atol=1e-6):
        return False
    try:
        np.linalg.cholesky(matrices)
        root = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return bool((np.diagonal(root, axis1=1, axis2=2) > 1e-7).all())


def _faults_of_ids(name: str, ids: Ids) -> Iterator[str]:
    labels = ids.labels
    if labels.ndim != 1 or labels.dtype not in (np.int64, object):
        yield f"the {name} ids are of type {labels.dtype}"
    if labels.dtype == object and not all(type(label) is str and label for label in labels):
        yield f"a {name} id is not text, or empty"
    if not (labels[1:] > labels[:-1]).all():
        yield f"the {name} ids are not in order, or not distinct"


def _faults_of_seen(model: FactorModel, seen: Seen, *, contents: bool) -> Iterator[str]:
    start, item, value = seen
    types = start.dtype.name, item.dtype.name, value.dtype.name
    if types != ("int64", "int32", "float64") or item.ndim != 1 or item.shape != value.shape:
        yield "the training rows are not of their types and one length"
    if start.shape != (len(model.users) + 1,) or not is_partition(start, len(item)):
        yield "the training rows are not divided among the users"
    elif (start[1:] - start[:-1] != model.user_count).any():
        yield "a user has not as many training rows as user_count says"
    if contents:
        yield from _faults_of_counts(item, model.item_count)


def _faults_of_counts(item: NDArray[np.int32], item_count: NDArray[np.int64]) -> Iterator[str]:
    counted = np.zeros(len(item_count), np.int64)
    for piece in pieces(item):
        if piece.min() < 0 or piece.max() >= len(counted):
            yield "a training row is of an item that is not there"
            return
        counted += np.bincount(piece, minlength=len(counted))
    if (counted != item_count).any():
        yield "an item has not as many training rows as item_count says"
