"""Signals as a request to stop, wherever a command is.

Three signals ask alike: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which comes when a
terminal or an ssh session goes. What happens then:

- in a `Watch`, as in the loop, the signal is noted; the work ends at the next place
  where it can be gone on from, and saves it;
- elsewhere, in a command that called `take_over`, `Stopped` is raised at once. Where
  Python is busy in C++, as while XLA compiles, it can't be; then the process ends
  after `GRACE` seconds all the same;
- **the same signal again within `IMPATIENCE` seconds leaves at once**, in the middle of
  a save too. Another signal says the same in another way and changes nothing: a
  scheduler's SIGTERM and a Ctrl-C right after it do not abort a save.

This module imports neither JAX nor anything slow, so that a command can call `take_over`
before it imports them.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)
)
GRACE = 2.0
"""Seconds in which a stopped command ends, before it is ended."""
IMPATIENCE = 5.0
"""Seconds within which the same signal again leaves at once."""
NOTHING_KEPT = "nothing was written"


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


class Stopped(KeyboardInterrupt):
    """A command was asked to stop where nothing watches; says what is kept.

    Not an ``Exception``, so that no library takes it for a failure of its own.

    Attributes:
      received: the signal.
      exit_code: what the process should exit with (128 + signal number).
    """

    def __init__(self, received: signal.Signals):
        self.received, self.exit_code = received, 128 + received
        super().__init__(_stopped_by(received))


class Watch:
    """Context manager that notes a request to stop instead of dying of it.

    The first signal is noted in ``received``. The same one again within `IMPATIENCE`
    seconds acts as it did before, so an impatient user still gets out. Outside the main
    thread, where Python allows no handlers, it does nothing. A SIGHUP that was ignored,
    as ``nohup`` has it, stays so.

    Attributes:
      received: the first signal that came, or None.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}
        self._came: dict[int, float] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            for number in _heeded():
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
        self.received = self.received or signal.Signals(number)
        # Who took over counts for itself, even while Python is busy elsewhere.
        if _listener is None and _is_impatient(self._came, number):
            _act_as_before(self._before[signal.Signals(number)], number, frame)


def take_over() -> None:
    """Makes signals end this process as a command should; commands call it first.

    In the main thread of a process, once; further calls change nothing. See the module.
    """
    global _listener
    if _listener is not None or sys.platform == "win32":
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in _heeded():
        signal.signal(number, _stop)
    _listener = threading.Thread(target=_listen, args=(heard,), daemon=True)
    _listener.start()


def ending() -> None:
    """Tells that the command is about to exit: what still comes can't stop it twice."""
    _ending.set()


@contextlib.contextmanager
def keeps(what: str | Callable[[], str]) -> Iterator[None]:
    """Says what is kept if a signal ends the command within.

    Args:
      what: a text such as "what was trained is kept in runs/s; the same command goes
        on", or what gives it, asked when a signal comes.
    """
    _kept.append(what)
    try:
        yield
    finally:
        _kept.pop()


@contextlib.contextmanager
def hidden_from_children() -> Iterator[None]:
    """Starts processes that Ctrl-C and SIGHUP do not reach; a terminal tells all.

    In this process a signal that comes meanwhile is not lost but late.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    hidden = set(SIGNALS) - {signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, hidden)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_listener: threading.Thread | None = None
_ending = threading.Event()
_kept: list[str | Callable[[], str]] = []


def _heeded() -> list[signal.Signals]:
    """Signals to handle here: not a SIGHUP that whoever started this ignores."""
    hangup = getattr(signal, "SIGHUP", None)
    return [
        number
        for number in SIGNALS
        if number != hangup or signal.getsignal(number) != signal.SIG_IGN
    ]


def _is_impatient(came: dict[int, float], number: int) -> bool:
    """Whether this very signal came a moment ago; notes that it has come now."""
    before, came[number] = came.get(number, -IMPATIENCE), time.monotonic()
    return came[number] - before < IMPATIENCE


def _act_as_before(handler: object, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
        return
    signal.signal(number, signal.SIG_DFL if handler is None else handler)
    signal.raise_signal(number)


def _stop(number: int, frame: FrameType | None) -> None:
    """Handler of a command where nothing watches."""
    del frame
    if not _ending.is_set():
        raise Stopped(signal.Signals(number))


def _is_ours(number: int) -> bool:
    """Whether a signal is still handled here, and not by a server's own loop."""
    handler = signal.getsignal(number)
    return handler is _stop or isinstance(getattr(handler, "__self__", None), Watch)


def _listen(heard: int) -> None:
    """Hears of signals while the main thread can't: thread of `take_over`."""
    came: dict[int, float] = {}
    stopped_by, deadline = 0, None
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if select.select([heard], [], [], left)[0]:
            for number in os.read(heard, 64):
                if number not in SIGNALS or not _is_ours(number):
                    continue
                if _is_impatient(came, number):
                    _leave(number, f"left at once: {_name(number)} twice: {_what()}")
                if signal.getsignal(number) is _stop and deadline is None:
                    stopped_by, deadline = number, time.monotonic() + GRACE
        elif _ending.is_set():
            deadline = None
        else:
            _leave(stopped_by, _stopped_by(stopped_by))


def _leave(number: int, text: str) -> None:
    """Ends the process now, whatever the main thread does."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
    os._exit(128 + number)


def _stopped_by(number: int) -> str:
    return f"stopped by {_name(number)}: {_what()}"


def _what() -> str:
    what = _kept[-1] if _kept else NOTHING_KEPT
    return what() if callable(what) else what


def _name(number: int) -> str:
    return signal.Signals(number).name
