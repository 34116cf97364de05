"""Every notebook runs from top to bottom, and is its paired script."""

import json
import pathlib
import subprocess
import sys

import jupytext
import nbclient
import nbformat
import pytest

COLABS = pathlib.Path(__file__).parents[2] / "colabs"
NOTEBOOKS = sorted(COLABS.glob("*.ipynb"))

# Stands for a kernel: no package can be found, and what it would run is told instead.
BARE = """
import json, subprocess
subprocess.run = lambda argv, **options: print(json.dumps([argv, options]))
"""
INSTALLED = """
import importlib.metadata
importlib.metadata.version = lambda name: {"m3jax": "0"}[name]
"""


def first_code(path):
    cells = nbformat.read(path, as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


def run_bare(source, where):
    """Runs code by a Python without any package.

    Returns:
      The commands that it would have run, each with its options.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BARE + source],
        cwd=where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def pip(what):
    argv = [sys.executable, "-m", "pip", "install", "--quiet", str(what)]
    return [[argv, {"check": True}]]


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_bare_kernel_installs_m3jax(path, tmp_path):
    source = first_code(path)
    # From the checkout that the notebook lies in, as Jupyter and Colab start there ...
    assert run_bare(source, COLABS) == pip(COLABS.parent.resolve())
    # ... or by name, also beside a checkout, whose folder looks like a package.
    (tmp_path / "m3jax").mkdir()
    assert run_bare(source, tmp_path) == pip("m3jax")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_kernel_with_m3jax_installs_nothing(path):
    assert not run_bare(INSTALLED + first_code(path), COLABS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_says_where_packages_come_from(path):
    assert "://" not in path.with_suffix(".py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("M3JAX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("M3JAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=400, resources={"metadata": {"path": str(COLABS)}}
    )
    client.execute()  # raises if a cell does
