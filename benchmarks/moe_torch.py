"""The decoder of experts in PyTorch, by m3jax's weights.

The experts are run in the two ways of Transformers' Mixtral: a loop over the experts
with ``index_select`` and ``index_add``, and grouped products of sorted tokens, which on
a CPU are one custom operation, so that a compiler takes the network as a whole.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from m3jax.nn import decoder as decoder_lib


def run_loop(x, experts, weights, gate, up, down):
    """Expert by expert; x [T, D], experts and weights [T, k], kernels [n, ., .]."""
    order, tokens, counts = _sorted(experts, len(gate))
    parts = x.index_select(0, tokens).split(counts.tolist())
    answers = [
        (functional.silu(part @ gate[i]) * (part @ up[i])) @ down[i]
        for i, part in enumerate(parts)
    ]
    answers = torch.cat(answers) * weights.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, tokens, answers)


def run_grouped(x, experts, weights, gate, up, down):
    """All experts by three grouped products; arguments as of `run_loop`."""
    order, tokens, counts = _sorted(experts, len(gate))
    rows = x.index_select(0, tokens)
    gates = grouped_product(rows, gate, counts)
    hidden = functional.silu(gates) * grouped_product(rows, up, counts)
    answers = grouped_product(hidden, down, counts) * weights.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, tokens, answers)


def _sorted(experts, num_experts):
    order = torch.argsort(experts.flatten(), stable=True)
    counts = functional.one_hot(experts.flatten(), num_experts).sum(dim=0)
    return order, order // experts.shape[1], counts


@torch.library.custom_op("m3jax_benchmarks::grouped_product", mutates_args=())
def grouped_product(
    rows: torch.Tensor, kernels: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Rows [S, D] by the kernels [n, D, F] of their groups: [S, F]."""
    out = rows.new_empty(len(rows), kernels.shape[2])
    sizes = counts.tolist()
    parts = zip(rows.split(sizes), kernels, out.split(sizes), strict=True)
    for part, kernel, place in parts:
        torch.mm(part, kernel, out=place)
    return out


@torch.library.custom_op("m3jax_benchmarks::grouped_outer", mutates_args=())
def _grouped_outer(
    rows: torch.Tensor, others: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """The kernels' gradient, [n, D, F]."""
    out = rows.new_empty(len(counts), rows.shape[1], others.shape[1])
    sizes = counts.tolist()
    parts = zip(rows.split(sizes), others.split(sizes), out, strict=True)
    for left, right, place in parts:
        torch.mm(left.T, right, out=place)
    return out


@grouped_product.register_fake
def _(rows, kernels, counts):
    return rows.new_empty(len(rows), kernels.shape[2])


@_grouped_outer.register_fake
def _(rows, others, counts):
    return rows.new_empty(len(counts), rows.shape[1], others.shape[1])


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, cotangent):
    rows, kernels, counts = ctx.saved_tensors
    by_rows = grouped_product(cotangent, kernels.transpose(1, 2), counts)
    return by_rows, _grouped_outer(rows, cotangent.contiguous(), counts), None


grouped_product.register_autograd(_backward, setup_context=_keep)


class Decoder(nn.Module):
    """`m3jax.nn.decoder.Decoder` of experts, without a cache and without padding."""

    def __init__(
        self,
        config: decoder_lib.DecoderConfig,
        weights: Mapping[str, np.ndarray],
        length: int,
        run: Callable[..., torch.Tensor],
    ):
        super().__init__()
        self.config, self.run = config, run
        self.kernels = nn.ParameterDict(
            {
                path.replace("/", "__"): nn.Parameter(torch.from_numpy(value))
                for path, value in weights.items()
                if not path.startswith("embedder")
            }
        )
        size = config.size_per_head
        frequencies = config.rope_theta ** -(torch.arange(0, size, 2) / size)
        angles = torch.arange(length)[:, None] * frequencies
        self.register_buffer("cos", torch.cos(angles))
        self.register_buffer("sin", torch.sin(angles))

    def named(self, path: str) -> torch.Tensor:
        """The parameter at m3jax's path."""
        return self.kernels[path.replace("/", "__")]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps embeddings [B, L, D] to hidden states."""
        for layer in range(self.config.depth):
            x = x + self._attention(
                self._norm(x, "layers/attention_norm", layer), layer
            )
            x = x + self._experts(self._norm(x, "layers/mlp_norm", layer), layer)
        return self._norm(x, "final_norm")

    def _norm(self, x, path, layer=None):
        scale = self.named(f"{path}/scale")
        scale = scale if layer is None else scale[layer]
        return functional.rms_norm(x, (x.shape[-1],), scale, self.config.norm_eps)

    def _attention(self, x, layer):
        batch, length, _ = x.shape

        def project(name):
            out = x @ self.named(f"layers/attention/{name}/kernel")[layer]
            out = out.view(batch, length, -1, self.config.size_per_head)
            return out.transpose(1, 2)

        queries, keys = (self._rotate(project(name)) for name in "qk")
        mixed = functional.scaled_dot_product_attention(
            queries, keys, project("v"), is_causal=True, enable_gqa=True
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        return mixed @ self.named("layers/attention/o/kernel")[layer]

    def _rotate(self, x):
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos, self.sin
        return torch.cat(
            [first * cos - second * sin, second * cos + first * sin], dim=-1
        )

    def _experts(self, x, layer):
        rows = x.reshape(-1, x.shape[-1])
        router = self.named("layers/moe/router/kernel")[layer]
        probs = torch.softmax(rows @ router, dim=-1)
        weights, experts = probs.topk(self.config.moe.top_k, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        names = ("gate", "up", "down")
        kernels = (self.named(f"layers/moe/{name}/kernel")[layer] for name in names)
        return self.run(rows, experts, weights, *kernels).view_as(x)
