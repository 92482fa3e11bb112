"""Model files by a malicious author, in a process of their own: ``forging.py MUTATIONS SEED``.

Each file is a sound model with a few changes and digests that fit them. `hatrix.load` refuses it with a typed error, or the
model answers all of `CALLS` with finite numbers or typed errors. It prints a JSON object of counts; an answer that is not
finite and an error that is not typed are listed under ``faults``. A crash ends the process.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hatrix as hx
from hatrix.models import container

ADDRESS_SPACE = 8 << 30
EXTREMES = [0, 1, -1, 2, 7, 255, 2**31 - 1, -(2**31), 2**31, 2**53, 2**61, 2**62, 2**63 - 1, -(2**63), 10**6]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-300,
    5e-324,
    1e-30,
    -1e-12,
    1e12,
    1e16,
    -1e17,
    1e30,
    1e33,
    -1e38,
    1e100,
    1e308,
]
WORDS = ["", "x", "user", "auto", "int64", "float64", "str", "bias", "mf", "bpr", "\x1b[0m\n", "é", "x" * 300]


def models() -> Iterator[hx.FactorModel]:
    """A small model of each algorithm, and of each kind of block and table that a file can have."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((12, 9)) < 0.6)
    stars, time = rng.integers(1, 6, len(user)), 86_400 * rng.integers(0, 40, len(user))
    table = pd.DataFrame(
        {
            "year": pd.array([1990, None, *range(1992, 1999)], "Int64"),
            "genre": ["War|Drama", "Drama", "War"] * 3,
        }
    )
    people = pd.DataFrame({"age": [20.0, 30.0] * 6, "sex": ["f", "m", "f"] * 4})
    rated = hx.Ratings.from_columns(user, item, stars, time=time)
    rated = hx.Ratings(
        rated.user, rated.item, rated.value, rated.users, rated.items, rated.time, rated.scale,
        item_table=table, user_table=people,
    )  # fmt: skip
    named = hx.Ratings.from_columns([f"ü{n}" for n in user], [f"item {n}" for n in item], stars)
    clicks = hx.Ratings.from_columns(user, [f"item {n}" for n in item])
    fields = ("user", "item", "time", "user_day", "rated", "raters", "user_attributes", "item_attributes")
    for recipe, ratings in (
        (hx.Bias(epochs=2), rated),
        (hx.MF(factors=3, epochs=2), named),
        (hx.BiasedMF(factors=3, epochs=2), rated),
        (hx.SVDpp(factors=2, epochs=2, precision="float64"), named),
        (hx.ALS(factors=3, epochs=2, nonnegative=True), rated),
        (hx.ALS(factors=3, epochs=2, solver="cg"), named),
        (hx.ImplicitALS(factors=3, epochs=2), clicks),
        (hx.SpectralMF(factors=3), clicks),
        (hx.BPR(factors=3, epochs=2), clicks),
        (hx.Popular(), clicks),
        (hx.BayesianMF(factors=2, epochs=8, burn_in=4, draws=3, fields=fields), rated),
        (hx.BayesianMF(factors=2, epochs=8, burn_in=4, draws=3, likelihood="ordinal"), named),
    ):
        yield recipe.fit(ratings, progress=False)


def forge(path: Path, arrays: dict[str, Any], header: dict[str, Any]) -> None:
    """Write a file whose digests fit, whatever is in it."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    plain = {name: array for name, array in plain.items() if array.dtype in container.CODES}
    entries = {
        name: (container.CODES[array.dtype], list(array.shape), hashlib.sha256(array.tobytes()).hexdigest())
        for name, array in plain.items()
    }
    order = container._in_order(entries)
    manifest = {"format": 1, "arrays": {name: entries[name] for name in order}, "header": header}
    text = json.dumps(manifest, separators=(",", ":"))
    path.write_bytes(container._frame(text, entries) + b"".join(plain[name].tobytes() for name in order))


def other_number(old: Any, chance: random.Random) -> Any:
    """Another value of a header."""
    if isinstance(old, float) and chance.random() < 0.7:
        return chance.choice([*FLOATS, old * 10, -old])
    if isinstance(old, int) and not isinstance(old, bool) and chance.random() < 0.7:
        return chance.choice([*EXTREMES, old + 1, 100_000, 10**400])
    if isinstance(old, str) and chance.random() < 0.7:
        return chance.choice(WORDS)
    return chance.choice([None, True, 3, 1e9, "x", [], {}, [1, 2], {"a": 1}])


def other_header(value: Any, chance: random.Random) -> Any:
    """A header with one value changed, somewhere inside."""
    if isinstance(value, dict) and value:
        key = chance.choice(list(value))
        if chance.random() < 0.08:
            return {name: part for name, part in value.items() if name != key}
        return value | {key: other_header(value[key], chance)}
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        parts = chance.choice([[other_header(value[at], chance)], [value[at]] * 2, []])
        return value[:at] + parts + value[at + 1 :]
    return other_number(value, chance)


def other_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    """An array with other numbers, another order, shape or type."""
    flat = array.reshape(-1).copy()
    pool = FLOATS if flat.dtype.kind == "f" else EXTREMES
    with np.errstate(all="ignore"):
        match chance.choice(
            ["one", "one", "some", "all", "scale", "wrap", "order", "swap", "cut", "type", "shape"]
        ):
            case "one" if flat.size:
                flat[chance.randrange(flat.size)] = np.array(chance.choice(pool)).astype(flat.dtype)
            case "some" if flat.size:
                rows = [chance.randrange(flat.size) for _ in range(5)]
                flat[rows] = np.array([chance.choice(pool) for _ in rows]).astype(flat.dtype)
            case "all":
                flat[:] = np.array(chance.choice(pool)).astype(flat.dtype)
            case "scale" if flat.dtype.kind == "f":
                flat *= flat.dtype.type(chance.choice([1e-20, 1e5, 1e10, 1e15, -1.0]))
            case "wrap" if flat.dtype == np.int64 and flat.size > 9:
                steps = np.diff(flat, prepend=0)
                steps[[chance.randrange(flat.size) for _ in range(8)]] = 2**61
                flat = np.cumsum(steps)
            case "order":
                flat = flat[::-1].copy()
            case "swap" if flat.size > 1:
                a, b = chance.sample(range(flat.size), 2)
                flat[a], flat[b] = flat[b], flat[a]
            case "cut":
                return array[: chance.randrange(len(array) + 1)] if array.ndim else array
            case "type":
                return array.astype(chance.choice(["f4", "f8", "i4", "i8", "u1", "?"]))
            case "shape":
                return chance.choice([flat, flat[:, None], array.T, np.stack([array, array], -1)])
    return flat.reshape(array.shape)


def mutated(arrays: dict[str, Any], header: dict[str, Any], chance: random.Random) -> tuple[dict, dict]:
    """A few changes of what is in a file."""
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        name, other = chance.choice(list(arrays)), chance.choice(list(arrays))
        match chance.choice(["header", "array", "array", "array", "both sides", "drop", "exchange"]):
            case "header":
                header = other_header(header, chance)
            case "array":
                arrays[name] = other_array(arrays[name], chance)
            case "both sides":  # as one who knows what belongs together would
                factor = chance.choice([1e-20, 1e3, 1e8, 1e16])
                for one in arrays.keys() & {"user_factors", "item_factors", "item_bias"}:
                    with np.errstate(all="ignore"):
                        arrays[one] = (arrays[one] * factor).astype(arrays[one].dtype)
            case "drop":
                del arrays[name]
            case "exchange":
                arrays[name], arrays[other] = arrays[other], arrays[name]
        header = header if isinstance(header, dict) else {}
        if not arrays:
            break
    return arrays, header


def calls(model: hx.FactorModel, path: Path) -> dict[str, Callable[[], Any]]:
    """The 22 calls that each model answers."""
    users, items = model.users.labels.tolist(), model.items.labels.tolist()
    user, item = users[0], items[0]
    implicit = model.scale is None
    value = 1.0 if implicit else model.scale[1]
    given = dict.fromkeys(items[:3], value)

    def ratings(who: Any, what: Any) -> hx.Ratings:
        return hx.Ratings.from_columns(
            [who] * len(what), what, None if implicit else [value] * len(what), scale=model.scale
        )

    new = (10**6, 10**6) if model.users.kind == "int" else ("new", "new")
    return {
        "predict": lambda: model.predict(users * 2, (items * (2 * len(users)))[: 2 * len(users)]),
        "predict clipped": lambda: model.predict([user, "nobody"], [item, item], clip=True, times=86_400 * 3),
        "predict intervals": lambda: np.stack(model.predict(users[:2], items[:2], interval=0.9)),
        "probabilities": lambda: model.probabilities(users[:2], items[:2]),
        "scores": lambda: model.scores([*users[:3], "nobody"]),
        "recommend": lambda: model.recommend(user, 5)["score"],
        "recommend all the same": lambda: model.recommend(users[-1], 50, exclude_seen=False)["score"],
        "recommend where": lambda: model.recommend(user, 3, where='genre == "War" and year > 1991')["score"],
        "recommend to nobody": lambda: model.recommend("nobody", 3, exclude=[item])["score"],
        "recommend by risk": lambda: model.recommend(user, 3, risk=0.1)["score"],
        "recommend_all": lambda: model.recommend_all(3, threads=1, progress=False)["score"],
        "similar_items": lambda: model.similar_items(item, 3)["score"],
        "similar_users": lambda: model.similar_users(user, 3, metric="dot")["score"],
        "explain": lambda: model.explain(user, items[-1])["contribution"],
        "fold_in": lambda: model.fold_in(given).recommend("new user", 3)["score"],
        "explain the new": lambda: model.fold_in(given).explain("new user", items[-1])["contribution"],
        "fold_in_item": lambda: model.fold_in_item(dict.fromkeys(users[:3], value)).predict(
            users, "new item"
        ),
        "update": lambda: model.update(ratings(user, items[:4]), threads=1).scores(users),
        "update with the new": lambda: model.update(ratings(new[0], [*items[:2]]), threads=1).scores(
            [new[0]]
        ),
        "forget": lambda: model.forget(user, refit=model.seen is not None).scores(users[1:]),
        "evaluate": lambda: _figures(model, ratings(users[1], items[:3])),
        "save": lambda: _again(model, path),
    }


def _figures(model: hx.FactorModel, test: hx.Ratings) -> Any:
    if model.task == "ranking":
        return [hx.evaluate_ranking(model, test, k=3, bootstrap=5).ndcg]
    return [hx.evaluate(model, test, bootstrap=5).rmse]


def _again(model: hx.FactorModel, path: Path) -> Any:
    model.save(path.with_suffix(".again"))
    return hx.load(path.with_suffix(".again")).item_factors


def answers(found: Any) -> bool:
    """Whether an answer has finite numbers alone."""
    return bool(np.isfinite(np.asarray(found, np.float64)).all())


def main(mutations: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path, originals = Path(folder) / "model.hatrix", []
        for model in models():
            model.save(path)
            arrays, header = container.read(path)
            originals.append(({name: array.copy() for name, array in arrays.items()}, header))
            for name, call in calls(model, path).items():  # what a sound model answers to nothing of
                _ask(call, f"unchanged {model.recipe.name}, {name}", counts, faults)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for turn in range(mutations):
            if turn and turn % 250 == 0:  # for who waits
                print(f"{turn:,} of {mutations:,}:", dict(counts), *faults, file=sys.stderr, flush=True)
            chance = random.Random(seed * 10**9 + turn)
            arrays, header = originals[turn % len(originals)]
            forge(path, *mutated(dict(arrays), json.loads(json.dumps(header)), chance))
            try:
                model = hx.load(path)
            except hx.HatrixError:
                counts["refused"] += 1
                continue
            except Exception:
                faults.append(f"{turn}: load: {traceback.format_exc(limit=-2)}")
                continue
            counts["loaded"] += 1
            if len(model.users) and len(model.items):
                for name, call in calls(model, path).items():
                    _ask(call, f"{turn}: {model.recipe.name}, {name}", counts, faults)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(counts | {"grown_mb": (after - before) // 1024, "faults": faults}))


def _ask(call: Callable[[], Any], what: str, counts: Counter[str], faults: list[str]) -> None:
    try:
        found = call()
    except hx.HatrixError:
        counts["typed errors"] += 1
    except Exception:
        faults.append(f"{what}: {traceback.format_exc(limit=-3)}")
    else:
        counts["answers"] += 1
        if not answers(found):
            faults.append(f"{what}: not finite: {np.asarray(found, np.float64).ravel()[:9]}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
