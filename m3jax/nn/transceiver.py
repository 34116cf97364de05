"""Learned transmitter and receiver, conditioned on the SNR.

The transmitter turns each token into reals that a link pairs into complex symbols; the
receiver turns what arrives back into tokens. Both may know the SNR and adapt to it,
which one model needs to serve every state of the link (attention-based deep joint
source-channel coding, Xu et al. 2022). The power constraint belongs to the link.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn import layers

# Half points, in dB, of the soft steps that the networks see the SNR through.
_STEPS_DB = np.array([-10.0, 0.0, 10.0, 20.0], np.float32)
NUM_SNR_FEATURES = 1 + len(_STEPS_DB)


def snr_features(snr_db: base.Array) -> base.Array:
    """Bounded features of the SNR, finite with finite gradient from -inf to inf dB.

    The first is ``clip(snr_db, -20, 40) / 20``; the others are ``r / (1 + r)`` for the
    linear ratio ``r`` of the SNR to -10, 0, 10 and 20 dB, taken as a logistic function
    of decibels so that an infinite SNR (no noise) gives one and not inf / inf.

    Args:
      snr_db: [...] in dB; inf means no noise.

    Returns:
      float32 [..., 5].

    Example:
      >>> snr_features(jnp.array([0.0, jnp.inf]))[:, [0, 2]]
      Array([[0. , 0.5],
             [2. , 1. ]], dtype=float32)
    """
    snr_db = jnp.asarray(snr_db, jnp.float32)[..., None]
    level = jnp.clip(snr_db, -20.0, 40.0) / 20.0
    steps = jax.nn.sigmoid((snr_db - _STEPS_DB) * (np.log(10.0) / 10.0))
    return jnp.concatenate([level, steps], axis=-1)


class _SnrModulation(nn.Module):
    """Feature-wise scale and shift from the SNR: ``x * (1 + scale) + shift``."""

    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(self, x, snr_db):
        features = layers.Dense(32, dtype=self.dtype, name="hidden")(
            snr_features(snr_db)
        )
        # Small but not zero: nearly the identity at first, yet every kernel learns.
        coefficients = layers.Dense(
            2 * x.shape[-1],
            kernel_init=nn.initializers.normal(0.02),
            dtype=self.dtype,
            name="coefficients",
        )(nn.gelu(features))
        scale, shift = jnp.split(coefficients[..., None, :], 2, axis=-1)
        return x * (1 + scale) + shift


def _check_snr(x, snr_db):
    if jnp.shape(snr_db) != x.shape[:-2]:
        raise ValueError(
            f"One SNR for each example is expected, shape {list(x.shape[:-2])}, got"
            f" {list(jnp.shape(snr_db))}."
        )


class Transmitter(nn.Module):
    """Maps tokens to real symbols: ``modulate(W LayerNorm(token), snr)``.

    Attributes:
      num_reals: reals for each token, even: two make one complex symbol.
      snr_conditioning: whether the SNR steers the mapping; if not, it is ignored.
      dtype: compute type; the symbols are float32.
    """

    num_reals: int
    snr_conditioning: bool = True
    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(self, tokens: base.Array, snr_db: base.Array) -> base.Array:
        """Encodes tokens.

        Args:
          tokens: [B, L, D].
          snr_db: [B], in dB; inf means no noise.

        Returns:
          float32 [B, L, num_reals], of about unit variance at first.

        Raises:
          ValueError: ``num_reals`` is odd or less than two, or shapes disagree.
        """
        if self.num_reals < 2 or self.num_reals % 2:
            raise ValueError(
                "num_reals must be even and positive, since two reals make one complex"
                f" symbol; got {self.num_reals}."
            )
        _check_snr(tokens, snr_db)
        normed = nn.LayerNorm(dtype=self.dtype, name="norm")(tokens)
        x = layers.Dense(self.num_reals, dtype=self.dtype, name="symbols")(normed)
        if self.snr_conditioning:
            x = _SnrModulation(self.dtype, name="modulation")(x, snr_db)
        return x.astype(jnp.float32)


class Receiver(nn.Module):
    """Maps received reals to tokens, of one of three kinds.

    | kind | mapping |
    |---|---|
    | "residual" | ``modulate(W y, snr) + W2 gelu(modulate(W1 y, snr))`` |
    | "plain" | ``modulate(W y, snr)`` |
    | "mlp" | ``W2 relu(modulate(W1 y, snr))`` |

    The public code of TokCom has "mlp" without conditioning.

    Attributes:
      dim: width of the tokens, D.
      hidden_dim: width of the MLP; "plain" has none.
      snr_conditioning: whether the SNR steers the mapping; if not, it is ignored.
      dtype: compute type.
      kind: "residual", a linear estimate plus what a small MLP adds; "plain" or "mlp",
        either of the two alone.
    """

    dim: int
    hidden_dim: int
    snr_conditioning: bool = True
    dtype: layers.DType = jnp.float32
    kind: str = "residual"

    @nn.compact
    def __call__(self, y: base.Array, snr_db: base.Array) -> base.Array:
        """Decodes received reals.

        Args:
          y: [B, L, num_reals], equalised.
          snr_db: [B], in dB; inf means no noise.

        Returns:
          Tokens [B, L, D].

        Raises:
          ValueError: shapes disagree, or the kind is not known.
        """
        _check_snr(y, snr_db)
        if self.kind == "plain":
            return self._estimate(y, snr_db)
        if self.kind == "mlp":
            return self._mlp(y, snr_db, nn.relu, nn.initializers.lecun_normal())
        if self.kind == "residual":
            # Small: the linear estimate leads at first.
            small = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
            return self._estimate(y, snr_db) + self._mlp(y, snr_db, nn.gelu, small)
        raise ValueError(
            f'Receiver.kind must be "residual", "plain" or "mlp", got {self.kind!r}.'
        )

    def _estimate(self, y, snr_db):
        estimate = layers.Dense(self.dim, dtype=self.dtype, name="linear")(y)
        return self._modulate("linear_modulation", estimate, snr_db)

    def _mlp(self, y, snr_db, activation, out_init):
        hidden = layers.Dense(self.hidden_dim, dtype=self.dtype, name="up")(y)
        hidden = self._modulate("modulation", hidden, snr_db)
        down = layers.Dense(
            self.dim, kernel_init=out_init, dtype=self.dtype, name="down"
        )
        return down(activation(hidden))

    def _modulate(self, name, x, snr_db):
        if not self.snr_conditioning:
            return x
        return _SnrModulation(self.dtype, name=name)(x, snr_db)
