"""The choice among too many experts to enumerate: what is certified, how soon."""

import jax
import numpy as np

from m3jax import base
from m3jax.systems.moe2 import selection
from m3jax.systems.moe2.selection import instances
from m3jax.systems.moe2.study import variants

TOLERANCE = 0.01
"""Of the loss's range: from the best expert alone that passes to all experts."""


def measure(settings: variants.Settings, seed: int) -> list[base.Record]:
    """Draws instances and solves them in the time there is."""
    root = jax.random.fold_in(jax.random.key(7_000), seed)
    rows, certified = [], []
    for number in range(settings.num_instances):
        drawn = instances.draw(
            jax.random.fold_in(root, number), num_experts=settings.instance_experts
        )
        problem = drawn.problem()
        everyone = np.ones(problem.num_experts, bool)
        alone = np.eye(problem.num_experts, dtype=bool)
        passes = alone[problem.feasible(alone)]
        least = float(problem.losses(everyone[None])[0][0])
        span = float(np.min(problem.losses(passes)[0])) - least
        found = selection.smo(
            problem,
            epsilon=TOLERANCE * span,
            time_limit_s=settings.instance_s,
            batch_size=instances.MOST_TOGETHER,
        )
        certified.append(found.gap <= TOLERANCE * span * (1 + 1e-6))
        told = {
            "certificate": found.gap / span,
            "seconds": found.seconds,
            "evaluated": found.num_evaluated,
            "asked": found.members.sum(),
        }
        rows += variants.rows(variants.SELECTION, seed, told, instance=float(number))
    share = {"share_certified": np.mean(certified)}
    return rows + variants.rows(variants.SELECTION, seed, share)
