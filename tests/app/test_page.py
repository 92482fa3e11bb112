"""The page in a real browser: every screen, on a desk and on a phone, in light and in dark, and a way through Rate."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import hatrix as hx
from catalogue import HOSTILE, films, folder

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
import uvicorn

from hatrix.app.service import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENS = {
    "overview": "h1:has-text('BiasedMF on films')",
    "errors": ".chart[data-chart='by_rating-error'] svg",
    "map": ".plane canvas[data-drawn]",
    "items": "#found li a",
    "items/1": ".ranked li a",
    "users": "#found li a",
    "users/1": ".recommended > li",
    "rate": ".cards li",
    "data": ".chart[data-chart='tail'] svg",
}
READY = """() => !document.querySelector('.loading')
    && ![...document.querySelectorAll('.chart')].some(chart => chart.dataset.state === 'drawing'
        && chart.getBoundingClientRect().top < innerHeight && chart.getBoundingClientRect().bottom > 0)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to look at the page in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


class Server:
    """The service of a model, in a thread."""

    def __init__(self, model: Any, *, port: int = 0, **options: Any) -> None:
        self.app = create_app(model, **options)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            self.port = free.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="error")
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 120
        while not self.server.started:
            assert time.monotonic() < deadline, "the service does not start"
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def serve(browser: Any) -> Iterator[Callable[..., str]]:  # noqa: ARG001 - nothing is served where nobody looks
    running: list[Server] = []

    def start(model: Any, **options: Any) -> str:
        running.append(Server(model, **options))
        return running[-1].url

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def rated(serve: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve(folder(tmp_path_factory.mktemp("rated"), hx.BiasedMF(factors=6), films()))


@dataclass
class Visit:
    """A look at the service, and what the browser had to complain of."""

    page: Any
    base: str
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def go(self, where: str, sign: str | None = None) -> Any:
        """Open a screen and wait until it has drawn itself."""
        self.page.goto(f"{self.base}#/{where}")
        self.page.wait_for_timeout(60)  # for the address to be heard of, where the page is open already
        self.ready(sign)
        return self.page

    def ready(self, sign: str | None = None) -> None:
        if sign:
            self.page.locator(sign).first.wait_for(timeout=120_000)
        deadline = time.monotonic() + 120
        while not self.page.evaluate(READY):
            assert time.monotonic() < deadline, f"{self.page.url} is never done"
            self.page.wait_for_timeout(50)


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def visit(base: str, width: int = 1280, scheme: str = "light", **options: Any) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        context.set_default_timeout(120_000)
        contexts.append(context)
        seen = Visit(context.new_page(), base)
        seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
        seen.page.on(
            "request",
            lambda request: (
                None if request.url.startswith((base, "about:")) else seen.elsewhere.append(request.url)
            ),
        )
        seen.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => console.error('policy', e.violatedDirective))"
        )
        return seen

    yield visit
    for context in contexts:
        context.close()


def content(seen: Visit) -> None:
    """Nothing was complained of, nothing came from elsewhere, no data ran as code, and the page fits its width."""
    assert seen.complaints == []
    assert seen.elsewhere == []
    assert seen.page.evaluate("window.hit") is None
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (375, "dark"),
        (1280, "light"),
        *(pytest.param(*other, marks=pytest.mark.campaign) for other in [(375, "light"), (1280, "dark")]),
    ],
)
def test_every_screen_draws_itself_and_complains_of_nothing(
    look: Callable[..., Visit], rated: str, width: int, scheme: str
) -> None:
    seen = look(rated, width, scheme)
    for where, sign in SCREENS.items():
        page = seen.go(where, sign)
        content(seen)
        assert page.locator("h1").count() == 1, where
        assert page.locator(".trouble, .empty h3:has-text('broke')").count() == 0, where
        current = page.locator("nav a[aria-current=page]").inner_text().lower()
        assert current == where.split("/")[0]
        assert page.title().endswith("hatrix")


def test_text_has_contrast_in_light_and_dark(look: Callable[..., Visit], rated: str) -> None:
    measure = """() => {
        const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const rgb = color => { c.fillStyle = color; c.fillRect(0, 0, 1, 1);
            return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); };
        const light = color => rgb(color).map(c => c / 255)
            .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = node => {
            for (let n = node; n; n = n.parentElement) {
                const colour = getComputedStyle(n).backgroundColor;
                if (!/rgba\\(.*, 0\\)/.test(colour) && colour !== 'transparent') return colour;
            }
            return getComputedStyle(document.body).backgroundColor;
        };
        const low = [];
        const kinds = 'h1, h2, h3, p, a, th, td, small, figcaption, dt, dd, li, summary, button';
        for (const node of document.querySelectorAll(kinds)) {
            if (!node.innerText?.trim() || /^[★\\s]*$/.test(node.innerText)) continue;
            const [page, text] = [light(behind(node)), light(getComputedStyle(node).color)];
            const ratio = (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05);
            if (ratio < 4.5) low.push(`${node.tagName} ${node.className} ${node.innerText.slice(0, 30)} ${ratio}`);
        }
        return low;
    }"""
    for scheme in ("light", "dark"):
        seen = look(rated, scheme=scheme)
        for where, sign in SCREENS.items():
            assert seen.go(where, sign).evaluate(measure) == [], (scheme, where)


def test_the_look_is_chosen_and_kept(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated, scheme="light")
    page = seen.go("overview", SCREENS["overview"])
    white = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark look").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != white
    seen.go("data", SCREENS["data"])
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.get_by_role("button", name="Light look").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == white
    content(seen)


def test_a_bar_leads_to_its_rows_and_those_to_items_and_users(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("errors", SCREENS["errors"])
    page.locator(".chart[data-chart='by_rating-error'] .mark-rect path").first.click()
    rows = page.locator("[data-rows='rating=1']")
    rows.locator("tbody tr").first.wait_for()
    assert "slice=rating&key=1" in page.url
    errors = [
        abs(float(text.replace("−", "-"))) for text in rows.locator("tbody td:last-child").all_inner_texts()
    ]
    assert errors == sorted(errors, reverse=True)
    assert set(rows.locator("tbody td:nth-child(3)").all_inner_texts()) == {"1"}
    shared = page.url
    rows.locator("tbody a").first.click()
    page.wait_for_url("**/#/items/*")
    page.go_back()
    page.goto("about:blank")
    page.goto(shared)
    rows.locator("tbody a").nth(1).click()
    page.wait_for_url("**/#/users/*")
    seen.ready(".recommended > li")
    content(seen)


@pytest.mark.campaign
def test_numbers_lead_to_rows_without_a_mouse(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("errors", SCREENS["errors"])
    part = page.locator(".part", has=page.locator("[data-chart='by_genre-error']"))
    part.locator("summary").focus()
    page.keyboard.press("Enter")
    part.locator("tbody a", has_text="Horror").focus()
    page.keyboard.press("Enter")
    page.locator("[data-rows='genre=Horror'] tbody tr").first.wait_for()
    content(seen)


def test_items_are_searched_and_walked_by_keys(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("items", SCREENS["items"])
    page.locator("body").press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("number 17")
    page.wait_for_url(re.compile(r"q=number\+17$"))
    page.locator("#found li:only-child").wait_for()
    page.keyboard.press("Control+A")
    page.keyboard.type("number 1")
    page.locator("#found li:nth-child(5)").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("#found li:nth-child(2) a")
    assert second.evaluate("link => link === document.activeElement")
    name = second.locator("b").inner_text()
    page.keyboard.press("Enter")
    page.locator(f"h1:has-text('{name}')").wait_for()
    seen.ready()
    assert page.locator(".chart[data-chart='ratings'] svg").count() == 1
    page.locator(".ranked a").first.focus()
    page.keyboard.press("End")
    assert page.locator(".ranked a").last.evaluate("link => link === document.activeElement")
    content(seen)


@pytest.mark.campaign
def test_a_slash_leads_to_a_search_from_anywhere(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("overview", SCREENS["overview"])
    page.locator("body").press("/")
    page.wait_for_url("**/#/items")
    page.locator("[data-search]:focus").wait_for()
    content(seen)


def test_an_address_that_is_opened_while_the_page_starts_is_shown(
    look: Callable[..., Visit], rated: str
) -> None:
    seen = look(rated)
    seen.page.add_init_script(  # the scripts of the page have run then, and nothing is painted yet
        """document.addEventListener("DOMContentLoaded", () => { location.hash = "#/users/1"; });"""
    )
    page = seen.go("overview", ".recommended > li")
    assert page.locator("nav a[aria-current=page]").inner_text() == "Users"
    content(seen)


@pytest.mark.campaign
def test_going_back_leads_to_where_one_was(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("items", SCREENS["items"])
    link = page.locator("#found li a").nth(30)
    link.scroll_into_view_if_needed()
    page.wait_for_timeout(100)
    height = page.evaluate("scrollY")
    assert height > 0
    link.click()
    page.locator(".ranked a").first.wait_for()
    assert page.evaluate("scrollY") == 0
    assert page.evaluate("document.activeElement.id") == "main"
    page.go_back()
    page.locator("#found li a").first.wait_for()
    page.wait_for_function(f"Math.abs(scrollY - {height}) < 2")
    content(seen)


@pytest.mark.parametrize(
    "where",
    [
        "items",
        *(
            pytest.param(other, marks=pytest.mark.campaign)
            for other in ("users", "errors?slice=rating&key=1")
        ),
    ],
)
def test_a_length_that_makes_no_sense_is_left_aside(
    look: Callable[..., Visit], rated: str, where: str
) -> None:
    seen = look(rated)
    for n in ("-3", "1.5", "0", "x"):
        seen.page.goto("about:blank")  # else only the fragment changes, and the page is not loaded again
        page = seen.go(f"{where}{'&' if '?' in where else '?'}n={n}", "#found li a, [data-rows] tbody tr")
        assert page.locator(".trouble").count() == 0, n
        content(seen)


def test_a_rating_that_is_no_star_can_be_changed_by_keys(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate?r=1:4.3", ".recommended > li")
    assert page.locator(".cards li[data-item='1'] [role=radio][tabindex='0']").count() == 1


@pytest.mark.campaign
def test_genres_left_out_of_the_map_stand_in_the_address(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("map", SCREENS["map"])
    name = page.locator(".legend button").nth(1).inner_text()
    page.locator(".legend button").nth(1).click()
    page.get_by_role("button", name="others").click()
    left_out = page.locator(".legend button[aria-pressed=false]")
    left_out.nth(1).wait_for()
    page.reload()
    left_out.nth(1).wait_for()
    assert left_out.all_inner_texts() == [name, "others"]
    page.get_by_role("button", name="All", exact=True).click()
    left_out.first.wait_for(state="detached")
    content(seen)


def test_the_content_is_one_key_away(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("overview", SCREENS["overview"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("location.hash") == "#/overview"


def test_hostile_titles_are_text(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("items/4", f"h1:has-text('{HOSTILE}')")
    assert page.locator("main img").count() == 0
    content(seen)


def test_a_user_is_seen_with_hits_parts_and_reasons(
    look: Callable[..., Visit], rated: str, tmp_path: Path
) -> None:
    seen = look(rated)
    page = seen.go("users/1?n=50", ".recommended > li")
    page.locator(".hit .mark").first.wait_for()
    held = page.evaluate("fetch('v1/errors/rows?slice=user&key=1&n=200').then(r => r.json())")["rows"]
    listed = page.evaluate("fetch('v1/recommendations?user=1&n=50').then(r => r.json())")["items"]
    hits = {row["item"] for row in held} & {one["item"] for one in listed}
    assert hits
    assert page.locator(".recommended > li.hit").count() == len(hits)
    assert f"{len(hits)} of {len(held)} held-out" in page.locator("main").inner_text()
    page.locator("button.why").first.click()
    table = page.locator(".parts table").first
    table.wait_for()
    page.goto(page.url)
    page.reload()  # the address holds what is open
    table.wait_for()
    parts = [float(text.replace("−", "-")) for text in table.locator("td.number").all_inner_texts()]
    score = float(table.locator("caption").inner_text().split("score of ")[1].split(",")[0])
    assert sum(parts) == pytest.approx(score, abs=0.0006 * len(parts))
    assert page.locator(".because").count() > 0
    page.screenshot(path=tmp_path / "user.png")
    content(seen)


def test_a_way_through_rate(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate", SCREENS["rate"])
    cards = page.locator(".cards").first.locator("li")
    shown = cards.count()
    assert 10 <= shown <= 20
    assert "Rate one item" in page.locator(".beside").inner_text()
    cards.nth(0).get_by_role("radio", name="5 stars").click()
    page.locator(".recommended > li").nth(9).wait_for()
    first = page.locator(".recommended .item").all_inner_texts()
    cards.nth(1).get_by_role("radio", name="1 star").click()
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    cards.nth(2).get_by_role("button", name="Skip").click()
    page.locator(".hint", has_text="1 item skipped").wait_for()
    assert cards.count() == shown - 1
    page.get_by_role("button", name="Show it again").click()
    page.locator(".hint", has_text="skipped").wait_for(state="detached")
    assert cards.count() == shown
    cards.nth(2).get_by_role("button", name="Skip").click()
    page.locator(".hint", has_text="1 item skipped").wait_for()
    cards.nth(2).get_by_role("radio", name="4 stars").click()
    page.locator(".hint", has_text="From 3 ratings").wait_for()
    last = page.locator(".recommended .item").all_inner_texts()
    assert last != first
    rated_titles = [cards.nth(at).locator(".item").inner_text() for at in range(3)]
    assert not set(rated_titles) & set(last)
    assert page.locator(".because").count() > 0
    page.get_by_label("Search items to rate").fill("number 80")
    more = page.locator("#more li").first
    more.get_by_role("radio", name="5 stars").click()
    page.locator(".hint", has_text="From 4 ratings").wait_for()
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    page.locator(".hint", has_text="From 4 ratings").wait_for()
    assert page.locator(".cards [aria-checked=true]").count() >= 4
    page.get_by_role("button", name="Begin again").click()
    page.locator(".empty", has_text="Nothing yet").wait_for()
    content(seen)


def test_the_list_follows_a_rating_at_once(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate", SCREENS["rate"])
    cards = page.locator(".cards").first.locator("li")
    took = []
    for at in range(8):
        cards.nth(at).get_by_role("radio", name="4 stars").click()
        page.locator(".hint", has_text=f"From {at + 1} rating").wait_for()
        took.append(int(page.locator("[data-took]").get_attribute("data-took")))
    assert sorted(took)[len(took) // 2] < 100, took


@pytest.mark.campaign
def test_stars_are_given_by_keys(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate", SCREENS["rate"])
    page.locator(".stars button").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(".cards [aria-checked=true][aria-label='4 stars']").wait_for()
    content(seen)


@pytest.mark.campaign
def test_the_map_is_searched_zoomed_and_pressed(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("map", SCREENS["map"])
    pixels = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(200)
    zoomed = page.evaluate(pixels)
    assert zoomed != before
    page.locator("canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(200)
    assert page.evaluate(pixels) != zoomed
    page.keyboard.press("0")
    page.wait_for_timeout(200)
    assert page.evaluate(pixels) == before
    page.locator(".legend button").first.click()
    page.wait_for_timeout(200)
    assert page.evaluate(pixels) != before
    assert page.locator(".legend button[aria-pressed=false]").count() == 1
    page.get_by_label("Search the map").fill("number 12")
    page.locator(".map aside button", has_text="Film Number 12").click()
    page.locator(".map aside .ranked a, .map aside .ranked button").nth(10).wait_for()
    assert "item=12" in page.url
    near = page.evaluate("fetch('v1/similar-items?item=12&n=12').then(r => r.json())")["items"]
    shown = page.locator(".map aside ol.ranked button").all_inner_texts()
    assert shown == [one["title"] for one in near]
    page.get_by_label("Search the map").fill("")
    page.get_by_role("button", name="Close").click()
    page.wait_for_timeout(200)
    atlas = page.evaluate("fetch('v1/map').then(r => r.json())")
    box = page.locator("canvas").bounding_box()
    x = box["x"] + box["width"] / 2 + atlas["x"][0] * (box["width"] / 2 - 18)
    y = box["y"] + box["height"] / 2 - atlas["y"][0] * (box["height"] / 2 - 18)
    page.mouse.move(x, y)
    page.locator(".tip").wait_for()
    tip = page.locator(".tip b").inner_text()
    page.mouse.click(x, y)
    page.locator(f".map aside h2:has-text('{tip}')").wait_for()
    content(seen)


def test_a_model_that_ranks_takes_likes_and_shows_rankings(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    seen = look(serve(folder(tmp_path, hx.BPR(factors=4, epochs=10), films())))
    page = seen.go("overview", "h1:has-text('BPR on films')")
    assert "NDCG" in page.locator(".tiles").inner_text()
    page = seen.go("errors", ".chart[data-chart='by-users'] svg")
    page.locator(".chart[data-chart='by-users'] .mark-symbol path").first.click()
    page.locator("[data-rows^='activity='] tbody tr").first.wait_for()
    page = seen.go("rate", SCREENS["rate"])
    assert page.get_by_role("radio").count() == 0
    page.get_by_role("button", name="Like").first.click()
    page.locator(".hint", has_text="From 1 like").wait_for()
    assert page.locator(".recommended > li").count() == 10
    for where in ("users/1", "items/1", "data", "map"):
        seen.go(where)
        content(seen)


def test_a_posterior_tells_how_sure_it_is(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    recipe = hx.BayesianMF(factors=2, epochs=30, burn_in=10, draws=5)
    seen = look(serve(folder(tmp_path, recipe, films(80, 50))))
    page = seen.go("rate", SCREENS["rate"])
    page.locator(".cards").first.get_by_role("radio", name="5 stars").first.click()
    page.locator(".sure .range").first.wait_for()
    assert page.locator(".sure").count() == page.locator(".recommended > li").count()
    assert "80% sure" in page.locator(".sure").first.inner_text()
    page = seen.go("users/1", ".sure")
    seen.go("overview", "h2:has-text('How sure it is')")
    seen.go("map", SCREENS["map"])
    content(seen)


def test_a_bare_model_says_what_it_cannot_show(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    train = films(titles=False)
    hx.Bias().fit(train, progress=False).save(tmp_path / "bare.hatrix", seen=False)
    seen = look(serve(tmp_path / "bare.hatrix"))
    assert "No figures of test ratings" in seen.go("overview", ".tiles").locator("main").inner_text()
    assert "nothing to measure on" in seen.go("errors", ".empty").locator("main").inner_text()
    assert "There is no map" in seen.go("map", ".empty").locator("main").inner_text()
    assert "no titles" in seen.go("items", "#found").locator("main").inner_text()
    assert "no factors" in seen.go("items/1", ".facts").locator("main").inner_text()
    assert "No test ratings" in seen.go("items/1", ".facts").locator("main").inner_text()
    words = seen.go("users/1", ".recommended").locator("main").inner_text()
    assert "What the user has rated may be among these" in words
    page = seen.go("rate", SCREENS["rate"])
    page.locator(".cards").first.get_by_role("radio").nth(4).click()
    page.locator(".recommended > li").first.wait_for()
    seen.go("data", ".chart[data-chart='tail'] svg")
    content(seen)


def test_ids_may_be_any_text_or_large_number(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    odd = ["a/b?c#d", "100 %", "x:5,y", "ä ö", "<b>", "+1"]
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 40, 900), rng.integers(0, 30, 900)
    names = [*odd, *(f"u{n}" for n in range(40))]
    ratings = hx.Ratings.from_columns(
        np.array(names, object)[user], item + (1 << 60), rng.integers(1, 11, 900) / 2
    )
    seen = look(serve(folder(tmp_path, hx.ALS(factors=3), ratings)))
    for name in odd:
        page = seen.go("users", "#found")
        page.get_by_label("Search users").fill(name)
        page.locator("#found li:only-child, #found li", has_text=name).first.locator("a").click()
        page.locator(".recommended > li").first.wait_for()
        assert page.locator("h1").inner_text() == f"User {name}"
    page.locator(".recommended .item").first.click()
    page.locator(".facts", has_text="1152921504606").wait_for()
    page.locator("h1", has_text="1152921504606").wait_for()
    large = page.locator("h1").inner_text().removeprefix("item ")
    assert int(large) - (1 << 60) in range(30)
    page.get_by_role("link", name="What goes with it").click()
    page.locator(".recommended > li").first.wait_for()
    assert (
        page.locator(f".cards li[data-item='{large}'] [aria-checked=true][aria-label='5 stars']").count() == 1
    )
    page.locator(".cards").first.get_by_role("radio", name="3.5 stars").last.click()
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    content(seen)


@pytest.mark.campaign
def test_an_item_of_any_id_leads_to_what_goes_with_it(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    odd = ["100%", "a,b", "x:5", "%41"]
    rng = np.random.default_rng(0)
    names = np.array([*odd, *(f"i{n}" for n in range(30))], object)
    user, item = rng.integers(0, 40, 900), rng.integers(0, len(names), 900)
    ratings = hx.Ratings.from_columns(user, names[item], rng.integers(1, 6, 900))
    seen = look(serve(folder(tmp_path, hx.ALS(factors=3), ratings)))
    for name in odd:
        page = seen.go(f"items/{quote(name, safe='')}", ".facts")
        page.get_by_role("link", name="What goes with it").click()
        page.locator(".hint", has_text="From 1 rating,").wait_for()
        assert page.locator(".cards li.given").get_attribute("data-item") == name
    content(seen)


@pytest.mark.campaign
def test_what_is_not_there_is_said(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    for where, words in (
        ("items/no such", "no such item"),
        ("users/no such", "no such user"),
        ("nowhere", "no such screen"),
        ("items?q=zzz", "Nothing found"),
        ("users?q=zzz", "Nobody found"),
        ("errors?slice=genre&key=Opera", "no such test rows"),
    ):
        page = seen.go(where, "main :is(.trouble, .empty, .rows)")
        assert words in page.locator("main").inner_text()
    assert all("404" in text for text in seen.complaints), seen.complaints


def test_ratings_outlast_other_screens_and_a_reload(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate", SCREENS["rate"])
    cards = page.locator(".cards").first.locator("li")
    cards.nth(0).get_by_role("radio", name="5 stars").click()
    cards.nth(1).get_by_role("radio", name="2 stars").click()
    cards.nth(2).get_by_role("button", name="Skip").click()
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    address = page.url
    for way in ("Map", "Data", "Rate"):
        page.locator("nav a", has_text=way).click()
        page.locator("nav a[aria-current=page]", has_text=way).wait_for()
        page.locator("nav a", has_text="Rate").click()
        page.locator(".hint", has_text="From 2 ratings").wait_for()
        page.locator(".hint", has_text="1 item skipped").wait_for()
        assert page.url == address, way
    page.goto("about:blank")
    page.goto(f"{rated}#/rate")  # as by a bookmark, in the same tab
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    page.reload()
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    assert "session storage" in page.locator(".lead").inner_text()
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    page.get_by_role("button", name="Begin again").click()
    page.locator(".empty", has_text="Nothing yet").wait_for()
    page.locator("nav a", has_text="Map").click()
    page.locator("nav a", has_text="Rate").click()
    page.locator(".empty", has_text="Nothing yet").wait_for()
    assert page.evaluate("location.hash") == "#/rate"
    content(seen)


@pytest.mark.campaign
def test_a_link_does_not_take_the_place_of_ratings(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("rate?r=1:5,2:4", ".recommended > li")
    page.locator("nav a", has_text="Map").click()
    page.locator("nav a", has_text="Rate").click()
    page.locator(".hint", has_text="From 2 ratings").wait_for()  # a first link is kept, too
    seen.go("items/7", ".facts")
    page.get_by_role("link", name="What goes with it").click()
    page.locator(".hint", has_text="From 1 rating,").wait_for()
    assert "than the 2 ratings that you gave" in page.locator(".note").inner_text()
    page.locator(".cards").first.get_by_role("radio", name="4 stars").nth(3).click()
    page.locator(".hint", has_text="From 2 ratings").wait_for()
    page.locator(".note").get_by_role("button", name="Back to mine").click()
    page.locator(".note").wait_for(state="detached")
    assert page.url.endswith("r=1%3A5%2C2%3A4")
    seen.go("rate?r=9:1", ".note")
    page.get_by_role("button", name="keep these instead").click()
    page.locator(".note").wait_for(state="detached")
    seen.go("rate", ".recommended > li")
    assert page.url.endswith("r=9%3A1")
    content(seen)


def test_without_storage_ratings_last_as_long_as_the_page(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    seen.page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('no'); } })"
    )
    page = seen.go("rate", SCREENS["rate"])
    page.locator(".cards").first.get_by_role("radio", name="5 stars").first.click()
    page.locator(".hint", has_text="From 1 rating,").wait_for()
    page.locator("nav a", has_text="Map").click()
    page.locator("nav a", has_text="Rate").click()
    page.locator(".hint", has_text="From 1 rating,").wait_for()
    content(seen)


def test_feedback_shows_without_a_reload(
    look: Callable[..., Visit], serve: Callable[..., str], tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/feedback.db"
    seen = look(serve(folder(tmp_path, hx.ALS(factors=3), films(60, 40)), store=store))
    page = seen.go("users", SCREENS["users"])
    page.locator(".hint", has_text="60 users").wait_for()
    seen.go("users/1", ".recommended > li")
    listed = page.locator(".recommended .item").all_inner_texts()
    rated = int(page.locator(".facts div", has_text="Rated").locator("dd").inner_text().split()[0])
    top = page.evaluate("fetch('v1/recommendations?user=1').then(r => r.json())")["items"][0]
    give = """([user, item]) => fetch('v1/feedback', { method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ user, ratings: [{ item, rating: 1 }] }) }).then(reply => reply.status)"""
    assert page.evaluate(give, [1, top["item"]]) == 201
    new = page.locator(".history li", has=page.locator(".mark"))  # while the screen is open
    new.wait_for()
    assert new.locator("a").inner_text() == top["title"]
    page.locator(".facts", has_text=f"{rated + 1} items").wait_for()
    page.wait_for_function(f"document.querySelector('.recommended .item').innerText !== {listed[0]!r}")
    assert page.evaluate(give, [777, 3]) == 201
    page.locator(".back a").click()  # a screen that was seen before
    page.locator(".hint", has_text="61 users").wait_for()
    page.get_by_label("Search users").fill("777")
    page.locator("#found li", has_text="777").locator("a", has_text="1 ").wait_for()
    assert (
        page.evaluate("fetch('v1/feedback?user=777', { method: 'DELETE' }).then(reply => reply.status)")
        == 200
    )
    page.locator(".empty", has_text="Nobody found").wait_for()
    content(seen)


def test_a_service_that_is_down_is_said_and_tried_again(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("overview", SCREENS["overview"])
    page.context.set_offline(True)
    page.locator("nav a", has_text="Data").click()
    page.locator(".trouble", has_text="does not answer").wait_for()
    page.locator(".away").wait_for()
    page.get_by_role("button", name="Try now").click()
    page.locator(".away").wait_for()
    page.context.set_offline(False)
    page.locator(SCREENS["data"]).wait_for()
    assert page.locator(".away, .trouble").count() == 0


def test_the_page_goes_on_after_a_restart(look: Callable[..., Visit], browser: Any, tmp_path: Path) -> None:
    assert browser
    path = folder(tmp_path, hx.BiasedMF(factors=3), films(60, 40))
    server = Server(path)
    try:
        seen = look(server.url)
        page = seen.go("rate?r=1:5", ".recommended > li")
        server.stop()
        page.locator(".cards").first.get_by_role("radio", name="4 stars").nth(1).click()
        page.locator(".beside .trouble", has_text="does not answer").wait_for()
        page.locator(".away", has_text="goes on by itself").wait_for()
        page.locator("nav a", has_text="Errors").click()
        page.locator("main .trouble").wait_for()
        hx.Bias().fit(films(60, 40), progress=False).save(path)  # it comes back with another model
        server = Server(path, port=server.port)
        page.locator(SCREENS["errors"]).wait_for()
        page.locator(".away").wait_for(state="detached")
        page.locator("footer", has_text="bias on films").wait_for()
        assert page.locator(".trouble").count() == 0
        page.locator("nav a", has_text="Rate").click()
        page.locator(".hint", has_text="From 2 ratings").wait_for()
    finally:
        server.stop()


@pytest.mark.campaign
def test_a_busy_service_is_asked_again(look: Callable[..., Visit], rated: str) -> None:
    seen, refusals = look(rated), []

    def refuse(route: Any) -> None:
        if len(refusals) == 2:
            route.continue_()
            return
        refusals.append(route.request.url)
        problem = '{"status": 503, "code": "overloaded", "detail": "too many requests are being worked on"}'
        route.fulfill(status=503, headers={"Retry-After": "0"}, content_type="application/json", body=problem)

    seen.page.route("**/v1/data", refuse)
    seen.go("data", SCREENS["data"])
    assert len(refusals) == 2


def test_facts_of_two_models_never_stand_together(
    look: Callable[..., Visit], browser: Any, tmp_path: Path
) -> None:
    assert browser
    server = Server(folder(tmp_path / "one", hx.BiasedMF(factors=3), films(60, 40)))
    other = folder(tmp_path / "two", hx.Bias(), films(70, 45))
    try:
        seen = look(server.url)
        page = seen.go("overview", SCREENS["overview"])
        seen.go("items", SCREENS["items"])
        seen.go("users/1", ".recommended > li")
        live, service = server.app.state.service.live, server.app.state.service
        live.current = create_app(other).state.service.live.current
        page.locator("nav a", has_text="Items").click()  # kept of the model before
        page.locator(".hint", has_text="40 items").wait_for()
        page.locator("#found a").first.click()  # asks, and so hears of the other one
        page.locator(".changed", has_text=live.current.version).wait_for()
        page.locator(".facts", has_text="of 45").wait_for()
        page.locator("footer", has_text="bias on films").wait_for()
        page.locator("nav a", has_text="Overview").click()
        page.locator("h1:has-text('Bias on films')").wait_for()
        page.locator("nav a", has_text="Items").click()
        page.locator(".hint", has_text="45 items").wait_for()
        page.locator(".changed").get_by_role("button", name="Close").click()
        page.locator(".changed").wait_for(state="detached")
        assert service.served.version in page.locator("footer").inner_text()
        content(seen)
    finally:
        server.stop()


@pytest.mark.campaign
def test_who_looks_again_hears_of_another_model(
    look: Callable[..., Visit], browser: Any, tmp_path: Path
) -> None:
    assert browser
    server = Server(folder(tmp_path / "one", hx.BiasedMF(factors=3), films(60, 40)))
    other = folder(tmp_path / "two", hx.Bias(), films(60, 40))
    try:
        seen = look(server.url)
        page = seen.go("rate?r=1:5,2:1", ".recommended > li")
        live = server.app.state.service.live
        first, second = live.current, create_app(other).state.service.live.current
        live.current = second
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.locator(".changed").wait_for()
        page.locator("footer", has_text="bias on films").wait_for()
        page.locator(".hint", has_text="From 2 ratings").wait_for()
        for served in (first, second, first):  # as processes do that take up a file one after the other
            live.current = served
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.wait_for_timeout(50)
        page.locator("footer", has_text="biased-mf on films").wait_for()
        page.locator(".changed", has_text=first.version).wait_for()
        content(seen)
    finally:
        server.stop()


def test_every_chart_is_there_when_the_page_is_printed(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated, scheme="dark")
    seen.page.add_init_script(
        """addEventListener("afterprint", () => {
            const charts = [...document.querySelectorAll(".chart")];
            window.printed = [charts.length, charts.filter(chart => chart.querySelector("svg")).length];
        });
        window.requestIdleCallback = () => {};  // nothing is drawn beforehand but what is seen"""
    )
    page = seen.go("errors", SCREENS["errors"])
    drawn = "[...document.querySelectorAll('.chart svg')].length"
    assert page.evaluate(drawn) < page.locator(".chart").count()
    page.pdf()
    charts, there = page.evaluate("window.printed")
    assert charts == there > 10
    assert page.evaluate("document.documentElement.dataset.theme") is None
    page.emulate_media(media="print", color_scheme="dark")
    white = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(white) == "rgb(255, 255, 255)"
    assert not page.locator("header nav").is_visible()
    content(seen)


@pytest.mark.campaign
def test_charts_far_below_are_drawn_while_nothing_happens(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    page = seen.go("errors", SCREENS["errors"])
    page.locator(".chart:not(:has(svg))").first.wait_for(state="detached")
    assert page.locator(".chart svg").count() > 3
    assert page.evaluate("scrollY") == 0
    content(seen)


@pytest.mark.campaign
def test_reasons_say_what_taking_ratings_away_would_do(look: Callable[..., Visit], rated: str) -> None:
    seen = look(rated)
    said = {"rank": 1, "leaves": False, "score": 4.0, "items": [1]}
    parts = [{"part": "rating", "item": 1, "title": "One", "rating": 5.0, "contribution": 0.5}]

    def told(**changed: Any) -> str:
        page = seen.page
        page.unroute_all()
        reply = {
            "model": "m",
            "user": 1,
            "item": 5,
            "basis": "model",
            "score": 4.5,
            "rank": 1,
            "fit": 1,
            "seen": False,
            "warnings": [],
        }
        reply |= {"parts": parts, "without": said} | changed
        reply.pop("model")
        page.route("**/v1/explanation?*", lambda route: route.fulfill(json=reply))
        seen.go("overview", SCREENS["overview"])
        page.reload()
        seen.go("users/1", ".recommended > li")
        page.locator("button.why").first.click()
        page.locator(".parts table").wait_for()
        return " ".join(page.locator(".parts").inner_text().split())

    assert "Even without one rating (One) it would keep rank 1." in told()
    assert "Without one rating (One) it would have rank 4 and stay in the list." in told(
        without=said | {"rank": 4}
    )
    assert "it would have rank 12 and leave the list." in told(without=said | {"rank": 12, "leaves": True})
    assert "No rating of this user speaks for the item." in told(without=said | {"items": []})
    assert "rank 1 of what is new to the user" in told()
    seen_already = told(item=1, seen=True)
    assert "The user has rated this item; if it were new, it would have rank 1" in seen_already
