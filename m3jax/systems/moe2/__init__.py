"""MoE2: which experts at the edge answer together, within delay and energy."""

from m3jax.systems.moe2.config import Config
from m3jax.systems.moe2.system import make_system

__all__ = ["Config", "make_system"]
