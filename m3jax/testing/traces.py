"""Counts traces: a function that is traced once is compiled once."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax


class CountTraces:
    """Wraps a function and counts how often Python runs its body.

    Under ``jax.jit`` the body runs once per trace, so ``count`` is the number of
    traces.

    Attributes:
      count: calls of the body so far.

    Example:
      >>> counted = CountTraces(lambda x: 2 * x)
      >>> jitted = jax.jit(counted)
      >>> _ = jitted(1.0), jitted(2.0)
      >>> counted.count
      1
    """

    def __init__(self, fn: Callable[..., Any]):
        functools.update_wrapper(self, fn, updated=())
        self._fn = fn
        self.count = 0

    def __call__(self, *args, **kwargs):
        """Calls the function and counts one."""
        self.count += 1
        return self._fn(*args, **kwargs)


def assert_no_retrace(fn: Callable[..., Any], calls: Iterable[tuple]) -> list[Any]:
    """Asserts that a function is traced once, however its arguments' values change.

    Args:
      fn: function of positional arguments, not jitted.
      calls: argument tuples that differ in values only.

    Returns:
      The outputs, one for each call.

    Raises:
      AssertionError: if a later call traced again.
    """
    counted = CountTraces(fn)
    jitted = jax.jit(counted)
    outputs = [jitted(*args) for args in calls]
    name = getattr(fn, "__name__", repr(fn))
    assert counted.count == 1, (
        f"{name} was traced {counted.count} times for {len(outputs)} calls; an "
        "argument that should be data is static, or its shape or type changes."
    )
    return outputs
