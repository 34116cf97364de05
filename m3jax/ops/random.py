"""Random numbers at the speed that channels need on a CPU.

``fusible`` gives the numbers of ``jax.random`` and draws them faster. ``box_muller``
gives other complex normals, faster still; who wants them asks for them by the key, so
that every channel and link can use them without knowing.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as jax_extend_random

from m3jax import base
from m3jax.ops import threefry

_THREEFRY = "threefry2x32"


def fusible(key: base.Array) -> base.Array:
    """The same key, whose draws XLA merges with what uses them.

    Every function of ``jax.random`` takes the result and gives the same bits as for
    ``key`` itself, whatever the shape and type, under jit and vmap.

    Only draws change: keys of other generators come back as they are, and so does any
    key while ``jax_threefry_partitionable`` is off or ``jax_debug_key_reuse`` is on
    (JAX then sees every use of the key). On accelerators JAX's own kernel is taken.

    Args:
      key: a random key, or an array of keys.

    Returns:
      A key (array) of the same shape.

    Example:
      >>> key = jax.random.key(0)
      >>> fast = jax.random.normal(fusible(key), (5,))
      >>> bool((fast == jax.random.normal(key, (5,))).all())
      True
    """
    return _with_impl(key, _FUSIBLE)


def box_muller(key: base.Array) -> base.Array:
    """The same key, whose complex normals are drawn by Box and Muller's method.

        z = sqrt(-ln u) exp(j phi),   u and phi / (2 pi) uniform in (0, 1)

    (Annals of Mathematical Statistics 29(2), 1958.) One hash and no inverse error
    function: on a CPU twice as fast as ``fusible``. ``complex_normal`` gives other
    numbers for such a key, of the same distribution; functions of ``jax.random`` give
    the same. What is split or folded from it is of its kind.

    Exceptions are those of ``fusible``.

    Args:
      key: a random key, or an array of keys.

    Returns:
      A key (array) of the same shape.

    Example:
      >>> key = box_muller(jax.random.key(0))
      >>> z = complex_normal(key, (1000,), jnp.complex64)
      >>> bool(abs(jnp.mean(jnp.abs(z) ** 2) - 1.0) < 0.1)
      True
    """
    return _with_impl(key, _BOX_MULLER)


def complex_normal(key: base.Array, shape: tuple[int, ...], dtype) -> base.Array:
    """Draws circular complex normal numbers CN(0, 1).

    Args:
      key: random key, consumed.
      shape: shape of the result.
      dtype: ``complex64`` or ``complex128``.

    Returns:
      Complex array with ``E|z|^2 = 1``: ``jax.random.normal(key, shape, dtype)``, to
      the bit. From a ``box_muller`` key other numbers, if the type is ``complex64``.
    """
    single = jnp.dtype(dtype) == jnp.complex64
    if single and jax.random.key_impl(key) == _BOX_MULLER:
        return _polar(jax.random.key_data(key), shape)
    return jax.random.normal(fusible(key), shape, dtype)


def stored_complex_normal(key: base.Array, shape: tuple[int, ...], dtype) -> base.Array:
    """``jax.random.normal(key, shape, dtype)``, computed once and stored.

    For few numbers of which each is used often, such as the gain of a block. XLA would
    merge them with their users too, and work each out again at every use.

    Args:
      key: random key, consumed; of a ``box_muller`` key as of any other.
      shape: shape of the result.
      dtype: ``complex64`` or ``complex128``.

    Returns:
      Complex array with ``E|z|^2 = 1``.
    """
    real_dtype = jnp.finfo(dtype).dtype
    keys = jax.random.split(fusible(key))
    wrap = functools.partial(jax.random.wrap_key_data, impl=jax.random.key_impl(keys))
    # No fusion reaches into a loop; this one has two turns. It runs over the words of
    # the keys, since JAX's check of key reuse refuses a loop over keys under vmap.
    axes = lax.map(
        lambda words: jax.random.normal(wrap(words), shape, real_dtype),
        jax.random.key_data(keys),
    )
    return lax.complex(*(math.sqrt(0.5) * axes))


def _with_impl(key: base.Array, impl) -> base.Array:
    if (
        jax.random.key_impl(key) not in (_THREEFRY, _FUSIBLE, _BOX_MULLER)
        or not jax.config.jax_threefry_partitionable
        or jax.config.jax_debug_key_reuse
    ):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=impl)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _random_bits(
    words: base.Array, bit_width: int, shape: tuple[int, ...]
) -> base.Array:
    """Unsigned integers of a width; ``words`` are the two of one key."""
    own = functools.partial(_jax_random_bits, bit_width=bit_width, shape=shape)
    if not 0 < math.prod(shape) <= threefry.MAX_COUNT:
        return own(words)
    flat = functools.partial(_flat_random_bits, bit_width=bit_width, shape=shape)
    return lax.platform_dependent(words, cpu=flat, default=own)


def _jax_random_bits(
    words: base.Array, bit_width: int, shape: tuple[int, ...]
) -> base.Array:
    key = jax.random.wrap_key_data(words, impl=_THREEFRY)
    return jax.random.bits(key, shape, f"uint{bit_width}")


def _flat_random_bits(
    words: base.Array, bit_width: int, shape: tuple[int, ...]
) -> base.Array:
    high, low = threefry.blocks(words, shape)
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _polar(words: base.Array, shape: tuple[int, ...]) -> base.Array:
    """Complex normals, complex64: one word for the size, the other for the angle."""
    first, second = threefry.blocks(words, shape)
    # 2^-33 to 1: sizes reach sqrt(33 ln 2) = 4.8, exceeded once in 2^33 numbers.
    u = (first.astype(jnp.float32) + 0.5) * np.float32(2.0**-32)
    size = jnp.sqrt(-jnp.log(u))
    # The upper two bits choose the quarter of the circle, the others the angle from
    # its middle, -pi/4 to pi/4, where short series are exact to float32.
    turn = lax.bitcast_convert_type(second << 2, jnp.int32).astype(jnp.float32)
    angle = turn * np.float32(0.5 * math.pi * 2.0**-32)
    cosine, sine = _series(angle, 0), angle * _series(angle, 1)
    swap = (second >> 31).astype(bool)
    size = jnp.where((second >> 30) & 1, -size, size)
    real, imag = jnp.where(swap, -sine, cosine), jnp.where(swap, cosine, sine)
    return lax.complex(size * real, size * imag)


def _series(angle: base.Array, first: int) -> base.Array:
    """Taylor series of cos (first = 0) or of sin over its angle (first = 1)."""
    square = angle * angle
    total = jnp.zeros_like(angle)
    for power in range(first + 8, first - 1, -2):
        term = (-1.0) ** ((power - first) // 2) / math.factorial(power)
        total = total * square + np.float32(term)
    return total


def _define_impl(name: str, tag: str):
    """A generator with the streams of threefry-2x32."""
    threefry_impl = jax_extend_random.threefry_prng_impl
    return jax_extend_random.define_prng_impl(
        key_shape=(2,),
        seed=threefry_impl.seed,
        split=threefry_impl.split,
        random_bits=_random_bits,
        fold_in=threefry_impl.fold_in,
        name=name,
        tag=tag,
    )


_FUSIBLE = _define_impl("fusible_threefry2x32", "fus")
_BOX_MULLER = _define_impl("box_muller_threefry2x32", "box")
