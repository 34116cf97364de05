"""The driver counts what it says, stops when it says, and its intervals hold."""

import gc
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import awgn, theory
from m3jax.evals import axes, error_counts, monte_carlo, records, uncoded
from m3jax.ops import units
from m3jax.testing import traces

SNRS_DB = (0.0, 5.0, jnp.inf)


def lose(key, snr):
    """A fade below the noise loses a frame; 50 of them are a batch."""
    return jnp.sum(jax.random.exponential(key, (50,)) * snr < 1.0), 50


def run(**changes):
    arguments = {"key": jax.random.key(0), "max_trials": 1000} | changes
    return monte_carlo.run(lose, SNRS_DB, **arguments)


def replay(point, num_batches):
    """Errors of each batch, from the documented keys."""
    key = jax.random.fold_in(jax.random.key(0), point)
    snr = units.db_to_lin(SNRS_DB[point])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_batches))
    return np.asarray(jax.vmap(lambda key: lose(key, snr)[0])(keys))


def assert_equal(left, right):
    for name, ours, theirs in zip(left._fields, left, right, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_counts_are_those_of_the_batches_of_the_documented_keys():
    counts = run()
    assert counts.batches.tolist() == [20, 20, 20]
    assert counts.trials.tolist() == [1000, 1000, 1000]
    for point in range(3):
        errors = replay(point, 20)
        assert counts.errors[point] == errors.sum()
        products = [np.sum(errors**2), 50 * errors.sum(), 20 * 50**2]
        assert counts.products[point].tolist() == products
    assert counts.errors[2] == 0


def test_a_point_ends_with_the_batch_that_reaches_the_target():
    counts = run(target_errors=100, batches_per_call=3)
    for point in range(2):
        errors = np.cumsum(replay(point, 20))
        assert counts.batches[point] == 1 + np.argmax(errors >= 100)
        assert counts.errors[point] == errors[errors >= 100][0]
    assert counts.trials[2] == 1000  # without an error the trials end it


def test_counts_do_not_depend_on_chunks_or_on_a_pause():
    whole = run(target_errors=150)
    for size in (1, 7):
        assert_equal(run(target_errors=150, batches_per_call=size), whole)
    begun = run(target_errors=40)
    assert begun.batches[0] < whole.batches[0]
    assert_equal(run(target_errors=150, start=begun), whole)


def test_the_last_batch_may_exceed_the_trials():
    assert run(max_trials=101).trials.tolist() == [150, 150, 150]


def test_common_noise_gives_equal_points_equal_counts():
    snrs_db = (3.0, 3.0)
    arguments = {"key": jax.random.key(1), "max_trials": 5000}
    common = monte_carlo.run(lose, snrs_db, common_noise=True, **arguments)
    assert common.errors[0] == common.errors[1]
    apart = monte_carlo.run(lose, snrs_db, **arguments)
    assert apart.errors[0] == common.errors[0]
    assert apart.errors[1] != common.errors[1]


def test_another_grid_or_limit_is_no_other_program():
    counted = traces.CountTraces(lose)
    key = jax.random.key(0)
    monte_carlo.run(counted, (0.0, 1.0), key=key, max_trials=200)
    before = counted.count
    monte_carlo.run(counted, (2.0, 3.0), key=key, max_trials=400, target_errors=9)
    assert counted.count == before > 0


def test_progress_grows_to_one():
    seen = []
    final = run(
        target_errors=150,
        batches_per_call=2,
        progress=lambda counts, share: seen.append((counts, share)),
    )
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] < shares[-1] == 1.0
    assert_equal(seen[-1][0], final)


def test_interval_holds_the_exact_rate_at_most_points():
    link = uncoded.UncodedLink(awgn.AWGN(), 4, shape=(8, 512))
    snrs_db = np.linspace(0.0, 9.0, 10)
    counts = monte_carlo.run(
        link,
        snrs_db,
        key=jax.random.key(3),
        max_trials=400_000,
        target_errors=2000,
    )
    exact = theory.bit_error_rate(units.db_to_lin(snrs_db), 4)
    _, low, high = counts.interval(confidence=0.95)
    assert np.sum((low <= exact) & (exact <= high)) >= 8  # fewer: once in 90 keys
    assert np.all(np.diff(counts.rate) < 0.0)
    assert counts.batches[0] < counts.batches[-1]


def clustered_counts(rng, rates, num_batches, size):
    """Batches of trials that share a rate drawn for the batch, for each run."""
    errors = rng.binomial(size, rng.choice(rates, num_batches)).astype(np.int64)
    products = [[np.sum(errors**2), size * errors.sum(), num_batches * size**2]]
    return error_counts.ErrorCounts(
        (0.0,),
        np.array([num_batches]),
        np.array([errors.sum()]),
        np.array([num_batches * size]),
        np.array(products),
    )


@pytest.mark.parametrize(
    ("rates", "clustered", "least", "most"),
    [
        ((0.1, 0.1), False, 0.92, 1.0),
        ((0.0, 0.2), False, 0.0, 0.4),  # the binomial interval is far too narrow
        ((0.0, 0.2), True, 0.92, 0.99),
        ((0.1, 0.1), True, 0.92, 1.0),
    ],
)
def test_interval_covers_the_rate_if_told_that_trials_depend(
    rates, clustered, least, most
):
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(300):
        counts = clustered_counts(rng, rates, num_batches=20, size=200)
        _, low, high = counts.interval(clustered=clustered)
        covered.append(low[0] <= 0.1 <= high[0])
    assert least <= np.mean(covered) <= most


def test_one_batch_says_nothing_about_how_batches_differ():
    counts = clustered_counts(np.random.default_rng(0), (0.5,), 1, 100)
    mean, low, high = counts.interval(clustered=True)
    assert np.isfinite(mean).all() and np.isnan([low, high]).all()


def test_no_error_has_an_interval_either_way():
    counts = clustered_counts(np.random.default_rng(0), (0.0,), 10, 100)
    for clustered in (False, True):
        _, low, high = counts.interval(clustered=clustered)
        assert low[0] == 0.0 < high[0] < 0.01


def test_records_are_tidy_and_survive_the_disk(tmp_path):
    counts = run()
    rows = error_counts.to_records(
        counts, system="link", variant="qpsk", seed=4, metric="frame_error_rate"
    )
    rates = records.select(rows, metric="frame_error_rate")
    assert [axes.coordinate(row, "snr_db") for row in rates] == list(SNRS_DB)
    assert [row.value for row in rates] == counts.rate.tolist()
    assert {row.seed for row in rows} == {4}
    assert [row.value for row in records.select(rows, metric="trials")] == [1000.0] * 3
    records.write(tmp_path / "evaluation.json", rows)
    assert records.read(tmp_path) == rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_trials": 0}, "1 or more"),
        ({"target_errors": 0}, "1 or more"),
        ({"batches_per_call": 0}, "1 or more"),
        (
            {"start": error_counts.ErrorCounts((1.0,), *[np.zeros(1, int)] * 4)},
            "without start",
        ),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        (lambda key, snr: (snr, 1), "two integer scalars"),
        (lambda key, snr: 1, "two integer scalars"),
        (lambda key, snr: (jnp.zeros(3, int), 3), "two integer scalars"),
        (lambda key, snr: (0, 0), "never end"),
    ],
)
def test_what_does_not_count_is_refused(simulate, message):
    with pytest.raises(ValueError, match=message):
        monte_carlo.run(simulate, (0.0,), key=jax.random.key(0), max_trials=10)


def resident_megabytes():
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/statm").exists(), reason="memory is read from /proc"
)
def test_ten_thousand_batches_leave_memory_flat():
    arguments = {"key": jax.random.key(0), "batches_per_call": 10}
    monte_carlo.run(lose, (0.0,), max_trials=50 * 1000, **arguments)
    before = resident_megabytes()
    counts = monte_carlo.run(lose, (0.0,), max_trials=50 * 10_000, **arguments)
    assert counts.batches[0] == 10_000
    assert resident_megabytes() - before < 8.0
