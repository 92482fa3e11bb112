"""Schemathesis: replies to what the description of the API allows, and does not allow, are as it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

import hatrix as hx
from served import Client, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    ratings = hx.synthetic.make(30, 20, n_ratings=300, seed=2)[0]
    table = pd.DataFrame({"title": [f"Film {at}" for at in range(20)], "year": np.arange(20) + 1990})
    model = hx.BayesianMF(factors=2, epochs=12, burn_in=4, draws=3).fit(
        replace(ratings, item_table=table), progress=False
    )
    folder: Path = tmp_path_factory.mktemp("store")
    with serving(model, folder) as client:
        yield client


OPERATIONS = [
    ("GET", "/v1/recommendations"),
    ("POST", "/v1/recommendations"),
    ("POST", "/v1/predictions"),
    ("GET", "/v1/explanation"),
    ("POST", "/v1/explanation"),
    ("GET", "/v1/items"),
    ("GET", "/v1/item"),
    ("GET", "/v1/similar-items"),
    ("GET", "/v1/similar-users"),
    ("GET", "/v1/users"),
    ("GET", "/v1/user"),
    ("GET", "/v1/model"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/feedback"),
    ("DELETE", "/v1/feedback"),
    ("POST", "/v1/admin/reload"),
]


@pytest.fixture(scope="module")
def described(client: Client) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", client.app, headers={"Host": "localhost"})


def test_all_operations_are_tried(described: schemathesis.BaseSchema) -> None:
    found = {
        (operation.ok().method.upper(), operation.ok().path) for operation in described.get_all_operations()
    }
    assert set(OPERATIONS) <= found


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_replies_are_as_described(
    method: str, path: str, mode: GenerationMode, described: schemathesis.BaseSchema
) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        reply = case.call(base_url="http://localhost")
        # What fits the schema is accepted, unless this model cannot do it: a rating off its scale, an id of the other kind.
        if mode is GenerationMode.POSITIVE and reply.status_code == 422:
            assert reply.json()["code"] in ("bad-request", "unsupported")
            case.validate_response(reply, excluded_checks=[positive_data_acceptance])
        elif method != "POST":  # a query is text: what a wrong value is written as may well be right
            case.validate_response(reply, excluded_checks=[negative_data_rejection])
        else:
            case.validate_response(reply)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with a request that takes nothing
        assert (method, path) in {("GET", "/v1/model"), ("POST", "/v1/admin/reload")}
