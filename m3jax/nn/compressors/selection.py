"""Compressors that keep some tokens as they are and drop the others."""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.compressors import contract
from m3jax.ops import masks, numbers


def select(
    tokens: base.Array,
    mask: base.Array,
    scores: base.Array,
    num_tokens: int,
    progressive: bool = False,
) -> contract.Compressed:
    """Keeps the valid tokens of the highest scores.

    Of equal scores the earlier token wins. Valid tokens stand in front; where fewer
    than ``num_tokens`` are valid, all are kept. The choice is hard: gradients flow
    through the tokens that are kept, none to ``scores``.

    Args:
      tokens: [B, L, D].
      mask: bool [B, L], True where a token is valid.
      scores: [B, L], real, integers of any kind or bool; what padding holds does not
        matter, and NaN is the lowest score there is.
      num_tokens: tokens to keep, M.
      progressive: most important first, so that every prefix is the best of its length
        (see `keep`); else the order of the input is kept.

    Returns:
      The tokens and where the input went.

    Raises:
      ValueError: shapes disagree.

    Example:
      >>> z = jnp.array([[[10.0], [20.0], [30.0], [40.0]]])
      >>> mask, scores = jnp.ones((1, 4), bool), jnp.array([[3, 0, 9, 5]])
      >>> best = jax.jit(select, static_argnums=3)
      >>> best(z, mask, scores, 3).tokens.ravel().tolist()
      [10.0, 30.0, 40.0]
    """
    contract.check_inputs(tokens, mask, num_tokens)
    if jnp.shape(scores) != mask.shape:
        raise ValueError(
            f"scores must be one for each token, {list(mask.shape)}, got"
            f" {list(jnp.shape(scores))}."
        )
    places, kept = best_places(mask, scores, num_tokens, progressive)
    length = tokens.shape[1]
    return contract.Compressed(
        masks.keep(contract.take(tokens, places), kept),
        kept,
        _slots(places, length),
        kept.astype(jnp.float32),
    )


def best_places(
    mask: base.Array,
    scores: base.Array,
    num_tokens: int,
    progressive: bool = False,
    counts: base.Array | None = None,
) -> tuple[base.Array, base.Array]:
    """Where the valid tokens of the highest scores stand; see `select`.

    Args:
      mask: bool [B, L], True where a token is valid.
      scores: [B, L], real, integers of any kind or bool.
      num_tokens: tokens to keep, M, at most L.
      progressive: most important first; else in the order of the input.
      counts: int [B], keep so many of them only; None: all M.

    Returns:
      ``(places, kept)``: int32 [B, M], L where nothing is kept, which comes last; and
      bool [B, M].
    """
    length = mask.shape[1]
    most = jnp.sum(mask, axis=1, keepdims=True)
    if counts is not None:
        most = jnp.minimum(most, counts[:, None])
    kept = jnp.arange(num_tokens) < most
    places = jnp.where(kept, _best_first(scores, mask)[:, :num_tokens], length)
    if not progressive:
        places = jnp.sort(places, axis=1)  # the free slots, at L, stay behind
    return places, kept


class Random(contract.Compressor):
    """Keeps a random subset of the valid tokens, each of its size equally likely.

    Attributes:
      num_tokens: tokens to keep, M.
      progressive: in random order, so that every prefix is a random subset as well;
        else in the order of the input.
    """

    progressive: bool = False

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Draws another subset for each example; ``key`` is needed."""
        if key is None:
            raise ValueError(
                "The random compressor draws its tokens: call it with key=, a key of"
                " its own for each batch."
            )
        drawn = jax.random.uniform(key, mask.shape)
        return select(tokens, mask, drawn, self.num_tokens, self.progressive)


class TopKNorm(contract.Compressor):
    """Keeps the tokens of the largest Euclidean norm.

    After a LayerNorm without scale all norms are about equal: it suits tokens from
    before it, or with a learned scale.

    Attributes:
      num_tokens: tokens to keep, M.
      progressive: largest norm first; else in the order of the input.
    """

    progressive: bool = False

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Keeps the M largest; ties go to the earlier token."""
        # Their order has no scale, but their squares would overflow and vanish.
        x = masks.keep(numbers.as_float(tokens, jnp.float32), mask)
        x = x * numbers.unit_scale(numbers.peak(x, axis=(1, 2)))[:, None, None]
        squares = jnp.sum(jnp.square(x), axis=-1)
        return select(tokens, mask, squares, self.num_tokens, self.progressive)


class TopKAttention(contract.Compressor):
    """Keeps the tokens of the highest scores: those that others attend to most.

    ``layers.attention_received`` makes the scores from the queries and keys of an
    encoder's layer, over all its tokens, or from a class token alone as in EViT (Liang
    et al. 2022) by giving only its query. Any other importance does as well.

    Attributes:
      num_tokens: tokens to keep, M.
      progressive: highest score first; else in the order of the input.
    """

    progressive: bool = False

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Keeps the M highest; ties go to the earlier token; ``scores`` are needed."""
        if scores is None:
            raise ValueError(
                "The top_k_attention compressor needs scores= [B, L]: take"
                " layers.attention_received(queries, keys, mask) of an encoder's layer,"
                " or choose top_k_norm."
            )
        return select(tokens, mask, scores, self.num_tokens, self.progressive)


def _best_first(scores: base.Array, mask: base.Array) -> base.Array:
    """Places [B, L] by falling score, padding last whatever its score."""
    falling = _falling(jax.lax.stop_gradient(jnp.asarray(scores)))
    places = jax.lax.broadcasted_iota(jnp.int32, mask.shape, 1)
    return jax.lax.sort((~mask, falling, places), num_keys=2, is_stable=True)[2]


def _falling(scores: base.Array) -> base.Array:
    """Numbers that fall as scores rise; NaN sorts behind them all."""
    if jnp.issubdtype(scores.dtype, jnp.inexact):
        return -scores
    # The negative of an unsigned number wraps round, as does that of the least signed
    # one, and bool has none; the complement, max - x or -1 - x, reverses them all.
    return jnp.invert(scores)


def _slots(places: base.Array, length: int) -> base.Array:
    """The inverse of ``places [B, M]``: the slot of each of L input tokens."""
    batch, num_tokens = places.shape
    slots = jnp.full((batch, length), contract.NO_SLOT)
    rows = jnp.arange(batch)[:, None]
    return slots.at[rows, places].set(jnp.arange(num_tokens), mode="drop")
