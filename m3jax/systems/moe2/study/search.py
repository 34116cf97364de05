"""The choice among too many experts to enumerate: what is certified, how soon."""

import jax
import numpy as np

from m3jax import base
from m3jax.systems.moe2.selection import instances
from m3jax.systems.moe2.study import variants

_SHARE = 0.01
"""Of the loss's range, that is to be certified."""


def measure(settings: variants.Settings, seed: int) -> list[base.Record]:
    """Draws instances and solves them in the time there is."""
    root = jax.random.fold_in(jax.random.key(7_000), seed)
    rows, certified = [], []
    for number in range(settings.num_instances):
        drawn = instances.draw(
            jax.random.fold_in(root, number), num_experts=settings.instance_experts
        )
        found = instances.certify(drawn, settings.instance_s)
        certified.append(found.share_of_range <= _SHARE)
        told = {
            "certificate": found.share_of_range,
            "seconds": found.selection.seconds,
            "evaluated": found.selection.num_evaluated,
            "asked": found.selection.members.sum(),
        }
        rows += variants.rows(variants.SELECTION, seed, told, instance=float(number))
    share = {"share_certified": np.mean(certified)}
    return rows + variants.rows(variants.SELECTION, seed, share)
