"""The API answers as the library does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.app import schemas
from hatrix.app.personal import visitor_of
from hatrix.app.service import create_app
from hatrix.models import ALGORITHMS, algorithm
from served import Client, refusal

SMALL = {name: {"factors": 4, "epochs": 6} for name in ALGORITHMS} | {"bias": {}, "popular": {}}
SMALL["bayesian-mf"] = {"factors": 3, "epochs": 30, "burn_in": 10, "draws": 6}
TITLES = ["Amélie", "Brazil", "The Matrix", "Matrix Reloaded, The", None]
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


def films(n: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "title": [TITLES[at % 5] and f"{TITLES[at % 5]} {at}" for at in range(n)],
            "year": [np.nan if at % 7 == 0 else 1950.0 + at for at in range(n)],
            "genres": ["Drama|Crime" if at % 3 else "Comedy" for at in range(n)],
        }
    )


@pytest.fixture(scope="module")
def ratings() -> hx.Ratings:
    made = hx.synthetic.make(50, 30, n_ratings=700, seed=2)[0]
    table = pd.DataFrame({"age": np.arange(len(made.users), dtype=float)})
    return replace(made, item_table=films(len(made.items)), user_table=table)


@pytest.fixture(scope="module")
def fitted(ratings: hx.Ratings) -> Callable[..., hx.FactorModel]:
    kept: dict[str, hx.FactorModel] = {}

    def fit(name: str) -> hx.FactorModel:
        if name not in kept:
            kept[name] = algorithm(name)(**SMALL[name]).fit(ratings, seed=3, progress=False)
        return kept[name]

    return fit


@pytest.fixture
def als(fitted) -> hx.FactorModel:
    return fitted("als")


@pytest.fixture
def client(als) -> Client:
    return Client(create_app(als))


def checked(reply, schema) -> dict:
    """The body of a reply that fits its schema, with the version of the model."""
    assert reply.status_code == 200, reply.text
    schema.model_validate_json(reply.content)
    assert reply.json()["model"]
    return reply.json()


def items_of(body: dict) -> list:
    return [entry["item"] for entry in body["items"]]


@every_algorithm
def test_lists_are_the_librarys(name, fitted):
    model = fitted(name)
    client = Client(create_app(model))
    for user, n in ((1, 10), (7, 100), (50, 1)):
        body = checked(client.get("/v1/recommendations", user=user, n=n), schemas.Recommendations)
        expected = model.recommend(user, n)
        assert items_of(body) == expected["item"].tolist()
        assert [entry["score"] for entry in body["items"]] == expected["score"].tolist()
        assert (body["user"], body["basis"], body["warnings"]) == (user, "model", [])
        assert body["short"] == expected.attrs["short"].get(user)
        if model.task == "rating":
            rating = model.predict(user, expected["item"], clip=True)
            np.testing.assert_array_equal([entry["rating"] for entry in body["items"]], rating)
        else:
            assert "rating" not in body["items"][0]


@every_algorithm
def test_unknown_users_get_a_list_that_says_what_it_is_by(name, fitted):
    model = fitted(name)
    client = Client(create_app(model))
    for user, label in (("10000", 10000), ("nobody", "nobody"), (str(2**70), str(2**70))):
        body = checked(client.get("/v1/recommendations", user=user, n=5), schemas.Recommendations)
        expected = model.recommend(label, 5)
        assert items_of(body) == expected["item"].tolist()
        assert {label: body["basis"]} == expected.attrs["fallback"]
        assert body["user"] == label


@every_algorithm
def test_visitors_get_the_lists_of_a_fold_in(name, fitted):
    model = fitted(name)
    client = Client(create_app(model))
    given = {3: 5.0, 8: 4.0, 1: 1.0}
    body = {"ratings": [{"item": item, "rating": value} for item, value in given.items()], "n": 7}
    found = checked(client.post("/v1/recommendations", body), schemas.Recommendations)
    expected = model.fold_in(given, user_id=0).recommend(0, 7)
    assert items_of(found) == expected["item"].tolist()
    assert [entry["score"] for entry in found["items"]] == expected["score"].tolist()
    assert not {1, 3, 8} & set(items_of(found))
    assert found["user"] is None
    assert found["basis"] == expected.attrs["fallback"].get(0, "fold-in")


@every_algorithm
def test_explanations_are_the_librarys_and_add_up(name, fitted):
    model = fitted(name)
    client = Client(create_app(model))
    for top in (50, 2):
        body = checked(client.get("/v1/explanation", user=4, item=9, top=top), schemas.Explanation)
        expected = model.explain(4, 9)
        assert body["score"] == expected.attrs["score"]
        assert body["rank"] == expected.attrs["rank"]
        assert body["without"] == expected.attrs["without"]
        assert sum(part["contribution"] for part in body["parts"]) == pytest.approx(body["score"], abs=1e-9)
        rated = [part for part in body["parts"] if part["part"] == "rating"]
        assert len(rated) == min(top, (expected["part"] == "rating").sum())
        assert [part["rating"] for part in rated] == expected["rating"].dropna().tolist()[:top]


@every_algorithm
def test_reasons_of_lists_are_parts_of_explanations(name, fitted):
    model = fitted(name)
    client = Client(create_app(model))
    body = checked(client.get("/v1/recommendations", user=4, n=5, explain=True), schemas.Recommendations)
    for entry in body["items"]:
        frame = model.explain(4, entry["item"], removals=0)
        scores = (
            model.flat.item_factors @ model.flat.user_factors[model.users.encode([4])[0]]
            + model.flat.item_bias
        )
        parts = frame[(frame["part"] == "rating") & (frame["contribution"] > 0.1 * scores.std())]
        expected = parts[parts["rating"] >= 3].nlargest(3, "contribution")
        assert [reason["item"] for reason in entry["because"]] == expected["item"].tolist()
        np.testing.assert_allclose(
            [reason["contribution"] for reason in entry["because"]], expected["contribution"], rtol=1e-9
        )


@every_algorithm
def test_predictions_are_the_librarys(name, fitted):
    model = fitted(name)
    pairs = [(1, 3), (50, 30), (1, 999), (999, 3), ("x", "y"), ("7", 2)]
    body = {"pairs": [{"user": user, "item": item} for user, item in pairs]}
    found = checked(Client(create_app(model)).post("/v1/predictions", body), schemas.Predictions)
    expected = model.predict([1, 50, 1, 999, 999, 7], [3, 30, 999, 3, 999, 2], clip=True)
    np.testing.assert_array_equal([entry["prediction"] for entry in found["predictions"]], expected)
    assert [entry["basis"] for entry in found["predictions"]] == ["model"] * 2 + ["fallback"] * 3 + ["model"]
    assert [(entry["user"], entry["item"]) for entry in found["predictions"]] == [*pairs[:5], (7, 2)]


def test_no_pairs_have_no_predictions(client):
    assert client.post("/v1/predictions", {"pairs": []}).json()["predictions"] == []


def test_what_the_times_of_pairs_do(ratings):
    timed = replace(ratings, time=np.arange(len(ratings), dtype=np.int64) * 86400 * 30)
    recipe = hx.BayesianMF(factors=2, epochs=20, burn_in=5, draws=4, fields=("user", "item", "time"))
    model = recipe.fit(timed, seed=1, progress=False)
    assert model.time is not None
    pairs = [{"user": 1, "item": 3, "time": 0}, {"user": 1, "item": 3}, {"user": 2, "item": 3, "time": 10**9}]
    found = Client(create_app(model)).post("/v1/predictions", {"pairs": pairs}).json()["predictions"]
    expected = [
        model.predict(1, 3, times=0, clip=True),
        model.predict(1, 3, clip=True),
        model.predict(2, 3, times=10**9, clip=True),
    ]
    assert [entry["prediction"] for entry in found] == pytest.approx(expected, rel=1e-12)
    assert found[0]["prediction"] != found[1]["prediction"]


def test_intervals_and_risk_of_a_posterior(fitted):
    model = fitted("bayesian-mf")
    client = Client(create_app(model))
    body = client.get("/v1/recommendations", user=1, n=5, interval=0.8, risk=0.1).json()
    expected = model.recommend(1, 5, risk=0.1)
    assert items_of(body) == expected["item"].tolist()
    rating, low, high = model.predict(1, expected["item"], interval=0.8, clip=True)
    for name, column in (("rating", rating), ("low", low), ("high", high)):
        np.testing.assert_array_equal([entry[name] for entry in body["items"]], column)
    found = client.post(
        "/v1/predictions", {"pairs": [{"user": 1, "item": 3}, {"user": 9999, "item": 3}], "interval": 0.8}
    )
    rating, low, high = model.predict([1, 9999], 3, interval=0.8, clip=True)
    assert [entry["low"] for entry in found.json()["predictions"]] == low.tolist()
    assert [entry["high"] for entry in found.json()["predictions"]] == high.tolist()
    visitor = client.post(
        "/v1/recommendations", {"ratings": [{"item": 3, "rating": 5}], "interval": 0.8, "n": 3}
    )
    assert all(entry["low"] < entry["rating"] < entry["high"] for entry in visitor.json()["items"])


@pytest.mark.parametrize("option", ["interval", "risk"])
def test_what_takes_a_posterior_is_unsupported_without(option, client):
    expected = (422, "unsupported", f"{option} needs a model with a posterior, and this one is of als")
    assert refusal(client.get("/v1/recommendations", user=1, **{option: 0.5})) == expected
    assert refusal(client.post("/v1/recommendations", {"ratings": [], option: 0.5})) == expected
    if option == "interval":
        assert refusal(client.post("/v1/predictions", {"pairs": [], option: 0.5})) == expected


def test_filters(als, client):
    where = 'year >= 1960 and genres == "Drama"'
    body = client.get(
        "/v1/recommendations",
        user=1,
        n=30,
        where=where,
        among=list(range(1, 30)),
        exclude=["12", "999"],
        exclude_seen=False,
    ).json()
    expected = als.recommend(1, 30, where=where, among=range(1, 30), exclude=[12, 999], exclude_seen=False)
    assert items_of(body) == expected["item"].tolist()
    assert 12 not in items_of(body)
    assert body["short"] == expected.attrs["short"][1]
    assert (
        body["warnings"]
        == expected.attrs["warnings"]
        == ["1 of 2 ids in exclude are unknown to the model: 999"]
    )
    posted = {
        "ratings": [{"item": 2, "rating": 3}],
        "where": where,
        "among": list(range(1, 30)),
        "exclude": ["12"],
        "n": 30,
    }
    for entry in client.post("/v1/recommendations", posted).json()["items"]:
        assert "Drama" in entry["attributes"]["genres"]
        assert entry["item"] not in (2, 12)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("colour == 1", "items have no column 'colour'"),
        ("__import__('os')", "is no condition"),
        ("year >", "cannot be read"),
        ("(" * 900, "cannot be read"),
        ("not " * 240 + "year > 1", "nested too deep, more than 50 times"),
        ("not not year > 1", ""),
    ],
)
def test_conditions_that_make_no_sense_are_refused(where, says, client):
    reply = client.get("/v1/recommendations", user=1, where=where)
    if says:
        status, code, detail = refusal(reply)
        assert (status, code) == (422, "bad-request")
        assert says in detail
    else:
        assert reply.status_code == 200


def test_items_come_with_title_and_attributes(client):
    body = client.get("/v1/recommendations", user=1, n=30, exclude_seen=False).json()
    by_item = {entry["item"]: entry for entry in body["items"]}
    assert by_item[1]["title"] == "Amélie 0"
    assert by_item[1]["attributes"] == {"year": None, "genres": "Comedy"}
    assert by_item[2]["attributes"] == {"year": 1951.0, "genres": "Drama|Crime"}
    assert "title" not in by_item[5]  # it has none


def test_a_model_without_training_rows_says_so(tmp_path, als):
    als.save(tmp_path / "m.hatrix", seen=False)
    client = Client(create_app(tmp_path / "m.hatrix"))
    status, code, detail = refusal(client.get("/v1/recommendations", user=1))
    assert (status, code) == (409, "no-seen")
    assert "exclude_seen=false" in detail
    body = client.get("/v1/recommendations", user=1, exclude_seen=False, explain=True).json()
    assert items_of(body) == als.recommend(1, 10, exclude_seen=False)["item"].tolist()
    assert body["items"][0]["because"] is None
    assert client.get("/v1/recommendations", user="nobody").json()["basis"] == "bias"
    given = {"ratings": [{"item": 3, "rating": 5}]}
    assert 3 not in items_of(client.post("/v1/recommendations", given).json())
    user = checked(client.get("/v1/user", user=1), schemas.UserPage)
    assert (user["ratings"], user["history"]) == (None, [])
    assert client.get("/v1/item", item=1).json()["mean"] is None
    assert "cannot be traced" in client.get("/v1/explanation", user=1, item=1).json()["warnings"][0]
    assert client.get("/v1/model").json()["has_seen"] is False


def test_explanations_to_visitors_and_nobody(als, client):
    given = [{"item": 3, "rating": 5}, {"item": 4, "rating": 1}]
    body = checked(client.post("/v1/explanation", {"ratings": given, "item": 7}), schemas.Explanation)
    expected = als.fold_in({3: 5.0, 4: 1.0}, user_id=0).explain(0, 7)
    assert (body["score"], body["basis"], body["user"]) == (expected.attrs["score"], "fold-in", None)
    nobody = checked(client.get("/v1/explanation", user=999, item=7), schemas.Explanation)
    assert nobody["basis"] == "bias"
    assert nobody["score"] == als.explain(999, 7).attrs["score"]
    assert "nothing is known" in nobody["warnings"][0]
    nothing = client.post("/v1/explanation", {"ratings": [], "item": 7}).json()
    assert nothing["score"] == nobody["score"]


@pytest.mark.parametrize(
    ("path", "more"), [("/v1/item", {}), ("/v1/similar-items", {}), ("/v1/explanation", {"user": 1})]
)
def test_unknown_items_are_not_found(path, more, client):
    for item in ("999", "x", str(2**80), "1.0", " 1", "１"):
        status, code, detail = refusal(client.get(path, item=item, **more))
        assert (status, code) == (404, "unknown-item")
        assert "knows no item" in detail


@pytest.mark.parametrize("path", ["/v1/user", "/v1/similar-users"])
def test_unknown_users_are_not_found_where_one_must_exist(path, client):
    assert refusal(client.get(path, user="nobody"))[:2] == (404, "unknown-user")


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_neighbours_are_the_librarys(metric, als, client):
    body = checked(client.get("/v1/similar-items", item=3, n=5, metric=metric), schemas.Neighbours)
    expected = als.similar_items(3, 5, metric=metric)
    assert items_of(body) == expected["item"].tolist()
    assert [entry["score"] for entry in body["items"]] == expected["score"].tolist()
    body = checked(client.get("/v1/similar-users", user=3, n=100, metric=metric), schemas.Neighbours)
    expected = als.similar_users(3, 100, metric=metric)
    assert [entry["user"] for entry in body["users"]] == expected["user"].tolist()
    assert body["short"] == expected.attrs["short"][3]


def test_models_without_factors_have_no_neighbours(fitted):
    client = Client(create_app(fitted("bias")))
    for path, what in (("/v1/similar-items", {"item": 3}), ("/v1/similar-users", {"user": 3})):
        assert refusal(client.get(path, **what))[:2] == (422, "unsupported")


def test_a_cold_item_has_no_neighbours_and_the_reply_says_why(ratings):
    kept = ratings.item != 4
    parts = {name: getattr(ratings, name)[kept] for name in ("user", "item", "value")}
    model = hx.ALS(factors=3).fit(replace(ratings, **parts), progress=False)
    body = checked(Client(create_app(model)).get("/v1/similar-items", item=5), schemas.Neighbours)
    assert body["items"] == []
    assert "no training ratings" in body["short"]


def test_search(als, client):
    body = checked(client.get("/v1/items", q="the MATRIX"), schemas.Items)
    found = items_of(body)
    assert set(found) == {at + 1 for at in range(30) if at % 5 in (2, 3)}
    counts = [entry["ratings"] for entry in body["items"]]
    assert counts == sorted(counts, reverse=True)
    assert set(items_of(client.get("/v1/items", q="amelie 0").json())) == {1, 11, 21}
    assert items_of(client.get("/v1/items", q="12").json())[0] == 12  # the id, before titles
    assert client.get("/v1/items", q="zzz").json()["items"] == []
    everything = client.get("/v1/items", n=1000).json()
    assert everything["total"] == len(everything["items"]) == 30
    assert [entry["ratings"] for entry in everything["items"]] == sorted(
        als.item_count.tolist(), reverse=True
    )
    pages = [client.get("/v1/items", n=7, offset=offset).json() for offset in range(0, 35, 7)]
    assert [item for page in pages for item in items_of(page)] == items_of(everything)


def test_an_item(als, ratings, client):
    body = checked(client.get("/v1/item", item=3), schemas.ItemPage)
    values = ratings.value[ratings.item == 2]
    assert body["mean"] == pytest.approx(values.mean())
    assert body["ratings"] == len(values)
    assert body["bias"] == als.item_bias[2]
    assert body["rank"] == 1 + items_of(client.get("/v1/items", n=1000).json()).index(3)


def test_users(als, client):
    body = checked(client.get("/v1/users", n=1000), schemas.Users)
    assert [entry["ratings"] for entry in body["users"]] == sorted(als.user_count.tolist(), reverse=True)
    found = [entry["user"] for entry in client.get("/v1/users", q="4").json()["users"]]
    assert found[0] == 4
    assert set(found) == {4, 14, 24, 34, *range(40, 50)}


def test_a_user(als, ratings, client):
    body = checked(client.get("/v1/user", user=3), schemas.UserPage)
    mine = ratings.user == 2
    assert {entry["item"]: entry["rating"] for entry in body["history"]} == dict(
        zip((ratings.item[mine] + 1).tolist(), ratings.value[mine].tolist(), strict=True)
    )
    values = [entry["rating"] for entry in body["history"]]
    assert values == sorted(values, reverse=True)
    assert {entry["source"] for entry in body["history"]} == {"training"}
    assert body["ratings"] == body["total"] == mine.sum()
    assert body["mean"] == pytest.approx(ratings.value[mine].mean())
    assert body["bias"] == als.user_bias[2]
    assert body["attributes"] == {"age": 2.0}
    assert len(client.get("/v1/user", user=3, n=2).json()["history"]) == 2


@every_algorithm
def test_the_card(name, fitted):
    model = fitted(name)
    body = checked(Client(create_app(model)).get("/v1/model"), schemas.Card)
    assert (body["algorithm"], body["task"]) == (name, model.task)
    assert body["hyperparameters"] == model.recipe.model_dump(mode="json")
    assert (body["users"], body["items"], body["ratings"]) == (50, 30, 700)
    assert body["scale"] == list(model.scale)
    assert body["levels"] == [1, 2, 3, 4, 5]
    assert body["factors"] == SMALL[name].get("factors", 0)
    assert body["has_intervals"] == (name == "bayesian-mf")
    assert body["has_titles"]
    assert body["has_attributes"]
    kinds = str(model.item_table["genres"].dtype), ["Comedy", "Crime", "Drama"]
    assert body["attributes"][2] == {"name": "genres", "type": kinds[0], "values": kinds[1]}
    assert len(body["history"]) == len(model.history)
    assert body["feedback"] is False


def test_clicks(ratings):
    clicks = hx.Ratings.from_columns((ratings.user + 1).tolist(), (ratings.item + 1).tolist(), implicit=True)
    model = hx.ImplicitALS(factors=3).fit(clicks, progress=False)
    client = Client(create_app(model))
    assert model.scale is None
    body = client.post("/v1/recommendations", {"ratings": [{"item": 3, "rating": 12.5}]}).json()
    assert items_of(body) == model.fold_in({3: 12.5}, user_id=0).recommend(0)["item"].tolist()
    for count in (0, -1, 1e9):
        reply = client.post("/v1/recommendations", {"ratings": [{"item": 3, "rating": count}]})
        assert refusal(reply)[:2] == (422, "bad-request")
    assert client.get("/v1/model").json()["scale"] is None


@every_algorithm
def test_all_that_a_visitor_waits_for_is_there_before_the_first(name, fitted, monkeypatch):
    service = create_app(fitted(name)).state.service
    asked = []
    monkeypatch.setattr(
        "hatrix.app.recommending.visitor_of", lambda *given: asked.append(given) or visitor_of(*given)
    )
    service.prepare(service.served)
    assert [len(ratings) for _, ratings in asked] == [1]
