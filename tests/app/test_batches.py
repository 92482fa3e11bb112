"""Batches of plain requests: equal to the model's own lists, one version each, none lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.app import batches as room
from hatrix.app.batches import Asked, Batches, Quick, plainly_asked, rows_of
from hatrix.app.live import Live, Served
from hatrix.errors import ParameterError
from hatrix.models.fit import Algorithm

USERS, ITEMS = 50, 1500  # enough items for the coded kernel


def fitted(recipe: Algorithm, seed: int = 0, texts: bool = False) -> hx.FactorModel:
    ratings = hx.synthetic.make(USERS, ITEMS, n_ratings=3000, seed=1)[0]
    if texts:
        users = [f"ü{u:03}" for u in ratings.user]
        ratings = hx.Ratings.from_columns(users, ratings.item, ratings.value)
    n = len(ratings.items)
    table = pd.DataFrame(
        {
            "title": [None if i % 7 == 0 else f'Film "{i}" é' for i in range(n)],
            "year": [np.nan if i % 5 == 0 else 1950.0 + i % 70 for i in range(n)],
        }
    )
    return recipe.fit(replace(ratings, item_table=table), seed=seed, progress=False)


def answered(live: Live, asked: list[Asked]) -> list[dict]:
    batches = Batches(live)
    replies = [json.loads(reply) for reply in batches.answer(asked)]
    batches.close()
    return replies


@pytest.mark.parametrize(
    "recipe",
    [
        hx.BiasedMF(factors=8, epochs=2),
        hx.ImplicitALS(factors=8, epochs=2),
        hx.Bias(),
        hx.BayesianMF(factors=2, epochs=8, burn_in=2, draws=3),
    ],
    ids=lambda recipe: recipe.name,
)  # fmt: skip
@pytest.mark.parametrize("texts", [False, True], ids=["numbers", "texts"])
def test_equal_to_the_models_own_lists(recipe, texts):
    model = fitted(recipe, texts=texts)
    known = model.users.labels.tolist()
    unknown = ["nobody", "ü"] if texts else [-1, 10**15]
    asked = [Asked(user, n) for user in [*known, *unknown] for n in (10, 3)]
    for (user, n), reply in zip(asked, answered(Live.of(model), asked), strict=True):
        frame = model.recommend(user, n)
        assert reply["user"] == user
        assert reply["basis"] == frame.attrs["fallback"].get(user, "model")
        assert [item["item"] for item in reply["items"]] == frame["item"].tolist()
        assert [item["score"] for item in reply["items"]] == frame["score"].tolist()
        titles = [item.get("title") for item in reply["items"]]
        assert titles == [None if pd.isna(title) else title for title in frame["title"]]
        years = [item["attributes"]["year"] for item in reply["items"]]
        assert years == [None if pd.isna(year) else year for year in frame["year"]]
        if model.task == "rating":
            predicted = model.predict(user, frame["item"].to_numpy(), clip=True)
            assert [item["rating"] for item in reply["items"]] == predicted.tolist()
        else:
            assert "rating" not in reply["items"][0]


def test_a_short_list_says_why():
    ratings = hx.Ratings.from_columns([1, 1, 2], [1, 2, 3], [5.0, 3.0, 4.0])
    model = hx.Bias().fit(ratings, progress=False)
    [reply] = answered(Live.of(model), [Asked(1, 10)])
    assert [item["item"] for item in reply["items"]] == [3]
    assert reply["short"] == model.recommend(1, 10).attrs["short"][1]


@pytest.mark.parametrize("texts", [False, True])
def test_rows_are_those_of_the_ids(texts):
    ids = fitted(hx.Bias(), texts=texts).users
    labels = [*ids.labels.tolist()[::3], *(["", "zzz", "ü01"] if texts else [-5, 10**17, 7])]
    assert rows_of(ids, labels).tolist() == ids.encode(labels).tolist()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"user=7", (7, 10)),
        (b"user=7&n=3", (7, 3)),
        (b"n=99&user=7", (7, 99)),
        (b"user=-7", (-7, 10)),
        *((query, None) for query in [
            b"", b"user=", b"user=07", b"user=%37x", b"user=1e3", b"user=7&n=0", b"user=7&n=100", b"user=7&n=x",
            b"n=3&user=7&n=3", b"user=7&user=8", b"user=7&risk=0.1", b"user=9999999999999999999", b"user=\xd9\xa3",
            b"user=7&", b"user=7;n=3",
        ]),
    ],
)  # fmt: skip
def test_only_what_is_plain_is_taken(query, expected):
    served = Served(fitted(hx.Bias()), "v")
    assert plainly_asked(served, query) == (None if expected is None else Asked(*expected))
    bare = Served(replace(served.model, seen=None), "v")
    assert plainly_asked(bare, query) is None


def test_texts_are_unquoted():
    served = Served(fitted(hx.Bias(), texts=True), "v")
    assert plainly_asked(served, b"user=%C3%BC001+a%26b") == Asked("ü001 a&b", 10)


def test_what_arrives_meanwhile_is_one_batch_and_swaps_mix_nothing():
    models = [fitted(hx.BiasedMF(factors=8, epochs=2), seed) for seed in range(4)]
    versions = {f"v{seed}": model for seed, model in enumerate(models)}
    live = Live(Served(models[0], "v0"))
    sizes = []
    batches = Batches(live, observe=sizes.append)
    replies = []

    async def client(number: int) -> None:
        for step in range(12):
            user = models[0].users.labels[(7 * number + step) % USERS].item()
            replies.append((user, json.loads(await batches.ask(Asked(user, 5)))))

    async def swaps() -> None:
        for turn in range(60):
            live.current = Served(models[turn % 4], f"v{turn % 4}")
            await asyncio.sleep(0.002)

    async def scenario() -> None:
        await asyncio.gather(swaps(), *(client(number) for number in range(30)))

    asyncio.run(scenario())
    batches.close()
    assert len(replies) == sum(sizes) == 360
    assert max(sizes) > 1
    assert len({reply["model"] for _, reply in replies}) > 1
    for user, reply in replies:
        frame = versions[reply["model"]].recommend(user, 5)
        assert [(i["item"], i["score"]) for i in reply["items"]] == list(
            zip(frame["item"], frame["score"], strict=True)
        )


def test_a_batch_is_no_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(room, "MOST", 4)
    sizes: list[int] = []
    batches = Batches(Live.of(fitted(hx.Bias())), observe=sizes.append)

    async def scenario() -> None:
        await asyncio.gather(*(batches.ask(Asked(1, 3)) for _ in range(10)))

    asyncio.run(scenario())
    batches.close()
    assert sizes == [4, 4, 2]


def test_a_failure_reaches_who_asked_and_nobody_else(monkeypatch):
    batches = Batches(Live.of(fitted(hx.Bias())))

    async def scenario() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(room, "_replies", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await batches.ask(Asked(1, 3))
        gone = batches.ask(Asked(1, 3))
        gone.cancel()
        assert json.loads(await batches.ask(Asked(1, 3)))["user"] == 1

    asyncio.run(scenario())
    batches.close()


def refuse() -> None:
    raise ParameterError("no store")


def test_users_with_feedback_are_left_to_the_application():
    calls = []
    feedback = SimpleNamespace(
        refresh=lambda: calls.append("refresh"),
        of=lambda user: {3: 5.0} if user == 2 else None,
        deleted=lambda user: user == 3,
    )
    batches = Batches(Live.of(fitted(hx.Bias())), feedback=lambda _: feedback)
    replies = batches.answer([Asked(1, 3), Asked(2, 3), Asked(3, 3)])
    assert [reply is None for reply in replies] == [False, True, True]
    assert calls == ["refresh"]
    feedback.refresh = lambda: refuse()
    assert batches.answer([Asked(1, 3)]) == [None]  # the store does not answer
    feedback.refresh = lambda: None
    went_on = []

    async def application(scope, _receive, _send) -> None:
        went_on.append(scope["query_string"])

    async def scenario() -> None:
        quick = Quick(application, batches)
        for path, query in (
            ("/v1/recommendations", b"user=1"),
            ("/v1/recommendations", b"user=2"),
            ("/v1/items", b"user=1"),
        ):
            scope = {"type": "http", "method": "GET", "path": path, "query_string": query}
            await quick(scope, lambda: None, sent)

    messages = []

    async def sent(message) -> None:
        messages.append(message)

    asyncio.run(scenario())
    batches.close()
    assert went_on == [b"user=2", b"user=1"]
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"]


def without_seen(model: hx.FactorModel) -> hx.FactorModel:
    return replace(model, seen=None)


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("saved", ["without seen items", "with other ids"])
def test_a_request_planned_on_one_model_is_planned_again_on_the_next(texts, saved):
    model = fitted(hx.BiasedMF(factors=8, epochs=2), texts=texts)
    after = without_seen(model) if saved == "without seen items" else fitted(hx.Bias(), texts=not texts)
    live, went_on = Live(Served(model, "before")), []

    def swap(_: int) -> None:
        live.current = Served(after, "after")

    async def application(*_: object) -> None:
        went_on.append(live.current.version)

    async def scenario() -> None:
        batches = Batches(
            live, observe=swap
        )  # told of the batch when it begins, after its requests were planned
        scope = {"type": "http", "method": "GET", "path": "/v1/recommendations", "query_string": b"user=7"}
        await Quick(application, batches)(scope, lambda: None, lambda _: None)
        batches.close()

    asyncio.run(scenario())
    assert went_on == ["after"]


def test_lists_never_have_seen_items_whatever_takes_the_models_place():
    """Clients ask without a pause while models with and without seen items take turns."""
    import httpx

    from hatrix.app.service import create_app

    model = fitted(hx.BiasedMF(factors=8, epochs=2))
    live = Live(Served(model, "with"))
    app = create_app(live)
    seen = {
        user: set(model.items.decode(model.seen.item[model.seen.of(row)]).tolist())
        for row, user in enumerate(model.users.labels.tolist())
    }
    statuses: list[int] = []

    async def scenario() -> None:
        ended = asyncio.Event()

        async def swaps() -> None:
            turn = 0
            while not ended.is_set():
                turn += 1
                live.current = Served(without_seen(model), "without") if turn % 2 else Served(model, "with")
                await asyncio.sleep(0.001)

        async def client(number: int) -> None:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asks:
                for step in range(20):
                    user = (7 * number + step) % USERS + 1
                    reply = await asks.get(f"/v1/recommendations?user={user}&n=99")
                    statuses.append(reply.status_code)
                    if reply.status_code == 200:
                        assert reply.json()["model"] == "with"
                        assert not seen[user] & {item["item"] for item in reply.json()["items"]}
                    else:
                        assert (reply.status_code, reply.json()["code"]) == (409, "no-seen")

        swapping = asyncio.create_task(swaps())
        await asyncio.gather(*(client(number) for number in range(10)))
        ended.set()
        await swapping

    asyncio.run(scenario())
    app.state.service.batches.close()
    assert set(statuses) == {200, 409}
