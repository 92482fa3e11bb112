"""The code blocks of README.md and of the guides: what is on each page, and how its blocks are run as printed."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
RUN = ("sh", "python", "pycon")
"""The languages of blocks that are run."""
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PATIENCE = 1200
"""Seconds that the commands of one block may take: a busy machine is no failure."""


class Block(NamedTuple):
    """A block of code on a page; ``mark`` is the HTML comment on the line before it, or empty."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md, CONTRIBUTING.md and the guides, by their paths in the repository.

    The blocks of docs/benchmarks.md are output alone: ``make bench`` writes that page.
    """
    guides = sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md") if path.name != "benchmarks.md")
    return ["README.md", "CONTRIBUTING.md", *guides]


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order; an indented block has the language ``indented``."""
    mark = ""
    for token in MarkdownIt().parse((ROOT / page).read_text("utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip() if token.type == "fence" else "indented"
            yield Block(page, token.map[0] + 1, language, token.content, mark)
        comment = re.fullmatch(r"<!--(.*)-->", token.content.strip()) if token.type == "html_block" else None
        mark = comment[1].strip() if comment else ""


def run(page: list[Block], folder: Path) -> None:
    """Run the blocks of a page in order in a clean folder, Python in one namespace and shell by ``bash``.

    ``hatrix serve`` does not end by itself: it is started on a free port, asked whether it is ready, and interrupted.
    """
    shell = _environment(folder / "bin")
    work = folder / "work"
    work.mkdir()
    names: dict[str, Any] = {"__name__": "__page__"}
    with contextlib.chdir(work):
        for block in page:
            if block.language == "python":
                exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
            elif block.language == "pycon":
                _doctest(block, names)
            else:
                done = subprocess.run(
                    ["bash", "-euxo", "pipefail", "-c", block.text],
                    env=shell, cwd=work, capture_output=True, text=True, timeout=PATIENCE, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{block.where} exits {done.returncode}:\n{done.stderr[-3000:]}"


def _doctest(block: Block, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, block.where, block.page, block.line)
    said = io.StringIO()
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.write, clear_globs=False)
    names.update(test.globs)
    assert result.failed == 0, said.getvalue()


def _environment(programs: Path) -> dict[str, str]:
    """The environment of commands: ``hatrix`` and ``python`` are those that run the tests."""
    programs.mkdir()
    command = programs / "hatrix"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).resolve()}' \"$@\"\n")
    command.chmod(0o755)
    places = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {
        "PATH": os.pathsep.join(places),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def _serve(arguments: list[str]) -> int:
    """Start the service, wait until it says that it is ready, interrupt it, and return its exit status."""
    command = [sys.executable, "-m", "hatrix", *arguments, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as service:
        assert service.stderr is not None
        try:
            for line in service.stderr:
                print(line, end="", file=sys.stderr)
                if found := re.search(r"listening on (http://\S+)", line):
                    _await(f"{found[1]}/health/ready")
                    break
        finally:
            service.terminate()
            sys.stderr.write(service.stderr.read())
    return service.returncode


def _await(address: str) -> None:
    """Return when the address answers with status 200; it answers with 503 until the model is ready."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > end:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(_serve(sys.argv[1:]))
    from hatrix.app.cli import main

    main()
