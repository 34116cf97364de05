"""ASGI middleware before the application: rules, whole bodies in time, an end.

The application sees a request only when its body has come, so what it works on never
waits for a caller.
"""

import asyncio
import contextlib
import json
from typing import Any

from m3jax.serving import guard

INVALID_REQUEST = -32600  # of JSON-RPC
_MORE_HEADERS = {
    401: [(b"www-authenticate", b"Bearer")],
    405: [(b"allow", b"POST")],
    503: [(b"retry-after", b"1")],
}
_LINGER_S, _PAUSE_S, _LINGER_BODIES = 2.0, 0.1, 8
"""How long, how haltingly, and how much a refused body may still come in."""
_ENDING = (503, "the server is ending; ask again later, or another one")


class Intake:
    """Passes on requests that keep the rules, and calls off those that nobody awaits.

    A refusal is an error of JSON-RPC, which a client of the protocol shows; of its body
    nothing is kept. A request whose caller is gone is cancelled.

    Args:
      app: the application behind it.
      rules: what a head must have.
      body_s: seconds for a body.
    """

    def __init__(self, app: Any, rules: guard.Rules, body_s: float):
        self._app = app
        self._rules = rules
        self._body_s = body_s
        self._ending = False
        self._under_way: set[asyncio.Task] = set()

    def end(self) -> None:
        """From now on new requests are refused with 503."""
        self._ending = True

    def cut_off(self) -> int:
        """Cancels what is under way, which is then answered with 503; how many."""
        for task in self._under_way:
            task.cancel()
        return len(self._under_way)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, or answers it with a status of 400 or above."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = _ENDING if self._ending else self._rules.fault(scope)
        body = b""
        if fault is None:
            try:
                async with asyncio.timeout(self._body_s):
                    body = await _read(receive, self._rules.max_body_bytes)
            except TimeoutError:
                fault = 408, f"the body did not come within {self._body_s:g} s"
            except OverflowError:
                fault = guard.too_large(self._rules.max_body_bytes)
        if fault is not None:
            waits = any(name.lower() == b"expect" for name, _ in scope["headers"])
            if fault[0] != 408 and not waits:  # who waits for a word sends no body
                await _discard(receive, _LINGER_BODIES * self._rules.max_body_bytes)
            await refuse(send, *fault)
        elif body is not None:
            await self._work(scope, body, receive, send)

    async def _work(self, scope: Any, body: bytes, receive: Any, send: Any) -> None:
        exchange = _Exchange(body, receive, send)
        task = asyncio.create_task(self._app(scope, exchange.receive, exchange.send))
        self._under_way.add(task)
        try:
            await asyncio.wait(
                {task, exchange.gone}, return_when=asyncio.FIRST_COMPLETED
            )
            if not exchange.complete:
                task.cancel()  # does nothing to one that is done
            await asyncio.wait({task})
        finally:
            self._under_way.discard(task)
            exchange.gone.cancel()
            task.cancel()
        if not task.cancelled():
            task.result()
        elif not exchange.started:
            await refuse(send, *_ENDING)


class _Exchange:
    """A request whose body is here, and its answer.

    Attributes:
      gone: done when the caller has left, or has the whole answer.
      started: whether the answer has begun.
      complete: whether it is all sent.
    """

    def __init__(self, body: bytes, receive: Any, send: Any):
        self.started = self.complete = False
        # All that still comes is that the caller is gone.
        self.gone = asyncio.ensure_future(receive())
        self._message = {"type": "http.request", "body": body, "more_body": False}
        self._send = send

    async def receive(self) -> Any:
        message, self._message = self._message, None
        return message or await asyncio.shield(self.gone)

    async def send(self, message: Any) -> None:
        self.started = True
        if message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        await self._send(message)


async def _read(receive: Any, max_bytes: int) -> bytes | None:
    """The whole body; None if the caller is gone.

    Raises:
      OverflowError: it is larger than ``max_bytes``.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise OverflowError
        if not message.get("more_body", False):
            return bytes(body)


async def _discard(receive: Any, max_bytes: int) -> None:
    """Reads a refused body without keeping it, as long as it comes in swiftly.

    A connection that is closed with bytes unread is reset, and a caller who is still
    sending would never see why (RFC 9112, section 9.6).
    """
    left = max_bytes
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while left > 0:
                message = await asyncio.wait_for(receive(), _PAUSE_S)
                if not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


async def refuse(send: Any, status: int, message: str) -> None:
    """Answers with an error of JSON-RPC, and closes the connection."""
    error = {"code": INVALID_REQUEST, "message": message}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    headers += _MORE_HEADERS.get(status, [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
