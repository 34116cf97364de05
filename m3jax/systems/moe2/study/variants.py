"""What is compared, and with which settings."""

import dataclasses

from m3jax import base
from m3jax.costs import budgets
from m3jax.evals import records
from m3jax.systems.moe2 import config, pool, spending, upload
from m3jax.train import optimizers

MOE2 = "MoE2"
SELECTION = "selection of 32"
VOTE = "majority vote"
UNIFORM = "uniform mixture"
AVERAGE = "average expert"
ORACLE = "oracle expert"
CLUSTER = "expert of the cluster"
BEST_OF_CLUSTER = "best expert of the cluster"
REFIT = "cluster mixture"
BEST = "best single expert"
WEIGHTED = "accuracy-weighted vote"
BASES = {"large": "large base", "small": "small base"}
GENERALISTS = {"large": "large generalist", "small": "small generalist"}
SINGLE_AGENTS = (*BASES.values(), *GENERALISTS.values())
SMO_VOTE = "SMO, vote"
RANDOM_VOTE = "random, vote"
RESTRICT = "MoE2, experts by restricted weights"
JOINT = "trained end to end"
STOPPED = {
    JOINT: (),
    "without the gate's gradient": ("gate",),
    "without the adapters' gradient": ("adapters",),
    "without the upload's gradient": ("upload",),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the whole study.

    Attributes:
      data_config: variant of EdgeText.
      experts, generalists: names of the pretrained pools.
      num_seeds: of gates; each draws its own 80/20 split, order and responses.
      num_examples: prompts that are split; None: all of both splits.
      gate_steps, gate_batch, gate_rate: of training the gate.
      taus_s, energies_j: the paper's budgets.
      num_draws: responses that delays and energies are means of.
      upload_words: words of a distribution that are sent, whose effect is measured.
      joint_steps, joint_batch, joint_rate: of training end to end.
      joint_examples: test examples that it is measured on.
      num_reals: reals of the learned upload.
      joint_budget: what a response may cost there.
      snr_db: of the learned upload's link when it is measured.
      num_instances: choices among ``instance_experts`` that are certified at a seed.
      instance_experts: N.
      instance_s: seconds that each may take.
      compiles_quickly: see ``studies.compiling``.
    """

    data_config: str = "laptop"
    experts: str = "edge_experts"
    generalists: str = "edge_generalists"
    num_seeds: int = 5
    num_examples: int | None = None
    gate_steps: int = 2_000
    gate_batch: int = 64
    gate_rate: float = 1e-3
    taus_s: tuple[float, ...] = (1.0, 2.0, 3.0)
    energies_j: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0, 25.0, 35.0, 50.0)
    num_draws: int = 2_048
    upload_words: tuple[int, ...] = (1, 2, 5, 10, 50)
    joint_steps: int = 200
    joint_batch: int = 64
    joint_rate: float = 2e-3
    joint_examples: int = 1_000
    num_reals: int = 32
    joint_budget: tuple[float, float] = (2.0, 25.0)
    snr_db: float = 10.0
    num_instances: int = 4
    instance_experts: int = 32
    instance_s: float = 60.0
    compiles_quickly: bool = False

    def system(self) -> config.Config:
        """The paper's system, without a budget: the choice of experts comes later."""
        return config.Config()

    def joint_system(self, stopped: tuple[str, ...]) -> config.Config:
        """Gate, adapters and upload together, within a budget."""
        tau_s, energy_j = self.joint_budget
        return config.Config(
            upload=upload.Config(num_reals=self.num_reals),
            spending=spending.Config(
                budget=budgets.Budget(tau_s, energy_j),
                threshold=0.05,
                in_training=True,
            ),
            stopped=stopped,
        )

    def gate_optimizer(self) -> optimizers.OptimizerConfig:
        """AdamW as in table VI, at a rate for our sizes."""
        return optimizers.OptimizerConfig(
            learning_rate=self.gate_rate, warmup_steps=50, weight_decay=1e-2
        )

    def joint_optimizer(self) -> optimizers.OptimizerConfig:
        """Of training end to end."""
        return optimizers.OptimizerConfig(
            learning_rate=self.joint_rate, warmup_steps=20, weight_decay=0.0, b2=0.95
        )


def smoke() -> Settings:
    """A study of seconds, of the same parts."""
    return Settings(
        data_config="smoke",
        num_seeds=2,
        num_examples=200,
        gate_steps=40,
        gate_batch=32,
        taus_s=(1.0, 3.0),
        energies_j=(10.0, 50.0),
        num_draws=32,
        upload_words=(2,),
        joint_steps=3,
        joint_batch=8,
        joint_examples=40,
        num_instances=1,
        instance_experts=12,
        instance_s=2.0,
        compiles_quickly=True,
    )


def rows(
    variant: str, seed: int, found: dict[str, float], **at: float | str
) -> list[base.Record]:
    """Records of a variant's values."""
    return records.make(config.Config.NAME, variant, seed, found, UNITS, **at)


UNITS = {
    "accuracy": "1",
    "nll": "nat/word",
    "asked": "expert",
    "delay_s": "s",
    "energy_j": "J",
    "refit_loss": "nat/word",
    "upload_bits": "bit",
    "gap": "nat/word",
    "share_certified": "1",
    "certificate": "1",
    "seconds": "s",
    "evaluated": "set",
}
"""Metric -> unit."""
__all__ = ["Settings", "pool", "rows", "smoke"]
