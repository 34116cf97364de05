"""How much a study lets XLA optimise."""

import contextlib
from collections.abc import Iterator

import jax

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
