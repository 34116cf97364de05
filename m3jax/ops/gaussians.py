"""Normal distributions with independent entries, by mean and standard deviation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base


class Gaussian(NamedTuple):
    """Independent normal variables.

    Attributes:
      mean: any shape.
      std: standard deviations above 0, of the same shape.
    """

    mean: base.Array
    std: base.Array


def kl_divergence(q: Gaussian, p: Gaussian) -> base.Array:
    """Kullback-Leibler divergence of each entry.

        KL(q || p) = log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2

    Args:
      q: the first distribution.
      p: the second, broadcastable.

    Returns:
      Nats, at least 0 up to rounding, of the broadcast shape; the sum over entries is
      that of the whole.

    Example:
      >>> one = Gaussian(jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0]))
      >>> kl_divergence(one, Gaussian(jnp.zeros(2), jnp.ones(2))).tolist()
      [0.5, 0.0]
    """
    ratio = q.std / p.std
    shift = (q.mean - p.mean) / p.std
    return 0.5 * (ratio**2 + shift**2 - 1.0) - jnp.log(ratio)


def balanced_kl_divergence(q: Gaussian, p: Gaussian, balance: float) -> base.Array:
    """The same number, with gradients that pull p to q harder than q to p.

        b KL(stop(q) || p) + (1 - b) KL(q || stop(p))

    (DreamerV2, Hafner et al. 2021, section 2.2, where b is 0.8.) A prior that is still
    poor then spoils the posterior less.

    Args:
      q: the posterior.
      p: the prior.
      balance: b in [0, 1].

    Returns:
      Nats for each entry.
    """
    stopped_q, stopped_p = jax.lax.stop_gradient((q, p))
    to_prior = kl_divergence(q, stopped_p)
    return balance * kl_divergence(stopped_q, p) + (1.0 - balance) * to_prior
