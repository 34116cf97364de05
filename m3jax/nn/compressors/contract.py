"""What every compressor takes and gives, and the way back."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import masks

NO_SLOT = -1
"""The slot of an input token that went nowhere."""


class Compressed(NamedTuple):
    """Tokens after compression, and where the input went.

    Attributes:
      tokens: [B, M, D], zero where masked.
      mask: bool [B, M], True where a token is valid.
      slots: int32 [B, L], which of the M each input token is in; -1 for padding and for
        tokens that were dropped.
      sizes: float32 [B, M], how many input tokens each stands for; 0 where masked.
    """

    tokens: base.Array
    mask: base.Array
    slots: base.Array
    sizes: base.Array


class Compressor(nn.Module):
    """The base of all compressors; one of them writes only `compress`.

    Attributes:
      num_tokens: tokens after compression, M.
    """

    num_tokens: int

    def __call__(
        self,
        tokens: base.Array,
        mask: base.Array,
        *,
        scores: base.Array | None = None,
        key: base.Array | None = None,
    ) -> tuple[base.Array, base.Array]:
        """Compresses, and returns the tokens and their mask only; see `compress`."""
        compressed = self.compress(tokens, mask, scores=scores, key=key)
        return compressed.tokens, compressed.mask

    def compress(
        self,
        tokens: base.Array,
        mask: base.Array,
        *,
        scores: base.Array | None = None,
        key: base.Array | None = None,
    ) -> Compressed:
        """Compresses a batch.

        Args:
          tokens: [B, L, D].
          mask: bool [B, L], True where a token is valid.
          scores: [B, L], importance of each token, higher is more.
          key: random key, for the whole batch.

        Returns:
          The tokens and where the input went.

        Raises:
          ValueError: shapes disagree, or what this compressor needs is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} must define compress")


def check_inputs(tokens: base.Array, mask: base.Array, num_tokens: int) -> None:
    """Checks what a compressor is called with.

    Raises:
      ValueError: shapes or the type of the mask are wrong, or ``num_tokens`` is.
    """
    if tokens.ndim != 3 or mask.shape != tokens.shape[:2] or mask.dtype != jnp.bool_:
        raise ValueError(
            "A compressor expects tokens [B, L, D] and a bool mask [B, L], got"
            f" {list(tokens.shape)} and {mask.dtype} {list(mask.shape)}."
        )
    length = tokens.shape[1]
    if not 1 <= num_tokens <= length:
        raise ValueError(
            f"num_tokens={num_tokens} must be between 1 and the number of input tokens,"
            f" {length}."
        )


def unmerge(
    tokens: base.Array, mask: base.Array, slots: base.Array
) -> tuple[base.Array, base.Array]:
    """Puts tokens back to the places that they came from.

        u_l = z_slots(l),   0 where slots(l) = -1 or its token is masked

    Every place that was merged gets the mean; places that were dropped stay empty.
    With the mask of what arrived over a link, or of what `keep` left, places whose
    token is missing stay empty too. A receiver knows ``slots`` only if they are sent:
    about L log2(M + 1) bits, which no link counts by itself.

    Args:
      tokens: [B, M, D].
      mask: bool [B, M].
      slots: int32 [B, L], of `Compressed`.

    Returns:
      ``(tokens [B, L, D], mask [B, L])``.

    Example:
      >>> z = jnp.array([[[1.0], [4.0]]])
      >>> back, filled = unmerge(z, jnp.ones((1, 2), bool), jnp.array([[0, 0, -1, 1]]))
      >>> back.ravel().tolist(), filled.ravel().tolist()
      ([1.0, 1.0, 0.0, 4.0], [True, True, False, True])
    """
    found = jnp.maximum(slots, 0)
    filled = (slots >= 0) & jnp.take_along_axis(mask, found, axis=1)
    return masks.keep(take(tokens, found), filled), filled


def take(tokens: base.Array, places: base.Array) -> base.Array:
    """``tokens [B, L, D]`` at ``places [B, M]``; a place beyond the end is the last."""
    return jnp.take_along_axis(tokens, places[..., None], axis=1, mode="clip")
