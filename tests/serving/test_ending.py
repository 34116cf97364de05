"""The end of a server over HTTP: calls under way, new ones, exit codes."""

import asyncio
import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from m3jax.serving import codec, endpoints, guard, intake, registry

mcp = pytest.importorskip("mcp")

SCRIPT = str(pathlib.Path(__file__).with_name("ending.py"))
IMAGE = np.zeros((64, 64, 3), np.uint8)


@contextlib.contextmanager
def running(seconds, grace_s):
    command = [sys.executable, SCRIPT, str(seconds), str(grace_s)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def call_through_the_end(number, process, url, mode):
    """The result of a call in whose middle the server gets a signal."""
    text = codec.to_text(codec.encode(IMAGE))

    async def work():
        async with mcp.Client(url, mode=mode) as client:
            await client.list_tools()  # or it asks for them after the call
            call = asyncio.create_task(client.call_tool("encode", {"image": text}))
            line = await asyncio.to_thread(process.stdout.readline)
            assert line == "working\n"
            process.send_signal(number)
            await asyncio.sleep(0.15)
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port_of(url))
            return await call

    return asyncio.run(work())


def port_of(url):
    return int(url.split(":")[2].split("/")[0])


@pytest.mark.parametrize(
    ("number", "mode"), [(signal.SIGTERM, "auto"), (signal.SIGINT, "legacy")]
)
def test_calls_under_way_end_within_the_grace(number, mode):
    with running(0.4, 10) as (process, url):
        result = call_through_the_end(number, process, url, mode)
        out, err = process.communicate(timeout=10)
    assert not result.is_error
    assert out == f"{signal.Signals(number).name} 0 0\n" and err == ""


def test_the_grace_is_kept_and_the_rest_is_told():
    with running(1.0, 0.1) as (process, url):
        with registry.Registry([endpoints.Http(url)], timeout_s=10.0) as found:
            pool = asyncio.new_event_loop()
            try:
                call = pool.run_in_executor(None, found.encode, IMAGE)
                assert process.stdout.readline() == "working\n"
                start = time.monotonic()
                process.terminate()
                reply = pool.run_until_complete(call)["slow"]
                assert time.monotonic() - start < 0.9
            finally:
                pool.run_until_complete(pool.shutdown_default_executor())
                pool.close()
        out, err = process.communicate(timeout=10)
    assert reply.failure == "refused" and "the server is ending" in reply.reason
    assert out == "SIGTERM 1 1\n" and err == ""


def test_a_second_signal_ends_it_at_once():
    with running(30, 30) as (process, url):
        with registry.Registry([endpoints.Http(url)], timeout_s=0.1) as found:
            found.encode(IMAGE)
            assert process.stdout.readline() == "working\n"
        process.terminate()
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM


def test_new_requests_are_refused_while_it_ends():
    """A connection that is still open may bring one."""
    sent = []

    async def send(message):
        sent.append(message)

    async def nothing():
        return {"type": "http.request"}

    async def run():
        door = intake.Intake(None, guard.Rules(frozenset(), 100), 1.0)
        door.end()
        await door({"type": "http", "headers": []}, nothing, send)

    asyncio.run(run())
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
