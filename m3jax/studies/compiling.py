"""How much a study lets XLA optimise."""

import contextlib
import os
from collections.abc import Iterator

import jax

_QUICK_FLAGS = (
    # Fusions by MLIR take most of XLA's time on a CPU; threads that compile parts of a
    # program compete with the other processes of a study.
    "--xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE "
    "--xla_cpu_parallel_codegen_split_count=1"
)
_OPTION = "jax_disable_most_optimizations"


@contextlib.contextmanager
def quickly(is_quick: bool) -> Iterator[None]:
    """Compiles sooner to slower programs within, and afterwards as before.

    Args:
      is_quick: False: fully optimised, whatever was set outside.
    """
    before = jax.config.read(_OPTION)
    jax.config.update(_OPTION, is_quick)
    try:
        yield
    finally:
        jax.config.update(_OPTION, before)


def quick_flags() -> str:
    """Flags of XLA for programs that run for milliseconds; "" where it may lack them.

    XLA reads ``XLA_FLAGS`` when a process first uses a device, and ends the process if
    it does not know one of them.
    """
    return _QUICK_FLAGS if jax.__version_info__[:2] == (0, 10) else ""


def flags(text: str) -> contextlib.AbstractContextManager[None]:
    """Adds to XLA's flags for what starts within: this process' devices and others'."""
    return added("XLA_FLAGS", text, " ")


@contextlib.contextmanager
def added(name: str, text: str, separator: str) -> Iterator[None]:
    """Adds to a variable of the environment, for processes that start within.

    Args:
      name: of the variable.
      text: what is added behind what it has; "" adds nothing.
      separator: between the two.
    """
    before = os.environ.get(name)
    if text:
        os.environ[name] = separator.join(filter(None, (before, text)))
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
