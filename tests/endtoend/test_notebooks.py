"""The notebooks of docs/notebooks come to the outputs that stand in them, run by Jupyter's own client."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from likely.engine.weights.sources.model_info import ModelInfo

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def said(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Each cell of code, and what it gave as text."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = (out.get("data", {}).get("text/plain") or out.get("text", "") for out in cell.outputs)
            yield cell.source, "\n".join(outputs)


@pytest.mark.slow(12)
@pytest.mark.real
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_comes_to_what_stands_in_it(name: str, smollm2: ModelInfo, tmp_path: Path) -> None:
    written = nbformat.read(FOLDER / name, 4)
    run = nbformat.read(FOLDER / name, 4)
    NotebookClient(run, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for (source, expected), (_, got) in zip(said(written), said(run), strict=True):
        assert NUMBER.sub("#", got).split() == NUMBER.sub("#", expected).split(), source
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (got, expected)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.02), source  # of another processor's rounding
