"""Charts in notebooks: each output draws itself without a network, whatever shows it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from hatrix.evaluation import charts, notebook

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script></iframe><img src=x onerror='parent.hit=1'>\"&"
CELLS = (
    """import hatrix as hx
from hatrix.evaluation import charts
ratings, _ = hx.synthetic.make(60, 40, n_ratings=1200, seed=1)
split = hx.split.per_user(ratings)
found = hx.compare([hx.Bias(), hx.BiasedMF(factors=4, epochs=5)], split, progress=False)
result = found["biased-mf"].evaluation""",
    "charts.loss(result.model.history)",
    "charts.slices(result.anatomy.by_activity, by='activity')",
    "found.chart()",
    "found.chart('size_in_bytes').properties(width=300)",
    "hx.cross_validate(hx.Bias(), ratings, folds=3, seed=0).chart()",
    "search = hx.tune(hx.BiasedMF(epochs=4), split.train, trials=3, progress=False)",
    "search.chart()",
    "search.chart('regularization')",
)
SHOWN = 7
CHART = charts.rounded_errors(pd.DataFrame({"error": [0, 1], "count": [7, 3]}))


@pytest.fixture(scope="module")
def outputs() -> list[Any]:
    """What a notebook kept of its cells."""
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    NotebookClient(made, timeout=300, kernel_name="python3").execute()
    nbformat.validate(made)
    return [
        output for cell in made.cells for output in cell.outputs if output.output_type == "execute_result"
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to look at a notebook in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


def look(browser: Any, outputs: list[str], way: str, folder: Path) -> list[dict[str, Any]]:
    """What a browser without a network draws of outputs that stand in a page, or that a script puts there."""
    wrapped = "".join(f'<div class="output">{output}</div>' for output in outputs)
    if way == "exported":
        page_text = f"<!doctype html><meta charset=utf-8><body>{wrapped}</body>"
    else:
        page_text = (
            "<!doctype html><meta charset=utf-8><body><script>document.body.innerHTML = "
            + json.dumps(wrapped).replace("</", "<\\/")
            + "</script></body>"
        )
    (folder / f"{way}.html").write_text(page_text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 900, "height": 700}, offline=True)
    context.set_default_timeout(120_000)
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((folder / f"{way}.html").as_uri())
    drawn = []
    for frame in page.locator("iframe").all():
        inside = frame.element_handle().content_frame()
        inside.wait_for_selector("html[data-chart=drawn]")
        drawn.append(
            {
                "marks": inside.locator(".role-mark path").count(),
                "text": inside.locator("svg").first.text_content(),
                "fits": inside.evaluate("document.documentElement.scrollHeight <= innerHeight"),
                "height": frame.bounding_box()["height"],
            }
        )
    page.screenshot(path=folder / f"{way}.png", full_page=True)
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "about:"))] == []
    assert page.evaluate("window.hit") is None
    context.close()
    return drawn


@pytest.mark.parametrize("way", ["exported", "live"])
def test_every_chart_of_a_notebook_is_drawn_without_a_network(
    browser: Any, outputs: list[Any], way: str, tmp_path: Path
) -> None:
    pages = [output.data["text/html"] for output in outputs]
    assert len(pages) == SHOWN
    for one in look(browser, pages, way, tmp_path):
        assert one["marks"] >= 1, one
        assert one["fits"], one
        assert one["height"] > notebook.LEAST, one


def test_an_output_is_small_and_names_no_address(outputs: list[Any]) -> None:
    for output in outputs:
        shown = output.data["text/html"]
        assert len(shown) < 450_000
        assert shown.count('id="libraries"') + shown.count("id=&#34;libraries&#34;") <= 1
        assert not re.search(r"(src|href)=[\"'&]", shown.split("srcdoc")[0])
        assert output.data["text/plain"].startswith("<chart: ")


def test_hostile_labels_are_text(browser: Any, tmp_path: Path) -> None:
    table = pd.DataFrame({"slice": [HOSTILE], "count": [40], "rmse": [0.9], "bias": [0.1]})
    chart = charts.slices(table, by=HOSTILE, measure="error")
    chart.description = HOSTILE
    [drawn] = look(browser, [chart._repr_mimebundle_()["text/html"]], "exported", tmp_path)
    assert "</script></iframe>" in drawn["text"]


def test_a_frame_says_what_its_chart_shows() -> None:
    shown = CHART._repr_mimebundle_()
    words = "Number of test ratings by absolute error of the rounded prediction"
    assert shown["text/plain"] == f"<chart: {words}>"
    assert f'title="{words}"' in shown["text/html"]


def test_a_chart_that_is_changed_is_still_drawn_without_a_network() -> None:
    for changed in (CHART.properties(width=100), CHART.interactive(), CHART.copy(), CHART + CHART.layer[0]):
        assert "srcdoc" in changed._repr_mimebundle_()["text/html"]


def test_another_renderer_that_was_chosen_is_used() -> None:
    with alt.renderers.enable("mimetype"):
        assert "text/html" not in CHART._repr_mimebundle_()
        assert alt.renderers.active == "mimetype"
    CHART._repr_mimebundle_()
    assert alt.renderers.active == "default"


def test_charts_of_others_are_left_alone_unless_the_renderer_is_chosen() -> None:
    other = alt.Chart(pd.DataFrame({"a": [1]})).mark_bar().encode(x="a")
    assert "srcdoc" not in str(other._repr_mimebundle_())
    with alt.renderers.enable(notebook.RENDERER):
        assert html.unescape(other._repr_mimebundle_()["text/html"]).count("Content-Security-Policy") == 1


def test_altair_is_imported_when_a_chart_is_drawn_only() -> None:
    text = "import sys, hatrix, hatrix.evaluation.charts; sys.exit('altair' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
