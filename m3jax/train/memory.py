"""How the process keeps the memory that a step works in."""

import ctypes
import resource
import sys

# Names and numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = 2**31 - 1
_PAD_BYTES = 2**26


def resident_bytes() -> int:
    """Memory that the process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def keep_freed_memory() -> bool:
    """Keeps memory that was freed for the next step, instead of giving it back.

    A compiled step allocates its work space anew each time. By default glibc maps such
    large pieces from the system and gives them back, and every page must be zeroed
    again: on CPUs that is a sixth of the time of a small train step. With this, the
    process keeps as much memory as it once needed. Call it before JAX starts; the
    launchers do.

    Returns:
      Whether it took effect: True on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    # One arena, since the others live in pieces that are unmapped when they empty.
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, _NEVER),
        (_M_TOP_PAD, _PAD_BYTES),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)
