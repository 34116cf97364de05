"""What every token link takes and gives."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import masks, numbers


class LinkOutput(NamedTuple):
    """What arrived and what it cost; only valid tokens count.

    Attributes:
      values: real ``[L, R]`` at unit mean square, exact zeros at padding.
      channel_uses: int32 scalar, complex symbols sent, pilots included (over a bit
        channel: bits sent).
      bits: int32 scalar, information bits sent; 0 for an analog link.
      energy: float scalar, in joules, pilots included: ``sum |x|^2`` times the link's
        ``symbol_energy``. With the default of 1 J it counts in units of Es.
      arrived: bool ``[L]``, True where a token was sent and not lost.
      auxiliary_loss: float scalar, what a link with learned parts adds to the training
        loss; 0 for others.
    """

    values: base.Array
    channel_uses: base.Array
    bits: base.Array
    energy: base.Array
    arrived: base.Array
    auxiliary_loss: base.Array


class Link(Protocol):
    """A token link for one example; hashable and comparable by its settings."""

    def init(self, key: base.Array, num_values: int) -> base.Params:
        """Draws the learned parts for tokens of ``num_values`` reals; () if none."""

    def __call__(
        self,
        key: base.Array,
        values: base.Array,
        mask: base.Array,
        snr_db: base.Array,
        params: base.Params = (),
    ) -> LinkOutput:
        """Sends real ``values [L, R]`` where ``mask [L]``; ``snr_db`` is data."""


def check_inputs(
    values: base.Array, mask: base.Array, snr_db: base.Array
) -> base.Array:
    """Checks what a link is called with.

    Returns:
      The values in float32 or wider.

    Raises:
      ValueError: for wrong shapes, or an SNR that is known to be NaN.
    """
    values = jnp.asarray(values)
    hint = "a link takes one example; use jax.vmap for a batch"
    if values.ndim != 2 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"values must be real [L, R], got {values.dtype} of shape {values.shape}; "
            f"{hint}."
        )
    if jnp.shape(mask) != values.shape[:1]:
        raise ValueError(
            f"mask must be [L] for values of shape {values.shape}, got shape "
            f"{jnp.shape(mask)}; {hint}."
        )
    if jnp.ndim(snr_db) != 0:
        raise ValueError(
            f"snr_db must be a scalar, got shape {jnp.shape(snr_db)}; {hint}."
        )
    # An array of JAX may not be known yet: then NaN goes through to what arrives.
    if not isinstance(snr_db, jax.Array) and np.isnan(snr_db):
        raise ValueError(
            "snr_db is NaN; give a finite SNR in dB, inf for no noise, or -inf for no "
            "signal."
        )
    return numbers.as_float(values, least=jnp.float32)


def check_energy(symbol_energy: float) -> None:
    """Checks the energy of a symbol.

    Raises:
      ValueError: if it is not positive and finite.
    """
    if not 0.0 < symbol_energy < float("inf"):
        raise ValueError(
            "symbol_energy must be positive and finite, in joules (watts times seconds "
            f"per channel use); got {symbol_energy!r}."
        )


def get_param(params: Any, name: str, shape: tuple[int, ...]) -> base.Array:
    """The one learned array of a link, checked.

    Raises:
      ValueError: if it is missing or of another shape.
    """
    if not params or name not in params:
        raise ValueError(
            f"this link learns {name!r}: draw params = link.init(key, num_values) once "
            "and pass them with every call."
        )
    if jnp.shape(params[name]) != shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(params[name])}, these values need {shape}; "
            "give init the num_values that is sent."
        )
    return params[name]


def make_output(
    received: base.Array,
    mask: base.Array,
    *,
    snr_db: base.Array = 0.0,
    uses_per_token: int,
    bits_per_token: int,
    energy: base.Array,
    pilot_uses: base.Array | int = 0,
    arrived: base.Array | bool = True,
    auxiliary_loss: base.Array | float = 0.0,
) -> LinkOutput:
    """Puts a ``LinkOutput`` together: padding arrives as zeros and costs nothing.

    Over an SNR of NaN all else arrives as NaN, though decided bits show none of it.
    """
    mask = jnp.asarray(mask).astype(bool)
    received = jnp.where(jnp.isnan(snr_db), jnp.nan, received)
    num_tokens = jnp.sum(mask, dtype=jnp.int32)
    return LinkOutput(
        values=masks.keep(received, mask),
        channel_uses=num_tokens * uses_per_token + pilot_uses,
        bits=num_tokens * bits_per_token,
        energy=energy,
        arrived=mask & arrived,
        auxiliary_loss=jnp.asarray(auxiliary_loss, received.dtype),
    )
