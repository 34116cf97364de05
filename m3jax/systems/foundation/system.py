"""Pretraining: encoders and decoder in one place, with no link between.

Not a paper's method but what the papers take for granted. The loss is that of the
answer, plus that of naming what each patch shows: attention by question is learnt
slowly, and dense labels teach the encoder what there is to attend to.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import compressors, foundation, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses


@dataclasses.dataclass
class Config:
    """Settings of the generalist.

    Attributes:
      sizes: sizes of encoders and decoder.
      full_share: share of each batch whose decoder reads every token; the others are
        pooled, so that the generalist knows both lengths.
      num_image_tokens, num_audio_tokens: tokens after pooling.
      patch_weight: weight of the loss that names the patches.
      num_kinds, num_colours: classes of ``patch_kind`` and ``patch_colour``.
    """

    sizes: foundation.FoundationConfig = dataclasses.field(
        default_factory=foundation.FoundationConfig
    )
    full_share: float = 0.125
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    patch_weight: float = 0.3
    num_kinds: int = 20
    num_colours: int = 7


def make_system(config: Config) -> base.System:
    """The generalist as a system.

    Batches hold image, audio, question and answer; the loss also needs patch_kind and
    patch_colour, int32 [B, 8, 8].

    Args:
      config: settings.

    Returns:
      A system whose parameters are {image_encoder, audio_encoder, image_projector,
      audio_projector, decoder, patch_head} and whose ``predict["answer"]`` gives
      ``answer_accuracy`` and ``word_accuracy``, float32 [B].
    """
    sizes = config.sizes
    encoders = {m: vit.ViT(sizes.encoder(m)) for m in foundation.MODALITIES}
    projector = nn.Dense(sizes.dim)
    patch_head = nn.Dense(config.num_kinds + config.num_colours)
    decoder = decoder_lib.Decoder(sizes.decoder())
    pools = {
        "image": compressors.WindowPool(config.num_image_tokens),
        "audio": compressors.WindowPool(config.num_audio_tokens),
    }
    order = vit.token_order(sizes.encoder("image"))

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        del batch  # sizes are known
        keys = dict(zip(_PARTS, jax.random.split(key, len(_PARTS)), strict=True))
        token = jnp.zeros((1, 1, sizes.dim))
        params = {}
        for m, encoder in encoders.items():
            x = jnp.zeros((1, *encoder.config.input_shape))
            params[f"{m}_encoder"] = encoder.init(keys[f"{m}_encoder"], x)["params"]
            name = f"{m}_projector"
            params[name] = projector.init(keys[name], token)["params"]
        valid = jnp.ones((1, 1), bool)
        params["decoder"] = decoder.init(keys["decoder"], token, valid)["params"]
        params["patch_head"] = patch_head.init(keys["patch_head"], token)["params"]
        return params

    def encode(params, batch):
        return {
            m: encoder.apply(
                {"params": params[f"{m}_encoder"]}, foundation.encoder_input(batch, m)
            )
            for m, encoder in encoders.items()
        }

    def answer_logits(params, tokens, batch, pooled):
        parts = []
        for m in foundation.MODALITIES:
            x = tokens[m]
            if pooled:
                x, _ = pools[m].apply({}, x, jnp.ones(x.shape[:2], bool))
            parts.append(projector.apply({"params": params[f"{m}_projector"]}, x))
        prefix = jnp.concatenate(parts, axis=1)
        return foundation.answer_logits(
            decoder,
            params["decoder"],
            prefix,
            jnp.ones(prefix.shape[:2], bool),
            batch["question"],
            batch["answer"],
        )

    def split(batch_size: int) -> list[tuple[slice, bool]]:
        """Which examples are read in full and which pooled."""
        at = round(config.full_share * batch_size)
        parts = [(slice(0, at), False), (slice(at, batch_size), True)]
        return [(rows, pooled) for rows, pooled in parts if rows.stop > rows.start]

    def loss(params, batch, key):
        del key
        tokens = encode(params, batch)
        total, right, count = 0.0, 0.0, batch["answer"].shape[0]
        for rows, pooled in split(count):
            part = jax.tree.map(lambda x, rows=rows: x[rows], (tokens, dict(batch)))
            logits = answer_logits(params, *part, pooled)
            scores = losses.score_answers(logits, part[1]["answer"])
            total += jnp.sum(scores["nll"])
            right += jnp.sum(scores["answer_accuracy"])
        logits = patch_head.apply({"params": params["patch_head"]}, tokens["image"])
        named = _patch_loss(logits, batch, order, config.num_kinds)
        metrics = {
            "answer_loss": total / count,
            "answer_accuracy": right / count,
            "patch_loss": named,
        }
        return total / count + config.patch_weight * named, metrics

    def predict(pooled):
        def answer(params, batch, key):
            del key
            logits = answer_logits(params, encode(params, batch), batch, pooled)
            return losses.score_answers(logits, batch["answer"])

        return answer

    return base.System(
        init=init,
        loss=loss,
        predict={"answer": predict(True), "answer_full": predict(False)},
    )


_PARTS = (
    *("image_encoder", "audio_encoder", "image_projector", "audio_projector"),
    *("decoder", "patch_head"),
)


def _patch_loss(logits, batch, order, num_kinds) -> base.Array:
    """Mean loss of naming the kind and the colour of every patch, in nats."""
    total = 0.0
    parts = jnp.split(logits, [num_kinds], axis=-1)
    for part, name in zip(parts, ("patch_kind", "patch_colour"), strict=True):
        labels = batch[name].reshape(len(batch[name]), -1)[:, order]
        valid = jnp.ones(labels.shape, bool)
        total += jnp.mean(jax.vmap(losses.token_cross_entropy)(part, labels, valid))
    return total
