"""Several experts at several endpoints, called in parallel from an event loop."""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from m3jax.serving import calls, codec, connections, descriptors, endpoints, server

FAILURES = ("timeout", "dead", "refused", "invalid", "cancelled")
Described = dict[str, descriptors.Descriptor]


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came of asking one expert.

    Attributes:
      expert: its name.
      tokens: float32 ``[B, L, D]``, None if it failed.
      failure: None, or one of ``FAILURES``: no answer in time; nobody there, or gone in
        mid-call; an error of the expert; an answer that cannot be read; called off
        since enough others had answered.
      reason: the failure in words.
      seconds: from the call to the answer or failure.
    """

    expert: str
    tokens: np.ndarray | None
    failure: str | None
    reason: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there are tokens."""
        return self.failure is None


class AsyncRegistry:
    """Finds experts and calls them; use it as ``async with``.

    Where several endpoints serve an expert of one name, the first that is alive is
    asked. Descriptors are kept, those of dead endpoints too, until ``discover`` reads
    them anew. An endpoint that died is opened anew by the first call after ``retry_s``.

    Args:
      where: the endpoints.
      timeout_s: seconds in which an expert must answer, if a call says nothing else.
      connect_s: seconds for opening an endpoint; models are loaded meanwhile.
      retry_s: seconds for which a dead endpoint is left alone.

    Attributes:
      timeout_s: as given.
      patience_s: seconds after which ``discover`` is done, whatever happens.

    Raises:
      ValueError: no endpoint.
      RuntimeError: the SDK is not installed.
    """

    def __init__(
        self,
        where: Iterable[endpoints.Endpoint],
        timeout_s: float = 30.0,
        connect_s: float = 60.0,
        retry_s: float = 5.0,
    ):
        server.require_sdk()
        self._connections = [
            connections.Connection(endpoint, connect_s, retry_s) for endpoint in where
        ]
        if not self._connections:
            raise ValueError("there is no endpoint; name at least one")
        self.timeout_s = timeout_s
        # Opening, and closing what was there before.
        self.patience_s = connect_s + connections.PATIENCE_S
        self._late: set[asyncio.Task] = set()

    async def __aenter__(self) -> "AsyncRegistry":
        """Discovers."""
        await self.discover()
        return self

    async def __aexit__(self, *_: Any) -> None:
        """Closes."""
        await self.close()

    @property
    def descriptors(self) -> Described:
        """Descriptors of all experts known, by name."""
        known = {}
        for connection in self._connections:
            known |= {k: v for k, v in connection.descriptors.items() if k not in known}
        return known

    @property
    def alive(self) -> dict[str, bool]:
        """Whether each known expert is at an open endpoint."""
        return {name: self._route(name).alive for name in self.descriptors}

    @property
    def problems(self) -> dict[str, str]:
        """What went wrong last, for each endpoint at which not all is well."""
        return {str(c.endpoint): c.problem for c in self._connections if c.problem}

    async def discover(self) -> Described:
        """Opens all endpoints, and reads all descriptors anew.

        An endpoint at which nobody answers stands in ``problems`` afterwards.
        """
        work = [connection.refresh() for connection in self._connections]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        for connection, outcome in zip(self._connections, outcomes, strict=True):
            if isinstance(outcome, (connections.Dead, connections.Invalid, ValueError)):
                connection.problem = str(outcome)
            elif outcome is not None:
                raise outcome
        return self.descriptors

    async def encode(
        self,
        images: Any,
        experts: Sequence[str] | None = None,
        *,
        precision: str | None = None,
        timeout_s: float | None = None,
        enough: int | None = None,
    ) -> dict[str, Reply]:
        """Asks experts for the tokens of images, all at once.

        Args:
          images: uint8 ``[64, 64, 3]`` or ``[B, 64, 64, 3]``, or as descriptors say.
          experts: names; all that are known if None.
          precision: one of ``codec.PRECISIONS``, of the tokens; None for exact ones.
          timeout_s: seconds for this call.
          enough: answers after which the others are called off; None waits for all.

        Returns:
          A reply for each expert, in the order of ``experts``; those of other experts
          do not depend on one that fails.

        Raises:
          ValueError: an unknown expert or precision, or images that an expert does not
            take; nothing has been sent then.
          RuntimeError: no expert is known.
        """
        names = self._check(experts, precision)
        messages = _messages(images, [self.descriptors[name] for name in names])
        limit = self.timeout_s if timeout_s is None else timeout_s
        start = time.monotonic()
        tasks = {
            name: asyncio.create_task(self._ask(name, *messages[name], precision))
            for name in names
        }
        try:
            failure = await _wait(list(tasks.values()), start + limit, enough)
        finally:
            # Calling a task off may itself take a while: nobody waits for that.
            for task in tasks.values():
                if not task.done():
                    task.cancel()
                    self._late.add(task)
                    task.add_done_callback(self._late.discard)
        reasons = {
            "timeout": f"no answer within {limit:g} s",
            "cancelled": f"called off, since {enough} had answered",
        }
        seconds = time.monotonic() - start
        return {
            name: task.result()
            if task.done()
            else Reply(name, None, failure, reasons[failure], seconds)
            for name, task in tasks.items()
        }

    async def close(self) -> None:
        """Closes all endpoints; processes that were started for them end."""
        await asyncio.gather(*(c.close() for c in self._connections))
        if self._late:
            await asyncio.wait(set(self._late), timeout=1.0)

    def _check(self, experts: Sequence[str] | None, precision: str | None) -> list[str]:
        known = self.descriptors
        if not known:
            why = "; ".join(self.problems.values()) or "call discover() first"
            raise RuntimeError(f"no expert is known: {why}")
        names = list(known) if experts is None else list(dict.fromkeys(experts))
        unknown = [name for name in names if name not in known]
        if unknown or not names or isinstance(experts, str):
            raise ValueError(
                f"experts are {experts!r}; give a list of some of {sorted(known)}"
            )
        if precision is not None and precision not in codec.PRECISIONS:
            raise ValueError(
                f"precision is {precision!r}; choose one of {codec.PRECISIONS}"
            )
        return names

    def _route(self, name: str) -> connections.Connection:
        """The connection to ask: the first that is alive, else the first that knows."""
        known = [c for c in self._connections if name in c.descriptors]
        if not known:
            raise connections.Dead(f"expert {name} is not there any more")
        return next((c for c in known if c.alive), known[0])

    async def _ask(
        self, name: str, message: bytes, batch: int, precision: str | None
    ) -> Reply:
        start = time.monotonic()
        tokens, failure, reason = None, None, ""
        try:
            tokens = await self._route(name).encode(name, message, batch, precision)
        except connections.Dead as error:
            failure, reason = "dead", str(error)
        except calls.Refused as error:
            failure, reason = "refused", str(error)
        except Exception as error:  # one bad answer must not lose the others'
            failure, reason = "invalid", str(error) or type(error).__name__
        return Reply(name, tokens, failure, reason, time.monotonic() - start)


def _messages(
    images: Any, asked: list[descriptors.Descriptor]
) -> dict[str, tuple[bytes, int]]:
    """For each expert its batch as ``codec`` writes it, like ones once; its size."""
    written, messages = {}, {}
    for descriptor in asked:
        batch = calls.as_batch(images, descriptor)
        if batch.shape not in written:
            written[batch.shape] = codec.encode(batch)
        messages[descriptor.name] = (written[batch.shape], len(batch))
    return messages


async def _wait(tasks: list[asyncio.Task], deadline: float, enough: int | None) -> str:
    """Waits for the tasks; says why those that are not done will not be waited for."""
    pending = set(tasks)
    while pending and (left := deadline - time.monotonic()) > 0.0:
        _, pending = await asyncio.wait(
            pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
        )
        answered = sum(task.done() and task.result().ok for task in tasks)
        if enough is not None and answered >= enough:
            return "cancelled"
    return "timeout"
