"""Every block of code on a page runs as it is printed, or says beside it why it does not."""

from __future__ import annotations

import multiprocessing
import re
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import pages
import spark

NOT_RUN = {
    "README.md": 3,
    "CONTRIBUTING.md": 1,
    "docs/out-of-core.md": 1,
    "docs/recommending.md": 1,
    "docs/serving.md": 4,
    "docs/spark.md": 3,
}
"""How many blocks of each page are marked as not run. Each one more is a decision: prefer a block that runs."""
NEEDS = {"needs java": spark.why_not}
ALL = [block for page in pages.pages() for block in pages.blocks(page)]
COMMAND = re.compile(
    r"^\s*(\$ |>>> )?(hatrix|make|pip|uv|python3?|curl|spark-submit|import|from) \S", re.MULTILINE
)


def reason_not_to_run(block: pages.Block) -> str | None:
    return block.mark.removeprefix("not run:").strip() if block.mark.startswith("not run:") else None


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_a_block_is_run_or_says_why_not(block: pages.Block) -> None:
    reason = reason_not_to_run(block)
    if block.mark.startswith(("not run", "needs")):
        assert reason or block.mark in NEEDS, f"{block.where}: {block.mark!r} is no mark"
    if block.language == "text":
        assert not reason, f"{block.where}: a text needs no mark"
        assert not COMMAND.search(block.text), f"{block.where}: a command, but no block of sh or python"
    else:
        assert block.language in pages.RUN or reason, f"{block.where}: {block.language!r} is not run: say why"


def test_no_block_is_left_out_silently() -> None:
    assert Counter(block.page for block in ALL if reason_not_to_run(block)) == NOT_RUN


@pytest.mark.campaign
@pytest.mark.timeout(2 * pages.PATIENCE)
@pytest.mark.parametrize(
    "page", sorted({block.page for block in ALL if block.language in pages.RUN} - {"CONTRIBUTING.md"})
)
def test_a_page_runs_from_its_first_block_to_its_last(
    page: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = [block for block in ALL if block.page == page and block.language in pages.RUN]
    wanted = [block for block in wanted if not reason_not_to_run(block)]
    if any("ml-100k" in block.text for block in wanted):
        request.getfixturevalue("ml_100k")
    missing = {mark: why for mark, check in NEEDS.items() if (why := check())}
    # In a process of its own: Java, once started, keeps the working directory that it was started in.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
        apart.submit(pages.run, [block for block in wanted if block.mark not in missing], tmp_path).result()
    left_out = [block for block in wanted if block.mark in missing]
    if left_out:
        pytest.skip(f"{len(left_out)} blocks from {left_out[0].where} on: {missing[left_out[0].mark]}")


def test_advice_to_install_works_where_hatrix_is_not_published() -> None:
    """No index has hatrix, so it is installed from a clone; and the extras that are named exist."""
    extras = tomllib.loads((pages.ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    texts = {path: path.read_text("utf-8") for path in pages.ROOT.glob("src/hatrix/**/*.py")}
    texts |= {pages.ROOT / page: (pages.ROOT / page).read_text("utf-8") for page in pages.pages()}
    named = set()
    for path, text in texts.items():
        assert not re.search(r"pip install ['\"]?hatrix\b", text), f"{path} installs hatrix from an index"
        named |= set(re.findall(r"install '\.\[([a-z,]+)\]'", text))
        named |= set(re.findall(r'MissingExtraError\.of\([^)]*"(\w+)"\)', text))
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()
    assert {"serve", "spark", "tune"} <= named
