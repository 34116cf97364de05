"""Every notebook runs from top to bottom, and is its paired script."""

import pathlib

import jupytext
import nbclient
import nbformat
import pytest

COLABS = pathlib.Path(__file__).parents[2] / "colabs"
NOTEBOOKS = sorted(COLABS.glob("*.ipynb"))


def test_every_script_has_its_notebook():
    scripts = {path.stem for path in COLABS.glob("*.py")}
    assert scripts == {path.stem for path in NOTEBOOKS}
    assert scripts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_the_cells_of_its_script(path):
    def cells(notebook):
        return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]

    script = jupytext.read(path.with_suffix(".py"))
    assert cells(nbformat.read(path, as_version=4)) == cells(script)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("M3JAX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=400, resources={"metadata": {"path": str(COLABS)}}
    )
    client.execute()  # raises if a cell does
