"""Whose fault an error is, and what a command says of it.

The rule looks at the situation and not at the type:

1. **The machine** said no: an error of the operating system, no memory, a package that
   is not installed.
2. **Somebody raised it on purpose**: its origin is a ``raise`` of m3jax, of a command,
   of a config file or of the user's package. Such an error says what is wrong and what
   mends it, so it is told as it is.
3. **A user's own code** failed by accident: it is told with file and line.
4. **Anything else** came out of Python or a library where nobody expected it. That is a
   fault of m3jax: it says so, shows the traceback and asks to report it. A type that
   belongs to the user and ends here lacks a check; it is mended by adding that check.

Of errors in a row the first is told: a disk that is full for a checkpoint and then for
``run.json`` too is one that is full for the checkpoint.
"""

import dis
import errno
import functools
import os
import pathlib
import traceback
import types
from collections.abc import Iterator
from typing import NamedTuple

from m3jax.train import typed_json

OURS, THEIRS = 70, 1
"""Exit codes: a fault of m3jax (EX_SOFTWARE of <sysexits.h>), and all others."""
SHOW_ALL = "; correct it there (--verbosity=1 shows the whole traceback)"
_OWN = ("m3jax", "benchmarks", "cli", "config_flag", "grids", "__main__")
_MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "choose a place that you may use",
    errno.EPERM: "choose a place that you may use",
    errno.EROFS: "choose a place that can be written",
    errno.EADDRINUSE: "take another --port",
    errno.EADDRNOTAVAIL: "take another --host",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "take a shorter name",
}
_LIBRARIES = {"site-packages", "dist-packages"}
_PYTHON = pathlib.Path(os.__file__).parent
_TOLD = "_m3jax_told"


class Told(NamedTuple):
    """What a command says of an error.

    Attributes:
      line: one line that names the thing and, where there is one, the mend.
      code: what the process exits with.
      trace: the traceback where the fault is m3jax's own, else "".
    """

    line: str
    code: int
    trace: str = ""


def tell(error: BaseException) -> Told:
    """What to say of an error that ended a command.

    Example:
      >>> tell(FileNotFoundError(2, "No such file or directory", "runs/x")).line
      'error: runs/x: No such file or directory'
      >>> tell(MemoryError()).code
      1
    """
    error = _first(error)
    known = getattr(error, _TOLD, None)  # said where it arose, in another process
    if known is not None:
        return Told(*known)
    said = _said(error)
    if said is not None:
        return Told(f"error: {said}", THEIRS)
    trace = "".join(traceback.format_exception(error)).rstrip()
    return Told(
        f"error: this is a fault of m3jax, not yours: {_summary(error)}{_where(error)};"
        " please send the lines above and your command to the project's issue tracker",
        OURS,
        trace,
    )


def carry(error: BaseException) -> None:
    """Notes in an error what to say of it, before it goes to another process.

    On the way it loses its traceback, and with it where it came from.
    """
    setattr(error, _TOLD, tuple(tell(error)))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory, on the host or on a device."""
    if isinstance(error, MemoryError):
        return True
    return "RESOURCE_EXHAUSTED" in str(error) and isinstance(error, RuntimeError)


def _said(error: BaseException) -> str | None:
    """The line of an error that is not m3jax's fault; None for one that is."""
    if out_of_memory(error):
        text = _text(error)
        about = f" ({text})" if text else ""
        return f"out of memory{about}; take smaller batches, fewer examples or seeds"
    if isinstance(error, OSError) and error.errno is not None:
        return _of_the_system(error)
    if isinstance(error, ModuleNotFoundError) and not _is_own(error.name or ""):
        return f"{_text(error)}; install it, or m3jax with all it needs"
    if _is_raised_here(error):
        return _text(error) or _summary(error)
    culprit = _culprit(error)
    if culprit is not None and not _is_own_frame(culprit.tb_frame):
        file = os.path.relpath(culprit.tb_frame.f_code.co_filename)
        return f"{file}, line {culprit.tb_lineno}: {_summary(error)}{SHOW_ALL}"
    return None


def _first(error: BaseException) -> BaseException:
    """The error that came first, where handling it led to another one.

    Errors that were translated (``raise ... from``) are told as they were translated.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    before = error.__context__
    if before is None or error.__cause__ is not None or error.__suppress_context__:
        return error
    before = _first(before)
    return before if _said(before) is not None else error


def _of_the_system(error: OSError) -> str:
    """What the operating system says, of which file, and what mends it."""
    text = _one_line(error.strerror or _text(error))
    named = error.filename is not None and str(error.filename) not in text
    mend = _MENDS.get(error.errno)
    return (
        (f"{error.filename}: " if named else "")
        + text
        + (f"; {mend}" if mend and ";" not in text else "")
    )


def _is_raised_here(error: BaseException) -> bool:
    """Whether an error comes from a ``raise`` of m3jax or of the user's own code.

    An error that a call of Python or of a library made has its origin in an instruction
    of another kind, or in a file of theirs.
    """
    last = _last(error.__traceback__)
    if last is None or isinstance(error, AssertionError):
        return False
    if not (_is_own_frame(last.tb_frame) or _is_users(last.tb_frame)):
        return False
    return last.tb_lasti in _raises(last.tb_frame.f_code)


@functools.cache
def _raises(code: types.CodeType) -> frozenset[int]:
    """Offsets of the ``raise`` statements of a function."""
    found = dis.get_instructions(code)
    return frozenset(i.offset for i in found if i.opname == "RAISE_VARARGS")


def _culprit(error: BaseException) -> types.TracebackType | None:
    """The innermost place that is m3jax's or the user's own."""
    found = None
    for place in _places(error.__traceback__):
        if _is_own_frame(place.tb_frame) or _is_users(place.tb_frame):
            found = place
    return found


def _places(trace: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _last(trace: types.TracebackType | None) -> types.TracebackType | None:
    return list(_places(trace))[-1] if trace is not None else None


def _is_own(module: str) -> bool:
    return module.split(".")[0] in _OWN


def _is_own_frame(frame: types.FrameType) -> bool:
    return _is_own(str(frame.f_globals.get("__name__", "")))


def _is_users(frame: types.FrameType) -> bool:
    """Whether code is neither Python's, nor a library's, nor m3jax's."""
    if _is_own_frame(frame):
        return False
    if typed_json.is_trusted(str(frame.f_globals.get("__name__", ""))):
        return True
    file = pathlib.Path(frame.f_code.co_filename)
    if not file.is_file():
        return False  # made at run time, as dataclasses make theirs
    return not (_LIBRARIES & set(file.parts) or file.is_relative_to(_PYTHON))


def _where(error: BaseException) -> str:
    culprit = _culprit(error)
    if culprit is None:
        return ""
    file = culprit.tb_frame.f_code.co_filename.split(f"{os.sep}m3jax{os.sep}")[-1]
    return f" ({file}, line {culprit.tb_lineno})"


def _summary(error: BaseException) -> str:
    text = _text(error)
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _text(error: BaseException) -> str:
    """What an error says, in one line; JAX's go on over many, and a KeyError quotes."""
    is_key = isinstance(error, KeyError) and len(error.args) == 1
    return _one_line(str(error.args[0] if is_key else error))


def _one_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0].strip()
