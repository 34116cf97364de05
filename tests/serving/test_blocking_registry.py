"""The registry of notebooks and scripts."""

import asyncio
import itertools
import threading
import time
import types

import numpy as np
import pytest

from m3jax.serving import codec, endpoints, registry

mcp = pytest.importorskip("mcp")


def test_a_script_calls_without_await(dummies, images, command):
    expert = dummies.Dummy("sign")
    where = [dummies.local(expert), endpoints.Stdio(command("stdio", "chart"))]
    with registry.Registry(where, timeout_s=20.0) as found:
        assert list(found.descriptors) == list(found.alive) == ["sign", "chart"]
        assert found.problems == {} and found.discover() == found.descriptors
        replies = found.encode(images, ["sign"], precision="int8_rows")
        expected = codec.decode(codec.encode(expert.encode(images), "int8_rows"))
        np.testing.assert_array_equal(replies["sign"].tokens, expected)
        with pytest.raises(ValueError, match="give a list"):
            found.encode(images, ["nobody"])
    found.close()
    threads = [thread.name for thread in threading.enumerate()]
    assert "m3jax-registry" not in threads


def test_a_notebook_calls_inside_its_running_loop(dummies, images):
    async def cell():
        with registry.Registry([dummies.local(dummies.Dummy("sign"))]) as found:
            return found.encode(images)

    assert asyncio.run(cell())["sign"].ok


def test_an_interrupted_script_calls_off(dummies, images, gate, monkeypatch):
    """The wait for the answer is interrupted; the call is cancelled in the loop."""
    expert = dummies.Dummy("slow", before=lambda _: gate.wait(30))
    with registry.Registry([dummies.local(expert)]) as found:
        inner = found._registry
        ask, seen = inner._ask, []

        async def watch(*args):
            try:
                return await ask(*args)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        inner._ask = watch
        future = types.SimpleNamespace()

        def interrupt(work, loop):
            real = submit(work, loop)
            while not expert.calls:
                time.sleep(0.01)
            future.result = _raise_interrupt
            future.cancel = real.cancel
            return future

        submit = asyncio.run_coroutine_threadsafe
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            found.encode(images[0])
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", submit)
        gate.set()
        for _ in itertools.repeat(None, 500):
            if seen:
                break
            time.sleep(0.01)
        assert seen == ["cancelled"]


def _raise_interrupt():
    raise KeyboardInterrupt


def test_no_endpoint_is_refused():
    with pytest.raises(ValueError, match="name at least one"):
        registry.Registry([])
