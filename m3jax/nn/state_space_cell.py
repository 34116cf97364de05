"""One step of the variational state-space model of `state_space`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import state_space_types as types
from m3jax.ops import gaussians

_MIN_STD = 1e-3
_SOFTPLUS_ONE = float(np.log(np.expm1(1.0)))
"""Where the softplus function is one."""


class Head(nn.Module):
    """``W x`` plus a small MLP of x: what is linear is learnt at once.

    Attributes:
      num_features: width of the result.
      hidden_dim: width of the MLP.
    """

    num_features: int
    hidden_dim: int

    @nn.compact
    def __call__(self, x: base.Array) -> base.Array:
        """Maps ``[*B, D]`` to ``[*B, num_features]``."""
        small = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
        linear = nn.Dense(self.num_features, kernel_init=small, name="linear")(x)
        hidden = nn.gelu(nn.Dense(self.hidden_dim, name="up")(x))
        down = nn.Dense(
            self.num_features, kernel_init=small, use_bias=False, name="down"
        )
        return linear + down(hidden)


class Cell(nn.Module):
    """Prior, posterior, emission and core of one step; `state_space` has equations.

    Attributes:
      fast_dim, slow_dim, hidden_dim, prior, core, min_timescale,
      observation_std: as of ``StateSpace``.
    """

    fast_dim: int
    slow_dim: int
    hidden_dim: int
    prior: str
    core: str
    min_timescale: float
    observation_std: float | None

    @nn.compact
    def __call__(
        self, state: types.State, inputs: types.Inputs
    ) -> tuple[types.State, types.Step]:
        """Takes one step.

        Args:
          state: from the step before.
          inputs: what is read.

        Returns:
          The next state, and the ``Step``.
        """
        started = state.started[..., None]
        hidden, before = (
            jnp.where(started, x, 0.0) for x in (state.hidden, state.slow)
        )
        seen = (inputs.observation, inputs.mask, inputs.context)
        evidence = jnp.concatenate([hidden, *seen, inputs.later], axis=-1)
        slow_prior = self._slow_prior(before, started)
        fast_head = Head(2 * self.fast_dim, self.hidden_dim, name="fast_prior")
        num_observed = inputs.observation.shape[-1]
        emit = Emission(num_observed, self.observation_std, name="emission")

        def fast_prior(slow):
            if self.prior == "standard_normal":
                return _standard(inputs.fast_noise)
            raw = fast_head(jnp.concatenate([hidden, slow], axis=-1))
            mean, raw = jnp.split(raw, 2, axis=-1)
            std = jax.nn.softplus(raw + _SOFTPLUS_ONE) + _MIN_STD
            return gaussians.Gaussian(mean, std)

        # What is expected must not know what came: its slow latent is the prior's.
        expected_slow = _sample(slow_prior, inputs.slow_noise)
        expected, noise = emit(fast_prior(expected_slow), expected_slow)
        std = jnp.sqrt(expected.std**2 + noise)
        predicted = gaussians.Gaussian(expected.mean, std)

        slow_evidence = jnp.concatenate([evidence, before], axis=-1)
        slow = self._posterior("slow", slow_evidence, slow_prior, inputs.informed)
        slow_value = _sample(slow, inputs.slow_noise)
        prior = fast_prior(slow_value)
        fast_evidence = jnp.concatenate([evidence, slow_value], axis=-1)
        fast = self._posterior("fast", fast_evidence, prior, inputs.informed)
        signal, _ = emit(fast, slow_value)
        log_likelihood = _expected_log_likelihood(signal, noise, inputs)

        latents = (_sample(fast, inputs.fast_noise), slow_value, inputs.context)
        read = seen if self.core == "observations" else latents
        core = nn.GRUCell(self.hidden_dim, name="core")
        hidden, _ = core(hidden, jnp.concatenate(read, axis=-1))
        step = types.Step(
            *(fast, slow, prior, slow_prior, signal, predicted, log_likelihood)
        )
        return types.State(hidden, slow_value, jnp.ones_like(state.started)), step

    def _slow_prior(self, before, started):
        """An Ornstein-Uhlenbeck process of unit variance, at rest at the start."""
        if self.prior == "standard_normal":
            return _standard(before)

        def spread(key, shape):
            del key
            steps = jnp.linspace(np.log(0.5), np.log(30.0), *shape, dtype=jnp.float32)
            return steps + np.float32(np.log(self.min_timescale))

        longer = jnp.exp(self.param("timescale", spread, (self.slow_dim,)))
        rate = 1.0 / (self.min_timescale + longer)
        std = jnp.where(started, jnp.sqrt(-jnp.expm1(-2.0 * rate)), 1.0)
        return gaussians.Gaussian(jnp.exp(-rate) * before, std)

    def _posterior(self, name, evidence, prior, informed):
        """The prior, moved and rescaled in its own unit; the prior if uninformed."""
        num_features = 2 * prior.mean.shape[-1]
        head = Head(num_features, self.hidden_dim, name=f"{name}_posterior")
        shift, raw = jnp.split(head(evidence), 2, axis=-1)
        scale = jax.nn.softplus(raw + _SOFTPLUS_ONE)
        informed = informed[..., None]
        shift = jnp.where(informed, shift, 0.0)
        scale = jnp.where(informed, jnp.maximum(scale, _MIN_STD), 1.0)
        return gaussians.Gaussian(prior.mean + prior.std * shift, prior.std * scale)


class Backward(nn.Module):
    """One step of the GRU that reads the series from its end.

    Attributes:
      hidden_dim: width.
    """

    hidden_dim: int

    @nn.compact
    def __call__(
        self, hidden: base.Array, inputs: tuple[base.Array, base.Array]
    ) -> tuple[base.Array, base.Array]:
        """Reads one step, unless nothing is observed from it on.

        Args:
          hidden: from the step after, ``[*B, hidden_dim]``.
          inputs: what is read, ``[*B, D]``, and whether to, bool ``[*B]``.

        Returns:
          The new state, twice: to carry on, and as output.
        """
        seen, informed = inputs
        new, _ = nn.GRUCell(self.hidden_dim, name="core")(hidden, seen)
        hidden = jnp.where(informed[..., None], new, hidden)
        return hidden, hidden


class Emission(nn.Module):
    """``q = W1 z1 + W2 z2 + b + s n``: linear, so that z1 is integrated out exactly.

    Attributes:
      num_observed: P.
      observation_std: s; None: learnt, one for each observed value.
    """

    num_observed: int
    observation_std: float | None

    @nn.compact
    def __call__(
        self, fast: gaussians.Gaussian, slow: base.Array
    ) -> tuple[gaussians.Gaussian, base.Array]:
        """What is observed, without its noise, and the variance of that noise.

        Args:
          fast: distribution of z1, ``[*B, fast_dim]``.
          slow: value of z2, ``[*B, slow_dim]``.

        Returns:
          The signal ``[*B, P]``, and ``[P]``.
        """
        init = nn.initializers.lecun_normal()
        widths = fast.mean.shape[-1], slow.shape[-1]
        from_fast, from_slow = (
            self.param(name, init, (width, self.num_observed), jnp.float32)
            for name, width in zip(("fast", "slow"), widths, strict=True)
        )
        zeros = nn.initializers.zeros
        bias = self.param("bias", zeros, (self.num_observed,), jnp.float32)
        mean = fast.mean @ from_fast + slow @ from_slow + bias
        std = jnp.sqrt(fast.std**2 @ from_fast**2 + _MIN_STD**2)
        return gaussians.Gaussian(mean, std), self._noise_variance()

    def _noise_variance(self):
        if self.observation_std is not None:
            return jnp.full(self.num_observed, self.observation_std**2)
        half = nn.initializers.constant(np.log(0.5))
        log_noise = self.param("log_noise", half, (self.num_observed,), jnp.float32)
        return jnp.exp(2.0 * log_noise) + _MIN_STD**2


def _expected_log_likelihood(signal, noise_variance, inputs):
    """``E log p(q | z1, z2)`` over z1, of what was observed; nats, ``[*B]``."""
    squares = (inputs.observation - signal.mean) ** 2 + signal.std**2
    log_scale = jnp.log(2.0 * jnp.pi * noise_variance)
    each = -0.5 * (squares / noise_variance + log_scale)
    return jnp.sum(jnp.where(inputs.mask > 0, each, 0.0), axis=-1)


def _sample(distribution, noise):
    return distribution.mean + distribution.std * noise


def _standard(like: base.Array) -> gaussians.Gaussian:
    return gaussians.Gaussian(jnp.zeros_like(like), jnp.ones_like(like))
