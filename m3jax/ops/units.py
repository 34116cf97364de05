"""Decibels at the edge, linear scale inside.

Everything in the package computes with linear power ratios. Decibels are what people
type and read, so they are turned into ratios once, where a value enters.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import numbers

_NEPERS_PER_DB = math.log(10.0) / 10.0


@jax.custom_jvp
def db_to_lin(db: base.Array) -> base.Array:
    """Turns decibels into a linear power ratio.

        lin = 10^(db / 10)

    Args:
      db: any shape, in dB; ``inf`` gives ``inf`` and ``-inf`` gives 0.

    Returns:
      The power ratio, same shape. Where it is infinite its derivative is taken as 0,
      so that "no noise" (``inf`` dB) leaves every other gradient finite.

    Example:
      >>> float(db_to_lin(20.0).round(2))
      100.0
    """
    db = numbers.as_float(db)
    return jnp.exp(db * _NEPERS_PER_DB)


@db_to_lin.defjvp
def _db_to_lin_jvp(primals, tangents):
    (db,), (db_dot,) = primals, tangents
    lin = db_to_lin(db)
    slope = jnp.where(jnp.isinf(lin), 0.0, lin * _NEPERS_PER_DB)
    return lin, slope.astype(lin.dtype) * db_dot


def lin_to_db(lin: base.Array) -> base.Array:
    """Turns a linear power ratio into decibels.

        db = 10 log10(lin)

    Args:
      lin: any shape, non-negative; 0 gives ``-inf``, ``inf`` gives ``inf``.

    Returns:
      Decibels, same shape.
    """
    return 10.0 * jnp.log10(numbers.as_float(lin))


def check_snr_db(values) -> np.ndarray:
    """Checks SNRs on the host, before anything is compiled.

    Args:
      values: a number or a sequence of numbers, in dB; ``inf`` means no noise.

    Returns:
      A float32 array of the same shape.

    Raises:
      ValueError: for NaN, ``-inf``, an empty sequence or something that is no number.
    """
    try:
        snr_db = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"snr_db must be numbers in dB, got {values!r}; "
            "write for example 10.0, or inf for no noise."
        ) from error
    if snr_db.size == 0:
        raise ValueError("snr_db is empty; give at least one value in dB.")
    if np.isnan(snr_db).any() or np.isneginf(snr_db).any():
        raise ValueError(
            f"snr_db must not be NaN or -inf, got {values!r}; "
            "give finite values in dB, or inf for no noise."
        )
    return snr_db
