"""The soak, for a while."""

import importlib.util
import pathlib
import sys

import pytest

pytest.importorskip("mcp")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_random_faults_leave_the_server_answering_with_flat_memory():
    path = pathlib.Path(__file__).with_name("soak.py")
    spec = importlib.util.spec_from_file_location("soak", path)
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    found, wrong = soak.run(seconds=20.0)
    assert wrong == []
    assert found["calls"]["honest"] > 50
    assert set(soak.Faults(0, 0).kinds()) <= set(found["calls"])
