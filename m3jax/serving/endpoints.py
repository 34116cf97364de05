"""Where experts are served, and how a client of the SDK is opened there."""

import contextlib
import dataclasses
import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from m3jax.serving import guard, handlers, server, tls, web
from m3jax.serving import plain as plain_lib


@dataclasses.dataclass(frozen=True)
class Http:
    """A server over streamable HTTP.

    Attributes:
      url: such as ``http://127.0.0.1:8000/mcp``.
      token: bearer token, if the server asks for one.
      ca_file: PEM file of the only authorities that are trusted, for https; those of
        this machine if None.

    Raises:
      ValueError: no such URL, or a file that cannot be used.
    """

    url: str
    token: str | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None

    def __post_init__(self):
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"url is {self.url!r}; give one such as http://127.0.0.1:8000/mcp"
            )
        if self.ca_file is not None:
            if parts.scheme != "https":
                raise ValueError(f"ca_file is for https, but url is {self.url!r}")
            tls.client_context(self.ca_file)

    def __str__(self) -> str:
        return self.url


@dataclasses.dataclass(frozen=True)
class Stdio:
    """A server that is started as a process of its own, and ends with its client.

    Attributes:
      command: program and arguments; no shell reads them.
      env: variables for it, beside PATH, HOME and a few more; others are not passed on.
      folder: where it runs; here if None.

    Raises:
      ValueError: no command.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] | None = None
    folder: str | None = None

    def __post_init__(self):
        if isinstance(self.command, str) or not self.command:
            raise ValueError(f"command is {self.command!r}; give a tuple of words")

    def __str__(self) -> str:
        return " ".join(map(str, self.command))


@dataclasses.dataclass(frozen=True)
class InProcess:
    """A server in this very process, reached with no transport.

    Attributes:
      served: what ``server.make_server`` gave.
    """

    served: server.Served

    def __str__(self) -> str:
        return "this process"


Endpoint = Http | Stdio | InProcess


class Session(NamedTuple):
    """An open connection.

    Attributes:
      client: ``mcp.Client`` of the SDK, connected.
      plain: calls past the protocol; None where there is no such way.
    """

    client: Any
    plain: plain_lib.Plain | None = None


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint) -> AsyncIterator[Session]:
    """Opens a client; must be left in the task that entered it.

    Raises:
      RuntimeError: the SDK is not installed.
      Exception: whatever the SDK raises where nobody answers.
    """
    server.require_sdk()
    if isinstance(endpoint, Http):
        opened = _connect_http(endpoint)
    elif isinstance(endpoint, Stdio):
        opened = _connect_stdio(endpoint)
    else:
        opened = _connect_in_process(endpoint)
    async with opened as session:
        yield session


@contextlib.asynccontextmanager
async def _connect_http(endpoint: Http) -> AsyncIterator[Session]:
    import httpx2
    import mcp
    from mcp.client import streamable_http

    headers = {"Authorization": f"Bearer {endpoint.token}"} if endpoint.token else {}
    parts = urllib.parse.urlsplit(endpoint.url)
    base = urllib.parse.urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    base += parts.path.removesuffix(web.PATH)
    trusted = True if endpoint.ca_file is None else tls.client_context(endpoint.ca_file)
    # No time limits here: callers have their own, and one that struck here would break
    # the connection for all of them. No redirects, which could carry the token away.
    async with httpx2.AsyncClient(
        headers=headers,
        timeout=None,
        follow_redirects=False,
        verify=trusted,
        trust_env=not guard.is_loopback(parts.hostname),
    ) as http:
        transport = streamable_http.streamable_http_client(
            endpoint.url, http_client=http
        )
        async with mcp.Client(transport, cache=None) as client:
            yield Session(client, plain_lib.Plain(http, base))


@contextlib.asynccontextmanager
async def _connect_stdio(endpoint: Stdio) -> AsyncIterator[Session]:
    import mcp

    command, *args = map(str, endpoint.command)
    parameters = mcp.StdioServerParameters(
        command=command,
        args=args,
        env=dict(endpoint.env) if endpoint.env else None,
        cwd=endpoint.folder,
    )
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            transport = mcp.stdio_client(parameters, errlog=log)
            async with mcp.Client(transport, cache=None) as client:
                yield Session(client)
        except Exception as error:  # raised again, with what the process said last
            said = _last_line(log)
            if said:
                raise ConnectionError(f"{innermost(error)}; it said: {said}") from error
            raise


@contextlib.asynccontextmanager
async def _connect_in_process(endpoint: InProcess) -> AsyncIterator[Session]:
    import mcp

    async with mcp.Client(endpoint.served.protocol, cache=None) as client:
        yield Session(client)


def innermost(error: BaseException) -> BaseException:
    """The first error that is no group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def handle_of(uri: str) -> str | None:
    """The handle in the URI of an answer, None if it is no such URI.

    Example:
      >>> handle_of("m3jax://arrays/aZ9_")
      'aZ9_'
    """
    handle = uri.removeprefix(handlers.ARRAYS)
    plain = handle.replace("-", "").replace("_", "")
    return handle if handle != uri and plain.isascii() and plain.isalnum() else None


def _last_line(log: Any) -> str:
    """What a process said last on its standard error."""
    log.seek(0)
    lines = [line.strip() for line in log.read()[-10_000:].splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")
