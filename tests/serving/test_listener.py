"""Connections by hand: who keeps a place, who waits, who is too late."""

import asyncio
import contextlib
import json
import socket

import numpy as np
import pytest

from m3jax.serving import (
    async_registry,
    calls,
    codec,
    endpoints,
    over_http,
    server,
    web,
    wire,
)

pytest.importorskip("mcp")
listener = pytest.importorskip("m3jax.serving.listener")

TOKEN = "correct-horse-battery"
QUICK = wire.Wire(head_s=0.2, body_s=0.2, write_s=0.2, idle_s=0.2)


class Caller:
    """Opens connections to a server, and closes them all at the end."""

    def __init__(self, url):
        self.url = url
        self.port = int(url.split(":")[2].removesuffix(web.PATH))
        self._writers = []

    async def open(self, data=b"", buffer=None):
        raw = socket.socket()
        raw.setblocking(False)
        if buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
        self._writers.append(writer)
        writer.write(data)
        await writer.drain()
        return reader, writer

    async def exchange(self, data):
        """Status of the answer to one request; 0 if there is none."""
        try:
            reader, _ = await self.open(data)
            return await read_status(reader)
        except ConnectionError:
            return 0

    def close(self):
        for writer in self._writers:
            writer.close()


async def read_status(reader):
    """The status of an answer, whose body is read too; 0 where there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = await asyncio.wait_for(reader.read(1024), 10)
        if not part:
            return 0
        head += part
    return int(head.split()[1])


def head(path="/encode/sign", length=None, more=(), host="127.0.0.1"):
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def request(num=1, path="/encode/sign", more=()):
    body = codec.encode(np.zeros((num, 64, 64, 3), np.uint8))
    return head(path, len(body), more) + body


def serving(served, work, **how):
    async def run():
        async with over_http.running(served, **how) as (url, _):
            caller = Caller(url)
            try:
                async with asyncio.timeout(30):
                    return await work(caller)
            finally:
                caller.close()

    return asyncio.run(run())


async def ended(reader, within=3.0):
    """What still came before the server closed the connection."""
    try:
        return await asyncio.wait_for(reader.read(), within)
    except ConnectionError:
        return b""


@pytest.fixture
def served(dummies):
    return server.make_server(
        [dummies.Dummy("sign"), dummies.Dummy("chart", (64, 128))]
    )


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", b""),
        (b"P", b"408"),
        (head()[:-2], b"408"),
        (head(length=100), b"408"),
        (head(length=100) + b"x" * 99, b"408"),
        (head(more=["Transfer-Encoding: chunked"]) + b"5\r\nabc", b"408"),
    ],
)
def test_a_request_must_come_in_time(served, sent, told):
    async def work(caller):
        reader, _ = await caller.open(sent)
        return await ended(reader)

    answer = serving(served, work, limits=QUICK)
    assert answer[9:12] == told


def test_bytes_that_trickle_in_win_no_time(served):
    async def work(caller):
        reader, writer = await caller.open()
        whole = asyncio.create_task(ended(reader))
        for sent, byte in enumerate(head()):
            if whole.done() or writer.transport.is_closing():
                return sent, await whole
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        return len(head()), b"it was served"

    sent, answer = serving(served, work, limits=QUICK)
    # A byte that comes after the end resets the connection, and no answer is seen.
    assert sent < len(head()) and answer[9:12] in (b"408", b"")


def test_an_open_connection_may_rest_between_calls_but_not_for_ever(served):
    async def work(caller):
        reader, writer = await caller.open(request())
        statuses = [await read_status(reader)]
        await asyncio.sleep(0.1)
        writer.write(request())
        statuses.append(await read_status(reader))
        return statuses, await ended(reader)

    limits = wire.Wire(head_s=9.0, idle_s=0.2)
    assert serving(served, work, limits=limits) == ([200, 200], b"")


@pytest.mark.parametrize(("write_s", "whole"), [(0.1, False), (9.0, True)])
def test_who_does_not_read_is_cut_off(served, write_s, whole):
    async def work(caller):
        many = request(64, "/encode/chart") * 3
        reader, _ = await caller.open(many, buffer=4096)
        await asyncio.sleep(0.3)
        size = 0
        with contextlib.suppress(ConnectionError):
            while size < expected and (part := await reader.read(1 << 20)):
                size += len(part)
        return size

    expected = 3 * 64 * 64 * 128 * 4
    size = serving(served, work, limits=wire.Wire(write_s=write_s))
    assert (size >= expected) == whole


@pytest.mark.parametrize("sent", [b"", b"POST /mcp HT", head(length=9)])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_connections_that_wait_for_nothing_lock_nobody_out(served, images, sent, token):
    """More of them than there are places, all from the address of the honest one."""
    limits = wire.Wire(max_connections=200, max_per_address=160, max_parked=200)

    async def work(caller):
        for _ in range(260):
            await caller.open(sent)
        where = [endpoints.Http(caller.url, token)]
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with async_registry.AsyncRegistry(where, connect_s=5.0) as found:
            replies = await found.encode(images, ["sign"])
        return replies["sign"], loop.time() - start

    reply, seconds = serving(served, work, limits=limits, token=token)
    assert reply.ok and seconds < 3.0


def test_three_hundred_at_once_are_all_answered(served):
    async def work(caller):
        return await asyncio.gather(
            *(caller.exchange(request(more=["Connection: close"])) for _ in range(300))
        )

    assert serving(served, work) == [200] * 300


def test_only_those_truly_above_the_limits_are_refused(dummies, gate):
    """Four places, two wait for one, the rest is told at once to come again."""
    expert = dummies.Dummy("sign", before=lambda _: gate.wait(30))
    served = server.make_server([expert])
    limits = wire.Wire(max_connections=4, max_per_address=4, max_parked=2)

    async def work(caller):
        tasks = []
        for _ in range(9):
            one = caller.exchange(request(more=["Connection: close"]))
            tasks.append(asyncio.create_task(one))
            await asyncio.sleep(0.01)
        await asyncio.wait(tasks[6:], timeout=5)
        early = [task.done() and task.result() for task in tasks]
        gate.set()
        return early, await asyncio.gather(*tasks)

    early, late = serving(served, work, limits=limits)
    assert early == [False] * 6 + [503] * 3
    assert late == [200] * 6 + [503] * 3


def test_who_waits_for_a_place_in_vain_is_told(dummies, gate):
    expert = dummies.Dummy("sign", before=lambda _: gate.wait(30))
    served = server.make_server([expert])
    limits = wire.Wire(head_s=0.2, max_connections=1, max_per_address=1)

    async def work(caller):
        first = asyncio.create_task(caller.exchange(request()))
        await asyncio.sleep(0.05)
        second = await caller.exchange(request())
        gate.set()
        return await first, second

    assert serving(served, work, limits=limits) == (200, 503)


def test_a_busy_server_says_so(dummies, gate):
    expert = dummies.Dummy("sign", before=lambda _: gate.wait(30))
    served = server.make_server([expert], calls.Limits(max_parallel=1, max_waiting=0))

    async def work(caller):
        first = asyncio.create_task(caller.exchange(request()))
        while not expert.calls:
            await asyncio.sleep(0.005)
        second = await caller.exchange(request())
        gate.set()
        return await first, second

    assert serving(served, work) == (200, 503)


def test_a_caller_who_leaves_is_not_worked_for(dummies, gate):
    expert = dummies.Dummy("sign", before=lambda _: gate.wait(30))
    served = server.make_server([expert], calls.Limits(max_parallel=1))
    workers = served.answers.workers

    async def until(num):
        while workers.num_calls != num:
            await asyncio.sleep(0.005)

    async def work(caller):
        first = asyncio.create_task(caller.exchange(request()))
        await until(1)
        _, writer = await caller.open(request(2))
        await until(2)
        writer.transport.abort()
        await asyncio.wait_for(until(1), 5)
        gate.set()
        return await first

    assert serving(served, work) == 200
    assert expert.calls == [(1, 64, 64, 3)]


def test_a_server_that_cannot_accept_ends_with_the_reason(served, monkeypatch):
    def fail(_, accepted, address):
        accepted.close()
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(listener.Listener, "_take", fail)

    async def run():
        async with over_http.running(served) as (url, ended):
            caller = Caller(url)
            await caller.open(request())
            await asyncio.wait_for(ended.wait(), 5)
            caller.close()

    with pytest.raises(RuntimeError, match="a fault of ours"):
        asyncio.run(run())


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.nip.io"])
def test_answers_are_not_given_under_another_name(served, host):
    handle = served.store.put(b"tokens")

    async def work(caller):
        get = f"GET /arrays/{handle} HTTP/1.1\r\nHost: "
        hosts = ("127.0.0.1", host)
        found = [await caller.exchange((get + h + "\r\n\r\n").encode()) for h in hosts]
        foreign = f"{get}127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n"
        return [*found, await caller.exchange(foreign.encode())]

    assert serving(served, work) == [200, 421, 403]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, b"400"),
        (head(host="a\r\nHost: b", length=2) + b"{}", b"400"),
    ],
)
def test_what_is_no_request_is_answered_and_closed(served, data, status):
    async def work(caller):
        reader, _ = await caller.open()
        caller._writers[-1].write(data)
        return await ended(reader), await caller.exchange(request())

    answer, after = serving(served, work)
    assert answer[9:12] in (status, b"") and after == 200


def test_who_sends_too_much_sees_why(served):
    """Swiftly, and far more than the connection holds: the answer is not lost."""
    size = 6 * served.max_request_bytes

    async def work(caller):
        found = []
        for more, length in (([], size), (["Transfer-Encoding: chunked"], None)):
            body = b" " * size if length else b"%x\r\n" % size + b" " * size
            data = head("/encode/sign", length, more) + body
            found.append(await caller.exchange(data))
        return found

    assert serving(served, work) == [413, 413]


def test_who_asks_before_sending_is_refused_at_once(served):
    async def work(caller):
        size = 6 * served.max_request_bytes
        asking = head("/encode/sign", size, ["Expect: 100-continue"])
        reader, _ = await caller.open(asking)
        return await ended(reader)

    assert serving(served, work)[9:12] == b"413"


def test_errors_of_plain_calls_are_words(served):
    async def work(caller):
        reader, _ = await caller.open(head("/encode/nobody", 2) + b"{}")
        answer = b""
        while not answer.endswith(b"}}"):
            answer += await asyncio.wait_for(reader.read(1024), 5)
        return answer

    status, _, body = serving(served, work).partition(b"\r\n\r\n")
    assert status.split()[1] == b"400"
    words = json.loads(body)["error"]["message"]
    assert words.startswith("no expert 'nobody'; there are chart, sign")
