"""Language models by what running them takes: operations, and bytes that are read."""

import dataclasses

import jax

from m3jax import base
from m3jax.costs import checks

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A decoder's sizes.

    A pytree: its numbers may be arrays, one entry for each of many models.

    Attributes:
      name: of it.
      num_params: all weights, embeddings included. All count as multiplied and read
        for each token, the input's embedding table too: 7 % too much for a 7B model
        whose output head is another table.
      depth: layers.
      dim: width of the queries of all heads together.
      num_kv_heads: heads of keys and values.
      head_dim: width of one.
      vocab_size: words, V.
      bits_per_weight: stored; 4.5 for four bits with a 16-bit scale for each 32.
      bits_per_key: of the cached keys and values.
      source: of the numbers.

    Raises:
      ValueError: a number is not positive.

    Example:
      >>> round(model("Qwen2.5-7B-Q4").weight_bytes / 1e9, 2)
      4.28
    """

    name: str = dataclasses.field(metadata=_STATIC)
    num_params: base.Array | float
    depth: base.Array | int
    dim: base.Array | int
    num_kv_heads: base.Array | int
    head_dim: base.Array | int
    vocab_size: base.Array | int
    bits_per_weight: base.Array | float = 16.0
    bits_per_key: base.Array | float = 16.0
    source: str = dataclasses.field(default="", metadata=_STATIC)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name not in ("name", "source"):
                owner = f"language model {self.name!r}"
                checks.number(owner, field.name, getattr(self, field.name))

    @property
    def weight_bytes(self) -> base.Array:
        """Bytes of all weights."""
        return self.num_params * self.bits_per_weight / 8

    @property
    def cache_bytes(self) -> base.Array:
        """Bytes of one token's keys and values in all layers."""
        width = self.num_kv_heads * self.head_dim
        return 2 * self.depth * width * self.bits_per_key / 8

    def decode_flops(self, context: base.Array) -> base.Array:
        """Operations for the next token after ``context`` others.

        Two for each weight, and ``4 dim`` a layer for each token that is attended to.
        """
        return 2.0 * self.num_params + 4.0 * self.depth * self.dim * context

    def decode_bytes(self, context: base.Array) -> base.Array:
        """Bytes read for it: all weights, and the cache of the context."""
        return self.weight_bytes + self.cache_bytes * context

    def prefill_flops(self, prompt: base.Array) -> base.Array:
        """Operations for a whole prompt, each token attending to those before it."""
        attention = 2.0 * self.depth * self.dim * prompt * prompt
        return 2.0 * self.num_params * prompt + attention

    def prefill_bytes(self, prompt: base.Array) -> base.Array:
        """Bytes moved for it: weights read once, the cache written."""
        return self.weight_bytes + self.cache_bytes * prompt


def from_sizes(
    name: str,
    *,
    vocab_size: int,
    dim: int,
    depth: int,
    num_heads: int,
    num_kv_heads: int,
    ff_dim: int,
    head_dim: int | None = None,
    qkv_bias: bool = True,
    tie_embeddings: bool = True,
    bits_per_weight: float = 32.0,
) -> LanguageModel:
    """The costs of a decoder of given sizes, its weights counted.

    Embeddings, and in each layer four projections, a gated feed-forward network of
    three matrices and two norms, as in Llama and Qwen2; plain numbers of the names
    that ``nn.decoder.DecoderConfig`` has.

    Args:
      name: of it.
      vocab_size: words.
      dim: width of the tokens.
      depth: layers.
      num_heads: query heads.
      num_kv_heads: heads of keys and values.
      ff_dim: hidden width of the feed-forward network.
      head_dim: None: ``dim / num_heads``.
      qkv_bias: whether queries, keys and values have biases.
      tie_embeddings: whether the output head is the embedding table.
      bits_per_weight: stored.

    Example:
      >>> small = from_sizes("small", vocab_size=512, dim=64, depth=2, num_heads=4,
      ...                    num_kv_heads=2, ff_dim=176)
      >>> small.num_params
      125504
    """
    head_dim = dim // num_heads if head_dim is None else head_dim
    queries, keys = num_heads * head_dim, num_kv_heads * head_dim
    layer = 2 * dim * queries + 2 * dim * keys + 3 * dim * ff_dim + 2 * dim
    layer += (queries + 2 * keys) * qkv_bias
    tables = vocab_size * dim * (1 if tie_embeddings else 2)
    return LanguageModel(
        name,
        num_params=tables + depth * layer + dim,
        depth=depth,
        dim=queries,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        bits_per_weight=bits_per_weight,
        source="counted from its sizes",
    )


QWEN2_5_7B = LanguageModel(
    "Qwen2.5-7B",
    num_params=7.61e9,
    depth=28,
    dim=3584,
    num_kv_heads=4,
    head_dim=128,
    vocab_size=152_064,
    source="Qwen2.5 technical report and model card",
)
QWEN2_5_3B = LanguageModel(
    "Qwen2.5-3B",
    num_params=3.09e9,
    depth=36,
    dim=2048,
    num_kv_heads=2,
    head_dim=128,
    vocab_size=151_936,
    source="Qwen2.5 technical report and model card",
)

QWEN2_1_5B = LanguageModel(
    "Qwen2-1.5B",
    num_params=1.54e9,
    depth=28,
    dim=1536,
    num_kv_heads=2,
    head_dim=128,
    vocab_size=151_936,
    source="Qwen2 technical report (arXiv 2407.10671); the decoder of Qwen2-VL-2B",
)


def _four_bits(model: LanguageModel) -> LanguageModel:
    name = f"{model.name}-Q4"
    source = f"{model.source}; 4-bit weights in blocks of 32 with a 16-bit scale"
    return dataclasses.replace(model, name=name, bits_per_weight=4.5, source=source)


QWEN2_5_7B_Q4 = _four_bits(QWEN2_5_7B)
QWEN2_5_3B_Q4 = _four_bits(QWEN2_5_3B)
MODELS = {
    preset.name: preset
    for preset in (
        QWEN2_5_7B,
        QWEN2_5_3B,
        QWEN2_5_7B_Q4,
        QWEN2_5_3B_Q4,
        QWEN2_1_5B,
    )
}
"""Presets by name."""


def model(name: str) -> LanguageModel:
    """The preset of a name.

    Raises:
      ValueError: there is none; names those that there are.
    """
    return checks.preset("language model", name, MODELS)
