"""A test set over a grid of SNRs and seeds: one compiled program, common noise.

Comparing two SNRs, or two models, needs fewer seeds when both meet the same noise.
So the key of a batch is folded in from the seed and the number of the batch only:
it is the same at every SNR and for every model that is given the same key.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from m3jax import base
from m3jax.evals import axes, padding
from m3jax.ops import units as units_lib

Predict = Callable[[base.Params, base.Batch, base.Array], Any]
Prepare = Callable[[base.Params, base.Batch], base.Batch]
MetricsFn = Callable[[Any, base.Batch], Mapping[str, base.Array]]


class Sweep(NamedTuple):
    """Means over the examples of a test set, on the host.

    Attributes:
      snrs_db: the S SNRs in dB.
      groups: names of the G groups of examples, such as skills; () without groups.
      sizes: int ``[G]``, examples in each group; ``[1]`` without groups.
      values: metric -> float ``[S, N]``, mean over all examples, for N seeds.
      by_group: metric -> float ``[S, N, G]``, mean over a group's examples; NaN for a
        group without examples. Empty without groups.
    """

    snrs_db: tuple[float, ...]
    groups: tuple[str, ...]
    sizes: np.ndarray
    values: dict[str, np.ndarray]
    by_group: dict[str, np.ndarray]


class _Points(NamedTuple):
    """The grid, flat: SNR by SNR and within an SNR seed by seed."""

    snr_db: base.Array
    key: base.Array


class _Sums(NamedTuple):
    metrics: dict[str, base.Array]  # name -> [P, G]
    sizes: base.Array  # [G]


def sweep(
    predict: Predict,
    params: base.Params,
    batches: Iterable[base.Batch],
    *,
    snrs_db: Sequence[float],
    num_seeds: int,
    key: base.Array,
    metrics_fn: MetricsFn | None = None,
    prepare: Prepare | None = None,
    groups: Sequence[str] = (),
    group_key: str = "skill",
    chunk: int = 1,
) -> Sweep:
    """Evaluates every point of an SNR x seed grid on every example.

    The grid is data: another grid of as many points runs the same compiled program, and
    so do other parameters and batches of the same shapes. Functions are told apart by
    identity, so pass the same ``predict``, ``prepare`` and ``metrics_fn`` each time
    rather than a fresh lambda.

    Args:
      predict: ``(params, batch, key) -> outputs``; the batch also has ``snr_db``, float
        ``[B]`` in dB. Without ``metrics_fn``: outputs are name -> per-example ``[B]``.
      params: the parameters.
      batches: host batches, each array ``[B, ...]``. The first sets B; a smaller one is
        filled up with repeats that do not count.
      snrs_db: S SNRs in dB; ``inf`` means no noise.
      num_seeds: N, repetitions with other noise.
      key: root of the noise; the same key gives the same noise. As its use within a
        batch is up to ``predict``, compare models at the same B.
      metrics_fn: ``(outputs, batch) -> {name: [B]}``.
      prepare: ``(params, batch) -> batch``, what depends on neither SNR nor noise (such
        as encoders); runs once for each batch instead of once for each point. Its batch
        is all that ``predict`` and ``metrics_fn`` see.
      groups: names of groups to report apart, such as the skills; () for none.
      group_key: name of the batch's int ``[B]`` with indices into ``groups``.
      chunk: most points evaluated side by side. Memory grows with it. On a CPU 1 is
        best, as the batch fills it; an accelerator may like more.

    Returns:
      A ``Sweep``.

    Raises:
      ValueError: an SNR is NaN, a size is below 1, there is no batch, a batch grows
        beyond the first, or a group index has no name.

    Example:
      >>> def predict(params, batch, key):
      ...     noise = jax.random.normal(key, batch["snr_db"].shape)
      ...     return {"square_error": noise**2 * 10 ** (-batch["snr_db"] / 10)}
      >>> batches = [{"x": np.zeros(1000)}]
      >>> out = sweep(predict, {}, batches, snrs_db=(0.0, 10.0), num_seeds=3,
      ...             key=jax.random.key(0))
      >>> out.values["square_error"].mean(axis=1).round(1).tolist()
      [1.0, 0.1]
    """
    snrs = units_lib.check_snr_db(snrs_db).reshape(-1)
    if num_seeds < 1 or chunk < 1:
        raise ValueError(
            f"num_seeds and chunk must be 1 or more, got {num_seeds} and {chunk}."
        )
    names = tuple(groups)
    run = functools.partial(
        _batch_sums,
        predict=predict,
        metrics_fn=metrics_fn,
        prepare=prepare,
        group_key=group_key if names else None,
        num_groups=max(len(names), 1),
        chunk=_even_chunk(snrs.size * num_seeds, chunk),
    )
    points = _make_points(snrs, num_seeds, key)
    params = jax.device_put(params)
    totals = None
    for number, (batch, weights) in enumerate(padding.to_first_size(batches)):
        if names:
            _check_groups(batch, group_key, names)
        # Explicit copies, so that a caller may forbid implicit ones; while the device
        # works on one batch the next is copied, and none after that.
        inputs = jax.device_put((batch, weights, np.int32(number)))
        jax.block_until_ready(totals)
        sums = run(params, *inputs, points)
        totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
    if totals is None:
        raise ValueError("there is no batch to evaluate; is the split empty?")
    exact_snrs = tuple(float(snr) for snr in np.ravel(snrs_db))
    return _to_sweep(jax.device_get(totals), exact_snrs, num_seeds, names)


def to_records(
    result: Sweep,
    *,
    system: str,
    variant: str,
    units: Mapping[str, str] | None = None,
    group_key: str = "skill",
) -> list[base.Record]:
    """Turns a sweep into tidy rows.

    Args:
      result: what ``sweep`` returned.
      system: name of the system.
      variant: what was varied, such as ``"snr-trained"``.
      units: metric -> unit; ``"1"`` (a fraction) for those not named.
      group_key: the axis that groups stand on.

    Returns:
      A row for each SNR (``snr_db``), seed and metric, and one for each group that has
      examples.
    """
    units = units or {}
    return [
        base.Record(
            system=system,
            variant=variant,
            at=axes.at(snr_db=result.snrs_db[snr], **group),
            seed=seed,
            metric=metric,
            value=float(value),
            unit=units.get(metric, "1"),
        )
        for metric, group, values in _columns(result, group_key)
        for (snr, seed), value in np.ndenumerate(values)
    ]


def _columns(
    result: Sweep, group_key: str
) -> Iterator[tuple[str, dict[str, str], np.ndarray]]:
    """Yields metric, the group's coordinate and ``[S, N]`` values."""
    for metric, values in result.values.items():
        yield metric, {}, values
        for index, group in enumerate(result.groups):
            if result.sizes[index]:
                by_group = result.by_group[metric][..., index]
                yield metric, {group_key: group}, by_group


@functools.partial(
    jax.jit,
    static_argnames=(
        "predict",
        "metrics_fn",
        "prepare",
        "group_key",
        "num_groups",
        "chunk",
    ),
)
def _batch_sums(
    params: base.Params,
    batch: base.Batch,
    weights: base.Array,
    number: base.Array,
    points: _Points,
    *,
    predict: Predict,
    metrics_fn: MetricsFn | None,
    prepare: Prepare | None,
    group_key: str | None,
    num_groups: int,
    chunk: int,
) -> _Sums:
    """Sums over the examples of one batch, for each point and group."""
    group = batch[group_key] if group_key else jnp.zeros(weights.shape, jnp.int32)
    member = jax.nn.one_hot(group, num_groups) * weights[:, None]  # [B, G]
    prepared = dict(batch if prepare is None else prepare(params, batch))

    def evaluate(point: _Points) -> dict[str, base.Array]:
        noisy = prepared | {"snr_db": jnp.full(weights.shape, point.snr_db)}
        outputs = predict(params, noisy, jax.random.fold_in(point.key, number))
        values = outputs if metrics_fn is None else metrics_fn(outputs, noisy)
        return {
            name: _group_sums(name, value, member) for name, value in values.items()
        }

    return _Sums(_map(evaluate, points, chunk), jnp.sum(member, axis=0))


def _map(fn: Callable, xs: Any, chunk: int) -> Any:
    """``lax.map`` over the leading axis, in chunks of one size."""
    if chunk == 1:  # Not a vmap of one: that would turn conditionals into selects.
        return lax.map(fn, xs)
    num = jax.tree.leaves(xs)[0].shape[0]
    extra = -num % chunk

    def fill(leaf: base.Array) -> base.Array:
        # Repeats the last point, as an uneven last chunk would be traced apart.
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], extra, axis=0)])

    out = lax.map(fn, jax.tree.map(fill, xs), batch_size=chunk)
    return jax.tree.map(lambda leaf: leaf[:num], out)


def _group_sums(name: str, value: base.Array, member: base.Array) -> base.Array:
    """``[B]`` values and ``[B, G]`` memberships to sums ``[G]``."""
    value = jnp.asarray(value)
    if value.shape != member.shape[:1]:
        raise ValueError(
            f"metric {name!r} must have one value an example, shape "
            f"{member.shape[:1]}; got shape {value.shape}."
        )
    value = value.astype(jnp.float32)[:, None]
    # Not a product: 0 times the NaN of a padded row or of another group is NaN.
    return jnp.sum(jnp.where(member > 0, value, 0.0), axis=0)


def _make_points(snrs: np.ndarray, num_seeds: int, key: base.Array) -> _Points:
    seeds = np.tile(np.arange(num_seeds, dtype=np.uint32), snrs.size)
    snr_db, seeds = jax.device_put((np.repeat(snrs, num_seeds), seeds))
    return _Points(snr_db, jax.vmap(jax.random.fold_in, (None, 0))(key, seeds))


def _even_chunk(num_points: int, limit: int) -> int:
    """The chunk in [limit / 2, limit] that leaves the least of its last one unused."""
    limit = min(limit, num_points)
    return min(range((limit + 1) // 2, limit + 1), key=lambda c: (-num_points % c, -c))


def _check_groups(batch: base.Batch, group_key: str, groups: tuple[str, ...]) -> None:
    if group_key not in batch:
        raise ValueError(f"the batch has no {group_key!r} to group by.")
    index = batch[group_key]
    if index.min() < 0 or index.max() >= len(groups):
        raise ValueError(
            f"{group_key!r} has indices from {index.min()} to {index.max()}, and "
            f"there are {len(groups)} names of groups."
        )


def _to_sweep(
    totals: _Sums, snrs_db: tuple[float, ...], num_seeds: int, groups: tuple[str, ...]
) -> Sweep:
    sizes = totals.sizes.astype(np.int64)
    values, by_group = {}, {}
    for name, sums in totals.metrics.items():
        sums = sums.astype(np.float64).reshape(len(snrs_db), num_seeds, -1)
        values[name] = sums.sum(axis=-1) / sizes.sum()
        if groups:
            means = np.full(sums.shape, np.nan)
            by_group[name] = np.divide(sums, sizes, out=means, where=sizes > 0)
    return Sweep(snrs_db, groups, sizes, values, by_group)
