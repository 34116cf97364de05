"""A train step of a small vision transformer, against PyTorch eager and compiled.

python -m benchmarks.training

Both sides start from the same weights; their losses and gradients, and the losses of
three steps, must agree before anything is timed. A ratio above 1 means that m3jax is
faster.
"""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import torch
from absl import flags

from benchmarks import harness, vit_m3jax, vit_torch, vit_workload
from m3jax import base
from m3jax.ops import paths
from m3jax.train import memory

_ROUNDS = flags.DEFINE_integer("rounds", 21, "Timed steps of each side.", lower_bound=1)
_SIZES = flags.DEFINE_list("sizes", "small,large", "Workloads: small, large, tiny.")
_MODE = flags.DEFINE_string("compile_mode", "default", "Mode of torch.compile.")

TARGET = 1.0
# Float32 sums in another order; a wrong formula is off by far more.
GRADIENT_TOLERANCE = 1e-3
# AdamW's first steps follow the sign of a gradient, also where it is all but zero.
LOSS_TOLERANCE = 1e-2


def check(workload: vit_workload.Workload) -> None:
    """Checks that both sides compute the same loss, gradients and steps.

    Raises:
      RuntimeError: they do not; says what differs and by how much.
    """
    batch = vit_workload.make_batch(workload)
    learner, state = vit_m3jax.start(workload, workload.depth, batch)
    system = vit_m3jax.make_system(workload, workload.depth)
    value_and_grad = jax.jit(jax.value_and_grad(system.loss, has_aux=True))
    (loss, _), grads = value_and_grad(state.params, batch, jax.random.key(0))
    weights = to_numpy(state.params)
    _check_gradients(workload, batch, weights, float(loss), to_numpy(grads))
    ours = vit_m3jax.make_step(learner, state, jax.device_put(batch))
    theirs = torch_step(workload, batch, weights)
    losses = np.array([[ours(), theirs()] for _ in range(3)])
    if not np.allclose(losses[:, 0], losses[:, 1], rtol=LOSS_TOLERANCE, atol=0.0):
        raise RuntimeError(f"losses after 0, 1 and 2 steps differ: {losses.tolist()}")


def _check_gradients(workload, batch, weights, loss, grads) -> None:
    model = vit_torch.make_model(workload, weights, torch_device())
    peer_loss = vit_torch.make_loss(model, batch, torch_device())()
    if not np.isclose(loss, peer_loss.item(), rtol=GRADIENT_TOLERANCE):
        raise RuntimeError(f"losses differ: {loss} and {peer_loss.item()} nats")
    peer_loss.backward()
    for name, parameter in model.named_parameters():
        expected = parameter.grad.cpu().numpy()
        error = np.linalg.norm(vit_torch.counterpart(grads, name) - expected)
        if not error <= GRADIENT_TOLERANCE * np.linalg.norm(expected):
            raise RuntimeError(
                f"gradients of {name} differ: norm {np.linalg.norm(expected):.3g},"
                f" of the difference {error:.3g}"
            )


def to_numpy(params: base.Params) -> Mapping[str, np.ndarray]:
    """Copies a tree (whose arrays may then be donated) to '/'-joined path -> array."""
    return {path: np.array(leaf) for path, leaf in paths.flatten(params).items()}


def torch_device() -> str:
    """Names PyTorch's device of the kind that JAX runs on.

    Raises:
      RuntimeError: PyTorch cannot use it.
    """
    if jax.default_backend() == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"JAX runs on {jax.default_backend()} and this PyTorch on the processor"
            " alone: set JAX_PLATFORMS=cpu, or install a build of PyTorch for it."
        )
    return "cuda"


def torch_step(
    workload: vit_workload.Workload,
    batch: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    compile_mode: str | None = None,
) -> Callable[[], float]:
    """Makes PyTorch's step, compiled if there is a mode for it."""
    model = vit_torch.make_model(workload, weights, torch_device())
    parameters = list(model.parameters())
    if compile_mode is not None:
        model = torch.compile(model, mode=compile_mode)
    loss_fn = vit_torch.make_loss(model, batch, torch_device())
    return vit_torch.make_step(parameters, loss_fn)


def measure(workload: vit_workload.Workload, machine: harness.Machine) -> harness.Row:
    """Checks and times one workload."""
    check(workload)
    batch = vit_workload.make_batch(workload)
    learner, state = vit_m3jax.start(workload, workload.depth, batch)
    weights = to_numpy(state.params)
    rounds = harness.paired(
        {
            "m3jax": vit_m3jax.make_step(learner, state, jax.device_put(batch)),
            "PyTorch eager": torch_step(workload, batch, weights),
            "torch.compile": torch_step(workload, batch, weights, _MODE.value),
        },
        _ROUNDS.value,
    )
    return harness.compare(workload.title, rounds, machine, target=TARGET)


def main() -> list[harness.Row]:
    """Measures each size."""
    workloads = [vit_workload.named(size) for size in _SIZES.value]
    memory.keep_freed_memory()  # as the launchers do; both sides live by it
    machine = harness.measure_machine(["torch"])
    return [measure(workload, machine) for workload in workloads]


if __name__ == "__main__":
    harness.run(main)
