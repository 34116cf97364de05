"""The study of M3LLM: what is routing by meaning and by channel worth?"""

from m3jax.systems.m3llm.study.variants import Settings, Variant
from m3jax.systems.m3llm.study.whole import M3llmStudy, make_study

__all__ = ["M3llmStudy", "Settings", "Variant", "make_study"]
