"""SIGTERM and Ctrl-C as a request to stop at the next step boundary."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """A run stopped because it was asked to, after saving what it could.

    Attributes:
      received: the signal.
      step: the number of finished updates.
      exit_code: what the process should exit with (128 + signal number).
    """

    def __init__(self, received: signal.Signals, step: int, saved_in: str | None):
        self.received, self.step = received, step
        self.exit_code = 128 + received
        kept = (
            f"saved in {saved_in}; go on with --resume"
            if saved_in
            else "nothing was saved, as the run keeps no checkpoints"
        )
        super().__init__(f"stopped by {received.name} after step {step}: {kept}")


class Watch:
    """Context manager that notes SIGTERM or Ctrl-C instead of dying of it.

    The first signal is noted in ``received``. A second Ctrl-C acts as it did before,
    so an impatient user still gets out. Outside the main thread, where Python allows
    no handlers, it does nothing.

    Attributes:
      received: the first signal that came, or None.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = self.received or signal.Signals(number)
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, self._before.pop(signal.SIGINT))


@contextlib.contextmanager
def hidden_from_children() -> Iterator[None]:
    """Starts processes that Ctrl-C does not reach; a terminal sends it to all.

    In this process a Ctrl-C that comes meanwhile is not lost but late.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
