"""WDMoE: experts of a language model on devices around a base station."""

from m3jax.systems.wdmoe.config import Config
from m3jax.systems.wdmoe.system import make_system

__all__ = ["Config", "make_system"]
