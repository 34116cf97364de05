"""The vector-quantised link: tokens as words of a learned codebook, sent as bits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import bit_channels, codebook, power
from m3jax.channels import csi as csi_lib
from m3jax.channels.links import bit_pipe, contract
from m3jax.ops import units


@dataclasses.dataclass(frozen=True)
class VQLink:
    """Sends each group of a token's values as the index of its nearest codeword.

    A token of R values takes ``R / group_size * log2(num_codewords)`` bits; how they
    travel: ``links/bit_pipe.py``. Where bits are known to be erased, a group becomes
    the mean of the codewords that the other bits leave possible.

    Gradients: by the codewords exact for the words that arrived; by values that of the
    normalised values (straight-through surrogate); by ``snr_db`` 0.
    ``LinkOutput.auxiliary_loss`` is ``codebook + commitment * commitment loss`` of
    ``codebook.losses``; add it to the training loss.

    Attributes:
      channel: as for ``DigitalLink``.
      num_codewords: K, a power of two.
      group_size: values that share a codeword; divides R.
      qam_order: of the modem, one of ``modulation.ORDERS``.
      commitment: weight of the commitment loss.
      csi: what the modem's receiver knows of the gains, see ``channels/csi.py``.
      symbol_energy: Es in joules.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> from m3jax.channels import awgn
      >>> link = VQLink(awgn.AWGN(), num_codewords=16, group_size=4)
      >>> params = link.init(jax.random.key(0), 8)
      >>> values, mask = jnp.ones((5, 8)), jnp.arange(5) < 3
      >>> out = jax.jit(link)(jax.random.key(1), values, mask, 20.0, params)
      >>> int(out.channel_uses), int(out.bits)
      (6, 24)
    """

    channel: base.Channel | bit_channels.BitChannel
    num_codewords: int = 256
    group_size: int = 4
    qam_order: int = 16
    commitment: float = 0.25
    csi: csi_lib.CSI = csi_lib.PerfectCSI()
    symbol_energy: float = 1.0

    def __post_init__(self):
        codebook.check(self.num_codewords, self.group_size)
        if not 0.0 <= self.commitment < float("inf"):
            raise ValueError(
                f"commitment must be a finite weight of at least 0, got "
                f"{self.commitment!r}."
            )
        self._pipe()

    def init(self, key: base.Array, num_values: int) -> base.Params:
        """Draws a codebook of standard normal words, for tokens of ``num_values``.

        Returns:
          ``{"codewords": [R / group_size, num_codewords, group_size]}``.

        Raises:
          ValueError: if ``group_size`` does not divide ``num_values``.
        """
        shape = self._shape(num_values)
        return {"codewords": jax.random.normal(key, shape)}

    def fit(self, values: np.ndarray, masks: np.ndarray, seed: int = 0) -> base.Params:
        """Learns the codebook of data by k-means, on the host.

        Args:
          values: real ``[B, L, R]``, as the link will send them.
          masks: bool ``[B, L]``.
          seed: of k-means.

        Returns:
          Parameters as ``init`` makes them.

        Raises:
          ValueError: for wrong shapes, or fewer valid tokens than codewords.
        """
        values, masks = np.asarray(values), np.asarray(masks).astype(bool)
        if values.ndim != 3 or masks.shape != values.shape[:2]:
            raise ValueError(
                "fit takes values [B, L, R] and masks [B, L], got shapes "
                f"{values.shape} and {masks.shape}."
            )
        self._shape(values.shape[2])
        unit = np.asarray(jax.vmap(power.normalise)(values, masks))
        words = codebook.fit(unit[masks], self.num_codewords, self.group_size, seed)
        return {"codewords": jnp.asarray(words)}

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
          params: from ``init`` or ``fit``.

        Returns:
          A ``LinkOutput``.

        Raises:
          ValueError: for wrong shapes or missing parameters.
        """
        values = contract.check_inputs(values, mask, snr_db)
        shape = self._shape(values.shape[1])
        codewords = contract.get_param(params, "codewords", shape)
        unit = power.normalise(values, mask)
        indices = codebook.nearest(codewords, unit)
        bits = codebook.to_bits(indices, self.num_codewords)
        pipe = self._pipe().send(key, bits, mask, units.db_to_lin(snr_db))
        words = codebook.from_bits(codewords, pipe.bits, pipe.known)
        losses = codebook.losses(codewords, indices, unit, mask)
        return contract.make_output(
            words + (unit - jax.lax.stop_gradient(unit)),
            mask,
            snr_db=snr_db,
            uses_per_token=pipe.uses_per_token,
            bits_per_token=bits.shape[1],
            pilot_uses=pipe.pilot_uses,
            energy=pipe.energy,
            auxiliary_loss=losses.codebook + self.commitment * losses.commitment,
        )

    def _pipe(self) -> bit_pipe.BitPipe:
        return bit_pipe.BitPipe(
            self.channel, self.qam_order, self.csi, self.symbol_energy
        )

    def _shape(self, num_values: int) -> tuple[int, int, int]:
        if num_values % self.group_size:
            raise ValueError(
                f"group_size={self.group_size} must divide the values of a token, "
                f"R={num_values}."
            )
        return num_values // self.group_size, self.num_codewords, self.group_size
