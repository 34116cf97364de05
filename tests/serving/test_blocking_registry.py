"""The registry of notebooks and scripts."""

import asyncio
import concurrent.futures
import itertools
import threading
import time

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

        def interrupt(*_, **__):
            while not expert.calls:
                time.sleep(0.01)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(concurrent.futures, "wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                found.encode(images[0])
        gate.set()
        for _ in itertools.repeat(None, 500):
            if seen:
                break
            time.sleep(0.01)
        assert seen == ["cancelled"]


class Leaves(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Leaves, ValueError])
def test_whatever_an_expert_raises_is_its_own_refusal(dummies, images, kind):
    def leave(_):
        raise kind("no such model")

    experts = [dummies.Dummy("leaves", before=leave), dummies.Dummy("well")]
    with registry.Registry([dummies.local(*experts)], timeout_s=5.0) as found:
        for _ in range(2):
            replies = found.encode(images)
            assert replies["leaves"].failure == "refused"
            assert f"failed ({kind.__name__})" in replies["leaves"].reason
            assert replies["leaves"].seconds < 4.0
            assert replies["well"].ok


def test_an_event_loop_that_hangs_keeps_nobody_waiting(
    dummies, images, gate, monkeypatch
):
    monkeypatch.setattr(registry, "_SLACK_S", 0.05)
    with registry.Registry([dummies.local(dummies.Dummy("sign"))]) as found:
        found._loop.call_soon_threadsafe(gate.wait, 30)
        start = time.monotonic()
        replies = found.encode(images, timeout_s=0.1)
        assert time.monotonic() - start < 2.0
        assert replies["sign"].failure == "timeout"
        assert "the event loop hangs" in replies["sign"].reason
        gate.set()
        assert found.encode(images, timeout_s=20.0)["sign"].ok


def test_an_event_loop_that_ends_is_told_at_once(dummies, images, gate):
    def leave():
        raise SystemExit

    expert = dummies.Dummy("slow", before=lambda _: gate.wait(30))
    with registry.Registry([dummies.local(expert)], timeout_s=20.0) as found:
        threading.Timer(0.1, found._loop.call_soon_threadsafe, [leave]).start()
        start = time.monotonic()
        for _ in range(2):  # in mid-call, and afterwards
            reply = found.encode(images)["slow"]
            assert reply.failure == "dead"
            assert "its event loop ended (SystemExit)" in reply.reason
        with pytest.raises(RuntimeError, match="make a new registry"):
            found.discover()
        assert time.monotonic() - start < 5.0
        gate.set()


def test_no_endpoint_is_refused():
    with pytest.raises(ValueError, match="name at least one"):
        registry.Registry([])
