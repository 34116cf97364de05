"""WDMoE's settings: a language model of experts, the cell it lives in, who is asked."""

import dataclasses
import math
from typing import ClassVar

from m3jax import base
from m3jax.costs import checks
from m3jax.foundation import sizes as sizes_lib
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import moe
from m3jax.systems.wdmoe import cell as cells

POLICIES = ("top_k", "cosine", "threshold", "dynamic", "testbed", "priced")
SPLITS = ("even", "per_block", "per_sequence")
STOPPED = ("latency", "bandwidths")


def _decoder() -> sizes_lib.DecoderSizes:
    return sizes_lib.DecoderSizes(dim=32, depth=4)


@dataclasses.dataclass
class Experts:
    """Sizes of the experts, and the losses that keep their load even.

    Attributes:
      num_experts: n, one on each device.
      top_k: experts of a token, at most.
      ff_dim: hidden width of each.
      balance: weight of the Switch Transformer's load-balancing loss.
      z_loss: weight of the router's z-loss.
    """

    num_experts: int = 8
    top_k: int = 2
    ff_dim: int = 32
    balance: float = 0.01
    z_loss: float = 1e-3


@dataclasses.dataclass
class Config:
    """Settings of WDMoE.

    Attributes:
      decoder: sizes of the language model; its ``ff_dim`` counts nowhere.
      experts: in place of its feed-forward layers.
      cell: base station and devices; expert i runs on device i.
      expert: what a token costs to send and to compute; Mixtral's, whatever the size of
        the model that is trained here.
      policy: who is asked. "top_k": the best k (Mixtral). "cosine": the paper's
        algorithm 1. "threshold": one pass of it at a threshold. "dynamic": as many as
        carry weight. "testbed": algorithm 2, told what a token takes. "priced": by
        prices that are learned (``pricing``).
      threshold: theta, the cosine up to which "threshold" drops a token's last expert.
      spare: share of a token's weight that "dynamic" may drop.
      split: of the band: "even", "per_block", or "per_sequence", one for all blocks.
      latency_weight: nats a word that a millisecond a token is worth in training.
      stopped: gradients held at zero, to see what they are worth: "latency", all of its
        gradient; "bandwidths", that through the split alone.
    """

    decoder: sizes_lib.DecoderSizes = dataclasses.field(default_factory=_decoder)
    experts: Experts = dataclasses.field(default_factory=Experts)
    cell: cells.Cell = dataclasses.field(default_factory=cells.Cell)
    expert: cells.Expert = dataclasses.field(default_factory=cells.mixtral)
    policy: str = "top_k"
    threshold: float = 0.5
    spare: float = 0.2
    split: str = "per_sequence"
    latency_weight: float = 0.0
    stopped: tuple[str, ...] = ()

    NAME: ClassVar[str] = "wdmoe"
    PARTS: ClassVar[dict[str, str]] = {
        "router": r"decoder/layers/moe/router/.*",
        "prices": r"prices/.*",
        "experts": r"decoder/layers/moe/(gate|up|down)/.*",
        "trunk": r"decoder/(?!layers/moe/).*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.cell.validate()
        self.expert.validate()
        checks.choice("system", "policy", self.policy, POLICIES)
        checks.choice("system", "split", self.split, SPLITS)
        for name in self.stopped:
            checks.choice("system", "stopped", name, STOPPED)
        checks.number("system", "threshold", self.threshold, least=0.0, most=1.0)
        if not 0.0 <= self.spare < 1.0:
            raise ValueError(f"system.spare is {self.spare}; give 0 to less than 1")
        for field, value in (
            ("latency_weight", self.latency_weight),
            ("experts.balance", self.experts.balance),
            ("experts.z_loss", self.experts.z_loss),
        ):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"system.{field} is {value}; give 0 or more")
        self.decoder_config()
        if self.experts.num_experts != self.cell.num_devices:
            raise ValueError(
                f"system.experts.num_experts is {self.experts.num_experts} and"
                f" system.cell.flops_per_s has {self.cell.num_devices} devices; every"
                " expert of a block has a device of its own"
            )

    def decoder_config(self) -> decoder_lib.DecoderConfig:
        """The language model's configuration."""
        return decoder_lib.DecoderConfig(
            **dataclasses.asdict(self.decoder),
            scan_unroll=self.decoder.depth,
            moe=moe.MoeConfig(
                num_experts=self.experts.num_experts,
                top_k=self.experts.top_k,
                ff_dim=self.experts.ff_dim,
            ),
        )

    def make_system(self) -> base.System:
        """WDMoE as a system; see ``system.make_system``."""
        from m3jax.systems.wdmoe import system  # which reads these settings

        return system.make_system(self)

    def warm_start(self, trained: base.Params) -> base.Params:
        """What parameters of this system give another one: all."""
        return trained
