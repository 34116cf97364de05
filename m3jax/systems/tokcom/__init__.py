"""TokCom: tokens as the thing that is sent."""

from m3jax.systems.tokcom.config import (
    AlignmentConfig,
    Config,
    LinkConfig,
    LoraConfig,
)
from m3jax.systems.tokcom.system import make_system

__all__ = ["AlignmentConfig", "Config", "LinkConfig", "LoraConfig", "make_system"]
