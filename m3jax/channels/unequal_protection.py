"""Unequal protection: what matters more gets more power, or a more robust code.

The budget is the same as with equal protection: ``allocate_power`` keeps the mean power
of the tokens at exactly 1, ``allocate_mcs`` keeps within a number of channel uses. Both
ends must know the allocation, so the importance must be known to both, or be sent.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.channels import rate_adaptation
from m3jax.ops import masks, numbers, water_filling

_LEAST_IMPORTANCE = 1e-12
_BISECTIONS = 60


def allocate_power(
    importance: base.Array, mask: base.Array, snr: base.Array
) -> base.Array:
    """Powers that minimise the mean square error, weighted by importance.

        minimise sum_i w_i / (1 + p_i snr)   over p_i >= 0, mean_i p_i = 1
        p_i = max(0, m sqrt(w_i) - 1 / snr)

    ``1 / (1 + p snr)`` is the error of the MMSE receiver over a unit gain. The second
    line follows from the slopes ``w_i snr / (1 + p_i snr)^2`` being equal where power
    is spent: water-filling with widths ``sqrt(w_i)``. At high SNR the powers go as
    ``sqrt(w_i)``; at low SNR the least important tokens get none.

    Args:
      importance: w >= 0, real ``[L]``; only ratios matter.
      mask: bool ``[L]``, True where a token is sent.
      snr: linear mean Es/N0, scalar; counted as at least -60 and at most 120 dB.

    Returns:
      Powers ``[L]`` with mean 1 over the valid tokens, zeros at padding; equal ones if
      no valid token has any importance. Differentiable by importance and SNR wherever
      no token is just at the edge of getting power.

    Example:
      >>> import jax
      >>> importance, mask = jnp.array([9.0, 1.0, 5.0]), jnp.array([True, True, False])
      >>> allocate = jax.jit(allocate_power)
      >>> allocate(importance, mask, 1.0).tolist()
      [2.0, 0.0, 0.0]
      >>> allocate(importance, mask, jnp.inf).tolist()
      [1.5, 0.5, 0.0]
    """
    mask = jnp.asarray(mask).astype(bool)
    weights = _relative(importance, mask)
    roots = jnp.sqrt(jnp.maximum(weights, _LEAST_IMPORTANCE))
    roots = masks.keep(roots, mask & (weights > _LEAST_IMPORTANCE))
    roots = jnp.where(jnp.any(mask), roots, 1.0)  # nothing to send: no 0 / 0
    count = jnp.sum(mask, dtype=roots.dtype)
    gain = jnp.clip(jnp.asarray(snr, roots.dtype), 1e-6, 1e12)
    gains = jnp.broadcast_to(gain, roots.shape)
    powers = water_filling.powers(gains, jnp.maximum(count, 1.0), roots)
    return masks.keep(powers, mask)


@dataclasses.dataclass(frozen=True)
class Powered:
    """A channel whose sender scales the power of each token.

    Powers are part of the gains, ``h_i sqrt(p_i)``, so the receiver of any link undoes
    them as it does fading. Make it where the powers are, inside the traced function.
    A link counts the energy of its unit-power symbols, which is what is sent as long as
    all tokens carry the same energy before scaling.

    Attributes:
      channel: its state must be the complex gains.
      powers: real ``[L]``, as from ``allocate_power``.

    Example:
      >>> import jax
      >>> from m3jax.channels import awgn
      >>> channel = Powered(awgn.AWGN(), jnp.array([4.0, 0.0]))
      >>> channel.generate(jax.random.key(0), (2, 3)).real.tolist()
      [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    """

    channel: base.Channel
    powers: base.Array

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Draws the gains of the channel and scales them; ``shape`` is ``[L, ...]``."""
        sent = self.powers > 0.0
        # The slope of a square root is infinite at 0; there nothing is sent.
        amplitudes = jnp.sqrt(jnp.where(sent, self.powers, 1.0)) * sent
        h = self.channel.generate(key, shape)
        return h * amplitudes.reshape(-1, *(1,) * (len(shape) - 1))

    def apply(
        self, key: base.Array, x: base.Array, state: base.Array, snr: base.Array
    ) -> base.Array:
        """Sends symbols as the channel does."""
        return self.channel.apply(key, x, state, snr)


class MCSAllocation(NamedTuple):
    """A modulation and coding scheme for each token.

    Attributes:
      index: int32 ``[L]``, place in the table; -1 at padding.
      channel_uses: int32 ``[L]``, complex symbols of each token; 0 at padding.
      block_error: real ``[L]``, probability that the token is lost; 0 at padding.
      feasible: bool scalar, False if even the highest rate for all tokens takes more
        than the budget; that is then what the other fields say.
    """

    index: base.Array
    channel_uses: base.Array
    block_error: base.Array
    feasible: base.Array


def allocate_mcs(
    importance: base.Array,
    mask: base.Array,
    snr: base.Array,
    table: rate_adaptation.MCSTable,
    bits_per_token: int,
    budget: base.Array,
) -> MCSAllocation:
    """Modulation and coding by importance, within a budget of channel uses.

        minimise sum_i w_i e(m_i)   over m_i, sum_i u(m_i) <= budget

    with u channel uses of a token and e its block error probability at entry m. Each
    token takes the entry of least ``w_i e(m) + price u(m)``; the price is the lowest
    that fits the budget, by bisection. What comes out is optimal for the channel uses
    that it takes (Everett, Operations Research 11(3), 1963); tokens of equal importance
    get the same entry, so some of the budget may be left.

    Args:
      importance: w >= 0, real ``[L]``; only ratios matter. To make classes, give their
        members the same importance.
      mask: bool ``[L]``, True where a token is sent.
      snr: linear Es/N0, scalar, traced.
      table: the entries to choose from, static.
      bits_per_token: information bits of a token, static.
      budget: channel uses for all tokens, scalar, may be traced.

    Returns:
      An ``MCSAllocation``; the errors have the gradient by SNR.
    """
    mask = jnp.asarray(mask).astype(bool)
    uses = np.array([numbers.ceil_ratio(bits_per_token, rate) for rate in table.rates])
    errors = rate_adaptation.block_errors(table, snr, jnp.asarray(uses, jnp.float32))
    weights = _relative(importance, mask)[:, None]

    def chosen(log_price):
        price = jnp.exp(log_price) * jnp.asarray(uses, errors.dtype)
        return jnp.argmin(lax.stop_gradient(weights * errors) + price, axis=1)

    def taken(index):
        return masks.keep(jnp.asarray(uses, jnp.int32)[index], mask)

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        fits = jnp.sum(taken(chosen(middle))) <= budget
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    # From a price that moves nothing to one that an error of 1 cannot outweigh.
    ends = jnp.asarray(math.log(1e-25), errors.dtype), jnp.asarray(1.0, errors.dtype)
    index = chosen(lax.fori_loop(0, _BISECTIONS, halve, ends)[1])
    return MCSAllocation(
        index=jnp.where(mask, index, -1).astype(jnp.int32),
        channel_uses=taken(index),
        block_error=masks.keep(errors[index], mask),
        feasible=jnp.sum(taken(index)) <= budget,
    )


def _relative(importance: base.Array, mask: base.Array) -> base.Array:
    """Importance over the greatest of a valid token; all 1 if that is 0."""
    importance = masks.keep(jnp.asarray(importance, jnp.result_type(float)), mask)
    most = jnp.max(importance, initial=0.0)
    return jnp.where(most > 0.0, importance / jnp.where(most > 0.0, most, 1.0), 1.0)
