"""The vision-transformer workload in PyTorch, with m3jax's names and weights."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import vit_workload


class Attention(nn.Module):
    """Self-attention by PyTorch's fused kernel."""

    def __init__(self, workload: vit_workload.Workload):
        super().__init__()
        self.num_heads = workload.num_heads
        self.qkv = nn.Linear(workload.dim, 3 * workload.dim)
        self.out = nn.Linear(workload.dim, workload.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mixes tokens [B, L, D]."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class Mlp(nn.Module):
    """Two dense layers with the tanh form of GELU between."""

    def __init__(self, workload: vit_workload.Workload):
        super().__init__()
        self.up = nn.Linear(workload.dim, workload.mlp_dim)
        self.down = nn.Linear(workload.mlp_dim, workload.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., D] to [..., D]."""
        return self.down(functional.gelu(self.up(x), approximate="tanh"))


class Layer(nn.Module):
    """One pre-norm encoder layer."""

    def __init__(self, workload: vit_workload.Workload):
        super().__init__()
        self.attention_norm = _layer_norm(workload)
        self.attention = Attention(workload)
        self.mlp_norm = _layer_norm(workload)
        self.mlp = Mlp(workload)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps tokens [B, L, D] to tokens."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class ViT(nn.Module):
    """The encoder."""

    def __init__(self, workload: vit_workload.Workload):
        super().__init__()
        self.patch_size = workload.patch_size
        self.patch_embed = nn.Linear(3 * workload.patch_size**2, workload.dim)
        shape = workload.num_tokens, workload.dim
        self.position_embed = nn.Parameter(torch.randn(shape) * workload.dim**-0.5)
        self.layers = nn.ModuleList(Layer(workload) for _ in range(workload.depth))
        self.final_norm = _layer_norm(workload)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, H, W, 3] to tokens [B, L, D]."""
        batch, size, patch = images.shape[0], images.shape[1], self.patch_size
        side = size // patch
        patches = images.view(batch, side, patch, side, patch, 3)
        patches = patches.permute(0, 1, 3, 2, 4, 5).reshape(batch, side * side, -1)
        x = self.patch_embed(patches) + self.position_embed
        for layer in self.layers:
            x = layer(x)
        return self.final_norm(x)


class Classifier(nn.Module):
    """Labels an image by the mean of its tokens."""

    def __init__(self, workload: vit_workload.Workload):
        super().__init__()
        self.vit = ViT(workload)
        self.head = nn.Linear(workload.dim, workload.num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, H, W, 3] to logits [B, num_classes]."""
        return self.head(self.vit(images).mean(dim=1))


def counterpart(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Finds the array of m3jax that stands for a parameter of `Classifier`.

    Modules are named alike; m3jax stacks its layers and stores kernels transposed.

    Args:
      arrays: '/'-joined path -> parameter, or its gradient.
      name: of a PyTorch parameter, such as ``"vit.layers.3.attention.qkv.weight"``.

    Returns:
      The array, in PyTorch's layout.
    """
    layer = re.search(r"\.layers\.(\d+)\.", name)
    path = re.sub(r"\.layers\.\d+\.", ".layers.", name)
    path = re.sub(r"norm\.weight$", "norm.scale", path)
    is_kernel = path.endswith(".weight")
    path = re.sub(r"\.weight$", ".kernel", path).replace(".", "/")
    array = arrays[path][int(layer[1])] if layer else arrays[path]
    return array.T if is_kernel else array


def make_model(
    workload: vit_workload.Workload,
    weights: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
) -> Classifier:
    """Makes the network, with m3jax's weights if given, else with PyTorch's own."""
    model = Classifier(workload)
    if weights is not None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                value = np.array(counterpart(weights, name))
                if value.shape != parameter.shape:
                    raise ValueError(f"{name}: {value.shape} != {parameter.shape}")
                parameter.copy_(torch.from_numpy(value))
    return model.to(device)


def make_loss(
    model: nn.Module, batch: Mapping[str, np.ndarray], device: str = "cpu"
) -> Callable[[], torch.Tensor]:
    """Binds a batch to a call that gives the mean cross-entropy in nats."""
    images = torch.from_numpy(batch["image"]).to(device)
    labels = torch.from_numpy(batch["label"]).long().to(device)
    return lambda: functional.cross_entropy(model(images), labels)


def make_step(
    parameters: list[nn.Parameter], loss_fn: Callable[[], torch.Tensor]
) -> Callable[[], float]:
    """Makes a call that does one clipped AdamW step, by PyTorch's fused kernel.

    Returns:
      A function that does one step, waits for its end and returns the loss before it.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=vit_workload.LEARNING_RATE,
        eps=vit_workload.ADAM_EPS,
        weight_decay=vit_workload.WEIGHT_DECAY,
        fused=True,
    )

    def call() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, vit_workload.CLIP_NORM)
        optimizer.step()
        return loss.item()

    return call


def _layer_norm(workload: vit_workload.Workload) -> nn.LayerNorm:
    return nn.LayerNorm(workload.dim, eps=vit_workload.LAYER_NORM_EPS)
