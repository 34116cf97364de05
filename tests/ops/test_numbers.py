"""Numbers that come in: right whatever their type and scale."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import packet_loss, path_loss, power, rate_adaptation
from m3jax.channels import unequal_protection as uep
from m3jax.ops import gradient_surgery, numbers, roots, round_trips
from m3jax.ops import latency_split as split
from m3jax.ops.fair_round_trips import fair_bandwidths
from m3jax.ops.quantities import Hertz

SCALES = (1e-30, 1e-12, 1.0, 1e19, 1e30)
BIG = 28_000_000_000  # beyond 32 bits


@pytest.mark.parametrize(
    "value", [BIG, np.int64(BIG), np.array(BIG), [BIG], float(BIG)]
)
def test_large_integers_are_the_same_numbers_as_floats(value):
    np.testing.assert_allclose(np.ravel(numbers.as_float(value)), float(BIG), rtol=1e-6)


def test_an_integer_carrier_has_the_path_loss_of_the_float():
    """Friis in float64, by hand."""
    carriers = np.array([3_500_000_000, BIG])
    wanted = 20 * np.log10(4 * np.pi * 50.0 * carriers / 299_792_458.0)
    for carrier in (carriers, carriers.astype(float)):
        loss = path_loss.free_space(50.0, Hertz(carrier)).value
        np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    jitted = jax.jit(lambda carrier: path_loss.free_space(50.0, carrier).value)
    np.testing.assert_allclose(jitted(Hertz(int(carriers[1]))), wanted[1], rtol=1e-6)


def test_integers_keep_their_numbers_through_all_arithmetic_of_quantities():
    bandwidth = Hertz(jnp.uint32(3_000_000_000))
    assert float((bandwidth + bandwidth).value) == 6e9
    assert float((bandwidth - bandwidth * 2).value) == -3e9


def test_whole_counts_are_those_of_exact_fractions():
    for top in range(1, 25):
        for bottom in range(1, 25):
            exact = Fraction(top, bottom)
            for num_bits in range(0, 120, 7):
                found = packet_loss.channel_uses(num_bits, top / bottom)
                assert found == math.ceil(num_bits / exact), (num_bits, exact)


def test_allocated_channel_uses_are_whole_counts():
    table = rate_adaptation.MCSTable("one", orders=(2,), code_rates=(0.7,))
    one, mask = jnp.ones(1), jnp.ones(1, bool)
    found = uep.allocate_mcs(one, mask, 10.0, table, bits_per_token=21, budget=30)
    assert int(found.channel_uses[0]) == 30 and bool(found.feasible)


@pytest.mark.parametrize(("amount", "rate"), [(-1, 1.0), (math.nan, 1.0), (1, 0.0)])
def test_counts_refuse_what_is_no_amount_or_rate(amount, rate):
    with pytest.raises(ValueError, match="amount|rate"):
        numbers.ceil_ratio(amount, rate)


@pytest.mark.parametrize("scale", SCALES)
def test_unit_scale_is_a_power_of_two_that_rounds_nothing(scale):
    peak = jnp.float32(1.7 * scale)
    factor = numbers.unit_scale(peak)
    assert math.frexp(float(factor))[0] == 0.5
    assert 0.5 <= float(peak * factor) < 4.0
    assert float(peak * factor / factor) == float(peak)


@pytest.mark.parametrize("scale", SCALES)
def test_power_is_normalised_at_every_scale_to_the_same_bits(scale):
    x = jax.random.normal(jax.random.key(0), (6, 4))
    mask = jnp.arange(6) < 5
    scale = 2.0 ** round(math.log2(scale))
    np.testing.assert_array_equal(
        power.normalise(x * scale, mask), power.normalise(x, mask)
    )


@pytest.mark.parametrize("scale", SCALES)
def test_conflicts_of_gradients_do_not_depend_on_their_scale(scale):
    gradients = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    scales = jnp.array([[1.0], [scale]])
    found = gradient_surgery.project_conflicting(gradients * scales) / scales
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]], atol=1e-6)
    cosine = gradient_surgery.cosines(gradients * scales)[0, 1]
    np.testing.assert_allclose(cosine, -math.sqrt(0.5), rtol=1e-6)


def test_a_zero_gradient_conflicts_with_nothing():
    gradients = jnp.array([[0.0, 0.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(
        gradient_surgery.project_conflicting(gradients), gradients
    )
    assert not np.any(gradient_surgery.cosines(gradients)[0])


def test_the_safe_root_passes_nan_on():
    assert np.isnan(roots.sqrt(jnp.nan)) and float(roots.sqrt(-1.0)) == 0.0


TRIPS = round_trips.Trips(
    *jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 2.0]]), 0.1
)
SOLVERS = {
    "bandwidths": lambda loads, total: split.bandwidths(loads, jnp.ones(2), total),
    "round trips": lambda loads, total: fair_bandwidths(loads, TRIPS, total),
}


@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_infeasible_split_has_derivatives_of_zero_and_spoils_no_batch(solver, mode):
    totals = jnp.array([0.0, 2.0, jnp.nan])

    def amounts(loads):
        found = jax.vmap(SOLVERS[solver], (None, 0))(loads, totals)
        return found.amounts, found.latencies

    slopes = jax.jit(mode(amounts))(jnp.array([1.0, 3.0]))
    for slope in slopes:
        assert np.all(np.isfinite(slope))
        assert not np.any(slope[0]) and not np.any(slope[2])
        assert np.any(slope[1])
