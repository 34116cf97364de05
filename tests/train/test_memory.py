"""Freed memory stays with the process."""

import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from m3jax.train import memory
if sys.argv[1] == "kept":
    assert memory.keep_freed_memory()
libc, size = ctypes.CDLL(None), 2**27
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def work():
    piece = libc.malloc(size)
    ctypes.memset(piece, 1, size)
    libc.free(piece)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="set in glibc")
def test_memory_used_again_needs_no_new_pages(start_python):
    faults = {}
    for how in ("kept", "returned"):
        process = start_python("-W", "error", "-c", PROGRAM, how)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        faults[how] = int(out)
    assert faults["kept"] < 100 < faults["returned"]
