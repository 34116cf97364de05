"""What is measured of one seed's mixture and routers."""

import jax
import numpy as np

from m3jax import base
from m3jax.systems.wdmoe import config
from m3jax.systems.wdmoe import probe as probe_lib
from m3jax.systems.wdmoe.study import loads, training, variants

_CELLS = 11_000
Found = list[tuple[int, int, probe_lib.Met]]
"""(domain, examples, what they met) of many batches."""


def mixture(
    shared: training.Shared, seed: int
) -> tuple[list[base.Record], dict[str, np.ndarray]]:
    """A mixture as it is: its policies, what they save, its loads and pairs."""
    params, probe = shared.mixture(seed), _plain(shared)
    found = meet(shared, probe, params, "test", seed)
    rows = []
    for policy, variant in probe_lib.POLICIES.items():
        rows += summary(shared, variant, seed, found[policy])
    rows += _thresholds(shared, params, seed)
    rows += _fixed_prices(
        shared, params, seed, {variants.BY_WEIGHT: False, variants.BY_PRICE: True}
    )
    gates = loads.gates(shared, probe.network, params)
    rows += loads.saved(shared, gates, seed)
    pairs, arrays = loads.placed(shared, gates, seed)
    arrays["loads"] = shares(found["top_k"])
    return rows + pairs, arrays


def router(shared: training.Shared, name: str, seed: int) -> list[base.Record]:
    """A router that was tuned, on validation and test."""
    params, rows = shared.router(name, seed), []
    for split in ("validation", "test"):
        found = meet(shared, _priced(shared), params, split, seed)["priced"]
        variant = name if split == "test" else f"{name}, validation"
        rows += summary(shared, variant, seed, found)
    if name == variants.NO_LATENCY:
        rows += _fixed_prices(shared, params, seed, {variants.TUNED_BY_PRICE: True})
    return rows


def ample(shared: training.Shared, seed: int) -> list[base.Record]:
    """The paper's policy on a mixture that has more than it needs."""
    params, made = shared.ample(seed)
    probe = shared.compiled("ample", lambda: probe_lib.Probe(made))
    found = meet(shared, probe, params, "test", seed)
    rows = []
    for policy, variant in probe_lib.POLICIES.items():
        name = f"{variants.AMPLE}, {variant}"
        rows += summary(shared, name, seed, found[policy], made)
    return rows


def meet(
    shared: training.Shared,
    probe: probe_lib.Probe,
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


def shares(found: Found) -> np.ndarray:
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
    found = meet(shared, _plain(shared), shared.mixture(seed), "validation", seed)
    paper, probe = point(found["cosine"]), _priced(shared)
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
    place = list(probe_lib.SPLITS).index("per_sequence")
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


def _plain(shared: training.Shared) -> probe_lib.Probe:
    made = shared.settings.mixture_system()
    return shared.compiled("plain", lambda: probe_lib.Probe(made))


def _priced(shared: training.Shared) -> probe_lib.Probe:
    """Of all priced routers: weights of the latency and gradients are training's."""
    made = shared.settings.priced_system(0.0)
    return shared.compiled("priced", lambda: probe_lib.Probe(made, policies=()))


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
    for place, split in enumerate(probe_lib.SPLITS.values()):
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
    probe = shared.compiled("threshold", lambda: probe_lib.Probe(made, policies=()))
    rows = []
    for threshold in shared.settings.thresholds:
        found = meet(shared, probe, params, "test", seed, threshold)["threshold"]
        scores = _scores(made, found)
        _, scores["latency_ms"] = point(found)
        rows += variants.rows(
            variants.THRESHOLD, seed, scores, threshold=float(threshold)
        )
    return rows
