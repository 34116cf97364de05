"""Experts served over HTTP: the start, the end, and the signals between them."""

import asyncio
import contextlib
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from m3jax.serving import guard, intake, web, wire
from m3jax.serving import server as server_lib

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LAST_S = 1.0
"""For what was called off to say so, and for connections to close."""


class Ended(NamedTuple):
    """How serving over HTTP ended.

    Attributes:
      received: the signal that ended it, None if none did.
      cut_off: calls that did not end within the grace.
      abandoned: calls of experts that still run in threads.
    """

    received: signal.Signals | None
    cut_off: int
    abandoned: int


def serve(
    served: server_lib.Served,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    started: Callable[[str], None] = print,
    **access: Any,
) -> Ended:
    """Serves callers over streamable HTTP until the process is told to end.

    SIGTERM, SIGHUP and Ctrl-C end it: new calls are refused, those under way have
    ``limits.grace_s`` to end. A second signal acts as it does by default.

    Args:
      served: the server.
      host: address to listen at; by default only this machine can call.
      port: 0 for any that is free.
      token: what callers must send as ``Authorization: Bearer``; None for no check.
      started: called with the URL as soon as calls are taken.
      **access: ``tls``, ``insecure``, ``hosts`` and ``limits``, see ``running``.

    Raises:
      ValueError: no token, or no TLS, though ``host`` is reached from beyond this
        machine.
      OSError: the address cannot be listened at.
    """

    async def until_told() -> Ended:
        stop = asyncio.Event()
        with _noted_signals(stop) as received:
            async with running(served, host, port, token, **access) as found:
                started(found.url)
                waits = [asyncio.ensure_future(e.wait()) for e in (stop, found.ended)]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        abandoned = served.answers.workers.num_calls if served.answers else 0
        return Ended(next(iter(received), None), found.cut_off, abandoned)

    return asyncio.run(until_told())


class Running:
    """A server that runs; also ``url, ended = server``.

    Attributes:
      url: where the protocol is spoken.
      ended: set when it ended by itself.
      cut_off: calls that were cut off at its end.
    """

    def __init__(self, url: str):
        self.url = url
        self.ended = asyncio.Event()
        self.cut_off = 0

    def __iter__(self) -> Iterator[Any]:
        return iter((self.url, self.ended))


@contextlib.asynccontextmanager
async def running(
    served: server_lib.Served,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    hosts: Iterable[str] = (),
    limits: wire.Wire = wire.DEFAULTS,
) -> AsyncIterator[Running]:
    """Serves over HTTP inside a running event loop, as long as the block lasts.

    Args:
      served: the server.
      host: address to listen at.
      port: 0 for any that is free.
      token: what callers must send as ``Authorization: Bearer``; None for no check.
      tls: of ``tls.server_context``; None for no TLS.
      insecure: serve without TLS where others than this machine can call.
      hosts: names under which callers reach it, beside those of this machine; requests
        for other names are refused. Beyond this machine none means any name.
      limits: deadlines and places of connections.

    Raises:
      ValueError: no token, or no TLS, though ``host`` is reached from beyond this
        machine.
      OSError: the address cannot be listened at.

    Yields:
      The server; calls under way at the end of the block have ``limits.grace_s``.
    """
    guard.check_exposure(host, token, tls is not None, insecure)
    rules = guard.Rules(
        frozenset([web.PATH]),
        served.max_request_bytes,
        token,
        guard.names_of(host, hosts),
    )
    app = web.make_app(served.protocol, served.answers, served.max_request_bytes)
    door = intake.Intake(app, rules, limits.body_s)
    with listen(host, port, limits) as listening:
        name = f"[{host}]" if ":" in host else host
        scheme = "http" if tls is None else "https"
        at = listening.getsockname()[1]
        found = Running(f"{scheme}://{name}:{at}{web.PATH}")
        async with _serving(door, found, listening, limits, tls):
            yield found


@contextlib.asynccontextmanager
async def _serving(
    door: intake.Intake,
    found: Running,
    listening: socket.socket,
    limits: wire.Wire,
    tls: ssl.SSLContext | None,
) -> AsyncIterator[None]:
    """Runs uvicorn behind a listener, and brings both to an end within the grace."""
    import uvicorn

    from m3jax.serving import listener

    class Quiet(uvicorn.Server):
        """Leaves signals alone: the end of serving is decided here."""

        capture_signals = staticmethod(contextlib.nullcontext)

    config = uvicorn.Config(
        door,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.idle_s,
    )
    server = Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[]))
    task.add_done_callback(lambda _: found.ended.set())
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    connections = listener.Listener(listening, server, limits, tls)
    try:
        yield
    finally:
        door.end()
        connections.stop()
        server.should_exit = True
        if not await _ends(task, limits.grace_s):
            found.cut_off = door.cut_off()
            if not await _ends(task, _LAST_S):
                connections.abort()
        await task
        connections.check()


async def _ends(task: asyncio.Task, seconds: float) -> bool:
    await asyncio.wait({task}, timeout=seconds)
    return task.done()


@contextlib.contextmanager
def _noted_signals(stop: asyncio.Event) -> Iterator[list[signal.Signals]]:
    """Sets an event at the first signal; a second one acts as it does by default."""
    received: list[signal.Signals] = []
    loop = asyncio.get_running_loop()
    main = threading.current_thread() is threading.main_thread()
    # What is ignored, as SIGHUP under nohup, stays so.
    heeded = [n for n in _SIGNALS if main and signal.getsignal(n) != signal.SIG_IGN]

    def note(number: signal.Signals) -> None:
        received.append(number)
        stop.set()
        for each in heeded:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for number in heeded:
        loop.add_signal_handler(number, note, number)
    try:
        yield received
    finally:
        if not received:
            for number in heeded:
                loop.remove_signal_handler(number)


def listen(host: str, port: int, limits: wire.Wire = wire.DEFAULTS) -> socket.socket:
    """A socket that listens.

    Raises:
      OSError: it cannot, and where.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server(
            (host, port), family=family, backlog=limits.max_connections
        )
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error}") from error
    # Connections inherit it. Without it the head and the body of an answer wait for one
    # another (Nagle's algorithm and delayed acknowledgements): 40 ms for each call.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
