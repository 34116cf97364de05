"""How much memory there is, what can never fit, and how what was freed is kept."""

import ctypes
import math
import os
import pathlib
import resource
import sys
from typing import Any

import jax

# Names and numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_NEVER = 2**31 - 1
_PAD_BYTES = 2**26
_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a pytree; shapes and dtypes are enough.

    Example:
      >>> import numpy as np
      >>> tree_bytes({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)})
      28
    """
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def host_bytes() -> int:
    """Memory of the machine, swap too, or of the container; 0 where nobody knows."""
    limits = [_meminfo()]
    for file in _CGROUP_LIMITS:
        try:
            limits.append(int(pathlib.Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min((limit for limit in limits if limit > 0), default=0)


def device_bytes() -> int:
    """Memory of one device that JAX computes on; on a CPU that of the host."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return host_bytes()
    return (device.memory_stats() or {}).get("bytes_limit", 0)


def check_fits(needed: int, there: int, what: str, mend: str) -> None:
    """Refuses what can never fit, with the figures.

    Args:
      needed: bytes, a lower bound.
      there: bytes of all memory, not of what is free; 0: nobody knows, and it passes.
      what: that needs it.
      mend: what to do about it.

    Raises:
      ValueError: more is needed than there is.

    Example:
      >>> check_fits(3 * 10**12, 8 * 10**9, "a batch of 9 million", "take fewer")
      Traceback (most recent call last):
      ...
      ValueError: a batch of 9 million needs 3,000 GB, and there are 8 GB; take fewer
    """
    if needed > there > 0:
        raise ValueError(
            f"{what} needs {_gigabytes(needed)}, and there are {_gigabytes(there)};"
            f" {mend}"
        )


def _gigabytes(count: int) -> str:
    size = count / 1e9
    return f"{size:,.0f} GB" if size >= 10 or size == int(size) else f"{size:.1f} GB"


def _meminfo() -> int:
    """Bytes of memory and swap, as Linux tells; elsewhere of memory, or 0."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
        rows = dict(line.split(":") for line in text.splitlines())
        return sum(1024 * int(rows[n].split()[0]) for n in ("MemTotal", "SwapTotal"))
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


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
