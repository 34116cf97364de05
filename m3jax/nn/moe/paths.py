"""The experts on their tokens, in ways that are equal in value and gradient.

All take tokens ``x [T, D]``, ``weights [T, n]`` with at most ``max_experts`` of a row
not zero, and `Kernels`; all return ``sum_i weights_i expert_i(x)``, [T, D], of the type
of ``x``. At weights of zero their gradients differ: the dense one alone knows what a
not asked expert would have answered.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers
from m3jax.nn.moe import buckets as buckets_lib
from m3jax.nn.moe import config as config_lib
from m3jax.nn.moe import slots as slots_lib
from m3jax.ops import numbers


def run_dense(
    x: base.Array,
    weights: base.Array,
    kernels: config_lib.Kernels,
    max_experts: int | None = None,
) -> base.Array:
    """Runs every expert on every token: n times the work of one; the reference."""
    del max_experts
    x = numbers.as_float(x)
    out = jnp.zeros(x.shape, jnp.float32)
    for i in range(weights.shape[-1]):
        gate, up, down = (kernel[i] for kernel in kernels)
        hidden = jax.nn.silu(layers.matmul(x, gate)) * layers.matmul(x, up)
        out += layers.matmul(hidden, down).astype(jnp.float32) * weights[:, i, None]
    return out.astype(x.dtype)


def run_grouped(
    x: base.Array, weights: base.Array, kernels: config_lib.Kernels, max_experts: int
) -> base.Array:
    """Sorts tokens by expert and takes ``jax.lax.ragged_dot``, for accelerators."""
    num_experts = weights.shape[-1]
    values, experts = slots_lib.asked(weights, max_experts)
    ranks, counts = slots_lib.ranks(experts, num_experts)
    # One place more, for nobody: its rows stand last, in no group.
    starts = jnp.cumsum(counts) - counts
    places = jnp.append(starts, 0)[experts] + ranks
    places = jnp.where(experts < num_experts, places, experts.size)
    slots = slots_lib.match(places, experts.size)
    rows = slots_lib.dispatch(x, slots)

    def product(rows, kernel):
        return jax.lax.ragged_dot(rows, kernel, counts)

    hidden = jax.nn.silu(product(rows, kernels.gate)) * product(rows, kernels.up)
    return slots_lib.combine(product(hidden, kernels.down), values, slots)


def run_experts(
    x: base.Array,
    weights: base.Array,
    kernels: config_lib.Kernels,
    max_experts: int,
    path: str = "auto",
) -> base.Array:
    """Runs the experts by one of `PATHS`; "auto": what suits JAX's backend.

    Args:
      x: [T, D].
      weights: [T, n], at most ``max_experts`` of a row not zero.
      kernels: the experts, of the type of ``x``.
      max_experts: k.
      path: how; see `MoeConfig`.

    Returns:
      [T, D].

    Raises:
      ValueError: there is no such path.
    """
    if path == "auto":
        path = "buckets" if jax.default_backend() == "cpu" else "grouped"
    if path == "dense":
        return run_dense(x, weights, kernels)
    if path == "grouped":
        return run_grouped(x, weights, kernels, max_experts)
    if path == "buckets":
        return buckets_lib.run_buckets(x, weights, kernels, max_experts)
    raise ValueError(
        f"path must be one of {', '.join(config_lib.PATHS)}, got {path!r}."
    )
