"""Expert parallelism: experts and tokens cut over the same axis of a mesh.

As in GShard (2006.16668, section 3.2): each device routes its own tokens, an
all-to-all brings them to the devices of their experts, another one brings the answers
back. Both move buffers of a fixed size.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from m3jax import base
from m3jax.nn.moe import config as config_lib
from m3jax.nn.moe import paths
from m3jax.nn.moe import slots as slots_lib


def run_parallel(
    x: base.Array,
    weights: base.Array,
    kernels: config_lib.Kernels,
    max_experts: int,
    *,
    axis: str = "expert",
    mesh: Mesh | AbstractMesh | None = None,
    capacity: int | None = None,
    path: str = "auto",
) -> base.Array:
    """Runs the experts where they lie, ``n / P`` on each of P devices.

    Args:
      x: [T, D]; each device takes ``T / P`` tokens.
      weights: [T, n], at most ``max_experts`` of a row not zero.
      kernels: the experts.
      max_experts: k.
      axis: name of the mesh's axis.
      mesh: the mesh; None: that of ``with jax.set_mesh(mesh)``.
      capacity: most tokens that one device sends to one expert, its later ones are left
        out; None: all of them, ``T / P``, so that nothing is left out.
      path: how a device runs its experts; see `MoeConfig`.

    Returns:
      ``sum_i weights_i expert_i(x)``, [T, D], cut over the axis.

    Raises:
      ValueError: there is no such axis, or P does not divide T and n.
    """
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    num_tokens, num_experts = weights.shape
    num_shards = shards(mesh, axis)
    for name, size in (("experts", num_experts), ("tokens", num_tokens)):
        if size % num_shards:
            raise ValueError(
                f"{size} {name} do not divide among the {num_shards} devices of mesh"
                f" axis {axis!r}."
            )
    run = functools.partial(
        _run_shard,
        max_experts=max_experts,
        num_shards=num_shards,
        axis=axis,
        capacity=min(capacity or num_tokens, num_tokens // num_shards),
        path=path,
    )
    cut = PartitionSpec(axis)
    # Everything is cut, so there are no replicated values to be checked.
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=(cut, cut, cut), out_specs=cut, check_vma=False
    )
    return sharded(x, weights, kernels)


def shards(mesh: Mesh | AbstractMesh, axis: str) -> int:
    """Devices along an axis of a mesh.

    Raises:
      ValueError: the mesh has no such axis.
    """
    if axis not in mesh.axis_names:
        raise ValueError(
            f"expert parallelism needs a mesh with an axis {axis!r}, got"
            f" {list(mesh.axis_names)}: call it within jax.set_mesh(mesh)."
        )
    return mesh.shape[axis]


def bytes_per_token(
    num_tokens: int,
    num_experts: int,
    capacity: int,
    dim: int,
    num_shards: int,
    itemsize: int = 4,
) -> float:
    """What the forward pass of `run_parallel` moves between devices, in bytes a token.

    ``2 (P - 1) / P * n * C * D * itemsize`` for the tokens of a device, there and back,
    whether the buffers are full or not, and 4 bytes of count for each expert elsewhere.

    Args:
      num_tokens: tokens of one device, ``T / P``.
      num_experts: n.
      capacity: C, tokens that one device sends to one expert at most.
      dim: width of a token, D.
      num_shards: devices, P.
      itemsize: bytes of one number.

    Returns:
      Bytes a token; the backward pass moves as much again, but for the counts.

    Example:
      >>> bytes_per_token(64, 8, capacity=16, dim=256, num_shards=8)
      3584.4375
    """
    elsewhere = num_experts * (num_shards - 1) / num_shards
    return elsewhere * (2 * capacity * dim * itemsize + 4) / num_tokens


def _run_shard(x, weights, kernels, max_experts, num_shards, axis, capacity, path):
    """One device: its tokens, all weights of theirs, its own experts."""
    num_experts, dim = weights.shape[-1], x.shape[-1]
    values, experts = slots_lib.asked(weights, max_experts)
    ranks, counts = slots_lib.ranks(experts, num_experts)
    taken = (experts < num_experts) & (ranks < capacity)
    num_rows = num_experts * capacity
    places = jnp.where(taken, experts * capacity + ranks, num_rows)
    slots = slots_lib.match(places, num_rows)

    def exchange(array):
        parts = array.reshape(num_shards, -1, *array.shape[1:])
        moved = jax.lax.all_to_all(parts, axis, split_axis=0, concat_axis=0)
        return moved.reshape(array.shape)

    rows = exchange(slots_lib.dispatch(x, slots))
    counts = exchange(jnp.minimum(counts, capacity))
    own = num_experts // num_shards
    filled = jnp.arange(capacity) < counts.reshape(num_shards, own, 1)
    one_hot = filled[..., None] & jnp.eye(own, dtype=bool)[:, None]
    answers = paths.run_experts(
        rows, one_hot.reshape(-1, own).astype(jnp.float32), kernels, 1, path
    )
    return slots_lib.combine(exchange(answers).reshape(-1, dim), values, slots)
