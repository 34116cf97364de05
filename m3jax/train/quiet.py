"""Keeps Orbax and TensorStore from telling, at length, what is raised as one error.

Both work in threads of their own, which log tracebacks of each piece that they could
not read or write, before and after the error that matters.
"""

import functools
import logging
import os
import sys
import threading
from typing import Any

_ORBAX = f"{os.sep}orbax{os.sep}"


def hush_orbax() -> None:
    """Drops what Orbax logs, until `let_orbax_speak`; hushes TensorStore too."""
    logging.getLogger("absl").addFilter(_is_not_from_orbax)
    hush_tensorstore()


def let_orbax_speak() -> None:
    """Undoes `hush_orbax`."""
    logging.getLogger("absl").removeFilter(_is_not_from_orbax)


def wait_for_orbax(seconds: float) -> None:
    """Waits for Orbax's threads, which go on with what has failed already.

    Args:
      seconds: how long at most, for each.
    """
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            thread.join(seconds)


@functools.cache
def hush_tensorstore() -> None:
    """Drops what is told of reads and writes that Orbax has broken off.

    TensorStore wakes an event loop that Orbax has closed, and coroutines of Orbax's end
    when they are collected.
    """
    before = sys.unraisablehook

    def tell(what: Any) -> None:
        code = getattr(what.object, "cr_code", None)
        is_orbax = code is not None and _ORBAX in code.co_filename
        if not is_orbax and str(what.exc_value) != "Event loop is closed":
            before(what)

    sys.unraisablehook = tell


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
    return _ORBAX not in record.pathname
