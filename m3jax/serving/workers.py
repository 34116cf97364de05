"""Calls of experts in threads: some at once, some in line, the others refused."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from m3jax.serving import calls

T = TypeVar("T")


class Failed(Exception):
    """The work raised what was not meant for the caller; ``__cause__`` has it."""


class Workers:
    """Runs work in threads, first come, first served.

    A thread cannot be stopped: work that was called off while it ran keeps its place
    until it ends, so that calls that were called off cannot pile up. Work that was
    called off before is never begun. Every kind of exception stays within the call,
    ``SystemExit`` and ``KeyboardInterrupt`` too, which would end an event loop.

    Args:
      max_parallel: threads.
      max_waiting: most calls in line.
      max_bytes: most bytes that all of them hold; one call alone may hold more.

    Example:
      >>> workers = Workers(max_parallel=2, max_waiting=8, max_bytes=100)
      >>> asyncio.run(workers.run(lambda: 1 + 1, num_bytes=10))
      2
    """

    def __init__(self, max_parallel: int, max_waiting: int, max_bytes: int):
        self._pool = concurrent.futures.ThreadPoolExecutor(max_parallel, "m3jax-expert")
        self._max_calls = max_parallel + max_waiting
        self._max_bytes = max_bytes
        self._calls = self._bytes = 0
        self._lock = threading.Lock()

    @property
    def num_calls(self) -> int:
        """Calls that run or stand in line."""
        return self._calls

    async def run(self, work: Callable[[], T], num_bytes: int) -> T:
        """What the work gives.

        Args:
          work: called in a thread.
          num_bytes: held until it has ended.

        Raises:
          calls.Busy: there is no place; the message says how many are before.
          calls.Refused: the work raised it.
          Failed: the work raised anything else.
        """
        with self._lock:
            full = self._calls and self._bytes + num_bytes > self._max_bytes
            if self._calls >= self._max_calls or full:
                raise calls.Busy(
                    f"busy: {self._calls} calls are under way; try again later"
                )
            self._calls += 1
            self._bytes += num_bytes
        future = self._pool.submit(_contain, work)
        future.add_done_callback(lambda _: self._leave(num_bytes))
        result, error = await asyncio.wrap_future(future)
        if error is not None:
            raise error
        return result

    def _leave(self, num_bytes: int) -> None:
        with self._lock:
            self._calls -= 1
            self._bytes -= num_bytes


def _contain(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except calls.Refused as error:
        return None, error
    except BaseException as error:
        failed = Failed(f"{type(error).__name__}: {error}")
        failed.__cause__ = error
        return None, failed
