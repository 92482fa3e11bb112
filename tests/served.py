"""A service asked in this process, and feedback for it: the store's own, or a fake of it where that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from fastapi import FastAPI

import hatrix as hx
from hatrix.app import service


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


@dataclass
class FakeStore:
    """The log of a store in memory, with as much of its interface as the service calls."""

    kinds: tuple[str, str]
    name: str = "fake"
    identity: str = "fake"
    log: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)

    def add(self, user: Any, ratings: list[tuple[Any, float, int | None]]) -> int:
        self.log += [(user, *rating) for rating in ratings]
        return len(self.log)

    def delete(self, user: Any) -> int:
        self.log.append((user, None, None, None))
        return len(self.log)

    def position(self) -> int:
        return len(self.log)

    def of(self, user: Any) -> list[tuple[Any, float, int | None, int]]:
        latest: dict[Any, tuple[Any, float, int | None, int]] = {}
        for sequence, (who, item, value, time) in enumerate(self.log, 1):
            if who == user and item is None:
                latest = {}
            elif who == user:
                latest.pop(item, None)
                latest[item] = item, value, time, sequence
        return list(latest.values())


class FakeFeedback:
    """What a fake store has beyond a model."""

    def __init__(self, store: FakeStore, model: hx.FactorModel) -> None:
        self.store, self.model = store, model
        self.add, self.delete = store.add, store.delete

    def refresh(self) -> bool:
        return False

    def of(self, user: Any) -> dict[Any, float] | None:
        rows = self.store.of(user)
        return {item: value for item, value, *_ in rows} or None

    def deleted(self, user: Any) -> bool:
        return any(who == user and item is None for who, item, *_ in self.store.log)

    def with_training(self, user: Any) -> dict[Any, float]:
        model, row = self.model, int(self.model.users.encode([user])[0])
        ratings: dict[Any, float] = {}
        if row >= 0 and model.seen is not None and not self.deleted(user):
            part = model.seen.of(row)
            items = model.items.decode(model.seen.item[part]).tolist()
            ratings = dict(zip(items, model.seen.value[part].tolist(), strict=True))
        for item, value in (self.of(user) or {}).items():
            ratings[item] = value + (ratings.get(item, 0.0) if model.scale is None else 0.0)
        return ratings


@contextmanager
def serving(model: Any, folder: Path, **options: Any) -> Iterator[Client]:
    """A service of a model with a store."""
    kinds = model.users.kind, model.items.kind
    if find_spec("hatrix.app.store") is None:
        with mock.patch.object(service, "_feedback", FakeFeedback):
            yield Client(service.create_app(model, FakeStore(kinds), **options))
        return
    from hatrix.app.store import Store

    store = Store.open(str(folder / "feedback.db"), users=kinds[0], items=kinds[1])
    try:
        yield Client(service.create_app(model, store, **options))
    finally:
        store.close()
