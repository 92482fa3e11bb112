"""The description of the API, and the page that shows it."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

import hatrix as hx
from hatrix.app import reference
from hatrix.app.service import create_app
from served import Client

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)

PREFIX = "/films"


@pytest.fixture(scope="module")
def client() -> Client:
    ratings = hx.synthetic.make(20, 10, n_ratings=100, seed=2)[0]
    return Client(create_app(hx.Bias().fit(ratings, progress=False)))


def test_the_vendored_files_are_those_listed():
    listed = json.loads((reference.FOLDER / "VENDORED.json").read_text())["files"]
    ours = {"index.html", "start.js", "VENDORED.json", "LICENSES.txt"}
    assert {entry["file"] for entry in listed} == {path.name for path in reference.FOLDER.iterdir()} - ours
    licences = (reference.FOLDER / "LICENSES.txt").read_text(encoding="utf-8")
    for entry in listed:
        data = (reference.FOLDER / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"], entry["file"]
        for package in (entry["package"], *entry["contains"]):
            assert f"\n{package} " in licences


def test_everything_is_described(client):
    described = client.get("/openapi.json").json()
    text = json.dumps(described)
    for reference_ in text.split('"$ref": "#/components/schemas/')[1:]:
        assert reference_.split('"')[0] in described["components"]["schemas"]
    for path, operations in described["paths"].items():
        for operation in operations.values() if path.startswith("/v1/") else ():
            assert operation["summary"]
            assert operation["description"]
            ok = next(iter(operation["responses"].values()))
            assert ok["content"]["application/json"]["schema"]
    assert "Body" not in described["components"]["schemas"]
    assert {"VisitorRequest", "FeedbackRequest", "Problem", "Recommendations"} <= described["components"][
        "schemas"
    ].keys()


def test_the_page_and_its_files(client):
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for name, kind in reference.FILES.items():
        assert f'"docs/{name}"' in page.text  # relative, so that it works behind a prefix, too
        reply = client.get(f"/docs/{name}")
        assert reply.headers["content-type"] == kind
        assert reply.content == (reference.FOLDER / name).read_bytes()
    for name in ("VENDORED.json", "..%2Freference.py", "x"):
        assert client.get(f"/docs/{name}").status_code == 404


@pytest.fixture
def address(client) -> Iterator[str]:
    """The service on a port of this machine, under a policy that allows no script, style or picture from elsewhere."""

    async def strict(scope, receive, send) -> None:
        async def sent(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        assert scope["path"].startswith(PREFIX)  # a proxy takes it away; nothing else reaches the service
        await client.app({**scope, "path": scope["path"].removeprefix(PREFIX)}, receive, sent)

    server = uvicorn.Server(uvicorn.Config(strict, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{PREFIX}"
    server.should_exit = True
    thread.join()


def test_the_page_works_in_a_browser_under_a_strict_policy(address):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}/docs")
        page.wait_for_selector(".opblock")
        assert page.locator(".opblock").count() >= 16
        page.locator(".opblock", has_text="/v1/model").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.wait_for_selector(".live-responses-table .response-col_description pre")
        assert '"algorithm": "bias"' in page.locator(".live-responses-table").inner_text()
        browser.close()
    assert complaints == []
