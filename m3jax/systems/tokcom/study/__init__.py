"""The study of TokCom: does alignment pay, which tokens, which link, for how many?"""

from m3jax.systems.tokcom.study.variants import Settings, Variant
from m3jax.systems.tokcom.study.whole import TokComStudy, make_study

__all__ = ["Settings", "TokComStudy", "Variant", "make_study"]
