"""Rate adaptation: modulation and coding schemes (MCS), and which one an SNR bears.

A block of n complex symbols at the rate ``R = log2(M) r`` of an MCS is taken to fail as
often as an ideal code of this length on this constellation would, by the normal
approximation of bit-interleaved coded modulation (``channels/bit_information.py``):

    e = Q((I(snr) - R) sqrt(n / U(snr)))

Real codes need somewhat more SNR. The third-order term, which would add to I, is left
out: so every rate that is chosen for ``e < 1/2`` is below what the constellation
carries, hence below Shannon's capacity.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy import special

from m3jax import base
from m3jax.channels import bit_information, modulation

_LEAST_VARIANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class MCSTable:
    """Pairs of modulation and code rate.

    Attributes:
      name: where the table comes from.
      orders: M of each entry, of ``modulation.ORDERS``.
      code_rates: r of each entry, information bits per coded bit, in (0, 1].

    Raises:
      ValueError: if the two do not match, or an entry is out of range.

    Example:
      >>> table = MCSTable("mine", orders=(4, 16), code_rates=(0.5, 0.75))
      >>> table.rates.tolist()
      [1.0, 3.0]
    """

    name: str
    orders: tuple[int, ...]
    code_rates: tuple[float, ...]

    def __post_init__(self):
        if len(self.orders) != len(self.code_rates) or not self.orders:
            raise ValueError(
                f"an MCS table needs one code rate per order, got {len(self.orders)} "
                f"orders and {len(self.code_rates)} code rates."
            )
        for order, code_rate in zip(self.orders, self.code_rates, strict=True):
            modulation.bits_per_symbol(order)
            if not 0.0 < code_rate <= 1.0:
                raise ValueError(f"code rate must be in (0, 1], got {code_rate!r}.")

    @property
    def rates(self) -> np.ndarray:
        """Spectral efficiency ``log2(M) r``, bits per complex symbol, float64 [N]."""
        bits = [modulation.bits_per_symbol(order) for order in self.orders]
        return np.array(bits) * np.array(self.code_rates)


class Choice(NamedTuple):
    """A modulation and coding scheme.

    Attributes:
      index: int32 scalar, place in the table.
      rate: scalar, bits per complex symbol.
      block_error: scalar, probability that the block is lost; has the exact gradient.
      outage: bool scalar, no entry meets the target; this is the lowest rate.
    """

    index: base.Array
    rate: base.Array
    block_error: base.Array
    outage: base.Array


def block_errors(
    table: MCSTable, snr: base.Array, num_symbols: base.Array
) -> base.Array:
    """The block error probability of each entry.

    Args:
      table: N entries.
      snr: linear Es/N0, scalar.
      num_symbols: n, complex symbols in a block: a scalar, or ``[N]`` if it depends on
        the entry. May be traced.

    Returns:
      ``[N]``, differentiable by ``snr``.
    """
    carried = {
        order: bit_information.bit_information(snr, order)
        for order in sorted(set(table.orders))
    }
    mean = jnp.stack([carried[order].mean for order in table.orders])
    variance = jnp.stack([carried[order].variance for order in table.orders])
    safe_variance = jnp.maximum(variance, _LEAST_VARIANCE)
    surplus = mean - jnp.asarray(table.rates, mean.dtype)
    return special.ndtr(-surplus * jnp.sqrt(num_symbols / safe_variance))


def choose(
    table: MCSTable, snr: base.Array, num_symbols: base.Array, target: float = 0.1
) -> Choice:
    """The highest rate whose block error probability meets a target.

    Args:
      table: N entries.
      snr: linear Es/N0, scalar, as the transmitter knows it; traced.
      num_symbols: n, complex symbols in a block.
      target: largest block error probability; 3GPP takes 0.1 for data.

    Returns:
      A ``Choice``. If none meets the target: the entry of the lowest rate, with its
      block error probability and ``outage`` set.

    Example:
      >>> import jax
      >>> pick = jax.jit(choose, static_argnums=0)
      >>> chosen = pick(TS_38_214_TABLE_1, 10.0, 1000)
      >>> int(chosen.index), round(float(chosen.rate), 3), bool(chosen.outage)
      (19, 3.029, False)
    """
    errors = block_errors(table, snr, num_symbols)
    rates = jnp.asarray(table.rates, errors.dtype)
    meets = errors <= target
    outage = ~jnp.any(meets)
    best = jnp.argmax(jnp.where(meets, rates, -rates))
    return Choice(best.astype(jnp.int32), rates[best], errors[best], outage)


def _table(name: str, *entries: tuple[int, tuple[float, ...]]) -> MCSTable:
    """From rows of a standard: an order and 1024 times its code rates."""
    orders = [order for order, rates in entries for _ in rates]
    code_rates = [rate / 1024.0 for _, rates in entries for rate in rates]
    return MCSTable(name, tuple(orders), tuple(code_rates))


TS_38_214_TABLE_1 = _table(
    "3GPP TS 38.214 Table 5.1.3.1-1",
    (4, (120, 157, 193, 251, 308, 379, 449, 526, 602, 679)),
    (16, (340, 378, 434, 490, 553, 616, 658)),
    (64, (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948)),
)
"""MCS index table 1 for the 5G downlink, indices 0 to 28: QPSK to 64-QAM."""

TS_38_214_TABLE_2 = _table(
    "3GPP TS 38.214 Table 5.1.3.1-2",
    (4, (120, 193, 308, 449, 602)),
    (16, (378, 434, 490, 553, 616, 658)),
    (64, (466, 517, 567, 616, 666, 719, 772, 822, 873)),
    (256, (682.5, 711, 754, 797, 841, 885, 916.5, 948)),
)
"""MCS index table 2 for the 5G downlink, indices 0 to 27: QPSK to 256-QAM."""
