"""TokCom: tokens as the thing that is sent."""

from m3jax.systems.tokcom.system import Config, LinkConfig, make_system

__all__ = ["Config", "LinkConfig", "make_system"]
