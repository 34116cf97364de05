"""M3LLM's routers put together: the world they learn in, and runs of their own.

A composition root like ``m3jax.experiment``; launchers, studies and notebooks start
here.
"""

from m3jax.routing.experiment import DrawnFeatures, Experiment, restore, train
from m3jax.routing.world import World, WorldConfig, make_env, make_world

__all__ = [
    "DrawnFeatures",
    "Experiment",
    "World",
    "WorldConfig",
    "make_env",
    "make_world",
    "restore",
    "train",
]
