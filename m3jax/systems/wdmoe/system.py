"""WDMoE: a language model whose experts answer over the air.

    words -> attention -> router -> who is asked -> experts on devices -> next block
                                         |
              gains -> seconds of a token + split of the band -> latency

A batch is what is at the base station at a time: its tokens share the cell, and every
block waits for its slowest device. Router, prices and experts can be trained by one
loss, with the latency through the split of the band.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.foundation import answering
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import generation, moe
from m3jax.ops import fair_round_trips, losses, round_trips, sum_of_maxima
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import latency, pricing, selection, testbed

METRICS = {
    "answer_accuracy": "1",
    "word_accuracy": "1",
    "nll": "nat/word",
    "latency_ms": "ms",
    "asked": "expert",
}
"""What is measured of each answer, and in which units; latency is of its batch."""


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


def split_seconds(
    counts: base.Array,
    trips: round_trips.Trips,
    total: base.Array,
    split: str,
    stopped: bool = False,
) -> base.Array:
    """How long a sequence waits, with the band split in one of three ways.

    Args:
      counts: q, ``[I, K]``.
      trips: of a token, K devices.
      total: B in Hz.
      split: "even", "per_block" or "per_sequence".
      stopped: hold the gradient through the bandwidths at zero, not the value.

    Returns:
      Scalar, seconds; differentiable by counts and trips.
    """
    if split == "even":
        band = latency.even_bandwidths(trips, total)
        token_s = round_trips.seconds(trips, band)
        return jnp.sum(latency.waiting(counts, token_s))
    if split == "per_block":
        solve = jax.vmap(fair_round_trips.fair_bandwidths, (0, None, None))
    else:
        solve = sum_of_maxima.sum_of_maxima
    found = solve(counts, trips, total)
    if not stopped:
        return jnp.sum(found.value)
    band = jax.lax.stop_gradient(found.amounts)
    band = jnp.broadcast_to(band, counts.shape)
    token_s = jax.vmap(round_trips.seconds, (None, 0))(trips, band)
    return jnp.sum(latency.waiting(counts, token_s))


def make_system(settings: config_lib.Config) -> base.System:
    """WDMoE as a system.

    Batches hold question int32 [B, Q] and answer int32 [B, A].

    Args:
      settings: what it is made of.

    Returns:
      A system whose parameters are {decoder, prices}. ``predict["answer"]`` gives, for
      each example, answer_accuracy, word_accuracy, nll (nats a word), and of its batch
      latency_ms and the experts asked a token; ``predict["routing"]`` the router's
      probabilities, float32 [B, L, I, n], with who was asked, the same, and which
      tokens there are, bool [B, L]; ``predict["generate"]`` answers, int32 [B, A].

    Raises:
      ValueError: a setting makes no sense.
    """
    network = Network(settings)
    total = settings.cell.bandwidth_hz

    def draw(key):
        """A cell, and what a token takes in it at even bandwidths."""
        gains = cells.draw_gains(key, settings.cell, 1)[0]
        trips = latency.make_trips(settings.cell, gains, settings.expert)
        band = latency.even_bandwidths(trips, total)
        return trips, round_trips.seconds(trips, band)

    def init(key, batch):
        del batch  # sizes are known
        return network.init(key)

    def seconds(counts, trips):
        if "latency" in settings.stopped:
            counts = jax.lax.stop_gradient(counts)
        stopped = "bandwidths" in settings.stopped
        return split_seconds(counts, trips, total, settings.split, stopped)

    def loss(params, batch, key):
        trips, token_s = draw(key)
        read = network.read(params, batch, token_s)
        scores = losses.score_answers(read.logits, batch["answer"])
        answer_loss = jnp.mean(scores["nll"])
        mask = read.mask.reshape(read.routing.probs.shape[1:-1])
        experts = settings.experts
        even = jnp.mean(moe.load_balance_loss(read.routing, mask))
        small = jnp.mean(moe.router_z_loss(read.routing, mask))
        metrics = {
            "answer_loss": answer_loss,
            "answer_accuracy": jnp.mean(scores["answer_accuracy"]),
            "balance": even,
            "asked": read.asked,
        }
        total_loss = answer_loss + experts.balance * even + experts.z_loss * small
        if settings.latency_weight:
            tokens = jnp.maximum(jnp.sum(read.mask), 1)
            token_ms = 1e3 * seconds(read.counts, trips) / tokens
            total_loss += settings.latency_weight * token_ms
            metrics["token_ms"] = token_ms
        return total_loss, metrics

    def answer(params, batch, key):
        trips, token_s = draw(key)
        read = network.read(params, batch, token_s)
        whole = jnp.ones(len(batch["answer"]))
        return {
            **losses.score_answers(read.logits, batch["answer"]),
            "latency_ms": 1e3 * seconds(read.counts, trips) * whole,
            "asked": read.asked * whole,
        }

    def routing(params, batch, key):
        _, token_s = draw(key)
        read = network.read(params, batch, token_s)
        probs = jnp.moveaxis(read.routing.probs, 0, 2)
        usage = read.usage.reshape(read.routing.probs.shape)
        mask = read.mask.reshape(probs.shape[:2])
        return {"probs": probs, "usage": jnp.moveaxis(usage, 0, 2), "mask": mask}

    def generate(params, batch, key):
        _, token_s = draw(key)
        return network.generate(
            params, batch["question"], batch["answer"].shape[1], token_s
        )

    return base.System(
        init=init,
        loss=loss,
        predict={"answer": answer, "generate": generate, "routing": routing},
        reads=("question", "answer"),
        metrics=METRICS,
    )
