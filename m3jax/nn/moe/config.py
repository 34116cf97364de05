"""What a mixture-of-experts layer is set up by, and what it tells of one call."""

import dataclasses
import math
from typing import NamedTuple

from m3jax import base
from m3jax.ops import numbers

PATHS = ("auto", "dense", "grouped", "buckets", "parallel")
"""How the experts may be run; see `MoeConfig`."""


@dataclasses.dataclass(frozen=True)
class MoeConfig:
    """Sizes and rules of a mixture-of-experts layer.

    Attributes:
      num_experts: number of experts, n.
      top_k: experts that answer a token, k; with a selection of your own, the most
        that may.
      ff_dim: hidden width of each expert, F.
      capacity_factor: an expert takes at most ``capacity_factor * T * k / n`` of T
        tokens (padding too), rounded up, and leaves out the later ones; None: it takes
        all that ask it.
      path: how the experts are run. "dense": each on all tokens, the slow reference.
        "grouped": tokens in the order of their experts, by ``jax.lax.ragged_dot``.
        "buckets": blocks of rows of one expert. "auto": buckets on a CPU, else grouped.
        "parallel": experts and tokens cut over the mesh of ``jax.set_mesh``; capacity
        then counts for each device.
      axis: the mesh's axis of "parallel".
      renormalise: whether the weights of the k chosen sum to one (Mixtral), or stay
        what the softmax over all n gave.

    Example:
      >>> MoeConfig(num_experts=8, top_k=2, ff_dim=64).capacity(num_tokens=100)
      100
      >>> MoeConfig(8, 2, 64, capacity_factor=1.25).capacity(num_tokens=100)
      32
    """

    num_experts: int = 8
    top_k: int = 2
    ff_dim: int = 352
    capacity_factor: float | None = None
    path: str = "auto"
    axis: str = "expert"
    renormalise: bool = True

    def __post_init__(self):
        for name in ("num_experts", "top_k", "ff_dim"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"MoeConfig.{name} must be at least 1, got {getattr(self, name)}."
                )
        if self.top_k > self.num_experts:
            raise ValueError(
                f"MoeConfig.top_k={self.top_k} must be at most"
                f" num_experts={self.num_experts}."
            )
        factor = self.capacity_factor
        if factor is not None and not 0 < factor < math.inf:
            raise ValueError(
                f"MoeConfig.capacity_factor must be positive or None, got {factor}."
            )
        if self.path not in PATHS:
            raise ValueError(
                f"MoeConfig.path must be one of {', '.join(PATHS)}, got {self.path!r}."
            )

    def capacity(self, num_tokens: int) -> int:
        """Tokens that one expert takes of ``num_tokens``; no token asks one twice."""
        if self.capacity_factor is None:
            return num_tokens
        even = num_tokens * self.top_k / self.num_experts
        return min(num_tokens, numbers.ceil_ratio(self.capacity_factor * even, 1.0))


class Kernels(NamedTuple):
    """The experts: SwiGLU networks ``down(silu(gate(x)) * up(x))``, without biases.

    Attributes:
      gate: [n, D, F].
      up: [n, D, F].
      down: [n, F, D].
    """

    gate: base.Array
    up: base.Array
    down: base.Array


class Routing(NamedTuple):
    """Who answered which token. A scanned stack adds a leading axis of layers.

    Attributes:
      logits: float32 [..., n], of the router.
      probs: float32 [..., n], their softmax.
      experts: int32 [..., k], heaviest first; where ``weights`` is 0, nobody.
      weights: float32 [..., k], what their answers were weighted by.
      counts: int32 [n], valid tokens that asked for each expert.
      dropped: int32 [n], how many of these it left out, beyond its capacity (or beyond
        the ``top_k`` of a token, if a selection asked for more).
    """

    logits: base.Array
    probs: base.Array
    experts: base.Array
    weights: base.Array
    counts: base.Array
    dropped: base.Array
