"""Models that see: a vision tower before a decoder, by what running them takes."""

import dataclasses

import jax

from m3jax import base
from m3jax.costs import checks, devices, inference, models

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VisionLanguageModel:
    """A decoder, and the tower that turns patches into its tokens.

    A pytree: its numbers may be arrays, one entry for each of many models.

    Attributes:
      name: of it.
      language: the decoder.
      tower_params: weights of the tower, all multiplied for each patch.
      tower_depth: its layers.
      tower_dim: their width.
      patches_per_token: that are merged into one token of the decoder.
      source: of the tower's numbers.

    Raises:
      ValueError: a number is not positive.

    Example:
      >>> edge = vision_language_model("Qwen2-VL-2B")
      >>> round(edge.weight_bytes / 1e9, 2), round(edge.memory_bytes(1000) / 1e9, 2)
      (4.43, 4.46)
    """

    name: str = dataclasses.field(metadata=_STATIC)
    language: models.LanguageModel
    tower_params: base.Array | float
    tower_depth: base.Array | int
    tower_dim: base.Array | int
    patches_per_token: base.Array | int = 4
    source: str = dataclasses.field(default="", metadata=_STATIC)

    def __post_init__(self):
        owner = f"vision-language model {self.name!r}"
        for name in ("tower_params", "tower_depth", "tower_dim", "patches_per_token"):
            checks.number(owner, name, getattr(self, name))

    @property
    def weight_bytes(self) -> base.Array:
        """Bytes of all weights, the tower's at the decoder's precision."""
        tower = self.tower_params * self.language.bits_per_weight / 8
        return self.language.weight_bytes + tower

    def memory_bytes(self, context: base.Array) -> base.Array:
        """Bytes of weights and of the cache of so many tokens; no activations."""
        return self.weight_bytes + self.language.cache_bytes * context

    def encode_flops(self, tokens: base.Array) -> base.Array:
        """Operations of the tower for one picture that becomes so many tokens.

        Each patch attends to all of them; where a tower attends within windows, as most
        layers of Qwen2.5-VL do, this counts up to 13 % too much at 300 tokens.
        """
        patches = tokens * self.patches_per_token
        attention = 4.0 * self.tower_depth * self.tower_dim * patches * patches
        return 2.0 * self.tower_params * patches + attention

    def prefill_flops(self, text: base.Array, seen: base.Array) -> base.Array:
        """Operations until a prompt is read.

        Args:
          text: tokens of it.
          seen: tokens of its pictures, of one if the tower attends to all patches.
        """
        return self.encode_flops(seen) + self.language.prefill_flops(text + seen)


QWEN2_VL_2B = VisionLanguageModel(
    "Qwen2-VL-2B",
    language=models.QWEN2_1_5B,
    tower_params=675e6,
    tower_depth=32,
    tower_dim=1280,
    source="Qwen2-VL technical report (arXiv 2409.12191): a tower of 675M weights,"
    " patches of 14 pixels, 2 x 2 of them a token; depth and width of its config.json",
)
QWEN2_5_VL_7B = VisionLanguageModel(
    "Qwen2.5-VL-7B",
    language=models.QWEN2_5_7B,
    tower_params=675e6,
    tower_depth=32,
    tower_dim=1280,
    source="Qwen2.5-VL technical report (arXiv 2502.13923, table 1): 32 layers of 1280,"
    " patches of 14 pixels, 2 x 2 of them a token; 8.29B weights in all, less the"
    " decoder's 7.61B",
)
MODELS = {preset.name: preset for preset in (QWEN2_VL_2B, QWEN2_5_VL_7B)}
"""Presets by name."""


def vision_language_model(name: str) -> VisionLanguageModel:
    """The preset of a name.

    Raises:
      ValueError: there is none; names those that there are.
    """
    return checks.preset("vision-language model", name, MODELS)


def prefill_time(
    device: devices.Device,
    model: VisionLanguageModel,
    text: base.Array,
    seen: base.Array,
    overlap: str = "sum",
) -> base.Array:
    """Seconds until a prompt of text and pictures is read.

    Args:
      device: where it runs.
      model: what runs.
      text: tokens of it.
      seen: tokens of its pictures.
      overlap: as in ``inference.compute_time``.
    """
    tower = model.weight_bytes - model.language.weight_bytes
    moved = model.language.prefill_bytes(text + seen) + tower * (seen > 0)
    flops = model.prefill_flops(text, seen)
    return inference.compute_time(device, flops, moved, overlap)
