"""Experts as an MCP server, over standard input and output; see ``over_http``.

Descriptors are resources, ``encode`` is a tool. Tokens are never written as JSON
numbers: a small answer is a binary resource within the result of the call; a large
one waits in the store of the server, and the result links to it. Over HTTP it may then
be fetched as plain bytes.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from m3jax.serving import calls, codec, descriptors, handlers
from m3jax.serving import store as store_lib

_INSTRUCTIONS = (
    f"Resources below {descriptors.EXPERTS} describe vision experts. The tool "
    f"{calls.TOOL} turns images into tokens; they come as {codec.MIME_TYPE}, inside "
    f"the result or, if large, as a link below {handlers.ARRAYS} that expires."
)


class Served(NamedTuple):
    """A server, apart from how it is reached.

    Attributes:
      protocol: ``mcp.server.Server`` of the SDK.
      store: answers that wait to be fetched.
      max_request_bytes: size of the largest request that can be right.
      answers: what answers; None where only ``protocol`` does.
    """

    protocol: Any
    store: store_lib.Store
    max_request_bytes: int
    answers: handlers.Handlers | None = None


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
      The server, for ``serve_stdio``, ``over_http.serve``, ``over_http.running`` or,
      within this process, ``endpoints.InProcess``.

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
    size = codec.text_length(most) + (16 << 10)
    return Served(protocol, answers.store, size, answers)


def serve_stdio(served: Served) -> None:
    """Serves one caller, which started this process, until it hangs up."""
    from mcp.server import stdio

    async def serve() -> None:
        async with stdio.stdio_server() as (read, write):
            options = served.protocol.create_initialization_options()
            await served.protocol.run(read, write, options)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
