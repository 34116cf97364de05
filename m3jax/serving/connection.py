"""A connection that speaks HTTP: uvicorn's, with a deadline for all it waits for.

uvicorn has none for the head of a request, nor for a caller who does not read its
answer. Needs ``m3jax[mcp]``.
"""

import asyncio
from typing import Any, Protocol

import h11
from uvicorn.protocols.http import h11_impl

from m3jax.serving import admission, wire

Phase = admission.Phase

_TOO_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Owner(Protocol):
    """Who gives connections their places."""

    limits: wire.Wire

    def moved(self, member: "Connection", phase: Phase) -> None:
        """It does something else from now on."""

    def left(self, member: "Connection") -> None:
        """It is over."""


class Connection(h11_impl.H11Protocol):
    """uvicorn's connection, which tells the listener what it does, and has deadlines.

    Attributes:
      opening: the task that opens it, None when that is done.
    """

    def __init__(self, listener: Owner, server: Any):
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

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several, came."""
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """An answer was handed to the transport."""
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """The caller takes an answer more slowly than it is written."""
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        """The caller has taken most of it."""
        super().resume_writing()
        self._settle()

    def timeout_keep_alive_handler(self) -> None:
        """It rested for too long."""
        super().timeout_keep_alive_handler()
        self._settle()

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        self._settle()

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
