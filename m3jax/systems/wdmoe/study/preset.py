"""The paper's cell and Mixtral's sizes, with gates that are drawn: no model."""

import dataclasses
import functools

import jax

from m3jax import base
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import savings
from m3jax.systems.wdmoe.study import loads, variants

LOADS = {False: "blocks apart", True: "persistent"}
"""Whether all blocks prefer the same experts."""
IMBALANCE = 0.3
"""Of preferences, where something else varies."""


def surface(settings: variants.Settings, seed: int) -> list[base.Record]:
    """What is saved over how uneven loads and devices are."""
    rows = []
    for persistent, name in LOADS.items():
        found = savings.surface(
            jax.random.key(seed),
            settings.imbalances,
            settings.spreads,
            persistent=persistent,
            num_draws=settings.num_draws,
            num_blocks=settings.surface_blocks,
            num_tokens=settings.surface_tokens,
        )
        for a, imbalance in enumerate(settings.imbalances):
            for s, spread in enumerate(settings.spreads):
                one = savings.Surface(
                    found.seconds[a : a + 1, s : s + 1],
                    found.load_variation[a : a + 1],
                    found.dropped[a : a + 1, s : s + 1],
                    found.worst_gap[a : a + 1, s : s + 1],
                )
                at = {"loads": name, "imbalance": imbalance, "spread": spread}
                rows += loads.saved_rows(one, seed, **at)
    return rows


def curves(settings: variants.Settings, seed: int) -> list[base.Record]:
    """Over bandwidths (figure 5), tokens (figures 7 and 10), and table II's sizes."""
    draw = functools.partial(
        savings.surface,
        jax.random.key(seed),
        (IMBALANCE,),
        (0.0,),
        num_draws=settings.num_draws,
        num_blocks=settings.surface_blocks,
    )
    rows = []
    for hertz in settings.bandwidths_hz:
        cell = dataclasses.replace(cells.Cell(), bandwidth_hz=hertz)
        found = draw(cell=cell, num_tokens=settings.surface_tokens)
        rows += _latencies(found, seed, bandwidth_mhz=hertz / 1e6)
    for tokens in settings.token_counts:
        rows += _latencies(draw(num_tokens=tokens), seed, tokens=float(tokens))
    drawn = savings.workloads(
        jax.random.key(seed),
        imbalance=IMBALANCE,
        most=settings.surface_tokens,
        num_draws=settings.num_draws,
        num_blocks=settings.surface_blocks,
    )
    for name, found in drawn.items():
        rows += loads.saved_rows(found, seed, workload=name)
    return rows


def _latencies(found: savings.Surface, seed: int, **at) -> list[base.Record]:
    rows = []
    for place, method in enumerate(savings.METHODS):
        told = {"latency_ms": 1e3 * found.seconds[0, 0, :, place].mean()}
        rows += variants.rows(method, seed, told, **at)
    return rows
