"""Feedback counts at once, a deleted user stays deleted, and who may write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import hatrix as hx
from hatrix.app import problems, schemas
from hatrix.app.service import create_app
from hatrix.app.store import Store
from hatrix.errors import ModelFileError, StoreError
from served import Client, refusal, serving

TOKEN = "kept säfe"


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    return hx.synthetic.make(50, 30, n_ratings=700, seed=2)[0]


@pytest.fixture(scope="module")
def model(ratings: hx.Ratings) -> hx.FactorModel:
    return hx.ALS(factors=4).fit(ratings, progress=False)


@pytest.fixture
def client(model: hx.FactorModel, tmp_path: Path) -> Iterator[Client]:
    with serving(model, tmp_path) as client:
        yield client


def give(client: Client, user: object, *ratings: tuple[object, float], **options) -> dict:
    listed = [{"item": item, "rating": value} for item, value in ratings]
    reply = client.post("/v1/feedback", {"user": user, "ratings": listed}, **options)
    assert reply.status_code == 201, reply.text
    schemas.Stored.model_validate_json(reply.content)
    return reply.json()


def listed(client: Client, user: object, **options) -> tuple[str, list]:
    body = client.get("/v1/recommendations", user=user, n=30, **options).json()
    return body["basis"], [entry["item"] for entry in body["items"]]


def trained(model: hx.FactorModel, user: int) -> dict:
    rows = model.seen.of(user - 1)
    return dict(zip((model.seen.item[rows] + 1).tolist(), model.seen.value[rows].tolist(), strict=True))


def test_feedback_of_a_known_user_is_folded_in_with_what_was_trained(client, model):
    known = trained(model, 4)
    old, new = next(iter(known)), next(item for item in range(1, 31) if item not in known)
    before = listed(client, 4)
    assert before[0] == "model"
    assert new in before[1]
    body = give(client, 4, (new, 1.0), (old, 6.0 - known[old]))
    assert (body["user"], body["accepted"], body["warnings"]) == (4, 2, [])
    expected = model.fold_in(known | {new: 1.0, old: 6.0 - known[old]}, user_id=4)
    assert listed(client, 4) == ("fold-in", expected.recommend(4, 30)["item"].tolist())
    assert new not in listed(client, 4)[1]
    assert (
        listed(client, 4, exclude_seen=False)[1]
        == expected.recommend(4, 30, exclude_seen=False)["item"].tolist()
    )
    pair = {"pairs": [{"user": 4, "item": 9}, {"user": 5, "item": 9}, {"user": "4", "item": 2}]}
    found = client.post("/v1/predictions", pair).json()["predictions"]
    assert [entry["basis"] for entry in found] == ["fold-in", "model", "fold-in"]
    rating = [
        expected.predict(4, 9, clip=True),
        model.predict(5, 9, clip=True),
        expected.predict(4, 2, clip=True),
    ]
    assert [entry["prediction"] for entry in found] == rating
    reasons = client.get("/v1/explanation", user=4, item=9).json()
    assert reasons["score"] == expected.explain(4, 9).attrs["score"]
    assert reasons["basis"] == "fold-in"
    user = client.get("/v1/user", user=4).json()
    sources = {entry["item"]: (entry["rating"], entry["source"]) for entry in user["history"]}
    assert sources[new] == (1.0, "feedback")
    assert sources[old] == (6.0 - known[old], "feedback")
    assert len(sources) == len(known) + 1
    assert listed(client, 5) == ("model", model.recommend(5, 30)["item"].tolist())


def test_a_new_user_exists_from_the_first_rating_on(client, model):
    assert listed(client, 777)[0] == "bias"
    assert client.get("/v1/users", q="777").json()["users"] == []
    give(client, "777", (3, 5.0), (4, 1.0))
    expected = model.fold_in({3: 5.0, 4: 1.0}, user_id=777)
    assert listed(client, 777) == ("fold-in", expected.recommend(777, 30)["item"].tolist())
    assert client.get("/v1/users", q="777").json()["users"] == [{"user": 777, "ratings": 2}]
    assert client.get("/v1/users", q="77").json()["users"][0] == {"user": 777, "ratings": 2}
    user = schemas.UserPage.model_validate_json(client.get("/v1/user", user=777).content)
    assert [entry.item for entry in user.history] == [3, 4]
    assert refusal(client.get("/v1/similar-users", user=777))[:2] == (404, "unknown-user")


def test_feedback_counts_at_once_in_lists_of_users(client, model):
    before = {one["user"]: one["ratings"] for one in client.get("/v1/users", n=1000).json()["users"]}
    row = model.users.encode([4])[0]
    known = set(model.items.decode(model.seen.item[model.seen.of(row)]).tolist())
    new = [item for item in model.items.labels.tolist() if item not in known][:2]
    give(client, 4, (min(known), 5.0), (new[0], 1.0), (new[1], 2.0), (998, 3.0))
    for user, size in ((901, 3), (902, 1)):
        give(client, user, *((item, 4.0) for item in range(1, size + 1)))
    found = client.get("/v1/users", n=1000).json()
    after = {one["user"]: one["ratings"] for one in found["users"]}
    assert after == before | {4: before[4] + 2, 901: 3, 902: 1}
    assert found["total"] == len(before) + 2
    for user in (4, 901, 902, 5):
        assert client.get("/v1/user", user=user).json()["ratings"] == after[user]
    sizes = [one["ratings"] for one in found["users"] if one["user"] != 4]
    assert sizes == sorted(sizes, reverse=True)
    parts = [client.get("/v1/users", n=7, offset=offset).json()["users"] for offset in range(0, 70, 7)]
    assert [one for part in parts for one in part] == found["users"][:70]


def test_the_latest_rating_of_an_item_counts(client, model):
    give(client, 777, (3, 5.0), (4, 2.0), (3, 1.0))
    give(client, 777, (4, 3.0))
    expected = model.fold_in({3: 1.0, 4: 3.0}, user_id=777)
    assert listed(client, 777)[1] == expected.recommend(777, 30)["item"].tolist()
    body = schemas.Feedback.model_validate_json(client.get("/v1/feedback", user=777).content)
    assert {kept.item: kept.rating for kept in body.ratings} == {3: 1.0, 4: 3.0}
    assert [kept.sequence for kept in body.ratings] == [3, 4]


def test_times_are_kept_and_now_by_default(client):
    rows = [{"item": 3, "rating": 5, "time": 77}, {"item": 4, "rating": 5}]
    assert client.post("/v1/feedback", {"user": 1, "ratings": rows}).status_code == 201
    first, second = client.get("/v1/feedback", user=1).json()["ratings"]
    assert first["time"] == 77
    assert 1.7e9 < second["time"] < 1e10


def test_a_deleted_user_stays_deleted(client, model):
    give(client, 4, (3, 5.0))
    for _ in range(2):
        reply = client.request("DELETE", "/v1/feedback", params={"user": 4})
        assert reply.status_code == 200
        schemas.Forgotten.model_validate_json(reply.content)
    nobody = model.recommend(999, 30)["item"].tolist()
    assert listed(client, 4) == ("bias", nobody)
    assert client.get("/v1/feedback", user=4).json()["ratings"] == []
    for path in ("/v1/user", "/v1/similar-users"):
        assert refusal(client.get(path, user=4))[:2] == (404, "unknown-user")
    assert (
        client.get("/v1/explanation", user=4, item=9).json()["score"] == model.explain(999, 9).attrs["score"]
    )
    pairs = {"pairs": [{"user": 4, "item": 9}, {"user": 999, "item": 9}]}
    mine, nobodys = client.post("/v1/predictions", pairs).json()["predictions"]
    assert mine == {**nobodys, "user": 4}
    assert 4 not in [entry["user"] for entry in client.get("/v1/users", n=1000).json()["users"]]
    near = model.similar_users(4, 1)["user"].tolist()[0]
    found = client.get("/v1/similar-users", user=near, n=49).json()
    assert 4 not in [entry["user"] for entry in found["users"]]
    assert found["short"] == "48 of 49: users who were deleted are left out"
    give(client, 4, (3, 5.0))  # comes again, with nothing of before
    assert listed(client, 4) == (
        "fold-in",
        model.fold_in({3: 5.0}, user_id=4).recommend(4, 30)["item"].tolist(),
    )
    assert client.get("/v1/user", user=4).json()["total"] == 1
    found = client.get("/v1/users", q="4", n=1000).json()
    others = [entry["user"] for entry in found["users"][1:]]
    assert found["users"][0] == {"user": 4, "ratings": 1}
    assert (4 in others, len(set(others)), found["total"]) == (False, len(others), len(others) + 1)
    for offset in range(3):
        page = client.get("/v1/users", q="4", n=2, offset=offset).json()
        assert page == {**found, "offset": offset, "users": found["users"][offset : offset + 2]}


def test_items_that_the_model_does_not_know_are_kept_for_the_next_update(client):
    body = give(client, 4, (999, 5.0), (3, 5.0))
    assert body["warnings"] == ["1 of 2 items are unknown to the model: they count from the next update on"]
    assert listed(client, 4)[0] == "fold-in"
    give(client, 5, (999, 5.0))
    found = client.get("/v1/recommendations", user=5).json()
    assert (found["basis"], found["warnings"]) == (
        "model",
        ["1 of 1 items rated are unknown to the model: 999"],
    )


@pytest.mark.parametrize(
    ("user", "item", "rating"),
    [(4, 3, 5.5), (4, 3, 0.5), (4, 3, "5"), (4, 3, None), (4, 3, True), (True, 3, 5), (1.5, 3, 5), ("x", 3, 5),
     (4, "x", 5), (2**63, 3, 5), (4, -(2**63) - 1, 5), ("", 3, 5), (None, 3, 5), ([4], 3, 5)],
)  # fmt: skip
def test_what_makes_no_sense_is_not_stored(user, item, rating, client):
    body = {"user": user, "ratings": [{"item": 3, "rating": 4}, {"item": item, "rating": rating}]}
    assert refusal(client.post("/v1/feedback", body))[0] == 422
    assert client.get("/v1/feedback", user=4).json()["ratings"] == []


@pytest.mark.parametrize(
    "text", ['{"user":4,"ratings":[{"item":3,"rating":NaN}]}', "[", "", "null", "[1]", '"x"']
)
def test_bodies_that_are_no_json_or_not_the_right_one(text, client):
    reply = client.request(
        "POST", "/v1/feedback", content=text, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert refusal(reply)[:2] == (422, "validation")


def test_ids_that_no_store_can_keep_are_refused(tmp_path):
    model = hx.Bias().fit(hx.Ratings.from_columns(["ann", "bob"], ["a", "b"], [5.0, 1.0]), progress=False)
    with serving(model, tmp_path) as client:
        for label in ("", "a\0b", "x" * 501):
            body = {"user": label, "ratings": [{"item": "a", "rating": 5}]}
            assert refusal(client.post("/v1/feedback", body))[:2] == (422, "bad-request")
            body = {"user": "ann", "ratings": [{"item": label, "rating": 5}]}
            assert refusal(client.post("/v1/feedback", body))[:2] == (422, "bad-request")
        for label in ("x" * 500, "\U0001f600" * 500, "a/b?c=&d#%", " ", "..", 7):
            assert give(client, label, ("a", 5.0))["user"] == str(label)
            assert client.get("/v1/feedback", user=label).json()["ratings"][0]["rating"] == 5


def test_a_service_without_a_store_says_so(model):
    client = Client(create_app(model))
    body = {"user": 4, "ratings": [{"item": 3, "rating": 5}]}
    for reply in (
        client.post("/v1/feedback", body),
        client.get("/v1/feedback", user=4),
        client.request("DELETE", "/v1/feedback", params={"user": 4}),
    ):
        assert refusal(reply)[:2] == (409, "no-store")


def test_a_store_that_fails_hinders_writes_alone(client, monkeypatch):
    service = client.app.state.service
    feedback = service.beside(service.served).feedback
    give(client, 4, (3, 5.0))

    def fail(*_: object) -> None:
        raise StoreError("the store is away")

    for name in ("refresh", "add", "delete"):
        monkeypatch.setattr(feedback, name, fail)
    found = client.get("/v1/recommendations", user=4).json()
    assert found["basis"] == "fold-in"
    assert found["warnings"] == [f"the latest feedback may be missing: {problems.NO_STORE}"]
    replies = [
        client.post("/v1/feedback", {"user": 4, "ratings": [{"item": 3, "rating": 5}]}),
        client.request("DELETE", "/v1/feedback", params={"user": 4}),
    ]
    for reply in replies:
        assert refusal(reply) == (503, "store-unavailable", problems.NO_STORE)
        assert reply.headers["retry-after"] == "1"


def test_a_store_that_was_set_back_is_refused_at_the_start(model, tmp_path):
    url = str(tmp_path / "f.db")
    with Store.open(url, users="int", items="int") as store:
        ahead = replace(model, merged={store.identity: 2})
        store.add(4, [(3, 5.0, None)])
    with pytest.raises(StoreError, match="was set back to an older copy"):
        create_app(ahead, url)


def test_a_model_without_training_rows_takes_feedback_of_new_users_alone(model, tmp_path):
    with serving(replace(model, seen=None), tmp_path) as client:
        give(client, 4, (3, 5.0))
        give(client, 777, (3, 5.0))
        assert listed(client, 777)[0] == "fold-in"
        assert 3 not in listed(client, 777)[1]
        found = client.get("/v1/recommendations", user=4, exclude_seen=False).json()
        assert found["basis"] == "model"
        assert "counts from the next update on" in found["warnings"][0]
        assert refusal(client.get("/v1/recommendations", user=4))[:2] == (409, "no-seen")


def test_too_many_users_with_feedback_in_one_batch(client):
    for user in range(1000, 1101):
        give(client, user, (3, 5.0))
    pairs = [{"user": user, "item": 4} for user in range(1000, 1101)]
    assert refusal(client.post("/v1/predictions", {"pairs": pairs}))[:2] == (413, "too-large")
    found = client.post("/v1/predictions", {"pairs": pairs[1:]}).json()["predictions"]
    assert [entry["user"] for entry in found] == list(range(1001, 1101))


@pytest.fixture
def guarded(model: hx.FactorModel, tmp_path: Path) -> Iterator[Client]:
    with serving(model, tmp_path, token=TOKEN, writes=False) as client:
        yield client


def attempts(client: Client, **headers: str) -> list:
    sent = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return [
        client.post("/v1/feedback", {"user": 4, "ratings": [{"item": 3, "rating": 5}]}, headers=sent),
        client.request("DELETE", "/v1/feedback", params={"user": 4}, headers=sent),
        client.request("POST", "/v1/admin/reload", headers=sent),
    ]


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer"}, {"authorization": "Bearer x"}, {"authorization": f"Basic {TOKEN}"},
     {"authorization": TOKEN}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": "Bearer ÿ"}],
)  # fmt: skip
def test_who_lacks_the_token_reads_but_does_not_write(headers, guarded):
    for reply in attempts(guarded, **headers):
        assert refusal(reply)[:2] == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/v1/recommendations", user=4).status_code == 200
    assert guarded.get("/v1/feedback", user=4).json()["ratings"] == []


def test_who_has_the_token_writes(guarded):
    statuses = [reply.status_code for reply in attempts(guarded, authorization=f"bearer {TOKEN}")]
    assert statuses == [201, 200, 200]


def test_without_any_token_nothing_is_written_where_one_is_needed(model, tmp_path):
    for token in (None, ""):
        with serving(model, tmp_path, token=token, writes=False) as client:
            for header in ("Bearer ", "Bearer"):
                for reply in attempts(client, authorization=header):
                    assert refusal(reply)[:2] == (403, "forbidden")


def test_on_this_machine_a_token_is_for_admin_alone(model, tmp_path):
    with serving(model, tmp_path, token=TOKEN) as client:
        assert [reply.status_code for reply in attempts(client)] == [201, 200, 401]


def test_pages_of_other_origins_do_not_write(client):
    assert [reply.status_code for reply in attempts(client, sec_fetch_site="same-origin")] == [201, 200, 200]
    for site in ("cross-site", "same-site"):
        for reply in attempts(client, sec_fetch_site=site):
            assert refusal(reply)[:2] == (403, "forbidden")
    body = '{"user":4,"ratings":[{"item":3,"rating":5}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        reply = client.request("POST", "/v1/feedback", content=body, headers={"content-type": kind})
        assert refusal(reply)[:2] == (415, "unsupported-media-type")


def test_reloading(client, monkeypatch):
    assert client.request("POST", "/v1/admin/reload").json()["changed"] is False

    async def fail() -> bool:
        raise ModelFileError("m.hatrix: is cut short")

    monkeypatch.setattr(client.app.state.service.live, "reload", fail)
    status, code, detail = refusal(client.request("POST", "/v1/admin/reload"))
    assert (status, code) == (409, "bad-model")
    assert "cut short" in detail


def test_a_history_of_counts_adds_training_and_feedback_up(ratings: hx.Ratings, tmp_path: Path) -> None:
    clicks = hx.Ratings.from_columns(
        ratings.users.labels[ratings.user], ratings.items.labels[ratings.item], ratings.value, implicit=True
    )
    model = hx.ImplicitALS(factors=3, epochs=2).fit(clicks, progress=False)
    known = trained(model, 4)
    old, new = next(iter(known)), next(item for item in range(1, 31) if item not in known)
    with serving(model, tmp_path) as client:
        give(client, 4, (old, 2.0), (new, 3.0))
        page = client.get("/v1/user", user=4).json()
    shown = {entry["item"]: entry["rating"] for entry in page["history"]}
    assert shown == known | {old: known[old] + 2.0, new: 3.0}
    assert page["mean"] == pytest.approx(sum(shown.values()) / len(shown))
