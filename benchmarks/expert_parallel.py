"""Experts cut over faked devices, against all of them on one of these.

python -m benchmarks.expert_parallel

Eight experts, hidden width 256, 1,024 tokens, forward and backward, with a capacity of
1.25. Faked devices share the cores of one processor, so nothing can get faster than the
cores allow: the rows show what cutting costs, and the workload's name counts the bytes
that a token moves between devices.
"""

import os

NUM_DEVICES = 8
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')}"
    f" --xla_force_host_platform_device_count={NUM_DEVICES}"
).strip()

# What follows starts JAX, which reads the flags once.
import functools  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags  # noqa: E402

from benchmarks import harness  # noqa: E402
from m3jax.nn import moe  # noqa: E402

_ROUNDS = flags.DEFINE_integer("rounds", 21, "Timed calls of each side.", lower_bound=1)

CONFIG = moe.MoeConfig(
    num_experts=8, top_k=2, ff_dim=896, capacity_factor=1.25, path="parallel"
)
DIM, NUM_TOKENS = 256, 1_024
TOLERANCE = 1e-4


def make_step(num_devices: int, capacity: int | None):
    """Jits ``(kernels, x, weights) -> (loss, gradients)`` over so many devices."""
    devices = np.array(jax.devices()[:num_devices])
    mesh = jax.sharding.Mesh(devices, ("expert",))

    def loss(kernels, x, weights):
        out = moe.run_parallel(
            x, weights, kernels, CONFIG.top_k, mesh=mesh, capacity=capacity
        )
        return jnp.mean(jnp.sin(out))

    return jax.jit(jax.value_and_grad(loss))


def draw():
    """Draws kernels, tokens [T, D], and weights [T, n] of which two are not zero."""
    keys = jax.random.split(jax.random.key(0), 5)
    num = CONFIG.num_experts
    inward, outward = (num, DIM, CONFIG.ff_dim), (num, CONFIG.ff_dim, DIM)
    kernels = moe.Kernels(
        *(
            jax.random.normal(key, shape) / np.sqrt(shape[1])
            for key, shape in zip(keys, (inward, inward, outward), strict=False)
        )
    )
    probs = jax.nn.softmax(jax.random.normal(keys[3], (NUM_TOKENS, num)))
    x = jax.random.normal(keys[4], (NUM_TOKENS, DIM))
    return kernels, x, moe.select_top_k(probs, top_k=CONFIG.top_k)


def check(arguments) -> None:
    """Raises RuntimeError unless all numbers of devices give the same gradients.

    Without a capacity, which would leave out other tokens on other numbers of devices.
    """
    expected = jax.device_get(make_step(1, None)(*arguments))
    for num in (2, 4, 8):
        step = make_step(num, None)
        for one, two in zip(
            jax.tree.leaves(expected),
            jax.tree.leaves(jax.device_get(step(*arguments))),
            strict=True,
        ):
            if not np.allclose(one, two, atol=TOLERANCE * np.abs(one).max()):
                raise RuntimeError(f"{num} devices differ from one")


def main() -> list[harness.Row]:
    """Checks and times two, four and eight devices against one."""
    harness.require_processor()
    machine = harness.measure_machine([])
    arguments = draw()
    check(arguments)
    sizes = {num: CONFIG.capacity(NUM_TOKENS // num) for num in (1, 2, 4, 8)}
    steps = {num: make_step(num, capacity) for num, capacity in sizes.items()}
    rows = []
    for num in (2, 4, 8):
        moved = moe.bytes_per_token(
            NUM_TOKENS // num, CONFIG.num_experts, sizes[num], DIM, num
        )
        rounds = harness.paired(
            {
                name: functools.partial(
                    lambda step: jax.block_until_ready(step(*arguments)), steps[count]
                )
                for name, count in (("m3jax", num), ("one device", 1))
            },
            _ROUNDS.value,
        )
        title = (
            f"8 experts over {num} faked devices, forward and backward, {moved:.0f}"
            " bytes moved for a token"
        )
        rows.append(harness.compare(title, rounds, machine))
    return rows


if __name__ == "__main__":
    harness.run(main)
