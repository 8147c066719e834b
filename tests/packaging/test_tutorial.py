"""The tutorial: its notebook has the page's blocks as cells and is run in a Jupyter kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from runpy import run_path
from typing import Any

import anndata
import pytest

DOCS = Path(__file__).parents[2] / "docs"


def code_cells() -> list[str]:
    cells = json.loads((DOCS / "tutorial.ipynb").read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_the_page():
    made = run_path(str(DOCS / "make_tutorial_notebook.py"))["notebook"]()
    assert (DOCS / "tutorial.ipynb").read_text("utf-8") == made, "run: python docs/make_tutorial_notebook.py"


def test_paths_are_set_once_and_taken_from_there():
    """So that on the real files only the settings differ."""
    settings = [cell for cell in code_cells() if cell.startswith("%env")]
    names = {line.split()[1].split("=")[0] for cell in settings for line in cell.splitlines()}
    assert names == {"DATA", "CONTROLS", "GO_C", "NCBI_UNIPROT"}
    others = [cell for cell in code_cells() if cell not in settings][1:]  # the first makes the stand-in data
    assert not any(re.search(r"stand_in|\bdemo\b", cell) for cell in others)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_commands: None):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    (directory := tmp_path / "notebook").mkdir()
    notebook: Any = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(directory)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    figures = {path.name for path in directory.glob("*.png")}
    assert len(shown) == len(figures) == 7
    assert {path.name for path in directory.glob("*.h5ad")} == {"norman_stand_in.h5ad", "singles.h5ad", "pairs.h5ad"}
    screen = anndata.read_h5ad(directory / "norman_stand_in.h5ad", backed="r")
    assert screen.obs["condition"].nunique() == 284, "every label of the published split"
    text = "".join(output.get("text", "") for output in outputs)
    assert "AnnData object with n_obs × n_vars = 2 × 5045" in text
    assert "synthetic" in text
    assert (directory / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_figures_script_draws_what_is_committed(tmp_path: Path):
    """Not pixel by pixel, as fonts and versions of matplotlib differ: the same files, of the same size."""
    from matplotlib.image import imread

    script = run_path(str(DOCS / "figures" / "make_figures.py"))
    assert "no biology" in script["NOTE"]
    drawn = script["draw"](tmp_path)
    assert {path.name for path in drawn} == {path.name for path in (DOCS / "figures").glob("*.png")}
    for path in drawn:
        committed, now = imread(DOCS / "figures" / path.name), imread(path)
        assert abs(committed.shape[0] - now.shape[0]) <= 20
        assert abs(committed.shape[1] - now.shape[1]) <= 20
        assert abs(float(committed.mean()) - float(now.mean())) < 0.02
        assert (DOCS / "figures" / path.name).stat().st_size < 100_000
