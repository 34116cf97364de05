"""MSAO: which modality matters, and which of its tokens."""

from m3jax.systems.msao.config import Config
from m3jax.systems.msao.system import make_system

__all__ = ["Config", "make_system"]
