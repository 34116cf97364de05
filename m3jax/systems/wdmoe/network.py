"""The language model in its cell: what a batch gives, and who was asked."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, moe
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import pricing, selection, testbed


class Read(NamedTuple):
    """What a batch of T tokens gave.

    Attributes:
      logits: of each word of the answers, float32 ``[B, A, V]``.
      routing: of the I blocks.
      usage: who was asked, ``[I, T, n]``, 1 or 0; of "priced" with a gradient.
      mask: bool ``[T]``, which tokens are there.
    """

    logits: base.Array
    routing: moe.Routing
    usage: base.Array
    mask: base.Array

    @property
    def counts(self) -> base.Array:
        """q, tokens of each device in each block, ``[I, n]``."""
        return jnp.sum(self.usage, axis=1)

    @property
    def asked(self) -> base.Array:
        """Experts of a token, mean over blocks and tokens."""
        tokens = jnp.maximum(jnp.sum(self.mask), 1)
        return jnp.sum(self.usage) / tokens / len(self.usage)


class Network:
    """The language model in its cell.

    Args:
      settings: what it is made of.
    """

    def __init__(self, settings: config_lib.Config):
        settings.validate()
        self.settings = settings
        self.decoder = decoder_lib.Decoder(settings.decoder_config())

    def init(self, key: base.Array) -> base.Params:
        """Draws all parameters: {decoder, prices}."""
        config = self.decoder.config
        token = jnp.zeros((1, 1, config.dim))
        made = self.decoder.init(key, token, jnp.ones((1, 1), bool))["params"]
        return {"decoder": made, "prices": pricing.init(config.depth)._asdict()}

    def read(
        self,
        params: base.Params,
        batch: base.Batch,
        token_s: base.Array,
        policy: str | None = None,
        threshold: base.Array | None = None,
    ) -> Read:
        """Reads questions with their answers.

        Args:
          params: {decoder, prices}.
          batch: question int32 [B, Q] and answer int32 [B, A].
          token_s: seconds of a token that the policy is told, ``[n]``, or of each block
            ``[I, n]``.
          policy: who is asked; that of the settings if None.
          threshold: of the policy "threshold"; that of the settings if None.
        """
        policy = policy or self.settings.policy
        words = answering.read_words(batch["question"], batch["answer"])
        mask = words != answering.PAD
        variables = {"params": params["decoder"]}
        embeds = self.decoder.apply(variables, words, method="embed")
        data = self._data(params, token_s, threshold)
        hidden, _, routing = self.decoder.apply(
            variables,
            embeds,
            mask,
            select=self._select(policy),
            select_data=data,
            with_routing=True,
        )
        hidden = hidden[:, -batch["answer"].shape[1] :]
        logits = self.decoder.apply(variables, hidden, method="logits")
        rows = mask.reshape(-1)
        probs = routing.probs.reshape(len(routing.probs), len(rows), -1)
        usage = jax.vmap(self.usage(policy), (0, None, 0))(probs, rows, data)
        return Read(logits, routing, usage, rows)

    def generate(
        self, params: base.Params, question: base.Array, num: int, token_s: base.Array
    ) -> base.Array:
        """Says answers, greedily: int32 [B, num], ended by EOS, padded."""
        variables = {"params": params["decoder"]}
        return generation.generate(
            self.decoder,
            params["decoder"],
            self.decoder.apply(variables, question, method="embed"),
            question != answering.PAD,
            num,
            bos=answering.BOS,
            eos=answering.EOS,
            pad=answering.PAD,
            select=self._select(self.settings.policy),
            select_data=self._data(params, token_s),
        )

    def usage(self, policy: str) -> Callable:
        """``(probs, mask, data) -> [T, n]``: who is asked, of a policy by name."""
        k = self.settings.experts.top_k
        if policy == "priced":
            return lambda probs, mask, data: pricing.usage(
                probs, mask, data["token_s"], pricing.Prices(**data["prices"]), k
            )
        choose = {
            "top_k": selection.vanilla,
            "cosine": selection.cosine,
            "threshold": functools.partial(selection.cosine, max_passes=0),
            "dynamic": functools.partial(selection.dynamic, spare=self.settings.spare),
            "testbed": testbed.relieve,
        }[policy]

        def asked(probs, mask, data):
            probs = jax.lax.stop_gradient(probs)  # of a choice there is none
            start = {"start": data["threshold"]} if policy == "threshold" else {}
            found = choose(probs, mask, data["token_s"], k=k, **start)
            return (found.weights > 0.0).astype(probs.dtype)

        return asked

    def _select(self, policy: str) -> moe.Select:
        usage = self.usage(policy)

        def select(probs, mask, data):
            return moe.renormalise(usage(probs, mask, data) * probs)

        return select

    def _data(self, params: base.Params, token_s: base.Array, threshold=None):
        """What each block's selection is told."""
        depth = self.decoder.config.depth
        if threshold is None:
            threshold = self.settings.threshold
        return {
            "threshold": jnp.full(depth, threshold),
            "token_s": jnp.broadcast_to(token_s, (depth, token_s.shape[-1])),
            "prices": params["prices"],
        }
