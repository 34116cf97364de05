"""What every way to answer takes and says, on the same requests and links."""

import zlib

import numpy as np

from m3jax import base
from m3jax.costs import speculative_rounds
from m3jax.evals import records as records_lib
from m3jax.nn import speculation
from m3jax.systems.msao import pair, pricing, ways
from m3jax.systems.msao.study import schedules, shared, variants

UNITS = {
    **{"accuracy": "1", "image": "1", "audio": "1"},
    **{"acceptance": "1", "words_per_call": "word"},
    **dict.fromkeys(("latency_ms", "upload_ms", "prefill_ms", "decode_ms"), "ms"),
    **{"words_per_s": "word/s", "up_mbit": "Mbit", "draft_length": "word"},
    **dict.fromkeys(("edge_tflop", "cloud_tflop", "tflop"), "1e12"),
    **dict.fromkeys(("edge_gb", "cloud_gb"), "GB"),
    **dict.fromkeys(("edge_j", "cloud_j"), "J"),
    "staying": "1",
}
"""Metrics of a way to answer."""
_UNVERIFIED = "latency_ms", "tflop", "cloud_tflop"


def workload(made: shared.Shared, name: str, seed: int) -> list[base.Record]:
    """Every way to answer requests of one kind.

    Args:
      made: what all units share.
      name: of the workload.
      seed: of scenes and links.
    """
    said, drafted, arrays = made.said(name, seed)
    rows = _accuracies(name, seed, said, drafted, arrays["skill"])
    left = {}
    for threshold in made.settings.staying:
        words, counts = made.unverified(arrays, threshold)
        left[threshold] = pair.is_right(words, arrays["answer"]), counts
    for rate, place in made.settings.places.items():
        schedule = schedules.chosen(made, name, rate)
        found = _works(made, place, said, drafted, schedule, seed)
        at = {"workload": name, "rate_mbps": rate}
        for variant, work in found.items():
            rows += _records(variant, seed, taken(place, work), at)
        rows += _records(
            variants.MSAO,
            seed,
            {"draft_length": schedule.draft_length},
            at,
        )
        rows += _staying(made, place, at, seed, said, drafted, found)
        rows += _left_words(made, place, at, seed, said[variants.MSAO].read, left)
    return rows


def link_rng(seed: int, rate: float, variant: str) -> np.random.Generator:
    """Randomness of a link: of this seed, rate and way to answer."""
    return np.random.default_rng([seed + 2, int(rate), zlib.crc32(variant.encode())])


def taken(place: pricing.Place, work: pricing.Work) -> dict[str, float]:
    """Means over requests, in the units of `UNITS`."""
    requests, machines = work.requests, place.machines
    joules = requests.energy_j(machines.edge, machines.cloud)
    means = {
        "latency_ms": 1e3 * requests.total_s,
        "upload_ms": 1e3 * requests.upload_s,
        "prefill_ms": 1e3 * requests.prefill_s,
        "decode_ms": 1e3 * requests.decode_s,
        "up_mbit": 1e-6 * requests.up_bits,
        "edge_tflop": 1e-12 * work.edge_flops,
        "cloud_tflop": 1e-12 * work.cloud_flops,
        "tflop": 1e-12 * (work.edge_flops + work.cloud_flops),
        "edge_gb": 1e-9 * work.edge_bytes,
        "cloud_gb": 1e-9 * work.cloud_bytes,
        "edge_j": joules["edge"] + joules["radio"],
        "cloud_j": joules["cloud"],
    }
    out = {name: float(np.mean(values)) for name, values in means.items()}
    out["words_per_s"] = float(np.sum(requests.tokens) / np.sum(requests.total_s))
    return out


def _works(made, place, said, drafted, schedule, seed) -> dict[str, pricing.Work]:
    """What each of `variants.VERIFIED` takes."""
    rate = place.link.up_bits_per_s / 1e6
    cloud, msao, chance = (
        said[name] for name in (variants.CLOUD, variants.MSAO, variants.NO_PROBES)
    )

    def rng(variant):
        return link_rng(seed, rate, variant)

    everything = pricing.everything(len(cloud.words))
    longest = made.settings.draft_lengths[-1]
    fixed = speculative_rounds.of_agreement(
        *cloud.whole, draft_length=longest, pipelined=place.pipelined
    )
    return {
        variants.CLOUD: ways.cloud_only(rng(variants.CLOUD), place, cloud.lengths),
        variants.EDGE: ways.edge_only(place, drafted[variants.EDGE].lengths),
        variants.EDGE_PRUNED: ways.with_probes(
            place,
            ways.edge_only(place, drafted[variants.EDGE_PRUNED].lengths, msao.read),
        ),
        variants.SPLIT: ways.split(
            *(rng(variants.SPLIT), place, cloud.lengths),
            bits_per_real=made.settings.state_bits,
        ),
        variants.UNIFORM: ways.speculative(
            rng(variants.UNIFORM), place, fixed, everything, everything
        ),
        variants.MSAO: ways.with_probes(
            place, schedules.play(rng(variants.MSAO), place, msao, schedule)
        ),
        variants.NO_PROBES: schedules.play(
            rng(variants.NO_PROBES), place, chance, schedule
        ),
        variants.NO_SCHEDULE: ways.with_probes(
            place,
            ways.cloud_only(rng(variants.NO_SCHEDULE), place, msao.lengths, msao.read),
        ),
    }


def _accuracies(workload_name, seed, said, drafted, skill) -> list[base.Record]:
    right = {
        variants.CLOUD: said[variants.CLOUD].right,
        **{name: own.right for name, own in drafted.items()},
        # The same model on the same request: no rounding of hidden states is told.
        variants.SPLIT: said[variants.CLOUD].right,
        variants.UNIFORM: said[variants.CLOUD].right,
        variants.MSAO: said[variants.MSAO].right,
        variants.NO_PROBES: said[variants.NO_PROBES].right,
        variants.NO_SCHEDULE: said[variants.MSAO].right,
    }
    rows = []
    for variant, own in right.items():
        at = {"workload": workload_name}
        rows += _records(variant, seed, {"accuracy": np.mean(own)}, at)
        for number in np.unique(skill):
            value = {"accuracy": np.mean(own[skill == number])}
            rows += _records(
                variant, seed, value, at | {"skill": variants.skill_name(number)}
            )
    for variant in (variants.CLOUD, variants.MSAO, variants.NO_PROBES):
        one = said[variant]
        rows += _records(
            variant,
            seed,
            {
                "image": np.mean(one.image),
                "audio": np.mean(one.audio),
                "acceptance": np.mean(one.whole.agrees[one.whole.valid]),
            },
            {"workload": workload_name},
        )
    return rows


def _staying(made, place, at, seed, said, drafted, found) -> list[base.Record]:
    """Answers that the draft is sure of stay on the edge, unverified."""
    msao, drafted, rows = said[variants.MSAO], drafted[variants.EDGE_PRUNED], []
    for threshold in made.settings.staying:
        stays = drafted.entropy <= threshold
        right = np.where(stays, drafted.right, msao.right)
        edge, both = found[variants.EDGE_PRUNED], found[variants.MSAO]
        work = mixed(place, drafted.lengths, msao.read, stays, edge, both)
        values = _of_unverified(place, work, right, np.mean(stays))
        rows += _records(variants.WHOLE, seed, values, at | {"threshold": threshold})
    return rows


def _left_words(made, place, at, seed, read, left) -> list[base.Record]:
    """Words that the draft is sure of stay on the edge, unverified."""
    rows = []
    for threshold, (right, counts) in left.items():
        rng = link_rng(seed, at["rate_mbps"], f"{variants.WORDS} {threshold}")
        work = ways.speculative(rng, place, unverified(counts), read, read)
        work = ways.with_probes(place, work)
        staying = np.sum(counts.accepted) / np.sum(counts.emitted)
        values = _of_unverified(place, work, right, staying)
        rows += _records(variants.WORDS, seed, values, at | {"threshold": threshold})
    return rows


def _of_unverified(place, work, right, staying) -> dict[str, float]:
    """What is told of answers that nobody verified."""
    found = taken(place, work)
    values = {name: found[name] for name in _UNVERIFIED}
    return values | {"accuracy": np.mean(right), "staying": staying}


def unverified(counts: speculation.Counts) -> speculative_rounds.Rounds:
    """Rounds of `edge_accept` as far as counts tell them.

    The target is asked as often as it was; what was drafted is spread evenly over the
    questions, and over the words behind the last one. Sums of seconds and bits are not
    changed by how.

    Args:
      counts: of ``speculation.speculate(..., mode="edge_accept")``, ``[N]`` each.
    """
    calls, drafted = np.asarray(counts.calls), np.asarray(counts.drafted)
    rounds = np.arange(calls.max() + 1)
    share, rest = np.divmod(drafted, calls + 1)
    each = share[:, None] + (rounds < rest[:, None])
    asked = rounds < calls[:, None]
    # Words behind the last question: a round that stays, if there are any.
    last = (rounds == calls[:, None]) & (each > 0)
    each = np.where(asked | last, each, -1)
    return speculative_rounds.make_rounds(each, each.clip(0), asked=asked, stays=last)


def mixed(
    place: pricing.Place,
    lengths: np.ndarray,
    read: pricing.Read,
    stays: np.ndarray,
    edge: pricing.Work,
    both: pricing.Work,
) -> pricing.Work:
    """Requests that stay on the edge, and those that do not.

    The edge says every answer first, for that tells whether it is sure. Whoever is not
    goes on as MSAO does, with the prompt read already; the cloud's memory holds its
    model all the same.

    Args:
      place: machines.
      lengths: words of the draft's own answers, ``[N]``.
      read: what the draft has read.
      stays: bool ``[N]``.
      edge: of the edge alone.
      both: of MSAO.
    """
    again = np.where(stays, 0, lengths)
    before_s, before_flops = ways.drafting(place, again, read)
    requests = type(both.requests)(
        *(
            np.where(stays, own, other)
            for own, other in zip(edge.requests, both.requests, strict=True)
        )
    )
    requests = requests._replace(
        decode_s=requests.decode_s + before_s, edge_s=requests.edge_s + before_s
    )
    return pricing.Work(
        requests,
        np.where(stays, edge.edge_flops, both.edge_flops) + before_flops,
        np.where(stays, 0.0, both.cloud_flops),
        np.maximum(edge.edge_bytes, both.edge_bytes),
        both.cloud_bytes,
    )


def _records(
    variant: str, seed: int, values: dict[str, float], at: dict
) -> list[base.Record]:
    return records_lib.make("msao", variant, seed, values, UNITS, **at)
