"""A Mixtral-like decoder, forward and with its gradients, against PyTorch.

python -m benchmarks.moe

Hidden width 256, 8 experts of which 2 answer, 4 layers, on 8 x 128 tokens. Both sides
have the same weights; hidden states and gradients must agree before anything is timed.
PyTorch runs its experts in the two ways of Transformers' Mixtral, eager, and the better
of them compiled too. A ratio above 1 means that m3jax is faster.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import flags

from benchmarks import harness, moe_torch
from m3jax.nn import decoder as decoder_lib
from m3jax.nn import moe
from m3jax.ops import paths
from m3jax.train import memory

_ROUNDS = flags.DEFINE_integer("rounds", 21, "Timed calls of each side.", lower_bound=1)
_WORK = flags.DEFINE_list("work", "forward,gradient", "What is timed of the two.")

TARGET = 1.0
# Float32 sums in another order, through four layers.
TOLERANCE = 1e-3
BATCH_SIZE, LENGTH = 8, 128
CONFIG = decoder_lib.DecoderConfig(
    vocab_size=8,
    dim=256,
    depth=4,
    num_heads=8,
    num_kv_heads=2,
    qkv_bias=False,
    scan_unroll=4,
    moe=moe.MoeConfig(num_experts=8, top_k=2, ff_dim=896),
)


def draw(config: decoder_lib.DecoderConfig, batch_size: int, length: int):
    """Draws parameters of m3jax and embeddings [B, L, D]."""
    embeds = np.random.default_rng(0).normal(size=(batch_size, length, config.dim))
    embeds = jnp.asarray(embeds, jnp.float32)
    mask = jnp.ones(embeds.shape[:2], bool)
    init = jax.jit(decoder_lib.Decoder(config).init)
    return init(jax.random.key(0), embeds, mask)["params"], embeds


def make_ours(config: decoder_lib.DecoderConfig) -> tuple[Callable, Callable]:
    """Jits ``(params, embeds) -> hidden`` and ``-> (loss, gradients)``."""
    decoder = decoder_lib.Decoder(config)

    def forward(params, embeds):
        mask = jnp.ones(embeds.shape[:2], bool)
        return decoder.apply({"params": params}, embeds, mask)[0]

    def loss(params, embeds):
        return jnp.mean(jnp.sin(forward(params, embeds)))

    return jax.jit(forward), jax.jit(jax.value_and_grad(loss))


def make_peers(
    config: decoder_lib.DecoderConfig, weights: Mapping[str, np.ndarray], length: int
) -> dict[str, torch.nn.Module]:
    """Makes PyTorch's decoders, by name, not compiled."""
    runs = {"loop": moe_torch.run_loop, "grouped": moe_torch.run_grouped}
    return {
        name: moe_torch.Decoder(config, weights, length, run)
        for name, run in runs.items()
    }


def check(config: decoder_lib.DecoderConfig, params, embeds) -> None:
    """Checks that both sides compute the same hidden states and gradients.

    Raises:
      RuntimeError: they do not; says what differs and by how much.
    """
    forward, value_and_grad = make_ours(config)
    hidden = np.asarray(forward(params, embeds))
    grads = paths.flatten(value_and_grad(params, embeds)[1])
    weights = to_numpy(params)
    for name, model in make_peers(config, weights, embeds.shape[1]).items():
        out = model(torch.from_numpy(np.array(embeds)))
        _compare(f"hidden states ({name})", hidden, out.detach().numpy())
        torch.sin(out).mean().backward()
        for path in weights:
            if not path.startswith("embedder"):
                found = model.named(path).grad.numpy()
                _compare(f"gradients of {path} ({name})", grads[path], found)


def _compare(name, ours, theirs):
    size, error = np.linalg.norm(theirs), np.linalg.norm(np.asarray(ours) - theirs)
    if not error <= TOLERANCE * size:
        raise RuntimeError(f"{name} differ: norm {size:.3g}, difference {error:.3g}")


def to_numpy(params) -> dict[str, np.ndarray]:
    """'/'-joined path -> array."""
    return {path: np.array(leaf) for path, leaf in paths.flatten(params).items()}


def torch_forward(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Binds a forward pass without gradients."""

    def call():
        with torch.inference_mode():
            model(x)

    return call


def torch_gradient(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Binds a pass forward and backward."""

    def call():
        model.zero_grad(set_to_none=True)
        torch.sin(model(x)).mean().backward()

    return call


def main() -> list[harness.Row]:
    """Checks and times both."""
    harness.require_processor()
    memory.keep_freed_memory()  # as the launchers do
    machine = harness.measure_machine(["torch"])
    params, embeds = draw(CONFIG, BATCH_SIZE, LENGTH)
    check(CONFIG, params, embeds)
    weights, x = to_numpy(params), torch.from_numpy(np.array(embeds))
    forward, value_and_grad = make_ours(CONFIG)
    work = {
        "forward": ("forward", forward, torch_forward),
        "gradient": ("forward and backward", value_and_grad, torch_gradient),
    }
    if not work.keys() >= set(_WORK.value):
        raise ValueError(f"--work names {', '.join(work)}, got {_WORK.value}")
    rows = []
    for name in _WORK.value:
        title, ours, theirs = work[name]
        peers = make_peers(CONFIG, weights, LENGTH)
        rounds = harness.paired(
            {
                "m3jax": lambda ours=ours: jax.block_until_ready(ours(params, embeds)),
                "PyTorch loop": theirs(peers["loop"], x),
                "PyTorch grouped": theirs(peers["grouped"], x),
                "torch.compile, grouped": theirs(torch.compile(peers["grouped"]), x),
            },
            _ROUNDS.value,
        )
        title = f"Mixtral-like decoder, hidden 256, 8 x 128 tokens, {title}"
        rows.append(harness.compare(title, rounds, machine, target=TARGET))
    return rows


if __name__ == "__main__":
    harness.run(main)
