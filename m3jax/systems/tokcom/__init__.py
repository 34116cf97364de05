"""TokCom: tokens as the thing that is sent."""

from m3jax.systems.tokcom.system import Config, make_system

__all__ = ["Config", "make_system"]
