"""The paths of a server over HTTP: the protocol, and the same calls as plain bytes."""

from collections.abc import Sequence
from typing import Any

from m3jax.serving import calls, codec, handlers

PATH = "/mcp"
"""Where the protocol is spoken."""
ARRAYS_PATH = "/arrays/"
"""Before a handle: where an answer is plain bytes."""
ENCODE_PATH = "/encode/"
"""Before the name of an expert: where a call is plain bytes, there and back."""


def make_app(protocol: Any, answers: handlers.Handlers, max_request_bytes: int) -> Any:
    """The ASGI application; who may call is decided before it.

    Args:
      protocol: ``mcp.server.Server`` of the SDK.
      answers: its handlers.
      max_request_bytes: largest body.
    """
    from mcp.server import transport_security

    return protocol.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        # One answer to one call: streams of events would be cut off at the end of the
        # server, and cost time.
        json_response=True,
        max_request_body_size=max_request_bytes,
        transport_security=transport_security.TransportSecuritySettings(
            enable_dns_rebinding_protection=False
        ),
        custom_starlette_routes=_routes(answers),
    )


def _routes(answers: handlers.Handlers) -> Sequence[Any]:
    from starlette import responses, routing

    def fault(status: int, words: str) -> Any:
        body = {"error": {"code": status, "message": words}}
        return responses.JSONResponse(body, status_code=status)

    async def fetch(request: Any) -> Any:
        try:
            data = answers.store.get(request.path_params["handle"])
        except KeyError:
            return fault(404, "no such array")
        return responses.Response(data, media_type=codec.MIME_TYPE)

    async def encode(request: Any) -> Any:
        try:
            asked = calls.read(
                request.path_params["expert"],
                await request.body(),
                request.query_params.get("precision"),
                answers.described,
                answers.limits,
            )
            _, data = await answers.run(asked)
        except calls.Busy as busy:
            return fault(503, str(busy))
        except calls.Refused as refusal:
            return fault(400, str(refusal))
        return responses.Response(data, media_type=codec.MIME_TYPE)

    return [
        routing.Route(ARRAYS_PATH + "{handle}", fetch),
        routing.Route(ENCODE_PATH + "{expert}", encode, methods=["POST"]),
    ]
