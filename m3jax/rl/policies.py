"""What a policy network's outputs mean: distributions over actions.

Each is a distrax distribution: ``sample(seed=)``, ``log_prob``, ``entropy`` in nats,
and ``mode``, the action to take without noise.
"""

import math

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import numbers

# Finite, so that zero probability times its logarithm is zero, in gradients too.
MASK_VALUE = -1e9
# The entropy of a squashed Gaussian is a sum over this grid of standard deviations. The
# sum converges geometrically; its error is below 1e-4 nats for deviations up to e^2.
_GRID = np.linspace(-8.0, 8.0, 161, dtype=np.float32)


class TanhGaussian(distrax.Transformed):
    """A diagonal Gaussian squashed into (-1, 1), as in SAC (Haarnoja et al. 2018).

        a = tanh(u), u ~ N(mean, std^2);  log p(a) = log p(u) - sum_i log(1 - a_i^2)

    Take the log-probability of a sample from ``sample_and_log_prob``: ``log_prob`` of
    an action that float32 rounds to -1 or 1 is not finite. ``mode`` is ``tanh(mean)``.

    Args:
      mean: ``[..., D]``.
      log_std: ``[..., D]``, natural logarithm of the standard deviation.

    Example:
      >>> TanhGaussian(jnp.zeros(2), jnp.zeros(2)).mode()
      Array([0., 0.], dtype=float32)
    """

    def __init__(self, mean: base.Array, log_std: base.Array):
        mean, log_std = numbers.as_floats(mean, log_std)
        gaussian = distrax.MultivariateNormalDiag(mean, jnp.exp(log_std))
        super().__init__(gaussian, distrax.Block(distrax.Tanh(), 1))

    def entropy(self, input_hint: base.Array | None = None) -> base.Array:
        """Differential entropy by quadrature, in nats, ``[...]``.

        h(a) = h(u) + E[log(1 - tanh(u)^2)], one integral for each axis
        """
        del input_hint
        gaussian = self.distribution
        u = gaussian.loc[..., None] + gaussian.stddev()[..., None] * _GRID
        weights = np.exp(-(_GRID**2) / 2)
        log_slope = distrax.Tanh().forward_log_det_jacobian(u)
        expected = jnp.sum(log_slope * (weights / weights.sum()), axis=-1)
        return gaussian.entropy() + jnp.sum(expected, axis=-1)

    def mode(self) -> base.Array:
        """The action without noise, ``[..., D]``."""
        return jnp.tanh(self.distribution.loc)


def categorical(
    logits: base.Array, mask: base.Array | None = None
) -> distrax.Categorical:
    """A choice of one action; what is masked has probability exactly zero.

    Args:
      logits: ``[..., A]``.
      mask: bool ``[..., A]``, True for valid actions; None: all are.

    Returns:
      The distribution of int32 actions ``[...]``.

    Raises:
      ValueError: as `check_mask`.

    Example:
      >>> categorical(jnp.zeros(3), jnp.array([True, False, True])).probs
      Array([0.5, 0. , 0.5], dtype=float32)
    """
    return distrax.Categorical(mask_logits(logits, mask), dtype=jnp.int32)


class GumbelSoftmax(distrax.OneHotCategorical):
    """A choice of one action whose samples have a gradient by the logits.

        y = softmax((logits + g) / temperature), g ~ Gumbel(0, 1)

    (Jang et al. 2017, eq. 2.) Straight-through samples are one-hot, distributed as the
    categorical, and take the gradient of ``y``; ``log_prob`` is then the categorical's.
    Otherwise samples are ``y``, and ``log_prob`` is their density on the simplex
    (Maddison et al. 2017, eq. 10): as ``log_prob`` of a sample, from a float32 that may
    have become 0 or 1, or of the logarithm of the sample, which is exact at any
    temperature, as ``sample_and_log_prob`` and `log_prob_of_log` have it.
    ``entropy`` is the categorical's either way: the one to put into a loss. ``mode`` is
    a sample without noise.

    Args:
      logits: ``[..., A]``.
      temperature: above 0, scalar or broadcastable to ``[..., 1]``; may be traced.
      mask: bool ``[..., A]``, True for valid actions; None: all are.
      straight_through: whether samples are one-hot.

    Raises:
      ValueError: as `check_mask`.
    """

    def __init__(
        self,
        logits: base.Array,
        temperature: base.Array | float,
        mask: base.Array | None = None,
        straight_through: bool = True,
    ):
        super().__init__(mask_logits(logits, mask), dtype=jnp.float32)
        self._temperature = temperature
        self._straight_through = straight_through

    def _sample_n(self, key: base.Array, n: int) -> base.Array:
        disturbed = self._disturbed(key, n)
        relaxed = jax.nn.softmax(disturbed / self._temperature, axis=-1)
        if not self._straight_through:
            return relaxed
        choice = jnp.argmax(disturbed, axis=-1)
        hard = jax.nn.one_hot(choice, self.num_categories, dtype=relaxed.dtype)
        # The difference is exactly zero, so that samples are exactly one-hot.
        return hard + (relaxed - jax.lax.stop_gradient(relaxed))

    def _sample_n_and_log_prob(
        self, key: base.Array, n: int
    ) -> tuple[base.Array, base.Array]:
        if self._straight_through:
            return super()._sample_n_and_log_prob(key, n)
        disturbed = self._disturbed(key, n) / self._temperature
        log_value = jax.nn.log_softmax(disturbed, axis=-1)
        return jax.nn.softmax(disturbed, axis=-1), self.log_prob_of_log(log_value)

    def _disturbed(self, key: base.Array, n: int) -> base.Array:
        # Of the type of the logits: Python numbers would be wide with 64-bit JAX.
        standard = (jnp.asarray(x, self.logits.dtype) for x in (0.0, 1.0))
        noise = distrax.Gumbel(*standard).sample(
            seed=key, sample_shape=(n, *self.logits.shape)
        )
        return self.logits + noise

    def mode(self) -> base.Array:
        """The sample without noise: one-hot, or ``softmax(logits / temperature)``."""
        if self._straight_through:
            return super().mode()
        return jax.nn.softmax(self.logits / self._temperature, axis=-1)

    def log_prob(self, value: base.Array) -> base.Array:
        """Log-probability of one-hot samples, or log-density of relaxed ones.

        A share that float32 rounds to 0 counts as the smallest normal number: finite
        for every sample of one's own, and a lower bound of what it may have been.
        """
        if self._straight_through:
            return super().log_prob(value)
        value = numbers.as_float(value)
        return self.log_prob_of_log(jnp.log(jnp.maximum(value, _least(value.dtype))))

    def log_prob_of_log(self, log_value: base.Array) -> base.Array:
        """Log-density on the simplex of the relaxed sample ``exp(log_value)``.

            log (k-1)! + (k-1) log T + sum_i (a_i - (T + 1) log y_i)
                - k logsumexp_i(a_i - T log y_i),   over the k valid i

        Args:
          log_value: ``[..., A]``, logarithm of the sample; what it is of masked actions
            does not matter.

        Returns:
          ``[...]``, with respect to any k - 1 of the shares.
        """
        valid = ~(self.logits <= MASK_VALUE / 2)
        log_value = numbers.as_float(log_value)
        log_value = jnp.where(valid, log_value, 0.0)
        # Both sums fall by k c if c is taken from each: the largest, so that what is
        # added up is as small as it can be.
        log_ratio = self.logits - self._temperature * log_value
        log_ratio -= jax.nn.logsumexp(log_ratio, axis=-1, keepdims=True)
        count = jnp.sum(valid, axis=-1)
        powers = jnp.sum(jnp.where(valid, log_ratio - log_value, 0.0), axis=-1)
        constant = jax.lax.lgamma(count.astype(log_value.dtype))
        return constant + (count - 1) * jnp.log(self._temperature) + powers


def _least(dtype: jnp.dtype) -> float:
    """The smallest normal number of a type: its reciprocal is a number too."""
    return float(jnp.finfo(dtype).tiny)


class BinaryConcrete(distrax.Bernoulli):
    """Gates, each open or closed on its own, whose samples have a gradient.

        y_i = sigmoid((logit_i + l_i) / temperature), l_i ~ Logistic(0, 1)

    (Maddison et al. 2017, appendix B.) ``entropy`` is that of the gates underneath, all
    together, in nats; ``mode`` is a sample without noise. Masked gates are closed.

    Args:
      logits: ``[..., A]``.
      temperature: above 0, scalar; may be traced.
      mask: bool ``[..., A]``, True for gates that may open; None: all may.

    Raises:
      ValueError: as `check_mask`.
    """

    def __init__(
        self,
        logits: base.Array,
        temperature: base.Array | float,
        mask: base.Array | None = None,
    ):
        super().__init__(mask_logits(logits, mask), dtype=jnp.float32)
        self._temperature = temperature

    def _sample_n(self, key: base.Array, n: int) -> base.Array:
        shape = (n, *self.logits.shape)
        noise = jax.random.logistic(key, shape, self.logits.dtype)
        return jax.nn.sigmoid((self.logits + noise) / self._temperature)

    def entropy(self) -> base.Array:
        """Of all gates, in nats, ``[...]``."""
        return jnp.sum(super().entropy(), axis=-1)

    def mode(self) -> base.Array:
        """``sigmoid(logits / temperature)``, ``[..., A]``."""
        return jax.nn.sigmoid(self.logits / self._temperature)


def mask_logits(logits: base.Array, mask: base.Array | None) -> base.Array:
    """Makes the logits of invalid actions so low that they have no probability.

    Args:
      logits: ``[..., A]``.
      mask: bool ``[..., A]``, True for valid actions; None: all are.

    Returns:
      ``[..., A]``; inside a compiled program, a row without a valid action becomes
      uniform.

    Raises:
      ValueError: as `check_mask`.
    """
    logits = numbers.as_float(logits, jnp.float32)  # which holds `MASK_VALUE`
    if mask is None:
        return logits
    check_mask(mask)
    return jnp.where(mask, logits, MASK_VALUE)


def check_mask(mask: base.Array) -> None:
    """Checks that every state has a valid action, where the values are known.

    Args:
      mask: bool ``[..., A]``; inside a compiled program nothing is checked.

    Raises:
      ValueError: a row of the mask is empty.
    """
    if isinstance(mask, jax.core.Tracer):
        return
    empty = ~np.asarray(mask).any(axis=-1)
    if empty.any():
        raise ValueError(
            f"{int(empty.sum())} of {math.prod(empty.shape)} action masks are empty;"
            " every state needs a valid action, such as one that does nothing"
        )
