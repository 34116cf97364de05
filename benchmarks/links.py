"""Bit error rates and gradients over noise and fading, against Sionna PHY.

python -m benchmarks.links

Both sides count the wrong bits of uncoded 16-QAM at 16 SNRs, over AWGN and over
Rayleigh blocks known to the receiver, and must agree with the closed forms before
anything is timed. A ratio above 1 means that m3jax is faster.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax

from benchmarks import harness
from m3jax import base
from m3jax.channels import awgn, equalisers, fading, noise, theory
from m3jax.evals import error_counts, monte_carlo, uncoded
from m3jax.ops import masks, random, units

# Another benchmark in the same process, as in the tests, may have the same flags.
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Timed runs of each side.", lower_bound=1, allow_override=True
)
_SIZE = flags.DEFINE_enum(
    "size", "full", ("full", "tiny"), "Workload.", allow_override=True
)

ORDER = 16
BLOCK_LENGTH = 100
AWGN_TARGET, RAYLEIGH_TARGET, GRADIENT_TARGET = 25.0, 20.0, 3.0
OURS, PLAIN = "m3jax", "m3jax, numbers of jax.random"
EAGER, COMPILED = "Sionna eager", "Sionna compiled"
PER_AXIS = "Sionna eager, decided per axis"
DEVIATIONS = 5.0


@dataclasses.dataclass(frozen=True)
class Workload:
    """How much is simulated.

    Attributes:
      snrs_db: the SNRs.
      symbols: at each SNR, for the error rates.
      our_batch: symbols of a batch of m3jax; divides ``symbols``.
      peer_batch: symbols of a batch of Sionna; divides ``symbols``.
      gradient_symbols: whose gradient is taken.
    """

    snrs_db: tuple[float, ...]
    symbols: int
    our_batch: int
    peer_batch: int
    gradient_symbols: int

    @property
    def title(self) -> str:
        """Names the size, for people."""
        return f"{len(self.snrs_db)} SNRs x {self.symbols:.0e} symbols".replace(
            "+0", ""
        )


FULL = Workload(tuple(range(16)), 1_000_000, 125_000, 100_000, 100_000)
TINY = Workload((0.0, 10.0), 20_000, 10_000, 10_000, 2_000)
WORKLOADS = {"full": FULL, "tiny": TINY}


def simulate(
    workload: Workload, block_length: int | None, key: base.Array
) -> error_counts.ErrorCounts:
    """m3jax's side of the error rates."""
    row = block_length or 1000
    link = uncoded.UncodedLink(
        fading.RayleighBlock(block_length) if block_length else awgn.AWGN(),
        ORDER,
        shape=(workload.our_batch // row, row),
    )
    return monte_carlo.run(
        link,
        workload.snrs_db,
        key=key,
        max_trials=workload.symbols * (link.bits // workload.our_batch),
        batches_per_call=workload.symbols // workload.our_batch,
    )


def peers(workload: Workload, block_length: int | None) -> dict[str, Callable]:
    """Sionna's side: name -> a call that returns the wrong bits at each SNR."""
    import torch

    from benchmarks import links_sionna

    make = functools.partial(links_sionna.make_count, workload.peer_batch, block_length)
    counts = {
        EAGER: make(),
        COMPILED: torch.compile(make()),
        PER_AXIS: make(per_axis=True),
    }
    return {
        name: functools.partial(
            links_sionna.count_errors,
            count,
            linear_snrs(workload),
            workload.symbols // workload.peer_batch,
        )
        for name, count in counts.items()
    }


def linear_snrs(workload: Workload) -> list[float]:
    """The SNRs, linear."""
    return np.asarray(units.db_to_lin(np.array(workload.snrs_db, np.float32))).tolist()


def check_rates(
    name: str, errors: np.ndarray, workload: Workload, block_length: int | None
) -> None:
    """Checks counts against the closed form.

    Raises:
      RuntimeError: they are off by more than chance explains; says where.
    """
    bits_per_symbol = ORDER.bit_length() - 1
    trials = workload.symbols * bits_per_symbol
    k_factor = jnp.inf if block_length is None else 0.0
    snrs = np.array(linear_snrs(workload), np.float32)
    exact = np.asarray(theory.bit_error_rate(snrs, ORDER, k_factor), np.float64)
    # Bits of a symbol, or of a block in a fade, are wrong together at most.
    together = bits_per_symbol * (block_length or 1)
    deviation = np.sqrt(exact * (1.0 - exact) * together / trials)
    off = np.abs(errors / trials - exact) - DEVIATIONS * deviation
    if np.any(off > 0.0):
        worst = int(np.argmax(off))
        raise RuntimeError(
            f"{name}: bit error rate {errors[worst] / trials:.3e} at"
            f" {workload.snrs_db[worst]} dB, and theory says {exact[worst]:.3e}"
        )


def compiles(call: Callable[[], object]) -> bool:
    """Tells whether a compiled peer runs; if not, says why it is left out."""
    try:
        call()
    except Exception as error:  # of the compiler that PyTorch calls, whatever it is
        print(f"{COMPILED} is left out: {error}", file=sys.stderr)
        return False
    return True


def measure_rates(
    workload: Workload,
    block_length: int | None,
    machine: harness.Machine,
    target: float,
) -> list[harness.Row]:
    """Checks and times the error rates over one channel."""
    keys = {OURS: random.box_muller(jax.random.key(0)), PLAIN: jax.random.key(0)}
    contestants = {
        name: functools.partial(simulate, workload, block_length, key)
        for name, key in keys.items()
    }
    for name, key in keys.items():
        found = simulate(workload, block_length, key)
        check_rates(name, found.errors, workload, block_length)
    for name, call in peers(workload, block_length).items():
        if name == COMPILED and not compiles(call):
            continue
        check_rates(name, call(), workload, block_length)
        contestants[name] = call
    rounds = harness.paired(contestants, _ROUNDS.value, warmup=1)
    where = f"Rayleigh blocks of {block_length}" if block_length else "AWGN"
    title = f"16-QAM BER, {where}, {workload.title}"
    sionna = [name for name in (EAGER, COMPILED) if name in contestants]
    rows = ((title, OURS, sionna, target), (f"{title}: {PLAIN}", PLAIN, sionna, None))
    rows += ((f"{title}: both decide per axis", OURS, [PER_AXIS], None),)
    return [
        harness.compare(name, rounds, machine, ours=ours, peers=against, target=goal)
        for name, ours, against, goal in rows
    ]


def symbol_error(
    x: base.Array, h: base.Array, key: base.Array, snr: base.Array
) -> base.Array:
    """Mean square error of symbols after a one-tap MMSE equaliser."""
    y = fading.RayleighBlock(BLOCK_LENGTH).apply(key, x, h, snr)
    x_hat = equalisers.mmse(y, h, noise.noise_power(snr))
    return jnp.mean(masks.abs_square(x_hat - x))


@jax.jit
def gradient(
    x: base.Array, key: base.Array, snrs: base.Array
) -> tuple[base.Array, base.Array]:
    """Sum over SNRs of ``symbol_error`` and its gradient by the symbols.

    One SNR after the other: side by side they would not fit into the cache.
    """
    value_and_grad = jax.value_and_grad(symbol_error)

    def at_snr(totals, inputs):
        key, snr = inputs
        gain_key, noise_key = jax.random.split(key)
        h = fading.RayleighBlock(BLOCK_LENGTH).generate(gain_key, x.shape)
        found = value_and_grad(x, h, noise_key, snr)
        return jax.tree.map(jnp.add, totals, found), None

    zeros = jnp.zeros(()), jnp.zeros_like(x)
    keys = jax.random.split(key, snrs.shape[0])
    totals, _ = lax.scan(at_snr, zeros, (keys, snrs))
    return totals


def draw_symbols(workload: Workload) -> np.ndarray:
    """Complex normal symbols, NumPy, ``[blocks, BLOCK_LENGTH]``."""
    shape = workload.gradient_symbols // BLOCK_LENGTH, BLOCK_LENGTH, 2
    axes = np.random.default_rng(0).normal(size=shape, scale=0.5**0.5)
    return (axes[..., 0] + 1j * axes[..., 1]).astype(np.complex64)


def check_gradient(workload: Workload) -> None:
    """Checks that both sides have the same gradient, given the same gains and noise.

    Raises:
      RuntimeError: they have not.
    """
    import torch

    from benchmarks import links_sionna

    x, snr = draw_symbols(workload), 3.0
    gain_key, noise_key = jax.random.split(jax.random.key(1))
    h = fading.RayleighBlock(BLOCK_LENGTH).generate(gain_key, x.shape)
    value, grad = jax.value_and_grad(symbol_error)(jnp.asarray(x), h, noise_key, snr)
    n = torch.tensor(np.asarray(noise.complex_normal(noise_key, x.shape)))
    peer_value, peer_grad = links_sionna.gradient(
        torch.tensor(x),
        [snr],
        lambda blocks: torch.tensor(np.asarray(h[:, :1])),
        lambda signal, no: signal + torch.sqrt(no) * n,
    )
    # JAX's gradient of a real function is the conjugate of PyTorch's.
    error = np.linalg.norm(np.conj(grad) - peer_grad.numpy())
    if not error <= 1e-4 * np.linalg.norm(grad) or not np.isclose(
        value, peer_value, rtol=1e-4
    ):
        raise RuntimeError(
            f"gradients differ: norm {np.linalg.norm(grad):.3g}, of the difference "
            f"{error:.3g}; errors {value:.6g} and {peer_value:.6g}"
        )


def measure_gradient(workload: Workload, machine: harness.Machine) -> harness.Row:
    """Checks and times the gradient."""
    import torch

    from benchmarks import links_sionna

    check_gradient(workload)
    symbols = draw_symbols(workload)
    x, snrs = jnp.asarray(symbols), jnp.asarray(linear_snrs(workload))
    peer_x, draws = torch.tensor(symbols), links_sionna.make_draws()
    key = random.box_muller(jax.random.key(0))
    calls: Mapping[str, Callable] = {
        OURS: lambda: jax.block_until_ready(gradient(x, key, snrs)),
        "Sionna one-tap": lambda: links_sionna.gradient(
            peer_x, linear_snrs(workload), *draws
        ),
    }
    values = [float(call()[0]) for call in calls.values()]
    if not np.isclose(*values, rtol=DEVIATIONS / workload.gradient_symbols**0.25):
        raise RuntimeError(f"symbol errors differ: {values}")
    title = (
        f"gradient of the symbol error, Rayleigh blocks of {BLOCK_LENGTH},"
        f" {len(workload.snrs_db)} SNRs x {workload.gradient_symbols:.0e} symbols"
    ).replace("+0", "")
    rounds = harness.paired(calls, 3 * _ROUNDS.value)
    return harness.compare(title, rounds, machine, target=GRADIENT_TARGET)


def main() -> list[harness.Row]:
    """Measures error rates over both channels, and the gradient."""
    for package in ("torch", "sionna"):
        harness.require(package)
    workload = WORKLOADS[_SIZE.value]
    machine = harness.measure_machine(["torch", "sionna-no-rt"])
    rows = measure_rates(workload, None, machine, AWGN_TARGET)
    rows += measure_rates(workload, BLOCK_LENGTH, machine, RAYLEIGH_TARGET)
    return [*rows, measure_gradient(workload, machine)]


if __name__ == "__main__":
    harness.run(main)
