"""The loads of a mixture: its gates, what is saved at them, and pairs of experts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import latency, network, placement, savings
from m3jax.systems.wdmoe.study import training, variants


def gates(
    shared: training.Shared, model: network.Network, params: base.Params
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(domain, probabilities [I, T, n], mask [T]) of whole test batches."""
    token_s = jnp.ones(shared.settings.mixture_system().experts.num_experts)

    @jax.jit
    def read(params, batch):
        found = model.read(params, batch, token_s, "top_k")
        probs = found.routing.probs
        return probs.reshape(len(probs), -1, probs.shape[-1]), found.mask

    return [
        (
            domain,
            *map(
                np.asarray, read(params, {n: batch[n] for n in ("question", "answer")})
            ),
        )
        for domain, size, batch in shared.batches("test")
        if size == shared.settings.num_prompts
    ]


def saved(shared: training.Shared, gates: Sequence, seed: int) -> list[base.Record]:
    """What is saved at the loads of the mixture, by domain, alike and mixed devices."""
    rows = []
    for number, domain in enumerate(shared.data.groups):
        own = [(probs, mask) for group, probs, mask in gates if group == number]
        if not own:
            continue
        probs, mask = map(np.stack, zip(*own, strict=True))
        for name, speeds in variants.DEVICES.items():
            found = savings.at_gates(
                jax.random.fold_in(jax.random.key(seed), number),
                probs,
                mask,
                cell=cells.Cell(flops_per_s=speeds),
                num_draws=shared.settings.num_draws,
            )
            at = {"domain": domain, "devices": name}
            rows += saved_rows(found, seed, **at)
    return rows


def saved_rows(found: savings.Surface, seed: int, **at) -> list[base.Record]:
    """Rows of a surface of one point."""
    rows = []
    for method in savings.METHODS[1:]:
        share = float(savings.saved(found, method).mean[0, 0])
        rows += variants.rows(method, seed, {"saved": share}, **at)
    told = {
        "load_variation": found.load_variation[0],
        "dropped": found.dropped[0, 0],
    }
    return rows + variants.rows(savings.METHODS[0], seed, told, **at)


def placed(
    shared: training.Shared, gates: Sequence, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """Same-expert pairs of each block, and what sharing a device saves."""
    made = shared.settings.mixture_system()
    probs = np.concatenate([probs[:, mask] for _, probs, mask in gates], axis=1)
    num = made.experts.num_experts
    routings = np.argsort(-probs, axis=-1)[..., : made.experts.top_k]
    ratios = placement.pair_ratios(routings, num)
    half = cells.Cell(flops_per_s=made.cell.flops_per_s[: num // 2])
    gains = cells.draw_gains(jax.random.key(seed), half, shared.settings.num_draws)
    trips = latency.make_trips(half, gains, made.expert)
    even = jax.vmap(latency.even_seconds, (0, None))(trips, half.bandwidth_hz)
    both = np.asarray(even)
    compute = np.asarray(trips.fixed_s)
    rows = []
    for block, (ratio, chosen) in enumerate(zip(ratios, routings, strict=True)):
        placed = placement.place(ratio)
        shares = np.mean(
            [
                _shares_saved(placement.saved(chosen, placed.devices, b - c, c))
                for b, c in zip(both, compute, strict=True)
            ],
            axis=0,
        )
        rows += variants.rows(
            variants.MIXTURE, seed, {"pair_ratio": ratio.max()}, block=float(block)
        )
        for name, share in zip(("in order", "placed"), shares, strict=True):
            told = {"saved": share}
            rows += variants.rows(f"sent once, {name}", seed, told, block=float(block))
    return rows, {"pairs": ratios}


def _shares_saved(found: placement.Saved) -> tuple[float, float]:
    """Of experts in order that are sent every token: by sending once, and placed."""
    return (
        1 - found.in_order_once_s / found.in_order_s,
        1 - found.once_s / found.in_order_s,
    )
