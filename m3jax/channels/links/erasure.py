"""The erasure link: packets of tokens arrive whole or not at all."""

import dataclasses

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import packet_loss, power, quantisers
from m3jax.channels.links import contract
from m3jax.ops import masks, units

IMPUTATIONS = ("zero", "mean", "learned")
_FLOAT_BITS = 32


@dataclasses.dataclass(frozen=True)
class ErasureLink:
    """Sends tokens in packets that an ideal code delivers without error or not at all.

    The receiver knows what is lost, as by a checksum, and puts in its place

    - ``"zero"``: zeros, the mean of all values at unit mean square;
    - ``"mean"``: the mean of the example's tokens that arrived (zeros if none did);
    - ``"learned"``: the parameter ``mask_token [R]``, zeros at first.

    Gradients: exact by the values that arrived (straight-through if they are
    quantised) and, at those that were lost, by the mask token. Arrival itself is a
    decision: by ``snr_db`` the gradient is 0, with no surrogate.

    Attributes:
      loss: which packets are lost, and the code's rate: an ``Outage`` or an
        ``IndependentLoss`` of ``channels/packet_loss.py``.
      bits: bits per real value, of a uniform quantiser; None: values arrive exactly,
        and count as 32 bits each.
      limit: half the quantiser's range, in units of the root mean square value.
      imputation: ``"zero"``, ``"mean"`` or ``"learned"``.
      tokens_per_packet: neighbouring tokens that arrive or are lost together; slots of
        padding count, so a mask never shifts the packets.
      symbol_energy: Es in joules; symbols of unit mean energy are taken.

    Raises:
      ValueError: if a setting makes no sense.

    Example:
      >>> link = ErasureLink(packet_loss.IndependentLoss(0.5), bits=8)
      >>> values, mask = jnp.ones((6, 8)), jnp.arange(6) < 4
      >>> out = link(jax.random.key(0), values, mask, 10.0)
      >>> out.arrived.tolist(), int(out.channel_uses)
      ([True, True, False, False, False, False], 256)
    """

    loss: packet_loss.PacketLoss
    bits: int | None = None
    limit: float = 4.0
    imputation: str = "zero"
    tokens_per_packet: int = 1
    symbol_energy: float = 1.0

    def __post_init__(self):
        packet_loss.check(self.loss)
        quantisers.check(1 if self.bits is None else self.bits, self.limit)
        if self.imputation not in IMPUTATIONS:
            raise ValueError(
                f"imputation must be one of {IMPUTATIONS}, got {self.imputation!r}."
            )
        if not (type(self.tokens_per_packet) is int and self.tokens_per_packet > 0):
            raise ValueError(
                "tokens_per_packet must be a positive integer, got "
                f"{self.tokens_per_packet!r}."
            )
        contract.check_energy(self.symbol_energy)

    def init(self, key: base.Array, num_values: int) -> base.Params:
        """Returns ``{"mask_token": zeros [R]}`` if that is learned, else ()."""
        del key
        if self.imputation != "learned":
            return ()
        return {"mask_token": jnp.zeros((num_values,))}

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
          params: from ``init``.

        Returns:
          A ``LinkOutput``; ``ceil(R * bits / rate)`` channel uses per valid token.

        Raises:
          ValueError: for wrong shapes or a missing mask token.
        """
        values = contract.check_inputs(values, mask, snr_db)
        mask = jnp.asarray(mask).astype(bool)
        bits_per_token = values.shape[1] * (self.bits or _FLOAT_BITS)
        uses_per_token = packet_loss.channel_uses(bits_per_token, self.loss.rate)
        snr = units.db_to_lin(snr_db)
        arrived = mask & self._arrivals(key, len(values), uses_per_token, snr)
        sent = power.normalise(values, mask)
        if self.bits is not None:
            sent = quantisers.uniform(sent, self.bits, self.limit).values
        fill = self._fill(sent, arrived, params)
        return contract.make_output(
            jnp.where(arrived[:, None], sent, fill),
            mask,
            snr_db=snr_db,
            uses_per_token=uses_per_token,
            bits_per_token=bits_per_token,
            energy=self.symbol_energy * uses_per_token * jnp.sum(mask, dtype=float),
            arrived=arrived,
        )

    def _arrivals(self, key, num_tokens, uses_per_token, snr) -> base.Array:
        """Which tokens ``[L]`` are in a packet that arrives."""
        size = self.tokens_per_packet
        num_packets = -(-num_tokens // size)
        packets = self.loss.arrivals(key, num_packets, size * uses_per_token, snr)
        return jnp.repeat(packets, size)[:num_tokens]

    def _fill(self, sent, arrived, params) -> base.Array:
        """What stands in for a lost token, ``[R]``."""
        num_values = sent.shape[1]
        if self.imputation == "learned":
            token = contract.get_param(params, "mask_token", (num_values,))
            return token.astype(sent.dtype)
        if self.imputation == "mean":
            return jax.vmap(masks.masked_mean, (1, None))(sent, arrived)
        return jnp.zeros((num_values,), sent.dtype)
