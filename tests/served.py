"""A service asked in this process, and one with a store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from hatrix.app import service
from hatrix.app.store import Store


class Client:
    """Requests to an application; a mistake in a handler is raised here instead of a reply of 500."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.request("GET", path, params=params)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **options)


def refusal(reply: httpx.Response) -> tuple[int, str, str]:
    """Status, code and detail of a reply that has to be a whole problem."""
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body.keys() == {"type", "title", "status", "detail", "code"}
    assert body["status"] == reply.status_code
    return reply.status_code, body["code"], body["detail"]


@contextmanager
def serving(model: Any, folder: Path, **options: Any) -> Iterator[Client]:
    """A service of a model with a store."""
    kinds = model.users.kind, model.items.kind
    store = Store.open(str(folder / "feedback.db"), users=kinds[0], items=kinds[1])
    try:
        yield Client(service.create_app(model, store, **options))
    finally:
        store.close()
