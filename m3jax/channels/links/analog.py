"""The analog link: reals as the axes of complex symbols."""

import dataclasses
import math

import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.channels import csi as csi_lib
from m3jax.channels import equalisers, noise, power
from m3jax.channels.links import contract, transmission
from m3jax.ops import units


@dataclasses.dataclass(frozen=True)
class AnalogLink:
    """Sends pairs of real values as complex symbols, without quantisation.

        x = (v_i + j v_{i + R/2}) / sqrt(P),   y = h x + n,   x_hat = MMSE(y, h_hat)

    and the two axes of ``sqrt(2) x_hat`` are the received values. Gradients are exact,
    by values and by ``snr_db``.

    Attributes:
      channel: an ``AWGN`` or a fading of ``channels/fading.py`` or ``doppler.py``; its
        state must be the complex gains.
      csi: what the receiver knows of the gains, see ``channels/csi.py``.
      symbol_energy: Es in joules.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> import jax
      >>> from m3jax.channels import awgn
      >>> link = AnalogLink(awgn.AWGN())
      >>> values, mask = jnp.array([[3.0, -3.0], [9.0, 9.0]]), jnp.array([True, False])
      >>> out = link(jax.random.key(0), values, mask, jnp.inf)
      >>> out.values.round(3).tolist(), int(out.channel_uses)
      ([[1.0, -1.0], [0.0, 0.0]], 1)
    """

    channel: base.Channel
    csi: csi_lib.CSI = csi_lib.PerfectCSI()
    symbol_energy: float = 1.0

    def __post_init__(self):
        transmission.check(self.channel, self.csi)
        contract.check_energy(self.symbol_energy)

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
          values: real ``[L, R]``, R even.
          mask: bool ``[L]``, True where a token is sent.
          snr_db: scalar Es/N0 in dB, data rather than a constant; ``inf``: no noise.
          params: not used.

        Returns:
          A ``LinkOutput``; ``R / 2`` channel uses per valid token, and pilots.

        Raises:
          ValueError: for wrong shapes or an odd R.
        """
        del params
        values = contract.check_inputs(values, mask, snr_db)
        if values.shape[1] % 2:
            raise ValueError(
                "an analog link pairs real values into complex symbols, so R must be "
                f"even; got values of shape {values.shape}."
            )
        snr = units.db_to_lin(snr_db)
        x = power.normalise(lax.complex(*jnp.split(values, 2, axis=1)), mask)
        y, known, pilot_uses, energy = transmission.transmit(
            key, x, mask, snr, self.channel, self.csi, self.symbol_energy
        )
        x_hat = equalisers.mmse(
            y, known.h, noise.noise_power(snr), known.error_variance
        )
        return contract.make_output(
            math.sqrt(2.0) * jnp.concatenate([x_hat.real, x_hat.imag], axis=1),
            mask,
            snr_db=snr_db,
            uses_per_token=x.shape[1],
            bits_per_token=0,
            pilot_uses=pilot_uses,
            energy=energy,
        )
