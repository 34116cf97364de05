"""Settings that may be data: numbers of a config that JAX traces."""

import dataclasses
from typing import Any

import jax


def known(config: Any) -> Any:
    """A config with defaults in place of traced numbers, whose values nobody knows yet.

    For checks by comparison, which a traced number has no answer to.

    Example:
      >>> @dataclasses.dataclass
      ... class Config:
      ...     rate: float = 0.1
      >>> jax.jit(lambda rate: known(Config(rate)).rate + rate)(1.0).item()
      1.100000023841858
    """
    traced = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if isinstance(getattr(config, field.name), jax.core.Tracer)
    }
    return dataclasses.replace(config, **traced) if traced else config
