"""The page's data against the library's own answers, and how the page's files are sent."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from catalogue import films, folder

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient

from hatrix.app import assets, projection
from hatrix.app.census import gini, lorenz
from hatrix.app.service import create_app

SLICES = {
    "rating": "by_rating",
    "activity": "by_activity",
    "popularity": "by_popularity",
    "genre": "by_genre",
}
SLICES |= {"decade": "by_decade", "period": "by_period"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("rated"), hx.BiasedMF(factors=6), films())


@pytest.fixture(scope="module")
def client(path: Path) -> TestClient:
    return TestClient(create_app(path))


@pytest.fixture(scope="module")
def result(path: Path) -> hx.Evaluation:
    return hx.evaluate(hx.load(path), hx.read(path.with_name("test.parquet")), seed=hx.load(path).seed)


def told(client: TestClient, address: str, **query: Any) -> dict[str, Any]:
    """The reply, waited for."""
    for _ in range(1200):
        reply = client.get(address, params=query)
        if reply.status_code != 202:
            assert reply.status_code == 200, reply.text
            return dict(reply.json())
        assert reply.headers["retry-after"] == "1"
        time.sleep(0.1)
    raise AssertionError(f"{address} is never done")


def ranking_client(home: Path) -> TestClient:
    return TestClient(create_app(folder(home, hx.BPR(factors=4, epochs=10), films())))


def test_the_overview_has_the_errors_of_the_test_rows(client: TestClient, result: hx.Evaluation) -> None:
    overview = told(client, "/v1/overview")
    assert overview["untested"] is None
    assert overview["title"] == "BiasedMF on films"
    assert overview["tiles"][0]["value"] == f"{result.rmse:.3f}"
    table = next(
        table
        for section in overview["sections"]
        for part in section["parts"]
        for table in part["tables"]
        if table["caption"].startswith("Error on")
    )
    assert [row[0] for row in table["rows"]][0::2] == ["BiasedMF", "bias"]
    train = hx.split.per_user(films()).train
    bias = hx.evaluate(hx.Bias().fit(train, seed=42, progress=False), result.test)
    assert table["rows"][2][1][0] == f"{bias.rmse:.4f}"
    facts = dict(
        fact for section in overview["sections"] for part in section["parts"] for fact in part["facts"]
    )
    assert facts["Version served"] == overview["model"]
    assert "Python" not in facts


def test_what_run_recorded_is_told_of_its_model_alone(path: Path, tmp_path: Path) -> None:
    model = hx.load(path)
    facts = {"algorithm": "biased-mf", "seed": model.seed, "n_train": int(model.user_count.sum())}
    test = hx.read(path.with_name("test.parquet"))
    read = {"records": 9, "accepted": 8, "rejected": 1, "blank": 0, "header": 0, "duplicates": 0}
    for n_test, known in ((len(test), True), (len(test) + 1, False)):
        home = tmp_path / str(n_test)
        home.mkdir()
        for name in ("model.hatrix", "test.parquet"):
            (home / name).write_bytes(path.with_name(name).read_bytes())
        recorded = {
            **facts,
            "n_test": n_test,
            "split": "per_user 0.2, seed 42",
            "read": {**read, "errors": [["/home/ann/ratings.csv", 3, "no number"]]},
        }
        (home / "metrics.json").write_text(json.dumps(recorded))
        client = TestClient(create_app(home / "model.hatrix"))
        assert ("per_user 0.2" in told(client, "/v1/overview")["lead"]) == known
        data = told(client, "/v1/data")
        assert (data["read"] == {**read, "errors": [["ratings.csv", 3, "no number"]]}) == known
        assert (data["unread"] is None) == known


def test_every_slice_of_the_charts_leads_to_its_rows(client: TestClient, result: hx.Evaluation) -> None:
    frame = result.predictions()
    for by, attribute in SLICES.items():
        for row in getattr(result.anatomy, attribute).itertuples():
            found = told(client, "/v1/errors/rows", slice=by, key=row.slice, n=200)
            assert found["count"] == row.count, (by, row.slice)
            rows = pd.DataFrame(found["rows"])
            assert len(rows) == min(row.count, 200)
            assert rows["error"].abs().is_monotonic_decreasing
            if row.count <= 200:
                assert np.sqrt((rows["error"] ** 2).mean()) == pytest.approx(row.rmse)
    all_of_them = told(client, "/v1/errors/rows", n=3)
    assert all_of_them["count"] == len(frame)
    worst = frame.loc[frame["error"].abs().nlargest(3).index]
    assert [row["error"] for row in all_of_them["rows"]] == pytest.approx(worst["error"].tolist())


def test_rows_of_a_user_and_of_an_item(client: TestClient, result: hx.Evaluation) -> None:
    frame = result.predictions()
    for side in ("user", "item"):
        for label in frame[side].unique()[:5]:
            rows = told(client, "/v1/errors/rows", slice=side, key=str(label), n=200)["rows"]
            assert {row[side] for row in rows} == {label}
            assert len(rows) == (frame[side] == label).sum()
    one, two = (told(client, "/v1/errors/rows", n=5, offset=offset)["rows"] for offset in (0, 3))
    assert one[3:] == two[:2]
    assert len(told(client, "/v1/errors/rows", n=1000)["rows"]) == min(1000, len(frame))
    assert told(client, "/v1/errors/rows", slice="user", key="nobody")["rows"] == []
    assert told(client, "/v1/errors/rows", slice="genre", key="no such")["count"] == 0
    assert client.get("/v1/errors/rows", params={"slice": "moon"}).json()["code"] == "validation"
    assert client.get("/v1/errors/rows", params={"n": 0}).status_code == 422


def test_rankings_show_what_lists_missed_first(tmp_path: Path) -> None:
    client = ranking_client(tmp_path)
    errors = told(client, "/v1/errors")
    assert [section["key"] for section in errors["sections"]] == ["lengths", "users", "items"]
    model, test = hx.load(tmp_path / "model.hatrix"), hx.read(tmp_path / "test.parquet")
    result = hx.evaluate_ranking(model, test, k=(20, 5, 10, 50), seed=model.seed)
    for by, table in (("activity", result.by_activity), ("popularity", result.by_popularity)):
        for row in table.itertuples():
            rows = told(client, "/v1/errors/rows", slice=by, key=row.slice, n=200)
            if by == "popularity":
                assert rows["count"] == row.count
            places = [one["place"] for one in rows["rows"]]
            missed = [place is None for place in places]
            assert missed == sorted(missed, reverse=True)
    user = int(model.users.decode(result.users[:1])[0])
    rows = told(client, "/v1/errors/rows", slice="user", key=str(user))["rows"]
    listed = model.recommend(user, 50)["item"].tolist()
    assert rows
    for row in rows:
        assert row["place"] == (listed.index(row["item"]) + 1 if row["item"] in listed else None)


def test_without_test_rows_it_says_so(path: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.hatrix").write_bytes(path.read_bytes())
    client = TestClient(create_app(tmp_path / "alone.hatrix"))
    overview = told(client, "/v1/overview")
    assert "--test" in overview["untested"]
    assert overview["tiles"][0] == {
        "name": "Training ratings",
        "value": f"{int(hx.load(path).user_count.sum()):,}",
        "note": "",
    }
    assert told(client, "/v1/errors")["untested"] == overview["untested"]
    assert told(client, "/v1/errors/rows")["rows"] == []
    assert any(section["key"] == "training" for section in overview["sections"])
    (tmp_path / "bad.csv").write_text("one,two\n1,2\n")
    broken = TestClient(create_app(tmp_path / "alone.hatrix", test=tmp_path / "bad.csv"))
    assert "bad.csv cannot be read" in told(broken, "/v1/overview")["untested"]
    (tmp_path / "clicks.csv").write_text("user,item\n1,2\n1,3\n")
    clicks = TestClient(create_app(tmp_path / "alone.hatrix", test=tmp_path / "clicks.csv"))
    assert told(clicks, "/v1/errors")["task"] == "ranking"


def test_a_model_without_training_rows_or_titles_is_shown_too(tmp_path: Path) -> None:
    split = hx.split.per_user(films(titles=False))
    hx.BiasedMF(factors=3, epochs=2).fit(split.train, progress=False).save(tmp_path / "m.hatrix", seen=False)
    client = TestClient(create_app(tmp_path / "m.hatrix"))
    assert told(client, "/v1/overview")["tiles"]
    assert told(client, "/v1/data")["figures"][0]["key"] == "tail"
    atlas = told(client, "/v1/map")
    assert "titles" not in atlas
    assert atlas["genres"] is None
    audience = told(client, "/v1/audience", item="1")
    assert audience["figures"] == audience["raters"] == []
    assert audience["listed"]["users"] == len(split.train.users)


def test_who_would_get_an_item(client: TestClient, path: Path) -> None:
    model = hx.load(path)
    lists = model.recommend(model.users.labels.tolist(), 10)
    for item in (1, 20, 60):
        found = told(client, "/v1/audience", item=str(item))
        having = lists[lists["item"] == item]
        assert found["listed"]["count"] == len(having)
        assert {one["user"] for one in found["listed"]["first"]} <= set(having["user"])
        place = lists.groupby("user").cumcount() + 1
        for one in found["listed"]["first"]:
            row = (lists["user"] == one["user"]) & (lists["item"] == item)
            assert place[row].item() == one["place"]
        [bars] = found["figures"][0]["spec"]["datasets"].values()
        assert sum(bar["count"] for bar in bars) == model.item_count[item - 1]
        assert [bar["label"] for bar in bars] == ["1", "2", "3", "4", "5"]
    reply = client.get("/v1/audience", params={"item": "no such"})
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown-item")


def test_the_map_is_the_same_each_time_and_keeps_neighbours(client: TestClient, path: Path) -> None:
    pytest.importorskip("openTSNE", reason="the extra map is not installed")
    atlas = told(client, "/v1/map")
    assert "t-SNE" in atlas["method"]
    other = TestClient(create_app(path))
    assert told(other, "/v1/map") == atlas
    places = np.column_stack([atlas["x"], atlas["y"]])
    assert np.abs(places).max() <= 1
    assert atlas["count"] == sorted(atlas["count"], reverse=True)
    model = hx.load(path)
    row = {item: at for at, item in enumerate(atlas["item"])}
    near = [row[item] for item in model.similar_items(1, 5)["item"] if item in row]
    distance = np.linalg.norm(places - places[row[1]], axis=1)
    assert distance[near].mean() < distance.mean()


def test_without_open_tsne_the_map_is_of_principal_components(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "openTSNE":
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    model = hx.load(path)
    found = projection.project(model)
    assert "principal components" in found.method
    rows = model.item_factors[found.items].astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows -= rows.mean(axis=0)
    first = np.linalg.svd(rows)[2][0]
    assert abs(np.corrcoef(rows @ first, found.places[:, 0])[0, 1]) > 0.99


def test_a_model_without_factors_has_no_map(tmp_path: Path) -> None:
    client = TestClient(create_app(folder(tmp_path, hx.Bias(), films())))
    assert "no factors" in told(client, "/v1/map")["missing"]


def test_gini_and_lorenz_are_what_they_are_called() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 7, 500):
        count = rng.geometric(0.1, size)
        pairs = np.abs(count[:, None] - count[None, :]).mean() / (2 * count.mean())
        assert gini(count) == pytest.approx(pairs)
        curve = lorenz(count)
        assert curve[0] == 0
        assert curve[-1] == pytest.approx(1)
        assert (np.diff(curve) >= 0).all()
        assert (np.diff(curve, 2) >= -1e-12).all()
        if size == 500:
            trapezoids = ((curve[1:] + curve[:-1]) / 2).mean()
            assert 1 - 2 * trapezoids == pytest.approx(gini(count), abs=0.01)
    assert gini(np.zeros(4, np.int64)) == gini(np.empty(0, np.int64)) == 0


def test_the_data_are_counted(client: TestClient, path: Path) -> None:
    model = hx.load(path)
    facts = dict(told(client, "/v1/data")["facts"])
    n = int(model.user_count.sum())
    assert facts["Training ratings"] == f"{n:,}"
    assert facts["Filled cells"] == f"{n / (len(model.users) * len(model.items)):.3%}"
    assert facts["Gini index over items"] == f"{gini(model.item_count):.3f}"


def test_starters_are_known_and_differ(client: TestClient, path: Path) -> None:
    found = told(client, "/v1/starters")["items"]
    model = hx.load(path)
    assert 10 <= len(found) <= 20
    assert found[0]["count"] == model.item_count.max()
    assert len({one["item"] for one in found}) == len(found)
    rows = model.item_factors[model.items.encode([one["item"] for one in found])].astype(float)
    popular = model.item_factors[np.argsort(-model.item_count)[: len(found)]].astype(float)

    def likeness(rows: np.ndarray) -> float:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].max())

    assert likeness(rows) < likeness(popular)


def test_long_work_is_answered_at_once_and_done_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, released = [], threading.Event()

    def slow(_: hx.FactorModel) -> projection.Projection:
        calls.append(1)
        assert released.wait(120)
        return projection.Projection(np.arange(3), np.zeros((3, 2)), "slow")

    monkeypatch.setattr("hatrix.app.views.project", slow)
    client = TestClient(create_app(path))
    first = client.get("/v1/map")  # without waiting for the work, which is not let go on before
    assert first.status_code == 202
    assert first.json()["working"]
    released.set()
    assert told(client, "/v1/map")["method"] == "slow"
    assert told(client, "/v1/map")["method"] == "slow"
    assert len(calls) == 1


def test_work_that_failed_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: hx.FactorModel) -> projection.Projection:
        raise MemoryError

    monkeypatch.setattr("hatrix.app.views.project", broken)
    client = TestClient(create_app(path), raise_server_exceptions=False)
    assert client.get("/v1/map").status_code >= 500
    monkeypatch.undo()
    assert told(client, "/v1/map")["missing"] is None


def test_a_new_model_has_its_own_figures(path: Path, tmp_path: Path) -> None:
    other = folder(tmp_path, hx.Bias(), films())
    app = create_app(path)
    client = TestClient(app)
    first = told(client, "/v1/overview")
    app.state.service.live.current = create_app(other).state.service.live.current
    second = told(client, "/v1/overview")
    assert first["model"] != second["model"]
    assert (first["title"], second["title"]) == ("BiasedMF on films", "Bias on films")


def test_a_test_file_that_is_replaced_beside_the_same_model_is_measured_anew(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = []
    monkeypatch.setattr(
        "hatrix.app.views.project",
        lambda _: mapped.append(1) or projection.Projection(np.arange(3), np.zeros((3, 2)), "quick"),
    )
    (tmp_path / "model.hatrix").write_bytes(path.read_bytes())
    client = TestClient(create_app(tmp_path / "model.hatrix"))
    model, test = hx.load(path), hx.read(path.with_name("test.parquet"))
    place = tmp_path / "test.parquet"
    assert "--test" in told(client, "/v1/overview")["untested"]
    told(client, "/v1/map")
    for rows in (slice(None), slice(0, len(test) // 2)):  # a file that comes, and another one in its place
        part = test.take(rows)
        part.to_frame().to_parquet(tmp_path / "new")
        (tmp_path / "new").replace(place)
        assert told(client, "/v1/overview")["tiles"][0]["value"] == f"{hx.evaluate(model, part).rmse:.3f}"
        assert told(client, "/v1/errors/rows")["count"] == len(part)
        assert dict(told(client, "/v1/data")["facts"])["Test ratings"] == f"{len(part):,}"
    facts = {"algorithm": "biased-mf", "seed": model.seed, "n_train": int(model.user_count.sum())}
    facts |= {"n_test": len(part), "split": "a split of its own"}
    (tmp_path / "metrics.json").write_text(json.dumps(facts))
    assert "a split of its own" in told(client, "/v1/overview")["lead"]
    place.unlink()
    assert "--test" in told(client, "/v1/overview")["untested"]
    told(client, "/v1/map")
    assert mapped == [1]


def test_users_who_are_gone_are_not_shown(path: Path) -> None:
    app = create_app(path)

    class Gone:
        def refresh(self) -> None: ...

        def deleted(self, user: Any) -> bool:
            return bool(user == shown)

        def of(self, _: Any) -> dict[Any, float]:
            return {}

    client = TestClient(app)
    shown = told(client, "/v1/audience", item="1")["raters"][0]["user"]
    service = app.state.service
    beside = service.beside(service.served)
    service._beside[service.served] = beside._replace(feedback=Gone())
    found = told(client, "/v1/audience", item="1")
    assert found["raters"]
    assert shown not in {one["user"] for one in found["raters"] + found["listed"]["first"]}
    rows = told(client, "/v1/errors/rows", slice="user", key=str(shown))
    assert (rows["count"], rows["rows"]) == (0, [])


# ------------------------------------------------------------------------------------------------ files


def test_the_page_has_a_strict_policy_and_nothing_inline(client: TestClient) -> None:
    reply = client.get("/")
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert reply.headers["content-type"].startswith("text/html")
    assert "<style" not in reply.text
    assert "style=" not in reply.text
    for script in reply.text.split("<script")[1:]:
        assert script.split(">", 1)[1].startswith("</script")


def test_files_are_packed_and_sent_once(client: TestClient) -> None:
    for name in (
        "app.js",
        "style.css",
        "vendor/vega/vega.min.js",
        "vendor/htm-preact.module.js",
        "look.json",
    ):
        plain = client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.status_code == 200, name
        assert "content-encoding" not in plain.headers
        packed = client.get(f"/page/{name}", headers={"Accept-Encoding": "gzip"})
        assert packed.content == plain.content
        again = client.get(f"/page/{name}", headers={"If-None-Match": plain.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
    text = assets.files()["vendor/vega/vega.min.js"]
    assert text.packed is not None
    assert gzip.decompress(text.packed) == text.data


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "../views.py", "%2e%2e/views.py", "vendor", "/etc/passwd", "app.js/"]
)
def test_no_other_file_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_a_service_without_the_page_has_none(path: Path) -> None:
    client = TestClient(create_app(path, page=False))
    for address in ("/", "/page/app.js", "/v1/overview", "/v1/map"):
        assert client.get(address).status_code == 404
    assert client.get("/v1/items").status_code == 200


def test_the_vendored_files_are_those_listed() -> None:
    vendor = Path(assets.__file__).parent / "page" / "vendor"
    listed = json.loads((vendor / "VENDORED.json").read_text())["files"]
    assert {entry["file"] for entry in listed} == {path.name for path in vendor.glob("*.js")}
    licences = (vendor / "LICENSES.txt").read_text()
    for entry in listed:
        assert hashlib.sha256((vendor / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        for package in (entry["package"], *entry["contains"]):
            assert package in licences
