"""Search of MSAO's coarse plan: equation 11 with what was measured of the models.

A plan is how much of the picture is kept (beta), how far it is compressed (rho), up to
which entropy the edge drafts (theta) and how many words (N). What it takes is
``costs.offload.expected`` at the confidence (equation 12) and the acceptance that were
measured at theta; what it loses is a measured table over beta and rho. The cloud
verifies every word, so theta and N lose nothing and only take time. Words are taken to
be confident and accepted independently of those before, as the closed form has them.

Equation 14 is not taken as printed: it counts drafted words twice and has no round trip
in a round. Its regret bound (15) is one of GP-UCB and is not claimed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import offload, offload_limits
from m3jax.ops import bayesian
from m3jax.systems.msao import measurements

Objective = Callable[[base.Array], tuple[base.Array, base.Array]]

DIMENSIONS = ("retention", "compression", "threshold", "draft_length")
"""What a point of `make_space` says, in this order."""
WIDE_MBPS = (200.0, 300.0, 400.0)
"""Bandwidths of the paper's section 5, megabits per second."""
NARROW_MBPS = (1.0, 5.0, 20.0)
"""Bandwidths at which sending the picture is what takes long."""
TOLERANCE = 1e-6
"""Of each limit, for rounding; that of ``offload_limits.feasible``."""


SETTINGS = bayesian.Settings()
"""50 evaluations, Matern 5/2, expected improvement with xi = 0.1: the paper's."""

Measured = measurements.Measured


class Comparison(NamedTuple):
    """How soon searches find what an enumeration finds; of S seeds.

    Attributes:
      optimum: of all points.
      searched: ``[S, num]``, running best of Bayesian optimisation, seconds.
      random: ``[S, num]``, that of random search.
      grid: ``[G]``, that of the grid of at most ``num`` points.
      searched_needed: int ``[S]``, evaluations until it is near the optimum; ``num +
        1`` if it never is.
      random_needed: int ``[S]``, likewise.
    """

    optimum: bayesian.Optimum
    searched: base.Array
    random: base.Array
    grid: base.Array
    searched_needed: base.Array
    random_needed: base.Array


def make_conditions(
    megabits_per_s: base.Array, rtt_s: base.Array = 0.02
) -> offload.Conditions:
    """A link that is alike both ways, and machines that do nothing else.

    Confidence and acceptance are 1, and `make_objective` puts in what was measured.
    """
    rate = 1e6 * megabits_per_s
    return offload.Conditions(rate, rate, rtt_s, 1.0, 1.0, 1.0, 1.0)


def make_objective(
    measured: Measured,
    machines: offload.Machines,
    request: offload.Request,
    conditions: offload.Conditions,
    limits: offload_limits.Limits,
    pipelined: bool = False,
) -> Objective:
    """Equation 11 as a function of a point of `make_space`.

    Args:
      measured: of the models.
      machines: edge and cloud.
      request: what is asked, modalities ``[M]``. The picture is the first; the others
        are kept and sent as they are.
      conditions: how things stand; may be traced. Its confidence and acceptance are not
        looked at.
      limits: of equation 11, of M modalities.
      pipelined: the edge drafts on while a round is away.

    Returns:
      ``[4] -> (seconds, excess [C])``, rows as in ``limits.names``.

    Raises:
      ValueError: what was measured or the limits make no sense, or their modalities
        are not those of the request.
    """
    measured.validate()
    limits.validate()
    counts = {
        "limits.modalities": len(limits.modalities),
        "measured.sparsity": np.size(measured.sparsity),
        "request.tokens": np.size(request.tokens),
    }
    if len(set(counts.values())) > 1:
        raise ValueError(f"modalities differ in number: {counts}")
    measured = Measured(*map(jnp.asarray, measured))
    bounds = limits.bounds
    others = jnp.ones(counts["limits.modalities"])

    def objective(point):
        retention, compression, threshold, length = point
        plan = offload.Plan(
            retention=others.at[0].set(retention),
            compression=(0.0 * others).at[0].set(compression),
            sent=others,
            draft_length=length,
        )
        now = conditions._replace(
            confident=measured.confident(threshold),
            acceptance=measured.acceptance(threshold),
        )
        found = offload.expected(machines, request, plan, now, pipelined)
        taken = offload_limits.Taken(
            quality_loss=measured.quality_loss(retention, compression),
            edge_bytes=found.edge_bytes,
            cloud_bytes=found.cloud_bytes,
            send_s=found.send_s,
            retention=plan.retention,
            sparsity=measured.sparsity,
        )
        return found.total_s, offload_limits.excesses(bounds, taken) - TOLERANCE

    return objective


def make_space(
    retention: tuple[float, float, int] = (0.25, 1.0, 6),
    compression: tuple[float, float, int] = (0.0, 0.75, 4),
    threshold: tuple[float, float, int] = (0.0, 1.0, 6),
    draft_length: tuple[int, int] = (1, 5),
) -> bayesian.Space:
    """The plans that are searched, 720 if nothing is said.

    Args:
      retention: least, greatest, and how many even levels; 0: any value.
      compression: likewise.
      threshold: likewise, of the normalised entropy.
      draft_length: least and greatest; each whole number between them.

    Example:
      >>> make_space().size, make_space().names
      (720, ('retention', 'compression', 'threshold', 'draft_length'))
    """
    least, most = draft_length
    ends = retention, compression, threshold, (least, most, most - least + 1)
    return bayesian.Space(
        tuple(
            bayesian.Dimension(name, *each)
            for name, each in zip(DIMENSIONS, ends, strict=True)
        )
    )


def compare(
    key: base.Array,
    objective: Objective,
    space: bayesian.Space,
    settings: bayesian.Settings = SETTINGS,
    num_seeds: int = 32,
    slack: float = 0.02,
) -> Comparison:
    """How many evaluations Bayesian and random search need, beside the exact optimum.

    Jitted and vmapped over seeds; may itself be jitted, and mapped over conditions that
    an objective is made of.

    Args:
      key: of the seeds.
      objective: of `make_objective`.
      space: of levels only, so that it can be enumerated.
      settings: of Bayesian optimisation; ``num`` is the others' budget, too.
      num_seeds: S.
      slack: share of the optimum by which a plan may be slower and still be near it.

    Raises:
      ValueError: some variable of the space takes any value.
      ImportError: tinygp is not installed.
    """
    num_excess = _num_excess(objective, space)

    @jax.jit
    def run(keys):
        def both(key):
            ours, theirs = jax.random.split(key)
            searched = bayesian.minimise(ours, objective, space, settings, num_excess)
            random = bayesian.random_search(
                theirs, objective, space, settings.num, num_excess
            )
            return searched.running_best, random.running_best

        searched, random = jax.vmap(both)(keys)
        optimum = bayesian.enumerate_all(objective, space, num_excess)
        grid = bayesian.grid_search(objective, space, settings.num, num_excess)

        def needed(best):
            near = (best <= (1.0 + slack) * optimum.value) & jnp.isfinite(best)
            first = jnp.argmax(near, axis=1) + 1
            return jnp.where(jnp.any(near, axis=1), first, settings.num + 1)

        return Comparison(
            optimum,
            searched,
            random,
            grid.running_best,
            needed(searched),
            needed(random),
        )

    return run(jax.random.split(key, num_seeds))


def binding(
    objective: Objective, space: bayesian.Space, limits: offload_limits.Limits
) -> dict[str, float]:
    """Which limits cost time: those without which the optimum would be faster.

    Args:
      objective: of `make_objective`.
      space: of levels only.
      limits: that the objective was made with.

    Returns:
      Name of the limit -> seconds that the optimum is slower for it, the greatest
      first; inf where nothing is feasible with it. Host only.

    Raises:
      ValueError: some variable of the space takes any value.
    """
    points = space.values(jnp.asarray(space.grid()))
    seconds, excess = jax.jit(jax.vmap(objective))(points)
    seconds, kept = np.asarray(seconds, np.float64), np.asarray(excess) <= 0.0

    def fastest(columns):
        return np.min(seconds[np.all(kept[:, columns], axis=1)], initial=np.inf)

    columns = np.arange(kept.shape[1])
    optimum = fastest(columns)
    without = {n: fastest(columns != c) for c, n in enumerate(limits.names)}
    saved = {n: float(optimum - t) for n, t in without.items() if t < optimum}
    return dict(sorted(saved.items(), key=lambda item: -item[1]))


def _num_excess(objective: Objective, space: bayesian.Space) -> int:
    point = jax.ShapeDtypeStruct((len(space.dimensions),), jnp.float32)
    return jax.eval_shape(objective, point)[1].shape[0]
