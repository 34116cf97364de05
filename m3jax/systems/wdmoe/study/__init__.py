"""The study of WDMoE: what selection and bandwidth save, and what answers cost."""

from m3jax.systems.wdmoe.study.variants import Settings
from m3jax.systems.wdmoe.study.whole import WdmoeStudy, make_study

__all__ = ["Settings", "WdmoeStudy", "make_study"]
