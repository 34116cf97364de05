"""One endpoint as a client sees it: opened when needed, marked dead, opened again."""

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import Any

import numpy as np

from m3jax.serving import calls, codec, descriptors, endpoints

_MAX_PAGES = 100
PATIENCE_S = 10.0
"""For a client to close; the SDK needs up to 6 s to end a process that will not."""


class Dead(Exception):
    """Nobody answers at the endpoint, or it went away in mid-call."""


class Invalid(Exception):
    """It answered what no server of experts may answer."""


class Connection:
    """The experts at one endpoint.

    A task of its own holds the SDK's client, which must be left where it was entered;
    callers use it from their tasks. When the client breaks, all calls under way fail,
    and a later one opens it anew, but not sooner than after ``retry_s``.

    Args:
      endpoint: where they are.
      connect_s: seconds in which it must be open and have told its descriptors.
      retry_s: seconds for which a dead endpoint is left alone.

    Attributes:
      endpoint: as given.
      descriptors: of its experts, by name, as they were last read.
      problem: what went wrong last, None while all is well.
    """

    def __init__(self, endpoint: endpoints.Endpoint, connect_s: float, retry_s: float):
        self.endpoint = endpoint
        self.descriptors: dict[str, descriptors.Descriptor] = {}
        self.problem: str | None = None
        self._connect_s = connect_s
        self._retry_s = retry_s
        self._retry_at = -math.inf
        self._task: asyncio.Task | None = None
        # Of the newest task: what became of opening, and whether it is to end.
        self._ready: asyncio.Future | None = None
        self._stop = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether it is open, as far as is known without calling."""
        ready = self._ready
        return ready is not None and ready.done() and not self._stop.is_set()

    async def open(self, patient: bool = True) -> endpoints.Session:
        """The open session.

        Args:
          patient: leave an endpoint alone that has just died.

        Raises:
          Dead: nobody answers.
        """
        if self._ready is None or self._stop.is_set():
            wait = self._retry_at - time.monotonic()
            if patient and wait > 0.0:
                raise Dead(f"{self.problem}; to be tried again in {wait:.1f} s")
            self._ready = asyncio.get_running_loop().create_future()
            self._stop = asyncio.Event()
            self._task = asyncio.create_task(
                self._hold(self._task, self._ready, self._stop)
            )
        # A caller that loses patience must not take the others' connection along.
        outcome = await asyncio.shield(self._ready)
        if isinstance(outcome, Dead):
            raise outcome
        return outcome

    async def refresh(self) -> None:
        """Reads the descriptors anew, opening the endpoint if it is not open.

        Raises:
          Dead: nobody answers.
          Invalid: it is no server of experts.
          ValueError: a descriptor that cannot be read.
        """
        was_open = self.alive
        session = await self.open(patient=False)
        if was_open:
            await self._guarded(self._learn(session.client))
            self.problem = None

    async def encode(
        self, name: str, message: bytes, batch: int, precision: str | None
    ) -> np.ndarray:
        """Tokens ``[B, L, D]`` of a batch, as float32.

        Args:
          name: of an expert of this endpoint.
          message: the batch as ``codec`` writes it.
          batch: number of images in it.
          precision: in what the tokens are to be sent.

        Raises:
          Dead: nobody answers, or it went away in mid-call.
          calls.Refused: it answered with an error.
          Invalid: it answered nonsense.
        """
        session = await self.open()
        if name not in self.descriptors:
            raise Dead(f"{self.endpoint}: expert {name} is not there any more")
        shape = (batch, *self.descriptors[name].output_shape)
        # No precision takes more than a float64 for each number.
        most = codec.HEADER_BYTES + 8 * math.prod(shape)
        try:
            data = session.plain and await self._guarded(
                session.plain.encode(name, message, precision, most)
            )
            if not data:
                data = await self._call(session, name, message, precision, most)
            tokens = codec.decode(data, most)
        except calls.Refused:
            raise
        except ValueError as error:
            raise Invalid(f"answer of expert {name}: {error}") from error
        if tokens.shape != shape or tokens.dtype.kind in "iu":
            raise Invalid(
                f"expert {name} sent {tokens.dtype} of shape {tokens.shape}; its "
                f"descriptor says {shape}"
            )
        return tokens.astype(np.float32, copy=False)

    async def _call(
        self,
        session: endpoints.Session,
        name: str,
        message: bytes,
        precision: str | None,
        most: int,
    ) -> bytes:
        """The message of the tokens, by a call of the protocol's tool."""
        arguments = {"expert": name, "image": codec.to_text(message)}
        if precision is not None:
            arguments["precision"] = precision
        result = await self._guarded(session.client.call_tool(calls.TOOL, arguments))
        if result.is_error:
            words = [part.text for part in result.content if part.type == "text"]
            raise calls.Refused(" ".join(words)[:1000] or "refused without a word")
        return await self._guarded(_take(session, result, most))

    async def close(self) -> None:
        """Closes the endpoint; a process that was started for it ends."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_S)
            self._task.cancel()  # does nothing to one that is done

    async def _hold(
        self,
        before: asyncio.Task | None,
        ready: asyncio.Future,
        stop: asyncio.Event,
    ) -> None:
        """Keeps the client open until told to stop, or until it breaks."""
        import anyio

        problem = "the connection was closed"
        try:
            if before is not None:
                await asyncio.wait({before}, timeout=PATIENCE_S)
            with anyio.fail_after(self._connect_s) as scope:
                async with endpoints.connect(self.endpoint) as session:
                    await self._learn(session.client)
                    scope.deadline = math.inf
                    self.problem = None
                    ready.set_result(session)
                    await stop.wait()
        except TimeoutError:
            problem = f"no answer within {self._connect_s:g} s"
        except Exception as error:  # told as the server's problem, whatever it is
            problem = str(endpoints.innermost(error)) or type(error).__name__
        finally:
            if not stop.is_set():
                self._mark_dead(stop, problem)
            if not ready.done():
                ready.set_result(Dead(self.problem or f"{self.endpoint}: closed"))

    def _mark_dead(self, stop: asyncio.Event, problem: str) -> None:
        stop.set()
        self.problem = f"{self.endpoint}: {problem}"
        self._retry_at = time.monotonic() + self._retry_s

    async def _guarded(self, work: Awaitable[Any]) -> Any:
        """Awaits an answer of the SDK; what goes wrong gets one of three names."""
        import mcp
        import pydantic
        from mcp.types import CONNECTION_CLOSED

        stop = self._stop
        try:
            return await work
        except mcp.MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise calls.Refused(error.message[:1000]) from error
            if not stop.is_set():
                self._mark_dead(stop, "the connection closed in mid-call")
            raise Dead(f"{self.endpoint}: the connection closed in mid-call") from error
        except ConnectionError as error:
            if not stop.is_set():
                self._mark_dead(stop, str(error))
            raise Dead(f"{self.endpoint}: {error}") from error
        except pydantic.ValidationError as error:
            raise Invalid(
                f"{self.endpoint}: an answer that is not of the protocol"
            ) from error

    async def _learn(self, client: Any) -> None:
        """Reads the descriptors of all experts there."""
        tools = await client.list_tools()
        if calls.TOOL not in [tool.name for tool in tools.tools]:
            raise Invalid(f"no tool {calls.TOOL!r} there, so no experts")
        uris, cursor = [], None
        for _ in range(_MAX_PAGES):
            page = await client.list_resources(cursor=cursor)
            uris += [resource.uri for resource in page.resources]
            cursor = page.next_cursor
            if cursor is None:
                break
        found = {}
        for uri in uris:
            if uri.startswith(descriptors.EXPERTS):
                contents = (await client.read_resource(uri)).contents
                texts = [getattr(content, "text", None) for content in contents]
                read = descriptors.from_json(texts[0] if texts else None)
                if descriptors.uri(read.name) != uri:
                    raise Invalid(f"{uri} describes an expert of name {read.name!r}")
                found[read.name] = read
        self.descriptors = found


async def _take(session: endpoints.Session, result: Any, most: int) -> bytes:
    """The message that a result holds or links to."""
    for part in result.content:
        if part.type == "resource":
            return codec.from_text(getattr(part.resource, "blob", None), most)
        if part.type == "resource_link":
            handle = endpoints.handle_of(part.uri)
            if handle is None:
                raise ValueError(f"a link to {part.uri!r:.80}, which is no array")
            data = session.plain and await session.plain.fetch(handle, most)
            if data:
                return data
            contents = (await session.client.read_resource(part.uri)).contents
            blobs = [getattr(content, "blob", None) for content in contents]
            return codec.from_text(blobs[0] if blobs else None, most)
    raise ValueError("a result without tokens")
