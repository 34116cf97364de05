"""The study of MoE2: does the gate pay, what fits a budget, and is the choice exact?"""

from m3jax.systems.moe2.study.variants import Settings
from m3jax.systems.moe2.study.whole import Moe2Study, make_study

__all__ = ["Moe2Study", "Settings", "make_study"]
