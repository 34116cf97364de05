"""Token merging: similar tokens become their mean (ToMe, Bolya et al. 2023)."""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn.compressors import contract
from m3jax.ops import masks, numbers


def merge_step(
    tokens: base.Array,
    mask: base.Array,
    sizes: base.Array,
    num_tokens: int,
    metric: base.Array | None = None,
    threshold: float | None = None,
) -> contract.Compressed:
    """One step of bipartite soft matching (Bolya et al. 2023, section 3).

    1. Valid tokens go in turn to two sets, A and B.
    2. Each token of A is matched with the token of B of the highest cosine similarity.
    3. The r most similar pairs merge, each to the mean by size,

           z = sum_i s_i z_i / sum_i s_i,   s = sum_i s_i

       over all that go to the same token of B. r is what it takes to fit into
       ``num_tokens``, counting valid tokens only: padding goes first.
    4. The order of the input is kept, a merged token in the place of its token of B,
       and valid tokens stand in front. (The published code lines up A, then B.)

    Who merges is a hard choice: gradients flow through the means, none to ``metric``.

    Args:
      tokens: [B, L, D].
      mask: bool [B, L], True where a token is valid.
      sizes: [B, L], how many tokens each stands for already; ones at first.
      num_tokens: tokens after the step, M; at least half of L, rounded up.
      metric: [B, L, E], what similarity is taken of, such as the keys of an attention
        layer averaged over its heads; None: the tokens.
      threshold: also merge all pairs of a similarity above this, so that an example
        that repeats itself fills fewer slots; None: none.

    Returns:
      The tokens and where the input went.

    Raises:
      ValueError: shapes disagree, or ``num_tokens`` is too small for one step.
    """
    _check_step(tokens, mask, sizes, num_tokens, metric)
    tokens = numbers.as_float(tokens)
    similar = jax.lax.stop_gradient(tokens if metric is None else metric)
    slots = _match(masks.keep(similar, mask), mask, num_tokens, threshold)
    return _pool(tokens, mask, sizes, slots, num_tokens)


class TokenMerging(contract.Compressor):
    """Merges similar tokens step by step until ``num_tokens`` are left.

    Attributes:
      num_tokens: tokens after compression, M.
      merges_per_step: r, how many a step merges; None: half of its tokens, which takes
        the fewest steps. Smaller steps choose better and cost more.
      threshold: cosine similarity above which a step merges more than r, see
        `merge_step`. With ``num_tokens`` of the input's length it alone decides.

    Example:
      >>> z = jnp.array([[[1.0, 0.0], [0.0, 1.0], [0.1, 1.0], [1.0, 0.1]]])
      >>> merge = jax.jit(lambda *x: TokenMerging(2).apply({}, *x, method="compress"))
      >>> merge(z, jnp.ones((1, 4), bool)).slots.tolist()
      [[1, 0, 0, 1]]
    """

    merges_per_step: int | None = None
    threshold: float | None = None

    def compress(self, tokens, mask, *, scores=None, key=None):
        """Returns the merged tokens; their sizes sum to the number of valid ones."""
        contract.check_inputs(tokens, mask, self.num_tokens)
        slots, sizes = None, mask.astype(jnp.float32)
        for length in self._lengths(tokens.shape[1]):
            step = merge_step(tokens, mask, sizes, length, threshold=self.threshold)
            tokens, mask, sizes = step.tokens, step.mask, step.sizes
            slots = step.slots if slots is None else _follow(slots, step.slots)
        return contract.Compressed(tokens, mask, slots, sizes)

    def _lengths(self, length: int) -> list[int]:
        """Tokens after each step; at least one step, which also orders the slots."""
        if self.merges_per_step is not None and self.merges_per_step < 1:
            raise ValueError(
                f"merges_per_step must be at least 1 or None, got"
                f" {self.merges_per_step}."
            )
        lengths = []
        while length > self.num_tokens:
            most = min(self.merges_per_step or length, length // 2)
            length = max(length - most, self.num_tokens)
            lengths.append(length)
        return lengths or [length]


def size_bias(sizes: base.Array) -> base.Array:
    """Bias of the logits that lets a merged token weigh as much as what it stands for.

    Proportional attention (Bolya et al. 2023, eq. 1), which equals attention over the
    merged token repeated ``s`` times:

        A = softmax(Q K^T / sqrt(d) + log s)

    Args:
      sizes: [B, M], of `Compressed`; 0 where masked.

    Returns:
      float32 [B, 1, M], for ``layers.attention(..., bias=)``; 0 where the size is 0,
      since such keys are for the mask to hide.
    """
    sizes = jnp.asarray(sizes, jnp.float32)
    return jnp.log(jnp.where(sizes <= 0, 1.0, sizes))[:, None, :]


def _check_step(tokens, mask, sizes, num_tokens, metric):
    contract.check_inputs(tokens, mask, num_tokens)
    length = tokens.shape[1]
    if num_tokens < length - length // 2:
        raise ValueError(
            f"One step merges at most half of {length} tokens, so num_tokens="
            f"{num_tokens} must be at least {length - length // 2}: take more steps, or"
            " the compressor TokenMerging."
        )
    for name, x in (("sizes", sizes), ("metric", metric)):
        if x is not None and x.shape[:2] != mask.shape:
            raise ValueError(
                f"{name} must be one for each token, {list(mask.shape)}, got"
                f" {list(x.shape)}."
            )


def _match(metric, mask, num_tokens, threshold):
    """The slot [B, L] that each token goes to."""
    # Valid tokens in front, so that every second one is in B wherever padding is.
    order = jnp.argsort(~mask, axis=1, stable=True)
    counts = jnp.sum(mask, axis=1, keepdims=True)
    slots = _match_front(contract.take(metric, order), counts, num_tokens, threshold)
    back = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    slots = jnp.take_along_axis(slots, back, axis=1)
    return jnp.where(mask, slots, contract.NO_SLOT)


def _match_front(metric, counts, num_tokens, threshold):
    """As `_match`, for ``counts [B, 1]`` valid tokens in front of the padding."""
    batch, length, _ = metric.shape
    pairs = (length + 1) // 2
    metric = jnp.pad(_unit(metric), ((0, 0), (0, 2 * pairs - length), (0, 0)))
    similarity = jnp.einsum("bie,bje->bij", metric[:, ::2], metric[:, 1::2])
    in_b = 2 * jnp.arange(pairs) + 1 < counts
    similarity = jnp.where(in_b[:, None], similarity, -jnp.inf)
    best, partner = similarity.max(axis=2), similarity.argmax(axis=2)
    merged = _merged(best, counts, num_tokens, threshold)
    # From pairs back to the sequence: only tokens of A, at even places, move.
    merged = jnp.stack([merged, jnp.zeros_like(merged)], axis=2)
    merged = merged.reshape(batch, 2 * pairs)
    target = jnp.repeat(2 * partner + 1, 2, axis=1)
    stays = jnp.cumsum(~merged, axis=1) - 1
    moves = jnp.take_along_axis(stays, target, axis=1)
    return jnp.where(merged, moves, stays)[:, :length]


def _merged(best, counts, num_tokens, threshold):
    """Which tokens of A merge, bool [B, L / 2], given their best similarity."""
    in_a = 2 * jnp.arange(best.shape[1]) < counts
    best = jnp.where(in_a, best, -jnp.inf)
    num_merges = counts - num_tokens
    if threshold is not None:
        similar = jnp.sum(best > threshold, axis=1, keepdims=True)
        num_merges = jnp.maximum(num_merges, similar)
    order = jnp.argsort(-best, axis=1, stable=True)
    return jnp.argsort(order, axis=1) < num_merges


def _unit(x):
    """Vectors of length one, at least float32, of any scale; zero stays zero."""
    x = numbers.as_float(x, jnp.float32)
    x = x * numbers.unit_scale(numbers.peak(x, axis=-1))[..., None]
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, jnp.finfo(x.dtype).tiny))


def _pool(tokens, mask, sizes, slots, num_tokens):
    """Means by size over the tokens of each slot."""
    dtype = jnp.promote_types(tokens.dtype, jnp.float32)
    sizes = masks.keep(sizes, mask).astype(dtype)
    # A product with zeros and ones: quick, and the same bits on every run, where
    # scattered sums on accelerators depend on who comes first.
    members = (slots[:, None] == jnp.arange(num_tokens)[:, None]).astype(dtype)
    weights = members * sizes[:, None]
    totals = weights.sum(axis=2)
    sums = jnp.einsum(
        "bml,bld->bmd",
        weights,
        masks.keep(tokens, mask).astype(dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
    means = sums / jnp.where(totals > 0, totals, 1.0)[..., None]
    return contract.Compressed(means.astype(tokens.dtype), totals > 0, slots, totals)


def _follow(slots, next_slots):
    """Slots after two steps."""
    found = jnp.take_along_axis(next_slots, jnp.maximum(slots, 0), axis=1)
    return jnp.where(slots >= 0, found, contract.NO_SLOT)
