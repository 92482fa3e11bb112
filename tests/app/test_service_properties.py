"""Whatever is sent, the reply is an answer or a whole problem, and never a mistake of the service."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hatrix as hx
from hatrix.app.schemas import MOST_LISTED, MOST_PAIRS, MOST_RATINGS
from hatrix.app.service import create_app
from served import Client, refusal, serving

STRANGE = [
    "a/b",
    "ä",
    "日本",
    "\U0001f600",
    " ",
    "..",
    "%2F",
    "a&b=c",
    "#",
    "7",
    "07",
    "-1",
    "a\tb",
    "x" * 300,
]
LARGE = [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1]
few = settings(max_examples=40)


def model_of(users: list, items: list) -> hx.FactorModel:
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in users for item in items if rng.random() < 0.6]
    rows = [(user, item, float(rng.integers(1, 6))) for user, item in pairs]
    ratings = hx.Ratings.from_columns(*zip(*rows, strict=True), scale=(1, 5))
    table = pd.DataFrame(
        {
            "title": [f"Title {at}" for at in range(len(ratings.items))],
            "year": [1990 + at for at in range(len(ratings.items))],
        }
    )
    return hx.ALS(factors=2, epochs=3).fit(replace(ratings, item_table=table), progress=False)


def asked(request: pytest.FixtureRequest) -> Iterator[tuple[Client, hx.FactorModel]]:
    labels = STRANGE if request.param == "str" else LARGE
    model = model_of(labels, labels)
    assert model.users.kind == model.items.kind == request.param
    with tempfile.TemporaryDirectory() as folder, serving(model, Path(folder)) as client:
        yield client, model


served = pytest.fixture(asked, scope="module", params=["str", "int"], name="served")
fresh = pytest.fixture(asked, params=["str", "int"], name="fresh")  # without feedback that another test gave


def answered(reply: Any, *allowed: int) -> Any:
    """The body of a reply, which is a problem unless its status is 200 or 201; only these statuses may occur."""
    assert reply.status_code in (200, 201, *allowed), reply.text
    if reply.status_code >= 400:
        refusal(reply)
    return json.loads(reply.content, parse_constant=pytest.fail)  # neither NaN nor Infinity


def test_every_id_of_the_data_is_reached(fresh):
    client, model = fresh
    for item in model.items.labels.tolist():
        assert client.get("/v1/item", item=item).json()["item"] == item
        assert client.get("/v1/explanation", user=item, item=item).json()["item"] == item
        assert (
            client.get("/v1/items", q=f" {item} ").json()["items"][0]["item"] == item or not str(item).strip()
        )
    for user in model.users.labels.tolist():
        body = client.get("/v1/recommendations", user=user, exclude_seen=False).json()
        assert (body["user"], body["basis"]) == (user, "model")
        assert client.get("/v1/user", user=user).json()["user"] == user
        found = client.post("/v1/predictions", {"pairs": [{"user": user, "item": user}]}).json()[
            "predictions"
        ][0]
        assert (found["user"], found["basis"]) == (user, "model")
        body = {"user": user, "ratings": [{"item": user, "rating": 5}]}
        assert client.post("/v1/feedback", body).json()["user"] == user
        assert client.request("DELETE", "/v1/feedback", params={"user": user}).status_code == 200


@few
@given(user=st.text(), item=st.text(), q=st.text(), where=st.text(max_size=60))
def test_any_text(served, user, item, q, where):
    client, _ = served
    answered(client.get("/v1/recommendations", user=user, where=where), 404, 422)
    for path in ("/v1/user", "/v1/similar-users", "/v1/feedback"):
        answered(client.get(path, user=user), 404, 422)
    for path in ("/v1/item", "/v1/similar-items"):
        answered(client.get(path, item=item), 404, 422)
    for path in ("/v1/users", "/v1/items"):
        answered(client.get(path, q=q), 404, 422)
    answered(client.get("/v1/explanation", item=item, user=user), 404, 422)


@few
@given(
    n=st.one_of(st.integers(), st.text()),
    share=st.one_of(st.floats(), st.text()),
    truth=st.text(),
    among=st.lists(st.one_of(st.text(), st.integers()), max_size=5),
)
def test_any_option(served, n, share, truth, among):
    client, _ = served
    options = {
        "n": n,
        "risk": share,
        "interval": share,
        "exclude_seen": truth,
        "explain": truth,
        "among": among,
    }
    for name, value in options.items():
        answered(client.get("/v1/recommendations", user="7", **{name: value}), 422)
    answered(client.get("/v1/items", n=n, offset=n), 422)
    answered(client.get("/v1/explanation", user="7", item="7", n=n, removals=n, top=n), 404, 422)


labels = st.one_of(
    st.integers(), st.text(), st.floats(), st.booleans(), st.none(), st.sampled_from(STRANGE + LARGE)
)
numbers = st.one_of(st.floats(), st.integers(), st.floats(1, 5), st.text(), st.none())
ratings = st.lists(
    st.fixed_dictionaries({"item": labels, "rating": numbers}, optional={"time": numbers}), max_size=4
)


@few
@given(user=labels, ratings=ratings, item=labels, n=numbers, where=st.one_of(st.none(), st.text()))
def test_any_body(served, user, ratings, item, n, where):
    client, _ = served
    bodies = {
        "/v1/recommendations": {"ratings": ratings, "n": n, "where": where, "explain": True},
        "/v1/predictions": {"pairs": [{"user": user, "item": item, "time": n}]},
        "/v1/explanation": {"ratings": ratings, "item": item},
        "/v1/feedback": {"user": user, "ratings": ratings},
    }
    for path, body in bodies.items():
        text = json.dumps(body)  # with NaN and Infinity, which are no JSON
        answered(
            client.request("POST", path, content=text, headers={"content-type": "application/json"}), 404, 422
        )


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@few
@given(body=st.one_of(st.binary(), anything.map(lambda value: json.dumps(value).encode())))
def test_any_bytes(served, body):
    client, _ = served
    for path in ("/v1/recommendations", "/v1/predictions", "/v1/explanation", "/v1/feedback"):
        answered(
            client.request("POST", path, content=body, headers={"content-type": "application/json"}), 422
        )


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"ratings":' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"ratings":[],"n":' + "9" * 5_000 + "}",
        '{"ratings":[],"n":1e400}',
        '{"ratings":[{"item":' + "9" * 5_000 + ',"rating":5}]}',
        '{"ratings":[{"item":"\\ud800","rating":5}]}',
        '{"ratings":[{"item":3,"rating":1e999}]}',
        '{"ratings":[{"item":3,"rating":-Infinity}]}',
        '\ufeff{"ratings":[]}',
    ],
)
def test_bodies_made_to_break_a_reader(body, served):
    client, _ = served
    for path in ("/v1/recommendations", "/v1/feedback"):
        reply = client.request(
            "POST", path, content=body.encode(), headers={"content-type": "application/json"}
        )
        answered(reply, 422)


def test_of_a_key_given_twice_the_last_counts(served):
    client, model = served
    item = json.dumps(model.items.labels.tolist()[0])
    body = f'{{"ratings":[],"ratings":[{{"item":{item},"rating":9,"rating":5}}],"n":2,"n":1}}'
    reply = client.request(
        "POST", "/v1/recommendations", content=body, headers={"content-type": "application/json"}
    )
    found = answered(reply)
    assert found["basis"] == "fold-in"
    assert len(found["items"]) == 1


def test_lists_as_long_as_allowed_and_one_longer(served):
    client, model = served
    items = model.items.labels.tolist()
    # A number of text ids is a text of digits, so that these are unknown to either kind of model.
    rating = [{"item": 10**12 + at, "rating": 5} for at in range(MOST_RATINGS)]
    among = [items[at % len(items)] for at in range(MOST_LISTED)]
    pairs = [{"user": items[at % len(items)], "item": items[0]} for at in range(MOST_PAIRS)]
    for path, body, name in (
        ("/v1/recommendations", {"ratings": rating}, "ratings"),
        ("/v1/recommendations", {"ratings": [], "among": among}, "among"),
        ("/v1/recommendations", {"ratings": [], "exclude": among}, "exclude"),
        ("/v1/predictions", {"pairs": pairs}, "pairs"),
        ("/v1/explanation", {"ratings": rating, "item": items[0]}, "ratings"),
        ("/v1/feedback", {"user": 7, "ratings": rating}, "ratings"),
    ):
        assert client.post(path, body).status_code in (200, 201)
        longer = body | {name: [*body[name], body[name][0]]}
        assert refusal(client.post(path, longer))[:2] == (422, "validation")


@pytest.mark.parametrize(("n", "status"), [(0, 422), (1, 200), (1000, 200), (1001, 422), (-1, 422)])
def test_lengths(n, status, served):
    client, model = served
    user = model.users.labels.tolist()[0]
    rated = {"user": user, "ratings": [{"item": model.items.labels.tolist()[0], "rating": 5}]}
    assert client.post("/v1/feedback", rated).status_code in (
        200,
        201,
    )  # another test may have removed the user
    for path in ("/v1/recommendations", "/v1/user"):
        assert client.get(path, user=user, n=n).status_code == status
    for path in ("/v1/items", "/v1/users"):
        assert client.get(path, n=n).status_code == status
    assert client.post("/v1/recommendations", {"ratings": [], "n": n}).status_code == status


@pytest.mark.parametrize("length", [1000, 1001])
def test_long_texts(length, served):
    client, _ = served
    where = "year > 1".ljust(length)
    status = 200 if length == 1000 else 422
    assert client.get("/v1/recommendations", user="7", where=where).status_code == status
    assert client.post("/v1/recommendations", {"ratings": [], "where": where}).status_code == status
    assert client.get("/v1/items", q="x" * (length - 500)).status_code == status


names = st.one_of(st.text(max_size=12), st.sampled_from(["wher", "exclude[]", "limit", "User", "user "]))


@few
@given(name=names, value=st.text(max_size=12))
def test_unknown_query_parameters_are_refused_by_name(served, name, value):
    client, _ = served
    paths = client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items() if path.startswith("/v1/") else ():
            known = [parameter["name"] for parameter in operation.get("parameters", ())]
            if name in known:
                continue
            given = {one["name"]: "7" for one in operation.get("parameters", ()) if one["required"]}
            status, code, detail = refusal(
                client.request(method.upper(), path, params={**given, name: value})
            )
            assert (status, code) == (422, "validation")
            assert all(one in detail for one in known)
            assert path in detail


def test_query_parameters_are_given_once(served):
    client, model = served
    user = str(model.users.labels[0])
    for path in ("/v1/recommendations", "/v1/user", "/v1/explanation"):
        status, code, detail = refusal(client.request("GET", path, params=[("user", user), ("user", user)]))
        assert (status, code) == (422, "validation")
        assert "user: this query parameter was given 2 times" in detail
    among = [("user", user), ("among", "1"), ("among", "7")]  # a list is given so
    assert client.request("GET", "/v1/recommendations", params=among).status_code == 200
    assert client.request("GET", "/health/live", params=[("t", "1"), ("t", "2")]).status_code == 200


def test_every_problem_is_one_of_those_documented(served):
    client, _ = served
    paths = client.get("/openapi.json").json()["paths"]
    assert refusal(client.get("/v1/nothing"))[:2] == (404, "not-found")
    assert refusal(client.get("/docs/nothing"))[:2] == (404, "not-found")
    for path, operations in paths.items():
        reply = client.request("PATCH", path)
        assert refusal(reply)[:2] == (405, "method-not-allowed")
        assert reply.headers["allow"]
        for operation in operations.values() if path.startswith("/v1/") else ():
            assert {"422", "503"} <= operation["responses"].keys()


def test_a_mistake_of_the_service_is_a_problem_too(served, monkeypatch):
    import asyncio

    import httpx

    client = Client(create_app(served[1]))

    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(client.app.state.service, "beside", fail)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=client.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as inner:
            return await inner.get("/v1/items")

    status, code, detail = refusal(asyncio.run(ask()))
    assert (status, code) == (500, "internal")
    assert "secret" not in detail
