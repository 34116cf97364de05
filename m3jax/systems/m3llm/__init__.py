"""M3LLM: experts behind wireless links, routed by meaning and by channel."""

from m3jax.systems.m3llm.system import EXPERTS, Config, make_system

__all__ = ["EXPERTS", "Config", "make_system"]
