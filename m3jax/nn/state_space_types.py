"""What goes into the variational state-space model, and what comes out of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import gaussians


class State(NamedTuple):
    """What is carried from step to step.

    Attributes:
      hidden: of the GRU, ``[*B, hidden_dim]``.
      slow: the slow latent, ``[*B, slow_dim]``.
      started: bool ``[*B]``, False before the first step. Where it is set to False the
        model forgets what was, as at the start of an episode.
    """

    hidden: base.Array
    slow: base.Array
    started: base.Array


class Inputs(NamedTuple):
    """What one step reads.

    Attributes:
      observation: ``[*B, P]``, zero where missing.
      mask: ``[*B, P]``, one where observed, else zero.
      context: ``[*B, C]``.
      later: ``[*B, H]``, summary of this and later observations; zero in a filter.
      informed: bool ``[*B]``, False where the posterior has nothing to go by.
      fast_noise: standard normal ``[*B, fast_dim]``, or zeros.
      slow_noise: standard normal ``[*B, slow_dim]``, or zeros.
    """

    observation: base.Array
    mask: base.Array
    context: base.Array
    later: base.Array
    informed: base.Array
    fast_noise: base.Array
    slow_noise: base.Array


class Step(NamedTuple):
    """What one step yields.

    Attributes:
      fast: posterior of z1, given the slow latent that was carried on.
      slow: posterior of z2.
      fast_prior: prior of z1, given the same slow latent.
      slow_prior: prior of z2.
      signal: posterior of what was observed, without its noise, ``[*B, P]``.
      predicted: the observation as it was expected before it came, ``[*B, P]``.
      log_likelihood: of the observation, its expectation under the posterior of z1, in
        nats, ``[*B]``.
    """

    fast: gaussians.Gaussian
    slow: gaussians.Gaussian
    fast_prior: gaussians.Gaussian
    slow_prior: gaussians.Gaussian
    signal: gaussians.Gaussian
    predicted: gaussians.Gaussian
    log_likelihood: base.Array


class Elbo(NamedTuple):
    """The terms of the bound, one of each for each step.

    Attributes:
      log_likelihood: ``E_q log p(q_t | z_t)`` of what was observed, nats, ``[*B, T]``.
      fast_kl: nats, ``[*B, T]``.
      slow_kl: nats, ``[*B, T]``.
      num_observed: observed values, float32 ``[*B, T]``.
    """

    log_likelihood: base.Array
    fast_kl: base.Array
    slow_kl: base.Array
    num_observed: base.Array

    def total(self) -> base.Array:
        """The bound on ``log p(q_0 ... q_{T-1})`` in nats, ``[*B]``."""
        per_step = self.log_likelihood - self.fast_kl - self.slow_kl
        return jnp.sum(per_step, axis=-1)

    def loss(self, free_nats: float = 0.0, beta: base.Array = 1.0) -> base.Array:
        """The bound as a loss, in nats for each observed value.

            (sum beta [max(0, KL1 - f) + max(0, KL2 - f)] - log p) / number observed

        Args:
          free_nats: f, what each level may say at each step without paying (Kingma et
            al. 2016); keeps the latents from falling silent.
          beta: weight of the divergences; a schedule passes a traced scalar.

        Returns:
          Scalar. With ``free_nats = 0`` and ``beta = 1`` it is the negative bound.
        """
        paid = sum(
            jnp.maximum(kl - free_nats, 0.0) for kl in (self.fast_kl, self.slow_kl)
        )
        total = jnp.sum(beta * paid - self.log_likelihood)
        return total / jnp.maximum(jnp.sum(self.num_observed), 1.0)


def complete(
    observations: base.Array,
    mask: base.Array | None,
    context: base.Array | None,
    state: State | None,
    sizes: tuple[int, int],
) -> tuple[base.Array, base.Array]:
    """Checks shapes, and fills in the mask and the context that were left out.

    Args:
      observations: ``[*B, T, P]``.
      mask: bool, of that shape, or None.
      context: ``[*B, T, C]``, or None.
      state: of the batch ``[*B]``, or None.
      sizes: P and C.

    Returns:
      Mask and context.

    Raises:
      ValueError: if shapes disagree.
    """
    num_observed, num_context = sizes
    shape = jnp.shape(observations)
    if len(shape) < 2 or shape[-1] != num_observed:
        raise ValueError(
            f"observations must have the shape [..., T, {num_observed}], got"
            f" {list(shape)}."
        )
    if mask is None:
        mask = jnp.ones(shape, bool)
    if context is None:
        context = jnp.zeros((*shape[:-1], num_context))
    if jnp.shape(mask) != shape:
        raise ValueError(
            f"mask of shape {list(jnp.shape(mask))} must have the shape of the"
            f" observations, {list(shape)}."
        )
    if jnp.shape(context) != (*shape[:-1], num_context):
        raise ValueError(
            f"context must have the shape {[*shape[:-1], num_context]}, got"
            f" {list(jnp.shape(context))}."
        )
    if state is not None and state.started.shape != shape[:-2]:
        raise ValueError(
            f"the state is one of the batch {list(state.started.shape)}, the"
            f" observations are of {list(shape[:-2])}."
        )
    return jnp.asarray(mask, bool), context


def draw_noise(
    key: base.Array | None, shape: tuple[int, ...], dims: tuple[int, int]
) -> list[base.Array]:
    """Draws what the latents are sampled by.

    Args:
      key: random key, consumed; None: no noise.
      shape: time and batch.
      dims: widths of the latents.

    Returns:
      Standard normal numbers ``[*shape, dim]`` for each of ``dims``, or zeros.
    """
    if key is None:
        return [jnp.zeros((*shape, dim), jnp.float32) for dim in dims]
    keys = jax.random.split(key)
    return [
        jax.random.normal(k, (*shape, d), jnp.float32)
        for k, d in zip(keys, dims, strict=True)
    ]
