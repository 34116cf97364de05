"""Batches measured under several policies and splits, in one compiled program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.ops import losses, units
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config as config_lib
from m3jax.systems.wdmoe import latency
from m3jax.systems.wdmoe import network as network_lib

POLICIES = {"top_k": "top-k", "cosine": "cosine"}
"""Policies that every model is measured with, and their names."""
SPLITS = {
    "even": "even bandwidths",
    "per_block": "split per block",
    "per_sequence": "split per sequence",
}


class Met(NamedTuple):
    """What a batch of P prompts met under one policy.

    Attributes:
      right: float32 ``[P]``, 1 where the answer is right.
      asked: experts of a token, scalar.
      seconds: by split, ``[3]`` in the order of `SPLITS`.
      counts: tokens of each device in each block, ``[I, K]``.
    """

    right: base.Array
    asked: base.Array
    seconds: base.Array
    counts: base.Array


class Probe:
    """Measures batches under all policies: one compiled program for all cells.

    Args:
      settings: of the system.
      policies: names of those beside the settings' own.
    """

    def __init__(
        self, settings: config_lib.Config, policies: tuple[str, ...] = tuple(POLICIES)
    ):
        self.settings = settings
        self.network = network_lib.Network(settings)
        self.policies = tuple(dict.fromkeys((*policies, settings.policy)))
        self._measure = jax.jit(self._run)

    def __call__(
        self,
        params: base.Params,
        batch: base.Batch,
        key: base.Array,
        bandwidth_hz: float | None = None,
        offset_db: float = 0.0,
        threshold: float | None = None,
    ) -> dict[str, Met]:
        """Measures a batch in a cell that the key draws.

        Args:
          params: {decoder, prices}.
          batch: question and answer.
          key: of the cell.
          bandwidth_hz: B; the settings' if None.
          offset_db: that all links are better by.
          threshold: of the policy "threshold"; the settings' if None.

        Returns:
          Policy -> `Met`, on the host.
        """
        if bandwidth_hz is None:
            bandwidth_hz = self.settings.cell.bandwidth_hz
        batch = {name: jnp.asarray(batch[name]) for name in ("question", "answer")}
        if threshold is None:
            threshold = self.settings.threshold
        told = float(bandwidth_hz), float(units.db_to_lin(offset_db)), float(threshold)
        return jax.device_get(self._measure(params, batch, key, *told))

    def _run(self, params, batch, key, total, gain, threshold):
        settings = self.settings
        gains = gain * cells.draw_gains(key, settings.cell, 1)[0]
        trips = latency.make_trips(settings.cell, gains, settings.expert)
        token_s = latency.even_seconds(trips, total)
        reads = {
            policy: self.network.read(params, batch, token_s, policy, threshold)
            for policy in self.policies
        }

        def wait(counts):
            return jnp.stack(
                [latency.split_seconds(counts, trips, total, split) for split in SPLITS]
            )

        # Together, so that a solver is compiled once for all policies.
        seconds = jax.vmap(wait)(jnp.stack([read.counts for read in reads.values()]))
        return {
            policy: Met(
                losses.score_answers(read.logits, batch["answer"])["answer_accuracy"],
                *(read.asked, waited, read.counts),
            )
            for (policy, read), waited in zip(reads.items(), seconds, strict=True)
        }
