"""What is measured of one seed's mixture and routers."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.ops import round_trips
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import config, evaluation, latency, placement, savings
from m3jax.systems.wdmoe.study import training, variants

_CELLS = 11_000
Found = list[tuple[int, int, evaluation.Met]]
"""(domain, examples, what they met) of many batches."""


def mixture(
    shared: training.Shared, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """A mixture as it is: its policies, what they save, its loads and pairs."""
    settings, params = shared.settings, shared.mixture(seed)
    probe = shared.compiled(
        "plain", lambda: evaluation.Probe(settings.mixture_system())
    )
    found = meet(shared, probe, params, "test", seed)
    rows = []
    for policy, variant in (
        ("top_k", variants.VANILLA),
        ("cosine", variants.PAPER),
    ):
        rows += summary(shared, variant, seed, found[policy])
    rows += _thresholds(shared, params, seed)
    rows += _fixed_prices(
        shared, params, seed, {variants.BY_WEIGHT: False, variants.BY_PRICE: True}
    )
    gates = _gates(shared, probe, params)
    rows += _savings(shared, gates, seed)
    pairs, arrays = _placement(shared, gates, seed)
    arrays["loads"] = loads(found["top_k"])
    return rows + pairs, arrays


def router(shared: training.Shared, name: str, seed: int) -> list[base.Record]:
    """A router that was tuned, on validation and test."""
    params, made = shared.router(name, seed)
    probe = shared.compiled("priced", lambda: evaluation.Probe(made, policies=()))
    rows = []
    for split in ("validation", "test"):
        found = meet(shared, probe, params, split, seed)["priced"]
        variant = name if split == "test" else f"{name}, validation"
        rows += summary(shared, variant, seed, found)
    if name == variants.NO_LATENCY:
        rows += _fixed_prices(shared, params, seed, {variants.TUNED_BY_PRICE: True})
    return rows


def ample(shared: training.Shared, seed: int) -> list[base.Record]:
    """The paper's policy on a mixture that has more than it needs."""
    params, made = shared.ample(seed)
    probe = shared.compiled("ample", lambda: evaluation.Probe(made))
    found = meet(shared, probe, params, "test", seed)
    rows = []
    for policy, variant in (("top_k", variants.VANILLA), ("cosine", variants.PAPER)):
        name = f"{variants.AMPLE}, {variant}"
        rows += summary(shared, name, seed, found[policy], made)
    return rows


def meet(
    shared: training.Shared,
    probe: evaluation.Probe,
    params: base.Params,
    split: str,
    seed: int,
    threshold: float | None = None,
) -> dict[str, Found]:
    """Every batch of a split in a few cells, the same for all methods at a seed."""
    root = jax.random.fold_in(jax.random.key(_CELLS), seed)
    params = jax.device_put(params)
    found: dict[str, Found] = {policy: [] for policy in probe.policies}
    for number, (domain, size, batch) in enumerate(shared.batches(split)):
        for draw in range(shared.settings.num_cells):
            key = jax.random.fold_in(jax.random.fold_in(root, number), draw)
            met_by = probe(params, batch, key, threshold=threshold)
            for policy, met in met_by.items():
                met = met._replace(right=met.right[:size])
                found[policy].append((domain, size, met))
    return found


def summary(
    shared: training.Shared,
    variant: str,
    seed: int,
    found: Found,
    made: config.Config | None = None,
) -> list[base.Record]:
    """Rows over all domains, and by domain."""
    made = made or shared.settings.mixture_system()
    rows = variants.rows(variant, seed, _scores(made, found))
    rows += _latencies(variant, seed, found)
    for number, name in enumerate(shared.data.groups):
        own = [part for part in found if part[0] == number]
        if own:
            rows += variants.rows(variant, seed, _scores(made, own), domain=name)
            rows += _latencies(variant, seed, own, domain=name)
    return rows


def loads(found: Found) -> np.ndarray:
    """Share of each expert in the tokens of a block, by domain: [G, I, n]."""
    domains = sorted({domain for domain, *_ in found})
    counts = np.stack(
        [sum(met.counts for d, _, met in found if d == domain) for domain in domains]
    )
    return counts / counts.sum(axis=-1, keepdims=True)


def _fixed_prices(
    shared: training.Shared, params: base.Params, seed: int, names: dict[str, bool]
) -> list[base.Record]:
    """Fixed prices and margins for a router as it is, by name: with a price or without.

    Chosen as tuned routers are, see `choose`.
    """
    settings = shared.settings
    plain = shared.compiled(
        "plain", lambda: evaluation.Probe(settings.mixture_system())
    )
    found = meet(shared, plain, shared.mixture(seed), "validation", seed)
    paper = point(found["cosine"])
    probe = shared.compiled(
        "priced",
        lambda: evaluation.Probe(settings.priced_system(0.0), policies=()),
    )
    tried = {}
    for price in settings.prices:
        for margin in settings.margins:
            priced = with_prices(params, price, margin)
            found = meet(shared, probe, priced, "validation", seed)
            tried[price, margin] = point(found["priced"])
    rows = []
    if variants.BY_PRICE in names:
        told = {"accuracy": paper[0], "latency_ms": paper[1]}
        rows += variants.rows(f"{variants.PAPER}, validation", seed, told)
    for variant, may_price in names.items():
        some = {
            pair: value for pair, value in tried.items() if may_price or not pair[0]
        }
        price, margin = choose(some, paper[0])
        found = meet(shared, probe, with_prices(params, price, margin), "test", seed)
        rows += summary(shared, variant, seed, found["priced"])
    return rows


def choose(tried: dict, accuracy: float):
    """The fastest of those that answer no worse, else the one that answers best.

    Args:
      tried: name -> (accuracy, latency) on validation.
      accuracy: of the paper's policy, on validation.
    """
    good = {name: value for name, value in tried.items() if value[0] >= accuracy}
    if good:
        return min(good, key=lambda name: good[name][1])
    return max(tried, key=lambda name: tried[name][0])


def point(found: Found) -> tuple[float, float]:
    """Accuracy, and milliseconds with one split for the sequence."""
    right = np.concatenate([met.right for *_, met in found])
    place = list(evaluation.SPLITS).index("per_sequence")
    return float(right.mean()), 1e3 * np.mean([m.seconds[place] for *_, m in found])


def with_prices(params: base.Params, price: float, margin: float) -> base.Params:
    """The same router with fixed prices, and a margin in nats."""
    before_softplus = np.log(np.expm1(margin))
    prices = params["prices"]
    return params | {
        "prices": {
            "price": np.full_like(prices["price"], price),
            "margin": np.full_like(prices["margin"], before_softplus),
        }
    }


def _scores(made: config.Config, found: Found) -> dict[str, float]:
    asked = np.average([m.asked for *_, m in found], weights=[s for _, s, _ in found])
    return {
        "accuracy": np.concatenate([met.right for *_, met in found]).mean(),
        "asked": asked,
        "active_parameters": 1e-3 * active_parameters(made, asked),
    }


def active_parameters(made: config.Config, asked: float) -> float:
    """Parameters that work on a token, its embedding and the head included."""
    decoder, experts = made.decoder, made.experts
    dim, head = decoder.dim, decoder.dim // decoder.num_heads
    kv = 2 * (dim + decoder.qkv_bias) * decoder.num_kv_heads * head
    attention = (2 * dim + decoder.qkv_bias) * dim + kv
    expert = 3 * dim * experts.ff_dim
    block = attention + 2 * dim + dim * experts.num_experts + asked * expert
    heads = 1 if decoder.tie_embeddings else 2
    return decoder.depth * block + heads * decoder.vocab_size * dim + dim


def _latencies(variant: str, seed: int, found: Found, **at) -> list[base.Record]:
    rows = []
    for place, split in enumerate(evaluation.SPLITS.values()):
        milliseconds = 1e3 * np.mean([met.seconds[place] for *_, met in found])
        rows += variants.rows(
            variant, seed, {"latency_ms": milliseconds}, split=split, **at
        )
    return rows


def _thresholds(
    shared: training.Shared, params: base.Params, seed: int
) -> list[base.Record]:
    """Accuracy and latency of one pass at each threshold of the cosine."""
    made = shared.settings.mixture_system()
    made.policy = "threshold"
    probe = shared.compiled("threshold", lambda: evaluation.Probe(made, policies=()))
    rows = []
    for threshold in shared.settings.thresholds:
        found = meet(shared, probe, params, "test", seed, threshold)["threshold"]
        scores = _scores(made, found)
        _, scores["latency_ms"] = point(found)
        rows += variants.rows(
            variants.THRESHOLD, seed, scores, threshold=float(threshold)
        )
    return rows


def _gates(
    shared: training.Shared, probe: evaluation.Probe, params: base.Params
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(domain, probabilities [I, T, n], mask [T]) of whole test batches."""
    token_s = jnp.ones(shared.settings.mixture_system().experts.num_experts)

    @jax.jit
    def read(params, batch):
        found = probe.network.read(params, batch, token_s, "top_k")
        probs = found.routing.probs
        return probs.reshape(len(probs), -1, probs.shape[-1]), found.mask

    return [
        (domain, *map(np.asarray, read(params, _words(batch))))
        for domain, size, batch in shared.batches("test")
        if size == shared.settings.num_prompts
    ]


def _savings(shared: training.Shared, gates: Sequence, seed: int) -> list[base.Record]:
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


def _placement(
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
    even = latency.even_bandwidths(trips, half.bandwidth_hz)
    both = np.asarray(jax.vmap(round_trips.seconds, (0, None))(trips, even))
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


def _words(batch):
    return {name: batch[name] for name in ("question", "answer")}
