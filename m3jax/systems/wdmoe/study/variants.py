"""What is compared, and with which settings."""

import dataclasses

from m3jax import base
from m3jax.evals import records
from m3jax.systems.wdmoe import cell, config, probe
from m3jax.train import optimizers

MIXTURE = "mixture"
AMPLE = "ample mixture"
PLAYED = "testbed"
SURFACE = "surface of savings"
CURVES = "curves of the preset"
VANILLA, PAPER = probe.POLICIES.values()
THRESHOLD = "cosine at a threshold"
BY_WEIGHT = "frozen router, best margin"
BY_PRICE = "frozen router, best price and margin"
TUNED_BY_PRICE = "tuned router, best price and margin"
ROUTER = "end to end"
ALGORITHM_2 = "algorithm 2"
DEVICES = {"alike": cell.ALIKE, "mixed": cell.MIXED}
NO_SPLIT = "without the gradient through the split"
NO_LATENCY = "without the latency's gradient"
STOPPED = {NO_SPLIT: ("bandwidths",), NO_LATENCY: ("latency",)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the whole study.

    Attributes:
      data_config: variant of EdgeText.
      num_seeds: of mixtures, routers and channels.
      num_fresh: examples that a mixture is trained on, over and over.
      mixture_steps, mixture_batch: of training a mixture.
      ample_dim, ample_steps: width of a mixture that has more than it needs, and of its
        experts; and its steps.
      router_steps, router_batch, router_rate: of tuning router and prices.
      latency_weights: nats a word for a millisecond a token.
      prices, margins: of a frozen router, all pairs; without a price, experts go by
        weight alone (``selection.dynamic``).
      thresholds: of the paper's policy, for the curve over it.
      num_prompts: of one domain that are at the base station together.
      num_cells: draws of the channel that each batch is measured in, at a seed.
      num_draws: channels of the savings, at a seed.
      imbalances, spreads: of the surface of savings.
      surface_blocks, surface_tokens: of the preset.
      bandwidths_hz, token_counts: of the preset's curves.
      played_batches: of each domain in the testbed.
      link_bits_per_s: of the testbed's four devices.
      link_jitter, link_loss: of their links.
      compiles_quickly: see ``studies.compiling``.
    """

    data_config: str = "laptop"
    num_seeds: int = 5
    num_fresh: int = 60_000
    mixture_steps: int = 2_400
    mixture_batch: int = 128
    ample_dim: int = 64
    ample_steps: int = 1_200
    router_steps: int = 800
    router_batch: int = 64
    router_rate: float = 1e-2
    latency_weights: tuple[float, ...] = (0.03, 0.1, 0.2)
    prices: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    margins: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    thresholds: tuple[float, ...] = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    num_prompts: int = 50
    num_cells: int = 4
    num_draws: int = 40
    imbalances: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    spreads: tuple[float, ...] = (0.0, 0.5, 1.0)
    surface_blocks: int = 32
    surface_tokens: int = 256
    bandwidths_hz: tuple[float, ...] = (20e6, 40e6, 60e6, 80e6, 100e6, 120e6)
    token_counts: tuple[int, ...] = (16, 64, 256, 1_024)
    played_batches: int = 8
    link_bits_per_s: tuple[float, ...] = (160e6, 80e6, 80e6, 40e6)
    link_jitter: float = 0.3
    link_loss: float = 0.02
    compiles_quickly: bool = False

    def mixture_system(self) -> config.Config:
        """The language model, with its experts chosen as Mixtral's are."""
        return self._sized(config.Config())

    def ample_system(self) -> config.Config:
        """A mixture that has more parameters than its questions need."""
        made = self._sized(config.Config())
        made.decoder.dim = made.experts.ff_dim = self.ample_dim
        return made

    def priced_system(
        self, weight: float, stopped: tuple[str, ...] = ()
    ) -> config.Config:
        """Router and prices that mind the latency."""
        return self._sized(
            config.Config(policy="priced", latency_weight=weight, stopped=stopped)
        )

    def _sized(self, made: config.Config) -> config.Config:
        """Fewer blocks where compiling is all that takes time."""
        if self.compiles_quickly:
            made.decoder.depth = 2
        return made

    def mixture_optimizer(self) -> optimizers.OptimizerConfig:
        """Of training a mixture from nothing."""
        return optimizers.OptimizerConfig(
            name="muon",
            learning_rate=3e-3,
            muon_learning_rate=1e-2,
            warmup_steps=50,
            weight_decay=1e-3,
            b2=0.95,
        )

    def router_optimizer(self) -> optimizers.OptimizerConfig:
        """Of tuning router and prices."""
        return optimizers.OptimizerConfig(
            learning_rate=self.router_rate, warmup_steps=20, weight_decay=0.0, b2=0.95
        )


def router_names(settings: Settings) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Name of a tuned router -> its weight of the latency, and what is stopped."""
    names = {
        f"{ROUTER}, weight {weight:g}": (weight, ())
        for weight in settings.latency_weights
    }
    middle = settings.latency_weights[len(settings.latency_weights) // 2]
    return names | {name: (middle, stopped) for name, stopped in STOPPED.items()}


def smoke() -> Settings:
    """A study of seconds, of the same parts."""
    return Settings(
        data_config="smoke",
        num_seeds=2,
        num_fresh=512,
        mixture_steps=8,
        mixture_batch=32,
        ample_dim=16,
        ample_steps=8,
        router_steps=3,
        router_batch=8,
        latency_weights=(0.1,),
        prices=(0.0, 0.5),
        margins=(1.0,),
        thresholds=(0.5,),
        num_prompts=10,
        num_cells=1,
        num_draws=4,
        imbalances=(0.0, 0.5),
        spreads=(0.0, 1.0),
        surface_blocks=4,
        surface_tokens=16,
        bandwidths_hz=(20e6, 100e6),
        token_counts=(16,),
        played_batches=2,
        compiles_quickly=True,
    )


def rows(
    variant: str, seed: int, found: dict[str, float], **at: float | str
) -> list[base.Record]:
    """Records of a variant's values."""
    return records.make(config.Config.NAME, variant, seed, found, UNITS, **at)


UNITS = {
    "accuracy": "1",
    "latency_ms": "ms",
    "asked": "expert",
    "active_parameters": "1e3",
    "saved": "1",
    "load_variation": "1",
    "dropped": "1",
    "pair_ratio": "1",
}
"""Metric -> unit."""
