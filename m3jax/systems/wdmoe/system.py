"""WDMoE: a language model whose experts answer over the air.

    words -> attention -> router -> who is asked -> experts on devices -> next block
                                         |
              gains -> seconds of a token + split of the band -> latency

A batch is what is at the base station at a time: its tokens share the cell, and every
block waits for its slowest device. Router, prices and experts can be trained by one
loss, with the latency through the split of the band.
"""

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.nn import moe
from m3jax.ops import losses
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import latency
from m3jax.systems.wdmoe import network as network_lib

METRICS = {
    "answer_accuracy": "1",
    "word_accuracy": "1",
    "nll": "nat/word",
    "latency_ms": "ms",
    "asked": "expert",
}
"""What is measured of each answer, and in which units; latency is of its batch."""


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
    network = network_lib.Network(settings)
    total = settings.cell.bandwidth_hz

    def draw(key):
        """A cell, and what a token takes in it at even bandwidths."""
        gains = cells.draw_gains(key, settings.cell, 1)[0]
        trips = latency.make_trips(settings.cell, gains, settings.expert)
        return trips, latency.even_seconds(trips, total)

    def init(key, batch):
        del batch  # sizes are known
        return network.init(key)

    def seconds(counts, trips):
        if "latency" in settings.stopped:
            counts = jax.lax.stop_gradient(counts)
        stopped = "bandwidths" in settings.stopped
        return latency.split_seconds(counts, trips, total, settings.split, stopped)

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
