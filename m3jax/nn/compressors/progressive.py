"""How many tokens to send, decided while the program runs."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import masks


def keep(
    tokens: base.Array, mask: base.Array, length: base.Array
) -> tuple[base.Array, base.Array]:
    """Keeps the first ``length`` valid tokens of each example.

    After a progressive compressor these are the most important. The length is data:
    shapes stay, and one compiled program serves all lengths. Links neither send nor
    charge for what is masked. Training with random lengths makes any tokens
    progressive, those of learned queries too (nested dropout, Rippel et al. 2014).

    Args:
      tokens: [B, M, D].
      mask: bool [B, M].
      length: int, scalar or [B], may be traced; beyond M it keeps everything.

    Returns:
      ``(tokens, mask)`` of the same shapes, zero where masked.

    Raises:
      ValueError: ``length`` is not an integer, or neither a scalar nor [B].

    Example:
      >>> z, mask = jnp.ones((2, 3, 1)), jnp.ones((2, 3), bool)
      >>> keep(z, mask, jnp.array([1, 2]))[1].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0]]
    """
    length = jnp.asarray(length)
    integer = jnp.issubdtype(length.dtype, jnp.integer)
    if not integer or length.shape not in ((), mask.shape[:1]):
        raise ValueError(
            f"length must be an integer, or one for each of {mask.shape[0]} examples;"
            f" got {length.dtype} of shape {list(length.shape)}."
        )
    kept = mask & (jnp.cumsum(mask, axis=1) <= length.reshape(-1, 1))
    return masks.keep(tokens, kept), kept


def length_for_snr(
    snr_db: base.Array, thresholds_db: Sequence[float], lengths: Sequence[int]
) -> base.Array:
    """The number of tokens for a state of the link, from a table.

    As adaptive modulation picks a constellation by the region that the SNR lies in
    (Goldsmith 2005, chapter 9): ``lengths[i]`` for ``thresholds_db[i - 1] <= snr_db <
    thresholds_db[i]``. A sweep over lengths and SNRs gives the table, for example the
    shortest length within a point of the best accuracy.

    Args:
      snr_db: any shape, in dB; inf means no noise.
      thresholds_db: N - 1 rising SNRs, in dB.
      lengths: N numbers of tokens, that for the lowest SNR first.

    Returns:
      int32, of the shape of ``snr_db``.

    Raises:
      ValueError: the thresholds do not rise, or the lengths do not fit.

    Example:
      >>> length_for_snr(jnp.array([-3.0, 5.0, jnp.inf]), (0.0, 10.0), (16, 8, 4))
      Array([16,  8,  4], dtype=int32)
    """
    thresholds = np.asarray(thresholds_db, np.float32)
    table = np.asarray(lengths)
    if thresholds.ndim != 1 or not (np.diff(thresholds) > 0).all():
        raise ValueError(f"thresholds_db must rise, got {list(thresholds_db)}.")
    if not np.issubdtype(table.dtype, np.integer) or table.shape != (
        len(thresholds) + 1,
    ):
        raise ValueError(
            f"lengths must be {len(thresholds) + 1} integers, one more than"
            f" thresholds_db, got {list(lengths)}."
        )
    region = jnp.sum(jnp.asarray(snr_db)[..., None] >= thresholds, axis=-1)
    return jnp.asarray(table, jnp.int32)[region]
