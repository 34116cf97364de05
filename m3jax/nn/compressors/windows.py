"""Compressors that go by place alone, whatever the tokens hold."""

import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.nn.compressors import contract
from m3jax.ops import masks, numbers


class Identity(contract.Compressor):
    """Keeps every token.

    Attributes:
      num_tokens: if given, the number of tokens the input must have.
    """

    num_tokens: int | None = None

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Returns the input, zero where masked."""
        length = tokens.shape[1]
        if self.num_tokens not in (None, length):
            raise ValueError(
                f"The identity compressor was asked for {self.num_tokens} tokens of"
                f" {length}: set num_tokens to {length} or choose another compressor."
            )
        contract.check_inputs(tokens, mask, length)
        slots = jnp.where(mask, jnp.arange(length), contract.NO_SLOT)
        return contract.Compressed(
            masks.keep(tokens, mask), mask, slots, mask.astype(jnp.float32)
        )


class Stride(contract.Compressor):
    """Keeps evenly spaced tokens, the first of all and then every (L / M)-th.

    Where M does not divide L, steps are rounded down: places are ``floor(i L / M)``.

    Attributes:
      num_tokens: tokens to keep, M.
    """

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Returns the tokens at these places and their mask."""
        contract.check_inputs(tokens, mask, self.num_tokens)
        length = tokens.shape[1]
        places = np.arange(self.num_tokens) * length // self.num_tokens
        kept = mask[:, places]
        slots = np.full(length, contract.NO_SLOT, np.int32)
        slots[places] = np.arange(self.num_tokens)
        return contract.Compressed(
            masks.keep(tokens[:, places], kept),
            kept,
            jnp.where(mask, slots, contract.NO_SLOT),
            kept.astype(jnp.float32),
        )


class WindowPool(contract.Compressor):
    """Mean over the valid tokens of each of ``num_tokens`` equal windows.

    With a vision transformer in Z order a window of four tokens is a block of 2 x 2
    patches.

    Attributes:
      num_tokens: number of windows, M; divides the input's L.
    """

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Returns the means; a window with no valid token is masked and zero."""
        tokens = numbers.as_float(tokens)
        window = _window_size(tokens, mask, self.num_tokens)
        batch, length, dim = tokens.shape
        windows = masks.keep(tokens, mask).reshape(batch, self.num_tokens, window, dim)
        counts = mask.reshape(batch, self.num_tokens, window).sum(axis=-1)
        divisors = jnp.maximum(counts, 1).astype(tokens.dtype)
        return contract.Compressed(
            windows.sum(axis=2) / divisors[..., None],
            counts > 0,
            jnp.where(mask, jnp.arange(length) // window, contract.NO_SLOT),
            counts.astype(jnp.float32),
        )


def _window_size(tokens: base.Array, mask: base.Array, num_tokens: int) -> int:
    """Tokens per window, where windows fill the input exactly."""
    contract.check_inputs(tokens, mask, num_tokens)
    length = tokens.shape[1]
    if length % num_tokens:
        choices = [n for n in range(1, length + 1) if length % n == 0]
        raise ValueError(
            f"num_tokens={num_tokens} does not divide the {length} input tokens into"
            f" equal windows; choose one of {choices}."
        )
    return length // num_tokens
