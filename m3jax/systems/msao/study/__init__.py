"""The study of MSAO: what probes, drafts and plans save between edge and cloud."""

from m3jax.systems.msao.study.variants import Settings
from m3jax.systems.msao.study.whole import MsaoStudy, make_study

__all__ = ["MsaoStudy", "Settings", "make_study"]
