"""The report: self-contained, inert to hostile data, complete, and drawn without complaint in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hatrix as hx
from hatrix.errors import DataError, ParameterError
from hatrix.evaluation import report, sections
from hatrix.models import ALGORITHMS, algorithm

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script>",
    "<!--<script>",
    "]]><img src=x onerror=window.hit=3>",
    '" onmouseover="window.hit=4" x=\'',
    "{{ 7 * 7 }}{% raw %}",
    "a\u2028b\u2029c\u202ed\x00e",
    "javascript:window.hit=5",
    "&lt;b&gt; &amp; <b>",
    "很长的标题" * 60,
    "x" * 500,
]
NAMES = ["by_rating", "by_activity", "by_popularity", "by_genre", "by_decade", "by_period"]


def ratings(n_users: int = 40, n_items: int = 30) -> hx.Ratings:
    """Ratings of items whose ids, titles and genres are hostile."""
    rng = np.random.default_rng(0)
    user, item = (grid.ravel() for grid in np.meshgrid(np.arange(n_users), np.arange(n_items)))
    kept = rng.random(len(user)) < 0.6
    user, item = user[kept], item[kept]
    value = np.clip(np.round(3.2 + rng.normal(0, 1, n_items)[item] + rng.normal(0, 0.8, len(item))), 1, 5)
    labels = np.array([f"{i} {HOSTILE[i % 6]}" for i in range(n_items)], object)
    found = hx.Ratings.from_columns(user, labels[item], value, scale=(1, 5), name=HOSTILE[1])
    titles = [HOSTILE[i % len(HOSTILE)] for i in range(n_items)]
    return replace(found, item_table=pd.DataFrame({"title": titles}))


def by(table: pd.DataFrame, part: Any) -> pd.DataFrame:
    """Error and bias of the parts, with made-up intervals."""
    rows = []
    for name, rows_of in table.groupby(part, observed=True):
        error = rows_of["error"]
        rmse, bias = float((error**2).mean() ** 0.5), float(error.mean())
        row = {"slice": str(name), "count": len(error), "rmse": rmse, "mae": float(error.abs().mean())}
        row |= {"rmse_low": rmse * 0.95, "rmse_high": rmse * 1.05}
        rows.append(row | {"bias": bias, "bias_low": bias - 0.05, "bias_high": bias + 0.05})
    return pd.DataFrame(rows)


def handmade(model: hx.FactorModel, test: hx.Ratings, **changed: Any) -> Any:
    """An evaluation with simple tables; ``changed`` replaces parts of its anatomy."""
    user, item = model.rows_of(test)
    raw, predicted = model.predict_rows(user, item), model.predict_rows(user, item, clip=True)
    assert test.item_table is not None
    table = pd.DataFrame(
        {
            "user": test.users.decode(test.user),
            "item": test.items.decode(test.item),
            "title": test.item_table["title"].to_numpy()[test.item],
            "rating": test.value,
            "predicted": predicted,
            "error": predicted - test.value,
            "user_count": model.user_count[user],
            "item_count": model.item_count[item],
        }
    )
    genre = np.array(HOSTILE, object)[test.item % len(HOSTILE)]
    rounded = pd.Series(np.abs(np.round(raw) - test.value))
    edges = np.arange(-4, 4.5, 0.5)
    whole = table.assign(predicted=np.round(predicted))
    anatomy = {
        **{name: by(table, table["user"] % 3) for name in NAMES},
        "by_rating": by(table, "rating"),
        "by_genre": by(table, genre),
        "by_period": None,
        "rounded_describe": rounded.describe().rename_axis("statistic").reset_index(name="value"),
        "rounded_counts": rounded.value_counts().sort_index().rename_axis("error").reset_index(name="count"),
        "prediction_range": pd.Series(np.round(raw))
        .value_counts()
        .sort_index()
        .rename_axis("predicted")
        .reset_index(name="count"),
        "residuals": pd.DataFrame(
            {"low": edges[:-1], "high": edges[1:], "count": np.histogram(table["error"], edges)[0]}
        ),
        "calibration": pd.DataFrame(
            {
                "predicted": [2.0, 3.0],
                "actual": [2.2, 3.0],
                "actual_low": 2.0,
                "actual_high": 3.2,
                "count": 99,
            }
        ),
        "confusion": whole.groupby(["rating", "predicted"]).size().reset_index(name="count"),
        "worst": table.reindex(table["error"].abs().sort_values(ascending=False).index).head(50),
        "items": table.groupby(["item", "title"])["error"]
        .agg(count="size", rmse=lambda e: (e**2).mean() ** 0.5, bias="mean")
        .reset_index()
        .assign(share=0.05),
    }
    anatomy["confusion"] = anatomy["confusion"].rename(columns={"rating": "actual"})
    figures = {
        name: {
            "mse": float((e**2).mean()),
            "rmse": float((e**2).mean() ** 0.5),
            "mae": float(np.abs(e).mean()),
        }
        for name, e in (
            ("raw", raw - test.value),
            ("clipped", predicted - test.value),
            ("constant", model.fallback - test.value),
        )
    }
    return SimpleNamespace(
        model=model,
        test=test,
        n=len(test),
        is_sampled=False,
        **figures["clipped"],
        raw=SimpleNamespace(**figures["raw"]),
        constant=SimpleNamespace(**figures["constant"]),
        coverage="95 %",
        raw_predicted=raw,
        predicted=predicted,
        intervals={name: (value * 0.9, value * 1.1) for name, value in figures["clipped"].items()},
        clipped_share=float(np.mean(raw != predicted)),
        fallbacks={},
        warnings=(HOSTILE[3],),
        anatomy=SimpleNamespace(**anatomy | changed),
        uncertainty=None,
        options={},
    )


@pytest.fixture(scope="module")
def evaluation() -> Any:
    split = hx.split.per_user(ratings(), 0.3)
    model = hx.BiasedMF(factors=4, epochs=6).fit(split.train, 0.1, progress=False)
    return handmade(model, split.test)


@pytest.fixture(scope="module")
def page(evaluation: Any) -> str:
    return report.render(evaluation, title=HOSTILE[0], baselines={HOSTILE[4]: evaluation}, command=HOSTILE[1])


class Parsed(HTMLParser):
    """Elements, text by element, and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements are nested properly"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_it_is_one_file_that_refers_to_nothing(page: str) -> None:
    parsed = Parsed(page)
    for tag, attributes in parsed.tags:
        assert "src" not in attributes, tag
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert attributes.get("href", "#").startswith("#")
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
    assert not parsed.open
    assert len(page.encode("utf-8", "replace")) < 2_000_000


def test_the_policy_names_exactly_the_scripts_and_styles_inside(page: str) -> None:
    parsed = Parsed(page)
    policy = next(
        m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert "unsafe" not in policy

    def hashes(pattern: str) -> set[str]:
        found = re.findall(pattern, page, re.S)
        return {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in found}

    assert hashes(r"<script>(.*?)</script>") == set(rules["script-src"])
    assert hashes(r"<style>(.*?)</style>") == set(rules["style-src"])
    assert page.index("Content-Security-Policy") < page.index("<script")


def test_hostile_text_is_text(page: str) -> None:
    parsed = Parsed(page)
    code = {"script", "style"}
    shown = "".join("".join(text) for tag, text in parsed.text.items() if tag not in code)
    for payload in HOSTILE[:6]:
        assert payload in shown
    assert "{{ 7 * 7 }}" in shown
    for text in parsed.text["script"]:
        assert "\u2028" not in text or "vega" in text


def test_the_specs_are_strict_json_without_markup(page: str) -> None:
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    assert len(specs) > 10
    for spec in specs:
        assert not set(spec) & set("<>&\u2028\u2029")
        json.loads(spec, parse_constant=lambda name: pytest.fail(f"{name} in a spec"))


def test_every_chart_has_words_and_every_table_a_caption(page: str) -> None:
    parsed = Parsed(page)
    charts = [div for div in parsed.all("div") if div.get("class") == "chart"]
    assert len(charts) == len(parsed.all("figure")) == len(parsed.all("figcaption")) > 10
    assert all(div["aria-label"] for div in charts)
    assert len(parsed.all("table")) == len(parsed.all("caption"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_notebooks_draw_is_reproduced() -> None:
    ratings, _ = hx.synthetic.make(40, 30, n_ratings=600, seed=1)
    split = hx.split.per_user(ratings, seed=7, draw="notebook")
    found = hx.evaluate(hx.Bias().fit(split.train, progress=False), split.test)
    code = dict(sections.story(found, {}).sections[-1].parts[0].code)["In Python"]
    assert "hx.split.per_user(ratings, test=0.2, seed=7, draw='notebook')" in code


def test_it_tells_what_was_done(evaluation: Any) -> None:
    story = sections.story(
        evaluation, {"Bias": evaluation}, protocol="per_user 0.3, seed 42", command="hatrix run x"
    )
    facts = dict(story.sections[0].parts[0].facts)
    assert facts["Training ratings"] == f"{int(evaluation.model.user_count.sum()):,}"
    assert facts["Split"] == "per_user 0.3, seed 42"
    assert facts["Seed"] == "42"
    recipe = story.sections[0].parts[-1].tables[0].rows
    assert [row[0][0] for row in recipe] == list(hx.BiasedMF.model_fields)
    assert next(row[1:] for row in recipe if row[0][0] == "epochs") == ["6", "20"]
    code = dict(story.sections[-1].parts[0].code)
    assert code["On the command line"] == "hatrix run x"
    # With the numbers that the recipe left to the data, so that it is this model.
    assert "hx.BiasedMF(factors=4, epochs=6, " in code["In Python"]
    assert "auto" not in code["In Python"]
    assert "hx.split.per_user(ratings, test=0.3, seed=42)" in code["In Python"]
    compile(code["In Python"], "snippet", "exec")


def test_tables_that_data_cannot_give_are_left_out_with_a_reason(evaluation: Any) -> None:
    bare = handmade(evaluation.model, evaluation.test, by_genre=None, by_decade=None)
    words = report.render(bare)
    assert "By genre: left out, as the data have no genres." in words
    assert "By decade of release: left out, as the data have no release years." in words
    assert "by_genre-error" not in words
    assert "by_rating-error" in words


def test_a_model_without_history_scale_titles_or_large_errors_has_a_report_too(evaluation: Any) -> None:
    plain = replace(evaluation.model, history=pd.DataFrame(), scale=None)
    worst = evaluation.anatomy.worst.head(0)
    costly = evaluation.anatomy.items.assign(title=None)
    bare = handmade(plain, evaluation.test, **dict.fromkeys(NAMES), worst=worst, items=costly, confusion=None)
    words = report.render(bare)
    assert "The model has no training history." in words
    assert "NaN" not in words.split('<script type="application/json"')[0]
    assert ">None<" not in words[words.index("items that cost most") : words.index("How to reproduce")]


def test_a_single_epoch_needs_no_loss_curve(evaluation: Any) -> None:
    model = hx.Bias(epochs=1).fit(evaluation.test, progress=False)
    words = report.render(handmade(model, evaluation.test))
    assert 'id="loss"' not in words
    assert "Training took 1 epoch" in words


def test_it_is_written_whole_or_not_at_all(
    evaluation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    report.write(evaluation, path)
    before = path.read_bytes()
    assert before.startswith(b"<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(ParameterError, match="disk full"):
        report.write(evaluation, path, title="other")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_half_a_surrogate_pair_can_be_written(evaluation: Any, tmp_path: Path) -> None:
    report.write(evaluation, tmp_path / "report.html", title="half \ud800")
    assert "<title>half ?</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_paths_and_baselines_that_cannot_be_are_refused(evaluation: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is a folder"):
        report.write(evaluation, tmp_path)
    with pytest.raises(ParameterError, match="no folder"):
        report.write(evaluation, tmp_path / "missing" / "report.html")
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(ParameterError, match="not a file on disk"):
        report.write(evaluation, tmp_path / "pipe.html")
    (tmp_path / "pipe.html").unlink()
    shorter = SimpleNamespace(n=evaluation.n - 1)
    with pytest.raises(DataError, match="same test part"):
        report.write(evaluation, tmp_path / "report.html", baselines={"Bias": shorter})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


@dataclass
class Visit:
    """What a browser met on the page."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to look at the report in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


def visit(browser: Any, path: Path, **options: Any) -> Visit:
    """Open the file and wait until it has drawn itself."""
    context = browser.new_context(**options)
    context.set_default_timeout(120_000)
    seen = Visit(context.new_page())
    seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => console.error('policy', e.violatedDirective))"
    )
    seen.page.goto(path.as_uri())
    seen.page.wait_for_function("document.documentElement.dataset.charts === 'drawn'")
    return seen


@pytest.fixture(scope="module")
def written(evaluation: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report & <b>.html"
    report.write(evaluation, path, title=HOSTILE[0], baselines={HOSTILE[4]: evaluation}, command=HOSTILE[1])
    return path


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (375, "dark"),
        (1280, "light"),
        *(pytest.param(*other, marks=pytest.mark.campaign) for other in [(375, "light"), (1280, "dark")]),
    ],
)
def test_a_browser_draws_every_chart_and_complains_of_nothing(
    browser: Any, written: Path, width: int, scheme: str
) -> None:
    look_at(browser, written, width, scheme)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_browser_draws_the_charts_of_a_posterior(browser: Any, likelihood: str, tmp_path: Path) -> None:
    split = hx.split.per_user(ratings())
    recipe = hx.BayesianMF(factors=2, epochs=30, burn_in=10, draws=5, likelihood=likelihood)
    result = hx.evaluate(recipe.fit(split.train), split.test, bootstrap=10)
    result.report(tmp_path / "r.html")
    look_at(browser, tmp_path / "r.html", 375, "dark")


def look_at(browser: Any, written: Path, width: int, scheme: str) -> None:
    """Every chart is drawn, fits its room, and nothing is complained of, loaded or run."""
    seen = visit(browser, written, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = seen.page
    assert seen.complaints == []
    assert seen.requests == [written.as_uri()]
    assert page.evaluate("window.hit") is None
    charts = page.eval_on_selector_all(
        ".chart",
        """charts => charts.map(chart => ({
            id: chart.id,
            marks: chart.querySelectorAll('.role-mark path, .role-mark text, .role-mark line').length,
            wide: chart.querySelector('svg')?.getBoundingClientRect().width ?? 0,
            room: chart.getBoundingClientRect().width,
            drawn: chart.querySelector('svg')?.viewBox.baseVal.width ?? 0,
        }))""",
    )
    assert len(charts) > 10
    for chart in charts:
        assert chart["marks"] > 0, chart
        assert 0.9 * chart["room"] < chart["wide"] <= chart["room"] + 1, chart
        assert chart["wide"] > 0.95 * chart["drawn"], "drawn for this width, not shrunk to it"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_a_tooltip_shows_hostile_text_as_text(browser: Any, written: Path) -> None:
    seen = visit(browser, written, viewport={"width": 1280, "height": 800})
    tip = seen.page.locator("#vg-tooltip-element")
    bars = seen.page.locator("#by_genre-error .mark-rect path")
    for index in range(bars.count()):
        bars.nth(index).hover(force=True)
        tip.wait_for(state="visible")
        assert tip.locator("img, script").count() == 0
    assert "RMSE" in tip.inner_text()
    assert seen.page.evaluate("window.hit") is None
    assert seen.complaints == []
    seen.page.context.close()


def test_text_has_contrast_in_light_and_dark(browser: Any, written: Path) -> None:
    measure = """() => {
        const rgb = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const light = color => rgb(color).map(c => c / 255)
            .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const page = light(getComputedStyle(document.body).backgroundColor);
        const low = [];
        const kinds = 'h1, h2, h3, p, th, td, small, figcaption, dt, summary, .chart .role-axis text';
        for (const node of document.querySelectorAll(kinds)) {
            const style = getComputedStyle(node);
            const text = light(node instanceof SVGElement ? style.fill : style.color);
            const ratio = (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05);
            if (ratio < 4.5) low.push(node.tagName + ' ' + ratio);
        }
        return low;
    }"""
    for scheme in ("light", "dark"):
        seen = visit(browser, written, viewport={"width": 1280, "height": 800}, color_scheme=scheme)
        assert seen.page.evaluate(measure) == []
        seen.page.context.close()


def test_without_scripts_the_words_and_numbers_stay(browser: Any, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert page.locator("noscript").count() > 10
    assert page.locator("table").count() > 5
    context.close()


TELLING = (("bayesian-mf", 5.0), ("biased-mf", 5.0), ("implicit-als", 1.0))
"""What `make test` makes a report of; the campaigns take all algorithms."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, marks=() if (name, value) in TELLING else pytest.mark.campaign)
        for name in ALGORITHMS
        for value in (5.0, 1.0)
    ],
)
def test_ratings_that_are_all_the_same_have_a_report(name, value, tmp_path):
    cells = [(user, item) for user in range(14) for item in range(9) if (user * 3 + item) % 4]
    ratings = hx.Ratings.from_columns(*zip(*cells, strict=True), [value] * len(cells))
    split = hx.split.per_user(ratings)
    small = {"bayesian-mf": {"epochs": 20, "burn_in": 2, "draws": 4, "factors": 2}}
    recipe = algorithm(name)(**small.get(name, {}))
    model = recipe.fit(split.train, progress=False)
    baseline = (hx.Bias() if model.task == "rating" else hx.Popular()).fit(split.train, progress=False)
    measured = hx.evaluate if model.task == "rating" else hx.evaluate_ranking
    result, other = measured(model, split.test), measured(baseline, split.test)
    result.report(tmp_path / "report.html", baselines={baseline.recipe.name: other}, protocol=split.protocol)
    text = (tmp_path / "report.html").read_text()
    assert ">nan" not in text.lower()
    assert "inf " not in text
