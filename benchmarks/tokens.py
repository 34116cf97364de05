"""Tokens through a fading link, forward and backward, against compiled PyTorch.

python -m benchmarks.tokens

Every token is one Rayleigh block; noise is added at 16 SNRs and an MMSE equaliser gives
the tokens back. Both sides return the mean square error at each SNR and the gradient of
the sum by the tokens; given the same gains and noise, these must agree before anything
is timed. A ratio above 1 means that m3jax is faster.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax

from benchmarks import harness
from m3jax import base
from m3jax.channels import fading, links, noise
from m3jax.ops import random, units

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 15, "Timed calls of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

TARGET = 2.0
OURS, PLAIN = "m3jax", "m3jax, numbers of jax.random"
COMPILED, EAGER = "torch.compile", "PyTorch eager"
TOLERANCE = 1e-3
DEVIATIONS = 7.0


@dataclasses.dataclass(frozen=True)
class Workload:
    """How much is sent.

    Attributes:
      shape: examples, tokens, reals of the values.
      snrs_db: the SNRs.
      chunk: examples that m3jax sends side by side; few enough for the cache.
    """

    shape: tuple[int, int, int] = (64, 64, 256)
    snrs_db: tuple[float, ...] = tuple(range(-5, 27, 2))
    chunk: int = 4

    @property
    def title(self) -> str:
        """Names the work and its size, for people."""
        return (
            f"tokens {list(self.shape)} through Rayleigh and MMSE, forward and"
            f" backward, {len(self.snrs_db)} SNRs"
        )

    def values(self) -> np.ndarray:
        """The tokens, standard normal, float32."""
        return np.random.default_rng(0).standard_normal(self.shape, np.float32)


FULL = Workload()
TINY = Workload((4, 3, 8), (0.0, 10.0), 2)
WORKLOADS = {"full": FULL, "tiny": TINY}


def loss(
    link: links.Link, values: base.Array, key: base.Array, snr_db: base.Array
) -> base.Array:
    """Mean square error of the tokens ``[L, R]`` of one example."""
    mask = jnp.ones(values.shape[0], bool)
    return jnp.mean((link(key, values, mask, snr_db).values - values) ** 2)


@functools.partial(jax.jit, static_argnames=("link", "chunk"))
def step(
    values: base.Array,
    key: base.Array,
    snrs_db: base.Array,
    *,
    link: links.Link,
    chunk: int,
) -> tuple[base.Array, base.Array]:
    """The mean loss at each SNR, and the gradient of their sum by the values.

    A few examples after the other, and for these one SNR after the other: so all that
    is needed stays in the cache.
    """
    value_and_grad = jax.value_and_grad(functools.partial(loss, link))

    def example(inputs):
        values, key = inputs

        def at_snr(grad, inputs):
            found, more = value_and_grad(values, *inputs)
            return grad + more, found

        keys = jax.random.split(key, snrs_db.shape[0])
        return lax.scan(at_snr, jnp.zeros_like(values), (keys, snrs_db))

    keys = jax.random.split(key, values.shape[0])
    grad, losses = lax.map(example, (values, keys), batch_size=chunk)
    return losses.mean(axis=0), grad / values.shape[0]


@dataclasses.dataclass(frozen=True)
class Replay:
    """A channel whose gains and noise are given: ``y = h x + sqrt(N0) n``."""

    h: base.Array
    n: base.Array

    def generate(self, key: base.Array, shape: tuple[int, ...]) -> base.Array:
        """Returns the given gains."""
        del key
        return jnp.broadcast_to(self.h, shape)

    def apply(
        self, key: base.Array, x: base.Array, state: base.Array, snr: base.Array
    ) -> base.Array:
        """Adds the given noise."""
        del key
        return state * x + jnp.sqrt(noise.noise_power(snr)) * self.n


def check(workload: Workload) -> None:
    """Checks that both sides agree, given the same gains and noise.

    Raises:
      RuntimeError: they do not; says by how much.
    """
    import torch

    from benchmarks import tokens_torch

    examples, tokens, reals = workload.shape
    values, key, snr_db = workload.values(), jax.random.key(1), 3.0
    gain_key, noise_key = jax.random.split(key)
    h = noise.complex_normal(gain_key, (examples, tokens, 1))
    n = noise.complex_normal(noise_key, (examples, tokens, reals // 2))

    def example(h, n, values):
        return loss(links.AnalogLink(Replay(h, n)), values, key, snr_db)

    def total(values):
        return jnp.mean(jax.vmap(example)(h, n, values))

    ours = jax.jit(jax.value_and_grad(total))(values)
    x = torch.tensor(values).requires_grad_()
    found = tokens_torch.loss(
        x,
        torch.tensor(10.0 ** (-snr_db / 10.0)),
        *(torch.tensor(np.sqrt(2.0) * np.stack([z.real, z.imag])) for z in (h, n)),
    )
    found.backward()
    error = np.linalg.norm(ours[1] - x.grad.numpy())
    if not error <= TOLERANCE * np.linalg.norm(ours[1]) or not np.isclose(
        ours[0], found.item(), rtol=TOLERANCE
    ):
        raise RuntimeError(
            f"gradients differ: norm {np.linalg.norm(ours[1]):.3g}, of the difference"
            f" {error:.3g}; losses {ours[0]:.6g} and {found.item():.6g}"
        )


def measure(workload: Workload, machine: harness.Machine) -> list[harness.Row]:
    """Checks and times one workload."""
    import torch

    from benchmarks import tokens_torch

    check(workload)
    values = workload.values()
    snrs_db = jnp.asarray(workload.snrs_db, jnp.float32)
    link = links.AnalogLink(fading.RayleighBlock(workload.shape[2] // 2))
    ours = functools.partial(step, link=link, chunk=workload.chunk)
    x, snrs = jnp.asarray(values), np.asarray(units.db_to_lin(snrs_db)).tolist()

    def call(key):
        return jax.block_until_ready(ours(x, key, snrs_db))

    key = jax.random.key(0)
    calls = {
        OURS: functools.partial(call, random.box_muller(key)),
        PLAIN: functools.partial(call, key),
        COMPILED: tokens_torch.make_step(torch.tensor(values), snrs),
        EAGER: tokens_torch.make_step(torch.tensor(values), snrs, compiled=False),
    }
    losses = [np.asarray(call()[0]) for call in calls.values()]
    # A token's error lies between 0 and 1, so its variance is below its mean.
    deviation = np.sqrt(losses[0] / np.prod(workload.shape[:2]))
    if np.any(np.abs(np.array(losses) - losses[0]) > DEVIATIONS * deviation):
        raise RuntimeError(f"losses differ: {losses}")
    rounds = harness.paired(calls, _ROUNDS.value)
    peers = [COMPILED, EAGER]
    title = workload.title
    return [
        harness.compare(title, rounds, machine, peers=peers, target=TARGET),
        harness.compare(f"{title}: {PLAIN}", rounds, machine, ours=PLAIN, peers=peers),
    ]


def main() -> list[harness.Row]:
    """Measures the tokens."""
    harness.require("torch")
    machine = harness.measure_machine(["torch"])
    return measure(WORKLOADS[_SIZE.value], machine)


if __name__ == "__main__":
    harness.run(main)
