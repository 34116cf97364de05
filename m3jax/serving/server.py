"""Experts as an MCP server, over standard input and output or over HTTP.

Descriptors are resources, ``encode`` is a tool. Tokens are never written as JSON
numbers: a small answer is a binary resource within the result of the call; a large
one waits in the store of the server, and the result links to it. Over HTTP it may then
be fetched as plain bytes.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from m3jax.serving import calls, codec, descriptors, guard, handlers, store

PATH = "/mcp"
"""Where the protocol is spoken over HTTP."""
ARRAYS_PATH = "/arrays/"
"""Before a handle: where an answer is plain bytes, over HTTP."""

_INSTRUCTIONS = (
    f"Resources below {descriptors.EXPERTS} describe vision experts. The tool "
    f"{calls.TOOL} turns images into tokens; they come as {codec.MIME_TYPE}, inside "
    f"the result or, if large, as a link below {handlers.ARRAYS} that expires."
)
_MAX_CONNECTIONS = 256
_SHUTDOWN_S = 5
# Longer than clients keep idle connections, so that it is they who close them: to a
# request that meets a closing connection the server looks dead.
_KEEP_ALIVE_S = 75


class Served(NamedTuple):
    """A server, apart from how it is reached.

    Attributes:
      protocol: ``mcp.server.Server`` of the SDK.
      store: answers that wait to be fetched.
      max_request_bytes: size of the largest request that can be right.
    """

    protocol: Any
    store: store.Store
    max_request_bytes: int


def require_sdk() -> None:
    """Raises RuntimeError, naming the mend, if the MCP SDK is not installed."""
    if importlib.util.find_spec("mcp") is None:
        raise RuntimeError(
            "experts over the wire need the MCP SDK: pip install 'm3jax[mcp]'"
        )


def make_server(
    experts: Sequence[descriptors.Expert], limits: calls.Limits = calls.DEFAULTS
) -> Served:
    """Builds the MCP server of one or several experts.

    Args:
      experts: of different names.
      limits: what it takes and keeps.

    Returns:
      The server, for ``serve_stdio``, ``serve_http``, ``running`` or, within this
      process, ``endpoints.InProcess``.

    Raises:
      ValueError: no expert, or two of one name.
      RuntimeError: the SDK is not installed.
    """
    require_sdk()
    from mcp import server as sdk

    answers = handlers.Handlers(experts, limits)
    protocol = sdk.Server(
        "m3jax-experts",
        version=importlib.metadata.version("m3jax"),
        instructions=_INSTRUCTIONS,
        on_list_tools=answers.list_tools,
        on_call_tool=answers.call_tool,
        on_list_resources=answers.list_resources,
        on_list_resource_templates=answers.list_templates,
        on_read_resource=answers.read_resource,
    )
    most = calls.input_bytes(answers.described, limits)
    # Beside the image a request holds names and numbers of the protocol.
    return Served(protocol, answers.store, codec.text_length(most) + (16 << 10))


def serve_stdio(served: Served) -> None:
    """Serves one caller, which started this process, until it hangs up."""
    from mcp.server import stdio

    async def serve() -> None:
        async with stdio.stdio_server() as (read, write):
            options = served.protocol.create_initialization_options()
            await served.protocol.run(read, write, options)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


def serve_http(
    served: Served,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Serves callers over streamable HTTP until the process is told to end.

    Args:
      served: the server.
      host: address to listen at; by default only this machine can call.
      port: 0 for any that is free.
      token: what callers must send as ``Authorization: Bearer``; None for no check.
      started: called with the URL as soon as calls are taken.

    Raises:
      ValueError: no token, though ``host`` is reached from beyond this machine.
      OSError: the address cannot be listened at.
    """

    async def serve() -> None:
        async with running(served, host, port, token) as (url, ended):
            started(url)
            await ended.wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


@contextlib.asynccontextmanager
async def running(
    served: Served, host: str = "127.0.0.1", port: int = 0, token: str | None = None
) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Serves over HTTP inside a running event loop, as long as the block lasts.

    Takes what ``serve_http`` takes, and raises what it raises.

    Yields:
      The URL, and an event that is set when a signal ended the server.
    """
    import uvicorn

    guard.check_exposure(host, token)
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            _app(served, host, token),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        server = uvicorn.Server(config)
        ended = asyncio.Event()
        task = asyncio.create_task(server.serve(sockets=[listener]))
        task.add_done_callback(lambda _: ended.set())
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{listener.getsockname()[1]}{PATH}", ended
        finally:
            server.should_exit = True
            await task


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen at {host}, port {port}: {error}") from error
    # Connections inherit it. Without it the head and the body of an answer wait for one
    # another (Nagle's algorithm and delayed acknowledgements): 40 ms for each call.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _app(served: Served, host: str, token: str | None) -> Any:
    """The ASGI application: the protocol, answers as plain bytes, and the guard."""
    from mcp.server import transport_security
    from starlette import responses, routing

    async def fetch(request: Any) -> Any:
        try:
            data = served.store.get(request.path_params["handle"])
        except KeyError:
            return responses.PlainTextResponse("no such array", status_code=404)
        return responses.Response(data, media_type=codec.MIME_TYPE)

    # A web page must not reach a server on loopback through a name of its own.
    names = ["127.0.0.1", "localhost", "[::1]", host] if guard.is_loopback(host) else []
    app = served.protocol.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=served.max_request_bytes,
        transport_security=transport_security.TransportSecuritySettings(
            enable_dns_rebinding_protection=bool(names),
            allowed_hosts=[f"{name}:*" for name in names],
            allowed_origins=[f"http://{name}:*" for name in names],
        ),
        custom_starlette_routes=[routing.Route(ARRAYS_PATH + "{handle}", fetch)],
    )
    return guard.Guard(app, PATH, token, served.max_request_bytes)
