"""MoE2's settings: who answers, how answers are fused, and what they may cost."""

import dataclasses
from typing import ClassVar

from m3jax import base
from m3jax.systems.moe2 import gate as gate_lib
from m3jax.systems.moe2 import pool as pool_lib
from m3jax.systems.moe2 import spending as spending_lib
from m3jax.systems.moe2 import upload as upload_lib

GRADIENTS = ("gate", "adapters", "upload")


@dataclasses.dataclass
class Config:
    """Settings of MoE2.

    Attributes:
      pool: the experts.
      gate: sizes of the gate.
      subset: the experts in use, the paper's S; () for all.
      top_k: experts asked for each prompt, at most; None: all in use.
      upload: how distributions get to where they are fused.
      spending: the servers' costs, the budgets, and whether training minds them.
      stopped: parts whose gradient is held at zero, to see what it is worth: of "gate",
        "adapters" and "upload".
    """

    pool: pool_lib.Config = dataclasses.field(default_factory=pool_lib.Config)
    gate: gate_lib.Config = dataclasses.field(default_factory=gate_lib.Config)
    subset: tuple[int, ...] = ()
    top_k: int | None = None
    upload: upload_lib.Config = dataclasses.field(default_factory=upload_lib.Config)
    spending: spending_lib.Config = dataclasses.field(
        default_factory=spending_lib.Config
    )
    stopped: tuple[str, ...] = ()

    NAME: ClassVar[str] = "moe2"
    PARTS: ClassVar[dict[str, str]] = {
        "gate": r"(gate|multipliers)/.*",
        "adapters": r"pool/lora/.*",
        "base": r"pool/(small|large)/.*",
        "upload": r"upload/.*",
    }
    """Names of parts of the parameters, for ``learner.trainable``."""

    def validate(self) -> None:
        """Raises ValueError naming the first field that makes no sense."""
        self.pool.validate()
        if self.pool.lora.rank < 1:
            raise ValueError(
                "system.pool.lora.rank is 0, which makes all experts of a size the"
                " same; give 1 or more"
            )
        self.gate.validate()
        self.upload.validate(self.pool.small.vocab_size)
        num = self.pool.num_experts
        self.spending.validate(num)
        if not all(0 <= n < num for n in self.subset):
            raise ValueError(
                f"system.subset is {tuple(self.subset)}; name experts 0 to {num - 1}"
            )
        if self.top_k is not None and not 1 <= self.top_k <= num:
            raise ValueError(
                f"system.top_k is {self.top_k}; give 1 to {num}, or None for all"
            )
        unknown = sorted(set(self.stopped) - set(GRADIENTS))
        if unknown:
            raise ValueError(
                f"system.stopped names {', '.join(unknown)}; choose from {GRADIENTS}"
            )

    def make_system(self) -> base.System:
        """MoE2 as a system; see ``system.make_system``."""
        from m3jax.systems.moe2 import system  # which reads these settings

        return system.make_system(self)

    def warm_start(self, trained: base.Params) -> base.Params:
        """What other parameters give.

        Args:
          trained: of a pool of experts with adapters, or of this system.

        Returns:
          Parameters to lay over those that ``init`` draws.
        """
        return trained if "pool" in trained else {"pool": trained}
