"""The wheel as a user gets it: what is in it, and that it works in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.install, pytest.mark.campaign]

ROOT = Path(__file__).resolve().parents[1]


def command(*arguments: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, in an environment that knows nothing of this checkout."""
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in arguments], cwd=cwd, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which is built from the tree: both have to hold all that is needed."""
    folder = tmp_path_factory.mktemp("dist")
    command(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    [path] = folder.glob("hatrix-*.whl")
    return path


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Path:
    """The folder of the commands of an environment with nothing but the wheel and what it asks for."""
    folder = tmp_path / "empty"
    uv = shutil.which("uv")
    venv.create(folder, with_pip=uv is None)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    install = (
        [uv, "pip", "install", "--python", programs / "python"]
        if uv
        else [programs / "python", "-m", "pip", "install"]
    )
    command(*install, "--quiet", wheel, cwd=folder)
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tree = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "hatrix").rglob("*")
        if path.is_file()
    }
    expected = {name for name in tree if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "hatrix/py.typed" in names
    assert {"vega.min.js", "vega-lite.min.js", "vega-embed.min.js"} <= {Path(name).name for name in names}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for name in names:
        assert not {"tests", "benchmarks", "docs", "data.py"} & set(Path(name).parts), name
        assert not name.endswith((".data", ".dat", ".csv", ".item", ".hatrix", ".inter")), name


def test_the_command_works_in_an_empty_environment(environment: Path, tmp_path: Path) -> None:
    assert "Usage: hatrix" in command(environment / "hatrix", "--help", cwd=tmp_path)
    assert command(environment / "hatrix", "--version", cwd=tmp_path).split()[0][0].isdigit()
    lines = [f"user{u},film {i},{1 + (u * i) % 5}" for u in range(12) for i in range(9) if (u + i) % 4]
    (tmp_path / "ratings.csv").write_text("\n".join(["who,film,stars", *lines]) + "\n")
    columns = ["--user-column", "who", "--item-column", "film", "--rating-column", "stars"]
    flags = ["--factors", "3", "--epochs", "4", "--out", "m.hatrix", "--json"]
    fitted = command(environment / "hatrix", "fit", "ratings.csv", "mf", *columns, *flags, cwd=tmp_path)
    assert json.loads(fitted)["n_train"] == len(lines)
    assert (tmp_path / "m.hatrix").stat().st_size > 0
    measured = command(
        environment / "hatrix", "evaluate", "m.hatrix", "ratings.csv", *columns, "--json", cwd=tmp_path
    )
    assert json.loads(measured)["n_test"] == len(lines)
