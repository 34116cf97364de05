import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3jax.channels import link_budget, path_loss
from m3jax.ops import quantities, round_trips
from m3jax.systems.wdmoe import cell as cells
from m3jax.systems.wdmoe import latency

GAINS = 10.0 ** (-np.linspace(70.0, 95.0, 8) / 10.0)


def test_the_expert_of_mixtral_has_the_papers_numbers():
    assert cells.mixtral().flops == 352_407_552
    assert cells.mixtral().payload_bits == 65_536


def test_uplink_at_100_m_has_42_7_db_and_agrees_with_a_link_budget():
    gain = 10.0 ** (-float(cells.path_loss_db(100.0)) / 10.0)
    trips = latency.make_trips(cells.Cell(), jnp.full(8, gain))
    snr_db = 10.0 * np.log10(float(trips.cn0_up[0]) / 12.5e6)
    assert snr_db == pytest.approx(42.7, abs=0.1)
    budget = link_budget.LinkBudget(
        tx_power=quantities.Watt(0.2).to_dbm(),
        bandwidth=quantities.Hertz(12.5e6),
        path_loss=path_loss.free_space(100.0, quantities.Hertz(3.5e9)),
    )  # -173.98 dBm/Hz, and free space is 32.45 dB
    assert snr_db == pytest.approx(float(budget.snr_db), abs=0.1)


def test_latency_of_a_token_is_the_sum_of_equations_2_to_8():
    cell = cells.Cell(flops_per_s=cells.MIXED)
    trips = latency.make_trips(cell, jnp.asarray(GAINS))
    band = latency.even_bandwidths(trips, cell.bandwidth_hz)
    assert float(jnp.sum(band)) == pytest.approx(100e6)
    noise = 10.0**-20.4
    down = 12.5e6 * np.log2(1.0 + 10.0 * GAINS / (noise * 12.5e6))
    up = 12.5e6 * np.log2(1.0 + 0.2 * GAINS / (noise * 12.5e6))
    np.testing.assert_allclose(latency.rates(trips.cn0_down, band), down, rtol=1e-5)
    np.testing.assert_allclose(latency.rates(trips.cn0_up, band), up, rtol=1e-5)
    speed = np.array(cells.MIXED)
    expected = 65_536 / down + 65_536 / up + 352_407_552 / speed
    np.testing.assert_allclose(round_trips.seconds(trips, band), expected, rtol=1e-5)


def test_a_block_waits_for_its_slowest_and_not_for_the_idle():
    token_s = jnp.array([1.0, 2.0, jnp.inf])
    counts = jnp.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert latency.waiting(counts, token_s).tolist() == [3.0, 0.0, np.inf]
    slope = jax.grad(lambda q: jnp.sum(latency.waiting(q, token_s)))(counts[:2])
    assert np.isfinite(slope).all()


def test_power_shared_by_the_station_is_an_eighth_for_each():
    own = latency.make_trips(cells.Cell(), GAINS)
    shared = latency.make_trips(cells.Cell(shared_power=True), GAINS)
    np.testing.assert_allclose(shared.cn0_down * 8.0, own.cn0_down, rtol=1e-6)
    np.testing.assert_array_equal(shared.cn0_up, own.cn0_up)


def test_gains_have_the_mean_of_path_loss_over_distances(key):
    cell = cells.Cell(near_m=50.0, far_m=50.0)
    gains = cells.draw_gains(key, cell, 20_000)
    mean = 10.0 ** (-float(cells.path_loss_db(50.0)) / 10.0)
    assert float(jnp.mean(gains)) / mean == pytest.approx(1.0, abs=0.01)
    assert float(jnp.mean(gains < mean)) == pytest.approx(1 - np.exp(-1.0), abs=0.01)


def test_a_cell_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="near_m"):
        cells.Cell(near_m=300.0).validate()
    with pytest.raises(ValueError, match="no device"):
        cells.Cell(flops_per_s=()).validate()
    with pytest.raises(ValueError, match="flops_per_s"):
        cells.Cell(flops_per_s=(1e12, 0.0)).validate()
    with pytest.raises(ValueError, match="hidden"):
        cells.Expert(width=8, hidden=0).validate()
