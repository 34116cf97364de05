"""Specialists: small encoders, each pretrained on one skill, for one shared decoder.

What an expert says are tokens in the space of the decoder's words, so that any of them,
and sums of them, can be read by the same task model. The decoder is a pretrained
generalist's and stays as it is. Tokens cross a noisy analog link in training too, as
they will in use.

Looking things up is learned slowly from answers alone, so a specialist also learns to
say of each patch what the generalist's encoder says, on pictures of its skill.
"""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import links
from m3jax.nn import compressors, foundation, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses
from m3jax.systems import foundation as foundation_system


def small_sizes() -> foundation.FoundationConfig:
    """An encoder of a quarter of the generalist's parameters, for its decoder."""
    return foundation.FoundationConfig(
        image_dim=64, image_mlp_dim=128, image_stem=(16, 32, 64)
    )


@dataclasses.dataclass
class Config:
    """Settings of a specialist.

    Attributes:
      sizes: of the encoder, and of the decoder that it speaks to.
      num_tokens: tokens of a picture, after pooling.
      num_silent: tokens of silence that the decoder reads behind them.
      train_snr_db: range (low, high) that training draws the SNR from, uniformly in dB,
        for each example.
      patch_weight: weight of the loss that names what the patches show.
      patch_words: ids of the words for each value of ``patch_kind`` and
        ``patch_colour``.
      teacher: sizes of the generalist whose patches are imitated; None: nobody is.
      teacher_weight: of the mean square error to them, as a share of their own.
    """

    sizes: foundation.FoundationConfig = dataclasses.field(default_factory=small_sizes)
    num_tokens: int = 16
    num_silent: int = 8
    train_snr_db: tuple[float, float] = (5.0, 25.0)
    patch_weight: float = 0.3
    patch_words: tuple[tuple[int, ...], ...] = ()
    teacher: foundation.FoundationConfig | None = None
    teacher_weight: float = 1.0

    PARTS: ClassVar[dict[str, str]] = {
        "encoder": r"image_encoder/.*",
        "projector": r"projector/.*",
        "decoder": r"(decoder/.*|silence)",
        "teacher": r"teacher/.*",
    }
    """Names of parts of the parameters, for ``train.trainable``."""

    @property
    def channel_in_training(self) -> bool:
        """True: noise belongs to what a specialist learns."""
        return True

    def warm_start(self, generalist: base.Params) -> base.Params:
        """What a pretrained generalist gives: decoder, silence, and the teacher."""
        given = task_model(generalist, self.num_silent)
        if self.teacher is not None:
            given["teacher"] = {
                "image_encoder": generalist["image_encoder"],
                "projector": generalist["image_projector"],
            }
        return given

    def shipped(self, params: base.Params) -> base.Params:
        """What to ship of a specialist: all but what belongs to the generalist."""
        return {name: params[name] for name in ("image_encoder", "projector")}


def task_model(generalist: base.Params, num_silent: int = 8) -> base.Params:
    """The part of a pretrained generalist that reads what experts say.

    Args:
      generalist: parameters of ``m3jax.systems.foundation`` at its default sizes.
      num_silent: tokens of silence.

    Returns:
      {decoder, silence}.
    """
    heard = foundation_system.Config(num_audio_tokens=num_silent)
    silence = foundation_system.silent_tokens(heard, generalist)
    return {"decoder": generalist["decoder"], "silence": silence}


def read(
    decoder: decoder_lib.Decoder,
    params: base.Params,
    received: base.Array,
    batch: base.Batch,
) -> dict[str, base.Array]:
    """Scores the answer that the task model gives to what it received.

    Args:
      decoder: the language model.
      params: {decoder, silence}.
      received: [B, L, D].
      batch: holds question and answer.

    Returns:
      As ``losses.score_answers``.
    """
    prefix = with_silence(params, received)
    logits = foundation.answer_logits(
        *(decoder, params["decoder"], prefix, jnp.ones(prefix.shape[:2], bool)),
        *(batch["question"], batch["answer"]),
    )
    return losses.score_answers(logits, batch["answer"])


def with_silence(params: base.Params, received: base.Array) -> base.Array:
    """What the decoder reads before the question: [B, L + S, D]."""
    shape = (received.shape[0], *params["silence"].shape)
    silence = jnp.broadcast_to(params["silence"], shape)
    return jnp.concatenate([received, silence], axis=1)


class Encoder(nn.Module):
    """Pictures to tokens for the decoder: a ViT, pooled, and a projection.

    Attributes:
      config: settings.
    """

    config: Config

    def setup(self):
        """Makes the parts."""
        sizes = self.config.sizes
        self.image_encoder = vit.ViT(sizes.encoder("image"))
        self.projector = nn.Dense(sizes.dim)
        self.pool = compressors.WindowPool(self.config.num_tokens)

    def __call__(self, image: base.Array) -> tuple[base.Array, base.Array]:
        """Maps pictures to tokens.

        Args:
          image: as ``foundation.encoder_input`` gives it, [B, H, W, 3].

        Returns:
          Tokens [B, L, D] after pooling, and [B, P, D] of all patches.
        """
        patches = self.projector(self.image_encoder(image))
        tokens, _ = self.pool(patches, jnp.ones(patches.shape[:2], bool))
        return tokens, patches


def make_system(config: Config) -> base.System:
    """A specialist as a system.

    Batches hold image, question and answer; the loss also needs patch_kind and
    patch_colour, int32 [B, 8, 8]. With ``snr_db`` float32 [B] tokens cross the link at
    that SNR; ``loss`` draws one.

    Args:
      config: settings.

    Returns:
      A system whose parameters are {image_encoder, projector, decoder, silence}, and
      teacher if there is one, whose
      ``predict["answer"]`` gives nll (nats a word), answer_accuracy and word_accuracy,
      float32 [B], and ``predict["encode"]`` the tokens [B, L, D] before the link.
    """
    encoder = Encoder(config)
    teacher = None
    if config.teacher is not None:
        teacher = Encoder(dataclasses.replace(config, sizes=config.teacher))
    decoder = decoder_lib.Decoder(config.sizes.decoder())
    order = vit.token_order(config.sizes.encoder("image"))
    link = links.make_link("analog", fading="awgn")

    def init(key, batch):
        del batch  # sizes are known
        encoder_key, decoder_key = jax.random.split(key)
        image = jnp.zeros((1, *config.sizes.encoder("image").input_shape))
        token, valid = jnp.zeros((1, 1, config.sizes.dim)), jnp.ones((1, 1), bool)
        params = {
            **encoder.init(encoder_key, image)["params"],
            "decoder": decoder.init(decoder_key, token, valid)["params"],
            "silence": jnp.zeros((config.num_silent, config.sizes.dim)),
        }
        if teacher is not None:
            params["teacher"] = teacher.init(encoder_key, image)["params"]
        return params

    def encode(params, batch):
        parts = {name: params[name] for name in ("image_encoder", "projector")}
        image = foundation.encoder_input(batch, "image")
        return encoder.apply({"params": parts}, image)

    def score(params, tokens, batch, key):
        valid = jnp.ones(tokens.shape[:2], bool)
        keys = jax.random.split(key, tokens.shape[0])
        arrived = jax.vmap(link)(keys, tokens, valid, batch["snr_db"]).values
        return read(decoder, params, arrived, batch)

    def loss(params, batch, key):
        snr_key, link_key = jax.random.split(key)
        low, high = config.train_snr_db
        shape = batch["question"].shape[:1]
        snr_db = jax.random.uniform(snr_key, shape, minval=low, maxval=high)
        tokens, patches = encode(params, batch)
        scores = score(params, tokens, {**batch, "snr_db": snr_db}, link_key)
        labels = [batch[name] for name in ("patch_kind", "patch_colour")]
        labels = [label.reshape(len(label), -1)[:, order] for label in labels]
        metrics = {
            "answer_loss": jnp.mean(scores["nll"]),
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "patch_loss": foundation.naming_loss(
                params["decoder"], patches, config.patch_words, labels
            ),
        }
        total = metrics["answer_loss"] + config.patch_weight * metrics["patch_loss"]
        if teacher is not None:
            image = foundation.encoder_input(batch, "image")
            taught = teacher.apply({"params": params["teacher"]}, image)[1]
            taught = jax.lax.stop_gradient(taught)
            error = jnp.mean((patches - taught) ** 2)
            metrics["teacher_loss"] = error / jnp.mean(taught**2)
            total += config.teacher_weight * metrics["teacher_loss"]
        return total, metrics

    def answer(params, batch, key):
        return score(params, encode(params, batch)[0], batch, key)

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "encode": lambda params, batch, key: encode(params, batch)[0],
        },
    )
