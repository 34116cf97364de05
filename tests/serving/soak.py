"""Random faults against a live server of experts, for as long as is asked.

python tests/serving/soak.py --seconds=1800

Callers hang, lie, break off and read slowly, experts fail and call ``sys.exit``;
meanwhile honest callers must get exact tokens, all of them. At the end the server must
still answer, with as few open files as before, and with flat memory. Prints one JSON
line a minute, and one with the verdict; exits with 1 if a claim does not hold.
"""

import argparse
import asyncio
import collections
import contextlib
import importlib.util
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
import time

import numpy as np

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

HERE = pathlib.Path(__file__).parent
TOKEN = "correct-horse-battery"
LIMITS = wire.Wire(head_s=2.0, body_s=4.0, write_s=1.0, idle_s=5.0)
"""Short, but longer than a busy machine may keep an honest caller from its turn."""
CALLERS = 12
HONEST = 4
MAX_GROWTH = 0.05
"""Of the resident memory from the second quarter of the run to its last."""
SETTLING_BYTES, SETTLING_S = 64 << 20, 60.0
"""What the allocator of a fresh process takes, and in which time: short runs see it."""


def load_dummies():
    spec = importlib.util.spec_from_file_location("dummies", HERE / "dummies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve():
    """The server under attack: three experts, one that fails, one that leaves."""
    dummies = load_dummies()

    def fail(_):
        raise RuntimeError("on purpose")

    experts = [
        *(dummies.Dummy("sign"), dummies.Dummy("chart", dummies.LARGE)),
        dummies.Dummy("slow", before=lambda _: time.sleep(0.05)),
        *(
            dummies.Dummy("fails", before=fail),
            dummies.Dummy("leaves", before=sys.exit),
        ),
    ]
    for expert in experts:
        expert.calls = collections.deque(maxlen=1)  # it must not grow by itself
    over_http.serve(
        server.make_server(experts, calls.Limits(max_batch=8)),
        port=0,
        token=TOKEN,
        started=lambda url: print(url, flush=True),
        limits=LIMITS,
    )


class Faults:
    """One method for each kind of bad caller; a method's end is that of the caller."""

    def __init__(self, port, seed):
        self._port = port
        self._random = random.Random(seed)

    def kinds(self):
        return [
            name for name in dir(self) if not name.startswith("_") and name != "kinds"
        ]

    @contextlib.asynccontextmanager
    async def _connected(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _head(self, path="/mcp", length=None, token=TOKEN, more=()):
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}"]
        lines += [f"Authorization: Bearer {token}", "Content-Type: application/json"]
        lines += ["Accept: application/json, text/event-stream", *more]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _images(self, num):
        return codec.encode(np.zeros((num, 64, 64, 3), np.uint8))

    async def _whole(self, head, body, limit=1 << 16):
        async with self._connected() as (reader, writer):
            writer.write(head + body)
            await writer.drain()
            await asyncio.wait_for(reader.read(limit), 3)

    async def idle(self):
        async with self._connected() as (reader, _):
            await asyncio.wait_for(reader.read(), self._random.uniform(0, 4))

    async def half_head(self):
        head = self._head()
        async with self._connected() as (reader, writer):
            writer.write(head[: self._random.randrange(1, len(head) - 1)])
            await asyncio.wait_for(reader.read(), self._random.uniform(0, 4))

    async def trickled_head(self):
        async with self._connected() as (_, writer):
            for byte in self._head()[:60]:
                if writer.transport.is_closing():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

    async def huge_head(self):
        size = self._random.choice([20_000, 200_000, 2_000_000])
        await self._whole(self._head(more=["X-Filler: " + "x" * size]), b"")

    async def torn_body(self):
        length = self._random.randrange(2, 60_000)
        async with self._connected() as (reader, writer):
            writer.write(self._head("/encode/sign", length) + b"x" * (length // 2))
            await asyncio.wait_for(reader.read(), self._random.uniform(0, 6))

    async def slow_reader(self):
        body = self._images(8)
        async with self._connected() as (reader, writer):
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(4):
                writer.write(self._head("/encode/chart", len(body)) + body)
            await writer.drain()
            await reader.read(64)
            writer.transport.pause_reading()
            await asyncio.sleep(self._random.uniform(0, 2))

    async def bad_json(self):
        body = self._random.choice(
            [b"{", b"[]", b"[" * 5000, b"null", self._random.randbytes(200)]
        )
        more = self._random.choice([(), ("MCP-Protocol-Version: 2026-07-28",)])
        await self._whole(self._head(length=len(body), more=more), body)

    async def bad_array(self):
        body = bytearray(self._images(1))
        body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        await self._whole(self._head("/encode/sign", len(body)), bytes(body))

    async def wrong_token(self):
        body = self._images(1)
        token = self._random.choice(["", "x" * 20, TOKEN[:-1]])
        await self._whole(self._head("/encode/sign", len(body), token), body)

    async def wrong_place(self):
        path = self._random.choice(["/encode/nobody", "/arrays/x", "/", "/%00", "/mcp"])
        await self._whole(self._head(path, 2), b"{}")

    async def too_many_images(self):
        body = self._images(9)
        await self._whole(self._head("/encode/sign", len(body)), body)

    async def killed_in_mid_call(self):
        body = self._images(1)
        async with self._connected() as (_, writer):
            writer.write(self._head("/encode/slow", len(body)) + body)
            await writer.drain()
            await asyncio.sleep(self._random.uniform(0, 0.06))
            raw = writer.get_extra_info("socket")
            linger = struct.pack("ii", 1, 0)  # a reset, as of a process that is killed
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def failing_expert(self):
        body = self._images(1)
        name = self._random.choice(["fails", "leaves"])
        await self._whole(self._head(f"/encode/{name}", len(body)), body)


async def harass(faults, until, counts):
    kinds = faults.kinds()
    while time.monotonic() < until:
        name = faults._random.choice(kinds)
        with contextlib.suppress(OSError, TimeoutError):
            await getattr(faults, name)()
        counts[name] += 1


async def ask(url, until, counts, wrong, by_protocol=False):
    """An honest caller of batches of any size; the tokens must be exact."""
    dummies = load_dummies()
    draw = np.random.default_rng(0)
    names = ["sign", "chart"]
    where = [endpoints.Http(url, TOKEN)]
    async with async_registry.AsyncRegistry(
        where, timeout_s=10.0, retry_s=0.0
    ) as found:
        if by_protocol:  # as from a server that has no other way
            session = await found._connections[0].open()
            session.plain._offered = False
        while time.monotonic() < until:
            images = draw.integers(0, 256, (draw.integers(1, 9), 64, 64, 3), np.uint8)
            for name, reply in (await found.encode(images, names)).items():
                shape = found.descriptors[name].output_shape
                expected = dummies.Dummy(name, shape).encode(images)
                counts["honest"] += 1
                if not reply.ok:
                    wrong.append(f"{reply.failure}: {reply.reason}")
                elif not np.array_equal(reply.tokens, expected):
                    wrong.append("other tokens")
            await asyncio.sleep(0.1)


def resident_bytes(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(x for x in text.splitlines() if x.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def open_files(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


async def watch(pid, start, until, counts, memory):
    told = start
    while (now := time.monotonic()) < until:
        memory.append(resident_bytes(pid))
        if now - told >= 60.0:
            told = now
            print(
                json.dumps({"s": round(now - start), "bytes": memory[-1]}), flush=True
            )
        await asyncio.sleep(min(1.0, (until - start) / 100))


async def attack(url, pid, seconds, seed):
    """Runs everybody; what came of it, and what of it is wrong."""
    port = int(url.split(":")[2].removesuffix(web.PATH))
    counts, wrong, memory = collections.Counter(), [], []
    await ask(url, time.monotonic() + 0.2, collections.Counter(), wrong)
    before = open_files(pid)
    start = time.monotonic()
    until = start + seconds
    await asyncio.gather(
        *(harass(Faults(port, seed + n), until, counts) for n in range(CALLERS)),
        *(ask(url, until, counts, wrong, n % 2 == 1) for n in range(HONEST)),
        watch(pid, start, until, counts, memory),
    )
    await asyncio.sleep(2 * LIMITS.head_s)
    await ask(url, time.monotonic() + 0.2, counts, wrong)
    await asyncio.sleep(0.5)
    quarter = max(1, len(memory) // 4)
    early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
    after = open_files(pid)
    settling = SETTLING_BYTES * min(1.0, SETTLING_S / seconds)
    if late - early > MAX_GROWTH * early + settling:
        wrong.append(f"memory grew from {early} to {late} bytes")
    if after > before + 4:
        wrong.append(f"open files grew from {before} to {after}")
    found = {"seconds": seconds, "early_bytes": early, "late_bytes": late}
    return found | {"open_files": [before, after], "calls": counts}, wrong


def run(seconds, seed=0):
    """Attacks a server in a process of its own; its end must be clean too."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip()
            found, wrong = asyncio.run(attack(url, process.pid, seconds, seed))
        finally:
            process.terminate()
            process.wait(20)
    if process.returncode:
        wrong.append(f"the server ended with {process.returncode}")
    return found, wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    found, wrong = run(options.seconds, options.seed)
    print(json.dumps(found | {"wrong": wrong[:20], "num_wrong": len(wrong)}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
