"""The notebooks in examples/ run from top to bottom and are committed with their outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell writes to stdout."""
    return [
        "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_there_are_notebooks_of_a_quickstart_of_fine_tuning_and_of_explanations():
    assert [path.stem for path in NOTEBOOKS] == ["explain", "finetune", "quickstart"]


# The kernel talks to this process over the loopback interface and says so.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=p.stem, marks=[] if p.stem == "quickstart" else [pytest.mark.slow])
        for p in NOTEBOOKS
    ],
)
def test_a_notebook_runs_and_its_committed_outputs_are_complete(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    committed = nbformat.read(path, 4)
    text = path.read_text(encoding="utf-8")
    fresh = nbformat.reads(text, 4)
    NotebookClient(fresh, timeout=280, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    for cell in committed.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not any(o.output_type == "error" for o in cell.outputs)
    # The numbers depend on the CPU; words and lines do not.
    for ours, theirs in zip(printed(fresh), printed(committed), strict=True):
        assert len(ours.splitlines()) == len(theirs.splitlines())
    if path.stem == "quickstart":
        assert "roll_cw" in printed(fresh)[1] and "97.5%" in printed(fresh)[1]
    elif path.stem == "explain":
        assert "zoom_in" in printed(fresh)[0] and "norm2" in printed(fresh)[2]
        pages = [
            o.data["text/html"] for c in fresh.cells for o in c.get("outputs", ()) if "data" in o
        ]
        assert len(pages) == 5 and all("<img" in page or "<svg" in page for page in pages)
    else:
        accuracy = float(printed(fresh)[1].split()[-1])
        assert accuracy >= 0.8
