from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import capacity, rate_adaptation
from m3jax.testing import gradients

pytestmark = pytest.mark.usefixtures("quick_compilation")

TABLES = (rate_adaptation.TS_38_214_TABLE_1, rate_adaptation.TS_38_214_TABLE_2)
SNRS_DB = np.arange(-15.0, 40.0, 1.0, np.float32)
SNRS = 10.0 ** (SNRS_DB / 10.0)


class Swept(NamedTuple):
    """A table, its errors [S, N] of 500 and of 50000 symbols, its choices [S]."""

    table: rate_adaptation.MCSTable
    short: np.ndarray
    long: np.ndarray
    choice: rate_adaptation.Choice


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: table.name)
def swept(request):
    """What a table gives over SNRs."""
    table = request.param

    def at(snr):
        short, long = (
            rate_adaptation.block_errors(table, snr, n) for n in (500, 50_000)
        )
        return short, long, rate_adaptation.choose(table, snr, 500, target=0.1)

    short, long, choice = jax.jit(jax.vmap(at))(SNRS)
    return Swept(table, np.asarray(short), np.asarray(long), choice)


def test_tables_span_the_rates_of_the_standard():
    first, second = (table.rates for table in TABLES)
    assert (len(first), len(second)) == (29, 28)
    assert first[[0, 10, 28]] == pytest.approx([0.2344, 1.3281, 5.5547], abs=1e-4)
    assert second[[0, 11, 20, 27]] == pytest.approx(
        [0.2344, 2.7305, 5.3320, 7.4063], abs=1e-4
    )
    # The one place where the standard itself steps back a little.
    assert np.flatnonzero(np.diff(first) < 0.0).tolist() == [16]
    assert np.all(np.diff(second) > 0.0)


def test_a_chosen_rate_never_exceeds_shannon(swept):
    choice = swept.choice
    carried = ~np.asarray(choice.outage)
    assert np.all(choice.rate[carried] < capacity.shannon(SNRS)[carried])
    assert carried.sum() > 40


def test_the_choice_is_the_highest_rate_that_meets_the_target(swept):
    table, errors, _, choice = swept
    for error, index, outage in zip(
        np.asarray(errors), choice.index, choice.outage, strict=True
    ):
        meeting = np.flatnonzero(error <= 0.1)
        best = max(meeting, key=lambda i: table.rates[i], default=0)
        assert int(index) == best and bool(outage) == (meeting.size == 0)


def test_outage_is_flagged_and_keeps_the_lowest_rate(swept):
    table, errors, _, choice = swept
    assert bool(choice.outage[0]) and int(choice.index[0]) == 0
    assert float(choice.block_error[0]) == float(errors[0, 0]) > 0.99
    assert int(choice.index[-1]) == len(table.orders) - 1


def test_block_errors_fall_with_snr_and_reach_their_ends(swept):
    errors = swept.short
    assert np.all(np.diff(errors, axis=0) <= 1e-6)
    np.testing.assert_allclose(errors[0], 1.0, atol=1e-3)
    np.testing.assert_allclose(errors[-1], 0.0, atol=1e-6)


def test_longer_blocks_have_sharper_thresholds(swept):
    good = swept.short < 0.5
    assert np.all(swept.long[good] <= swept.short[good])
    assert np.all(swept.long[~good] >= swept.short[~good])
    assert np.mean((swept.long > 0.01) & (swept.long < 0.99)) < 0.02


def test_gradient_of_the_block_error_is_its_slope_and_finite_at_the_edges():
    table = rate_adaptation.MCSTable("one", orders=(16,), code_rates=(0.4,))

    def error(snr):
        return rate_adaptation.choose(table, snr, 200, target=0.1).block_error

    gradients.check_against_finite_differences(jax.jit(error), (np.float32(2.3),))
    slopes = jax.jit(jax.vmap(jax.grad(error)))
    edges = jnp.array([0.0, 1e-20, 1e20, jnp.inf])
    gradients.assert_finite(slopes(edges), "gradient")


@pytest.mark.parametrize(
    ("orders", "code_rates", "told"),
    [
        ((4, 16), (0.5,), "one code rate per order"),
        ((), (), "one code rate per order"),
        ((4,), (1.5,), "code rate"),
        ((8,), (0.5,), "QAM order"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(orders, code_rates, told):
    with pytest.raises(ValueError, match=told):
        rate_adaptation.MCSTable("wrong", orders, code_rates)
