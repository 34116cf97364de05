"""M3LLM's data plane: experts speak over their own links, and a task model answers.

    picture -> experts -> links at SNR_i -> sum_i w_i R_i -> decoder -> answer

(Algorithm 1, lines 15 to 21.) Who speaks, and with what weight, is the router's affair;
here weights and SNRs are given with the batch.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.channels import links
from m3jax.envs.expert_routing import tasks
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.systems.m3llm import specialist

LINKS = ("analog", "digital")
EXPERTS = tasks.EXPERTS
LEAST_WEIGHT = 1e-3
"""Experts of less weight are not asked (epsilon of algorithm 1, line 16)."""


@dataclasses.dataclass
class Config:
    """Settings of the data plane.

    Attributes:
      experts: their names, in the order of weights and SNRs.
      expert: sizes of each.
      link: "analog" or "digital".
      bits, qam_order: of a digital link: bits of a real number, and the modem.
    """

    experts: tuple[str, ...] = EXPERTS
    expert: specialist.Config = dataclasses.field(default_factory=specialist.Config)
    link: str = "analog"
    bits: int = 4
    qam_order: int = 16

    PARTS: ClassVar[dict[str, str]] = {
        "experts": r"experts/.*",
        "decoder": r"(decoder/.*|silence)",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        if self.link not in LINKS:
            raise ValueError(f"link must be one of {LINKS}, got {self.link!r}")
        if not self.experts or len(set(self.experts)) < len(self.experts):
            raise ValueError(
                f"experts must be different names, at least one, got {self.experts}"
            )


def make_system(config: Config) -> base.System:
    """The data plane as a system.

    Batches hold image uint8 [B, H, W, 3], question, answer, ``weights`` float32 [B, N]
    that sum to one, and ``snr_db`` float32 [B, N]; with "tokens" [B, N, L, D], as
    ``predict["encode"]`` gives them, no picture is needed.

    Args:
      config: settings.

    Returns:
      A system whose parameters are {experts: {name: {image_encoder, projector}},
      decoder, silence}. ``predict["answer"]`` gives for each example answer_accuracy
      (every word right), word_accuracy, nll (nats a word), channel_uses and num_asked;
      ``predict["generate"]`` says the answers, int32 [B, A]; ``predict["received"]``
      gives the sum that the decoder reads, [B, L, D].

    Raises:
      ValueError: a setting makes no sense.
    """
    config.validate()
    encoder = specialist.Encoder(config.expert)
    decoder = decoder_lib.Decoder(config.expert.sizes.decoder_config())
    link = links.make_link(
        config.link, "awgn", bits=config.bits, qam_order=config.qam_order
    )

    def init(key, batch):
        del batch  # sizes are known
        expert = specialist.make_system(config.expert)
        keys = jax.random.split(key, len(config.experts) + 1)
        drawn = [expert.init(k, {}) for k in keys]
        names = ("image_encoder", "projector")
        return {
            "experts": {
                name: {part: params[part] for part in names}
                for name, params in zip(config.experts, drawn[1:], strict=True)
            },
            **{name: drawn[0][name] for name in ("decoder", "silence")},
        }

    def encode(params, batch):
        image = answering.encoder_input(batch, "image")
        spoken = [
            encoder.apply({"params": params["experts"][name]}, image)[0]
            for name in config.experts
        ]
        return jnp.stack(spoken, axis=1)

    def receive(params, batch, key):
        tokens = batch["tokens"] if "tokens" in batch else encode(params, batch)
        keys = jax.random.split(key, tokens.shape[0])
        aggregated = jax.vmap(lambda *args: aggregate(link, *args))
        return aggregated(keys, tokens, batch["weights"], batch["snr_db"])

    def score(params, batch, key):
        received, uses = receive(params, batch, key)
        return specialist.read(decoder, params, received, batch), uses

    def loss(params, batch, key):
        scores, uses = score(params, batch, key)
        metrics = {
            "answer_loss": jnp.mean(scores["nll"]),
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "channel_uses": jnp.mean(uses),
        }
        return metrics["answer_loss"], metrics

    def answer(params, batch, key):
        scores, uses = score(params, batch, key)
        asked = jnp.sum(batch["weights"] > LEAST_WEIGHT, axis=1)
        return {**scores, "channel_uses": uses, "num_asked": asked}

    def generate(params, batch, key):
        prefix = specialist.with_silence(params, receive(params, batch, key)[0])
        return answering.generate_answer(
            *(decoder, params["decoder"], prefix),
            *(jnp.ones(prefix.shape[:2], bool), batch["question"]),
            batch["answer"].shape[1],
        )

    return base.System(
        init=init,
        loss=loss,
        predict={
            "answer": answer,
            "generate": generate,
            "encode": lambda params, batch, key: encode(params, batch),
            "received": lambda params, batch, key: receive(params, batch, key)[0],
        },
    )


def aggregate(
    link: links.Link,
    key: base.Array,
    tokens: base.Array,
    weights: base.Array,
    snr_db: base.Array,
) -> tuple[base.Array, base.Array]:
    """Sends what every expert says over its own link, and adds it up.

        R = sum_i w_i R_i   over the experts of w_i above LEAST_WEIGHT

    (Algorithm 1, lines 15 to 21.) Gradients flow to weights, tokens and SNRs.

    Args:
      link: of all experts.
      key: PRNG key, consumed.
      tokens: ``[N, L, D]``, what they say.
      weights: ``[N]``.
      snr_db: ``[N]``, of their links.

    Returns:
      ``[L, D]``, and the channel uses of those who were asked.
    """
    valid = jnp.ones(tokens.shape[:2], bool)
    keys = jax.random.split(key, tokens.shape[0])
    sent = jax.vmap(link)(keys, tokens, valid, snr_db)
    asked = weights > LEAST_WEIGHT
    heard = jnp.where(asked, weights, 0.0)
    uses = jnp.sum(jnp.where(asked, sent.channel_uses, 0))
    return jnp.tensordot(heard, sent.values, axes=1), uses
