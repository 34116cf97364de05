"""Where tokens wait for their experts: tables of rows, and moving by gathers alone.

A scatter is slow on CPUs, and the gradient of a gather is one. With the table of both
directions each is a gather, and so is its gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import numbers


class Slots(NamedTuple):
    """A one-to-one match of the askings of T tokens and S rows.

    Attributes:
      source: int32 [S], the asking ``k * t + j`` in a row; ``T * k`` if it is empty.
      places: int32 [T, k], the row of each asking; S where nobody is asked.
    """

    source: base.Array
    places: base.Array


def asked(weights: base.Array, max_experts: int) -> tuple[base.Array, base.Array]:
    """Lists who is asked.

    Args:
      weights: [T, n], at most ``max_experts`` of a row not zero.
      max_experts: k.

    Returns:
      ``(values, experts)``, both [T, k], heaviest first; where the value is 0, the
      expert is n: nobody.
    """
    values, experts = jax.lax.top_k(weights, max_experts)
    return values, jnp.where(values == 0, weights.shape[-1], experts)


def ranks(experts: base.Array, num_experts: int) -> tuple[base.Array, base.Array]:
    """Counts the askings of each expert, and those before each asking.

    Args:
      experts: int32 [T, k], n for nobody.
      num_experts: n.

    Returns:
      ``(ranks, counts)``: int32 [T, k], how many earlier askings want the same expert,
      and int32 [n].
    """
    hot = experts.reshape(-1, 1) == jnp.arange(num_experts)
    upto = jnp.cumsum(hot, axis=0, dtype=jnp.int32)
    own = jnp.sum(jnp.where(hot, upto - 1, 0), axis=-1)
    return own.reshape(experts.shape), upto[-1]


def match(places: base.Array, num_rows: int) -> Slots:
    """Adds to ``places [T, k]`` (S for nobody) the table of the other direction."""
    count = places.size
    source = jnp.full((num_rows,), count, jnp.int32)
    source = source.at[places.reshape(-1)].set(
        jnp.arange(count, dtype=jnp.int32), mode="drop"
    )
    return Slots(source, places)


@jax.custom_vjp
def dispatch(x: base.Array, slots: Slots) -> base.Array:
    """Puts tokens ``x [T, D]`` into their rows: [S, D], zero in empty ones."""
    return _rows(x, slots.source // slots.places.shape[1])


def _dispatch_fwd(x, slots):
    return dispatch(x, slots), slots


def _dispatch_bwd(slots, cotangent):
    return jnp.sum(_rows(cotangent, slots.places), axis=1), None


dispatch.defvjp(_dispatch_fwd, _dispatch_bwd)


@jax.custom_vjp
def collect(rows: base.Array, slots: Slots) -> base.Array:
    """Brings ``rows [S, D]`` back to who asked: [T, k, D], zero from nobody."""
    return _rows(rows, slots.places)


def _collect_fwd(rows, slots):
    return collect(rows, slots), slots


def _collect_bwd(slots, cotangent):
    flat = cotangent.reshape(-1, cotangent.shape[-1])
    return _rows(flat, slots.source), None


collect.defvjp(_collect_fwd, _collect_bwd)


def combine(rows: base.Array, values: base.Array, slots: Slots) -> base.Array:
    """Adds up the weighted answers ``rows [S, D]``: [T, D], of the rows' type."""
    rows = numbers.as_float(rows)
    answers = collect(rows, slots)
    out = jnp.sum(answers.astype(jnp.float32) * values[..., None], axis=1)
    return out.astype(rows.dtype)


def _rows(x, index):
    return jnp.asarray(x).at[index].get(mode="fill", fill_value=0)
