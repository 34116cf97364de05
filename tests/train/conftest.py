"""The toy regression, as a module and as a program."""

import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import jax
import numpy as np
import pytest

TOY = pathlib.Path(__file__).with_name("toy.py")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module ``toy``: a system, batches with a position, and ``fit``."""
    spec = importlib.util.spec_from_file_location("toy", TOY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start_python() -> Callable[..., subprocess.Popen]:
    """Starts Python with so many faked devices; what still runs is killed at the end.

    Call it as ``start_python(*arguments, devices=1)``.
    """
    started = []

    def start(*arguments: object, devices: int = 1) -> subprocess.Popen:
        root = TOY.parents[2]
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": f"{root}{os.pathsep}{TOY.parent}",
        }
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def assert_identical() -> Callable[[object, object], None]:
    """Compares two pytrees bit for bit, structure included."""

    def compare(first: object, second: object) -> None:
        assert jax.tree.structure(first) == jax.tree.structure(second)
        for one, other in zip(
            jax.tree.leaves(first), jax.tree.leaves(second), strict=True
        ):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

    return compare
