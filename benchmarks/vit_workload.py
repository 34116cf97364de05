"""What both sides of the vision-transformer benchmarks compute; NumPy alone.

Neither JAX nor PyTorch is imported here, so a fresh process of one side pays for that
side only.
"""

import dataclasses

import numpy as np

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0
ADAM_EPS = 1e-8
LAYER_NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Workload:
    """One AdamW step of a vision-transformer classifier.

    Patches are embedded by one dense layer, pass pre-norm layers (tanh-form GELU, fused
    query-key-value product) and a last LayerNorm; the mean token is classified.

    Attributes:
      image_size: height and width of the images, in pixels.
      patch_size: height and width of a patch, in pixels; divides ``image_size``.
      batch: images a step.
      dim: width of the tokens.
      depth: number of layers.
      num_heads: attention heads; divides ``dim``.
      mlp_dim: hidden width of the feed-forward layers.
      num_classes: number of labels.
    """

    image_size: int
    patch_size: int
    batch: int = 32
    dim: int = 192
    depth: int = 6
    num_heads: int = 3
    mlp_dim: int = 768
    num_classes: int = 1000

    @property
    def num_tokens(self) -> int:
        """Number of patches of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        return (
            f"ViT train step: dim {self.dim}, {self.depth} layers, batch {self.batch}, "
            f"{self.image_size} x {self.image_size} pixels, {self.num_tokens} tokens"
        )


# The width of ViT-Tiny, on pictures of EdgeScenes' size and of ImageNet's.
SMALL = Workload(image_size=64, patch_size=8)
LARGE = Workload(image_size=224, patch_size=16)
TINY = Workload(
    image_size=8,
    patch_size=4,
    batch=4,
    dim=24,
    depth=2,
    num_heads=3,
    mlp_dim=48,
    num_classes=5,
)
WORKLOADS = {"small": SMALL, "large": LARGE, "tiny": TINY}


def make_batch(workload: Workload, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws images and labels.

    Args:
      workload: the sizes.
      seed: of the generator.

    Returns:
      ``image`` float32 [B, H, W, 3], standard normal, and ``label`` int32 [B].
    """
    rng = np.random.default_rng(seed)
    size = workload.image_size
    return {
        "image": rng.standard_normal((workload.batch, size, size, 3), np.float32),
        "label": rng.integers(workload.num_classes, size=workload.batch, dtype="int32"),
    }


def named(size: str) -> Workload:
    """Finds a workload.

    Raises:
      ValueError: there is none of this name.
    """
    if size not in WORKLOADS:
        raise ValueError(f"no size {size!r}; there are {', '.join(WORKLOADS)}.")
    return WORKLOADS[size]
