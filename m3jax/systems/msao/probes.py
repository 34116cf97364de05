"""The probes: small networks that look at early features and at the question.

MSAO (2024), section 4.1. What they cost is counted in ``counts``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers
from m3jax.ops import hashing, masks

_SPATIAL_GAIN = 10.0
"""Of the logits of patches: one layer learns too slowly beside a whole network."""
REFERENCE = "text"
"""The question, which every answer needs; others are measured against it."""


class SpatialHead(nn.Module):
    """How much each patch matters (equation 3), before the sigmoid.

        M = sigmoid(Conv1x1(AvgPool(F)))

    Pooling has stride 1 and SAME padding, which is not averaged in, so the map has one
    entry for each patch. Pooled features are brought to unit scale, as those of early
    layers have any. It starts by keeping nearly everything.

    Attributes:
      pool: side of the pooling window.
    """

    pool: int = 3

    @nn.compact
    def __call__(self, features: base.Array) -> base.Array:
        """Maps early features [B, H, W, D] to logits float32 [B, H, W]."""
        window = (self.pool, self.pool)
        pooled = nn.avg_pool(features, window, (1, 1), "SAME", count_include_pad=False)
        return _logit(_unit(pooled), "importance", start=2.0, gain=_SPATIAL_GAIN)


class Relevance(nn.Module):
    """How much the answer depends on a modality (equation 6).

        alpha_m = log sigmoid(MLP_m([p; z_m])),    alpha_text = 0

    The question itself is the reference that no modality exceeds. So relevance relative
    to the most relevant modality is ``sigmoid(MLP_m)``: that of all modalities may be 1
    at once, or 0 at once, for a question that needs neither picture nor sound. Each
    modality has a network of its own, as their features have nothing in common. It
    starts undecided, so that at first each modality is dropped now and then.

    Attributes:
      hidden_dim: width between the two layers.
    """

    hidden_dim: int = 32

    @nn.compact
    def __call__(self, prompt: base.Array, compressed: base.Array) -> base.Array:
        """The logit float32 [B] from ``p [B, D]`` and ``z_m [B, D_m]``."""
        both = [_unit(part) for part in (prompt, compressed)]
        both = jnp.concatenate(both, axis=-1)
        hidden = nn.gelu(layers.Dense(self.hidden_dim, name="up")(both))
        return _logit(hidden, "down", start=0.0)


def _unit(x: base.Array) -> base.Array:
    """``x [..., D]`` at mean 0 and variance 1: early features have any scale."""
    return nn.LayerNorm(use_bias=False, use_scale=False)(x)


def _logit(x: base.Array, name: str, start: float, gain: float = 1.0) -> base.Array:
    """One number for each of ``x [..., D]``, at first about ``start``.

    Steps of the parameters move it by ``gain`` times as much.
    """
    out = layers.Dense(
        1,
        kernel_init=nn.initializers.variance_scaling(
            gain**-2, "fan_in", "truncated_normal"
        ),
        bias_init=nn.initializers.constant(start / gain),
        name=name,
    )
    return gain * out(x).astype(jnp.float32)[..., 0]


def scores(logits: dict[str, base.Array]) -> tuple[tuple[str, ...], base.Array]:
    """Names of the modalities, the question first, and their alpha [B, M]."""
    alphas = [jax.nn.log_sigmoid(logit) for logit in logits.values()]
    alphas = [jnp.zeros_like(alphas[0]), *alphas]
    return (REFERENCE, *logits), jnp.stack(alphas, axis=-1)


def prompt(words: base.Array, mask: base.Array) -> base.Array:
    """p, the mean of the question's words.

    Args:
      words: embeddings [B, Q, D].
      mask: bool [B, Q], True for words.

    Returns:
      [B, D].
    """
    counts = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    return jnp.sum(masks.keep(words, mask), axis=1) / counts


def similarity(features: base.Array, planes: base.Array) -> base.Array:
    """How alike neighbouring frames are, by hashing (equation 5).

    Args:
      features: [B, T, D], of each frame.
      planes: [K, D], of ``hashing.random_planes``.

    Returns:
      float32 [B, T - 1], in [0, 1]; 1 for a frame that repeats the one before.
    """
    bits = hashing.sign_bits(features, planes)
    return hashing.agreement(bits[:, 1:], bits[:, :-1])
