"""What every test may ask for, and what keeps all of them quick and small."""

import ctypes
import gc
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from m3jax.studies import compiling

# Tests compile for seconds what runs for milliseconds. XLA reads its flags when it
# starts, hence here; the processes that tests start inherit them.
QUICK = compiling.quick_flags()
if QUICK not in (flags := os.environ.get("XLA_FLAGS", "")):
    os.environ["XLA_FLAGS"] = f"{QUICK} {flags}".strip()
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)

SERVER = pathlib.Path(__file__).with_name("forkserver.py")
ROOT = SERVER.parents[1]

# Bytes; a process that has imported everything takes three quarters of the first.
MUCH, TOO_MUCH = 0.9e9, 1.6e9

# Tracing makes objects by the million, few of them garbage in cycles: JAX's traces
# are looked through far less often than Python would.
gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def resident() -> float:
    """Bytes of memory that this process takes; where no system tells, `MUCH`."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return MUCH
    return pages * os.sysconf("SC_PAGE_SIZE")


class Memory:
    """Forgets what was compiled before it fills gigabytes: 1 MB a program.

    Between two files if there is much of it, as the next one may need the same small
    programs; within a file only if there is far too much, as its tests share programs.
    """

    def __init__(self):
        self._file = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Before every test, those in docstrings too."""
        file = nodeid.split("::")[0]
        limit = TOO_MUCH if file == self._file else MUCH
        self._file = file
        if resident() < limit:
            return
        jax.clear_caches()
        gc.collect()
        if platform.libc_ver()[0] == "glibc":  # keeps what is freed unless told not to
            ctypes.CDLL(None).malloc_trim(0)


def pytest_configure(config: pytest.Config) -> None:
    """Hooks of a conftest.py itself see no tests outside its folder."""
    config.pluginmanager.register(Memory())


@pytest.fixture
def key() -> jax.Array:
    """The root key of a test; split it, or fold a number in, for more."""
    return jax.random.key(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """Halves the time that XLA takes, for programs that run for milliseconds."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def cache_settings_restored() -> Iterator[None]:
    """Undoes what ``cache.enable_compilation_cache`` sets."""
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Where sets are made once for all tests; nothing may damage them."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def random_params():
    """``make(module, *args)``: variables of the right shapes, none at its default.

    Drawn by NumPy, so that nothing is compiled, and with biases and scales that differ
    from zero and one, so that a test sees whether they are used.
    """

    def make(module, *args, seed=0, gain=1.0):
        rng = np.random.default_rng(seed)

        def draw(path, leaf):
            values = rng.normal(size=leaf.shape).astype(np.float32)
            if path[-1].key == "scale":
                return 1 + 0.2 * values
            if path[-1].key == "kernel":
                return gain * values / math.sqrt(leaf.shape[-2])
            return 0.2 * gain * values

        shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
        return jax.tree.map_with_path(draw, shapes)

    return make


class Done(NamedTuple):
    """How a launcher ended."""

    code: int
    out: str
    err: str


class Running(NamedTuple):
    """A launcher that runs: its process, and what waits for its end."""

    process: int
    wait: Callable[[], Done]

    def send(self, signal: int) -> None:
        """Sends a signal."""
        os.kill(self.process, signal)


class Launch:
    """Asks the server of forks."""

    def __init__(self, server: subprocess.Popen):
        self._server = server

    def __call__(self, script: str, *argv: object, **options: object) -> Done:
        """Runs a launcher to its end."""
        return self.start(script, *argv, **options).wait()

    def start(
        self, script: str, *argv: object, cwd: object = ROOT, **environ: object
    ) -> Running:
        """Starts a launcher."""
        request = {
            "cwd": str(cwd),
            "script": f"launch/{script}",
            "argv": [str(arg) for arg in argv],
            "environ": {name: str(value) for name, value in environ.items()},
        }
        process = self._ask(request)["process"]
        return Running(process, lambda: Done(**self._ask({"process": process})))

    def _ask(self, request: dict) -> dict:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="session")
def launch(tmp_path_factory) -> Iterator[Launch]:
    """``launch("train.py", "--workdir=runs/t")`` runs a launcher to its end.

    ``launch.start(...)`` gives a `Running` instead.

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
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    ) as server:
        assert server.stdout.readline() == "ready\n"

        yield Launch(server)
        server.stdin.close()
