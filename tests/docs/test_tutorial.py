"""The tutorial runs from the first cell to the last, and says what is true."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import hatrix as hx

PATH = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def executed(ml_100k: hx.Ratings) -> nbformat.NotebookNode:  # noqa: ARG001 - the tutorial loads it itself
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_no_cell_complains(executed: nbformat.NotebookNode) -> None:
    assert not [output.text for output in outputs(executed) if output.get("name") == "stderr"]


def test_the_error_is_the_notebooks(executed: nbformat.NotebookNode) -> None:
    said = "".join(output.text for output in outputs(executed) if output.output_type == "stream")
    test_mse = float(said.split("test MSE ")[1].split(";")[0])
    assert 0.9190 <= test_mse <= 0.9220


def test_charts_are_drawn_from_aggregates(executed: nbformat.NotebookNode) -> None:
    pages = [
        output.data["text/html"] for output in outputs(executed) if "text/html" in output.get("data", {})
    ]
    drawn = [page for page in pages if "vegaEmbed" in page]
    assert len(drawn) == 5
    assert all(len(page) < 420_000 for page in drawn)  # of which the libraries are 370 kB


def test_the_file_holds_no_outputs() -> None:
    """Ratings may not be passed on, so no table of them is kept in the notebook."""
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
