"""Experts on blocks of rows: plain products, none of them for nothing.

XLA's batched and ragged products are slow on CPUs, and a bucket of fixed capacity per
expert either drops tokens or is as large as the worst case. Here each expert's tokens
fill blocks of a fixed size, and a loop runs over the blocks in use, each with the
kernels of its expert: static shapes, nothing dropped, at most one part-filled block for
each expert. The loop's length is data, so its gradient is written out.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.moe import config as config_lib
from m3jax.nn.moe import slots as slots_lib
from m3jax.ops import numbers

_SMALLEST, _LARGEST = 8, 128  # rows of a block


def run_buckets(
    x: base.Array,
    weights: base.Array,
    kernels: config_lib.Kernels,
    max_experts: int,
    block: int | None = None,
) -> base.Array:
    """Runs the experts on blocks of their tokens; reverse-mode gradients only.

    Args:
      x: [T, D].
      weights: [T, n], at most ``max_experts`` of a row not zero.
      kernels: the experts.
      max_experts: k.
      block: rows of a block; None: about a quarter of an expert's even share.

    Returns:
      ``sum_i weights_i expert_i(x)``, [T, D].
    """
    num_experts = weights.shape[-1]
    values, experts = slots_lib.asked(weights, max_experts)
    if block is None:
        block = _block_size(experts.size, num_experts)
    slots, owners, num_blocks = _in_blocks(experts, num_experts, block)
    x = numbers.as_float(x)
    dtype = jnp.result_type(x, *kernels)  # of rows and kernels alike
    kernels = jax.tree.map(lambda kernel: kernel.astype(dtype), kernels)
    rows = slots_lib.dispatch(x.astype(dtype), slots)
    rows = _run(rows, kernels, owners, num_blocks)
    return slots_lib.combine(rows, values, slots).astype(x.dtype)


def _block_size(count: int, num_experts: int) -> int:
    quarter = max(count // (4 * num_experts), 1)
    return min(max(1 << (quarter - 1).bit_length(), _SMALLEST), _LARGEST)


def _in_blocks(experts, num_experts, block):
    """Gives each expert whole blocks: slots, the expert of each block, how many."""
    ranks, counts = slots_lib.ranks(experts, num_experts)
    ends = jnp.cumsum(-(-counts // block))
    starts = block * jnp.append(0, ends[:-1])
    most = experts.size // block + min(num_experts, experts.size)
    places = jnp.append(starts, 0)[experts] + ranks
    places = jnp.where(experts < num_experts, places, most * block)
    owners = jnp.sum(ends <= jnp.arange(most)[:, None], axis=1, dtype=jnp.int32)
    return slots_lib.match(places, most * block), owners, ends[-1]


@jax.custom_vjp
def _run(rows, kernels, owners, num_blocks):
    """The expert ``owners[i]`` on block i, for the first ``num_blocks``; else zeros."""
    block = len(rows) // len(owners)

    def body(i, out):
        gate, up, down = _of(kernels, owners[i])
        part = _get(rows, i, block)
        return _put(out, (jax.nn.silu(part @ gate) * (part @ up)) @ down, i)

    return jax.lax.fori_loop(0, num_blocks, body, jnp.zeros_like(rows))


def _run_fwd(rows, kernels, owners, num_blocks):
    """Keeps what the products gave, so that the gradient need not repeat them."""
    block, hidden_dim = len(rows) // len(owners), kernels.gate.shape[-1]

    def body(i, carry):
        out, gates, ups = carry
        gate, up, down = _of(kernels, owners[i])
        part = _get(rows, i, block)
        g, u = part @ gate, part @ up
        out = _put(out, (jax.nn.silu(g) * u) @ down, i)
        return out, _put(gates, g, i), _put(ups, u, i)

    empty = jnp.zeros((len(rows), hidden_dim), rows.dtype)
    carry = jnp.zeros_like(rows), empty, empty
    out, gates, ups = jax.lax.fori_loop(0, num_blocks, body, carry)
    return out, (rows, kernels, owners, num_blocks, gates, ups)


def _run_bwd(saved, cotangent):
    rows, kernels, owners, num_blocks, gates, ups = saved
    block = len(rows) // len(owners)

    def activate(g, u):
        return jax.nn.silu(g) * u

    def body(i, carry):
        by_rows, by_kernels = carry
        gate, up, down = _of(kernels, owners[i])
        part, d_out = _get(rows, i, block), _get(cotangent, i, block)
        hidden, pull = jax.vjp(activate, _get(gates, i, block), _get(ups, i, block))
        d_g, d_u = pull(d_out @ down.T)
        by_rows = _put(by_rows, d_g @ gate.T + d_u @ up.T, i)
        added = _outer(part, d_g), _outer(part, d_u), _outer(hidden, d_out)
        by_kernels = jax.tree.map(
            lambda total, new: total.at[owners[i]].add(new),
            by_kernels,
            config_lib.Kernels(*added),
        )
        return by_rows, by_kernels

    carry = jnp.zeros_like(rows), jax.tree.map(jnp.zeros_like, kernels)
    by_rows, by_kernels = jax.lax.fori_loop(0, num_blocks, body, carry)
    return by_rows, by_kernels, None, None


_run.defvjp(_run_fwd, _run_bwd)


def _of(kernels, expert):
    return config_lib.Kernels(*(kernel[expert] for kernel in kernels))


def _get(x, i, block):
    return jax.lax.dynamic_slice_in_dim(x, i * block, block)


def _put(x, part, i):
    return jax.lax.dynamic_update_slice_in_dim(x, part, i * len(part), axis=0)


def _outer(left, right):
    """``left.T @ right`` for rows of two blocks, with no transposition in memory."""
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())))
