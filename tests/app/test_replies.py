"""What holds of every reply: HEAD, methods, and nothing about where the service keeps its files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import hatrix as hx
from hatrix.app.problems import without_places
from hatrix.app.service import create_app
from hatrix.errors import ModelFileError, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `hatrix run` leaves one, under a name that can be told from all others."""
    home = tmp_path / "secret-home"
    home.mkdir()
    ratings = hx.synthetic.make(60, 40, n_ratings=900, seed=1)[0]
    hx.BiasedMF(factors=4, epochs=2).fit(ratings, progress=False).save(home / "model.hatrix")
    ratings.to_frame().to_parquet(home / "test.parquet")
    return home


def asked(client: TestClient, method: str, path: str) -> Any:
    """The reply, once it is made."""
    while (reply := client.request(method, path)).status_code == 202:
        time.sleep(0.05)
    return reply


READ = (
    "/", "/page/app.js", "/docs", "/docs/start.js", "/openapi.json", "/health/live", "/health/ready", "/metrics",
    "/v1/recommendations?user=1", "/v1/recommendations?user=1&risk=2", "/v1/recommendations?user=1&n=3&explain=true",
    "/v1/item?item=1", "/v1/item?item=none", "/v1/items?q=1", "/v1/user?user=1", "/v1/users", "/v1/similar-items?item=1",
    "/v1/similar-users?user=1", "/v1/explanation?user=1&item=1", "/v1/model", "/v1/feedback?user=1", "/v1/overview",
    "/v1/errors", "/v1/errors/rows", "/v1/map", "/v1/data", "/v1/starters", "/v1/audience?item=1", "/nothing",
)  # fmt: skip


def test_head_is_answered_as_get_is_everywhere(folder):
    with TestClient(create_app(folder / "model.hatrix")) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        for path in READ:
            get, head = asked(client, "GET", path), asked(client, "HEAD", path)
            assert head.status_code == get.status_code, path
            assert head.content == b""
            if path != "/metrics":  # which counts these requests, too
                assert head.headers == get.headers, path
        metrics = client.get("/metrics").text
        assert client.head("/v1/predictions").headers["allow"] == "POST"
        assert client.put("/v1/items").headers["allow"] == "GET, HEAD"
    assert 'hatrix_requests_total{method="HEAD",route="/health/live",status="200"} 1.0' in metrics


def test_no_reply_tells_where_anything_lies(folder, caplog):
    path = folder / "model.hatrix"
    app = create_app(path, str(folder / "feedback.db"), test=folder / "test.parquet")
    service = app.state.service
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)

        def told() -> str:
            replies = [asked(client, "GET", one) for one in READ]
            replies += [
                client.post("/v1/feedback", json={"user": 1, "ratings": [{"item": 1, "rating": 5}]}),
                client.delete("/v1/feedback?user=1"),
                client.post("/v1/admin/reload"),
                client.post("/v1/recommendations", json={"ratings": [{"item": 1, "rating": 5}]}),
            ]
            assert all(reply.status_code < 500 or reply.status_code == 503 for reply in replies)
            return "".join(reply.text for reply in replies)

        assert "secret-home" not in told()
        path.write_bytes(path.read_bytes()[:-100])  # from now on the file is refused
        assert client.post("/v1/admin/reload").status_code == 409
        feedback = service.beside(service.served).feedback
        assert feedback is not None

        def fail(*_: object) -> None:
            raise StoreError(
                f"the feedback store sqlite:///{folder}/feedback.db: unable to open database file"
            )

        for one in ("refresh", "add", "delete"):
            setattr(feedback, one, fail)
        said = told()
        assert "secret-home" not in said
        assert "sqlite" not in said
        assert "is cut off" in client.get("/health/ready").json()["refused"]
        assert client.get("/v1/recommendations?user=1").json()["warnings"]
    assert f"sqlite:///{folder}/feedback.db" in caplog.text  # the log says it, once in a while
    assert caplog.text.count("unable to open") == 1
    assert "secret-home" in caplog.text


def test_test_ratings_that_cannot_be_read_are_not_located(folder):
    bad = folder / "bad.csv"
    bad.write_text("one,two\n1,2\n")
    with TestClient(create_app(folder / "model.hatrix", test=bad)) as client:
        body = asked(client, "GET", "/v1/overview").text
    assert "bad.csv cannot be read" in body
    assert "secret-home" not in body


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/a/m.hatrix is cut off", "the file is cut off"),
        ("/a/m.hatrix: cannot copy to /b/c", "the log of the service says why"),
        ("\\\\server\\share is away", "the log of the service says why"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_places_are_left_out_of_messages(text, said):
    assert without_places(ModelFileError(text), Path("/a/m.hatrix")) == said


SHOP = "https://shop.example.org"
HERE = {"host": "localhost:8000"}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "https://localhost:8000"}, True),  # a proxy ends TLS
        ({"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, True),
        (
            {"origin": "https://films.example.org", "sec-fetch-site": "same-origin"},
            True,
        ),  # a proxy changes Host
        ({"origin": SHOP, "sec-fetch-site": "cross-site"}, True),
        ({"origin": SHOP}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://evil.example.org"}, False),
        ({"origin": "http://evil.example.org", "sec-fetch-site": "none"}, False),
        ({"origin": "http://evil.example.org", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:3000"}, False),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[::1"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_pages_of_other_origins_change_nothing(headers, allowed, folder):
    app = create_app(folder / "model.hatrix", str(folder / "feedback.db"), allowed_origins=[SHOP])
    with TestClient(app, base_url="http://localhost:8000") as client:
        replies = [
            client.post(
                "/v1/feedback", json={"user": 4, "ratings": [{"item": 3, "rating": 5}]}, headers=headers
            ),
            client.delete("/v1/feedback?user=4", headers=headers),
            client.post("/v1/admin/reload", headers=headers),
        ]
        assert [reply.status_code for reply in replies] == ([201, 200, 200] if allowed else [403] * 3)
        assert client.get("/v1/recommendations?user=1", headers=headers).status_code == 200


def test_a_page_of_an_allowed_origin_may_read(folder):
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    with TestClient(
        create_app(folder / "model.hatrix", allowed_origins=[SHOP]), base_url="http://localhost"
    ) as client:
        for origin, there in ((SHOP, SHOP), ("https://evil.example.org", None)):
            for path in ("/v1/recommendations?user=1", "/v1/recommendations?user=1&explain=true"):
                reply = client.get(path, headers={"origin": origin})
                assert reply.headers.get("access-control-allow-origin") == there
            reply = client.options("/v1/recommendations", headers={"origin": origin, **preflight})
            assert reply.headers.get("access-control-allow-origin") == there
            assert reply.status_code == (200 if there else 400)
    with TestClient(create_app(folder / "model.hatrix"), base_url="http://localhost") as client:
        reply = client.get("/v1/recommendations?user=1", headers={"origin": SHOP})
        assert "access-control-allow-origin" not in reply.headers
        assert client.options("/v1/recommendations", headers={"origin": SHOP, **preflight}).status_code == 405
