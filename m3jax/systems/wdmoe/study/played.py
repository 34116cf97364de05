"""The testbed in the simulator: algorithm 2 and its history, beside top-k."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import packet_loss
from m3jax.costs import timeline, timeline_events, workers
from m3jax.ops import losses
from m3jax.systems.wdmoe import network, testbed
from m3jax.systems.wdmoe.study import training, variants

POLICIES = {"top_k": variants.VANILLA, "testbed": variants.ALGORITHM_2}


def measure(shared: training.Shared, seed: int) -> list[base.Record]:
    """Plays batches of each domain; both policies meet the same jitter and losses."""
    rows = []
    for number, name in enumerate(shared.data.groups):
        batches = [b for group, _, b in shared.batches("test") if group == number]
        if not batches:
            continue
        played = Testbed(shared, seed)
        batches = batches[: max(len(batches) - 1, 1)]  # the last one is not full
        found = [
            played(batches[turn % len(batches)], (number, turn))
            for turn in range(shared.settings.played_batches)
        ]
        for policy, variant in POLICIES.items():
            told = {
                "latency_ms": 1e3 * np.mean([f[policy][0].ends[0, -1] for f in found]),
                "accuracy": np.concatenate([f[policy][1] for f in found]).mean(),
            }
            rows += variants.rows(f"played, {variant}", seed, told, domain=name)
    return rows


class Testbed:
    """Four experts of a block on the server and four on devices.

    Attributes:
      workers: who runs experts, over links that jitter and lose.

    Args:
      shared: what all units share.
      seed: of the mixture, the jitter and the losses.
    """

    def __init__(self, shared: training.Shared, seed: int):
        self._settings = shared.settings
        made = shared.settings.mixture_system()
        self._expert, self._seed = made.expert, seed
        self._network = network.Network(made)
        self._params = jax.device_put(shared.mixture(seed))
        self._read = shared.compiled("testbed", lambda: jax.jit(self._run))
        shape = made.decoder.depth, made.experts.num_experts
        # Of each block apart, as in the paper's testbed.
        self._history = testbed.History(jnp.zeros(shape), jnp.zeros(shape))
        self.workers = self._machines()

    def __call__(
        self, batch: base.Batch, name: Sequence[int]
    ) -> dict[str, tuple[timeline_events.Timeline, np.ndarray]]:
        """Plays a batch with each policy; algorithm 2 learns from its own latencies.

        Args:
          batch: question and answer.
          name: numbers that tell this batch's jitter and losses from others'.

        Returns:
          Policy -> what happened, and which answers are right.
        """
        words = {key: batch[key] for key in ("question", "answer")}
        token_s = jax.vmap(lambda one: one.token_s)(self._history)
        read = jax.device_get(self._read(self._params, words, token_s))
        found = {}
        for policy, (probs, usage, right) in read.items():
            played = timeline.simulate(
                self.workers,
                np.argsort(-probs, axis=-1, kind="stable")[None],
                payload_bits=self._expert.payload_bits,
                num_asked=usage.sum(axis=-1).astype(int)[None],
                seed=[self._seed, *name],
            )
            found[policy] = played, right
        seen = found["testbed"][0]
        self._history = jax.vmap(testbed.observe)(
            self._history, jnp.asarray(seen.seconds[0]), jnp.asarray(seen.tokens[0])
        )
        return found

    def _run(self, params, batch, token_s):
        found = {}
        for policy in POLICIES:
            told = self._network.read(params, batch, token_s, policy)
            scores = losses.score_answers(told.logits, batch["answer"])
            probs = told.routing.probs.reshape(told.usage.shape)
            found[policy] = probs, told.usage, scores["answer_accuracy"]
        return found

    def _machines(self) -> list[workers.Worker]:
        settings = self._settings
        made = workers.server_and_devices(
            self._expert.flops, settings.link_bits_per_s, jitter=settings.link_jitter
        )
        loss = packet_loss.IndependentLoss(settings.link_loss)
        return [
            worker
            if worker.link is None
            else workers.Worker(
                worker.name, worker.token_s, workers.lossy(worker.link, loss)
            )
            for worker in made
        ]
