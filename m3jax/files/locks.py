"""Folders have an owner: a lock of the operating system, which dies with its process.

The lock is on the file ``.lock`` of the folder, which tells who holds it. The file
stays; only a process that is alive holds it. Reading needs no lock.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import platform
import sys
import warnings
from collections.abc import Iterator

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class InUseError(OSError):
    """Another process owns the folder."""


@contextlib.contextmanager
def owned(folder: str | os.PathLike[str], mend: str) -> Iterator[None]:
    """Owns a folder, which is made if need be, for the length of the body.

    Args:
      folder: the folder.
      mend: what to do about a folder that is in use, such as "take another --out".

    Raises:
      InUseError: another process, or thread, owns it; tells which one, and since when.
      OSError: the folder can't be written to.
    """
    with _opened(pathlib.Path(folder)) as lock:
        if not _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise InUseError(
                f"{folder} is in use by {_owner(folder)}; wait for it to end, or {mend}"
            )
        _sign(lock)
        yield


@contextlib.contextmanager
def waited_for(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Owns a folder, which is made if need be, as soon as nobody else does.

    Raises:
      OSError: the folder can't be written to.
    """
    with _opened(pathlib.Path(folder)) as lock:
        _lock(lock, fcntl.LOCK_EX)
        _sign(lock)
        yield


_open: set[int] = set()
"""File descriptors that a forked child must not keep: they hold the lock."""


def _let_go() -> None:
    for lock in _open:
        os.close(lock)
    _open.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def _opened(folder: pathlib.Path) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    _open.add(lock)
    try:
        yield lock
    finally:
        if lock in _open:  # else we are a child, which has let go
            _open.remove(lock)
            os.close(lock)


def _lock(lock: int, how: int) -> bool:
    """Takes the lock; False if it is held, True too where there are no locks."""
    try:
        fcntl.flock(lock, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(
            f"this file system has no locks ({error.strerror}): nothing keeps a second"
            " process from writing to the same folder",
            stacklevel=4,
        )
    return True


def _sign(lock: int) -> None:
    """Tells who holds the lock; on a full disk nobody learns it."""
    me = {
        "host": platform.node(),
        "process": os.getpid(),
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": " ".join(sys.argv),
    }
    with contextlib.suppress(OSError):
        os.truncate(lock, 0)
        os.pwrite(lock, json.dumps(me).encode(), 0)


def _owner(folder: str | os.PathLike[str]) -> str:
    try:
        told = json.loads((pathlib.Path(folder) / LOCK).read_text(encoding="utf-8"))
        return (
            f"process {told['process']} on {told['host']} since {told['since']}"
            f" ({told['command']})"
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
