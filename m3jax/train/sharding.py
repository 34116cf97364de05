"""Data parallelism: the state on every device, the batch cut along its first axis.

One device is the case with one shard; the loop has no other path for it.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from m3jax import base

AXIS = "data"


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Makes a one-axis mesh over all devices of all processes, or over those given."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps a whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that cuts the leading axis among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless the batch divides evenly among the devices."""
    if batch_size % mesh.size:
        raise ValueError(
            f"learner.batch_size={batch_size} does not divide among {mesh.size}"
            f" devices; take a multiple of {mesh.size}"
        )


def put_batch(batch: base.Batch, mesh: Mesh) -> base.Batch:
    """Starts the copy of a host batch to the devices and returns at once.

    Args:
      batch: arrays with a leading batch axis, those of this process alone.
      mesh: the mesh to cut the leading axis over.

    Returns:
      The batch as global device arrays.
    """
    placed = split(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, placed)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(placed, np.asarray(leaf)),
        batch,
    )


def with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    """Turns arrays or shapes into abstract arrays that carry this sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )
