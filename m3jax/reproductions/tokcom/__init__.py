"""The study of TokCom: does alignment pay, which tokens, which link, for how many?"""

from m3jax.reproductions.tokcom.tokcom_study import TokComStudy, make_study
from m3jax.reproductions.tokcom.variants import Settings, Variant

__all__ = ["Settings", "TokComStudy", "Variant", "make_study"]
