"""A Gaussian process over a buffer of fixed size, of which a part is filled.

tinygp's Matern 5/2 kernel with a length for each dimension (ARD). Rows that are not
filled are made independent of all others, with variance 1 and value 0, so that they
change neither the posterior nor, but for a constant, the likelihood.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from m3jax import base

LEAST_NOISE = 1e-4
"""Variance of the noise, over that of the values: what float32 bears."""
_TINY = 1e-12
"""Of a squared distance, so that its root has a slope where two points are one."""


class Hyper(NamedTuple):
    """Logarithms of what the kernel is made of.

    Attributes:
      lengths: ``[d]``, of the dimensions.
      amplitude: variance of the process.
      noise: variance of the noise, above `LEAST_NOISE`.
    """

    lengths: base.Array
    amplitude: base.Array
    noise: base.Array


class Conditioned(NamedTuple):
    """A process that has seen its points; of N rows.

    Attributes:
      hyper: of the kernel.
      points: ``[N, d]``.
      filled: bool ``[N]``, rows that count.
      factor: ``[N, N]``, lower triangle L with ``L L^T`` the covariance.
      residual: ``[N]``, ``L^-1`` times the values less the mean.
      mean: of the process.
    """

    hyper: Hyper
    points: base.Array
    filled: base.Array
    factor: base.Array
    residual: base.Array
    mean: base.Array


class Posterior(NamedTuple):
    """At Q points, ``[Q]`` each."""

    mean: base.Array
    std: base.Array


def prior(num_dims: int) -> Hyper:
    """Where fits start."""
    return Hyper(
        jnp.full(num_dims, jnp.log(0.6)), jnp.float32(0.0), jnp.log(jnp.float32(1e-3))
    )


def posterior(
    hyper: Hyper,
    points: base.Array,
    values: base.Array,
    filled: base.Array,
    queries: base.Array,
    fit_mean: bool = False,
) -> Posterior:
    """What is known at other points.

    Args:
      hyper: of the kernel.
      points: ``[N, d]``.
      values: ``[N]``, around 0.
      filled: bool ``[N]``, rows that count.
      queries: ``[Q, d]``.
      fit_mean: the process has the constant mean of the greatest likelihood, else 0.

    Returns:
      Of the function without noise.

    Raises:
      ImportError: tinygp is not installed.
    """
    return predict(condition(hyper, points, values, filled, fit_mean), queries)


def condition(
    hyper: Hyper,
    points: base.Array,
    values: base.Array,
    filled: base.Array,
    fit_mean: bool = False,
) -> Conditioned:
    """What `predict` needs to know; arguments are those of `posterior`."""
    process = _process(hyper, points, filled)
    mean = _mean(process, values, filled) if fit_mean else jnp.float32(0.0)
    residual = process.solver.solve_triangular(jnp.where(filled, values - mean, 0.0))
    factor = process.solver.scale_tril
    return Conditioned(hyper, points, filled, factor, residual, mean)


def predict(known: Conditioned, queries: base.Array) -> Posterior:
    """`posterior` at ``[Q, d]``, after the work that all queries share."""
    hyper, points, filled, factor, residual, mean = known
    cross = _kernel(hyper)(points, queries) * filled[:, None]
    inner = jax.scipy.linalg.solve_triangular(factor, cross, lower=True)
    spread = jnp.exp(hyper.amplitude) - jnp.sum(inner * inner, axis=0)
    return Posterior(mean + residual @ inner, jnp.sqrt(jnp.maximum(spread, 1e-12)))


def log_density(
    hyper: Hyper,
    points: base.Array,
    values: base.Array,
    filled: base.Array,
    fit_mean: bool = False,
) -> base.Array:
    """Log marginal likelihood of the filled rows, plus that of the priors."""
    process = _process(hyper, points, filled)
    if fit_mean:
        values = values - _mean(process, values, filled)
    fit = process.log_probability(jnp.where(filled, values, 0.0))
    # Rows that are not filled: log N(0; 0, 1) each.
    fit = fit + 0.5 * jnp.log(2 * jnp.pi) * jnp.sum(~filled)
    return fit + log_prior(hyper)


def log_prior(hyper: Hyper) -> base.Array:
    """Log density of the priors, but for a constant.

    Log-normal: lengths around 0.6 edges of the cube (standard deviation of the
    logarithm 0.7), the amplitude around 1 (1), the noise around 0.001 (1). They were
    chosen on Hartmann's function of 6 dimensions, where the wide prior of lengths
    around 10 edges of Hvarfner, Hellsten and Nardi (ICML 2024) found less within 50
    evaluations.
    """
    lengths = jnp.sum((hyper.lengths - jnp.log(0.6)) ** 2) / 0.5
    return -0.5 * (lengths + hyper.amplitude**2 + (hyper.noise + 7.0) ** 2)


def fit(
    hyper: Hyper,
    points: base.Array,
    values: base.Array,
    filled: base.Array,
    num_steps: int,
    learning_rate: float = 0.1,
    fit_mean: bool = False,
) -> Hyper:
    """Climbs `log_density` by Adam from where the last fit ended.

    Args:
      hyper: where to begin.
      points: ``[N, d]``.
      values: ``[N]``, standardised.
      filled: bool ``[N]``.
      num_steps: of the climb.
      learning_rate: in logarithms.
      fit_mean: as of `posterior`.
    """
    adam = optax.adam(learning_rate)
    slope = jax.grad(lambda h: -log_density(h, points, values, filled, fit_mean))

    def step(_, carry):
        hyper, state = carry
        change, state = adam.update(slope(hyper), state)
        hyper = optax.apply_updates(hyper, change)
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -7.0, 7.0), hyper), state

    return jax.lax.fori_loop(0, num_steps, step, (hyper, adam.init(hyper)))[0]


def _mean(process, values: base.Array, filled: base.Array) -> base.Array:
    """``1^T K^-1 y / 1^T K^-1 1``: the constant mean of the greatest likelihood.

    Values that were looked for lie together and far below the others, so their plain
    mean is no guess at what is where nobody looked; this one weighs them as one.
    """
    ones = process.solver.solve_triangular(jnp.where(filled, 1.0, 0.0))
    told = process.solver.solve_triangular(jnp.where(filled, values, 0.0))
    return ones @ told / jnp.maximum(ones @ ones, _TINY)


def _process(hyper: Hyper, points: base.Array, filled: base.Array):
    """The process over the buffer, whose empty rows stand alone."""
    kernel = _kernel(hyper)
    both = filled[:, None] & filled[None, :]
    noise = jnp.where(filled, jnp.exp(hyper.noise) + LEAST_NOISE, 1.0)
    covariance = jnp.where(both, kernel(points, points), 0.0) + jnp.diag(noise)
    return _tinygp().GaussianProcess(
        kernel,
        points,
        diag=noise,
        mean_value=jnp.zeros(points.shape[0]),
        covariance_value=covariance,
    )


def _kernel(hyper: Hyper):
    """Matern 5/2 with a length for each dimension."""
    tinygp = _tinygp()
    scaled = tinygp.transforms.Linear(
        jnp.exp(-hyper.lengths),
        tinygp.kernels.Matern52(distance=_distance()),
    )
    return jnp.exp(hyper.amplitude) * scaled


@functools.cache
def _distance():
    """Euclidean, smooth at 0.

    tinygp's own chooses between two branches at 0, and the gradient of that is NaN
    where XLA compiles for speed of compilation with most optimisations off.
    """
    tinygp = _tinygp()

    class Smooth(tinygp.kernels.distance.Distance):
        def distance(self, one, two):
            return jnp.sqrt(jnp.sum(jnp.square(one - two)) + _TINY)

    return Smooth()


def _tinygp():
    """tinygp, imported where it is used only."""
    try:
        import tinygp
    except ImportError as error:
        raise ImportError(
            "Bayesian optimisation needs tinygp: pip install 'm3jax[bayesopt]'"
        ) from error
    return tinygp
