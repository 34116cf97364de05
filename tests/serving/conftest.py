"""Dummy experts, and images for them."""

import importlib.util
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def dummies():
    """The module of dummy experts."""
    spec = importlib.util.spec_from_file_location("dummies", HERE / "dummies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def images():
    """Three random pictures, uint8 [3, 64, 64, 3]."""
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="session")
def command():
    """``command("stdio", "a", "b")`` starts a server of dummies."""
    return lambda *words: (sys.executable, str(HERE / "dummies.py"), *words)


@pytest.fixture
def start(command):
    """``start("a", "b")`` serves over HTTP in a process of its own: URL, process."""
    processes = []

    def run(*names):
        process = subprocess.Popen(
            command("http", *names), stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), url
        return url, process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def gate():
    """Holds experts up until it is set; set at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()
