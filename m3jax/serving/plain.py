"""Calls over HTTP as plain bytes, past the protocol: no base64, no JSON, one request.

Servers of m3jax answer them beside the protocol. Where a server does not, the caller
goes back to it.
"""

import json
import urllib.parse
from typing import Any

from m3jax.serving import calls, codec, web

_MAX_WORDS = 1 << 16


class Plain:
    """Calls of a server.

    Args:
      http: ``httpx2.AsyncClient``, with the token.
      base: URL of the server, without the path of the protocol.
    """

    def __init__(self, http: Any, base: str):
        self._http = http
        self._base = base
        self._offered = True

    async def fetch(self, handle: str, max_bytes: int) -> bytes | None:
        """A stored answer; None if it cannot be had in this way."""
        import httpx2

        try:
            status, data = await self._ask("GET", web.ARRAYS_PATH + handle, max_bytes)
        except httpx2.HTTPError:
            return None
        return data if status == 200 else None

    async def encode(
        self, name: str, message: bytes, precision: str | None, max_bytes: int
    ) -> bytes | None:
        """The message of an expert's tokens; None where the server has no such path.

        Args:
          name: of the expert.
          message: the images.
          precision: in what tokens are sent.
          max_bytes: of the answer.

        Raises:
          calls.Refused: the server answered with an error.
          ConnectionError: nobody answers.
          ValueError: the answer is too large.
        """
        import httpx2

        if not self._offered:
            return None
        path = web.ENCODE_PATH + urllib.parse.quote(name, safe="")
        if precision is not None:
            path += f"?precision={precision}"
        try:
            try:
                status, data = await self._ask("POST", path, max_bytes, message)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                # The server may have closed an idle connection just then. A call
                # changes nothing there, so it may come twice.
                status, data = await self._ask("POST", path, max_bytes, message)
        except httpx2.TransportError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        if status == 200:
            return data
        if status in (404, 405):
            self._offered = False
            return None
        raise calls.Refused(_words(status, data))

    async def _ask(
        self, method: str, path: str, max_bytes: int, message: bytes | None = None
    ) -> tuple[int, bytes]:
        headers = None if message is None else {"Content-Type": codec.MIME_TYPE}
        async with self._http.stream(
            method, self._base + path, content=message, headers=headers
        ) as response:
            fine = response.status_code == 200
            most = max_bytes if fine else max(max_bytes, _MAX_WORDS)
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > most:
                    raise ValueError(f"the answer is larger than {most} bytes")
            return response.status_code, bytes(data)


def _words(status: int, data: bytes) -> str:
    """What an error says, as servers of m3jax write it."""
    try:
        return str(json.loads(data)["error"]["message"])[:1000]
    except (ValueError, RecursionError, LookupError, TypeError):
        return f"refused with status {status}"
