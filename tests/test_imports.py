"""What a quick start must not load, and that all that is public is there and explained."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import hatrix
from hatrix.app.commands import command_line
from hatrix.models import ALGORITHMS

HEAVY = [
    "numba",
    "llvmlite",
    "pandas",
    "duckdb",
    "altair",
    "pydantic",
    "scipy",
    "narwhals",
    "pyarrow",
    "polars",
    "fastapi",
    "uvicorn",
    "sqlalchemy",
    "psycopg",
    "prometheus_client",
    "pyspark",
]


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after the code."""
    tail = "; import json, sys; sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], check=True, capture_output=True, text=True)
    return set(json.loads(done.stderr))


def test_importing_hatrix_loads_nothing_heavy() -> None:
    assert not loaded_by("import hatrix") & {*HEAVY, "numpy", "cyclopts", "rich"}


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(flag: str) -> None:
    code = f"import sys, contextlib; sys.argv = ['hatrix', {flag!r}]; from hatrix.app.cli import main\n"
    loaded = loaded_by(code + "with contextlib.suppress(SystemExit): main()\npass")
    assert "cyclopts" in loaded
    assert not loaded & {*HEAVY, "numpy"}


def test_help_of_an_algorithm_compiles_and_reads_nothing() -> None:
    code = "import sys, contextlib; sys.argv = 'hatrix run x mf --help'.split(); from hatrix.app.cli import main\n"
    loaded = loaded_by(code + "with contextlib.suppress(SystemExit): main()\npass")
    assert "pydantic" in loaded
    assert not loaded & {"numba", "llvmlite", "pandas", "duckdb", "altair", "scipy"}


@pytest.mark.parametrize("name", [name for name in hatrix.__all__ if name != "__version__"])
def test_public_names_resolve_and_are_documented(name: str) -> None:
    found = getattr(hatrix, name)
    assert (found.__doc__ or "").strip(), f"hatrix.{name} has no docstring"
    members = vars(found) if isinstance(found, type) else {}
    for member, value in members.items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            described = value.fget if isinstance(value, property) else value
            assert any((vars(base).get(member) and vars(base)[member].__doc__) for base in found.__mro__), (
                described
            )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hatrix.nonsense  # noqa: B018


def commands() -> dict[str, list[str]]:
    trained = {f"{command} {name}": [command, "x", name] for command in ("run", "fit") for name in ALGORITHMS}
    asked = {name: [name] for name in ("evaluate", "recommend", "similar", "serve")}
    nested = {"spark fit": ["spark", "fit", "x", "als"], "spark recommend": ["spark", "recommend"]}
    return {**trained, **asked, **nested, "data list": ["data", "list"], "data get": ["data", "get"]}


@pytest.mark.parametrize("tokens", commands().values(), ids=commands())
def test_every_command_and_flag_has_help(tokens: list[str]) -> None:
    app = command_line(tokens)
    for token in tokens[:2] if tokens[0] in ("data", "spark") else tokens[:1]:
        app = app[token]
        assert app.help, token
    arguments = app.assemble_argument_collection()
    shown = [argument for argument in arguments if argument.parse and not argument.children]
    assert shown
    for argument in shown:
        assert argument.parameter.help, argument.name


@pytest.mark.parametrize("tokens", [["run", "x", name] for name in ALGORITHMS], ids=ALGORITHMS)
def test_no_flag_means_two_things(tokens: list[str]) -> None:
    names = [
        name
        for argument in command_line(tokens)["run"].assemble_argument_collection()
        for name in argument.names
        if name != "*"
    ]
    assert len(names) == len(set(names))
