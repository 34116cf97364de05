"""What bandwidth allocation and selection of experts save, over what they depend on.

The baseline is WDMoE's "Mixtral-based method": top-2 experts and even bandwidths.
Against it stand the split alone, the selection alone, and both, the split once for each
block and once for the whole sequence. All meet the same channels and the same gates.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.ops import fair_round_trips, intervals, sum_of_maxima
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import latency, selection

METHODS = (
    "even, top-k",
    "even, selected",
    "per block, top-k",
    "per block, selected",
    "per sequence, top-k",
    "per sequence, selected",
)
"""Names of the methods, the baseline first."""
TABLE_II = {
    "MMLU": 298813.6,
    "PIQA": 37183.1,
    "ARC-E": 36401.5,
    "ARC-C": 40367.1,
    "Humaneval": 572.6,
    "GSM-8K": 1661.6,
    "BoolQ": 109957.8,
    "MBPP": 847.9,
}
"""Milliseconds of a batch of the baseline (table II): workloads in these ratios."""


class Surface(NamedTuple):
    """Latencies over imbalance and spread.

    Attributes:
      seconds: of the sequence, ``[A, S, D, 6]``: imbalances, spreads, draws, `METHODS`.
      load_variation: standard deviation over mean of the tokens of the devices of a
        block under top-k, mean over draws and blocks, ``[A]``.
      dropped: share of top-k's choices that the policy dropped, ``[A, S]``.
      worst_gap: greatest gap over value of a split, ``[A, S]``.
    """

    seconds: np.ndarray
    load_variation: np.ndarray
    dropped: np.ndarray
    worst_gap: np.ndarray


def surface(
    key: base.Array,
    imbalances: Sequence[float],
    spreads: Sequence[float],
    *,
    cell: cells.Cell | None = None,
    expert: cells.Expert | None = None,
    policy: Callable[..., selection.Selection] = selection.cosine,
    persistent: bool = False,
    num_draws: int = 200,
    num_blocks: int = 32,
    num_tokens: int = 256,
) -> Surface:
    """Latencies of all methods.

    Gates are softmaxes of Gumbel noise and a preference for each expert, normal with
    the imbalance as standard deviation, drawn for each block, or once for all blocks.

    Args:
      key: random key, consumed.
      imbalances: standard deviations of preferences, ``[A]``.
      spreads: standard deviations of ``log C_k``, ``[S]``; the cell's speeds times
        ``exp(spread z_k)``.
      cell: K devices, each with one expert of a block; the paper's if None.
      expert: network; Mixtral's if None.
      policy: of selection, given latencies at even bandwidths.
      persistent: whether all blocks prefer the same experts.
      num_draws: D, of channels, speeds and gates.
      num_blocks: I.
      num_tokens: T, of each block.

    Returns:
      A `Surface` of NumPy arrays.
    """
    cell = cell or cells.Cell()
    shape = (num_draws, num_blocks, num_tokens)
    point = jax.jit(functools.partial(_point, cell, expert, policy, persistent, shape))
    rows = [
        jax.device_get([point(key, imbalance, spread) for spread in spreads])
        for imbalance in imbalances
    ]

    def gather(index):
        return np.array([[one[index] for one in row] for row in rows])

    return Surface(gather(0), gather(1)[:, 0], gather(2), gather(3))


def at_gates(
    key: base.Array,
    probs: np.ndarray,
    mask: np.ndarray,
    *,
    cell: cells.Cell | None = None,
    expert: cells.Expert | None = None,
    policy: Callable[..., selection.Selection] = selection.cosine,
    num_draws: int = 200,
) -> Surface:
    """Latencies of all methods at gates that were measured.

    Args:
      key: random key, consumed.
      probs: of the gates of M batches, ``[M, I, T, n]``; draws take turns with them.
      mask: bool ``[M, T]``, which tokens are there.
      cell: n devices; the paper's if None.
      expert: network; Mixtral's if None.
      policy: of selection, given latencies at even bandwidths.
      num_draws: D, of channels.

    Returns:
      A `Surface` of one point.
    """
    cell = cell or cells.Cell()

    gains = cells.draw_gains(key, cell, num_draws)
    trips = latency.make_trips(cell, gains, expert)
    found = jax.device_get(_at_gates(policy, probs, mask, trips, cell.bandwidth_hz))
    seconds, variation, dropped, gap = map(np.asarray, found)
    one = np.ones((1, 1))
    return Surface(seconds[None, None], variation[None], dropped * one, gap * one)


def saved(surface: Surface, method: str) -> intervals.Interval:
    """Share of the baseline's latency that a method saves, mean over draws, at 95 %.

    Args:
      surface: of `surface`.
      method: one of `METHODS`.

    Returns:
      An interval of ``[A, S]``, of the mean of the draws' shares.
    """
    shares = 1.0 - surface.seconds[..., METHODS.index(method)] / surface.seconds[..., 0]
    return intervals.student_t(shares, axis=-1)


def workloads(
    key: base.Array,
    *,
    imbalance: float = 0.3,
    spread: float = 0.0,
    smallest: int = 16,
    most: int = 512,
    **settings,
) -> dict[str, Surface]:
    """Surfaces of one point for workloads in the ratios of table II's first row.

    Args:
      key: random key, consumed.
      imbalance: of `surface`.
      spread: of `surface`.
      smallest: tokens of a block of the smallest workload.
      most: tokens that are drawn at most; beyond it latencies are taken to grow in
        proportion, which leaves out that more tokens vary less.
      **settings: of `surface`.

    Returns:
      Name of the workload -> `Surface` with ``[1, 1]`` points.
    """
    least = min(TABLE_II.values())
    found, drawn = {}, {}
    for name, milliseconds in TABLE_II.items():
        tokens = smallest * milliseconds / least
        count = int(min(round(tokens), most))
        if count not in drawn:
            drawn[count] = surface(
                key, (imbalance,), (spread,), num_tokens=count, **settings
            )
        seconds = drawn[count].seconds * max(tokens / count, 1.0)
        found[name] = drawn[count]._replace(seconds=seconds)
    return found


def _point(cell, expert, policy, persistent, shape, key, imbalance, spread):
    """One point: seconds ``[D, 6]``, load variation, share dropped, worst gap."""
    num_draws, num_blocks, num_tokens = shape
    channel, speed, gates = jax.random.split(key, 3)
    gains = cells.draw_gains(channel, cell, num_draws)
    trips = latency.make_trips(cell, gains, expert)
    slower = jnp.exp(-spread * jax.random.normal(speed, gains.shape))
    trips = trips._replace(fixed_s=trips.fixed_s * slower)
    mask = jnp.full(num_tokens, True)
    token_s = jax.vmap(latency.even_seconds, (0, None))(trips, cell.bandwidth_hz)

    def choose(args):
        key, token_s = args
        liking, noise = jax.random.split(key)
        num = 1 if persistent else num_blocks
        prefers = imbalance * jax.random.normal(liking, (num, 1, cell.num_devices))
        logits = jax.random.gumbel(noise, (num_blocks, num_tokens, cell.num_devices))
        probs = jax.nn.softmax(logits + prefers, axis=-1)
        return _choose(policy, probs, mask, token_s)

    keys = jax.random.split(gates, num_draws)
    chosen = lax.map(choose, (keys, token_s))
    return _compare(*chosen, trips, cell.bandwidth_hz, token_s)


@functools.partial(jax.jit, static_argnums=0)
def _at_gates(policy, probs, mask, trips, total):
    """The same at gates ``[M, I, T, n]``; one program for all cells."""
    token_s = jax.vmap(latency.even_seconds, (0, None))(trips, total)

    def choose(args):
        number, token_s = args
        batch = number % len(probs)
        return _choose(policy, probs[batch], mask[batch], token_s)

    chosen = lax.map(choose, (jnp.arange(len(token_s)), token_s))
    return _compare(*chosen, trips, total, token_s)


def _choose(policy, probs, mask, token_s):
    """Tokens of each device under top-k and a policy, ``[I, K]`` each."""
    return [
        latency.count_tokens(jax.vmap(weights, (0, None, None))(probs, mask, token_s))
        for weights in map(selection.weights_of, (selection.vanilla, policy))
    ]


def _compare(vanilla, selected, trips, total, token_s):
    """Seconds ``[D, 6]`` of counts ``[D, I, K]``, load variation, dropped, gap."""
    columns, gaps = [], []
    for counts in (vanilla, selected):
        seconds, gap = _split_seconds(counts, trips, total, token_s)
        columns.append(seconds)
        gaps.append(gap)
    seconds = jnp.stack(columns, axis=-1).reshape(len(vanilla), -1)
    variation = jnp.mean(jnp.std(vanilla, axis=-1) / jnp.mean(vanilla, axis=-1))
    dropped = 1.0 - jnp.sum(selected) / jnp.sum(vanilla)
    return seconds, variation, dropped, jnp.max(jnp.stack(gaps))


def _split_seconds(counts, trips, total, token_s):
    """Seconds at even bandwidths, per block and per sequence ``[D, 3]``; a gap."""
    even = jnp.sum(latency.waiting(counts, token_s[:, None]), axis=-1)
    by_block = jax.vmap(fair_round_trips.fair_bandwidths, (0, None, None))
    blocks = jax.vmap(by_block, (0, 0, None))(counts, trips, total)
    whole = jax.vmap(sum_of_maxima.sum_of_maxima, (0, 0, None))(counts, trips, total)
    gap = jnp.maximum(
        jnp.max(blocks.gap / jnp.maximum(blocks.value, 1e-30)),
        jnp.max(whole.gap / jnp.maximum(whole.value, 1e-30)),
    )
    return jnp.stack([even, jnp.sum(blocks.value, -1), whole.value], axis=-1), gap
