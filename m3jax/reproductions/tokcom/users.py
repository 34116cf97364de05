"""What several users save by sharing band, power and tokens jointly.

The loss by length is that of the measured models, fitted for each seed.
"""

import math

import jax.numpy as jnp

from m3jax import base
from m3jax.evals import records as records_lib
from m3jax.ops import quantities
from m3jax.reproductions.tokcom import training
from m3jax.reproductions.tokcom import variants as variants_lib
from m3jax.systems.tokcom import allocation

BANDWIDTH = quantities.Hertz(1e6)
POWER = quantities.Dbm(23.0)


def saving(
    settings: variants_lib.Settings, rows: list[base.Record]
) -> list[base.Record]:
    """Weighted costs of a joint allocation and of equal shares, for each seed.

    Args:
      settings: of the study.
      rows: with the losses of every length at 10 dB.

    Returns:
      Rows of the metrics "weighted_cost" and "reducible_cost" of the variants `joint`
      and `equal` of each weight; and how well the curves fit, variant "loss curve".
    """
    out = []
    for seed in range(settings.num_seeds):
        fitted = allocation.fit(*losses(settings, rows, seed))
        out.append(
            base.Record("tokcom", "loss curve", 10.0, seed, "r2", fitted.r2, "1")
        )
        for weight in settings.weights:
            problem = allocation.make_problem(
                jnp.ones(settings.num_users),
                fitted.curve,
                bits_per_token=settings.num_reals * training.DIGITAL_BITS,
                bandwidth=BANDWIDTH,
                power=POWER.to_w(),
                weight=weight,
                max_length=max(settings.lengths) * 5 // 4,
            )
            found = allocation.measure_saving(problem, [seed], settings.num_drops)
            if not found.are_solved:
                raise ValueError(f"an allocation at weight {weight:g} was not solved")
            names = {"joint": joint(weight), "equal split": equal(weight)}
            out += [
                row._replace(variant=names[row.variant])
                for row in allocation.records(found)
            ]
    return out


def joint(weight: float) -> str:
    """Name of the joint allocation at a weight of latency."""
    return f"joint, w = {weight:g}"


def equal(weight: float) -> str:
    """Name of the equal split at a weight of latency."""
    return f"equal split, w = {weight:g}"


def losses(
    settings: variants_lib.Settings, rows: list[base.Record], seed: int
) -> tuple[list[int], list[float]]:
    """Tokens of a message and the loss in nats a word, at 10 dB."""
    names = {variants_lib.by_length(n): n for n in settings.lengths}
    found = records_lib.select(
        rows, variant=set(names), seed=seed, metric="nll", snr_db=10.0
    )
    found.sort(key=lambda row: names[row.variant])
    tokens = [names[row.variant] + max(names[row.variant] // 4, 1) for row in found]
    values = [row.value for row in found]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the loss by length is not finite: {values}")
    return tokens, values
