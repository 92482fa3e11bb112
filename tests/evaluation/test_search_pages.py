"""The pages of comparisons and searches in a real browser, under their own strict content policy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hatrix as hx

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><img src=x onerror='window.hit=1'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to look at the pages in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(split: hx.Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    mixed = {HOSTILE: hx.BiasedMF(factors=4, epochs=5), "spectral": hx.SpectralMF(factors=4)}
    hx.compare(mixed, split, progress=False).report(folder / "compare.html", command=HOSTILE)
    space = {"factors": (2, 8, "log"), "schedule": ["constant", "decay"], "regularization": (0.0, 0.2)}
    found = hx.tune(hx.BiasedMF(epochs=6), split.train, trials=8, space=space)
    found.report(folder / "tune.html", title=HOSTILE)
    return {"compare": folder / "compare.html", "tune": folder / "tune.html"}


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize(("name", "charts"), [("compare", 4), ("tune", 4)])
def test_a_browser_draws_every_chart_and_complains_of_nothing(browser, pages, name, charts, width):
    context = browser.new_context(viewport={"width": width, "height": 800})
    context.set_default_timeout(120_000)
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(pages[name].as_uri())
    page.wait_for_function("document.documentElement.dataset.charts === 'drawn'")
    assert complaints == []
    assert requests == [pages[name].as_uri()]
    assert page.evaluate("window.hit") is None
    drawn = page.eval_on_selector_all(
        ".chart",
        """charts => charts.map(chart => ({
            id: chart.id,
            points: chart.querySelectorAll('.role-mark path').length,
            wide: chart.querySelector('svg')?.getBoundingClientRect().width ?? 0,
            room: chart.getBoundingClientRect().width,
        }))""",
    )
    assert len(drawn) == charts
    for chart in drawn:
        assert chart["points"] > 1, chart
        assert 0.9 * chart["room"] < chart["wide"] <= chart["room"] + 1, chart
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
