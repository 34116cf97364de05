"""Stage 1 of TokCom: what the tokens of two modalities are compared by.

A head pools the tokens of one modality to a vector; the loss compares the vectors of a
batch, with a temperature that it learns. Neither is needed after the alignment.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import layers
from m3jax.ops import contrastive, masks

LOSSES = ("symmetric", "one_way", "sigmoid", "literal")


class AlignmentHead(nn.Module):
    """Pools tokens to one vector: the mean of the valid ones, projected if asked.

        e = mean_l token_l    or    e = W LayerNorm(mean_l token_l)

    Without a projection the tokens themselves have to come to where those of the other
    modality lie, which is what a decoder that reads them wants; with one they have to
    tell the same, wherever they lie (Chen et al. 2020).

    Attributes:
      num_features: width of the vector; None compares the pooled tokens as they are.
      num_pooled: how many tokens, from the first, are pooled; None: all. The public
        code of TokCom pools 1 of a picture, 2 of a sound and all of a text.
      dtype: compute type of the projection.
    """

    num_features: int | None = None
    num_pooled: int | None = None
    dtype: layers.DType = jnp.float32

    @nn.compact
    def __call__(self, tokens: base.Array, mask: base.Array) -> base.Array:
        """Pools ``tokens [B, L, D]`` where ``mask [B, L]`` is True.

        Returns:
          float32 [B, D] or [B, num_features]; the pooled part is 0 if no token is
          valid.

        Raises:
          ValueError: shapes disagree.
        """
        if tokens.ndim != 3 or mask.shape != tokens.shape[:2]:
            raise ValueError(
                "An alignment head expects tokens [B, L, D] and mask [B, L], got"
                f" {list(tokens.shape)} and {list(mask.shape)}."
            )
        tokens, mask = tokens[:, : self.num_pooled], mask[:, : self.num_pooled]
        count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        total = jnp.sum(masks.keep(tokens, mask).astype(jnp.float32), axis=1)
        pooled = total / count
        if self.num_features is None:
            return pooled
        normed = nn.LayerNorm(dtype=self.dtype, name="norm")(pooled)
        dense = layers.Dense(self.num_features, dtype=self.dtype, name="projection")
        return dense(normed).astype(jnp.float32)


class AlignmentLoss(nn.Module):
    """A contrastive loss with its learnable temperature.

    The formulas are in `m3jax.ops.contrastive`.

    Attributes:
      kind: "symmetric" (CLIP), "one_way" (CPC), "sigmoid" (SigLIP) or "literal" (the
        public code of TokCom: one way, temperature 0.01, raw exponentials, no masks).
      max_scale: upper bound of the inverse temperature; the lower one is 1.
    """

    kind: str = "symmetric"
    max_scale: float = 100.0

    @nn.compact
    def __call__(
        self,
        a: base.Array,
        b: base.Array,
        valid: base.Array | None = None,
        same: base.Array | None = None,
    ) -> tuple[base.Array, base.Metrics]:
        """Compares ``a [B, D]`` with ``b [B, D]``, where ``b[i]`` belongs to ``a[i]``.

        Args:
          a: embeddings of what was received; of one-way losses, the queries.
          b: embeddings of the text.
          valid: bool [B], False for padding examples; None: all.
          same: bool [B, B], True for examples that say the same; None: none.

        Returns:
          The loss in nats, and ``{"temperature": scalar}``.

        Raises:
          ValueError: the kind is not known, shapes disagree, or "literal" is given a
            mask.
        """
        if self.kind not in LOSSES:
            raise ValueError(f"kind must be one of {LOSSES}, got {self.kind!r}.")
        cosines = contrastive.similarity(a, b, valid)
        if self.kind == "literal":
            return self._literal(cosines, valid, same)
        sigmoid = self.kind == "sigmoid"
        first = math.log(10.0) if sigmoid else contrastive.INITIAL_LOG_SCALE
        log_scale = self._number("log_scale", first)
        scale = contrastive.scale(log_scale, high=self.max_scale)
        logits = scale * cosines
        if sigmoid:
            logits += self._number("bias", -10.0)
        loss_fn = {
            "symmetric": contrastive.symmetric_info_nce,
            "one_way": contrastive.info_nce,
            "sigmoid": contrastive.sigmoid_loss,
        }[self.kind]
        return loss_fn(logits, valid, same), {"temperature": 1 / scale}

    def _number(self, name, first):
        return self.param(name, nn.initializers.constant(first), (), jnp.float32)

    def _literal(self, cosines, valid, same):
        if valid is not None or same is not None:
            raise ValueError(
                "the literal loss knows no masks: leave out valid and same, or choose"
                ' kind="one_way".'
            )
        temperature = 0.01
        loss = contrastive.literal_info_nce(cosines, temperature)
        return loss, {"temperature": jnp.float32(temperature)}
