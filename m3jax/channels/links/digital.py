"""The digital link: reals are quantised one by one and sent as bits."""

import dataclasses

import jax

from m3jax import base
from m3jax.channels import bit_channels, power, quantisers
from m3jax.channels import bits as bits_lib
from m3jax.channels import csi as csi_lib
from m3jax.channels.links import bit_pipe, contract
from m3jax.ops import units


@dataclasses.dataclass(frozen=True)
class DigitalLink:
    """Quantises each value and sends the bits, uncoded, with hard decisions.

    How the bits travel: ``links/bit_pipe.py``. Where a bit is known to be erased, the
    value becomes the mean of the levels that the other bits leave possible.

    Surrogate gradient, since decisions have none: that of the normalised and clipped
    values, as if every bit arrived; by ``snr_db`` it is 0. With dither it is the exact
    gradient of the quantiser's mean over the dither.

    Attributes:
      channel: an ``AWGN`` or a fading, whose state must be the complex gains, for a
        Gray QAM modem; or a ``BSC`` or ``BEC`` in place of the modem.
      bits: bits per real value, 1 to 16.
      qam_order: of the modem, one of ``modulation.ORDERS``.
      limit: half the quantiser's range, in units of the root mean square value.
      dither: whether both ends add and subtract the same random dither, which makes
        the quantisation error uniform and independent of the values.
      csi: what the modem's receiver knows of the gains, see ``channels/csi.py``.
      symbol_energy: Es in joules.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> import jax.numpy as jnp
      >>> from m3jax.channels import awgn
      >>> link = DigitalLink(awgn.AWGN(), bits=6, qam_order=16)
      >>> values, mask = jnp.ones((5, 8)), jnp.arange(5) < 3
      >>> out = jax.jit(link)(jax.random.key(0), values, mask, 20.0)
      >>> int(out.channel_uses), int(out.bits)
      (36, 144)
    """

    channel: base.Channel | bit_channels.BitChannel
    bits: int = 8
    qam_order: int = 16
    limit: float = 4.0
    dither: bool = False
    csi: csi_lib.CSI = csi_lib.PerfectCSI()
    symbol_energy: float = 1.0

    def __post_init__(self):
        quantisers.check(self.bits, self.limit)
        self._pipe()

    def init(self, key: base.Array, num_values: int) -> base.Params:
        """Returns (): nothing is learned."""
        del key, num_values
        return ()

    def __call__(
        self,
        key: base.Array,
        values: base.Array,
        mask: base.Array,
        snr_db: base.Array,
        params: base.Params = (),
    ) -> contract.LinkOutput:
        """Sends one example.

        Args:
          key: random key, consumed.
          values: real ``[L, R]``.
          mask: bool ``[L]``, True where a token is sent.
          snr_db: scalar Es/N0 in dB, data rather than a constant; ``inf``: no noise.
          params: not used.

        Returns:
          A ``LinkOutput``; ``ceil(R * bits / log2 M)`` channel uses per valid token
          and pilots, or ``R * bits`` over a bit channel.

        Raises:
          ValueError: for wrong shapes.
        """
        del params
        values = contract.check_inputs(values, mask, snr_db)
        offset = self._dither(key, values)
        unit = power.normalise(values, mask)
        sent = quantisers.uniform(unit + offset, self.bits, self.limit)
        bits = bits_lib.from_integers(sent.indices, self.bits).reshape(len(values), -1)
        pipe = self._pipe().send(key, bits, mask, units.db_to_lin(snr_db))
        levels = self._read(pipe, values.shape).astype(values.dtype)
        return contract.make_output(
            quantisers.straight_through(levels, sent.values) - offset,
            mask,
            snr_db=snr_db,
            uses_per_token=pipe.uses_per_token,
            bits_per_token=bits.shape[1],
            pilot_uses=pipe.pilot_uses,
            energy=pipe.energy,
        )

    def _pipe(self) -> bit_pipe.BitPipe:
        return bit_pipe.BitPipe(
            self.channel, self.qam_order, self.csi, self.symbol_energy
        )

    def _dither(self, key: base.Array, values: base.Array) -> base.Array | float:
        if not self.dither:
            return 0.0
        # Folded in, so that the channel draws the same with dither and without.
        key = jax.random.fold_in(key, 1)
        return quantisers.dither(key, values.shape, self.bits, self.limit, values.dtype)

    def _read(self, pipe: bit_pipe.Delivered, shape: tuple[int, int]) -> base.Array:
        """Delivered bits ``[L, R b]`` to levels ``[L, R]``."""
        bits = pipe.bits.reshape(*shape, self.bits)
        indices = bits_lib.to_integers(bits)
        if pipe.known is not None:
            # Levels are evenly spaced in the index, and an erased bit of weight 2^k is
            # 0 or 1 in equal halves of the levels left: it adds half its weight.
            erased = ~pipe.known.reshape(bits.shape)
            indices = indices + 0.5 * bits_lib.to_integers(erased)
        return quantisers.dequantise(indices, self.bits, self.limit)
