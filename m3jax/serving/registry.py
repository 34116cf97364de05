"""Several experts at several endpoints, called in parallel from notebooks and scripts.

Programs with an event loop use ``async_registry``, which has the same calls.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from m3jax.serving import async_registry, endpoints

Described = async_registry.Described
Reply = async_registry.Reply


class Registry:
    """``AsyncRegistry`` without ``await``; its event loop runs in a thread.

    Takes the same arguments, and discovers when it is made. Use it as ``with``, or call
    ``close`` at the end. A call that is interrupted is cancelled at the experts too.
    """

    def __init__(self, where: Iterable[endpoints.Endpoint], **settings: float):
        self._registry = async_registry.AsyncRegistry(where, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="m3jax-registry", daemon=True
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
        """As in ``AsyncRegistry``."""
        return self._run(self._registry.discover())

    def encode(
        self, images: Any, experts: Sequence[str] | None = None, **how: Any
    ) -> dict[str, Reply]:
        """As in ``AsyncRegistry``, with the same arguments."""
        return self._run(self._registry.encode(images, experts, **how))

    def close(self) -> None:
        """Closes all endpoints and ends the thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._registry.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, work: Coroutine) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
