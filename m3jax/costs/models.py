"""Language models by what running them takes: operations, and bytes that are read."""

import dataclasses

from m3jax import base


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A decoder's sizes.

    Attributes:
      name: of it.
      num_params: all weights, embeddings included.
      depth, dim: layers, and width of the queries of all heads together.
      kv_dim: width of the keys of all key-value heads together.
      vocab_size: words, V.
      bits_per_weight: stored; 4.5 for four bits with a 16-bit scale for each 32.
      bits_per_key: of the cached keys and values.
      source: of the numbers.

    Raises:
      ValueError: a number is not positive.
    """

    name: str
    num_params: float
    depth: int
    dim: int
    kv_dim: int
    vocab_size: int
    bits_per_weight: float = 16.0
    bits_per_key: float = 16.0
    source: str = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "source") and not value > 0:
                raise ValueError(
                    f"language model {self.name!r} has {field.name}={value!r}; give a"
                    " number above 0"
                )

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        return self.num_params * self.bits_per_weight / 8

    def decode_flops(self, context: base.Array) -> base.Array:
        """Operations for the next token after ``context`` others.

        Two for each weight, and ``4 dim`` a layer for each token that is attended to.
        """
        return 2 * self.num_params + 4.0 * self.depth * self.dim * context

    def decode_bytes(self, context: base.Array) -> base.Array:
        """Bytes read for it: all weights, and the cache of the context."""
        return self.weight_bytes + self._cache_bytes * context

    def prefill_flops(self, prompt: base.Array) -> base.Array:
        """Operations for a whole prompt, each token attending to those before it."""
        return (
            2 * self.num_params * prompt + 2.0 * self.depth * self.dim * prompt * prompt
        )

    def prefill_bytes(self, prompt: base.Array) -> base.Array:
        """Bytes moved for it: weights read once, the cache written."""
        return self.weight_bytes + self._cache_bytes * prompt

    @property
    def _cache_bytes(self) -> float:
        """Of one token."""
        return 2 * self.depth * self.kv_dim * self.bits_per_key / 8


QWEN2_5_7B_Q4 = LanguageModel(
    "Qwen2.5-7B-Q4",
    num_params=7.61e9,
    depth=28,
    dim=3584,
    kv_dim=512,
    vocab_size=152_064,
    bits_per_weight=4.5,
    source="Qwen2.5 technical report and model card",
)
QWEN2_5_3B_Q4 = LanguageModel(
    "Qwen2.5-3B-Q4",
    num_params=3.09e9,
    depth=36,
    dim=2048,
    kv_dim=256,
    vocab_size=151_936,
    bits_per_weight=4.5,
    source="Qwen2.5 technical report and model card",
)
MODELS = {model.name: model for model in (QWEN2_5_7B_Q4, QWEN2_5_3B_Q4)}
"""Presets by name."""
