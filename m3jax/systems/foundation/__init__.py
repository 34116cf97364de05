"""The generalist that every system starts from, pretrained on EdgeScenes."""

from m3jax.systems.foundation.system import Config, make_system, silent_tokens

__all__ = ["Config", "make_system", "silent_tokens"]
