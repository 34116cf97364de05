"""Launchers as a user starts them, without paying for their imports each time."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

SERVER = pathlib.Path(__file__).with_name("forkserver.py")
ROOT = SERVER.parents[2]


class Done(NamedTuple):
    """How a launcher ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def launch(tmp_path_factory) -> Callable[..., Done]:
    """``launch("train.py", "--workdir=runs/t")`` runs a launcher to its end.

    It stands in the root of the repository, unless ``cwd`` is given; data sets,
    compiled programs and exports go to folders of their own.
    """
    root = tmp_path_factory.mktemp("launch")
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
        "M3JAX_DATA_DIR": str(root / "data"),
        "M3JAX_CACHE_DIR": str(root / "kept"),
        "M3JAX_MODELS_DIR": str(root / "models"),
        "PYTHONPATH": str(SERVER.parents[2]),
    }
    with subprocess.Popen(
        [sys.executable, SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=SERVER.parents[2],
        env=env,
    ) as server:
        assert server.stdout.readline() == "ready\n"

        def run(
            script: str, *argv: object, cwd: object = ROOT, **environ: object
        ) -> Done:
            request = {
                "cwd": str(cwd),
                "script": f"launch/{script}",
                "argv": [str(arg) for arg in argv],
                "environ": {name: str(value) for name, value in environ.items()},
            }
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            return Done(**json.loads(server.stdout.readline()))

        yield run
        server.stdin.close()
