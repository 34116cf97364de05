"""What stands in for the language model that judges answers (M3LLM, equation 12).

A judge is ``(weights [N], competence [N], snr_db [N], params) -> R_4`` in [0, 1]. The
one here needs no model and no network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base

Judge = Callable[[base.Array, base.Array, base.Array, Any], base.Array]


class ToyParams(NamedTuple):
    """The toy task model.

    Attributes:
      half_snr_db: SNR at which half of what an expert says is of use.
      slope_db: dB for the odds of that to grow e-fold.
      guess: probability of a right answer without any expert.
    """

    half_snr_db: base.Array = 8.0
    slope_db: base.Array = 2.0
    guess: base.Array = 0.1


def success(
    weights: base.Array, competence: base.Array, snr_db: base.Array, params: ToyParams
) -> base.Array:
    """Probability that the toy task model answers right.

        p = g + (1 - g) sum_i w_i c_i sigmoid((SNR_i - SNR_half) / slope)

    Args:
      weights: ``[N]``, final weights of the experts.
      competence: ``[N]``, of the experts now, for the task.
      snr_db: ``[N]``.
      params: of the model.

    Returns:
      Scalar in [0, 1].

    Example:
      >>> one, sure = jnp.array([1.0, 0.0]), jnp.array([0.9, 0.5])
      >>> round(float(success(one, sure, jnp.array([15.0, 25.0]), ToyParams())), 3)
      0.886
    """
    arrives = jax.nn.sigmoid((snr_db - params.half_snr_db) / params.slope_db)
    helped = jnp.sum(weights * competence * arrives)
    return params.guess + (1.0 - params.guess) * helped
