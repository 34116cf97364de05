"""Messages that wait to be fetched: bounded in number, in bytes and in time."""

import collections
import secrets
import time
from collections.abc import Callable


class Store:
    """Keeps messages under handles that cannot be guessed.

    A message is kept until it expires, or until younger ones need its place; whoever
    comes too late asks the expert again. All calls come from one thread.

    Args:
      max_bytes: of all messages together.
      max_items: most messages.
      seconds: how long a message is kept.
      clock: seconds that never run backwards.

    Raises:
      ValueError: a bound that is not positive.

    Example:
      >>> store = Store(max_bytes=10, max_items=2, seconds=60.0)
      >>> handle = store.put(b"tokens")
      >>> store.get(handle)
      b'tokens'
    """

    def __init__(
        self,
        max_bytes: int,
        max_items: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        if max_bytes < 1 or max_items < 1 or not seconds > 0.0:
            raise ValueError(
                f"a store of {max_bytes} bytes, {max_items} items and {seconds} s; "
                "all three must be positive"
            )
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._seconds = seconds
        self._clock = clock
        # From oldest to youngest, which is also the order in which they expire.
        self._items: collections.OrderedDict[str, tuple[float, bytes]] = (
            collections.OrderedDict()
        )
        self._num_bytes = 0

    def put(self, data: bytes) -> str:
        """Keeps a message and returns its handle, of letters, digits, - and _.

        Raises:
          ValueError: the message alone is larger than the store.
        """
        if len(data) > self._max_bytes:
            raise ValueError(
                f"{len(data)} bytes do not fit the store of {self._max_bytes} bytes"
            )
        self._drop_expired()
        while (
            len(self._items) >= self._max_items
            or self._num_bytes + len(data) > self._max_bytes
        ):
            self._drop_oldest()
        handle = secrets.token_urlsafe(24)
        self._items[handle] = (self._clock() + self._seconds, data)
        self._num_bytes += len(data)
        return handle

    def get(self, handle: str) -> bytes:
        """The message of a handle.

        Raises:
          KeyError: no such handle, or it has expired.
        """
        self._drop_expired()
        return self._items[handle][1]

    def __len__(self) -> int:
        """Number of messages that have not expired."""
        self._drop_expired()
        return len(self._items)

    @property
    def num_bytes(self) -> int:
        """Bytes of all messages that have not expired."""
        self._drop_expired()
        return self._num_bytes

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._items and next(iter(self._items.values()))[0] <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (_, data) = self._items.popitem(last=False)
        self._num_bytes -= len(data)
