"""Pretraining: encoders and decoder in one place, with no link between.

Not a paper's method but what the papers take for granted. The loss is that of the
answer, plus those of naming what each patch shows and what is heard: attention by
question is learnt slowly, and dense labels teach the encoders what there is to attend
to.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from m3jax import base
from m3jax.nn import compressors, foundation, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses


@dataclasses.dataclass
class Config:
    """Settings of the generalist.

    Attributes:
      sizes: sizes of encoders and decoder.
      num_image_tokens, num_audio_tokens: tokens that the decoder reads, after pooling.
      patch_weight, sound_weight: weights of the losses that name what the patches show
        and what is heard.
      num_kinds, num_colours: classes of ``patch_kind`` and ``patch_colour``.
      num_timbres, num_pitches, num_notes: classes of ``sound``.
    """

    sizes: foundation.FoundationConfig = dataclasses.field(
        default_factory=foundation.FoundationConfig
    )
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    patch_weight: float = 0.3
    sound_weight: float = 0.1
    num_kinds: int = 20
    num_colours: int = 7
    num_timbres: int = 5
    num_pitches: int = 3
    num_notes: int = 6


def make_system(config: Config) -> base.System:
    """The generalist as a system.

    Batches hold image, audio, question and answer; the loss also needs patch_kind and
    patch_colour, int32 [B, 8, 8], and sound, int32 [B, 3].

    Args:
      config: settings.

    Returns:
      A system whose parameters are {image_encoder, audio_encoder, image_projector,
      audio_projector, decoder, patch_head, sound_head} and whose ``predict["answer"]``
      gives nll (nats a word), answer_accuracy and word_accuracy, float32 [B].
    """
    sizes = config.sizes
    encoders = {m: vit.ViT(sizes.encoder(m)) for m in foundation.MODALITIES}
    pools = {
        "image": compressors.WindowPool(config.num_image_tokens),
        "audio": compressors.WindowPool(config.num_audio_tokens),
    }
    projector = nn.Dense(sizes.dim)
    decoder = decoder_lib.Decoder(sizes.decoder())
    patch_classes = (config.num_kinds, config.num_colours)
    sound_classes = (config.num_timbres, config.num_pitches, config.num_notes)
    heads = {
        "patch_head": nn.Dense(sum(patch_classes)),
        "sound_head": nn.Dense(sum(sound_classes)),
    }
    order = vit.token_order(sizes.encoder("image"))

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        del batch  # sizes are known
        keys = iter(jax.random.split(key, 7))
        token = jnp.zeros((1, 1, sizes.dim))
        params = {}
        for m, encoder in encoders.items():
            x = jnp.zeros((1, *encoder.config.input_shape))
            params[f"{m}_encoder"] = encoder.init(next(keys), x)["params"]
            params[f"{m}_projector"] = projector.init(next(keys), token)["params"]
        for name, head in heads.items():
            params[name] = head.init(next(keys), token)["params"]
        valid = jnp.ones((1, 1), bool)
        params["decoder"] = decoder.init(next(keys), token, valid)["params"]
        return params

    def encode(params, batch):
        return {
            m: encoder.apply(
                {"params": params[f"{m}_encoder"]}, foundation.encoder_input(batch, m)
            )
            for m, encoder in encoders.items()
        }

    def answer_logits(params, tokens, batch):
        parts = []
        for m in foundation.MODALITIES:
            valid = jnp.ones(tokens[m].shape[:2], bool)
            pooled, _ = pools[m].apply({}, tokens[m], valid)
            parts.append(projector.apply({"params": params[f"{m}_projector"]}, pooled))
        prefix = jnp.concatenate(parts, axis=1)
        return foundation.answer_logits(
            decoder,
            params["decoder"],
            prefix,
            jnp.ones(prefix.shape[:2], bool),
            batch["question"],
            batch["answer"],
        )

    def patch_loss(params, tokens, batch):
        logits = heads["patch_head"].apply({"params": params["patch_head"]}, tokens)
        labels = [batch[name] for name in ("patch_kind", "patch_colour")]
        labels = [label.reshape(len(label), -1)[:, order] for label in labels]
        return _naming_loss(logits, patch_classes, labels)

    def sound_loss(params, tokens, batch):
        pooled = jnp.mean(tokens, axis=1)
        logits = heads["sound_head"].apply({"params": params["sound_head"]}, pooled)
        return _naming_loss(logits, sound_classes, list(batch["sound"].T))

    def loss(params, batch, key):
        del key
        tokens = encode(params, batch)
        scores = losses.score_answers(
            answer_logits(params, tokens, batch), batch["answer"]
        )
        metrics = {
            "answer_loss": jnp.mean(scores["nll"]),
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "patch_loss": patch_loss(params, tokens["image"], batch),
            "sound_loss": sound_loss(params, tokens["audio"], batch),
        }
        total = (
            metrics["answer_loss"]
            + config.patch_weight * metrics["patch_loss"]
            + config.sound_weight * metrics["sound_loss"]
        )
        return total, metrics

    def answer(params, batch, key):
        del key
        logits = answer_logits(params, encode(params, batch), batch)
        return losses.score_answers(logits, batch["answer"])

    return base.System(init=init, loss=loss, predict={"answer": answer})


def _naming_loss(logits, classes, labels) -> base.Array:
    """Sum over questions of the mean cross-entropy, in nats.

    Args:
      logits: [..., sum(classes)], the questions side by side.
      classes: number of classes of each question.
      labels: int [...] for each question.
    """
    ends = np.cumsum(classes)[:-1]
    parts = jnp.split(logits, ends, axis=-1)
    nats = optax.losses.softmax_cross_entropy_with_integer_labels
    return sum(
        jnp.mean(nats(part, label)) for part, label in zip(parts, labels, strict=True)
    )
