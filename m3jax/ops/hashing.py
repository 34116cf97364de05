"""Locality-sensitive hashing by random signs, and the exact chance that hashes agree.

A hash is one bit: on which side of a random plane through the origin a vector lies.
Two vectors agree with probability ``1 - angle / pi`` (Charikar 2002), so the share of
bits that agree is an unbiased estimate of it, from K bits a vector in place of D
floats.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


def random_planes(key: base.Array, num_hashes: int, dim: int) -> base.Array:
    """Draws the normals of the planes.

    Args:
      key: random key.
      num_hashes: planes, K.
      dim: size of the vectors, D.

    Returns:
      float32 [K, D], standard normal: their directions are uniform.
    """
    return jax.random.normal(key, (num_hashes, dim))


def sign_bits(x: base.Array, planes: base.Array) -> base.Array:
    """The hashes of vectors.

        h_k(x) = 1[r_k . x >= 0]

    Args:
      x: [..., D].
      planes: [K, D] of `random_planes`.

    Returns:
      bool [..., K].

    Raises:
      ValueError: the sizes of vectors and planes differ.
    """
    if jnp.ndim(planes) != 2 or jnp.shape(x)[-1] != jnp.shape(planes)[1]:
        raise ValueError(
            f"vectors {list(jnp.shape(x))} need planes [K, {jnp.shape(x)[-1]}], got"
            f" {list(jnp.shape(planes))}: draw them with dim={jnp.shape(x)[-1]}."
        )
    return numbers.as_float(x) @ jnp.asarray(planes).T >= 0


def agreement(a: base.Array, b: base.Array) -> base.Array:
    """The share of hashes that two vectors have in common.

        sim = 1/K sum_k 1[h_k(a) = h_k(b)]

    Args:
      a: bool [..., K], of `sign_bits`.
      b: the same.

    Returns:
      float32 [...], from 0 to 1; it has no gradient.

    Example:
      >>> a, b = jnp.array([True, True, False, False]), jnp.array([True] * 4)
      >>> float(agreement(a, b))
      0.5
    """
    return jnp.mean(a == b, axis=-1, dtype=jnp.float32)


def agreement_probability(x: base.Array, y: base.Array) -> base.Array:
    """What `agreement` estimates: the chance that a random plane does not part two.

        P[h(x) = h(y)] = 1 - angle(x, y) / pi

    Args:
      x: [..., D]; neither it nor ``y`` may be zero.
      y: [..., D].

    Returns:
      [...], from 0 (opposite) to 1 (same direction).

    Example:
      >>> float(agreement_probability(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])))
      0.5
    """
    x, y = numbers.as_floats(x, y)
    x = x * numbers.unit_scale(numbers.peak(x, axis=-1))[..., None]
    y = y * numbers.unit_scale(numbers.peak(y, axis=-1))[..., None]
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    y = y / jnp.linalg.norm(y, axis=-1, keepdims=True)
    # Exact for small angles too, where the arc cosine of the product is not.
    away = jnp.linalg.norm(x - y, axis=-1)
    along = jnp.linalg.norm(x + y, axis=-1)
    return 1.0 - 2.0 * jnp.arctan2(away, along) / jnp.pi
