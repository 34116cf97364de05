"""Pretraining: encoders and decoder in one place, with no link between.

Not a paper's method but what the papers take for granted. The loss is that of the
answer, plus those of naming what each patch shows and what is heard by the decoder's
own words: attention by question is learnt slowly from answers alone, and quickly when a
red circle's token already lies where "red" and "circle" do.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import compressors, speculation, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses

METRICS = {"answer_accuracy": "1", "word_accuracy": "1", "nll": "nat/word"}
"""What is measured of each answer, and in which units."""
_NAMING = ("patch_kind", "patch_colour", "sound")


@dataclasses.dataclass
class Config:
    """Settings of the generalist.

    Attributes:
      sizes: sizes of encoders and decoder.
      num_image_tokens, num_audio_tokens: tokens that the decoder reads, after pooling.
      patch_weight, sound_weight: weights of the losses that name what the patches show
        and what is heard.
      patch_words: ids of the words for each value of ``patch_kind`` and
        ``patch_colour``.
      sound_words: ids of the words for each value of the three parts of ``sound``.
    """

    sizes: sizes_lib.Sizes = dataclasses.field(default_factory=sizes_lib.Sizes)
    num_image_tokens: int = 16
    num_audio_tokens: int = 8
    patch_weight: float = 0.3
    sound_weight: float = 0.1
    patch_words: tuple[tuple[int, ...], ...] = ()
    sound_words: tuple[tuple[int, ...], ...] = ()

    RANGES: ClassVar = {
        **dict.fromkeys(("num_image_tokens", "num_audio_tokens"), "[1, inf)"),
        **dict.fromkeys(("patch_weight", "sound_weight"), "[0, inf)"),
        **dict.fromkeys(("patch_words", "sound_words"), "[0, inf)"),
    }
    NAME: ClassVar[str] = "generalist"
    PARTS: ClassVar[dict[str, str]] = {
        "encoder": r"\w+_encoder/.*",
        "projector": r"\w+_projector/.*",
        "decoder": r"decoder/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        for name in ("patch_weight", "sound_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"system.{name} must be 0 or more")

    def make_system(self) -> base.System:
        """The generalist as a system; see `make_system`."""
        return make_system(self)

    def warm_start(self, generalist: base.Params) -> base.Params:
        """What a pretrained generalist gives another one: everything."""
        return generalist


def silent_tokens(config: Config, params: base.Params) -> base.Array:
    """What the decoder reads where there is no sound.

    It has never read pictures without sounds behind them, and finds the places that
    questions ask for by their distance.

    Args:
      config: of the generalist.
      params: its parameters.

    Returns:
      float32 ``[num_audio_tokens, D]``.
    """
    encoder = vit.ViT(config.sizes.encoder_config("audio"))
    silence = jnp.zeros((1, *encoder.config.input_shape))
    tokens = encoder.apply({"params": params["audio_encoder"]}, silence)
    projector = nn.Dense(config.sizes.dim)
    tokens = projector.apply({"params": params["audio_projector"]}, tokens)
    pool = compressors.WindowPool(config.num_audio_tokens)
    return pool.apply({}, tokens, jnp.ones(tokens.shape[:2], bool))[0][0]


def encode(
    config: Config, params: base.Params, batch: base.Batch
) -> dict[str, base.Array]:
    """Tokens of each modality, already in the space of the decoder's words.

    Args:
      config: of the generalist.
      params: its parameters.
      batch: holds image and audio.

    Returns:
      {modality: [B, L, D]}.
    """
    projector = nn.Dense(config.sizes.dim)
    out = {}
    for m in sizes_lib.MODALITIES:
        encoder = vit.ViT(config.sizes.encoder_config(m))
        x = answering.encoder_input(batch, m)
        tokens = encoder.apply({"params": params[f"{m}_encoder"]}, x)
        out[m] = projector.apply({"params": params[f"{m}_projector"]}, tokens)
    return out


def prefix(config: Config, tokens: dict[str, base.Array]) -> base.Array:
    """What the decoder reads before the question.

    Args:
      config: of the generalist.
      tokens: of `encode`.

    Returns:
      [B, num_image_tokens + num_audio_tokens, D].
    """
    counts = {"image": config.num_image_tokens, "audio": config.num_audio_tokens}
    pooled = [
        compressors.WindowPool(counts[m]).apply(
            {}, tokens[m], jnp.ones(tokens[m].shape[:2], bool)
        )[0]
        for m in sizes_lib.MODALITIES
    ]
    return jnp.concatenate(pooled, axis=1)


def party(config: Config, params: base.Params, batch: base.Batch) -> speculation.Party:
    """A generalist that has seen, heard and been asked, before it speaks.

    Args:
      config: of the generalist.
      params: its parameters.
      batch: holds image, audio and question.
    """
    decoder = decoder_lib.Decoder(config.sizes.decoder_config())
    seen = prefix(config, encode(config, params, batch))
    question = jnp.asarray(batch["question"])
    asked = decoder.apply({"params": params["decoder"]}, question, method="embed")
    there = jnp.ones(seen.shape[:2], bool)
    return speculation.Party(
        params["decoder"],
        jnp.concatenate([seen, asked], axis=1),
        jnp.concatenate([there, question != answering.PAD], axis=1),
        decoder,
    )


def make_system(config: Config) -> base.System:
    """The generalist as a system.

    Batches hold image, audio, question and answer; the loss also needs patch_kind and
    patch_colour, int32 [B, 8, 8], and sound, int32 [B, 3].

    Args:
      config: settings.

    Returns:
      A system whose parameters are {image_encoder, audio_encoder, image_projector,
      audio_projector, decoder} and whose ``predict["answer"]`` gives nll (nats a word),
      answer_accuracy and word_accuracy, float32 [B].
    """
    sizes = config.sizes
    encoders = {m: vit.ViT(sizes.encoder_config(m)) for m in sizes_lib.MODALITIES}
    projector = nn.Dense(sizes.dim)
    decoder = decoder_lib.Decoder(sizes.decoder_config())
    order = vit.token_order(sizes.encoder_config("image"))

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        del batch  # sizes are known
        keys = iter(jax.random.split(key, 5))
        token = jnp.zeros((1, 1, sizes.dim))
        params = {}
        for m, encoder in encoders.items():
            x = jnp.zeros((1, *encoder.config.input_shape))
            params[f"{m}_encoder"] = encoder.init(next(keys), x)["params"]
            params[f"{m}_projector"] = projector.init(next(keys), token)["params"]
        valid = jnp.ones((1, 1), bool)
        params["decoder"] = decoder.init(next(keys), token, valid)["params"]
        return params

    def answer_logits(params, tokens, batch):
        seen = prefix(config, tokens)
        return answering.answer_logits(
            decoder,
            params["decoder"],
            seen,
            jnp.ones(seen.shape[:2], bool),
            batch["question"],
            batch["answer"],
        )

    def patch_loss(params, tokens, batch):
        labels = [batch[name] for name in ("patch_kind", "patch_colour")]
        labels = [label.reshape(len(label), -1)[:, order] for label in labels]
        return answering.naming_loss(
            params["decoder"], tokens, config.patch_words, labels
        )

    def sound_loss(params, tokens, batch):
        labels = list(batch["sound"].T)
        pooled = jnp.mean(tokens, axis=1)
        return answering.naming_loss(
            params["decoder"], pooled, config.sound_words, labels
        )

    def loss(params, batch, key):
        del key
        tokens = encode(config, params, batch)
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
        logits = answer_logits(params, encode(config, params, batch), batch)
        return losses.score_answers(logits, batch["answer"])

    return base.System(
        init=init,
        loss=loss,
        predict={"answer": answer},
        reads=(*sizes_lib.MODALITIES, "question", "answer", *_NAMING),
        metrics=METRICS,
    )
