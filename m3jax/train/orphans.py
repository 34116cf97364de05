"""Worker processes end with the process that started them, however it ends."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import connection

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def end_with_parent() -> None:
    """Ends this process as soon as its parent is gone; a worker calls it first.

    Linux is asked to kill it then, which holds while it computes too. Everywhere a
    thread waits for the end of the parent's pipe, which ``kill -9`` closes as well; it
    also sees a parent that was gone before this was called.

    Does nothing in a process that ``multiprocessing`` did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    if sys.platform.startswith("linux"):
        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
