"""Modality activation sparsity: one number that says how dispensable a modality is.

MSAO (2024), equations 4 to 7, with two departures that `Config` can undo: relevance is
taken relative to the most relevant modality, and what counts over time is redundancy.
As printed, two equally vital modalities would get 0.5 each, and motion would make a
clip more dispensable.
"""

import dataclasses

import jax
import jax.numpy as jnp

from m3jax import base

NORMALISATIONS = ("relative", "softmax")


@dataclasses.dataclass
class Config:
    """Settings of `sparsity`.

    Attributes:
      spatial_weight: lambda of the spatial sparsity.
      temporal_weight: lambda of the temporal redundancy; both together are at most 1.
      normalisation: "relative" divides relevance by that of the most relevant modality;
        "softmax" is the printed one.
      literal: take the printed novelty ``gamma = 1 - sim`` in place of redundancy.
    """

    spatial_weight: float = 0.6
    temporal_weight: float = 0.4
    normalisation: str = "relative"
    literal: bool = False

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        weights = self.spatial_weight, self.temporal_weight
        if min(weights) < 0.0 or sum(weights) > 1.0 + 1e-9:
            raise ValueError(
                "system.mas.spatial_weight and temporal_weight must be 0 or more"
                f" and at most 1 together, got {weights}"
            )
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(
                f"system.mas.normalisation is {self.normalisation!r}; choose"
                f" from {NORMALISATIONS}"
            )


def relevance(scores: base.Array, normalisation: str = "relative") -> base.Array:
    """What share of the answer each modality has (after equation 6).

        softmax:   beta_m = exp(alpha_m) / sum_n exp(alpha_n)
        relative:  beta_m / max_n beta_n = exp(alpha_m - max_n alpha_n)

    Args:
      scores: [..., M], alpha.
      normalisation: one of ``NORMALISATIONS``.

    Returns:
      [..., M], in [0, 1].

    Example:
      >>> relevance(jnp.array([2.0, 2.0])).tolist()
      [1.0, 1.0]
      >>> relevance(jnp.array([2.0, 2.0]), "softmax").tolist()
      [0.5, 0.5]
    """
    if normalisation == "softmax":
        return jax.nn.softmax(scores, axis=-1)
    return jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))


def spatial_sparsity(importance: base.Array, threshold: base.Array) -> base.Array:
    """The share of patches that matter less than a threshold (equation 4).

    Args:
      importance: [..., H, W], in [0, 1].
      threshold: tau_s, scalar.

    Returns:
      [...], rho.
    """
    return jnp.mean(importance < threshold, axis=(-2, -1), dtype=jnp.float32)


def calibrate(importance: base.Array, percentile: float = 70.0) -> base.Array:
    """The threshold tau_s that so many per cent of a calibration set's patches miss.

    Args:
      importance: of all patches of the set, any shape; MSAO takes 500 samples.
      percentile: 0 to 100.

    Returns:
      Scalar, linear between the two nearest patches.

    Example:
      >>> round(float(calibrate(jnp.arange(11.0))), 3)
      7.0
    """
    return jnp.percentile(jnp.asarray(importance).ravel(), percentile)


def sparsity(
    config: Config,
    relevance: base.Array,
    spatial: base.Array | float = 0.0,
    similarity: base.Array | float = 0.0,
) -> base.Array:
    """MAS, how dispensable a modality is (equation 7).

        MAS_m = 1 - beta_m (1 - lambda_s rho_m - lambda_t r_m)

    with redundancy ``r = 1 - gamma = sim``; literal: ``r = gamma = 1 - sim``.

    Args:
      config: the weights.
      relevance: [...], beta in [0, 1], of `relevance`.
      spatial: rho in [0, 1]; 0 for a modality without space.
      similarity: mean similarity of neighbouring frames in [0, 1]; 0 for a modality
        without time (literal: 1, which is no novelty).

    Returns:
      [...], in [0, 1]: 0 must be kept as it is, 1 may be left out.

    Example:
      >>> float(sparsity(Config(), jnp.float32(1.0)))
      0.0
    """
    over_time = 1.0 - similarity if config.literal else similarity
    saved = config.spatial_weight * spatial + config.temporal_weight * over_time
    return 1.0 - relevance * (1.0 - saved)
