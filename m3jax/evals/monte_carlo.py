"""Error rates over an SNR grid by simulation: each point gets the batches it needs.

The whole grid is one compiled program, point after point, so that a batch stays in the
cache of a CPU; within a point a loop ends at the batch that reaches the target.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.evals import error_counts
from m3jax.ops import units

Simulate = Callable[[base.Array, base.Array], tuple[base.Array, base.Array]]
"""``(key, linear Es/N0) -> (errors, trials)`` of one batch, integer scalars."""

_MOST = 2**30
"""What is counted on the device between two visits of the host fits into int32."""


def run(
    simulate: Simulate,
    snrs_db: Sequence[float],
    *,
    key: base.Array,
    max_trials: int,
    target_errors: int | None = None,
    batches_per_call: int = 16,
    common_noise: bool = False,
    start: error_counts.ErrorCounts | None = None,
    progress: Callable[[error_counts.ErrorCounts, float], None] | None = None,
) -> error_counts.ErrorCounts:
    """Simulates batches at each SNR until it has errors or trials enough.

    The counts depend on ``simulate``, the key and the limits, and on nothing else: not
    on ``batches_per_call``, nor on whether the work was done in one go. (Stopping at a
    number of errors overestimates the rate by a factor of about 1 + 1 / target, much
    less if a batch is large.)

    Args:
      simulate: what to count; told apart by identity (a frozen dataclass by its
        settings), so pass the same object each time rather than a fresh lambda.
      snrs_db: P SNRs in dB; ``inf`` means no noise.
      key: root of all randomness. Batch b at point i gets ``fold_in(fold_in(key, i),
        b)``. A ``random.box_muller`` key is about 1.5 times as fast.
      max_trials: trials after which a point ends; the last batch may exceed it.
      target_errors: errors after which a point ends; None: only trials count.
      batches_per_call: most batches of a point between two visits of the host.
      common_noise: all points get the key of point 0: a smoother curve whose points
        depend on each other.
      start: counts of an earlier run with the same arguments to go on from.
      progress: called after each visit with the counts and the share of the work done.

    Returns:
      The ``ErrorCounts``.

    Raises:
      ValueError: an SNR is NaN, a limit is below 1, ``start`` has other SNRs, or
        ``simulate`` does not count.

    Example:
      >>> def simulate(key, snr):  # a symbol is lost if its fade is below the noise
      ...     gains = jax.random.exponential(key, (1000,))
      ...     return jnp.sum(gains * snr < 1.0), gains.size
      >>> counts = run(simulate, (0.0, 10.0), key=jax.random.key(0), max_trials=10_000)
      >>> counts.trials.tolist(), counts.rate.round(1).tolist()
      ([10000, 10000], [0.6, 0.1])
    """
    snrs = units.check_snr_db(snrs_db).reshape(-1)
    limits = (max_trials, target_errors or 1, batches_per_call)
    if min(limits) < 1 or target_errors == 0:
        raise ValueError(
            "max_trials, target_errors and batches_per_call must be 1 or more, got "
            f"{max_trials}, {target_errors} and {batches_per_call}."
        )
    _check_simulate(simulate, key)
    counts = _begin(tuple(float(snr) for snr in np.ravel(snrs_db)), start)
    linear = units.db_to_lin(snrs)
    point_keys = _point_keys(key, len(snrs), common_noise)
    advance = functools.partial(_advance, simulate=simulate, size=batches_per_call)
    while True:
        errors_left, trials_left = _left(counts, target_errors, max_trials)
        active = (errors_left > 0) & (trials_left > 0)
        if not active.any():
            return counts
        inputs = (counts.batches.astype(np.int32), errors_left, trials_left)
        found = jax.device_get(advance(point_keys, linear, *jax.device_put(inputs)))
        counts = _add(counts, *found)
        if not np.all(found[2].sum(axis=1)[active] > 0):
            raise ValueError("simulate counted no trial, so it would never end.")
        if progress is not None:
            progress(counts, _share_done(counts, target_errors, max_trials))


@functools.partial(jax.jit, static_argnames=("simulate", "size"))
def _advance(
    point_keys: base.Array,
    snrs: base.Array,
    batches: base.Array,
    errors_left: base.Array,
    trials_left: base.Array,
    *,
    simulate: Simulate,
    size: int,
) -> tuple[base.Array, base.Array, base.Array]:
    """Up to ``size`` further batches at each point.

    Returns:
      Batches done ``[P]``, errors and trials of each ``[P, size]``, 0 where none was.
    """

    def go_on(carry, errors_left, trials_left):
        number, errors, trials = carry
        enough = (jnp.sum(errors) >= errors_left) | (jnp.sum(trials) >= trials_left)
        return (number < size) & ~enough

    def point(inputs):
        key, snr, done, errors_left, trials_left = inputs

        def batch(carry):
            number, errors, trials = carry
            found = simulate(jax.random.fold_in(key, done + number), snr)
            new_errors, new_trials = (jnp.asarray(x, jnp.int32) for x in found)
            errors = errors.at[number].set(new_errors)
            return number + 1, errors, trials.at[number].set(new_trials)

        zeros = jnp.zeros((size,), jnp.int32)
        check = functools.partial(
            go_on, errors_left=errors_left, trials_left=trials_left
        )
        return lax.while_loop(check, batch, (jnp.int32(0), zeros, zeros))

    return lax.map(point, (point_keys, snrs, batches, errors_left, trials_left))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _point_keys(key: base.Array, num_points: int, common: bool) -> base.Array:
    points = jnp.arange(num_points)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, points * (not common))


def _check_simulate(simulate: Simulate, key: base.Array) -> None:
    found = jax.eval_shape(simulate, key, jax.ShapeDtypeStruct((), jnp.float32))
    pair = found if isinstance(found, tuple) else ()
    good = [
        jnp.shape(x) == () and jnp.issubdtype(jnp.result_type(x), jnp.integer)
        for x in pair
    ]
    if len(pair) != 2 or not all(good):
        raise ValueError(
            "simulate must return (errors, trials) of a batch, two integer scalars; "
            f"got {found}."
        )


def _begin(
    snrs_db: tuple[float, ...], start: error_counts.ErrorCounts | None
) -> error_counts.ErrorCounts:
    if start is None:
        zeros = np.zeros(len(snrs_db), np.int64)
        return error_counts.ErrorCounts(
            snrs_db, zeros, zeros, zeros, np.zeros((len(snrs_db), 3), np.int64)
        )
    if tuple(start.snrs_db) != snrs_db:
        raise ValueError(
            f"start has counts for {start.snrs_db} dB, not for {snrs_db} dB; run "
            "without start to begin anew."
        )
    return start


def _left(
    counts: error_counts.ErrorCounts, target_errors: int | None, max_trials: int
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and trials that each point may still need, int32."""
    target = _MOST if target_errors is None else target_errors - counts.errors
    errors = np.broadcast_to(target, counts.errors.shape)
    trials = max_trials - counts.trials
    return tuple(np.clip(x, 0, _MOST).astype(np.int32) for x in (errors, trials))


def _add(
    counts: error_counts.ErrorCounts,
    batches: np.ndarray,
    errors: np.ndarray,
    trials: np.ndarray,
) -> error_counts.ErrorCounts:
    errors, trials = errors.astype(np.int64), trials.astype(np.int64)
    products = np.stack([errors * errors, errors * trials, trials * trials], axis=-1)
    return error_counts.ErrorCounts(
        snrs_db=counts.snrs_db,
        batches=counts.batches + batches,
        errors=counts.errors + errors.sum(axis=1),
        trials=counts.trials + trials.sum(axis=1),
        products=counts.products + products.sum(axis=1),
    )


def _share_done(
    counts: error_counts.ErrorCounts, target_errors: int | None, max_trials: int
) -> float:
    share = counts.trials / max_trials
    if target_errors is not None:
        share = np.maximum(share, counts.errors / target_errors)
    return float(np.minimum(share, 1.0).mean())
