"""Takes connections for uvicorn: a place for each, and a deadline for all it waits for.

uvicorn knows one limit for all connections, whatever they do. Accepting is done here,
so that a handshake of TLS that never ends has a place and a deadline too. Needs
``m3jax[mcp]``.
"""

import asyncio
import collections
import contextlib
import socket
import ssl
from typing import Any

from m3jax.serving import admission, connection, wire

_AGAIN_S = 0.1
"""Between looks whether somebody's patience has ended, while connections wait."""
_NO_PLACE = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\n\r\n"
)

Phase = admission.Phase


class Listener:
    """Accepts at a socket, and hands connections to uvicorn.

    A newcomer for whom there is no place takes that of a connection that works on
    nothing; if all work, it waits, and is refused with 503 only if too many do, or for
    too long.

    Args:
      listening: the socket; it is closed by ``stop``.
      server: ``uvicorn.Server`` that has started, with no sockets of its own.
      limits: deadlines and places.
      tls: to speak TLS.
    """

    def __init__(
        self,
        listening: socket.socket,
        server: Any,
        limits: wire.Wire,
        tls: ssl.SSLContext | None = None,
    ):
        self.limits = limits
        self._listening = listening
        self._server = server
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._places = admission.Admission[connection.Connection](
            limits.max_connections, limits.max_per_address
        )
        self._parked: collections.deque[_Parked] = collections.deque()
        self._opening: set[asyncio.Task] = set()
        self._look: asyncio.TimerHandle | None = None
        self._accepting = self._loop.create_task(self._accept())
        self._accepting.add_done_callback(self._accepts_no_more)

    @property
    def num_connections(self) -> int:
        """Connections that have a place."""
        return len(self._places)

    def stop(self) -> None:
        """Accepts no more, and turns away those that wait."""
        self._accepting.cancel()
        self._listening.close()
        for task in self._opening:
            task.cancel()
        if self._look is not None:
            self._look.cancel()
        while self._parked:
            self._refuse(self._parked.popleft())

    def check(self) -> None:
        """Raises what accepting ended with, if it was not stopped."""
        if self._accepting.done() and not self._accepting.cancelled():
            self._accepting.result()

    def abort(self) -> None:
        """Cuts all connections off."""
        for member in list(self._server.server_state.connections):
            member.transport.abort()

    def moved(self, member: connection.Connection, phase: Phase) -> None:
        """A connection does something else; one that waits may take its place."""
        self._places.move(member, phase)
        if phase is not Phase.WORKING:
            self._look_soon()

    def left(self, member: connection.Connection) -> None:
        """A connection is over."""
        self._places.leave(member)
        self._admit_parked()

    def _accepts_no_more(self, accepting: asyncio.Task) -> None:
        """A server that is deaf must end rather than live on."""
        if not accepting.cancelled():
            self._server.should_exit = True

    async def _accept(self) -> None:
        self._listening.setblocking(False)
        while True:
            try:
                accepted, peer = await self._loop.sock_accept(self._listening)
            except ConnectionError:  # it was gone before it was accepted
                continue
            except OSError:  # no file descriptors: make room, and try again
                self._make_room("")
                await asyncio.sleep(_AGAIN_S)
                continue
            self._take(accepted, peer[0])

    def _take(self, accepted: socket.socket, address: str) -> None:
        # Behind those of its own address that wait already.
        behind = any(parked.address == address for parked in self._parked)
        if not behind and self._make_room(address):
            self._open(accepted, address)
            return
        parked = _Parked(accepted, address, self._loop.time() + self.limits.head_s)
        if len(self._parked) >= self.limits.max_parked:
            self._refuse(parked)
        else:
            self._parked.append(parked)
            self._look_soon()

    def _make_room(self, address: str) -> bool:
        while not self._places.has_room(address):
            member = self._places.yielding(address)
            if member is None:
                return False
            self._places.leave(member)
            member.give_way()
        return True

    def _open(self, accepted: socket.socket, address: str) -> None:
        member = connection.Connection(self, self._server)
        self._places.enter(member, address)
        task = self._loop.create_task(self._hand_over(member, accepted))
        member.opening = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _hand_over(
        self, member: connection.Connection, accepted: socket.socket
    ) -> None:
        seconds = None if self._tls is None else self.limits.head_s
        try:
            await self._loop.connect_accepted_socket(
                lambda: member,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        except (OSError, asyncio.CancelledError):  # also errors of TLS
            accepted.close()
            self.left(member)
        finally:
            member.opening = None

    def _look_soon(self) -> None:
        if self._parked and self._look is None:
            self._look = self._loop.call_later(_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        now = self._loop.time()
        while self._parked and self._parked[0].until <= now:
            self._refuse(self._parked.popleft())
        self._admit_parked()
        self._look_soon()

    def _admit_parked(self) -> None:
        """Gives places to those that wait, in their order within each address."""
        full: set[str] = set()
        for parked in list(self._parked):
            if parked.address in full:
                continue
            if self._make_room(parked.address):
                self._parked.remove(parked)
                self._open(parked.accepted, parked.address)
            else:
                full.add(parked.address)

    def _refuse(self, parked: "_Parked") -> None:
        with contextlib.suppress(OSError), parked.accepted as accepted:
            if self._tls is None:
                accepted.send(_NO_PLACE)


class _Parked:
    """A connection that waits for a place, until a time of the loop."""

    def __init__(self, accepted: socket.socket, address: str, until: float):
        self.accepted, self.address, self.until = accepted, address, until
