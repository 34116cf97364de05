"""Specialists: small encoders, each pretrained on one skill, for one shared decoder.

What an expert says are tokens in the space of the decoder's words, so that any of them,
and sums of them, can be read by the same task model. The decoder is a pretrained
generalist's and stays as it is. Tokens cross a noisy analog link in training too, as
they will in use.

Looking things up is learned slowly from answers alone, so a specialist also learns to
say of each patch what the generalist's encoder says, on pictures of its skill.
"""

import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import links
from m3jax.foundation import answering
from m3jax.foundation import generalist as generalist_lib
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import compressors, vit
from m3jax.nn import decoder as decoder_lib
from m3jax.ops import losses


def small_sizes() -> sizes_lib.Sizes:
    """An encoder of a quarter of the generalist's parameters, for its decoder."""
    return sizes_lib.Sizes(
        image=sizes_lib.image(dim=64, mlp_dim=128, stem=(16, 32, 64))
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

    sizes: sizes_lib.Sizes = dataclasses.field(default_factory=small_sizes)
    num_tokens: int = 16
    num_silent: int = 8
    train_snr_db: tuple[float, float] = (5.0, 25.0)
    patch_weight: float = 0.3
    patch_words: tuple[tuple[int, ...], ...] = ()
    teacher: sizes_lib.Sizes | None = None
    teacher_weight: float = 1.0

    RANGES: ClassVar = {
        "num_tokens": "[1, inf)",
        **dict.fromkeys(("num_silent", "patch_words"), "[0, inf)"),
        **dict.fromkeys(("patch_weight", "teacher_weight"), "[0, inf)"),
    }
    NAME: ClassVar[str] = "specialist"
    PARTS: ClassVar[dict[str, str]] = {
        "encoder": r"image_encoder/.*",
        "projector": r"projector/.*",
        "decoder": r"(decoder/.*|silence)",
        "teacher": r"teacher/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        low, high = self.train_snr_db
        if not -math.inf < low <= high < math.inf:
            raise ValueError(
                f"system.train_snr_db is {tuple(self.train_snr_db)}; give a low and a "
                "high finite SNR in dB"
            )

    def make_system(self) -> base.System:
        """A specialist as a system; see `make_system`."""
        return make_system(self)

    def warm_start(self, generalist: base.Params) -> base.Params:
        """What a pretrained generalist gives: decoder, silence, and the teacher."""
        given = task_model(generalist, self.num_silent, self.teacher)
        if self.teacher is not None:
            given["teacher"] = {
                "image_encoder": generalist["image_encoder"],
                "projector": generalist["image_projector"],
            }
        return given


def task_model(
    generalist: base.Params, num_silent: int = 8, sizes: sizes_lib.Sizes | None = None
) -> base.Params:
    """The part of a pretrained generalist that reads what experts say.

    Args:
      generalist: parameters of ``m3jax.foundation.generalist``.
      num_silent: tokens of silence.
      sizes: of the generalist; None for the default ones.

    Returns:
      {decoder, silence}.
    """
    heard = generalist_lib.Config(
        sizes=sizes or sizes_lib.Sizes(), num_audio_tokens=num_silent
    )
    silence = generalist_lib.silent_tokens(heard, generalist)
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
    logits = answering.answer_logits(
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
        self.image_encoder = vit.ViT(sizes.encoder_config("image"))
        self.projector = nn.Dense(sizes.dim)
        self.pool = compressors.WindowPool(self.config.num_tokens)

    def __call__(self, image: base.Array) -> tuple[base.Array, base.Array]:
        """Maps pictures to tokens.

        Args:
          image: as ``answering.encoder_input`` gives it, [B, H, W, 3].

        Returns:
          Tokens [B, L, D] after pooling, and [B, P, D] of all patches.
        """
        patches = self.projector(self.image_encoder(image))
        tokens, _ = self.pool(patches, jnp.ones(patches.shape[:2], bool))
        return tokens, patches


def make_system(config: Config) -> base.System:
    """A specialist as a system.

    Batches hold image, question and answer; the loss also needs patch_kind and
    patch_colour, int32 [B, 8, 8]. Tokens cross the link at ``snr_db`` float32 [B].

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
    decoder = decoder_lib.Decoder(config.sizes.decoder_config())
    order = vit.token_order(config.sizes.encoder_config("image"))
    link = links.make_link("analog", fading="awgn")

    def init(key, batch):
        del batch  # sizes are known
        encoder_key, decoder_key = jax.random.split(key)
        image = jnp.zeros((1, *config.sizes.encoder_config("image").input_shape))
        token, valid = jnp.zeros((1, 1, config.sizes.dim)), jnp.ones((1, 1), bool)
        params = {
            **encoder.init(encoder_key, image)["params"],
            "decoder": decoder.init(decoder_key, token, valid)["params"],
            "silence": jnp.zeros((config.num_silent, config.sizes.dim), jnp.float32),
        }
        if teacher is not None:
            params["teacher"] = teacher.init(encoder_key, image)["params"]
        return params

    def encode(params, batch):
        parts = {name: params[name] for name in ("image_encoder", "projector")}
        image = answering.encoder_input(batch, "image")
        return encoder.apply({"params": parts}, image)

    def score(params, tokens, batch, key):
        valid = jnp.ones(tokens.shape[:2], bool)
        keys = jax.random.split(key, tokens.shape[0])
        arrived = jax.vmap(link)(keys, tokens, valid, batch["snr_db"]).values
        return read(decoder, params, arrived, batch)

    def loss(params, batch, key):
        tokens, patches = encode(params, batch)
        scores = score(params, tokens, batch, key)
        labels = [batch[name] for name in ("patch_kind", "patch_colour")]
        labels = [label.reshape(len(label), -1)[:, order] for label in labels]
        metrics = {
            "answer_loss": jnp.mean(scores["nll"]),
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "patch_loss": answering.naming_loss(
                params["decoder"], patches, config.patch_words, labels
            ),
        }
        total = metrics["answer_loss"] + config.patch_weight * metrics["patch_loss"]
        if teacher is not None:
            image = answering.encoder_input(batch, "image")
            taught = teacher.apply({"params": params["teacher"]}, image)[1]
            taught = jax.lax.stop_gradient(taught)
            error = jnp.mean((patches - taught) ** 2)
            metrics["teacher_loss"] = error / jnp.mean(taught**2)
            total += config.teacher_weight * metrics["teacher_loss"]
        return total, metrics

    def draw(batch, key):
        low, high = config.train_snr_db
        shape = batch["question"].shape[:1]
        return {"snr_db": jax.random.uniform(key, shape, minval=low, maxval=high)}

    def prepare(params, batch):
        rest = {name: array for name, array in batch.items() if name != "image"}
        return {**rest, "tokens": encode(params, batch)[0]}

    def answer(params, batch, key):
        tokens = batch["tokens"] if "tokens" in batch else encode(params, batch)[0]
        return score(params, tokens, batch, key)

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "encode": lambda params, batch, key: encode(params, batch)[0],
        },
        reads=("image", "question", "answer", "patch_kind", "patch_colour"),
        metrics=generalist_lib.METRICS,
        draw=draw,
        prepare=prepare,
    )
