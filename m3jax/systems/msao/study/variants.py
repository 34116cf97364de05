"""What MSAO's study compares, and its settings."""

import dataclasses

from m3jax.data.edgescenes import scenes
from m3jax.systems.msao import pricing

CLOUD = "cloud alone"
EDGE = "edge alone"
EDGE_PRUNED = "edge alone, pruned"
SPLIT = "layer split"
UNIFORM = "uniform offload"
MSAO = "MSAO"
NO_PROBES = "without modality awareness"
NO_SCHEDULE = "without scheduling"
VERIFIED = (
    *(CLOUD, EDGE, EDGE_PRUNED, SPLIT, UNIFORM),
    *(MSAO, NO_PROBES, NO_SCHEDULE),
)
"""Ways to answer in which every word is the target's, or the draft's alone."""
WHOLE = "whole answers stay"
WORDS = "words stay"
PROBES = "probes anew"
PLANS = "search of plans"
QUESTIONS, DESCRIBE = "all questions", "describe"
WORKLOADS = (QUESTIONS, DESCRIBE)


@dataclasses.dataclass
class Settings:
    """Of MSAO's study.

    Attributes:
      num_seeds: of everything.
      data_config: of the scenes that probes are trained on anew.
      num_requests: of each workload and seed.
      rates_mbps: of the link, both ways.
      rtt_s: round-trip time.
      draft_lengths: to choose from.
      thresholds: of normalised entropy, above which the cloud is asked; 1: never.
      staying: thresholds of the mean entropy below which an answer stays unverified.
      state_bits: of a number of a split model's hidden state.
      probe_steps, probe_batch, probe_learning_rate: of probes that are trained anew.
      num_searches: of plans, by Bayesian optimisation and by chance.
      target: name of the shipped model with probes, in the cloud.
      cloud: of one that was tuned as long to read everything.
      draft: of the edge's, which reads everything.
      pruned: of the same, tuned to read what probes keep.
      compiles_quickly: programs that run slower; right for few requests.
    """

    num_seeds: int = 5
    data_config: str = "laptop"
    num_requests: int = 260
    rates_mbps: tuple[float, ...] = (200.0, 300.0, 400.0, 1.0, 5.0, 20.0)
    rtt_s: float = 0.02
    draft_lengths: tuple[int, ...] = (1, 2, 3, 4, 5)
    thresholds: tuple[float, ...] = (0.1, 0.3, 1.0)
    staying: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2)
    state_bits: int = 16
    probe_steps: int = 300
    probe_batch: int = 48
    probe_learning_rate: float = 2e-3
    num_searches: int = 20
    target: str = "edge_probes"
    draft: str = "edge_draft"
    cloud: str = "edge_cloud"
    pruned: str = "edge_pruned_draft"
    compiles_quickly: bool = False

    @property
    def places(self) -> dict[float, pricing.Place]:
        """Machines and link of each rate."""
        return {
            rate: pricing.Place(pricing.fading_link(rate), rtt_s=self.rtt_s)
            for rate in self.rates_mbps
        }


def smoke() -> Settings:
    """Shows in a minute that all of it runs."""
    return Settings(
        num_seeds=2,
        data_config="smoke",
        num_requests=26,
        rates_mbps=(300.0, 5.0),
        draft_lengths=(2, 4),
        thresholds=(0.3, 1.0),
        staying=(0.03, 0.2),
        probe_steps=2,
        probe_batch=16,
        num_searches=2,
        compiles_quickly=True,
    )


def skill_name(number: int) -> str:
    """Of a skill by its number."""
    return scenes.SKILLS[int(number)]
