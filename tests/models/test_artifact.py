# ruff: noqa: ARG005 - the changes of a forger are all called with arrays and header
"""Model files: the same model comes back to the last bit, and no damage or contradiction gets through.

``python tests/models/test_artifact.py`` writes the golden file of the present format; it is committed once per format.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ModelFileError
from hatrix.models import algorithm, artifact, container
from hatrix.models.artifact import load, save
from hatrix.models.model import FactorModel, Seen

GOLDEN = Path(__file__).with_name("golden_v1.hatrix")
GOLDEN_POSTERIOR = GOLDEN.with_name("golden_v1_posterior.hatrix")


def tiny(
    dtype: str = "float32", *, users: str = "str", items: str = "int", tables: bool = True
) -> FactorModel:
    """Three users, four items, the last of each cold, and a bit of everything that a model can have."""
    labels = {
        "str": (np.array(["Zoë", "ann", "日本"], object), np.array(["A", "Z", "b", "ß"], object)),
        "int": (np.array([-(2**63), 5, 2**63 - 1]), np.array([1, 2, 30, 2**53 + 1])),
    }
    item_table = pd.DataFrame(
        {
            "title": pd.Series(["Amélie (2001)", "Brazil, or: \0", np.nan, ""], dtype="str"),
            "year": pd.array([2001, 1985, None, None], "Int64"),
            "genres": ["Comedy|Romance", "Sci-Fi", "", "\U0001f600"],
            "price": [0.1, np.nan, -np.inf, -0.0],
        }
    )
    user_table = pd.DataFrame({"age": pd.array([33, None, 7], "Int64"), "zip": ["0001", "x", "\n"]})
    return FactorModel(
        recipe=hx.Bias(epochs=3, user_damping=0.1, item_damping=2.0),
        users=hx.Ids(labels[users][0]),
        items=hx.Ids(labels[items][1]),
        mean=3.1000000000000001,
        user_bias=np.array([0.1, -0.30000001, 0], dtype),
        item_bias=np.array([-1.1, 0.2, 1e-30, 0], dtype),
        user_factors=np.array([[0.5, -0.25], [1 / 3, 2.0], [0, 0]], dtype),
        item_factors=np.array([[1, 0.1], [-0.0, 0.7], [0.3, -0.2], [0, 0]], dtype),
        user_count=np.array([2, 1, 0]),
        item_count=np.array([1, 1, 1, 0]),
        fallback=10 / 3,
        scale=(0.5, 5.0),
        seed=2**32 - 1,
        history=pd.DataFrame({"epoch": [1, 2], "train_mse": [0.9, 1 / 3], "valid_rmse": [1.5, np.nan]}),
        seen=Seen(np.array([0, 2, 3, 3]), np.array([2, 0, 1], np.int32), np.array([5.0, 2.5, 1 / 3])),
        item_table=item_table if tables else None,
        user_table=user_table if tables else None,
        fingerprint="0123456789abcdef" * 4,
        data_name="a tiny é",
        notes=("stopped by Ctrl-C", "two\nlines"),
    )  # fmt: skip


def bits(value: Any) -> Any:
    """A value in a form where equal means: the same to the last bit, of the same type."""
    if isinstance(value, np.ndarray):
        data = value.tolist() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        return value.dtype.name, value.shape, data
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, hx.Ids):
        return bits(value.labels)
    if isinstance(value, pd.DataFrame):
        columns = [
            (label, str(value[label].dtype), [repr(x) for x in value[label].tolist()]) for label in value
        ]
        return columns, len(value)
    if isinstance(value, tuple):
        return [bits(part) for part in value]
    return value


def contents(model: FactorModel) -> dict[str, Any]:
    return {field.name: bits(getattr(model, field.name)) for field in fields(model)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.hatrix"


def refused(path: Path, *, because: str, verify: bool = True) -> None:
    with pytest.raises(ModelFileError, match=because) as caught:
        load(path, verify=verify)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


# --- there and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("users", ["int", "str"])
@pytest.mark.parametrize("tables", [True, False])
def test_every_field_comes_back_to_the_last_bit(path, dtype, users, tables, verify):
    model = tiny(dtype, users=users, items="str" if users == "int" else "int", tables=tables)
    save(model, path)
    loaded = load(path, verify=verify)
    assert contents(loaded) == contents(model)
    pd.testing.assert_frame_equal(loaded.history, model.history)
    if tables:
        pd.testing.assert_frame_equal(loaded.item_table, model.item_table)
        pd.testing.assert_frame_equal(loaded.user_table, model.user_table)
    assert type(loaded.recipe) is hx.Bias
    assert type(loaded.mean) is type(loaded.fallback) is float


def test_a_loaded_model_answers_the_same(path):
    model = tiny()
    model.save(path)
    loaded = hx.load(str(path))
    users, items = np.array(["Zoë", "ann", "日本", "nobody"], object), [1, 30, 2**53 + 1, 99]
    pairs = [(u, i) for u in users for i in items]
    ask = [u for u, _ in pairs], [i for _, i in pairs]
    assert bits(loaded.predict(*ask)) == bits(model.predict(*ask))
    assert bits(loaded.scores(users)) == bits(model.scores(users))
    assert repr(loaded) == repr(model)


def test_a_fit_comes_back(path):
    rng = np.random.default_rng(0)
    ratings = hx.Ratings.from_columns(
        rng.integers(0, 30, 400).astype(str), rng.integers(0, 20, 400), rng.integers(1, 6, 400)
    )
    for recipe in (hx.Bias(), hx.BiasedMF(factors=3, epochs=2), hx.MF(epochs=2, precision="float64")):
        model = recipe.fit(ratings, valid=0.1)
        model.save(path)
        assert contents(load(path)) == contents(replace(model, resolving=0.0))


def test_equal_models_make_equal_files_and_a_file_makes_itself(path, tmp_path):
    save(tiny(), path)
    save(tiny(), tmp_path / "again")
    save(load(path), tmp_path / "from the file")
    assert path.read_bytes() == (tmp_path / "again").read_bytes() == (tmp_path / "from the file").read_bytes()


def test_a_model_can_be_saved_over_the_file_it_is_mapped_from(path):
    save(tiny(), path)
    model = load(path)
    for _ in range(3):
        save(model, path)
        model = load(path)
    assert contents(model) == contents(tiny())


def test_the_training_rows_can_be_left_out(path):
    save(tiny(), path, seen=False)
    assert contents(load(path)) == contents(replace(tiny(), seen=None))
    assert not any(name.startswith("seen") for name in artifact.read(path)[0])


def test_loaded_arrays_are_views_of_the_file_that_nobody_can_write_to(path):
    save(tiny(users="int"), path)
    model = load(path)
    arrays = [getattr(model, name) for name in (*artifact.LEARNED, *artifact.COUNTS)]
    for array in (*arrays, *model.seen, model.users.labels):
        base = array
        while isinstance(base, np.ndarray):
            assert not base.flags.writeable
            base = base.base
        assert isinstance(base, mmap.mmap)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_a_model_of_nobody(path):
    nobody = replace(
        tiny(tables=False),
        users=hx.Ids(np.array([], object)),
        items=hx.Ids(np.array([], np.int64)),
        **{name: getattr(tiny(), name)[:0] for name in (*artifact.LEARNED, *artifact.COUNTS)},
        seen=Seen(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0)),
        scale=None,
        history=pd.DataFrame([]),
        notes=(),
    )
    save(nobody, path)
    assert contents(load(path)) == contents(nobody)


# --- the golden file -------------------------------------------------------------------------------------------


def test_the_golden_file_of_format_1_stays_loadable():
    model = load(GOLDEN)
    assert contents(model) == contents(tiny())
    assert model.users.labels.tolist() == ["Zoë", "ann", "日本"]
    assert model.items.labels.tolist() == [1, 2, 30, 9007199254740993]
    assert model.item_table.title.tolist()[:2] == ["Amélie (2001)", "Brazil, or: \0"]
    assert model.item_table.year.isna().tolist() == [False, False, True, True]
    assert model.recipe == hx.Bias(epochs=3, user_damping=0.1, item_damping=2.0)
    assert (model.seed, model.scale, model.task) == (4294967295, (0.5, 5.0), "rating")
    predicted = model.predict(["Zoë", "Zoë", "ann", "ann", "日本", "nobody"], [1, 30, 2, 2**53 + 1, 1, 99])
    expected = [2.575, 3.4, 4.4, 3.0333333, 2.2333333, 3.3333333]
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    assert model.seen.item[model.seen.start[0] : model.seen.start[1]].tolist() == [2, 0]


def test_the_golden_posterior_of_format_1_stays_loadable():
    model = load(GOLDEN_POSTERIOR)
    assert (model.recipe.name, model.recipe.likelihood, model.posterior.cuts.shape) == (
        "bayesian-mf",
        "ordinal",
        (3, 3),
    )
    assert np.diff(model.time.edges).tolist() == [7 * 86_400.0] * 6
    predicted = model.predict([0, 1, 4, 9], [0, 2, 3, 0])
    np.testing.assert_allclose(predicted, [3.6055242, 4.0214408, 3.541419, 3.3050328], atol=1e-6)
    assert model.predict(1, 2, times=0) == pytest.approx(3.0864342, abs=1e-6)
    low, high = model.predict([0, 1], [0, 2], interval=0.8)[1:]
    np.testing.assert_allclose(low, [2.0, 2.2352125], atol=1e-6)
    np.testing.assert_allclose(high, [5, 5], atol=1e-6)
    assert model.recommend(0, 2)["score"].tolist() == pytest.approx([0.3721541], abs=1e-6)


# --- damage ----------------------------------------------------------------------------------------------------


def small() -> FactorModel:
    return replace(tiny(users="int", tables=False), history=pd.DataFrame({"epoch": [1]}), notes=())


@pytest.mark.parametrize(
    "model", [small(), pytest.param(tiny(), marks=pytest.mark.campaign)], ids=["small", "all parts"]
)
def test_every_flip_of_a_byte_is_noticed(path, model):
    save(model, path)
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            for pattern in (0x01, 0x20, 0x80, 0xFF):
                os.pwrite(file.fileno(), bytes([byte ^ pattern]), position)
                with pytest.raises(ModelFileError):
                    load(path)
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert contents(load(path)) == contents(model)


MUTATIONS = [
    "flip",
    "truncate",
    "insert",
    "delete",
    "duplicate",
    "swap",
    "bits",
    "digit",
    "zero",
    "length",
    "move",
]


def _mutate(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        # Most of a large file is numbers; half of the mutations aim at the header nevertheless.
        reach = len(data) if chance.random() < 0.5 else min(len(data), 4000)
        a, b = sorted(chance.randrange(reach + 1) for _ in range(2))
        b = min(b, a + chance.choice([1, 2, 8, 64, 1000]))
        match chance.choice(MUTATIONS):
            case "flip":
                data[a:b] = bytes(x ^ chance.randrange(256) for x in data[a:b])
            case "truncate":
                del data[a:]
            case "insert":
                data[a:a] = chance.randbytes(chance.choice([1, 8, 64]))
            case "delete":
                del data[a:b]
            case "duplicate":
                data[a:a] = data[a:b]
            case "swap":
                data[a:b] = data[a:b][::-1]
            case "bits" if data:
                data[min(a, len(data) - 1)] ^= 1 << chance.randrange(8)
            case "digit":
                digits = [i for i in range(a, min(len(data), a + 200)) if chr(data[i]).isdigit()]
                for i in digits[:1]:
                    data[i] = ord(chance.choice("0123456789-e."))
            case "zero":
                data[a:b] = bytes(b - a)
            case "length":
                data[:8] = max(0, int.from_bytes(data[:8], "little") + chance.randrange(-70, 70)).to_bytes(
                    8, "little"
                )
            case "move":
                part = data[a:b]
                del data[a:b]
                data += part
    return bytes(data)


@pytest.mark.parametrize("mutations", [2_000, pytest.param(10_000, marks=pytest.mark.campaign)])
def test_mutations_are_noticed_or_harmless(path, mutations):
    chance = random.Random(1)
    originals = []
    for model in (small(), tiny(), tiny("float64", users="int", items="str")):
        save(model, path)
        originals.append((path.read_bytes(), contents(model)))
    noticed = 0
    for turn in range(mutations):
        whole, wanted = originals[turn % 3]
        mutated = _mutate(whole, chance)
        path.write_bytes(mutated)
        try:
            loaded = load(path)
        except ModelFileError:
            noticed += 1
            assert mutated != whole
        else:
            assert contents(loaded) == wanted
    assert noticed > 0.9 * mutations


def _odd(value: Any, chance: random.Random) -> Any:
    """Another value in place of one in a header."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        changed = dict(value)
        if chance.random() < 0.2:
            changed[chance.choice(["new", key + "x", ""])] = changed.pop(key)
        else:
            changed[key] = _odd(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.8:
        index = chance.randrange(len(value))
        changes = ([_odd(value[index], chance)], [], [value[index]] * 2)
        return value[:index] + chance.choice(changes) + value[index + 1 :]
    odd = [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        "bias",
        "mf",
        "str",
        "int64",
        "\x1b[0m\n",
        [],
        [[]],
        {},
        {"a": 1},
        [1, 2],
    ]
    return chance.choice(odd)


def _odd_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    flat = array.reshape(-1).copy()
    match chance.choice(["type", "longer", "shorter", "shape", "value", "order"]):
        case "type":
            return array.astype(chance.choice(["f4", "f8", "i4", "i8", "u1", "bool"]))
        case "longer":
            return np.concatenate([array, array[:1]])
        case "shorter":
            return array[: max(0, len(array) - 1)]
        case "shape":
            return chance.choice([flat, flat[:, None], flat[None], flat[:0], array.T])
        case "value" if flat.size:
            low, high = (-1e9, 1e9) if flat.dtype.kind == "f" else (0, 255)
            flat[chance.randrange(flat.size)] = chance.choice([0, 1, 2, 5, 254, low, high])
            if flat.dtype.kind == "i" and chance.random() < 0.5:
                flat[chance.randrange(flat.size)] = chance.choice([-1, 2**31 - 1, -(2**31)])
    return flat.reshape(array.shape) if chance.random() < 0.7 else flat[::-1].reshape(array.shape)


def _forge(arrays: dict[str, Any], header: dict[str, Any], chance: random.Random) -> tuple[dict, dict]:
    for _ in range(chance.choice([1, 1, 2])):
        name, other = chance.choice(list(arrays)), chance.choice(list(arrays))
        match chance.choice(["header", "array", "array", "drop", "rename", "exchange"]):
            case "header":
                changed = _odd(header, chance)
                header = changed if isinstance(changed, dict) else {}
            case "array":
                arrays[name] = _odd_array(arrays[name], chance)
            case "drop":
                del arrays[name]
            case "rename":
                arrays[chance.choice(["new", f"{name}.offsets", f"{name}.gaps"])] = arrays.pop(name)
            case "exchange":
                arrays[name], arrays[other] = arrays[other], arrays[name]
    return arrays, header


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("turns", [250, pytest.param(1000, marks=pytest.mark.campaign)])
def test_contradictions_with_right_digests_are_noticed_or_make_a_sound_model(path, turns):
    """Whatever a forger writes, and digests properly: `load` refuses it, or the model works as others do."""
    chance = random.Random(2)
    originals = []
    for users in ("int", "str"):
        save(tiny(users=users), path)
        originals.append(artifact.read(path))
    messages = []
    for turn in range(turns):
        arrays, header = originals[turn % 2]
        artifact.write(path, *_forge(dict(arrays), header, chance))
        try:
            model = load(path)
        except ModelFileError as error:
            messages.append(str(error))
            continue
        users, items = model.users.labels, model.items.labels
        assert np.isfinite(model.scores(users)).all(), turn
        assert np.isfinite(
            model.predict(np.repeat(users, len(items)), np.tile(items, len(users)), clip=True)
        ).all()
        for user in range(0 if model.seen is None else len(users)):
            model.items.decode(model.seen.item[model.seen.start[user] : model.seen.start[user + 1]])
        assert model.item_table is None or len(model.item_table) == len(items)
        assert contents(model) == contents(load(path))
    assert all(message.isprintable() for message in messages)
    assert 0.5 * turns < len(messages) < 0.97 * turns


# --- contradictions, one by one --------------------------------------------------------------------------------

Change = Callable[[dict[str, Any], dict[str, Any]], object]


def forged(path: Path, change: Change, model: FactorModel | None = None) -> None:
    save(model or tiny(), path)
    arrays, header = artifact.read(path)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(arrays, header)
    artifact.write(path, arrays, header)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda a, h: a.pop("user_bias"), "array 'user_bias' is missing"),
        (lambda a, h: a.pop("user_ids"), "array 'user_ids' is missing"),
        (lambda a, h: a.pop("seen.item"), "array 'seen.item' is missing"),
        (lambda a, h: a.pop("seen.start"), "has an array 'seen.item', which this hatrix does not know"),
        (lambda a, h: a.update(link=np.zeros(1)), "has an array 'link', which this hatrix does not know: upgrade"),
        (lambda a, h: h.update(link="logistic"), "says 'link', which this hatrix does not know: upgrade"),
        (lambda a, h: h.update(merged=17), "'merged': input should be an object"),
        (lambda a, h: h.update(merged={"store": "9"}), "'merged.store': input should be a valid integer"),
        (lambda a, h: h.update(merged={"store": True}), "'merged.store': input should be a valid integer"),
        (lambda a, h: h.update(merged={"store": 0}), "'merged.store': input should be greater than 0"),
        (lambda a, h: h.update(merged={"store": 2**63}), "'merged.store': input should be less than"),
        (lambda a, h: h.update(kind="posterior"), "says 'kind', which this hatrix does not know: upgrade"),
        (lambda a, h: h.update(kind="checkpoint"), "is a checkpoint of a fit, not a model"),
        (lambda a, h: h.pop("seed"), "'seed': field required"),
        (lambda a, h: h.update(seed=-1), "'seed'"),
        (lambda a, h: h.update(seed="1"), "'seed'"),
        (lambda a, h: h.update(seed=True), "'seed'"),
        (lambda a, h: h.update(mean=None), "'mean'"),
        (lambda a, h: h.update(mean="3"), "'mean'"),
        (lambda a, h: h.update(scale=[5.0, 1.0]), "the scale runs from 5.0 to 1.0"),
        (lambda a, h: h.update(scale=[1.0]), "'scale"),
        (lambda a, h: h.update(algorithm="deep"), "there is no algorithm 'deep'"),
        (lambda a, h: h.update(algorithm="mf"), "MF has no user_damping"),
        (lambda a, h: h.update(algorithm=["bias"]), "'algorithm'"),
        (lambda a, h: h["hyperparameters"].update(epochs=0), "epochs is 0"),
        (lambda a, h: h["hyperparameters"].update(epochs="3"), "not of their types"),
        (lambda a, h: h["hyperparameters"].update(epochs=True), "epochs is True: give a number"),
        (lambda a, h: h["hyperparameters"].update(self=3), "cannot be loaded by this hatrix"),
        (lambda a, h: h.update(hyperparameters=[]), "'hyperparameters'"),
        (lambda a, h: h["item_table"].append(["new", "int64"]), "array 'item_table.4' is missing"),
        (lambda a, h: h["item_table"].pop(), "has an array 'item_table.3'"),
        (lambda a, h: h["item_table"][0].pop(), "'item_table"),
        (lambda a, h: h.update(item_table=None), "has an array 'item_table.0'"),
        (lambda a, h: h["item_table"][1].__setitem__(1, "Int63"), "column of type 'Int63'"),
        (lambda a, h: a["user_table.0.gaps"].__setitem__(0, 1), "gaps that its type cannot have"),
        (lambda a, h: a.update(user_bias=a["user_bias"][:2]), r"user_bias has shape \(2,\) instead of \(3,\)"),
        (lambda a, h: a.update(user_bias=a["user_bias"][:, None]), "'user_bias' is float32 with 2 axes"),
        (lambda a, h: a.update(user_bias=a["user_bias"].astype("f2")), "'user_bias' is float16"),
        (lambda a, h: a.update(user_factors=a["user_factors"][:, :1]), r"item_factors has shape \(4, 2\)"),
        (lambda a, h: a.update(item_factors=a["item_factors"].T), r"item_factors has shape \(2, 4\)"),
        (lambda a, h: a.update(user_count=a["user_count"].astype("i4")), "'user_count' is int32"),
        (lambda a, h: a["user_count"].__setitem__(2, -1), "user_count is negative"),
        (lambda a, h: a["user_count"].__setitem__(2, 1), "not as many training rows as user_count"),
        (lambda a, h: a["item_count"].__setitem__(3, 1), "not as many training rows as item_count"),
        (lambda a, h: a["item_ids"].__setitem__(0, 2), "the item ids are not in order, or not distinct"),
        (lambda a, h: a["item_ids"].__setitem__(0, 9), "the item ids are not in order"),
        (lambda a, h: a["user_ids"].__setitem__(0, ord("z")), "the user ids are not in order"),
        (lambda a, h: a["user_ids"].__setitem__(3, 0xC3), "'user_ids' is not UTF-8"),
        (lambda a, h: a["user_ids.offsets"].__setitem__(1, 0), "a user id is not text, or empty"),
        (lambda a, h: a["seen.start"].__setitem__(0, 1), "not divided among the users"),
        (lambda a, h: a["seen.start"].__setitem__(3, 2), "not divided among the users"),
        (lambda a, h: a["seen.start"].__setitem__(1, 99), "not divided among the users"),
        (lambda a, h: a["seen.item"].__setitem__(0, 4), "of an item that is not there"),
        (lambda a, h: a["seen.item"].__setitem__(0, -1), "of an item that is not there"),
        (lambda a, h: a.update({"seen.item": a["seen.item"].astype("i8")}), "'seen.item' is int64"),
        (lambda a, h: a.update({"seen.value": a["seen.value"][:2]}), "not of their types and one length"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused(path, change, because):
    forged(path, change)
    refused(path, because=because)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda a, h: a.pop("parts.item_terms"), "array 'parts.item_terms' is missing"),
        (lambda a, h: a.update({"parts.more": np.ones(2)}), "has an array 'parts.more', which this hatrix does not"),
        (lambda a, h: a.update({"parts.item_terms": a["parts.item_terms"][:1]}), r"of shape \(1, 2\) instead of"),
        (lambda a, h: a.update({"parts.item_terms": a["parts.item_terms"][:, :1]}), r"of shape \(2, 1\) instead of"),
        (lambda a, h: a.update({"parts.item_terms": a["parts.item_terms"].astype("f2")}), "item_terms' is float16"),
        (lambda a, h: h.update(algorithm="bias", hyperparameters={}), "has an array 'parts.item_terms'"),
    ],
)  # fmt: skip
def test_parts_come_back_and_others_are_refused(path, change, because):
    ratings = hx.Ratings.from_columns(["ann", "ann", "bob"], [1, 2, 1], [5.0, 3.0, 4.0])
    model = hx.SVDpp(factors=2, epochs=3).fit(ratings)
    assert model.parts["item_terms"].any()
    save(model, path)
    assert bits(load(path).parts["item_terms"]) == bits(model.parts["item_terms"])
    forged(path, change, model)
    refused(path, because=because)


def wrapped(arrays: dict[str, Any], _: dict[str, Any]) -> None:
    """Rows of users that end where they should, after eight steps of 2^61, which are 2^64."""
    count = np.array([2**61, *[2**61] * 7, 3], np.int64)
    arrays["user_count"] = count
    arrays["seen.start"] = np.append(0, np.cumsum(count))
    arrays["user_ids"] = np.arange(9)
    for name in ("user_bias", "user_factors"):
        arrays[name] = np.zeros((9, *arrays[name].shape[1:]), np.float32)


def test_starts_that_wrap_around_are_refused(path):
    model = tiny(users="int", tables=False)
    forged(path, wrapped, model)
    refused(path, because="adds up to more than|not divided among the users")
    refused(path, because="adds up to more than|not divided among the users", verify=False)
    forged(path, lambda a, h: (wrapped(a, h), a.update(user_count=np.zeros(9, np.int64))), model)
    refused(path, because="not divided among the users")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda a, h: a["user_factors"].__setitem__((0, 0), 1e18), "user_factors has numbers beyond 1e\\+17"),
        (lambda a, h: a["item_bias"].__setitem__(0, -2e33), "item_bias has numbers beyond 1e\\+33"),
        (lambda a, h: a["seen.value"].__setitem__(0, 1e308), "seen.value has numbers beyond 1e\\+33"),
        (lambda a, h: a["history.1"].__setitem__(0, 1e308), "its history has numbers beyond 1e\\+66"),
        (lambda a, h: a["user_count"].__setitem__(0, 2**62), "user_count adds up to more than"),
        (lambda a, h: h.update(mean=1e308), "'mean': input should be less than or equal to 10{33}$"),
        (lambda a, h: h.update(fallback=-1e308), "'fallback'"),
        (lambda a, h: h.update(scale=[0.0, 1e308]), "'scale"),
        (lambda a, h: h.update(seed=2**32), "'seed'"),
        (lambda a, h: h.update(drift=[-1, 0, None, None]), "'drift"),
        (lambda a, h: h.update(drift=[1, 0, 1e308, None]), "'drift"),
        (
            lambda a, h: h["history"].extend([[f"x{n}", "float64"] for n in range(98)]),
            "'history'.*at most 100 items",
        ),
        (lambda a, h: h["item_table"].extend([["x", "int8"]] * 10_000), "'item_table'.*at most 10000 items"),
        (lambda a, h: h["history"][1].__setitem__(0, "epoch"), "history has two columns of one name"),
        (lambda a, h: h.update(notes=["x"] * 3 + [3]), "'notes"),
        (lambda a, h: h["hyperparameters"].update(user_damping=1e308), "user_damping is 1e\\+308"),
    ],
)
def test_what_no_fit_could_have_learned_is_refused(path, change, because):
    forged(path, change, tiny("float64"))
    refused(path, because=because)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda a: a["posterior.user_precision"].__setitem__(0, 0.0), "not symmetric and positive definite"),
        (lambda a: a["posterior.item_precision"].__setitem__((1, 0, 0), -1.0), "positive definite"),
        (lambda a: a["posterior.item_precision"].__setitem__((1, 0, 1), 9e9), "positive definite"),
        (lambda a: a["posterior.user_precision"].__setitem__(0, 1.0), "positive definite"),
        (lambda a: a["posterior.noise"].__setitem__(0, 1e-300), "draws for"),
        (lambda a: a["posterior.user_spread"].__setitem__((0, 0), 1e-38), "it has a spread of shape"),
        (lambda a: a["posterior.levels"].__setitem__(0, -1e308), "posterior.levels has numbers beyond"),
        (
            lambda a: a["posterior.user_prior"].__setitem__((0, 0), 1e20),
            "posterior.user_prior has numbers beyond",
        ),
        (lambda a: a["time.factors"].__setitem__((0, 0), 1e20), "time.factors has numbers beyond"),
        (lambda a: a.pop("posterior.noise"), "with 2 axes|has an array"),
    ],
)
def test_what_no_sampler_could_have_drawn_is_refused(path, change, because):
    forged(path, lambda a, h: change(a), load(GOLDEN_POSTERIOR))
    refused(path, because=because)


def test_days_that_wrap_around_are_not_in_order():
    start, day = np.array([0, 2, 3]), np.array([2**62, -(2**62) - 2**62, 5])
    assert not artifact._in_order(start, day)
    assert artifact._in_order(start, np.array([-(2**63), 2**63 - 1, -(2**63)]))
    assert artifact._in_order(np.array([0, 0, 2, 2]), np.array([-(2**63), 4]))


def test_blocks_that_the_algorithm_does_not_have_are_refused(path):
    forged(path, lambda a, h: h.update(algorithm="bias", hyperparameters={}), load(GOLDEN_POSTERIOR))
    refused(path, because="it has (time|posterior), which models of bias have not")


def test_a_text_that_no_file_can_hold_is_refused_before_it_is_written(path):
    for broken in (replace(tiny(), data_name="a\ud800"), replace(tiny(), notes=("\udfff",))):
        with pytest.raises(DataError, match="half a character"):
            save(broken, path)
    save(replace(tiny(), data_name="\U0001f600"), path)
    assert load(path).data_name == "\U0001f600"
    assert os.listdir(path.parent) == [path.name]


def test_a_model_that_leaves_a_number_to_the_data_is_refused(path):
    model = hx.ImplicitALS(factors=2, epochs=1).fit(hx.Ratings.from_columns([1, 1, 2], [1, 2, 1]))
    forged(path, lambda a, h: h["hyperparameters"].update(alpha0="auto"), model)
    refused(path, because="a hyper-parameter is 'auto'")


def test_marks_of_merged_feedback_come_back(path):
    assert load(GOLDEN).merged == {}
    marked = replace(tiny(), merged={"63a1e2c0-0000-4000-8000-000000000001": 41, "b": 2**63 - 1})
    save(marked, path)
    assert contents(load(path)) == contents(marked)
    with pytest.raises(DataError, match="'merged"):
        save(replace(tiny(), merged={"b": -1}), path)


def test_without_verification_the_shapes_are_still_checked(path):
    forged(path, lambda a, h: a.update(user_bias=a["user_bias"][:2]))
    refused(path, because="user_bias has shape", verify=False)
    forged(path, lambda a, h: a["seen.start"].__setitem__(1, 99))
    refused(path, because="not divided among the users", verify=False)


def test_a_checkpoint_is_no_model_and_a_model_no_checkpoint(path):
    ratings = hx.Ratings.from_columns([1, 1, 2], [1, 2, 1], [1, 5, 3])
    hx.Bias(epochs=2).fit(ratings, checkpoint=path)
    refused(path, because="is a checkpoint of a fit, not a model")
    save(tiny(), path)
    with pytest.raises(hx.HatrixError, match="belongs to another run: its kind is 'model'"):
        hx.Bias(epochs=2).fit(ratings, resume=path)


def test_a_file_that_is_not_there(path):
    refused(path, because=r"model\.hatrix does not exist$")


def test_hyper_parameters_of_a_later_hatrix_get_their_defaults(path):
    forged(path, lambda a, h: h["hyperparameters"].pop("item_damping"))
    assert load(path).recipe == hx.Bias(epochs=3, user_damping=0.1, item_damping=2.0)


# --- what cannot be saved --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"users": hx.Ids(np.array(["a\ud800", "b", "c"], object))}, "user_ids: .*half a character"),
        ({"users": hx.Ids(np.array(["b", "a", "c"], object))}, "user ids are not in order"),
        ({"users": hx.Ids(np.array(["b", "a"], object))}, r"user_bias has shape \(3,\) instead of \(2,\)"),
        ({"users": hx.Ids(np.array([1, "b", None], object))}, "a user id is not text"),
        ({"items": hx.Ids(np.array([1, 2, 3, 4], np.int32))}, "item ids are of type int32"),
        ({"user_bias": np.array([0, np.nan, 0])}, "'user_bias' has numbers that are not finite"),
        ({"user_bias": np.zeros(3, np.float16)}, "user_bias is of type float16 instead of float32 or float64"),
        ({"mean": np.inf}, "the mean is not finite"),
        ({"scale": (5.0, 1.0)}, "scale runs from 5.0 to 1.0"),
        ({"scale": (1.0, np.nan)}, "scale runs from 1.0 to nan"),
        ({"item_table": pd.DataFrame({"title": ["a"]})}, "item_table has 1 lines for 4 ids"),
        ({"item_table": pd.DataFrame({"cast": [[1]] * 4})}, "item_table, column 'cast': .* not text"),
        ({"seen": Seen(np.zeros(4, int), np.zeros(0, np.int32), np.zeros(0))}, "as user_count says"),
        ({"notes": (1,)}, "'notes.0'"),
        ({"seed": -1}, "'seed'"),
    ],
)  # fmt: skip
def test_a_model_that_no_file_can_hold_is_refused(path, change, because):
    save(tiny(), path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=because) as caught:
        save(replace(tiny(), **change), path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_recipe_that_no_name_leads_to_cannot_be_saved(path):
    from hatrix.models.fit import Algorithm

    class Mine(Algorithm):
        name: ClassVar[str] = "bias"
        rounds: ClassVar[int] = 1

        def init(self, train, *, seed, threads): ...
        def step(self, state, epoch): ...
        def finish(self, state): ...

    with pytest.raises(DataError, match="a Mine model cannot be saved"):
        save(replace(tiny(), recipe=Mine()), path)


# --- at the same time, interrupted, large ----------------------------------------------------------------------


def test_whoever_loads_while_others_save_gets_one_whole_model(path):
    models = [tiny("float32"), tiny("float64", users="int")]
    wanted = [contents(model) for model in models]
    save(models[0], path)
    least = time.monotonic() + 1.5
    problems: list[object] = []
    counts = {"saved": 0, "loaded": 0}

    def going_on() -> bool:
        now = time.monotonic()
        return not problems and (now < least or (min(counts.values()) <= 20 and now < least + 120))

    def writing() -> None:
        while going_on():
            save(models[counts["saved"] % 2], path)
            counts["saved"] += 1

    def reading() -> None:
        while going_on():
            try:
                if contents(load(path)) not in wanted:
                    problems.append("neither model")
            except Exception as error:
                problems.append(error)
            counts["loaded"] += 1

    threads = [threading.Thread(target=work) for work in (writing, writing, reading, reading)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert min(counts.values()) > 20
    assert os.listdir(path.parent) == [path.name]


SAVING = textwrap.dedent("""
    import sys
    from dataclasses import replace
    import numpy as np
    from hatrix.models.artifact import load, save
    model = load(sys.argv[1])
    print("ready", flush=True)
    while True:
        for seed in (1, 2):
            save(replace(model, seed=seed), sys.argv[1])
""")


def big(rows: int, factors: int) -> FactorModel:
    return replace(
        tiny(tables=False),
        users=hx.Ids(np.arange(rows)),
        items=hx.Ids(np.arange(4)),
        user_bias=np.zeros(rows, np.float32),
        item_bias=np.zeros(4, np.float32),
        user_factors=np.full((rows, factors), 0.5, np.float32),
        item_factors=np.ones((4, factors), np.float32),
        user_count=np.zeros(rows, np.int64),
        seen=None,
    )


def test_kill_9_at_any_moment_leaves_a_whole_model(path):
    save(big(60_000, 16), path)
    chance = random.Random(3)
    seeds = set()
    for number in range(4):
        before = path.stat().st_mtime_ns
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING, str(path)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "ready\n"
            while number % 2 and path.stat().st_mtime_ns == before:  # however long it takes to save once
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        loaded = load(path)
        assert loaded.user_factors.shape == (60_000, 16)
        seeds.add(loaded.seed)
    assert seeds & {1, 2}


LOADING = textwrap.dedent("""
    import sys, time
    from hatrix.models.artifact import load
    def megabytes():
        return int(open("/proc/self/statm").read().split()[1]) * 4 // 1024
    load(sys.argv[1])
    before, started = megabytes(), time.process_time()
    model = load(sys.argv[2], verify=False)
    print(megabytes() - before, time.process_time() - started, "numba" in sys.modules, model.predict(7, 3))
""")


def test_a_large_model_is_there_at_once_and_takes_no_memory(path, tmp_path):
    """128 MiB of factors; only the ids and counts (1.6 MB) are looked at."""
    save(small(), tmp_path / "small")
    save(big(100_000, 320), path)
    arguments = [sys.executable, "-c", LOADING, str(tmp_path / "small"), str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    megabytes, seconds, numba, predicted = done.stdout.split()
    assert int(megabytes) < 16
    assert float(seconds) < 0.2
    assert numba == "False"
    assert float(predicted) == pytest.approx(3.1 + 160)


def posterior() -> FactorModel:
    """Stars, with time, a noise of each user, and a posterior of three draws."""
    stars = [
        (u, i, 1 + (u * 3 + i * 2) % 5, 86_400 * 5 * (u + i)) for u in range(5) for i in range(4) if u != i
    ]
    recipe = hx.BayesianMF(
        factors=2, epochs=12, burn_in=6, draws=3, likelihood="ordinal", fields=("user", "item", "time")
    )
    user, item, value, when = zip(*stars, strict=True)
    return recipe.fit(hx.Ratings.from_columns(user, item, value, time=when), seed=3, progress=False)


if __name__ == "__main__":
    save(tiny(), GOLDEN)
    save(posterior(), GOLDEN_POSTERIOR)


@pytest.mark.parametrize("name", ["mf", "biased-mf", "svdpp", "als"])
def test_a_file_of_before_has_hyper_parameters_that_it_does_not_name(name, tmp_path):
    """They had no unit, and penalties were in units of the ratings as they are."""
    rng = np.random.default_rng(0)
    user, item = np.divmod(rng.permutation(600)[:300], 20)
    ratings = hx.Ratings.from_columns(user, item, rng.integers(1, 11, 300).astype(float))
    recipe = algorithm(name)
    model = recipe(**recipe.before, factors=3, epochs=3).fit(ratings)
    model.save(tmp_path / "new.hatrix")
    arrays, header = container.read(tmp_path / "new.hatrix")
    for left_out in recipe.before:
        del header["hyperparameters"][left_out]
    container.write(tmp_path / "old.hatrix", arrays, header)
    old = hx.load(tmp_path / "old.hatrix")
    assert old.recipe == model.recipe
    given = {int(i): 8.0 for i in model.items.labels[:4]}
    assert old.fold_in(given).predict("new user", 5) == model.fold_in(given).predict("new user", 5)
