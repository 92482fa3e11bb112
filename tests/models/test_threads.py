"""A fitted model answers with the same bits, however many threads ask and however many threads BLAS has."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.linalg  # noqa: F401 - its OpenBLAS is one of those limited
from threadpoolctl import threadpool_info, threadpool_limits

import hatrix as hx
from hatrix.models import ALGORITHMS, algorithm
from hatrix.models.update import WHOLE

THREADS = 16
SMALL: dict[str, dict[str, Any]] = {
    "mf": {"epochs": 2, "factors": 64},
    "biased-mf": {"epochs": 2, "factors": 64},
    "svdpp": {"epochs": 2, "factors": 64},
    "bias": {},
    "als": {"epochs": 2, "factors": 64},
    "implicit-als": {"epochs": 2, "factors": 64},
    "bpr": {"epochs": 2, "factors": 64},
    "popular": {},
    "spectral-mf": {"factors": 64},
    "bayesian-mf": {
        "epochs": 12, "burn_in": 2, "draws": 4, "factors": 32, "fields": ("user", "item", "item_attributes", "rated", "time")
    },
}  # fmt: skip

every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
# Those of which a fault was known; the campaigns ask all of them.
telling_algorithms = pytest.mark.parametrize(
    "name",
    [
        name if name in ("als", "bayesian-mf") else pytest.param(name, marks=pytest.mark.campaign)
        for name in ALGORITHMS
    ],
)


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    made, _ = hx.synthetic.make(400, 300, n_ratings=12_000, seed=2)
    time = np.random.default_rng(0).integers(10**9, 10**9 + 10**7, len(made))
    kinds = pd.DataFrame({"kind": [f"kind {row % 7}" for row in range(len(made.items))]})
    return replace(made, time=time, item_table=kinds)


@pytest.fixture(scope="module")
def models(ratings) -> Callable[[str], hx.FactorModel]:
    kept: dict[str, hx.FactorModel] = {}

    def model(name: str) -> hx.FactorModel:
        if name not in kept:
            kept[name] = algorithm(name)(**SMALL[name]).fit(ratings, seed=3, progress=False)
        return kept[name]

    return model


def digest(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:12]


def questions(model: hx.FactorModel) -> dict[str, Callable[[hx.FactorModel], str]]:
    """What a model is asked, each with the digest of the answer."""
    users, items = model.users.labels, model.items.labels
    heavy = users[np.argsort(model.user_count)[-len(users) // 8]]
    unseen = model.recommend(heavy, 1)["item"][0]
    ratings = {item: 1.0 + row % 5 for row, item in enumerate(items[:90:2].tolist())}
    raters = {user: 1.0 + row % 5 for row, user in enumerate(users[:90:2].tolist())}
    new = hx.Ratings.from_columns(
        [*users[:10], 10**6], [*items[:10], items[3]], [3.0] * 11, scale=model.scale
    )

    def frame(found: pd.DataFrame) -> str:
        return digest(found.select_dtypes("number").to_numpy(float, na_value=-1.0))

    def rows(found: hx.FactorModel) -> str:
        return digest(found.user_bias, found.user_factors, found.item_bias, found.item_factors)

    asked: dict[str, Callable[[hx.FactorModel], str]] = {
        "predict": lambda m: digest(m.predict(users[:60], items[:60])),
        "scores": lambda m: digest(m.scores(users)),
        "recommend": lambda m: frame(m.recommend(users[:50].tolist(), 20)),
        "explain": lambda m: frame(m.explain(heavy, unseen)) + str(m.explain(heavy, unseen).attrs),
        "fold_in": lambda m: rows(m.fold_in(ratings)),
        "fold_in_item": lambda m: rows(m.fold_in_item(raters)),
    }
    if model.recipe.name not in WHOLE:  # whose update is a fit
        asked["update"] = lambda m: rows(m.update(new))
    if model.user_factors.shape[1]:
        asked |= {
            "similar_items": lambda m: frame(m.similar_items(unseen, 20)),
            "similar_users": lambda m: frame(m.similar_users(heavy, 20)),
        }
    if model.posterior is not None:
        asked |= {
            "interval": lambda m: digest(
                *m.predict([*users[:60], -5], [*items[:60], items[0]], interval=0.9)
            ),
            "probabilities": lambda m: digest(m.probabilities(users[:60], items[:60])),
            "risk": lambda m: frame(m.recommend(users[:20].tolist(), 20, risk=0.1)),
        }
    return asked


@pytest.mark.filterwarnings("ignore:.*unknown to the model")
@telling_algorithms
def test_answers_do_not_depend_on_the_threads_of_blas(name, models):
    model = models(name)
    for what, ask in questions(model).items():
        found = set()
        for threads in (1, 3):
            with threadpool_limits(threads, user_api="blas"):
                found.add(ask(replace(model)))  # a fresh one, which has worked nothing out yet
        assert len(found) == 1, what


@pytest.mark.filterwarnings("ignore:.*unknown to the model")
@telling_algorithms
def test_sixteen_threads_get_the_answers_of_one(name, models):
    model = models(name)
    asked = questions(model)
    alone = {what: ask(replace(model)) for what, ask in asked.items()}
    fresh, start = replace(model), threading.Barrier(THREADS)

    def ask(number: int) -> dict[str, str]:
        order = list(asked)[number % len(asked) :] + list(asked)[: number % len(asked)]
        start.wait(300)  # different questions at one moment
        return {what: asked[what](fresh) for what in order}

    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask, range(THREADS)))
    assert not Counter(what for answers in found for what in answers if answers[what] != alone[what])


@every_algorithm
def test_a_fit_calls_blas_with_one_thread(name, ratings, monkeypatch):
    """At each step of each algorithm, whoever of NumPy's and SciPy's LAPACK is asked."""
    seen: set[tuple[str, int]] = set()
    kind = algorithm(name)

    def watched(method: str) -> Callable[..., Any]:
        real = getattr(kind, method)

        def call(*args: Any, **options: Any) -> Any:
            seen.update(
                (method, pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"
            )
            return real(*args, **options)

        return call

    for method in ("init", "step", "finish"):
        monkeypatch.setattr(kind, method, watched(method))
    with threadpool_limits(3, user_api="blas"):
        kind(**SMALL[name]).fit(ratings, 0.1, progress=False)
    assert seen == {("init", 1), ("step", 1), ("finish", 1)}


FITS = """
import json, resource, sys
import hatrix as hx
from hatrix.models import algorithm
ratings, _ = hx.synthetic.make(300, 200, n_ratings=9_000, seed=2)
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
recipe, times = algorithm(sys.argv[1])(**json.loads(sys.argv[2])), []
recipe.fit(ratings, threads=1, progress=False)  # compiles
for _ in range(4):
    before = spent()
    recipe.fit(ratings, threads=1, progress=False)
    times.append(spent() - before)
print(min(times))
"""


def processor_times(name: str) -> tuple[float, float]:
    """Of a fit of an algorithm, with one thread of BLAS and with two."""
    settings = {"epochs": 120, "factors": 10, "draws": 4} if name == "bayesian-mf" else SMALL[name]
    least = {"1": np.inf, "2": np.inf}
    for _ in range(3):  # what else the machine does only adds to a measurement, so the least counts
        for threads in least:
            done = subprocess.run(
                [sys.executable, "-c", FITS, name, json.dumps(settings)], capture_output=True, text=True, check=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            )  # fmt: skip
            least[threads] = min(least[threads], float(done.stdout))
        if no_more(least["1"], least["2"]):
            break
    return least["1"], least["2"]


def no_more(one: float, two: float) -> bool:
    """Whether two threads take no more than one: those that spin take twice the time, and very short fits are all noise."""
    return two < 1.5 * one + 0.05


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: BLAS has one thread anyway")
@pytest.mark.parametrize(
    "name",
    [
        name if name == "bayesian-mf" else pytest.param(name, marks=pytest.mark.campaign)
        for name in ALGORITHMS
    ],
)
def test_a_fit_takes_no_more_processor_time_with_two_threads_of_blas(name):
    one, two = processor_times(name)
    assert no_more(one, two), (one, two)
