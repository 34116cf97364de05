"""Token links: real token vectors in, real token vectors out, and what they cost.

A link is one call for one example, the same for every kind; ``vmap`` gives batches:

    link(key, values [L, R], mask [L], snr_db) -> LinkOutput

Values are scaled to unit mean square over the valid tokens before they are sent, and
arrive at that scale. The scale itself is not sent: a receiver that got it for nothing
would hold information that crossed no channel. With no noise an analog link therefore
returns ``values / rms(values)``, and a digital link the same, quantised.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import awgn, equalisers, modulation, noise, power, quantisers
from m3jax.channels import bits as bits_lib
from m3jax.channels import fading as fading_lib
from m3jax.ops import masks, units

KINDS = ("analog", "digital")
FADINGS = ("awgn", "rayleigh")


class LinkOutput(NamedTuple):
    """What arrived and what it cost; only valid tokens count.

    Attributes:
      values: real ``[L, R]`` at unit mean square, exact zeros at padding.
      channel_uses: int32 scalar, complex symbols sent.
      bits: int32 scalar, information bits sent; 0 for an analog link.
      energy: float scalar, ``sum |x|^2``, in units of the mean symbol energy Es.
    """

    values: base.Array
    channel_uses: base.Array
    bits: base.Array
    energy: base.Array


@dataclasses.dataclass(frozen=True)
class AnalogLink:
    """Sends pairs of real values as complex symbols, without quantisation.

        x = (v_i + j v_{i + R/2}) / sqrt(P),   y = h x + n,   x_hat = MMSE(y, h)

    and the two axes of ``sqrt(2) x_hat`` are the received values. The receiver knows
    the gain. Gradients are exact, by values and by ``snr_db``.

    Attributes:
      channel: an ``AWGN`` or ``RayleighBlock``; its state must be the complex gains.

    Example:
      >>> link = AnalogLink(awgn.AWGN())
      >>> values, mask = jnp.array([[3.0, -3.0], [9.0, 9.0]]), jnp.array([True, False])
      >>> out = link(jax.random.key(0), values, mask, jnp.inf)
      >>> out.values.round(3).tolist(), int(out.channel_uses)
      ([[1.0, -1.0], [0.0, 0.0]], 1)
    """

    channel: base.Channel

    def __post_init__(self):
        _check_channel(self.channel)

    def __call__(
        self, key: base.Array, values: base.Array, mask: base.Array, snr_db: base.Array
    ) -> LinkOutput:
        """Sends one example.

        Args:
          key: random key, consumed.
          values: real ``[L, R]``, R even.
          mask: bool ``[L]``, True where a token is sent.
          snr_db: scalar Es/N0 in dB, data rather than a constant; ``inf``: no noise.

        Returns:
          A ``LinkOutput``; ``R / 2`` channel uses per valid token.

        Raises:
          ValueError: for wrong shapes or an odd R.
        """
        values = _check_inputs(values, mask, snr_db)
        if values.shape[1] % 2:
            raise ValueError(
                "an analog link pairs real values into complex symbols, so R must be "
                f"even; got values of shape {values.shape}."
            )
        snr = units.db_to_lin(snr_db)
        x = power.normalise(lax.complex(*jnp.split(values, 2, axis=1)), mask)
        y, h = _transmit(self.channel, key, x, snr)
        x_hat = equalisers.mmse(y, h, noise.noise_power(snr))
        received = math.sqrt(2.0) * jnp.concatenate([x_hat.real, x_hat.imag], axis=1)
        return _output(received, mask, x, bits_per_token=0)


@dataclasses.dataclass(frozen=True)
class DigitalLink:
    """Quantises each value and sends the bits by Gray QAM, uncoded, hard decisions.

    A token's ``R * bits`` bits fill whole symbols (the last one is filled up with zero
    bits), so tokens never share a symbol and padding costs nothing. Bits are scrambled
    by a fixed sequence, which makes them as good as equally likely: so the
    constellation keeps its unit mean energy. The energy really sent is counted.

    Surrogate gradient, since decisions have none: that of the normalised and clipped
    values, as if every bit arrived; by ``snr_db`` it is 0.

    Attributes:
      channel: an ``AWGN`` or ``RayleighBlock``; its state must be the complex gains.
      bits: bits per real value, 1 to 16.
      qam_order: 4, 16, 64 or 256.
      limit: half the quantiser's range, in units of the root mean square value.

    Example:
      >>> link = DigitalLink(awgn.AWGN(), bits=6, qam_order=16)
      >>> values, mask = jnp.ones((5, 8)), jnp.arange(5) < 3
      >>> out = link(jax.random.key(0), values, mask, 20.0)
      >>> int(out.channel_uses), int(out.bits)
      (36, 144)
    """

    channel: base.Channel
    bits: int = 8
    qam_order: int = 16
    limit: float = 4.0

    def __post_init__(self):
        _check_channel(self.channel)
        quantisers.check(self.bits, self.limit)
        modulation.bits_per_symbol(self.qam_order)

    def __call__(
        self, key: base.Array, values: base.Array, mask: base.Array, snr_db: base.Array
    ) -> LinkOutput:
        """Sends one example.

        Args:
          key: random key, consumed.
          values: real ``[L, R]``.
          mask: bool ``[L]``, True where a token is sent.
          snr_db: scalar Es/N0 in dB, data rather than a constant; ``inf``: no noise.

        Returns:
          A ``LinkOutput``; ``ceil(R * bits / log2 M)`` channel uses per valid token.

        Raises:
          ValueError: for wrong shapes.
        """
        values = _check_inputs(values, mask, snr_db)
        sent = quantisers.uniform(power.normalise(values, mask), self.bits, self.limit)
        x = masks.keep(self._modulate(sent.indices), mask)
        y, h = _transmit(self.channel, key, x, units.db_to_lin(snr_db))
        indices = self._demodulate(equalisers.zero_forcing(y, h), values.shape)
        levels = quantisers.dequantise(indices, self.bits, self.limit)
        received = quantisers.straight_through(levels.astype(values.dtype), sent.values)
        return _output(received, mask, x, bits_per_token=values.shape[1] * self.bits)

    def _modulate(self, indices: base.Array) -> base.Array:
        """Indices ``[L, R]`` to complex symbols ``[L, S]``."""
        num_tokens, num_values = indices.shape
        per_symbol = modulation.bits_per_symbol(self.qam_order)
        bits = bits_lib.from_integers(indices, self.bits).reshape(num_tokens, -1)
        fill = -(num_values * self.bits) % per_symbol
        bits = jnp.pad(bits, ((0, 0), (0, fill))).reshape(num_tokens, -1, per_symbol)
        return modulation.modulate(bits_lib.scramble(bits), self.qam_order)

    def _demodulate(self, x: base.Array, shape: tuple[int, int]) -> base.Array:
        """Equalised symbols ``[L, S]`` to indices ``[L, R]``."""
        bits = bits_lib.scramble(modulation.demodulate(x, self.qam_order))
        bits = bits.reshape(shape[0], -1)[:, : shape[1] * self.bits]
        return bits_lib.to_integers(bits.reshape(*shape, self.bits))


Link = AnalogLink | DigitalLink


def make_link(
    kind: str = "analog",
    fading: str = "rayleigh",
    block_length: int | None = None,
    bits: int = 8,
    qam_order: int = 16,
    limit: float = 4.0,
) -> Link:
    """Builds a link from plain settings, as a config holds them.

    Settings that the chosen kind does not have are ignored, so that one override such
    as ``kind="analog"`` is enough to switch.

    Args:
      kind: ``"analog"`` or ``"digital"``.
      fading: ``"awgn"`` (none) or ``"rayleigh"`` (block fading).
      block_length: rayleigh only: channel uses per block; None: one per example.
      bits: digital only: bits per real value.
      qam_order: digital only: 4, 16, 64 or 256.
      limit: digital only: half the quantiser's range, in root mean squares.

    Returns:
      A link, hashable and comparable by its settings.

    Raises:
      ValueError: for a setting that is unknown or out of range.
    """
    if fading not in FADINGS:
        raise ValueError(f"fading must be one of {FADINGS}, got {fading!r}.")
    if kind not in KINDS:
        raise ValueError(f"link kind must be one of {KINDS}, got {kind!r}.")
    if fading == "awgn":
        channel = awgn.AWGN()
    else:
        channel = fading_lib.RayleighBlock(block_length)
    if kind == "analog":
        return AnalogLink(channel)
    return DigitalLink(channel, bits, qam_order, limit)


def _transmit(
    channel: base.Channel, key: base.Array, x: base.Array, snr: base.Array
) -> tuple[base.Array, base.Array]:
    """Received symbols and the gains, which the receiver knows."""
    gain_key, noise_key = jax.random.split(key)
    h = channel.generate(gain_key, x.shape)
    return channel.apply(noise_key, x, h, snr), h


def _output(
    received: base.Array, mask: base.Array, x: base.Array, bits_per_token: int
) -> LinkOutput:
    num_tokens = jnp.sum(jnp.asarray(mask).astype(bool), dtype=jnp.int32)
    return LinkOutput(
        values=masks.keep(received, mask),
        channel_uses=num_tokens * x.shape[1],
        bits=num_tokens * bits_per_token,
        energy=jnp.sum(masks.abs_square(x)),
    )


def _check_inputs(
    values: base.Array, mask: base.Array, snr_db: base.Array
) -> base.Array:
    """Checks shapes; returns the values in float32 or wider."""
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
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _check_channel(channel: base.Channel) -> None:
    for name in ("generate", "apply"):
        if not callable(getattr(channel, name, None)):
            raise ValueError(
                f"channel must have {name}(), as base.Channel says; got {channel!r}."
            )
