"""What actions and observations are: one of n, numbers between bounds, truth values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base


class Discrete(NamedTuple):
    """A choice of one of ``n``."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action: ``()``."""
        return ()

    @property
    def dtype(self) -> jnp.dtype:
        """Of one action: int32."""
        return jnp.dtype(jnp.int32)

    def sample(self, key: base.Array) -> base.Array:
        """Draws one uniformly."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)

    def contains(self, x: base.Array) -> base.Array:
        """Whether ``x`` is one of the choices, bool scalar."""
        return (jnp.asarray(x) >= 0) & (jnp.asarray(x) < self.n)


class Box(NamedTuple):
    """Arrays of one shape between two bounds.

    Attributes:
      low: the least value of any entry.
      high: the greatest.
      shape: of one array.
    """

    low: float
    high: float
    shape: tuple[int, ...]

    @property
    def dtype(self) -> jnp.dtype:
        """Of one array: float32."""
        return jnp.dtype(jnp.float32)

    def sample(self, key: base.Array) -> base.Array:
        """Draws one uniformly; the bounds must be finite."""
        return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)

    def contains(self, x: base.Array) -> base.Array:
        """Whether every entry is within the bounds, bool scalar."""
        return jnp.all((x >= self.low) & (x <= self.high))


class Binary(NamedTuple):
    """Arrays of truth values of one shape, such as masks."""

    shape: tuple[int, ...]

    @property
    def dtype(self) -> jnp.dtype:
        """Of one array: bool."""
        return jnp.dtype(bool)

    def sample(self, key: base.Array) -> base.Array:
        """Draws every entry with probability 1/2."""
        return jax.random.bernoulli(key, 0.5, self.shape)

    def contains(self, x: base.Array) -> base.Array:
        """Whether every entry is 0 or 1, bool scalar."""
        x = jnp.asarray(x)
        return jnp.all((x == 0) | (x == 1))
