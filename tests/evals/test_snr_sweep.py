"""The SNR sweep against plain loops and closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax import base
from m3jax.evals import axes, snr_sweep
from m3jax.testing import dummy, traces

SNRS = (-5.0, 0.0, 2.5, 10.0, math.inf)
GROUPS = ("easy", "hard", "absent")
KEY = jax.random.key(7)


def _batches(sizes=(6, 6, 3)):
    rng = np.random.default_rng(0)
    return [
        {
            "x": rng.normal(size=size).astype(np.float32),
            "skill": rng.integers(0, 2, size),
        }
        for size in sizes
    ]


def _noise(params, batch, key):
    """A metric that is nothing but the noise of each example."""
    del params
    return {"noise": jax.random.normal(key, batch["snr_db"].shape)}


def _lucky(params, batch, key):
    """Right with probability p, p = exp(-1 / snr): no outage at unit threshold."""
    snr = 10.0 ** (batch["snr_db"] / 10.0)
    chance = params["scale"] * jnp.exp(-1.0 / snr)
    draw = jax.random.uniform(key, chance.shape)
    return {"right": draw < chance, "shift": batch["x"] + batch["snr_db"]}


def _value(params, batch, key):
    """No noise at all: what an example brings along."""
    del params, key
    return {"value": batch["x"]}


def _by_loop(predict, params, batches, snrs_db, num_seeds, name):
    """The same as the sweep, example by example in plain Python."""
    table = np.zeros((len(snrs_db), num_seeds))
    size = len(batches[0]["x"])
    for (i, seed), _ in np.ndenumerate(table):
        key, values = jax.random.fold_in(KEY, seed), []
        for number, batch in enumerate(batches):
            num = len(batch["x"])
            full = {k: np.resize(v, (size, *v.shape[1:])) for k, v in batch.items()}
            full["snr_db"] = jnp.full(size, snrs_db[i])
            out = predict(params, full, jax.random.fold_in(key, number))
            values.extend(np.asarray(out[name], np.float64)[:num])
        table[i, seed] = np.mean(values)
    return table


def test_sweep_equals_plain_loops():
    params = {"scale": jnp.float32(0.9)}
    found = snr_sweep.sweep(
        _lucky, params, _batches(), snrs_db=SNRS[:-1], num_seeds=3, key=KEY
    )
    assert found.snrs_db == SNRS[:-1]
    for name in ("right", "shift"):
        expected = _by_loop(_lucky, params, _batches(), SNRS[:-1], 3, name)
        np.testing.assert_allclose(found.values[name], expected, rtol=1e-5)


def test_monte_carlo_meets_the_closed_form():
    batches = [{"x": np.zeros(2000, np.float32)}] * 2
    found = snr_sweep.sweep(
        _lucky, {"scale": 1.0}, batches, snrs_db=SNRS, num_seeds=4, key=KEY
    )
    expected = np.exp(-1.0 / 10.0 ** (np.array(SNRS) / 10.0))
    error = np.sqrt(expected * (1.0 - expected) / 16_000)
    assert np.all(
        np.abs(found.values["right"].mean(axis=1) - expected) <= 4 * error + 1e-6
    )


def test_a_system_of_the_contract_meets_its_closed_form():
    batch = dummy.make_batch(seed=0, batch_size=500)
    params, residual = dummy.solve(batch)
    predict = dummy.make_system().predict["regression"]
    found = snr_sweep.sweep(
        predict, params, [batch], snrs_db=(0.0, 10.0, math.inf), num_seeds=20, key=KEY
    )
    mean = found.values["square_error"].mean(axis=1)
    expected = residual + np.array([0.5, 0.05, 0.0])
    np.testing.assert_allclose(mean, expected, rtol=0.06)
    np.testing.assert_allclose(mean[-1], residual, rtol=1e-3)


def test_noise_is_common_to_all_snrs_and_models_and_differs_by_seed():
    sweep = functools.partial(
        snr_sweep.sweep, _noise, batches=_batches(), num_seeds=3, key=KEY
    )
    values = sweep(params={"w": 0.0}, snrs_db=SNRS).values["noise"]
    assert np.all(values == values[:1])
    assert len(set(values[0])) == 3
    other = sweep(params={"w": 1.0}, snrs_db=(3.0,)).values["noise"]
    np.testing.assert_array_equal(other[0], values[0])


def test_noise_differs_by_batch_and_by_key():
    batch = {"x": np.zeros(4, np.float32)}

    def noise(batches, key):
        found = snr_sweep.sweep(
            _noise, {}, batches, snrs_db=(0.0,), num_seeds=1, key=key
        )
        return found.values["noise"].item()

    one = noise([batch], KEY)
    assert noise([batch] * 2, KEY) != one
    assert noise([batch], jax.random.key(8)) != one


def test_padding_does_not_count():
    batches = _batches((6, 6, 1))
    every = np.concatenate([batch["x"] for batch in batches])
    found = snr_sweep.sweep(_value, {}, batches, snrs_db=(0.0,), num_seeds=1, key=KEY)
    np.testing.assert_allclose(found.values["value"], every.mean(), rtol=1e-6)
    assert found.sizes.tolist() == [13]


def test_groups_average_their_own_examples():
    batches = _batches()
    found = snr_sweep.sweep(
        _value, {}, batches, snrs_db=SNRS, num_seeds=2, key=KEY, groups=GROUPS
    )
    every = np.concatenate([batch["x"] for batch in batches])
    skill = np.concatenate([batch["skill"] for batch in batches])
    means = [every[skill == group].mean() for group in (0, 1)]
    assert found.by_group["value"].shape == (len(SNRS), 2, 3)
    np.testing.assert_allclose(found.by_group["value"][3, 1, :2], means, rtol=1e-5)
    assert np.isnan(found.by_group["value"][..., 2]).all()
    np.testing.assert_allclose(found.values["value"], every.mean(), rtol=1e-5)
    assert found.sizes.tolist() == [(skill == 0).sum(), (skill == 1).sum(), 0]


def test_nan_stays_in_its_own_group_and_out_of_padding():
    batches = [
        {"x": np.array([1.0, 2.0, 5.0]), "skill": np.array([0, 0, 1])},
        {"x": np.array([np.nan]), "skill": np.array([1])},
    ]
    found = snr_sweep.sweep(
        _value, {}, batches, snrs_db=(0.0,), num_seeds=1, key=KEY, groups=GROUPS[:2]
    )
    assert found.by_group["value"][0, 0, 0] == 1.5
    assert math.isnan(found.by_group["value"][0, 0, 1])


@pytest.mark.parametrize("chunk", [4, 100])
def test_chunk_changes_nothing(chunk):
    sweep = functools.partial(
        snr_sweep.sweep,
        _lucky,
        {"scale": jnp.float32(0.9)},
        snrs_db=SNRS[:-1],
        num_seeds=3,
        key=KEY,
        groups=GROUPS,
    )
    one, several = sweep(batches=_batches()), sweep(batches=_batches(), chunk=chunk)
    for name in one.values:
        np.testing.assert_allclose(several.values[name], one.values[name], rtol=1e-6)
        np.testing.assert_allclose(
            several.by_group[name], one.by_group[name], rtol=1e-6
        )


@pytest.mark.parametrize("chunk", [1, 4])
def test_one_trace_serves_a_grid_and_every_other_grid_of_its_length(chunk):
    counted = traces.CountTraces(_lucky)
    prepared = traces.CountTraces(lambda params, batch: batch)
    sweep = functools.partial(
        snr_sweep.sweep, counted, num_seeds=3, prepare=prepared, chunk=chunk
    )
    sweep({"scale": 0.9}, _batches(), snrs_db=SNRS, key=KEY)
    assert (counted.count, prepared.count) == (1, 1)
    sweep({"scale": 0.8}, _batches(), snrs_db=SNRS[::-1], key=jax.random.key(1))
    assert (counted.count, prepared.count) == (1, 1)


def test_what_is_prepared_runs_once_for_each_batch_and_reaches_predict():
    calls = []

    def prepare(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return {"doubled": params["scale"] * batch["x"]}

    def predict(params, batch, key):
        del params, key
        return batch["doubled"] + batch["snr_db"]

    found = snr_sweep.sweep(
        predict,
        {"scale": 2.0},
        _batches((6, 6)),
        snrs_db=(0.0, 1.0, 2.0),
        num_seeds=4,
        key=KEY,
        prepare=prepare,
        metrics_fn=lambda outputs, batch: {"sum": outputs, "snr": batch["snr_db"]},
    )
    jax.effects_barrier()
    assert len(calls) == 2
    mean = 2.0 * np.concatenate([batch["x"] for batch in _batches((6, 6))]).mean()
    np.testing.assert_allclose(
        found.values["sum"][:, 0], mean + np.arange(3), rtol=1e-5
    )
    np.testing.assert_allclose(found.values["snr"][:, 0], np.arange(3))


def test_memory_does_not_grow_with_the_grid():
    def scratch_bytes(num_points):
        arrays = {"x": jnp.zeros(64)}
        points = snr_sweep._make_points(np.zeros(num_points, np.float32), 1, KEY)
        lowered = snr_sweep._batch_sums.lower(
            {"w": jnp.ones((1, 4096))},
            arrays,
            jnp.ones(64),
            jnp.int32(0),
            points,
            predict=_wide,
            metrics_fn=None,
            prepare=None,
            group_key=None,
            num_groups=1,
            chunk=2,
        )
        return lowered.compile().memory_analysis().temp_size_in_bytes

    few, many = scratch_bytes(4), scratch_bytes(256)
    assert few > 64 * 4096 * 4  # so that a copy for each point would be seen
    assert many < 1.1 * few


def _wide(params, batch, key):
    """Holds 4096 numbers an example while it works."""
    hidden = batch["x"][:, None] @ params["w"]
    hidden = jnp.sort(hidden + jax.random.normal(key, hidden.shape), axis=1)
    return {"top": hidden[:, -1]}


def test_nothing_is_copied_between_host_and_device_unasked():
    batches, params = _batches(), jax.device_put({"scale": np.float32(0.9)})
    with jax.transfer_guard("disallow"):
        snr_sweep.sweep(_lucky, params, batches, snrs_db=SNRS, num_seeds=2, key=KEY)


def test_raw_and_typed_keys_both_work():
    raw = jax.random.PRNGKey(7)
    found = [
        snr_sweep.sweep(_noise, {}, _batches(), snrs_db=SNRS, num_seeds=3, key=key)
        for key in (raw, jax.random.wrap_key_data(raw))
    ]
    np.testing.assert_array_equal(found[0].values["noise"], found[1].values["noise"])


def test_records_name_every_value_once():
    sweep = functools.partial(snr_sweep.sweep, _value, {}, _batches(), key=KEY)
    found = sweep(snrs_db=(0.1, math.inf), num_seeds=2, groups=GROUPS)
    rows = snr_sweep.to_records(
        found, system="s", variant="v", units={"value": "m"}, group_key="level"
    )
    groups = ({}, {"level": "easy"}, {"level": "hard"})  # nothing for the empty group
    assert [(row.metric, row.at, row.seed) for row in rows] == [
        ("value", axes.at(snr_db=snr, **group), seed)
        for group in groups
        for snr in (0.1, math.inf)
        for seed in (0, 1)
    ]
    expected = base.Record(
        "s", "v", axes.at(snr_db=0.1), 0, "value", found.values["value"][0, 0], "m"
    )
    assert rows[0] == expected


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"snrs_db": (0.0, math.nan)}, "NaN"),
        ({"snrs_db": ()}, "empty"),
        ({"num_seeds": 0}, "num_seeds"),
        ({"chunk": 0}, "chunk"),
        ({"batches": []}, "no batch"),
        ({"groups": ("easy",)}, "1 names of groups"),
        ({"groups": GROUPS, "group_key": "topic"}, "no 'topic'"),
        ({"metrics_fn": lambda outputs, batch: {"m": 1.0}}, "'m' must have one value"),
    ],
)
def test_bad_input_is_named(change, fault):
    good = {"batches": _batches(), "snrs_db": SNRS, "num_seeds": 2, "key": KEY}
    with pytest.raises(ValueError, match=fault):
        snr_sweep.sweep(_value, {}, **{**good, **change})
