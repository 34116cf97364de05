"""The study of M3LLM: what is routing by meaning and by channel worth?"""

from m3jax.reproductions.m3llm.m3llm_study import M3llmStudy, make_study
from m3jax.reproductions.m3llm.variants import Settings, Variant

__all__ = ["M3llmStudy", "Settings", "Variant", "make_study"]
