"""Who may call a server over HTTP: tokens, addresses, and what a request must pass."""

import hmac
import ipaddress
import json
import os
from typing import Any

MIN_TOKEN_LENGTH = 16
INVALID_REQUEST = -32600  # of JSON-RPC

_MORE_HEADERS = {401: [(b"www-authenticate", b"Bearer")], 405: [(b"allow", b"POST")]}


def read_token(variable: str) -> str:
    """Reads a bearer token from the environment.

    Raises:
      ValueError: the variable is unset, or holds no token of at least 16 characters.
    """
    token = os.environ.get(variable, "")
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"${variable} holds no token; set it to at least {MIN_TOKEN_LENGTH} "
            "characters of printable ASCII, for example from `openssl rand -hex 32`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only; names other than localhost: no.

    Example:
      >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")]
      [True, True, True, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, token: str | None) -> None:
    """Refuses to serve beyond this machine without a token.

    Raises:
      ValueError: it would.
    """
    if not is_loopback(host) and not token:
        raise ValueError(
            f"{host!r} is reached from beyond this machine, so callers need a token: "
            "name its environment variable with --token_env, or listen at 127.0.0.1"
        )


class Guard:
    """ASGI middleware that turns strangers and oversized requests away.

    It looks at headers only, so a body that is refused is not read. The answer is an
    error of JSON-RPC, which a client of the protocol shows.

    Args:
      app: the application behind it.
      path: where the protocol is spoken; the server keeps no sessions, so anything but
        POST would wait there for what never comes.
      token: what ``Authorization: Bearer`` must carry; None for no check.
      max_body_bytes: largest body taken.
    """

    def __init__(self, app: Any, path: str, token: str | None, max_body_bytes: int):
        self._app = app
        self._path = path
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, or answers it with 401, 405 or 413."""
        fault = self._fault(scope) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(send, *fault)

    def _fault(self, scope: Any) -> tuple[int, str] | None:
        """Status and words for a request that is not passed on."""
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"")
        # In constant time, so that a token cannot be guessed letter by letter.
        if self._expected and not hmac.compare_digest(given, self._expected):
            return 401, "callers need a bearer token; it is missing or wrong"
        if scope["path"] == self._path and scope["method"] != "POST":
            return 405, "only POST is answered here"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            return 413, (
                f"the request is larger than {self._max_body_bytes} bytes; send fewer "
                "images in a call"
            )
        return None


async def _refuse(send: Any, status: int, message: str) -> None:
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
