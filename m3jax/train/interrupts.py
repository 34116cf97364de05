"""Signals as a request to stop, wherever a command is.

Three signals ask alike: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which comes when a
terminal or an ssh session goes. What happens then:

- in a `Watch`, as in the loop, the signal is noted; the work ends at the next place
  where it can be gone on from, and saves it;
- elsewhere, in a command that called `take_over`, there is nothing to save. The process
  says in one line what is kept, ends the processes that it started, and is gone: as
  after ``kill -9``, which all that m3jax writes survives. Nothing is unwound, as C++
  code of JAX aborts where an exception comes out of nowhere, and nothing is waited for,
  as XLA compiles for minutes;
- **the same signal again within `IMPATIENCE` seconds leaves at once**, in the middle of
  a save too. Another signal says the same in another way and changes nothing: a
  scheduler's SIGTERM and a Ctrl-C right after it do not abort a save.

This module imports neither JAX nor anything slow, so that a command can call
`take_over` before it imports them.
"""

import contextlib
import os
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
        global _requested
        self.received = self.received or signal.Signals(number)
        if _listener is not None:  # which counts, even while Python is busy elsewhere
            _requested = True
        elif _is_impatient(self._came, number):
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
        signal.signal(number, _heard)
    _listener = threading.Thread(target=_listen, args=(heard,), daemon=True)
    _listener.start()
    os.register_at_fork(after_in_child=_hand_back)


def ending() -> None:
    """Tells that the command has said its last line: no signal adds another one."""
    global _requested
    _requested = True


@contextlib.contextmanager
def handed_over() -> Iterator[None]:
    """Signals act as in any Python program within, for servers with their own ways."""
    before = {number: signal.signal(number, _usual(number)) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
_requested = False  # a Watch has noted a signal, and the command is about to end
_kept: list[str | Callable[[], str]] = []


def _heeded() -> list[signal.Signals]:
    """Signals to handle here: not a SIGHUP that whoever started this ignores."""
    hangup = getattr(signal, "SIGHUP", None)
    return [
        number
        for number in SIGNALS
        if number != hangup or signal.getsignal(number) != signal.SIG_IGN
    ]


def _usual(number: int) -> Callable | signal.Handlers:
    """What Python does with a signal where nobody says otherwise."""
    is_interrupt = number == signal.SIGINT
    return signal.default_int_handler if is_interrupt else signal.SIG_DFL


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


def _heard(number: int, frame: FrameType | None) -> None:
    """Handler of a command: `_listen` has heard of it already."""
    del number, frame


def _hand_back() -> None:
    """In a forked process nobody listens: signals act there as they usually do."""
    global _listener
    if _listener is not None:
        _listener = None
        signal.set_wakeup_fd(-1)
        for number in _heeded():
            signal.signal(number, _usual(number))


def _listen(heard: int) -> None:
    """Thread of `take_over`: hears of signals at once, where the main thread can't."""
    came: dict[int, float] = {}
    while True:
        for number in os.read(heard, 64):
            handler = signal.getsignal(number)
            is_watched = isinstance(getattr(handler, "__self__", None), Watch)
            if not (is_watched or handler is _heard):
                continue  # a server's own
            name = signal.Signals(number).name
            if _is_impatient(came, number):
                _leave(number, f"left at once: {name} came twice: {_what()}")
            elif not (is_watched or _requested):
                _leave(number, f"stopped by {name}: {_what()}")


def _leave(number: int, text: str) -> None:
    """Ends the process now, whatever the main thread does, and those it started."""
    started_by = sys.modules.get("multiprocessing")  # slow to import
    for process in started_by.active_children() if started_by else ():
        process.kill()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
    os._exit(128 + number)


def _what() -> str:
    what = _kept[-1] if _kept else NOTHING_KEPT
    return what() if callable(what) else what
