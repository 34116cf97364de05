"""An exit after the first layers of a generalist's decoder, trained to speak like it.

The draft of speculative decoding that stores next to nothing: encoders and layers are
the generalist's, frozen, and the exit alone is trained and shipped.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.foundation import generalist as generalist_lib
from m3jax.nn import speculation
from m3jax.nn.speculation import exits
from m3jax.ops import losses

METRICS = {**generalist_lib.METRICS, "agreement": "1"}
"""What is measured of each answer, and in which units; agreement is of words."""


@dataclasses.dataclass
class Config:
    """Settings of the exit.

    Attributes:
      generalist: whose layers they are.
      depth: layers before the exit.
      own_head: whether the exit has an output head of its own.
    """

    generalist: generalist_lib.Config = dataclasses.field(
        default_factory=generalist_lib.Config
    )
    depth: int = 1
    own_head: bool = True

    NAME: ClassVar[str] = "early_exit"
    PARTS: ClassVar[dict[str, str]] = {"exit": r"exit/.*"}
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.generalist.validate()
        layers = self.generalist.sizes.decoder.depth
        if not 1 <= self.depth <= layers:
            raise ValueError(
                f"system.depth is {self.depth}; the generalist has {layers} layers"
            )

    def make_system(self) -> base.System:
        """The exit as a system; see `make_system`."""
        return make_system(self)

    def warm_start(self, trained: base.Params) -> base.Params:
        """A generalist's parameters, and an exit that starts as its own."""
        if "exit" in trained:
            return trained
        own = speculation.init_exit(trained["decoder"], self.own_head)
        return {**trained, "exit": own}


def draft(
    config: Config, params: base.Params, target: speculation.Party
) -> speculation.Party:
    """The exit as a draft of its generalist.

    Args:
      config: of the exit.
      params: its parameters, the generalist's among them.
      target: the generalist, of `generalist.party`.

    Returns:
      Who drafts, with the target's prefix.
    """
    return exits.at_exit(target, config.depth, params["exit"])


def make_system(config: Config) -> base.System:
    """The exit as a system.

    Batches hold image, audio, question and answer.

    Args:
      config: settings.

    Returns:
      A system whose parameters are the generalist's and {exit}, whose loss is the
      divergence from the generalist's laws along the right answers, and whose
      ``predict["answer"]`` gives nll (nats a word), answer_accuracy, word_accuracy and
      agreement, float32 [B].
    """
    own = generalist_lib.make_system(config.generalist)

    def init(key: base.Array, batch: base.Batch) -> base.Params:
        return config.warm_start(own.init(key, batch))

    def loss(params, batch, key):
        del key
        return exits.loss(
            params["exit"],
            generalist_lib.party(config.generalist, params, batch),
            config.depth,
            batch["answer"],
            batch["answer"] != answering.PAD,
        )

    def answer(params, batch, key):
        del key
        words = jnp.asarray(batch["answer"])
        target = generalist_lib.party(config.generalist, params, batch)
        given, made = (
            party.logits(
                party.read_answer(words, words != answering.PAD), party.vocab_size
            )
            for party in (target, draft(config, params, target))
        )
        agreement = jax.vmap(losses.token_accuracy)(
            jnp.argmax(made, axis=-1),
            jnp.argmax(given, axis=-1),
            words != answering.PAD,
        )
        return {**losses.score_answers(made, words), "agreement": agreement}

    return base.System(
        init=init,
        loss=loss,
        predict={"answer": answer},
        reads=("image", "audio", "question", "answer"),
        metrics=METRICS,
    )
