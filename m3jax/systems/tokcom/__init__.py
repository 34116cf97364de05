"""TokCom: tokens as the thing that is sent."""

from m3jax.systems.tokcom.config import AlignmentConfig, Config
from m3jax.systems.tokcom.system import make_system

__all__ = ["AlignmentConfig", "Config", "make_system"]
