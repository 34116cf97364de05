"""What several users save by sharing band, power and tokens jointly.

The loss by length is that of the measured models at 10 dB, fitted for each seed: of a
learned link, while latency counts the bits of a digital one. What is compared is how
budgets are shared, which both sides of the comparison do for the same curve.
"""

import math

import jax
import jax.numpy as jnp

from m3jax import base
from m3jax.evals import axes
from m3jax.evals import records as records_lib
from m3jax.ops import quantities
from m3jax.systems.tokcom import allocation
from m3jax.systems.tokcom.study import training
from m3jax.systems.tokcom.study import variants as variants_lib

BANDWIDTH = quantities.Hertz(1e6)
POWER = quantities.Dbm(23.0)
JOINT, EQUAL = "joint", "equal split"
FEW = "joint, few users"
_NUM_FEW, _GRID = 3, 32


def measure(
    settings: variants_lib.Settings, rows: list[base.Record]
) -> list[base.Record]:
    """Weighted costs of a joint allocation, of equal shares, and of search.

    Args:
      settings: of the study.
      rows: with the losses of every length at 10 dB.

    Returns:
      Rows of the metrics "weighted_cost" and "reducible_cost" of the variants `JOINT`
      and `EQUAL` at each ``weight``; "excess_cost", the share by which the joint
      allocation of few users is above an exhaustive search, variant "joint, few users";
      and how well the curves fit, variant "loss curve".
    """
    out = []
    for seed in range(settings.num_seeds):
        fitted = allocation.fit(*losses(settings, rows, seed))
        at = axes.at(snr_db=10.0)
        row = base.Record("tokcom", "loss curve", at, seed, "r2", fitted.r2, "1")
        out.append(row)
        for weight in settings.weights:
            problem = _problem(settings, fitted.curve, weight, settings.num_users)
            found = allocation.measure_saving(problem, [seed], settings.num_drops)
            at = axes.at(weight=weight)
            out += [one._replace(at=at) for one in allocation.records(found)]
            solved = row._replace(variant=JOINT, at=at, metric="all_solved")
            out.append(solved._replace(value=float(found.are_solved)))
        excess = _excess(settings, fitted.curve, seed)
        few = row._replace(variant=FEW, metric="excess_cost", value=excess)
        out.append(few)
    return out


def _problem(settings, curve, weight: float, num_users: int) -> allocation.Problem:
    return allocation.make_problem(
        jnp.ones(num_users),
        curve,
        bits_per_token=settings.num_reals * training.DIGITAL_BITS,
        bandwidth=BANDWIDTH,
        power=POWER.to_w(),
        weight=weight,
        max_length=max(settings.lengths)
        + variants_lib.audio_tokens(max(settings.lengths)),
    )


def _excess(settings, curve, seed: int) -> float:
    """Cost of the joint allocation over that of the best plan on a grid, less 1."""
    problem = _problem(settings, curve, settings.weights[-1], _NUM_FEW)
    gains = allocation.draw_users(jax.random.key(seed), _NUM_FEW).gains
    problem = problem._replace(gains=gains)
    relaxed = jax.jit(allocation.allocate)(problem)
    found = jax.jit(allocation.round_lengths)(problem, relaxed)
    return float(found.cost) / allocation.exhaustive(problem, _GRID).cost - 1.0


def losses(
    settings: variants_lib.Settings, rows: list[base.Record], seed: int
) -> tuple[list[int], list[float]]:
    """Tokens of a message and the loss in nats a word, at 10 dB."""
    names = {variants_lib.by_length(n): n for n in settings.lengths}
    found = records_lib.select(
        rows, variant=set(names), seed=seed, metric="nll", skill=None, snr_db=10.0
    )
    found.sort(key=lambda row: names[row.variant])
    tokens = [
        names[row.variant] + variants_lib.audio_tokens(names[row.variant])
        for row in found
    ]
    values = [row.value for row in found]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"the loss by length is not finite: {values}")
    return tokens, values
