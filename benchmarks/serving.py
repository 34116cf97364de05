"""Calls of an expert over HTTP, against a plain FastAPI program.

python -m benchmarks.serving

Both sides get an image and give the tokens of a shipped expert, which are there
already: what is measured is the wire. Each server is a process of its own, and 1, 8 and
64 callers ask it again and again from this one, each as soon as it has its answer. Both
must give the same bytes before anything is timed. A ratio above 1 means that m3jax is
better: more calls a second, or a shorter wait.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import numpy as np
from absl import flags

from benchmarks import harness, serving_servers
from m3jax.serving import async_registry, codec, endpoints, web

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Timed turns of each side.", lower_bound=1, allow_override=True
)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Length of a turn.", allow_override=True)

CLIENTS = (1, 8, 64)
PERCENTILES = (50, 95, 99)
TARGET = 0.5
OURS, BY_HTTPX, BY_PROTOCOL = "m3jax", "m3jax, called as FastAPI is", "m3jax by MCP"
PEER = "FastAPI"

Call = Callable[[], Awaitable[bytes]]
"""Asks once, and gives the message of the tokens."""


@contextlib.contextmanager
def started(name: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving_servers", name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT
    ) as process:
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the server of {name} did not start")
            yield url
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def sides(ours: str, peer: str) -> AsyncIterator[Mapping[str, Call]]:
    """One call of each side; connections stay open between calls."""
    import httpx2

    image = np.zeros(serving_servers.IMAGE_SHAPE, np.uint8)
    message = codec.encode(image[None])
    base = ours.removesuffix(web.PATH)
    async with (
        async_registry.AsyncRegistry([endpoints.Http(ours)]) as registry,
        async_registry.AsyncRegistry([endpoints.Http(ours)]) as by_protocol,
        httpx2.AsyncClient(timeout=None, trust_env=False) as http,
    ):
        session = await by_protocol._connections[0].open()
        session.plain._offered = False  # as where a server speaks the protocol only

        def asks(found: async_registry.AsyncRegistry) -> Call:
            async def call() -> bytes:
                reply = (await found.encode(image))["still"]
                if not reply.ok:
                    raise RuntimeError(f"m3jax: {reply.failure}, {reply.reason}")
                return codec.encode(reply.tokens)

            return call

        def posts(url: str) -> Call:
            async def call() -> bytes:
                response = await http.post(url, content=message)
                if response.status_code != 200:
                    raise RuntimeError(f"{url}: {response.status_code}")
                return response.content

            return call

        yield {
            OURS: asks(registry),
            BY_HTTPX: posts(f"{base}{web.ENCODE_PATH}still"),
            BY_PROTOCOL: asks(by_protocol),
            PEER: posts(peer + serving_servers.ECHO_PATH),
        }


async def load(call: Call, clients: int, seconds: float) -> tuple[float, np.ndarray]:
    """Calls a second, and the seconds of each call, of callers that never rest."""
    waits: list[float] = []
    start = time.perf_counter()
    until = start + seconds

    async def ask() -> None:
        while (begun := time.perf_counter()) < until:
            await call()
            waits.append(time.perf_counter() - begun)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return len(waits) / (time.perf_counter() - start), np.array(waits)


def check(answers: Mapping[str, bytes]) -> None:
    """Checks that all sides gave the tokens.

    Raises:
      RuntimeError: one did not.
    """
    expected = codec.encode(serving_servers.tokens())
    wrong = [name for name, answer in answers.items() if answer != expected]
    if wrong:
        raise RuntimeError(f"{', '.join(wrong)}: other bytes than the tokens")


async def measure(
    ours: str, peer: str, machine: harness.Machine, rounds: int, seconds: float
) -> list[harness.Row]:
    """Checks and times all sides, in turn, for each number of callers."""
    rows = []
    async with sides(ours, peer) as calls:
        check({name: await call() for name, call in calls.items()})
        for clients in CLIENTS:
            found: dict[str, list] = {name: [] for name in calls}
            for call in calls.values():
                await load(call, clients, min(seconds, 0.5))  # opens connections
            for index in range(rounds):
                for name in list(calls)[:: -1 if index % 2 else 1]:
                    found[name].append(await load(calls[name], clients, seconds))
            rows += make_rows(clients, found, machine)
    return rows


def make_rows(
    clients: int,
    found: Mapping[str, list[tuple[float, np.ndarray]]],
    machine: harness.Machine,
) -> list[harness.Row]:
    """Rates of all of our sides, then the waits of the first.

    Args:
      clients: callers at once.
      found: for each side and round, calls a second and the seconds of each.
      machine: what it ran on.
    """
    callers = "1 caller" if clients == 1 else f"{clients} callers"
    title = f"an expert called over HTTP, {callers}"
    rates = {name: [rate for rate, _ in turns] for name, turns in found.items()}
    rows = [
        _row(
            title if name == OURS else f"{title}: {name}",
            "1/s",
            rates[name],
            rates[PEER],
            [a / b for a, b in zip(rates[name], rates[PEER], strict=True)],
            machine,
            TARGET if name == OURS else None,
        )
        for name in found
        if name != PEER
    ]
    for percentile in PERCENTILES:
        ours, peer = (
            [float(np.percentile(waits, percentile)) for _, waits in found[name]]
            for name in (OURS, PEER)
        )
        ratios = [b / a for a, b in zip(ours, peer, strict=True)]
        workload = f"{title}: wait, {percentile} % of calls"
        rows.append(_row(workload, "s", ours, peer, ratios, machine))
    return rows


def _row(
    workload: str,
    unit: str,
    ours: list[float],
    peer: list[float],
    ratios: list[float],
    machine: harness.Machine,
    target: float | None = None,
) -> harness.Row:
    return harness.Row(
        workload=workload,
        unit=unit,
        m3jax=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=PEER,
        ratio=statistics.median(ratios),
        **vars(machine),
        target=target,
    )


def main() -> list[harness.Row]:
    """Measures every number of callers."""
    for package in ("fastapi", "mcp"):
        harness.require(package)
    machine = harness.measure_machine(["fastapi", "uvicorn", "mcp"])
    with started("m3jax") as ours, started("fastapi") as peer:
        work = measure(ours, peer, machine, _ROUNDS.value, _SECONDS.value)
        return asyncio.run(work)


if __name__ == "__main__":
    harness.run(main)
