"""Several experts at several endpoints, called in parallel from notebooks and scripts.

Programs with an event loop use ``async_registry``, which has the same calls.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from m3jax.serving import async_registry, endpoints

Described = async_registry.Described
Reply = async_registry.Reply

_SLACK_S = 1.0
"""Beyond a deadline, for the event loop to keep it by itself."""
_CLOSE_S = 15.0


class Registry:
    """``AsyncRegistry`` without ``await``; its event loop runs in a thread.

    Takes the same arguments, and discovers when it is made. Use it as ``with``, or call
    ``close`` at the end. A call that is interrupted is cancelled at the experts too.

    Deadlines hold even if that thread hangs or ends, from whatever cause: a call is
    then answered with ``failure`` "timeout" or "dead" for every expert.
    """

    def __init__(self, where: Iterable[endpoints.Endpoint], **settings: float):
        self._registry = async_registry.AsyncRegistry(where, **settings)
        self._loop = asyncio.new_event_loop()
        self._over: concurrent.futures.Future = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._serve, name="m3jax-registry", daemon=True
        )
        self._thread.start()
        try:
            self.discover()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Registry":
        """Itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Closes."""
        self.close()

    @property
    def descriptors(self) -> Described:
        """As in ``AsyncRegistry``."""
        return self._registry.descriptors

    @property
    def alive(self) -> dict[str, bool]:
        """As in ``AsyncRegistry``."""
        return self._registry.alive

    @property
    def problems(self) -> dict[str, str]:
        """As in ``AsyncRegistry``."""
        return self._registry.problems

    def discover(self) -> Described:
        """As in ``AsyncRegistry``.

        Raises:
          TimeoutError: the event loop hangs.
          RuntimeError: it has ended.
        """
        return self._run(self._registry.discover(), self._registry.patience_s)

    def encode(
        self,
        images: Any,
        experts: Sequence[str] | None = None,
        *,
        timeout_s: float | None = None,
        **how: Any,
    ) -> dict[str, Reply]:
        """As in ``AsyncRegistry``, with the same arguments."""
        limit = self._registry.timeout_s if timeout_s is None else timeout_s
        work = self._registry.encode(images, experts, timeout_s=limit, **how)
        start = time.monotonic()
        try:
            return self._run(work, limit)
        except _Hangs as error:
            failure, reason = "timeout", str(error)
        except _Ended as error:
            failure, reason = "dead", str(error)
        seconds = time.monotonic() - start
        names = list(self.descriptors) if experts is None else dict.fromkeys(experts)
        return {name: Reply(name, None, failure, reason, seconds) for name in names}

    def close(self) -> None:
        """Closes all endpoints and ends the thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._registry.close(), _CLOSE_S)
        except (_Hangs, _Ended):
            pass  # there is nothing left that could close
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_SLACK_S)
            if not self._thread.is_alive():
                self._loop.close()

    def _serve(self) -> None:
        """Runs the event loop; whatever ends it is told to those who wait."""
        try:
            self._loop.run_forever()
            self._over.set_result("the registry was closed")
        except BaseException as error:
            self._over.set_result(f"its event loop ended ({type(error).__name__})")

    def _run(self, work: Coroutine, limit_s: float) -> Any:
        """What the work gives, if it comes in time.

        Raises:
          _Hangs: it does not.
          _Ended: nothing runs it any more.
        """
        if self._over.done():
            work.close()
            raise _Ended(f"{self._over.result()}; make a new registry")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            concurrent.futures.wait(
                [future, self._over],
                timeout=limit_s + _SLACK_S,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )
            if future.done():
                return future.result()
            if self._over.done():
                raise _Ended(f"{self._over.result()}; make a new registry")
            raise _Hangs(f"no answer within {limit_s:g} s: the event loop hangs")
        except BaseException:
            future.cancel()
            raise


class _Hangs(TimeoutError):
    """The event loop does not answer."""


class _Ended(RuntimeError):
    """The event loop has ended."""
