"""Takes connections for uvicorn: a place for each, and a deadline for all it waits for.

uvicorn speaks HTTP and knows one limit for all connections, whatever they do, and no
deadline for a head or for a caller who does not read. Accepting is done here, so that a
handshake of TLS that never ends has a place and a deadline too. Needs ``m3jax[mcp]``.
"""

import asyncio
import collections
import contextlib
import functools
import socket
import ssl
from typing import Any

import h11
from uvicorn.protocols.http import h11_impl

from m3jax.serving import admission, wire

_AGAIN_S = 0.1
"""Between looks whether somebody's patience has ended, while connections wait."""
_TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
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
        self._places = admission.Admission[Connection](
            limits.max_connections, limits.max_per_address
        )
        self._parked: collections.deque[_Parked] = collections.deque()
        self._opening: set[asyncio.Task] = set()
        self._look: asyncio.TimerHandle | None = None
        self._accepting = self._loop.create_task(self._accept())

    @property
    def num_connections(self) -> int:
        """Connections that have a place."""
        return len(self._places)

    def stop(self) -> None:
        """Accepts no more, and turns away those that wait."""
        self._accepting.cancel()
        self._listening.close()
        if self._look is not None:
            self._look.cancel()
        while self._parked:
            self._refuse(self._parked.popleft())

    def abort(self) -> None:
        """Cuts all connections off."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def moved(self, connection: "Connection", phase: Phase) -> None:
        """A connection does something else; one that waits may take its place."""
        self._places.move(connection, phase)
        if phase is not Phase.WORKING:
            self._look_soon()

    def left(self, connection: "Connection") -> None:
        """A connection is over."""
        self._places.leave(connection)
        self._admit_parked()

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
            connection = self._places.yielding(address)
            if connection is None:
                return False
            self._places.leave(connection)
            connection.give_way()
        return True

    def _open(self, accepted: socket.socket, address: str) -> None:
        connection = Connection(self, self._server)
        self._places.enter(connection, address)
        task = self._loop.create_task(self._hand_over(connection, accepted))
        connection.opening = task
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _hand_over(
        self, connection: "Connection", accepted: socket.socket
    ) -> None:
        seconds = None if self._tls is None else self.limits.head_s
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        except (OSError, asyncio.CancelledError):  # also errors of TLS
            accepted.close()
            self.left(connection)
        finally:
            connection.opening = None

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


class Connection(h11_impl.H11Protocol):
    """uvicorn's connection, which tells the listener what it does, and has deadlines.

    Attributes:
      opening: the task that opens it, None when that is done.
    """

    def __init__(self, listener: Listener, server: Any):
        super().__init__(
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        self.opening: asyncio.Task | None = None
        self._listener = listener
        self._phase: Phase | None = None
        self._timer: asyncio.TimerHandle | None = None

    def give_way(self) -> None:
        """Ends now; nothing that was asked for is being worked on."""
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The connection is open."""
        super().connection_made(transport)
        self._settle()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(error)
        self._listener.left(self)

    def _find_phase(self) -> Phase:
        if self.transport.is_closing() or self.flow.write_paused:
            return Phase.SENDING
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return Phase.RECEIVING
        if state is not h11.IDLE:
            return Phase.WORKING
        if self.transport.get_write_buffer_size():
            return Phase.SENDING
        fresh = self.cycle is None or self.conn.trailing_data[0]
        return Phase.RECEIVING if fresh else Phase.IDLE

    def _settle(self) -> None:
        """After each event: what it does now, and until when."""
        phase = self._find_phase()
        if phase is self._phase:
            return
        self._phase = phase
        self._listener.moved(self, phase)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        limits = self._listener.limits
        # The body has its deadline where it is read (intake), idleness in uvicorn.
        if phase is Phase.SENDING:
            self._timer = self.loop.call_later(limits.write_s, self._end_sending)
        elif phase is Phase.RECEIVING:
            self._timer = self.loop.call_later(limits.head_s, self._end_head)

    def _end_head(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self.conn.trailing_data[0]:
                self.transport.write(_TOO_LATE)
            self.transport.close()
            self._settle()

    def _end_sending(self) -> None:
        if self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()
        else:
            self._settle()


def _settled(name: str) -> Any:
    """A method of uvicorn's connection, after which its phase is looked at."""
    inherited = getattr(h11_impl.H11Protocol, name)

    @functools.wraps(inherited)
    def method(self: Connection, *args: Any) -> None:
        inherited(self, *args)
        self._settle()

    return method


for _name in (
    *("data_received", "on_response_complete", "pause_writing", "resume_writing"),
    *("timeout_keep_alive_handler", "shutdown"),
):
    setattr(Connection, _name, _settled(_name))
